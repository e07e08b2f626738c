//! SQLite: the only place that names rusqlite.

pub mod status;
pub mod syntax;

pub use status::DbStatus;
