//! The one connection that writes: opening, group apply, durable commits.
//!
//! Owned by the applier thread (or by whoever opens a database before there are threads). It must never be interrupted,
//! and no other connection of any process may write to its file.

use super::apply::Item;
use super::context::{self, Noticed};
use super::fatal::Fatal;
use super::record::{self, Record};
use super::retries::Retries;
use super::sqlite::{self, Access, Connection, Statement, StatementCache, Step, Writeback};
use super::trail::TrailStatements;
use super::{authorizer, build, clock, functions, limits, rowids, status, tokens};
use crate::command::Outcome;
use raft::{ClusterId, Index, LogId};
use std::path::{Path, PathBuf};

/// Pages in the WAL after which the committing connection checkpoints: 16 MB.
const WAL_CHECKPOINT_PAGES: u32 = 4000;
/// Pages beyond which it does so even before the entries are answered.
const WAL_PAGES_MAX: u32 = 4 * WAL_CHECKPOINT_PAGES;
/// The WAL file is cut back to this after it was larger.
const WAL_BYTES_KEPT: u32 = 64 * 1024 * 1024;
/// The page cache, in KiB. It fills only as far as it is used.
const CACHE_KIB: u32 = 4096;
/// Other connections of this process hold locks only for moments (checkpoints); longer means another process.
const BUSY_TIMEOUT_MS: i32 = 10_000;
const CACHED_STATEMENTS_MAX: usize = 128;

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
    /// Keeps nothing: statements with a step budget are prepared afresh, so that counting starts at the same point.
    pub(super) uncached: StatementCache<Meta>,
    pub(super) retries: Retries,
    pub(super) trail: TrailStatements,
    pub(super) connection: Connection,
    pub(super) record: Record,
    pub(super) foreign_keys: bool,
    /// Some SQL may call `changes()`: its value must not come from an earlier entry.
    pub(super) scope_changes: bool,
    /// The open transaction has changed the schema.
    pub(super) schema_changed: bool,
    /// See `rowids`.
    full_tables: Vec<String>,
    /// Names, up to date with the schema.
    virtual_tables: Vec<String>,
    writeback: Writeback,
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

