//! The command line as typed values: words -> [`RawFlags`] (by the grammar of Go's flags) -> [`Config`] (checked).
//!
//! Reading order: `flags` (the table), `parse` (the grammar), `resolve` (what empty and zero mean), `validate`
//! (what is refused), this file (the typed result), `help` (what is printed about flags), `build_info` and `launch`
//! (what the process says of itself). All of it runs on the main thread before any other exists. Nothing here
//! prints, exits or opens a port, and nothing here knows another module of the server.

use std::path::PathBuf;
use std::time::Duration;

pub mod address;
pub mod build_info;
pub mod flags;
pub mod help;
pub mod launch;
pub mod parse;
mod resolve;
pub mod validate;

pub use launch::Launch;
pub use parse::{ParseError, RawFlags};
pub use validate::ConfigError;

/// Everything that `ferrolite serve` was told. Only checked flags become one, so readers need not check again.
#[derive(Debug, Clone)]
pub struct Config {
    /// Absolute path of the data directory; it need not exist yet.
    pub data_dir: PathBuf,
    /// Never empty: the advertised Raft address when no ID was given.
    pub node_id: String,
    pub auth: AuthConfig,
    pub http: HttpConfig,
    pub cluster: ClusterConfig,
    pub raft: RaftConfig,
    pub timing: RaftTiming,
    pub snapshot: SnapshotConfig,
    pub db: DbConfig,
    pub queue: QueueConfig,
    /// Explicitly given flags that have no effect in this build, with the reason; worth a line in the log.
    pub without_effect: Vec<(&'static str, &'static str)>,
}

/// Who may do what.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// The credentials file; None means that everybody may do everything.
    pub file: Option<PathBuf>,
    /// The user of that file in whose name this node asks others.
    pub join_as: Option<String>,
}

/// The HTTP API.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// host:port to listen on. The host may be a name, an address, or empty for every interface.
    pub addr: String,
    /// host:port told to others; never empty.
    pub adv_addr: String,
    /// Value of `Access-Control-Allow-Origin`; None means no header.
    pub allow_origin: Option<String>,
    /// Largest request body in bytes.
    pub body_bytes_max: u64,
    /// Largest number of open connections.
    pub conns_max: usize,
    /// Largest number of threads that run handlers; at least 1.
    pub workers_max: usize,
    /// How long a graceful stop waits for requests in progress.
    pub shutdown_timeout: Duration,
}

/// How a node finds its cluster, and what it is in it.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Raft addresses through which to join, in the order given; not resolved yet, perhaps nonsense.
    pub join: Vec<String>,
    /// Rounds over the whole list; at least 1.
    pub join_attempts: usize,
    /// Pause between two rounds.
    pub join_interval: Duration,
    /// Voters that must have announced themselves before they form a cluster; 0 means that none is formed by waiting.
    pub bootstrap_expect: usize,
    /// How long that may take.
    pub bootstrap_timeout: Duration,
    /// A read replica: it never votes.
    pub non_voter: bool,
    /// A node whose log or database is damaged sets them aside and joins anew.
    pub rejoin: bool,
    /// Bound of a connection attempt to another node.
    pub connect_timeout: Duration,
    /// Compress snapshots on their way to other nodes.
    pub compress_snapshots: bool,
    /// Time between two comparisons of this copy with the leader's; None means never.
    pub verify_interval: Option<Duration>,
}

/// Raft's identity on the network, and its log.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    /// host:port for node traffic.
    pub addr: String,
    /// host:port told to other nodes; never empty.
    pub adv_addr: String,
    /// Lowest level of log lines about Raft.
    pub log_level: log::LevelFilter,
    /// The text of `-raft-log-level` in upper case, as `/status` shows it.
    pub log_level_text: String,
    /// Size of one file of the log in bytes.
    pub wal_segment_bytes: u64,
    /// Index of a log entry that is to fail instead of being applied.
    pub skip_entry: Option<u64>,
    /// How long a write may wait for its place in the log's queue.
    pub apply_timeout: Duration,
    /// Hand leadership over before a graceful stop.
    pub shutdown_stepdown: bool,
    /// Leave the cluster before a graceful stop.
    pub cluster_remove_shutdown: bool,
    /// Stop Raft when this node sees itself removed.
    pub remove_shutdown: bool,
    /// Remove voters that were out of reach for this long; None means never.
    pub reap_timeout: Option<Duration>,
    /// The same for read replicas.
    pub reap_read_only_timeout: Option<Duration>,
}

