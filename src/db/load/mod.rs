//! A database file from elsewhere on its way to becoming the database of all nodes (`POST /db/load`, `POST /boot`).
//!
//! 1. The node that a client sends it to looks at it ([`Upload`]): it may be damaged, or made to do harm. Nothing is taken
//!    into the log that could not become the database of every node.
//! 2. It goes through the log in parts, [`crate::command::LoadChunk`], which the applier of each node keeps as rows of the
//!    reserved table (`parts`). So a crash, a restart, a copy for another node and the divergence check need to know nothing
//!    of them.
//! 3. [`crate::command::LoadCommit`] makes a file of them beside the database, and furnishes it with our own table
//!    (`assemble`); then the file takes the place of the database as any copy does (`swap`). Up to the rename the old database
//!    stands there, in which the entry is not applied and which has all parts of it; from there on the new one, in which it is.
//!
//! Whatever 2 and 3 come to depends on the log alone. What depends on the machine (room on the disk, above all) is looked at
//! in 1, or ends the process as for any other entry.

mod assemble;
mod parts;
mod schema;
#[cfg(test)]
mod tests;
mod upload;

pub use assemble::discard;
pub(in crate::db) use parts::{Parts, ROW_PART_FIRST};
pub use upload::{START_BYTES, Source, Upload, has_magic, is_database};
