//! Callbacks from SQLite into plain functions of ours: authorizer, update hook, progress handler, SQL functions.
//!
//! Called on the thread that prepares or steps. The functions carry no state of their own (see `db/context.rs`), so
//! that nothing has to be kept alive. They must not use the connection that calls them, and a panic in them aborts.

use super::Connection;
use rusqlite::ffi;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::{mem, ptr, slice, str};

/// What SQLite asks while it compiles a statement. The meaning of `first` and `second` depends on the action; see
/// SQLite's `sqlite3_set_authorizer`.
#[derive(Clone, Copy, Debug)]
pub struct AuthRequest<'a> {
    pub action: c_int,
    pub first: Option<&'a str>,
    pub second: Option<&'a str>,
    pub database: Option<&'a str>,
    /// The innermost trigger or view that is responsible; `None` for the client's own text.
    pub within: Option<&'a str>,
}

/// The authorizer's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Verdict {
    Allow = ffi::SQLITE_OK,
    /// The statement fails to compile with `SQLITE_AUTH`.
    Deny = ffi::SQLITE_DENY,
    /// The action is left out; a PRAGMA does nothing.
    Ignore = ffi::SQLITE_IGNORE,
}

/// May the optimiser take one call's result for another's?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// Called for every row; never taken for a constant; allowed in DEFAULT, triggers and views.
    PerRow,
}

/// A SQL function: reads its arguments and sets its result.
pub type ScalarFunction = fn(&Arguments<'_>);

/// The arguments and the result slot of one call.
pub struct Arguments<'a> {
    context: *mut ffi::sqlite3_context,
    values: &'a [*mut ffi::sqlite3_value],
}

impl Arguments<'_> {
    /// Argument `index` as SQLite converts it to an integer (NULL is 0).
    pub fn integer(&self, index: usize) -> i64 {
        // SAFETY: SQLite passes as many live values as the function was registered for.
        unsafe { ffi::sqlite3_value_int64(self.values[index]) }
    }

    pub fn return_integer(&self, value: i64) {
        // SAFETY: the context is live during the call.
        unsafe { ffi::sqlite3_result_int64(self.context, value) }
    }

    pub fn return_blob(&self, bytes: &[u8]) {
        // SAFETY: as above; SQLite copies the bytes.
        unsafe {
            let length = bytes.len() as u64;
            ffi::sqlite3_result_blob64(self.context, bytes.as_ptr().cast(), length, ffi::SQLITE_TRANSIENT())
        }
    }

    pub fn return_too_big(&self) {
        // SAFETY: as above.
        unsafe { ffi::sqlite3_result_error_toobig(self.context) }
    }

    /// Runs `f` on the connection that is evaluating: only for reading its counters.
    fn with_db<T>(&self, f: impl FnOnce(*mut ffi::sqlite3) -> T) -> T {
        // SAFETY: the context is live during the call.
        f(unsafe { ffi::sqlite3_context_db_handle(self.context) })
    }

    /// The connection's `last_insert_rowid` at this point of the (trigger) program.
    pub fn last_insert_rowid(&self) -> i64 {
        // SAFETY: reads a counter.
        self.with_db(|db| unsafe { ffi::sqlite3_last_insert_rowid(db) })
    }

    /// The connection's `total_changes` at this point.
    pub fn total_changes(&self) -> i64 {
        // SAFETY: reads a counter.
        self.with_db(|db| unsafe { ffi::sqlite3_total_changes64(db) })
    }

    /// `SQLITE_LIMIT_LENGTH` of the connection.
    pub fn length_max(&self) -> i64 {
        // SAFETY: reads a limit.
        i64::from(self.with_db(|db| unsafe { ffi::sqlite3_limit(db, ffi::SQLITE_LIMIT_LENGTH, -1) }))
    }
}

