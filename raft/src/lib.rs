//! A sans-IO Raft replica and its write-ahead log.
//!
//! Reading order: [`types`] (the vocabulary), [`message`] and [`effects`] (what goes in and out), [`replica`] (the
//! state machine's frame and its invariants), then by topic: `election`, `follower`, `replication`, `reads`,
//! `transfer`, `change`, `catchup`; below them `role`, `progress`, `tail`, `ledger`, `quorum`, `clock`. Beside it: [`wire`] (the bytes of messages),
//! [`wal`] (the log on disk) over [`disk`] (the one IO seam). `sim` runs all of it in a simulated world.
//!
//! What is deliberately absent from the replica: threads, sockets, clocks, randomness, async, hash maps.

#[macro_use]
mod mutant;

mod catchup;
mod change;
mod clock;
pub mod config;
pub mod disk;
pub mod effects;
mod election;
mod follower;
mod handover;
mod ledger;
pub mod membership;
pub mod message;
mod progress;
mod quorum;
mod reads;
pub mod replica;
mod replication;
mod role;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod tail;
mod transfer;
pub mod types;
mod view;
pub mod wal;
pub mod wire;

pub use catchup::{SnapshotError, SnapshotMeta};
pub use change::{Change, ChangeError};
pub use config::{Config, ConfigError, Incarnation, Limits, Timing};
pub use effects::{Alarm, Append, Effects, LogRange, LogRead, ReadToken, RoleChange, RoleKind};
pub use membership::{Member, Membership, MembershipError, Suffrage};
pub use message::{Envelope, Message};
pub use reads::ReadError;
pub use replica::{BootstrapError, PeerStatus, ProposeError, RecoverError, Recovered, Replica, Status, StepError};
pub use transfer::TransferError;
pub use types::*;
