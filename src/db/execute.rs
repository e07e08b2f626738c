//! Runs the SQL strings of an entry, statement by statement.
//!
//! Applier thread only; see `apply` for the rules. A client's SQL error is a result, a failure of the machine is fatal:
//! the line between the two is drawn in `Writer::sql_error` and nowhere else.

use super::added_column;
use super::apply::{End, Run, TEXT_FOREIGN_KEY};
use super::authorizer;
use super::bind::{BindError, Binder};
use super::context::{self, As, Authority, Control, Noticed};
use super::fatal::{Fatal, is_machine_failure};
use super::functions::NO_ROWID;
use super::limits::ENTRY_RESULT_BYTES_MAX;
use super::random::Random;
use super::record::Progress;
use super::rowids;
use super::shadow;
use super::sqlite::memory::Budget;
use super::sqlite::{Cached, Connection, Error, Script, Statement, StatementCache, Step, code};
use super::steps::{Limit, STEPS_PER_PORTION};
use super::tokens::{self, Leading};
use super::trail::{Pending, Position};
use super::writer::{Meta, Writer, run, try_run};
use crate::command::{self, Column, StatementResult, Value, ValueRef};
use std::time::Instant;

const TEXT_WRITE_TIMEOUT: &str = "execute timeout";
const TEXT_MEMORY: &str = "the statement needs too much memory";
const TEXT_READ_TIMEOUT: &str = "query timeout";
const TEXT_UNFINISHED: &str =
    "the text ends within a transaction: COMMIT is missing, and nothing that follows BEGIN was kept";
const TEXT_SAME_NAMES: &str = "too many columns of the same name: give them names";

/// The rows of a statement that has columns.
pub(super) struct Rows {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Value>>,
}

/// The connection's numbers before statements that may have to be undone.
pub(super) struct Numbers {
    total_changes: i64,
    total_changes_base: i64,
    last_insert_rowid: i64,
    /// Last insert id and rows affected, as clients see them.
    shown: (i64, i64),
}

/// How a statement ended.
pub(super) enum Ran {
    Done(Option<Rows>),
    /// The client's mistake, or a limit: the text, whether the statement only reads, and whether its effects are still
    /// to be undone.
    Failed {
        text: String,
        is_read: bool,
        undo: bool,
    },
    NeedsAlone,
}

impl Ran {
    fn failed(text: &str) -> Ran {
        Ran::Failed { text: text.to_owned(), is_read: false, undo: false }
    }
}

impl Writer {
    /// Runs every statement of one string. The result is the rows of the last statement that has any, else the
    /// numbers after the last statement; the first error ends the string.
    pub(super) fn run_string(&mut self, entry: &mut Run<'_>, string: &command::Statement) -> Result<End, Fatal> {
        let end = self.run_statements(entry, string)?;
        let Some(before) = entry.began.take() else { return Ok(end) };
        self.undo_transaction(&before)?;
        Ok(match end {
            End::Failed(error) => End::Failed(error),
            _ => failed(TEXT_UNFINISHED.to_owned(), false),
        })
    }

