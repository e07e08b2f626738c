//! What a client has sent, as a database: looked at before anything of it reaches the log.
//!
//! Runs on the thread that serves the client, which may block. The bytes lie in memory or in a scratch file and are never
//! changed; SQLite sees them through a layer of memory (`sqlite::overlay`), on connections of this module alone. They are
//! taken for hostile: whatever is wrong with them must end in a text for the client.

use super::schema;
use crate::command::LOAD_CHUNK_BYTES;
use crate::db::record::Record;
use crate::db::sqlite::memory::Budget;
use crate::db::sqlite::overlay::{JOURNAL_BYTES, Overlay};
use crate::db::sqlite::{Connection, Error, code};
use crate::db::{backup, disk, functions, limits};
use raft::ClusterId;
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a body that is a database begins with, as far as clients of the API know.
const SNIFFED: &[u8] = b"SQLite format";
/// What a database begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER_BYTES: usize = 100;
const PAGE_BYTES_MIN: u32 = 512;
const PAGE_BYTES_MAX: u32 = 65_536;
/// Of a page, the least that SQLite wants for itself.
const USABLE_BYTES_MIN: u32 = 480;

/// How long it may take to check a database: some ten million rows each second of a small machine, for hundreds of gigabytes.
const CHECK_TIME_MAX: Duration = Duration::from_secs(900);
/// Steps of SQLite's between two looks at the clock.
const STEPS_PER_LOOK: i32 = 10_000;
/// The page cache while it is checked, in KiB.
const CACHE_KIB: u32 = 8192;
/// What a node needs on its disk to load a database, as a multiple of its size: the parts in the log, in the database and in
/// its WAL, and the file made of them.
const ROOM_FACTOR: u64 = 4;

