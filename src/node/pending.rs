//! Who waits for which index: proposals of this leader that are not yet committed, in log order.

use super::handle::{ApplyDone, NodeError};
use raft::{Index, LogId};
use std::collections::VecDeque;
use std::time::Instant;

/// Lives on the raft thread.
#[derive(Default)]
pub struct Pending {
    waiting: VecDeque<(LogId, ApplyDone)>,
    /// This node does not lead any more: those who wait are told by then that nobody knows.
    until: Option<Instant>,
}

impl Pending {
    pub fn push(&mut self, id: LogId, done: ApplyDone) {
        self.until = None;
        while self.waiting.back().is_some_and(|(last, _)| last.index >= id.index) {
            let (last, done) = self.waiting.pop_back().expect("just looked at");
            assert!(last.term < id.term, "proposals of one term come in log order: {last} then {id}");
            // It was cut off here, in favour of a leader in between; another log may still hold it.
            done(Err(NodeError::LeadershipLost));
        }
        self.waiting.push_back((id, done));
    }

    /// The waiter of this committed entry, if it was proposed here. Indexes come in order. A waiter at the same index but
    /// of another term was overwritten: its entry will never be applied.
    pub fn take(&mut self, committed: LogId) -> Option<ApplyDone> {
        while let Some((id, _)) = self.waiting.front() {
            if id.index > committed.index {
                return None;
            }
            let (id, done) = self.waiting.pop_front().expect("just looked at");
            if id == committed {
                return Some(done);
            }
            done(Err(NodeError::Overwritten));
        }
        None
    }

    /// Everything up to `index` is or will be applied without passing through [`Pending::take`]: it came in a copy of the
    /// database, or comes back nameless from the log. Who waits there cannot be told what became of its entry - least of
    /// all that it was overwritten.
    pub fn pass(&mut self, index: Index) {
        while self.waiting.front().is_some_and(|(id, _)| id.index <= index) {
            let (_, done) = self.waiting.pop_front().expect("just looked at");
            done(Err(NodeError::LeadershipLost));
        }
    }

    /// Leadership is gone: whether these entries will be applied is decided elsewhere. What is not known by `deadline`
    /// is said to be unknown.
    pub fn give_until(&mut self, deadline: Instant) {
        if !self.waiting.is_empty() {
            self.until.get_or_insert(deadline);
        }
    }

    pub fn expire(&mut self, now: Instant) {
        if self.until.is_some_and(|until| now >= until) {
            self.until = None;
            self.fail_all(&NodeError::LeadershipLost);
        }
    }

    /// What becomes of these entries is not known here.
    pub fn fail_all(&mut self, error: &NodeError) {
        for (_, done) in self.waiting.drain(..) {
            done(Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{Receiver, unbounded};
    use raft::Term;

    fn id(term: u64, index: u64) -> LogId {
        LogId { term: Term(term), index: Index(index) }
    }

    fn waiting(ids: &[LogId]) -> (Pending, Receiver<(LogId, NodeError)>) {
        let (tx, rx) = unbounded();
        let mut pending = Pending::default();
        for id in ids.iter().copied() {
            let tx = tx.clone();
            let done: ApplyDone = Box::new(move |applied| {
                let error = applied.err().expect("these tests apply nothing");
                tx.send((id, error)).expect("the test listens");
            });
            pending.push(id, done);
        }
        (pending, rx)
    }

    #[test]
    fn only_what_another_entry_has_replaced_is_said_to_be_overwritten() {
        let (mut pending, told) = waiting(&[id(2, 10), id(2, 11)]);
        assert!(pending.take(id(3, 10)).is_none());
        assert_eq!(told.try_recv(), Ok((id(2, 10), NodeError::Overwritten)));
        assert!(pending.take(id(2, 11)).is_some());
    }

    #[test]
    fn an_entry_that_came_in_a_copy_of_the_database_is_not_said_to_be_overwritten() {
        let (mut pending, told) = waiting(&[id(2, 10), id(2, 11), id(2, 12)]);
        pending.pass(Index(11));
        assert!(pending.take(id(2, 12)).is_some());
        let told: Vec<_> = told.try_iter().collect();
        assert_eq!(told, [(id(2, 10), NodeError::LeadershipLost), (id(2, 11), NodeError::LeadershipLost)]);
    }
}
