//! Membership changes by the leader: one at a time (thesis, sections 4.1 to 4.2), learners before voters.

use crate::membership::{Member, Membership, MembershipError, Suffrage};
use crate::progress::{CatchUp, Leaving, Peer};
use crate::replica::{Replica, Sender};
use crate::role::Role;
use crate::{EntryKind, Incarnation, Index, LogId, NodeId};
use std::sync::Arc;

/// One change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds a member. `Suffrage::Voter` adds a learner, which the leader makes a voter when it has caught up, so
    /// that joining never weakens the quorum (thesis, section 4.2.1). An id that is a member already is refused:
    /// remove it first.
    Add(Member),
    /// Removes a member of any kind, the leader itself included.
    Remove(NodeId),
    /// The member is reached elsewhere now.
    SetAddress { id: NodeId, address: Arc<str> },
}

/// Why a change was not begun. Nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    NotLeader {
        leader: Option<NodeId>,
    },
    /// The change before is not committed, the term has not committed an entry yet, or the leader's disk hangs; try
    /// again soon.
    NotReady,
    /// Leadership is being handed over.
    Transferring {
        to: NodeId,
    },
    AlreadyMember,
    NotMember,
    /// The last voter cannot be removed.
    LastVoter,
    /// The outcome would not be a valid membership.
    Invalid(MembershipError),
}

impl Replica {
    /// Appends a new configuration; in force at once, settled when its entry comes out of `Effects::committed`.
    ///
    /// # Errors
    /// Nothing was appended; see `ChangeError`.
    pub fn change_membership(&mut self, change: Change) -> Result<LogId, ChangeError> {
        let leader_known = self.leader().cloned();
        let Role::Leader(leader) = &self.role else {
            return Err(ChangeError::NotLeader { leader: leader_known });
        };
        if let Some(transfer) = &leader.transfer {
            return Err(ChangeError::Transferring { to: transfer.target.clone() });
        }
        if !self.change_is_allowed() {
            return Err(ChangeError::NotReady);
        }
        let current = self.memberships.current().ok_or(ChangeError::NotReady)?;
        let next = changed(current, change)?;
        Ok(self.append_membership(next))
    }

    /// Three gates. The change before must be committed, or two changes together could make disjoint majorities. An
    /// entry of the own term must be committed first: without it two leaders of different terms can each add
    /// one change to the same configuration (the error found in 2015 in the thesis' algorithm; pitfall 57). And the
    /// own disk must not hang: a voter alone leads on through that, since nobody else can, and would make a second
    /// voter that waits for it.
    fn change_is_allowed(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let change_settled = self.memberships.current_index() <= self.commit || mutant!("two_changes_at_once");
        let term_settled = self.commit >= leader.term_start || mutant!("change_before_the_term_commits");
        change_settled && term_settled && !self.disk_stalled()
    }

    fn append_membership(&mut self, membership: Membership) -> LogId {
        let before = self.log.last().index;
        let id = self.append_own(EntryKind::Membership, membership.encode());
        self.memberships.push(id.index, Arc::new(membership));
        self.membership_changed();
        self.sync_peers(before);
        id
    }

    /// Makes the leader's peers those of the configuration in force. Who was removed stays until it is told.
    pub(crate) fn sync_peers(&mut self, last: Index) {
        let now_ms = self.clock.now_ms;
        let until_ms = now_ms + 2 * self.config.timing.election_timeout_ms;
        let removed_at = self.memberships.current_index();
        let Some(membership) = self.memberships.current() else { return };
        let Role::Leader(leader) = &mut self.role else { return };
        for peer in &mut leader.peers {
            let member = membership.get(&peer.id).filter(|m| m.incarnation.matches(peer.incarnation));
            match member {
                Some(member) => {
                    peer.suffrage = member.suffrage;
                    // It has not answered yet, so nothing is counted for it.
                    if peer.incarnation == Incarnation(0) {
                        peer.incarnation = member.incarnation;
                    }
                }
                None => {
                    peer.leaving.get_or_insert(Leaving { removed_at, until_ms });
                }
            }
        }
        // A new life of a known id is a new peer: what its former self acknowledged says nothing.
        leader.peers.retain(|peer| membership.get(&peer.id).is_none_or(|m| m.incarnation.matches(peer.incarnation)));
        for member in membership.members().iter().filter(|m| m.id != self.config.id) {
            if !leader.peers.iter().any(|peer| peer.id == member.id) {
                leader.peers.push(Peer::new(member, last, now_ms));
            } else if let Some(peer) = leader.peers.iter_mut().find(|peer| peer.id == member.id) {
                peer.leaving = None;
            }
        }
    }

    /// A peer acknowledged more: it may have become fit to vote, or know of its removal.
    pub(crate) fn after_acknowledgement(&mut self, sender: &Sender) {
        let now_ms = self.clock.now_ms;
        let last = self.log.last().index;
        let round_ms_max = self.config.timing.election_timeout_ms;
        let Role::Leader(leader) = &mut self.role else { return };
        let transferring = leader.transfer.is_some();
        let Some(peer) = leader.peers.iter_mut().find(|peer| peer.id == sender.id) else { return };
        if peer.suffrage != Suffrage::Learner || peer.leaving.is_some() || peer.matched < peer.catch_up.goal {
            return;
        }
        // Rounds (thesis, 4.2.1): each brings what was appended during the one before. When one takes less than an
        // election timeout, waiting for this node will not stop the cluster for longer than a new leader would.
        let round_ms = now_ms - peer.catch_up.began_ms;
        peer.catch_up = CatchUp { goal: last, began_ms: now_ms };
        if round_ms <= round_ms_max && !transferring {
            self.promote(&sender.id);
        }
    }

