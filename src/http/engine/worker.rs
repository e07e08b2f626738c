//! A worker thread (`http-N`): takes the next readiness event or queued answer and drives the connection that it
//! concerns, including the handler's call. It may block in handlers and streams; never while others depend on it, see
//! `pool`.

use super::budget::Charge;
use super::config::HEAD_BYTES_MAX;
use super::conn::Step;
use super::output::{Output, Progress};
use super::pool::Stat;
use super::reply::DateCache;
use super::shared::{JOBS, Job, Shared};
use super::slots::{ANSWERED, BROKEN, HANGUP, READABLE, RESUME, Slot, Token, WRITABLE};
use super::socket::Socket;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Jobs done before looking at the poller again.
const JOBS_IN_A_ROW_MAX: usize = 64;

pub struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) stat: Arc<Stat>,
    /// What the connection being driven has received; lent to it, so that idle connections need no buffer.
    pub(super) input: Input,
    /// Where answers are encoded.
    pub(super) output: Vec<u8>,
    pub(super) date: DateCache,
    /// The one who was called to the job queue; has to call another before blocking.
    at_jobs: bool,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, stat: Arc<Stat>) -> Worker {
        Worker {
            shared,
            stat,
            input: Input::new(),
            output: Vec::with_capacity(4096),
            date: DateCache::default(),
            at_jobs: false,
        }
    }

    /// Works until the engine ends or the pool has one worker too many.
    pub(super) fn run(mut self) {
        self.stat.runs_here();
        loop {
            if self.shared.is_ending() || self.shared.pool.may_retire() {
                break;
            }
            let Some(event) = self.shared.poller.wait(None) else { continue };
            if event.token == JOBS {
                self.run_jobs();
                continue;
            }
            let mut signals = 0;
            for (is_set, signal) in
                [(event.readable, READABLE), (event.writable, WRITABLE), (event.hangup, HANGUP), (event.broken, BROKEN)]
            {
                signals |= if is_set { signal } else { 0 };
            }
            self.signal(Token(event.token), signals);
        }
        // Whoever called this worker may have meant somebody who stays.
        self.shared.leave_jobs();
        self.shared.pool.ended(&self.stat);
    }

    fn run_jobs(&mut self) {
        self.at_jobs = true;
        // In portions: what waits in the poller must have its turn as well.
        for _ in 0..JOBS_IN_A_ROW_MAX {
            let Some(job) = self.shared.take_job() else { break };
            let yielded = matches!(job, Job::Signal(_, RESUME));
            match job {
                Job::Answer(token, answer) => {
                    if self.shared.slots.deliver(token, answer) {
                        self.signal(token, ANSWERED);
                    }
                }
                Job::Signal(token, signals) => self.signal(token, signals),
            }
            if yielded {
                break;
            }
        }
        self.at_jobs = false;
        self.shared.leave_jobs();
    }

    /// Leaves signals at a connection, and drives it unless somebody does already.
    fn signal(&mut self, token: Token, signals: u32) {
        let shared = Arc::clone(&self.shared);
        let slot = shared.slots.at(token.index());
        if slot.generation() == token.generation() && slot.signal(signals) {
            self.drive(slot);
        }
    }

    /// Drives the connection in a slot that this worker owns.
    fn drive(&mut self, slot: &Slot) {
        let mut guard = slot.conn.lock();
        loop {
            let signals = slot.take_signals();
            if let Some(conn) = guard.as_mut() {
                let token = conn.token;
                let driven = catch_unwind(AssertUnwindSafe(|| conn.drive(self, slot, signals)));
                let step = driven.unwrap_or_else(|_| {
                    log::error!("the HTTP engine failed on a connection of {}", conn.peer());
                    self.input.clear();
                    Step::Close
                });
                match step {
                    Step::Again | Step::Park => conn.publish(slot),
                    Step::Yield => {
                        conn.publish(slot);
                        self.shared.post(Job::Signal(token, RESUME));
                    }
                    Step::Close => {
                        self.input.clear();
                        let closed = guard.take();
                        self.shared.slots.give_back(token);
                        drop(closed);
                    }
                }
            }
            if slot.leave() {
                return;
            }
        }
    }

    /// What follows may block.
    pub(super) fn enter_handler(&mut self) {
        if self.at_jobs {
            self.at_jobs = false;
            self.shared.leave_jobs();
        }
        self.shared.pool.enter(&self.stat);
    }

    /// Writes a kept answer; the scratch file that it may come from can block.
    pub(super) fn write_kept(&mut self, socket: &mut Socket, output: &mut Output) -> io::Result<Progress> {
        self.enter_handler();
        let progress = output.write(socket);
        self.leave_handler();
        progress
    }

    pub(super) fn leave_handler(&mut self) {
        self.shared.pool.leave(&self.stat);
    }
}

/// Received bytes, up to one head long.
pub struct Input {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    pub fn new() -> Input {
        Input { bytes: vec![0; HEAD_BYTES_MAX].into_boxed_slice(), start: 0, end: 0 }
    }

    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.end, "more was used than received");
        if self.start == self.end {
            self.clear();
        }
    }

    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Room for more; never empty while the users of this buffer refuse what fills it.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        assert!(self.end < self.bytes.len(), "a full buffer was not refused");
        &mut self.bytes[self.end..]
    }

    pub fn add(&mut self, count: usize) {
        self.end += count;
        assert!(self.end <= self.bytes.len(), "more was received than there was room for");
    }

    /// Takes over what a connection had parked. The charge stays until it parks again.
    pub fn load(&mut self, parked: &mut Vec<u8>) {
        assert!(self.start == self.end, "two connections at one buffer");
        if !parked.is_empty() {
            self.bytes[..parked.len()].copy_from_slice(parked);
            self.start = 0;
            self.end = parked.len();
            *parked = Vec::new();
        }
    }

    /// Parks what is left. `false`: there is no memory left for it.
    pub fn unload(&mut self, parked: &mut Vec<u8>, charge: &mut Charge) -> bool {
        let fits = charge.set(self.filled().len() as u64);
        if fits && self.start != self.end {
            *parked = self.filled().to_vec();
        }
        self.clear();
        fits
    }
}
