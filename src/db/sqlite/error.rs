//! What SQLite says when it refuses: the code and its message.

use rusqlite::ffi;
use std::ffi::{CStr, c_int};
use std::fmt;

/// Longest message in bytes. SQLite repeats names and pieces of the SQL, however long they are.
const TEXT_BYTES_MAX: usize = 4096;

/// A failure as SQLite reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Extended result code.
    pub code: c_int,
    /// SQLite's message, verbatim unless it is very long.
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
            let text = bounded(CStr::from_ptr(ffi::sqlite3_errmsg(db)).to_bytes());
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

/// The message, its end cut off where it is too long.
fn bounded(message: &[u8]) -> String {
    if message.len() <= TEXT_BYTES_MAX {
        return String::from_utf8_lossy(message).into_owned();
    }
    let is_start = |at: &usize| message[*at] & 0xc0 != 0x80;
    let end = (TEXT_BYTES_MAX - 3..=TEXT_BYTES_MAX).rev().find(is_start).unwrap_or(TEXT_BYTES_MAX);
    format!("{}...", String::from_utf8_lossy(&message[..end]))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLite code {})", self.text, self.code)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(bounded(b"no such table: t"), "no such table: t");
        for shift in 0..4 {
            let message = format!("{}{}", "x".repeat(shift), "\u{1f600}".repeat(5000));
            let text = bounded(message.as_bytes());
            assert!(text.len() <= TEXT_BYTES_MAX + 3 && text.ends_with("\u{1f600}..."), "{shift}");
        }
    }
}
