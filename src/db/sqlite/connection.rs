//! A connection to a database file.
//!
//! Used by one thread at a time; may be moved between threads together with its statements.

use super::{Error, Statement, Step, hooks};
use rusqlite::ffi;
use std::ffi::{CStr, CString, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read-write, created when missing.
    ReadWrite,
    ReadOnly,
}

/// `SQLITE_LIMIT_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Limit {
    Length = ffi::SQLITE_LIMIT_LENGTH,
    SqlLength = ffi::SQLITE_LIMIT_SQL_LENGTH,
    Column = ffi::SQLITE_LIMIT_COLUMN,
    ExprDepth = ffi::SQLITE_LIMIT_EXPR_DEPTH,
    CompoundSelect = ffi::SQLITE_LIMIT_COMPOUND_SELECT,
    VdbeOp = ffi::SQLITE_LIMIT_VDBE_OP,
    FunctionArg = ffi::SQLITE_LIMIT_FUNCTION_ARG,
    Attached = ffi::SQLITE_LIMIT_ATTACHED,
    LikePatternLength = ffi::SQLITE_LIMIT_LIKE_PATTERN_LENGTH,
    VariableNumber = ffi::SQLITE_LIMIT_VARIABLE_NUMBER,
    TriggerDepth = ffi::SQLITE_LIMIT_TRIGGER_DEPTH,
    WorkerThreads = ffi::SQLITE_LIMIT_WORKER_THREADS,
}

/// An open connection. Statements may outlive it (SQLite then closes the file when the last of them goes).
pub struct Connection {
    pub(super) db: *mut ffi::sqlite3,
    interrupt: Arc<InterruptTarget>,
}

// SAFETY: SQLite is compiled thread-safe; a NOMUTEX connection may be used by any thread as long as only one does so at
// a time, which `&self`/`&mut self` on a type that is not Sync ensures. `Interrupter` is the one documented exception.
unsafe impl Send for Connection {}

