//! A sans-IO Raft replica and its write-ahead log.

pub mod types;

pub use types::*;
