//! What an entry came to, and the versioned bytes of that: kept with a request's id, and sent to the node that passed the
//! request on.
//!
//! Pure; any thread. Decoding never panics, and holds no more values than an entry may answer.
//!
//! Layout, version 1 (integers little-endian; `len` is a u32; texts and blobs are len + bytes):
//! - version u8, repeat u8 (and the first entry's index u64, term u64 where there is one)
//! - request error: 0, or 1 and a text
//! - results len, each by its tag:
//!   - rows: columns len, each name and declared type; rows len, each a value (kind u8, value) per column; time f64 bits
//!   - write: last insert id i64, rows affected i64, time f64 bits
//!   - error: text, is_read u8

use super::bytes::{Input, decode_value, encode_bytes, encode_length, encode_value, kind_of};
use super::{Column, DecodeError, StatementResult, Value};
use raft::{Index, LogId, Term};

/// What an entry came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// One for each SQL string that was reached, in order.
    pub results: Vec<StatementResult>,
    /// The request failed as a whole (COMMIT was impossible, or see `repeat`); `results` is empty then.
    pub request_error: Option<String>,
    /// Whether the entry was the first with its request id.
    pub repeat: Repeat,
}

/// What became of an entry whose request id was, or may have been, there before. Such an entry executes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repeat {
    /// The entry was executed (or has no id): all else in the outcome is its own.
    #[default]
    First,
    /// That entry had executed the request; the outcome is its. Times are not kept: they read 0.
    Of(LogId),
    /// That entry had executed the request, but its results were too large to be kept. `request_error` says so.
    ResultNotKept(LogId),
    /// That entry had used the key for another request. `request_error` says so; nothing was done.
    OtherRequest(LogId),
    /// The id is older than what is kept of ids: whether the request was ever executed cannot be told any more, and it
    /// was not executed now. `request_error` says so.
    Expired,
}

const VERSION: u8 = 1;

const REPEAT_FIRST: u8 = 0;
const REPEAT_OF: u8 = 1;
const REPEAT_RESULT_NOT_KEPT: u8 = 2;
const REPEAT_OTHER_REQUEST: u8 = 3;
const REPEAT_EXPIRED: u8 = 4;

const RESULT_ROWS: u8 = 1;
const RESULT_WRITE: u8 = 2;
const RESULT_ERROR: u8 = 3;

/// The shortest result (an error), column (two lengths) and value (a kind): what a count is checked against.
const RESULT_BYTES_MIN: usize = 6;
const COLUMN_BYTES_MIN: usize = 8;
const VALUE_BYTES_MIN: usize = 1;

/// Most memory of the values of one outcome; what the applier holds an entry to (`db::limits`).
pub const VALUES_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Outcome {
    /// An outcome that is one error of the request as a whole.
    pub fn error(text: impl Into<String>, repeat: Repeat) -> Outcome {
        Outcome { results: Vec::new(), request_error: Some(text.into()), repeat }
    }

    /// The bytes, with times.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_up_to(usize::MAX, true).expect("there is no limit")
    }

    /// The bytes with all times 0, so that they are the same on every node. `None`: they are more than `bytes_max`.
    pub fn encode_timeless(&self, bytes_max: usize) -> Option<Vec<u8>> {
        self.encode_up_to(bytes_max, false)
    }

    fn encode_up_to(&self, bytes_max: usize, with_times: bool) -> Option<Vec<u8>> {
        let mut out = vec![VERSION];
        self.repeat.encode(&mut out);
        match &self.request_error {
            None => out.push(0),
            Some(text) => {
                out.push(1);
                encode_bytes(&mut out, text.as_bytes());
            }
        }
        encode_length(&mut out, self.results.len());
        for result in &self.results {
            encode_result(&mut out, result, bytes_max, with_times);
            if out.len() > bytes_max {
                return None;
            }
        }
        (out.len() <= bytes_max).then_some(out)
    }

    /// # Errors
    /// The bytes are not exactly one outcome of a known version, or hold more than an entry may answer.
    pub fn decode(bytes: &[u8]) -> Result<Outcome, DecodeError> {
        let mut input = Input::new(bytes);
        match input.u8()? {
            VERSION => {}
            version => return Err(DecodeError::Version(version)),
        }
        let repeat = Repeat::decode(&mut input)?;
        let request_error = match input.u8()? {
            0 => None,
            1 => Some(input.text()?),
            tag => return Err(DecodeError::Tag(tag)),
        };
        let count = input.count(RESULT_BYTES_MIN)?;
        let mut results = Vec::new();
        let mut left = VALUES_BYTES_MAX;
        for _ in 0..count {
            results.push(decode_result(&mut input, &mut left)?);
        }
        input.end()?;
        Ok(Outcome { results, request_error, repeat })
    }
}

