//! Terms, commit indexes and applied indexes never fall while a process runs, and applied never passes commit. What
//! crashes may take back is the business of `shadow`.

use super::violated;
use crate::{Index, Replica, Term};
use std::collections::BTreeMap;

#[derive(Default)]
pub(in crate::sim) struct Monotonic {
    /// By node and run of its process.
    seen: BTreeMap<usize, (u64, Term, Index, Index)>,
}

impl Monotonic {
    pub(in crate::sim) fn after_turn(&mut self, at: usize, life: u64, replica: &Replica) {
        let now = (life, replica.term(), replica.commit(), replica.applied_index());
        let before = self.seen.insert(at, now).filter(|before| before.0 == life).unwrap_or_default();
        if now.1 < before.1 || now.2 < before.2 || now.3 < before.3 {
            violated("monotonic", format!("n{at} went back from {before:?} to {now:?} (term, commit, applied)"));
        }
        if now.3 > now.2 {
            violated("monotonic", format!("n{at} has applied {} and committed {}", now.3, now.2));
        }
    }
}
