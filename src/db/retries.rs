//! The requests that were applied lately, by their ids, with what they came to: a repeat is answered and not applied.
//!
//! Applier thread only. Part of the replicated state: rows are written in the transaction of the entry that they stand
//! for, and what is kept how long depends on log indexes and entry times only, so that every node knows the same ids.
//!
//! How long ids are kept:
//! - those that nodes drew (forwarded writes) for [`SERVER_IDS_KEPT_ENTRIES`] entries of the log, and for
//!   [`SERVER_IDS_KEPT_US`] of entry time where there are many, but at most [`SERVER_IDS_MAX`] of them. The id says up to
//!   which index it cannot have been applied; where ids after that index were let go already, it is refused.
//! - those that clients chose for [`CLIENT_IDS_KEPT_US`] of entry time, but at most [`CLIENT_IDS_MAX`] of them. A client
//!   that does not say since when its key exists (`issued_after` 0) is protected that long and no longer.
//!
//! Rows of the reserved table: the entry's index plus [`ROW_FIRST`] is the rowid, below [`ROW_PART_FIRST`]. A value is: version u8, outcome kept u8,
//! key len u16 + bytes, fingerprint u64, term u64, entry time i64, and the outcome's bytes to the end (integers
//! little-endian). One more row, [`ROW_TRIMMED`], says up to which index ids of either kind were let go.

use super::authorizer::RESERVED_TABLE;
use super::fatal::Fatal;
use super::load::ROW_PART_FIRST;
use super::own;
use super::sqlite::{Connection, Statement, Step};
use crate::command::{Outcome, Repeat, RequestId, ValueRef};
use raft::{Index, LogId, Term};
use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

/// Entries of the log for which an id that a node drew is kept, and longer if they went by in less than
/// [`SERVER_IDS_KEPT_US`]: a node that was cut off asks again when it finds the leader.
pub const SERVER_IDS_KEPT_ENTRIES: u64 = 65_536;
/// Entry time, microseconds: half a minute.
pub const SERVER_IDS_KEPT_US: i64 = 30 * 1_000_000;
/// Most ids of nodes that are kept.
pub const SERVER_IDS_MAX: usize = 262_144;
/// Entry time for which a client's id is kept, microseconds: a day.
pub const CLIENT_IDS_KEPT_US: i64 = 24 * 60 * 60 * 1_000_000;
/// Most clients' ids that are kept.
pub const CLIENT_IDS_MAX: usize = 262_144;
/// Ids are let go at every entry whose index is a multiple of this.
const TRIM_INTERVAL: u64 = 256;
/// Most ids of a kind that one entry lets go: more than can have come since the last time, few enough to be quick.
const TRIM_ROWS_MAX: usize = 1024;

/// Longest outcome that is kept, encoded, in bytes.
pub const OUTCOME_BYTES_MAX: usize = 64 * 1024;
/// While the outcomes that are kept take more than this together, only short ones are added.
const OUTCOMES_BYTES_MAX: u64 = 64 * 1024 * 1024;
const SHORT_OUTCOME_BYTES_MAX: usize = 256;

/// Rowids below are those of other records.
const ROW_FIRST: i64 = 1024;
/// The rows that are kept. A constant for SQL: see `ROW_FIRST` and `ROW_PART_FIRST`.
const IS_KEPT: &str = "(id >= 1024 AND id < 4611686018427387904)";
const _: () = assert!(ROW_FIRST == 1024 && ROW_PART_FIRST == 4_611_686_018_427_387_904);
/// Where `trimmed_to` stands: 16 bytes.
pub(super) const ROW_TRIMMED: i64 = 5;
pub(super) const TRIMMED_BYTES: usize = 16;

const VERSION: u8 = 1;
/// All of a row's value but key and outcome.
const HEAD_BYTES: usize = 28;

const TEXT_EXPIRED: &str =
    "outcome unknown: the time to ask again has passed, and the request was not applied a second time";

