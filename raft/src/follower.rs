//! A follower's half of replication: AppendEntries and heartbeats (Raft paper, figure 2 and section 5.3).

use crate::effects::Alarm;
use crate::membership::Membership;
use crate::message::Message;
use crate::replica::{Replica, Sender, StepError};
use crate::role::Role;
use crate::{Entry, EntryKind, Index, LogId};
use std::sync::Arc;

impl Replica {
    /// A message of the current term came from its leader.
    pub(crate) fn hear_leader(&mut self, sender: &Sender) -> Result<(), StepError> {
        if self.is_leader() {
            // At most one leader in a term (paper, section 5.2): somebody votes twice. Nothing a message brings may
            // stop the process, but it must not go unnoticed.
            self.alarm(Alarm::TwoLeaders { term: self.hard.term, other: sender.id.clone() });
            return Err(StepError::Malformed("a second leader in one term"));
        }
        self.become_follower(self.hard.term, Some(sender));
        self.clock.heard_leader(&self.config.timing);
        Ok(())
    }

    pub(crate) fn on_append(
        &mut self,
        sender: &Sender,
        prev: LogId,
        entries: Vec<Entry>,
        commit: Index,
    ) -> Result<(), StepError> {
        let memberships = self.check_entries(prev, &entries)?;
        self.hear_leader(sender)?;
        // All that is committed here is in the leader's log as well (leader completeness, section 5.4.3): whatever
        // lies below is not looked at again, it may even be gone from the log (pitfalls 37 to 39).
        if prev.index >= self.commit && !self.log.contains(prev) {
            let hint = self.log.last_not_above(LogId { term: prev.term, index: prev.index });
            self.send(sender, Message::AppendReject { term: self.hard.term, prev, hint });
            return Ok(());
        }
        let through = Index(prev.index.0 + entries.len() as u64);
        // What this leader showed to agree stays so, and what is committed stays for ever: a message that says
        // otherwise is not from a leader that keeps the rules.
        let settled = self.commit.max(self.verified());
        let held = entries.iter().filter(|e| e.id.index >= self.log.purged_to().index);
        if held.take_while(|e| e.id.index <= settled).any(|e| !self.log.contains(e.id)) {
            return Err(StepError::Malformed("an entry contradicts a settled one"));
        }
        if self.tail_is_full() {
            // What cannot be held is not accepted; the leader sends it again.
            return Ok(());
        }
        if mutant!("append_cuts_what_matches") && prev.index >= self.commit && prev.index < self.log.last().index {
            self.truncate_after(prev.index);
        }
        self.take_entries(entries, memberships);
        // Everything committed agrees with the leader anyway.
        let verified = through.max(self.commit);
        self.verified_through(verified, commit);
        if let Role::Follower(following) = &mut self.role {
            following.answer_owed = true;
        }
        Ok(())
    }

    /// Refuses entries that do not follow `prev` one by one, whose terms fall or exceed the leader's, or whose
    /// membership cannot be read. Returns the memberships, decoded once.
    fn check_entries(&self, prev: LogId, entries: &[Entry]) -> Result<Vec<(Index, Arc<Membership>)>, StepError> {
        let mut memberships = Vec::new();
        let mut before = prev;
        for entry in entries {
            if entry.id.index != before.index.next() || entry.id.term < before.term || entry.id.term > self.hard.term {
                return Err(StepError::Malformed("entries that do not follow each other"));
            }
            if entry.kind == EntryKind::Membership {
                let membership = Membership::decode(&entry.payload)
                    .map_err(|_| StepError::Malformed("a membership that cannot be read"))?;
                memberships.push((entry.id.index, Arc::new(membership)));
            }
            before = entry.id;
        }
        Ok(memberships)
    }

    fn verified(&self) -> Index {
        if let Role::Follower(following) = &self.role { following.verified } else { Index(0) }
    }