/// Raft's timeouts: election >= heartbeat >= lease, all of them at least 5 ms (commit: 1 ms).
#[derive(Debug, Clone, Copy)]
pub struct RaftTiming {
    pub heartbeat_timeout: Duration,
    pub election_timeout: Duration,
    pub leader_lease_timeout: Duration,
    pub commit_timeout: Duration,
}

/// When the log is compacted.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotConfig {
    /// Entries since the last compaction that call for the next.
    pub entries: u64,
    /// Bytes of log entries that call for the next; None turns this trigger off.
    pub wal_bytes: Option<u64>,
    /// How often both are looked at.
    pub interval: Duration,
}

/// SQLite.
#[derive(Debug, Clone)]
pub struct DbConfig {
    pub foreign_keys: bool,
    /// Largest number of read-only connections; None means no limit.
    pub readers_max: Option<usize>,
    /// Time between automatic runs of VACUUM; None means never.
    pub auto_vacuum_interval: Option<Duration>,
    /// Time between automatic runs of PRAGMA optimize; None means never.
    pub auto_optimize_interval: Option<Duration>,
    /// Largest result of one read request in bytes.
    pub result_bytes_max: u64,
    /// Time limit of any read; None means no limit.
    pub read_timeout: Option<Duration>,
    /// Most steps of SQLite's virtual machine for one write; None means no limit.
    pub write_steps_max: Option<u64>,
}

/// Queued writes.
#[derive(Debug, Clone, Copy)]
pub struct QueueConfig {
    /// Requests that may wait; with 0 each one is handed over directly.
    pub capacity: usize,
    /// Requests that make a batch; at least 1.
    pub batch_size: usize,
    /// How long a request may wait for others; None means until the batch is full.
    pub timeout: Option<Duration>,
    /// Write each batch as one transaction.
    pub transaction: bool,
}

impl Config {
    /// Checks the flags, then types them. The one error of this function that depends on the machine is a working
    /// directory that cannot be read when the data directory is relative.
    pub fn from_flags(raw: &RawFlags) -> Result<Config, ConfigError> {
        validate::check(raw)?;
        let data_dir = std::path::absolute(&raw.positionals[0])
            .map_err(|error| ConfigError::Invalid(format!("failed to determine absolute data path: {error}")))?;
        let timing = resolve::raft_timing_ns(raw);
        Ok(Config {
            data_dir,
            node_id: resolve::node_id(raw).to_string(),
            auth: AuthConfig {
                file: unless_zero(raw.text("auth")).map(PathBuf::from),
                join_as: unless_zero(raw.text("join-as")).map(str::to_owned),
            },
            http: HttpConfig::from_flags(raw),
            cluster: ClusterConfig::from_flags(raw),
            raft: RaftConfig::from_flags(raw),
            timing: RaftTiming {
                heartbeat_timeout: duration(timing.heartbeat_ns),
                election_timeout: duration(timing.election_ns),
                leader_lease_timeout: duration(timing.lease_ns),
                commit_timeout: duration(timing.commit_ns),
            },
            snapshot: SnapshotConfig {
                entries: resolve::snapshot_entries(raw),
                wal_bytes: unless_zero(resolve::snapshot_wal_bytes(raw)),
                interval: duration(timing.snapshot_interval_ns),
            },
            db: DbConfig {
                foreign_keys: raw.bool("fk"),
                readers_max: unless_zero(count(raw, "db-max-ro-conns")),
                auto_vacuum_interval: interval(raw, "auto-vacuum-int"),
                auto_optimize_interval: interval(raw, "auto-optimize-int"),
                result_bytes_max: raw.uint("db-max-result-size"),
                read_timeout: interval(raw, "db-read-timeout"),
                write_steps_max: unless_zero(raw.uint("write-steps-max")),
            },
            queue: QueueConfig {
                capacity: count(raw, "write-queue-capacity"),
                batch_size: count(raw, "write-queue-batch-size").max(1),
                timeout: interval(raw, "write-queue-timeout"),
                transaction: raw.bool("write-queue-tx"),
            },
            without_effect: without_effect(raw),
        })
    }

