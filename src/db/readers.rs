//! The pool of read-only connections: who reads, on which connection, until when.
//!
//! Called from any thread (HTTP workers, peers' connections, background tasks); a call blocks until its result is in the
//! sink, within its deadline. It must never let a read run without an end (a snapshot that is held keeps the WAL from
//! being reset), and never open more connections than allowed.
//!
//! Connections are opened when they are first needed and lent out last in, first out, so that few stay hot: their page
//! caches and prepared statements are worth most that way, and the others can be closed again.

use super::counting;
use super::pragma::is_disallowed_pragma;
use super::reader::{ConnectionOptions, Reader};
use super::sqlite::{Error, Interrupter};
use crate::command::{Request, ResultSink};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Idle connections that are kept however long they idle.
const IDLE_KEPT: usize = 4;
/// Further ones are closed once they have idled this long.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);
/// How often reads that hold up [`Readers::close`] are interrupted again: each statement needs it anew.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(20);

/// How the pool is set up.
#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// Most connections at once; 0 = no limit (`-db-max-ro-conns`).
    pub connections_max: usize,
    pub foreign_keys: bool,
    /// Page cache of each connection, KiB. The operating system's cache stands behind it.
    pub cache_kib: u32,
    /// Limit of reads that bring none, waiting included: a snapshot that is never let go stops checkpoints.
    pub read_time_max: Duration,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        ReaderOptions {
            connections_max: 256,
            foreign_keys: false,
            cache_kib: 1024,
            read_time_max: Duration::from_secs(120),
        }
    }
}

/// Why a request as a whole could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// No connection came free before the deadline.
    DeadlineExceeded,
    /// See [`is_disallowed_pragma`].
    DisallowedPragma,
    /// The pool is closed (the database is being replaced, or the node stops).
    Closed,
    /// A connection cannot be opened.
    Open(Error),
    /// The database file or its disk is unwell (corruption, IO error). Not a result; the node should say so loudly.
    Broken(Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::DeadlineExceeded => f.write_str("context deadline exceeded"),
            ReadError::DisallowedPragma => f.write_str("disallowed pragma"),
            ReadError::Closed => f.write_str("store not open"),
            ReadError::Open(error) | ReadError::Broken(error) => f.write_str(&error.text),
        }
    }
}

impl std::error::Error for ReadError {}

/// What the pool has been through, for `/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStatus {
    pub connections_max: usize,
    pub open: usize,
    pub in_use: usize,
    pub idle: usize,
    /// Reads that had to wait for a connection, and how long all of them waited.
    pub wait_count: u64,
    pub wait_us: u64,
    /// Connections closed because they idled.
    pub closed_idle: u64,
}

/// See the module. Shared as `Arc<Readers>`.
pub struct Readers {
    path: PathBuf,
    options: ReaderOptions,
    connection_options: ConnectionOptions,
    pool: Mutex<Pool>,
    /// A connection came back or its place came free.
    freed: Condvar,
}

#[derive(Default)]
struct Pool {
    /// Most recently used at the back.
    idle: VecDeque<Idle>,
    /// One for each open connection, lent or not.
    interrupters: Vec<(u64, Interrupter)>,
    /// Connections that are open or being opened.
    open: usize,
    in_use: usize,
    /// Since when each connection in use has been lent.
    lent: Vec<(u64, Instant)>,
    /// Reads on other connections than the pool's.
    guests: Vec<Arc<Stay>>,
    /// New reads wait for a moment; see [`Readers::hold_off`].
    is_held_off: bool,
    last_id: u64,
    is_closed: bool,
    /// Reads wait: the database is being replaced.
    is_held: bool,
    wait_count: u64,
    waited: Duration,
    closed_idle: u64,
}

struct Idle {
    id: u64,
    reader: Reader,
    since: Instant,
}

