//! What comes of statements: collected by the applier, streamed by readers.

use super::{Value, ValueRef};

/// A result column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// As SQLite names it, already `table.column` where the request asked for qualified names.
    pub name: String,
    /// Declared type of the table column it comes from, lower-cased; empty for expressions.
    pub decl_type: String,
}

/// The result of one SQL string. Times are seconds.
#[derive(Clone, Debug, PartialEq)]
pub enum StatementResult {
    /// A statement that yields columns (possibly none: an empty string of SQL on the read path).
    Rows { columns: Vec<Column>, rows: Vec<Vec<Value>>, time: f64 },
    /// A write, or anything sent to `/db/execute`. The numbers are the connection's after the statement.
    Write { last_insert_id: i64, rows_affected: i64, time: f64 },
    /// SQLite's message. `is_read` says whether the associative form carries an empty `rows`.
    Error { text: String, is_read: bool },
}

/// The sink takes no more: the answer reached its size limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkFull;

/// Receives results as they are produced, in statement order, so that a large answer is never held twice.
///
/// Calls for one statement: `begin_rows`, `row`*, `end_rows`; or `write`; or `error` - also after `begin_rows` and any
/// number of rows, which the sink then forgets (a client never sees part of a result).
pub trait ResultSink {
    fn begin_rows(&mut self, columns: &[Column]);
    fn row(&mut self, values: &[ValueRef<'_>]) -> Result<(), SinkFull>;
    fn end_rows(&mut self, time: f64);
    fn write(&mut self, last_insert_id: i64, rows_affected: i64, time: f64);
    fn error(&mut self, text: &str, is_read: bool);
}

impl StatementResult {
    /// Replays a collected result. Stops early when the sink is full.
    pub fn emit(&self, sink: &mut dyn ResultSink) -> Result<(), SinkFull> {
        match self {
            StatementResult::Rows { columns, rows, time } => {
                sink.begin_rows(columns);
                let mut refs = Vec::with_capacity(columns.len());
                for row in rows {
                    refs.clear();
                    refs.extend(row.iter().map(Value::as_ref));
                    sink.row(&refs)?;
                }
                sink.end_rows(*time);
            }
            StatementResult::Write { last_insert_id, rows_affected, time } => {
                sink.write(*last_insert_id, *rows_affected, *time)
            }
            StatementResult::Error { text, is_read } => sink.error(text, *is_read),
        }
        Ok(())
    }
}

/// Collects results in memory: what the applier uses.
impl ResultSink for Vec<StatementResult> {
    fn begin_rows(&mut self, columns: &[Column]) {
        self.push(StatementResult::Rows { columns: columns.to_vec(), rows: Vec::new(), time: UNFINISHED });
    }

    fn row(&mut self, values: &[ValueRef<'_>]) -> Result<(), SinkFull> {
        match self.last_mut() {
            Some(StatementResult::Rows { rows, .. }) => {
                rows.push(values.iter().map(|v| ValueRef::to_owned(*v)).collect())
            }
            _ => unreachable!("row() comes after begin_rows()"),
        }
        Ok(())
    }

    fn end_rows(&mut self, elapsed: f64) {
        match self.last_mut() {
            Some(StatementResult::Rows { time, .. }) => *time = elapsed,
            _ => unreachable!("end_rows() comes after begin_rows()"),
        }
    }

    fn write(&mut self, last_insert_id: i64, rows_affected: i64, time: f64) {
        self.push(StatementResult::Write { last_insert_id, rows_affected, time });
    }

    fn error(&mut self, text: &str, is_read: bool) {
        if matches!(self.last(), Some(StatementResult::Rows { time, .. }) if *time == UNFINISHED) {
            self.pop();
        }
        self.push(StatementResult::Error { text: text.to_owned(), is_read });
    }
}

/// The time of a result whose rows are still coming.
const UNFINISHED: f64 = -1.0;
