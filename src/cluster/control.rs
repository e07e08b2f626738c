//! What this module asks of the node that runs here: a seam, so that admission and reaping are tested without one.

use crate::net::call::LeaderHint;
use crate::node::NodeHandle;
use crate::node::handle::{ChangeDone, PeerContact, TransferDone};
use raft::{Change, ClusterId, Index, LogId, Member, NodeId, Suffrage, Term};

/// The configuration in force here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    pub members: Vec<Member>,
    /// Whether it is committed: only then is what it says certain.
    pub committed: bool,
}

/// The running node. None of these calls blocks for long.
pub trait Control: Send + Sync + 'static {
    fn cluster(&self) -> ClusterId;
    fn configuration(&self) -> InForce;
    fn is_leader(&self) -> bool;
    fn term(&self) -> u64;
    /// The last entry of this node's log.
    fn log_end(&self) -> LogId;
    /// The leader that this node knows, itself included.
    fn leader(&self) -> Option<LeaderHint>;
    /// On a leader: when each of the others last answered.
    fn contacts(&self) -> Vec<PeerContact>;
    fn change(&self, change: Change, done: ChangeDone);
    fn transfer(&self, target: Option<NodeId>, done: TransferDone);
}

impl Control for NodeHandle {
    fn cluster(&self) -> ClusterId {
        self.shared().cluster
    }

    fn configuration(&self) -> InForce {
        let members = self.shared().members.lock().clone();
        let committed = {
            let raft = self.shared().raft.lock();
            raft.configuration_index <= raft.commit_index
        };
        let member = |member: crate::coordinator::status::Member| Member {
            suffrage: match (member.voter, member.learner) {
                (true, _) => Suffrage::Voter,
                (false, true) => Suffrage::Learner,
                (false, false) => Suffrage::NonVoter,
            },
            id: NodeId(member.id.into()),
            incarnation: member.incarnation,
            address: member.addr.into(),
        };
        InForce { members: members.into_iter().map(member).collect(), committed }
    }

    fn is_leader(&self) -> bool {
        NodeHandle::is_leader(self)
    }

    fn term(&self) -> u64 {
        self.shared().raft.lock().term
    }

    fn log_end(&self) -> LogId {
        let raft = self.shared().raft.lock();
        LogId { term: Term(raft.last_log_term), index: Index(raft.last_log_index) }
    }

    fn leader(&self) -> Option<LeaderHint> {
        self.shared().leader.lock().clone().map(|(id, address)| LeaderHint { id, address })
    }

    fn contacts(&self) -> Vec<PeerContact> {
        self.shared().peers.lock().clone()
    }

    fn change(&self, change: Change, done: ChangeDone) {
        self.change_membership(change, done);
    }

    fn transfer(&self, target: Option<NodeId>, done: TransferDone) {
        NodeHandle::transfer(self, target, done);
    }
}
