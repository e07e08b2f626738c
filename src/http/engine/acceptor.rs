//! The accept thread (`http-accept`): takes new connections, finds those whose deadline has passed, and keeps the pool of
//! workers at its size. It never reads or writes a connection and never waits for a worker.

use super::budget::Charge;
use super::config::{WORKER_STACK_BYTES, count};
use super::conn::Conn;
use super::poller::Poller;
use super::pool::{Advice, LOOK_FAST_MS, Watch};
use super::shared::{Job, Shared};
use super::slots::{EVICT, LATE, NEVER, Phase, RESUME, Token};
use super::socket::Socket;
use super::worker::Worker;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often deadlines are looked at.
pub const SWEEP_MS: u64 = 200;
/// Connections accepted in a row before the clock is looked at.
const ACCEPTS_IN_A_ROW_MAX: usize = 64;
/// Pause when there is no descriptor for a new connection.
const BACK_OFF_MS: u64 = 10;
/// Idle connections closed at once to make room.
const EVICTIONS_MAX: usize = 8;
const WATCHER: u64 = u64::MAX;

pub struct Acceptor {
    shared: Arc<Shared>,
    listeners: Vec<TcpListener>,
    poller: Poller,
    /// A descriptor to give up when there is no other, so that a client that cannot be served is at least taken from the
    /// queue and let go.
    reserve: Option<OwnedFd>,
    watch: Watch,
    workers_named: usize,
    swept_ms: u64,
}

impl Acceptor {
    /// # Errors
    /// No descriptor left.
    pub fn new(shared: Arc<Shared>, listeners: Vec<TcpListener>) -> io::Result<Acceptor> {
        let poller = Poller::new()?;
        poller.add_waker(&shared.pool.watcher, WATCHER)?;
        for (number, listener) in listeners.iter().enumerate() {
            listener.set_nonblocking(true)?;
            poller.add_listener(listener, number as u64)?;
        }
        let reserve = Some(reserve_descriptor()?);
        Ok(Acceptor { shared, listeners, poller, reserve, watch: Watch::new(), workers_named: 0, swept_ms: 0 })
    }

