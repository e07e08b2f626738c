//! Committed entries on their way to the state machine: how far they were handed over, how far they are applied, and how
//! many bytes lie between the two.
//!
//! The bytes are counted here rather than looked up in the log's tail, because the tail may let go of entries long before
//! the state machine has applied them.

use crate::{Index, LogId};
use std::collections::VecDeque;

/// Neighbouring entries are counted together up to this size: the precision of the count, and what keeps it small.
const STRETCH_BYTES: u64 = 64 << 10;

/// Invariant: `applied <= handed`, both only ever rising.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) handed: Index,
    pub(crate) applied: Index,
    /// A snapshot that the state machine is taking over; nothing is handed over meanwhile.
    pub(crate) installing: Option<LogId>,
    /// The state machine is known to be wrong; nothing is handed over until a snapshot has taken its place.
    pub(crate) distrusted: bool,
    /// Up to here the state machine was filled by a snapshot, which is durable by itself.
    pub(crate) installed: Index,
    /// What was handed over from memory and is not yet applied, oldest first.
    unapplied: VecDeque<Stretch>,
    unapplied_bytes: u64,
}

#[derive(Debug)]
struct Stretch {
    last: Index,
    bytes: u64,
}

impl Handover {
    pub(crate) fn new(applied: Index) -> Handover {
        Handover {
            handed: applied,
            applied,
            installing: None,
            distrusted: false,
            installed: applied,
            unapplied: VecDeque::new(),
            unapplied_bytes: 0,
        }
    }

    /// Bytes that were handed over from memory and are not yet reported as applied; up to a stretch too many.
    pub(crate) fn unapplied_bytes(&self) -> u64 {
        self.unapplied_bytes
    }

    /// One more entry was handed over.
    pub(crate) fn hand(&mut self, index: Index, bytes: u64) {
        assert_eq!(index, self.handed.next(), "entries are handed over in order, each once");
        self.handed = index;
        self.unapplied_bytes += bytes;
        match self.unapplied.back_mut() {
            Some(stretch) if stretch.bytes < STRETCH_BYTES => {
                stretch.last = index;
                stretch.bytes += bytes;
            }
            _ => self.unapplied.push_back(Stretch { last: index, bytes }),
        }
    }

    /// Everything up to `last` is to be read back from the log; whoever reads it bounds how much of it is under way.
    pub(crate) fn hand_in_log(&mut self, last: Index) {
        assert!(last >= self.handed, "what is handed over stays so");
        self.handed = last;
    }

    /// The state machine has applied everything up to `index`.
    pub(crate) fn apply(&mut self, index: Index) {
        assert!(index <= self.handed, "only what was handed over can be applied");
        self.applied = self.applied.max(index);
        while self.unapplied.front().is_some_and(|stretch| stretch.last <= self.applied) {
            let stretch = self.unapplied.pop_front().expect("just looked at");
            self.unapplied_bytes -= stretch.bytes;
        }
        assert!(!self.unapplied.is_empty() || self.unapplied_bytes == 0, "the count is that of the stretches");
    }

    /// The state machine was filled by a snapshot up to `index`.
    pub(crate) fn install(&mut self, index: Index) {
        assert!(index >= self.handed, "the state machine never goes back");
        self.handed = index;
        self.installed = index;
        self.apply(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_until_they_are_applied_and_never_longer() {
        let mut handover = Handover::new(Index(10));
        for index in 11..=1010 {
            handover.hand(Index(index), 1000);
        }
        assert_eq!(handover.unapplied_bytes(), 1_000_000);
        for index in 11..=1010 {
            handover.apply(Index(index));
            let left = (1010 - index) * 1000;
            let counted = handover.unapplied_bytes();
            assert!(counted >= left && counted <= left + STRETCH_BYTES + 1000, "{counted} of {left}");
        }
        assert_eq!(handover.unapplied_bytes(), 0);
        handover.hand(Index(1011), 5);
        handover.install(Index(2000));
        assert_eq!((handover.unapplied_bytes(), handover.applied), (0, Index(2000)));
    }
}
