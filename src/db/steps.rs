//! Counts the virtual-machine steps of a client's statement and ends it when its budget is used up. Applier thread.
//!
//! A budget must run out at the same step on every node. So the count begins at 0 with each run of a statement, also of a
//! cached one, and it is of the statement's own steps only: virtual tables run SQL of their own inside (FTS5 does for nearly
//! everything), and how much depends on what they remember from before. SQLite does not say whose steps a call of the
//! progress handler is for, but the calls for inner statements come from deeper in the stack.
//!
//! Inner steps have a bound of their own, far beyond any honest work, because they too can be without end (a view behind
//! an external-content FTS5 table). It is not exact: two nodes may end such a statement some steps apart. Both then undo all
//! of it and answer the same; only a statement that ends by itself within that moment could come out differently.

use super::context;
use super::fatal::Fatal;
use super::sqlite::{Connection, Statement, Step};
use std::cell::Cell;
use std::sync::OnceLock;

/// Steps are counted in portions of this many.
pub(super) const STEPS_PER_PORTION: u64 = 100;

/// Most steps of inner statements, for one statement of a client. Some minutes.
const INNER_STEPS_MAX: u64 = 10_000_000_000;

/// Most steps of a statement inside the transaction of a batch: a fraction of a second. What takes longer is undone with
/// its batch and runs alone; so a statement that exceeds its budget does not run through all of it twice.
const BATCHED_STEPS_MAX: u64 = 10_000_000;
/// The same for all statements of an entry together; more, because alone each of many costs a commit.
const BATCHED_ENTRY_STEPS_MAX: u64 = 1_000_000_000;

/// How deep below [`Statement::step_watched`] the progress handler is called for the statement that is stepped.
static OWN_DEPTH: OnceLock<usize> = OnceLock::new();

thread_local! {
    /// The least and the greatest depth seen while measuring.
    static DEPTHS: Cell<(usize, usize)> = const { Cell::new((usize::MAX, 0)) };
}

/// Finds out how deep the handler is called; once for the process.
///
/// # Errors
/// The statements that measure it fail, or it is not always the same.
pub(super) fn calibrate(connection: &Connection) -> Result<(), Fatal> {
    const SOME_STEPS: &str =
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 200) SELECT n FROM c WHERE n > 100";
    if OWN_DEPTH.get().is_some() {
        return Ok(());
    }
    let failed = |error| Fatal::sqlite("measuring a statement", &error);
    let (statement, _) = connection.prepare(SOME_STEPS).map_err(failed)?;
    let mut statement = statement.expect("SQL of our own is not empty");
    DEPTHS.set((usize::MAX, 0));
    connection.set_progress_handler(1, note_depth);
    let last = loop {
        match statement.step_watched() {
            Ok(Step::Row) => {}
            last => break last,
        }
    };
    connection.remove_progress_handler();
    last.map_err(failed)?;
    match DEPTHS.get() {
        (least, greatest) if least == greatest => {
            OWN_DEPTH.get_or_init(|| least);
            Ok(())
        }
        depths => {
            Err(Fatal::new(format!("SQLite calls back from changing depths {depths:?}: build with other options")))
        }
    }
}

fn note_depth(depth: usize) -> bool {
    let (least, greatest) = DEPTHS.get();
    DEPTHS.set((least.min(depth), greatest.max(depth)));
    false
}

/// What a statement that is about to run may take.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    steps: u64,
    inner_steps: u64,
}

impl Limit {
    /// `steps`: what is left of the budget.
    pub fn alone(steps: u64) -> Limit {
        Limit { steps, inner_steps: INNER_STEPS_MAX }
    }

    /// Inside the transaction of a batch, where the entry has taken `used` so far. Alone, the statement may have more.
    pub fn in_batch(steps: u64, used: u64) -> Limit {
        let most = BATCHED_STEPS_MAX.min(BATCHED_ENTRY_STEPS_MAX.saturating_sub(used));
        Limit { steps: steps.min(most), inner_steps: BATCHED_STEPS_MAX }
    }

    pub fn begin(self, connection: &Connection, statement: &mut Statement) {
        context::with(|c| {
            c.steps_left.set(self.steps);
            c.inner_steps_left.set(self.inner_steps);
            c.steps_exceeded.set(false);
        });
        statement.forget_steps();
        connection.set_progress_handler(STEPS_PER_PORTION as i32, count);
    }

    /// The statement has ended; gives the steps that it took.
    pub fn end(self, connection: &Connection) -> u64 {
        connection.remove_progress_handler();
        self.steps - context::with(|c| c.steps_left.get())
    }
}

/// The progress handler: true ends the statement.
fn count(depth: usize) -> bool {
    let own = *OWN_DEPTH.get().expect("measured when the database was opened");
    context::with(|c| {
        if c.steps_exceeded.get() {
            return true;
        }
        let counter = if depth == own { &c.steps_left } else { &c.inner_steps_left };
        let left = counter.get();
        counter.set(left.saturating_sub(STEPS_PER_PORTION));
        let exceeded = left < STEPS_PER_PORTION;
        c.steps_exceeded.set(exceeded);
        exceeded
    })
}