impl Connection {
    /// Asked about every action of every statement compiled from now on.
    pub fn set_authorizer(&self, authorize: fn(&AuthRequest<'_>) -> Verdict) {
        // SAFETY: a plain function as user data lives forever.
        unsafe { ffi::sqlite3_set_authorizer(self.db, Some(authorizer), authorize as *mut c_void) };
    }

    /// Called with (table, rowid) after each row of an ordinary table was inserted or updated.
    pub fn set_write_hook(&self, hook: fn(table: &str, rowid: i64)) {
        // SAFETY: as above.
        unsafe { ffi::sqlite3_update_hook(self.db, Some(update_hook), hook as *mut c_void) };
    }

    /// Called after each commit with the pages that the WAL then holds. Takes the place of SQLite's own checkpoints,
    /// whose errors nobody would see.
    pub fn set_wal_hook(&self, hook: fn(wal_pages: u32)) {
        // SAFETY: as above.
        unsafe { ffi::sqlite3_wal_hook(self.db, Some(wal_hook), hook as *mut c_void) };
    }

    /// Called every `steps` VM steps with how far below [`watch`] in the stack; true interrupts the statement.
    pub fn set_progress_handler(&self, steps: i32, handler: fn(depth: usize) -> bool) {
        // SAFETY: as above.
        unsafe { ffi::sqlite3_progress_handler(self.db, steps, Some(progress), handler as *mut c_void) };
    }

    pub fn remove_progress_handler(&self) {
        // SAFETY: removing needs no function.
        unsafe { ffi::sqlite3_progress_handler(self.db, 0, None, ptr::null_mut()) };
    }

    /// Registers, or overrides, a SQL function of `arguments` arguments.
    ///
    /// # Errors
    /// SQLite refuses the registration.
    pub fn create_function(
        &self,
        name: &CStr,
        arguments: i32,
        volatility: Volatility,
        function: ScalarFunction,
    ) -> Result<(), super::Error> {
        let flags = match volatility {
            Volatility::PerRow => ffi::SQLITE_UTF8 | ffi::SQLITE_INNOCUOUS,
        };
        // SAFETY: as above.
        let rc = unsafe {
            ffi::sqlite3_create_function_v2(
                self.db,
                name.as_ptr(),
                arguments,
                flags,
                function as *mut c_void,
                Some(scalar),
                None,
                None,
                None,
            )
        };
        if rc == ffi::SQLITE_OK { Ok(()) } else { Err(super::Error::last(self.db, rc)) }
    }
}

/// # Safety
/// `db` is open or NULL.
pub(super) unsafe fn remove_all(db: *mut ffi::sqlite3) {
    if db.is_null() {
        return;
    }
    // SAFETY: by the contract above.
    unsafe {
        ffi::sqlite3_set_authorizer(db, None, ptr::null_mut());
        ffi::sqlite3_update_hook(db, None, ptr::null_mut());
        ffi::sqlite3_wal_hook(db, None, ptr::null_mut());
        ffi::sqlite3_progress_handler(db, 0, None, ptr::null_mut());
    }
}

unsafe extern "C" fn authorizer(
    data: *mut c_void,
    action: c_int,
    first: *const c_char,
    second: *const c_char,
    database: *const c_char,
    within: *const c_char,
) -> c_int {
    // SAFETY: `data` is what `set_authorizer` stored; the strings are NULL or live for the call.
    unsafe {
        let authorize: fn(&AuthRequest<'_>) -> Verdict = mem::transmute(data);
        let request = AuthRequest {
            action,
            first: text(first),
            second: text(second),
            database: text(database),
            within: text(within),
        };
        authorize(&request) as c_int
    }
}

unsafe extern "C" fn update_hook(
    data: *mut c_void,
    operation: c_int,
    _database: *const c_char,
    table: *const c_char,
    rowid: i64,
) {
    if operation == ffi::SQLITE_DELETE {
        return;
    }
    // SAFETY: `data` is what `set_write_hook` stored; the name lives for the call.
    unsafe {
        let hook: fn(&str, i64) = mem::transmute(data);
        hook(text(table).unwrap_or(""), rowid);
    }
}

unsafe extern "C" fn wal_hook(
    data: *mut c_void,
    _db: *mut ffi::sqlite3,
    _database: *const c_char,
    pages: c_int,
) -> c_int {
    // SAFETY: `data` is what `set_wal_hook` stored.
    let hook: fn(u32) = unsafe { mem::transmute(data) };
    hook(u32::try_from(pages).unwrap_or(0));
    ffi::SQLITE_OK
}

unsafe extern "C" fn progress(data: *mut c_void) -> c_int {
    // SAFETY: `data` is what `set_progress_handler` stored.
    let handler: fn(usize) -> bool = unsafe { mem::transmute(data) };
    c_int::from(handler(WATCHED.get().abs_diff(stack_address())))
}

thread_local! {
    /// See [`watch`].
    static WATCHED: Cell<usize> = const { Cell::new(0) };
}

/// Depths in the stack are measured from the caller's frame on.
#[inline(always)]
pub(super) fn watch() {
    WATCHED.set(stack_address());
}

/// A place in the frame of the function that this is inlined into.
#[inline(always)]
fn stack_address() -> usize {
    let here = 0u8;
    std::hint::black_box(&raw const here).addr()
}

unsafe extern "C" fn scalar(context: *mut ffi::sqlite3_context, count: c_int, values: *mut *mut ffi::sqlite3_value) {
    // SAFETY: `user_data` is what `create_function` stored; SQLite passes `count` values (none: a pointer not to read).
    unsafe {
        let function: ScalarFunction = mem::transmute(ffi::sqlite3_user_data(context));
        let values = match usize::try_from(count) {
            Ok(count) if count > 0 => slice::from_raw_parts(values, count),
            _ => &[],
        };
        function(&Arguments { context, values });
    }
}

/// # Safety
/// `pointer` is NULL or a NUL-terminated string that lives for `'a`.
unsafe fn text<'a>(pointer: *const c_char) -> Option<&'a str> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: by the contract above. A name that is not UTF-8 comes from a foreign file and matches none of ours.
    Some(str::from_utf8(unsafe { CStr::from_ptr(pointer) }.to_bytes()).unwrap_or("\u{fffd}"))
}
