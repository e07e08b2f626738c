//! A consistent copy of the database, read page by page from one snapshot while writing goes on.
//!
//! Runs on the thread that sends it. Nothing is written to disk, and memory does not grow with the database. It must be
//! dropped before the database file is replaced, and it keeps the WAL from being reset as long as it lives.

use super::fatal::Fatal;
use super::sqlite::{Connection, Statement, Step};
use super::{own, record, snapshot};
use crate::command::ValueRef;
use crate::random;
use raft::{ClusterId, Index, LogId, Term};
use std::path::Path;

/// Most bytes that one read gives.
pub const READ_BYTES_MAX: usize = 256 * 1024;
/// The running checksum can be taken up again at multiples of this.
pub const PIECE_BYTES: usize = 1024 * 1024;
/// Pages in SQLite: powers of two from 512 to 65,536 bytes.
const PAGE_BYTES_MIN: u32 = 512;
const PAGE_BYTES_MAX: u32 = 65_536;
/// Longest membership that is carried along, in bytes.
const MEMBERSHIP_BYTES_MAX: usize = 1024 * 1024;

/// What a copy is a copy of. Two copies are the same when all of this is equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyMeta {
    /// Drawn by the sender for each snapshot: pages of different snapshots never mix.
    pub copy_id: u128,
    pub cluster: ClusterId,
    /// The last entry that the copy holds.
    pub applied: LogId,
    /// The membership in force there, as the log carries it; empty when there is none.
    pub membership: Vec<u8>,
    /// The index of the entry that holds it; 0: not known.
    pub membership_index: Index,
    pub page_bytes: u32,
    pub pages: u64,
}

impl CopyMeta {
    /// The size of the copy in bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.page_bytes) * self.pages
    }

    /// Fixed-width fields, little-endian, in the order of the struct but for the membership, which comes last.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(68 + self.membership.len());
        out.extend_from_slice(&self.copy_id.to_le_bytes());
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        out.extend_from_slice(&self.applied.index.0.to_le_bytes());
        out.extend_from_slice(&self.applied.term.0.to_le_bytes());
        out.extend_from_slice(&self.membership_index.0.to_le_bytes());
        out.extend_from_slice(&self.page_bytes.to_le_bytes());
        out.extend_from_slice(&self.pages.to_le_bytes());
        out.extend_from_slice(&self.membership);
        out
    }

    /// `None`: these bytes are no description of a copy.
    pub fn decode(bytes: &[u8]) -> Option<CopyMeta> {
        fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
            let (taken, rest) = input.split_first_chunk()?;
            *input = rest;
            Some(*taken)
        }
        let mut input = bytes;
        let copy_id = u128::from_le_bytes(take(&mut input)?);
        let cluster = ClusterId(u128::from_le_bytes(take(&mut input)?));
        let index = Index(u64::from_le_bytes(take(&mut input)?));
        let applied = LogId { index, term: Term(u64::from_le_bytes(take(&mut input)?)) };
        let membership_index = Index(u64::from_le_bytes(take(&mut input)?));
        let page_bytes = u32::from_le_bytes(take(&mut input)?);
        let pages = u64::from_le_bytes(take(&mut input)?);
        let is_sane = page_bytes.is_power_of_two()
            && (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes)
            && (1..=u64::from(u32::MAX)).contains(&pages)
            && input.len() <= MEMBERSHIP_BYTES_MAX;
        let membership = input.to_vec();
        is_sane.then_some(CopyMeta { copy_id, cluster, applied, membership, membership_index, page_bytes, pages })
    }
}

/// The checksum of a copy, taken along the way: a chain over pieces, `state = BLAKE3(state, piece)`, that begins with
/// the description of the copy. Between pieces its whole state is the 32 bytes.
#[derive(Clone)]
pub struct CopyHash {
    state: [u8; 32],
    piece: blake3::Hasher,
    piece_bytes: usize,
}

impl CopyHash {
    pub fn new(meta: &CopyMeta) -> CopyHash {
        CopyHash::resume(*blake3::hash(&meta.encode()).as_bytes())
    }

    /// Goes on between two pieces.
    pub fn resume(state: [u8; 32]) -> CopyHash {
        let mut piece = blake3::Hasher::new();
        piece.update(&state);
        CopyHash { state, piece, piece_bytes: 0 }
    }

