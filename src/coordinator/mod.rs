//! The one service layer: every front (HTTP, queue, peers) asks here, and nobody else talks to the node.
//!
//! Calls that may have to wait for the log take a continuation and return at once; the continuation runs on whatever
//! thread has the answer and must neither block nor do real work (the HTTP front passes it on to a worker).

pub mod error;
pub mod options;
pub mod status;

pub use crate::db::syntax::SyntaxChecker;
pub use error::Error;
pub use options::{Level, ReadOptions};
pub use status::StoreStatus;

use crate::command::{Request, ResultSink, Statement, StatementResult};
use raft::Index;
use std::time::Duration;

/// What a write or a logged request came to.
pub struct Written {
    pub results: Vec<StatementResult>,
    pub raft_index: Index,
}

/// The right to read the local copy now; what was promised for the level already holds.
pub struct ReadPermit {
    /// Where the read stands in the log; only for reads that went through it.
    pub raft_index: Option<Index>,
}

pub type WriteDone = Box<dyn FnOnce(Result<Written, Error>) + Send>;
pub type PermitDone = Box<dyn FnOnce(Result<ReadPermit, Error>) + Send>;
/// Gets the sequence number of a queued request.
pub type QueueDone = Box<dyn FnOnce(Result<u64, Error>) + Send>;

/// See the module. Shared as `Arc<Coordinator>`.
pub struct Coordinator {}

impl Coordinator {
    /// `/db/execute`: through the log.
    pub fn execute(&self, _request: Request, _options: &ReadOptions, _done: WriteDone) {
        todo!()
    }

    /// `/db/request` that has a write in it, or is asked for at level strong: through the log.
    pub fn request(&self, _request: Request, _options: &ReadOptions, _done: WriteDone) {
        todo!()
    }

    /// Does every statement of this `/db/request` only read? Prepares them on a read-only connection.
    pub fn only_reads(&self, _request: &Request) -> Result<bool, Error> {
        todo!()
    }

    /// Waits until a local read of this level may run (at once for none and weak).
    pub fn permit_read(&self, _options: &ReadOptions, _done: PermitDone) {
        todo!()
    }

    /// Runs a read on this node's copy, all statements on one snapshot; blocks the calling thread, within the deadline.
    /// `Err` is an error of the whole request (e.g. `context deadline exceeded`); SQL errors go to the sink.
    pub fn read(
        &self,
        _permit: &ReadPermit,
        _request: &Request,
        _options: &ReadOptions,
        _sink: &mut dyn ResultSink,
    ) -> Result<(), Error> {
        todo!()
    }

    /// `/db/execute?queue`: takes statements for a later batch, in order. `done` runs exactly once: as soon as they are
    /// taken, or, with `wait`, when their batch is written or `timeout` has passed. No statements with `wait` are a
    /// barrier.
    pub fn enqueue(&self, _statements: Vec<Statement>, _wait: bool, _timeout: Duration, _done: QueueDone) {
        todo!()
    }

    /// The highest sequence number whose batch is written; 0 before the first.
    pub fn queue_sequence(&self) -> u64 {
        todo!()
    }

    /// Hands leadership to `target`, or to any voter. Without `wait` the hand-over is only started.
    pub fn step_down(&self, _target: Option<&str>, _wait: bool) -> Result<(), Error> {
        todo!()
    }

    /// Takes a node out of the cluster; one that is no member is no error.
    pub fn remove_node(&self, _id: &str, _timeout: Duration) -> Result<(), Error> {
        todo!()
    }

    /// `POST /snapshot`: makes everything applied durable in the database file and drops the log before it, but for
    /// `trailing_logs` entries (0 = the configured number). `Ok(false)`: nothing new.
    pub fn snapshot(&self, _trailing_logs: u64) -> Result<bool, Error> {
        todo!()
    }

    /// Everything that `/status` says under `store`; `None` until the store is open.
    pub fn store_status(&self) -> Option<StoreStatus> {
        todo!()
    }

    /// (node id, raft address) of the leader that this node knows.
    pub fn leader(&self) -> Option<(String, String)> {
        todo!()
    }

    /// Waits until this node has applied the leader's commit index (`/readyz?sync`).
    pub fn wait_synced(&self, _timeout: Duration) -> Result<(), Error> {
        todo!()
    }

    /// May this node serve: open, leader known, log known at start applied.
    pub fn is_ready(&self) -> bool {
        todo!()
    }
}
