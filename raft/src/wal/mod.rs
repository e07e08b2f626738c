//! The write-ahead log: entries, term and vote, in segments of one directory.
//!
//! Owned by one thread (the server's WAL thread, or the simulator): it drains its inbox, calls `append` for each
//! batch, `sync` once, and reports the `Durable` that it got. No thread, channel or clock in here. Must never
//! report anything durable that a power cut can take back, and never go on after an error.
//!
//! The format and the reasoning about crashes are in `raft/README.md`; the bytes are described in `format.rs`.
//! Reading order: this file, `format`, `state`, `tail`, `append`, `pool`, `scan`, `recover`, `read`.

mod append;
mod error;
mod format;
mod pool;
mod read;
mod recover;
mod scan;
mod state;
mod tail;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::disk::Disk;
use crate::{ClusterId, Entry, HardState, Index, LogId};

pub use error::WalError;
pub use format::{NODE_ID_BYTES_MAX, PAYLOAD_BYTES_MAX};
pub use recover::TornTail;

use append::{check_sizes, new_tail};
use format::{PAGE_BYTES, SegmentHeader, salt_of};
use pool::Pool;
use read::{Budget, Reader};
use recover::{Found, recover};
use state::LogState;
use tail::Tail;

/// Default size of a segment's file.
pub const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// A header and one page: the least that makes sense.
pub const SEGMENT_BYTES_MIN: u64 = 2 * PAGE_BYTES;

/// So that an offset in a segment fits 32 bits, an oversized segment included.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
const _: () = assert!(SEGMENT_BYTES_MAX + PAYLOAD_BYTES_MAX < u32::MAX as u64);

/// Purged segments that wait for their next use, by default.
pub const SPARES_MAX: usize = 2;

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// The cluster that the log must belong to. An empty directory becomes a new log of this cluster;
    /// with `None` it is refused with `NoLog`. A node that has lived before must come with `None`: an emptied directory
    /// would else become a node that has forgotten its votes.
    pub cluster_id: Option<ClusterId>,
    /// A number that no earlier start of this log used; draw it at random.
    pub boot_salt: u64,
    /// A multiple of 4096. May differ from the one that the log was written with.
    pub segment_bytes: u64,
    pub spares_max: usize,
}

impl WalOptions {
    pub fn new(cluster_id: Option<ClusterId>, boot_salt: u64) -> WalOptions {
        WalOptions { cluster_id, boot_salt, segment_bytes: SEGMENT_BYTES, spares_max: SPARES_MAX }
    }
}

/// What a start found. All of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub cluster_id: ClusterId,
    pub hard_state: HardState,
    /// The entry before the oldest one in the log: all up to here were purged.
    pub first: LogId,
    pub last: LogId,
    /// The log was made by this call.
    pub created: bool,
    /// For the operator's log; not an error.
    pub torn: Option<TornTail>,
}

/// One atomic-in-order change of the log: first the hard state, then the cut, then the entries. A crash may keep
/// a prefix of it; the cut and the first new entry are one step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch<'a> {
    /// All entries after this index are replaced. Lies between `first` and `last`.
    pub truncate_after: Option<Index>,
    /// Follow each other and the end of the log (after the cut).
    pub entries: &'a [Entry],
    /// Term and vote, if they changed. Its term is at least that of every entry.
    pub hard_state: Option<&'a HardState>,
}

/// What a power cut cannot take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    /// Term and index: a late report can never stand for an entry that was replaced meanwhile.
    pub last: LogId,
    pub hard_state: HardState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    seq: u64,
    len_bytes: u64,
}

/// The log. One per directory.
///
/// ```
/// use std::sync::Arc;
/// use raft::disk::SimDisk;
/// use raft::wal::{Batch, Wal, WalOptions};
/// use raft::{ClusterId, Entry, EntryKind, HardState, Index, LogId, Term};
///
/// let disk = Arc::new(SimDisk::new());
/// let options = WalOptions::new(Some(ClusterId(7)), 1);
/// let (mut wal, recovered) = Wal::open(disk, &options)?;
/// assert!(recovered.created);
///
/// let id = LogId { term: Term(1), index: Index(1) };
/// let entries = [Entry { id, kind: EntryKind::Command, payload: Arc::from(&b"x"[..]) }];
/// let hard_state = HardState { term: Term(1), voted_for: None };
/// wal.append(&Batch { truncate_after: None, entries: &entries, hard_state: Some(&hard_state) })?;
/// assert_eq!(wal.durable().last, LogId::default());
/// assert_eq!(wal.sync()?.last, id);
/// assert_eq!(wal.read(Index(1)..Index(2), 1 << 20)?, entries);
/// # Ok::<(), raft::wal::WalError>(())
/// ```
pub struct Wal {
    pool: Pool,
    options: WalOptions,
    cluster_id: ClusterId,
    state: LogState,
    /// From the oldest on; the last one is the tail's.
    segments: VecDeque<Segment>,
    tail: Tail,
    /// The segment that was read last.
    reader: Option<Reader>,
    /// Opened, and nothing appended yet: the first record must cut off what a crash may have left.
    reopened: bool,
    /// The last record proves everything before it durable.
    marked: bool,
    durable: Durable,
    failed: Option<WalError>,
}

