//! What the engine's threads share: the table of connections, the queue of jobs for workers, the limits, the handler.
//!
//! The job queue is how other threads reach the workers. It needs no bound of its own: it holds at most one answer and a
//! few wake-ups per connection, and connections are bounded.

use super::Handler;
use super::budget::{Budget, Scratch};
use super::config::{
    BUFFERS_BYTES_MAX, Counters, DISK_WRITERS_MAX, EngineConfig, REFUSALS_MAX, SCRATCH_BYTES_MAX, count,
};
use super::poller::{Poller, Waker};
use super::pool::Pool;
use super::responder::Answer;
use super::slots::{RESUME, Slots, Token};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The poller's token of the job queue's waker; no connection has it.
pub const JOBS: u64 = u64::MAX;

pub enum Job {
    /// An answer for the request that the connection is waiting with.
    Answer(Token, Answer),
    /// Signals for a connection.
    Signal(Token, u32),
}

pub struct Shared {
    pub config: EngineConfig,
    pub counters: Arc<Counters>,
    pub handler: Arc<dyn Handler>,
    pub poller: Poller,
    pub slots: Slots,
    pub memory: Arc<Budget>,
    pub scratch: Scratch,
    pub pool: Pool,
    /// Streams being written.
    pub streams: Gate,
    /// Writes to scratch files.
    pub disk: Gate,
    jobs: Mutex<VecDeque<Job>>,
    /// Somebody is on the way to the job queue: no need to wake.
    coming: AtomicBool,
    jobs_waker: Waker,
    /// No new requests.
    pub stopping: AtomicBool,
    /// Nothing more is answered.
    pub cutting: AtomicBool,
    /// Threads end.
    pub ending: AtomicBool,
    started: Instant,
}

impl Shared {
    /// # Errors
    /// No descriptor left.
    pub fn new(config: EngineConfig, handler: Arc<dyn Handler>) -> io::Result<Shared> {
        let poller = Poller::new()?;
        let jobs_waker = Waker::new()?;
        poller.add_waker(&jobs_waker, JOBS)?;
        Ok(Shared {
            counters: Arc::new(Counters::default()),
            handler,
            poller,
            slots: Slots::new(config.connections_max + REFUSALS_MAX),
            memory: Budget::new(BUFFERS_BYTES_MAX as u64),
            scratch: Scratch::new(config.scratch_dir.clone(), SCRATCH_BYTES_MAX),
            pool: Pool::new(&config)?,
            streams: Gate::new((config.workers_max / 2).max(1)),
            disk: Gate::new(DISK_WRITERS_MAX),
            jobs: Mutex::new(VecDeque::new()),
            coming: AtomicBool::new(false),
            jobs_waker,
            stopping: AtomicBool::new(false),
            cutting: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            started: Instant::now(),
            config,
        })
    }

    /// Milliseconds since the engine's start.
    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Queues a job for the workers. Costs a system call only when no worker is on its way to the queue.
    pub fn post(&self, job: Job) {
        self.jobs.lock().push_back(job);
        self.summon();
    }

    pub fn take_job(&self) -> Option<Job> {
        self.jobs.lock().pop_front()
    }

    /// Makes sure that a worker comes to the job queue.
    fn summon(&self) {
        if !self.coming.swap(true, Ordering::AcqRel) {
            count(&self.counters.wakes);
            self.jobs_waker.wake();
        }
    }

    /// The worker at the queue found it empty, or has to turn to something that may block. If jobs are left (or came
    /// meanwhile) another worker is called.
    pub fn leave_jobs(&self) {
        self.coming.store(false, Ordering::SeqCst);
        if !self.jobs.lock().is_empty() {
            self.summon();
        }
    }

    /// Wakes one worker whatever it waits for, to look at the pool's state.
    pub fn nudge_worker(&self) {
        self.jobs_waker.wake();
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub fn is_cutting(&self) -> bool {
        self.cutting.load(Ordering::Acquire)
    }

    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }
}

/// Bounds how many connections may do at one time what can hold a worker for long: stream to a slow reader, write to a
/// slow disk.
pub struct Gate {
    max: usize,
    state: Mutex<GateState>,
}

struct GateState {
    inside: usize,
    waiting: Vec<Token>,
}

impl Gate {
    fn new(max: usize) -> Gate {
        Gate { max, state: Mutex::new(GateState { inside: 0, waiting: Vec::new() }) }
    }

    /// May the caller go in? Needs a [`Shared::leave_gate`] later if so.
    pub fn try_enter(&self) -> bool {
        let mut state = self.state.lock();
        let is_free = state.inside < self.max;
        state.inside += usize::from(is_free);
        is_free
    }

    /// The same; if not, the connection is signalled `RESUME` when it is worth asking again.
    pub fn enter_or_wait(&self, token: Token) -> bool {
        let mut state = self.state.lock();
        let is_free = state.inside < self.max;
        state.inside += usize::from(is_free);
        if !is_free {
            state.waiting.push(token);
        }
        is_free
    }
}

impl Shared {
    /// Somebody came out of a gate: all that wait ask again, in their order. (Some may be gone by now, so that waking only
    /// one could wake nobody.)
    pub fn leave_gate(&self, gate: &Gate) {
        let waiting = {
            let mut state = gate.state.lock();
            state.inside -= 1;
            std::mem::take(&mut state.waiting)
        };
        for token in waiting {
            self.post(Job::Signal(token, RESUME));
        }
    }
}