impl Repeat {
    fn encode(self, out: &mut Vec<u8>) {
        let (tag, first) = match self {
            Repeat::First => (REPEAT_FIRST, None),
            Repeat::Of(id) => (REPEAT_OF, Some(id)),
            Repeat::ResultNotKept(id) => (REPEAT_RESULT_NOT_KEPT, Some(id)),
            Repeat::OtherRequest(id) => (REPEAT_OTHER_REQUEST, Some(id)),
            Repeat::Expired => (REPEAT_EXPIRED, None),
        };
        out.push(tag);
        if let Some(LogId { index, term }) = first {
            out.extend_from_slice(&index.0.to_le_bytes());
            out.extend_from_slice(&term.0.to_le_bytes());
        }
    }

    fn decode(input: &mut Input<'_>) -> Result<Repeat, DecodeError> {
        let tag = input.u8()?;
        let make: fn(LogId) -> Repeat = match tag {
            REPEAT_FIRST => return Ok(Repeat::First),
            REPEAT_EXPIRED => return Ok(Repeat::Expired),
            REPEAT_OF => Repeat::Of,
            REPEAT_RESULT_NOT_KEPT => Repeat::ResultNotKept,
            REPEAT_OTHER_REQUEST => Repeat::OtherRequest,
            _ => return Err(DecodeError::Tag(tag)),
        };
        let index = Index(input.u64()?);
        Ok(make(LogId { index, term: Term(input.u64()?) }))
    }
}

/// Stops soon after `bytes_max`, with an encoding that is too long and no longer whole.
fn encode_result(out: &mut Vec<u8>, result: &StatementResult, bytes_max: usize, with_times: bool) {
    let bits = |time: f64| if with_times { time.to_bits() } else { 0 };
    match result {
        StatementResult::Rows { columns, rows, time } => {
            out.push(RESULT_ROWS);
            encode_length(out, columns.len());
            for column in columns {
                encode_bytes(out, column.name.as_bytes());
                encode_bytes(out, column.decl_type.as_bytes());
            }
            encode_length(out, rows.len());
            for row in rows {
                assert_eq!(row.len(), columns.len(), "a row has a value for each column");
                for value in row {
                    out.push(kind_of(value.as_ref()));
                    encode_value(out, value.as_ref());
                }
                if out.len() > bytes_max {
                    return;
                }
            }
            out.extend_from_slice(&bits(*time).to_le_bytes());
        }
        StatementResult::Write { last_insert_id, rows_affected, time } => {
            out.push(RESULT_WRITE);
            out.extend_from_slice(&last_insert_id.to_le_bytes());
            out.extend_from_slice(&rows_affected.to_le_bytes());
            out.extend_from_slice(&bits(*time).to_le_bytes());
        }
        StatementResult::Error { text, is_read } => {
            out.push(RESULT_ERROR);
            encode_bytes(out, text.as_bytes());
            out.push(u8::from(*is_read));
        }
    }
}

fn decode_result(input: &mut Input<'_>, left: &mut usize) -> Result<StatementResult, DecodeError> {
    match input.u8()? {
        RESULT_ROWS => {
            let count = input.count(COLUMN_BYTES_MIN)?;
            let mut columns = Vec::with_capacity(count);
            for _ in 0..count {
                columns.push(Column { name: input.text()?, decl_type: input.text()? });
            }
            let rows = decode_rows(input, columns.len(), left)?;
            Ok(StatementResult::Rows { columns, rows, time: f64::from_bits(input.u64()?) })
        }
        RESULT_WRITE => Ok(StatementResult::Write {
            last_insert_id: input.i64()?,
            rows_affected: input.i64()?,
            time: f64::from_bits(input.u64()?),
        }),
        RESULT_ERROR => {
            let text = input.text()?;
            match input.u8()? {
                flag @ (0 | 1) => Ok(StatementResult::Error { text, is_read: flag == 1 }),
                tag => Err(DecodeError::Tag(tag)),
            }
        }
        tag => Err(DecodeError::Tag(tag)),
    }
}

