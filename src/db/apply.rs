//! What one log entry does to the database, and what its clients get to see.
//!
//! Applier thread only. Everything here must come out the same on every node and however entries are grouped, so it
//! may depend on the entry and on the database, and on nothing else.
//!
//! An entry is first tried inside the transaction of its batch. Where it turns out that it cannot be (it ends the
//! transaction, needs none, or has to be undone in part), it is applied alone: statement by statement, each in a
//! transaction that also records how far it came, so that a crash in between repeats nothing.

use super::context;
use super::execute::Numbers;
use super::fatal::{Fatal, refusal};
use super::functions::NO_ROWID;
use super::record::{self, Progress};
use super::trail::{self, Resumed, Trail, Within};
use super::writer::{Writer, has_statistics, run};
use crate::command::{Action, Command, DecodeError, Outcome, Repeat, Request, StatementResult, codec};
use raft::{Entry, EntryKind, LogId};
use std::borrow::Cow;
use std::sync::Arc;

/// What a log entry holds for the state machine.
#[derive(Clone, Debug)]
pub enum Item {
    Command(Command),
    /// A command with SQL, still in its bytes. It is decoded at its turn and dropped before the next: what entries hold in
    /// memory then comes from where the one before gave it back.
    Encoded(Arc<[u8]>),
    /// A leader's first entry; only moves the applied index.
    Noop,
    /// A membership configuration, opaque here; kept with the applied index.
    Membership(Arc<[u8]>),
}

impl Item {
    /// What an entry of the log holds.
    ///
    /// # Errors
    /// A command that this build does not understand. Skipping it would make this copy differ from the others for good.
    /// Where the command has SQL, applying it finds out.
    pub fn decode(entry: &Entry) -> Result<Item, DecodeError> {
        Ok(match entry.kind {
            EntryKind::Noop => Item::Noop,
            EntryKind::Membership => Item::Membership(Arc::clone(&entry.payload)),
            EntryKind::Command if codec::has_sql(&entry.payload) => Item::Encoded(Arc::clone(&entry.payload)),
            EntryKind::Command => Item::Command(Command::decode(&entry.payload)?),
        })
    }

    /// The same with nothing left to decode.
    pub(super) fn open(&self, id: LogId) -> Result<Cow<'_, Item>, Fatal> {
        let Item::Encoded(bytes) = self else { return Ok(Cow::Borrowed(self)) };
        let command = Command::decode(bytes).map_err(|error| {
            let advice = "start a version of this program that knows such entries: nothing of it was applied";
            Fatal::new(format!("log entry {id} cannot be read: {error}")).with_advice(advice)
        })?;
        Ok(Cow::Owned(Item::Command(command)))
    }

    /// Of what is open.
    fn command(&self) -> Option<&Command> {
        match self {
            Item::Command(command) => Some(command),
            Item::Encoded(_) | Item::Noop | Item::Membership(_) => None,
        }
    }

    /// It runs a client's statements.
    pub(super) fn has_sql(&self) -> bool {
        match self {
            Item::Command(command) => {
                matches!(command.action, Action::Execute(_) | Action::Request(_) | Action::Script(_))
            }
            Item::Encoded(_) => true,
            Item::Noop | Item::Membership(_) => false,
        }
    }

    /// The entry may exchange the database for another: it must be alone in its batch, and not before
    /// [`Writer::take_load`] was asked.
    pub fn may_exchange(&self) -> bool {
        matches!(self, Item::Command(Command { action: Action::LoadCommit(_), .. }))
    }

    /// The entry must be the last of its batch: something is to be done with exactly the database that it leaves.
    pub fn ends_batch(&self) -> bool {
        matches!(self, Item::Command(command) if command.action.ends_batch())
    }
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
    /// BEGIN and COMMIT hold, and no statement answers rows.
    pub is_script: bool,
    /// Not in the batch's transaction.
    pub alone: bool,
    /// SQL statements met so far, those inside strings counted one by one.
    pub statements: u64,
    /// What was done before a crash, until it is taken over; and the string that was not done whole, until it goes on.
    pub resumed: Option<Resumed>,
    pub within: Option<Within>,
    pub trail: Trail,
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
    /// A transaction that a script has begun: the connection's numbers before it.
    pub began: Option<Numbers>,
    /// `PRAGMA foreign_keys = OFF` is in force, in a script.
    pub foreign_keys_off: bool,
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
    /// `request` is that of the command.
    fn new(id: LogId, command: &Command, request: &'a Request, alone: bool) -> Run<'a> {
        Run {
            index: id.index.0,
            seed: command.seed,
            request,
            rows_from_reads: matches!(command.action, Action::Request(_)),
            is_script: matches!(command.action, Action::Script(_)),
            alone,
            statements: 0,
            resumed: None,
            within: None,
            trail: Trail::default(),
            steps_used: 0,
            result_bytes: 0,
            changes_set: false,
            statistics: false,
            deferral: false,
            began: None,
            foreign_keys_off: false,
        }
    }

    /// The request has used up its `db_timeout`: what is left of it does not begin any more.
    pub fn is_out_of_steps(&self) -> bool {
        self.request.vm_steps_max > 0 && self.steps_used >= self.request.vm_steps_max
    }

    /// The statement that runs is one of several that succeed or fail together.
    pub fn in_transaction(&self) -> bool {
        self.request.transaction || self.began.is_some()
    }

    /// Each statement is a scope of its own for `changes()`, so that a crash between two of them changes nothing.
    pub fn stands_alone(&self) -> bool {
        self.alone && !self.in_transaction()
    }
}

