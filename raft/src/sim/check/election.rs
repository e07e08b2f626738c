//! Election safety (paper, figure 3): at most one leader in a term. And what it rests on: each life of a node votes at
//! most once in a term, whatever crashes in between.

use super::membership::has_quorum;
use super::violated;
use crate::{Envelope, Incarnation, Message, NodeId, Replica, Term};
use std::collections::BTreeMap;

const CHECKER: &str = "election safety";

#[derive(Default)]
pub(in crate::sim) struct Election {
    leaders: BTreeMap<Term, (NodeId, Incarnation)>,
    votes: BTreeMap<(NodeId, Incarnation, Term), NodeId>,
}

impl Election {
    /// A node believes to lead.
    pub(in crate::sim) fn leads(&mut self, id: &NodeId, incarnation: Incarnation, term: Term, may_vote: bool) {
        if !may_vote {
            violated("only voters lead", format!("{id} leads term {term} and votes in no configuration"));
        }
        let who = (id.clone(), incarnation);
        match self.leaders.get(&term) {
            None => {
                self.leaders.insert(term, who);
            }
            Some(first) if *first == who => {}
            Some(first) => violated(CHECKER, format!("{} and {id} both lead term {term}", first.0)),
        }
    }

    /// Whoever leads has the votes of a majority in its term: its own, and those that others sent to it.
    pub(in crate::sim) fn check_votes(&self, replica: &Replica) {
        let Some((_, membership)) = replica.membership() else { return };
        let (id, term) = (replica.id(), replica.term());
        let gave = |voter: &NodeId, incarnation: Incarnation| {
            voter == id || self.votes.get(&(voter.clone(), incarnation, term)) == Some(id)
        };
        if !has_quorum(membership, gave) {
            violated(CHECKER, format!("{id} leads term {term} without the votes of a majority"));
        }
    }

    /// A message leaves a node: a granted vote in it counts, and so does the one that a candidate gives to itself.
    pub(in crate::sim) fn sent(&mut self, envelope: &Envelope) {
        let (term, candidate) = match &envelope.message {
            Message::VoteReply { term, granted: true } => (*term, &envelope.to),
            Message::Vote { term, .. } => (*term, &envelope.from),
            _ => return,
        };
        let key = (envelope.from.clone(), envelope.from_incarnation, term);
        let first = self.votes.entry(key).or_insert_with(|| candidate.clone());
        if first != candidate {
            let what = format!("{} votes for {first} and for {candidate} in term {term}", envelope.from);
            violated(CHECKER, what);
        }
    }

    pub(in crate::sim) fn count(&self) -> u64 {
        self.leaders.len() as u64
    }
}
