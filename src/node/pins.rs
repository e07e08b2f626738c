//! Who holds a snapshot of the database open for long: copies on their way out, hashes under computation. Before the
//! database is replaced all of them must end.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Default)]
pub struct Pins {
    count: Mutex<usize>,
    ended: Condvar,
    /// They are to end early.
    cancelled: AtomicBool,
}

/// Dropped when the snapshot is.
pub struct Pin {
    pins: Arc<Pins>,
}

impl Pins {
    /// `None`: the database is about to be replaced.
    pub fn take(self: &Arc<Self>) -> Option<Pin> {
        let mut count = self.count.lock();
        if self.cancelled().load(Ordering::Acquire) {
            return None;
        }
        *count += 1;
        Some(Pin { pins: Arc::clone(self) })
    }

    /// Whether a snapshot is held now.
    pub fn is_any(&self) -> bool {
        *self.count.lock() > 0
    }

    /// What long work looks at.
    pub fn cancelled(&self) -> &AtomicBool {
        &self.cancelled
    }

    /// Refuses new ones and tells those that are there to end.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// The same, and waits until all have ended.
    pub fn clear(&self) {
        let mut count = self.count.lock();
        self.cancel();
        while *count > 0 {
            self.ended.wait(&mut count);
        }
    }

    /// There is a database again.
    pub fn allow(&self) {
        self.cancelled.store(false, Ordering::Release);
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        *self.pins.count.lock() -= 1;
        self.pins.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clearing_waits_for_those_who_are_there_and_refuses_others() {
        let pins = Arc::new(Pins::default());
        let pin = pins.take().expect("nothing is being replaced");
        let clearing = Arc::clone(&pins);
        let thread = std::thread::spawn(move || clearing.clear());
        while !pins.cancelled().load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        assert!(pins.take().is_none());
        assert!(pins.is_any());
        drop(pin);
        thread.join().expect("it ends when the last pin is dropped");
        pins.allow();
        assert!(pins.take().is_some());
    }
}