impl Writer {
    /// Applies an entry inside the open transaction. `None`: it must be applied alone, and the caller rolls back.
    pub(super) fn apply_in_group(&mut self, id: LogId, item: &Item) -> Result<Option<Outcome>, Fatal> {
        let item = item.open(id)?;
        let outcome = match &*item {
            Item::Noop => Outcome::default(),
            Item::Encoded(_) => unreachable!("it is open"),
            Item::Membership(bytes) => {
                self.as_no_parent(|writer| record::write_membership(&writer.connection, id.index, bytes))?;
                Outcome::default()
            }
            Item::Command(command) => {
                let outcome = match self.repeat(command)? {
                    Some(repeat) => {
                        self.note_time(command.unix_time_us);
                        if let Action::LoadCommit(commit) = &command.action {
                            self.as_no_parent(|writer| writer.parts.forget_load(commit.load))?;
                        }
                        Some(repeat)
                    }
                    None => self.command_in_group(id, command)?,
                };
                let Some(outcome) = outcome else { return Ok(None) };
                outcome
            }
        };
        self.end_applied(id, item.command(), &outcome, false)?;
        if let Some(command) = item.command() {
            self.tally.note(command, &outcome);
        }
        Ok(Some(outcome))
    }

    fn command_in_group(&mut self, id: LogId, command: &Command) -> Result<Option<Outcome>, Fatal> {
        self.begin_entry(command, Progress::default())?;
        match &command.action {
            Action::Barrier | Action::Hash | Action::Verdict { .. } => Ok(Some(Outcome::default())),
            Action::Vacuum | Action::Optimize { .. } => Ok(None),
            Action::LoadChunk(chunk) => {
                let time_us = self.record.time_us;
                let refused = self.as_no_parent(|writer| writer.parts.add(chunk, time_us))?;
                Ok(Some(refused.map_or_else(Outcome::default, |text| Outcome::error(text, Repeat::First))))
            }
            Action::LoadCommit(commit) => {
                let text = self.as_no_parent(|writer| writer.parts.refuse(commit))?;
                Ok(Some(Outcome::error(text, Repeat::First)))
            }
            Action::Execute(request) | Action::Request(request) | Action::Script(request) => {
                let mut entry = Run::new(id, command, request, false);
                let Some(outcome) = self.run_in_group(&mut entry)? else { return Ok(None) };
                self.end_entry(&entry)?;
                self.record.changed = id.index;
                Ok(Some(outcome))
            }
        }
    }

