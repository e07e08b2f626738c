//! What bounds the engine: its configuration, its named limits and its counters. No thread of its own; no IO.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest request head in bytes: request line, header lines and the empty line. Beyond it: 431.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most header lines in one head. Beyond it: 431.
pub const HEADERS_MAX: usize = 128;
/// Trailer lines after a chunked body, all together, in bytes. Beyond it: 431.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Chunk extensions of one body, all together, in bytes. Beyond it: 400.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 4 * 1024;
/// A single chunk that claims more than this many bytes is nonsense rather than large: 400 instead of 413.
pub const CHUNK_BYTES_MAX: u64 = 1 << 40;
/// A body up to this many bytes stays in memory, a larger one goes to a scratch file.
pub const BODY_MEMORY_BYTES_MAX: usize = 256 * 1024;
/// Bytes of half-read heads, half-read bodies and half-written answers of all connections together. When they are used
/// up, bodies and answers go to scratch files and a connection that needs room for its head gets 503.
pub const BUFFERS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes that all scratch files may hold together; beyond it bodies get 503 and answers are cut.
pub const SCRATCH_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// What must stay free on the disk of the scratch files, looked at whenever a body has grown by [`DISK_LOOK_BYTES`]; else it
/// gets 503. The log and the database may lie on the same disk, and a node that finds it full must stop.
pub const DISK_FREE_BYTES_MIN: u64 = 128 * 1024 * 1024;
/// See [`DISK_FREE_BYTES_MIN`].
pub const DISK_LOOK_BYTES: u64 = 8 * 1024 * 1024;
/// Workers that may write to scratch files at one time: a disk that stalls must not stall everybody. Bodies wait for
/// their turn unread; an answer that finds neither memory nor a turn is cut off.
pub const DISK_WRITERS_MAX: usize = 3;
/// What is read and thrown away after a refusal, so that the client sees the answer instead of a reset.
pub const LINGER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Requests that one connection may have answered in a row before others get their turn.
pub const TURN_REQUESTS_MAX: u32 = 32;
/// Reads that one connection may do in a row before others get their turn.
pub const TURN_READS_MAX: u32 = 32;
/// Connections beyond `connections_max` that are told 503; further ones are closed without a word.
pub const REFUSALS_MAX: usize = 32;
/// An answer up to this many bytes is copied behind its head, so that both leave in one piece.
pub const ANSWER_COPY_BYTES_MAX: usize = 16 * 1024;
/// Stack of a worker in bytes: SQLite and JSON run on it.
pub const WORKER_STACK_BYTES: usize = 8 * 1024 * 1024;
/// Descriptors kept free for everything in the process that is not a client's connection.
pub const DESCRIPTORS_RESERVED: usize = 48;

const _: () = assert!(BODY_MEMORY_BYTES_MAX <= BUFFERS_BYTES_MAX);
const _: () = assert!(HEAD_BYTES_MAX <= BUFFERS_BYTES_MAX);
const _: () = assert!(ANSWER_COPY_BYTES_MAX <= HEAD_BYTES_MAX);

/// How the engine runs. `Default` is meant for production; tests shorten the deadlines.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Workers that are to be free of blocked handlers at any time; more are added while handlers block.
    pub workers_base: usize,
    /// The most workers, blocked ones included.
    pub workers_max: usize,
    /// How long there must have been more workers than needed before they end, in milliseconds.
    pub workers_surplus_ms: u64,
    /// The most connections; a further one replaces the longest idle one, or is told 503.
    pub connections_max: usize,
    /// The longest request body in bytes. Beyond it: 413.
    pub body_bytes_max: u64,
    /// Where bodies and answers that do not fit in memory go, as unlinked files.
    pub scratch_dir: PathBuf,
    pub deadlines: Deadlines,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        EngineConfig {
            workers_base: cores.clamp(2, 16),
            workers_max: (cores * 8).clamp(64, 256),
            workers_surplus_ms: 5_000,
            connections_max: 10_000,
            body_bytes_max: 256 * 1024 * 1024,
            scratch_dir: std::env::temp_dir(),
            deadlines: Deadlines::default(),
        }
    }
}

/// How long a client may take. All checked by a sweep, so they fire up to `SWEEP_MS` late.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From the first byte of a head to its end.
    pub head_ms: u64,
    /// Between two requests, and before the first.
    pub idle_ms: u64,
    /// A transfer (body in, answer out) is looked at once per window ...
    pub window_ms: u64,
    /// ... and must have moved this many bytes in it, or be done.
    pub window_bytes: u64,
    /// From the first byte of an answer held in memory or in a scratch file to its last.
    pub answer_ms: u64,
    /// The same for a streamed answer.
    pub stream_ms: u64,
    /// How long input is thrown away after a refusal.
    pub linger_ms: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            head_ms: 15_000,
            idle_ms: 120_000,
            window_ms: 20_000,
            window_bytes: 16 * 1024,
            answer_ms: 300_000,
            stream_ms: 3_600_000,
            linger_ms: 3_000,
        }
    }
}

/// What happened since the start. Read with [`Counters::snapshot`].
#[derive(Default, Debug)]
pub struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) accept_errors: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) bad_requests: AtomicU64,
    pub(super) deadlines_missed: AtomicU64,
    pub(super) handler_panics: AtomicU64,
    pub(super) unanswered: AtomicU64,
    pub(super) spooled: AtomicU64,
    pub(super) cut: AtomicU64,
    pub(super) workers_started: AtomicU64,
    pub(super) wakes: AtomicU64,
}

/// A reading of `Counters`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterValues {
    /// Connections accepted.
    pub accepted: u64,
    /// Failed accepts, e.g. at the descriptor limit.
    pub accept_errors: u64,
    /// Connections told 503, or closed, because there were too many.
    pub refused: u64,
    /// Idle connections closed to make room.
    pub evicted: u64,
    /// Requests handed to the handler.
    pub requests: u64,
    /// Requests that the engine itself answered with a 4xx or 5xx.
    pub bad_requests: u64,
    /// Connections ended because the client was too slow.
    pub deadlines_missed: u64,
    /// Handlers, or the making of their answers, that panicked.
    pub handler_panics: u64,
    /// Responders dropped without an answer.
    pub unanswered: u64,
    /// Bodies and answers that went to a scratch file.
    pub spooled: u64,
    /// Answers that were cut off in the middle.
    pub cut: u64,
    /// Worker threads started so far.
    pub workers_started: u64,
    /// Wake-ups written for answers that came from other threads.
    pub wakes: u64,
}

impl Counters {
    /// All counters; each is exact, together they are not one instant.
    pub fn snapshot(&self) -> CounterValues {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CounterValues {
            accepted: get(&self.accepted),
            accept_errors: get(&self.accept_errors),
            refused: get(&self.refused),
            evicted: get(&self.evicted),
            requests: get(&self.requests),
            bad_requests: get(&self.bad_requests),
            deadlines_missed: get(&self.deadlines_missed),
            handler_panics: get(&self.handler_panics),
            unanswered: get(&self.unanswered),
            spooled: get(&self.spooled),
            cut: get(&self.cut),
            workers_started: get(&self.workers_started),
            wakes: get(&self.wakes),
        }
    }
}

/// Counts one event.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