/// See the module.
pub(super) struct Retries {
    insert: Statement,
    select: Statement,
    delete: Statement,
    known: Known,
    /// By [`Class`]: ids of entries up to here may have been let go.
    trimmed_to: [Index; 2],
    /// What the open transaction changed, and the state of `trimmed_to` before it.
    undo: Vec<Undo>,
    trimmed_to_before: [Index; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Server = 0,
    Client = 1,
}

impl Class {
    fn of(is_from_client: bool) -> Class {
        if is_from_client { Class::Client } else { Class::Server }
    }
}

/// An id that is kept, as far as memory knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    index: Index,
    time_us: i64,
    /// Of the key.
    hash: u64,
    outcome_bytes: u32,
}

enum Undo {
    Added(Class),
    Trimmed(Class, Kept),
}

/// Ids in memory. Keys stay in the table: a hash leads to the row, and the row has the last word.
#[derive(Default)]
struct Known {
    /// Keyed anew in each process, so that nobody can choose keys with equal hashes.
    hasher: RandomState,
    by_hash: HashMap<u64, Index>,
    /// Those whose hash is taken in `by_hash` by another.
    collided: Vec<(u64, Index)>,
    /// In log order, by class.
    kept: [VecDeque<Kept>; 2],
    outcomes_bytes: u64,
}

impl Known {
    fn push_back(&mut self, class: Class, kept: Kept) {
        self.insert(&kept);
        self.kept[class as usize].push_back(kept);
    }

    fn push_front(&mut self, class: Class, kept: Kept) {
        self.insert(&kept);
        self.kept[class as usize].push_front(kept);
    }

    fn pop_back(&mut self, class: Class) {
        let kept = self.kept[class as usize].pop_back().expect("what was added is there");
        self.remove(&kept);
    }

    fn pop_front(&mut self, class: Class) -> Kept {
        let kept = self.kept[class as usize].pop_front().expect("the caller looked");
        self.remove(&kept);
        kept
    }

    fn insert(&mut self, kept: &Kept) {
        self.outcomes_bytes += u64::from(kept.outcome_bytes);
        match self.by_hash.entry(kept.hash) {
            Entry::Vacant(vacant) => {
                vacant.insert(kept.index);
            }
            Entry::Occupied(_) => self.collided.push((kept.hash, kept.index)),
        }
    }

    fn remove(&mut self, kept: &Kept) {
        self.outcomes_bytes -= u64::from(kept.outcome_bytes);
        if self.by_hash.get(&kept.hash) == Some(&kept.index) {
            self.by_hash.remove(&kept.hash);
            if let Some(at) = self.collided.iter().position(|(hash, _)| *hash == kept.hash) {
                let (hash, index) = self.collided.swap_remove(at);
                self.by_hash.insert(hash, index);
            }
        } else {
            let at = self.collided.iter().position(|c| *c == (kept.hash, kept.index));
            self.collided.swap_remove(at.expect("an id that is kept can be found"));
        }
    }

    /// Entries whose key may be the one with this hash.
    fn candidates(&self, hash: u64) -> impl Iterator<Item = Index> {
        let collided = self.collided.iter().filter(move |(other, _)| *other == hash).map(|(_, index)| *index);
        self.by_hash.get(&hash).copied().into_iter().chain(collided)
    }
}

/// A row's value, taken apart.
struct Row<'a> {
    key: &'a [u8],
    fingerprint: u64,
    term: Term,
    time_us: i64,
    /// `None`: too large to be kept.
    outcome: Option<&'a [u8]>,
}

