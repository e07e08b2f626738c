//! The one connection that writes: opening, group apply, durable commits.
//!
//! Owned by the applier thread (or by whoever opens a database before there are threads). It must never be interrupted,
//! and no other connection of any process may write to its file.

use super::apply::Item;
use super::checkpoint::{Checkpoints, WAL_BYTES_KEPT};
use super::context::{self, Noticed};
use super::counting::Tally;
use super::fatal::{Fatal, refusal};
use super::load::Parts;
use super::own;
use super::record::{self, Record};
use super::retries::Retries;
use super::sqlite::{self, Access, Connection, Statement, StatementCache, Step};
use super::trail::TrailStatements;
use super::{authorizer, build, clock, functions, limits, rowids, shadow, status, steps, tokens};
use crate::command::{Outcome, Repeat};
use raft::{ClusterId, Index, LogId};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The page cache, in KiB. It fills only as far as it is used.
const CACHE_KIB: u32 = 4096;
/// Other connections of this process hold locks only for moments (checkpoints); longer means another process.
pub(super) const BUSY_TIMEOUT_MS: i32 = 10_000;
const CACHED_STATEMENTS_MAX: usize = 128;

/// Entries share a transaction for so long. What they come to does not depend on it; but a few short entries may write
/// gigabytes, and that must not become one WAL and one checkpoint which keep the disk from everybody else.
const TRANSACTION_TIME_MAX: Duration = Duration::from_millis(200);

/// What the entry behind a group of entries needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A transaction of its own.
    Alone,
    /// Nothing special.
    More,
}

/// How to open. Equal on all nodes of a cluster.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Enforce foreign keys (`-fk`).
    pub foreign_keys: bool,
    /// A database of another cluster is refused; a new one is marked with it.
    pub cluster: ClusterId,
}

/// What the database stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The last entry in it.
    pub id: LogId,
    /// The highest entry time so far, microseconds since the Unix epoch.
    pub time_us: i64,
    /// The last entry that could change data.
    pub changed: Index,
    /// Entry time of the last VACUUM; 0 = never.
    pub vacuum_us: i64,
    /// Entry time of the last `PRAGMA optimize`; 0 = never.
    pub optimize_us: i64,
    /// Time of the first command; 0 before it.
    pub created_us: i64,
}

/// See the module.
pub struct Writer {
    path: PathBuf,
    pub(super) own: OwnStatements,
    pub(super) cache: StatementCache<Meta>,
    pub(super) retries: Retries,
    pub(super) trail: TrailStatements,
    pub(super) parts: Parts,
    pub(super) tally: Tally,
    pub(super) connection: Connection,
    pub(super) record: Record,
    /// Foreign keys are enforced now. `-fk` says so, but a script may switch them off up to its end.
    pub(super) foreign_keys: bool,
    foreign_keys_flag: bool,
    /// Some SQL may call `changes()`: its value must not come from an earlier entry.
    pub(super) scope_changes: bool,
    /// The planner may know more of the tables than their definitions (ANALYZE has run).
    pub(super) has_statistics: bool,
    /// The entry that is to be applied alone must not see the schema as it came to be in memory.
    pub(super) wants_fresh_schema: bool,
    /// The open transaction has changed the schema.
    pub(super) schema_changed: bool,
    /// Foreign keys of a client's table point to ours; see `as_no_parent`.
    is_parent: bool,
    /// See `rowids`.
    full_tables: Vec<String>,
    /// Up to date with the schema.
    names: shadow::Names,
    /// An index or a foreign key on a shadow table, which clients can make no more, is there all the same.
    pub(super) is_tampered: bool,
    pub(super) checkpoints: Checkpoints,
    pub(super) page_bytes: u32,
}

/// What the applier remembers of a client's statement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub leading: tokens::Leading,
    /// Sets `changes()`.
    pub dml: bool,
    pub readonly: bool,
    /// Changes the schema, or may.
    pub ddl: bool,
    /// It is not to be run at all, for this reason.
    pub refusal: Option<&'static str>,
    pub noticed: Noticed,
    /// The text contains `changes`.
    pub mentions_changes: bool,
}

/// Statements of our own that run for nearly every batch.
pub(super) struct OwnStatements {
    pub begin: Statement,
    pub commit: Statement,
    pub rollback: Statement,
    pub savepoint: Statement,
    pub release: Statement,
    pub rollback_to: Statement,
    /// Changes nothing, which makes `changes()` 0.
    pub touch: Statement,
}

