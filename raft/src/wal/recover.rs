//! Reading the log after a start, and telling a torn tail from damage.
//!
//! Runs on the thread that owns the log. Its own writes are: removing a half-made file, retiring segments that a
//! reset made void, and writing the last records again unchanged. Must never cut what may have been acknowledged.

use std::sync::Arc;

use super::format::{HeaderError, PAGE_BYTES, RecordKind, Seal, SegmentHeader, hard_state_of};
use super::pool::{Pool, segment_name};
use super::scan::{Scanned, Scanner, Step};
use super::state::{LogState, Place};
use super::tail::Tail;
use super::{Segment, WalError, WalOptions};
use crate::ClusterId;
use crate::disk::{Disk, DiskFile};

/// How much of the tail is copied at once.
const COPY_BYTES: u64 = 64 * 1024;

/// The unfinished end of the log that a crash left; it was never reported durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    pub file: String,
    /// The records end here.
    pub offset: u64,
    pub reason: &'static str,
}

/// What recovery hands to the log.
pub(super) struct Found {
    pub pool: Pool,
    pub cluster_id: ClusterId,
    pub state: LogState,
    pub segments: Vec<Segment>,
    pub tail: Tail,
    pub torn: Option<TornTail>,
    /// The last record proves everything before it durable.
    pub marked: bool,
}

struct OpenSegment {
    name: String,
    file: Box<dyn DiskFile>,
    len_bytes: u64,
    header: SegmentHeader,
    /// The chain value that the header starts.
    chain: u32,
}

/// `Ok(Err(pool))` when the directory holds no log.
pub(super) fn recover(disk: Arc<dyn Disk>, options: &WalOptions) -> Result<Result<Found, Pool>, WalError> {
    let (mut pool, seqs) = Pool::open(disk, options.segment_bytes, options.spares_max)?;
    let Some(last_seq) = seqs.last() else { return Ok(Err(pool)) };
    let (live, void) = open_headers(&pool, &seqs)?;
    let cluster_id = live[0].header.cluster_id;
    if let Some(expected) = options.cluster_id
        && expected != cluster_id
    {
        return Err(WalError::ForeignCluster { expected, found: cluster_id });
    }
    assert_eq!(live.last().map(|segment| segment.header.seq), Some(*last_seq), "the newest segment is live");

    let mut state = LogState::new(live[0].header.base, live[0].header.hard_state.clone());
    for pair in live.windows(2) {
        check_sealed(&pair[0], &pair[1].header, &mut state)?;
    }
    let newest = live.last().expect("a log has a segment");
    let Newest { end, synced_to, chain, marked, torn } = check_newest(newest, &mut state)?;
    write_again(newest, synced_to, end)?;
    for (seq, len_bytes) in void {
        pool.retire(seq, len_bytes)?;
    }

    let segments = live.iter().map(|open| Segment { seq: open.header.seq, len_bytes: open.len_bytes }).collect();
    let OpenSegment { name, file, len_bytes, header, .. } = live.into_iter().next_back().expect("a log has a segment");
    let tail = Tail::new(file, name, &header, len_bytes, chain, end)?;
    Ok(Ok(Found { pool, cluster_id, state, segments, tail, torn, marked }))
}

type Void = Vec<(u64, u64)>;

/// Opens the segments from the newest back to the last reset or the oldest, checks that they belong together, and
/// returns them from the oldest on, with the number and length of those that a reset made void.
fn open_headers(pool: &Pool, seqs: &[u64]) -> Result<(Vec<OpenSegment>, Void), WalError> {
    let mut live: Vec<OpenSegment> = Vec::new();
    let mut void = Vec::new();
    let mut reset_seen = false;
    for seq in seqs.iter().rev() {
        let name = segment_name(*seq);
        let (file, len_bytes) = pool.open_file(&name)?;
        if reset_seen {
            void.push((*seq, len_bytes));
            continue;
        }
        let segment = open_header(name, file, len_bytes, *seq)?;
        if let Some(next) = live.last() {
            if seq.checked_add(1) != Some(next.header.seq) {
                let missing = segment_name(next.header.seq - 1);
                return Err(WalError::corrupt(&missing, 0, "the segment is missing, though older ones exist"));
            }
            if segment.header.cluster_id != next.header.cluster_id {
                return Err(WalError::corrupt(&segment.name, 0, "the segment belongs to another cluster"));
            }
        }
        reset_seen = segment.header.reset;
        live.push(segment);
    }
    live.reverse();
    void.reverse();
    Ok((live, void))
}

fn open_header(name: String, file: Box<dyn DiskFile>, len_bytes: u64, seq: u64) -> Result<OpenSegment, WalError> {
    let mut page = [0u8; PAGE_BYTES as usize];
    let filled = file.pread(&mut page, 0).map_err(|error| WalError::io("pread", &name, error))?;
    let (header, chain) = match SegmentHeader::decode(&page[..filled]) {
        Ok(decoded) => decoded,
        Err(HeaderError::Version(found)) => return Err(WalError::Version { file: name, found }),
        Err(HeaderError::Damaged(reason)) => return Err(WalError::corrupt(&name, 0, reason)),
    };
    if header.seq != seq {
        return Err(WalError::corrupt(&name, 0, format!("this is segment {}, under the name of another", header.seq)));
    }
    if !len_bytes.is_multiple_of(PAGE_BYTES) || len_bytes > u64::from(u32::MAX) {
        return Err(WalError::corrupt(&name, len_bytes, "a segment is never so long"));
    }
    Ok(OpenSegment { name, file, len_bytes, header, chain })
}

