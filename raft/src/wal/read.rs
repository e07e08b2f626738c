//! Reading entries back: for followers that lag, and for the replay after a start.
//!
//! Runs on the thread that owns the log. Checks every record that it passes again. Must never hold more than one
//! window and what the caller's budget allows. Errors are latched by the callers in `mod.rs`.

use std::ops::Range;

use super::format::{PAGE_BYTES, RecordKind, Seal, SegmentHeader};
use super::pool::segment_name;
use super::scan::Scanner;
use super::{Wal, WalError};
use crate::disk::DiskFile;
use crate::{Entry, Index, LogId};

/// What a read may return, and what it has so far; the same measure as in the files.
pub(super) struct Budget {
    pub bytes: u64,
    pub bytes_max: u64,
}

impl Wal {
    pub(super) fn forget_reader(&mut self, seq: u64) {
        if self.reader.as_ref().is_some_and(|(open, _)| *open == seq) {
            self.reader = None;
        }
    }

    /// Makes `reader` the segment of this number.
    fn open_reader(&mut self, seq: u64) -> Result<(), WalError> {
        if self.reader.as_ref().is_none_or(|(open, _)| *open != seq) {
            let (file, _) = self.pool.open_file(&segment_name(seq))?;
            self.reader = Some((seq, file));
        }
        Ok(())
    }

    /// Calls `visit` with the scanner before each record, from a point at or before `start` on, until it
    /// returns `false`. All records lie in one segment.
    fn scan_run(
        &mut self,
        start: Index,
        mut visit: impl FnMut(&mut Scanner<'_>, Index) -> Result<bool, WalError>,
    ) -> Result<(), WalError> {
        // What was appended and not synced may still be in the buffer.
        self.tail.flush()?;
        let (point, run_end) = self.state.seek(start);
        self.open_reader(point.segment)?;
        let (_, file) = self.reader.as_ref().expect("it was opened just now");
        let name = segment_name(point.segment);
        let seal = self.seal_of(file.as_ref(), &name)?;
        let mut scanner = Scanner::new(file.as_ref(), &name, seal, point.offset, point.chain);
        while visit(&mut scanner, run_end)? {}
        Ok(())
    }

    /// The seal is read again with the segment: cheaper than keeping one for each in memory.
    fn seal_of(&self, file: &dyn DiskFile, name: &str) -> Result<Seal, WalError> {
        let mut page = [0u8; PAGE_BYTES as usize];
        let filled = file.pread(&mut page, 0).map_err(|error| WalError::io("pread", name, error))?;
        match SegmentHeader::decode(&page[..filled]) {
            Ok((header, _)) => Ok(Seal::new(&header)),
            Err(_) => Err(WalError::corrupt(name, 0, "the segment header was good at the start and no longer is")),
        }
    }

    /// Reads from `range.start` to the end of its run; returns whether the budget is used up.
    pub(super) fn read_run(
        &mut self,
        range: Range<Index>,
        budget: &mut Budget,
        entries: &mut Vec<Entry>,
    ) -> Result<bool, WalError> {
        let mut full = false;
        self.scan_run(range.start, |scanner, run_end| {
            let end = run_end.min(range.end);
            let (header, payload) = scanner.step_payload(|header| {
                let wanted = matches!(header.kind, RecordKind::Entry(_)) && header.id.index >= range.start;
                full = wanted && !entries.is_empty() && budget.bytes + header.record_bytes() > budget.bytes_max;
                wanted && !full
            })?;
            let (RecordKind::Entry(kind), Some(payload)) = (header.kind, payload) else { return Ok(!full) };
            assert!(header.id.index < end, "a run holds no entry that was cut");
            budget.bytes += header.record_bytes();
            entries.push(Entry { id: header.id, kind, payload });
            Ok(header.id.index.next() < end)
        })?;
        Ok(full)
    }

    pub(super) fn find_id(&mut self, index: Index) -> Result<LogId, WalError> {
        if index == self.state.first.index {
            return Ok(self.state.first);
        }
        if index == self.state.last.index {
            return Ok(self.state.last);
        }
        let mut found = None;
        self.scan_run(index, |scanner, _| {
            let (header, _) = scanner.step_payload(|_| false)?;
            if matches!(header.kind, RecordKind::Entry(_)) && header.id.index == index {
                found = Some(header.id);
            }
            Ok(found.is_none())
        })?;
        Ok(found.expect("a scan ends only where it found the entry"))
    }
}
