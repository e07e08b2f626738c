//! Frames: how every message between nodes stands in the byte stream. Run by the threads of connections.
//!
//! Reading takes bytes from outside: it never panics, and allocates in proportion to the bytes that have arrived, never to
//! what a header promises.
//!
//! ```text
//! frame  = header (44 bytes), payload
//! header = magic 4, version u8 = 1, kind u8, zero u16, length of payload u32, cluster id 16 (zero: of no cluster), tag u64,
//!          CRC32C of payload u32, CRC32C of the 40 bytes before u32
//! ```
//!
//! Integers are little-endian. The header has a checksum of its own, so that a corrupt length is never believed. Its layout
//! stays the same in all versions of the protocol: a node can so tell another one that it is too old.

use super::limits::{BUFFER_KEPT_BYTES, FRAME_BYTES_PER_S_MIN, FRAME_STALL_MAX, INCOMING_BYTES_MAX, READ_BUFFER_BYTES};
use raft::ClusterId;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub const HEADER_BYTES: usize = 44;
const MAGIC: [u8; 4] = *b"\xf5FRL";
const VERSION: u8 = 1;
/// Where the header's own checksum stands.
const CHECKED_BYTES: usize = HEADER_BYTES - 4;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Hello,
    Welcome,
    Refusal,
    Message,
    Call,
    Answer,
    SnapshotOpen,
    SnapshotResume,
    SnapshotChunk,
    SnapshotChunkZstd,
    SnapshotAck,
    SnapshotEnd,
    SnapshotDone,
    SnapshotFailed,
    KeepAlive,
}

const KINDS: [Kind; 15] = [
    Kind::Hello,
    Kind::Welcome,
    Kind::Refusal,
    Kind::Message,
    Kind::Call,
    Kind::Answer,
    Kind::SnapshotOpen,
    Kind::SnapshotResume,
    Kind::SnapshotChunk,
    Kind::SnapshotChunkZstd,
    Kind::SnapshotAck,
    Kind::SnapshotEnd,
    Kind::SnapshotDone,
    Kind::SnapshotFailed,
    Kind::KeepAlive,
];

impl Kind {
    /// The byte on the wire: the place in the list, from 1 on.
    fn byte(self) -> u8 {
        self as u8 + 1
    }

    fn from_byte(byte: u8) -> Option<Kind> {
        KINDS.get(usize::from(byte).checked_sub(1)?).copied()
    }
}

/// A header whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    /// Bytes of payload.
    pub length: usize,
    /// The cluster that the sender belonged to when it wrote this.
    pub cluster: Option<ClusterId>,
    /// Whatever the kind makes of it: a call's number, an offset.
    pub tag: u64,
    payload_crc: u32,
}

/// A whole frame, in the reader's buffer.
#[derive(Debug)]
pub struct Frame<'a> {
    pub kind: Kind,
    pub cluster: Option<ClusterId>,
    pub tag: u64,
    pub payload: &'a [u8],
}

