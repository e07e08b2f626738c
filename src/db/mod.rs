//! SQLite: the only place that names rusqlite.

pub mod bind;
pub mod classify;
mod reader;
mod reader_rules;
pub mod readers;
pub mod sqlite;
pub mod status;

pub use classify::has_disallowed_pragma;
pub use readers::{ReadError, ReaderOptions, Readers};
pub use status::DbStatus;
