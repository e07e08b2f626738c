//! The answer of `/db/execute`, `/db/query` and `/db/request`, written into one buffer while results arrive.
//!
//! Shapes are those of the API's section on responses: `{"results":[...],"error":...,"time":...,"sequence_number":...,
//! "raft_index":...}` with one object per statement, rows as arrays or (associative) as objects with sorted members.
//! Runs on the thread that reads or answers. Never holds a second copy of a result, never panics on stored data.

use super::columns::{Columns, Kind};
use super::indent::Indenter;
use super::{blob, number, text, time};
use crate::command::{Column, ResultSink, SinkFull, StatementResult, ValueRef};
use crate::limits::{self, Turn};

/// Largest answer by default, bytes. A larger one becomes an error of the statement that passes the limit: memory on a
/// small node must not hang on one careless SELECT.
pub const DEFAULT_RESULT_BYTES_MAX: usize = 16 << 20;

/// How results are shown.
#[derive(Clone, Copy, Debug)]
pub struct EncodeOptions {
    /// Rows as objects, members sorted by name.
    pub associative: bool,
    /// A `time` for each result.
    pub timings: bool,
    /// BLOBs as arrays of integers instead of base64.
    pub blob_array: bool,
    /// Four spaces per level.
    pub pretty: bool,
    /// Most bytes of one answer; passed by at most one value.
    pub bytes_max: usize,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions {
            associative: false,
            timings: false,
            blob_array: false,
            pretty: false,
            bytes_max: DEFAULT_RESULT_BYTES_MAX,
        }
    }
}

/// What stands after the results.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseTail<'a> {
    /// Failure of the request as a whole: the results are then left out.
    pub error: Option<&'a str>,
    /// Seconds; with `timings` only.
    pub time: Option<f64>,
    /// Of a queued write.
    pub sequence_number: Option<i64>,
    /// Left out when zero.
    pub raft_index: u64,
}

/// Encodes one answer. Feed it through [`ResultSink`], then call [`ResultEncoder::finish`].
pub struct ResultEncoder {
    options: EncodeOptions,
    /// The right to make a large answer, once it is one.
    turn: Option<Turn>,
    is_turned_away: bool,
    /// Compact JSON: the whole answer, or with `pretty` what is not indented yet.
    out: Vec<u8>,
    indented: Vec<u8>,
    indenter: Indenter,
    columns: Columns,
    stage: Stage,
    /// Where the statement under way began.
    mark: Mark,
    /// Statements that have begun.
    statements: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Between two statements.
    Idle,
    /// Columns are known; nothing is written, because types may depend on the first row.
    Columns,
    /// Rows are written.
    Rows,
    /// The limit was passed within a row: only `error` may come.
    Full,
}

#[derive(Clone, Copy, Default)]
struct Mark {
    len: usize,
    indenter: Indenter,
}

impl ResultEncoder {
    pub fn new(options: EncodeOptions) -> Self {
        let mut encoder = ResultEncoder {
            options,
            turn: None,
            is_turned_away: false,
            out: Vec::with_capacity(256),
            indented: Vec::new(),
            indenter: Indenter::default(),
            columns: Columns::default(),
            stage: Stage::Idle,
            mark: Mark::default(),
            statements: 0,
        };
        encoder.out.extend_from_slice(b"{\"results\":[");
        encoder
    }

    /// Encodes a collected result; one that does not fit becomes an error.
    pub fn push(&mut self, result: &StatementResult) {
        if result.emit(self).is_err() {
            self.error("", true);
        }
    }

    /// Closes the answer and returns it.
    pub fn finish(mut self, tail: &ResponseTail<'_>) -> Vec<u8> {
        if tail.error.is_some() {
            return empty_response(tail, self.options.pretty);
        }
        assert_eq!(self.stage, Stage::Idle, "a result was begun and not ended");
        write_tail(&mut self.out, tail);
        self.flush();
        if self.options.pretty { self.indented } else { self.out }
    }

    /// Opens the object of a statement.
    fn begin_statement(&mut self) {
        assert_eq!(self.stage, Stage::Idle, "one result at a time");
        self.flush();
        self.mark = Mark { len: self.len(), indenter: self.indenter };
        if self.statements > 0 {
            self.out.push(b',');
        }
        self.out.push(b'{');
        self.statements += 1;
    }

