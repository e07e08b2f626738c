//! Makes a failing plan small: what is left is what matters.
//!
//! Deletes faults (halves first, then ever smaller parts: Zeller's delta debugging), shortens the story, and takes away
//! clients and strangers, as long as the same checker still complains. Every change gives other chances to all that
//! follows, so a smaller plan is another story with the same end.

use super::check::Violation;
use super::plan::Plan;
use super::run;

/// Runs that a shrink may take.
const RUNS_MAX: usize = 2000;

/// Returns the smallest plan found and what is wrong with it; `None` if the plan does not fail.
pub fn shrink(plan: &Plan) -> Option<(Plan, Violation)> {
    let violation = run(plan, false).violation?;
    let mut best = Shrink { plan: plan.clone(), violation, runs: 0 };
    best.cut_time();
    loop {
        let before = best.plan.clone();
        best.delete_events();
        best.simplify();
        if best.plan == before || best.runs >= RUNS_MAX {
            return Some((best.plan, best.violation));
        }
    }
}

struct Shrink {
    plan: Plan,
    violation: Violation,
    runs: usize,
}

impl Shrink {
    /// Takes over a candidate that fails in the same way.
    fn accept(&mut self, candidate: Plan) -> bool {
        if self.runs >= RUNS_MAX || candidate == self.plan {
            return false;
        }
        self.runs += 1;
        match run(&candidate, false).violation {
            Some(violation) if violation.checker == self.violation.checker => {
                self.plan = candidate;
                self.violation = violation;
                true
            }
            _ => false,
        }
    }

    /// Nothing after the failure matters, unless it is one of liveness.
    fn cut_time(&mut self) {
        let mut keep_ms = self.plan.duration_ms / 2;
        while keep_ms > 500 {
            let mut candidate = self.plan.clone();
            candidate.duration_ms = candidate.duration_ms.saturating_sub(keep_ms).max(1000);
            candidate.events.retain(|event| event.at_ms < candidate.duration_ms);
            if !self.accept(candidate) {
                keep_ms /= 2;
            }
        }
    }

    fn delete_events(&mut self) {
        let mut size = self.plan.events.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < self.plan.events.len() {
                let mut candidate = self.plan.clone();
                let end = (at + size).min(candidate.events.len());
                candidate.events.drain(at..end);
                if !self.accept(candidate) {
                    at += size;
                }
            }
            size /= 2;
        }
    }

    fn simplify(&mut self) {
        for change in [
            |plan: &mut Plan| plan.strangers = 0,
            |plan: &mut Plan| plan.loss_percent = 0,
            |plan: &mut Plan| plan.clients = 1,
            |plan: &mut Plan| plan.clients = plan.clients.min(2),
            |plan: &mut Plan| plan.voters = plan.voters.min(3),
            |plan: &mut Plan| plan.lease_ms = 500,
        ] {
            let mut candidate = self.plan.clone();
            change(&mut candidate);
            let nodes = candidate.nodes() as u8;
            candidate.events.retain(|event| event.names_only(nodes));
            self.accept(candidate);
        }
        self.cut_time();
    }
}
