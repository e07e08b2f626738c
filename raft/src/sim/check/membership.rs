//! Which configurations may be in force or still come into force. Not a checker of its own: it tells the faults how much
//! damage the contract allows, and the others who counts.

use crate::sim::node::life_of;
use crate::{Incarnation, Index, Member, Membership, NodeId, Suffrage};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Default)]
pub(in crate::sim) struct Memberships {
    /// By the index of its entry; different leaders may put different ones at the same index.
    possible: BTreeMap<Index, Vec<Arc<Membership>>>,
    /// Lives of nodes that ever voted in one.
    voters: BTreeSet<(NodeId, u64)>,
}

impl Memberships {
    /// A node uses `membership`, from the entry at `index`.
    pub(in crate::sim) fn in_force(&mut self, index: Index, membership: &Arc<Membership>) {
        self.voters.extend(membership.voters().map(|m| (m.id.clone(), life_of(m).0)));
        let known = self.possible.entry(index).or_default();
        if !known.contains(membership) {
            known.push(Arc::clone(membership));
        }
    }

    /// A membership entry was committed: what lies before can never be in force again for a new decision.
    pub(in crate::sim) fn committed(&mut self, index: Index, membership: &Arc<Membership>) {
        if self.possible.first_key_value().is_none_or(|(first, _)| *first <= index) {
            self.possible = self.possible.split_off(&index);
            self.possible.insert(index, vec![Arc::clone(membership)]);
        }
    }

    pub(in crate::sim) fn possible(&self) -> impl Iterator<Item = &Arc<Membership>> {
        self.possible.values().flatten()
    }

    /// Whether this life of the node votes in any configuration that ever was. (Who was removed may still lead for a
    /// moment: it stands until it knows.)
    pub(in crate::sim) fn may_vote(&self, id: &NodeId, incarnation: Incarnation) -> bool {
        self.voters.contains(&(id.clone(), incarnation.0))
    }

    /// Whether every configuration that may count keeps a majority of voters for which `sound` holds, even if all its
    /// learners that are not sound become voters first.
    pub(in crate::sim) fn all_survive(&self, sound: impl Fn(&Member) -> bool) -> bool {
        self.possible().all(|membership| survives(membership, &sound))
    }
}

pub(in crate::sim) fn has_quorum(membership: &Membership, sound: impl Fn(&NodeId, Incarnation) -> bool) -> bool {
    let voters = || membership.members().iter().filter(|m| m.suffrage == Suffrage::Voter);
    voters().filter(|m| sound(&m.id, life_of(m))).count() * 2 > voters().count()
}

/// See `Memberships::all_survive`.
pub(in crate::sim) fn survives(membership: &Membership, sound: impl Fn(&Member) -> bool) -> bool {
    let count = |suffrage: Suffrage, is_sound: bool| {
        membership.members().iter().filter(|m| m.suffrage == suffrage && sound(m) == is_sound).count()
    };
    let kept = count(Suffrage::Voter, true);
    let lost = count(Suffrage::Voter, false) + count(Suffrage::Learner, false);
    kept > lost
}
