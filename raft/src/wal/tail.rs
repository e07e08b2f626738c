//! The end of the active segment: turns records into whole pages at the right place.
//!
//! Runs on the thread that owns the log. Writes pages only, so that the kernel never has to read a page before it
//! can change a part of it; the rest of the last page is zeros, and the bytes of that page that were written
//! before are written again unchanged. Must never write anything after an error (the owner latches).

use super::WalError;
use super::format::{PAGE_BYTES, RECORD_HEADER_BYTES, RecordHeader, RecordKind, Seal, SegmentHeader, record_bytes};
use super::state::Place;
use crate::disk::DiskFile;
use crate::{LogId, Term};

/// Full pages leave the buffer when it holds so much: bounds memory whatever the size of a batch.
pub(super) const WRITE_BYTES_MAX: usize = 256 * 1024;

pub(super) struct Tail {
    file: Box<dyn DiskFile>,
    name: String,
    seq: u64,
    seal: Seal,
    len_bytes: u64,
    chain: u32,
    /// The end of the log from a page boundary on, `buf_start`.
    buf: Vec<u8>,
    buf_start: u64,
    /// Handed to the kernel up to here.
    written_to: u64,
    /// Durable up to here.
    synced_to: u64,
}

/// A record without the fields that its place decides.
pub(super) struct Record<'a> {
    pub kind: RecordKind,
    pub truncates: bool,
    pub id: LogId,
    pub prev_term: Term,
    pub payload: &'a [u8],
}

impl Tail {
    /// Goes on at `end`, up to which the segment is durable, with `chain` as the chain value there.
    pub fn new(
        file: Box<dyn DiskFile>,
        name: String,
        header: &SegmentHeader,
        len_bytes: u64,
        chain: u32,
        end: u64,
    ) -> Result<Tail, WalError> {
        let buf_start = end - end % PAGE_BYTES;
        let mut buf = vec![0u8; (end - buf_start) as usize];
        let count = file.pread(&mut buf, buf_start).map_err(|error| WalError::io("pread", &name, error))?;
        if count != buf.len() {
            return Err(WalError::corrupt(&name, buf_start, "the file ends within its records"));
        }
        let (seq, seal) = (header.seq, Seal::new(header));
        Ok(Tail { file, name, seq, seal, len_bytes, chain, buf, buf_start, written_to: end, synced_to: end })
    }

    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Where the next record goes.
    pub fn end(&self) -> u64 {
        self.buf_start + self.buf.len() as u64
    }

    pub fn chain(&self) -> u32 {
        self.chain
    }

    pub fn synced_to(&self) -> u64 {
        self.synced_to
    }

    /// Whether a record with such a payload still fits the file.
    pub fn fits(&self, payload_bytes: u64) -> bool {
        self.end() + record_bytes(payload_bytes) <= self.len_bytes
    }

    /// Bytes that are left for records.
    pub fn room_bytes(&self) -> u64 {
        self.len_bytes - self.end()
    }

    /// Adds a record; returns its header and place. It reaches the kernel with `flush`, or before.
    pub fn push(&mut self, record: &Record<'_>) -> Result<(RecordHeader, Place), WalError> {
        assert!(self.fits(record.payload.len() as u64), "the owner rolls before a segment is full");
        let offset = self.end();
        let header = RecordHeader {
            kind: record.kind,
            truncates: record.truncates,
            payload_bytes: u32::try_from(record.payload.len()).expect("a payload is within its limit"),
            payload_crc: self.seal.payload_crc(record.payload),
            id: record.id,
            prev_term: record.prev_term,
            synced_to: u32::try_from(self.synced_to).expect("a segment is shorter than 4 GiB"),
            offset: u32::try_from(offset).expect("a segment is shorter than 4 GiB"),
            prev_chain: self.chain,
        };
        let (bytes, chain) = header.encode(self.seal);
        let place = Place { segment: self.seq, offset, chain_before: self.chain };
        self.chain = chain;
        self.buf.extend_from_slice(&bytes);
        for part in record.payload.chunks(WRITE_BYTES_MAX / 4) {
            self.buf.extend_from_slice(part);
            self.write_full_pages()?;
        }
        let padded = header.record_bytes() - (RECORD_HEADER_BYTES + record.payload.len()) as u64;
        self.buf.resize(self.buf.len() + padded as usize, 0);
        assert_eq!(self.end(), offset + header.record_bytes(), "a record takes the place that it was given");
        Ok((header, place))
    }

    /// Keeps the buffer small while a large batch passes through.
    fn write_full_pages(&mut self) -> Result<(), WalError> {
        if self.buf.len() < WRITE_BYTES_MAX {
            return Ok(());
        }
        let full_bytes = self.buf.len() - self.buf.len() % PAGE_BYTES as usize;
        self.pwrite(full_bytes)?;
        self.buf.drain(..full_bytes);
        self.buf_start += full_bytes as u64;
        self.written_to = self.buf_start;
        Ok(())
    }

    /// Hands everything to the kernel: one write, of whole pages.
    pub fn flush(&mut self) -> Result<(), WalError> {
        let end = self.end();
        if self.written_to == end {
            return Ok(());
        }
        let data_bytes = self.buf.len();
        self.buf.resize(data_bytes.next_multiple_of(PAGE_BYTES as usize), 0);
        self.pwrite(self.buf.len())?;
        self.buf.truncate(data_bytes);
        let full_bytes = data_bytes - data_bytes % PAGE_BYTES as usize;
        self.buf.drain(..full_bytes);
        self.buf_start += full_bytes as u64;
        self.written_to = end;
        Ok(())
    }

    fn pwrite(&self, count: usize) -> Result<(), WalError> {
        let file_end = self.buf_start + count as u64;
        assert!(file_end <= self.len_bytes, "a write stays within its segment");
        self.file.pwrite(&self.buf[..count], self.buf_start).map_err(|error| WalError::io("pwrite", &self.name, error))
    }

    /// Makes everything durable.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.flush()?;
        if self.synced_to < self.end() {
            let synced = if mutant!("log_sync_skipped") { Ok(()) } else { self.file.sync_data() };
            let synced = if mutant!("log_sync_error_ignored") { Ok(()) } else { synced };
            synced.map_err(|error| WalError::io("fdatasync", &self.name, error))?;
            self.synced_to = self.end();
        }
        Ok(())
    }
}
