//! SQL of our own: statements on the reserved table, of which every failure is the machine's.
//!
//! Any thread, on a connection of its own.

use super::fatal::Fatal;
use super::sqlite::{Connection, Statement, Step};
use crate::command::ValueRef;

/// Prepares one statement.
pub(super) fn prepare(connection: &Connection, sql: &str) -> Result<Statement, Fatal> {
    match connection.prepare(sql) {
        Ok((statement, _)) => Ok(statement.expect("SQL of our own is not empty")),
        Err(error) => Err(Fatal::sqlite("preparing SQL of our own", &error)),
    }
}

/// Runs a statement that answers no rows, with these parameters.
pub(super) fn run_with(statement: &mut Statement, parameters: &[ValueRef<'_>], doing: &str) -> Result<(), Fatal> {
    let mut run = || {
        for (number, value) in parameters.iter().enumerate() {
            statement.bind(number + 1, *value)?;
        }
        statement.step()
    };
    let result = run();
    statement.reset();
    statement.clear_bindings();
    match result {
        Ok(Step::Done | Step::Row) => Ok(()),
        Err(error) => Err(Fatal::sqlite(doing, &error)),
    }
}

/// What a PRAGMA that answers a number answers.
pub(super) fn number<T: TryFrom<i64>>(connection: &Connection, pragma: &str) -> Result<T, Fatal> {
    let number = connection.query_integer(pragma).map_err(|error| Fatal::sqlite(pragma, &error))?;
    number.and_then(|n| T::try_from(n).ok()).ok_or_else(|| Fatal::new(format!("{pragma}: no number")))
}

/// The bytes in the first column of the first row, if there is one.
pub(super) fn read_bytes(connection: &Connection, sql: &str, doing: &str) -> Result<Option<Vec<u8>>, Fatal> {
    let mut statement = prepare(connection, sql)?;
    match statement.step().map_err(|error| Fatal::sqlite(doing, &error))? {
        Step::Row => Ok(Some(statement.column_bytes(0).to_vec())),
        Step::Done => Ok(None),
    }
}
