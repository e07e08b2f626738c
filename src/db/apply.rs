//! What one log entry does to the database, and what its clients get to see.
//!
//! Applier thread only. Everything here must come out the same on every node and however entries are grouped, so it
//! may depend on the entry and on the database, and on nothing else.
//!
//! An entry is first tried inside the transaction of its batch. Where it turns out that it cannot be (it ends the
//! transaction, needs none, or has to be undone in part), it is applied alone: statement by statement, each in a
//! transaction that also records how far it came, so that a crash in between repeats nothing.

use super::context;
use super::fatal::{Fatal, refusal};
use super::functions::NO_ROWID;
use super::record::{self, Progress};
use super::writer::{Writer, has_statistics, run};
use crate::command::{Action, Command, Request, StatementResult};
use raft::LogId;
use std::sync::Arc;

/// What a log entry holds for the state machine.
#[derive(Clone, Debug)]
pub enum Item {
    Command(Command),
    /// A leader's first entry; only moves the applied index.
    Noop,
    /// A membership configuration, opaque here; kept with the applied index.
    Membership(Arc<[u8]>),
}

/// What an entry came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// One for each SQL string that was reached, in order.
    pub results: Vec<StatementResult>,
    /// The request failed as a whole (COMMIT was impossible), and nothing of it remains; `results` is empty then.
    pub request_error: Option<String>,
}

pub(super) const TEXT_FOREIGN_KEY: &str = "FOREIGN KEY constraint failed";
const TEXT_SKIPPED: &str = "the operator had this entry skipped";

/// One entry under way.
pub(super) struct Run<'a> {
    pub index: u64,
    pub seed: u64,
    pub request: &'a Request,
    /// Statements that only read answer rows too.
    pub rows_from_reads: bool,
    /// Not in the batch's transaction.
    pub alone: bool,
    /// SQL statements met so far, those inside strings counted one by one.
    pub statements: u64,
    /// As many of them were done before a crash.
    pub done_before: u64,
    /// VM steps taken of the request's budget; what counts is the same on every node.
    pub steps_used: u64,
    /// Memory of the rows collected so far.
    pub result_bytes: usize,
    /// A statement that sets `changes()` has run.
    pub changes_set: bool,
    /// Planner statistics may have changed.
    pub statistics: bool,
    /// `PRAGMA defer_foreign_keys` is in force.
    pub deferral: bool,
}

/// How a SQL string ended.
pub(super) enum End {
    /// Nothing to run and nothing to say: the string is empty.
    Nothing,
    Result(StatementResult),
    /// Its error is the last thing that happens to it.
    Failed(StatementResult),
    /// The entry must be applied alone; nothing of it may remain.
    NeedsAlone,
}

impl<'a> Run<'a> {
    fn new(id: LogId, seed: u64, request: &'a Request, rows_from_reads: bool, alone: bool) -> Run<'a> {
        Run {
            index: id.index.0,
            seed,
            request,
            rows_from_reads,
            alone,
            statements: 0,
            done_before: 0,
            steps_used: 0,
            result_bytes: 0,
            changes_set: false,
            statistics: false,
            deferral: false,
        }
    }

    /// The request has used up its `db_timeout`: what is left of it does not begin any more.
    pub fn is_out_of_steps(&self) -> bool {
        self.request.vm_steps_max > 0 && self.steps_used >= self.request.vm_steps_max
    }

    /// Each statement is a scope of its own for `changes()`, so that a crash between two of them changes nothing.
    pub fn stands_alone(&self) -> bool {
        self.alone && !self.request.transaction
    }
}

impl Writer {
    /// Applies an entry inside the open transaction. `None`: it must be applied alone, and the caller rolls back.
    pub(super) fn apply_in_group(&mut self, id: LogId, item: &Item) -> Result<Option<Outcome>, Fatal> {
        let outcome = match item {
            Item::Noop => Outcome::default(),
            Item::Membership(bytes) => {
                self.as_no_parent(|writer| record::write_membership(&writer.connection, bytes))?;
                Outcome::default()
            }
            Item::Command(command) => {
                self.begin_entry(command, Progress::default())?;
                match &command.action {
                    Action::Barrier => Outcome::default(),
                    Action::Vacuum | Action::Optimize { .. } => return Ok(None),
                    Action::Execute(request) | Action::Request(request) => {
                        let rows_from_reads = matches!(command.action, Action::Request(_));
                        let mut entry = Run::new(id, command.seed, request, rows_from_reads, false);
                        let Some(outcome) = self.run_in_group(&mut entry)? else { return Ok(None) };
                        self.end_entry(&entry)?;
                        self.record.changed = id.index;
                        outcome
                    }
                }
            }
        };
        self.record.applied = id;
        Ok(Some(outcome))
    }