    fn run_statements(&mut self, entry: &mut Run<'_>, string: &command::Statement) -> Result<End, Fatal> {
        if string.sql.is_empty() {
            return Ok(End::Nothing);
        }
        let within = entry.within.take();
        if within.is_none() && entry.is_out_of_steps() {
            return Ok(failed(TEXT_WRITE_TIMEOUT.to_owned(), false));
        }
        let started = Instant::now();
        let mut binder = match Binder::new(&string.parameters) {
            Ok(binder) => binder,
            Err(text) => return Ok(failed(text, false)),
        };
        let mut script = Script::new(&string.sql);
        let mut any = false;
        let mut rows = Pending::None;
        if let Some(within) = within {
            if !script.resume(within.position.bytes) {
                return Err(Fatal::new(format!("entry {} stopped where no statement ends", entry.index)));
            }
            binder.resume(within.position.parameters);
            (any, rows) = (true, within.rows);
        }
        loop {
            let mut cached = match self.next_statement(&mut script, entry.is_script) {
                Ok(Some(cached)) => cached,
                Ok(None) => break,
                Err(error) => return Ok(failed(self.sql_error(entry, error)?, false)),
            };
            any = true;
            let ran = match binder.bind(&mut cached.statement) {
                Ok(()) => {
                    entry.trail.position = Position { bytes: script.position(), parameters: binder.consumed() };
                    self.run_statement(entry, &mut cached)?
                }
                Err(BindError::Client(text)) => {
                    Ran::Failed { text, is_read: entry.rows_from_reads && cached.meta.readonly, undo: false }
                }
                Err(BindError::Sqlite(error)) => Ran::failed(&self.sql_error(entry, error)?),
            };
            if entry.is_script || cached.meta.ddl || self.plan_is_of_its_time(cached.meta.noticed) {
                drop(cached);
            } else {
                self.cache.put(cached);
            }
            match ran {
                Ran::Done(None) => {}
                Ran::Done(Some(new)) => rows = Pending::Kept(new),
                Ran::Failed { text, is_read, .. } => return Ok(failed(text, is_read)),
                Ran::NeedsAlone => return Ok(End::NeedsAlone),
            }
        }
        let time = started.elapsed().as_secs_f64();
        Ok(End::Result(match rows {
            Pending::Kept(Rows { columns, rows }) => StatementResult::Rows { columns, rows, time },
            Pending::NotKept => {
                entry.trail.is_incomplete = true;
                StatementResult::Rows { columns: Vec::new(), rows: Vec::new(), time }
            }
            Pending::None if any => StatementResult::Write {
                last_insert_id: self.record.last_insert_id,
                rows_affected: self.record.rows_affected,
                time,
            },
            Pending::None => StatementResult::Write { last_insert_id: 0, rows_affected: 0, time },
        }))
    }

    /// With samples of the data, SQLite evaluates `ts > datetime('now')` when it prepares a statement, to choose a plan. A
    /// cached statement would keep the plan of an earlier time, where a node that was just started has another: with other
    /// rows before a LIMIT, or in another order.
    fn plan_is_of_its_time(&self, noticed: Noticed) -> bool {
        noticed.asks_clock && noticed.reads && self.has_statistics
    }

    /// Takes the next statement from the script, with the authorizer watching.
    fn next_statement(&mut self, script: &mut Script<'_>, is_script: bool) -> Result<Option<Cached<Meta>>, Error> {
        let leading = tokens::leading(script.rest());
        let _as = As::new(if is_script { Authority::Script } else { Authority::Client });
        let _budget = Budget::begin();
        context::with(|c| {
            c.refusal.set(None);
            c.noticed.set(Noticed::NOTHING);
        });
        let describe = |statement: &Statement| describe(statement, leading);
        match is_script {
            // What was compiled for another authority is of no use, and texts of this kind do not come twice.
            true => StatementCache::new(0).next(&self.connection, script, describe),
            false => self.cache.next(&self.connection, script, describe),
        }
    }

    /// Runs one statement to its end, in the way that the entry's mode asks for.
    fn run_statement(&mut self, entry: &mut Run<'_>, cached: &mut Cached<Meta>) -> Result<Ran, Fatal> {
        let number = entry.statements;
        entry.statements += 1;
        if entry.is_out_of_steps() {
            return Ok(Ran::failed(TEXT_WRITE_TIMEOUT));
        }
        if let Some(refusal) = self.refusal(cached)? {
            return Ok(Ran::failed(refusal));
        }
        let noticed = cached.meta.noticed;
        match (noticed.control, noticed.foreign_keys) {
            (None, None) => {}
            _ if !entry.alone => return Ok(Ran::NeedsAlone),
            (Some(control), _) => return self.control(entry, control),
            (None, Some(on)) => return self.set_foreign_keys(entry, on),
        }
        let vacuums = cached.meta.leading == Leading::Vacuum && !entry.in_transaction();
        // SQLite's estimates of a changed table are made from those before, so that they could depend on the way that the
        // schema came to be. It is read anew after each change, as at a start.
        let gathers = noticed.gathers_statistics();
        let statistics = gathers || cached.meta.ddl && self.has_statistics && !vacuums;
        entry.statistics |= statistics;
        match entry.alone {
            false if noticed.creates_table && noticed.selects => Ok(Ran::NeedsAlone),
            // ANALYZE goes through the tables in an order that SQLite's memory of the schema gives.
            false if gathers => {
                self.wants_fresh_schema = true;
                Ok(Ran::NeedsAlone)
            }
            // Virtual tables keep data unwritten until the commit, and their content shows where commits were.
            false if vacuums || statistics || noticed.writes_virtual => Ok(Ran::NeedsAlone),
            false => self.run_in_batch(entry, cached, number),
            true if vacuums => self.run_vacuum(entry, cached, number),
            true if entry.in_transaction() => self.run_undoable(entry, cached, number),
            true => self.run_committed(entry, cached, number),
        }
    }

