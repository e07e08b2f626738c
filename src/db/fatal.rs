//! Failures of this machine while entries are applied, and how they are told from errors in a client's SQL.
//!
//! A [`Fatal`] stops the process; it is never answered to a client as a result. There is no conversion between the two.

use super::sqlite::memory::is_budget_exceeded;
use super::sqlite::{Error, code, disk_failed};
use std::fmt;
use std::path::Path;

/// The state machine cannot go on in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// What was being done and what went wrong, for the log and the operator.
    pub text: String,
    /// SQLite's extended result code, where it was SQLite that failed.
    pub sqlite_code: Option<i32>,
}

impl Fatal {
    pub fn new(text: impl Into<String>) -> Fatal {
        Fatal { text: text.into(), sqlite_code: None }
    }

    /// Says which file it is about.
    pub(super) fn within(self, path: &Path) -> Fatal {
        Fatal { text: format!("{}: {}", path.display(), self.text), ..self }
    }

    /// What the operator should do about it.
    pub fn advice(&self) -> &'static str {
        match self.sqlite_code.map(|code| code & 0xff) {
            Some(code::SQLITE_FULL) => {
                "free space on its disk, then start the node again: nothing that was acknowledged is lost"
            }
            Some(code::SQLITE_CORRUPT | code::SQLITE_NOTADB) => {
                "the file is damaged: restore the whole data directory from a copy"
            }
            Some(code::SQLITE_BUSY) => "another process holds the file: end it, then start the node again",
            Some(_) => "check its disk, then start the node again: nothing that was acknowledged is lost",
            None => "start the node again; if it ends the same way, restore the whole data directory from a copy",
        }
    }

    /// Wraps a failure of SQL of our own.
    pub(super) fn sqlite(doing: &str, error: &Error) -> Fatal {
        Fatal { text: format!("{doing}: {error}"), sqlite_code: Some(error.code) }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fatal {}

/// Wrong content of a virtual table's or of SQLite's own bookkeeping tables, which a client can bring about with SQL:
/// the same on every node, and no sign of a damaged file.
const CORRUPT_BY_SQL: [i32; 2] = [code::SQLITE_CORRUPT | 1 << 8, code::SQLITE_CORRUPT | 2 << 8];

/// For what clients' content can make fail on every node alike: `Some` is SQLite's message for it.
///
/// # Errors
/// The machine failed.
pub(super) fn refusal(doing: &str, result: Result<(), Error>) -> Result<Option<String>, Fatal> {
    match result {
        Ok(()) => Ok(None),
        Err(error) if is_machine_failure(&error) => Err(Fatal::sqlite(doing, &error)),
        Err(error) => Ok(Some(error.text)),
    }
}

/// Does this code, from a client's statement, speak of the machine or the file rather than of the statement?
///
/// `SQLITE_FULL` does where the disk refused something; else it speaks of rowids or of other room that SQL has used up.
/// `SQLITE_NOMEM` does unless the statement used up its own budget.
/// `SQLITE_INTERRUPT` does: nobody interrupts the applier but its own step budget, which the caller knows of.
pub(super) fn is_machine_failure(error: &Error) -> bool {
    match error.primary() {
        code::SQLITE_CORRUPT => !CORRUPT_BY_SQL.contains(&error.code),
        code::SQLITE_FULL => disk_failed(),
        code::SQLITE_NOMEM => !is_budget_exceeded(),
        code::SQLITE_IOERR
        | code::SQLITE_NOTADB
        | code::SQLITE_PROTOCOL
        | code::SQLITE_READONLY
        | code::SQLITE_CANTOPEN
        | code::SQLITE_PERM
        | code::SQLITE_BUSY
        | code::SQLITE_NOLFS
        | code::SQLITE_INTERNAL
        | code::SQLITE_MISUSE
        | code::SQLITE_INTERRUPT => true,
        _ => false,
    }
}
