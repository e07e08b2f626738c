//! Proposals on the raft thread: when they go out, and which entry each becomes. Part of `raft_thread`.
//!
//! While entries of this leader are on their way, further proposals gather: Nagle's rule (RFC 896), with the log for the wire. When
//! the last of those entries is committed they wait a little longer, for the clients that are being answered just now and will
//! write again; otherwise two groups of clients would take turns for ever, each with half a batch. Whatever a batch holds, it
//! costs a sync on each node, a message to each follower and a wake-up of each thread on its way; under load that is most of what a write
//! costs. Whoever writes alone never waits, and nobody waits longer than `GATHER_MAX`.

use super::handle::{ApplyDone, NodeError};
use super::raft_thread::RaftThread;
use crate::command::codec;
use raft::{Index, ProposeError};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Proposals that wait here at most; beyond it they are refused. Each belongs to an open connection, so this is far beyond
/// what a node ever sees.
const HELD_MAX: usize = 16_384;

/// The next batch goes out no later than this after the one before: where the others are far away, batches overlap.
const GATHER_MAX: Duration = Duration::from_millis(3);

/// When a batch is committed, the next one waits for this part of the time that it took, in percent.
const RETURN_PERCENT: u32 = 70;

/// A batch of so many entries has clients that may come back together. Fewer: one client that writes alone, or by turns with
/// another.
const TOGETHER_MIN: usize = 2;

/// Lives on the raft thread.
#[derive(Default)]
pub struct Proposals {
    /// In order of arrival.
    held: VecDeque<(Vec<u8>, ApplyDone)>,
    batch: Option<Batch>,
}

/// What was proposed last.
struct Batch {
    last: Index,
    entries: usize,
    sent: Instant,
    /// It is committed, and until then others wait for its clients.
    return_until: Option<Instant>,
}

impl Batch {
    /// Until when proposals wait for it.
    fn holds_until(&mut self, commit: Index, now: Instant) -> Instant {
        let latest = self.sent + GATHER_MAX;
        if commit < self.last {
            return latest;
        }
        *self.return_until.get_or_insert_with(|| {
            let together = self.entries >= TOGETHER_MIN;
            let pause = now.saturating_duration_since(self.sent) * RETURN_PERCENT / 100;
            if together { (now + pause).min(latest) } else { now }
        })
    }
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

    /// Proposals gather, and until then at the latest.
    pub(super) fn gathers_until(&mut self) -> Option<Instant> {
        if !self.replica.is_leader() {
            return None;
        }
        let now = Instant::now();
        let commit = self.replica.commit();
        self.proposals.batch.as_mut().map(|batch| batch.holds_until(commit, now)).filter(|until| now < *until)
    }

    /// Proposes what is held, unless it is to gather or too much is uncommitted: order is kept either way.
    pub(super) fn propose_held(&mut self) {
        if self.proposals.is_empty() || self.gathers_until().is_some() {
            return;
        }
        let sent = Instant::now();
        let mut entries = 0;
        while let Some((payload, done)) = self.proposals.held.pop_front() {
            match self.try_propose(payload, done) {
                Ok(last) => {
                    entries += 1;
                    self.proposals.batch = Some(Batch { last, entries, sent, return_until: None });
                }
                Err(Some(back)) => {
                    self.proposals.held.push_front(back);
                    break;
                }
                Err(None) => {}
            }
        }
    }

    /// Gives the entry's index; or the proposal back, when the replica has no room for it now; or nothing, when it was refused.
    fn try_propose(&mut self, mut payload: Vec<u8>, done: ApplyDone) -> Result<Index, Option<(Vec<u8>, ApplyDone)>> {
        if self.replica.is_leader() {
            codec::stamp(&mut payload, self.clock.next_time_us(), self.clock.next_seed());
        }
        match self.replica.propose(payload.as_slice().into()) {
            Ok(id) => {
                self.pending.push(id, done);
                return Ok(id.index);
            }
            Err(ProposeError::Busy) => return Err(Some((payload, done))),
            Err(ProposeError::NotLeader { .. } | ProposeError::Transferring { .. }) => done(Err(NodeError::NotLeader)),
            Err(ProposeError::TooLarge { bytes_max }) => {
                done(Err(NodeError::TooLarge { bytes: payload.len(), bytes_max: bytes_max as usize }));
            }
        }
        Err(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_batch_waits_for_the_clients_of_the_one_before_and_never_long() {
        let sent = Instant::now();
        let after = |us: u64| sent + Duration::from_micros(us);
        let batch = |entries| Batch { last: Index(9), entries, sent, return_until: None };
        let mut group = batch(8);
        assert_eq!(group.holds_until(Index(8), after(100)), sent + GATHER_MAX, "it is on its way");
        assert_eq!(group.holds_until(Index(9), after(1000)), after(1700), "its clients come back");
        assert_eq!(group.holds_until(Index(9), after(1500)), after(1700), "the time runs from the commit");
        assert_eq!(batch(8).holds_until(Index(9), after(2900)), sent + GATHER_MAX);
        assert!(batch(8).holds_until(Index(9), after(50_000)) < after(50_000), "a slow one is waited for no more");
        assert_eq!(batch(1).holds_until(Index(9), after(1000)), after(1000), "who writes alone never waits");
    }
}
