//! Handing over leadership (thesis, section 3.10): stop taking proposals, bring the target up to date, tell it to
//! stand for election at once. If it has not succeeded within an election timeout the leader goes on as before.

use crate::message::Message;
use crate::replica::{Replica, Sender};
use crate::role::Role;
use crate::{Index, NodeId};

#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) target: NodeId,
    /// When it is given up.
    pub(crate) until_ms: u64,
    told: bool,
}

/// Why no transfer was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferError {
    NotLeader {
        leader: Option<NodeId>,
    },
    /// The target leads already.
    AlreadyLeader,
    /// The target is no voter of the configuration in force.
    NotVoter,
    /// No other voter has been heard recently.
    NoTarget,
    /// Another transfer is under way.
    InProgress {
        to: NodeId,
    },
}

impl Replica {
    /// Begins to hand over leadership to `target`, or to the voter that is most up to date. Success shows as a
    /// change of role; failure as `Effects::transfer_failed`. Returns the target.
    ///
    /// # Errors
    /// Nothing was begun; see `TransferError`.
    pub fn transfer(&mut self, target: Option<&NodeId>) -> Result<NodeId, TransferError> {
        let now_ms = self.clock.now_ms;
        let timing = &self.config.timing;
        let leader_known = self.leader().cloned();
        let Role::Leader(leader) = &mut self.role else {
            return Err(TransferError::NotLeader { leader: leader_known });
        };
        if let Some(transfer) = &leader.transfer {
            return Err(TransferError::InProgress { to: transfer.target.clone() });
        }
        if target == Some(&self.config.id) {
            return Err(TransferError::AlreadyLeader);
        }
        let voters = leader.peers.iter().filter(|peer| peer.is_voter());
        let chosen = match target {
            Some(id) => voters.into_iter().find(|peer| peer.id == *id).ok_or(TransferError::NotVoter)?,
            None => voters
                .filter(|peer| now_ms - peer.hearing.contact_ms <= timing.leader_lease_ms)
                .max_by_key(|peer| peer.matched)
                .ok_or(TransferError::NoTarget)?,
        };
        let target = chosen.id.clone();
        let until_ms = now_ms + timing.election_timeout_ms;
        leader.transfer = Some(Transfer { target: target.clone(), until_ms, told: false });
        Ok(target)
    }

    /// Tells the target to stand, once it holds all that this log holds.
    pub(crate) fn advance_transfer(&mut self) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let target = leader.peers.iter().find(|peer| peer.id == transfer.target && peer.is_voter());
        let Some(to) = target
            .filter(|peer| (peer.matched == last || mutant!("transfer_to_who_lags")) && !transfer.told)
            .map(|peer| peer.sender())
        else {
            return;
        };
        transfer.told = true;
        self.send(&to, Message::TimeoutNow { term: self.hard.term });
    }

    /// Gives up a transfer that takes too long. The target may still win later; that is an ordinary election.
    pub(crate) fn tick_transfer(&mut self) {
        let now_ms = self.clock.now_ms;
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(transfer) = leader.transfer.take_if(|transfer| now_ms >= transfer.until_ms) {
            self.out.effects.transfer_failed = Some(transfer.target);
        }
    }

    /// A leader that was removed, or is of no more use, names who shall follow before it goes, so that nobody has to wait
    /// for a timeout. It must hold what the leader's log held when its term began, too: until an entry of that term is
    /// committed, the leader does not know how much of it is.
    pub(crate) fn nominate_successor(&mut self, at_least: Index) {
        let Role::Leader(leader) = &self.role else { return };
        let at_least = at_least.max(leader.term_start);
        let successor = leader.peers.iter().filter(|p| p.is_voter() && p.matched >= at_least).max_by_key(|p| p.matched);
        let Some(to) = successor.map(|peer| Sender { id: peer.id.clone(), incarnation: peer.incarnation }) else {
            return;
        };
        self.send(&to, Message::TimeoutNow { term: self.hard.term });
    }
}
