//! The index up to which this node's database holds the log: written by the applier, read by everybody.

use parking_lot::{Condvar, Mutex};
use raft::Index;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Runs when an index is applied, on the applier's thread or the caller's: hand over and return.
pub type Reached = Box<dyn FnOnce() + Send>;

/// A number that only grows, and ways to wait for it.
#[derive(Default)]
pub struct AppliedIndex {
    value: AtomicU64,
    waiters: AtomicU64,
    lock: Mutex<Continuations>,
    grown: Condvar,
}

/// By the index that each waits for, then by arrival.
#[derive(Default)]
struct Continuations {
    waiting: BTreeMap<WaitKey, Reached>,
    number_last: u64,
}

/// Names a continuation that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaitKey {
    index: u64,
    number: u64,
}

impl AppliedIndex {
    pub fn new(start: Index) -> Self {
        AppliedIndex { value: AtomicU64::new(start.0), ..Default::default() }
    }

    pub fn get(&self) -> Index {
        Index(self.value.load(Ordering::Acquire))
    }

    /// Called by the applier after the commit that brought `index`.
    pub fn publish(&self, index: Index) {
        // SeqCst on both sides: either this store is seen by a waiter before it sleeps, or the waiter is seen here.
        let before = self.value.swap(index.0, Ordering::SeqCst);
        assert!(before <= index.0, "the applied index never goes back: {before} -> {index}");
        if self.waiters.load(Ordering::SeqCst) > 0 {
            let reached = {
                let mut guard = self.lock.lock();
                self.grown.notify_all();
                let later = guard.waiting.split_off(&WaitKey { index: index.0.saturating_add(1), number: 0 });
                std::mem::replace(&mut guard.waiting, later)
            };
            self.waiters.fetch_sub(reached.len() as u64, Ordering::SeqCst);
            for (_, run) in reached {
                run();
            }
        }
    }

    /// Runs `run` as soon as `index` is applied: now, here, if it is. Otherwise it is kept until the index comes, which may
    /// be never: who waits no longer must [`AppliedIndex::forget`] it, by the key that this gives.
    pub fn when(&self, index: Index, run: Reached) -> Option<WaitKey> {
        if self.get() >= index {
            run();
            return None;
        }
        let mut guard = self.lock.lock();
        self.waiters.fetch_add(1, Ordering::SeqCst);
        if self.value.load(Ordering::SeqCst) >= index.0 {
            self.waiters.fetch_sub(1, Ordering::SeqCst);
            drop(guard);
            run();
            return None;
        }
        guard.number_last += 1;
        let key = WaitKey { index: index.0, number: guard.number_last };
        guard.waiting.insert(key, run);
        Some(key)
    }

    /// Drops a continuation; false when it has run, or is about to.
    pub fn forget(&self, key: WaitKey) -> bool {
        let forgotten = self.lock.lock().waiting.remove(&key);
        if forgotten.is_some() {
            self.waiters.fetch_sub(1, Ordering::SeqCst);
        }
        forgotten.is_some()
    }

    /// Continuations that wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.lock.lock().waiting.len()
    }

    /// Blocks until `index` is applied; false when the deadline passes first.
    pub fn wait(&self, index: Index, deadline: Instant) -> bool {
        if self.get() >= index {
            return true;
        }
        let mut guard = self.lock.lock();
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let reached = loop {
            if self.value.load(Ordering::SeqCst) >= index.0 {
                break true;
            }
            if self.grown.wait_until(&mut guard, deadline).timed_out() {
                break self.get() >= index;
            }
        };
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn a_waiter_is_woken_by_the_index_it_waits_for() {
        let applied = Arc::new(AppliedIndex::new(Index(1)));
        let waiter = Arc::clone(&applied);
        let thread = std::thread::spawn(move || waiter.wait(Index(100), Instant::now() + Duration::from_secs(20)));
        for i in 2..=100 {
            applied.publish(Index(i));
        }
        assert!(thread.join().expect("the waiter does not panic"));
    }

    #[test]
    fn a_continuation_runs_when_its_index_is_applied_and_not_before() {
        let applied = AppliedIndex::new(Index(5));
        let ran = Arc::new(AtomicU64::new(0));
        let add = |n: u64| {
            let ran = Arc::clone(&ran);
            Box::new(move || {
                ran.fetch_add(n, Ordering::SeqCst);
            })
        };
        applied.when(Index(5), add(1));
        applied.when(Index(7), add(10));
        applied.when(Index(8), add(100));
        assert_eq!(ran.load(Ordering::SeqCst), 1);
        applied.publish(Index(7));
        assert_eq!(ran.load(Ordering::SeqCst), 11);
        applied.publish(Index(9));
        assert_eq!(ran.load(Ordering::SeqCst), 111);
        assert_eq!(applied.waiters.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_continuation_that_nobody_waits_for_any_more_leaves_nothing_behind() {
        let applied = AppliedIndex::new(Index(5));
        let keys: Vec<_> =
            (0..1000).filter_map(|_| applied.when(Index(u64::MAX), Box::new(|| unreachable!()))).collect();
        assert_eq!((keys.len(), applied.waiting()), (1000, 1000));
        assert!(keys.iter().all(|key| applied.forget(*key)));
        assert_eq!((applied.waiting(), applied.waiters.load(Ordering::SeqCst)), (0, 0));
        assert!(!applied.forget(keys[0]));
        assert!(applied.when(Index(5), Box::new(|| {})).is_none());
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let applied = AppliedIndex::new(Index(1));
        assert!(!applied.wait(Index(2), Instant::now() + Duration::from_millis(5)));
        assert!(applied.wait(Index(1), Instant::now()));
    }
}
