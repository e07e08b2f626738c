//! How a batch becomes records, and how the log goes on in the next segment.
//!
//! Runs on the thread that owns the log. Must never let a new segment exist before everything in the old one is
//! durable. Errors are latched by the callers in `mod.rs`.

use super::format::{
    NODE_ID_BYTES_MAX, PAGE_BYTES, PAYLOAD_BYTES_MAX, RecordKind, SegmentHeader, record_bytes, salt_of, vote_bytes,
};
use super::pool::{Pool, segment_name};
use super::tail::{Record, Tail};
use super::{Batch, Segment, Wal, WalError};
use crate::{HardState, Index, LogId, Term};

impl Wal {
    pub(super) fn append_all(&mut self, batch: &Batch<'_>) -> Result<(), WalError> {
        if let Some(hard_state) = batch.hard_state
            && *hard_state != self.state.hard_state
        {
            let payload = vote_bytes(hard_state);
            let id = LogId { term: hard_state.term, index: Index(0) };
            let record = Record { kind: RecordKind::HardState, truncates: false, id, prev_term: Term(0), payload };
            self.put(&record, Some(hard_state))?;
        }
        let mut prev = self.state.last;
        let mut truncates = false;
        if let Some(after) = batch.truncate_after {
            assert!(after <= prev.index, "a cut lies within the log");
            assert!(self.state.first.index <= after, "what was purged is never cut");
            if after < prev.index {
                prev = self.find_id(after)?;
                truncates = true;
            }
        }
        if truncates && (batch.entries.is_empty() || mutant!("log_cut_before_append")) {
            let record = Record { kind: RecordKind::Truncate, truncates, id: prev, prev_term: Term(0), payload: &[] };
            self.put(&record, None)?;
            if mutant!("log_cut_before_append") {
                self.tail.sync()?;
                truncates = false;
            }
        }
        for entry in batch.entries {
            assert_eq!(entry.id.index, prev.index.next(), "entries follow each other");
            let kind = RecordKind::Entry(entry.kind);
            let record = Record { kind, truncates, id: entry.id, prev_term: prev.term, payload: &entry.payload };
            self.put(&record, None)?;
            truncates = false;
            prev = entry.id;
        }
        Ok(())
    }

    /// Adds one record, in a new segment if this one is full.
    fn put(&mut self, record: &Record<'_>, hard_state: Option<&HardState>) -> Result<(), WalError> {
        if !self.tail.fits(record.payload.len() as u64) {
            self.roll(self.state.last, false, record_bytes(record.payload.len() as u64))?;
        }
        if self.reopened {
            self.push_reopen()?;
            return self.put(record, hard_state);
        }
        self.marked = false;
        let (header, place) = self.tail.push(record)?;
        let applied = self.state.apply(&header, hard_state.cloned(), place);
        assert_eq!(applied, Ok(()), "a batch keeps the laws of the log");
        Ok(())
    }

    /// The first record after a start: changes the chain, so that nothing behind it can follow it.
    pub(super) fn push_reopen(&mut self) -> Result<(), WalError> {
        self.reopened = false;
        let salt = salt_of(self.options.boot_salt, self.tail.seq(), self.tail.chain());
        let id = LogId { term: Term(salt), index: self.state.last.index };
        let reopen = Record { kind: RecordKind::Reopen, truncates: false, id, prev_term: Term(0), payload: &[] };
        self.tail.push(&reopen).map(|_| ())
    }

    /// Fills the page up with one mark and puts a second one into the next page, so that no loss of a sector or page
    /// takes the last entries and their mark together.
    pub(super) fn push_marks(&mut self) -> Result<(), WalError> {
        const FILLER: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];
        if self.reopened && self.tail.fits(0) {
            self.push_reopen()?;
        }
        let used_bytes = self.tail.end() + record_bytes(0);
        let filler_bytes = used_bytes.next_multiple_of(PAGE_BYTES) - used_bytes;
        self.push_mark(&FILLER[..filler_bytes as usize])?;
        self.push_mark(&[])
    }

    fn push_mark(&mut self, filler: &[u8]) -> Result<(), WalError> {
        if !self.tail.fits(filler.len() as u64) {
            return Ok(());
        }
        let id = self.state.last;
        let mark = Record { kind: RecordKind::Mark, truncates: false, id, prev_term: Term(0), payload: filler };
        self.tail.push(&mark).map(|_| ())
    }

    /// Goes on in a new segment. Everything in the old one is durable before the new one exists, so that a bad
    /// record in a segment with a successor is always damage.
    fn roll(&mut self, base: LogId, reset: bool, records_bytes: u64) -> Result<(), WalError> {
        if !mutant!("log_rolls_without_sync") {
            self.tail.sync()?;
        } else {
            self.tail.flush()?;
        }
        self.reader = None;
        let seq = self.tail.seq() + 1;
        let header = SegmentHeader {
            cluster_id: self.cluster_id,
            seq,
            salt: salt_of(self.options.boot_salt, seq, self.tail.chain()),
            reset,
            base,
            prev_end: u32::try_from(self.tail.end()).expect("a segment is shorter than 4 GiB"),
            prev_chain: self.tail.chain(),
            hard_state: self.state.hard_state.clone(),
        };
        self.tail = new_tail(&mut self.pool, &header, records_bytes)?;
        self.segments.push_back(Segment { seq, len_bytes: self.tail.len_bytes() });
        self.reopened = false;
        self.marked = true;
        Ok(())
    }

    pub(super) fn reset_all(&mut self, base: LogId) -> Result<(), WalError> {
        self.roll(base, !mutant!("log_reset_not_marked"), 0)?;
        self.state.reset(base);
        self.note_durable();
        while self.segments.len() > 1 {
            let oldest = self.segments.pop_front().expect("there are several");
            self.pool.retire(oldest.seq, oldest.len_bytes)?;
        }
        Ok(())
    }
}

/// Refuses what no record can hold, before anything is written.
pub(super) fn check_sizes(batch: &Batch<'_>) -> Result<(), WalError> {
    for entry in batch.entries {
        let bytes = entry.payload.len() as u64;
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(WalError::TooLarge { bytes, bytes_max: PAYLOAD_BYTES_MAX });
        }
    }
    if let Some(hard_state) = batch.hard_state {
        let bytes = vote_bytes(hard_state).len();
        if bytes > NODE_ID_BYTES_MAX {
            return Err(WalError::TooLarge { bytes: bytes as u64, bytes_max: NODE_ID_BYTES_MAX as u64 });
        }
        assert!(hard_state.voted_for.is_none() || bytes > 0, "a node's name is not empty");
    }
    Ok(())
}

pub(super) fn new_tail(pool: &mut Pool, header: &SegmentHeader, records_bytes: u64) -> Result<Tail, WalError> {
    let name = segment_name(header.seq);
    let (file, len_bytes) = pool.create_segment(header, records_bytes)?;
    Tail::new(file, name, header, len_bytes, header.chain(), PAGE_BYTES)
}
