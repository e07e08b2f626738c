//! What is wrong with a set of flags: the checks of the reference in its order and with its texts, then our own.
//! Runs on the main thread. It looks at the disk only to see whether extension paths exist; it must never
//! resolve a name, open a port or print.

use std::fmt;
use std::path::Path;

use super::address::{is_port, is_unspecified, split_host_port};
use super::flags::{FLAGS, Status};
use super::parse::RawFlags;
use super::resolve;
use crate::text::duration;

/// Why the process cannot start with these flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// No word was left for the data directory. Printed as a log line; status 1.
    MissingDataDir,
    /// Words stand behind the data directory. Printed bare; status 1.
    ExtraArguments { dir: String, extra: Vec<String> },
    /// A check failed. Printed behind `fatal: `; status 1.
    Invalid(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::MissingDataDir => {
                write!(f, "failed to parse command-line flags: missing required argument: DataPath")
            }
            ConfigError::ExtraArguments { dir, extra } => {
                write!(f, "arguments after data directory ({dir}) are not accepted ([{}])", extra.join(" "))
            }
            ConfigError::Invalid(text) => write!(f, "fatal: {text}"),
        }
    }
}

impl std::error::Error for ConfigError {}

type Check = Result<(), ConfigError>;

/// Fails with `text` when `wrong` holds.
fn refuse(wrong: bool, text: impl Into<String>) -> Check {
    if wrong { Err(ConfigError::Invalid(text.into())) } else { Ok(()) }
}

/// Runs every check. What passes can be turned into a `Config` without further failure.
pub fn check(raw: &RawFlags) -> Check {
    positionals(raw)?;
    extensions(raw)?;
    tls_pairs(raw)?;
    addresses(raw)?;
    joining(raw)?;
    refuse(
        !raw.text("cdc-config").is_empty() && raw.bool("raft-non-voter"),
        "CDC cannot be enabled on non-voting nodes",
    )?;
    otlp(raw)?;
    discovery(raw)?;
    own(raw)?;
    raft_timing(raw)?;
    ours(raw)?;
    built(raw)
}

fn positionals(raw: &RawFlags) -> Check {
    // Without a word for the directory the reference fails while it still parses, before any check.
    let Some(dir) = raw.positionals.first() else { return Err(ConfigError::MissingDataDir) };
    for name in ["raft-reap-node-timeout", "raft-reap-read-only-node-timeout"] {
        refuse(raw.is_given(name) && raw.duration_ns(name) <= 0, format!("-{name} must be greater than 0"))?;
    }
    if raw.positionals.len() > 1 {
        return Err(ConfigError::ExtraArguments { dir: dir.clone(), extra: raw.positionals[1..].to_vec() });
    }
    refuse(dir.trim().is_empty(), "data directory path is required")
}

fn extensions(raw: &RawFlags) -> Check {
    for path in raw.list("extensions-path") {
        refuse(!Path::new(path).exists(), format!("extension path does not exist: {path}"))?;
    }
    Ok(())
}

fn tls_pairs(raw: &RawFlags) -> Check {
    for side in ["http", "node"] {
        let set = |what: &str| !raw.text(&format!("{side}-{what}")).is_empty();
        refuse(set("cert") != set("key"), format!("either both -{side}-cert and -{side}-key must be set, or neither"))?;
    }
    for side in ["http", "node"] {
        let (name, needs) = (format!("{side}-verify-common-name"), format!("{side}-verify-client"));
        refuse(!raw.text(&name).is_empty() && !raw.bool(&needs), format!("-{name} requires -{needs}"))?;
    }
    Ok(())
}

