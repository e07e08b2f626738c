//! A read-only connection that holds one snapshot of the database while writing goes on.
//!
//! Any thread; one thread at a time. It keeps the WAL from being reset as long as it lives, so it must not live long; and it
//! must be gone before the database file is replaced.

use super::fatal::Fatal;
use super::record::{self, Record};
use super::sqlite::{Access, Connection};
use std::path::Path;

/// Waiting for a lock that another connection holds for moments.
const BUSY_TIMEOUT_MS: i32 = 10_000;
/// The page cache, in KiB: everything is read once only.
const CACHE_KIB: u32 = 256;

/// Opens the database at `path`, begins a transaction, and reads what the snapshot stands for.
pub(super) fn pin(path: &Path) -> Result<(Connection, Record), Fatal> {
    let failed = |error| Fatal::sqlite("opening it to read a snapshot", &error).within(path);
    let connection = Connection::open(path, Access::ReadOnly, None).map_err(failed)?;
    connection.set_busy_timeout_ms(BUSY_TIMEOUT_MS);
    let settings = format!("PRAGMA query_only = 1; PRAGMA cache_size = -{CACHE_KIB}; PRAGMA mmap_size = 0; BEGIN");
    connection.execute(&settings).map_err(failed)?;
    match record::read(&connection) {
        Ok(Some(record)) => Ok((connection, record)),
        Ok(None) => Err(Fatal::new("it holds no applied row").within(path)),
        Err(fatal) => Err(fatal.within(path)),
    }
}