    /// Starts the first workers.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start_workers(&mut self) -> io::Result<()> {
        for _ in 0..self.shared.config.workers_base.max(1) {
            self.start_worker()?;
        }
        Ok(())
    }

    /// Runs until the engine stops; the listeners close with it. Deadlines are kept up to the end.
    pub fn run(mut self) {
        while !self.shared.is_ending() {
            if self.shared.is_stopping() && !self.listeners.is_empty() {
                self.listeners.clear();
            }
            match self.poller.wait(self.timeout_ms()) {
                Some(event) if event.token != WATCHER => self.accept(event.token as usize),
                _ => {}
            }
            let now_ms = self.shared.now_ms();
            if now_ms >= self.swept_ms + SWEEP_MS {
                self.swept_ms = now_ms;
                self.sweep(now_ms);
            }
            self.look_at_pool(now_ms);
        }
    }

    fn timeout_ms(&self) -> Option<u64> {
        if Watch::is_fast(&self.shared.pool) {
            return Some(LOOK_FAST_MS);
        }
        let quiet = self.shared.slots.in_use() == 0
            && self.shared.pool.alive() == self.shared.config.workers_base.max(1)
            && !self.shared.is_stopping();
        if quiet { None } else { Some(SWEEP_MS) }
    }

    fn accept(&mut self, number: usize) {
        for _ in 0..ACCEPTS_IN_A_ROW_MAX {
            let Some(listener) = self.listeners.get(number) else { return };
            match acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((descriptor, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    self.welcome(TcpStream::from(descriptor), peer);
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                    count(&self.shared.counters.accept_errors);
                    self.make_room(number);
                    return;
                }
                // The client went away while it was waiting, or the network hiccupped: the next one may be fine.
                Err(_) => count(&self.shared.counters.accept_errors),
            }
        }
    }

    fn welcome(&mut self, stream: TcpStream, peer: Option<SocketAddr>) {
        let Some(peer) = peer else { return };
        let shared = &self.shared;
        count(&shared.counters.accepted);
        // Without it every answer of more than one segment waits for the client's delayed acknowledgement.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let is_surplus = shared.slots.in_use() >= shared.config.connections_max && self.evict(1) == 0;
        let Some(token) = shared.slots.take() else {
            count(&shared.counters.refused);
            return;
        };
        let mut conn = Box::new(Conn::new(Socket::Plain(stream), peer, token, Charge::none(&shared.memory)));
        conn.is_surplus = is_surplus;
        conn.deadline_ms = shared.now_ms() + shared.config.deadlines.idle_ms;
        let slot = shared.slots.at(token.index());
        let mut guard = slot.conn.lock();
        let conn = guard.insert(conn);
        conn.publish(slot);
        let added = shared.poller.add_connection(conn.socket.descriptor(), token.0);
        if added.is_err() {
            *guard = None;
            shared.slots.give_back(token);
            return;
        }
        drop(guard);
        if is_surplus {
            count(&shared.counters.refused);
            shared.post(Job::Signal(token, RESUME));
        }
    }

    /// No descriptor for the client that waits: close the longest idle ones, or let this one go.
    fn make_room(&mut self, number: usize) {
        if self.evict(EVICTIONS_MAX) == 0 {
            self.reserve = None;
            if let Some(listener) = self.listeners.get(number)
                && let Ok((stream, _)) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
            {
                count(&self.shared.counters.refused);
                drop(stream);
            }
        }
        std::thread::sleep(Duration::from_millis(BACK_OFF_MS));
        if self.reserve.is_none() {
            self.reserve = reserve_descriptor().ok();
        }
    }

    /// Asks the longest idle connections to close; gives their number.
    fn evict(&self, wanted: usize) -> usize {
        let mut oldest: Vec<(u64, Token)> = Vec::with_capacity(wanted + 1);
        for (token, slot) in self.shared.slots.each() {
            if !slot.is_phase(Phase::Idle) {
                continue;
            }
            // All idle connections have the same patience, so the first to end is the longest idle.
            let deadline_ms = slot.deadline_ms.load(Ordering::Acquire);
            let is_signalled = deadline_ms == NEVER;
            let is_older = oldest.len() < wanted || oldest.last().is_some_and(|last| deadline_ms < last.0);
            if is_older && !is_signalled {
                let at = oldest.partition_point(|other| other.0 <= deadline_ms);
                oldest.insert(at, (deadline_ms, token));
                oldest.truncate(wanted);
            }
        }
        for (deadline_ms, token) in &oldest {
            // Marks it as signalled. If a request comes first, the connection lives on and sets a new deadline.
            let deadline = &self.shared.slots.at(token.index()).deadline_ms;
            let _ = deadline.compare_exchange(*deadline_ms, NEVER, Ordering::AcqRel, Ordering::Relaxed);
            self.shared.post(Job::Signal(*token, EVICT));
        }
        oldest.len()
    }

    /// Signals every connection whose deadline has passed.
    fn sweep(&self, now_ms: u64) {
        for (token, slot) in self.shared.slots.each() {
            let deadline_ms = slot.deadline_ms.load(Ordering::Acquire);
            if deadline_ms > now_ms {
                continue;
            }
            // Once per deadline: the driver sets the next.
            let taken = slot.deadline_ms.compare_exchange(deadline_ms, NEVER, Ordering::AcqRel, Ordering::Relaxed);
            if taken.is_ok() {
                self.shared.post(Job::Signal(token, LATE));
            }
        }
    }

    fn look_at_pool(&mut self, now_ms: u64) {
        match self.watch.look(&self.shared.pool, now_ms) {
            Advice::Nothing => {}
            Advice::Start(missing) => {
                for _ in 0..missing {
                    if let Err(error) = self.start_worker() {
                        log::warn!("no further HTTP worker can be started: {error}");
                        return;
                    }
                }
            }
            Advice::End(surplus) => {
                for _ in 0..surplus {
                    self.shared.nudge_worker();
                }
            }
        }
    }

    fn start_worker(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let stat = shared.pool.started();
        let worker = Worker::new(shared, Arc::clone(&stat));
        self.workers_named += 1;
        let started = std::thread::Builder::new()
            .name(format!("http-{}", self.workers_named))
            .stack_size(WORKER_STACK_BYTES)
            .spawn(move || worker.run());
        match started {
            Ok(_) => {
                count(&self.shared.counters.workers_started);
                Ok(())
            }
            Err(error) => {
                self.shared.pool.ended(&stat);
                Err(error)
            }
        }
    }
}

fn reserve_descriptor() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}