    /// `,` unless this is the first member of the object that was just opened.
    fn member(&mut self, key_and_colon: &[u8]) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.extend_from_slice(key_and_colon);
    }

    fn end_statement(&mut self) {
        self.out.push(b'}');
        self.stage = Stage::Idle;
        self.flush();
    }

    fn time(&mut self, seconds: f64) {
        if self.options.timings {
            self.member(b"\"time\":");
            number::write_f64(&mut self.out, seconds);
        }
    }

    /// Bytes of the answer so far.
    fn len(&self) -> usize {
        self.out.len() + self.indented.len()
    }

    /// Whether the answer must not grow further. A large one first waits for its turn.
    fn is_over_limit(&mut self) -> bool {
        let bytes = self.len();
        if bytes > limits::LARGE_RESULT_BYTES && self.turn.is_none() && !self.is_turned_away {
            self.turn = limits::LARGE_RESULTS.enter();
            self.is_turned_away = self.turn.is_none();
        }
        bytes > self.options.bytes_max || self.is_turned_away
    }

    /// With `pretty`: indents what was written since the last call.
    fn flush(&mut self) {
        if self.options.pretty {
            self.indenter.feed(&self.out, &mut self.indented);
            self.out.clear();
        }
    }

    /// Forgets the statement under way.
    fn roll_back(&mut self) {
        if self.options.pretty {
            self.out.clear();
            self.indented.truncate(self.mark.len);
            self.indenter = self.mark.indenter;
        } else {
            self.out.truncate(self.mark.len);
        }
        self.statements -= 1;
        self.stage = Stage::Idle;
    }

    /// Writes names and types and opens the rows.
    fn open_rows(&mut self) {
        let ResultEncoder { out, columns, .. } = self;
        if self.options.associative {
            out.extend_from_slice(b"\"types\":{");
            join(out, columns.sorted(), |out, at| {
                out.extend_from_slice(columns.name(*at));
                out.push(b':');
                out.extend_from_slice(columns.type_name(*at));
            });
            out.push(b'}');
        } else {
            out.extend_from_slice(b"\"columns\":[");
            join(out, 0..columns.len(), |out, at| out.extend_from_slice(columns.name(at)));
            out.extend_from_slice(b"],\"types\":[");
            join(out, 0..columns.len(), |out, at| out.extend_from_slice(columns.type_name(at)));
            out.push(b']');
        }
    }

    /// Writes one row; stops early when it grows beyond the limit.
    fn write_row(&mut self, values: &[ValueRef<'_>]) -> Result<(), SinkFull> {
        if !self.options.associative {
            self.out.push(b'[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    self.out.push(b',');
                }
                self.write_value(at, *value)?;
            }
            self.out.push(b']');
            return Ok(());
        }
        self.out.push(b'{');
        for place in 0..self.columns.sorted().len() {
            if place > 0 {
                self.out.push(b',');
            }
            let at = self.columns.sorted()[place];
            self.out.extend_from_slice(self.columns.name(at));
            self.out.push(b':');
            self.write_value(at, values[at])?;
        }
        self.out.push(b'}');
        Ok(())
    }

    #[inline]
    fn write_value(&mut self, at: usize, value: ValueRef<'_>) -> Result<(), SinkFull> {
        let (out, kind) = (&mut self.out, self.columns.kind(at));
        match value {
            ValueRef::Null => out.extend_from_slice(b"null"),
            ValueRef::Integer(i) if kind == Kind::Plain => number::write_i64(out, i),
            ValueRef::Integer(i) if kind == Kind::Boolean => {
                out.extend_from_slice(if i > 0 { b"true" } else { b"false" })
            }
            ValueRef::Integer(i) => {
                if !time::write_date_integer(out, i) {
                    number::write_i64(out, i);
                }
            }
            ValueRef::Real(r) => number::write_f64(out, r),
            ValueRef::Text(t) => {
                if kind != Kind::Time || !time::write_date_text(out, t) {
                    text::write_string(out, t);
                }
            }
            ValueRef::Blob(b) if self.columns.is_blob_text(at) => text::write_string(out, b),
            ValueRef::Blob(b) if self.options.blob_array => blob::write_array(out, b),
            ValueRef::Blob(b) => blob::write_base64(out, b),
        }
        if self.is_over_limit() { Err(SinkFull) } else { Ok(()) }
    }
}

