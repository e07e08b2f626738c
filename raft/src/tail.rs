//! The log as the replica sees it: the newest entries in memory, and for all of it which term each index has.
//!
//! Terms are kept as runs (the first entry of each term), so that the term of any index of the whole log is known
//! without reading the disk, at the cost of one item for each change of leader.

use crate::config::ENTRY_OVERHEAD_BYTES;
use crate::{Entry, Index, LogId, Term};
use std::collections::VecDeque;

/// Invariants: `purged_to.index < first`, `first + slots.len() = last.index + 1`, terms never fall from one entry
/// to the next, `runs` holds the first entry of each term after `purged_to` and nothing else.
#[derive(Debug)]
pub(crate) struct Tail {
    /// The entry before the first of the log.
    purged_to: LogId,
    last: LogId,
    /// Index of `slots[0]`, or of the entry that would come there.
    first: Index,
    slots: VecDeque<Slot>,
    runs: VecDeque<LogId>,
    /// Bytes of all entries before `slots[0]` that ever passed through memory.
    bytes_before: u64,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    /// Bytes of all entries up to and with this one; differences give the size of any stretch at once.
    bytes_end: u64,
}

pub(crate) fn entry_bytes(entry: &Entry) -> u64 {
    entry.payload.len() as u64 + ENTRY_OVERHEAD_BYTES
}

