//! What is committed: the same entry at each index everywhere and for ever (state-machine safety), in the log of every
//! later leader (leader completeness), on the disks of a majority, and the same state after each index.

use super::violated;
use crate::sim::random::mix_bytes;
use crate::{Entry, EntryKind, Index, LogId, NodeId, Replica, Term};

const COMMITTED: &str = "state-machine safety";

/// What is kept of a committed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) struct Print {
    pub(in crate::sim) id: LogId,
    pub(in crate::sim) bytes: u64,
    pub(in crate::sim) kind: EntryKind,
}

impl Print {
    pub(in crate::sim) fn of(entry: &Entry) -> Print {
        Print { id: entry.id, bytes: mix_bytes(0, &entry.payload), kind: entry.kind }
    }
}

/// The one history that all nodes share, from index 1 on.
#[derive(Default)]
pub(in crate::sim) struct History {
    committed: Vec<Print>,
    /// Hash of the state after each index, from the first node that was there.
    states: Vec<Option<u64>>,
}

impl History {
    pub(in crate::sim) fn last(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    pub(in crate::sim) fn at(&self, index: Index) -> Option<&Print> {
        self.committed.get(usize::try_from(index.0.checked_sub(1)?).ok()?)
    }

    /// Whether any entry of this term is committed.
    pub(in crate::sim) fn has_committed_in(&self, term: Term) -> bool {
        let at = self.committed.partition_point(|print| print.id.term < term);
        self.committed.get(at).is_some_and(|print| print.id.term == term)
    }

    /// A node takes an entry for committed. Returns whether nobody did before.
    pub(in crate::sim) fn committed(&mut self, node: &NodeId, print: Print) -> bool {
        if let Some(known) = self.at(print.id.index) {
            if *known != print {
                violated(COMMITTED, format!("{node} takes {print:?} for committed where {known:?} is"));
            }
            return false;
        }
        if print.id.index != self.last().next() {
            violated(COMMITTED, format!("{node} commits {} though nobody committed what is before it", print.id));
        }
        self.committed.push(print);
        self.states.push(None);
        true
    }

    /// A node's state machine applies `entry`.
    pub(in crate::sim) fn applied(&self, node: &NodeId, entry: &Entry) {
        let print = Print::of(entry);
        if self.at(entry.id.index) != Some(&print) {
            let what = format!("{node} applies {print:?}, committed is {:?}", self.at(entry.id.index));
            violated(COMMITTED, what);
        }
    }

    /// A node's state machine has reached `applied`.
    pub(in crate::sim) fn state(&mut self, node: &NodeId, applied: LogId, hash: u64) {
        let Some(at) = applied.index.0.checked_sub(1) else { return };
        match self.states.get_mut(at as usize) {
            Some(state) => {
                if *state.get_or_insert(hash) != hash {
                    violated("divergence", format!("the state of {node} at {applied} is another one than elsewhere"));
                }
            }
            None => violated("divergence", format!("{node} has applied {applied}, which nobody committed")),
        }
    }

    /// Leader completeness (figure 3).
    pub(in crate::sim) fn check_leader(&self, replica: &Replica) {
        let purged = replica.log.purged_to().index;
        for print in self.committed.iter().filter(|print| print.id.index > purged) {
            if !replica.log.contains(print.id) {
                let (id, term) = (replica.id(), replica.term());
                violated("leader completeness", format!("{id} leads term {term} without committed {}", print.id));
            }
        }
    }

    /// A node cuts its log off after `after`; `held` is what it had there.
    pub(in crate::sim) fn check_cut(&self, node: &NodeId, held: &[LogId]) {
        if let Some(id) = held.iter().find(|id| self.at(id.index).is_some_and(|print| print.id == **id)) {
            violated("committed never changes", format!("{node} cuts off {id}, which is committed"));
        }
    }
}
