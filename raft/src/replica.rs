//! One replica: role, log tail and the ordering contract, as a pure state machine.
//!
//! Inputs are method calls, outputs are the data of [`Effects`]; the thread that owns the replica moves both. There
//! is no IO, no clock, no chance and no thread in here: time is what `tick` was told, chance comes from
//! `Config::seed`, and the same inputs in the same order give the same outputs.
//!
//! A turn of the owner's loop: `tick(now)`, then any number of inputs (`step`, `propose`, `durable`, ...), then
//! `take_effects()`. Many inputs to one `take_effects` is what makes batches: all proposals of a turn travel in one
//! message to each peer, and go to disk in one append.
//!
//! The methods are spread by topic: `election`, `follower`, `replication`, `reads`, `transfer`, `change`, `catchup`.

use crate::clock::Clock;
use crate::config::{Config, ConfigError, INDEX_MAX, Incarnation, TERM_MAX};
use crate::effects::{Alarm, Append, Effects, LogRange, RoleChange, RoleKind};
use crate::handover::Handover;
use crate::ledger::Ledger;
use crate::membership::{Membership, MembershipError, MembershipHistory};
use crate::message::{Envelope, Message};
use crate::role::{Following, Role};
use crate::tail::{Tail, entry_bytes};
use crate::{Entry, EntryKind, HardState, Index, LogId, NodeId, Term};
use std::fmt;
use std::sync::Arc;

/// Messages that may wait for the disk; beyond it the oldest are dropped, as a network may do.
const HELD_MESSAGES_MAX: usize = 1024;

/// What a restart found on disk. `Recovered::default()` is a node that never ran.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    pub hard_state: HardState,
    /// The entry before the first of the log; `LogId::default()` when the log begins at index 1.
    pub purged_to: LogId,
    /// The last entry of the log (equal to `purged_to` when there is none).
    pub last: LogId,
    /// The first entry of each term in the log, in order.
    pub terms: Vec<LogId>,
    /// What the state machine has applied, as it says itself.
    pub applied: LogId,
    /// The state machine came whole from a peer and has applied nothing since. Only then may the log end before
    /// `applied`, or contradict it: it has not been reset yet.
    pub applied_is_snapshot: bool,
    /// Configurations in order of their indexes: the one in force at `applied`, and all found in the log after it.
    pub memberships: Vec<(Index, Membership)>,
    /// The newest entries of the log, as many as the caller likes (none is right): saves reading them again.
    pub entries: Vec<Entry>,
}

impl Recovered {
    /// Takes note of one entry of the log; call it for all of them, in order, with `purged_to`, `applied` and the
    /// membership at `applied` already set. Fills in `terms` and `memberships`.
    ///
    /// # Errors
    /// A membership entry that cannot be read.
    pub fn scan(&mut self, entry: &Entry) -> Result<(), MembershipError> {
        if self.terms.last().is_none_or(|run| run.term < entry.id.term) {
            self.terms.push(entry.id);
        }
        let known = self.memberships.last().map_or(Index(0), |(index, _)| *index);
        if entry.kind == EntryKind::Membership && entry.id.index > known {
            self.memberships.push((entry.id.index, Membership::decode(&entry.payload)?));
        }
        Ok(())
    }
}

/// Why a replica refuses to start: what was found on disk does not fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoverError {
    Config(ConfigError),
    Membership(MembershipError),
    /// The log contradicts itself.
    Log(&'static str),
    /// The log holds an entry of a later term than the hard state: the hard state was lost.
    TermLost {
        hard_state: Term,
        log: Term,
    },
    /// The log begins after what the state machine has applied.
    Gap {
        applied: Index,
        purged_to: Index,
    },
    /// The state machine has applied an entry that the log does not hold: the log lost its end. A vote given on
    /// such a log could undo what was acknowledged.
    LogLostEntries {
        applied: LogId,
        last: LogId,
    },
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoverError::Config(e) => write!(f, "configuration: {e}"),
            RecoverError::Membership(e) => write!(f, "membership: {e}"),
            RecoverError::Log(e) => write!(f, "log: {e}"),
            RecoverError::TermLost { hard_state, log } => {
                write!(f, "the log holds term {log} but the saved term is {hard_state}")
            }
            RecoverError::Gap { applied, purged_to } => {
                write!(f, "the log begins after index {purged_to} but the database has applied only {applied}")
            }
            RecoverError::LogLostEntries { applied, last } => {
                write!(f, "the database has applied {applied} but the log ends at {last}")
            }
        }
    }
}