impl Tail {
    /// A log that reaches from `purged_to` to `last`, of which nothing is in memory. `runs`: see the type.
    pub(crate) fn new(purged_to: LogId, last: LogId, runs: Vec<LogId>) -> Result<Tail, &'static str> {
        if last.index < purged_to.index || (last.index == purged_to.index && last != purged_to) {
            return Err("the log ends before it begins");
        }
        if last.index > purged_to.index {
            let head = runs.first().ok_or("the log has entries but no terms")?;
            if head.index != purged_to.index.next() || head.term < purged_to.term {
                return Err("the first term of the log does not begin at its first entry");
            }
            let end = runs.last().expect("there is a first");
            if end.index > last.index || end.term != last.term {
                return Err("the last term of the log is not that of its last entry");
            }
        } else if !runs.is_empty() {
            return Err("the log has terms but no entries");
        }
        if runs.windows(2).any(|pair| pair[0].index >= pair[1].index || pair[0].term >= pair[1].term) {
            return Err("terms must rise along the log");
        }
        let first = last.index.next();
        Ok(Tail { purged_to, last, first, slots: VecDeque::new(), runs: runs.into(), bytes_before: 0 })
    }

    /// Puts the newest entries of the log into memory, as recovery read them.
    pub(crate) fn load(&mut self, entries: Vec<Entry>) -> Result<(), &'static str> {
        let Some(head) = entries.first() else { return Ok(()) };
        let first = head.id.index;
        if first <= self.purged_to.index || entries.last().map(|e| e.id) != Some(self.last) {
            return Err("the entries are not the newest of the log");
        }
        let expected = (first.0..).map(Index);
        if entries.iter().zip(expected).any(|(e, at)| e.id.index != at || !self.contains(e.id)) {
            return Err("the entries do not follow each other");
        }
        self.first = first;
        for entry in entries {
            let bytes_end = self.bytes_total() + entry_bytes(&entry);
            self.slots.push_back(Slot { entry, bytes_end });
        }
        Ok(())
    }

    pub(crate) fn last(&self) -> LogId {
        self.last
    }

    pub(crate) fn purged_to(&self) -> LogId {
        self.purged_to
    }

    /// First index that is in memory (or would be, when nothing is).
    pub(crate) fn first_in_memory(&self) -> Index {
        self.first
    }

    /// `None` outside the log: a missing entry must never compare equal to anything, not even to another missing one.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index >= self.first {
            return self.slot(index).map(|slot| slot.entry.id.term);
        }
        if index == self.purged_to.index {
            return Some(self.purged_to.term);
        }
        if index < self.purged_to.index || index > self.last.index {
            return None;
        }
        let after = self.runs.partition_point(|run| run.index <= index);
        Some(self.runs[after.checked_sub(1).expect("the first run begins the log")].term)
    }

    pub(crate) fn contains(&self, id: LogId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    fn slot(&self, index: Index) -> Option<&Slot> {
        let at = index.0.checked_sub(self.first.0)?;
        self.slots.get(usize::try_from(at).ok()?)
    }

    /// An entry that is in memory.
    #[cfg(test)]
    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        self.slot(index).map(|slot| &slot.entry)
    }

    /// Entries in memory from `first` to `last`, both included; all of them must be there.
    pub(crate) fn range(&self, first: Index, last: Index) -> impl Iterator<Item = &Entry> {
        assert!(first >= self.first && last <= self.last.index, "the range is in memory");
        let from = usize::try_from(first.0 - self.first.0).expect("memory holds it");
        let to = usize::try_from((last.0 + 1).saturating_sub(self.first.0)).expect("memory holds it").max(from);
        self.slots.range(from..to).map(|slot| &slot.entry)
    }

    /// Bytes of the entries after `after` up to `last`; entries that are not in memory count nothing.
    pub(crate) fn bytes_between(&self, after: Index, last: Index) -> u64 {
        self.bytes_end(last).saturating_sub(self.bytes_end(after))
    }

    fn bytes_end(&self, index: Index) -> u64 {
        self.slot(index).map_or_else(
            || if index < self.first { self.bytes_before } else { self.bytes_total() },
            |slot| slot.bytes_end,
        )
    }

    fn bytes_total(&self) -> u64 {
        self.slots.back().map_or(self.bytes_before, |slot| slot.bytes_end)
    }

    /// Bytes held in memory.
    pub(crate) fn bytes_in_memory(&self) -> u64 {
        self.bytes_total() - self.bytes_before
    }

    /// Last index from `first` on such that the stretch fits `bytes_max`, or `first` itself if that alone does not.
    pub(crate) fn last_within(&self, first: Index, bytes_max: u64) -> Index {
        assert!(first >= self.first && first <= self.last.index, "the batch begins in memory");
        let goal = self.bytes_end(Index(first.0 - 1)) + bytes_max;
        if self.bytes_total() <= goal {
            // Who keeps up gets all there is: no search through what others still need.
            return self.last.index;
        }
        let whole = self.slots.partition_point(|slot| slot.bytes_end <= goal) as u64;
        Index((self.first.0 + whole).saturating_sub(1).max(first.0))
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        assert_eq!(entry.id.index, self.last.index.next(), "the log has no gaps");
        assert!(entry.id.term >= self.last.term, "terms never fall along the log (paper, section 5.4.1)");
        if self.runs.back().is_none_or(|run| run.term != entry.id.term) {
            self.runs.push_back(entry.id);
        }
        self.last = entry.id;
        let bytes_end = self.bytes_total() + entry_bytes(&entry);
        self.slots.push_back(Slot { entry, bytes_end });
    }

    /// Removes the entries after `index`. The caller has made sure that none of them is committed.
    pub(crate) fn truncate_after(&mut self, index: Index) {
        assert!(index >= self.purged_to.index && index < self.last.index, "a suffix of the log is removed");
        let term = self.term_at(index).expect("the new last entry is in the log");
        while self.slots.back().is_some_and(|slot| slot.entry.id.index > index) {
            self.slots.pop_back();
        }
        while self.runs.back().is_some_and(|run| run.index > index) {
            self.runs.pop_back();
        }
        self.last = LogId { term, index };
        if self.slots.is_empty() {
            self.first = index.next();
        }
    }

    /// Replaces the whole log by nothing, beginning after `to`.
    pub(crate) fn reset(&mut self, to: LogId) {
        self.bytes_before = self.bytes_total();
        self.slots.clear();
        self.runs.clear();
        self.purged_to = to;
        self.last = to;
        self.first = to.index.next();
    }

    /// The log on disk now begins after `to`.
    pub(crate) fn purge(&mut self, to: LogId) {
        if to.index <= self.purged_to.index {
            return;
        }
        assert!(self.contains(to), "only what is in the log can be dropped from it");
        while self.slots.front().is_some_and(|slot| slot.entry.id.index <= to.index) {
            self.drop_front();
        }
        while self.runs.get(1).is_some_and(|run| run.index.0 <= to.index.0 + 1) {
            self.runs.pop_front();
        }
        if to.index == self.last.index {
            self.runs.clear();
        } else if let Some(front) = self.runs.front_mut() {
            front.index = Index(front.index.0.max(to.index.0 + 1));
        }
        self.purged_to = to;
    }

    fn drop_front(&mut self) {
        if let Some(slot) = self.slots.pop_front() {
            self.bytes_before = slot.bytes_end;
            self.first = slot.entry.id.index.next();
        }
    }

    /// Forgets the oldest entries of memory that lie at or below `until`, as long as more than `bytes_max` are held.
    pub(crate) fn release(&mut self, until: Index, bytes_max: u64) {
        while self.bytes_in_memory() > bytes_max && self.slots.front().is_some_and(|s| s.entry.id.index <= until) {
            self.drop_front();
        }
        // A burst must not hold its memory for ever.
        if self.slots.is_empty() && self.slots.capacity() > 4096 {
            self.slots.shrink_to(1024);
        }
    }

    /// The last entry at or before `at.index` whose term is not above `at.term`: where two logs may still agree.
    /// Lets a leader skip a whole divergent term per message (end of section 5.3 of the paper).
    pub(crate) fn last_not_above(&self, at: LogId) -> LogId {
        let mut end = at.index.min(self.last.index);
        for run in self.runs.iter().rev() {
            if run.index > end {
                continue;
            }
            if run.term <= at.term {
                return LogId { term: run.term, index: end };
            }
            end = Index(run.index.0 - 1);
        }
        self.purged_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EntryKind;

    fn id(term: u64, index: u64) -> LogId {
        LogId { term: Term(term), index: Index(index) }
    }

    fn tail(terms: &[u64]) -> Tail {
        let mut tail = Tail::new(LogId::default(), LogId::default(), Vec::new()).unwrap();
        for (at, term) in terms.iter().enumerate() {
            let payload: Vec<u8> = vec![0; at];
            tail.append(Entry { id: id(*term, at as u64 + 1), kind: EntryKind::Command, payload: payload.into() });
        }
        tail
    }

    /// Every operation leaves term_at equal to that of a plain vector, in memory or not.
    #[test]
    fn terms_are_known_after_release_purge_and_truncation() {
        let terms = [1, 1, 2, 4, 4, 4, 7, 7];
        for released in 0..=8u64 {
            for purged in 0..=8u64 {
                for cut in purged..=8 {
                    let mut t = tail(&terms);
                    t.release(Index(released), 0);
                    if purged > 0 {
                        t.purge(id(terms[purged as usize - 1], purged));
                    }
                    if cut < 8 {
                        t.truncate_after(Index(cut));
                    }
                    for index in 0..=9u64 {
                        let want = (index >= purged && index <= cut)
                            .then(|| if index == 0 { 0 } else { terms[index as usize - 1] });
                        assert_eq!(t.term_at(Index(index)), want.map(Term), "{released} {purged} {cut} {index}");
                    }
                    let next = Entry { id: id(9, cut + 1), kind: EntryKind::Noop, payload: Vec::new().into() };
                    t.append(next);
                    assert_eq!(t.term_at(Index(cut + 1)), Some(Term(9)));
                    assert!(t.entry(Index(cut + 1)).is_some());
                    let runs: Vec<LogId> = t.runs.iter().copied().collect();
                    Tail::new(t.purged_to, t.last, runs).expect("the runs would be accepted again");
                }
            }
        }
    }

    #[test]
    fn hints_skip_whole_terms() {
        let t = tail(&[1, 1, 2, 4, 4, 4, 7, 7]);
        assert_eq!(t.last_not_above(id(5, 8)), id(4, 6));
        assert_eq!(t.last_not_above(id(3, 8)), id(2, 3));
        assert_eq!(t.last_not_above(id(4, 5)), id(4, 5));
        assert_eq!(t.last_not_above(id(0, 5)), id(0, 0));
        assert_eq!(t.last_not_above(id(9, 100)), id(7, 8));
    }

    #[test]
    fn batches_end_at_their_bound_and_never_empty() {
        let t = tail(&[1; 8]);
        let cost = |n: u64| ENTRY_OVERHEAD_BYTES * n;
        assert_eq!(t.last_within(Index(1), 0), Index(1));
        assert_eq!(t.last_within(Index(1), cost(2) + 1), Index(2));
        assert_eq!(t.last_within(Index(3), 1 << 20), Index(8));
        assert_eq!(t.bytes_between(Index(2), Index(4)), cost(2) + 2 + 3);
    }
}
