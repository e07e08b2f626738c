//! The index up to which this node's database holds the log: written by the applier, read by everybody.

use parking_lot::Mutex;
use raft::Index;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs when an index is applied, on the applier's thread or the caller's: hand over and return.
pub type Reached = Box<dyn FnOnce() + Send>;

/// A number that only grows, and ways to wait for it.
#[derive(Default)]
pub struct AppliedIndex {
    value: AtomicU64,
    waiters: AtomicU64,
    lock: Mutex<Continuations>,
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn no_continuation_is_lost_between_two_threads() {
        let applied = Arc::new(AppliedIndex::new(Index(1)));
        let (ran_tx, ran) = std::sync::mpsc::channel();
        let other = Arc::clone(&applied);
        let thread = std::thread::spawn(move || (2..=10_000).for_each(|i| other.publish(Index(i))));
        for i in 2..=10_000 {
            let ran_tx = ran_tx.clone();
            applied.when(Index(i), Box::new(move || ran_tx.send(i).expect("the test listens")));
        }
        thread.join().expect("publishing does not panic");
        assert_eq!(ran.try_iter().count(), 9_999);
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
}
