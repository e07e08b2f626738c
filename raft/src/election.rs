//! Elections: pre-vote, vote, stickiness to a living leader, stepping down.

use crate::config::TERM_MAX;
use crate::effects::Alarm;
use crate::message::Message;
use crate::quorum::Tally;
use crate::replica::{Replica, Sender, StepError};
use crate::role::{Following, Leading, Poll, Role};
use crate::{EntryKind, Index, LogId, NodeId, Term};
use std::sync::Arc;

impl Replica {
    /// Tries to become leader now. Does nothing in a node that leads, does not vote, or whose disk hangs.
    pub fn campaign(&mut self) {
        if self.is_leader() || !self.may_campaign() {
            return;
        }
        // Alone there is nobody to disturb and nobody to ask.
        let ask = !self.is_sole_voter() && !mutant!("no_pre_vote");
        if ask { self.ask_before_standing() } else { self.stand(false) }
    }

    /// Who votes in no configuration that may be in force never starts an election: a learner, a non-voter, a removed
    /// node, a node that belongs to no cluster yet. Nor does one that could not persist its own vote.
    ///
    /// A node whose own removal is not known to be committed still stands, and may be the only one that can win: when
    /// two are left and one holds the other's removal, or its own, the shorter log cannot (thesis, section 4.2.2). Its
    /// own vote counts only in a configuration that it belongs to.
    pub(crate) fn may_campaign(&self) -> bool {
        self.may_be_needed()
            && !self.disk_stalled()
            && self.hard.term < TERM_MAX
            && self.handover.installing.is_none()
            && !self.handover.distrusted
    }

    pub(crate) fn tick_follower(&mut self) {
        if self.clock.now_ms < self.clock.election_due_ms {
            return;
        }
        self.clock.reset_election(&self.config.timing);
        if self.may_campaign() {
            self.campaign();
        } else if let Role::Follower(following) = &mut self.role {
            following.leader = None;
        } else {
            self.follow_nobody();
        }
    }

    /// Pre-vote (thesis, section 9.6): the term rises only when a majority would vote for this node, so a node that
    /// comes back from a partition does not depose a working leader.
    fn ask_before_standing(&mut self) {
        self.clock.reset_election(&self.config.timing);
        let mut poll = Poll::default();
        poll.record(&self.config.id, true);
        self.role = Role::PreCandidate(poll);
        let message = Message::PreVote { term: Term(self.hard.term.0 + 1), last: self.log.last() };
        self.send_to_voters(&message);
    }

    /// Becomes a candidate (paper, section 5.2). The requests wait for term and vote to be durable, as `send` holds
    /// them back: a candidate that lost its term in a crash could otherwise collect old votes for a shorter log. Its
    /// own vote counts only then, too.
    pub(crate) fn stand(&mut self, transfer: bool) {
        assert!(self.may_be_needed(), "only voters stand for election");
        self.clock.reset_election(&self.config.timing);
        let term = Term(self.hard.term.0 + 1);
        let me = self.config.id.clone();
        self.set_hard_state(term, Some(me));
        self.role = Role::Candidate(Poll::default());
        if mutant!("own_vote_before_sync") {
            self.on_hard_state_durable();
        }
        let message = Message::Vote { term, last: self.log.last(), transfer };
        self.send_to_voters(&message);
    }

    fn send_to_voters(&mut self, message: &Message) {
        let Some(membership) = self.memberships.current().map(Arc::clone) else { return };
        for member in membership.voters() {
            if member.id != self.config.id {
                let to = Sender { id: member.id.clone(), incarnation: member.incarnation };
                self.send(&to, message.clone());
            }
        }
    }

    /// The newest term and vote are on disk: a candidate's vote for itself counts from now on.
    pub(crate) fn on_hard_state_durable(&mut self) {
        if let Role::Candidate(poll) = &mut self.role {
            poll.record(&self.config.id, true);
            self.count_votes();
        }
    }

    fn count_votes(&mut self) {
        let Some(membership) = self.memberships.current() else { return };
        let (tally, standing) = match &self.role {
            Role::PreCandidate(poll) => (poll.tally(membership), false),
            Role::Candidate(poll) => (poll.tally(membership), true),
            _ => return,
        };
        match (tally, standing) {
            (Tally::Open, _) => {}
            // The timer goes on running; a later attempt may find other minds.
            (Tally::Lost, _) => self.follow_nobody(),
            (Tally::Won, false) => self.stand(false),
            // A majority without this node's own vote: no correct peer answers a request that has not left.
            (Tally::Won, true) if !self.ledger.hard_state_is_durable() && !mutant!("own_vote_before_sync") => {}
            (Tally::Won, true) => self.lead(),
        }
    }

