//! Hands what SQLite writes to the disk in portions, as it comes. Called by the VFS, on whichever thread writes.
//!
//! A checkpoint must sync the WAL first and the database file at its end. Left alone, the kernel keeps all pages dirty until
//! then, and everybody's syncs wait while megabytes go to the disk at once. A hint after each portion spreads that. It promises
//! nothing: SQLite's own sync still counts.
//!
//! A thread that writes much and is not waited for can be [`pace`]d besides: it waits until each portion is on its way, and
//! then leaves the disk to others for longer than it had it.

use rusqlite::ffi;
use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Bytes between two hints.
pub const PORTION_BYTES: u32 = 64 * 1024;
/// Whoever takes longer than this to write a portion (so, writes less than 16 MiB/s) needs no pace.
const PORTION_TIME: Duration = Duration::from_millis(4);
/// Shortest and longest pause after a portion.
const PAUSE_MIN: Duration = Duration::from_micros(250);
const PAUSE_MAX: Duration = Duration::from_millis(500);

thread_local! {
    static PACED: Cell<bool> = const { Cell::new(false) };
    static LAST_PORTION: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Whether this thread writes at a pace from now on.
pub fn pace(is_paced: bool) {
    PACED.set(is_paced);
}

/// What was written to an open file since the last hint.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// None: no hints for this file.
    descriptor: Option<c_int>,
    first: i64,
    end: i64,
    bytes: i64,
}

impl Written {
    /// For files that are not worth it.
    pub const UNWATCHED: Written = Written { descriptor: None, first: i64::MAX, end: 0, bytes: 0 };

    /// For the file that the default VFS has just opened as `name`.
    ///
    /// # Safety
    /// `file` is open and has `file_bytes`, the size that the default VFS asks for; `name` is null or its path.
    pub unsafe fn of(file: *const ffi::sqlite3_file, file_bytes: usize, name: ffi::sqlite3_filename) -> Written {
        // SAFETY: passed on.
        Written { descriptor: unsafe { descriptor(file, file_bytes, name) }, ..Written::UNWATCHED }
    }

    /// `bytes` were written at `offset`.
    ///
    /// # Errors
    /// The disk refuses what was written. The file's next sync would no longer tell: the kernel reports each failure once.
    pub fn add(&mut self, offset: i64, bytes: c_int) -> io::Result<()> {
        let Some(descriptor) = self.descriptor else { return Ok(()) };
        self.first = self.first.min(offset);
        self.end = self.end.max(offset + i64::from(bytes));
        self.bytes += i64::from(bytes);
        if self.bytes < i64::from(PORTION_BYTES) {
            return Ok(());
        }
        let Written { first, end, .. } =
            std::mem::replace(self, Written { descriptor: self.descriptor, ..Written::UNWATCHED });
        hand_over(descriptor, first, end - first)
    }
}

/// SQLite does not tell a file's descriptor, and to open the file once more is out of the question: closing that would drop the
/// locks of the whole process. But the bundled SQLite's `unixFile` begins with three pointers and the descriptor; whether that
/// still holds is looked at for every file.
///
/// # Safety
/// As [`Written::of`].
unsafe fn descriptor(file: *const ffi::sqlite3_file, file_bytes: usize, name: ffi::sqlite3_filename) -> Option<c_int> {
    let at = 3 * size_of::<*const ()>();
    if name.is_null() || at + size_of::<c_int>() > file_bytes {
        return None;
    }
    // SAFETY: the object is that large, and the default VFS clears it before use; the name ends with NUL.
    let (descriptor, name) = unsafe { (file.cast::<u8>().add(at).cast::<c_int>().read(), CStr::from_ptr(name)) };
    if descriptor < 0 {
        return None;
    }
    // SAFETY: only asked about; whatever it is, it is not kept.
    let open = rustix::fs::fstat(unsafe { rustix::fd::BorrowedFd::borrow_raw(descriptor) }).ok()?;
    let there = rustix::fs::stat(name).ok()?;
    ((open.st_dev, open.st_ino) == (there.st_dev, there.st_ino)).then_some(descriptor)
}

fn hand_over(descriptor: c_int, offset: i64, bytes: i64) -> io::Result<()> {
    let now = Instant::now();
    let since = LAST_PORTION.replace(Some(now)).map(|last| now - last);
    let waits = PACED.get() && since.is_some_and(|since| since < PORTION_TIME);
    begin(descriptor, offset, bytes, waits)?;
    if waits {
        rest(now.elapsed());
        LAST_PORTION.set(Some(Instant::now()));
    }
    Ok(())
}