fn take(state: &mut LogState, segment: &OpenSegment, scanned: &Scanned) -> Result<(), WalError> {
    let place = Place { segment: segment.header.seq, offset: scanned.offset, chain_before: scanned.chain_before };
    let hard_state = match scanned.header.kind {
        RecordKind::HardState => hard_state_of(scanned.header.id.term.0, &scanned.vote),
        _ => None,
    };
    // The bytes are as they were written, so this is no torn write: a block of another life, or an error of ours.
    state
        .apply(&scanned.header, hard_state, place)
        .map_err(|reason| WalError::corrupt(&segment.name, scanned.offset, reason))
}

/// Every record of a segment that has a successor was durable before that was made: anything else is damage.
fn check_sealed(segment: &OpenSegment, next: &SegmentHeader, state: &mut LogState) -> Result<(), WalError> {
    let end = u64::from(next.prev_end);
    let mut scanner =
        Scanner::new(segment.file.as_ref(), &segment.name, Seal::new(&segment.header), PAGE_BYTES, segment.chain);
    while scanner.offset < end {
        match scanner.step()? {
            Step::Record(scanned) => take(state, segment, &scanned)?,
            Step::Bad { reason, .. } => {
                let reason = format!("{reason}; the records of this segment go on to byte {end}");
                return Err(WalError::corrupt(&segment.name, scanner.offset, reason));
            }
        }
    }
    if scanner.offset != end || scanner.chain != next.prev_chain {
        return Err(WalError::corrupt(&segment.name, scanner.offset, "the next segment does not continue this one"));
    }
    if state.last != next.base || state.hard_state != next.hard_state {
        return Err(WalError::corrupt(&segment.name, scanner.offset, "the next segment starts from another state"));
    }
    Ok(())
}

/// What the newest segment holds.
struct Newest {
    /// Where its records end, and the chain value there.
    end: u64,
    chain: u32,
    /// The records themselves say that they were durable up to here.
    synced_to: u64,
    marked: bool,
    torn: Option<TornTail>,
}

fn check_newest(segment: &OpenSegment, state: &mut LogState) -> Result<Newest, WalError> {
    let mut scanner =
        Scanner::new(segment.file.as_ref(), &segment.name, Seal::new(&segment.header), PAGE_BYTES, segment.chain);
    let mut synced_to = PAGE_BYTES;
    let mut marked = true;
    let (reason, begun) = loop {
        match scanner.step()? {
            Step::Record(scanned) => {
                take(state, segment, &scanned)?;
                synced_to = synced_to.max(u64::from(scanned.header.synced_to));
                marked = matches!(scanned.header.kind, RecordKind::Mark | RecordKind::Reopen);
            }
            Step::Bad { reason, begun } => break (reason, begun),
        }
    };
    let end = scanner.offset;
    // A record behind the bad place proves by itself what was durable when it was written. Records of one batch,
    // and of batches before one sync, may reach the disk in any order: a hole among those is a torn tail. A hole
    // in front of a `synced_to` mark was filled once.
    let behind = scanner.search_ahead()?;
    let proven = behind.map_or(synced_to, |(mark, _)| synced_to.max(u64::from(mark)));
    if proven > end && !mutant!("log_damage_taken_for_a_torn_tail") {
        let reason = match behind {
            Some((_, offset)) => format!("{reason}, but a later record at byte {offset} proves it durable to {proven}"),
            None => format!("{reason}, but the records before prove it durable to {proven}"),
        };
        return Err(WalError::corrupt(&segment.name, end, reason));
    }
    let torn = (begun || behind.is_some()).then(|| TornTail { file: segment.name.clone(), offset: end, reason });
    Ok(Newest { end, chain: scanner.chain, synced_to, marked, torn })
}

/// Makes the end of the log durable for certain before anyone hears of it. What was read may be in the cache only:
/// the process may have died before its sync, or the sync failed and the kernel now takes the pages for clean, in
/// which case another sync alone would write nothing. So the same bytes are written again, and then synced.
/// A crash within changes nothing: every sector holds the same bytes before and after, up to `end`.
fn write_again(segment: &OpenSegment, synced_to: u64, end: u64) -> Result<(), WalError> {
    let name = &segment.name;
    let mut offset = synced_to - synced_to % PAGE_BYTES;
    let mut chunk = Vec::new();
    while offset < end {
        let data_bytes = (end - offset).min(COPY_BYTES) as usize;
        chunk.resize(data_bytes, 0);
        let filled = segment.file.pread(&mut chunk, offset).map_err(|error| WalError::io("pread", name, error))?;
        if filled != data_bytes {
            return Err(WalError::corrupt(name, offset, "the file became shorter while it was read"));
        }
        chunk.resize(data_bytes.next_multiple_of(PAGE_BYTES as usize), 0);
        segment.file.pwrite(&chunk, offset).map_err(|error| WalError::io("pwrite", name, error))?;
        offset += data_bytes as u64;
    }
    segment.file.sync_data().map_err(|error| WalError::io("fdatasync", name, error))
}
