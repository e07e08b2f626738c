//! A VFS that is the default one with another clock and an eye on its disk, and a process-wide `localtime`.
//!
//! Registered once for the process. Called on whichever thread runs SQL.

use super::writeback::Written;
use parking_lot::Mutex;
use rusqlite::ffi;
use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::sync::OnceLock;
use std::{mem, ptr};

/// The Julian day number of the Unix epoch, in milliseconds: SQLite's clock counts from there.
const UNIX_EPOCH_JULIAN_MS: i64 = 210_866_760_000_000;
const MS_PER_DAY: f64 = 86_400_000.0;

/// The clock that the VFS asks: microseconds since the Unix epoch, or `None` for the machine's own time.
type Clock = fn() -> Option<i64>;

static REGISTERED: OnceLock<(Clock, Default)> = OnceLock::new();

/// The VFS that does the real work.
pub(super) struct Default(pub(super) *mut ffi::sqlite3_vfs);

// SAFETY: SQLite's built-in VFS objects are static and thread-safe.
unsafe impl Send for Default {}
unsafe impl Sync for Default {}

/// Registers the VFS under the name `ferrolite` (not as the default). Later calls do nothing.
pub fn register_clock_vfs(clock: Clock) {
    REGISTERED.get_or_init(|| {
        let default = register_beside_default(super::vfs_name(), |shim| {
            assert!(shim.iVersion >= 2, "the default VFS has xCurrentTimeInt64");
            shim.xOpen = Some(open);
            shim.szOsFile = c_int::try_from(written_at(shim.szOsFile) + size_of::<Written>()).expect("a small struct");
            shim.xCurrentTime = Some(current_time);
            shim.xCurrentTimeInt64 = Some(current_time_int64);
        });
        (clock, default)
    });
}

/// Registers the default VFS once more under `name`, with what `change` makes of it. To be called once for each name.
pub(super) fn register_beside_default(name: &'static CStr, change: impl FnOnce(&mut ffi::sqlite3_vfs)) -> Default {
    super::memory::install();
    // SAFETY: finding the default VFS initialises SQLite. The copy shares the default's methods and its private data, and
    // is never freed.
    unsafe {
        let default = ffi::sqlite3_vfs_find(ptr::null());
        assert!(!default.is_null(), "SQLite has a default VFS");
        let mut ours = Box::new(ptr::read(default));
        assert!(ours.xOpen.is_some(), "the default VFS opens files");
        ours.zName = name.as_ptr();
        ours.pNext = ptr::null_mut();
        change(&mut ours);
        let rc = ffi::sqlite3_vfs_register(Box::into_raw(ours), 0);
        assert_eq!(rc, ffi::SQLITE_OK, "a VFS can be registered");
        Default(default)
    }
}

fn default_vfs() -> *mut ffi::sqlite3_vfs {
    REGISTERED.get().map_or(ptr::null_mut(), |(_, default)| default.0)
}