/// Sends a part of a file that was just written to the disk, waits until it is there and leaves the disk to others for a while:
/// for a large file that is written once. Still to be synced.
///
/// # Errors
/// The disk refuses.
pub fn write_out(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let now = Instant::now();
    let fits = |n: u64| i64::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    if begin(file.as_raw_fd(), fits(offset)?, fits(bytes)?, true)? == Begun::Unsupported {
        file.sync_data()?;
    }
    rest(now.elapsed());
    Ok(())
}

fn rest(busy: Duration) {
    std::thread::sleep((PAUSE_MIN + 2 * busy).min(PAUSE_MAX));
}

#[derive(Debug, PartialEq, Eq)]
enum Begun {
    Done,
    /// The system cannot, or the file cannot.
    Unsupported,
}

#[cfg(target_os = "linux")]
fn begin(descriptor: c_int, offset: i64, bytes: i64, waits: bool) -> io::Result<Begun> {
    let mut flags = libc::SYNC_FILE_RANGE_WRITE;
    if waits {
        flags |= libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    }
    // SAFETY: the descriptor is that of a file which is open while it is written; the call touches no memory of ours.
    match unsafe { libc::sync_file_range(descriptor, offset, bytes, flags) } {
        0 => Ok(Begun::Done),
        _ => outcome_of(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn begin(_descriptor: c_int, _offset: i64, _bytes: i64, _waits: bool) -> io::Result<Begun> {
    Ok(Begun::Unsupported)
}

#[cfg(target_os = "linux")]
fn outcome_of(error: io::Error) -> io::Result<Begun> {
    match error.raw_os_error() {
        Some(libc::EIO | libc::ENOSPC | libc::EDQUOT) => Err(error),
        _ => Ok(Begun::Unsupported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::sqlite::{Access, Connection, register_clock_vfs, vfs_name};
    use crate::db::tests::Scratch;

    #[test]
    fn portions_are_counted_and_begin_anew() {
        let mut written = Written { descriptor: Some(-1), ..Written::UNWATCHED };
        written.add(4096, 1000).unwrap();
        written.add(0, 100).unwrap();
        assert_eq!((written.first, written.end, written.bytes), (0, 5096, 1100));
        written.add(8192, PORTION_BYTES as c_int).unwrap();
        assert_eq!(
            written,
            Written { descriptor: Some(-1), ..Written::UNWATCHED },
            "a hint that cannot be given means nothing"
        );
        let mut written = Written::UNWATCHED;
        written.add(0, 100).unwrap();
        assert_eq!(written, Written::UNWATCHED);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_failure_that_the_kernel_tells_only_once_is_not_lost() {
        for code in [libc::EIO, libc::ENOSPC, libc::EDQUOT] {
            assert_eq!(outcome_of(io::Error::from_raw_os_error(code)).unwrap_err().raw_os_error(), Some(code));
        }
        for code in [libc::ESPIPE, libc::EINVAL, libc::ENOSYS, libc::EBADF] {
            assert_eq!(outcome_of(io::Error::from_raw_os_error(code)).unwrap(), Begun::Unsupported);
        }
    }

    /// When this fails, another SQLite is bundled whose files look different: see `descriptor`.
    #[test]
    fn the_descriptors_of_database_and_wal_are_found() {
        register_clock_vfs(|| None);
        let scratch = Scratch::new();
        let connection = Connection::open(&scratch.file(), Access::ReadWrite, Some(vfs_name())).unwrap();
        assert_eq!(connection.query_texts("PRAGMA journal_mode = WAL").unwrap(), ["wal"]);
        connection.execute("CREATE TABLE t (x)").unwrap();
        for control in [ffi::SQLITE_FCNTL_FILE_POINTER, ffi::SQLITE_FCNTL_JOURNAL_POINTER] {
            let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
            // SAFETY: the connection is open and used here alone; these controls store a pointer to a file of its VFS.
            let descriptor = unsafe {
                let rc = ffi::sqlite3_file_control(connection.db, c"main".as_ptr(), control, (&raw mut file).cast());
                assert_eq!(rc, ffi::SQLITE_OK);
                super::super::vfs::written(file).descriptor
            };
            assert!(descriptor.is_some_and(|descriptor| descriptor > 2), "{control}");
        }
    }
}