    /// What to answer if the command's request was there before.
    pub(super) fn repeat(&mut self, command: &Command) -> Result<Option<Outcome>, Fatal> {
        match &command.request {
            Some(id) => self.retries.answer(id),
            None => Ok(None),
        }
    }

    /// Whatever the entry was: it is the applied one now, and what it came to is kept if it will be asked for again.
    fn end_applied(
        &mut self,
        id: LogId,
        command: Option<&Command>,
        outcome: &Outcome,
        is_incomplete: bool,
    ) -> Result<(), Fatal> {
        let request = command.and_then(|command| command.request.as_ref());
        self.as_no_parent(|writer| {
            let time_us = writer.record.time_us;
            if let Some(request) = request
                && outcome.repeat == Repeat::First
            {
                writer.retries.keep(request, id, time_us, (!is_incomplete).then_some(outcome))?;
            }
            writer.retries.trim(&writer.connection, id.index, time_us)?;
            writer.parts.forget_old(time_us)
        })?;
        self.record.applied = id;
        Ok(())
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
            outcome = Outcome::error(TEXT_FOREIGN_KEY, Repeat::First);
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
        let done = self.skip_done(entry, &mut outcome)?;
        for statement in &request.statements[done..] {
            match self.run_string(entry, statement)? {
                End::Nothing => entry.trail.string_ended(None),
                End::Result(result) => {
                    entry.trail.string_ended(Some(&result));
                    outcome.results.push(result);
                }
                End::Failed(error) => {
                    entry.trail.string_ended(Some(&error));
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

    /// Takes over what was done before a crash, and gives how many of the request's strings that were.
    fn skip_done(&mut self, entry: &mut Run<'_>, outcome: &mut Outcome) -> Result<usize, Fatal> {
        let Some(resumed) = entry.resumed.take() else { return Ok(0) };
        let mut done = resumed.strings;
        outcome.results = resumed.results;
        entry.trail.is_written = true;
        entry.trail.is_incomplete = resumed.is_incomplete;
        entry.result_bytes = resumed.result_bytes;
        match resumed.within {
            Some(Within { failed: Some((text, is_read)), .. }) => {
                let error = StatementResult::Error { text, is_read };
                entry.trail.string_ended(Some(&error));
                outcome.results.push(error);
                done += 1;
            }
            within => entry.within = within,
        }
        if done > entry.request.statements.len() {
            return Err(Fatal::new(format!("more of entry {} is done than it has", entry.index)));
        }
        Ok(done)
    }

    /// Applies an entry in transactions of its own. No transaction is open before and after.
    pub(super) fn apply_alone(&mut self, id: LogId, item: &Item) -> Result<Outcome, Fatal> {
        let item = item.open(id)?;
        let Item::Command(command) = &*item else {
            return Err(Fatal::new(format!("entry {id} holds no SQL, yet could not be applied in a transaction")));
        };
        let progress = self.record.progress;
        // Only entries that are not repeats get here: a repeat is answered inside its batch.
        if progress.statements == 0 && self.repeat(command)?.is_some() {
            return Err(Fatal::new(format!("entry {id} repeats another, yet was to be applied")));
        }
        let (mut statistics, mut is_incomplete, mut has_trail) = (false, false, false);
        if std::mem::take(&mut self.wants_fresh_schema) || matches!(command.action, Action::Optimize { .. }) {
            self.forget_statistics()?;
        }
        self.begin_entry(command, progress)?;
        let mut outcome = match &command.action {
            Action::Execute(request) | Action::Request(request) | Action::Script(request) => {
                let mut entry = Run::new(id, command, request, true);
                entry.statements = progress.statements;
                entry.steps_used = progress.steps_used;
                entry.trail.keeps_results = command.request.is_some() && !request.transaction;
                if progress.statements > 0 {
                    entry.resumed = Some(trail::resume(&self.connection)?);
                    entry.foreign_keys_off = progress.foreign_keys_off;
                    if entry.foreign_keys_off {
                        self.switch_foreign_keys_off(true)?;
                    }
                }
                let outcome =
                    if request.transaction { self.run_transaction(&mut entry)? } else { self.run_alone(&mut entry)? };
                self.end_entry(&entry)?;
                statistics = entry.statistics;
                is_incomplete = entry.trail.is_incomplete;
                has_trail = entry.trail.is_written;
                outcome
            }
            Action::Vacuum => {
                let request_error = self.vacuum()?;
                run(&mut self.own.begin, "beginning a transaction")?;
                Outcome { request_error, ..Outcome::default() }
            }
            Action::Optimize { mask } => {
                run(&mut self.own.begin, "beginning a transaction")?;
                let request_error = self.optimize_undoable(*mask)?;
                statistics = true;
                Outcome { request_error, ..Outcome::default() }
            }
            Action::Barrier | Action::Hash | Action::Verdict { .. } | Action::LoadChunk(_) | Action::LoadCommit(_) => {
                return Err(Fatal::new(format!("entry {id} could not be applied in a transaction")));
            }
        };
        if let Some(text) = self.commit_alone(id, command, &outcome, is_incomplete, has_trail)? {
            // Virtual tables write what they gathered only now, and found that they cannot.
            outcome = Outcome::error(text, Repeat::First);
            run(&mut self.own.begin, "beginning a transaction")?;
            if let Some(text) = self.commit_alone(id, command, &outcome, false, has_trail)? {
                return Err(Fatal::new(format!("committing entry {id}: {text}")));
            }
        }
        if statistics {
            self.forget_statistics()?;
        }
        Ok(outcome)
    }

    /// Ends the open transaction as the last one of the entry. Gives SQLite's message, and has rolled back, when the
    /// transaction cannot be committed.
    fn commit_alone(
        &mut self,
        id: LogId,
        command: &Command,
        outcome: &Outcome,
        is_incomplete: bool,
        has_trail: bool,
    ) -> Result<Option<String>, Fatal> {
        if has_trail {
            self.as_no_parent(|writer| writer.trail.clear())?;
        }
        self.record.changed = id.index;
        self.end_applied(id, Some(command), outcome, is_incomplete)?;
        self.tally.note(command, outcome);
        self.record.progress = Progress::default();
        self.try_commit("committing an entry")
    }

    /// Passes over an entry as the operator wants it (`-skip-entry`): it fails, nothing of it is run, and the applied
    /// index moves on. Of an entry that ran alone, the statements that were committed before it stopped the node remain.
    /// `command` is what the entry holds, if that can be read; its repeats fail alike.
    ///
    /// # Errors
    /// The machine failed, or the entry does not follow; the process must stop.
    pub fn skip(&mut self, id: LogId, command: Option<&Command>) -> Result<Outcome, Fatal> {
        self.check_follows(id)?;
        run(&mut self.own.begin, "beginning a transaction")?;
        let mut outcome = None;
        if let Some(command) = command {
            self.note_time(command.unix_time_us);
            outcome = self.repeat(command)?;
        }
        let outcome = outcome.unwrap_or_else(|| Outcome::error(TEXT_SKIPPED, Repeat::First));
        if self.record.progress.statements > 0 {
            self.as_no_parent(|writer| writer.trail.clear())?;
        }
        self.record.changed = id.index;
        self.end_applied(id, command, &outcome, false)?;
        self.record.progress = Progress::default();
        self.commit("skipping an entry")?;
        Ok(outcome)
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
            outcome = Outcome::error(TEXT_FOREIGN_KEY, Repeat::First);
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
        if entry.foreign_keys_off {
            self.switch_foreign_keys_off(false)?;
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
