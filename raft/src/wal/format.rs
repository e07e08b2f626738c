//! The bytes of the log: segment header and record header. This is the only description of them in code; the
//! reasoning is in `raft/README.md`.
//!
//! Pure functions, any thread. Decoding never panics and never allocates more than a vote's name.

use std::sync::Arc;

use crc32c::crc32c_append;

use crate::{ClusterId, EntryKind, HardState, Index, LogId, NodeId, Term};

/// The page that the writer writes whole; the segment header fills one.
pub(super) const PAGE_BYTES: u64 = 4096;

/// Largest payload of one record. Chosen above the largest request that the server takes.
pub const PAYLOAD_BYTES_MAX: u64 = 300 * 1024 * 1024;

/// Largest name that a vote can be recorded for.
pub const NODE_ID_BYTES_MAX: usize = 1024;

pub(super) const FORMAT_VERSION: u32 = 1;
pub(super) const RECORD_HEADER_BYTES: usize = 56;

/// Records start at multiples of this.
pub(super) const RECORD_ALIGN_BYTES: u64 = 8;

const SEGMENT_MAGIC: [u8; 8] = *b"FERROWAL";
const RECORD_MAGIC: u32 = u32::from_le_bytes([0xF7, b'r', b'e', b'c']);
const SEGMENT_FLAG_RESET: u32 = 1;
const RECORD_FLAG_TRUNCATES: u8 = 1;

// Offsets in the segment header page; its last four bytes are a CRC32C over all before them.
const HEADER_VOTE_OFFSET: usize = 92;
const HEADER_CRC_OFFSET: usize = PAGE_BYTES as usize - 4;
const _: () = assert!(HEADER_VOTE_OFFSET + NODE_ID_BYTES_MAX <= HEADER_CRC_OFFSET);

/// What stands at the head of a segment: all that would be lost with the segments before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub cluster_id: ClusterId,
    /// Counts the segments of this log; never used twice.
    pub seq: u64,
    /// Seeds every checksum in the segment, so that what a recycled file held before is not taken for a record.
    pub salt: u64,
    /// The log starts here, after `base`: all earlier segments are void.
    pub reset: bool,
    /// The last entry before this segment.
    pub base: LogId,
    /// Where the records of the segment before this one end, and the chain value there.
    pub prev_end: u32,
    pub prev_chain: u32,
    pub hard_state: HardState,
}