    /// Why the statement is not to be run at all. The same whatever mode the entry is in.
    fn refusal(&self, cached: &Cached<Meta>) -> Result<Option<&'static str>, Fatal> {
        let meta = cached.meta;
        if meta.refusal.is_some() || !meta.noticed.writes_virtual {
            return Ok(meta.refusal);
        }
        if self.is_tampered {
            return Ok(Some(shadow::TEXT_TAMPERED));
        }
        let takes = meta.ddl && shadow::takes_parents(&self.connection, cached.statement.sql())?;
        Ok(takes.then_some(shadow::TEXT_SHADOW))
    }

    /// The common case: inside the batch's transaction, without a savepoint. Whatever cannot be left to SQLite's own
    /// rollback of a failed statement sends the entry away, to be applied alone.
    fn run_in_batch(&mut self, entry: &mut Run<'_>, cached: &mut Cached<Meta>, number: u64) -> Result<Ran, Fatal> {
        let ran = self.run_once(entry, cached, number)?;
        let gone = self.connection.is_autocommit();
        let chosen = context::with(|c| c.suspect_digest.get()) != 0;
        let undo = matches!(ran, Ran::Failed { undo: true, .. }) && !entry.request.transaction;
        let violated = !entry.request.transaction && self.violates_foreign_keys();
        if gone || chosen || undo || violated {
            return Ok(Ran::NeedsAlone);
        }
        Ok(ran)
    }

    /// One statement in a transaction of its own, which also records that it is done.
    fn run_committed(&mut self, entry: &mut Run<'_>, cached: &mut Cached<Meta>, number: u64) -> Result<Ran, Fatal> {
        if cached.meta.noticed.gathers_statistics() {
            self.forget_statistics()?;
        }
        run(&mut self.own.begin, "beginning a transaction")?;
        let before = self.numbers();
        let mut ran = self.run_undoable(entry, cached, number)?;
        if self.connection.is_autocommit() {
            run(&mut self.own.begin, "beginning a transaction")?;
        }
        if let Some(text) = self.commit_progress(entry, &ran)? {
            // What a virtual table writes with the commit is the statement's doing, and so is that it cannot.
            self.forget_changes_since(&before);
            self.connection.set_last_insert_rowid(before.last_insert_rowid);
            (self.record.last_insert_id, self.record.rows_affected) = before.shown;
            ran = Ran::failed(&text);
            run(&mut self.own.begin, "beginning a transaction")?;
            if let Some(text) = self.commit_progress(entry, &ran)? {
                return Err(Fatal::new(format!("committing the progress of entry {}: {text}", entry.index)));
            }
        }
        if std::mem::take(&mut entry.statistics) {
            self.forget_statistics()?;
        }
        Ok(ran)
    }

    /// Inside an open transaction, with a savepoint, so that the statement can be undone and tried again. The
    /// transaction may be gone afterwards, but only when the statement failed.
    fn run_undoable(&mut self, entry: &mut Run<'_>, cached: &mut Cached<Meta>, number: u64) -> Result<Ran, Fatal> {
        if self.scope_changes && (!entry.changes_set || entry.stands_alone()) {
            self.touch()?;
        }
        let copies = cached.meta.noticed.creates_table && cached.meta.noticed.selects;
        // Inside a transaction each savepoint would make virtual tables write out what they gathered so far. The one
        // use of it there is the second run below, which takes a full table.
        let full = context::with(|c| !c.full_tables.borrow().is_empty());
        let undoable = full || !entry.in_transaction() || !cached.meta.noticed.writes_virtual;
        let before = self.numbers();
        if undoable {
            if let Some(text) = try_run(&mut self.own.savepoint, "setting a savepoint")? {
                return Ok(Ran::failed(&text));
            }
            // Some virtual tables run SQL of their own on this occasion.
            self.connection.set_last_insert_rowid(before.last_insert_rowid);
        }
        let steps_before = entry.steps_used;
        let mut ran = self.run_once(entry, cached, number)?;
        let digest = context::with(|c| c.suspect_digest.get());
        if digest != 0 {
            // Did SQLite choose rowids at random? Then it chooses others the second time. Where there can be no second
            // time (the transaction is gone), it counts as chosen: nothing random may decide between two answers.
            let mut chosen = true;
            if undoable && !self.connection.is_autocommit() {
                self.roll_back_to_savepoint()?;
                self.forget_changes_since(&before);
                entry.steps_used = steps_before;
                ran = self.run_once(entry, cached, number)?;
                chosen = context::with(|c| c.suspect_digest.get()) != digest;
            }
            if chosen {
                self.forget_changes_since(&before);
                self.connection.set_last_insert_rowid(before.last_insert_rowid);
                (self.record.last_insert_id, self.record.rows_affected) = before.shown;
                ran = Ran::Failed { text: rowids::TEXT_FULL.to_owned(), is_read: false, undo: true };
            }
        }
        if self.connection.is_autocommit() {
            assert!(matches!(ran, Ran::Failed { .. }), "only a failing statement ends a transaction");
            return Ok(ran);
        }
        if copies && matches!(ran, Ran::Done(_)) && random_names(&self.connection)? {
            ran = Ran::Failed { text: TEXT_SAME_NAMES.to_owned(), is_read: false, undo: true };
        }
        if !entry.in_transaction() && self.violates_foreign_keys() {
            ran = Ran::Failed { text: TEXT_FOREIGN_KEY.to_owned(), is_read: false, undo: true };
        }
        if undoable {
            if matches!(ran, Ran::Failed { undo: true, .. }) {
                self.roll_back_to_savepoint()?;
            }
            if let Some(text) = try_run(&mut self.own.release, "releasing a savepoint")? {
                // Some virtual tables write on this occasion.
                self.roll_back()?;
                ran = Ran::failed(&text);
            }
        }
        Ok(ran)
    }

    /// BEGIN, COMMIT or ROLLBACK of a script, which runs alone.
    fn control(&mut self, entry: &mut Run<'_>, control: Control) -> Result<Ran, Fatal> {
        match (control, entry.began.take()) {
            (Control::Begin, None) if !entry.request.transaction => {
                // The schema as it stands in the database, since statistics may be gathered before the end: see
                // `forget_statistics`.
                self.forget_statistics()?;
                run(&mut self.own.begin, "beginning a transaction")?;
                entry.changes_set = false;
                entry.began = Some(self.numbers());
                Ok(Ran::Done(None))
            }
            (Control::Begin, began) => {
                entry.began = began;
                Ok(Ran::failed("cannot start a transaction within a transaction"))
            }
            (Control::Commit, None) => Ok(Ran::failed("cannot commit - no transaction is active")),
            (Control::Rollback, None) => Ok(Ran::failed("cannot rollback - no transaction is active")),
            (Control::Commit, Some(before)) => {
                if self.violates_foreign_keys() {
                    entry.began = Some(before);
                    return Ok(Ran::failed(TEXT_FOREIGN_KEY));
                }
                let refused = self.commit_progress(entry, &Ran::Done(None))?;
                if let Some(text) = refused {
                    // What virtual tables write with the commit is the transaction's doing, and so is that they cannot.
                    entry.began = Some(before);
                    return Ok(Ran::failed(&text));
                }
                self.after_transaction(entry)
            }
            (Control::Rollback, Some(before)) => {
                self.undo_transaction(&before)?;
                run(&mut self.own.begin, "beginning a transaction")?;
                if let Some(text) = self.commit_progress(entry, &Ran::Done(None))? {
                    return Err(Fatal::new(format!("committing the progress of entry {}: {text}", entry.index)));
                }
                self.after_transaction(entry)
            }
        }
    }

    fn after_transaction(&mut self, entry: &mut Run<'_>) -> Result<Ran, Fatal> {
        entry.deferral = false;
        if std::mem::take(&mut entry.statistics) {
            self.forget_statistics()?;
        }
        Ok(Ran::Done(None))
    }

    /// Rolls back what a script has begun; the transaction may be gone already.
    fn undo_transaction(&mut self, before: &Numbers) -> Result<(), Fatal> {
        self.roll_back()?;
        self.forget_changes_since(before);
        Ok(())
    }

    /// `PRAGMA foreign_keys` of a script: as with SQLite, it does nothing inside of a transaction. Where they are off
    /// altogether they stay so.
    fn set_foreign_keys(&mut self, entry: &mut Run<'_>, on: bool) -> Result<Ran, Fatal> {
        if !entry.in_transaction() {
            entry.foreign_keys_off = !on;
            self.switch_foreign_keys_off(!on)?;
        }
        Ok(Ran::Done(None))
    }

    fn numbers(&self) -> Numbers {
        Numbers {
            total_changes: self.connection.total_changes(),
            total_changes_base: context::with(|c| c.total_changes_base.get()),
            last_insert_rowid: self.connection.last_insert_rowid(),
            shown: (self.record.last_insert_id, self.record.rows_affected),
        }
    }

    /// What was changed since then and undone does not count for `total_changes()`.
    fn forget_changes_since(&self, before: &Numbers) {
        let undone = self.connection.total_changes() - before.total_changes;
        context::with(|c| c.total_changes_base.set(before.total_changes_base + undone));
    }

    /// VACUUM, which runs outside of transactions. After a crash before the progress is committed it runs once more,
    /// which changes nothing.
    fn run_vacuum(&mut self, entry: &mut Run<'_>, cached: &mut Cached<Meta>, number: u64) -> Result<Ran, Fatal> {
        let ran = self.run_once(entry, cached, number)?;
        if matches!(ran, Ran::Done(_)) {
            self.record.vacuum_us = self.record.time_us;
        }
        run(&mut self.own.begin, "beginning a transaction")?;
        match self.commit_progress(entry, &ran)? {
            None => Ok(ran),
            Some(text) => Err(Fatal::new(format!("committing the progress of entry {}: {text}", entry.index))),
        }
    }

    /// Gives SQLite's message, and has rolled back, when the statement's effects cannot be committed.
    fn commit_progress(&mut self, entry: &mut Run<'_>, ran: &Ran) -> Result<Option<String>, Fatal> {
        let before = self.numbers();
        self.as_no_parent(|writer| writer.trail.add(&entry.trail, entry.statements, ran, entry.result_bytes))?;
        // What we wrote is not the client's.
        self.forget_changes_since(&before);
        self.connection.set_last_insert_rowid(before.last_insert_rowid);
        let base = context::with(|c| c.total_changes_base.get());
        self.record.progress = Progress {
            statements: entry.statements,
            last_insert_rowid: self.connection.last_insert_rowid(),
            total_changes: self.connection.total_changes() - base,
            steps_used: entry.steps_used,
            foreign_keys_off: entry.foreign_keys_off,
        };
        let refused = self.try_commit("committing a statement")?;
        if refused.is_none() {
            entry.trail.committed();
        }
        #[cfg(test)]
        if refused.is_none() {
            super::tests::crash_after_statement(entry.statements)?;
        }
        Ok(refused)
    }

    /// Steps a bound statement through once, with the entry's clock and the statement's own random numbers.
    fn run_once(&mut self, entry: &mut Run<'_>, cached: &mut Cached<Meta>, number: u64) -> Result<Ran, Fatal> {
        let meta = cached.meta;
        if meta.mentions_changes && !self.scope_changes {
            self.scope_changes = true;
            if (!entry.changes_set || entry.stands_alone()) && !self.connection.is_autocommit() {
                self.touch()?;
            }
        }
        let limit = self.limit_steps(entry, cached);
        let stepped = {
            let _as = As::new(match meta.leading {
                Leading::Vacuum => Authority::Vacuum,
                _ => Authority::Client,
            });
            context::with(|c| {
                c.random.replace(Random::for_statement(entry.index, entry.seed, number));
                c.refusal.set(None);
                c.noticed.set(meta.noticed);
                c.suspect_digest.set(0);
            });
            let _budget = (meta.leading != Leading::Vacuum).then(Budget::begin);
            step_through(&mut cached.statement, entry, meta)
        };
        cached.statement.reset();
        // Each statement that begins counts as a portion, so that a long list of trivial ones uses up the budget as well.
        entry.steps_used = entry.steps_used.saturating_add(STEPS_PER_PORTION);
        if let Some(limit) = limit {
            entry.steps_used = entry.steps_used.saturating_add(limit.end(&self.connection));
        }
        if meta.ddl {
            self.schema_changed = true;
            self.follow_schema()?;
        }
        let mut mended = Ok(());
        if meta.ddl
            && stepped.is_ok()
            && let Some(table) = added_column::table_that_grows(cached.statement.sql())
        {
            mended = added_column::mend_indexes(&self.connection, &table);
        }
        let rowid = self.connection.last_insert_rowid();
        if rowid != NO_ROWID {
            self.record.last_insert_id = rowid;
        }
        if meta.dml {
            self.record.rows_affected = self.connection.changes();
            entry.changes_set = true;
        }
        let noticed = context::with(|c| c.noticed.get());
        if noticed.defer_foreign_keys {
            entry.deferral = entry.in_transaction();
            if !entry.in_transaction() {
                self.forget_deferral()?;
            }
        }
        // Inside a batch it may have been given less than it has.
        if limit.is_some() && context::with(|c| c.steps_exceeded.get()) {
            return Ok(if entry.alone { out_of_steps(entry, meta) } else { Ran::NeedsAlone });
        }
        match mended {
            Ok(()) => self.judge(entry, meta, stepped),
            Err(error) => Ok(Ran::Failed { text: self.sql_error(entry, error)?, is_read: false, undo: true }),
        }
    }

    fn judge(&mut self, entry: &mut Run<'_>, meta: Meta, stepped: Result<Stepped, Error>) -> Result<Ran, Fatal> {
        let is_read = entry.rows_from_reads && meta.readonly;
        match stepped {
            Ok(Stepped::Rows(rows)) => {
                let refused = match meta.noticed.optimize {
                    Some(mask) => self.optimize(mask)?,
                    None => None,
                };
                Ok(match refused {
                    Some(text) => Ran::Failed { text, is_read, undo: true },
                    None => Ran::Done(rows),
                })
            }
            Ok(Stepped::TooLarge) => {
                let text = format!("the result is larger than {ENTRY_RESULT_BYTES_MAX} bytes");
                Ok(Ran::Failed { text, is_read, undo: !meta.readonly })
            }
            // The batch's transaction may be gone with it.
            Err(error) if ends_transactions(&error) && !is_machine_failure(&error) && !entry.alone => {
                Ok(Ran::NeedsAlone)
            }
            Err(error) => Ok(Ran::Failed { text: self.sql_error(entry, error)?, is_read, undo: false }),
        }
    }

    /// The text for the client, when the error is the client's.
    fn sql_error(&self, entry: &Run<'_>, error: Error) -> Result<String, Fatal> {
        if error.primary() == code::SQLITE_AUTH
            && let Some(refusal) = context::with(|c| c.refusal.take())
        {
            return Ok(refusal.to_owned());
        }
        if is_machine_failure(&error) {
            return Err(Fatal::sqlite(&format!("applying entry {}", entry.index), &error));
        }
        Ok(match error.primary() {
            code::SQLITE_NOMEM => TEXT_MEMORY.to_owned(),
            _ => error.text,
        })
    }

    /// Sets what is left of the entry's step budget. VACUUM has none: it takes as long as the database is large.
    fn limit_steps(&mut self, entry: &Run<'_>, cached: &mut Cached<Meta>) -> Option<Limit> {
        let steps_max = entry.request.vm_steps_max;
        if steps_max == 0 || cached.meta.leading == Leading::Vacuum {
            return None;
        }
        let left = steps_max.saturating_sub(entry.steps_used).saturating_sub(STEPS_PER_PORTION);
        let limit = if entry.alone { Limit::alone(left) } else { Limit::in_batch(left, entry.steps_used) };
        limit.begin(&self.connection, &mut cached.statement);
        Some(limit)
    }
}

