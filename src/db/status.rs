//! What the database says of itself, for `/status` (`store.sqlite3`).

use super::readers::{ReadError, Readers};
use super::sqlite::{Connection, Error, Step};
use crate::command::ValueRef;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// See spec: `store.sqlite3`. Sizes are bytes; pragma values are texts, as `/status` shows them.
#[derive(Clone, Debug, Default)]
pub struct DbStatus {
    pub path: PathBuf,
    pub version: String,
    pub compile_options: Vec<String>,
    /// page_count * page_size.
    pub db_bytes: u64,
    pub file_bytes: u64,
    pub wal_bytes: u64,
    /// Modification time of the database file, microseconds since the Unix epoch.
    pub last_modified_us: i64,
    pub page_bytes: u64,
    pub page_count: u64,
    pub max_page_count: u64,
    pub freelist_count: u64,
    pub cache_size: i64,
    /// (name, value) in name order.
    pub pragmas_ro: Vec<(String, String)>,
    pub pragmas_rw: Vec<(String, String)>,
    pub readers_max: u32,
    pub readers_open: u32,
    pub readers_in_use: u32,
}

/// Pragmas that `/status` shows of each kind of connection.
const PRAGMAS_SHOWN: [&str; 5] = ["busy_timeout", "foreign_keys", "journal_mode", "synchronous", "wal_autocheckpoint"];

/// The values of those pragmas on a connection, in name order.
///
/// # Errors
/// SQLite's, as they come.
pub(super) fn read_pragmas(connection: &Connection) -> Result<Vec<(String, String)>, Error> {
    let value = |name: &str| {
        let (statement, _) = connection.prepare(&format!("PRAGMA {name}"))?;
        let mut statement = statement.expect("a pragma is a statement");
        let value = match statement.step()? {
            Step::Row => match statement.column(0) {
                ValueRef::Integer(i) => i.to_string(),
                ValueRef::Text(t) => String::from_utf8_lossy(t).into_owned(),
                _ => String::new(),
            },
            Step::Done => String::new(),
        };
        Ok((name.to_owned(), value))
    };
    PRAGMAS_SHOWN.iter().map(|name| value(name)).collect()
}

impl Readers {
    /// Everything that `/status` says of the database. `pragmas_rw` are those of the writer's connection (see
    /// `read_pragmas`), which only the applier may use. Blocks for a connection of the pool.
    ///
    /// # Errors
    /// No connection could be had, or the database cannot be read.
    pub fn database_status(&self, pragmas_rw: Vec<(String, String)>) -> Result<DbStatus, ReadError> {
        let mut status = self.ask(|connection| {
            let integer =
                |name: &str| Ok::<i64, Error>(connection.query_integer(&format!("PRAGMA {name}"))?.unwrap_or(0));
            let count = |name: &str| Ok::<u64, Error>(u64::try_from(integer(name)?).unwrap_or(0));
            let (page_bytes, page_count) = (count("page_size")?, count("page_count")?);
            Ok(DbStatus {
                version: rusqlite::version().to_owned(),
                compile_options: connection.query_texts("PRAGMA compile_options")?,
                db_bytes: page_bytes * page_count,
                page_bytes,
                page_count,
                max_page_count: count("max_page_count")?,
                freelist_count: count("freelist_count")?,
                cache_size: integer("cache_size")?,
                pragmas_ro: read_pragmas(connection)?,
                ..DbStatus::default()
            })
        })?;
        let pool = self.status();
        status.path = self.path().to_owned();
        status.pragmas_rw = pragmas_rw;
        status.readers_max = clamp(pool.connections_max);
        status.readers_open = clamp(pool.open);
        status.readers_in_use = clamp(pool.in_use);
        // Only asked about, never opened: closing a file of a live database would drop SQLite's locks on it.
        if let Ok(file) = std::fs::metadata(self.path()) {
            status.file_bytes = file.len();
            let modified = file.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            status.last_modified_us = modified.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        }
        status.wal_bytes = std::fs::metadata(wal_path(self.path())).map_or(0, |file| file.len());
        Ok(status)
    }
}

fn wal_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