thread_local! {
    /// When the check that runs on this thread must be over.
    static CHECK_ENDS: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Of what a client has sent, enough to know it by: for [`is_database`] and [`has_magic`].
pub const START_BYTES: usize = MAGIC.len();

/// Does what begins so say that it is a database, of whatever kind and state? All else is SQL.
pub fn is_database(start: &[u8]) -> bool {
    start.len() > SNIFFED.len() && start.starts_with(SNIFFED)
}

/// Does it begin as a database of the one format that there is?
pub fn has_magic(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// The bytes that a client has sent.
pub enum Source {
    Memory(Vec<u8>),
    /// A file of so many bytes, from its start.
    File {
        file: File,
        bytes: u64,
    },
}

impl Source {
    /// How many they are.
    pub fn bytes(&self) -> u64 {
        match self {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File { bytes, .. } => *bytes,
        }
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Source::File { file, .. } => file.read_exact_at(out, offset),
            Source::Memory(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                let found = bytes.get(from..).and_then(|rest| rest.get(..out.len()));
                out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// What the header says of the file as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    page_bytes: u32,
    pages: u32,
}

impl Geometry {
    /// `bytes`: the size of the file.
    fn of(header: &[u8; HEADER_BYTES], bytes: u64) -> Result<Geometry, String> {
        if !has_magic(header) {
            return Err("file is not a database".to_owned());
        }
        let u32_at = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
            1 => PAGE_BYTES_MAX,
            page_bytes => u32::from(page_bytes),
        };
        if !page_bytes.is_power_of_two() || page_bytes < PAGE_BYTES_MIN {
            return Err(format!("file is not a database: it has pages of {page_bytes} bytes"));
        }
        let journal = &header[JOURNAL_BYTES];
        if !journal.iter().all(|kind| (1..=2).contains(kind)) {
            return Err("file is not a database that this version of SQLite can write".to_owned());
        }
        if page_bytes - u32::from(header[20]) < USABLE_BYTES_MIN || header[21..24] != [64, 32, 32] {
            return Err("file is not a database: its header is damaged".to_owned());
        }
        let pages = bytes / u64::from(page_bytes);
        // The header says how many there are, unless the file was last written by a SQLite before 3.7.
        let told = u32_at(28);
        let is_told = told > 0 && u32_at(24) == u32_at(92);
        let pages = match u32::try_from(pages) {
            Ok(pages) if pages > 0 && bytes.is_multiple_of(u64::from(page_bytes)) && (!is_told || told == pages) => {
                pages
            }
            _ => {
                let expected = if is_told { format!("{told}") } else { "whole".to_owned() };
                return Err(format!(
                    "the database is not whole: it has {bytes} bytes, and its header says {expected} pages of {page_bytes} \
                     bytes. Make a copy with VACUUM INTO, or with the command .backup of sqlite3, and send that"
                ));
            }
        };
        Ok(Geometry { page_bytes, pages })
    }
}

/// A database that may become that of all nodes.
pub struct Upload {
    overlay: Overlay,
    page_bytes: usize,
    /// Pages that were given, counted from 0.
    given: u32,
}

impl Upload {
    /// Looks at all of it, which may take long for a large one.
    ///
    /// # Errors
    /// Why it is not fit, or why that cannot be said.
    pub fn check(source: Source) -> Result<Upload, String> {
        let bytes = source.bytes();
        let mut header = [0; HEADER_BYTES];
        source.read_at(0, &mut header).map_err(|_| "file is not a database: it is too short".to_owned())?;
        let Geometry { page_bytes, pages } = Geometry::of(&header, bytes)?;
        let page_bytes = page_bytes as usize;
        let source = Arc::new(source);
        let over_source = || {
            let source = Arc::clone(&source);
            let read = move |page: u32, out: &mut [u8]| {
                let offset = u64::from(page - 1) * page_bytes as u64;
                let read = source.read_at(offset, out);
                read.map_err(|error| Error { code: code::SQLITE_IOERR, text: format!("reading the file: {error}") })
            };
            Overlay::new(page_bytes, pages, Box::new(read))
        };
        let (overlay, rehearsed) = (over_source(), over_source());
        let _budget = Budget::begin();
        CHECK_ENDS.set(Some(Instant::now() + CHECK_TIME_MAX));
        let checked = check_schema(&overlay).and_then(|has_own_table| rehearse(&rehearsed, has_own_table));
        CHECK_ENDS.set(None);
        match (checked, overlay.failure().or(rehearsed.failure())) {
            (Ok(()), _) => Ok(Upload { overlay, page_bytes, given: 0 }),
            (Err(_), Some(failure)) => Err(failure.text),
            (Err(text), None) => Err(text),
        }
    }

    /// The size of what [`Upload::next_chunk`] gives in all.
    pub fn bytes(&self) -> u64 {
        u64::from(self.overlay.pages()) * self.page_bytes as u64
    }

    /// Is there room for loading it, on the disk of the directory `dir`?
    ///
    /// # Errors
    /// How much there would have to be; or the disk cannot be asked.
    pub fn check_room(&self, dir: &Path) -> Result<(), String> {
        disk::check_room(dir, self.bytes().saturating_mul(ROOM_FACTOR), "to load the database")
    }

    /// The next part of the file: [`LOAD_CHUNK_BYTES`], or what is left. `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, String> {
        let per_chunk = u32::try_from(LOAD_CHUNK_BYTES / self.page_bytes).expect("a part has few pages");
        let count = per_chunk.min(self.overlay.pages() - self.given);
        let mut chunk = vec![0; count as usize * self.page_bytes];
        for page in chunk.chunks_mut(self.page_bytes) {
            self.given += 1;
            self.overlay.read_page(self.given, page).map_err(told)?;
        }
        Ok((count > 0).then_some(chunk))
    }
}

const _: () = assert!(LOAD_CHUNK_BYTES.is_multiple_of(PAGE_BYTES_MAX as usize));

/// A connection that can do no harm.
fn connect(overlay: &Overlay) -> Result<Connection, Error> {
    let connection = overlay.connect()?;
    limits::set_all(&connection, 0);
    connection.execute(&format!(
        "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -{CACHE_KIB}; PRAGMA journal_mode = MEMORY; PRAGMA foreign_keys = OFF"
    ))?;
    functions::install(&connection)?;
    connection.set_progress_handler(STEPS_PER_LOOK, is_late);
    Ok(connection)
}

/// Leaves the overlay without our own table, and says whether it was there: a copy of a node's database file says of that node
/// what is of no use here.
fn check_schema(overlay: &Overlay) -> Result<bool, String> {
    let connection = connect(overlay).map_err(told)?;
    connection.harden(false).map_err(told)?;
    let has_own_table = schema::has_own_table(&connection)?;
    if !has_own_table {
        schema::check(&connection)?;
        return Ok(false);
    }
    drop(connection);
    backup::drop_own_table(overlay).map_err(told)?;
    schema::check(&connect(overlay).map_err(told)?)?;
    Ok(true)
}

/// Looks at every page, and does, in an overlay that nobody else will see, what each node is to do first with the database.
///
/// SQLite's check leaves out what belongs to no table (the list of free pages, for one) where it comes upon a view first, so
/// views must not be there, nor triggers, which may be on views.
fn rehearse(overlay: &Overlay, has_own_table: bool) -> Result<(), String> {
    if has_own_table {
        backup::drop_own_table(overlay).map_err(told)?;
    }
    let connection = connect(overlay).map_err(told)?;
    let leave_out = "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE type IN ('view', 'trigger'); \
                     PRAGMA writable_schema = RESET";
    connection.execute(leave_out).map_err(told)?;
    check_integrity(&connection)?;
    let record = Record::new(ClusterId(0));
    record.create(&connection).map_err(|fatal| format!("the database cannot be written: {fatal}"))?;
    let use_it = "CREATE TABLE rehearsed(x UNIQUE); DROP TABLE rehearsed";
    // It may have a table of that name, which is as good.
    match connection.execute(use_it) {
        Err(error) if error.primary() != code::SQLITE_ERROR => {
            Err(format!("the database cannot be written: {}", told(error)))
        }
        _ => Ok(()),
    }
}

/// Everything: `quick_check` would not compare indexes with their tables.
fn check_integrity(connection: &Connection) -> Result<(), String> {
    let found = connection.query_texts("PRAGMA integrity_check(1)").map_err(told)?;
    match found.as_slice() {
        [ok] if ok == "ok" => Ok(()),
        found => Err(format!(
            "the database is damaged: {}",
            found.join("; ").trim_start_matches("*** in database main ***\n")
        )),
    }
}

/// The progress handler: true ends the statement.
fn is_late(_depth: usize) -> bool {
    CHECK_ENDS.get().is_some_and(|ends| Instant::now() >= ends)
}

pub(super) fn told(error: Error) -> String {
    match error.primary() {
        code::SQLITE_INTERRUPT => format!("checking the database took longer than {CHECK_TIME_MAX:?}"),
        _ => error.text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(page_size: u16, told: u32, is_current: bool) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..16].copy_from_slice(MAGIC);
        header[16..18].copy_from_slice(&page_size.to_be_bytes());
        header[18..24].copy_from_slice(&[1, 1, 0, 64, 32, 32]);
        header[27] = 9;
        header[28..32].copy_from_slice(&told.to_be_bytes());
        header[95] = if is_current { 9 } else { 8 };
        header
    }

    #[test]
    fn the_size_is_what_the_header_says() {
        let of = |page_bytes, pages| Ok(Geometry { page_bytes, pages });
        assert_eq!(Geometry::of(&header(512, 3, true), 1536), of(512, 3));
        assert_eq!(Geometry::of(&header(1, 2, true), 131_072), of(65_536, 2));
        assert_eq!(Geometry::of(&header(4096, 7, false), 8192), of(4096, 2), "the number of pages is out of date");
        for (page_size, told, is_current, bytes) in [
            (512, 3, true, 1024),
            (512, 3, true, 2048),
            (512, 3, true, 1535),
            (512, 0, true, 0),
            (512, 0, false, 100),
            (256, 1, true, 256),
            (0, 1, true, 512),
            (1000, 1, true, 1000),
        ] {
            assert!(Geometry::of(&header(page_size, told, is_current), bytes).is_err(), "{page_size} {told} {bytes}");
        }
        let mut other = header(512, 1, true);
        other[18] = 3;
        assert!(Geometry::of(&other, 512).is_err(), "another format of writing");
        other = header(512, 1, true);
        other[20] = 64;
        assert!(Geometry::of(&other, 512).is_err(), "too much of each page is reserved");
        other = header(512, 1, true);
        other[15] = b'4';
        assert!(Geometry::of(&other, 512).is_err(), "another magic");
    }

    #[test]
    fn a_body_is_sniffed_by_its_first_bytes() {
        assert!(is_database(b"SQLite format 3\0"));
        assert!(is_database(b"SQLite format4"));
        for sql in [b"SQLite format".as_slice(), b"", b"sqlite format 3\0", b"SELECT 1; -- SQLite format 3"] {
            assert!(!is_database(sql));
        }
    }
}