impl OwnStatements {
    fn prepare(connection: &Connection) -> Result<OwnStatements, Fatal> {
        let prepare = |sql: &str| match connection.prepare(sql) {
            Ok((statement, _)) => Ok(statement.expect("SQL of our own is not empty")),
            Err(error) => Err(Fatal::sqlite("preparing SQL of our own", &error)),
        };
        Ok(OwnStatements {
            begin: prepare("BEGIN IMMEDIATE")?,
            commit: prepare("COMMIT")?,
            rollback: prepare("ROLLBACK")?,
            savepoint: prepare("SAVEPOINT entry")?,
            release: prepare("RELEASE entry")?,
            rollback_to: prepare("ROLLBACK TO entry")?,
            touch: prepare(&format!("UPDATE {} SET id = id WHERE 0", authorizer::RESERVED_TABLE))?,
        })
    }
}

/// Runs a statement of our own whose failure may be that of a client's content: gives SQLite's message then.
pub(super) fn try_run(statement: &mut Statement, doing: &str) -> Result<Option<String>, Fatal> {
    let result = statement.step();
    statement.reset();
    refusal(doing, result.map(drop))
}

pub(super) fn has_statistics(connection: &Connection) -> Result<bool, Fatal> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE name IN ('sqlite_stat1', 'sqlite_stat4') LIMIT 1";
    let found = connection.query_integer(sql).map_err(|error| Fatal::sqlite("looking for statistics", &error))?;
    Ok(found.is_some())
}

/// Runs a statement of our own; any failure is the machine's.
pub(super) fn run(statement: &mut Statement, doing: &str) -> Result<(), Fatal> {
    let result = statement.step();
    statement.reset();
    match result {
        Ok(Step::Done | Step::Row) => Ok(()),
        Err(error) => Err(Fatal::sqlite(doing, &error)),
    }
}

impl Writer {
    /// Opens the database, creating it when missing. Takes as long for a large one as for a small one.
    ///
    /// # Errors
    /// The file cannot be used, belongs to another cluster, or this build's SQLite is not fit.
    pub fn open(path: &Path, options: &WriterOptions) -> Result<Writer, Fatal> {
        Writer::open_if(path, options, |_| Ok(()))
    }

    /// As [`Writer::open`], once `agree` has nothing against the entry that the database says it has applied. A file that is
    /// refused stays as it is.
    ///
    /// `agree` may be asked twice.
    ///
    /// # Errors
    /// As [`Writer::open`], and those of `agree`.
    pub fn open_if<E: From<Fatal>>(
        path: &Path,
        options: &WriterOptions,
        agree: impl Fn(LogId) -> Result<(), E>,
    ) -> Result<Writer, E> {
        let within = |fatal: Fatal| fatal.within(path);
        if !sqlite::memory::install() {
            return Err(within(Fatal::new("SQLite was in use before its memory was limited")).into());
        }
        build::check().map_err(Fatal::new).map_err(within)?;
        clock::install();
        if !path.exists() {
            agree(LogId::default())?;
        }
        let connection = Writer::connect(path).map_err(within)?;
        let found = Record::read(&connection, options.cluster).map_err(within)?;
        agree(found.as_ref().map_or(LogId::default(), |record| record.applied))?;
        Ok(Writer::take_over(connection, found, path, options).map_err(within)?)
    }

    /// A connection that has changed nothing, and changes nothing when it is closed.
    fn connect(path: &Path) -> Result<Connection, Fatal> {
        let failed = |error| Fatal::sqlite("opening", &error);
        let connection = Connection::open(path, Access::ReadWrite, Some(sqlite::vfs_name())).map_err(failed)?;
        connection.set_checkpoint_on_close(false).map_err(failed)?;
        connection.set_busy_timeout_ms(BUSY_TIMEOUT_MS);
        limits::set_all(&connection, 1);
        Ok(connection)
    }