impl std::error::Error for RecoverError {}

/// Why a proposal was not taken. Nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposeError {
    NotLeader {
        leader: Option<NodeId>,
    },
    /// Too much is not committed yet; try again.
    Busy,
    /// Leadership is being handed over.
    Transferring {
        to: NodeId,
    },
    TooLarge {
        bytes_max: u64,
    },
}

/// Why a message was thrown away. None of these harms the replica; a transport may log them or drop the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepError {
    /// Addressed to another node, or sent by this one to itself.
    Misdirected,
    /// Meant for an earlier life of this node, whose promises it does not know.
    OtherIncarnation,
    /// An answer from a node, or a life of one, that is not a member.
    Stranger,
    /// Contents that no correct peer sends.
    Malformed(&'static str),
}

/// Why `bootstrap` refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootstrapError {
    /// The node has a log, a term or a configuration already.
    NotPristine,
    /// This node, in this life, is not a voter of the proposed configuration.
    NotVoter,
}

/// A view for status pages and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub role: RoleKind,
    pub hard_state: HardState,
    pub leader: Option<NodeId>,
    pub last: LogId,
    pub purged_to: LogId,
    pub durable: Index,
    pub commit: Index,
    pub handed_over: Index,
    pub applied: Index,
    pub membership: Option<Arc<Membership>>,
    pub membership_index: Index,
    /// Bytes of log entries in memory.
    pub tail_bytes: u64,
    /// What a leader knows of its peers; empty otherwise.
    pub peers: Vec<PeerStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    pub id: NodeId,
    pub matched: Index,
    pub next: Index,
    /// "probe", "replicate" or "snapshot".
    pub state: &'static str,
    /// When it last answered, in the caller's clock.
    pub contact_ms: u64,
    pub in_flight_bytes: u64,
}

/// See the module. Invariant: `applied <= handed_over <= min(commit, durable)` (a snapshot is durable by itself),
/// each but `durable` only ever rising.
#[derive(Debug)]
pub struct Replica {
    pub(crate) config: Config,
    pub(crate) hard: HardState,
    pub(crate) log: Tail,
    pub(crate) memberships: MembershipHistory,
    pub(crate) role: Role,
    pub(crate) clock: Clock,
    pub(crate) commit: Index,
    pub(crate) handover: Handover,
    pub(crate) ledger: Ledger,
    pub(crate) out: Outbox,
}

/// Effects under construction, and messages that wait for the disk.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) effects: Effects,
    held: Vec<Envelope>,
    role_told: Option<RoleChange>,
}

impl Replica {
    /// Builds a follower from what was found on disk; the first `tick` starts its timers.
    ///
    /// # Errors
    /// What was found does not fit together; nothing may be served from it.
    pub fn new(config: Config, recovered: Recovered) -> Result<Replica, RecoverError> {
        config.validate().map_err(RecoverError::Config)?;
        let found = recovered;
        let mut log = Tail::new(found.purged_to, found.last, found.terms).map_err(RecoverError::Log)?;
        log.load(found.entries).map_err(RecoverError::Log)?;
        if found.hard_state.term < found.last.term || found.hard_state.term < found.applied.term {
            let log = found.last.term.max(found.applied.term);
            return Err(RecoverError::TermLost { hard_state: found.hard_state.term, log });
        }
        let memberships = MembershipHistory::new(found.memberships).map_err(RecoverError::Membership)?;
        let mut ledger = Ledger::new(log.last().index);
        let mut memberships = memberships;
        if found.applied_is_snapshot && !log.contains(found.applied) {
            // The process stopped between taking over a snapshot and resetting the log: finish it. What the log
            // holds after the snapshot may belong to a history that was given up.
            let (index, membership) =
                memberships.at(found.applied.index).ok_or(RecoverError::Log("a snapshot without a membership"))?;
            let membership = Arc::clone(membership);
            memberships.reset(index, membership);
            log.reset(found.applied);
            ledger.reset(found.applied);
        }
        if found.applied.index < log.purged_to().index {
            return Err(RecoverError::Gap { applied: found.applied.index, purged_to: log.purged_to().index });
        }
        if !log.contains(found.applied) {
            return Err(RecoverError::LogLostEntries { applied: found.applied, last: log.last() });
        }
        if memberships.current_index() > log.last().index {
            return Err(RecoverError::Log("a membership from beyond the end of the log"));
        }
        let applied = found.applied.index;
        let clock = Clock::new(&config);
        Ok(Replica {
            config,
            hard: found.hard_state,
            log,
            memberships,
            role: Role::Follower(Following::default()),
            clock,
            // Applied entries are committed; what else was committed is learnt again from the leader.
            commit: applied,
            handover: Handover::new(applied),
            ledger,
            out: Outbox::default(),
        })
    }

