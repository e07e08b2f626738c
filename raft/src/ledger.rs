//! What was handed to the write-ahead log, and how much of it is known to be on disk.
//!
//! A report names the append (its `seq`) and the entry it ended at. Entries that were replaced in memory after the
//! append was issued are cut from what its report will credit, so that a late report can never be credited to
//! entries that took the place of others, not even when the same (term, index) comes back (pitfall "A-B-A").

use crate::{Index, LogId};
use std::collections::VecDeque;

/// Invariants: `durable <= issued`, `pending` is ordered by `seq`, and every `credit` in it is at most `issued`.
#[derive(Debug)]
pub(crate) struct Ledger {
    seq_issued: u64,
    seq_durable: u64,
    pending: VecDeque<Pending>,
    /// The log as it is now is on disk up to here.
    durable: Index,
    /// The log as it is now was handed to the write-ahead log up to here.
    issued: Index,
    truncate_after: Option<Index>,
    reset_to: Option<LogId>,
    hard: HardStage,
}

#[derive(Debug)]
struct Pending {
    seq: u64,
    last: LogId,
    credit: Index,
    issued_ms: u64,
}

/// Where the newest hard state is on its way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HardStage {
    Changed,
    Issued { seq: u64 },
    Durable,
}

/// What the next append has to tell the log besides entries.
#[derive(Debug)]
pub(crate) struct Issue {
    pub(crate) seq: u64,
    pub(crate) reset_to: Option<LogId>,
    pub(crate) truncate_after: Option<Index>,
    pub(crate) first: Index,
    pub(crate) hard_state: bool,
}

impl Ledger {
    /// Recovery made sure that all that it found is on disk.
    pub(crate) fn new(last: Index) -> Ledger {
        Ledger {
            seq_issued: 0,
            seq_durable: 0,
            pending: VecDeque::new(),
            durable: last,
            issued: last,
            truncate_after: None,
            reset_to: None,
            hard: HardStage::Durable,
        }
    }

    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    pub(crate) fn hard_state_changed(&mut self) {
        self.hard = HardStage::Changed;
    }

    pub(crate) fn hard_state_is_durable(&self) -> bool {
        self.hard == HardStage::Durable
    }

    /// The entries after `index` were removed in memory.
    pub(crate) fn truncated_after(&mut self, index: Index) {
        if index < self.issued {
            self.truncate_after = Some(self.truncate_after.map_or(index, |earlier| earlier.min(index)));
            self.issued = index;
        }
        self.durable = self.durable.min(index);
        for append in self.pending.iter_mut().filter(|_| !mutant!("stale_report_credited")) {
            append.credit = append.credit.min(index);
        }
    }

    /// The whole log was replaced by nothing, beginning after `to`. Nothing written before counts for the new log;
    /// `to` itself is durable in the state machine.
    pub(crate) fn reset(&mut self, to: LogId) {
        self.reset_to = Some(to);
        self.truncate_after = None;
        self.issued = to.index;
        self.durable = to.index;
        for append in &mut self.pending {
            append.credit = to.index;
        }
    }

    /// What is to be written now; `None` when nothing is.
    pub(crate) fn issue(&mut self, last: LogId, now_ms: u64) -> Option<Issue> {
        let hard_state = self.hard == HardStage::Changed;
        let changed = self.reset_to.is_some() || self.truncate_after.is_some() || last.index > self.issued;
        if !hard_state && !changed {
            return None;
        }
        self.seq_issued += 1;
        let seq = self.seq_issued;
        if hard_state {
            self.hard = HardStage::Issued { seq };
        }
        let first = self.issued.next();
        self.issued = last.index;
        self.pending.push_back(Pending { seq, last, credit: last.index, issued_ms: now_ms });
        Some(Issue {
            seq,
            reset_to: self.reset_to.take(),
            truncate_after: self.truncate_after.take(),
            first,
            hard_state,
        })
    }

    /// The log reports that every append up to and with `seq`, which ended at `last`, is on disk.
    pub(crate) fn reported(&mut self, seq: u64, last: LogId) {
        assert!(seq <= self.seq_issued, "the log reports only what it was given");
        if seq <= self.seq_durable {
            return;
        }
        let mut credit = self.durable;
        while let Some(append) = self.pending.front() {
            if append.seq > seq {
                break;
            }
            if append.seq == seq {
                assert_eq!(append.last, last, "the report names the entry at which its append ended");
            }
            credit = append.credit;
            self.pending.pop_front();
        }
        self.seq_durable = seq;
        // Credits rise from append to append except where a cut lowered them, and a cut lowers `durable` as well.
        self.durable = self.durable.max(credit);
        if mutant!("stale_report_credited") {
            self.durable = self.durable.min(self.issued);
        }
        assert!(self.durable <= self.issued, "nothing is durable that was not handed over");
        if let HardStage::Issued { seq: hard_seq } = self.hard
            && hard_seq <= seq
        {
            self.hard = HardStage::Durable;
        }
    }

    /// Since when the oldest append waits for the disk.
    pub(crate) fn waiting_since_ms(&self) -> Option<u64> {
        self.pending.front().map(|append| append.issued_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Term;

    fn id(term: u64, index: u64) -> LogId {
        LogId { term: Term(term), index: Index(index) }
    }

    #[test]
    fn a_report_is_not_credited_to_entries_that_replaced_others() {
        let mut ledger = Ledger::new(Index(4));
        let first = ledger.issue(id(2, 10), 0).expect("entries 5 to 10");
        assert_eq!(first.first, Index(5));
        ledger.truncated_after(Index(7));
        let second = ledger.issue(id(3, 9), 0).expect("entries 8 and 9 of term 3");
        assert_eq!((second.truncate_after, second.first), (Some(Index(7)), Index(8)));
        // The old entries come back: the same (term, index) as in the first append.
        ledger.truncated_after(Index(7));
        let third = ledger.issue(id(2, 10), 0).expect("entries 8 to 10 again");
        ledger.reported(first.seq, id(2, 10));
        assert_eq!(ledger.durable(), Index(7));
        ledger.reported(second.seq, id(3, 9));
        assert_eq!(ledger.durable(), Index(7));
        ledger.reported(third.seq, id(2, 10));
        assert_eq!(ledger.durable(), Index(10));
    }

    #[test]
    fn a_reset_forgets_what_was_on_the_way() {
        let mut ledger = Ledger::new(Index(0));
        let first = ledger.issue(id(1, 50), 0).expect("entries");
        ledger.reset(id(3, 20));
        let second = ledger.issue(id(3, 20), 0).expect("the reset");
        assert_eq!((second.reset_to, second.first), (Some(id(3, 20)), Index(21)));
        ledger.reported(first.seq, id(1, 50));
        assert_eq!(ledger.durable(), Index(20));
        ledger.reported(second.seq, id(3, 20));
        assert_eq!(ledger.durable(), Index(20));
    }

    #[test]
    fn the_hard_state_is_durable_only_when_its_newest_value_is() {
        let mut ledger = Ledger::new(Index(0));
        ledger.hard_state_changed();
        let first = ledger.issue(id(0, 0), 0).expect("hard state");
        assert!(first.hard_state && !ledger.hard_state_is_durable());
        ledger.hard_state_changed();
        let second = ledger.issue(id(0, 0), 0).expect("hard state");
        ledger.reported(first.seq, id(0, 0));
        assert!(!ledger.hard_state_is_durable());
        ledger.reported(second.seq, id(0, 0));
        assert!(ledger.hard_state_is_durable() && ledger.issue(id(0, 0), 0).is_none());
    }
}