/// `left` is the memory that values may still take.
fn decode_rows(input: &mut Input<'_>, columns: usize, left: &mut usize) -> Result<Vec<Vec<Value>>, DecodeError> {
    let count = input.count(VALUE_BYTES_MIN * columns.max(1))?;
    if columns == 0 && count > 0 {
        return Err(DecodeError::Length(count));
    }
    let mut rows = Vec::new();
    for _ in 0..count {
        let mut row = Vec::with_capacity(columns);
        for _ in 0..columns {
            let kind = input.u8()?;
            let value = decode_value(input, kind)?;
            let bytes = size_of::<Value>()
                + match &value {
                    Value::Text(b) | Value::Blob(b) => b.len(),
                    _ => 0,
                };
            *left = left.checked_sub(bytes).ok_or(DecodeError::Length(VALUES_BYTES_MAX))?;
            row.push(value);
        }
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Outcome> {
        let id = LogId { term: Term(3), index: Index(17) };
        let columns = vec![
            Column { name: "größe".to_owned(), decl_type: "text".to_owned() },
            Column { name: String::new(), decl_type: String::new() },
        ];
        let rows = vec![
            vec![Value::Text(vec![0xff, 0]), Value::Real(-0.0)],
            vec![Value::Null, Value::Integer(i64::MIN)],
            vec![Value::Blob(Vec::new()), Value::Real(f64::MIN_POSITIVE / 4.0)],
        ];
        let results = vec![
            StatementResult::Rows { columns, rows, time: 0.25 },
            StatementResult::Rows { columns: Vec::new(), rows: Vec::new(), time: 1e-300 },
            StatementResult::Write { last_insert_id: -1, rows_affected: i64::MAX, time: 3.5 },
            StatementResult::Error { text: "no such table: t".to_owned(), is_read: true },
            StatementResult::Error { text: String::new(), is_read: false },
        ];
        let first = Repeat::First;
        let mut all = vec![
            Outcome::default(),
            Outcome { results: results.clone(), request_error: None, repeat: first },
            Outcome::error("FOREIGN KEY constraint failed", first),
        ];
        for repeat in [Repeat::Of(id), Repeat::ResultNotKept(id), Repeat::OtherRequest(id), Repeat::Expired] {
            all.push(Outcome { results: results.clone(), request_error: Some("why".to_owned()), repeat });
        }
        all
    }

    #[test]
    fn every_outcome_comes_back_as_it_went() {
        for outcome in samples() {
            let back = Outcome::decode(&outcome.encode()).unwrap();
            assert_eq!(back, outcome);
            assert_eq!(back.encode(), outcome.encode(), "also the bits of its floats");
        }
    }

    #[test]
    fn times_are_left_out_where_nodes_must_agree() {
        let mut outcome = samples().swap_remove(1);
        let timeless = outcome.encode_timeless(usize::MAX).unwrap();
        for result in &mut outcome.results {
            if let StatementResult::Rows { time, .. } | StatementResult::Write { time, .. } = result {
                *time = 0.0;
            }
        }
        assert_eq!(timeless, outcome.encode());
        assert_eq!(outcome.encode_timeless(timeless.len()), Some(timeless.clone()));
        assert_eq!(outcome.encode_timeless(timeless.len() - 1), None);
        assert_eq!(outcome.encode_timeless(0), None);
    }

    #[test]
    fn bytes_cut_anywhere_or_followed_by_others_are_refused() {
        for outcome in samples() {
            let mut bytes = outcome.encode();
            for length in 0..bytes.len() {
                assert!(Outcome::decode(&bytes[..length]).is_err(), "{outcome:?} cut at {length}");
            }
            bytes.push(0);
            assert_eq!(Outcome::decode(&bytes), Err(DecodeError::Trailing));
        }
    }

    #[test]
    fn damaged_bytes_never_panic() {
        for outcome in samples() {
            let bytes = outcome.encode();
            for at in 0..bytes.len() {
                for flip in [0x01, 0x10, 0x80, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= flip;
                    if let Ok(other) = Outcome::decode(&damaged) {
                        assert_eq!(Outcome::decode(&other.encode()).map(|o| o.encode()), Ok(other.encode()));
                    }
                }
            }
        }
    }

    #[test]
    fn a_few_bytes_never_become_many_values() {
        // Rows without columns would take no bytes each.
        let mut bytes = vec![VERSION, REPEAT_FIRST, 0, 1, 0, 0, 0, RESULT_ROWS];
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&5u32.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        assert_eq!(Outcome::decode(&bytes), Err(DecodeError::Length(5)));
        // A NULL takes one byte here and many in memory.
        let count = VALUES_BYTES_MAX / size_of::<Value>() + 1;
        let mut bytes = vec![VERSION, REPEAT_FIRST, 0, 1, 0, 0, 0, RESULT_ROWS];
        bytes.extend_from_slice(&1u32.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&u32::try_from(count).unwrap().to_le_bytes());
        bytes.resize(bytes.len() + count + 8, 0);
        assert_eq!(Outcome::decode(&bytes), Err(DecodeError::Length(VALUES_BYTES_MAX)));
        assert_eq!(Outcome::decode(&[2]), Err(DecodeError::Version(2)));
    }
}
