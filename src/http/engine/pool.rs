//! How many workers there are. A handler may block (a slow read, a stream to a slow reader), so the pool keeps
//! `workers_base` workers that are *not* blocked, up to `workers_max` in all; those that are no longer needed end.
//!
//! Whether a handler blocks can only be seen by time. The accept thread looks: rarely while some worker is free, every
//! `LOOK_FAST_MS` while all are in handlers. A worker that has been in one handler for `BLOCKED_LOOKS` and sleeps counts as
//! blocked. One that runs, or would if there were a processor for it, does not yet: on a busy machine handlers of microseconds
//! take milliseconds, and more threads would only make it worse. After `LONG_LOOKS` it counts, too: others must not
//! wait for what it computes.

use super::config::EngineConfig;
use super::poller::Waker;
use parking_lot::Mutex;
use rustix::thread::gettid;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};

/// How often the accept thread looks at the pool while all workers are in handlers.
pub const LOOK_FAST_MS: u64 = 2;
/// Looks that find a worker asleep in one handler before it counts as blocked.
const BLOCKED_LOOKS: u64 = 2;
/// Looks that find it in one handler before it counts as blocked although it does not sleep.
const LONG_LOOKS: u64 = 10;
/// Looks without a reason before it looks rarely again.
const LOOKS_WITHOUT_REASON_MAX: u32 = 100;

/// One worker, as others see it.
pub struct Stat {
    /// The look at which it entered the handler that it is in; 0 = in none.
    busy_since: AtomicU64,
    /// The kernel's number of its thread; 0 = not running yet.
    thread: AtomicI32,
}

impl Stat {
    /// To be called by the worker's thread.
    pub fn runs_here(&self) {
        self.thread.store(gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    }

    fn is_blocked(&self, look: u64) -> bool {
        let since = self.busy_since.load(Ordering::Relaxed);
        let looks = look.saturating_sub(since);
        since != 0
            && looks >= BLOCKED_LOOKS
            && (looks >= LONG_LOOKS || !is_runnable(self.thread.load(Ordering::Relaxed)))
    }
}

/// Whether a thread of this process runs or waits for a processor. `false` where the system does not tell.
fn is_runnable(thread: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")) else { return false };
    // The state follows the name, which may itself hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'))
}

pub struct Pool {
    base: usize,
    max: usize,
    surplus_ms: u64,
    workers: Mutex<Vec<Arc<Stat>>>,
    alive: AtomicUsize,
    in_handlers: AtomicUsize,
    /// Number of the current look.
    look: AtomicU64,
    looks_fast: AtomicBool,
    /// Workers that shall end.
    surplus: AtomicUsize,
    /// Wakes the accept thread.
    pub watcher: Waker,
}

impl Pool {
    /// # Errors
    /// No descriptor left.
    pub fn new(config: &EngineConfig) -> io::Result<Pool> {
        let base = config.workers_base.max(1);
        Ok(Pool {
            base,
            max: config.workers_max.max(base),
            surplus_ms: config.workers_surplus_ms,
            workers: Mutex::new(Vec::new()),
            alive: AtomicUsize::new(0),
            in_handlers: AtomicUsize::new(0),
            look: AtomicU64::new(1),
            looks_fast: AtomicBool::new(false),
            surplus: AtomicUsize::new(0),
            watcher: Waker::new()?,
        })
    }

    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Acquire)
    }

    /// Enters a new worker into the books, before its thread starts.
    pub fn started(&self) -> Arc<Stat> {
        let stat = Arc::new(Stat { busy_since: AtomicU64::new(0), thread: AtomicI32::new(0) });
        self.workers.lock().push(Arc::clone(&stat));
        self.alive.fetch_add(1, Ordering::AcqRel);
        stat
    }

    pub fn ended(&self, stat: &Arc<Stat>) {
        self.workers.lock().retain(|other| !Arc::ptr_eq(other, stat));
        self.alive.fetch_sub(1, Ordering::AcqRel);
    }

    /// A worker turns to what may block.
    pub fn enter(&self, stat: &Stat) {
        stat.busy_since.store(self.look.load(Ordering::Relaxed), Ordering::Relaxed);
        let busy = self.in_handlers.fetch_add(1, Ordering::AcqRel) + 1;
        if busy >= self.alive() && !self.looks_fast.load(Ordering::Relaxed) {
            self.looks_fast.store(true, Ordering::Release);
            self.watcher.wake();
        }
    }

    pub fn leave(&self, stat: &Stat) {
        stat.busy_since.store(0, Ordering::Relaxed);
        self.in_handlers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Shall the asking worker end?
    pub fn may_retire(&self) -> bool {
        if self.surplus.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.surplus.fetch_update(Ordering::AcqRel, Ordering::Acquire, |surplus| surplus.checked_sub(1)).is_ok()
    }
}

