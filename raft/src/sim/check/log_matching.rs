//! Log matching (paper, figure 3): where two logs hold an entry of the same term and index, they are equal up to it.
//!
//! By induction it is enough that a term and index stand for one payload and for one entry before it, in all logs that
//! ever were.

use super::history::Print;
use super::violated;
use crate::{Entry, LogId, NodeId};
use std::collections::HashMap;

#[derive(Default)]
pub(in crate::sim) struct LogMatching {
    /// Never iterated, so its order cannot reach the trace.
    known: HashMap<LogId, (LogId, Print)>,
}

impl LogMatching {
    /// A node appends `entry` behind `prev`.
    /// Returns whether nobody did before.
    pub(in crate::sim) fn appended(&mut self, node: &NodeId, prev: LogId, entry: &Entry) -> bool {
        let print = Print::of(entry);
        let count = self.known.len();
        let first = self.known.entry(entry.id).or_insert((prev, print));
        if *first != (prev, print) {
            let what = format!("{node} holds {print:?} behind {prev}, others {:?} behind {}", first.1, first.0);
            violated("log matching", what);
        }
        self.known.len() > count
    }
}
