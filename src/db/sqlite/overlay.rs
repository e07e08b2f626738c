//! A database that is read from elsewhere page by page and changed in memory only: SQLite itself makes the changes, and
//! whoever owns it takes the result page by page. Nothing of it is on disk, and memory holds only pages that were changed
//! and are not empty.
//!
//! One thread at a time for each overlay. A VFS of its own serves the one file; whatever else a connection of it opens
//! (the file that `VACUUM INTO` makes) goes to the default VFS.

use super::vfs::{Default, register_beside_default};
use super::{Access, Connection, Error};
use parking_lot::Mutex;
use rusqlite::ffi;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::{mem, ptr, slice};

const VFS_NAME: &CStr = c"ferrolite-overlay";
/// Names of overlays begin so; no such path exists.
const NAME_PREFIX: &str = "/ferrolite-overlay-";
/// Bytes 18 and 19 of a database: which journal it is written with. An overlay has none, and so has no WAL either.
pub const JOURNAL_BYTES: std::ops::Range<usize> = 18..20;
/// The older kind of journal.
pub const JOURNAL_DELETE: u8 = 1;
/// Most bytes of changed pages; beyond it the change fails as on a full disk.
const CHANGED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Reads a page (counted from 1) into the room, which it must fill.
pub type ReadPage = Box<dyn FnMut(u32, &mut [u8]) -> Result<(), Error> + Send>;

/// The content of an overlay, shared with the file that SQLite has open.
struct Content {
    page_bytes: usize,
    pages: u32,
    /// Pages that the source has.
    source_pages: u32,
    /// `None`: all zeros.
    changed: BTreeMap<u32, Option<Box<[u8]>>>,
    changed_bytes: usize,
    source: ReadPage,
    /// Why the source could not be read: SQLite would only say that some read failed.
    failure: Option<Error>,
}

impl Content {
    fn read_page(&mut self, page: u32, out: &mut [u8]) -> Result<(), Error> {
        match self.changed.get(&page) {
            Some(Some(bytes)) => out.copy_from_slice(bytes),
            Some(None) => out.fill(0),
            None if page > self.source_pages => out.fill(0),
            None => {
                (self.source)(page, out).inspect_err(|error| self.failure = Some(error.clone()))?;
                if page == 1 {
                    out[JOURNAL_BYTES].fill(JOURNAL_DELETE);
                }
            }
        }
        Ok(())
    }

    /// Says whether there was room.
    fn write_page(&mut self, page: u32, bytes: &[u8]) -> bool {
        let is_empty = bytes.iter().all(|byte| *byte == 0);
        let before = self.changed.get(&page).map_or(0, |held| held.as_ref().map_or(0, |bytes| bytes.len()));
        let after = if is_empty { 0 } else { bytes.len() };
        if self.changed_bytes - before + after > CHANGED_BYTES_MAX {
            return false;
        }
        self.changed_bytes = self.changed_bytes - before + after;
        self.changed.insert(page, (!is_empty).then(|| bytes.into()));
        self.pages = self.pages.max(page);
        true
    }

    fn truncate(&mut self, pages: u32) {
        for (_, held) in self.changed.split_off(&(pages + 1)) {
            self.changed_bytes -= held.map_or(0, |bytes| bytes.len());
        }
        self.pages = pages;
        self.source_pages = self.source_pages.min(pages);
    }
}

/// See the module.
pub struct Overlay {
    content: Arc<Mutex<Content>>,
    number: u64,
}

impl Overlay {
    /// Over a database of `pages` pages that `source` reads.
    pub fn new(page_bytes: usize, pages: u32, source: ReadPage) -> Overlay {
        let content = Arc::new(Mutex::new(Content {
            page_bytes,
            pages,
            source_pages: pages,
            changed: BTreeMap::new(),
            changed_bytes: 0,
            source,
            failure: None,
        }));
        let mut open = OPEN.lock();
        open.last += 1;
        let number = open.last;
        open.contents.get_or_insert_default().insert(number, Arc::clone(&content));
        Overlay { content, number }
    }

    /// A connection that sees the database and changes the overlay. It must be gone before pages are taken.
    ///
    /// # Errors
    /// SQLite has no memory.
    pub fn connect(&self) -> Result<Connection, Error> {
        register();
        let name = format!("{NAME_PREFIX}{}", self.number);
        Connection::open(Path::new(&name), Access::ReadWrite, Some(VFS_NAME))
    }

    /// How many pages there are now.
    pub fn pages(&self) -> u32 {
        self.content.lock().pages
    }

