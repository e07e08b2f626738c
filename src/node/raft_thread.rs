//! The raft thread: owns the [`Replica`] and feeds it everything that happens; carries out what the replica asks for.
//!
//! It never touches a disk or a socket and never blocks on a send: what a full inbox does not take waits in an outbox
//! here. It is the only consumer of its inbox, so every other thread may block on it and none can lock it up.

use super::applier_thread::{ApplierInput, Committed};
use super::clock::EntryClock;
use super::handle::{AdminError, ApplyDone, ChangeDone, NodeError, ReadDone, Shared, SnapshotDone, TransferDone};
use super::inbox::{Inbox, Quiet};
use super::outbox::Outbox;
use super::pending::Pending;
use super::raft_admin::Transferring;
use super::raft_peers::{ArrivedCopy, PeerNotes};
use super::raft_proposals::Proposals;
use super::replay::Replay;
use super::wal_thread::WalInput;
use raft::{
    Change, Effects, Entry, Envelope, Index, LogId, NodeId, ReadToken, Replica, RoleChange, RoleKind, SnapshotMeta,
    Suffrage,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// Inputs that wait here at most. Callers block when it is full (`-raft-apply-timeout`); the WAL thread and the applier
/// block too, and rightly: this thread only ever waits for its inbox.
pub const RAFT_INBOX_MAX: usize = 4096;

/// Inputs that one round takes before it carries out the effects: the bound on one append.
const ROUND_INPUTS_MAX: usize = 1024;

/// How long a leader that lost its office waits to learn what became of the entries it had proposed.
const OUTCOME_WAIT: Duration = Duration::from_secs(3);

/// The longest sleep when the replica has no deadline of its own soon.
const SLEEP_MAX: Duration = Duration::from_secs(1);

pub enum RaftInput {
    Propose {
        payload: Vec<u8>,
        done: ApplyDone,
    },
    ReadIndex {
        done: ReadDone,
        /// The copy to be read is this node's own: `done` waits until it has applied the index.
        here: bool,
    },
    ChangeMembership {
        change: Change,
        done: ChangeDone,
    },
    Transfer {
        target: Option<NodeId>,
        done: TransferDone,
    },
    /// From a peer.
    Message(Envelope),
    /// From the network: a peer's connection has ended.
    LostContact(NodeId),
    Snapshot {
        trailing: Option<u64>,
        done: SnapshotDone,
    },
    /// From the WAL thread: append `seq`, whose last entry is `last`, and all before it are on disk.
    Durable {
        seq: u64,
        last: LogId,
        log_bytes: u64,
    },
    /// From the WAL thread: entries that were asked for.
    Entries(Vec<Entry>),
    /// From the WAL thread: entries for a peer that is behind.
    PeerEntries {
        peer: NodeId,
        entries: Vec<Entry>,
    },
    /// From the WAL thread: the log now starts after this entry.
    Purged {
        purged_to: LogId,
        log_bytes: u64,
    },
    /// From the applier: the database alone holds everything up to here, even after a power cut.
    DatabaseDurable {
        durable: LogId,
        trailing: Option<u64>,
    },
    /// From the applier: something was applied, and this thread waits for room.
    Applied,
    /// From a peer: it needs a copy of the database, whatever the log could give it.
    CopyWanted(NodeId),
    /// From a copy's thread: what it contains.
    CopyBegun {
        peer: NodeId,
        last: LogId,
    },
    /// From a copy's thread, the last word: the peer has taken it over, or why not.
    CopyEnded {
        peer: NodeId,
        sent: Result<LogId, String>,
    },
    /// From a peer: a copy of its database.
    CopyArrived(Box<ArrivedCopy>),
    /// From the applier: the database is that copy now.
    CopyInstalled(SnapshotMeta),
    /// From the applier: the database differs from the others'.
    Distrust,
    Stop,
}

impl RaftInput {
    /// Answers an input that was not taken.
    pub fn refuse(self, error: NodeError) {
        match self {
            RaftInput::Propose { done, .. } => done(Err(error)),
            RaftInput::ReadIndex { done, .. } => done(Err(error)),
            RaftInput::ChangeMembership { done, .. } => done(Err(AdminError::Failed(error.to_string()))),
            RaftInput::Transfer { done, .. } => done(Err(AdminError::Failed(error.to_string()))),
            RaftInput::Snapshot { done, .. } => done(Err(error)),
            RaftInput::CopyArrived(copy) => (copy.done)(Err(error.to_string())),
            _ => {}
        }
    }
}

/// What the log on disk spans, for `/status` and compaction.
pub struct LogBounds {
    pub purged_to: LogId,
    pub bytes: u64,
    /// What the database was durable up to when it last said so.
    pub database_durable: LogId,
    /// Entries kept behind the durable database for slow followers.
    pub trailing_entries: u64,
    /// The last entry that was in the log at start: reads wait until it is applied.
    pub last_at_start: Index,
}

/// A read that waits for its index.
struct WaitingRead {
    token: ReadToken,
    done: ReadDone,
    /// It is this node's copy that will be read.
    here: bool,
}

/// See the module.
pub struct RaftThread {
    pub(super) replica: Replica,
    inbox: Inbox<RaftInput>,
    pub(super) outbox: Outbox,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: EntryClock,
    pub(super) log: LogBounds,
    started: Instant,
    /// Who waits.
    pub(super) pending: Pending,
    pub(super) transferring: Option<Transferring>,
    pub(super) notes: PeerNotes,
    pub(super) proposals: Proposals,
    reads: VecDeque<WaitingRead>,
    /// Reads that may run once this index is applied, while it is not even handed over; indexes never fall.
    readable: VecDeque<(Index, ReadDone)>,
    read_token_last: u64,
    /// The order of what goes to the applier, of which some is read back from the log.
    replay: Replay,
    caught_up: bool,
    /// Sequence numbers of the last append that was asked for, and of the last that was reported durable.
    append_last: u64,
    durable_last: u64,
}

impl RaftThread {
    pub fn new(
        replica: Replica,
        inbox: Inbox<RaftInput>,
        outbox: Outbox,
        shared: Arc<Shared>,
        clock: EntryClock,
        log: LogBounds,
        notes: PeerNotes,
    ) -> Self {
        RaftThread {
            replica,
            inbox,
            outbox,
            clock,
            log,
            started: shared.started.0,
            shared,
            pending: Pending::default(),
            transferring: None,
            notes,
            proposals: Proposals::default(),
            reads: VecDeque::new(),
            readable: VecDeque::new(),
            read_token_last: 0,
            replay: Replay::default(),
            caught_up: false,
            append_last: 0,
            durable_last: 0,
        }
    }

    pub fn run(mut self) {
        self.replica.tick(0);
        if self.shared.quarantine.is_on() {
            self.shared.pins.cancel();
            self.replica.distrust_state_machine();
        }
        self.meet_peers();
        self.carry_out();
        loop {
            let wake = Instant::now() + self.sleep();
            let first = match self.inbox.recv_deadline(wake) {
                Ok(input) => Some(input),
                Err(Quiet::Timeout) => None,
                Err(Quiet::Disconnected) => return self.stop(),
            };
            self.replica.tick(self.now_ms());
            let mut next = first;
            let mut taken = 0;
            while let Some(input) = next.take() {
                if matches!(input, RaftInput::Stop) {
                    return self.stop();
                }
                self.take(input);
                taken += 1;
                if taken < ROUND_INPUTS_MAX {
                    next = self.inbox.try_recv();
                }
            }
            self.tell_applied();
            self.propose_held();
            self.carry_out();
            self.ask_for_applied();
            self.pending.expire(Instant::now());
            self.look_at_contacts();
            // Nothing is gained by waking this thread for proposals that would wait here all the same.
            let gathers = self.append_last > self.durable_last || self.gathers_until().is_some();
            self.inbox.set_busy(&self.shared.gathers, gathers);
        }
    }

    /// A copy that was just taken over is beyond what was handed over, until the replica hears of it.
    fn tell_applied(&mut self) {
        let applied = self.shared.applied.get().min(self.replica.handed_over());
        self.replica.applied(applied);
    }

    /// Something waits until more is applied: the applier then tells, and otherwise spares this thread the wake-up.
    fn ask_for_applied(&mut self) {
        let blocked = !self.proposals.is_empty() && self.gathers_until().is_none();
        let waits =
            blocked || !self.outbox.is_empty() || self.replay.waits_for_applied() || self.replica.waits_for_applied();
        self.shared.wants_applied.store(waits, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // What was applied before the flag was seen is looked at here, or nobody would.
        if waits && self.shared.applied.get() > self.replica.applied_index() {
            self.tell_applied();
            self.propose_held();
            self.carry_out();
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn sleep(&mut self) -> Duration {
        let now_ms = self.now_ms();
        let sleep = Duration::from_millis(self.replica.next_deadline_ms().saturating_sub(now_ms).max(1)).min(SLEEP_MAX);
        self.gathers_until().map_or(sleep, |until| sleep.min(until.saturating_duration_since(Instant::now())))
    }

    fn take(&mut self, input: RaftInput) {
        match input {
            RaftInput::Propose { payload, done } => self.hold(payload, done),
            RaftInput::ReadIndex { done, here } => self.read_index(done, here),
            RaftInput::ChangeMembership { change, done } => self.change_membership(change, done),
            RaftInput::Transfer { target, done } => self.transfer(target, done),
            RaftInput::Message(envelope) => self.message(envelope),
            RaftInput::LostContact(peer) => self.replica.lost_contact(&peer),
            RaftInput::Snapshot { trailing, done } => self.send_applier(ApplierInput::Snapshot { trailing, done }),
            RaftInput::Durable { seq, last, log_bytes } => {
                self.log.bytes = log_bytes;
                self.durable_last = seq;
                self.replica.durable(seq, last);
            }
            RaftInput::Entries(entries) => self.replay.took(entries, &mut self.outbox),
            RaftInput::PeerEntries { peer, entries } => self.peer_entries(&peer, entries),
            RaftInput::Purged { purged_to, log_bytes } => {
                self.log.bytes = log_bytes;
                self.log.purged_to = purged_to;
                self.replica.purged(purged_to);
            }
            RaftInput::DatabaseDurable { durable, trailing } => self.database_durable(durable, trailing),
            RaftInput::Applied => {}
            RaftInput::CopyWanted(peer) => self.want_copy(peer),
            RaftInput::CopyBegun { peer, last } => self.copy_begun(peer, last),
            RaftInput::CopyEnded { peer, sent } => self.copy_ended(peer, sent),
            RaftInput::CopyArrived(copy) => self.copy_arrived(*copy),
            RaftInput::CopyInstalled(meta) => self.copy_installed(meta),
            RaftInput::Distrust => self.replica.distrust_state_machine(),
            RaftInput::Stop => unreachable!("handled by the loop"),
        }
    }

    // ---- reads

    fn read_index(&mut self, done: ReadDone, here: bool) {
        self.read_token_last += 1;
        let token = ReadToken(self.read_token_last);
        match self.replica.read_index(token) {
            Ok(()) => self.reads.push_back(WaitingRead { token, done, here }),
            Err(raft::ReadError::NotLeader { .. }) => done(Err(NodeError::NotLeader)),
            Err(raft::ReadError::Busy) => done(Err(NodeError::EnqueueTimeout)),
        }
    }

    /// Takes the waiting read of this token. Tokens come back nearly in order.
    fn take_read(&mut self, token: ReadToken) -> WaitingRead {
        let at =
            self.reads.iter().position(|read| read.token == token).expect("the replica answers only what was asked");
        self.reads.remove(at).expect("just found")
    }

    // ---- what the replica asks for

    fn carry_out(&mut self) {
        let mut effects = self.replica.take_effects();
        if let Some(append) = effects.append.take() {
            self.append_last = append.seq;
            self.outbox.send_wal(WalInput::Append(append));
        }
        if let Some(range) = effects.committed_in_log {
            self.pending.pass(range.last);
            self.replay.read_back(range);
        }
        self.hand_over(std::mem::take(&mut effects.committed));
        self.let_read(&mut effects);
        self.serve_peers(&mut effects);
        if let Some(change) = effects.role.take() {
            self.role_changed(&change);
        }
        if let Some(target) = effects.transfer_failed.take() {
            self.transfer_failed(&target);
        }
        self.check_caught_up();
        self.check_retired();
        self.replay.go_on(self.replica.applied_index(), &mut self.outbox);
        self.outbox.flush();
        self.publish();
    }

    fn hand_over(&mut self, committed: Vec<Entry>) {
        if committed.is_empty() {
            return;
        }
        let pending = &mut self.pending;
        let with_waiters = committed.into_iter().map(|entry| {
            let done = pending.take(entry.id);
            Committed { entry, done }
        });
        let input = ApplierInput::Committed(with_waiters.collect());
        self.send_applier(input);
    }

    /// A read runs when its index is applied; where that is still to come, behind everything that the applier was given up to it.
    fn let_read(&mut self, effects: &mut Effects) {
        for (token, index) in &effects.readable {
            let read = self.take_read(*token);
            match read.here {
                true => self.readable.push_back((*index, read.done)),
                false => (read.done)(Ok(*index)),
            }
        }
        let applied = self.shared.applied.get();
        while self.readable.front().is_some_and(|(index, _)| *index <= applied) {
            let (_, done) = self.readable.pop_front().expect("just seen");
            done(Ok(applied));
        }
        let handed = self.replica.handed_over();
        let ready = self.readable.iter().take_while(|(index, _)| *index <= handed).count();
        if ready > 0 {
            let reads = self.readable.drain(..ready).map(|(_, done)| done).collect();
            self.send_applier(ApplierInput::Readable(reads));
        }
        for token in &effects.failed_reads {
            (self.take_read(*token).done)(Err(NodeError::NotLeader));
        }
    }

    fn role_changed(&mut self, change: &RoleChange) {
        let leads = change.role == RoleKind::Leader;
        if leads {
            let id = self.replica.id();
            log::info!(target: "store", "this node (ID={id}, addr={}) is now Leader", self.address_of(id));
        } else if self.shared.is_leader.load(Ordering::Acquire) {
            // The next leader may yet commit them; for a while that is worth waiting for.
            self.pending.give_until(Instant::now() + OUTCOME_WAIT);
        }
        self.settle_transfer(change);
        let leader = change.leader.as_ref().map(|id| (id.0.to_string(), self.address_of(id)));
        *self.shared.leader.lock() = leader.filter(|(_, address)| !address.is_empty());
        self.shared.is_leader.store(leads, Ordering::Release);
    }

    pub(super) fn address_of(&self, id: &raft::NodeId) -> String {
        let membership = self.replica.membership();
        let member = membership.and_then(|(_, m)| m.get(id));
        member.map_or_else(String::new, |m| m.address.to_string())
    }

    // ---- the way to the applier

    pub(super) fn send_applier(&mut self, input: ApplierInput) {
        self.replay.send(input, &mut self.outbox);
    }

    /// The log known at start is with the applier: what it answers from then on is no longer the past.
    fn check_caught_up(&mut self) {
        if self.caught_up {
            return;
        }
        // Another leader may have cut off what was never committed.
        let goal = self.log.last_at_start.min(self.replica.last().index);
        let settled = match self.replica.is_leader() {
            true => self.replica.commit() > self.log.last_at_start,
            false => self.replica.leader().is_some() && self.replica.commit() >= goal && self.takes_part(),
        };
        if settled && self.replica.handed_over() >= goal {
            self.caught_up = true;
            self.send_applier(ApplierInput::CaughtUp);
        }
    }

    /// A member that is not just being brought up to date.
    fn takes_part(&self) -> bool {
        let membership = self.replica.membership();
        membership.and_then(|(_, m)| m.get(self.replica.id())).is_some_and(|m| m.suffrage != Suffrage::Learner)
    }

    // ---- compaction

    fn database_durable(&mut self, durable: LogId, trailing: Option<u64>) {
        self.log.database_durable = durable;
        // The replica must know that it is applied before the log thread can have dropped it.
        self.tell_applied();
        // Nobody else needs the tail while this node is alone: who joins later gets the database.
        let alone = self.replica.membership().is_none_or(|(_, m)| m.members().len() <= 1);
        let keep = trailing.unwrap_or(if alone { 0 } else { self.log.trailing_entries });
        let needless = self.log_needed_from().unwrap_or(durable.index).min(durable.index);
        let kept_from = Index(durable.index.0.saturating_sub(keep)).min(needless);
        if needless > self.log.purged_to.index {
            self.outbox.send_wal(WalInput::Purge { kept_from, needless });
        }
    }

    // ---- what others may see

    fn publish(&self) {
        let replica = &self.replica;
        let mut status = self.shared.raft.lock();
        status.state = if self.notes.is_retired { "Shutdown" } else { role_name(replica.role()) };
        status.term = replica.term().0;
        let last = replica.last();
        status.last_log_index = last.index.0;
        status.last_log_term = last.term.0;
        status.commit_index = replica.commit().0;
        status.last_snapshot_index = self.log.database_durable.index.0;
        status.last_snapshot_term = self.log.database_durable.term.0;
        status.log_bytes = self.log.bytes;
        if let Some((index, membership)) = replica.membership() {
            let own = membership.get(replica.id());
            let voters = membership.voters().count() as u64;
            status.voter = own.is_some_and(|m| m.suffrage == Suffrage::Voter);
            status.configuration_index = index.0;
            status.num_peers = if status.voter { voters - 1 } else { 0 };
        }
    }

    fn stop(mut self) {
        // Others may have these entries, and will apply them.
        self.pending.fail_all(&NodeError::LeadershipLost);
        self.proposals.refuse_all(&NodeError::Stopped);
        if let Some(waiting) = self.transferring.take() {
            (waiting.done)(Err(AdminError::Unknown));
        }
        let waiting = self.reads.drain(..).map(|read| read.done);
        for done in waiting.chain(self.readable.drain(..).map(|(_, done)| done)) {
            done(Err(NodeError::Stopped));
        }
        // The inbox goes first: the other threads must not wait for room in it while this one waits for room in theirs.
        while let Some(input) = self.inbox.try_recv() {
            input.refuse(NodeError::Stopped);
        }
        drop(self.inbox);
        self.replay.refuse(&NodeError::Stopped);
        self.outbox.close();
    }
}

/// The words that users know (spec: `store.raft.state`).
fn role_name(role: RoleKind) -> &'static str {
    match role {
        RoleKind::Leader => "Leader",
        RoleKind::Follower => "Follower",
        RoleKind::PreCandidate | RoleKind::Candidate => "Candidate",
    }
}
