//! SQLite.

pub mod version;