fn addresses(raw: &RawFlags) -> Check {
    let (http, http_adv) = (raw.text("http-addr"), resolve::http_adv_addr(raw));
    let (bind, adv) = (raw.text("raft-addr"), resolve::raft_adv_addr(raw));
    refuse(http == bind, "HTTP and Raft addresses must differ")?;
    // The reference refuses every name that begins with "http", among them honest host names; a scheme is meant.
    let has_scheme = |address: &str| {
        let lower = address.to_ascii_lowercase();
        lower.starts_with("http://") || lower.starts_with("https://")
    };
    refuse(has_scheme(http) || has_scheme(http_adv), "HTTP options should not include protocol (http:// or https://)")?;
    let port_ok = split_host_port(http).is_some_and(|(_, port)| is_port(port));
    refuse(!port_ok, "HTTP bind address not valid")?;
    let Some((host, _)) = split_host_port(http_adv) else {
        return refuse(true, "HTTP advertised HTTP address not valid");
    };
    refuse(
        is_unspecified(host),
        format!("advertised HTTP address is not routable ({host}), specify it via -http-addr or -http-adv-addr"),
    )?;
    let Some((_, port)) = split_host_port(bind) else { return refuse(true, "raft bind address not valid") };
    refuse(!is_port(port), "raft bind port not valid")?;
    let Some((host, port)) = split_host_port(adv) else { return refuse(true, "raft advertised address not valid") };
    refuse(
        is_unspecified(host),
        format!("advertised Raft address is not routable ({host}), specify it via -raft-addr or -raft-adv-addr"),
    )?;
    refuse(!is_port(port), "raft advertised port is not valid")?;
    refuse(http_adv == adv, "advertised HTTP and Raft addresses must differ")
}

fn joining(raw: &RawFlags) -> Check {
    let expect = raw.int("bootstrap-expect");
    refuse(expect > 0 && raw.bool("raft-non-voter"), "bootstrapping only applicable to voting nodes")?;
    let join = raw.list("join");
    for address in join {
        refuse(split_host_port(address).is_none(), format!("{address} is an invalid join address"))?;
    }
    if expect == 0 && !join.is_empty() {
        let own = [raw.text("raft-addr"), resolve::raft_adv_addr(raw)];
        refuse(
            join.iter().any(|address| own.contains(&address.as_str())),
            "node cannot join with itself unless bootstrapping",
        )?;
        refuse(!raw.text("auto-restore").is_empty(), "auto-restoring cannot be used when joining a cluster")?;
    }
    refuse(
        !join.is_empty() && !raw.text("disco-mode").is_empty(),
        "disco mode cannot be used when also explicitly joining a cluster",
    )
}

/// Of ours, after all that the reference checks.
fn own(raw: &RawFlags) -> Check {
    refuse(raw.bool("rejoin") && raw.list("join").is_empty(), "-rejoin requires -join")?;
    // The reference then joins in nobody's name, and is refused by whoever asks for one.
    let join_as = raw.text("join-as");
    refuse(
        !join_as.is_empty() && raw.text("auth").is_empty(),
        format!("-join-as requires -auth: the password of user {join_as} is read from that file"),
    )
}

fn otlp(raw: &RawFlags) -> Check {
    let set = |name: &str| !raw.text(name).is_empty();
    refuse(set("otlp-cert") != set("otlp-key"), "either both -otlp-cert and -otlp-key must be set, or neither")?;
    let tls_options = raw.bool("otlp-no-verify") || set("otlp-ca-cert") || set("otlp-cert");
    let endpoint = raw.text("otlp-endpoint");
    if endpoint.is_empty() {
        return refuse(tls_options || raw.bool("otlp-insecure"), "OTLP options require -otlp-endpoint");
    }
    refuse(endpoint.contains("://"), "-otlp-endpoint must not include a protocol scheme")?;
    refuse(split_host_port(endpoint).is_none(), "-otlp-endpoint is not a valid address")?;
    refuse(raw.duration_ns("otlp-interval") <= 0, "-otlp-interval must be greater than zero")?;
    refuse(raw.bool("otlp-insecure") && tls_options, "-otlp-insecure cannot be used with other OTLP TLS options")
}

fn discovery(raw: &RawFlags) -> Check {
    let expect = raw.int("bootstrap-expect");
    match raw.text("disco-mode") {
        "" => Ok(()),
        mode @ ("consul-kv" | "etcd-kv") => {
            refuse(expect > 0, format!("bootstrapping not applicable when using {mode}"))
        }
        mode @ ("dns" | "dns-srv") => refuse(
            expect == 0 && !raw.bool("raft-non-voter"),
            format!("bootstrap-expect value required when using {mode} with a voting node"),
        ),
        _ => refuse(true, "disco mode must be one of consul-kv, etcd-kv, dns, or dns-srv"),
    }
}