impl Wal {
    /// Makes a new log in a directory that holds none. A crash before it returns leaves no log or a whole one.
    pub fn create(
        disk: Arc<dyn Disk>,
        cluster_id: ClusterId,
        options: &WalOptions,
    ) -> Result<(Wal, Recovered), WalError> {
        options.check();
        let (pool, seqs) = Pool::open(disk, options.segment_bytes, options.spares_max)?;
        if !seqs.is_empty() {
            return Err(WalError::Exists);
        }
        Wal::create_in(pool, cluster_id, options)
    }

    /// Opens the log, or makes a new one if there is none and the options name a cluster. Everything it returns
    /// is durable. Reads the whole log once and checks every byte of it.
    pub fn open(disk: Arc<dyn Disk>, options: &WalOptions) -> Result<(Wal, Recovered), WalError> {
        options.check();
        match (recover(disk, options)?, options.cluster_id) {
            (Ok(found), _) => Ok(Wal::from_found(found, options)),
            (Err(pool), Some(cluster_id)) => Wal::create_in(pool, cluster_id, options),
            (Err(_), None) => Err(WalError::NoLog),
        }
    }

    fn create_in(mut pool: Pool, cluster_id: ClusterId, options: &WalOptions) -> Result<(Wal, Recovered), WalError> {
        let header = SegmentHeader {
            cluster_id,
            seq: 1,
            salt: salt_of(options.boot_salt, 1, 0),
            reset: false,
            base: LogId::default(),
            prev_end: 0,
            prev_chain: 0,
            hard_state: HardState::default(),
        };
        let tail = new_tail(&mut pool, &header, 0)?;
        let segment = Segment { seq: 1, len_bytes: tail.len_bytes() };
        let state = LogState::new(header.base, header.hard_state);
        let found = Found { pool, cluster_id, state, segments: vec![segment], tail, torn: None, marked: true };
        let (mut wal, mut recovered) = Wal::from_found(found, options);
        wal.reopened = false;
        recovered.created = true;
        Ok((wal, recovered))
    }

    fn from_found(found: Found, options: &WalOptions) -> (Wal, Recovered) {
        let Found { pool, cluster_id, state, segments, tail, torn, marked } = found;
        let hard_state = state.hard_state.clone();
        let recovered = Recovered {
            cluster_id,
            hard_state: hard_state.clone(),
            first: state.first,
            last: state.last,
            created: false,
            torn,
        };
        let wal = Wal {
            pool,
            options: options.clone(),
            cluster_id,
            durable: Durable { last: state.last, hard_state },
            state,
            segments: segments.into(),
            tail,
            reader: None,
            reopened: true,
            marked,
            failed: None,
        };
        (wal, recovered)
    }

    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// The entry before the oldest one that can be read.
    pub fn first(&self) -> LogId {
        self.state.first
    }

    /// The newest entry, durable or not.
    pub fn last(&self) -> LogId {
        self.state.last
    }

    /// What the last `sync` (or the start) made durable.
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Number of the segment that is written.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn newest_segment(&self) -> u64 {
        self.tail.seq()
    }