    fn take_over(
        connection: Connection,
        found: Option<Record>,
        path: &Path,
        options: &WriterOptions,
    ) -> Result<Writer, Fatal> {
        let failed = |error| Fatal::sqlite("opening", &error);
        connection.set_checkpoint_on_close(true).map_err(failed)?;
        if connection.query_texts("PRAGMA journal_mode = WAL").map_err(failed)? != ["wal"] {
            return Err(Fatal::new("it cannot be put into WAL mode"));
        }
        let settings = format!(
            "PRAGMA synchronous = NORMAL;
             PRAGMA journal_size_limit = {WAL_BYTES_KEPT}; PRAGMA cache_size = -{CACHE_KIB}; PRAGMA mmap_size = 0;
             PRAGMA recursive_triggers = OFF; PRAGMA trusted_schema = ON; PRAGMA cell_size_check = ON"
        );
        connection.execute(&settings).map_err(failed)?;
        let record = match found {
            Some(record) => {
                record.upgrade(&connection)?;
                record
            }
            None => {
                let record = Record::new(options.cluster);
                record.create(&connection)?;
                record
            }
        };
        // Before foreign keys are enforced, which may keep our own SQL from being compiled.
        let own = OwnStatements::prepare(&connection)?;
        let retries = Retries::open(&connection)?;
        let trail = TrailStatements::prepare(&connection)?;
        let parts = Parts::open(&connection)?;
        connection.harden(options.foreign_keys).map_err(failed)?;
        connection.plan_without_values().map_err(failed)?;
        functions::install(&connection).map_err(failed)?;
        steps::calibrate(&connection)?;
        connection.set_authorizer(authorizer::authorize_write);
        connection.set_write_hook(rowids::on_write);
        connection.set_wal_hook(|pages| context::with(|c| c.wal_pages.set(pages)));
        let calls_changes = "SELECT 1 FROM sqlite_schema WHERE sql LIKE '%changes%' LIMIT 1";
        let names = shadow::Names::read(&connection)?;
        let names_ours = format!(
            "SELECT 1 FROM sqlite_schema WHERE sql LIKE '%{0}%' AND name <> '{0}' LIMIT 1",
            authorizer::RESERVED_TABLE
        );
        Ok(Writer {
            path: path.to_owned(),
            own,
            cache: StatementCache::new(CACHED_STATEMENTS_MAX),
            retries,
            trail,
            parts,
            tally: Tally::default(),
            record,
            foreign_keys: options.foreign_keys,
            foreign_keys_flag: options.foreign_keys,
            scope_changes: connection.query_integer(calls_changes).map_err(failed)?.is_some(),
            has_statistics: has_statistics(&connection)?,
            wants_fresh_schema: false,
            schema_changed: false,
            is_parent: options.foreign_keys && connection.query_integer(names_ours.as_str()).map_err(failed)?.is_some(),
            full_tables: rowids::scan(&connection)?,
            is_tampered: shadow::is_tampered(&connection, &names)?,
            names,
            checkpoints: Checkpoints::default(),
            page_bytes: own::number(&connection, "PRAGMA page_size")?,
            connection,
        })
    }

    /// Makes `changes()` 0.
    pub(super) fn touch(&mut self) -> Result<(), Fatal> {
        self.as_no_parent(|writer| run(&mut writer.own.touch, "resetting changes()"))
    }

    /// For SQL of our own that writes our table. Clients can no longer make foreign keys onto it, but a database from
    /// elsewhere may hold some, and then they must not count: SQLite might refuse to compile the SQL.
    pub(super) fn as_no_parent<T>(&mut self, write: impl FnOnce(&mut Writer) -> Result<T, Fatal>) -> Result<T, Fatal> {
        if !self.is_parent {
            return write(self);
        }
        let failed = |error| Fatal::sqlite("switching foreign keys", &error);
        self.connection.set_foreign_keys(false).map_err(failed)?;
        let written = write(self)?;
        self.connection.set_foreign_keys(self.foreign_keys).map_err(failed)?;
        Ok(written)
    }

    /// Enforces foreign keys as `-fk` says, or not at all.
    pub(super) fn switch_foreign_keys_off(&mut self, off: bool) -> Result<(), Fatal> {
        self.foreign_keys = self.foreign_keys_flag && !off;
        let switched = self.connection.set_foreign_keys(self.foreign_keys);
        switched.map_err(|error| Fatal::sqlite("switching foreign keys", &error))
    }

    /// Entries are applied one after the other, each once.
    pub(super) fn check_follows(&self, id: LogId) -> Result<(), Fatal> {
        self.check_follows_at(id, self.record.applied.index.next())
    }

