//! The applied row: which entry the database stands for, written in the same transaction as the entry's effects.
//!
//! Applier thread only. Rows of the reserved table:
//! - 1 is a fixed-size record that is overwritten in place (which leaves `changes()` and `last_insert_rowid()` alone)
//! - 2 the membership at the applied index, 4 the index of its entry (u64; 0: not known)
//! - 3 where the database came from, if it was copied from another node: see [`write_installed`]. The only row in which
//!   nodes may differ
//! - 5 and those from 1024 on: see `retries`; 6 and those from 2^62 on: see `load`; those below 0: see `trail`

use super::authorizer::RESERVED_TABLE;
use super::fatal::Fatal;
use super::own;
use super::retries::{ROW_TRIMMED, TRIMMED_BYTES};
use super::sqlite::Connection;
use crate::command::ValueRef;
use raft::{ClusterId, Index, LogId, Term};

/// Format 1 had rows 1 and 2 only. A program that knows no others would let request ids pass unseen, so it must refuse.
const FORMAT: u32 = 2;
const FORMAT_MIN: u32 = 1;
const RECORD_BYTES: usize = 128;
const ROW_RECORD: i64 = 1;
const ROW_MEMBERSHIP: i64 = 2;
pub(super) const ROW_INSTALLED: i64 = 3;
const ROW_MEMBERSHIP_INDEX: i64 = 4;

const ADVICE_FOREIGN: &str = "another program made this file: move it out of the data directory, start the node again, and \
                              write what is in it through the HTTP API";
const ADVICE_FORMAT: &str = "start a version of this program that knows the format: the file was not changed";

/// The content of row 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub cluster: ClusterId,
    pub applied: LogId,
    /// The highest time of all applied entries: microseconds since the Unix epoch.
    pub time_us: i64,
    /// The last entry that could change data.
    pub changed: Index,
    /// What clients see where a statement sets no numbers of its own.
    pub last_insert_id: i64,
    pub rows_affected: i64,
    /// When the database was last rebuilt (the entry's time); 0 = never.
    pub vacuum_us: i64,
    /// When planner statistics were last gathered (the entry's time); 0 = never.
    pub optimize_us: i64,
    /// The time of the first command; 0 before it.
    pub created_us: i64,
    /// How much of the entry after `applied` is done already; nothing for nearly all entries.
    pub progress: Progress,
}

/// An entry that cannot be applied in one transaction (VACUUM, a statement that rolls back) is applied statement by
/// statement, and this says where to go on after a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// SQL statements done.
    pub statements: u64,
    /// `last_insert_rowid()` as the entry's statements see it.
    pub last_insert_rowid: i64,
    /// `total_changes()` as the entry's statements see it.
    pub total_changes: i64,
    /// VM steps taken of the request's budget.
    pub steps_used: u64,
    /// `PRAGMA foreign_keys = OFF` holds, in a script.
    pub foreign_keys_off: bool,
}