impl Readers {
    /// A pool over the database file at `path`. Opens nothing yet: the file need not exist before the first read.
    pub fn open(path: &Path, options: ReaderOptions) -> Readers {
        let connection_options = ConnectionOptions { foreign_keys: options.foreign_keys, cache_kib: options.cache_kib };
        let pool = Mutex::new(Pool::default());
        Readers { path: path.to_owned(), options, connection_options, pool, freed: Condvar::new() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs all statements of a request on one snapshot of the database, each on its own merits (`transaction` changes
    /// nothing here), and gives their results to the sink in order. Without a deadline, `read_time_max` counts.
    ///
    /// # Errors
    /// The request as a whole was not served; what the sink has got so far is then void.
    pub fn query(
        &self,
        request: &Request,
        deadline: Option<Instant>,
        sink: &mut dyn ResultSink,
    ) -> Result<(), ReadError> {
        counting::read(request);
        if request.statements.iter().any(|statement| is_disallowed_pragma(&statement.sql)) {
            return Err(ReadError::DisallowedPragma);
        }
        if request.statements.iter().all(|statement| statement.sql.is_empty()) {
            return Ok(());
        }
        let deadline = self.deadline(deadline);
        let mut lease = self.lend(deadline)?;
        if Instant::now() >= deadline {
            return Err(ReadError::DeadlineExceeded);
        }
        let outcome = lease.reader().query(request, deadline, sink);
        match &outcome {
            // A connection that met a broken file is not lent out again.
            Err(_) => lease.discard(),
            Ok(()) => assert!(lease.reader().is_clean(), "a read ends with its transaction"),
        }
        outcome
    }

    /// Does every statement of the request only read, so that it need not go through the log? Decided by SQLite, on a
    /// connection whose prepared statements the read that follows will find again.
    ///
    /// # Errors
    /// No connection could be had.
    pub fn only_reads(&self, request: &Request, deadline: Option<Instant>) -> Result<bool, ReadError> {
        let mut lease = self.lend(self.deadline(deadline))?;
        Ok(lease.reader().only_reads(request))
    }

    /// Lends a connection to code of ours that asks about the database itself.
    ///
    /// # Errors
    /// No connection could be had, or SQLite's.
    pub(super) fn ask<T>(
        &self,
        ask: impl FnOnce(&super::sqlite::Connection) -> Result<T, Error>,
    ) -> Result<T, ReadError> {
        let mut lease = self.lend(self.deadline(None))?;
        let answer = lease.reader().ask(ask);
        if answer.is_err() {
            lease.discard();
        }
        answer.map_err(ReadError::Broken)
    }

    pub fn status(&self) -> PoolStatus {
        let pool = self.pool.lock();
        PoolStatus {
            connections_max: self.options.connections_max,
            open: pool.open,
            in_use: pool.in_use,
            idle: pool.idle.len(),
            wait_count: pool.wait_count,
            wait_us: pool.waited.as_micros() as u64,
            closed_idle: pool.closed_idle,
        }
    }

    /// Refuses further reads, lets those under way finish for `grace`, interrupts what is left, and returns when no
    /// connection is open: the file may then be replaced. [`Readers::reopen`] lets reads in again.
    pub fn close(&self, grace: Duration) {
        self.empty(grace, |pool| pool.is_closed = true);
    }

    fn empty(&self, grace: Duration, shut: impl FnOnce(&mut Pool)) {
        let patience_ends = Instant::now() + grace;
        let mut pool = self.pool.lock();
        shut(&mut pool);
        let idle = pool.take_idle();
        MutexGuard::unlocked(&mut pool, || drop(idle));
        self.freed.notify_all();
        while pool.open > 0 {
            let now = Instant::now();
            if now >= patience_ends {
                pool.interrupters.iter().for_each(|(_, interrupter)| interrupter.interrupt());
            }
            self.freed.wait_until(&mut pool, patience_ends.max(now + INTERRUPT_INTERVAL));
        }
    }

    /// As [`Readers::close`], but further reads wait, each until its deadline, instead of being refused.
    pub fn hold(&self, grace: Duration) {
        self.empty(grace, |pool| pool.is_held = true);
    }

    /// Lets reads in again after [`Readers::close`] or [`Readers::hold`].
    pub fn reopen(&self) {
        let mut pool = self.pool.lock();
        pool.is_closed = false;
        pool.is_held = false;
        drop(pool);
        self.freed.notify_all();
    }

    /// Closes connections that have idled too long. Each read that ends does that as well, one at a time; a timer that
    /// calls this does it when reads have stopped.
    pub fn close_surplus(&self) {
        let now = Instant::now();
        loop {
            // The lock is let go before the connection closes.
            let surplus = self.pool.lock().take_surplus(now);
            if surplus.is_none() {
                return;
            }
        }
    }

    /// Lets no new read begin until what this returns is dropped: for moments only.
    pub fn hold_off(&self) -> HeldOff<'_> {
        self.pool.lock().is_held_off = true;
        HeldOff(self)
    }

    /// Enters a long read that has a connection of its own among those that keep the WAL from being reset: it is known of,
    /// and told to end like the others.
    pub fn enter_guest(self: &Arc<Self>) -> Guest {
        let stay = Arc::new(Stay { since: Instant::now(), is_ended: AtomicBool::new(false) });
        self.pool.lock().guests.push(Arc::clone(&stay));
        Guest { readers: Arc::clone(self), stay }
    }

    /// Interrupts the statements of all reads that began longer ago; gives their number.
    pub fn interrupt_older_than(&self, age: Duration) -> usize {
        let pool = self.pool.lock();
        let guests = pool.guests.iter().filter(|stay| stay.since.elapsed() > age);
        let guests = guests.inspect(|stay| stay.is_ended.store(true, Ordering::Release)).count();
        let old = pool.lent.iter().filter(|(_, since)| since.elapsed() > age);
        let interrupters = old.filter_map(|(id, _)| pool.interrupters.iter().find(|(other, _)| other == id));
        guests + interrupters.inspect(|(_, interrupter)| interrupter.interrupt()).count()
    }

    /// How long the oldest read has been running.
    pub fn oldest_read(&self) -> Option<Duration> {
        let pool = self.pool.lock();
        let guests = pool.guests.iter().map(|stay| stay.since);
        pool.lent.iter().map(|(_, since)| *since).chain(guests).map(|since| since.elapsed()).max()
    }

    fn deadline(&self, deadline: Option<Instant>) -> Instant {
        deadline.unwrap_or_else(|| Instant::now() + self.options.read_time_max)
    }

    /// Takes an idle connection, or opens one, or waits.
    fn lend(&self, deadline: Instant) -> Result<Lease<'_>, ReadError> {
        let mut pool = self.pool.lock();
        let mut waiting_since = None;
        loop {
            if pool.is_closed {
                return Err(ReadError::Closed);
            }
            if pool.must_wait() {
                waiting_since.get_or_insert_with(Instant::now);
                if self.freed.wait_until(&mut pool, deadline).timed_out() && pool.must_wait() {
                    pool.count_wait(waiting_since);
                    return Err(ReadError::DeadlineExceeded);
                }
                continue;
            }
            if let Some(idle) = pool.idle.pop_back() {
                pool.lend(idle.id);
                pool.count_wait(waiting_since);
                return Ok(Lease { readers: self, id: idle.id, reader: Some(idle.reader), is_kept: true });
            }
            if self.has_room(&pool) {
                pool.open += 1;
                pool.last_id += 1;
                let id = pool.last_id;
                pool.lend(id);
                pool.count_wait(waiting_since);
                drop(pool);
                return self.open_connection(id);
            }
            waiting_since.get_or_insert_with(Instant::now);
            // One that was woken in its last moment takes what it was woken for: nobody else is told of it.
            let is_late = self.freed.wait_until(&mut pool, deadline).timed_out();
            if is_late && (pool.must_wait() || pool.idle.is_empty() && !self.has_room(&pool)) {
                pool.count_wait(waiting_since);
                return Err(ReadError::DeadlineExceeded);
            }
        }
    }

    fn has_room(&self, pool: &Pool) -> bool {
        self.options.connections_max == 0 || pool.open < self.options.connections_max
    }

    /// Opens the connection whose place has been taken already.
    fn open_connection(&self, id: u64) -> Result<Lease<'_>, ReadError> {
        // The place is given back by the lease, whatever happens from here on.
        let mut lease = Lease { readers: self, id, reader: None, is_kept: true };
        let reader = Reader::open(&self.path, &self.connection_options).map_err(ReadError::Open)?;
        self.pool.lock().interrupters.push((id, reader.interrupter()));
        lease.reader = Some(reader);
        Ok(lease)
    }
}

