//! Stops what waits: a signal during forming, the end of the process. Any thread.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Clones share one state; once cancelled, for ever.
#[derive(Clone, Default)]
pub struct Cancel {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl Cancel {
    pub fn cancel(&self) {
        *self.shared.0.lock() = true;
        self.shared.1.notify_all();
    }

    pub fn is_cancelled(&self) -> bool {
        *self.shared.0.lock()
    }

    /// Waits; `true` when cancelled meanwhile (then at once).
    pub fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut cancelled = self.shared.0.lock();
        while !*cancelled && !self.shared.1.wait_until(&mut cancelled, until).timed_out() {}
        *cancelled
    }
}
