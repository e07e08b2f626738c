//! The operator: keeps the membership what it should be, and never does what the contract forbids.
//!
//! It asks whoever seems to lead, so that stale leaders are asked too. A node that lost its data is removed under its
//! old identity and added as a new one.

use super::check::membership::survives;
use super::node::{Condition, Input, life_of};
use super::world::{Event, World};
use crate::{Change, Member, Membership, Suffrage};

const ROUND_US: u64 = 1_200_000;

impl World {
    /// Its round; it also comes when something has happened.
    pub(super) fn operator_round(&mut self) {
        let after_us = self.chance.between(ROUND_US / 8, ROUND_US);
        self.push(after_us, Event::OperatorRound);
        self.operator();
    }

    pub(super) fn operator(&mut self) {
        // Now and then somebody who only believes to lead.
        let stale = self.chance.percent(20) && !self.healed;
        let leaders: Vec<usize> =
            (0..self.nodes.len()).filter(|at| self.replica(*at).is_some_and(crate::Replica::is_leader)).collect();
        let Some(leader) = (if stale { leaders.first().copied() } else { self.leader() }) else { return };
        if let Some(change) = self.change_needed(leader) {
            self.input(leader, Input::Change(change));
        }
    }

    /// The first difference between what the membership is at `leader` and what it should be.
    fn change_needed(&self, leader: usize) -> Option<Change> {
        let (_, membership) = self.replica(leader)?.membership()?;
        for (at, node) in self.nodes.iter().enumerate() {
            let wanted = node.wanted;
            match (membership.get(&node.id), wanted) {
                (Some(member), Some(_)) if life_of(member) == node.incarnation => {}
                (Some(_), _) if self.may_remove(membership, at) => return Some(Change::Remove(node.id.clone())),
                (None, Some(suffrage)) if node.process.is_some() => return Some(Change::Add(node.member(suffrage))),
                _ => {}
            }
        }
        None
    }

    /// Whether a member still has all the data that it ever promised to keep.
    pub(super) fn is_sound(&self, member: &Member) -> bool {
        let node = &self.nodes[self.index_of(&member.id)];
        node.incarnation == life_of(member) && node.condition == Condition::Sound
    }

    /// Without this member the others must be able to go on.
    fn may_remove(&self, membership: &Membership, at: usize) -> bool {
        let rest = membership.members().iter().filter(|m| m.id != self.nodes[at].id).cloned().collect();
        Membership::new(rest).is_ok_and(|next| survives(&next, |member| self.is_sound(member)))
    }

    /// Whether the contract survives the loss of all data of this node: everything that is committed must remain on a
    /// majority of what may be in force.
    pub(super) fn may_lose(&self, at: usize) -> bool {
        let id = &self.nodes[at].id;
        let settled = self.checks.history.last().0 > 3;
        settled && self.checks.membership.all_survive(|member| member.id != *id && self.is_sound(member))
    }

    pub(super) fn want(&mut self, at: usize, wanted: Option<Suffrage>) {
        // Somebody has to vote.
        let voters = self.nodes.iter().filter(|node| node.wanted == Some(Suffrage::Voter)).count();
        let loses_voter = self.nodes[at].wanted == Some(Suffrage::Voter) && wanted != Some(Suffrage::Voter);
        if !loses_voter || voters > 1 {
            self.nodes[at].wanted = wanted;
        }
    }
}