struct Stay {
    since: Instant,
    is_ended: AtomicBool,
}

/// See [`Readers::enter_guest`]; dropped when the read is over.
#[must_use]
pub struct Guest {
    readers: Arc<Readers>,
    stay: Arc<Stay>,
}

impl Guest {
    /// The WAL has grown too large for this read to go on.
    pub fn is_ended(&self) -> bool {
        self.stay.is_ended.load(Ordering::Acquire)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.readers.pool.lock().guests.retain(|stay| !Arc::ptr_eq(stay, &self.stay));
    }
}

/// See [`Readers::hold_off`].
#[must_use]
pub struct HeldOff<'a>(&'a Readers);

impl Drop for HeldOff<'_> {
    fn drop(&mut self) {
        self.0.pool.lock().is_held_off = false;
        self.0.freed.notify_all();
    }
}

impl Pool {
    /// Connections that come back are closed.
    fn is_shut(&self) -> bool {
        self.is_closed || self.is_held
    }

    fn must_wait(&self) -> bool {
        self.is_held || self.is_held_off
    }

    fn lend(&mut self, id: u64) {
        self.in_use += 1;
        self.lent.push((id, Instant::now()));
    }

    fn take_back(&mut self, id: u64) {
        self.in_use -= 1;
        self.lent.retain(|(other, _)| *other != id);
    }

