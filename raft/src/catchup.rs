//! Snapshots, as far as the log is concerned: the bytes travel outside of this core, which only keeps the books.
//!
//! Leader: `Effects::snapshots_needed` names a peer; the caller streams a copy of the state machine and then calls
//! `snapshot_sent` or `snapshot_failed`. Follower: when the copy has arrived whole and verified, `offer_snapshot`
//! asks whether it is of use; the state machine is swapped (durably, marked as a snapshot); `snapshot_installed`
//! resets the log behind it. A crash between the two is finished by recovery (`Recovered::applied_is_snapshot`).

use crate::membership::Membership;
use crate::progress::PeerState;
use crate::replica::Replica;
use crate::role::Role;
use crate::{Index, LogId, NodeId};
use std::sync::Arc;

/// What a copy of the state machine contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry applied in it.
    pub last: LogId,
    /// The configuration in force at `last`, and the index of its entry.
    pub membership_index: Index,
    pub membership: Membership,
}

/// Why a snapshot is not to be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// The state machine would go back (pitfall 65).
    Stale,
    /// A leader needs none.
    Leading,
    /// Another one is being installed, or the term is not on disk yet.
    InProgress,
    /// It is of a later term than this node has heard of, or its parts contradict each other.
    Malformed,
}

impl Replica {
    /// A peer has taken over a snapshot that ends at `last`; the log goes on from there.
    pub fn snapshot_sent(&mut self, peer: &NodeId, last: LogId) {
        let own_last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peers.iter_mut().find(|p| p.id == *peer && p.state == PeerState::Snapshot) else {
            return;
        };
        if last.index <= own_last {
            peer.probe_from(last.index.next());
        }
    }

    /// The snapshot did not get through; it is asked for again as soon as the peer is heard.
    pub fn snapshot_failed(&mut self, peer: &NodeId) {
        let Role::Leader(leader) = &mut self.role else { return };
        if mutant!("failed_snapshot_not_sent_again") {
            return;
        }
        if let Some(peer) = leader.peers.iter_mut().find(|p| p.id == *peer && p.state == PeerState::Snapshot) {
            // Waits for an answer to a heartbeat, and then finds once more that the log does not reach back.
            peer.state = PeerState::Probe { sent: Some(peer.matched) };
        }
    }

    /// A complete snapshot lies ready. `Ok` means: swap the state machine now, then call `snapshot_installed` or
    /// `snapshot_abandoned`. Until then no committed entries are handed over, and no election is started.
    ///
    /// # Errors
    /// It must not be installed.
    pub fn offer_snapshot(&mut self, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
        if self.is_leader() {
            return Err(SnapshotError::Leading);
        }
        // A state machine of a term that the disk does not know yet could not be started from.
        if self.handover.installing.is_some() || !self.ledger.hard_state_is_durable() {
            return Err(SnapshotError::InProgress);
        }
        // A wrong state machine may be replaced where it stands; no other one is.
        let least = if self.handover.distrusted { self.handover.handed } else { self.handover.handed.next() };
        if meta.last.index < least && !mutant!("old_snapshot_installed") {
            return Err(SnapshotError::Stale);
        }
        if meta.last.term > self.hard.term || meta.membership_index > meta.last.index {
            return Err(SnapshotError::Malformed);
        }
        if meta.last.index <= self.commit && !self.log.contains(meta.last) {
            // It contradicts what is committed here: it is of another history.
            return Err(SnapshotError::Malformed);
        }
        self.handover.installing = Some(meta.last);
        self.give_up_standing();
        Ok(())
    }

    pub fn snapshot_abandoned(&mut self) {
        self.handover.installing = None;
    }

    /// The state machine now is the snapshot that was offered, durably.
    ///
    /// # Panics
    /// Another one was offered, or none.
    pub fn snapshot_installed(&mut self, meta: SnapshotMeta) {
        let offered = self.handover.installing.take();
        assert_eq!(offered, Some(meta.last), "only what was offered is installed");
        let index = meta.last.index;
        if self.log.contains(meta.last) {
            // The log goes on beyond the snapshot and agrees with it: all of it stays valid (paper, figure 13).
            self.raise_commit(self.commit.max(index));
        } else {
            assert!(self.commit < index, "committed entries agree with every snapshot");
            self.log.reset(meta.last);
            self.ledger.reset(meta.last);
            self.raise_commit(index);
            self.memberships.reset(meta.membership_index, Arc::new(meta.membership));
            self.membership_changed();
            if let Role::Follower(following) = &mut self.role {
                following.verified = index;
            }
        }
        self.handover.install(index);
        self.handover.distrusted = false;
    }

    /// The caller has found that its state machine differs from the others'. Nothing more is handed over, and no election is
    /// started, until a snapshot has taken its place - which may end exactly where the state machine stands now, or nothing
    /// would ever mend it in a cluster where nothing is written. The log stays good, and so do votes and acknowledgements.
    pub fn distrust_state_machine(&mut self) {
        self.handover.distrusted = true;
        self.give_up_standing();
    }

    /// A node whose state machine is about to be replaced must not come to lead by votes that are still on their way.
    fn give_up_standing(&mut self) {
        if matches!(self.role, Role::PreCandidate(_) | Role::Candidate(_)) {
            self.follow_nobody();
        }
    }
}
