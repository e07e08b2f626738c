//! What a replica is at the moment, with the state that only makes sense in that role.

use crate::effects::RoleKind;
use crate::progress::Peer;
use crate::quorum::{self, Tally};
use crate::reads::Reads;
use crate::transfer::Transfer;
use crate::{Index, Membership, NodeId};

#[derive(Debug)]
pub(crate) enum Role {
    Follower(Following),
    /// Asks whether an election would succeed, without disturbing anybody (thesis, section 9.6).
    PreCandidate(Poll),
    Candidate(Poll),
    Leader(Box<Leading>),
}

impl Role {
    pub(crate) fn kind(&self) -> RoleKind {
        match self {
            Role::Follower(_) => RoleKind::Follower,
            Role::PreCandidate(_) => RoleKind::PreCandidate,
            Role::Candidate(_) => RoleKind::Candidate,
            Role::Leader(_) => RoleKind::Leader,
        }
    }
}

/// Follower's state, all of it about the leader of the current term.
#[derive(Debug, Default)]
pub(crate) struct Following {
    pub(crate) leader: Option<NodeId>,
    /// The leader's life, as its messages say.
    pub(crate) leader_incarnation: crate::Incarnation,
    /// This log equals that leader's up to here.
    pub(crate) verified: Index,
    /// Highest index acknowledged to that leader.
    pub(crate) acknowledged: Index,
    /// An Append has not been answered yet; it is, once what it brought is durable.
    pub(crate) answer_owed: bool,
}

/// Answers to a candidate. Each voter counts once.
#[derive(Debug, Default)]
pub(crate) struct Poll {
    granted: Vec<NodeId>,
    refused: Vec<NodeId>,
}

impl Poll {
    pub(crate) fn record(&mut self, voter: &NodeId, granted: bool) {
        if self.granted.contains(voter) || self.refused.contains(voter) {
            return;
        }
        if granted { self.granted.push(voter.clone()) } else { self.refused.push(voter.clone()) }
    }

    /// Counts the voters of `membership` only.
    pub(crate) fn tally(&self, membership: &Membership) -> Tally {
        let count = |names: &[NodeId]| membership.voters().filter(|m| names.contains(&m.id)).count();
        quorum::tally(membership.voters().count(), count(&self.granted), count(&self.refused))
    }
}

/// Leader's state; begins anew with each term (figure 2: volatile state on leaders).
#[derive(Debug)]
pub(crate) struct Leading {
    /// All other members, and those just removed who have not been told yet.
    pub(crate) peers: Vec<Peer>,
    /// Index of the term's first entry: until it is committed nothing is known to be (paper, sections 5.4.2 and 8).
    pub(crate) term_start: Index,
    pub(crate) heartbeat_due_ms: u64,
    /// When the commit index last rose, for telling idle followers.
    pub(crate) commit_rose_ms: u64,
    pub(crate) reads: Reads,
    pub(crate) transfer: Option<Transfer>,
}