    /// A page (counted from 1) as it is now, in place of what was in `out`, which must have a page's size.
    ///
    /// # Errors
    /// The source's.
    pub fn read_page(&self, page: u32, out: &mut [u8]) -> Result<(), Error> {
        self.content.lock().read_page(page, out)
    }

    /// Why the source could not be read, if that was so.
    pub fn failure(&self) -> Option<Error> {
        self.content.lock().failure.clone()
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        if let Some(contents) = &mut OPEN.lock().contents {
            contents.remove(&self.number);
        }
    }
}

/// The overlays that there are, by number: a VFS finds files by name only.
struct Open {
    last: u64,
    contents: Option<HashMap<u64, Arc<Mutex<Content>>>>,
}

static OPEN: Mutex<Open> = Mutex::new(Open { last: 0, contents: None });

fn find(name: &CStr) -> Option<Arc<Mutex<Content>>> {
    let number: u64 = name.to_str().ok()?.strip_prefix(NAME_PREFIX)?.parse().ok()?;
    OPEN.lock().contents.as_ref()?.get(&number).cloned()
}

/// What SQLite holds for an open file.
#[repr(C)]
struct File {
    /// First, as SQLite wants it.
    base: ffi::sqlite3_file,
    /// A reference of its own, given back by `close`.
    content: *const Mutex<Content>,
}

static DEFAULT: OnceLock<Default> = OnceLock::new();

fn register() {
    DEFAULT.get_or_init(|| {
        register_beside_default(VFS_NAME, |ours| {
            assert!(ours.xFullPathname.is_some(), "the default VFS knows paths");
            let room = c_int::try_from(mem::size_of::<File>()).expect("two pointers");
            ours.szOsFile = ours.szOsFile.max(room);
            ours.xOpen = Some(open);
            ours.xFullPathname = Some(full_pathname);
        })
    });
}

fn default_vfs() -> *mut ffi::sqlite3_vfs {
    DEFAULT.get().expect("it was found before ours was registered").0
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // SAFETY: the arguments are SQLite's own: a name that is NULL or NUL-terminated, and room of `szOsFile` bytes for the
    // file. The default VFS was found and has the method (asserted at registration).
    unsafe {
        let content = if name.is_null() { None } else { find(CStr::from_ptr(name)) };
        let Some(content) = content else {
            let method = (*default_vfs()).xOpen.expect("asserted at registration");
            return method(default_vfs(), name, file, flags, flags_out);
        };
        let file = file.cast::<File>();
        (*file).content = Arc::into_raw(content);
        (*file).base.pMethods = &METHODS;
        if !flags_out.is_null() {
            *flags_out = flags;
        }
        ffi::SQLITE_OK
    }
}

