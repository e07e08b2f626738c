//! A leader's half of replication: proposals, Append messages, acknowledgements, the commit rule, heartbeats.

use crate::config::Limits;
use crate::effects::{Alarm, LogRange, LogRead};
use crate::message::{Envelope, Message};
use crate::progress::{Peer, PeerState};
use crate::quorum;
use crate::reads::Reads;
use crate::replica::{PeerStatus, ProposeError, Replica, Sender, StepError};
use crate::role::{Leading, Role};
use crate::tail::{Tail, entry_bytes};
use crate::{Entry, EntryKind, Incarnation, Index, LogId, NodeId};
use std::sync::Arc;

/// A peer that denies so often what it had acknowledged has lost it. Rejections of messages that were overtaken by newer
/// ones look the same, and come in swarms: only one in an election timeout counts, and none once a heartbeat was answered
/// with the entry found.
const DENIALS_ALARM: u32 = 3;

impl Leading {
    pub(crate) fn new(term_start: Index, now_ms: u64) -> Leading {
        Leading {
            peers: Vec::new(),
            term_start,
            heartbeat_due_ms: now_ms,
            commit_rose_ms: now_ms,
            reads: Reads::default(),
            transfer: None,
        }
    }

    pub(crate) fn peer(&mut self, sender: &Sender) -> Result<&mut Peer, StepError> {
        let peer = self.peers.iter_mut().find(|peer| peer.id == sender.id);
        let peer = peer.filter(|peer| peer.incarnation.matches(sender.incarnation)).ok_or(StepError::Stranger)?;
        if peer.incarnation == Incarnation(0) {
            peer.incarnation = sender.incarnation;
        }
        Ok(peer)
    }
}

impl Replica {
    /// Appends a command. It is committed when it comes out of `Effects::committed` with this same id; if another
    /// term's entry comes out at its index, it never will be.
    ///
    /// # Errors
    /// Nothing was appended; see `ProposeError`.
    pub fn propose(&mut self, payload: Arc<[u8]>) -> Result<LogId, ProposeError> {
        self.check_proposal(payload.len())?;
        Ok(self.append_own(EntryKind::Command, payload))
    }

    /// Appends several commands, all or none, one after the other. Returns the id of the first; the others follow
    /// with the same term.
    ///
    /// # Errors
    /// As `propose`. An empty batch is refused as a caller's mistake would be: it panics.
    pub fn propose_batch(&mut self, payloads: impl IntoIterator<Item = Arc<[u8]>>) -> Result<LogId, ProposeError> {
        let payloads: Vec<Arc<[u8]>> = payloads.into_iter().collect();
        let largest = payloads.iter().map(|payload| payload.len()).max().expect("a batch is not empty");
        self.check_proposal(largest)?;
        let first = LogId { term: self.hard.term, index: self.log.last().index.next() };
        for payload in payloads {
            self.append_own(EntryKind::Command, payload);
        }
        Ok(first)
    }

    fn check_proposal(&self, bytes: usize) -> Result<(), ProposeError> {
        let Role::Leader(leader) = &self.role else {
            return Err(ProposeError::NotLeader { leader: self.leader().cloned() });
        };
        // While leadership is handed over nothing may be added, or the target could never catch up (thesis, 3.10).
        if let Some(transfer) = &leader.transfer {
            return Err(ProposeError::Transferring { to: transfer.target.clone() });
        }
        let limits = &self.config.limits;
        if bytes as u64 > limits.entry_bytes_max {
            return Err(ProposeError::TooLarge { bytes_max: limits.entry_bytes_max });
        }
        let unlimited = mutant!("no_limit_on_proposals");
        if !unlimited
            && self.log.bytes_between(self.commit.min(self.handover.handed), self.log.last().index)
                >= limits.uncommitted_bytes_max
        {
            return Err(ProposeError::Busy);
        }
        Ok(())
    }

    pub(crate) fn append_own(&mut self, kind: EntryKind, payload: Arc<[u8]>) -> LogId {
        assert!(self.is_leader(), "only a leader appends on its own");
        let id = LogId { term: self.hard.term, index: self.log.last().index.next() };
        self.log.append(Entry { id, kind, payload });
        id
    }