    /// Makes a pristine node the first of a cluster: its log begins with `membership`, in term 1. Exactly one node
    /// of a new cluster may do so; the others learn the configuration from its log.
    ///
    /// # Errors
    /// The node is not pristine, or would not be a voter.
    pub fn bootstrap(&mut self, membership: Membership) -> Result<LogId, BootstrapError> {
        // A crash in the middle of founding leaves the term without the entry; founding may then be repeated.
        let pristine = self.hard.term <= Term(1)
            && self.hard.voted_for.is_none()
            && self.log.last() == LogId::default()
            && self.memberships.current().is_none();
        if !pristine {
            return Err(BootstrapError::NotPristine);
        }
        if !membership.is_voter(&self.config.id, self.config.incarnation) {
            return Err(BootstrapError::NotVoter);
        }
        self.set_hard_state(Term(1), None);
        let id = LogId { term: Term(1), index: Index(1) };
        self.log.append(Entry { id, kind: EntryKind::Membership, payload: membership.encode() });
        self.memberships.push(id.index, Arc::new(membership));
        self.membership_changed();
        if self.clock.started {
            self.timers_start();
        }
        Ok(id)
    }

    /// Time is now `now_ms` of a monotonic clock (it never goes back; earlier values count as the latest). Call it
    /// before other inputs, and no later than `next_deadline_ms`.
    pub fn tick(&mut self, now_ms: u64) {
        self.clock.now_ms = self.clock.now_ms.max(now_ms);
        if !self.clock.started {
            self.clock.started = true;
            self.timers_start();
        }
        match self.role {
            Role::Leader(_) => self.tick_leader(),
            _ => self.tick_follower(),
        }
    }

    fn timers_start(&mut self) {
        self.clock.reset_election(&self.config.timing);
        // Nobody else could lead: there is nothing to wait for. This makes a single node serve at once.
        if self.is_sole_voter() {
            self.campaign();
        }
    }

    /// When `tick` has something to do at the latest.
    pub fn next_deadline_ms(&self) -> u64 {
        match &self.role {
            Role::Leader(leader) => self.leader_deadline_ms(leader),
            _ => self.clock.election_due_ms,
        }
    }

    /// Takes in a message from a peer.
    ///
    /// # Errors
    /// The message was thrown away, and why.
    pub fn step(&mut self, envelope: Envelope) -> Result<(), StepError> {
        self.check_envelope(&envelope)?;
        let Envelope { from, from_incarnation, message, .. } = envelope;
        let sender = Sender { id: from, incarnation: from_incarnation };
        if let Some(message) = self.meet_term(&sender, message)? {
            self.dispatch(&sender, message)?;
        }
        self.assert_invariants();
        Ok(())
    }