impl<'a> Row<'a> {
    fn decode(value: &'a [u8]) -> Option<Row<'a>> {
        let (head, rest) = value.split_first_chunk::<4>()?;
        let [VERSION, is_kept, key_0, key_1] = *head else { return None };
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([key_0, key_1])))?;
        let (fingerprint, rest) = rest.split_first_chunk()?;
        let (term, rest) = rest.split_first_chunk()?;
        let (time_us, outcome) = rest.split_first_chunk()?;
        Some(Row {
            key,
            fingerprint: u64::from_le_bytes(*fingerprint),
            term: Term(u64::from_le_bytes(*term)),
            time_us: i64::from_le_bytes(*time_us),
            outcome: (is_kept == 1).then_some(outcome),
        })
    }

    fn encode(&self) -> Vec<u8> {
        let outcome = self.outcome.unwrap_or_default();
        let mut value = Vec::with_capacity(HEAD_BYTES + self.key.len() + outcome.len());
        value.extend_from_slice(&[VERSION, u8::from(self.outcome.is_some())]);
        value.extend_from_slice(&u16::try_from(self.key.len()).expect("a key is short").to_le_bytes());
        value.extend_from_slice(self.key);
        value.extend_from_slice(&self.fingerprint.to_le_bytes());
        value.extend_from_slice(&self.term.0.to_le_bytes());
        value.extend_from_slice(&self.time_us.to_le_bytes());
        value.extend_from_slice(outcome);
        value
    }

    fn outcome_bytes(&self) -> u32 {
        u32::try_from(self.outcome.map_or(0, <[u8]>::len)).expect("a blob in SQLite is shorter")
    }
}

impl Retries {
    /// Reads all ids that are kept: their number is bounded.
    pub fn open(connection: &Connection) -> Result<Retries, Fatal> {
        let mut retries = Retries {
            insert: own::prepare(connection, &format!("INSERT INTO {RESERVED_TABLE} VALUES(?1, ?2)"))?,
            select: own::prepare(connection, &format!("SELECT value FROM {RESERVED_TABLE} WHERE id = ?1"))?,
            delete: own::prepare(connection, &format!("DELETE FROM {RESERVED_TABLE} WHERE id = ?1"))?,
            known: Known::default(),
            trimmed_to: [Index(0); 2],
            undo: Vec::new(),
            trimmed_to_before: [Index(0); 2],
        };
        retries.read_all(connection)?;
        Ok(retries)
    }

    fn read_all(&mut self, connection: &Connection) -> Result<(), Fatal> {
        let failed = |error| Fatal::sqlite("reading the request ids", &error);
        self.select.bind(1, ValueRef::Integer(ROW_TRIMMED)).map_err(failed)?;
        if self.select.step().map_err(failed)? == Step::Row {
            let bytes: [u8; TRIMMED_BYTES] = self.select.column_bytes(0).try_into().map_err(|_| unreadable())?;
            let (server, client) = bytes.split_at(8);
            let number = |bytes: &[u8]| Index(u64::from_le_bytes(bytes.try_into().expect("half of sixteen bytes")));
            self.trimmed_to = [number(server), number(client)];
        }
        self.select.reset();
        self.trimmed_to_before = self.trimmed_to;
        let mut rows =
            own::prepare(connection, &format!("SELECT id, value FROM {RESERVED_TABLE} WHERE {IS_KEPT} ORDER BY id"))?;
        while rows.step().map_err(failed)? == Step::Row {
            let id = rows.column_integer(0).ok_or_else(unreadable)?;
            let row = Row::decode(rows.column_bytes(1)).ok_or_else(unreadable)?;
            let id_of = RequestId::is_client_key(row.key);
            let hash = self.known.hasher.hash_one(row.key);
            let kept = Kept { index: index_of(id), time_us: row.time_us, hash, outcome_bytes: row.outcome_bytes() };
            self.known.push_back(Class::of(id_of), kept);
        }
        Ok(())
    }

