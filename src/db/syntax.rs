//! Does a string of SQL parse? Asked of SQLite itself, on an empty database of its own, by HTTP workers.
//!
//! It must never touch the node's database: what a statement names need not exist.

use super::sqlite::{self, memory::Budget};
use rusqlite::Connection;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;

/// Where and how SQL is no SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// First line is 1.
    pub line: usize,
    /// In bytes; the first is 1.
    pub column: usize,
    /// SQLite's message.
    pub message: String,
}

impl std::fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for SyntaxError {}

/// Longest text that is looked at, bytes. A longer one passes unchecked.
const SQL_BYTES_MAX: i32 = 1_000_000;

/// Checks texts, one after the other.
pub struct SyntaxChecker {
    connection: Connection,
}

impl SyntaxChecker {
    /// `None` when SQLite has no memory for it.
    pub fn new() -> Option<SyntaxChecker> {
        sqlite::memory::install();
        let mut connection = Connection::open_in_memory().ok()?;
        connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, SQL_BYTES_MAX).ok()?;
        // Some pragmas act on the whole process, and already while they are prepared.
        let refuse_pragmas = |context: AuthContext<'_>| match context.action {
            AuthAction::Pragma { .. } => Authorization::Deny,
            _ => Authorization::Allow,
        };
        connection.authorizer(Some(refuse_pragmas)).ok()?;
        Some(SyntaxChecker { connection })
    }

    /// Checks statement after statement, up to the first that fails for another reason than its syntax, such as a table
    /// that is not there: SQLite finds that only when it has read the whole statement.
    ///
    /// # Errors
    /// The syntax error.
    pub fn check(&self, sql: &str) -> Result<(), SyntaxError> {
        let _budget = Budget::begin();
        let mut statements = rusqlite::Batch::new(&self.connection, sql);
        loop {
            let (message, offset) = match statements.next() {
                Ok(Some(_)) => continue,
                Ok(None) => return Ok(()),
                Err(rusqlite::Error::SqlInputError { msg, sql: rest, offset, .. }) => {
                    // The offset counts from the beginning of what SQLite was given, which is the rest of the text.
                    (msg, sql.len() - rest.len() + usize::try_from(offset).unwrap_or(0))
                }
                Err(rusqlite::Error::SqliteFailure(_, Some(message))) => (message, 0),
                Err(_) => return Ok(()),
            };
            return if is_syntax(&message) { Err(locate(sql, offset, message)) } else { Ok(()) };
        }
    }
}

/// SQLite has one code for all errors in SQL; only the text tells them apart.
fn is_syntax(message: &str) -> bool {
    message.ends_with("syntax error") || message.starts_with("unrecognized token") || message == "incomplete input"
}

fn locate(sql: &str, offset: usize, message: String) -> SyntaxError {
    let before = &sql.as_bytes()[..offset.min(sql.len())];
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
    SyntaxError { line, column, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str) -> Result<(), SyntaxError> {
        SyntaxChecker::new().expect("there is memory").check(sql)
    }

    #[test]
    fn a_pragma_does_not_act_while_it_is_checked() {
        // SQLite caps the soft limit at the hard one for the whole process: it must still be off afterwards.
        assert_eq!(check("PRAGMA soft_heap_limit=1234567"), Ok(()));
        let other = Connection::open_in_memory().expect("there is memory");
        let limit: i64 = other.query_row("PRAGMA soft_heap_limit", [], |row| row.get(0)).expect("a number");
        assert_eq!(limit, 0);
    }

    #[test]
    fn tells_broken_sql_from_unknown_names() {
        for sql in
            ["", "SELECT 1", "SELECT * FROM nope WHERE x = ?", "INSERT INTO nope VALUES(:a);", "-- c", "DROP TABLE x"]
        {
            assert_eq!(check(sql), Ok(()), "{sql}");
        }
        let error = check("SELECT 1;\n SLECT * FORM foo").expect_err("no SQL");
        assert_eq!(error.message, "near \"SLECT\": syntax error");
        assert_eq!((error.line, error.column), (2, 2));
        assert_eq!(check("SELECT *\nFORM foo").expect_err("no SQL").line, 2);
        assert_eq!(check("SLECT 1").expect_err("no SQL").to_string(), "1:1: near \"SLECT\": syntax error");
        assert!(check("SELECT * FROM").is_err());
        assert!(check("SELECT 'x").is_err());
    }
}
