//! A simulated world in which the production replica and the production log run as a cluster, and everything that can
//! break breaks. One seed is one story, and always the same.
//!
//! Compiled for tests and with the feature `sim`; no server carries it. Nothing here may read a clock, draw a random
//! number or depend on the order of a hash map. Reading order: `plan` (what happens), `world` (the queue), `node`,
//! `log`, `apply`, `client`, `operator`, `power`, `faults`; `check` (the properties); `campaign`, `shrink`, `graphs`,
//! `mutants` (what is done with it). How to use it: `raft/README.md`.

mod apply;
pub mod campaign;
mod check;
mod client;
mod faults;
pub mod graphs;
mod log;
mod machine;
#[cfg(feature = "mutants")]
pub mod mutants;
mod network;
mod node;
mod operator;
pub mod plan;
mod power;
mod random;
pub mod shrink;
#[cfg(test)]
mod tests;
mod text;
mod trace;
mod world;

pub use check::Violation;
pub use plan::Plan;
pub use world::Stats;

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub stats: Stats,
    /// Equal for equal runs: covers every message, start and fault, with their times.
    pub trace: u64,
    pub violation: Option<Violation>,
}

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Violations and failed assertions are answers here, not accidents: they are not printed while a run is on.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if SILENT.get() {
                PLACE.set(info.location().map_or(0, std::panic::Location::line));
            } else {
                usual(info);
            }
        }));
    });
}

thread_local! {
    /// The line of the last failed assertion.
    static PLACE: Cell<u32> = const { Cell::new(0) };
}

/// Runs a plan to its end or to the first violation. `print` writes the trace to standard output.
pub fn run(plan: &Plan, print: bool) -> Outcome {
    let mut world = world::World::new(plan, trace::Trace::new(print));
    let outcome = guarded(&mut world, world::World::run);
    if print && let Some(violation) = &outcome.violation {
        trace::say(&format!("{violation}\n{}", world.describe()));
    }
    outcome
}

/// Lets `story` happen to the world, and catches the violation or the failed assertion that ends it.
fn guarded(world: &mut world::World, story: impl FnOnce(&mut world::World)) -> Outcome {
    silence_panics();
    SILENT.set(true);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| story(world)));
    SILENT.set(false);
    let violation = ended.err().map(|payload| match payload.downcast::<Violation>() {
        Ok(violation) => *violation,
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let what = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_string();
            Violation { checker: "assertion", what: format!("{what} (line {})", PLACE.get()) }
        }
    });
    Outcome { stats: world.stats, trace: world.trace.hash(), violation }
}
