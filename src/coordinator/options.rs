//! How a request wants to be served.

use crate::auth::Callers;
pub use crate::net::call::ReadPurpose;
use std::time::Duration;

/// Read consistency (spec: `level`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    None,
    #[default]
    Weak,
    Linearizable,
    Strong,
    Auto,
}

/// Options common to execute, query and request; those that do not apply are ignored.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    pub level: Level,
    /// Zero: off.
    pub freshness: Duration,
    pub freshness_strict: bool,
    pub linearizable_timeout: Duration,
    /// Limit of each network operation when forwarding.
    pub timeout: Duration,
    /// Limit of the SQL's execution; zero: none.
    pub db_timeout: Duration,
    pub retries: u32,
    /// Answer where the leader is instead of forwarding.
    pub redirect: bool,
    /// Whom the leader must permit it, should it be asked.
    pub callers: Callers,
    /// What a read is for; says together with `callers` what the leader must permit.
    pub purpose: ReadPurpose,
    /// A read waits until this node has applied so much, whatever its level; zero: no matter how much.
    pub min_index: u64,
    /// A write gets a request id even where this node leads: what becomes of it is found out also over a change of
    /// leaders.
    pub once: bool,
    /// Makes a write that is sent again be done once (`Idempotency-Key`).
    pub idempotency_key: Option<Box<[u8]>>,
}
