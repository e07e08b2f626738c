//! Traffic between nodes: one port (`-raft-addr`) for Raft messages, calls and snapshots.

pub mod call;

pub use call::{Answer, Call};