unsafe extern "C" fn full_pathname(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: `name` is NUL-terminated, `out` has `room` bytes; the default VFS has the method.
    unsafe {
        if find(CStr::from_ptr(name)).is_none() {
            let method = (*default_vfs()).xFullPathname.expect("asserted at registration");
            return method(default_vfs(), name, room, out);
        }
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if bytes.len() > usize::try_from(room).unwrap_or(0) {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(bytes.as_ptr(), out.cast(), bytes.len());
        ffi::SQLITE_OK
    }
}

/// # Safety
/// `file` was opened by [`open`] as one of ours and is not closed.
unsafe fn content<'a>(file: *mut ffi::sqlite3_file) -> &'a Mutex<Content> {
    // SAFETY: `open` put a reference there that lives until `close`.
    unsafe { &*(*file.cast::<File>()).content }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once; the reference is the one that `open` made.
    drop(unsafe { Arc::from_raw((*file.cast::<File>()).content) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, out: *mut c_void, bytes: c_int, offset: i64) -> c_int {
    // SAFETY: one of our files; `out` has room for so many bytes.
    let (content, out) = unsafe {
        let length = usize::try_from(bytes).expect("SQLite reads no negative number of bytes");
        (content(file), slice::from_raw_parts_mut(out.cast::<u8>(), length))
    };
    let mut content = content.lock();
    let page_bytes = content.page_bytes;
    let mut room = vec![0; page_bytes];
    let mut at = usize::try_from(offset).expect("SQLite reads at no negative offset");
    let mut done = 0;
    while done < out.len() {
        let page = u32::try_from(at / page_bytes + 1).unwrap_or(u32::MAX);
        if page > content.pages {
            out[done..].fill(0);
            return ffi::SQLITE_IOERR_SHORT_READ;
        }
        if content.read_page(page, &mut room).is_err() {
            return ffi::SQLITE_IOERR_READ;
        }
        let from = at % page_bytes;
        let count = (page_bytes - from).min(out.len() - done);
        out[done..done + count].copy_from_slice(&room[from..from + count]);
        done += count;
        at += count;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, data: *const c_void, bytes: c_int, offset: i64) -> c_int {
    // SAFETY: one of our files; `data` has so many bytes.
    let (content, data) = unsafe {
        let length = usize::try_from(bytes).expect("SQLite writes no negative number of bytes");
        (content(file), slice::from_raw_parts(data.cast::<u8>(), length))
    };
    let mut content = content.lock();
    let at = usize::try_from(offset).expect("SQLite writes at no negative offset");
    // A database file is written in whole pages.
    if data.len() != content.page_bytes || at % content.page_bytes != 0 {
        return ffi::SQLITE_IOERR_WRITE;
    }
    let page = u32::try_from(at / content.page_bytes + 1).unwrap_or(u32::MAX);
    if content.write_page(page, data) { ffi::SQLITE_OK } else { ffi::SQLITE_FULL }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, bytes: i64) -> c_int {
    // SAFETY: one of our files.
    let mut content = unsafe { content(file) }.lock();
    let pages = u64::try_from(bytes).unwrap_or(0) / content.page_bytes as u64;
    content.truncate(u32::try_from(pages).unwrap_or(u32::MAX));
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, out: *mut i64) -> c_int {
    // SAFETY: one of our files; `out` is valid for writing.
    unsafe {
        let content = content(file).lock();
        *out = i64::from(content.pages) * content.page_bytes as i64;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn sync(_file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    ffi::SQLITE_OK
}

/// Nobody else has the file.
unsafe extern "C" fn lock(_file: *mut ffi::sqlite3_file, _level: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: `out` is valid for writing.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_file: *mut ffi::sqlite3_file, _operation: c_int, _argument: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn device_characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_BYTES: usize = 4096;

    /// A database as bytes.
    fn made(name: &str, sql: &str) -> Vec<u8> {
        let path = std::env::temp_dir().join(format!("ferrolite-overlay-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let connection = Connection::open(&path, Access::ReadWrite, None).unwrap();
        connection.execute(sql).unwrap();
        drop(connection);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        bytes
    }

    fn over(bytes: Vec<u8>) -> Overlay {
        let pages = u32::try_from(bytes.len() / PAGE_BYTES).unwrap();
        let read = move |page: u32, out: &mut [u8]| {
            let at = (page as usize - 1) * PAGE_BYTES;
            out.copy_from_slice(&bytes[at..at + PAGE_BYTES]);
            Ok(())
        };
        Overlay::new(PAGE_BYTES, pages, Box::new(read))
    }

    #[test]
    fn changes_stay_in_memory_and_pages_come_out_changed() {
        let sql = "CREATE TABLE t(x); CREATE TABLE u(x);
                   INSERT INTO t SELECT randomblob(3000) FROM (SELECT 1 FROM pragma_function_list LIMIT 50);
                   INSERT INTO u VALUES(7)";
        let overlay = over(made("changes", sql));
        let connection = overlay.connect().unwrap();
        connection.execute("PRAGMA journal_mode=OFF; PRAGMA secure_delete=ON; DROP TABLE t").unwrap();
        assert_eq!(connection.query_integer("SELECT x FROM u").unwrap(), Some(7));
        drop(connection);
        assert!(overlay.content.lock().changed_bytes <= 4 * PAGE_BYTES, "pages of zeros take no room");
        let mut bytes = vec![0; overlay.pages() as usize * PAGE_BYTES];
        for (at, page) in bytes.chunks_mut(PAGE_BYTES).enumerate() {
            overlay.read_page(at as u32 + 1, page).unwrap();
        }
        let again = over(bytes);
        let connection = again.connect().unwrap();
        assert_eq!(connection.query_texts("PRAGMA integrity_check").unwrap(), ["ok"]);
        assert_eq!(connection.query_texts("SELECT name FROM sqlite_schema").unwrap(), ["u"]);
    }

    #[test]
    fn a_source_that_fails_is_named() {
        let failure = Error { code: ffi::SQLITE_IOERR, text: "the disk is gone".to_owned() };
        let told = failure.clone();
        let overlay = Overlay::new(PAGE_BYTES, 3, Box::new(move |_, _| Err(told.clone())));
        let read = overlay.connect().and_then(|connection| connection.execute("SELECT * FROM sqlite_schema"));
        assert!(read.is_err());
        assert_eq!(overlay.failure(), Some(failure));
    }
}