/// A result that outgrows the limit is told to the client as an error that names it, whatever text the caller of
/// [`ResultSink::error`] has for it: only the encoder knows the number.
impl ResultSink for ResultEncoder {
    fn begin_rows(&mut self, columns: &[Column]) {
        self.begin_statement();
        self.columns.set(columns, self.options.associative);
        self.stage = Stage::Columns;
    }

    fn row(&mut self, values: &[ValueRef<'_>]) -> Result<(), SinkFull> {
        assert!(matches!(self.stage, Stage::Columns | Stage::Rows), "row() comes after begin_rows()");
        assert_eq!(values.len(), self.columns.len(), "a value for each column");
        if self.stage == Stage::Columns {
            self.columns.infer_types(values);
            self.open_rows();
            self.member(if self.options.associative { b"\"rows\":[" } else { b"\"values\":[" });
            self.stage = Stage::Rows;
        } else {
            self.out.push(b',');
        }
        let written = self.write_row(values);
        self.flush();
        if written.is_err() || self.is_over_limit() {
            self.stage = Stage::Full;
            return Err(SinkFull);
        }
        Ok(())
    }

    fn end_rows(&mut self, time: f64) {
        match self.stage {
            Stage::Rows => self.out.push(b']'),
            Stage::Columns => {
                if self.columns.len() > 0 {
                    self.open_rows();
                }
                if self.options.associative {
                    self.member(b"\"rows\":[]");
                }
            }
            Stage::Idle | Stage::Full => unreachable!("end_rows() comes after begin_rows()"),
        }
        if self.options.timings {
            // Rows may have been indented already, so that the object looks empty: it is not, but for `{}`.
            if self.stage == Stage::Rows || self.columns.len() > 0 || self.options.associative {
                self.out.push(b',');
            }
            self.out.extend_from_slice(b"\"time\":");
            number::write_f64(&mut self.out, time);
        }
        self.end_statement();
    }

    fn write(&mut self, last_insert_id: i64, rows_affected: i64, time: f64) {
        self.begin_statement();
        if last_insert_id != 0 {
            self.member(b"\"last_insert_id\":");
            number::write_i64(&mut self.out, last_insert_id);
        }
        if rows_affected != 0 {
            self.member(b"\"rows_affected\":");
            number::write_i64(&mut self.out, rows_affected);
        }
        self.time(time);
        if self.options.associative {
            self.member(b"\"rows\":null");
        }
        self.end_statement();
    }

    fn error(&mut self, error: &str, is_read: bool) {
        let is_full = self.stage == Stage::Full;
        if self.stage != Stage::Idle {
            self.roll_back();
        }
        self.begin_statement();
        if self.options.associative && is_read {
            self.member(b"\"rows\":[]");
        }
        self.member(b"\"error\":");
        if is_full && self.is_turned_away {
            let error = "the node is busy with other large results: try again, or select less";
            text::write_string(&mut self.out, error.as_bytes());
        } else if is_full {
            let limit = self.options.bytes_max;
            let error = format!("result larger than {limit} bytes: select fewer rows or columns, or page with LIMIT");
            text::write_string(&mut self.out, error.as_bytes());
        } else {
            text::write_string(&mut self.out, error.as_bytes());
        }
        self.end_statement();
    }
}

/// An answer without results: of a request that failed as a whole, or of a queued write.
pub fn empty_response(tail: &ResponseTail<'_>, pretty: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(b"{\"results\":[");
    write_tail(&mut out, tail);
    if pretty { super::indent(&out) } else { out }
}

fn write_tail(out: &mut Vec<u8>, tail: &ResponseTail<'_>) {
    out.push(b']');
    if let Some(error) = tail.error {
        out.extend_from_slice(b",\"error\":");
        text::write_string(out, error.as_bytes());
    }
    if let Some(seconds) = tail.time {
        out.extend_from_slice(b",\"time\":");
        number::write_f64(out, seconds);
    }
    if let Some(sequence_number) = tail.sequence_number {
        out.extend_from_slice(b",\"sequence_number\":");
        number::write_i64(out, sequence_number);
    }
    if tail.raft_index != 0 {
        out.extend_from_slice(b",\"raft_index\":");
        number::write_u64(out, tail.raft_index);
    }
    out.push(b'}');
}

/// Calls `write` for each item with commas between.
fn join<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

#[cfg(test)]
#[path = "result_tests.rs"]
mod tests;
