//! What the replica asks of the world after its inputs: ordered data, never a call. Nothing here acts.
//!
//! **The contract of one `Effects` value.** The caller may act on all parts at once; two orders bind it:
//! 1. `append`s go to the write-ahead log in the order of their `seq`, and are reported by `Replica::durable` once
//!    they are on disk, never before. Messages that must wait for that (votes, acknowledgements, anything of a term
//!    that is not yet durable) are held inside the replica and come out of a later `Effects`: every message found
//!    here may leave at once (thesis, section 3.8).
//! 2. `committed_in_log`, then `committed`, go to the state machine in the order in which they were taken.

use crate::membership::Membership;
use crate::message::Envelope;
use crate::{Entry, HardState, Index, LogId, NodeId, Term};
use std::sync::Arc;

/// Names one waiting read; chosen by the caller, returned unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadToken(pub u64);

/// All that is to be done. Empty parts mean nothing to do.
#[derive(Debug, Default)]
pub struct Effects {
    /// To send; loss, delay and reordering are harmless.
    pub messages: Vec<Envelope>,
    /// To write to the log.
    pub append: Option<Append>,
    /// Committed entries that are no longer in memory: to be read back from the log and applied, before `committed`.
    pub committed_in_log: Option<LogRange>,
    /// Committed entries, contiguous, each exactly once in a run of the process.
    pub committed: Vec<Entry>,
    /// Reads that may run once the state machine has applied the index.
    pub readable: Vec<(ReadToken, Index)>,
    /// Reads that this node cannot serve any more; they may be tried again, here or elsewhere.
    pub failed_reads: Vec<ReadToken>,
    /// The role, term or known leader changed.
    pub role: Option<RoleChange>,
    /// Another configuration is in force (not necessarily committed), with the index of its entry.
    pub membership: Option<(Index, Arc<Membership>)>,
    /// Entries to read from the log for a slow peer; answered by `Replica::log_read`.
    pub log_reads: Vec<LogRead>,
    /// Peers for whom the log no longer reaches back far enough; answered by `snapshot_sent` or `snapshot_failed`.
    pub snapshots_needed: Vec<NodeId>,
    /// A leadership transfer that ended without success: the node still leads and takes proposals again.
    pub transfer_failed: Option<NodeId>,
    /// What an operator should know.
    pub alarms: Vec<Alarm>,
}

impl Effects {
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.append.is_none()
            && self.committed_in_log.is_none()
            && self.committed.is_empty()
            && self.readable.is_empty()
            && self.failed_reads.is_empty()
            && self.role.is_none()
            && self.membership.is_none()
            && self.log_reads.is_empty()
            && self.snapshots_needed.is_empty()
            && self.transfer_failed.is_none()
            && self.alarms.is_empty()
    }
}

/// One unit of work for the write-ahead log. Its parts become durable together or as a prefix in the order
/// hard state, reset or truncation, entries; `Replica::durable` is called only when all of it is. (Hard state first: a
/// log must never hold an entry of a term that the hard state has not reached.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Rises by one from append to append.
    pub seq: u64,
    pub hard_state: Option<HardState>,
    /// Discard the whole log; it now begins after this entry (a snapshot was installed).
    pub reset_to: Option<LogId>,
    /// Discard the entries after this index, in the same durable step as the entries that replace them.
    pub truncate_after: Option<Index>,
    pub entries: Vec<Entry>,
    /// The last entry of the log when all of this is done; the log reports it back with `seq`.
    pub last: LogId,
}

/// Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    pub first: Index,
    pub last: Index,
}

/// Entries to read back from the log for a peer: those from `range.first` on, whole, up to `range.last` or until
/// `bytes_max` payload bytes are reached, but at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRead {
    pub peer: NodeId,
    pub range: LogRange,
    pub bytes_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleKind {
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleChange {
    pub term: Term,
    pub role: RoleKind,
    /// The leader of the term as far as known here; this node itself when it leads.
    pub leader: Option<NodeId>,
}

/// Facts that need a person or a checker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The leader's log made no progress for too long; it stepped down.
    DiskStalled,
    /// A peer that had acknowledged entries no longer has them: its data was rolled back.
    PeerLostEntries { peer: NodeId, acknowledged: Index, has: Index },
    /// Another node claims to lead the term that this node leads: the cluster's files have been tampered with.
    TwoLeaders { term: Term, other: NodeId },
}