thread_local! {
    static DISK_FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Has the disk refused a write, a truncation or a sync of a file of this VFS on this thread, since
/// [`forget_disk_failure`]? `SQLITE_FULL` is also what SQLite says of rowids that are used up and of other ends that a
/// client's SQL can reach; only this tells them from a full disk.
pub fn disk_failed() -> bool {
    DISK_FAILED.get()
}

/// Starts anew for [`disk_failed`].
pub fn forget_disk_failure() {
    DISK_FAILED.set(false);
}

fn noticing(rc: c_int) -> c_int {
    if matches!(rc & 0xff, ffi::SQLITE_FULL | ffi::SQLITE_IOERR) {
        DISK_FAILED.set(true);
    }
    rc
}

/// The methods of a kind of file, four of them replaced. The others (reading, locks, shared memory) stay the default
/// VFS's own and cost nothing.
#[repr(C)]
struct Watched {
    /// First, so that a file's pointer to its methods is a pointer to this.
    methods: ffi::sqlite3_io_methods,
    original: &'static ffi::sqlite3_io_methods,
}

/// One for each table of methods that the default VFS has (some five: by kind of lock), made when first met.
static WATCHED: Mutex<Vec<&'static Watched>> = Mutex::new(Vec::new());

fn watched(original: &'static ffi::sqlite3_io_methods) -> &'static Watched {
    let mut all = WATCHED.lock();
    if let Some(known) = all.iter().find(|w| ptr::eq(w.original, original)) {
        return known;
    }
    let mut methods = *original;
    methods.xWrite = original.xWrite.map(|_| write as _);
    methods.xTruncate = original.xTruncate.map(|_| truncate as _);
    methods.xSync = original.xSync.map(|_| sync as _);
    methods.xFileControl = original.xFileControl.map(|_| file_control as _);
    let made: &'static Watched = Box::leak(Box::new(Watched { methods, original }));
    all.push(made);
    made
}

/// Where a file's [`Written`] lies, behind what the default VFS needs.
fn written_at(default_bytes: c_int) -> usize {
    usize::try_from(default_bytes).expect("a size").next_multiple_of(align_of::<Written>())
}

/// # Safety
/// `file` was opened by [`open`] and is in use by nobody else.
pub(super) unsafe fn written<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Written {
    // SAFETY: `open` put it there, into room that SQLite gave because the VFS asked for it. SQLite aligns files to 8 bytes.
    unsafe { &mut *file.cast::<u8>().add(written_at((*default_vfs()).szOsFile)).cast::<Written>() }
}

/// # Safety
/// `file` was opened by [`open`].
unsafe fn original(file: *mut ffi::sqlite3_file) -> &'static ffi::sqlite3_io_methods {
    // SAFETY: `open` gave the file a `Watched`, which begins with the methods and lives forever.
    unsafe { (*(*file).pMethods.cast::<Watched>()).original }
}

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    let default = default_vfs();
    // SAFETY: the arguments are SQLite's own; the default VFS was found and has the method (asserted at registration). A
    // file that it opened points to methods that are static.
    unsafe {
        let method = (*default).xOpen.expect("asserted at registration");
        let rc = method(default, name, file, flags, flags_out);
        if let Some(methods) = (*file).pMethods.as_ref() {
            (*file).pMethods = &watched(methods).methods;
            let room = file.cast::<u8>().add(written_at((*default).szOsFile)).cast::<Written>();
            room.write(match rc == ffi::SQLITE_OK && flags & (ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_WAL) != 0 {
                true => Written::of(file, (*default).szOsFile as usize, name),
                false => Written::UNWATCHED,
            });
        }
        rc
    }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, data: *const c_void, bytes: c_int, offset: i64) -> c_int {
    // SAFETY: SQLite calls this on an open file of ours, which no other thread uses; `watched` replaced a method that was there.
    unsafe {
        let rc = original(file).xWrite.expect("it was replaced")(file, data, bytes, offset);
        noticing(match rc == ffi::SQLITE_OK && written(file).add(offset, bytes).is_err() {
            true => ffi::SQLITE_IOERR_WRITE,
            false => rc,
        })
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, bytes: i64) -> c_int {
    // SAFETY: as in `write`.
    noticing(unsafe { original(file).xTruncate.expect("it was replaced")(file, bytes) })
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: as in `write`.
    noticing(unsafe { original(file).xSync.expect("it was replaced")(file, flags) })
}

/// It may grow the file (hints of its size).
unsafe extern "C" fn file_control(file: *mut ffi::sqlite3_file, operation: c_int, argument: *mut c_void) -> c_int {
    // SAFETY: as in `write`.
    noticing(unsafe { original(file).xFileControl.expect("it was replaced")(file, operation, argument) })
}

fn now_julian_ms() -> Option<i64> {
    let (clock, _) = REGISTERED.get()?;
    clock().map(|us| us.div_euclid(1000).saturating_add(UNIX_EPOCH_JULIAN_MS))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `/dev/full` answers every write with ENOSPC.
    #[test]
    fn a_full_disk_is_noticed_and_other_failures_to_go_on_are_not() {
        register_clock_vfs(|| None);
        forget_disk_failure();
        // SAFETY: the VFS is registered; the buffer is as large and aligned as it asks for; the file is closed at the end.
        unsafe {
            let vfs = ffi::sqlite3_vfs_find(super::super::vfs_name().as_ptr());
            let mut room = vec![0u64; (*vfs).szOsFile as usize / 8 + 1];
            let file = room.as_mut_ptr().cast::<ffi::sqlite3_file>();
            let flags = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_TEMP_DB;
            assert_eq!((*vfs).xOpen.unwrap()(vfs, c"/dev/full".as_ptr(), file, flags, ptr::null_mut()), ffi::SQLITE_OK);
            let methods = *(*file).pMethods;
            assert!(methods.iVersion >= 3 && methods.xFetch.is_some(), "nothing is lost");
            assert_eq!(methods.xFileControl.unwrap()(file, 12345, ptr::null_mut()), ffi::SQLITE_NOTFOUND);
            assert!(!disk_failed());
            assert_eq!(methods.xWrite.unwrap()(file, c"x".as_ptr().cast(), 1, 0), ffi::SQLITE_FULL);
            assert!(disk_failed());
            assert_eq!(methods.xClose.unwrap()(file), ffi::SQLITE_OK);
        }
        forget_disk_failure();
        assert!(!disk_failed());
    }
}