fn virtual_tables(connection: &Connection) -> Result<Vec<String>, Fatal> {
    connection
        .query_texts("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage = 0")
        .map_err(|error| Fatal::sqlite("looking for virtual tables", &error))
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
        Writer::open_file(path, options).map_err(|fatal| fatal.within(path))
    }

    fn open_file(path: &Path, options: &WriterOptions) -> Result<Writer, Fatal> {
        build::check().map_err(Fatal::new)?;
        clock::install();
        let failed = |error| Fatal::sqlite("opening", &error);
        let connection = Connection::open(path, Access::ReadWrite, Some(sqlite::vfs_name())).map_err(failed)?;
        connection.set_busy_timeout_ms(BUSY_TIMEOUT_MS);
        limits::set_all(&connection, 1);
        if connection.query_texts("PRAGMA journal_mode = WAL").map_err(failed)? != ["wal"] {
            return Err(Fatal::new("it cannot be put into WAL mode"));
        }
        let settings = format!(
            "PRAGMA synchronous = NORMAL;
             PRAGMA journal_size_limit = {WAL_BYTES_KEPT}; PRAGMA cache_size = -{CACHE_KIB}; PRAGMA mmap_size = 0;
             PRAGMA recursive_triggers = OFF; PRAGMA trusted_schema = ON; PRAGMA cell_size_check = ON"
        );
        connection.execute(&settings).map_err(failed)?;
        let record = Record::open(&connection, options.cluster)?;
        record.upgrade(&connection)?;
        connection.harden(options.foreign_keys).map_err(failed)?;
        functions::install(&connection).map_err(failed)?;
        connection.set_authorizer(authorizer::authorize_write);
        connection.set_write_hook(rowids::on_write);
        connection.set_wal_hook(|pages| context::with(|c| c.wal_pages.set(pages)));
        let calls_changes = "SELECT 1 FROM sqlite_schema WHERE sql LIKE '%changes%' LIMIT 1";
        Ok(Writer {
            path: path.to_owned(),
            own: OwnStatements::prepare(&connection)?,
            cache: StatementCache::new(CACHED_STATEMENTS_MAX),
            uncached: StatementCache::new(0),
            retries: Retries::open(&connection)?,
            trail: TrailStatements::prepare(&connection)?,
            record,
            foreign_keys: options.foreign_keys,
            scope_changes: connection.query_integer(calls_changes).map_err(failed)?.is_some(),
            schema_changed: false,
            full_tables: rowids::scan(&connection)?,
            virtual_tables: virtual_tables(&connection)?,
            writeback: Writeback::open(path),
            connection,
        })
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

    /// Applies entries that follow the applied one, in order, in as few SQLite transactions as possible. On return all
    /// of them are committed (not yet durable; see [`Writer::commit_full`]). What each comes to is the same however
    /// entries are divided into batches.
    ///
    /// # Errors
    /// The machine failed, or the entries do not follow. The process must stop: nothing is known of the database but
    /// what a fresh `open` reads.
    pub fn apply_batch(&mut self, entries: &[(LogId, Item)]) -> Result<Vec<Outcome>, Fatal> {
        let mut expected = self.record.applied.index;
        for (id, _) in entries {
            expected = expected.next();
            if id.index != expected || id.term < self.record.applied.term {
                return Err(Fatal::new(format!("entry {id} does not follow {}", self.record.applied)));
            }
        }
        context::with(|c| {
            c.full_tables.replace(std::mem::take(&mut self.full_tables));
            c.virtual_tables.replace(std::mem::take(&mut self.virtual_tables));
        });
        let result = self.apply_checked(entries);
        context::with(|c| {
            self.full_tables = c.full_tables.take();
            self.virtual_tables = c.virtual_tables.take();
            c.now_us.set(None);
        });
        result
    }

    fn apply_checked(&mut self, entries: &[(LogId, Item)]) -> Result<Vec<Outcome>, Fatal> {
        let mut outcomes = Vec::with_capacity(entries.len());
        while outcomes.len() < entries.len() {
            let rest = &entries[outcomes.len()..];
            let resumed = self.record.progress.statements > 0;
            let together = if resumed { 0 } else { self.apply_together(rest, &mut outcomes)? };
            if together < rest.len() {
                let (id, item) = &rest[together];
                outcomes.push(self.apply_alone(*id, item)?);
            }
        }
        Ok(outcomes)
    }

    /// Applies entries in one transaction up to the first that needs one (or several) of its own. Gives how many.
    fn apply_together(&mut self, entries: &[(LogId, Item)], outcomes: &mut Vec<Outcome>) -> Result<usize, Fatal> {
        let before = self.record.clone();
        let first = outcomes.len();
        let mut upto = entries.len();
        // A second round follows when an entry turns out to need its own transaction: what it did must not remain, so
        // everything is rolled back and the entries before it are applied again. They come to the same.
        for round in 0..2 {
            run(&mut self.own.begin, "beginning a transaction")?;
            let mut done = 0;
            for (id, item) in &entries[..upto] {
                let Some(outcome) = self.apply_in_group(*id, item)? else { break };
                if self.connection.is_autocommit() {
                    return Err(Fatal::new(format!("entry {id} ended the transaction unnoticed")));
                }
                outcomes.push(outcome);
                done += 1;
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
                return Ok(0);
            }
        }
        self.commit("committing entries")?;
        Ok(upto)
    }

    /// Writes the applied row and commits.
    pub(super) fn commit(&mut self, doing: &str) -> Result<(), Fatal> {
        self.record.write(&self.connection)?;
        run(&mut self.own.commit, doing)?;
        self.retries.committed();
        self.schema_changed = false;
        // Only one long entry gets here without `tidy_up` in between.
        match context::with(|c| c.wal_pages.get()) {
            pages if pages >= WAL_PAGES_MAX => self.checkpoint(),
            _ => Ok(()),
        }
    }

    /// What can wait until those are answered who wait for the entries just applied: moves a full WAL into the database
    /// file, and lets the disk begin with a growing one. To be called after each batch.
    ///
    /// # Errors
    /// The machine failed; the process must stop.
    pub fn tidy_up(&mut self) -> Result<(), Fatal> {
        let pages = context::with(|c| c.wal_pages.get());
        self.writeback.grown_to(pages);
        if pages >= WAL_CHECKPOINT_PAGES { self.checkpoint() } else { Ok(()) }
    }

    /// Moves the WAL's pages into the database file, as far as readers let it.
    ///
    /// SQLite's own automatic checkpoint ignores errors and tries again with the next commit. But a sync that failed once
    /// may succeed the second time though the pages never reached the disk, and then the WAL that still has them is
    /// overwritten. So the checkpoint is ours, and its failure is fatal.
    ///
    /// # Errors
    /// The machine failed; the process must stop.
    pub fn checkpoint(&self) -> Result<(), Fatal> {
        self.connection.checkpoint_passive().map_err(|error| Fatal::sqlite("checkpointing", &error))
    }

    /// Ends the open transaction, if it is still there.
    pub(super) fn roll_back(&mut self) -> Result<(), Fatal> {
        if !self.connection.is_autocommit() {
            run(&mut self.own.rollback, "rolling back")?;
        }
        self.retries.rolled_back();
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
            let names = virtual_tables(&self.connection)?;
            context::with(|c| c.virtual_tables.replace(names));
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
