//! Keeps SQLite from choosing rowids at random.
//!
//! In a table that holds the largest rowid, 9223372036854775807, SQLite takes automatic rowids from a generator that
//! is shared by the whole process, so that replicas would differ. Such a row may be inserted; an automatic rowid
//! beside it is refused, the same way on every node. (With AUTOINCREMENT SQLite itself refuses.)
//!
//! How: a write hook notes the tables that get the largest rowid, and the rowids of other rows that go into them
//! afterwards. A statement that wrote such rows is undone and run again: everything else about it is repeatable, so
//! other rowids the second time mean that SQLite chose them. The set of tables may name too many (a row was deleted
//! again); `prune` makes it exact when an entry begins, so that it is a function of the data.

use super::context;
use super::fatal::Fatal;
use super::sqlite::Connection;

/// The write hook of the applier's connection.
pub fn on_write(table: &str, rowid: i64) {
    context::with(|c| {
        let mut full = c.full_tables.borrow_mut();
        if rowid == i64::MAX {
            if !full.iter().any(|t| t == table) {
                full.push(table.to_owned());
            }
        } else if !full.is_empty() && full.iter().any(|t| t == table) {
            // FNV-1a over the rowids; never 0, which stands for "none".
            let digest = c.suspect_digest.get() ^ rowid as u64;
            c.suspect_digest.set(digest.wrapping_mul(0x0000_0100_0000_01b3) | 1 << 63);
        }
    });
}

/// All ordinary tables that hold the largest rowid. One seek for each table.
pub(super) fn scan(connection: &Connection) -> Result<Vec<String>, Fatal> {
    let failed = |error| Fatal::sqlite("looking for full tables", &error);
    let names = connection
        .query_texts("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")
        .map_err(failed)?;
    let mut full = Vec::new();
    for name in names {
        if holds_largest_rowid(connection, &name)? {
            full.push(name);
        }
    }
    Ok(full)
}

/// Drops the tables that do not hold the largest rowid (any more).
pub(super) fn prune(connection: &Connection) -> Result<(), Fatal> {
    let tables = context::with(|c| c.full_tables.take());
    let mut kept = Vec::new();
    for table in tables {
        if holds_largest_rowid(connection, &table)? {
            kept.push(table);
        }
    }
    context::with(|c| {
        c.full_tables.replace(kept);
        c.suspect_digest.set(0);
    });
    Ok(())
}

fn holds_largest_rowid(connection: &Connection, table: &str) -> Result<bool, Fatal> {
    let failed = |error| Fatal::sqlite("looking for full tables", &error);
    let name = format!("SELECT name FROM pragma_table_info({})", literal(table));
    let columns = connection.query_texts(&name).map_err(failed)?;
    let is_free = |alias: &&str| !columns.iter().any(|c| c.eq_ignore_ascii_case(alias));
    let Some(alias) = ["rowid", "_rowid_", "oid"].into_iter().find(is_free) else { return Ok(false) };
    let sql = format!("SELECT 1 FROM main.{} WHERE {alias} = {}", identifier(table), i64::MAX);
    match connection.query_integer(&sql) {
        Ok(found) => Ok(found.is_some()),
        // WITHOUT ROWID, or the table is gone. Anything else is a failure of the machine, and would show again.
        Err(error) if !super::fatal::is_machine_failure(&error) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// The text of the error for a rowid chosen at random.
pub(super) const TEXT_FULL: &str = "the largest rowid of the table is taken: give a rowid with every new row";

pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