/// Why there is no frame.
#[derive(Debug)]
pub enum FrameError {
    /// The other end closed the connection between two frames.
    Closed,
    /// It closed in the middle of a frame.
    Cut,
    /// Nothing came until the deadline.
    Idle,
    /// A frame began and did not go on.
    Stalled,
    /// Not our protocol at all.
    Foreign,
    Version(u8),
    Kind(u8),
    HeaderChecksum,
    PayloadChecksum,
    TooLong {
        length: usize,
        max: usize,
    },
    /// All frames under way together hold too much memory.
    NoRoom,
    Io(io::Error),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Closed => f.write_str("the other end closed the connection"),
            FrameError::Cut => f.write_str("the connection ended in the middle of a frame"),
            FrameError::Idle => f.write_str("nothing came in time"),
            FrameError::Stalled => f.write_str("a frame began and did not go on"),
            FrameError::Foreign => f.write_str("the other end does not speak the protocol between nodes"),
            FrameError::Version(version) => write!(f, "a frame has the unknown version {version}"),
            FrameError::Kind(kind) => write!(f, "a frame has the unknown kind {kind}"),
            FrameError::HeaderChecksum => f.write_str("the header of a frame is damaged"),
            FrameError::PayloadChecksum => f.write_str("the payload of a frame is damaged"),
            FrameError::TooLong { length, max } => write!(f, "a frame of {length} bytes, at most {max} are allowed"),
            FrameError::NoRoom => f.write_str("too much is being received at once"),
            FrameError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FrameError {}

/// Begins a frame at the end of `out`; the payload is to be appended, then `finish` called with the returned place.
pub fn begin(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.resize(at + HEADER_BYTES, 0);
    at
}

/// Writes the header of the frame that began at `at` and ends where `out` ends.
pub fn finish(out: &mut [u8], at: usize, kind: Kind, cluster: Option<ClusterId>, tag: u64) {
    let (header, payload) = out[at..].split_at_mut(HEADER_BYTES);
    let crc = crc32c::crc32c(payload);
    write_header(header, kind, payload.len(), cluster, tag, crc);
}

fn write_header(out: &mut [u8], kind: Kind, length: usize, cluster: Option<ClusterId>, tag: u64, payload_crc: u32) {
    let length = u32::try_from(length).expect("every kind of frame is bounded far below 4 GiB");
    out[0..4].copy_from_slice(&MAGIC);
    out[4] = VERSION;
    out[5] = kind.byte();
    out[6..8].copy_from_slice(&[0; 2]);
    out[8..12].copy_from_slice(&length.to_le_bytes());
    out[12..28].copy_from_slice(&cluster.map_or(0, |id| id.0).to_le_bytes());
    out[28..36].copy_from_slice(&tag.to_le_bytes());
    out[36..40].copy_from_slice(&payload_crc.to_le_bytes());
    let crc = crc32c::crc32c(&out[..CHECKED_BYTES]);
    out[40..44].copy_from_slice(&crc.to_le_bytes());
}

/// Appends a whole frame to `out`.
pub fn put(out: &mut Vec<u8>, kind: Kind, cluster: Option<ClusterId>, tag: u64, payload: &[u8]) {
    let at = begin(out);
    out.extend_from_slice(payload);
    finish(out, at, kind, cluster, tag);
}

/// The header of a frame whose payload is written apart, in `parts` one after the other.
pub fn header_of(kind: Kind, cluster: Option<ClusterId>, tag: u64, parts: &[&[u8]]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let crc = parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
    write_header(&mut header, kind, parts.iter().map(|part| part.len()).sum(), cluster, tag, crc);
    header
}

/// # Errors
/// It is no header of ours, or damaged.
pub fn parse_header(bytes: &[u8; HEADER_BYTES]) -> Result<Header, FrameError> {
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were taken"));
    if bytes[0..4] != MAGIC {
        return Err(FrameError::Foreign);
    }
    if u32_at(40) != crc32c::crc32c(&bytes[..CHECKED_BYTES]) {
        return Err(FrameError::HeaderChecksum);
    }
    if bytes[4] != VERSION || bytes[6..8] != [0; 2] {
        return Err(FrameError::Version(bytes[4]));
    }
    let kind = Kind::from_byte(bytes[5]).ok_or(FrameError::Kind(bytes[5]))?;
    let length = usize::try_from(u32_at(8)).map_err(|_| FrameError::TooLong { length: usize::MAX, max: 0 })?;
    let cluster = u128::from_le_bytes(bytes[12..28].try_into().expect("sixteen bytes were taken"));
    let tag = u64::from_le_bytes(bytes[28..36].try_into().expect("eight bytes were taken"));
    let cluster = (cluster != 0).then_some(ClusterId(cluster));
    Ok(Header { kind, length, cluster, tag, payload_crc: u32_at(36) })
}

/// Bytes that large frames hold while they are received, over all connections.
#[derive(Debug, Default)]
pub struct IncomingBytes(AtomicUsize);

impl IncomingBytes {
    fn take(&self, bytes: usize) -> bool {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= INCOMING_BYTES_MAX;
        if !fits {
            self.0.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

/// Reads frames from one connection.
pub struct FrameReader {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The payload of a frame that does not fit the buffer.
    large: Vec<u8>,
    large_counted: usize,
    incoming: Arc<IncomingBytes>,
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        self.forget_large();
    }
}

impl FrameReader {
    pub fn new(incoming: Arc<IncomingBytes>) -> FrameReader {
        let buffer = vec![0; READ_BUFFER_BYTES].into_boxed_slice();
        FrameReader { buffer, start: 0, end: 0, large: Vec::new(), large_counted: 0, incoming }
    }

    /// The next frame. Waits for its first byte until `deadline`; from then on it must keep going. `max` says how long the
    /// payload may be, by the header. A read of `source` may time out (`WouldBlock`), so that deadlines are looked at.
    ///
    /// # Errors
    /// After any error but `Idle` the connection is of no more use.
    pub fn next(
        &mut self,
        mut source: impl Read,
        deadline: Instant,
        max: impl Fn(&Header) -> usize,
    ) -> Result<Frame<'_>, FrameError> {
        self.forget_large();
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            let got = read_until(&mut source, &mut self.buffer, deadline, FrameError::Idle)?;
            if got == 0 {
                return Err(FrameError::Closed);
            }
            self.end = got;
        }
        let stalled = Instant::now() + FRAME_STALL_MAX;
        self.fill(&mut source, HEADER_BYTES, stalled)?;
        let bytes = &self.buffer[self.start..self.start + HEADER_BYTES];
        let header = parse_header(bytes.try_into().expect("a header's bytes were filled in"))?;
        let max = max(&header);
        if header.length > max {
            return Err(FrameError::TooLong { length: header.length, max });
        }
        let whole = HEADER_BYTES + header.length;
        let payload = if whole <= self.buffer.len() {
            self.fill(&mut source, whole, stalled)?;
            let payload = self.start + HEADER_BYTES..self.start + whole;
            self.start += whole;
            &self.buffer[payload]
        } else {
            self.fill_large(&mut source, header.length)?;
            &self.large[..]
        };
        if crc32c::crc32c(payload) != header.payload_crc {
            return Err(FrameError::PayloadChecksum);
        }
        Ok(Frame { kind: header.kind, cluster: header.cluster, tag: header.tag, payload })
    }

