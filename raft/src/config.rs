//! How a replica is set up: who it is, its timing, its bounds. Plain data, checked once; never read from files here.

use crate::{NodeId, Term};
use std::fmt;

/// Most members of one cluster, of every kind together. Bounds what a membership entry may hold.
pub const MEMBERS_MAX: usize = 64;
/// Longest node id, in bytes.
pub const NODE_ID_BYTES_MAX: usize = 512;
/// Longest address of a member, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 1024;
/// What an entry costs in memory besides its payload; counted so that a flood of empty entries is bounded too.
pub const ENTRY_OVERHEAD_BYTES: u64 = 64;
/// Terms above this are refused from peers, so that no message can drive the term to where it cannot be raised.
pub const TERM_MAX: Term = Term(u64::MAX / 4);
/// Indexes above this are refused from peers, for the same reason.
pub const INDEX_MAX: u64 = u64::MAX / 4;

/// Names one life of one data directory. Drawn at random (not zero) when a directory is made; a wiped node so
/// comes back as a stranger that cannot vote or acknowledge in the name of the data it lost.
///
/// `Incarnation(0)` means "not known": it matches any. It stands only in memberships written by hand, and only until the
/// leader has heard from that member: then it is put in its place (`change::pin_lives`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// Whether two names can mean the same life.
    pub fn matches(self, other: Incarnation) -> bool {
        self.0 == 0 || other.0 == 0 || self == other || mutant!("incarnation_ignored")
    }
}

/// Timing in milliseconds of whatever monotonic clock the caller passes to `Replica::tick`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader lets its followers hear of it.
    pub heartbeat_interval_ms: u64,
    /// A follower that hears nothing for this long, plus a random part of it, tries an election; until then it
    /// refuses to vote against the leader it hears.
    pub election_timeout_ms: u64,
    /// A leader that hears from no quorum for this long steps down.
    pub leader_lease_ms: u64,
    /// A leader whose log makes no progress for this long steps down, though it could still send heartbeats.
    pub disk_stall_ms: u64,
    /// Longest time that followers may be left unaware of a new commit index while nothing else is sent to them.
    pub commit_notify_ms: u64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat_interval_ms: 100,
            election_timeout_ms: 1000,
            leader_lease_ms: 500,
            disk_stall_ms: 1000,
            commit_notify_ms: 10,
        }
    }
}

/// Bounds on memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest payload of one entry.
    pub entry_bytes_max: u64,
    /// Entries in one Append message: it is closed when it reaches this size (one entry may be larger alone).
    pub batch_bytes_max: u64,
    /// Appended but not yet acknowledged, for each peer.
    pub in_flight_bytes_max: u64,
    /// A leader refuses proposals (`ProposeError::Busy`) while this much is not committed and handed over.
    pub uncommitted_bytes_max: u64,
    /// Committed entries that are handed over and not yet applied: bounds the applier's inbox.
    pub unapplied_bytes_max: u64,
    /// Entries kept in memory for slow followers; what is older is read back from the log.
    pub tail_bytes_max: u64,
    /// Reads that wait for a quorum round.
    pub reads_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            entry_bytes_max: 300 << 20,
            batch_bytes_max: 1 << 20,
            in_flight_bytes_max: 4 << 20,
            uncommitted_bytes_max: 16 << 20,
            unapplied_bytes_max: 8 << 20,
            tail_bytes_max: 16 << 20,
            reads_max: 65_536,
        }
    }
}

/// All that a replica is told about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub id: NodeId,
    pub incarnation: Incarnation,
    /// Seeds the election timeouts. Must differ between nodes and between starts (draw it at random): equal seeds
    /// give equal timeouts and split votes.
    pub seed: u64,
    pub timing: Timing,
    pub limits: Limits,
}

impl Config {
    /// Default timing and limits.
    pub fn new(id: NodeId, incarnation: Incarnation, seed: u64) -> Config {
        Config { id, incarnation, seed, timing: Timing::default(), limits: Limits::default() }
    }

    /// Checks the relations on which liveness rests.
    ///
    /// # Errors
    /// The first relation that does not hold.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let t = &self.timing;
        let l = &self.limits;
        if self.id.0.is_empty() || self.id.0.len() > NODE_ID_BYTES_MAX {
            return Err(ConfigError("the node id must have between 1 and 512 bytes"));
        }
        if self.incarnation == Incarnation(0) {
            return Err(ConfigError("the incarnation must not be zero"));
        }
        if t.heartbeat_interval_ms == 0 || t.commit_notify_ms == 0 || t.disk_stall_ms == 0 {
            return Err(ConfigError("intervals must not be zero"));
        }
        // A follower must hear its leader well before it doubts it (a leader whose heartbeat is slower than the
        // election timeout is deposed for ever).
        if t.heartbeat_interval_ms * 2 > t.election_timeout_ms {
            return Err(ConfigError("the election timeout must be at least two heartbeat intervals"));
        }
        if t.leader_lease_ms > t.election_timeout_ms || t.leader_lease_ms < t.heartbeat_interval_ms * 2 {
            return Err(ConfigError("the leader lease must lie between two heartbeats and the election timeout"));
        }
        if l.batch_bytes_max == 0 || l.in_flight_bytes_max < l.batch_bytes_max {
            return Err(ConfigError("in-flight bytes must hold at least one batch"));
        }
        if l.unapplied_bytes_max == 0 || l.uncommitted_bytes_max == 0 || l.reads_max == 0 {
            return Err(ConfigError("limits must not be zero"));
        }
        Ok(())
    }
}

/// A configuration that cannot work; says which relation is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError(pub &'static str);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ConfigError {}
