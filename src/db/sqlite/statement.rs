//! A prepared statement: bind, step, read columns.

use super::{Error, hooks};
use crate::command::ValueRef;
use rusqlite::ffi;
use std::ffi::{CStr, c_char, c_int};
use std::ptr::NonNull;
use std::slice;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Row,
    Done,
}

/// A prepared statement; finalised on drop. It travels between threads only together with its connection.
pub struct Statement {
    raw: NonNull<ffi::sqlite3_stmt>,
}

// SAFETY: SQLite does not care which thread uses a connection and its statements as long as only one does at a time.
// Owners keep both in one struct and move them together; nothing in this program hands a statement out alone.
unsafe impl Send for Statement {}

impl Statement {
    pub(super) fn from_raw(raw: *mut ffi::sqlite3_stmt) -> Option<Statement> {
        NonNull::new(raw).map(|raw| Statement { raw })
    }

    pub(super) fn raw(&self) -> *mut ffi::sqlite3_stmt {
        self.raw.as_ptr()
    }

    fn check(&self, rc: c_int) -> Result<(), Error> {
        // SAFETY: a live statement has a connection, also when that is already closed by its owner.
        if rc == ffi::SQLITE_OK { Ok(()) } else { Err(Error::last(unsafe { ffi::sqlite3_db_handle(self.raw()) }, rc)) }
    }

    /// Runs to the next row or to the end. The row is readable until the next call that takes `&mut self`.
    ///
    /// # Errors
    /// SQLite's message; reset the statement before it is used again.
    pub fn step(&mut self) -> Result<Step, Error> {
        // SAFETY: the statement is live.
        match unsafe { ffi::sqlite3_step(self.raw()) } {
            ffi::SQLITE_ROW => Ok(Step::Row),
            ffi::SQLITE_DONE => Ok(Step::Done),
            // SAFETY: as in `check`.
            rc => Err(Error::last(unsafe { ffi::sqlite3_db_handle(self.raw()) }, rc)),
        }
    }

    /// As [`Statement::step`]; progress handlers that are called meanwhile are told how deep in the stack they are.
    #[inline(never)]
    pub fn step_watched(&mut self) -> Result<Step, Error> {
        hooks::watch();
        self.step()
    }

    /// The count of VM steps, by which the progress handler goes, begins anew.
    pub fn forget_steps(&mut self) {
        // SAFETY: the statement is live.
        unsafe { ffi::sqlite3_stmt_status(self.raw(), ffi::SQLITE_STMTSTATUS_VM_STEP, 1) };
    }

    /// Back to the start. Bindings stay. What it returns is the last step's error once more, so it is ignored.
    pub fn reset(&mut self) {
        // SAFETY: the statement is live.
        unsafe { ffi::sqlite3_reset(self.raw()) };
    }

    pub fn clear_bindings(&mut self) {
        // SAFETY: the statement is live.
        unsafe { ffi::sqlite3_clear_bindings(self.raw()) };
    }

    /// Binds parameter `index` (from 1). The value is copied.
    ///
    /// # Errors
    /// The index is out of range, or the value exceeds `Limit::Length`.
    pub fn bind(&mut self, index: usize, value: ValueRef<'_>) -> Result<(), Error> {
        let index = c_int::try_from(index).map_err(|_| Error::from_code(ffi::SQLITE_RANGE))?;
        // SAFETY: the statement is live; TRANSIENT makes SQLite copy the bytes before the call returns. An empty slice
        // has a dangling but non-null pointer, which SQLite needs to tell an empty value from NULL.
        let rc = unsafe {
            match value {
                ValueRef::Null => ffi::sqlite3_bind_null(self.raw(), index),
                ValueRef::Integer(i) => ffi::sqlite3_bind_int64(self.raw(), index, i),
                ValueRef::Real(r) => ffi::sqlite3_bind_double(self.raw(), index, r),
                ValueRef::Text(t) => ffi::sqlite3_bind_text64(
                    self.raw(),
                    index,
                    t.as_ptr().cast(),
                    t.len() as u64,
                    ffi::SQLITE_TRANSIENT(),
                    ffi::SQLITE_UTF8 as u8,
                ),
                ValueRef::Blob(b) => ffi::sqlite3_bind_blob64(
                    self.raw(),
                    index,
                    b.as_ptr().cast(),
                    b.len() as u64,
                    ffi::SQLITE_TRANSIENT(),
                ),
            }
        };
        self.check(rc)
    }

    /// The largest parameter number: what a client has to supply.
    pub fn parameter_count(&self) -> usize {
        // SAFETY: the statement is live.
        usize::try_from(unsafe { ffi::sqlite3_bind_parameter_count(self.raw()) }).expect("a count is not negative")
    }

    /// The name of parameter `index` (from 1) with its sign (`:a`, `@a`, `$a`, `?3`), if it has one.
    pub fn parameter_name(&self, index: usize) -> Option<&str> {
        let index = c_int::try_from(index).ok()?;
        // SAFETY: the name lives as long as the statement.
        unsafe { text(ffi::sqlite3_bind_parameter_name(self.raw(), index)) }
    }

