//! SQLite: the only place that names rusqlite.

pub mod bind;
pub mod sqlite;
pub mod status;
pub mod syntax;
pub mod version;

pub use status::DbStatus;
