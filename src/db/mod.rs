//! SQLite: the only place that names rusqlite.

pub mod status;

pub use status::DbStatus;