    /// Parses and checks words such as `["-fk", "DIR"]`. For tests and tools; the command line itself goes through
    /// [`parse::parse`] and [`Config::from_flags`], since the two kinds of error end the process differently.
    pub fn from_words(words: &[&str]) -> Result<Config, String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let raw = parse::parse(&words).map_err(|error| error.to_string())?;
        Config::from_flags(&raw).map_err(|error| error.to_string())
    }
}

impl HttpConfig {
    fn from_flags(raw: &RawFlags) -> HttpConfig {
        let origin = raw.text("http-allow-origin");
        HttpConfig {
            addr: raw.text("http-addr").to_string(),
            adv_addr: resolve::http_adv_addr(raw).to_string(),
            allow_origin: (!origin.is_empty()).then(|| origin.to_string()),
            body_bytes_max: raw.uint("http-max-body-size"),
            conns_max: count(raw, "http-max-conns"),
            workers_max: count(raw, "http-workers"),
            shutdown_timeout: duration(raw.duration_ns("http-shutdown-timeout")),
        }
    }
}

impl ClusterConfig {
    fn from_flags(raw: &RawFlags) -> ClusterConfig {
        ClusterConfig {
            join: raw.list("join").to_vec(),
            join_attempts: count(raw, "join-attempts").max(1),
            join_interval: duration(raw.duration_ns("join-interval")),
            bootstrap_expect: count(raw, "bootstrap-expect"),
            bootstrap_timeout: duration(raw.duration_ns("bootstrap-expect-timeout")),
            non_voter: raw.bool("raft-non-voter"),
            rejoin: raw.bool("rejoin"),
            connect_timeout: duration(raw.duration_ns("cluster-connect-timeout")),
            compress_snapshots: raw.bool("compress-snap-transport"),
            verify_interval: interval(raw, "verify-int"),
        }
    }
}

impl RaftConfig {
    fn from_flags(raw: &RawFlags) -> RaftConfig {
        let level_text = raw.text("raft-log-level").to_ascii_uppercase();
        RaftConfig {
            addr: raw.text("raft-addr").to_string(),
            adv_addr: resolve::raft_adv_addr(raw).to_string(),
            // An unknown word means INFO, as in the reference: a misspelt level must not keep a node down.
            log_level: match level_text.as_str() {
                "TRACE" => log::LevelFilter::Trace,
                "DEBUG" => log::LevelFilter::Debug,
                "WARN" => log::LevelFilter::Warn,
                "ERROR" => log::LevelFilter::Error,
                "OFF" => log::LevelFilter::Off,
                _ => log::LevelFilter::Info,
            },
            log_level_text: level_text,
            wal_segment_bytes: raw.uint("raft-wal-segment-size"),
            skip_entry: unless_zero(raw.uint("skip-entry")),
            apply_timeout: duration(raw.duration_ns("raft-apply-timeout")),
            shutdown_stepdown: raw.bool("raft-shutdown-stepdown"),
            cluster_remove_shutdown: raw.bool("raft-cluster-remove-shutdown"),
            remove_shutdown: raw.bool("raft-remove-shutdown"),
            reap_timeout: interval(raw, "raft-reap-node-timeout"),
            reap_read_only_timeout: interval(raw, "raft-reap-read-only-node-timeout"),
        }
    }
}

fn duration(ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ns).expect("validation refused negative durations"))
}

/// A duration in which 0 means "not at all".
fn interval(raw: &RawFlags, name: &str) -> Option<Duration> {
    unless_zero(raw.duration_ns(name)).map(duration)
}

fn count(raw: &RawFlags, name: &str) -> usize {
    usize::try_from(raw.int(name)).expect("validation bounded the counts")
}

fn unless_zero<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

fn without_effect(raw: &RawFlags) -> Vec<(&'static str, &'static str)> {
    let reason = |flag: &flags::Flag| match flag.status {
        flags::Status::NoEffect(why) if raw.is_changed(flag) => Some((flag.name, why)),
        _ => None,
    };
    flags::FLAGS.iter().filter_map(reason).collect()
}