    fn check_envelope(&self, envelope: &Envelope) -> Result<(), StepError> {
        if envelope.to != self.config.id || envelope.from == self.config.id {
            return Err(StepError::Misdirected);
        }
        if !envelope.to_incarnation.matches(self.config.incarnation) || self.is_not_meant(envelope.to_incarnation) {
            return Err(StepError::OtherIncarnation);
        }
        if envelope.from_incarnation == Incarnation(0) {
            return Err(StepError::Malformed("a message from no life"));
        }
        if envelope.message.term() > TERM_MAX {
            return Err(StepError::Malformed("a term beyond all bounds"));
        }
        let position = match &envelope.message {
            Message::PreVote { last, .. } | Message::Vote { last, .. } => last.index,
            Message::Append { prev, commit, .. } => prev.index.max(*commit),
            Message::AppendReply { matched, .. } => *matched,
            Message::AppendReject { prev, hint, .. } => prev.index.max(hint.index),
            Message::Heartbeat { matched, commit, .. } => matched.index.max(*commit),
            Message::HeartbeatReply { accepted, matched, .. } => (*accepted).max(*matched),
            Message::PreVoteReply { .. } | Message::VoteReply { .. } | Message::TimeoutNow { .. } => Index(0),
        };
        if position.0 > INDEX_MAX {
            return Err(StepError::Malformed("an index beyond all bounds"));
        }
        Ok(())
    }

    /// A membership by hand does not know the lives of its members, but it means such as have a log: it was made from
    /// one. Who has none (its directory was emptied) has lost what its former life promised, and must not vote or
    /// acknowledge for it. Whoever adds it anew names its life.
    fn is_not_meant(&self, to: Incarnation) -> bool {
        to == Incarnation(0) && self.memberships.current().is_none() && !mutant!("emptied_node_answers")
    }

    fn dispatch(&mut self, sender: &Sender, message: Message) -> Result<(), StepError> {
        match message {
            Message::PreVote { term, last } => self.on_pre_vote(sender, term, last),
            Message::PreVoteReply { term, granted } => self.on_pre_vote_reply(sender, term, granted)?,
            Message::Vote { last, .. } => self.on_vote(sender, last),
            Message::VoteReply { granted, .. } => self.on_vote_reply(sender, granted)?,
            Message::Append { prev, entries, commit, .. } => self.on_append(sender, prev, entries, commit)?,
            Message::AppendReply { matched, .. } => self.on_append_reply(sender, matched)?,
            Message::AppendReject { prev, hint, .. } => self.on_append_reject(sender, prev, hint)?,
            Message::Heartbeat { round, matched, commit, .. } => self.on_heartbeat(sender, round, matched, commit)?,
            Message::HeartbeatReply { round, accepted, matched, .. } => {
                self.on_append_reply(sender, matched)?;
                self.on_heartbeat_reply(sender, round, accepted)?;
            }
            Message::TimeoutNow { .. } => self.on_timeout_now(sender)?,
        }
        Ok(())
    }

    /// The log reports that all appends up to and with `seq`, whose last entry is `last`, are on disk.
    ///
    /// # Panics
    /// The report names an append that was never given or another last entry: the log is not what it says.
    pub fn durable(&mut self, seq: u64, last: LogId) {
        let before = self.ledger.durable();
        self.ledger.reported(seq, last);
        assert!(self.ledger.durable() >= before, "what is durable stays durable");
        if self.ledger.hard_state_is_durable() {
            self.out.release_held();
            self.on_hard_state_durable();
        }
        // The leader's own log counts only now, like that of any follower (pitfalls 1 and 15; thesis, 10.2.1).
        self.advance_commit();
        self.assert_invariants();
    }

    /// The state machine has applied everything up to `index`.
    ///
    /// # Panics
    /// It cannot have: the entry was never handed over.
    pub fn applied(&mut self, index: Index) {
        self.handover.apply(index);
        self.release_memory();
    }

    /// Everything that the inputs since the last call ask for.
    pub fn take_effects(&mut self) -> Effects {
        match self.role {
            Role::Leader(_) => self.flush_leader(),
            _ => self.flush_follower(),
        }
        self.hand_over();
        self.issue_append();
        self.report_role();
        self.release_memory();
        self.assert_invariants();
        std::mem::take(&mut self.out.effects)
    }

    fn issue_append(&mut self) {
        let Some(issue) = self.ledger.issue(self.log.last(), self.clock.now_ms) else { return };
        let last = self.log.last();
        let entries = if issue.first > last.index {
            Vec::new()
        } else {
            self.log.range(issue.first, last.index).cloned().collect()
        };
        assert!(self.out.effects.append.is_none(), "one append for each taking of effects");
        self.out.effects.append = Some(Append {
            seq: issue.seq,
            hard_state: issue.hard_state.then(|| self.hard.clone()),
            reset_to: issue.reset_to,
            truncate_after: issue.truncate_after,
            entries,
            last,
        });
    }

