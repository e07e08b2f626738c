//! The logical content of a database: schema and rows, as text or as a hash, without what is ours.
//!
//! Two replicas at the same index have equal dumps. Any thread, on a connection of its own or between batches on the
//! applier's; run it inside a transaction where others write meanwhile. Memory: one row (hash) or the whole (dump).

use super::authorizer::RESERVED_TABLE;
use super::rowids::identifier;
use super::sqlite::{Connection, Error, Step};
use crate::command::ValueRef;
use std::fmt::Write;

/// A 128-bit hash of everything that [`logical_dump`] would write. For comparing replicas, not against forgery.
///
/// # Errors
/// SQLite's, as they come.
pub fn logical_hash(connection: &Connection) -> Result<u128, Error> {
    let mut hash = Fnv128::new();
    walk(connection, &mut |bytes| hash.add(bytes))?;
    Ok(hash.0)
}

/// Schema and rows, one line each, in a fixed order.
///
/// # Errors
/// SQLite's, as they come.
pub fn logical_dump(connection: &Connection) -> Result<String, Error> {
    let mut out = Vec::new();
    walk(connection, &mut |bytes| out.extend_from_slice(bytes))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn walk(connection: &Connection, put: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
    let (statement, _) = connection.prepare(&format!(
        "SELECT type, name, tbl_name, coalesce(sql, ''), rootpage FROM sqlite_schema
         WHERE name <> '{RESERVED_TABLE}' ORDER BY type, name"
    ))?;
    let mut schema = statement.expect("SQL of our own is not empty");
    let mut tables = Vec::new();
    while schema.step()? == Step::Row {
        let text = |column| String::from_utf8_lossy(schema.column_bytes(column)).into_owned();
        put(format!("{} {} {} {}\n", text(0), text(1), text(2), text(3)).as_bytes());
        // Virtual tables keep their content in ordinary (shadow) tables, which are walked.
        if text(0) == "table" && schema.column_integer(4) != Some(0) {
            tables.push(text(1));
        }
    }
    for name in ["user_version", "application_id"] {
        let value = connection.query_integer(&format!("PRAGMA {name}"))?.unwrap_or(0);
        put(format!("{name} {value}\n").as_bytes());
    }
    for table in tables {
        put(format!("rows {table}\n").as_bytes());
        walk_rows(connection, &table, put)?;
    }
    Ok(())
}

/// Rows in key order: the rowid, where there is one, is content too.
fn walk_rows(connection: &Connection, table: &str, put: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
    let table = identifier(table);
    let by_rowid = format!("SELECT rowid, * FROM main.{table} NOT INDEXED ORDER BY rowid");
    let by_key = format!("SELECT * FROM main.{table}");
    let (statement, _) = connection.prepare(&by_rowid).or_else(|_| connection.prepare(&by_key))?;
    let mut statement = statement.expect("SQL of our own is not empty");
    let mut line = String::new();
    while statement.step()? == Step::Row {
        line.clear();
        for index in 0..statement.column_count() {
            match statement.column(index) {
                ValueRef::Null => line.push_str("n|"),
                ValueRef::Integer(i) => write!(line, "i{i}|").expect("a String takes all"),
                ValueRef::Real(r) => write!(line, "r{:016x}|", r.to_bits()).expect("a String takes all"),
                ValueRef::Text(bytes) => write_bytes(&mut line, 't', bytes),
                ValueRef::Blob(bytes) => write_bytes(&mut line, 'b', bytes),
            }
        }
        line.push('\n');
        put(line.as_bytes());
    }
    Ok(())
}

/// Printable text as it is, everything else in hexadecimal; the length keeps neighbours apart.
fn write_bytes(line: &mut String, kind: char, bytes: &[u8]) {
    write!(line, "{kind}{}:", bytes.len()).expect("a String takes all");
    match std::str::from_utf8(bytes) {
        Ok(text) if kind == 't' && !text.contains(['\n', '\0']) => line.push_str(text),
        _ => bytes.iter().for_each(|b| write!(line, "{b:02x}").expect("a String takes all")),
    }
    line.push('|');
}

/// FNV-1a, 128 bits (Fowler, Noll, Vo).
struct Fnv128(u128);

impl Fnv128 {
    fn new() -> Fnv128 {
        Fnv128(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u128::from(*byte);
            self.0 = self.0.wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}