    /// Makes a learner a voter, if a change is allowed now; otherwise one of the next acknowledgements will.
    fn promote(&mut self, id: &NodeId) {
        if !self.change_is_allowed() {
            return;
        }
        let Some(current) = self.memberships.current() else { return };
        let mut members = current.members().to_vec();
        for member in members.iter_mut().filter(|m| m.id == *id) {
            member.suffrage = Suffrage::Voter;
        }
        let next = Membership::new(members).expect("a promotion keeps a membership valid");
        self.append_membership(next);
    }

    /// Puts the lives of members in their places that a membership made by hand (recovery after the loss of a quorum) does
    /// not know: the leader's own, and those of the peers that have answered it in its term. From then on every other life
    /// under these names is a stranger, as it is to every other membership.
    ///
    /// Why one entry may do so for several at once, and needs no more than the ordinary gates: who votes does not change,
    /// so every majority before it and every majority after it have a node in common. And it is one *life* that stands
    /// in both: the leader has counted no other of this node in its term (`Leading::peer`); one without a log answers
    /// nobody that does not name it (`is_not_meant`); and one that has a log of this cluster was let in by its name, so the
    /// membership knew it. What remains are two copies of one directory, which have one incarnation: no change of the
    /// membership can tell those apart.
    ///
    /// A member that does not answer keeps its 0 until it does. Nothing is lost by a crash or a new leader in between:
    /// an entry that is overwritten takes its pins along, and the next leader makes them anew from what it hears.
    pub(crate) fn pin_lives(&mut self) {
        let unknown = |m: &Member| m.incarnation == Incarnation(0);
        let Some(current) = self.memberships.current() else { return };
        if !current.members().iter().any(unknown) || !self.change_is_allowed() {
            return;
        }
        let Role::Leader(leader) = &self.role else { return };
        if leader.transfer.is_some() {
            return;
        }
        let mut members = current.members().to_vec();
        let mut is_pinned = false;
        for member in members.iter_mut().filter(|m| unknown(m)) {
            if member.id == self.config.id {
                member.incarnation = self.config.incarnation;
            } else if let Some(peer) = leader.peers.iter().find(|peer| peer.id == member.id) {
                member.incarnation = peer.incarnation;
            }
            is_pinned |= !unknown(member);
        }
        if is_pinned {
            self.append_membership(Membership::new(members).expect("a pin keeps a membership valid"));
        }
    }

    /// The commit index rose. A leader that the configuration in force no longer knows has served until its own
    /// removal was committed, and goes (thesis, section 4.2.2); before that it tells everybody (pitfall 60).
    pub(crate) fn after_commit(&mut self) {
        let removed_at = self.memberships.current_index();
        let removed = !self.is_voter() && self.commit >= removed_at;
        self.promote_waiting();
        if !removed {
            return;
        }
        let Role::Leader(leader) = &self.role else { return };
        for at in 0..leader.peers.len() {
            self.heartbeat(at);
        }
        self.nominate_successor(removed_at);
        self.step_down();
    }

    /// A learner that had caught up while another change was under way has its turn now.
    pub(crate) fn promote_waiting(&mut self) {
        let now_ms = self.clock.now_ms;
        let lease_ms = self.config.timing.leader_lease_ms;
        let Role::Leader(leader) = &self.role else { return };
        if leader.transfer.is_some() || !self.is_voter() {
            return;
        }
        let last = self.log.last().index;
        let ready = leader.peers.iter().find(|peer| {
            peer.suffrage == Suffrage::Learner
                && peer.leaving.is_none()
                && peer.matched == last
                && now_ms - peer.hearing.contact_ms <= lease_ms
        });
        if let Some(id) = ready.map(|peer| peer.id.clone()) {
            self.promote(&id);
        }
    }

    /// Forgets removed peers that know of their removal, or had time enough to hear of it.
    pub(crate) fn forget_leavers(&mut self) {
        let now_ms = self.clock.now_ms;
        let commit = self.commit;
        let Role::Leader(leader) = &mut self.role else { return };
        leader.peers.retain(|peer| {
            peer.leaving.is_none_or(|leaving| {
                let told = peer.matched >= leaving.removed_at && peer.commit_told >= leaving.removed_at;
                !(told && commit >= leaving.removed_at) && now_ms < leaving.until_ms
            })
        });
    }
}

fn changed(current: &Membership, change: Change) -> Result<Membership, ChangeError> {
    let mut members = current.members().to_vec();
    match change {
        Change::Add(mut member) => {
            if current.get(&member.id).is_some() {
                return Err(ChangeError::AlreadyMember);
            }
            if member.incarnation == Incarnation(0) {
                return Err(ChangeError::Invalid(MembershipError("who joins must say which life it is")));
            }
            if member.suffrage == Suffrage::Voter {
                member.suffrage = Suffrage::Learner;
            }
            members.push(member);
        }
        Change::Remove(id) => {
            let member = current.get(&id).ok_or(ChangeError::NotMember)?;
            if member.suffrage == Suffrage::Voter && current.voters().count() == 1 {
                return Err(ChangeError::LastVoter);
            }
            members.retain(|m| m.id != id);
        }
        Change::SetAddress { id, address } => {
            let member = members.iter_mut().find(|m| m.id == id).ok_or(ChangeError::NotMember)?;
            member.address = address;
        }
    }
    Membership::new(members).map_err(ChangeError::Invalid)
}
