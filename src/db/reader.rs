//! One read-only connection: runs the statements of a request on one snapshot, and says whether statements only read.
//!
//! Runs on the thread that holds it (an HTTP worker, a peer's connection), one at a time; `readers.rs` lends it out.
//! It must never leave a transaction, a running statement or a changed setting behind, and never judge SQL by its text.

use super::bind::{BindError, Binder};
use super::limits;
use super::reader_rules;
use super::readers::ReadError;
use super::sqlite::memory::Budget;
use super::sqlite::{Access, Cached, Connection, Error, Interrupter, Script, Statement, StatementCache, Step, code};
use super::tokens::{self, Leading};
use crate::command::{self, Column, Request, ResultSink, ValueRef};
use std::cell::Cell;
use std::path::Path;
use std::time::Instant;

/// What a client sees who writes on a read path.
pub const WRITE_REFUSED: &str = "attempt to change database via query operation";
/// What a client sees whose deadline passed while a statement ran.
pub const TIMED_OUT: &str = "query timeout";

/// VM steps between two looks at the clock: some ten microseconds.
const STEPS_PER_CHECK: i32 = 1000;
/// Rows between two looks at the clock, for rows that take long and few steps.
const ROWS_PER_CHECK: u64 = 64;
/// Prepared statements kept by a connection. A statement takes some kilobytes.
const CACHED_STATEMENTS_MAX: usize = 64;
/// Most statements in one string: all are prepared before the first runs, and only one of them gives rows.
const STATEMENTS_PER_STRING_MAX: usize = 1000;
/// Waiting for a lock that another connection holds (recovery of the WAL after a crash).
const BUSY_TIMEOUT_MS: i32 = 5000;

/// How each connection of the pool is set up.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    pub foreign_keys: bool,
    /// Page cache, KiB.
    pub cache_kib: u32,
}

/// See the module.
pub struct Reader {
    cache: StatementCache<Meta>,
    begin: Statement,
    commit: Statement,
    /// Buffers that are empty between requests and keep their memory.
    parts: Vec<Cached<Meta>>,
    row: Vec<ValueRef<'static>>,
    connection: Connection,
}

// SAFETY: a reader owns its connection and every statement of it, so that they move between threads together; the
// connection is opened NOMUTEX and used by one thread at a time, because running anything takes `&mut self`.
unsafe impl Send for Reader {}

/// What is remembered of a prepared statement.
struct Meta {
    /// EXPLAIN, or SQLite says that it changes nothing.
    is_read: bool,
    /// Does nothing here, but would through the log (`PRAGMA optimize`).
    acts_if_logged: bool,
    columns: Vec<Column>,
    /// With the tables that they come from; made when first asked for.
    qualified: Option<Vec<Column>>,
    /// How often SQLite had prepared it anew when the columns were read.
    reprepared: i32,
}

/// Why a string of SQL gave no result.
enum Failure {
    Client(String),
    Sqlite(Error),
    TimedOut,
    SinkFull,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Sqlite(error)
    }
}