/// CREATE TABLE AS SELECT makes names unique with numbers: `a`, `a:1` to `a:4`, and then random ones. Did the table made
/// last get such?
fn random_names(connection: &Connection) -> Result<bool, Fatal> {
    let failed = |error| Fatal::sqlite("examining a new table", &error);
    let last = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid DESC LIMIT 1";
    let Some(table) = connection.query_texts(last).map_err(failed)?.pop() else { return Ok(false) };
    let columns = format!("SELECT name FROM pragma_table_info({})", rowids::literal(&table));
    let columns = connection.query_texts(&columns).map_err(failed)?;
    let numbered = |name: &str| {
        let (base, number) = name.rsplit_once(':')?;
        Some((base.to_lowercase(), number.parse::<u32>().ok()?))
    };
    let numbered: Vec<_> = columns.iter().filter_map(|name| numbered(name)).collect();
    let last_orderly = |base: &str| numbered.iter().any(|(b, n)| b == base && *n == 4);
    Ok(numbered.iter().any(|(base, number)| *number > 4 && last_orderly(base)))
}

fn describe(statement: &Statement, leading: Leading) -> Meta {
    const CHANGES: &[u8] = b"changes";
    let readonly = statement.is_readonly();
    let dml = leading == Leading::Dml || leading == Leading::With && !readonly;
    let ddl = !readonly && !dml;
    Meta {
        leading,
        dml,
        readonly,
        ddl,
        refusal: if ddl { authorizer::ddl_refusal(statement.sql()) } else { None },
        noticed: context::with(|c| c.noticed.get()),
        mentions_changes: statement.sql().as_bytes().windows(CHANGES.len()).any(|w| w.eq_ignore_ascii_case(CHANGES)),
    }
}

