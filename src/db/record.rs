//! The applied row: which entry the database stands for, written in the same transaction as the entry's effects.
//!
//! Applier thread only. Two rows of the reserved table: row 1 is a fixed-size record that is overwritten in place
//! (which leaves `changes()` and `last_insert_rowid()` alone), row 2 the membership at the applied index.

use super::authorizer::RESERVED_TABLE;
use super::fatal::Fatal;
use super::sqlite::{Connection, Step};
use crate::command::ValueRef;
use raft::{ClusterId, Index, LogId, Term};

const FORMAT: u32 = 1;
const RECORD_BYTES: usize = 128;
const ROW_RECORD: i64 = 1;
const ROW_MEMBERSHIP: i64 = 2;

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
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Record, Fatal> {
        let bytes: &[u8; RECORD_BYTES] =
            bytes.try_into().map_err(|_| Fatal::new("the applied row has an unknown size"))?;
        let mut rest = &bytes[..];
        let format = u32::from_le_bytes(take(&mut rest));
        if format != FORMAT {
            return Err(Fatal::new(format!("the database has format {format}, this program knows {FORMAT}")));
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
                Some(_) => Err(Fatal::new("the database holds tables, but says of no cluster that it belongs to it")),
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
             INSERT INTO {RESERVED_TABLE} VALUES({ROW_RECORD}, zeroblob({RECORD_BYTES})), ({ROW_MEMBERSHIP}, x'');"
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

/// The membership that was in force at the applied index, as the log carries it; empty when none was applied.
pub(super) fn read_membership(connection: &Connection) -> Result<Vec<u8>, Fatal> {
    read_row(connection, ROW_MEMBERSHIP)?.ok_or_else(|| Fatal::new("the membership row is missing"))
}

/// Replaces the membership inside the open transaction.
pub(super) fn write_membership(connection: &Connection, membership: &[u8]) -> Result<(), Fatal> {
    let failed = |error| Fatal::sqlite("writing the membership", &error);
    let sql = format!("UPDATE {RESERVED_TABLE} SET value = ?1 WHERE id = {ROW_MEMBERSHIP}");
    let (statement, _) = connection.prepare(&sql).map_err(failed)?;
    let mut statement = statement.expect("SQL of our own is not empty");
    statement.bind(1, ValueRef::Blob(membership)).map_err(failed)?;
    statement.step().map_err(failed)?;
    Ok(())
}

fn read_row(connection: &Connection, row: i64) -> Result<Option<Vec<u8>>, Fatal> {
    let failed = |error| Fatal::sqlite("reading the applied row", &error);
    let sql = format!("SELECT value FROM {RESERVED_TABLE} WHERE id = {row}");
    let (statement, _) = connection.prepare(&sql).map_err(failed)?;
    let mut statement = statement.expect("SQL of our own is not empty");
    match statement.step().map_err(failed)? {
        Step::Row => Ok(Some(statement.column_bytes(0).to_vec())),
        Step::Done => Ok(None),
    }
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
            progress: Progress { statements: 5, last_insert_rowid: 6, total_changes: 7, steps_used: 10 },
        };
        assert_eq!(Record::decode(&record.encode()), Ok(record));
        assert!(Record::decode(&[1; 5]).is_err());
        assert!(Record::decode(&[9; RECORD_BYTES]).is_err());
    }
}