    /// Hands over what is committed. Only what this node's own log holds durably: so the state machine never knows
    /// more than the log, and a restart finds no gap between the two.
    fn hand_over(&mut self) {
        let durable = if mutant!("applied_before_durable") { self.commit } else { self.ledger.durable() };
        let goal = self.commit.min(durable);
        let handed = self.handover.handed;
        if self.handover.installing.is_some() || self.handover.distrusted || goal <= handed {
            return;
        }
        let in_memory = self.log.first_in_memory();
        let mut first = handed.next();
        if first < in_memory {
            let last = goal.min(Index(in_memory.0 - 1));
            self.out.effects.committed_in_log = Some(LogRange { first, last });
            self.handover.hand_in_log(last);
            first = last.next();
        }
        if first > goal {
            return;
        }
        let room = self.config.limits.unapplied_bytes_max.saturating_sub(self.handover.unapplied_bytes());
        if room == 0 {
            // The rest follows when the state machine reports what it has applied.
            return;
        }
        let last = self.log.last_within(first, room).min(goal);
        for entry in self.log.range(first, last) {
            self.handover.hand(entry.id.index, entry_bytes(entry));
            self.out.effects.committed.push(entry.clone());
        }
    }

    /// Entries that are on disk need not be in memory; without peers nobody will ask for those already handed over.
    fn release_memory(&mut self) {
        let durable = self.ledger.durable();
        let alone = self.memberships.current().is_none_or(|m| m.members().len() <= 1);
        if alone {
            self.log.release(durable.min(self.handover.handed), 0);
        }
        // Somebody waits for the answer to what a leader has not handed over yet: it must not come back nameless from the
        // log. `propose` bounds how much that is.
        let until = if self.is_leader() { durable.min(self.handover.handed) } else { durable };
        self.log.release(until, self.config.limits.tail_bytes_max);
    }

    /// The log has dropped its entries up to and with `to`.
    ///
    /// # Panics
    /// Entries were dropped that the state machine has not applied.
    pub fn purged(&mut self, to: LogId) {
        assert!(to.index <= self.handover.applied, "only what is applied may leave the log");
        self.log.purge(to);
    }

    pub(crate) fn set_hard_state(&mut self, term: Term, voted_for: Option<NodeId>) {
        assert!(term >= self.hard.term, "the term never falls (paper, figure 2)");
        assert!(
            term > self.hard.term || self.hard.voted_for.is_none() || self.hard.voted_for == voted_for,
            "a vote is never taken back in its term (paper, section 5.2)"
        );
        let changed = HardState { term, voted_for };
        if changed != self.hard {
            let term_forgotten = mutant!("term_not_persisted") && changed.voted_for.is_none();
            let vote_forgotten = mutant!("vote_not_persisted") && changed.term == self.hard.term;
            self.hard = changed;
            if !term_forgotten && !vote_forgotten {
                self.ledger.hard_state_changed();
            }
        }
    }

    /// Queues a message. While term or vote are not on disk nothing may leave: whoever acted on it would rely on
    /// what a crash can still undo (thesis, section 3.8).
    pub(crate) fn send(&mut self, to: &Sender, message: Message) {
        let envelope = Envelope {
            from: self.config.id.clone(),
            from_incarnation: self.config.incarnation,
            to: to.id.clone(),
            to_incarnation: to.incarnation,
            message,
        };
        let durable = self.ledger.hard_state_is_durable();
        let early_vote = mutant!("vote_before_sync") && matches!(envelope.message, Message::VoteReply { .. });
        let early_call = mutant!("own_vote_before_sync") && matches!(envelope.message, Message::Vote { .. });
        self.out.push(envelope, durable || early_vote || early_call);
    }

    pub(crate) fn alarm(&mut self, alarm: Alarm) {
        self.out.effects.alarms.push(alarm);
    }

    pub(crate) fn membership_changed(&mut self) {
        if let Some(current) = self.memberships.current() {
            self.out.effects.membership = Some((self.memberships.current_index(), Arc::clone(current)));
        }
    }