/// Errors on which SQLite may roll back more than the statement.
fn ends_transactions(error: &Error) -> bool {
    [code::SQLITE_FULL, code::SQLITE_NOMEM].contains(&error.primary())
}

/// Whatever became of the statement: a virtual table may have gone on where a statement of its own was ended.
fn out_of_steps(entry: &Run<'_>, meta: Meta) -> Ran {
    let text = if meta.readonly { TEXT_READ_TIMEOUT } else { TEXT_WRITE_TIMEOUT };
    Ran::Failed { text: text.to_owned(), is_read: entry.rows_from_reads && meta.readonly, undo: !meta.readonly }
}

fn failed(text: String, is_read: bool) -> End {
    End::Failed(StatementResult::Error { text, is_read })
}

enum Stepped {
    Rows(Option<Rows>),
    TooLarge,
}

/// Runs to the end, collecting rows where the entry answers them.
fn step_through(statement: &mut Statement, entry: &mut Run<'_>, meta: Meta) -> Result<Stepped, Error> {
    let mut collected = None;
    while statement.step_watched()? == Step::Row {
        if !answers_rows(entry, meta) {
            continue;
        }
        let columns = statement.column_count();
        let rows = collected.get_or_insert_with(Vec::new);
        let mut row = Vec::with_capacity(columns);
        for index in 0..columns {
            let value = statement.column(index);
            entry.result_bytes += size_of::<Value>();
            if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = value {
                entry.result_bytes += bytes.len();
            }
            if entry.result_bytes > ENTRY_RESULT_BYTES_MAX {
                return Ok(Stepped::TooLarge);
            }
            row.push(value.to_owned());
        }
        rows.push(row);
    }
    let has_shape = statement.column_count() > 0 || entry.rows_from_reads && meta.readonly;
    if !answers_rows(entry, meta) || !has_shape {
        return Ok(Stepped::Rows(None));
    }
    let qualify = entry.request.qualify_columns && meta.readonly;
    let columns = (0..statement.column_count()).map(|index| column(statement, index, qualify)).collect();
    Ok(Stepped::Rows(Some(Rows { columns, rows: collected.unwrap_or_default() })))
}

/// `/db/request` answers the rows of every statement, `/db/execute` those of writes that return some, `/db/load` none.
fn answers_rows(entry: &Run<'_>, meta: Meta) -> bool {
    !entry.is_script && (entry.rows_from_reads || meta.dml)
}

fn column(statement: &Statement, index: usize, qualify: bool) -> Column {
    let bare = statement.column_name(index);
    let name = match statement.column_table_name(index) {
        Some(table) if qualify => format!("{table}.{bare}"),
        _ => bare.to_owned(),
    };
    Column { name, decl_type: statement.column_decl_type(index).unwrap_or("").to_ascii_lowercase() }
}
