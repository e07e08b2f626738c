//! Reads: first the right to read (by level), then the read itself on this node's own copy.

use super::{Coordinator, Error, Level, ReadOptions};
use crate::command::{Action, Request, ResultSink};
use crate::db::ReadError;
use crate::node::NodeHandle;
use raft::Index;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The right to read the local copy now; what was promised for the level already holds.
pub struct ReadPermit {
    /// Where the read stands in the log; only for reads that went through it.
    pub raft_index: Option<Index>,
}

/// Called exactly once, on any thread, perhaps before the call that took it returns.
pub type PermitDone = Box<dyn FnOnce(Result<ReadPermit, Error>) + Send>;

impl Coordinator {
    /// Waits until a local read of this level may run (at once for none and weak).
    ///
    /// A strong read takes a place in the log and reads when that place is applied here: it sees every write ordered
    /// before it, and the SQL itself never runs on the applier.
    pub fn permit_read(&self, options: &ReadOptions, done: PermitDone) {
        let here = Ok(ReadPermit { raft_index: None });
        match options.level {
            Level::None => done(self.node().and(here)),
            Level::Weak | Level::Auto => done(self.leading_node().and_then(ready).and(here)),
            Level::Linearizable => match self.leading_node().and_then(ready) {
                Ok(node) => node.read_index(Box::new(move |index| {
                    done(index.map(|_| ReadPermit { raft_index: None }).map_err(Error::from));
                })),
                Err(error) => done(Err(error)),
            },
            Level::Strong => match self.leading_node() {
                Ok(node) => strong(node, done),
                Err(error) => done(Err(error)),
            },
        }
    }

    /// Runs a read on this node's copy, all statements on one snapshot; blocks the calling thread, within the deadline.
    ///
    /// # Errors
    /// Of the whole request (e.g. `context deadline exceeded`); SQL errors go to the sink.
    pub fn read(
        &self,
        _permit: &ReadPermit,
        request: &Request,
        options: &ReadOptions,
        sink: &mut dyn ResultSink,
    ) -> Result<(), Error> {
        let limit = match options.db_timeout.is_zero() {
            true => self.settings.read_timeout,
            false => options.db_timeout.min(self.settings.read_timeout),
        };
        self.node()?.readers().query(request, Some(Instant::now() + limit), sink).map_err(Error::from)
    }
}

/// Reads of the leader's present wait until the log that was there at start is applied: before that they would show
/// the past (spec 5.3 [Q]).
fn ready(node: &NodeHandle) -> Result<&NodeHandle, Error> {
    match node.shared().caught_up.load(Ordering::Acquire) {
        true => Ok(node),
        false => Err(Error::StoreNotReady),
    }
}

fn strong(node: &NodeHandle, done: PermitDone) {
    let shared = node.clone();
    node.propose(
        Action::Barrier,
        Box::new(move |applied| {
            done(applied.map_err(Error::from).map(|applied| {
                shared.shared().strong_read_term.store(applied.id.term.0, Ordering::Relaxed);
                ReadPermit { raft_index: Some(applied.id.index) }
            }));
        }),
    );
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::DeadlineExceeded => Error::DeadlineExceeded,
            ReadError::DisallowedPragma => Error::DisallowedPragma,
            other => Error::Request(other.to_string()),
        }
    }
}