    pub(crate) fn is_voter(&self) -> bool {
        self.memberships.current().is_some_and(|m| m.is_voter(&self.config.id, self.config.incarnation))
    }

    /// Whether this life of this node votes in the configuration in force, or in one to which it may still go back.
    pub(crate) fn may_be_needed(&self) -> bool {
        if mutant!("removed_leader_never_stands") {
            return self.is_voter();
        }
        if mutant!("learner_stands") {
            return self.memberships.any(|m| m.get(&self.config.id).is_some());
        }
        self.memberships.any(|m| m.is_voter(&self.config.id, self.config.incarnation))
    }

    pub(crate) fn is_sole_voter(&self) -> bool {
        self.memberships.current().is_some_and(|m| m.is_sole_voter(&self.config.id, self.config.incarnation))
    }

    /// Commit index rises to `index`.
    pub(crate) fn raise_commit(&mut self, index: Index) {
        assert!(index >= self.commit || mutant!("commit_goes_back"), "the commit index never falls (paper, figure 2)");
        assert!(index <= self.log.last().index, "only what is in the log is committed");
        self.commit = index;
        self.memberships.committed(index);
    }

    /// The leader of the current term, as far as known.
    pub fn leader(&self) -> Option<&NodeId> {
        match &self.role {
            Role::Leader(_) => Some(&self.config.id),
            Role::Follower(following) => following.leader.as_ref(),
            _ => None,
        }
    }

    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    pub fn term(&self) -> Term {
        self.hard.term
    }

    pub fn commit(&self) -> Index {
        self.commit
    }

    /// The configuration in force and the index of its entry.
    pub fn membership(&self) -> Option<(Index, &Arc<Membership>)> {
        self.memberships.current().map(|m| (self.memberships.current_index(), m))
    }

    pub fn status(&self) -> Status {
        Status {
            role: self.role.kind(),
            hard_state: self.hard.clone(),
            leader: self.leader().cloned(),
            last: self.log.last(),
            purged_to: self.log.purged_to(),
            durable: self.ledger.durable(),
            commit: self.commit,
            handed_over: self.handover.handed,
            applied: self.handover.applied,
            membership: self.memberships.current().cloned(),
            membership_index: self.memberships.current_index(),
            tail_bytes: self.log.bytes_in_memory(),
            peers: self.peer_statuses(),
        }
    }

    fn report_role(&mut self) {
        let now = RoleChange { term: self.hard.term, role: self.role.kind(), leader: self.leader().cloned() };
        if self.out.role_told.as_ref() != Some(&now) {
            self.out.role_told = Some(now.clone());
            self.out.effects.role = Some(now);
        }
    }

    /// Checked after every input, in release builds too.
    fn assert_invariants(&self) {
        let handover = &self.handover;
        assert!(handover.applied <= handover.handed, "only what was handed over is applied");
        assert!(handover.handed <= self.commit, "only committed entries are handed over (paper, section 5.3)");
        let durable = self.ledger.durable().max(handover.installed);
        let durable = if mutant!("applied_before_durable") { self.commit } else { durable };
        assert!(handover.handed <= durable, "the state machine knows no more than the log");
        assert!(self.commit <= self.log.last().index, "committed entries are in the log");
        assert!(self.ledger.durable() <= self.log.last().index, "durable entries are in the log");
        assert!(self.log.purged_to().index <= handover.applied, "only applied entries have left the log");
        assert!(self.log.last().term <= self.hard.term, "no entry is from a later term than the current one");
        if let Role::Leader(leader) = &self.role {
            assert!(self.hard.voted_for.as_ref() == Some(&self.config.id), "a leader voted for itself");
            assert!(leader.term_start <= self.log.last().index, "a leader's log holds its first entry");
        }
    }
}

impl Outbox {
    pub(crate) fn push(&mut self, envelope: Envelope, may_leave: bool) {
        if may_leave {
            self.effects.messages.push(envelope);
            return;
        }
        if self.held.len() == HELD_MESSAGES_MAX {
            self.held.remove(0);
        }
        self.held.push(envelope);
    }

    fn release_held(&mut self) {
        self.effects.messages.append(&mut self.held);
    }
}

/// The other end of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) id: NodeId,
    pub(crate) incarnation: Incarnation,
}
