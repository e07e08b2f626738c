//! The index up to which this node's database holds the log: written by the applier, read by everybody.

use parking_lot::{Condvar, Mutex};
use raft::Index;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A number that only grows, and a way to wait for it.
#[derive(Default)]
pub struct AppliedIndex {
    value: AtomicU64,
    waiters: AtomicU64,
    lock: Mutex<()>,
    grown: Condvar,
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
            let _guard = self.lock.lock();
            self.grown.notify_all();
        }
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
    fn a_deadline_ends_the_wait() {
        let applied = AppliedIndex::new(Index(1));
        assert!(!applied.wait(Index(2), Instant::now() + Duration::from_millis(5)));
        assert!(applied.wait(Index(1), Instant::now()));
    }
}
