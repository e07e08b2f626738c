//! Why a request as a whole was not served. SQL errors are results, not these.

use crate::auth::Operation;
use crate::node::NodeError;
use std::fmt;

/// One table in `http/` maps these to status codes; `Display` gives the text that clients match on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No leader is known.
    LeaderNotFound,
    /// Another node leads: its API URL, for a caller that asked for a redirect.
    Redirect {
        leader_url: String,
    },
    NotLeader,
    StoreNotOpen,
    StoreNotReady,
    /// This node's copy differs from the others'; another one is on its way.
    Quarantined,
    StaleRead,
    DisallowedPragma,
    /// Leadership went while the entry was under way: it may or may not be applied.
    LeadershipLost,
    /// The inbox of the raft thread stayed full for `-raft-apply-timeout`.
    EnqueueTimeout,
    /// The state machine did not reach this index in time.
    FsmTimeout {
        index: u64,
    },
    /// The deadline passed before a statement ran.
    DeadlineExceeded,
    QueueWaitTimeout,
    QueueClosed,
    NotEnoughNodes,
    /// The node named as the next leader leads already.
    AlreadyLeader,
    /// The node named is no member.
    NodeNotFound,
    /// A redirect was asked for, and there is no leader to name.
    RedirectUnknown,
    /// The leader does not let the caller do this, though this node does: their credentials files differ.
    Unauthorized(Operation),
    /// The request may or may not have been done. With the key it may be sent again, and is done once.
    OutcomeUnknown {
        why: String,
        key: Option<String>,
    },
    /// A database that was sent cannot become that of the nodes: why.
    UnfitDatabase(String),
    /// Other nodes belong to the cluster.
    NotSingleNode,
    /// `COMMIT` failed, or another failure of the whole request; the text is SQLite's or ours.
    Request(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::LeaderNotFound => f.write_str("leader not found"),
            Error::Redirect { leader_url } => write!(f, "leader is at {leader_url}"),
            Error::NotLeader => f.write_str("not leader"),
            Error::StoreNotOpen => f.write_str("store not open"),
            Error::StoreNotReady => f.write_str("store not ready"),
            Error::Quarantined => {
                f.write_str("store not ready: this node's copy differs from the others and is being replaced")
            }
            Error::StaleRead => f.write_str("stale read"),
            Error::DisallowedPragma => f.write_str("disallowed pragma"),
            Error::LeadershipLost => f.write_str("leadership lost while committing log"),
            Error::EnqueueTimeout => f.write_str("timed out enqueuing operation"),
            Error::FsmTimeout { index } => write!(f, "index {index}: timeout waiting for fsm"),
            Error::DeadlineExceeded => f.write_str("context deadline exceeded"),
            Error::QueueWaitTimeout => f.write_str("queue wait timeout"),
            Error::QueueClosed => f.write_str("queue is closed"),
            Error::NotEnoughNodes => f.write_str("cannot find peer"),
            Error::AlreadyLeader => f.write_str("cannot step down to the current Leader"),
            Error::NodeNotFound => f.write_str("node not found in cluster"),
            Error::RedirectUnknown => f.write_str("leader not found"),
            Error::Unauthorized(operation) => write!(f, "remote {} not authorized", operation.name()),
            Error::OutcomeUnknown { why, key: Some(key) } => {
                write!(f, "{why} (outcome unknown: ask again with Idempotency-Key {key})")
            }
            Error::OutcomeUnknown { why, key: None } => write!(f, "{why} (outcome unknown)"),
            Error::NotSingleNode => f.write_str("not single-node"),
            Error::UnfitDatabase(text) | Error::Request(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<NodeError> for Error {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::NotLeader | NodeError::Overwritten => Error::NotLeader,
            NodeError::LeadershipLost => Error::LeadershipLost,
            NodeError::EnqueueTimeout => Error::EnqueueTimeout,
            NodeError::Stopped | NodeError::TooLarge { .. } => Error::Request(error.to_string()),
        }
    }
}
