//! Linearizable reads without the log (ReadIndex, thesis section 6.4), in batches.
//!
//! A read is ordered after everything that was committed when it arrived. The leader notes its commit index, makes
//! sure by a round of heartbeats that began *after* the read arrived that it still leads, and then lets the read
//! run once that index is applied. All reads of one turn share a round, and an answer to a later round also
//! answers the earlier ones. Rounds are counted within a term, and a node leads a term at most once, so that
//! (term, round) names a round for ever: no answer can be credited to another one (pitfall 79).

use crate::effects::ReadToken;
use crate::quorum;
use crate::replica::Replica;
use crate::role::Role;
use crate::{Index, NodeId};
use std::collections::VecDeque;

/// Rounds on their way at once; further reads wait and share the next one.
const ROUNDS_MAX: usize = 16;

/// Why a read was not taken. It may be tried at the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    NotLeader {
        leader: Option<NodeId>,
    },
    /// Too many reads wait already.
    Busy,
}

#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Reads that no round covers yet.
    waiting: Vec<ReadToken>,
    rounds: VecDeque<Round>,
    round_last: u64,
    count: usize,
}

#[derive(Debug)]
struct Round {
    id: u64,
    index: Index,
    tokens: Vec<ReadToken>,
}

impl Reads {
    pub(crate) fn highest_round(&self) -> u64 {
        self.round_last
    }

    fn take_all(&mut self) -> Vec<ReadToken> {
        let mut tokens: Vec<ReadToken> = self.rounds.drain(..).flat_map(|round| round.tokens).collect();
        tokens.append(&mut self.waiting);
        self.count = 0;
        tokens
    }
}

impl Replica {
    /// Asks for a point in the log from which a linearizable read may be served. Comes back in
    /// `Effects::readable`, or in `Effects::failed_reads` when leadership is lost first. A read that arrives before
    /// the term's first entry is committed waits for that (pitfall 78).
    ///
    /// # Errors
    /// Not the leader, or `Limits::reads_max` reads wait.
    pub fn read_index(&mut self, token: ReadToken) -> Result<(), ReadError> {
        let reads_max = self.config.limits.reads_max;
        let leader_known = self.leader().cloned();
        let Role::Leader(leader) = &mut self.role else {
            return Err(ReadError::NotLeader { leader: leader_known });
        };
        if leader.reads.count >= reads_max {
            return Err(ReadError::Busy);
        }
        leader.reads.count += 1;
        leader.reads.waiting.push(token);
        Ok(())
    }

    /// Starts a round for the reads that wait, when the term has committed.
    pub(crate) fn start_read_round(&mut self) {
        let commit = self.commit;
        let Role::Leader(leader) = &mut self.role else { return };
        let reads = &mut leader.reads;
        let early = commit < leader.term_start && !mutant!("read_before_the_term_commits");
        if reads.waiting.is_empty() || early || reads.rounds.len() >= ROUNDS_MAX {
            return;
        }
        if !mutant!("read_round_used_twice") || reads.round_last == 0 {
            reads.round_last += 1;
        }
        let tokens = std::mem::take(&mut reads.waiting);
        reads.rounds.push_back(Round { id: reads.round_last, index: commit, tokens });
        let voters: Vec<usize> = (0..leader.peers.len()).filter(|at| leader.peers[*at].is_voter()).collect();
        for at in voters {
            self.heartbeat(at);
        }
        self.finish_reads();
    }

    /// Lets go of the reads whose round a quorum of the configuration in force has answered.
    pub(crate) fn finish_reads(&mut self) {
        let counts_itself = self.is_voter();
        let Some(membership) = self.memberships.current() else { return };
        let quorum = membership.quorum();
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.reads.rounds.is_empty() {
            return;
        }
        let own = counts_itself.then_some(leader.reads.round_last);
        let peers = leader.peers.iter().filter(|peer| peer.is_voter()).map(|peer| peer.hearing.round);
        let mut rounds: Vec<u64> = peers.chain(own).collect();
        let Some(answered) = quorum::reached_by(&mut rounds, quorum) else { return };
        let answered = if mutant!("read_without_quorum") { u64::MAX } else { answered };
        while leader.reads.rounds.front().is_some_and(|round| round.id <= answered) {
            let Some(round) = leader.reads.rounds.pop_front() else { return };
            leader.reads.count -= round.tokens.len();
            let index = round.index;
            self.out.effects.readable.extend(round.tokens.into_iter().map(|token| (token, index)));
        }
    }

    /// The node no longer leads: no waiting read may be answered (pitfalls 77 and 79).
    pub(crate) fn fail_reads(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            let tokens = leader.reads.take_all();
            self.out.effects.failed_reads.extend(tokens);
        }
    }
}