    /// Whether the next frame has at least begun to arrive.
    pub fn has_more(&self) -> bool {
        self.start < self.end
    }

    /// Has at least `wanted` bytes in the buffer.
    fn fill(&mut self, source: &mut impl Read, wanted: usize, deadline: Instant) -> Result<(), FrameError> {
        if self.start + wanted > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < wanted {
            let got = read_until(source, &mut self.buffer[self.end..], deadline, FrameError::Stalled)?;
            if got == 0 {
                return Err(FrameError::Cut);
            }
            self.end += got;
            // Looked at here too: a byte now and then would keep every single read from timing out.
            if self.end - self.start < wanted && Instant::now() >= deadline {
                return Err(FrameError::Stalled);
            }
        }
        Ok(())
    }

    /// Reads a long payload. The room for it grows with what has arrived: at most twice that and one step.
    fn fill_large(&mut self, source: &mut impl Read, length: usize) -> Result<(), FrameError> {
        let at_rate = Duration::from_secs(length as u64 / FRAME_BYTES_PER_S_MIN);
        let whole_by = Instant::now() + FRAME_STALL_MAX + at_rate;
        let from = self.start + HEADER_BYTES;
        let mut filled = 0;
        let had = self.end - from;
        self.grow_large(length.min(had + READ_BUFFER_BYTES))?;
        self.large[..had].copy_from_slice(&self.buffer[from..self.end]);
        filled += had;
        (self.start, self.end) = (0, 0);
        while filled < length {
            if filled == self.large.len() {
                self.grow_large(length.min(2 * filled))?;
            }
            let deadline = whole_by.min(Instant::now() + FRAME_STALL_MAX);
            let got = read_until(source, &mut self.large[filled..], deadline, FrameError::Stalled)?;
            if got == 0 {
                return Err(FrameError::Cut);
            }
            filled += got;
            if filled < length && Instant::now() >= whole_by {
                return Err(FrameError::Stalled);
            }
        }
        Ok(())
    }

    fn grow_large(&mut self, bytes: usize) -> Result<(), FrameError> {
        let more = bytes - self.large.len();
        if !self.incoming.take(more) {
            return Err(FrameError::NoRoom);
        }
        self.large_counted += more;
        self.large.try_reserve_exact(more).map_err(|_| FrameError::NoRoom)?;
        self.large.resize(bytes, 0);
        Ok(())
    }

    fn forget_large(&mut self) {
        if self.large.capacity() > BUFFER_KEPT_BYTES {
            self.large = Vec::new();
        }
        self.large.clear();
        self.incoming.0.fetch_sub(self.large_counted, Ordering::Relaxed);
        self.large_counted = 0;
    }
}

/// One read that brings something, or the end (0).
fn read_until(
    source: &mut impl Read,
    room: &mut [u8],
    deadline: Instant,
    late: FrameError,
) -> Result<usize, FrameError> {
    loop {
        match source.read(room) {
            Ok(got) => return Ok(got),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut if Instant::now() < deadline => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Err(late),
                io::ErrorKind::Interrupted => {}
                _ => return Err(FrameError::Io(error)),
            },
        }
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