    fn check_follows_at(&self, id: LogId, index: Index) -> Result<(), Fatal> {
        if id.index != index || id.term < self.record.applied.term {
            return Err(Fatal::new(format!("entry {id} does not follow {}", self.record.applied)));
        }
        Ok(())
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last applied entry and what is known of it.
    pub fn applied(&self) -> Applied {
        Applied {
            id: self.record.applied,
            time_us: self.record.time_us,
            changed: self.record.changed,
            vacuum_us: self.record.vacuum_us,
            optimize_us: self.record.optimize_us,
            created_us: self.record.created_us,
        }
    }

    /// The membership in force at the applied index, as the log carried it; empty when there was none.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn membership(&self) -> Result<Vec<u8>, Fatal> {
        record::read_membership(&self.connection)
    }

    /// The index of the entry that holds that membership; 0: not known.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn membership_index(&self) -> Result<Index, Fatal> {
        record::read_membership_index(&self.connection)
    }

    /// The entry up to which this database was copied from another node, if it was. While that is the applied entry, the log
    /// may end before it: the copy took the place of what the log lacks.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn installed_snapshot(&self) -> Result<Option<LogId>, Fatal> {
        record::read_installed(&self.connection)
    }

    /// Replaces the membership without an entry, durably: recovery by an operator's hand. Gives the applied entry.
    ///
    /// # Errors
    /// The machine failed; the process must stop.
    pub fn force_membership(&mut self, membership: &[u8]) -> Result<LogId, Fatal> {
        self.as_no_parent(|writer| {
            run(&mut writer.own.begin, "beginning a transaction")?;
            record::write_membership(&writer.connection, writer.record.applied.index, membership)
        })?;
        self.commit("recording the membership")?;
        self.commit_full()
    }

    /// Applies entries that follow the applied one, in order, in as few SQLite transactions as possible. On return all
    /// of them are committed (not yet durable; see [`Writer::commit_full`]). What each comes to is the same however
    /// entries are divided into batches.
    ///
    /// # Errors
    /// The machine failed, or the entries do not follow. The process must stop: nothing is known of the database but
    /// what a fresh `open` reads.
    pub fn apply_batch(&mut self, entries: &[(LogId, Item)]) -> Result<Vec<Outcome>, Fatal> {
        sqlite::forget_disk_failure();
        let mut expected = self.record.applied.index;
        for (id, _) in entries {
            expected = expected.next();
            self.check_follows_at(*id, expected)?;
        }
        context::with(|c| {
            c.full_tables.replace(std::mem::take(&mut self.full_tables));
            c.names.replace(std::mem::take(&mut self.names));
        });
        let result = self.apply_checked(entries);
        context::with(|c| {
            self.full_tables = c.full_tables.take();
            self.names = c.names.take();
            c.now_us.set(None);
        });
        result
    }

    fn apply_checked(&mut self, entries: &[(LogId, Item)]) -> Result<Vec<Outcome>, Fatal> {
        let mut outcomes = Vec::with_capacity(entries.len());
        while outcomes.len() < entries.len() {
            let rest = &entries[outcomes.len()..];
            let resumed = self.record.progress.statements > 0;
            let (together, next) = if resumed { (0, Next::Alone) } else { self.apply_together(rest, &mut outcomes)? };
            if next == Next::Alone && together < rest.len() {
                let (id, item) = &rest[together];
                let outcome = self.apply_alone(*id, item).map_err(|fatal| fatal.at_entry(id.index))?;
                outcomes.push(outcome);
            }
        }
        Ok(outcomes)
    }

    /// Applies entries in one transaction, up to the first that needs one (or several) of its own, or until it has taken long.
    /// Gives how many, and what the next one needs.
    fn apply_together(
        &mut self,
        entries: &[(LogId, Item)],
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(usize, Next), Fatal> {
        let began = Instant::now();
        let before = self.record.clone();
        let mut next = Next::Alone;
        let first = outcomes.len();
        let mut upto = entries.len();
        // A second round follows when an entry turns out to need its own transaction: what it did must not remain, so
        // everything is rolled back and the entries before it are applied again. They come to the same.
        for round in 0..2 {
            run(&mut self.own.begin, "beginning a transaction")?;
            let mut done = 0;
            for (id, item) in &entries[..upto] {
                let outcome = self.apply_in_group(*id, item).map_err(|fatal| fatal.at_entry(id.index))?;
                let Some(outcome) = outcome else { break };
                if self.connection.is_autocommit() {
                    return Err(Fatal::new(format!("entry {id} ended the transaction unnoticed")));
                }
                outcomes.push(outcome);
                done += 1;
                if done < upto && began.elapsed() >= TRANSACTION_TIME_MAX {
                    (upto, next) = (done, Next::More);
                    break;
                }
            }
            if done == upto {
                break;
            }
            if round > 0 {
                return Err(Fatal::new(format!("entry {} came to something else the second time", entries[done].0)));
            }
            self.roll_back()?;
            self.record = before.clone();
            outcomes.truncate(first);
            upto = done;
            if upto == 0 {
                return Ok((0, Next::Alone));
            }
        }
        if self.try_commit("committing entries")?.is_none() {
            return Ok((upto, next));
        }
        // Some client's content stands against it. Whose, shows when the entries are applied one by one.
        let mut tried = entries[..upto].iter().zip(&outcomes[first..]);
        let suspect = tried.position(|((_, item), outcome)| item.has_sql() && outcome.repeat == Repeat::First);
        self.record = before;
        outcomes.truncate(first);
        match suspect {
            Some(0) => Ok((0, Next::Alone)),
            Some(before_it) => self.apply_together(&entries[..before_it], outcomes),
            None => Err(Fatal::new(format!("entries from {} cannot be committed", entries[0].0))),
        }
    }

    /// Writes the applied row and commits.
    pub(super) fn commit(&mut self, doing: &str) -> Result<(), Fatal> {
        match self.try_commit(doing)? {
            None => Ok(()),
            Some(text) => Err(Fatal::new(format!("{doing}: {text}"))),
        }
    }

    /// The same where clients' content may stand against it: virtual tables write what they gathered only now. Then the
    /// transaction is rolled back, and SQLite's message comes back.
    pub(super) fn try_commit(&mut self, doing: &str) -> Result<Option<String>, Fatal> {
        self.record.write(&self.connection)?;
        if let Some(text) = try_run(&mut self.own.commit, doing)? {
            self.roll_back()?;
            return Ok(Some(text));
        }
        self.retries.committed();
        self.parts.committed();
        self.tally.committed();
        self.schema_changed = false;
        self.tidy_up_within_entry()?;
        Ok(None)
    }

    /// Ends the open transaction, if it is still there.
    pub(super) fn roll_back(&mut self) -> Result<(), Fatal> {
        if !self.connection.is_autocommit() {
            run(&mut self.own.rollback, "rolling back")?;
        }
        self.retries.rolled_back();
        self.parts.rolled_back(&self.connection)?;
        self.tally.rolled_back();
        self.follow_schema()
    }

    /// Back to the savepoint, which stays set.
    pub(super) fn roll_back_to_savepoint(&mut self) -> Result<(), Fatal> {
        run(&mut self.own.rollback_to, "rolling back")?;
        self.follow_schema()
    }

    /// After the schema was changed, or changed back. A cached statement that the schema no longer allows would fail
    /// when it runs, where one that is not cached fails when it is prepared; which of them a node has is chance.
    pub(super) fn follow_schema(&mut self) -> Result<(), Fatal> {
        if self.schema_changed {
            self.cache.clear();
            let names = shadow::Names::read(&self.connection)?;
            self.is_tampered = shadow::is_tampered(&self.connection, &names)?;
            context::with(|c| c.names.replace(names));
        }
        Ok(())
    }

    /// Commits so that everything applied so far survives a power cut, and gives the entry up to which that holds.
    ///
    /// # Errors
    /// The machine failed; the process must stop.
    pub fn commit_full(&mut self) -> Result<LogId, Fatal> {
        let failed = |error| Fatal::sqlite("making the database durable", &error);
        self.connection.execute("PRAGMA synchronous = FULL").map_err(failed)?;
        run(&mut self.own.begin, "beginning a transaction")?;
        self.commit("making the database durable")?;
        self.connection.execute("PRAGMA synchronous = NORMAL").map_err(failed)?;
        Ok(self.record.applied)
    }

    /// Gives unused cache memory back, e.g. when there is nothing to apply.
    pub fn release_memory(&self) {
        self.connection.release_memory();
    }

    /// Name and value of the pragmas that `/status` shows of this connection.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn pragmas(&self) -> Result<Vec<(String, String)>, Fatal> {
        status::read_pragmas(&self.connection).map_err(|error| Fatal::sqlite("reading the pragmas", &error))
    }

    /// For reading by this thread (dumps, hashes). Nothing may be written through it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// It is opened on one thread and handed to the applier.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Writer>();
};