    /// A candidacy is over: votes that are still on their way come too late.
    pub(crate) fn follow_nobody(&mut self) {
        assert!(!self.is_leader(), "a leader steps down");
        self.role = Role::Follower(Following::default());
    }

    fn lead(&mut self) {
        assert!(matches!(self.role, Role::Candidate(_)), "only a candidate becomes leader");
        assert!(self.hard.voted_for.as_ref() == Some(&self.config.id), "a leader voted for itself");
        assert!(
            self.ledger.hard_state_is_durable() || mutant!("own_vote_before_sync"),
            "a leader's vote for itself is on disk"
        );
        let last = self.log.last();
        self.role = Role::Leader(Box::new(Leading::new(last.index.next(), self.clock.now_ms)));
        self.sync_peers(last.index);
        // An entry of the own term: only that lets a leader learn what is committed (thesis, 6.4; paper, 5.4.2).
        self.append_own(EntryKind::Noop, Vec::new().into());
    }

    /// Gives up whatever this node is, for `term` and its `leader` if known.
    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<&Sender>) {
        if term > self.hard.term {
            self.set_hard_state(term, None);
        } else if let (Role::Follower(following), Some(leader)) = (&self.role, leader)
            && following.leader.as_ref() == Some(&leader.id)
            && following.leader_incarnation == leader.incarnation
        {
            return;
        }
        self.fail_reads();
        let was_leader = self.is_leader();
        self.role = Role::Follower(Following {
            leader: leader.map(|sender| sender.id.clone()),
            leader_incarnation: leader.map(|sender| sender.incarnation).unwrap_or_default(),
            ..Following::default()
        });
        if was_leader {
            self.clock.reset_election(&self.config.timing);
        }
    }

    pub(crate) fn step_down(&mut self) {
        assert!(self.is_leader(), "only a leader steps down");
        self.become_follower(self.hard.term, None);
    }

    /// The transport has lost its connection from `peer`: its process is gone, most likely. If it led, this node is loyal to
    /// it no longer and asks soon, instead of after a whole election timeout, whether an election would succeed. It does
    /// harm to nobody when it is wrong: the leader's next heartbeat restores everything, and a pre-vote finds no
    /// majority among nodes that still hear their leader.
    pub fn lost_contact(&mut self, peer: &NodeId) {
        let Role::Follower(following) = &self.role else { return };
        if following.leader.as_ref() != Some(peer) {
            return;
        }
        let timing = &self.config.timing;
        self.clock.leader_heard_ms =
            self.clock.leader_heard_ms.min(self.clock.now_ms.saturating_sub(timing.election_timeout_ms));
        self.clock.hasten_election(timing);
    }

    /// Whether this node heard a leader so recently that it refuses to help deposing it (thesis, section 4.2.3). A
    /// leader refuses as long as it leads: without a quorum it steps down by itself.
    fn is_loyal(&self, candidate: &Sender) -> bool {
        if mutant!("no_stickiness") {
            return false;
        }
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(following) => {
                let silent_ms = self.clock.now_ms - self.clock.leader_heard_ms;
                // A leader that asks for votes has ceased to lead.
                following.leader.as_ref().is_some_and(|leader| *leader != candidate.id)
                    && silent_ms < self.config.timing.election_timeout_ms
            }
            _ => false,
        }
    }

    /// Whether a candidate's log is at least as complete as this one: by term, then by index (paper, 5.4.1).
    fn is_up_to_date(&self, last: LogId) -> bool {
        if mutant!("vote_compares_index_only") {
            return last.index >= self.log.last().index;
        }
        last >= self.log.last() || mutant!("vote_without_comparing_logs")
    }

    /// Brings the terms of this node and of a message together (paper, section 5.1). Returns the message if it is
    /// to be handled in the current term.
    pub(crate) fn meet_term(&mut self, sender: &Sender, message: Message) -> Result<Option<Message>, StepError> {
        let term = message.term();
        match &message {
            // Neither speaks of the sender's current term, and neither may change anything (pitfall 48).
            Message::PreVote { .. } | Message::PreVoteReply { granted: true, .. } => return Ok(Some(message)),
            Message::Vote { transfer: false, .. } if self.is_loyal(sender) => return Ok(None),
            _ => {}
        }
        if term > self.hard.term {
            if message.is_from_leader() {
                self.become_follower(term, Some(sender));
            } else if matches!(message, Message::Vote { .. }) || self.is_member(sender) {
                self.become_follower(term, None);
            } else {
                return Err(StepError::Stranger);
            }
            return Ok(Some(message));
        }
        let old_vote = mutant!("old_votes_counted") && matches!(message, Message::VoteReply { .. });
        if term == self.hard.term || old_vote {
            return Ok(Some(message));
        }
        match message {
            // Tells a deposed leader, and one that cannot know that this node has seen a higher term.
            Message::Append { .. } | Message::Heartbeat { .. } => {
                let none = Index(0);
                let reply = Message::HeartbeatReply { term: self.hard.term, round: 0, accepted: none, matched: none };
                self.send(sender, reply);
            }
            Message::Vote { .. } => {
                let reply = Message::VoteReply { term: self.hard.term, granted: false };
                self.send(sender, reply);
            }
            _ => {}
        }
        Ok(None)
    }

    fn is_member(&self, sender: &Sender) -> bool {
        let member = self.memberships.current().and_then(|m| m.get(&sender.id));
        member.is_some_and(|m| m.incarnation.matches(sender.incarnation))
    }

    pub(crate) fn on_pre_vote(&mut self, sender: &Sender, term: Term, last: LogId) {
        let granted = term > self.hard.term && self.is_up_to_date(last) && !self.is_loyal(sender);
        // A refusal carries this node's own term, from which a candidate that lags behind can learn.
        let term = if granted { term } else { self.hard.term };
        self.send(sender, Message::PreVoteReply { term, granted });
    }

    pub(crate) fn on_pre_vote_reply(&mut self, sender: &Sender, term: Term, granted: bool) -> Result<(), StepError> {
        self.check_voter(sender)?;
        let Role::PreCandidate(poll) = &mut self.role else { return Ok(()) };
        if !granted || term.0 == self.hard.term.0 + 1 {
            poll.record(&sender.id, granted);
            self.count_votes();
        }
        Ok(())
    }

    /// RequestVote (paper, figure 2). Whoever asks is answered, member or not, and whatever this node believes
    /// itself to be: the configuration that makes it a voter may not have reached it yet (thesis, 4.2.2; pitfall 54).
    pub(crate) fn on_vote(&mut self, sender: &Sender, last: LogId) {
        let free = match &self.hard.voted_for {
            None => !self.is_leader() && self.leader().is_none(),
            Some(voted_for) => *voted_for == sender.id || mutant!("two_votes_in_a_term"),
        };
        let granted = free && self.is_up_to_date(last);
        if granted && mutant!("two_votes_in_a_term") && self.hard.voted_for.is_some() {
            self.clock.reset_election(&self.config.timing);
        } else if granted {
            self.set_hard_state(self.hard.term, Some(sender.id.clone()));
            if matches!(self.role, Role::PreCandidate(_)) {
                self.follow_nobody();
            }
            self.clock.reset_election(&self.config.timing);
        } else if matches!(self.role, Role::Candidate(_)) {
            self.clock.vote_is_split(&self.config.timing);
        }
        // Held back by `send` until the vote is on disk.
        self.send(sender, Message::VoteReply { term: self.hard.term, granted });
    }

    pub(crate) fn on_vote_reply(&mut self, sender: &Sender, granted: bool) -> Result<(), StepError> {
        self.check_voter(sender)?;
        if let Role::Candidate(poll) = &mut self.role {
            poll.record(&sender.id, granted);
            self.count_votes();
        }
        Ok(())
    }

    fn check_voter(&self, sender: &Sender) -> Result<(), StepError> {
        let membership = self.memberships.current().ok_or(StepError::Stranger)?;
        if membership.is_voter(&sender.id, sender.incarnation) { Ok(()) } else { Err(StepError::Stranger) }
    }

    /// The leader wants this node to lead next (thesis, section 3.10): no timeout, no pre-vote.
    pub(crate) fn on_timeout_now(&mut self, sender: &Sender) -> Result<(), StepError> {
        self.hear_leader(sender)?;
        if self.may_campaign() {
            self.stand(true);
        }
        Ok(())
    }

    /// Whether the log has been waiting for the disk for too long.
    pub(crate) fn disk_stalled(&self) -> bool {
        if mutant!("disk_stall_ignored") {
            return false;
        }
        let limit_ms = self.config.timing.disk_stall_ms;
        self.ledger.waiting_since_ms().is_some_and(|since_ms| self.clock.now_ms - since_ms >= limit_ms)
    }

    /// Two reasons to give up leading though nobody asks for it: no quorum answers (thesis, section 6.2), or the own
    /// disk hangs, which heartbeats would hide from everybody (pitfall 29).
    pub(crate) fn give_up_if_useless(&mut self) {
        if self.is_sole_voter() {
            // Nobody else can lead.
            return;
        }
        if self.disk_stalled() {
            self.alarm(Alarm::DiskStalled);
            self.nominate_successor(self.commit);
            self.step_down();
        } else if !self.quorum_is_near() && !mutant!("no_check_quorum") {
            // Perhaps it is only deaf, and they have heard its heartbeats up to now.
            self.nominate_successor(self.commit);
            self.step_down();
        }
    }
}