impl Record {
    fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&FORMAT.to_le_bytes());
        put(&self.cluster.0.to_le_bytes());
        put(&self.applied.index.0.to_le_bytes());
        put(&self.applied.term.0.to_le_bytes());
        put(&self.time_us.to_le_bytes());
        put(&self.changed.0.to_le_bytes());
        put(&self.last_insert_id.to_le_bytes());
        put(&self.rows_affected.to_le_bytes());
        put(&self.vacuum_us.to_le_bytes());
        put(&self.optimize_us.to_le_bytes());
        put(&self.created_us.to_le_bytes());
        put(&self.progress.statements.to_le_bytes());
        put(&self.progress.last_insert_rowid.to_le_bytes());
        put(&self.progress.total_changes.to_le_bytes());
        put(&self.progress.steps_used.to_le_bytes());
        put(&[u8::from(self.progress.foreign_keys_off)]);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Record, Fatal> {
        let bytes: &[u8; RECORD_BYTES] =
            bytes.try_into().map_err(|_| Fatal::new("the applied row has an unknown size"))?;
        let mut rest = &bytes[..];
        let format = u32::from_le_bytes(take(&mut rest));
        if !(FORMAT_MIN..=FORMAT).contains(&format) {
            let text = format!("the database has format {format}, this program knows {FORMAT}");
            return Err(Fatal::new(text).with_advice(ADVICE_FORMAT));
        }
        Ok(Record {
            cluster: ClusterId(u128::from_le_bytes(take(&mut rest))),
            applied: {
                let index = Index(u64::from_le_bytes(take(&mut rest)));
                LogId { index, term: Term(u64::from_le_bytes(take(&mut rest))) }
            },
            time_us: i64::from_le_bytes(take(&mut rest)),
            changed: Index(u64::from_le_bytes(take(&mut rest))),
            last_insert_id: i64::from_le_bytes(take(&mut rest)),
            rows_affected: i64::from_le_bytes(take(&mut rest)),
            vacuum_us: i64::from_le_bytes(take(&mut rest)),
            optimize_us: i64::from_le_bytes(take(&mut rest)),
            created_us: i64::from_le_bytes(take(&mut rest)),
            progress: Progress {
                statements: u64::from_le_bytes(take(&mut rest)),
                last_insert_rowid: i64::from_le_bytes(take(&mut rest)),
                total_changes: i64::from_le_bytes(take(&mut rest)),
                steps_used: u64::from_le_bytes(take(&mut rest)),
                foreign_keys_off: take::<1>(&mut rest) == [1],
            },
        })
    }

    /// Reads row 1 and writes nothing. `None`: the database is empty, so that it may become ours.
    pub(super) fn read(connection: &Connection, cluster: ClusterId) -> Result<Option<Record>, Fatal> {
        let failed = |error| Fatal::sqlite("reading the applied row", &error);
        let exists = format!("SELECT 1 FROM sqlite_schema WHERE name = '{RESERVED_TABLE}'");
        if connection.query_integer(&exists).map_err(failed)?.is_none() {
            let holds = "SELECT 1 FROM sqlite_schema LIMIT 1";
            return match connection.query_integer(holds).map_err(failed)? {
                None => Ok(None),
                Some(_) => {
                    let text = "the database holds tables, but says of no cluster that it belongs to it";
                    Err(Fatal::new(text).with_advice(ADVICE_FOREIGN))
                }
            };
        }
        let bytes = read_row(connection, ROW_RECORD)?.ok_or_else(|| Fatal::new("the applied row is missing"))?;
        let record = Record::decode(&bytes)?;
        if record.cluster != cluster {
            let text = format!("the database belongs to cluster {}, not to {cluster}", record.cluster);
            return Err(Fatal::new(text));
        }
        Ok(Some(record))
    }

    /// Brings a database of an older format up to date: the same for all, whenever it happens. The connection is not
    /// DEFENSIVE yet.
    pub(super) fn upgrade(&self, connection: &Connection) -> Result<(), Fatal> {
        if read_row(connection, ROW_TRIMMED)?.is_some() {
            return Ok(());
        }
        let failed = |error| Fatal::sqlite("bringing the database up to date", &error);
        let rows = format!("BEGIN IMMEDIATE; INSERT OR IGNORE INTO {RESERVED_TABLE} VALUES {}", rows_since_format_2());
        connection.execute(&rows).map_err(failed)?;
        self.write(connection)?;
        connection.execute("COMMIT").map_err(failed)
    }

    /// What an empty database says.
    pub(super) fn new(cluster: ClusterId) -> Record {
        Record {
            cluster,
            applied: LogId::default(),
            time_us: 0,
            changed: Index(0),
            last_insert_id: 0,
            rows_affected: 0,
            vacuum_us: 0,
            optimize_us: 0,
            created_us: 0,
            progress: Progress::default(),
        }
    }

    /// Makes the reserved table in an empty database. The connection is not DEFENSIVE yet.
    pub(super) fn create(&self, connection: &Connection) -> Result<(), Fatal> {
        let failed = |error| Fatal::sqlite("creating the applied row", &error);
        // `writable_schema` is what lets a reserved name be created; it is off again before anything else happens.
        let create = format!(
            "PRAGMA writable_schema = ON; BEGIN IMMEDIATE;
             CREATE TABLE {RESERVED_TABLE}(id INTEGER PRIMARY KEY, value BLOB NOT NULL);
             INSERT INTO {RESERVED_TABLE} VALUES({ROW_RECORD}, zeroblob({RECORD_BYTES})), ({ROW_MEMBERSHIP}, x''), {};",
            rows_since_format_2()
        );
        connection.execute(&create).map_err(failed)?;
        self.write(connection)?;
        connection.execute("COMMIT; PRAGMA writable_schema = OFF").map_err(failed)
    }

    /// Overwrites row 1 inside the open transaction.
    pub(super) fn write(&self, connection: &Connection) -> Result<(), Fatal> {
        connection
            .overwrite_blob(c"sqlite_ferrolite", c"value", ROW_RECORD, &self.encode())
            .map_err(|error| Fatal::sqlite("writing the applied row", &error))
    }
}

