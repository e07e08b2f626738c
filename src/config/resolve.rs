//! What an empty or zero flag stands for. One place, so that the checks and the typed configuration cannot
//! disagree. Pure functions of the raw flags.

use super::parse::RawFlags;

const HEARTBEAT_DEFAULT_NS: i64 = 1_000_000_000;
const ELECTION_DEFAULT_NS: i64 = 1_000_000_000;
const LEASE_DEFAULT_NS: i64 = 500_000_000;
const COMMIT_DEFAULT_NS: i64 = 50_000_000;
const SNAPSHOT_INTERVAL_DEFAULT_NS: i64 = 120_000_000_000;
const SNAPSHOT_ENTRIES_DEFAULT: u64 = 8192;

/// Raft's timeouts with defaults filled in, in nanoseconds; negative ones as given.
#[derive(Debug, Clone, Copy)]
pub struct RaftTimingNs {
    pub heartbeat_ns: i64,
    pub election_ns: i64,
    pub lease_ns: i64,
    pub commit_ns: i64,
    pub snapshot_interval_ns: i64,
}

/// The first text unless it is empty, else the second.
fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

pub fn http_adv_addr(raw: &RawFlags) -> &str {
    or(raw.text("http-adv-addr"), raw.text("http-addr"))
}

pub fn raft_adv_addr(raw: &RawFlags) -> &str {
    or(raw.text("raft-adv-addr"), raw.text("raft-addr"))
}

pub fn node_id(raw: &RawFlags) -> &str {
    or(raw.text("node-id"), raft_adv_addr(raw))
}

pub fn raft_timing_ns(raw: &RawFlags) -> RaftTimingNs {
    let or = |name: &str, default_ns: i64| match raw.duration_ns(name) {
        0 => default_ns,
        given_ns => given_ns,
    };
    RaftTimingNs {
        heartbeat_ns: or("raft-heartbeat-timeout", HEARTBEAT_DEFAULT_NS),
        election_ns: or("raft-election-timeout", ELECTION_DEFAULT_NS),
        lease_ns: or("raft-leader-lease-timeout", LEASE_DEFAULT_NS),
        commit_ns: or("raft-commit-timeout", COMMIT_DEFAULT_NS),
        snapshot_interval_ns: or("raft-snap-int", SNAPSHOT_INTERVAL_DEFAULT_NS),
    }
}

pub fn snapshot_entries(raw: &RawFlags) -> u64 {
    match raw.uint("raft-snap") {
        0 => SNAPSHOT_ENTRIES_DEFAULT,
        given => given,
    }
}

/// An interval of 0 also turns the trigger by SQLite's write-ahead log off.
pub fn snapshot_wal_bytes(raw: &RawFlags) -> u64 {
    if raw.duration_ns("raft-snap-int") == 0 { 0 } else { raw.uint("raft-snap-wal-size") }
}
