//! The version of the linked SQLite. Any thread may ask.

/// Such as `3.53.2`.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}
