//! What the log holds, kept in memory: its ends, the hard state, and where to start reading for an index.
//!
//! Pure; run by recovery and by appends alike, so that both agree on what a record does. Must never hold entries.

use std::collections::VecDeque;

use super::format::{RecordHeader, RecordKind};
use crate::{HardState, Index, LogId, Term};

/// Roughly one reading point for so many bytes of log; a read skips at most this much.
const POINT_BYTES: u64 = 64 * 1024;

/// A place to start reading. It serves the entries from its own first one to the one before the next point, which
/// all lie in its segment, and never entries that were truncated away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// The entry before the first one of this point.
    pub prev: LogId,
    pub segment: u64,
    /// Of the first entry's record.
    pub offset: u64,
    /// The chain value before that record.
    pub chain: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogState {
    /// The entry before the first that the log still holds.
    pub first: LogId,
    pub last: LogId,
    pub hard_state: HardState,
    /// Sorted by index, and so by segment.
    points: VecDeque<Point>,
    /// Entries were cut: the next one needs a point of its own, or a read would meet the old ones before it.
    cut: bool,
}

/// Where a record lies, for `LogState::apply`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub segment: u64,
    pub offset: u64,
    pub chain_before: u32,
}

impl LogState {
    pub fn new(base: LogId, hard_state: HardState) -> LogState {
        LogState { first: base, last: base, hard_state, points: VecDeque::new(), cut: false }
    }

    /// Takes over what a record says. `hard_state` is the decoded payload of a `HardState` record.
    /// An error says which law of the log the record breaks; nothing is changed then.
    pub fn apply(
        &mut self,
        header: &RecordHeader,
        hard_state: Option<HardState>,
        place: Place,
    ) -> Result<(), &'static str> {
        match header.kind {
            RecordKind::Mark | RecordKind::Reopen => Ok(()),
            RecordKind::HardState => self.apply_hard_state(hard_state.ok_or("a vote that is not text")?),
            RecordKind::Truncate => self.apply_truncate(header.id),
            RecordKind::Entry(_) => self.apply_entry(header, place),
        }
    }

    fn apply_hard_state(&mut self, new: HardState) -> Result<(), &'static str> {
        let old = &self.hard_state;
        if new.term < old.term {
            return Err("the term goes back");
        }
        if new.term == old.term && old.voted_for.is_some() && new.voted_for != old.voted_for {
            return Err("a second vote in one term");
        }
        self.hard_state = new;
        Ok(())
    }

    fn apply_truncate(&mut self, after: LogId) -> Result<(), &'static str> {
        if after.index >= self.last.index || after.term > self.last.term {
            return Err("a truncation behind the end of the log");
        }
        self.truncate(after);
        Ok(())
    }

    fn apply_entry(&mut self, header: &RecordHeader, place: Place) -> Result<(), &'static str> {
        let id = header.id;
        if id.index == Index(0) || id.term == Term(0) || header.prev_term > id.term {
            return Err("an entry with an impossible id");
        }
        if id.term > self.hard_state.term {
            return Err("an entry of a term that was never saved");
        }
        let prev = LogId { term: header.prev_term, index: Index(id.index.0 - 1) };
        if header.truncates {
            if id.index > self.last.index || prev.term > self.last.term {
                return Err("an entry that replaces nothing");
            }
            self.truncate(prev);
        } else if prev != self.last {
            return Err("an entry that does not follow the one before it");
        }
        let far = self
            .points
            .back()
            .is_none_or(|point| point.segment != place.segment || place.offset - point.offset >= POINT_BYTES);
        if self.cut || far {
            self.cut = false;
            self.points.push_back(Point {
                prev,
                segment: place.segment,
                offset: place.offset,
                chain: place.chain_before,
            });
        }
        self.last = id;
        Ok(())
    }

    /// Drops everything after `after`. When the segments that held it are gone already, the log is empty then.
    fn truncate(&mut self, after: LogId) {
        while self.points.back().is_some_and(|point| point.prev.index >= after.index) {
            self.points.pop_back();
        }
        self.last = after;
        self.cut = true;
        if after.index < self.first.index {
            assert!(self.points.is_empty(), "no entry lies before the first one");
            self.first = after;
        }
    }

    /// The point to start from for an entry that the log holds, and the first index that it does not serve.
    pub fn seek(&self, index: Index) -> (Point, Index) {
        assert!(self.first.index < index && index <= self.last.index, "the log holds entry {index}");
        let next = self.points.partition_point(|point| point.prev.index < index);
        let end = self.points.get(next).map_or(self.last.index.next(), |point| point.prev.index.next());
        (self.points[next.checked_sub(1).expect("a point precedes every entry")], end)
    }

    /// The last entry that lies in this segment or in one before it.
    pub fn last_within(&self, segment: u64) -> LogId {
        let next = self.points.partition_point(|point| point.segment <= segment);
        self.points.get(next).map_or(self.last, |point| point.prev)
    }

    /// The segments up to this one are gone.
    pub fn drop_segments_to(&mut self, segment: u64) {
        self.first = self.last_within(segment);
        while self.points.front().is_some_and(|point| point.segment <= segment) {
            self.points.pop_front();
        }
    }

    /// The log is empty and goes on after `base`.
    pub fn reset(&mut self, base: LogId) {
        self.points.clear();
        self.first = base;
        self.last = base;
    }
}