    fn run_in_group(&mut self, entry: &mut Run<'_>) -> Result<Option<Outcome>, Fatal> {
        if entry.request.transaction {
            run(&mut self.own.savepoint, "setting a savepoint")?;
        }
        let Some((mut outcome, mut failed)) = self.run_strings(entry)? else { return Ok(None) };
        if !entry.request.transaction {
            return Ok(Some(outcome));
        }
        if !failed && self.violates_foreign_keys() {
            failed = true;
            outcome = Outcome { results: Vec::new(), request_error: Some(TEXT_FOREIGN_KEY.to_owned()) };
        }
        if failed {
            self.roll_back_to_savepoint()?;
        }
        run(&mut self.own.release, "releasing a savepoint")?;
        Ok(Some(outcome))
    }

    /// Runs the request's strings in order; all of them, or up to the first error when they are one transaction. Says
    /// also whether it stopped at an error. `None`: the entry must be applied alone.
    fn run_strings(&mut self, entry: &mut Run<'_>) -> Result<Option<(Outcome, bool)>, Fatal> {
        let mut outcome = Outcome::default();
        let request = entry.request;
        for statement in &request.statements {
            match self.run_string(entry, statement)? {
                End::Nothing => {}
                End::Result(result) => outcome.results.push(result),
                End::Failed(error) => {
                    outcome.results.push(error);
                    if request.transaction {
                        return Ok(Some((outcome, true)));
                    }
                }
                End::NeedsAlone => {
                    assert!(!entry.alone, "an entry that is alone needs nothing more");
                    return Ok(None);
                }
            }
        }
        Ok(Some((outcome, false)))
    }

    /// Applies an entry in transactions of its own. No transaction is open before and after.
    pub(super) fn apply_alone(&mut self, id: LogId, item: &Item) -> Result<Outcome, Fatal> {
        let Item::Command(command) = item else {
            return Err(Fatal::new(format!("entry {id} holds no SQL, yet could not be applied in a transaction")));
        };
        let progress = self.record.progress;
        let mut statistics = false;
        if std::mem::take(&mut self.wants_fresh_schema) || matches!(command.action, Action::Optimize { .. }) {
            self.forget_statistics()?;
        }
        self.begin_entry(command, progress)?;
        let mut outcome = match &command.action {
            Action::Execute(request) | Action::Request(request) => {
                let rows_from_reads = matches!(command.action, Action::Request(_));
                let mut entry = Run::new(id, command.seed, request, rows_from_reads, true);
                entry.done_before = progress.statements;
                entry.steps_used = progress.steps_used;
                let outcome =
                    if request.transaction { self.run_transaction(&mut entry)? } else { self.run_alone(&mut entry)? };
                self.end_entry(&entry)?;
                statistics = entry.statistics;
                outcome
            }
            Action::Vacuum => {
                let request_error = self.vacuum()?;
                run(&mut self.own.begin, "beginning a transaction")?;
                Outcome { results: Vec::new(), request_error }
            }
            Action::Optimize { mask } => {
                run(&mut self.own.begin, "beginning a transaction")?;
                let request_error = self.optimize_undoable(*mask)?;
                statistics = true;
                Outcome { results: Vec::new(), request_error }
            }
            Action::Barrier => {
                return Err(Fatal::new(format!("entry {id} could not be applied in a transaction")));
            }
        };
        self.record.changed = id.index;
        self.record.applied = id;
        self.record.progress = Progress::default();
        if let Some(text) = self.try_commit("committing an entry")? {
            // Virtual tables write what they gathered only now, and found that they cannot.
            outcome = Outcome { results: Vec::new(), request_error: Some(text) };
            run(&mut self.own.begin, "beginning a transaction")?;
            self.commit("committing an entry")?;
        }
        if statistics {
            self.forget_statistics()?;
        }
        Ok(outcome)
    }

    /// Passes over an entry as the operator wants it (`-skip-entry`): it fails, nothing of it is run, and the applied
    /// index moves on. Of an entry that ran alone, the statements that were committed before it stopped the node remain.
    ///
    /// # Errors
    /// The machine failed, or the entry does not follow; the process must stop.
    pub fn skip(&mut self, id: LogId, unix_time_us: Option<i64>) -> Result<Outcome, Fatal> {
        if id.index != self.record.applied.index.next() || id.term < self.record.applied.term {
            return Err(Fatal::new(format!("entry {id} does not follow {}", self.record.applied)));
        }
        run(&mut self.own.begin, "beginning a transaction")?;
        if let Some(time_us) = unix_time_us {
            self.note_time(time_us);
        }
        self.record.changed = id.index;
        self.record.applied = id;
        self.record.progress = Progress::default();
        self.commit("skipping an entry")?;
        Ok(Outcome { results: Vec::new(), request_error: Some(TEXT_SKIPPED.to_owned()) })
    }

    fn note_time(&mut self, unix_time_us: i64) {
        self.record.time_us = self.record.time_us.max(unix_time_us);
        if self.record.created_us == 0 {
            self.record.created_us = self.record.time_us;
        }
    }