impl Connection {
    /// Opens `path` through the VFS named `vfs` (the default one when `None`).
    ///
    /// # Errors
    /// Whatever `sqlite3_open_v2` reports; the file itself is read only by the first statement.
    pub fn open(path: &Path, access: Access, vfs: Option<&CStr>) -> Result<Connection, Error> {
        let path = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| Error { code: ffi::SQLITE_CANTOPEN, text: "the path holds a NUL byte".to_owned() })?;
        let mode = match access {
            Access::ReadWrite => ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE,
            Access::ReadOnly => ffi::SQLITE_OPEN_READONLY,
        };
        let flags = mode | ffi::SQLITE_OPEN_NOMUTEX | ffi::SQLITE_OPEN_EXRESCODE;
        super::memory::install();
        let mut db = ptr::null_mut();
        // SAFETY: all pointers are valid for the call; `db` receives a handle that must be closed even on failure.
        let rc = unsafe { ffi::sqlite3_open_v2(path.as_ptr(), &mut db, flags, vfs.map_or(ptr::null(), CStr::as_ptr)) };
        let interrupt = Arc::new(InterruptTarget { db: parking_lot::Mutex::new(SharedPointer(db)) });
        let connection = Connection { db, interrupt };
        if rc == ffi::SQLITE_OK { Ok(connection) } else { Err(Error::last(db, rc)) }
    }

    /// Prepares the first statement of `sql`. `None` for white space and comments only. The number is how many bytes
    /// of `sql` were consumed. For long strings of many statements, see [`Connection::prepare_nul_terminated`].
    ///
    /// # Errors
    /// SQLite's message for SQL that it refuses; text with a NUL byte is refused, because SQLite would stop there.
    pub fn prepare(&self, sql: &str) -> Result<(Option<Statement>, usize), Error> {
        let text = CString::new(sql).map_err(|_| nul_in_sql())?;
        self.prepare_nul_terminated(&text, false)
    }

    /// As [`Connection::prepare`], without the copy. `long_lived` tells SQLite that the statement will be cached.
    ///
    /// # Errors
    /// SQLite's message for SQL that it refuses.
    pub fn prepare_nul_terminated(&self, sql: &CStr, long_lived: bool) -> Result<(Option<Statement>, usize), Error> {
        let mut raw = ptr::null_mut();
        let mut tail = ptr::null();
        let flags = if long_lived { ffi::SQLITE_PREPARE_PERSISTENT } else { 0 };
        // SAFETY: `sql` is NUL-terminated, so that a length of -1 is right (and spares SQLite a copy); `raw` and
        // `tail` are valid for writing; on success `tail` points into `sql`.
        unsafe {
            let rc = ffi::sqlite3_prepare_v3(self.db, sql.as_ptr(), -1, flags, &mut raw, &mut tail);
            if rc != ffi::SQLITE_OK {
                return Err(Error::last(self.db, rc));
            }
            let used = usize::try_from(tail.offset_from(sql.as_ptr())).expect("the tail lies behind the start");
            Ok((Statement::from_raw(raw), used))
        }
    }

    /// Runs SQL of our own to its end, ignoring rows.
    ///
    /// # Errors
    /// The first failure; earlier statements stay executed.
    pub fn execute(&self, sql: &str) -> Result<(), Error> {
        let mut rest = sql;
        while !rest.is_empty() {
            let (statement, used) = self.prepare(rest)?;
            if let Some(mut statement) = statement {
                while statement.step()? == Step::Row {}
            }
            rest = &rest[used..];
        }
        Ok(())
    }

    /// Copies pages from the WAL into the database file, as many as readers let it; waits for nobody.
    ///
    /// # Errors
    /// A write or a sync failed. That another connection checkpoints is none.
    pub fn checkpoint_passive(&self) -> Result<(), Error> {
        // SAFETY: the connection is open; NULL stands for all databases and for numbers that nobody wants.
        let code = unsafe {
            ffi::sqlite3_wal_checkpoint_v2(
                self.db,
                ptr::null(),
                ffi::SQLITE_CHECKPOINT_PASSIVE,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        match code {
            ffi::SQLITE_OK | ffi::SQLITE_BUSY => Ok(()),
            _ => Err(Error::last(self.db, code)),
        }
    }

    /// As [`Connection::checkpoint_passive`], and then waits, for `wait` at most, until no reader uses the WAL, so that the
    /// next write begins it anew. False when readers were in the way until the end.
    ///
    /// # Errors
    /// A write or a sync failed.
    pub fn checkpoint_restart(&self, wait: Duration, busy_timeout_ms: i32) -> Result<bool, Error> {
        let mut deadline = Instant::now() + wait;
        // SAFETY: the connection is open; the handler is replaced before `deadline` goes out of scope.
        unsafe {
            ffi::sqlite3_busy_handler(self.db, Some(pause_until), (&raw mut deadline).cast());
            let code = ffi::sqlite3_wal_checkpoint_v2(
                self.db,
                ptr::null(),
                ffi::SQLITE_CHECKPOINT_RESTART,
                ptr::null_mut(),
                ptr::null_mut(),
            );
            let result = match code {
                ffi::SQLITE_OK => Ok(true),
                ffi::SQLITE_BUSY => Ok(false),
                _ => Err(Error::last(self.db, code)),
            };
            ffi::sqlite3_busy_timeout(self.db, busy_timeout_ms);
            result
        }
    }

    /// Moves the whole WAL into the database file and cuts it off. False: somebody stood in the way.
    ///
    /// # Errors
    /// SQLite's, as they come.
    pub fn checkpoint_truncate(&self) -> Result<bool, Error> {
        // The first column says whether it was in use.
        Ok(self.query_integer("PRAGMA wal_checkpoint(TRUNCATE)")? == Some(0))
    }

    /// Runs one statement of our own and gives the integer in the first column of its first row.
    ///
    /// # Errors
    /// SQLite's, as they come.
    pub fn query_integer(&self, sql: &str) -> Result<Option<i64>, Error> {
        let (statement, _) = self.prepare(sql)?;
        let mut statement = statement.expect("a query of our own is not empty");
        match statement.step()? {
            Step::Row => Ok(statement.column_integer(0)),
            Step::Done => Ok(None),
        }
    }

    /// Runs one statement of our own and gives every row's first column as text.
    ///
    /// # Errors
    /// SQLite's, as they come.
    pub fn query_texts(&self, sql: &str) -> Result<Vec<String>, Error> {
        let (statement, _) = self.prepare(sql)?;
        let mut statement = statement.expect("a query of our own is not empty");
        let mut texts = Vec::new();
        while statement.step()? == Step::Row {
            texts.push(String::from_utf8_lossy(statement.column_bytes(0)).into_owned());
        }
        Ok(texts)
    }

    /// True when no transaction is open.
    pub fn is_autocommit(&self) -> bool {
        // SAFETY: `db` is open.
        unsafe { ffi::sqlite3_get_autocommit(self.db) != 0 }
    }

    /// True while a statement or a transaction holds a snapshot (or more) of the database.
    pub fn has_snapshot(&self) -> bool {
        // SAFETY: `db` is open; NULL asks for all databases of the connection.
        unsafe { ffi::sqlite3_txn_state(self.db, ptr::null()) != ffi::SQLITE_TXN_NONE }
    }

    pub fn changes(&self) -> i64 {
        // SAFETY: `db` is open.
        unsafe { ffi::sqlite3_changes64(self.db) }
    }

    pub fn total_changes(&self) -> i64 {
        // SAFETY: `db` is open.
        unsafe { ffi::sqlite3_total_changes64(self.db) }
    }

    pub fn last_insert_rowid(&self) -> i64 {
        // SAFETY: `db` is open.
        unsafe { ffi::sqlite3_last_insert_rowid(self.db) }
    }

    pub fn set_last_insert_rowid(&self, rowid: i64) {
        // SAFETY: `db` is open.
        unsafe { ffi::sqlite3_set_last_insert_rowid(self.db, rowid) }
    }

    /// Sets a limit of this connection (it cannot exceed the compiled-in one) and returns the one before.
    pub fn set_limit(&self, limit: Limit, value: i32) -> i32 {
        // SAFETY: `db` is open; unknown limits are ignored.
        unsafe { ffi::sqlite3_limit(self.db, limit as c_int, value) }
    }

    /// Milliseconds to wait for locks of other connections.
    pub fn set_busy_timeout_ms(&self, timeout_ms: i32) {
        // SAFETY: `db` is open.
        unsafe { ffi::sqlite3_busy_timeout(self.db, timeout_ms) };
    }

    /// Foreign keys as `on`; DEFENSIVE on; SQL's `fts3_tokenizer` and `load_extension` off; double-quoted strings on,
    /// as clients of rqlite know them, but not in CREATE statements: there such a string turns into a column as soon as
    /// the table has one of that name, and an index made with it is damaged from then on.
    ///
    /// # Errors
    /// SQLite does not know one of these options.
    pub fn harden(&self, foreign_keys: bool) -> Result<(), Error> {
        self.configure(ffi::SQLITE_DBCONFIG_ENABLE_FKEY, foreign_keys)?;
        self.configure(ffi::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        self.configure(ffi::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false)?;
        self.configure(ffi::SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, false)?;
        self.configure(ffi::SQLITE_DBCONFIG_DQS_DML, true)?;
        self.configure(ffi::SQLITE_DBCONFIG_DQS_DDL, false)
    }

    /// Whether `"text"` in double quotes is a string, where no column has that name, also in CREATE statements.
    ///
    /// # Errors
    /// SQLite does not know this option.
    pub fn allow_strings_in_definitions(&self, on: bool) -> Result<(), Error> {
        self.configure(ffi::SQLITE_DBCONFIG_DQS_DDL, on)
    }

    /// Enforces foreign keys or not, from the next statement on. If that is a change, SQLite compiles all prepared
    /// statements anew.
    ///
    /// # Errors
    /// SQLite does not know this option.
    pub fn set_foreign_keys(&self, on: bool) -> Result<(), Error> {
        self.configure(ffi::SQLITE_DBCONFIG_ENABLE_FKEY, on)
    }

    /// Plans of statements no longer depend on the values that are bound to them (SQLite's "query planner stability
    /// guarantee"), so that it does not matter which values a cached statement had before.
    ///
    /// # Errors
    /// SQLite does not know this option.
    pub fn plan_without_values(&self) -> Result<(), Error> {
        self.configure(ffi::SQLITE_DBCONFIG_ENABLE_QPSG, true)
    }

    /// Whether the last connection to a database moves the WAL into it when it closes; SQLite's default is yes.
    ///
    /// # Errors
    /// SQLite does not know this option.
    pub fn set_checkpoint_on_close(&self, on: bool) -> Result<(), Error> {
        self.configure(ffi::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !on)
    }

    fn configure(&self, option: c_int, on: bool) -> Result<(), Error> {
        let mut now: c_int = -1;
        // SAFETY: the options that this is called with take an int and a pointer to int.
        let rc = unsafe { ffi::sqlite3_db_config(self.db, option, c_int::from(on), &mut now as *mut c_int) };
        match rc {
            ffi::SQLITE_OK if now == c_int::from(on) => Ok(()),
            ffi::SQLITE_OK => Err(Error::from_code(ffi::SQLITE_ERROR)),
            _ => Err(Error::from_code(rc)),
        }
    }

    /// Gives unused cache memory back to the allocator.
    pub fn release_memory(&self) {
        // SAFETY: `db` is open.
        unsafe { ffi::sqlite3_db_release_memory(self.db) };
    }

    /// True when a deferred foreign key constraint is violated at this moment of the open transaction.
    pub fn has_deferred_violations(&self) -> bool {
        let (mut current, mut high) = (0, 0);
        // SAFETY: both pointers are valid for writing.
        let rc =
            unsafe { ffi::sqlite3_db_status(self.db, ffi::SQLITE_DBSTATUS_DEFERRED_FKS, &mut current, &mut high, 0) };
        assert_eq!(rc, ffi::SQLITE_OK, "DBSTATUS_DEFERRED_FKS is known to SQLite");
        current != 0
    }

    /// Overwrites the start of a BLOB value in place. Unlike UPDATE this leaves `changes()`, `total_changes()` and
    /// `last_insert_rowid()` alone. The value must be at least as long as `bytes`.
    ///
    /// # Errors
    /// SQLite's, as they come.
    pub fn overwrite_blob(&self, table: &CStr, column: &CStr, rowid: i64, bytes: &[u8]) -> Result<(), Error> {
        let length = c_int::try_from(bytes.len()).expect("an overwrite is short");
        let mut blob = ptr::null_mut();
        // SAFETY: the names are NUL-terminated; the handle is closed on every path (closing NULL is harmless).
        unsafe {
            let open =
                ffi::sqlite3_blob_open(self.db, c"main".as_ptr(), table.as_ptr(), column.as_ptr(), rowid, 1, &mut blob);
            if open != ffi::SQLITE_OK {
                let error = Error::last(self.db, open);
                ffi::sqlite3_blob_close(blob);
                return Err(error);
            }
            let write = ffi::sqlite3_blob_write(blob, bytes.as_ptr().cast(), length, 0);
            let result = if write == ffi::SQLITE_OK { Ok(()) } else { Err(Error::last(self.db, write)) };
            let close = ffi::sqlite3_blob_close(blob);
            if result.is_ok() && close != ffi::SQLITE_OK { Err(Error::last(self.db, close)) } else { result }
        }
    }

    /// From any thread: makes the running statement of this connection end with `SQLITE_INTERRUPT`. Never use it on
    /// the applier's connection: what an interrupt undoes depends on the moment.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter(Arc::clone(&self.interrupt))
    }
}

/// How soon a lock is tried again that readers give up within moments.
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// A busy handler whose data is the `Instant` to give up at.
unsafe extern "C" fn pause_until(data: *mut c_void, _tries: c_int) -> c_int {
    // SAFETY: `checkpoint_restart` passes an Instant that outlives the call.
    let deadline = unsafe { *data.cast::<Instant>() };
    if Instant::now() >= deadline {
        return 0;
    }
    std::thread::sleep(LOCK_PAUSE);
    1
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.interrupt.db.lock().0 = ptr::null_mut();
        // SAFETY: closed once. `close_v2` keeps the connection alive for statements that are still to be finalised.
        unsafe {
            hooks::remove_all(self.db);
            sqlite3_close_v2(self.db);
        }
    }
}

unsafe extern "C" {
    // Part of SQLite's interface, but not of the bindings.
    fn sqlite3_close_v2(db: *mut ffi::sqlite3) -> c_int;
}

struct InterruptTarget {
    db: parking_lot::Mutex<SharedPointer>,
}

struct SharedPointer(*mut ffi::sqlite3);

// SAFETY: the pointer is used only for sqlite3_interrupt, which may be called from any thread while the connection is
// open, and under the lock that closing takes first.
unsafe impl Send for SharedPointer {}

/// See [`Connection::interrupter`]. Harmless after the connection is closed.
#[derive(Clone)]
pub struct Interrupter(Arc<InterruptTarget>);

impl Interrupter {
    pub fn interrupt(&self) {
        let guard = self.0.db.lock();
        if !guard.0.is_null() {
            // SAFETY: the connection cannot close while the lock is held.
            unsafe { ffi::sqlite3_interrupt(guard.0) };
        }
    }
}

pub(super) fn nul_in_sql() -> Error {
    Error { code: ffi::SQLITE_ERROR, text: "unrecognized token: \"\\0\"".to_owned() }
}
