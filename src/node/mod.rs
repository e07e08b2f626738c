//! One replica as threads: the raft thread decides, the WAL thread makes it durable, the applier runs it.
//!
//! Reading order: [`handle`] (the only door in), [`raft_thread`], [`wal_thread`], [`applier_thread`], [`open`] (start and
//! recovery). The crossings between them are bounded channels; who may wait for whom is drawn in `lib.rs`.

pub mod applied;
pub mod applier_thread;
pub mod backup;
pub mod clock;
pub mod database;
pub mod handle;
pub mod inbox;
pub mod maintenance;
pub mod net_peers;
pub mod open;
pub mod outbox;
pub mod pending;
pub mod pins;
mod raft_admin;
pub mod raft_peers;
mod raft_proposals;
pub mod raft_thread;
pub mod recover;
pub mod replay;
pub mod snapshot_in;
pub mod spawn;
#[cfg(test)]
mod stop_tests;
pub mod verify;
pub mod wal_thread;

pub use handle::{ApplyDone, NodeError, NodeHandle};
pub use maintenance::{Maintenance, MaintenanceOptions};
pub use open::{Node, NodeOptions, Origin};
pub use recover::{OpenError, Store, known_incarnation, set_aside};
