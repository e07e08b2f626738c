//! SQLite's allocator with a budget for the statement that runs on a thread.
//!
//! Installed once, before SQLite is used at all. Called on whichever thread runs SQL. A few views, each of which uses a
//! column of the one before twice, make SQLite build an expression of gigabytes; without a budget the process would end
//! over such a statement, and again at each start.

use rusqlite::ffi;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

/// What a statement may take, in bytes, while it is compiled and run. Far above what lawful statements need, and the same on
/// all nodes: whether a statement fails must not depend on the machine. Caches count too, so that the number is not exact
/// to the byte; they are smaller than a hundredth of it.
pub const STATEMENT_BYTES_MAX: i64 = if cfg!(test) { 128 * 1024 * 1024 } else { 1024 * 1024 * 1024 };

/// A statement that has taken so much leaves memory behind that is free, but in pieces between others: the C library would keep
/// it, some 25 MB for each of its arenas after one statement of a megabyte.
const LARGE_STATEMENT_BYTES: i64 = 8 * 1024 * 1024;

/// SQLite's own allocator.
struct Inner(ffi::sqlite3_mem_methods);

// SAFETY: functions that may be called from any thread, and a pointer for one of them that nobody else uses.
unsafe impl Send for Inner {}
unsafe impl Sync for Inner {}

static INNER: OnceLock<Option<Inner>> = OnceLock::new();

thread_local! {
    /// Bytes that the statement of this thread may still take.
    static LEFT: Cell<Option<i64>> = const { Cell::new(None) };
    /// The last statement of this thread wanted more.
    static IS_EXCEEDED: Cell<bool> = const { Cell::new(false) };
    /// The statement of this thread has taken more than `LARGE_STATEMENT_BYTES` at some moment.
    static IS_LARGE: Cell<bool> = const { Cell::new(false) };
}

/// Installs the allocator, if that has not been done. False: SQLite was in use before, and there are no budgets.
pub fn install() -> bool {
    let inner = INNER.get_or_init(|| {
        // SAFETY: all fields of the struct are optional functions and pointers, for which zeros are valid.
        let mut inner: ffi::sqlite3_mem_methods = unsafe { std::mem::zeroed() };
        // SAFETY: this option takes a pointer to such a struct and fills it in; it fails once SQLite is initialised.
        let rc =
            unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, &mut inner as *mut ffi::sqlite3_mem_methods) };
        let is_complete =
            inner.xMalloc.is_some() && inner.xRealloc.is_some() && inner.xSize.is_some() && inner.xFree.is_some();
        (rc == ffi::SQLITE_OK && is_complete).then_some(Inner(inner))
    });
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        let Some(inner) = inner else { return false };
        let mut ours = inner.0;
        ours.xMalloc = Some(malloc);
        ours.xRealloc = Some(realloc);
        ours.xFree = Some(free);
        // SAFETY: this option takes a pointer to such a struct and copies it; `INNER` is set before any of ours is called.
        unsafe {
            ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &mut ours as *mut ffi::sqlite3_mem_methods) == ffi::SQLITE_OK
        }
    })
}

/// Did the last statement that had a budget on this thread want more than that? Its `SQLITE_NOMEM` then says nothing of the
/// machine.
pub fn is_budget_exceeded() -> bool {
    IS_EXCEEDED.get()
}

/// Limits what SQLite may allocate on this thread until it is dropped.
pub struct Budget(());

impl Budget {
    /// Also forgets whether an earlier one was exceeded.
    pub fn begin() -> Budget {
        IS_EXCEEDED.set(false);
        IS_LARGE.set(false);
        LEFT.set(Some(STATEMENT_BYTES_MAX));
        Budget(())
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        LEFT.set(None);
        if IS_LARGE.get() {
            crate::limits::release_memory();
        }
    }
}

fn inner() -> &'static ffi::sqlite3_mem_methods {
    &INNER.get().and_then(Option::as_ref).expect("ours is installed only with an inner one").0
}

/// Takes `bytes` from the budget, if there is one and they are left.
fn take(bytes: i64) -> bool {
    let Some(left) = LEFT.get() else { return true };
    if bytes > left {
        IS_EXCEEDED.set(true);
        return false;
    }
    LEFT.set(Some(left - bytes));
    if left - bytes < STATEMENT_BYTES_MAX - LARGE_STATEMENT_BYTES {
        IS_LARGE.set(true);
    }
    true
}

fn give_back(bytes: i64) {
    if let Some(left) = LEFT.get() {
        // What was allocated before the statement began makes its budget no larger.
        LEFT.set(Some((left + bytes).min(STATEMENT_BYTES_MAX)));
    }
}

unsafe extern "C" fn malloc(bytes: c_int) -> *mut c_void {
    if !take(i64::from(bytes)) {
        return std::ptr::null_mut();
    }
    // SAFETY: passed on as SQLite made the call; completeness is checked at installation.
    unsafe { inner().xMalloc.expect("checked at installation")(bytes) }
}

unsafe extern "C" fn realloc(old: *mut c_void, bytes: c_int) -> *mut c_void {
    // SAFETY: as above; `old` is a live allocation of the inner allocator.
    unsafe {
        if LEFT.get().is_some() {
            let before = i64::from(inner().xSize.expect("checked at installation")(old));
            if !take(i64::from(bytes) - before) {
                return std::ptr::null_mut();
            }
        }
        inner().xRealloc.expect("checked at installation")(old, bytes)
    }
}

unsafe extern "C" fn free(old: *mut c_void) {
    // SAFETY: as above.
    unsafe {
        if LEFT.get().is_some() {
            give_back(i64::from(inner().xSize.expect("checked at installation")(old)));
        }
        inner().xFree.expect("checked at installation")(old);
    }
}
