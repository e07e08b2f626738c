//! Reads records one after the other and checks each against the chain.
//!
//! Runs on the thread that owns the log. Memory is one window of fixed size, plus one payload when the caller asks
//! for it, and that only after the header that names its length was verified. Must never trust a byte unchecked.

use std::sync::Arc;

use crc32c::crc32c_append;

use super::WalError;
use super::format::{NODE_ID_BYTES_MAX, RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RecordHeader, RecordKind, Seal};
use crate::disk::DiskFile;

const WINDOW_BYTES: usize = 64 * 1024;
const _: () = assert!(WINDOW_BYTES > NODE_ID_BYTES_MAX + RECORD_HEADER_BYTES);

type Payload = Arc<[u8]>;

/// A record that passed all checks of its bytes.
pub(super) struct Scanned {
    pub header: RecordHeader,
    pub offset: u64,
    pub chain_before: u32,
    /// The payload of a `HardState` record.
    pub vote: Vec<u8>,
}

pub(super) enum Step {
    Record(Scanned),
    /// No valid record of this chain stands here. `begun`: there is the head of one of this segment.
    Bad {
        reason: &'static str,
        begun: bool,
    },
}

/// What to do with a record and its payload.
pub(super) enum Want {
    Take,
    Skip,
    Leave,
}

