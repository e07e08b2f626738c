//! SQLite: the only place that names rusqlite.

pub mod bind;
pub mod sqlite;
pub mod status;

pub use status::DbStatus;