/// Shortest timeouts with which an election can work at all.
const ELECTION_TIMEOUT_MIN_NS: i64 = 5_000_000;
const COMMIT_TIMEOUT_MIN_NS: i64 = 1_000_000;

/// The relations between Raft's timeouts. The reference finds them out only when it opens its store; the text is
/// kept, the moment is earlier, before a port is bound or a file created.
fn raft_timing(raw: &RawFlags) -> Check {
    let refuse =
        |wrong, text: String| refuse(wrong, format!("failed to open store: creating the raft system failed: {text}"));
    let timing = resolve::raft_timing_ns(raw);
    for (name, ns, min_ns) in [
        ("HeartbeatTimeout", timing.heartbeat_ns, ELECTION_TIMEOUT_MIN_NS),
        ("ElectionTimeout", timing.election_ns, ELECTION_TIMEOUT_MIN_NS),
        ("CommitTimeout", timing.commit_ns, COMMIT_TIMEOUT_MIN_NS),
        ("LeaderLeaseTimeout", timing.lease_ns, ELECTION_TIMEOUT_MIN_NS),
        ("SnapshotInterval", timing.snapshot_interval_ns, ELECTION_TIMEOUT_MIN_NS),
    ] {
        let (is, least) = (duration::format_ns(ns), duration::format_ns(min_ns));
        refuse(ns < min_ns, format!("{name} ({is}) must be at least {least}"))?;
    }
    let (election, heartbeat) = (duration::format_ns(timing.election_ns), duration::format_ns(timing.heartbeat_ns));
    refuse(
        timing.election_ns < timing.heartbeat_ns,
        format!("ElectionTimeout ({election}) must be equal or greater than Heartbeat Timeout ({heartbeat})"),
    )?;
    let lease = duration::format_ns(timing.lease_ns);
    refuse(
        timing.lease_ns > timing.heartbeat_ns,
        format!("LeaderLeaseTimeout ({lease}) cannot be larger than heartbeat timeout ({heartbeat})"),
    )
}

/// Most members of a cluster.
const BOOTSTRAP_EXPECT_MAX: u64 = 64;

/// Bounds on numbers. The reference lets negative ones through and meets them later, in a panic or in silence.
fn ours(raw: &RawFlags) -> Check {
    if let Some(name) = raw.first_negative() {
        return refuse(true, format!("-{name} must not be negative"));
    }
    for (name, value, min, max) in [
        ("http-workers", raw.int("http-workers") as u64, 1, 1 << 12),
        ("http-max-conns", raw.int("http-max-conns") as u64, 1, 1 << 20),
        ("http-max-body-size", raw.uint("http-max-body-size"), 1 << 10, 1 << 34),
        ("db-max-result-size", raw.uint("db-max-result-size"), 1 << 10, 1 << 34),
        ("db-max-ro-conns", raw.int("db-max-ro-conns") as u64, 0, 1 << 20),
        ("raft-wal-segment-size", raw.uint("raft-wal-segment-size"), 1 << 16, 1 << 30),
        ("join-attempts", raw.int("join-attempts") as u64, 0, 1 << 20),
        ("bootstrap-expect", raw.int("bootstrap-expect") as u64, 0, BOOTSTRAP_EXPECT_MAX),
        ("write-queue-capacity", raw.int("write-queue-capacity") as u64, 0, 1 << 24),
        ("write-queue-batch-size", raw.int("write-queue-batch-size") as u64, 0, 1 << 20),
    ] {
        refuse(value < min || value > max, format!("-{name} must be between {min} and {max}"))?;
    }
    Ok(())
}

/// Refuses what this build cannot do and must not seem to do.
fn built(raw: &RawFlags) -> Check {
    for flag in FLAGS {
        if let Status::Refused(why) = flag.status {
            refuse(raw.is_changed(flag), format!("-{} is not supported yet: {why}", flag.name))?;
        }
    }
    Ok(())
}