    pub fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.piece_bytes));
            self.piece.update(now);
            self.piece_bytes += now.len();
            bytes = later;
            if self.piece_bytes == PIECE_BYTES {
                *self = CopyHash::resume(*self.piece.finalize().as_bytes());
            }
        }
    }

    /// The state, when no piece has begun.
    pub fn state(&self) -> Option<[u8; 32]> {
        (self.piece_bytes == 0).then_some(self.state)
    }

    /// Of everything so far.
    pub fn checksum(&self) -> [u8; 32] {
        self.state().unwrap_or_else(|| *self.piece.finalize().as_bytes())
    }
}

/// See the module.
pub struct CopySource {
    pages: Statement,
    meta: CopyMeta,
    hash: CopyHash,
    /// Pages that the checksum covers.
    hashed: u64,
    /// Holds the snapshot.
    _connection: Connection,
}

impl CopySource {
    /// Takes the snapshot: the database as it is now, and all of it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn open(path: &Path) -> Result<CopySource, Fatal> {
        let (connection, record) = snapshot::pin(path)?;
        let copy_id = random::u128().map_err(|error| Fatal::new(format!("no random numbers: {error}")))?;
        let number = |pragma: &str| own::number::<u64>(&connection, pragma);
        let page_bytes =
            u32::try_from(number("PRAGMA page_size")?).map_err(|_| Fatal::new("the pages are too large"))?;
        let meta = CopyMeta {
            copy_id,
            cluster: record.cluster,
            applied: record.applied,
            membership: record::read_membership(&connection)?,
            membership_index: record::read_membership_index(&connection)?,
            page_bytes,
            pages: number("PRAGMA page_count")?,
        };
        let pages = own::prepare(&connection, "SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
        let hash = CopyHash::new(&meta);
        Ok(CopySource { pages, meta, hash, hashed: 0, _connection: connection })
    }

    pub fn meta(&self) -> &CopyMeta {
        &self.meta
    }

    /// Gives pages from `from_page` (counted from 0) on in place of what was in `out`: [`READ_BYTES_MAX`], or what is left; at
    /// the end nothing. Says how many. Who begins anew somewhere gets the same bytes.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn read(&mut self, from_page: u64, out: &mut Vec<u8>) -> Result<usize, Fatal> {
        // The checksum leaves nothing out, also where somebody else has sent what was before.
        while self.hashed < from_page.min(self.meta.pages) {
            self.read_chunk(self.hashed, out)?;
        }
        self.read_chunk(from_page, out)
    }

    fn read_chunk(&mut self, from_page: u64, out: &mut Vec<u8>) -> Result<usize, Fatal> {
        out.clear();
        let page_bytes = self.meta.page_bytes as usize;
        let upto = self.meta.pages.min(from_page.saturating_add((READ_BYTES_MAX / page_bytes) as u64));
        for page in from_page..upto {
            self.read_page(page, out)?;
            if page == self.hashed {
                self.hash.add(&out[out.len() - page_bytes..]);
                self.hashed += 1;
            }
        }
        Ok(out.len() / page_bytes)
    }

    fn read_page(&mut self, page: u64, out: &mut Vec<u8>) -> Result<(), Fatal> {
        let failed = |error| Fatal::sqlite("reading a page", &error);
        let number = i64::try_from(page + 1).expect("pages are numbered with 32 bits");
        self.pages.bind(1, ValueRef::Integer(number)).map_err(failed)?;
        let is_there = self.pages.step().map_err(failed)? == Step::Row;
        let bytes = if is_there { self.pages.column_bytes(0) } else { &[] };
        let is_whole = bytes.len() == self.meta.page_bytes as usize;
        out.extend_from_slice(bytes);
        self.pages.reset();
        if is_whole { Ok(()) } else { Err(Fatal::new(format!("page {number} is missing"))) }
    }

    /// The checksum of the whole copy, once all of it was read.
    pub fn checksum(&self) -> Option<[u8; 32]> {
        (self.hashed == self.meta.pages).then(|| self.hash.checksum())
    }
}

/// It is opened on one thread and may be handed to another.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<CopySource>();
};
