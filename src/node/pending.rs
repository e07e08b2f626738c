//! Who waits for which index: proposals of this leader that are not yet committed, in log order.

use super::handle::{ApplyDone, NodeError};
use raft::LogId;
use std::collections::VecDeque;

/// Lives on the raft thread.
#[derive(Default)]
pub struct Pending {
    waiting: VecDeque<(LogId, ApplyDone)>,
}

impl Pending {
    pub fn push(&mut self, id: LogId, done: ApplyDone) {
        if let Some((last, _)) = self.waiting.back() {
            assert!(last.index < id.index, "proposals come in log order: {last} then {id}");
        }
        self.waiting.push_back((id, done));
    }

    /// The waiter of this committed entry, if it was proposed here. Indexes come in order. A waiter at the same index but
    /// of another term was overwritten: its entry will never be applied, which the caller learns as an unknown outcome.
    pub fn take(&mut self, committed: LogId) -> Option<ApplyDone> {
        while let Some((id, _)) = self.waiting.front() {
            if id.index > committed.index {
                return None;
            }
            let (id, done) = self.waiting.pop_front().expect("just looked at");
            if id == committed {
                return Some(done);
            }
            done(Err(NodeError::LeadershipLost));
        }
        None
    }

    /// Leadership is gone: what becomes of these entries is not known here.
    pub fn fail_all(&mut self, error: &NodeError) {
        for (_, done) in self.waiting.drain(..) {
            done(Err(error.clone()));
        }
    }
}
