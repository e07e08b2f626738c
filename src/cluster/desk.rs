//! Threads for requests that must wait, for a name to be resolved or an entry to be committed: few at a time, each for one
//! request, so that neither the network's threads nor the HTTP workers wait.

use super::lobby::not_ready;
use crate::net::call::Answer;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests under way at a time. More come only from nodes that ask without waiting for their answers.
const SEATS: usize = 32;
const STACK_BYTES: usize = 512 * 1024;

/// Takes the answer to a request; called exactly once.
pub type Answered = Box<dyn FnOnce(Answer) + Send>;

/// See the module.
#[derive(Default)]
pub struct Desk {
    taken: Arc<AtomicUsize>,
}

/// Gives its place back however the thread ends.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Desk {
    /// Runs `work` on a thread and hands its answer on; answers "not ready" when there is no place.
    pub fn run(&self, answered: Answered, work: impl FnOnce() -> Answer + Send + 'static) {
        let before = self.taken.fetch_add(1, Ordering::AcqRel);
        let seat = Seat(Arc::clone(&self.taken));
        if before >= SEATS {
            return answered(not_ready("too many requests about the membership at once"));
        }
        // Shared, so that a thread that cannot be started leaves somebody to answer.
        let answered = Arc::new(Mutex::new(Some(answered)));
        let at_thread = Arc::clone(&answered);
        let body = move || {
            let _seat = seat;
            let answer = work();
            let answered = at_thread.lock().take().expect("only this thread answers");
            answered(answer);
        };
        let spawned = std::thread::Builder::new().name("cluster-admin".into()).stack_size(STACK_BYTES).spawn(body);
        if let Err(error) = spawned
            && let Some(answered) = answered.lock().take()
        {
            answered(not_ready(&format!("no thread can be started: {error}")));
        }
    }
}