    fn count_wait(&mut self, since: Option<Instant>) {
        if let Some(since) = since {
            self.wait_count += 1;
            self.waited += since.elapsed();
        }
    }

    /// Removes all idle connections; the caller drops them without the lock.
    fn take_idle(&mut self) -> VecDeque<Idle> {
        let idle = std::mem::take(&mut self.idle);
        self.open -= idle.len();
        self.interrupters.retain(|(id, _)| idle.iter().all(|gone| gone.id != *id));
        idle
    }

    /// Removes the connection that has idled longest, if it has idled too long.
    fn take_surplus(&mut self, now: Instant) -> Option<Reader> {
        let oldest = self.idle.front()?;
        if self.idle.len() <= IDLE_KEPT || now.duration_since(oldest.since) < IDLE_TIME_MAX {
            return None;
        }
        let surplus = self.idle.pop_front().expect("there is an oldest one");
        self.forget(surplus.id);
        self.closed_idle += 1;
        Some(surplus.reader)
    }

    /// A connection closes, or was never opened.
    fn forget(&mut self, id: u64) {
        self.open -= 1;
        self.interrupters.retain(|(other, _)| *other != id);
    }
}

/// A connection on loan; it goes back when dropped, unless it is discarded or the thread panics.
struct Lease<'a> {
    readers: &'a Readers,
    id: u64,
    reader: Option<Reader>,
    is_kept: bool,
}

impl Lease<'_> {
    fn reader(&mut self) -> &mut Reader {
        self.reader.as_mut().expect("a lease that was handed out has a connection")
    }

    fn discard(&mut self) {
        self.is_kept = false;
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut reader = self.reader.take();
        let is_kept = self.is_kept && !std::thread::panicking() && reader.as_ref().is_some_and(Reader::is_clean);
        let mut pool = self.readers.pool.lock();
        let surplus = if is_kept && !pool.is_shut() {
            let reader = reader.take().expect("a kept lease has a connection");
            pool.idle.push_back(Idle { id: self.id, reader, since: now });
            pool.take_surplus(now)
        } else {
            // Closed before its place is given away, so that there are never more than allowed, and `close` never
            // returns too early.
            MutexGuard::unlocked(&mut pool, || drop(reader.take()));
            pool.forget(self.id);
            None
        };
        pool.take_back(self.id);
        let is_shut = pool.is_shut();
        drop(pool);
        if is_shut {
            self.readers.freed.notify_all();
        } else {
            self.readers.freed.notify_one();
        }
        drop(surplus);
    }
}