    /// What to answer instead of applying; `None`: the request is a new one.
    pub fn answer(&mut self, id: &RequestId) -> Result<Option<Outcome>, Fatal> {
        let hash = self.known.hasher.hash_one(id.key());
        let candidates: Vec<_> = self.known.candidates(hash).collect();
        for index in candidates {
            let answer = self.answer_from(index, id);
            self.select.reset();
            if let Some(outcome) = answer? {
                return Ok(Some(outcome));
            }
        }
        let trimmed_to = self.trimmed_to[Class::of(id.is_from_client()) as usize];
        let is_dated = id.issued_after > Index(0) || !id.is_from_client();
        if is_dated && id.issued_after < trimmed_to {
            return Ok(Some(Outcome::error(TEXT_EXPIRED, Repeat::Expired)));
        }
        Ok(None)
    }

    fn answer_from(&mut self, index: Index, id: &RequestId) -> Result<Option<Outcome>, Fatal> {
        let failed = |error| Fatal::sqlite("reading a request id", &error);
        self.select.bind(1, ValueRef::Integer(rowid_of(index))).map_err(failed)?;
        if self.select.step().map_err(failed)? == Step::Done {
            return Err(Fatal::new(format!("the request id of entry {index} is missing")));
        }
        let row = Row::decode(self.select.column_bytes(0)).ok_or_else(unreadable)?;
        if row.key != id.key() {
            return Ok(None);
        }
        let first = LogId { index, term: row.term };
        if row.fingerprint != id.fingerprint {
            let text = "the idempotency key was used before, for another request: this one was not applied";
            return Ok(Some(Outcome::error(text, Repeat::OtherRequest(first))));
        }
        let Some(bytes) = row.outcome else {
            let text = "the request was applied before, once; its result was too large to be repeated";
            return Ok(Some(Outcome::error(text, Repeat::ResultNotKept(first))));
        };
        let outcome = Outcome::decode(bytes).map_err(|_| unreadable())?;
        Ok(Some(Outcome { repeat: Repeat::Of(first), ..outcome }))
    }

    /// Keeps what the entry came to, inside its transaction. `outcome` is `None` where it is known to be too large. The
    /// connection's counters change.
    pub fn keep(&mut self, id: &RequestId, entry: LogId, time_us: i64, outcome: Option<&Outcome>) -> Result<(), Fatal> {
        let (row, outcome_bytes) = self.row(id, entry, time_us, outcome);
        let parameters = [ValueRef::Integer(rowid_of(entry.index)), ValueRef::Blob(&row)];
        own::run_with(&mut self.insert, &parameters, "keeping a request id")?;
        let hash = self.known.hasher.hash_one(id.key());
        let class = Class::of(id.is_from_client());
        self.known.push_back(class, Kept { index: entry.index, time_us, hash, outcome_bytes });
        self.undo.push(Undo::Added(class));
        Ok(())
    }

    /// As [`Retries::keep`], in a database that is to take the place of this one.
    pub fn keep_elsewhere(
        &self,
        other: &Connection,
        id: &RequestId,
        entry: LogId,
        time_us: i64,
        outcome: &Outcome,
    ) -> Result<(), Fatal> {
        let (row, _) = self.row(id, entry, time_us, Some(outcome));
        let mut insert = own::prepare(other, &format!("INSERT INTO {RESERVED_TABLE} VALUES(?1, ?2)"))?;
        let parameters = [ValueRef::Integer(rowid_of(entry.index)), ValueRef::Blob(&row)];
        own::run_with(&mut insert, &parameters, "keeping a request id")
    }

    /// A row's value, and how many bytes of it are the outcome's.
    fn row(&self, id: &RequestId, entry: LogId, time_us: i64, outcome: Option<&Outcome>) -> (Vec<u8>, u32) {
        let is_full = self.known.outcomes_bytes > OUTCOMES_BYTES_MAX;
        let bytes_max = if is_full { SHORT_OUTCOME_BYTES_MAX } else { OUTCOME_BYTES_MAX };
        let outcome = outcome.and_then(|outcome| outcome.encode_timeless(bytes_max));
        let (key, fingerprint) = (id.key(), id.fingerprint);
        let row = Row { key, fingerprint, term: entry.term, time_us, outcome: outcome.as_deref() };
        (row.encode(), row.outcome_bytes())
    }

