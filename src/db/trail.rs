//! What an entry that is applied statement by statement has come to so far, kept so that a crash in between repeats and
//! forgets nothing.
//!
//! Applier thread only. Each statement's commit adds a row to the reserved table; the commit that ends the entry removes
//! them. They say where in the request to go on (statements that are done are not even compiled again: they might not
//! compile any more, now that they have run) and, for an entry with a request id, what the client is to be told.
//!
//! A row, integers little-endian: strings that ended since the row before u32, whether their results are kept u8 (then
//! len u32 + an outcome that holds them); of the statement: bytes of its string used u64, parameters used u64, result
//! bytes so far u64, how it ended u8: 0 without rows, 1 with rows that are not kept, 2 with
//! rows (len u32 + an outcome), 3 or 4 with an error (of a read) and its text.

use super::authorizer::RESERVED_TABLE;
use super::execute::{Ran, Rows};
use super::fatal::Fatal;
use super::own;
use super::retries::OUTCOME_BYTES_MAX;
use super::sqlite::{Connection, Statement, Step};
use crate::command::{Outcome, StatementResult, ValueRef};

const ENDED_NO_ROWS: u8 = 0;
const ENDED_ROWS_NOT_KEPT: u8 = 1;
const ENDED_ROWS: u8 = 2;
const ENDED_ERROR: u8 = 3;
const ENDED_ERROR_OF_READ: u8 = 4;

/// What is gathered for the next row.
#[derive(Default)]
pub(super) struct Trail {
    /// The entry has a request id: its results will be asked for.
    pub keeps_results: bool,
    /// A result is missing because it was too large to be kept over a crash.
    pub is_incomplete: bool,
    /// How much of its string the running statement ends.
    pub position: Position,
    /// Strings that ended, and their results, since the last row.
    strings: u32,
    results: Vec<StatementResult>,
    /// Rows were written.
    pub is_written: bool,
}

/// A place between two statements of a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Bytes of the string.
    pub bytes: usize,
    /// Parameters that the statements before it have used up.
    pub parameters: usize,
}

/// Where an entry goes on.
#[derive(Default)]
pub(super) struct Resumed {
    /// Strings that are done.
    pub strings: usize,
    pub results: Vec<StatementResult>,
    /// The string after them has begun.
    pub within: Option<Within>,
    pub is_incomplete: bool,
    pub result_bytes: usize,
}

/// A string of which some statements are done.
pub(super) struct Within {
    pub position: Position,
    pub rows: Pending,
    /// The last of them failed, which ended the string: the text, and whether it was a read.
    pub failed: Option<(String, bool)>,
}

/// The rows that the string will answer if no later statement has any.
#[derive(Default)]
pub(super) enum Pending {
    #[default]
    None,
    NotKept,
    Kept(Rows),
}

impl Trail {
    pub fn string_ended(&mut self, result: Option<&StatementResult>) {
        self.strings += 1;
        if self.keeps_results {
            self.results.extend(result.cloned());
        }
    }

    /// What was gathered stands in the database now.
    pub fn committed(&mut self) {
        self.strings = 0;
        self.results.clear();
        self.is_written = true;
    }

    /// The row for a statement that has just ended.
    fn row(&self, ran: &Ran, result_bytes: usize) -> Vec<u8> {
        let mut out = self.strings.to_le_bytes().to_vec();
        // What came after a result that was lost is of no use.
        let kept = if self.keeps_results && !self.is_incomplete { outcome_of(self.results.clone()) } else { None };
        out.push(u8::from(kept.is_some()));
        if let Some(outcome) = kept {
            put_bytes(&mut out, &outcome);
        }
        for number in [self.position.bytes, self.position.parameters, result_bytes] {
            out.extend_from_slice(&(number as u64).to_le_bytes());
        }
        match ran {
            Ran::Done(None) => out.push(ENDED_NO_ROWS),
            Ran::Done(Some(Rows { columns, rows })) => {
                let rows = || StatementResult::Rows { columns: columns.clone(), rows: rows.clone(), time: 0.0 };
                match if self.keeps_results { outcome_of(vec![rows()]) } else { None } {
                    Some(outcome) => {
                        out.push(ENDED_ROWS);
                        put_bytes(&mut out, &outcome);
                    }
                    None => out.push(ENDED_ROWS_NOT_KEPT),
                }
            }
            Ran::Failed { text, is_read, .. } => {
                out.push(if *is_read { ENDED_ERROR_OF_READ } else { ENDED_ERROR });
                out.extend_from_slice(text.as_bytes());
            }
            Ran::NeedsAlone => unreachable!("an entry that is alone needs nothing more"),
        }
        out
    }
}

