//! The vocabulary of the log: newtypes that keep a term from being taken for an index.

use std::fmt;
use std::sync::Arc;

/// A Raft term. Terms start at 1; `Term(0)` stands only before the first entry of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// A position in the log. The first entry has index 1; `Index(0)` is the position before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

impl Index {
    pub fn next(self) -> Index {
        Index(self.0.checked_add(1).expect("a log index fits 64 bits"))
    }
}

/// Identifies an entry: two logs that hold the same `LogId` are equal up to it (Raft paper, section 5.3).
/// Ordered as the paper compares logs (section 5.4.1): by term, then by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    pub term: Term,
    pub index: Index,
}

/// The name of a member: any non-empty text that is unique in the cluster (`-node-id`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub Arc<str>);

/// Drawn at random when a cluster is formed; stands in every segment and every frame between nodes, so that
/// files and messages of another cluster are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClusterId(pub u128);

/// What an entry means to the log itself. The payload of `Command` is opaque here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A leader's first entry in its term (thesis, section 6.4): carries nothing.
    Noop,
    /// A command for the state machine.
    Command,
    /// A membership configuration; in force from the moment it is appended (thesis, section 4.1).
    Membership,
}

/// One entry of the log. Cloning shares the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: LogId,
    pub kind: EntryKind,
    pub payload: Arc<[u8]>,
}

/// Term and vote: what Raft must not forget (Raft paper, figure 2, persistent state).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: Term,
    pub voted_for: Option<NodeId>,
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}