pub(super) enum HeaderError {
    /// Not a header, or a damaged one.
    Damaged(&'static str),
    Version(u32),
}

impl SegmentHeader {
    pub fn encode(&self) -> Vec<u8> {
        let mut page = vec![0u8; PAGE_BYTES as usize];
        let mut put = |offset: usize, bytes: &[u8]| page[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0, &SEGMENT_MAGIC);
        put(8, &FORMAT_VERSION.to_le_bytes());
        put(12, &(if self.reset { SEGMENT_FLAG_RESET } else { 0 }).to_le_bytes());
        put(16, &self.cluster_id.0.to_le_bytes());
        put(32, &self.seq.to_le_bytes());
        put(40, &self.salt.to_le_bytes());
        put(48, &self.base.term.0.to_le_bytes());
        put(56, &self.base.index.0.to_le_bytes());
        put(64, &self.prev_end.to_le_bytes());
        put(68, &self.prev_chain.to_le_bytes());
        put(72, &self.hard_state.term.0.to_le_bytes());
        let vote = vote_bytes(&self.hard_state);
        put(80, &u32::try_from(vote.len()).expect("a vote's name was checked against its limit").to_le_bytes());
        put(HEADER_VOTE_OFFSET, vote);
        let crc = crc32c::crc32c(&page[..HEADER_CRC_OFFSET]);
        page[HEADER_CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// The value that starts the chain of the segment's records.
    pub fn chain(&self) -> u32 {
        u32_at(&self.encode(), HEADER_CRC_OFFSET)
    }

    /// Returns the header and the value that starts the chain of its records.
    pub fn decode(page: &[u8]) -> Result<(SegmentHeader, u32), HeaderError> {
        if page.len() != PAGE_BYTES as usize {
            return Err(HeaderError::Damaged("the file is too short for a segment header"));
        }
        if page[..8] != SEGMENT_MAGIC {
            return Err(HeaderError::Damaged("the segment header has no magic"));
        }
        let crc = u32_at(page, HEADER_CRC_OFFSET);
        let crc_good = crc == crc32c::crc32c(&page[..HEADER_CRC_OFFSET]);
        let version = u32_at(page, 8);
        if !crc_good {
            return Err(HeaderError::Damaged("the segment header does not match its checksum"));
        }
        if version != FORMAT_VERSION {
            return Err(HeaderError::Version(version));
        }
        let vote_len = u32_at(page, 80) as usize;
        if vote_len > NODE_ID_BYTES_MAX {
            return Err(HeaderError::Damaged("the vote in the segment header is too long"));
        }
        let vote = &page[HEADER_VOTE_OFFSET..HEADER_VOTE_OFFSET + vote_len];
        let Some(hard_state) = hard_state_of(u64_at(page, 72), vote) else {
            return Err(HeaderError::Damaged("the vote in the segment header is not text"));
        };
        let header = SegmentHeader {
            cluster_id: ClusterId(u128::from_le_bytes(page[16..32].try_into().expect("16 bytes"))),
            seq: u64_at(page, 32),
            salt: u64_at(page, 40),
            reset: u32_at(page, 12) & SEGMENT_FLAG_RESET != 0,
            base: LogId { term: Term(u64_at(page, 48)), index: Index(u64_at(page, 56)) },
            prev_end: u32_at(page, 64),
            prev_chain: u32_at(page, 68),
            hard_state,
        };
        Ok((header, crc))
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    Entry(EntryKind),
    /// `id.term` is the term, the payload the name voted for (empty for none).
    HardState,
    /// All entries after `id` are gone.
    Truncate,
    /// The log was opened again here; `id.term` carries a salt, so that what a crash left behind this place can
    /// never continue the chain.
    Reopen,
    /// Says nothing but that everything before it is durable (`synced_to`).
    Mark,
}

impl RecordKind {
    fn code(self) -> u8 {
        match self {
            RecordKind::Entry(EntryKind::Noop) => 1,
            RecordKind::Entry(EntryKind::Command) => 2,
            RecordKind::Entry(EntryKind::Membership) => 3,
            RecordKind::HardState => 4,
            RecordKind::Truncate => 5,
            RecordKind::Reopen => 6,
            RecordKind::Mark => 7,
        }
    }

    fn from_code(code: u8) -> Option<RecordKind> {
        Some(match code {
            1 => RecordKind::Entry(EntryKind::Noop),
            2 => RecordKind::Entry(EntryKind::Command),
            3 => RecordKind::Entry(EntryKind::Membership),
            4 => RecordKind::HardState,
            5 => RecordKind::Truncate,
            6 => RecordKind::Reopen,
            7 => RecordKind::Mark,
            _ => return None,
        })
    }
}

/// The head of a record; the payload follows it, padded with zeros to the alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub kind: RecordKind,
    /// An entry that replaces its index and all entries after it, in one step with itself.
    pub truncates: bool,
    pub payload_bytes: u32,
    pub payload_crc: u32,
    pub id: LogId,
    /// The term of the entry before this one.
    pub prev_term: Term,
    /// All bytes of the segment before this offset were durable when the record was written.
    pub synced_to: u32,
    /// Where the record stands in its segment: a misdirected write is seen.
    pub offset: u32,
    /// The chain value of the record before this one.
    pub prev_chain: u32,
}

impl RecordHeader {
    /// Bytes that the record takes in the segment.
    pub fn record_bytes(&self) -> u64 {
        record_bytes(u64::from(self.payload_bytes))
    }

    /// Returns the bytes and the new chain value, which covers the payload and all records before it.
    pub fn encode(&self, seal: Seal) -> ([u8; RECORD_HEADER_BYTES], u32) {
        let mut bytes = [0u8; RECORD_HEADER_BYTES];
        let mut put = |offset: usize, part: &[u8]| bytes[offset..offset + part.len()].copy_from_slice(part);
        put(0, &RECORD_MAGIC.to_le_bytes());
        put(4, &[self.kind.code(), if self.truncates { RECORD_FLAG_TRUNCATES } else { 0 }]);
        put(6, &seal.seq_low.to_le_bytes());
        put(8, &self.payload_bytes.to_le_bytes());
        put(12, &self.payload_crc.to_le_bytes());
        put(16, &self.id.term.0.to_le_bytes());
        put(24, &self.id.index.0.to_le_bytes());
        put(32, &self.prev_term.0.to_le_bytes());
        put(40, &self.synced_to.to_le_bytes());
        put(44, &self.offset.to_le_bytes());
        put(48, &self.prev_chain.to_le_bytes());
        let chain = crc32c_append(seal.seed, &bytes[..RECORD_HEADER_BYTES - 4]);
        bytes[RECORD_HEADER_BYTES - 4..].copy_from_slice(&chain.to_le_bytes());
        (bytes, chain)
    }

    /// Decodes a header that was written at `offset` of the segment with this seal; `None` for anything else.
    /// Says nothing about the payload or about the records before it.
    pub fn decode(bytes: &[u8], seal: Seal, offset: u64) -> Option<(RecordHeader, u32)> {
        if bytes.len() < RECORD_HEADER_BYTES || u32_at(bytes, 0) != RECORD_MAGIC {
            return None;
        }
        let chain = u32_at(bytes, RECORD_HEADER_BYTES - 4);
        if chain != crc32c_append(seal.seed, &bytes[..RECORD_HEADER_BYTES - 4])
            || u16::from_le_bytes([bytes[6], bytes[7]]) != seal.seq_low
            || u64::from(u32_at(bytes, 44)) != offset
            || u64::from(u32_at(bytes, 8)) > PAYLOAD_BYTES_MAX
        {
            return None;
        }
        let header = RecordHeader {
            kind: RecordKind::from_code(bytes[4])?,
            truncates: bytes[5] & RECORD_FLAG_TRUNCATES != 0,
            payload_bytes: u32_at(bytes, 8),
            payload_crc: u32_at(bytes, 12),
            id: LogId { term: Term(u64_at(bytes, 16)), index: Index(u64_at(bytes, 24)) },
            prev_term: Term(u64_at(bytes, 32)),
            synced_to: u32_at(bytes, 40),
            offset: u32_at(bytes, 44),
            prev_chain: u32_at(bytes, 48),
        };
        Some((header, chain))
    }
}

/// What ties a record to its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    /// The checksums start from this value.
    pub seed: u32,
    seq_low: u16,
}

impl Seal {
    pub fn new(header: &SegmentHeader) -> Seal {
        Seal { seed: (header.salt ^ (header.salt >> 32)) as u32, seq_low: header.seq as u16 }
    }

    pub fn payload_crc(self, payload: &[u8]) -> u32 {
        crc32c_append(self.seed, payload)
    }
}

/// Bytes that a record with such a payload takes in the segment.
pub(super) fn record_bytes(payload_bytes: u64) -> u64 {
    (RECORD_HEADER_BYTES as u64 + payload_bytes).next_multiple_of(RECORD_ALIGN_BYTES)
}

pub(super) fn vote_bytes(hard_state: &HardState) -> &[u8] {
    hard_state.voted_for.as_ref().map_or(&[], |node| node.0.as_bytes())
}

/// `None` when the vote is not text.
pub(super) fn hard_state_of(term: u64, vote: &[u8]) -> Option<HardState> {
    let vote = std::str::from_utf8(vote).ok()?;
    let voted_for = (!vote.is_empty()).then(|| NodeId(Arc::from(vote)));
    Some(HardState { term: Term(term), voted_for })
}

/// The salt of a new segment: differs from every other one of this log as long as `boot_salt` or `seq` does.
pub(super) fn salt_of(boot_salt: u64, seq: u64, chain: u32) -> u64 {
    // The finalizer of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    let mut x = boot_salt ^ seq.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (u64::from(chain) << 16);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}