    /// A request without `transaction`, each statement in a transaction of its own. Leaves a fresh one open.
    fn run_alone(&mut self, entry: &mut Run<'_>) -> Result<Outcome, Fatal> {
        let (outcome, _) = self.run_strings(entry)?.expect("checked in run_strings");
        run(&mut self.own.begin, "beginning a transaction")?;
        Ok(outcome)
    }

    /// A request with `transaction`. Leaves a transaction open: its own, or a fresh one when that was rolled back.
    fn run_transaction(&mut self, entry: &mut Run<'_>) -> Result<Outcome, Fatal> {
        run(&mut self.own.begin, "beginning a transaction")?;
        let (mut outcome, mut failed) = self.run_strings(entry)?.expect("checked in run_strings");
        if !failed && self.violates_foreign_keys() {
            failed = true;
            outcome = Outcome { results: Vec::new(), request_error: Some(TEXT_FOREIGN_KEY.to_owned()) };
        }
        if failed {
            self.roll_back()?;
            run(&mut self.own.begin, "beginning a transaction")?;
        }
        Ok(outcome)
    }

    /// Sets clock and connection state to what an entry may know.
    fn begin_entry(&mut self, command: &Command, progress: Progress) -> Result<(), Fatal> {
        self.note_time(command.unix_time_us);
        let resumed = progress.statements > 0;
        self.connection.set_last_insert_rowid(if resumed { progress.last_insert_rowid } else { NO_ROWID });
        context::with(|c| {
            c.now_us.set(Some(self.record.time_us));
            c.total_changes_base.set(self.connection.total_changes() - progress.total_changes);
        });
        if self.scope_changes && !self.connection.is_autocommit() {
            self.touch()?;
        }
        if context::with(|c| !c.full_tables.borrow().is_empty()) {
            super::rowids::prune(&self.connection)?;
        }
        Ok(())
    }

    /// Undoes what an entry's statements may leave in the connection.
    fn end_entry(&mut self, entry: &Run<'_>) -> Result<(), Fatal> {
        if entry.deferral {
            self.forget_deferral()?;
        }
        Ok(())
    }

    pub(super) fn forget_deferral(&mut self) -> Result<(), Fatal> {
        let reset = self.connection.execute("PRAGMA defer_foreign_keys = OFF");
        reset.map_err(|error| Fatal::sqlite("resetting defer_foreign_keys", &error))
    }

    /// Makes SQLite read schema and statistics anew: what the planner knows must be what stands in the database, as on a
    /// node that was just opened, and so must be the order in which SQLite's hash tables list the schema. Only between
    /// transactions, because virtual tables may hold unwritten data.
    pub(super) fn forget_statistics(&mut self) -> Result<(), Fatal> {
        assert!(self.connection.is_autocommit(), "the schema is not dropped inside a transaction");
        self.cache.clear();
        let reset = self.connection.execute("PRAGMA writable_schema = RESET");
        reset.map_err(|error| Fatal::sqlite("reloading statistics", &error))?;
        self.has_statistics = has_statistics(&self.connection)?;
        Ok(())
    }

    /// `PRAGMA optimize` that looks at all tables rather than at those this connection happened to use. Gives SQLite's
    /// message when the content stands against it (say, a value that is too long for a sample), on every node; what it
    /// did up to there is still to be undone.
    pub(super) fn optimize(&mut self, mask: u32) -> Result<Option<String>, Fatal> {
        const DEBUG_MODE: u32 = 1;
        const ALL_TABLES: u32 = 0x10000;
        if mask & DEBUG_MODE != 0 {
            return Ok(None);
        }
        // It counts as done also when it failed: the next one comes after the interval, and not at once.
        self.record.optimize_us = self.record.time_us;
        let sql = format!("PRAGMA optimize({})", mask | ALL_TABLES);
        refusal("optimizing", self.connection.execute(&sql))
    }

    /// The same in a savepoint of its own: all of it or nothing.
    fn optimize_undoable(&mut self, mask: u32) -> Result<Option<String>, Fatal> {
        run(&mut self.own.savepoint, "setting a savepoint")?;
        let refused = self.optimize(mask)?;
        if self.connection.is_autocommit() {
            run(&mut self.own.begin, "beginning a transaction")?;
            return Ok(refused);
        }
        if refused.is_some() {
            self.roll_back_to_savepoint()?;
        }
        run(&mut self.own.release, "releasing a savepoint")?;
        Ok(refused)
    }

    /// Rebuilds the database file, outside of any transaction. Doing it again changes nothing. Gives SQLite's message
    /// when the content (say, a virtual table) stands against it, which it then does on every node.
    fn vacuum(&mut self) -> Result<Option<String>, Fatal> {
        let refused = refusal("rebuilding the database", self.connection.execute("VACUUM"))?;
        if refused.is_none() {
            self.record.vacuum_us = self.record.time_us;
        }
        Ok(refused)
    }

    pub(super) fn violates_foreign_keys(&self) -> bool {
        self.foreign_keys && self.connection.has_deferred_violations()
    }
}