/// The accept thread's view of the pool.
pub struct Watch {
    without_reason: u32,
    surplus_since_ms: Option<u64>,
}

/// What is to be done about the pool.
#[derive(Debug, PartialEq, Eq)]
pub enum Advice {
    Nothing,
    Start(usize),
    End(usize),
}

impl Watch {
    pub fn new() -> Watch {
        Watch { without_reason: 0, surplus_since_ms: None }
    }

    /// Should the next look come soon?
    pub fn is_fast(pool: &Pool) -> bool {
        pool.looks_fast.load(Ordering::Acquire)
    }

    /// One look at the pool.
    pub fn look(&mut self, pool: &Pool, now_ms: u64) -> Advice {
        let look = pool.look.fetch_add(1, Ordering::Relaxed) + 1;
        let alive = pool.alive();
        let all_busy = pool.in_handlers.load(Ordering::Acquire) >= alive;
        if all_busy {
            self.without_reason = 0;
        } else {
            self.without_reason += 1;
            if self.without_reason > LOOKS_WITHOUT_REASON_MAX {
                pool.looks_fast.store(false, Ordering::Release);
            }
        }
        let blocked = pool.workers.lock().iter().filter(|stat| stat.is_blocked(look)).count();
        let free = alive.saturating_sub(blocked);
        if free > pool.base {
            let since = *self.surplus_since_ms.get_or_insert(now_ms);
            if now_ms - since >= pool.surplus_ms {
                self.surplus_since_ms = None;
                return self.end(pool, free - pool.base);
            }
        } else {
            self.surplus_since_ms = None;
        }
        let wanted = pool.base.saturating_sub(free).min(pool.max.saturating_sub(alive));
        if wanted > 0 { Advice::Start(wanted) } else { Advice::Nothing }
    }

    fn end(&mut self, pool: &Pool, count: usize) -> Advice {
        pool.surplus.store(count, Ordering::Release);
        Advice::End(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_grows_only_for_blocked_handlers_and_shrinks_again() {
        let config = EngineConfig { workers_base: 2, workers_max: 3, ..EngineConfig::default() };
        let pool = Pool::new(&config).expect("a pool");
        let mut watch = Watch::new();
        let stats: Vec<_> = (0..2).map(|_| pool.started()).collect();
        assert_eq!(watch.look(&pool, 0), Advice::Nothing);
        pool.enter(&stats[0]);
        pool.enter(&stats[1]);
        assert!(Watch::is_fast(&pool));
        assert_eq!(watch.look(&pool, 2), Advice::Nothing, "not known to block yet");
        assert_eq!(watch.look(&pool, 4), Advice::Start(1), "two are missing, one is allowed");
        let third = pool.started();
        assert_eq!(watch.look(&pool, 6), Advice::Nothing, "no more are allowed");
        pool.leave(&stats[0]);
        pool.leave(&stats[1]);
        assert_eq!(watch.look(&pool, 8), Advice::Nothing);
        assert_eq!(watch.look(&pool, 8 + 5_000), Advice::End(1));
        assert!(pool.may_retire());
        assert!(!pool.may_retire());
        pool.ended(&third);
        assert_eq!(pool.alive(), 2);
    }

    #[test]
    fn a_worker_that_only_waits_for_a_processor_is_not_blocked_yet() {
        let config = EngineConfig { workers_base: 1, workers_max: 3, ..EngineConfig::default() };
        let pool = Pool::new(&config).expect("a pool");
        let mut watch = Watch::new();
        let stat = pool.started();
        stat.runs_here();
        pool.enter(&stat);
        // This thread looks, so it runs.
        for look in 1..LONG_LOOKS {
            assert_eq!(watch.look(&pool, 2 * look), Advice::Nothing);
        }
        assert_eq!(watch.look(&pool, 2 * LONG_LOOKS), Advice::Start(1), "others must not wait for what it computes");
    }
}
