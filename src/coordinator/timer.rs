//! The timer thread: runs small continuations at their time (retries, ends of waits). It only ever waits for the clock;
//! what it runs must hand over and return.
//!
//! Giving it a job never blocks, for the raft thread is among those who do: jobs lie under a lock that is held for moments.

use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// The longest sleep.
const SLEEP_MAX: Duration = Duration::from_secs(60);

type Job = Box<dyn FnOnce() + Send>;

/// Names a job that waits: ordered by time, then by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerKey {
    when: Instant,
    number: u64,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<TimerKey, Job>,
    number_last: u64,
    /// When the thread looks again by itself; `None`: it is awake.
    wakes_at: Option<Instant>,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    bell: Condvar,
}

/// The door to the thread; clones share it.
#[derive(Clone)]
pub struct TimerHandle {
    shared: Arc<Shared>,
}

/// The running thread.
pub struct Timer {
    handle: TimerHandle,
    join: JoinHandle<()>,
}

impl Timer {
    /// # Errors
    /// The thread cannot be started.
    pub fn start() -> io::Result<Timer> {
        let handle = TimerHandle { shared: Arc::default() };
        let shared = Arc::clone(&handle.shared);
        let join = Builder::new().name("timer".into()).stack_size(256 * 1024).spawn(move || run(&shared))?;
        Ok(Timer { handle, join })
    }

    pub fn handle(&self) -> TimerHandle {
        self.handle.clone()
    }

    /// Drops all jobs that are left, and ends. For when nobody waits any more: a job that ran now might only ask for the
    /// next one.
    pub fn stop(self) {
        self.handle.shared.state.lock().is_closed = true;
        self.handle.shared.bell.notify_one();
        let _ = self.join.join();
    }
}

impl TimerHandle {
    /// Runs `job` at `when`, on the timer thread; never, when the thread has ended.
    pub fn at(&self, when: Instant, job: impl FnOnce() + Send + 'static) -> TimerKey {
        let mut state = self.shared.state.lock();
        state.number_last += 1;
        let key = TimerKey { when, number: state.number_last };
        if state.is_closed {
            // What it owns goes when no lock is held.
            drop(state);
            drop(job);
            return key;
        }
        state.jobs.insert(key, Box::new(job));
        let must_wake = state.wakes_at.is_some_and(|wakes_at| when < wakes_at);
        drop(state);
        if must_wake {
            self.shared.bell.notify_one();
        }
        key
    }

    pub fn after(&self, wait: Duration, job: impl FnOnce() + Send + 'static) -> TimerKey {
        self.at(Instant::now() + wait, job)
    }

    /// Forgets a job. One that runs already, or has run, is not held up.
    pub fn cancel(&self, key: TimerKey) {
        let job = self.shared.state.lock().jobs.remove(&key);
        // What it owns goes when no lock is held.
        drop(job);
    }
}

fn run(shared: &Shared) {
    let mut state = shared.state.lock();
    loop {
        let now = Instant::now();
        let due = state.jobs.first_entry().filter(|first| first.key().when <= now).map(|first| first.remove());
        if let Some(job) = due {
            drop(state);
            job();
            state = shared.state.lock();
            continue;
        }
        if state.is_closed {
            break;
        }
        let wakes_at =
            state.jobs.first_key_value().map_or(now + SLEEP_MAX, |(first, _)| first.when.min(now + SLEEP_MAX));
        state.wakes_at = Some(wakes_at);
        shared.bell.wait_until(&mut state, wakes_at);
        state.wakes_at = None;
    }
    let left = std::mem::take(&mut state.jobs);
    drop(state);
    drop(left);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    #[test]
    fn jobs_run_in_the_order_of_their_times_and_none_after_the_stop() {
        let timer = Timer::start().expect("a thread can be started");
        let (tx, rx) = bounded(10);
        let job = |n: u32| {
            let tx = tx.clone();
            move || tx.send(n).expect("the test listens")
        };
        timer.handle().after(Duration::from_millis(30), job(2));
        timer.handle().after(Duration::from_millis(5), job(1));
        timer.handle().after(Duration::from_secs(3600), job(3));
        assert_eq!(rx.recv(), Ok(1));
        assert_eq!(rx.recv(), Ok(2));
        let handle = timer.handle();
        timer.stop();
        handle.after(Duration::ZERO, job(4));
        drop(tx);
        assert!(rx.recv().is_err(), "the jobs are gone, and with them their ends of the channel");
    }

    #[test]
    fn a_cancelled_job_is_dropped_at_once_and_never_runs() {
        let timer = Timer::start().expect("a thread can be started");
        let (tx, rx) = bounded::<()>(1);
        let key = timer.handle().after(Duration::from_secs(3600), move || tx.send(()).expect("never run"));
        timer.handle().cancel(key);
        assert!(rx.recv().is_err(), "what the job owned is gone");
        timer.handle().cancel(key);
        timer.stop();
    }

    #[test]
    fn giving_a_job_never_blocks_however_busy_the_thread_is() {
        let timer = Timer::start().expect("a thread can be started");
        let (release_tx, release_rx) = bounded::<()>(0);
        timer.handle().after(Duration::ZERO, move || assert!(release_rx.recv().is_err()));
        let (count_tx, count_rx) = crossbeam_channel::unbounded();
        for n in 0..20_000 {
            let count_tx = count_tx.clone();
            timer.handle().after(Duration::ZERO, move || count_tx.send(n).expect("the test listens"));
        }
        drop((release_tx, count_tx));
        assert_eq!(count_rx.iter().count(), 20_000);
        timer.stop();
    }
}
