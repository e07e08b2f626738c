//! What SQLite says when it refuses: the code and its message, verbatim.

use rusqlite::ffi;
use std::ffi::{CStr, c_int};
use std::fmt;

/// A failure as SQLite reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Extended result code.
    pub code: c_int,
    /// SQLite's message, verbatim but for its length.
    pub text: String,
}

impl Error {
    /// The low byte of the code: `SQLITE_BUSY`, `SQLITE_IOERR`, ...
    pub fn primary(&self) -> c_int {
        self.code & 0xff
    }

    /// Reads the connection's last error. `code` is what the failed call returned; the message belongs to it as long
    /// as no other call was made on the connection.
    pub(super) fn last(db: *mut ffi::sqlite3, code: c_int) -> Error {
        if db.is_null() {
            return Error::from_code(code);
        }
        // SAFETY: `db` is an open connection used by this thread alone; the message is copied before any other call.
        unsafe {
            let extended = ffi::sqlite3_extended_errcode(db);
            let text = shortened(CStr::from_ptr(ffi::sqlite3_errmsg(db)).to_bytes());
            let code = if extended & 0xff == code & 0xff { extended } else { code };
            Error { code, text }
        }
    }

    pub(super) fn from_code(code: c_int) -> Error {
        // SAFETY: sqlite3_errstr returns a static string for every code.
        let text = unsafe { CStr::from_ptr(ffi::sqlite3_errstr(code)) }.to_string_lossy().into_owned();
        Error { code, text }
    }
}

/// SQLite repeats names and tokens of the statement, however long they are.
const TEXT_BYTES_MAX: usize = 4096;

fn shortened(text: &[u8]) -> String {
    match text.get(..TEXT_BYTES_MAX) {
        None => String::from_utf8_lossy(text).into_owned(),
        Some(start) => format!("{}...", String::from_utf8_lossy(start)),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLite code {})", self.text, self.code)
    }
}

impl std::error::Error for Error {}