fn rows_since_format_2() -> String {
    format!("({ROW_MEMBERSHIP_INDEX}, zeroblob(8)), ({ROW_TRIMMED}, zeroblob({TRIMMED_BYTES}))")
}

/// The membership that was in force at the applied index, as the log carries it; empty when none was applied.
pub(super) fn read_membership(connection: &Connection) -> Result<Vec<u8>, Fatal> {
    read_row(connection, ROW_MEMBERSHIP)?.ok_or_else(|| Fatal::new("the membership row is missing"))
}

/// The index of the entry that holds that membership; 0 when there is none, or it was applied by a program that did not
/// keep the index yet.
pub(super) fn read_membership_index(connection: &Connection) -> Result<Index, Fatal> {
    let Some(bytes) = read_row(connection, ROW_MEMBERSHIP_INDEX)? else { return Ok(Index(0)) };
    let bytes = bytes.try_into().map_err(|_| Fatal::new("the membership's index has an unknown size"))?;
    Ok(Index(u64::from_le_bytes(bytes)))
}

/// Replaces the membership inside the open transaction.
pub(super) fn write_membership(connection: &Connection, index: Index, membership: &[u8]) -> Result<(), Fatal> {
    const DOING: &str = "writing the membership";
    let mut update = own::prepare(connection, &format!("UPDATE {RESERVED_TABLE} SET value = ?1 WHERE id = ?2"))?;
    let number = index.0.to_le_bytes();
    for (row, value) in [(ROW_MEMBERSHIP, membership), (ROW_MEMBERSHIP_INDEX, &number)] {
        own::run_with(&mut update, &[ValueRef::Blob(value), ValueRef::Integer(row)], DOING)?;
    }
    Ok(())
}

/// The entry up to which the database was filled by copying another node's; `None`: it never was. Where it is the applied
/// one, a log that ends before it has lost nothing: it was to begin anew after the copy.
pub(super) fn read_installed(connection: &Connection) -> Result<Option<LogId>, Fatal> {
    let Some(bytes) = read_row(connection, ROW_INSTALLED)? else { return Ok(None) };
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| Fatal::new("the mark of the copy has an unknown size"))?;
    let mut rest = &bytes[..];
    let index = Index(u64::from_le_bytes(take(&mut rest)));
    Ok(Some(LogId { index, term: Term(u64::from_le_bytes(take(&mut rest))) }))
}

/// Marks the database as one that was copied up to this entry.
pub(super) fn write_installed(connection: &Connection, installed: LogId) -> Result<(), Fatal> {
    let sql = format!("INSERT OR REPLACE INTO {RESERVED_TABLE} VALUES({ROW_INSTALLED}, ?1)");
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&installed.index.0.to_le_bytes());
    bytes[8..].copy_from_slice(&installed.term.0.to_le_bytes());
    own::run_with(&mut own::prepare(connection, &sql)?, &[ValueRef::Blob(&bytes)], "marking a copied database")
}

/// Reads row 1 of a database that some other connection writes, or that was copied. `None`: there is no such table.
pub(super) fn read(connection: &Connection) -> Result<Option<Record>, Fatal> {
    let exists = format!("SELECT 1 FROM sqlite_schema WHERE name = '{RESERVED_TABLE}'");
    let found = connection.query_integer(&exists).map_err(|error| Fatal::sqlite("reading the schema", &error))?;
    if found.is_none() {
        return Ok(None);
    }
    read_row(connection, ROW_RECORD)?.map(|bytes| Record::decode(&bytes)).transpose()
}

fn read_row(connection: &Connection, row: i64) -> Result<Option<Vec<u8>>, Fatal> {
    let sql = format!("SELECT value FROM {RESERVED_TABLE} WHERE id = {row}");
    own::read_bytes(connection, &sql, "reading the applied row")
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (taken, left) = rest.split_at(N);
    *rest = left;
    taken.try_into().expect("split_at gives the asked length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_comes_back_as_it_was_written() {
        let record = Record {
            cluster: ClusterId(7),
            applied: LogId { term: Term(2), index: Index(9) },
            time_us: -1,
            changed: Index(8),
            last_insert_id: i64::MIN,
            rows_affected: 3,
            vacuum_us: 4,
            optimize_us: 8,
            created_us: 9,
            progress: Progress {
                statements: 5,
                last_insert_rowid: 6,
                total_changes: 7,
                steps_used: 10,
                foreign_keys_off: true,
            },
        };
        assert_eq!(Record::decode(&record.encode()), Ok(record));
        assert!(Record::decode(&[1; 5]).is_err());
        assert!(Record::decode(&[9; RECORD_BYTES]).is_err());
    }
}
