//! The logical hash of a database: equal on all nodes that have applied the same log, whatever their files look like.
//!
//! Runs on a background thread, on a connection of its own that holds the snapshot. It must never hold up the applier, which
//! only takes the snapshot.
//!
//! Hashed (BLAKE3) are the schema in name order, and the rows of every table in key order with the exact types and values:
//! also shadow tables of virtual tables, `sqlite_sequence`, planner statistics, and our own record of what was applied with
//! the request ids. Not hashed is what may differ: where rows lie in the file, free pages, and the mark of a copied database.

use super::authorizer::RESERVED_TABLE;
use super::fatal::Fatal;
use super::record::ROW_INSTALLED;
use super::rowids::{identifier, literal};
use super::sqlite::{Connection, Statement, Step};
use super::{own, snapshot};
use crate::command::ValueRef;
use raft::LogId;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes that are gathered before they are hashed: enough for the hash to work on several blocks at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Rows between two looks at the clock and at whether to stop.
const ROWS_PER_LOOK: u64 = 32;

/// The size of a hash.
pub type LogicalHash = [u8; 32];

/// A snapshot to be hashed. It keeps the WAL from being reset as long as it lives.
pub struct HashSource {
    connection: Connection,
    applied: LogId,
}

impl HashSource {
    /// Takes the snapshot. To be called between batches: a snapshot of a half-applied entry has no hash.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn pin(path: &Path) -> Result<HashSource, Fatal> {
        let (connection, record) = snapshot::pin(path)?;
        if record.progress.statements > 0 {
            return Err(Fatal::new(format!("the entry after {} is half applied", record.applied)).within(path));
        }
        Ok(HashSource { connection, applied: record.applied })
    }

    /// The last entry in the snapshot: what the hash is a hash of.
    pub fn applied(&self) -> LogId {
        self.applied
    }

    /// Reads everything once. `None`: it was cancelled.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn hash(self, cancelled: &AtomicBool) -> Result<Option<LogicalHash>, Fatal> {
        let mut sink = Sink {
            hasher: blake3::Hasher::new(),
            buffer: Vec::with_capacity(2 * BUFFER_BYTES),
            cancelled,
            working: Instant::now(),
        };
        let is_whole = hash_all(&self.connection, &mut sink)?;
        Ok(is_whole.then(|| sink.finish()))
    }
}

/// The hash of what a connection sees, for who has one.
///
/// # Errors
/// The database cannot be read.
pub fn of_connection(connection: &Connection) -> Result<LogicalHash, Fatal> {
    let never = AtomicBool::new(false);
    let mut sink =
        Sink { hasher: blake3::Hasher::new(), buffer: Vec::new(), cancelled: &never, working: Instant::now() };
    hash_all(connection, &mut sink)?;
    Ok(sink.finish())
}

const TAG_NULL: u8 = 0;
const TAG_INTEGER: u8 = 1;
const TAG_REAL: u8 = 2;
const TAG_TEXT: u8 = 3;
const TAG_BLOB: u8 = 4;
/// Behind the last column of a row, and before a table's name: no value begins like them.
const TAG_ROW_END: u8 = 5;
const TAG_TABLE: u8 = 6;

struct Sink<'a> {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    cancelled: &'a AtomicBool,
    /// Since the last pause.
    working: Instant,
}

/// So long at a time, then a pause. All nodes hash at once, perhaps on one machine, and requests go first. They pass through many
/// threads, and each may find the processor taken by a hash, or the disk, for as long as it works at a time.
const WORK_TIME: Duration = Duration::from_micros(500);
const PAUSE_TIME: Duration = Duration::from_micros(1500);