    fn tail_is_full(&self) -> bool {
        let waiting = self.log.bytes_between(self.ledger.durable(), self.log.last().index);
        let limits = &self.config.limits;
        waiting > limits.tail_bytes_max.max(limits.in_flight_bytes_max * 2)
    }

    /// Skips what the log holds already and replaces only what truly conflicts: a late or repeated message must
    /// never cut off newer entries that match (figure 2, AppendEntries rules 3 and 4; pitfalls 11 and 12).
    fn take_entries(&mut self, entries: Vec<Entry>, memberships: Vec<(Index, Arc<Membership>)>) {
        let mut memberships = memberships.into_iter().peekable();
        let mut changed = false;
        for entry in entries {
            let id = entry.id;
            let above = id.index > self.commit || mutant!("compacted_entry_is_a_conflict");
            let is_new = above && !self.log.contains(id);
            if is_new {
                if id.index <= self.log.last().index {
                    changed |= self.truncate_after(Index(id.index.0 - 1));
                }
                self.log.append(entry);
            }
            if let Some((_, membership)) = memberships.next_if(|(index, _)| *index == id.index)
                && is_new
            {
                self.memberships.push(id.index, membership);
                changed = true;
            }
        }
        if changed {
            self.membership_changed();
        }
    }

    /// Returns whether the configuration went back to an earlier one.
    fn truncate_after(&mut self, index: Index) -> bool {
        assert!(index >= self.commit, "committed entries are never removed (paper, section 5.4.3)");
        self.log.truncate_after(index);
        self.ledger.truncated_after(index);
        if let Role::Follower(following) = &mut self.role {
            assert!(
                following.verified <= index || mutant!("append_cuts_what_matches"),
                "what agreed with this leader is not removed for it"
            );
        }
        self.memberships.truncate_after(index)
    }

    /// This log equals the leader's up to `verified`, and the leader's commit index is `commit`: what is committed
    /// there and verified here is committed (figure 2, rule 5, with the bound that was really checked).
    fn verified_through(&mut self, verified: Index, commit: Index) {
        let Role::Follower(following) = &mut self.role else { return };
        following.verified = following.verified.max(verified);
        let unverified = mutant!("commit_of_unverified_entries");
        let committed = commit.min(if unverified { self.log.last().index } else { following.verified });
        if committed > self.commit || mutant!("commit_goes_back") {
            self.raise_commit(committed);
        }
    }

    pub(crate) fn on_heartbeat(
        &mut self,
        sender: &Sender,
        round: u64,
        matched: LogId,
        commit: Index,
    ) -> Result<(), StepError> {
        self.hear_leader(sender)?;
        // `matched` is what this node once acknowledged; finding it again verifies the log after a restart.
        if matched.index > self.commit && self.log.contains(matched) {
            self.verified_through(matched.index, commit);
        } else {
            self.verified_through(self.commit, commit);
        }
        let Role::Follower(following) = &self.role else { return Ok(()) };
        let accepted = following.verified;
        let matched = accepted.min(self.ledger.durable());
        let matched = if mutant!("acknowledged_before_sync") { accepted } else { matched };
        self.send(sender, Message::HeartbeatReply { term: self.hard.term, round, accepted, matched });
        Ok(())
    }

    /// Acknowledges what has become durable: one answer for all Appends that one sync covered.
    pub(crate) fn flush_follower(&mut self) {
        let durable = self.ledger.durable();
        let durable = if mutant!("acknowledged_before_sync") { self.log.last().index } else { durable };
        let Role::Follower(following) = &mut self.role else { return };
        let Some(leader) = following.leader.clone() else { return };
        let matched = following.verified.min(durable);
        let all = matched == following.verified;
        if matched > following.acknowledged || (following.answer_owed && all) {
            following.acknowledged = following.acknowledged.max(matched);
            following.answer_owed &= !all;
            let to = Sender { id: leader, incarnation: following.leader_incarnation };
            self.send(&to, Message::AppendReply { term: self.hard.term, matched });
        }
    }
}