thread_local! {
    /// When the statement that runs on this thread must end.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Sets the deadline until it is dropped, also by a panic: the thread goes on to serve others.
struct Deadline;

impl Deadline {
    fn set(deadline: Instant) -> Deadline {
        DEADLINE.set(Some(deadline));
        Deadline
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        DEADLINE.set(None);
    }
}

fn is_deadline_passed() -> bool {
    DEADLINE.get().is_some_and(|deadline| Instant::now() >= deadline)
}

impl Reader {
    /// Opens a connection that can do nothing but read.
    ///
    /// # Errors
    /// The file is missing, is no database, or cannot be opened now.
    pub fn open(path: &Path, options: &ConnectionOptions) -> Result<Reader, Error> {
        let connection = Connection::open(path, Access::ReadOnly, None)?;
        connection.set_busy_timeout_ms(BUSY_TIMEOUT_MS);
        connection.harden(options.foreign_keys)?;
        limits::set_all(&connection, 0);
        let cache_kib = options.cache_kib;
        connection.execute(&format!("PRAGMA query_only=1; PRAGMA synchronous=0; PRAGMA cache_size=-{cache_kib}"))?;
        reader_rules::install(&connection)?;
        connection.set_progress_handler(STEPS_PER_CHECK, |_| is_deadline_passed());
        let prepare = |sql| Ok::<_, Error>(connection.prepare(sql)?.0.expect("our own SQL is a statement"));
        let (begin, commit) = reader_rules::as_ours(|| Ok::<_, Error>((prepare("BEGIN")?, prepare("COMMIT")?)))?;
        let cache = StatementCache::new(CACHED_STATEMENTS_MAX);
        Ok(Reader { cache, begin, commit, parts: Vec::new(), row: Vec::new(), connection })
    }

    pub fn interrupter(&self) -> Interrupter {
        self.connection.interrupter()
    }

    /// For questions of our own (`/status`), which the rules for clients do not bind.
    ///
    /// # Errors
    /// Those of `ask`.
    pub fn ask<T>(&mut self, ask: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        reader_rules::as_ours(|| ask(&self.connection))
    }

    /// No transaction is open and nothing holds a snapshot.
    pub fn is_clean(&self) -> bool {
        self.connection.is_autocommit() && !self.connection.has_snapshot()
    }

    /// Runs all statements of a request on one snapshot, each on its own merits.
    ///
    /// # Errors
    /// The request as a whole cannot be served; SQL errors go to the sink.
    pub fn query(&mut self, request: &Request, deadline: Instant, sink: &mut dyn ResultSink) -> Result<(), ReadError> {
        let mut statements = request.statements.iter().filter(|statement| !statement.sql.is_empty());
        let is_many = statements.clone().nth(1).is_some();
        let outcome = {
            let _deadline = Deadline::set(deadline);
            let _budget = Budget::begin();
            let begun = if is_many { self.begin() } else { Ok(()) };
            begun.and_then(|()| {
                statements.try_for_each(|statement| self.answer(statement, request.qualify_columns, sink))
            })
        };
        self.end();
        outcome.map_err(ReadError::Broken)
    }

    /// Does every statement only read? What cannot be prepared counts as a write: the log then says why it fails. In a
    /// transaction a SELECT counts as a read even so: were it sent through the log, its error would roll back nothing and
    /// yet end the request, and the reads after it would go unanswered.
    pub fn only_reads(&mut self, request: &Request) -> bool {
        let _budget = Budget::begin();
        request.statements.iter().all(|statement| {
            let mut parts = std::mem::take(&mut self.parts);
            let prepared = self.prepare(&statement.sql, &mut parts, true);
            let is_known = match prepared {
                Ok(()) => true,
                Err(_) => request.transaction && tokens::leading(&statement.sql) == Leading::Select,
            };
            let only_reads = is_known && parts.iter().all(|part| part.meta.is_read && !part.meta.acts_if_logged);
            self.put_back(parts);
            only_reads
        })
    }

    fn begin(&mut self) -> Result<(), Error> {
        if !self.connection.is_autocommit() {
            return Ok(());
        }
        let begun = reader_rules::as_ours(|| self.begin.step());
        self.begin.reset();
        begun.map(drop)
    }

    fn end(&mut self) {
        if !self.connection.is_autocommit() {
            // Ending a transaction that only read cannot fail; should it, the connection is not clean and is dropped.
            let _ = reader_rules::as_ours(|| self.commit.step());
            self.commit.reset();
        }
    }

    /// Runs one string and gives its result or its error to the sink. `Err`: the database itself is unwell.
    fn answer(&mut self, sql: &command::Statement, qualify: bool, sink: &mut dyn ResultSink) -> Result<(), Error> {
        let started = Instant::now();
        let mut parts = std::mem::take(&mut self.parts);
        let outcome = self
            .prepare(&sql.sql, &mut parts, false)
            .and_then(|()| self.run(&mut parts, &sql.parameters, qualify, started, sink));
        self.put_back(parts);
        match outcome {
            Ok(()) => {}
            Err(Failure::Client(text)) => sink.error(&text, true),
            Err(Failure::TimedOut) => sink.error(TIMED_OUT, true),
            Err(Failure::SinkFull) => sink.error("result too large", true),
            Err(Failure::Sqlite(error)) if is_unwell(&error) => return Err(error),
            Err(Failure::Sqlite(error)) => match error.primary() {
                code::SQLITE_INTERRUPT if is_deadline_passed() => sink.error(TIMED_OUT, true),
                code::SQLITE_READONLY => sink.error(WRITE_REFUSED, true),
                code::SQLITE_AUTH => sink.error(reader_rules::take_refusal().unwrap_or(&error.text), true),
                _ => sink.error(&error.text, true),
            },
        }
        Ok(())
    }

    /// Takes every statement of the string from the cache or prepares it; what is in `parts` must be put back.
    fn prepare(&mut self, sql: &str, parts: &mut Vec<Cached<Meta>>, stop_at_write: bool) -> Result<(), Failure> {
        // What earlier statements of this thread were refused or ignored for is over.
        reader_rules::forget();
        let mut script = Script::new(sql);
        while let Some(part) = self.cache.next(&self.connection, &mut script, Meta::of)? {
            let is_read = part.meta.is_read;
            parts.push(part);
            if stop_at_write && !is_read {
                return Ok(());
            }
            if parts.len() > STATEMENTS_PER_STRING_MAX {
                return Err(Failure::Client(format!("more than {STATEMENTS_PER_STRING_MAX} statements in one string")));
            }
        }
        Ok(())
    }

    fn put_back(&mut self, mut parts: Vec<Cached<Meta>>) {
        parts.drain(..).for_each(|part| self.cache.put(part));
        self.parts = parts;
    }

    /// Runs every statement of a string; the last one that has columns gives the result.
    fn run(
        &mut self,
        parts: &mut [Cached<Meta>],
        parameters: &[command::Parameter],
        qualify: bool,
        started: Instant,
        sink: &mut dyn ResultSink,
    ) -> Result<(), Failure> {
        if parts.iter().any(|part| !part.meta.is_read) {
            return Err(Failure::Client(WRITE_REFUSED.to_owned()));
        }
        if parts.len() > 1 {
            self.begin()?;
        }
        let mut binder = Binder::new(parameters).map_err(Failure::Client)?;
        for part in parts.iter_mut() {
            binder.bind(&mut part.statement).map_err(|error| match error {
                BindError::Client(text) => Failure::Client(text),
                BindError::Sqlite(error) => Failure::Sqlite(error),
            })?;
        }
        if is_deadline_passed() {
            return Err(Failure::TimedOut);
        }
        let answers = parts.iter().rposition(|part| !part.meta.columns.is_empty());
        // None of them changes anything, so that the one whose rows are shown may run last: no error follows its rows.
        for (place, part) in parts.iter_mut().enumerate() {
            if answers != Some(place) {
                discard_rows(&mut part.statement)?;
            }
        }
        if let Some(place) = answers {
            return self.stream(&mut parts[place], qualify, started, sink);
        }
        sink.begin_rows(&[]);
        sink.end_rows(started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Gives the rows of one statement to the sink.
    fn stream(
        &mut self,
        part: &mut Cached<Meta>,
        qualify: bool,
        started: Instant,
        sink: &mut dyn ResultSink,
    ) -> Result<(), Failure> {
        let statement = &mut part.statement;
        // The first step prepares the statement anew where the schema has changed; then its columns may have, too.
        let mut step = statement.step()?;
        part.meta.refresh(statement);
        sink.begin_rows(part.meta.columns(qualify, statement));
        let columns = part.meta.columns.len();
        let mut rows: u64 = 0;
        while step == Step::Row {
            let mut row = empty(std::mem::take(&mut self.row));
            row.extend((0..columns).map(|index| statement.column(index)));
            let taken = sink.row(&row);
            self.row = empty(row);
            taken.map_err(|_| Failure::SinkFull)?;
            rows += 1;
            if rows.is_multiple_of(ROWS_PER_CHECK) && is_deadline_passed() {
                return Err(Failure::TimedOut);
            }
            step = statement.step()?;
        }
        sink.end_rows(started.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Empties the vector and keeps its memory, whatever the lifetime of what was in it: collecting a vector's own iterator
/// into items of the same layout reuses the allocation.
fn empty<'a>(mut row: Vec<ValueRef<'_>>) -> Vec<ValueRef<'a>> {
    row.clear();
    row.into_iter().map(|_| ValueRef::Null).collect()
}

fn discard_rows(statement: &mut Statement) -> Result<(), Failure> {
    let mut rows: u64 = 0;
    while statement.step()? == Step::Row {
        rows += 1;
        if rows.is_multiple_of(ROWS_PER_CHECK) && is_deadline_passed() {
            return Err(Failure::TimedOut);
        }
    }
    Ok(())
}

/// Does this error say that the file or the disk is unwell, rather than the statement? Scratch files that cannot be
/// written (a sort that found no room) are the statement's trouble only.
fn is_unwell(error: &Error) -> bool {
    use rusqlite::ffi;
    match error.primary() {
        code::SQLITE_CORRUPT => error.code != ffi::SQLITE_CORRUPT_VTAB,
        code::SQLITE_NOTADB => true,
        code::SQLITE_IOERR => {
            !matches!(error.code, ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_GETTEMPPATH | ffi::SQLITE_IOERR_NOMEM)
        }
        _ => false,
    }
}

impl Meta {
    fn of(statement: &Statement) -> Meta {
        let reads_journal_mode = reader_rules::take_reads_journal_mode();
        let is_read = statement.is_explain() || statement.is_readonly() || reads_journal_mode;
        let acts_if_logged = reader_rules::take_has_left_out();
        let columns = if is_read { read_columns(statement, false) } else { Vec::new() };
        Meta { is_read, acts_if_logged, columns, qualified: None, reprepared: statement.times_reprepared() }
    }

    /// Reads the columns again if SQLite has prepared the statement again.
    fn refresh(&mut self, statement: &Statement) {
        if statement.times_reprepared() != self.reprepared {
            *self = Meta::of(statement);
        }
    }

    fn columns(&mut self, qualify: bool, statement: &Statement) -> &[Column] {
        if !qualify {
            return &self.columns;
        }
        self.qualified.get_or_insert_with(|| read_columns(statement, true))
    }
}

fn read_columns(statement: &Statement, qualify: bool) -> Vec<Column> {
    let column = |index| {
        let name = statement.column_name(index);
        let table = if qualify { statement.column_table_name(index) } else { None };
        let name = table.map_or_else(|| name.to_owned(), |table| format!("{table}.{name}"));
        let decl_type = statement.column_decl_type(index).map(str::to_lowercase).unwrap_or_default();
        Column { name, decl_type }
    };
    (0..statement.column_count()).map(column).collect()
}