    /// Lets old ids go, inside the entry's transaction. The connection's counters change.
    pub fn trim(&mut self, connection: &Connection, index: Index, time_us: i64) -> Result<(), Fatal> {
        if !index.0.is_multiple_of(TRIM_INTERVAL) {
            return Ok(());
        }
        let age_us = |kept: &Kept| time_us.saturating_sub(kept.time_us);
        let is_old_server =
            |kept: &Kept| index.0 - kept.index.0 >= SERVER_IDS_KEPT_ENTRIES && age_us(kept) >= SERVER_IDS_KEPT_US;
        let mut any = false;
        for class in [Class::Server, Class::Client] {
            for _ in 0..TRIM_ROWS_MAX {
                let queue = &self.known.kept[class as usize];
                let Some(oldest) = queue.front() else { break };
                let is_old = match class {
                    Class::Server => is_old_server(oldest) || queue.len() > SERVER_IDS_MAX,
                    Class::Client => age_us(oldest) >= CLIENT_IDS_KEPT_US || queue.len() > CLIENT_IDS_MAX,
                };
                if !is_old {
                    break;
                }
                let kept = self.known.pop_front(class);
                own::run_with(&mut self.delete, &[ValueRef::Integer(rowid_of(kept.index))], "letting a request id go")?;
                self.trimmed_to[class as usize] = kept.index;
                self.undo.push(Undo::Trimmed(class, kept));
                any = true;
            }
        }
        if any {
            let mut bytes = [0; TRIMMED_BYTES];
            bytes[..8].copy_from_slice(&self.trimmed_to[0].0.to_le_bytes());
            bytes[8..].copy_from_slice(&self.trimmed_to[1].0.to_le_bytes());
            connection
                .overwrite_blob(c"sqlite_ferrolite", c"value", ROW_TRIMMED, &bytes)
                .map_err(|error| Fatal::sqlite("letting request ids go", &error))?;
        }
        Ok(())
    }

    /// The open transaction was committed.
    pub fn committed(&mut self) {
        self.undo.clear();
        self.trimmed_to_before = self.trimmed_to;
    }

    /// The open transaction was rolled back, as a whole.
    pub fn rolled_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Added(class) => self.known.pop_back(class),
                Undo::Trimmed(class, kept) => self.known.push_front(class, kept),
            }
        }
        self.trimmed_to = self.trimmed_to_before;
    }
}

/// Copies all rows that are kept, inside the open transaction of `to`, which has none yet.
pub(super) fn copy(from: &Connection, to: &Connection) -> Result<(), Fatal> {
    const DOING: &str = "copying the request ids";
    let which = format!("{IS_KEPT} OR id = {ROW_TRIMMED}");
    let mut rows = own::prepare(from, &format!("SELECT id, value FROM {RESERVED_TABLE} WHERE {which} ORDER BY id"))?;
    let mut put = own::prepare(to, &format!("INSERT OR REPLACE INTO {RESERVED_TABLE} VALUES(?1, ?2)"))?;
    while rows.step().map_err(|error| Fatal::sqlite(DOING, &error))? == Step::Row {
        own::run_with(&mut put, &[rows.column(0), rows.column(1)], DOING)?;
    }
    Ok(())
}

fn rowid_of(index: Index) -> i64 {
    let rowid = i64::try_from(index.0).ok().and_then(|index| index.checked_add(ROW_FIRST));
    rowid.filter(|rowid| *rowid < ROW_PART_FIRST).expect("a log is shorter than 2^62")
}

fn index_of(rowid: i64) -> Index {
    Index(u64::try_from(rowid - ROW_FIRST).expect("the query asked for no others"))
}

fn unreadable() -> Fatal {
    Fatal::new("a row of request ids cannot be read")
}
