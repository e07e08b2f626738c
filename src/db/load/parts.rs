//! The parts that have come so far, as rows of the reserved table.
//!
//! Applier thread only. There is one load at a time: the first part of another one takes the place of all parts before it,
//! and a load whose last part is old is let go, at whatever entry comes then. Both depend on the log alone.
//!
//! Rows: [`ROW_LOAD`] says of which load they are and how far it came (load u128, parts u32, bytes u64, entry time of the last
//! one i64, integers little-endian); part number `n` is the row [`ROW_PART_FIRST`] `+ n`.

use crate::command::{LoadChunk, LoadCommit, ValueRef};
use crate::db::authorizer::RESERVED_TABLE;
use crate::db::fatal::Fatal;
use crate::db::own;
use crate::db::sqlite::{Connection, Statement, Step};

const ROW_LOAD: i64 = 6;
const ROW_LOAD_BYTES: usize = 36;
/// Rowids from here on are those of parts, those below of everything else.
pub(in crate::db) const ROW_PART_FIRST: i64 = 1 << 62;
/// Entry time, microseconds: ten minutes after the last part a load counts as abandoned.
pub(super) const LOAD_KEPT_US: i64 = 10 * 60 * 1_000_000;

pub(super) const TEXT_GIVEN_UP: &str =
    "another load has begun meanwhile, or this one took too long: it was given up and has changed nothing";
pub(super) const TEXT_DAMAGED: &str = "the file did not arrive as it was sent, and has changed nothing: try again";

/// A load of which there are parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UnderWay {
    load: u128,
    chunks: u32,
    bytes: u64,
    /// Entry time of the last part.
    time_us: i64,
}

/// See the module. Its statements change the connection's counters.
pub(in crate::db) struct Parts {
    put: Statement,
    delete_parts: Statement,
    delete_load: Statement,
    under_way: Option<UnderWay>,
    /// The open transaction has changed the rows.
    is_changed: bool,
    /// All parts of this load are there, but they are not what was sent.
    pub(super) damaged: Option<u128>,
}

impl Parts {
    pub(in crate::db) fn open(connection: &Connection) -> Result<Parts, Fatal> {
        let prepare = |sql: String| own::prepare(connection, &sql);
        Ok(Parts {
            put: prepare(format!("INSERT OR REPLACE INTO {RESERVED_TABLE} VALUES(?1, ?2)"))?,
            delete_parts: prepare(format!("DELETE FROM {RESERVED_TABLE} WHERE id >= {ROW_PART_FIRST}"))?,
            delete_load: prepare(format!("DELETE FROM {RESERVED_TABLE} WHERE id = {ROW_LOAD}"))?,
            under_way: read(connection)?,
            is_changed: false,
            damaged: None,
        })
    }

