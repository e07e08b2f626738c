//! Every flag of `ferrolite serve`, as one table of data. Runs on the main thread, before any other exists.
//!
//! The table is the only place that knows a flag: the parser (`parse`), the help text and the Markdown reference
//! (`help`) and the refusal of what is not built yet (`validate`) are all derived from it. This file holds data
//! only; it must never read the environment, the disk or the clock.

/// What a flag's value looks like, with its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `-name` or `-name=<bool>`; never `-name <bool>`.
    Bool(bool),
    /// A signed integer in any base that a prefix announces.
    Int(i64),
    /// An unsigned integer in any base that a prefix announces.
    Uint(u64),
    /// A Go-style duration, in nanoseconds.
    Duration(i64),
    /// Any text.
    Text(&'static str),
    /// Texts separated by commas, without trimming. The empty text is the empty list.
    List,
}

/// What this build does with a flag. A later change that builds the feature flips this one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The flag does what its help says.
    Active,
    /// Accepted, checked and without effect, since silence misleads nobody. The text says why.
    NoEffect(&'static str),
    /// Refused whenever its value differs from the default, since silence would mislead. The text says what
    /// is missing.
    Refused(&'static str),
}

/// The heading under which a flag stands in the Markdown reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    General,
    Http,
    NodeTls,
    Cluster,
    Discovery,
    Sqlite,
    Raft,
    Queue,
    Services,
}

impl Group {
    /// All groups in the order of the reference.
    pub const ALL: [Group; 9] = [
        Group::General,
        Group::Http,
        Group::NodeTls,
        Group::Cluster,
        Group::Discovery,
        Group::Sqlite,
        Group::Raft,
        Group::Queue,
        Group::Services,
    ];

