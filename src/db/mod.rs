//! SQLite: the only place that names rusqlite.

mod added_column;
pub mod apply;
pub mod authorizer;
pub mod backup;
pub mod bind;
pub mod build;
mod checkpoint;
pub mod clock;
pub mod context;
pub mod copy;
mod copy_progress;
pub mod counting;
mod disk;
pub mod dump;
mod execute;
pub mod fatal;
pub mod functions;
pub mod hash;
pub mod incoming;
pub mod limits;
pub mod load;
mod own;
pub mod pragma;
pub mod random;
mod reader;
mod reader_rules;
pub mod readers;
pub mod record;
pub mod retries;
pub mod rowids;
mod shadow;
mod snapshot;
pub mod sqlite;
pub mod status;
mod steps;
mod swap;
pub mod syntax;
pub mod tokens;
mod trail;
pub mod version;
pub mod writer;

pub use crate::command::Outcome;
pub use apply::Item;
pub use copy::{CopyMeta, CopySource};
pub use fatal::Fatal;
pub use hash::HashSource;
pub use incoming::{CopyTarget, Incoming};
pub use pragma::is_disallowed_pragma;
pub use readers::{ReadError, ReaderOptions, Readers};
pub use sqlite::pace;
pub use status::DbStatus;
pub use writer::{Applied, Writer, WriterOptions};

#[cfg(test)]
mod copy_tests;
#[cfg(test)]
mod hash_tests;
#[cfg(test)]
mod retries_tests;
#[cfg(test)]
mod tests;