/// A cursor over one segment.
pub(super) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    name: &'a str,
    seal: Seal,
    pub offset: u64,
    pub chain: u32,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> Scanner<'a> {
    pub fn new(file: &'a dyn DiskFile, name: &'a str, seal: Seal, offset: u64, chain: u32) -> Scanner<'a> {
        Scanner { file, name, seal, offset, chain, window: Vec::new(), window_start: 0 }
    }

    /// Up to `count` bytes from `offset`; fewer only where the file ends.
    fn bytes(&mut self, offset: u64, count: usize) -> Result<&[u8], WalError> {
        assert!(count <= WINDOW_BYTES, "a view fits the window");
        let window_end = self.window_start + self.window.len() as u64;
        if offset < self.window_start || offset + count as u64 > window_end {
            self.window.resize(WINDOW_BYTES, 0);
            let filled =
                self.file.pread(&mut self.window, offset).map_err(|error| WalError::io("pread", self.name, error))?;
            self.window.truncate(filled);
            self.window_start = offset;
        }
        let start = (offset - self.window_start) as usize;
        Ok(&self.window[start..self.window.len().min(start + count)])
    }

    /// Checks the record at `offset` and moves behind it. A bad one leaves the cursor where it is.
    pub fn step(&mut self) -> Result<Step, WalError> {
        let (offset, seal, chain_before) = (self.offset, self.seal, self.chain);
        let Some((header, chain)) = RecordHeader::decode(self.bytes(offset, RECORD_HEADER_BYTES)?, seal, offset) else {
            return Ok(Step::Bad { reason: "no record header of this segment", begun: false });
        };
        if header.prev_chain != chain_before {
            return Ok(Step::Bad { reason: "the record does not continue the one before it", begun: true });
        }
        let payload_bytes = u64::from(header.payload_bytes);
        let payload_offset = offset + RECORD_HEADER_BYTES as u64;
        let mut crc = seal.seed;
        let mut done = 0;
        while done < payload_bytes {
            let part_bytes = (payload_bytes - done).min(WINDOW_BYTES as u64);
            let part = self.bytes(payload_offset + done, part_bytes as usize)?;
            if part.is_empty() {
                return Ok(Step::Bad { reason: "the file ends within the record", begun: true });
            }
            crc = crc32c_append(crc, part);
            done += part.len() as u64;
        }
        if crc != header.payload_crc && !mutant!("log_torn_record_taken") {
            return Ok(Step::Bad { reason: "the payload does not match its checksum", begun: true });
        }
        let mut vote = Vec::new();
        if header.kind == RecordKind::HardState {
            if payload_bytes > NODE_ID_BYTES_MAX as u64 {
                return Ok(Step::Bad { reason: "the vote is too long", begun: true });
            }
            vote = self.bytes(payload_offset, payload_bytes as usize)?.to_vec();
        }
        self.offset = offset + header.record_bytes();
        self.chain = chain;
        Ok(Step::Record(Scanned { header, offset, chain_before, vote }))
    }

    /// Reads the record at `offset` and moves behind it, with its payload if `want` takes that; `None` if `want` leaves
    /// the record, and the cursor in front of it. What does not pass the checks is `Corrupt`.
    pub fn step_payload(
        &mut self,
        want: impl FnOnce(&RecordHeader) -> Want,
    ) -> Result<Option<(RecordHeader, Option<Payload>)>, WalError> {
        let (offset, seal) = (self.offset, self.seal);
        let decoded = RecordHeader::decode(self.bytes(offset, RECORD_HEADER_BYTES)?, seal, offset);
        let Some((header, chain)) = decoded else {
            return Err(WalError::corrupt(self.name, offset, "no record header where there was one"));
        };
        if header.prev_chain != self.chain {
            return Err(WalError::corrupt(self.name, offset, "the record is not the one that was written"));
        }
        let payload = match want(&header) {
            Want::Leave => return Ok(None),
            Want::Skip => None,
            Want::Take => match self.payload(&header, offset)? {
                Some(payload) => Some(payload),
                None => return Err(WalError::corrupt(self.name, offset, "the payload does not match its checksum")),
            },
        };
        self.offset = offset + header.record_bytes();
        self.chain = chain;
        Ok(Some((header, payload)))
    }

    /// `None` when the payload is not the one that the header names.
    fn payload(&mut self, header: &RecordHeader, offset: u64) -> Result<Option<Payload>, WalError> {
        let payload_bytes = header.payload_bytes as usize;
        let payload_offset = offset + RECORD_HEADER_BYTES as u64;
        let payload: Payload = if payload_bytes <= WINDOW_BYTES {
            Arc::from(self.bytes(payload_offset, payload_bytes)?)
        } else {
            let len_bytes = self.file.len_bytes().map_err(|error| WalError::io("fstat", self.name, error))?;
            if payload_offset + payload_bytes as u64 > len_bytes {
                return Ok(None);
            }
            // Read in place: a large payload is in memory only once.
            let mut payload: Payload = std::iter::repeat_n(0u8, payload_bytes).collect();
            let bytes = Arc::get_mut(&mut payload).expect("nobody else holds the new payload");
            let filled =
                self.file.pread(bytes, payload_offset).map_err(|error| WalError::io("pread", self.name, error))?;
            if filled != payload_bytes {
                return Ok(None);
            }
            payload
        };
        let torn_taken = mutant!("log_torn_record_taken");
        let good =
            torn_taken || payload.len() == payload_bytes && self.seal.payload_crc(&payload) == header.payload_crc;
        Ok(good.then_some(payload))
    }

    /// Looks behind `offset` for the heads of records of this segment, whatever their chain, up to the end of the
    /// file. Returns the largest `synced_to` that any of them carries, with its offset.
    pub fn search_ahead(&mut self) -> Result<Option<(u32, u64)>, WalError> {
        let seal = self.seal;
        let mut found: Option<(u32, u64)> = None;
        let mut offset = self.offset + RECORD_ALIGN_BYTES;
        loop {
            let view = self.bytes(offset, WINDOW_BYTES)?;
            if view.len() < RECORD_HEADER_BYTES {
                return Ok(found);
            }
            let mut at = 0;
            while at + RECORD_HEADER_BYTES <= view.len() {
                let candidate = offset + at as u64;
                if let Some((header, _)) = RecordHeader::decode(&view[at..at + RECORD_HEADER_BYTES], seal, candidate)
                    && found.is_none_or(|(synced_to, _)| synced_to < header.synced_to)
                {
                    found = Some((header.synced_to, candidate));
                }
                at += RECORD_ALIGN_BYTES as usize;
            }
            offset += at as u64;
        }
    }
}
