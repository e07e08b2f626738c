//! Failures of this machine while entries are applied, and how they are told from errors in a client's SQL.
//!
//! A [`Fatal`] stops the process; it is never answered to a client as a result. There is no conversion between the two.

use super::sqlite::memory::is_budget_exceeded;
use super::sqlite::{Error, code, disk_failed};
use raft::Index;
use std::fmt;
use std::path::Path;

/// The state machine cannot go on in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// What was being done and what went wrong, for the log and the operator.
    pub text: String,
    /// SQLite's extended result code, where it was SQLite that failed.
    pub sqlite_code: Option<i32>,
    /// Index of the log entry that was being applied, if it was one.
    pub entry: Option<u64>,
    /// What to do about it, where that does not follow from the rest.
    own_advice: Option<&'static str>,
}

impl Fatal {
    pub fn new(text: impl Into<String>) -> Fatal {
        Fatal { text: text.into(), sqlite_code: None, entry: None, own_advice: None }
    }

    /// Says what to do about it.
    pub(super) fn with_advice(self, advice: &'static str) -> Fatal {
        Fatal { own_advice: Some(advice), ..self }
    }

    /// Says which file it is about.
    pub(super) fn within(self, path: &Path) -> Fatal {
        Fatal { text: format!("{}: {}", path.display(), self.text), ..self }
    }

    /// Says which log entry was being applied.
    pub(super) fn at_entry(self, index: Index) -> Fatal {
        let text = match self.text.contains(&format!("entry {index}")) {
            true => self.text,
            false => format!("applying entry {index}: {}", self.text),
        };
        Fatal { text, entry: Some(index.0), ..self }
    }

    /// What the operator should do about it.
    pub fn advice(&self) -> String {
        if let Some(advice) = self.own_advice {
            return advice.to_owned();
        }
        let (advice, blames_entry) = match (self.sqlite_code, self.sqlite_code.map(|code| code & 0xff)) {
            (Some(CORRUPT_INDEX), _) => (
                "an index does not agree with its table: while the node is stopped, run `sqlite3 FILE REINDEX` on the \
                 file, then start the node again: nothing that was acknowledged is lost",
                false,
            ),
            (_, Some(code::SQLITE_FULL)) => {
                ("free space on its disk, then start the node again: nothing that was acknowledged is lost", true)
            }
            (_, Some(code::SQLITE_CORRUPT | code::SQLITE_NOTADB)) => {
                ("the file is damaged: restore the whole data directory from a copy", false)
            }
            (_, Some(code::SQLITE_BUSY)) => {
                ("another process holds the file: end it, then start the node again", false)
            }
            (_, Some(code::SQLITE_NOMEM)) => {
                ("give it more memory, then start the node again: nothing that was acknowledged is lost", true)
            }
            (_, Some(code)) if SPEAK_OF_THE_DISK.contains(&code) => {
                ("check its disk, then start the node again: nothing that was acknowledged is lost", false)
            }
            (_, Some(_)) => ("start the node again: nothing that was acknowledged is lost. Please report this", true),
            (_, None) => {
                ("start the node again; if it ends the same way, restore the whole data directory from a copy", true)
            }
        };
        match self.entry {
            Some(entry) if blames_entry => format!(
                "{advice}; if it ends at entry {entry} each time, start every node of the cluster once with \
                 -skip-entry {entry}, which lets that entry fail"
            ),
            _ => advice.to_owned(),
        }
    }

    /// Wraps a failure of SQL of our own.
    pub(super) fn sqlite(doing: &str, error: &Error) -> Fatal {
        Fatal { text: format!("{doing}: {error}"), sqlite_code: Some(error.code), entry: None, own_advice: None }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fatal {}

/// `SQLITE_CORRUPT_INDEX`: the table is sound, and its index can be made anew.
const CORRUPT_INDEX: i32 = code::SQLITE_CORRUPT | 3 << 8;

/// Codes (without their extension) of a disk or a file system that fails or is set up wrongly.
const SPEAK_OF_THE_DISK: [i32; 6] = [
    code::SQLITE_IOERR,
    code::SQLITE_READONLY,
    code::SQLITE_CANTOPEN,
    code::SQLITE_PERM,
    code::SQLITE_PROTOCOL,
    code::SQLITE_NOLFS,
];

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

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(sqlite_code: Option<i32>) -> String {
        Fatal { sqlite_code, ..Fatal::new("") }.at_entry(Index(42)).advice()
    }

    #[test]
    fn advice_blames_the_disk_only_for_what_disks_do_and_names_the_way_out() {
        assert_eq!(CORRUPT_INDEX, 779);
        assert!(advice(Some(CORRUPT_INDEX)).contains("REINDEX"));
        assert!(advice(Some(code::SQLITE_CORRUPT)).contains("damaged"));
        for code in [code::SQLITE_IOERR, code::SQLITE_IOERR | 4 << 8, code::SQLITE_CANTOPEN] {
            assert!(advice(Some(code)).contains("check its disk") && !advice(Some(code)).contains("-skip-entry"));
        }
        for code in [None, Some(code::SQLITE_MISUSE), Some(code::SQLITE_INTERNAL), Some(code::SQLITE_TOOBIG)] {
            let advice = advice(code);
            assert!(!advice.contains("disk") && advice.contains("-skip-entry 42"), "{code:?}: {advice}");
        }
        assert!(advice(Some(code::SQLITE_FULL)).contains("free space"));
        assert!(!Fatal::new("x").advice().contains("-skip-entry"), "only where an entry was applied");
    }

    #[test]
    fn the_entry_is_named_once() {
        assert_eq!(Fatal::new("COMMIT: x").at_entry(Index(7)).text, "applying entry 7: COMMIT: x");
        assert_eq!(Fatal::new("applying entry 7: x").at_entry(Index(7)).text, "applying entry 7: x");
    }
}
