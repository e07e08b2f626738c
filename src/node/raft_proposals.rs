//! Proposals on the raft thread: when they go out, and which entry each becomes. Part of `raft_thread`.
//!
//! While entries of this leader are on their way, further proposals gather and go out together when the last of them is
//! committed: Nagle's rule (RFC 896), with the log for the wire. Whatever a batch holds, it costs a sync on each node, a message
//! to each follower and a wake-up of each thread on its way; under load that is most of what a write costs. Whoever
//! writes alone never waits, and nobody waits longer than `GATHER_MAX`.

use super::handle::{ApplyDone, NodeError};
use super::raft_thread::RaftThread;
use crate::command::codec;
use raft::{Index, ProposeError};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Proposals that wait here at most; beyond it they are refused. Each belongs to an open connection, so this is far beyond
/// what a node ever sees.
const HELD_MAX: usize = 16_384;

/// Proposals wait for the batch before theirs no longer than this: where the others are far away, batches overlap.
const GATHER_MAX: Duration = Duration::from_millis(1);

/// Lives on the raft thread.
#[derive(Default)]
pub struct Proposals {
    /// In order of arrival.
    held: VecDeque<(Vec<u8>, ApplyDone)>,
    /// The last entry that was proposed here, and until when others wait for its commit.
    last: Index,
    gather_until: Option<Instant>,
}

impl Proposals {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn refuse_all(&mut self, error: &NodeError) {
        for (_, done) in self.held.drain(..) {
            done(Err(error.clone()));
        }
    }
}

impl RaftThread {
    /// Takes a proposal; `propose_held` makes an entry of it.
    pub(super) fn hold(&mut self, payload: Vec<u8>, done: ApplyDone) {
        if self.proposals.held.len() >= HELD_MAX {
            return done(Err(NodeError::EnqueueTimeout));
        }
        self.proposals.held.push_back((payload, done));
    }

    /// The batch before is on its way, and proposals gather until then at the latest.
    pub(super) fn gathers_until(&self) -> Option<Instant> {
        let waits = self.replica.is_leader() && self.replica.commit() < self.proposals.last;
        self.proposals.gather_until.filter(|until| waits && Instant::now() < *until)
    }

    /// Proposes what is held, unless it is to gather or too much is uncommitted: order is kept either way.
    pub(super) fn propose_held(&mut self) {
        if self.proposals.is_empty() || self.gathers_until().is_some() {
            return;
        }
        while let Some((payload, done)) = self.proposals.held.pop_front() {
            if let Some(back) = self.try_propose(payload, done) {
                self.proposals.held.push_front(back);
                break;
            }
        }
        self.proposals.gather_until = Some(Instant::now() + GATHER_MAX);
    }

    /// Gives the proposal back when the replica has no room for it now.
    fn try_propose(&mut self, mut payload: Vec<u8>, done: ApplyDone) -> Option<(Vec<u8>, ApplyDone)> {
        if self.replica.is_leader() {
            codec::stamp(&mut payload, self.clock.next_time_us(), self.clock.next_seed());
        }
        match self.replica.propose(payload.as_slice().into()) {
            Ok(id) => {
                self.proposals.last = id.index;
                self.pending.push(id, done);
            }
            Err(ProposeError::Busy) => return Some((payload, done)),
            Err(ProposeError::NotLeader { .. } | ProposeError::Transferring { .. }) => done(Err(NodeError::NotLeader)),
            Err(ProposeError::TooLarge { bytes_max }) => {
                done(Err(NodeError::TooLarge { bytes: payload.len(), bytes_max: bytes_max as usize }));
            }
        }
        None
    }
}
