//! The thread that ends calls whose deadline has passed (`net-clock`). It sleeps until the nearest one, and never waits for
//! a socket.

use super::shared::Shared;
use parking_lot::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long it sleeps at a time without any deadline.
const SLEEP: Duration = Duration::from_secs(3600);

#[derive(Default)]
pub struct Clock {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    next: Option<Instant>,
    is_closed: bool,
}

impl Clock {
    /// Has the clock look at all calls at `deadline`, or before.
    pub fn notice(&self, deadline: Instant) {
        let mut state = self.state.lock();
        if state.next.is_none_or(|next| deadline < next) {
            state.next = Some(deadline);
            self.bell.notify_one();
        }
    }

    pub fn close(&self) {
        self.state.lock().is_closed = true;
        self.bell.notify_one();
    }

    /// The clock's thread.
    pub fn run(&self, shared: &Shared) {
        let mut state = self.state.lock();
        while !state.is_closed {
            let now = Instant::now();
            match state.next {
                Some(next) if next <= now => {
                    state.next = None;
                    parking_lot::MutexGuard::unlocked(&mut state, || {
                        for link in shared.links.all() {
                            if let Some(next) = link.expire(now) {
                                self.notice(next);
                            }
                        }
                    });
                }
                next => drop(self.bell.wait_until(&mut state, next.unwrap_or(now + SLEEP))),
            }
        }
    }
}