    /// The heading of the group.
    pub fn title(self) -> &'static str {
        match self {
            Group::General => "General",
            Group::Http => "HTTP API",
            Group::NodeTls => "TLS between nodes",
            Group::Cluster => "Addresses and joining",
            Group::Discovery => "Discovery",
            Group::Sqlite => "SQLite",
            Group::Raft => "Raft and its log",
            Group::Queue => "Queued writes",
            Group::Services => "Backup, change data capture, metrics",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// The name without dashes.
    pub name: &'static str,
    pub kind: Kind,
    pub group: Group,
    pub status: Status,
    /// True for flags that rqlite does not know.
    pub ours: bool,
    /// One or two sentences for `-h` and the reference.
    pub help: &'static str,
}

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const MIB: u64 = 1 << 20;

const NO_TLS: Status = Status::Refused("this build serves plain HTTP and plain node traffic only");
const NO_DISCOVERY: Status = Status::Refused("this build cannot look nodes up; name them with -join");
const NO_EXTENSIONS: Status = Status::Refused("this build cannot load SQLite extensions");
const NO_OTLP: Status = Status::Refused("this build does not push metrics; poll /debug/vars instead");
const PLAIN: Status = Status::NoEffect("node traffic is not encrypted");
const GO_PROFILE: Status = Status::NoEffect("there is no Go runtime to profile; use perf");

const fn row(name: &'static str, kind: Kind, group: Group, status: Status, help: &'static str) -> Flag {
    Flag { name, kind, group, status, ours: false, help }
}

const fn ours(name: &'static str, kind: Kind, group: Group, help: &'static str) -> Flag {
    Flag { name, kind, group, status: Status::Active, ours: true, help }
}

use Group::{Cluster, Discovery, General, Http, NodeTls, Queue, Raft, Services, Sqlite};
use Kind::{Bool, Duration, Int, List, Text, Uint};
use Status::{Active, NoEffect, Refused};

/// The table, sorted by name so that the help text needs no sorting and a lookup can bisect.
#[rustfmt::skip]
pub const FLAGS: &[Flag] = &[
    row("auth", Text(""), Http, Active,
        "Path of the JSON file that names users, passwords and permissions. Empty: everybody may do everything."),
    row("auto-backup", Text(""), Services, Refused("this build takes no automatic backups; fetch them with GET /db/backup"),
        "Path of the automatic backup configuration."),
    row("auto-optimize-int", Duration(24 * HOUR), Sqlite, Active,
        "Time between automatic runs of PRAGMA optimize; 0 turns them off."),
    row("auto-restore", Text(""), Services, Refused("this build restores nothing at start"),
        "Path of the automatic restore configuration."),
    row("auto-vacuum-int", Duration(0), Sqlite, Active,
        "Time between automatic runs of VACUUM; 0 turns them off."),
    row("bootstrap-expect", Int(0), Cluster, Active,
        "Number of voting nodes that must have announced themselves before the cluster is created."),
    row("bootstrap-expect-timeout", Duration(120 * SECOND), Cluster, Active,
        "How long creating the cluster may take before the process gives up."),
    row("cdc-config", Text(""), Services, Refused("this build does not send change events"),
        "Where change events go: a URL, the word stdout, or the path of a JSON file."),
    row("cluster-connect-timeout", Duration(30 * SECOND), Cluster, Active,
        "Time limit of a connection attempt to another node."),
    row("compress-snap-transport", Bool(false), Cluster, Active,
        "Compress snapshots on their way to other nodes. Must be the same on every node."),
    row("cpu-profile", Text(""), General, GO_PROFILE, "Path of a CPU profile to write."),
    ours("db-max-result-size", Uint(16 * MIB), Sqlite,
        "Largest answer of one request in bytes. A larger one becomes an error; two of up to this size are made at a time."),
    row("db-max-ro-conns", Int(256), Sqlite, Active,
        "Largest number of read-only database connections; 0 means no limit."),
    ours("db-read-timeout", Duration(5 * MINUTE), Sqlite,
        "Time limit of any read, also when the client names none; 0 means no limit."),
    row("disco-config", Text(""), Discovery, NoEffect("discovery is off"),
        "Configuration of the discovery service: JSON text, or the path of a file that holds it."),
    row("disco-key", Text("rqlite"), Discovery, NoEffect("discovery is off"),
        "Key prefix under which the cluster is found in a key-value discovery service."),
    row("disco-mode", Text(""), Discovery, NO_DISCOVERY,
        "Discovery service: consul-kv, etcd-kv, dns or dns-srv. Empty: no discovery."),
    row("extensions-path", List, General, NO_EXTENSIONS,
        "Comma-separated SQLite extensions to load: files, directories, zip or tar.gz archives."),
    row("fk", Bool(false), Sqlite, Active,
        "Enforce foreign keys on every connection. Must be the same on every node."),
    row("http-addr", Text("localhost:4001"), Http, Active, "Address on which the HTTP API listens, as host:port."),
    row("http-adv-addr", Text(""), Http, Active,
        "HTTP address told to clients and other nodes, as host:port. Empty: the same as -http-addr."),
    row("http-allow-origin", Text(""), Http, Active,
        "Value of the Access-Control-Allow-Origin header. Empty: no such header."),
    row("http-ca-cert", Text(""), Http, NO_TLS,
        "Path of the PEM certificates that sign clients' certificates. Empty: the system's."),
    row("http-cert", Text(""), Http, NO_TLS, "Path of the PEM certificate for HTTPS. Needs -http-key."),
    row("http-key", Text(""), Http, NO_TLS, "Path of the PEM private key for HTTPS. Needs -http-cert."),
    ours("http-max-body-size", Uint(256 * MIB), Http, "Largest request body in bytes. A larger one is answered 413."),
    ours("http-max-conns", Int(8192), Http, "Largest number of open client connections."),
    ours("http-shutdown-timeout", Duration(10 * SECOND), Http,
        "How long a graceful stop waits for requests in progress."),
    row("http-verify-client", Bool(false), Http, NO_TLS, "Demand a valid certificate from HTTPS clients."),
    row("http-verify-common-name", Text(""), Http, NO_TLS,
        "Common name that an HTTPS client's certificate must carry. Needs -http-verify-client."),
    ours("http-workers", Int(64), Http, "Largest number of threads that handle requests."),
    row("join", List, Cluster, Active,
        "Comma-separated Raft addresses (host:port) of nodes through which to join a cluster."),
    row("join-as", Text(""), Cluster, Active,
        "User of the -auth file in whose name this node joins its cluster, and leaves it."),
    row("join-attempts", Int(5), Cluster, Active, "How many times the whole -join list is tried."),
    row("join-interval", Duration(3 * SECOND), Cluster, Active, "Pause between two rounds of join attempts."),
    row("mem-profile", Text(""), General, GO_PROFILE, "Path of a memory profile to write."),
    row("node-ca-cert", Text(""), NodeTls, NO_TLS,
        "Path of the PEM certificates that sign other nodes' certificates. Empty: the system's."),
    row("node-cert", Text(""), NodeTls, NO_TLS, "Path of the PEM certificate for node traffic. Needs -node-key."),
    row("node-id", Text(""), General, Active,
        "Name of this node, unique in the cluster and never to change. Empty: the advertised Raft address."),
    row("node-key", Text(""), NodeTls, NO_TLS, "Path of the PEM private key for node traffic. Needs -node-cert."),
    row("node-no-verify", Bool(false), NodeTls, PLAIN, "Accept any certificate from the nodes that this one calls."),
    row("node-verify-client", Bool(false), NodeTls, NO_TLS,
        "Demand a valid certificate from nodes that call this one."),
    row("node-verify-common-name", Text(""), NodeTls, NO_TLS,
        "Common name that a calling node's certificate must carry. Needs -node-verify-client."),
    row("node-verify-server-name", Text(""), NodeTls, NO_TLS,
        "Host name expected in the certificate of every node that this one calls."),
    row("otlp-ca-cert", Text(""), Services, NO_OTLP, "Path of the PEM certificates that sign the collector's."),
    row("otlp-cert", Text(""), Services, NO_OTLP, "Path of this node's PEM certificate for the collector."),
    row("otlp-endpoint", Text(""), Services, NO_OTLP,
        "OpenTelemetry collector, as host:port. Empty: no metrics pushed."),
    row("otlp-insecure", Bool(false), Services, NO_OTLP, "Talk to the collector without TLS."),
    row("otlp-interval", Duration(30 * SECOND), Services, NoEffect("no metrics are pushed"),
        "Time between two reports to the collector."),
    row("otlp-key", Text(""), Services, NO_OTLP, "Path of this node's PEM private key for the collector."),
    row("otlp-no-verify", Bool(false), Services, NO_OTLP, "Accept any certificate from the collector."),
    row("raft-addr", Text("localhost:4002"), Cluster, Active,
        "Address on which other nodes reach this one, as host:port."),
    row("raft-adv-addr", Text(""), Cluster, Active,
        "Raft address told to other nodes, as host:port. Empty: the same as -raft-addr."),
    row("raft-apply-timeout", Duration(10 * SECOND), Raft, Active,
        "How long a write may wait for its place in the log's queue."),
    row("raft-cluster-remove-shutdown", Bool(false), Raft, Active,
        "Leave the cluster for good on a graceful stop."),
    row("raft-commit-timeout", Duration(50 * MS), Raft, Active,
        "How soon an idle leader tells followers of a new commit index; 0 means the default."),
    row("raft-election-timeout", Duration(SECOND), Raft, Active,
        "How long a candidate waits before it tries again; 0 means the default. At least -raft-heartbeat-timeout."),
    row("raft-heartbeat-timeout", Duration(SECOND), Raft, Active,
        "How long a follower waits for its leader before an election; 0 means the default."),
    row("raft-leader-lease-timeout", Duration(0), Raft, Active,
        "How long a leader without a quorum stays leader; 0 means 500ms. At most -raft-heartbeat-timeout."),
    row("raft-log-level", Text("WARN"), Raft, Active,
        "Lowest level of the log lines about Raft: TRACE, DEBUG, INFO, WARN, ERROR or OFF."),
    row("raft-non-voter", Bool(false), Cluster, Active, "Join as a read replica that has no vote."),
    row("raft-reap-node-timeout", Duration(0), Raft, Active,
        "Remove voting nodes that were out of reach for this long; 0 means never."),
    row("raft-reap-read-only-node-timeout", Duration(0), Raft, Active,
        "Remove read replicas that were out of reach for this long; 0 means never."),
    row("raft-remove-shutdown", Bool(false), Raft, Active, "Stop Raft on this node when it sees itself removed."),
    row("raft-shutdown-stepdown", Bool(true), Raft, Active, "Hand leadership over before a graceful stop."),
    row("raft-snap", Uint(8192), Raft, Active,
        "Number of log entries after which the log is compacted; 0 means the default."),
    row("raft-snap-int", Duration(10 * SECOND), Raft, Active,
        "How often the need to compact is looked at; 0 means every 120s, by entries only."),
    row("raft-snap-wal-size", Uint(4 * MIB), Raft, Active,
        "Bytes of log entries since the last compaction of the log that call for the next; 0 turns this trigger off."),
    ours("raft-wal-segment-size", Uint(4 * MIB), Raft, "Size of one file of the Raft log in bytes."),
    ours("rejoin", Bool(false), Cluster,
        "If the log or the database of this node turns out to be damaged, set both aside and join the cluster anew through -join."),
    ours("skip-entry", Uint(0), Raft,
        "Index of a log entry that ends the node whenever it is applied: it fails instead, once. To be given to every node of a cluster."),
    row("trace-profile", Text(""), General, GO_PROFILE, "Path of an execution trace to write."),
    ours("verify-int", Duration(24 * HOUR), Services,
        "Time between two comparisons of all copies of the data, made by the leader; 0 turns them off."),
    row("version", Bool(false), General, Active, "Print the version and exit."),
    row("write-queue-batch-size", Int(128), Queue, Active, "Number of waiting queued writes that are written at once."),
    row("write-queue-capacity", Int(1024), Queue, Active, "Number of queued writes that may wait; further ones block."),
    row("write-queue-timeout", Duration(50 * MS), Queue, Active,
        "How long a queued write may wait for others; 0 means until the batch is full."),
    row("write-queue-tx", Bool(false), Queue, Active, "Write each batch of queued writes as one transaction."),
    ours("write-steps-max", Uint(10_000_000_000), Sqlite,
        "Most steps of SQLite's virtual machine for one write, also when the client names no db_timeout; 0 means no limit."),
];

/// Looks a flag up by its name without dashes; gives its place in [`FLAGS`].
pub fn find(name: &str) -> Option<usize> {
    FLAGS.binary_search_by(|flag| flag.name.cmp(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_no_double() {
        for pair in FLAGS.windows(2) {
            assert!(pair[0].name < pair[1].name, "-{} must stand before -{}", pair[1].name, pair[0].name);
        }
    }

    #[test]
    fn every_flag_is_found_and_has_help() {
        for (place, flag) in FLAGS.iter().enumerate() {
            assert_eq!(find(flag.name), Some(place));
            assert!(flag.help.ends_with('.'), "-{}: help is made of sentences", flag.name);
            assert!(!flag.name.starts_with('-') && !flag.name.contains('='), "-{}", flag.name);
        }
        assert_eq!(find("xyz"), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn only_flags_of_ours_are_marked_so() {
        let ours: Vec<_> = FLAGS.iter().filter(|flag| flag.ours).map(|flag| flag.name).collect();
        assert_eq!(
            ours,
            [
                "db-max-result-size",
                "db-read-timeout",
                "http-max-body-size",
                "http-max-conns",
                "http-shutdown-timeout",
                "http-workers",
                "raft-wal-segment-size",
                "rejoin",
                "skip-entry",
                "verify-int",
                "write-steps-max"
            ]
        );
        assert_eq!(FLAGS.len() - ours.len(), 68);
    }
}
