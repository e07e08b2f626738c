//! Many seeds on all processors, each run twice: the second run must leave the same trace.

use super::check::Violation;
use super::plan::Plan;
use super::world::Stats;
use super::{Outcome, run};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a campaign amounted to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub seeds: u64,
    pub total: Stats,
    pub failures: Vec<(u64, Violation)>,
}

/// Runs the seeds from `first` on, `seeds` of them or until `hours` of simulated time are over; ends early at the tenth
/// failure.
pub fn run_seeds(first: u64, seeds: u64, hours: Option<f64>, twice: bool, threads: usize) -> Report {
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let report = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if hours.is_none() && seed >= first + seeds {
                        return;
                    }
                    let outcome = run_seed(seed, twice);
                    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                    report.take(seed, outcome);
                    let simulated_hours = report.total.simulated_ms as f64 / 3_600_000.0;
                    if report.failures.len() >= 10 || hours.is_some_and(|hours| simulated_hours >= hours) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    report.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// One seed; with `twice` a difference between two runs is a violation.
pub fn run_seed(seed: u64, twice: bool) -> Outcome {
    let plan = Plan::of(seed);
    let mut outcome = run(&plan, false);
    if twice && outcome.violation.is_none() {
        let again = run(&plan, false);
        if again != outcome {
            let what = format!("two runs differ: {:x} and {:x}", outcome.trace, again.trace);
            outcome.violation = Some(Violation { checker: "determinism", what });
        }
    }
    outcome
}

impl Report {
    fn take(&mut self, seed: u64, outcome: Outcome) {
        self.seeds += 1;
        let (total, one) = (&mut self.total, outcome.stats);
        total.simulated_ms += one.simulated_ms;
        total.events += one.events;
        total.messages += one.messages;
        total.commits += one.commits;
        total.leaders += one.leaders;
        total.faults += one.faults;
        total.starts += one.starts;
        total.snapshots += one.snapshots;
        total.writes += one.writes;
        total.reads += one.reads;
        total.unknown += one.unknown;
        if let Some(violation) = outcome.violation {
            self.failures.push((seed, violation));
        }
    }
}
