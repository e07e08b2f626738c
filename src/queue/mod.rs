//! Queued writes (spec 6): many clients' statements gathered into one request.
//!
//! The queue thread gathers, has one batch under way at a time, retries what may succeed later, and wakes those who
//! wait. It never blocks on the log: the answer comes back through its own channel.
//!
//! Where another node leads, it is asked in the name of all whose writes are in the batch. Should it not let all of them write, then
//! each gets a batch of their own, so that one caller's refusal costs nobody else's writes.

mod thread;

use crate::auth::Credentials;
use crate::command::{Parameter, Statement, Value};
use crate::coordinator::{Coordinator, Error};
use crate::limits::{Room, RoomTaken};
use crate::node::spawn::spawn_critical;
use crate::vars;
use crossbeam_channel::{SendTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use thread::{QueueInput, QueueThread};

/// How long [`QueueHandle::hurry`] waits for room in the queue.
const HURRY_TIMEOUT: Duration = Duration::from_secs(1);

/// Gets the sequence number of a queued request.
pub type QueueDone = Box<dyn FnOnce(Result<u64, Error>) + Send>;

/// How requests are gathered (`-write-queue-*`).
#[derive(Clone, Debug)]
pub struct QueueOptions {
    /// Requests that wait at most; callers block beyond.
    pub capacity: usize,
    /// Requests in one batch.
    pub batch_size: usize,
    /// How long the first request of a batch waits for others; zero: until the batch is full.
    pub timeout: Duration,
    /// One transaction around each batch.
    pub transaction: bool,
}

/// Bytes of SQL, values and credentials that all queued requests may have together. A single larger request is taken when the queue
/// is otherwise empty.
const QUEUED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A request in the queue.
struct Queued {
    sequence: u64,
    /// Whom the leader must permit it, should another node lead.
    caller: Credentials,
    statements: Vec<Statement>,
    waiter: Option<Waiter>,
    /// Given back when the request is written, or dropped.
    _room: RoomTaken,
}

fn bytes_of(statements: &[Statement]) -> usize {
    let of_value = |value: &Value| match value {
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len(),
        _ => 0,
    };
    let of_parameter = |p: &Parameter| size_of::<Parameter>() + of_value(&p.value);
    let of_statement =
        |s: &Statement| size_of::<Statement>() + s.sql.len() + s.parameters.iter().map(of_parameter).sum::<usize>();
    statements.iter().map(of_statement).sum()
}

struct Waiter {
    done: QueueDone,
    deadline: Instant,
}

/// Puts requests into the queue. Cheap to clone.
#[derive(Clone)]
pub struct QueueHandle {
    queue_tx: Sender<QueueInput>,
    /// The last number given out. Held while sending, so that numbers rise in the order of the queue.
    sequence: Arc<Mutex<u64>>,
    written: Arc<AtomicU64>,
    room: Arc<Room>,
}

impl QueueHandle {
    /// Starts the queue thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(coordinator: Arc<Coordinator>, options: QueueOptions) -> io::Result<(QueueHandle, JoinHandle<()>)> {
        let (queue_tx, inbox) = bounded(options.capacity.max(1));
        let written = Arc::new(AtomicU64::new(0));
        let thread = QueueThread::new(coordinator, options, inbox, Arc::clone(&written));
        let join = spawn_critical("queue", move || thread.run())?;
        let start = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        Ok((QueueHandle { queue_tx, sequence: Arc::new(Mutex::new(start)), written, room: Arc::default() }, join))
    }

    /// Queues one request. Blocks while the queue is full, for `timeout` at most. `done`: see `Coordinator::enqueue`.
    pub fn push(
        &self,
        caller: Credentials,
        statements: Vec<Statement>,
        wait: bool,
        timeout: Duration,
        done: QueueDone,
    ) {
        let deadline = Instant::now() + timeout;
        let bytes = caller.heap_bytes() + bytes_of(&statements);
        let Some(room) = self.room.take(bytes, QUEUED_BYTES_MAX, deadline) else {
            return done(Err(Error::QueueWaitTimeout));
        };
        let Some(mut last) = self.sequence.try_lock_until(deadline) else {
            return done(Err(Error::QueueWaitTimeout));
        };
        let sequence = *last + 1;
        vars::queue::OBJECTS_RX.add(1);
        let (waiter, at_once) = match wait {
            true => (Some(Waiter { done, deadline }), None),
            false => (None, Some(done)),
        };
        let queued = Queued { sequence, caller, statements, waiter, _room: room };
        let sent = self.queue_tx.send_deadline(QueueInput::Push(queued), deadline);
        if sent.is_ok() {
            *last = sequence;
        }
        drop(last);
        let (error, refused) = match sent {
            Ok(()) => (None, None),
            Err(SendTimeoutError::Timeout(input)) => (Some(Error::QueueWaitTimeout), Some(input)),
            Err(SendTimeoutError::Disconnected(input)) => (Some(Error::QueueClosed), Some(input)),
        };
        let waiting = match refused {
            Some(QueueInput::Push(queued)) => queued.waiter.map(|waiter| waiter.done),
            _ => None,
        };
        if let Some(done) = at_once.or(waiting) {
            done(error.map_or(Ok(sequence), Err));
        }
    }

    /// The last sequence number whose batch is written; 0 at first.
    pub fn written_sequence(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// From now on requests are written as they come: a node that stops must not let those who wait for a batch wait on.
    pub fn hurry(&self) {
        // A queue that is full and cannot be written must not hold up the stop.
        let _ = self.queue_tx.send_timeout(QueueInput::Hurry, HURRY_TIMEOUT);
    }

    /// Writes what is queued, then ends the thread; what comes later is refused.
    pub fn stop(&self) {
        let _ = self.queue_tx.send(QueueInput::Stop);
    }
}
