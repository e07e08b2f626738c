//! A VFS that is the default one with another clock, and a process-wide `localtime`.
//!
//! Registered once for the process. Called on whichever thread runs SQL.

use rusqlite::ffi;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::{mem, ptr};

/// The Julian day number of the Unix epoch, in milliseconds: SQLite's clock counts from there.
const UNIX_EPOCH_JULIAN_MS: i64 = 210_866_760_000_000;
const MS_PER_DAY: f64 = 86_400_000.0;

/// The clock that the VFS asks: microseconds since the Unix epoch, or `None` for the machine's own time.
type Clock = fn() -> Option<i64>;

static REGISTERED: OnceLock<(Clock, Default)> = OnceLock::new();

/// The VFS that does the real work.
struct Default(*mut ffi::sqlite3_vfs);

// SAFETY: SQLite's built-in VFS objects are static and thread-safe.
unsafe impl Send for Default {}
unsafe impl Sync for Default {}

/// Registers the VFS under the name `ferrolite` (not as the default). Later calls do nothing.
pub fn register_clock_vfs(clock: Clock) {
    REGISTERED.get_or_init(|| {
        // SAFETY: finding the default VFS initialises SQLite. The copy shares the default's methods and its private
        // data, is never freed, and is registered once.
        unsafe {
            let default = ffi::sqlite3_vfs_find(ptr::null());
            assert!(!default.is_null(), "SQLite has a default VFS");
            let mut shim = Box::new(ptr::read(default));
            assert!(shim.iVersion >= 2, "the default VFS has xCurrentTimeInt64");
            shim.zName = super::vfs_name().as_ptr();
            shim.pNext = ptr::null_mut();
            shim.xCurrentTime = Some(current_time);
            shim.xCurrentTimeInt64 = Some(current_time_int64);
            let rc = ffi::sqlite3_vfs_register(Box::into_raw(shim), 0);
            assert_eq!(rc, ffi::SQLITE_OK, "a VFS can be registered");
            (clock, Default(default))
        }
    });
}

fn now_julian_ms() -> Option<i64> {
    let (clock, _) = REGISTERED.get()?;
    clock().map(|us| us.div_euclid(1000).saturating_add(UNIX_EPOCH_JULIAN_MS))
}

fn default_vfs() -> *mut ffi::sqlite3_vfs {
    REGISTERED.get().map_or(ptr::null_mut(), |(_, default)| default.0)
}

unsafe extern "C" fn current_time_int64(_vfs: *mut ffi::sqlite3_vfs, out: *mut i64) -> c_int {
    // SAFETY: `out` is valid for writing; the default VFS has this method (asserted at registration).
    unsafe {
        if let Some(now) = now_julian_ms() {
            *out = now;
            return ffi::SQLITE_OK;
        }
        let default = default_vfs();
        let method = (*default).xCurrentTimeInt64.expect("asserted at registration");
        method(default, out)
    }
}

unsafe extern "C" fn current_time(_vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    let mut ms = 0;
    // SAFETY: both pointers are valid for writing.
    unsafe {
        let rc = current_time_int64(ptr::null_mut(), &mut ms);
        *out = ms as f64 / MS_PER_DAY;
        rc
    }
}

/// Makes SQLite's `localtime` modifier mean UTC in this process: the time zone of a machine must not reach the data.
pub fn localtime_is_utc() {
    type LocalTime = unsafe extern "C" fn(*const c_void, *mut c_void) -> c_int;
    const USE_ALTERNATIVE: c_int = 2;
    // SAFETY: this control takes an int and a function of this type, and stores both.
    unsafe {
        ffi::sqlite3_test_control(ffi::SQLITE_TESTCTRL_LOCALTIME_FAULT, USE_ALTERNATIVE, utc as LocalTime);
    }
}

unsafe extern "C" fn utc(time: *const c_void, broken_down: *mut c_void) -> c_int {
    unsafe extern "C" {
        // The C library's; both arguments are passed through as SQLite made them (time_t, struct tm).
        fn gmtime_r(time: *const c_void, broken_down: *mut c_void) -> *mut c_void;
    }
    // SAFETY: SQLite passes a valid time_t and a struct tm to fill.
    c_int::from(unsafe { gmtime_r(time, broken_down) }.is_null())
}

const _: () = assert!(mem::size_of::<fn()>() == mem::size_of::<*mut c_void>());