    /// Sends what there is to send: read rounds first, then entries to whoever has room.
    pub(crate) fn flush_leader(&mut self) {
        self.advance_transfer();
        self.start_read_round();
        let limits = self.config.limits.clone();
        let Role::Leader(leader) = &mut self.role else { return };
        let mut appends = Vec::new();
        for (at, peer) in leader.peers.iter_mut().enumerate() {
            let had_snapshot = peer.state == PeerState::Snapshot;
            while let Some(message) = next_append(peer, &self.log, &limits, self.clock.now_ms, self.commit) {
                match message {
                    Next::Append { prev, entries } => appends.push((at, prev, entries)),
                    Next::Read(read) => self.out.effects.log_reads.push(read),
                }
            }
            if peer.state == PeerState::Snapshot && !had_snapshot {
                self.out.effects.snapshots_needed.push(peer.id.clone());
            }
        }
        for (at, prev, entries) in appends {
            let to = leader.peers[at].sender();
            let message = Message::Append { term: self.hard.term, prev, entries, commit: self.commit };
            self.out.push(
                Envelope {
                    from: self.config.id.clone(),
                    from_incarnation: self.config.incarnation,
                    to: to.id,
                    to_incarnation: to.incarnation,
                    message,
                },
                self.ledger.hard_state_is_durable(),
            );
        }
    }

    /// Answers `Effects::log_reads`: entries of the log, in order, beginning where the request said. None, if they
    /// have left the log meanwhile. Late answers are recognised and dropped.
    pub fn log_read(&mut self, peer: &NodeId, entries: Vec<Entry>) {
        let now_ms = self.clock.now_ms;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peers.iter_mut().find(|p| p.id == *peer) else { return };
        if !std::mem::take(&mut peer.reading) || peer.state == PeerState::Snapshot {
            return;
        }
        let follows = entries.iter().zip(peer.next.0..).all(|(e, at)| e.id.index.0 == at && self.log.contains(e.id));
        let Some(last) = entries.last().map(|e| e.id.index).filter(|_| follows) else { return };
        let Some(prev) = prev_of(peer.next, &self.log) else { return };
        peer.sent(last, entries.iter().map(entry_bytes).sum(), now_ms);
        peer.commit_told = peer.commit_told.max(self.commit.min(last));
        let to = peer.sender();
        let message = Message::Append { term: self.hard.term, prev, entries, commit: self.commit };
        self.send(&to, message);
    }

    pub(crate) fn on_append_reply(&mut self, sender: &Sender, matched: Index) -> Result<(), StepError> {
        let now_ms = self.clock.now_ms;
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        let peer = leader.peer(sender)?;
        if matched > last {
            return Err(StepError::Malformed("acknowledges more than there is"));
        }
        peer.hearing.contact_ms = now_ms;
        if peer.acknowledge(matched, now_ms) {
            // A snapshot has arrived though nobody said so.
            if peer.state == PeerState::Snapshot && matched >= self.log.purged_to().index {
                peer.probe_from(matched.next());
            }
            self.advance_commit();
            self.after_acknowledgement(sender);
        }
        Ok(())
    }

    /// The logs differ before `prev`: go back, by whole terms (end of section 5.3). Rejections of anything but the
    /// message that is waited for are late, and say nothing any more (pitfalls 35 and 40).
    pub(crate) fn on_append_reject(&mut self, sender: &Sender, prev: LogId, hint: LogId) -> Result<(), StepError> {
        let now_ms = self.clock.now_ms;
        let denial_ms = self.config.timing.election_timeout_ms;
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        let peer = leader.peer(sender)?;
        peer.hearing.contact_ms = now_ms;
        let late = match peer.state {
            PeerState::Snapshot => true,
            PeerState::Probe { sent } => sent.is_none() || prev.index.next() != peer.next,
            PeerState::Replicate => prev.index >= peer.next,
        };
        if late || prev.index < peer.matched || hint.index >= prev.index.next() {
            return Ok(());
        }
        if prev.index == peer.matched && prev.index.0 > 0 {
            // It once acknowledged this very entry. Reordered messages look like that for a moment, so it is asked
            // again (when the next heartbeat is answered); a node whose data was rolled back keeps denying it, and
            // no retry can mend that: it must come back as a new member.
            let counts = peer.hearing.denials == 0 || now_ms - peer.hearing.denied_ms >= denial_ms;
            if counts {
                peer.hearing.denials += 1;
                peer.hearing.denied_ms = now_ms;
            }
            let denied = peer.hearing.denials;
            let acknowledged = peer.matched;
            peer.probe_from(acknowledged.next());
            peer.state = PeerState::Probe { sent: Some(acknowledged) };
            if counts && denied == DENIALS_ALARM {
                self.alarm(Alarm::PeerLostEntries { peer: sender.id.clone(), acknowledged, has: hint.index });
            }
            return Ok(());
        }
        // The last entry at or before the hint that can agree, seen from this log; always before `prev`.
        if mutant!("hint_never_moves") {
            peer.probe_from(prev.index.next());
            return Ok(());
        }
        let agree = self.log.last_not_above(hint).index.min(Index(prev.index.0.saturating_sub(1)));
        peer.probe_from(agree.next());
        Ok(())
    }

