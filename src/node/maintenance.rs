//! The maintenance thread: proposes VACUUM and `PRAGMA optimize` when they are due, so that they run at the same place in
//! the log on every node, and closes read connections that idle. It only proposes; a node that does not lead proposes
//! nothing.

use super::NodeHandle;
use super::applier_thread::now_us;
use crate::command::Action;
use crate::vars;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use std::io;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// The longest sleep between two looks at the clock and at idle read connections.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// Between two looks while something is due and another node leads, or none yet.
const LEADER_INTERVAL: Duration = Duration::from_secs(1);
/// Between two tries, when a run did not happen.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// Looks at a bounded number of rows of each index, so that a large database does not hold up the entries behind; and
/// takes no samples of values, which may be too long for a row of statistics.
const OPTIMIZE_BOUNDED: u32 = 0x10;
/// `PRAGMA optimize` the first time: analyse every table that was never analysed.
const OPTIMIZE_MASK_FIRST: u32 = 0x10002 | OPTIMIZE_BOUNDED;
/// And later: only what has changed enough. SQLite's default, which is bounded too.
const OPTIMIZE_MASK: u32 = 0xfffe;

const _: () = assert!(OPTIMIZE_MASK & OPTIMIZE_BOUNDED != 0);

/// Intervals; `None` turns the job off.
#[derive(Clone, Copy, Debug)]
pub struct MaintenanceOptions {
    pub vacuum: Option<Duration>,
    pub optimize: Option<Duration>,
}

/// The running thread.
pub struct Maintenance {
    /// Dropped to stop it.
    stop_tx: Sender<()>,
    join: JoinHandle<()>,
}

impl Maintenance {
    /// # Errors
    /// The thread cannot be started.
    pub fn start(node: NodeHandle, options: MaintenanceOptions) -> io::Result<Maintenance> {
        let (stop_tx, stop_rx) = bounded(1);
        let join = Builder::new()
            .name("maintenance".into())
            .stack_size(128 * 1024)
            .spawn(move || run(&node, options, &stop_rx))?;
        Ok(Maintenance { stop_tx, join })
    }

    /// Does not wait for a job that is under way.
    pub fn stop(self) {
        drop(self.stop_tx);
        let _ = self.join.join();
    }
}

fn run(node: &NodeHandle, options: MaintenanceOptions, stop_rx: &Receiver<()>) {
    let mut sleep = Duration::ZERO;
    while stop_rx.recv_timeout(sleep) == Err(RecvTimeoutError::Timeout) {
        node.readers().close_surplus();
        sleep = LOOK_INTERVAL_MAX;
        for job in [Job::Vacuum, Job::Optimize] {
            let Some(interval) = job.interval(options) else { continue };
            let wait = job.due_in(node, interval);
            if wait.is_zero() {
                sleep = sleep.min(if !node.is_leader() {
                    LEADER_INTERVAL
                } else if job.run(node, stop_rx) {
                    interval
                } else {
                    interval.min(RETRY_INTERVAL)
                });
            } else {
                sleep = sleep.min(wait);
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Job {
    Vacuum,
    Optimize,
}

impl Job {
    fn interval(self, options: MaintenanceOptions) -> Option<Duration> {
        match self {
            Job::Vacuum => options.vacuum,
            Job::Optimize => options.optimize,
        }
    }

    /// Time until the next run: an interval after the last one, or after the cluster was made.
    fn due_in(self, node: &NodeHandle, interval: Duration) -> Duration {
        let shared = node.shared();
        let last_us = match self {
            Job::Vacuum => shared.last_vacuum_us.load(Ordering::Relaxed),
            Job::Optimize => shared.last_optimize_us.load(Ordering::Relaxed),
        };
        let base_us = last_us.max(shared.created_us.load(Ordering::Relaxed));
        if base_us == 0 {
            // Nothing was ever written: there is nothing to do.
            return interval;
        }
        let since_us = now_us().saturating_sub(base_us);
        interval.saturating_sub(Duration::from_micros(u64::try_from(since_us).unwrap_or(0)))
    }

    fn run(self, node: &NodeHandle, stop_rx: &Receiver<()>) -> bool {
        let action = match self {
            Job::Vacuum => Action::Vacuum,
            Job::Optimize => {
                let first = node.shared().last_optimize_us.load(Ordering::Relaxed) == 0;
                Action::Optimize { mask: if first { OPTIMIZE_MASK_FIRST } else { OPTIMIZE_MASK } }
            }
        };
        let started = Instant::now();
        let (done_tx, done_rx) = bounded(1);
        node.propose(
            action,
            Box::new(move |applied| {
                let _ = done_tx.send(applied.is_ok_and(|applied| applied.outcome.request_error.is_none()));
            }),
        );
        let done = select! {
            recv(done_rx) -> done => done.unwrap_or(false),
            // The node stops; what becomes of the job is for the next start.
            recv(stop_rx) -> _ => return false,
        };
        let took_ms = started.elapsed().as_millis() as u64;
        match self {
            Job::Vacuum if done => {
                vars::store::NUM_AUTO_VACUUMS.add(1);
                vars::store::AUTO_VACUUM_DURATION.set(took_ms);
                log::info!(target: "store", "database vacuumed in {took_ms}ms");
            }
            Job::Vacuum => vars::store::NUM_AUTO_VACUUMS_FAILED.add(1),
            Job::Optimize if done => {
                vars::store::NUM_AUTO_OPTIMIZES.add(1);
                vars::store::AUTO_OPTIMIZE_DURATION.set(took_ms);
            }
            Job::Optimize => vars::store::NUM_AUTO_OPTIMIZES_FAILED.add(1),
        }
        done
    }
}