    /// Bytes of all segments; spares not counted.
    pub fn segments_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len_bytes).sum()
    }

    /// Adds a batch. It can be read at once and is durable after the next `sync`.
    ///
    /// `TooLarge` writes nothing. Panics if the batch breaks a law of Raft: a gap, a term that goes back, a second
    /// vote in one term.
    pub fn append(&mut self, batch: &Batch<'_>) -> Result<(), WalError> {
        self.check_failed()?;
        check_sizes(batch)?;
        let result = self.append_all(batch);
        self.latch(result)
    }

    /// Makes everything that was appended durable: one `fdatasync`, or none if there is nothing new.
    pub fn sync(&mut self) -> Result<&Durable, WalError> {
        self.check_failed()?;
        let result = self.tail.sync();
        self.latch(result)?;
        self.note_durable();
        Ok(&self.durable)
    }

    /// Entries from `range.start` on: at least one if there is any in the range, then as many as take at most
    /// `bytes_max` bytes of the log together. Fewer than asked for where the log ends. `Purged` for older ones.
    pub fn read(&mut self, range: Range<Index>, bytes_max: u64) -> Result<Vec<Entry>, WalError> {
        self.check_failed()?;
        if range.start <= self.state.first.index {
            return Err(WalError::Purged { first: self.state.first });
        }
        let mut entries = Vec::new();
        let mut budget = Budget { bytes: 0, bytes_max };
        let mut next = range.start;
        let end = range.end.min(self.state.last.index.next());
        while next < end {
            let result = self.read_run(next..end, &mut budget, &mut entries);
            let full = self.latch(result)?;
            next = entries.last().map_or(next, |entry| entry.id.index.next());
            if full {
                break;
            }
        }
        Ok(entries)
    }

    /// The id of the entry at `index`, or of the one before the oldest; `None` outside the log.
    pub fn id_at(&mut self, index: Index) -> Result<Option<LogId>, WalError> {
        self.check_failed()?;
        if index < self.state.first.index || index > self.state.last.index {
            return Ok(None);
        }
        let result = self.find_id(index);
        self.latch(result).map(Some)
    }

    /// Drops the segments whose entries are all at or before `index`, which need not be needed any more: applied
    /// in a way that survives a power cut. The newest segment stays.
    pub fn purge_to(&mut self, index: Index) -> Result<(), WalError> {
        self.check_failed()?;
        let beyond = if mutant!("log_purged_too_far") { 40 } else { 0 };
        while self.oldest_ends_by(Index(index.0 + beyond)) {
            self.drop_oldest()?;
        }
        Ok(())
    }

    /// The same, but only while the log takes more than `bytes_max` on disk.
    pub fn purge_beyond(&mut self, bytes_max: u64, index: Index) -> Result<(), WalError> {
        self.check_failed()?;
        while self.segments_bytes() > bytes_max && self.oldest_ends_by(index) {
            self.drop_oldest()?;
        }
        Ok(())
    }

    fn oldest_ends_by(&self, index: Index) -> bool {
        self.segments.len() > 1 && self.state.last_within(self.segments[0].seq).index <= index
    }

    fn drop_oldest(&mut self) -> Result<(), WalError> {
        let oldest = self.segments.pop_front().expect("there are several");
        self.state.drop_segments_to(oldest.seq);
        self.forget_reader(oldest.seq);
        let result = self.pool.retire(oldest.seq, oldest.len_bytes);
        self.latch(result)
    }

    /// Empties the log, which then goes on after `base`: for an installed snapshot. One atomic step, durable when
    /// it returns. The hard state stays.
    pub fn reset_to(&mut self, base: LogId) -> Result<(), WalError> {
        self.check_failed()?;
        let result = self.reset_all(base);
        self.latch(result)
    }

    /// Fills a spare file if the next roll would have to. Call it when idle: it may write a whole segment.
    /// Returns whether it did something.
    pub fn prepare_spare(&mut self) -> Result<bool, WalError> {
        self.check_failed()?;
        if self.pool.spare_count() > 0 || self.tail.room_bytes() > self.options.segment_bytes / 2 {
            return Ok(false);
        }
        let result = self.pool.prepare_spare();
        self.latch(result).map(|()| true)
    }

    /// Writes, without a sync, that everything before is durable. Until something follows the last batch, damage
    /// in it looks like a torn write; after this it does not. Takes up to two pages; call it when idle for long, and
    /// at the end.
    pub fn mark_durable(&mut self) -> Result<(), WalError> {
        self.check_failed()?;
        if self.marked || self.tail.synced_to() != self.tail.end() {
            return Ok(());
        }
        let result = self.push_marks().and_then(|()| self.tail.flush());
        self.marked = true;
        self.latch(result)
    }

    /// Syncs and marks the end, so that the next start can tell any later damage.
    pub fn close(mut self) -> Result<(), WalError> {
        self.sync()?;
        self.mark_durable()?;
        self.sync()?;
        Ok(())
    }
}

impl Wal {
    fn check_failed(&self) -> Result<(), WalError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// After any failure the log's memory and the disk may differ, and a failed sync must never be tried again
    /// (the kernel forgets which pages were dirty): the first error is the answer to everything that follows.
    fn latch<T>(&mut self, result: Result<T, WalError>) -> Result<T, WalError> {
        if let Err(error) = &result {
            assert!(error.is_fatal(), "only fatal errors come from the disk");
            self.failed = Some(error.clone());
        }
        result
    }

    fn note_durable(&mut self) {
        self.durable = Durable { last: self.state.last, hard_state: self.state.hard_state.clone() };
    }
}

impl WalOptions {
    fn check(&self) {
        assert!(self.segment_bytes.is_multiple_of(PAGE_BYTES), "a segment is made of pages");
        assert!(
            (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes),
            "the size of a segment is within its limits"
        );
    }
}