    pub(crate) fn on_heartbeat_reply(&mut self, sender: &Sender, round: u64, accepted: Index) -> Result<(), StepError> {
        let now_ms = self.clock.now_ms;
        let resend_ms = self.config.timing.heartbeat_interval_ms;
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        let highest_round = leader.reads.highest_round();
        let peer = leader.peer(sender)?;
        if accepted > last || round > highest_round {
            return Err(StepError::Malformed("answers what was never sent"));
        }
        peer.hearing.round = peer.hearing.round.max(round);
        peer.accept(accepted, now_ms);
        if accepted >= peer.matched {
            peer.hearing.denials = 0;
        }
        let waited_ms = now_ms - peer.hearing.moved_ms;
        match peer.state {
            _ if mutant!("lost_appends_not_sent_again") => {}
            PeerState::Probe { sent: Some(_) } if waited_ms >= resend_ms => peer.probe_from(peer.next),
            // It lives, entries are on their way, and it says it has not taken them all though nothing has moved for
            // a while: messages were lost, or it was restarted and must see again where the logs agree. (If it has
            // taken all and only its disk is slow, there is nothing to send again.)
            PeerState::Replicate if accepted.next() < peer.next && waited_ms >= 2 * resend_ms => {
                peer.hearing.moved_ms = now_ms;
                peer.probe_from(accepted.next());
            }
            _ => {}
        }
        self.finish_reads();
        Ok(())
    }

    /// The commit rule (figure 2; section 5.4.2): a majority of the voters holds the entry durably, and it is of the
    /// current term; what lies before it is committed along with it. The leader itself counts with what is on its
    /// disk, and only if it votes (thesis, 4.2.2).
    pub(crate) fn advance_commit(&mut self) {
        let own = if mutant!("own_entry_before_sync") { self.log.last().index } else { self.ledger.durable() };
        let counts_itself = self.is_voter() || mutant!("removed_leader_counts_itself");
        let Some(membership) = self.memberships.current() else { return };
        let quorum = membership.quorum();
        let Role::Leader(leader) = &mut self.role else { return };
        let mut matched = [Index(0); crate::config::MEMBERS_MAX];
        let mut count = 0;
        let peers = leader.peers.iter().filter(|peer| peer.is_voter() || mutant!("learner_counted"));
        let peers = peers.map(|peer| peer.matched);
        for index in peers.chain(counts_itself.then_some(own)) {
            matched[count] = index;
            count += 1;
        }
        let Some(reached) = quorum::reached_by(&mut matched[..count], quorum) else { return };
        let of_own_term = self.log.term_at(reached) == Some(self.hard.term) || mutant!("commit_of_older_terms");
        if reached > self.commit && of_own_term {
            leader.commit_rose_ms = self.clock.now_ms;
            self.raise_commit(reached);
            self.after_commit();
        }
    }

    /// When a quorum (this node included, if it votes) was last heard, is it recent enough?
    pub(crate) fn quorum_is_near(&self) -> bool {
        let Some(membership) = self.memberships.current() else { return false };
        let Role::Leader(leader) = &self.role else { return false };
        let own = self.is_voter().then_some(self.clock.now_ms);
        let peers = leader.peers.iter().filter(|peer| peer.is_voter()).map(|peer| peer.hearing.contact_ms);
        let mut contacts: Vec<u64> = peers.chain(own).collect();
        let heard_ms = quorum::reached_by(&mut contacts, membership.quorum());
        heard_ms.is_some_and(|heard_ms| self.clock.now_ms - heard_ms <= self.config.timing.leader_lease_ms)
    }