impl Sink<'_> {
    fn value(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.buffer.push(TAG_NULL),
            ValueRef::Integer(i) => self.number(TAG_INTEGER, i as u64),
            ValueRef::Real(r) => self.number(TAG_REAL, r.to_bits()),
            ValueRef::Text(bytes) => self.bytes(TAG_TEXT, bytes),
            ValueRef::Blob(bytes) => self.bytes(TAG_BLOB, bytes),
        }
    }

    fn number(&mut self, tag: u8, number: u64) {
        self.buffer.push(tag);
        self.buffer.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, tag: u8, bytes: &[u8]) {
        self.number(tag, bytes.len() as u64);
        if bytes.len() < BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.flush();
            self.hasher.update(bytes);
        }
    }

    /// All rows that are left, to the end. False: it was cancelled.
    fn rows(&mut self, statement: &mut Statement) -> Result<bool, Fatal> {
        let columns = statement.column_count();
        let mut rows: u64 = 0;
        while statement.step().map_err(|error| Fatal::sqlite("hashing", &error))? == Step::Row {
            for column in 0..columns {
                self.value(statement.column(column));
            }
            self.buffer.push(TAG_ROW_END);
            if self.buffer.len() >= BUFFER_BYTES {
                self.flush();
            }
            rows += 1;
            if !rows.is_multiple_of(ROWS_PER_LOOK) {
                continue;
            }
            if self.cancelled.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if self.working.elapsed() >= WORK_TIME {
                std::thread::sleep(PAUSE_TIME);
                self.working = Instant::now();
            }
        }
        Ok(!self.cancelled.load(Ordering::Relaxed))
    }

    fn flush(&mut self) {
        self.hasher.update(&self.buffer);
        self.buffer.clear();
    }

    fn finish(mut self) -> LogicalHash {
        self.flush();
        *self.hasher.finalize().as_bytes()
    }
}

fn hash_all(connection: &Connection, sink: &mut Sink<'_>) -> Result<bool, Fatal> {
    let schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name";
    let mut is_whole = sink.rows(&mut own::prepare(connection, schema)?)?;
    for pragma in ["PRAGMA encoding", "PRAGMA user_version", "PRAGMA application_id"] {
        is_whole = is_whole && sink.rows(&mut own::prepare(connection, pragma)?)?;
    }
    // Virtual tables keep their content in ordinary tables.
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name";
    let tables = connection.query_texts(tables).map_err(|error| Fatal::sqlite("hashing", &error))?;
    for table in tables {
        if !is_whole {
            return Ok(false);
        }
        sink.bytes(TAG_TABLE, table.as_bytes());
        is_whole = sink.rows(&mut own::prepare(connection, &rows_of(connection, &table)?)?)?;
    }
    Ok(is_whole)
}

/// The query for a table's rows in key order: what is stored, and nothing that would have to be computed (which might
/// fail).
fn rows_of(connection: &Connection, table: &str) -> Result<String, Fatal> {
    let failed = |error| Fatal::sqlite("hashing", &error);
    const COMPUTED: u8 = 2;
    let ask = |what: &str| {
        let sql = format!("SELECT name FROM pragma_table_xinfo({}, 'main') {what}", literal(table));
        connection.query_texts(&sql).map_err(failed)
    };
    let stored = ask(&format!("WHERE hidden <> {COMPUTED} ORDER BY cid"))?;
    let all = ask("")?;
    let list = |names: &[String]| names.iter().map(|name| identifier(name)).collect::<Vec<_>>().join(", ");
    let from = format!("FROM main.{} NOT INDEXED", identifier(table));
    let is_ours = table.eq_ignore_ascii_case(RESERVED_TABLE);
    let only = if is_ours { format!(" WHERE id <> {ROW_INSTALLED}") } else { String::new() };
    let without_rowid = format!("SELECT wr FROM pragma_table_list({}) WHERE schema = 'main'", literal(table));
    if connection.query_integer(&without_rowid).map_err(failed)? == Some(1) {
        let key = ask("WHERE pk > 0 ORDER BY pk")?;
        return Ok(format!("SELECT {} {from} ORDER BY {}", list(&stored), list(&key)));
    }
    // The rowid counts as content: SQL can ask for it. Where columns have taken all of its names, none can.
    let is_free = |alias: &&str| !all.iter().any(|name| name.eq_ignore_ascii_case(alias));
    match ["rowid", "_rowid_", "oid"].into_iter().find(is_free) {
        Some(rowid) => Ok(format!("SELECT {rowid}, {} {from}{only} ORDER BY {rowid}", list(&stored))),
        None => Ok(format!("SELECT {} {from}{only}", list(&stored))),
    }
}