    pub fn column_count(&self) -> usize {
        // SAFETY: the statement is live.
        usize::try_from(unsafe { ffi::sqlite3_column_count(self.raw()) }).expect("a count is not negative")
    }

    /// Name of result column `index` (from 0).
    pub fn column_name(&self, index: usize) -> &str {
        // SAFETY: the name lives until the statement is finalised, re-prepared by a step, or asked again.
        unsafe { text(ffi::sqlite3_column_name(self.raw(), column(index))) }.unwrap_or("")
    }

    /// Declared type of the table column that result column `index` comes from, as written in the schema.
    pub fn column_decl_type(&self, index: usize) -> Option<&str> {
        // SAFETY: as `column_name`.
        unsafe { text(ffi::sqlite3_column_decltype(self.raw(), column(index))) }
    }

    /// Real name (not the alias) of the table that result column `index` comes from.
    pub fn column_table_name(&self, index: usize) -> Option<&str> {
        // SAFETY: as `column_name`.
        unsafe { text(ffi::sqlite3_column_table_name(self.raw(), column(index))) }
    }

    /// The value of column `index` in the current row.
    pub fn column(&self, index: usize) -> ValueRef<'_> {
        let i = column(index);
        // SAFETY: the statement is live; out of range or without a row SQLite answers NULL. The bytes live until the
        // next step, reset or finalise, all of which need `&mut self`. The accessor matches the type, so that no
        // conversion invalidates a pointer that was handed out.
        unsafe {
            match ffi::sqlite3_column_type(self.raw(), i) {
                ffi::SQLITE_INTEGER => ValueRef::Integer(ffi::sqlite3_column_int64(self.raw(), i)),
                ffi::SQLITE_FLOAT => ValueRef::Real(ffi::sqlite3_column_double(self.raw(), i)),
                ffi::SQLITE_TEXT => {
                    let bytes = ffi::sqlite3_column_text(self.raw(), i);
                    ValueRef::Text(bytes_of(bytes.cast(), ffi::sqlite3_column_bytes(self.raw(), i)))
                }
                ffi::SQLITE_BLOB => {
                    let bytes = ffi::sqlite3_column_blob(self.raw(), i);
                    ValueRef::Blob(bytes_of(bytes.cast(), ffi::sqlite3_column_bytes(self.raw(), i)))
                }
                _ => ValueRef::Null,
            }
        }
    }

    /// Column `index` when it holds an integer.
    pub fn column_integer(&self, index: usize) -> Option<i64> {
        match self.column(index) {
            ValueRef::Integer(i) => Some(i),
            _ => None,
        }
    }

    /// Column `index` when it holds text or a blob; else nothing.
    pub fn column_bytes(&self, index: usize) -> &[u8] {
        match self.column(index) {
            ValueRef::Text(b) | ValueRef::Blob(b) => b,
            _ => &[],
        }
    }

    /// SQLite's opinion: it makes no direct change to the database file. True also for BEGIN, ATTACH and
    /// `PRAGMA optimize`; false for EXPLAIN of a write.
    pub fn is_readonly(&self) -> bool {
        // SAFETY: the statement is live.
        unsafe { ffi::sqlite3_stmt_readonly(self.raw()) != 0 }
    }

    /// EXPLAIN or EXPLAIN QUERY PLAN.
    pub fn is_explain(&self) -> bool {
        // SAFETY: the statement is live.
        unsafe { ffi::sqlite3_stmt_isexplain(self.raw()) != 0 }
    }

    /// How often SQLite has prepared it anew since, because the schema had changed: its columns may have, too.
    pub fn times_reprepared(&self) -> i32 {
        // SAFETY: the statement is live; the counter is read without being reset.
        unsafe { ffi::sqlite3_stmt_status(self.raw(), ffi::SQLITE_STMTSTATUS_REPREPARE, 0) }
    }

    /// The statement's own text, without what follows it in the string.
    pub fn sql(&self) -> &str {
        // SAFETY: the text lives as long as the statement.
        unsafe { text(ffi::sqlite3_sql(self.raw())) }.unwrap_or("")
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: finalised once.
        unsafe { ffi::sqlite3_finalize(self.raw()) };
    }
}

fn column(index: usize) -> c_int {
    c_int::try_from(index).unwrap_or(c_int::MAX)
}

/// # Safety
/// `pointer` is NULL or a NUL-terminated string that lives for `'a`.
unsafe fn text<'a>(pointer: *const c_char) -> Option<&'a str> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: by the contract above. SQL reaches SQLite as `&str`, so that names are UTF-8; a file made elsewhere may
    // hold others, which then read as empty.
    Some(unsafe { CStr::from_ptr(pointer) }.to_str().unwrap_or(""))
}

/// # Safety
/// `pointer` is NULL or points to `length` bytes that live for `'a`.
unsafe fn bytes_of<'a>(pointer: *const u8, length: c_int) -> &'a [u8] {
    match usize::try_from(length) {
        // SAFETY: by the contract above.
        Ok(length) if length > 0 && !pointer.is_null() => unsafe { slice::from_raw_parts(pointer, length) },
        _ => &[],
    }
}