    pub(crate) fn tick_leader(&mut self) {
        self.give_up_if_useless();
        self.tick_transfer();
        self.forget_leavers();
        let now_ms = self.clock.now_ms;
        let timing = self.config.timing.clone();
        let commit = self.commit;
        let Role::Leader(leader) = &mut self.role else { return };
        let all = now_ms >= leader.heartbeat_due_ms;
        if all {
            leader.heartbeat_due_ms = now_ms + timing.heartbeat_interval_ms;
            // Where nothing is written no acknowledgement and no commit would come to remind of a learner that was slow
            // to connect and has caught up since.
            self.pin_lives();
            self.promote_waiting();
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let notify = now_ms.saturating_sub(leader.commit_rose_ms) >= timing.commit_notify_ms;
        let targets: Vec<usize> = (0..leader.peers.len())
            .filter(|at| all || (notify && leader.peers[*at].commit_told < commit.min(leader.peers[*at].matched)))
            .collect();
        for at in targets {
            self.heartbeat(at);
        }
    }

    /// Sends a heartbeat to one peer. It carries the newest read round.
    pub(crate) fn heartbeat(&mut self, at: usize) {
        let Role::Leader(leader) = &mut self.role else { return };
        let round = leader.reads.highest_round();
        let peer = &mut leader.peers[at];
        // A commit index beyond what the peer has acknowledged could cover entries that differ there.
        let commit = if mutant!("commit_of_unverified_entries") { self.commit } else { self.commit.min(peer.matched) };
        let known = self.log.term_at(peer.matched);
        let matched = known.map_or(LogId::default(), |term| LogId { term, index: peer.matched });
        peer.commit_told = peer.commit_told.max(commit);
        let to = peer.sender();
        self.send(&to, Message::Heartbeat { term: self.hard.term, round, matched, commit });
    }

    pub(crate) fn leader_deadline_ms(&self, leader: &Leading) -> u64 {
        if leader.peers.is_empty() {
            // Alone there is nobody to remind: an idle node sleeps.
            return u64::MAX;
        }
        let mut due_ms = leader.heartbeat_due_ms;
        if leader.peers.iter().any(|peer| peer.commit_told < self.commit.min(peer.matched)) {
            due_ms = due_ms.min(leader.commit_rose_ms + self.config.timing.commit_notify_ms);
        }
        if let Some(transfer) = &leader.transfer {
            due_ms = due_ms.min(transfer.until_ms);
        }
        due_ms
    }

    pub(crate) fn peer_statuses(&self) -> Vec<PeerStatus> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let status = |peer: &Peer| PeerStatus {
            id: peer.id.clone(),
            matched: peer.matched,
            next: peer.next,
            state: match peer.state {
                PeerState::Probe { .. } => "probe",
                PeerState::Replicate => "replicate",
                PeerState::Snapshot => "snapshot",
            },
            contact_ms: peer.hearing.contact_ms,
            in_flight_bytes: peer.window.bytes(),
        };
        leader.peers.iter().map(status).collect()
    }
}

impl Peer {
    pub(crate) fn sender(&self) -> Sender {
        Sender { id: self.id.clone(), incarnation: self.incarnation }
    }
}

enum Next {
    Append { prev: LogId, entries: Vec<Entry> },
    Read(LogRead),
}

fn prev_of(next: Index, log: &Tail) -> Option<LogId> {
    let index = Index(next.0 - 1);
    log.term_at(index).map(|term| LogId { term, index })
}

/// The next message for one peer, if it has room for one; its progress is moved on accordingly.
fn next_append(peer: &mut Peer, log: &Tail, limits: &Limits, now_ms: u64, commit: Index) -> Option<Next> {
    let last = log.last().index;
    let probing = match peer.state {
        PeerState::Probe { sent: None } => true,
        PeerState::Replicate => false,
        PeerState::Probe { sent: Some(_) } | PeerState::Snapshot => return None,
    };
    if peer.reading || (!probing && (peer.next > last || peer.window.bytes() >= limits.in_flight_bytes_max)) {
        return None;
    }
    let Some(prev) = prev_of(peer.next, log) else {
        // The log does not reach back to the entry before: only a copy of the state machine helps.
        peer.state = PeerState::Snapshot;
        return None;
    };
    if peer.next > last {
        peer.sent(prev.index, 0, now_ms);
        return Some(Next::Append { prev, entries: Vec::new() });
    }
    if peer.next < log.first_in_memory() {
        peer.reading = true;
        let range = LogRange { first: peer.next, last: Index(log.first_in_memory().0 - 1) };
        return Some(Next::Read(LogRead { peer: peer.id.clone(), range, bytes_max: limits.batch_bytes_max }));
    }
    let through = log.last_within(peer.next, limits.batch_bytes_max);
    let entries: Vec<Entry> = log.range(peer.next, through).cloned().collect();
    let bytes = log.bytes_between(prev.index, through);
    peer.sent(through, bytes, now_ms);
    peer.commit_told = peer.commit_told.max(commit.min(through));
    Some(Next::Append { prev, entries })
}
