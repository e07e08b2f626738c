//! A sans-IO Raft replica and its write-ahead log.

pub mod disk;
pub mod types;
pub mod wal;

pub use types::*;
