//! The binary formats: the pages of a snapshot, but for our own table.
//!
//! The table is dropped by SQLite in a layer of memory over the snapshot (`sqlite::overlay`): a handful of pages differ, and
//! those that were the table's become free and are empty. Everything else goes out as it lies in the snapshot, so that rowids
//! and the places of rows stay. Editing B-trees by hand would need less, and be wrong one day.

use super::{BUFFER_BYTES, MayGoOn};
use crate::command::ValueRef;
use crate::db::authorizer::RESERVED_TABLE;
use crate::db::fatal::Fatal;
use crate::db::own;
use crate::db::sqlite::overlay::{JOURNAL_BYTES, Overlay};
use crate::db::sqlite::{Connection, Error, Statement, Step, code};
use crate::random;
use std::io::{self, Write};
use std::path::Path;

/// The page cache while the table is dropped, in KiB.
const CACHE_KIB: u32 = 512;

/// A snapshot without our table.
pub(super) struct Stripped {
    overlay: Overlay,
    page_bytes: usize,
    may_go_on: MayGoOn,
}

/// The pages of the snapshot; holds it.
struct Source {
    pages: Statement,
    may_go_on: MayGoOn,
    _connection: Connection,
}

impl Source {
    fn read(&mut self, page: u32, out: &mut [u8]) -> Result<(), Error> {
        let broken = |text: String| Error { code: code::SQLITE_IOERR, text };
        (self.may_go_on)().map_err(|error| broken(error.to_string()))?;
        self.pages.bind(1, ValueRef::Integer(i64::from(page)))?;
        let is_there = self.pages.step()? == Step::Row;
        let bytes = if is_there { self.pages.column_bytes(0) } else { &[] };
        let is_whole = bytes.len() == out.len();
        if is_whole {
            out.copy_from_slice(bytes);
        }
        self.pages.reset();
        if is_whole { Ok(()) } else { Err(broken(format!("page {page} is missing"))) }
    }
}

impl Stripped {
    /// Takes over the connection that holds the snapshot.
    pub(super) fn new(connection: Connection, may_go_on: &MayGoOn) -> Result<Stripped, Fatal> {
        let number = |pragma: &str| own::number::<u32>(&connection, pragma);
        let (page_bytes, pages) = (number("PRAGMA page_size")? as usize, number("PRAGMA page_count")?);
        let statement = own::prepare(&connection, "SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
        let mut source = Source { pages: statement, may_go_on: may_go_on.clone(), _connection: connection };
        let overlay = Overlay::new(page_bytes, pages, Box::new(move |page, out| source.read(page, out)));
        let stripped = Stripped { overlay, page_bytes, may_go_on: may_go_on.clone() };
        drop_own_table(&stripped.overlay).map_err(|error| stripped.failed("leaving out our own table", &error))?;
        Ok(stripped)
    }

    /// Names what the source said, where it was the source.
    fn failed(&self, doing: &str, error: &Error) -> Fatal {
        Fatal::sqlite(doing, &self.overlay.failure().unwrap_or_else(|| error.clone()))
    }

    /// The size of the file.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.overlay.pages()) * self.page_bytes as u64
    }

    /// Writes the file; `journal` says in its header how it is to be opened.
    pub(super) fn write_to(&self, journal: u8, out: &mut dyn Write) -> io::Result<()> {
        let mut page = vec![0; self.page_bytes];
        let mut out = io::BufWriter::with_capacity(BUFFER_BYTES, out);
        for number in 1..=self.overlay.pages() {
            // The source asks as well, but pages of the layer do not come from there.
            (self.may_go_on)()?;
            let read = self.overlay.read_page(number, &mut page);
            read.map_err(|error| io::Error::other(format!("reading page {number}: {error}")))?;
            if number == 1 {
                page[JOURNAL_BYTES].fill(journal);
            }
            out.write_all(&page)?;
        }
        out.into_inner().map(drop).map_err(io::IntoInnerError::into_error)
    }

    /// Has SQLite rebuild it as a new file.
    pub(super) fn vacuum_into(&self, path: &Path) -> Result<(), Fatal> {
        let failed = |error: Error| self.failed("making a vacuumed copy", &error);
        let path = path.to_str().ok_or_else(|| Fatal::new("the data directory's name is not UTF-8"))?;
        let connection = self.overlay.connect().map_err(failed)?;
        let sql = format!("PRAGMA cache_size = -{CACHE_KIB}; VACUUM INTO '{}'", path.replace('\'', "''"));
        connection.execute(&sql).map_err(failed)
    }
}

/// Leaves our own table out of a database.
///
/// A reserved name cannot be dropped, so the table gets another one first, of the same length so that no page changes its
/// shape for it, and of random letters so that no table of a client has it. What is deleted is overwritten: not even the
/// unused parts of pages tell of it.
pub(in crate::db) fn drop_own_table(overlay: &Overlay) -> Result<(), Error> {
    const DIGITS: usize = 11;
    let random = random::u64()
        .map_err(|error| Error { code: code::SQLITE_ERROR, text: format!("no random numbers: {error}") })?;
    let hex = format!("{random:016x}");
    let name = format!("gone_{}", &hex[..DIGITS]);
    debug_assert_eq!(name.len(), RESERVED_TABLE.len());
    let connection = overlay.connect()?;
    connection.execute(&format!(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA secure_delete = ON;
         PRAGMA cache_size = -{CACHE_KIB}; PRAGMA writable_schema = ON;
         UPDATE sqlite_schema
         SET name = '{name}', tbl_name = '{name}', sql = replace(sql, '{RESERVED_TABLE}', '{name}')
         WHERE name = '{RESERVED_TABLE}';
         PRAGMA writable_schema = RESET"
    ))?;
    connection.execute(&format!("DROP TABLE {name}"))
}
