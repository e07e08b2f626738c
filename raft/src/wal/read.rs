//! Reading entries back: for followers that lag, and for the replay after a start.
//!
//! Runs on the thread that owns the log. Checks every record that it passes again. Must never hold more than one
//! window and what the caller's budget allows. Errors are latched by the callers in `mod.rs`.

use std::ops::Range;

use super::format::{PAGE_BYTES, RecordKind, Seal, SegmentHeader};
use super::pool::segment_name;
use super::scan::{Scanner, Want};
use super::{Wal, WalError};
use crate::disk::DiskFile;
use crate::{Entry, Index, LogId};

/// What a read may return, and what it has so far; the same measure as in the files.
pub(super) struct Budget {
    pub bytes: u64,
    pub bytes_max: u64,
}

/// The segment that was read last, and where the read stopped: a replay goes on there.
pub(super) struct Reader {
    seq: u64,
    file: Box<dyn DiskFile>,
    seal: Seal,
    /// The entry that was read last, and the place behind it.
    stop: Option<(LogId, u64, u32)>,
}

enum Visit {
    Next,
    /// With the entry that the scanner stands behind, if a later read may go on there.
    Stop(Option<LogId>),
}

impl Wal {
    pub(super) fn forget_reader(&mut self, seq: u64) {
        if self.reader.as_ref().is_some_and(|reader| reader.seq == seq) {
            self.reader = None;
        }
    }

    /// Makes `reader` the segment of this number.
    fn open_reader(&mut self, seq: u64) -> Result<(), WalError> {
        if self.reader.as_ref().is_some_and(|reader| reader.seq == seq) {
            return Ok(());
        }
        let name = segment_name(seq);
        let (file, _) = self.pool.open_file(&name)?;
        let mut page = [0u8; PAGE_BYTES as usize];
        let filled = file.pread(&mut page, 0).map_err(|error| WalError::io("pread", &name, error))?;
        let Ok((header, _)) = SegmentHeader::decode(&page[..filled]) else {
            return Err(WalError::corrupt(&name, 0, "the segment header was good at the start and no longer is"));
        };
        self.reader = Some(Reader { seq, file, seal: Seal::new(&header), stop: None });
        Ok(())
    }

    /// Calls `visit` with the scanner before each record, from a place at or before the entry `start` on, until it
    /// returns `None`, or the entry where a later read may go on. All records lie in one segment.
    fn scan_run(
        &mut self,
        start: Index,
        mut visit: impl FnMut(&mut Scanner<'_>, Index) -> Result<Visit, WalError>,
    ) -> Result<(), WalError> {
        // What was appended and not synced may still be in the buffer.
        self.tail.flush()?;
        let (point, run_end) = self.state.seek(start);
        self.open_reader(point.segment)?;
        let reader = self.reader.as_mut().expect("it was opened just now");
        let name = segment_name(point.segment);
        let (mut offset, mut chain) = (point.offset, point.chain);
        // Behind a cut the point lies after the place where the read stopped, and is the one that counts.
        if let Some((last, stop_offset, stop_chain)) = reader.stop.take()
            && last.index.next() == start
            && stop_offset >= offset
        {
            (offset, chain) = (stop_offset, stop_chain);
        }
        let mut scanner = Scanner::new(reader.file.as_ref(), &name, reader.seal, offset, chain);
        let stop = loop {
            match visit(&mut scanner, run_end)? {
                Visit::Next => {}
                Visit::Stop(last) => break last.map(|last| (last, scanner.offset, scanner.chain)),
            }
        };
        reader.stop = stop;
        Ok(())
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
            let step = scanner.step_payload(|header| {
                if !matches!(header.kind, RecordKind::Entry(_)) || header.id.index < range.start {
                    return Want::Skip;
                }
                full = !entries.is_empty() && budget.bytes + header.record_bytes() > budget.bytes_max;
                if full { Want::Leave } else { Want::Take }
            })?;
            let Some((header, payload)) = step else { return Ok(Visit::Stop(entries.last().map(|entry| entry.id))) };
            let (RecordKind::Entry(kind), Some(payload)) = (header.kind, payload) else { return Ok(Visit::Next) };
            assert!(header.id.index < end, "a run holds no entry that was cut");
            budget.bytes += header.record_bytes();
            entries.push(Entry { id: header.id, kind, payload });
            Ok(if header.id.index.next() < end { Visit::Next } else { Visit::Stop(Some(header.id)) })
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
            let (header, _) = scanner.step_payload(|_| Want::Skip)?.expect("the record was not left");
            if matches!(header.kind, RecordKind::Entry(_)) && header.id.index == index {
                found = Some(header.id);
            }
            Ok(if found.is_none() { Visit::Next } else { Visit::Stop(None) })
        })?;
        Ok(found.expect("a scan ends only where it found the entry"))
    }
}