    /// Keeps a part inside the open transaction, if it is the next one of its load. Else the text for the client.
    pub(in crate::db) fn add(&mut self, chunk: &LoadChunk, time_us: i64) -> Result<Option<&'static str>, Fatal> {
        const DOING: &str = "keeping a part of a load";
        let before = match self.under_way {
            Some(before) if before.load == chunk.load && before.chunks == chunk.number => before,
            _ if chunk.number == 0 => {
                self.forget()?;
                UnderWay { load: chunk.load, chunks: 0, bytes: 0, time_us }
            }
            _ => return Ok(Some(TEXT_GIVEN_UP)),
        };
        let now = UnderWay {
            chunks: before.chunks.checked_add(1).expect("a file has fewer parts: SQLite's has 2^32 pages"),
            bytes: before.bytes + chunk.bytes.len() as u64,
            time_us,
            ..before
        };
        self.is_changed = true;
        let row = [ValueRef::Integer(ROW_PART_FIRST + i64::from(chunk.number)), ValueRef::Blob(&chunk.bytes)];
        own::run_with(&mut self.put, &row, DOING)?;
        own::run_with(&mut self.put, &[ValueRef::Integer(ROW_LOAD), ValueRef::Blob(&now.encode())], DOING)?;
        self.under_way = Some(now);
        Ok(None)
    }

    /// Are these parts, all of them and no others, there?
    pub(super) fn has(&self, commit: &LoadCommit) -> bool {
        self.under_way
            .is_some_and(|load| (load.load, load.chunks, load.bytes) == (commit.load, commit.chunks, commit.bytes))
    }

    /// What a commit comes to that does not exchange the database: the text for the client. The parts are let go, inside the
    /// open transaction.
    ///
    /// # Errors
    /// It should have exchanged the database: whoever applies entries must ask [`crate::db::Writer::take_load`] first.
    pub(in crate::db) fn refuse(&mut self, commit: &LoadCommit) -> Result<&'static str, Fatal> {
        if !self.has(commit) {
            return Ok(TEXT_GIVEN_UP);
        }
        if self.damaged.take() != Some(commit.load) {
            return Err(Fatal::new("the entry exchanges the database, which cannot be done inside of a batch"));
        }
        self.forget()?;
        Ok(TEXT_DAMAGED)
    }

    /// Lets the parts of this load go, inside the open transaction: they are not needed.
    pub(in crate::db) fn forget_load(&mut self, load: u128) -> Result<(), Fatal> {
        match self.under_way {
            Some(under_way) if under_way.load == load => self.forget(),
            _ => Ok(()),
        }
    }

    /// The same for a load that has not gone on for long.
    pub(in crate::db) fn forget_old(&mut self, time_us: i64) -> Result<(), Fatal> {
        match self.under_way {
            Some(load) if time_us.saturating_sub(load.time_us) > LOAD_KEPT_US => self.forget(),
            _ => Ok(()),
        }
    }

    fn forget(&mut self) -> Result<(), Fatal> {
        const DOING: &str = "letting the parts of a load go";
        if self.under_way.take().is_some() {
            self.is_changed = true;
            own::run_with(&mut self.delete_parts, &[], DOING)?;
            own::run_with(&mut self.delete_load, &[], DOING)?;
        }
        Ok(())
    }

    /// The open transaction was committed.
    pub(in crate::db) fn committed(&mut self) {
        self.is_changed = false;
    }

    /// The open transaction was rolled back, as a whole.
    pub(in crate::db) fn rolled_back(&mut self, connection: &Connection) -> Result<(), Fatal> {
        if std::mem::take(&mut self.is_changed) {
            self.under_way = read(connection)?;
        }
        Ok(())
    }
}

/// Gives all parts in order to `take`.
pub(super) fn for_each(connection: &Connection, mut take: impl FnMut(&[u8]) -> Result<(), Fatal>) -> Result<(), Fatal> {
    let sql = format!("SELECT value FROM {RESERVED_TABLE} WHERE id >= {ROW_PART_FIRST} ORDER BY id");
    let mut rows = own::prepare(connection, &sql)?;
    while rows.step().map_err(|error| Fatal::sqlite("reading the parts of a load", &error))? == Step::Row {
        take(rows.column_bytes(0))?;
    }
    Ok(())
}

fn read(connection: &Connection) -> Result<Option<UnderWay>, Fatal> {
    let sql = format!("SELECT value FROM {RESERVED_TABLE} WHERE id = {ROW_LOAD}");
    let Some(row) = own::read_bytes(connection, &sql, "looking for a load")? else { return Ok(None) };
    UnderWay::decode(&row).map(Some).ok_or_else(|| Fatal::new("the row of the load under way cannot be read"))
}

impl UnderWay {
    fn encode(&self) -> [u8; ROW_LOAD_BYTES] {
        let mut row = [0; ROW_LOAD_BYTES];
        row[..16].copy_from_slice(&self.load.to_le_bytes());
        row[16..20].copy_from_slice(&self.chunks.to_le_bytes());
        row[20..28].copy_from_slice(&self.bytes.to_le_bytes());
        row[28..].copy_from_slice(&self.time_us.to_le_bytes());
        row
    }

    fn decode(row: &[u8]) -> Option<UnderWay> {
        let row: &[u8; ROW_LOAD_BYTES] = row.try_into().ok()?;
        let (load, rest) = row.split_first_chunk()?;
        let (chunks, rest) = rest.split_first_chunk()?;
        let (bytes, time_us) = rest.split_first_chunk()?;
        Some(UnderWay {
            load: u128::from_le_bytes(*load),
            chunks: u32::from_le_bytes(*chunks),
            bytes: u64::from_le_bytes(*bytes),
            time_us: i64::from_le_bytes(time_us.try_into().ok()?),
        })
    }
}