/// `None`: larger than an outcome that is kept, so that the entry's will not be kept either.
fn outcome_of(results: Vec<StatementResult>) -> Option<Vec<u8>> {
    Outcome { results, ..Outcome::default() }.encode_timeless(OUTCOME_BYTES_MAX)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("an outcome that is kept is short");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The statements that keep trails.
pub(super) struct TrailStatements {
    insert: Statement,
    delete: Statement,
}

impl TrailStatements {
    pub fn prepare(connection: &Connection) -> Result<TrailStatements, Fatal> {
        Ok(TrailStatements {
            insert: own::prepare(connection, &format!("INSERT INTO {RESERVED_TABLE} VALUES(?1, ?2)"))?,
            delete: own::prepare(connection, &format!("DELETE FROM {RESERVED_TABLE} WHERE id < 0"))?,
        })
    }

    /// Adds the row for statement number `number` (from 1) inside the open transaction. The connection's counters change.
    pub fn add(&mut self, trail: &Trail, number: u64, ran: &Ran, result_bytes: usize) -> Result<(), Fatal> {
        let row = trail.row(ran, result_bytes);
        let id = -i64::try_from(number).expect("a request has fewer statements");
        own::run_with(&mut self.insert, &[ValueRef::Integer(id), ValueRef::Blob(&row)], "recording a statement")
    }

    /// Removes all rows inside the open transaction.
    pub fn clear(&mut self) -> Result<(), Fatal> {
        own::run_with(&mut self.delete, &[], "forgetting an entry's statements")
    }
}

/// Reads what an entry has come to. Its progress says that there is something.
pub(super) fn resume(connection: &Connection) -> Result<Resumed, Fatal> {
    let sql = format!("SELECT value FROM {RESERVED_TABLE} WHERE id < 0 ORDER BY id DESC");
    let mut statement = own::prepare(connection, &sql)?;
    let mut resumed = Resumed::default();
    let failed = |error| Fatal::sqlite("reading an entry's statements", &error);
    while statement.step().map_err(failed)? == Step::Row {
        let row = statement.column_bytes(0);
        add_row(&mut resumed, row).ok_or_else(|| Fatal::new("what an unfinished entry came to cannot be read"))?;
    }
    match resumed.within {
        Some(_) => Ok(resumed),
        None => Err(Fatal::new("the last entry is unfinished, and where it stopped is not known")),
    }
}

fn add_row(resumed: &mut Resumed, row: &[u8]) -> Option<()> {
    let mut input = row;
    let strings = u32::from_le_bytes(take(&mut input)?) as usize;
    if take::<1>(&mut input)? == [1] {
        resumed.results.extend(take_outcome(&mut input)?.results);
    } else {
        resumed.is_incomplete = true;
    }
    let position = Position { bytes: take_number(&mut input)?, parameters: take_number(&mut input)? };
    resumed.result_bytes = take_number(&mut input)?;
    let before = match resumed.within.take() {
        Some(within) if strings == 0 => within.rows,
        _ => Pending::None,
    };
    resumed.strings += strings;
    let [ended] = take::<1>(&mut input)?;
    let (rows, failed) = match ended {
        ENDED_NO_ROWS => (before, None),
        ENDED_ROWS_NOT_KEPT => (Pending::NotKept, None),
        ENDED_ROWS => match take_outcome(&mut input)?.results.pop()? {
            StatementResult::Rows { columns, rows, .. } => (Pending::Kept(Rows { columns, rows }), None),
            _ => return None,
        },
        ENDED_ERROR | ENDED_ERROR_OF_READ => {
            let text = std::str::from_utf8(input).ok()?.to_owned();
            (Pending::None, Some((text, ended == ENDED_ERROR_OF_READ)))
        }
        _ => return None,
    };
    resumed.within = Some(Within { position, rows, failed });
    Some(())
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*taken)
}

fn take_number(input: &mut &[u8]) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(take(input)?)).ok()
}

fn take_outcome(input: &mut &[u8]) -> Option<Outcome> {
    let length = u32::from_le_bytes(take(input)?) as usize;
    let (bytes, rest) = input.split_at_checked(length)?;
    *input = rest;
    Outcome::decode(bytes).ok()
}
