//! One node: what stays when its process ends, the process with the production replica, and the turns of its raft
//! thread. The same duties as the server's raft thread, no more.

use super::apply::{Applier, Job as ApplyJob};
use super::check::shadow::{Log, Shadow};
use super::check::{changes, memory, promises};
use super::log::LogThread;
use super::machine::{Machine, State};
use super::network::Packet;
use super::plan::Plan;
use super::random::Chance;
use super::world::{Event, World};
use crate::disk::SimDisk;
use crate::{
    Change, Config, Effects, EntryKind, Envelope, Incarnation, Index, LogId, Member, NodeId, ReadToken, Replica,
    RoleKind, SnapshotMeta, Suffrage, Timing,
};
use std::collections::BTreeMap;
use std::rc::Rc;

/// How long a snapshot may take before its sender gives up.
const SNAPSHOT_TIMEOUT_US: u64 = 4_000_000;

/// What reaches the raft thread.
#[derive(Debug)]
pub(super) enum Input {
    Message(Envelope),
    Durable { seq: u64, last: LogId },
    LogRead { peer: NodeId, entries: Vec<crate::Entry> },
    Purged(LogId),
    Applied(Index),
    Installed(SnapshotMeta),
    Snapshot { from: usize, image: Rc<State> },
    SnapshotDone { peer: usize, taken: Option<LogId> },
    SnapshotTimeout { peer: NodeId },
    Write { client: usize, op: u64, payload: Vec<u8> },
    Read { client: usize, op: u64, key: usize },
    IndexRequest { from: usize, token: u64 },
    IndexReply { token: u64, index: Option<Index> },
    Change(Change),
    Transfer(Option<NodeId>),
    Campaign,
    LostContact(NodeId),
}

/// Whether the data of a node can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Sound,
    /// Something in its log may have rotted; it does not come back before its data is wiped, if that is noticed.
    Rotten,
}

/// Who waits for the index of a read.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Client { client: usize, op: u64, key: usize },
    Node { at: usize, token: u64 },
}

/// How a node sees time.
#[derive(Debug)]
pub(super) struct NodeClock {
    pub(super) permille: u64,
    /// Local time in microseconds at the global time `since_us`.
    base_us: u64,
    since_us: u64,
}

impl NodeClock {
    pub(super) fn local_us(&self, now_us: u64) -> u64 {
        self.base_us + (now_us - self.since_us) * self.permille / 1000
    }

    /// From now on the clock runs at another rate, and first jumps ahead.
    pub(super) fn change(&mut self, now_us: u64, permille: u64, jump_us: u64) {
        self.base_us = self.local_us(now_us) + jump_us;
        self.since_us = now_us;
        self.permille = permille;
    }

    /// The global time at which this clock shows `local_ms`.
    fn global_us(&self, local_ms: u64) -> u64 {
        let ahead_us = local_ms.saturating_mul(1000).saturating_sub(self.base_us);
        self.since_us.saturating_add(ahead_us.saturating_mul(1000).div_ceil(self.permille))
    }
}

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) disk: SimDisk,
    /// A log was opened here once: an empty directory would be a loss.
    pub(super) has_log: bool,
    pub(super) machine: Machine,
    pub(super) clock: NodeClock,
    pub(super) paused_until_us: u64,
    pub(super) hangs_until_us: u64,
    pub(super) slow: Slow,
    pub(super) process: Option<Process>,
    pub(super) life: u64,
    pub(super) condition: Condition,
    /// What the operator wants it to be.
    pub(super) wanted: Option<Suffrage>,
    /// At the next start the power goes at this operation of the recovery.
    pub(super) cut_at_start: Option<u64>,
    pub(super) shadow: Shadow,
    /// What earlier lives held when their data was lost: acknowledgements on their way still stand for it.
    pub(super) graves: Vec<(Incarnation, Log)>,
}

/// How slow a disk is, and until when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slow {
    pub(super) sync_us: u64,
    pub(super) until_us: u64,
}

/// What ends with the process.
pub(super) struct Process {
    pub(super) replica: Replica,
    inbox: Vec<Input>,
    /// Earliest turn that is scheduled.
    turn_us: Option<u64>,
    pub(super) log: LogThread,
    pub(super) applier: Applier,
    /// Proposals by clients of this node, by index: term, client, operation.
    pub(super) writes: BTreeMap<Index, (crate::Term, usize, u64)>,
    askers: BTreeMap<u64, Asker>,
    /// Reads of clients that wait for the applied index.
    pub(super) reads: Vec<(Index, usize, u64, usize)>,
    led_term: Option<crate::Term>,
    /// Commits up to here were checked.
    checked: Index,
}

impl Process {
    pub(super) fn new(replica: Replica, log: LogThread) -> Process {
        Process {
            checked: replica.commit(),
            replica,
            inbox: Vec::new(),
            turn_us: None,
            log,
            applier: Applier::default(),
            writes: BTreeMap::new(),
            askers: BTreeMap::new(),
            reads: Vec::new(),
            led_term: None,
        }
    }
}

pub(super) fn node_id(at: usize) -> NodeId {
    NodeId(format!("n{at}").into())
}

/// The first life of a node.
pub(super) fn first_incarnation(at: usize) -> Incarnation {
    Incarnation(100 + at as u64)
}

/// The life that a member means: where none is named, the one that was there when the cluster was founded.
pub(super) fn life_of(member: &Member) -> Incarnation {
    if member.incarnation != Incarnation(0) {
        return member.incarnation;
    }
    let at = member.id.0.strip_prefix('n').and_then(|at| at.parse().ok());
    first_incarnation(at.expect("nodes are called n and their number"))
}

/// The server's default times, and bounds so small that every one of them is met.
fn config(id: NodeId, incarnation: Incarnation, seed: u64, plan: &Plan) -> Config {
    let mut config = Config::new(id, incarnation, seed);
    config.timing = Timing { leader_lease_ms: plan.lease_ms, ..Timing::default() };
    config.limits.batch_bytes_max = plan.batch_bytes;
    config.limits.in_flight_bytes_max = plan.batch_bytes * 3;
    config.limits.uncommitted_bytes_max = 8000;
    config.limits.unapplied_bytes_max = 2000;
    config.limits.tail_bytes_max = 4000;
    config
}

impl Node {
    pub(super) fn new(at: usize, voters: usize, chance: &mut Chance) -> Node {
        Node {
            id: node_id(at),
            incarnation: first_incarnation(at),
            disk: SimDisk::new(),
            has_log: false,
            machine: Machine::default(),
            clock: NodeClock { permille: chance.between(990, 1010), base_us: chance.below(1 << 40), since_us: 0 },
            paused_until_us: 0,
            hangs_until_us: 0,
            slow: Slow::default(),
            process: None,
            life: 0,
            condition: Condition::Sound,
            wanted: (at < voters).then_some(Suffrage::Voter),
            cut_at_start: None,
            shadow: Shadow::default(),
            graves: Vec::new(),
        }
    }

    pub(super) fn config(&self, seed: u64, plan: &Plan) -> Config {
        config(self.id.clone(), self.incarnation, seed, plan)
    }

    /// Whether the disk of this life of the node holds the entry, or held it when the data was lost.
    pub(super) fn holds(&self, incarnation: Incarnation, id: LogId) -> bool {
        if incarnation == self.incarnation {
            return self.shadow.durable.holds(id) || self.machine.state.applied.index >= id.index;
        }
        self.graves.iter().any(|(life, log)| *life == incarnation && log.holds(id))
    }
}

impl World {
    /// Something for the raft thread of a node; it takes a turn soon.
    pub(super) fn input(&mut self, at: usize, input: Input) {
        let delay_us = self.chance.between(20, 250);
        let Some(process) = &mut self.nodes[at].process else { return };
        process.inbox.push(input);
        self.turn_by(at, self.now_us + delay_us);
    }

    fn turn_by(&mut self, at: usize, at_us: u64) {
        let life = self.nodes[at].life;
        let Some(process) = &mut self.nodes[at].process else { return };
        if process.turn_us.is_none_or(|due_us| due_us > at_us) {
            process.turn_us = Some(at_us);
            self.push_at(at_us, Event::Turn { at, life });
        }
    }

    /// A turn as the server's raft thread takes it: the time, all inputs, then what follows from them.
    pub(super) fn turn(&mut self, at: usize) {
        let local_ms = self.nodes[at].clock.local_us(self.now_us) / 1000;
        let process = self.nodes[at].process.as_mut().expect("a turn is taken by a process that lives");
        if process.turn_us.is_none_or(|due_us| due_us > self.now_us) {
            return;
        }
        process.turn_us = None;
        process.replica.tick(local_ms);
        for input in std::mem::take(&mut process.inbox) {
            self.take_input(at, input);
        }
        // What a leader has committed comes before what it appends because of that. (What a follower has may not even
        // be issued yet.)
        if self.replica(at).is_some_and(Replica::is_leader) {
            self.check_commit(at);
        }
        let process = self.nodes[at].process.as_mut().expect("inputs end no process");
        let effects = process.replica.take_effects();
        self.act(at, effects);
        self.look(at);
        let Some(process) = &self.nodes[at].process else { return };
        let due_ms = process.replica.next_deadline_ms();
        if due_ms < u64::MAX {
            let due_us = self.nodes[at].clock.global_us(due_ms.max(local_ms + 1));
            self.turn_by(at, due_us);
        }
    }

    fn replica_mut(&mut self, at: usize) -> &mut Replica {
        &mut self.nodes[at].process.as_mut().expect("the caller knows that it lives").replica
    }

    fn take_input(&mut self, at: usize, input: Input) {
        match input {
            Input::Message(envelope) => {
                let malformed = self.replica_mut(at).step(envelope);
                if let Err(crate::StepError::Malformed(what)) = malformed {
                    super::check::violated("honest messages", format!("n{at} refuses a message: {what}"));
                }
            }
            Input::Durable { seq, last } => {
                self.replica_mut(at).durable(seq, last);
                self.nodes[at].process.as_mut().expect("it lives").log.heard(seq);
            }
            Input::LogRead { peer, entries } => self.replica_mut(at).log_read(&peer, entries),
            Input::LostContact(peer) => self.replica_mut(at).lost_contact(&peer),
            Input::Purged(to) => self.replica_mut(at).purged(to),
            Input::Applied(index) => self.replica_mut(at).applied(index),
            Input::Installed(meta) => self.replica_mut(at).snapshot_installed(meta),
            Input::Snapshot { from, image } => self.offer(at, from, image),
            Input::SnapshotDone { peer, taken } => {
                let peer = super::node::node_id(peer);
                match taken {
                    Some(last) => self.replica_mut(at).snapshot_sent(&peer, last),
                    None => self.replica_mut(at).snapshot_failed(&peer),
                }
            }
            Input::SnapshotTimeout { peer } => self.replica_mut(at).snapshot_failed(&peer),
            Input::Write { client, op, payload } => self.propose(at, client, op, payload),
            Input::Read { client, op, key } => self.ask(at, Asker::Client { client, op, key }),
            Input::IndexRequest { from, token } => self.ask(at, Asker::Node { at: from, token }),
            Input::IndexReply { token, index } => self.index_known(at, token, index),
            Input::Change(change) => {
                let outcome = self.replica_mut(at).change_membership(change.clone());
                self.trace.note(self.now_us, || format!("n{at} is asked for {change:?}: {outcome:?}"));
            }
            Input::Transfer(target) => {
                let _ = self.replica_mut(at).transfer(target.as_ref());
            }
            Input::Campaign => self.replica_mut(at).campaign(),
        }
    }

    fn propose(&mut self, at: usize, client: usize, op: u64, payload: Vec<u8>) {
        let outcome = self.replica_mut(at).propose(payload.into());
        match outcome {
            Ok(_) if client == super::client::NOBODY => {}
            Ok(id) => {
                let process = self.nodes[at].process.as_mut().expect("it proposed just now");
                process.writes.insert(id.index, (id.term, client, op));
            }
            Err(_) => {
                let leader = self.leader_known_to(at);
                self.answer(client, op, super::client::Answer::Refused { leader });
            }
        }
    }

    fn leader_known_to(&self, at: usize) -> Option<usize> {
        self.replica(at).and_then(Replica::leader).map(|id| self.index_of(id))
    }

    /// Somebody wants to read: here, if this node leads, or else through the leader that it knows.
    fn ask(&mut self, at: usize, asker: Asker) {
        self.tokens += 1;
        let token = self.tokens;
        let outcome = self.replica_mut(at).read_index(ReadToken(token));
        let process = self.nodes[at].process.as_mut().expect("it was asked just now");
        if outcome.is_ok() {
            process.askers.insert(token, asker);
            return;
        }
        match (asker, self.leader_known_to(at)) {
            (Asker::Client { .. }, Some(leader)) if leader != at => {
                let process = self.nodes[at].process.as_mut().expect("it was asked just now");
                process.askers.insert(token, asker);
                self.send(at, leader, Packet::IndexRequest { token });
            }
            _ => self.refuse_read(at, asker),
        }
    }

    fn refuse_read(&mut self, at: usize, asker: Asker) {
        match asker {
            Asker::Client { client, op, .. } => {
                let leader = self.leader_known_to(at);
                self.answer(client, op, super::client::Answer::Refused { leader });
            }
            Asker::Node { at: to, token } => self.send(at, to, Packet::IndexReply { token, index: None }),
        }
    }

    /// The index of a read, or that there is none.
    fn index_known(&mut self, at: usize, token: u64, index: Option<Index>) {
        let process = self.nodes[at].process.as_mut().expect("it hears this");
        let Some(asker) = process.askers.remove(&token) else { return };
        match (asker, index) {
            (Asker::Client { client, op, key }, Some(index)) => {
                process.reads.push((index, client, op, key));
                self.answer_reads(at);
            }
            (Asker::Node { at: to, token }, Some(_)) => self.send(at, to, Packet::IndexReply { token, index }),
            (asker, None) => self.refuse_read(at, asker),
        }
    }

    fn act(&mut self, at: usize, effects: Effects) {
        // The bodies of the loops are in the order of the server's: the disk first, then the world.
        let node = &mut self.nodes[at];
        if let Some(append) = effects.append {
            let mut prev = match (append.reset_to, append.truncate_after, append.entries.first()) {
                (_, _, None) => LogId::default(),
                (Some(to), ..) => to,
                _ => self.nodes[at].process.as_ref().map_or(LogId::default(), |p| {
                    let index = Index(append.entries[0].id.index.0 - 1);
                    let term = p.replica.log.term_at(index).expect("the entry before is in the log");
                    LogId { term, index }
                }),
            };
            let node = &mut self.nodes[at];
            node.shadow.issued(&node.id, &append, &self.checks.history);
            for entry in &append.entries {
                if self.checks.log_matching.appended(&node.id, prev, entry) && entry.kind == EntryKind::Membership {
                    changes::check(entry.id, &node.shadow, &self.checks.history);
                }
                prev = entry.id;
            }
            self.log_job(at, super::log::Job::Append(append));
        } else if node.shadow.issued_last() != self.replica(at).map(Replica::last).unwrap_or_default() {
            super::check::violated("log matching", format!("n{at} changes its log without an append"));
        }
        if let Some((index, membership)) = &effects.membership {
            self.checks.membership.in_force(*index, membership);
        }
        if let Some(range) = effects.committed_in_log {
            self.apply_job(at, ApplyJob::InLog(range.first));
            self.log_job(at, super::log::Job::ReadForApplier(range));
        }
        for entry in effects.committed {
            self.apply_job(at, ApplyJob::Entry(entry));
        }
        for (token, index) in effects.readable {
            self.index_known(at, token.0, Some(index));
        }
        for token in effects.failed_reads {
            self.index_known(at, token.0, None);
        }
        for alarm in effects.alarms {
            if alarm != crate::Alarm::DiskStalled {
                super::check::violated("alarms", format!("n{at} raises {alarm:?}"));
            }
        }
        for read in effects.log_reads {
            self.log_job(at, super::log::Job::ReadForPeer(read));
        }
        for peer in effects.snapshots_needed {
            self.send_snapshot(at, peer);
        }
        for envelope in effects.messages {
            let node = &self.nodes[at];
            let now = node.process.as_ref().map_or(crate::Term(0), |process| process.replica.term());
            promises::check(&envelope, &node.shadow, node.machine.state.applied, now);
            self.checks.election.sent(&envelope);
            let to = self.index_of(&envelope.to);
            let commit =
                self.checks.history.at(self.replica(at).map_or(Index(0), Replica::commit)).map(|print| print.id);
            let commit = commit.unwrap_or_default();
            promises::check_successor(&envelope, commit, self.nodes[to].holds(envelope.to_incarnation, commit));
            let mut bytes = Vec::new();
            crate::wire::encode(&envelope, &mut bytes);
            self.send(at, to, Packet::Raft(bytes.into()));
        }
    }

    /// The commit index of a node has risen: what is committed now is the same as elsewhere and for ever, and on the
    /// disks of a majority.
    fn check_commit(&mut self, at: usize) {
        let Some(process) = &self.nodes[at].process else { return };
        let (from, to) = (process.checked, process.replica.commit());
        for index in (from.0 + 1..=to.0).map(Index) {
            let node = &self.nodes[at];
            let Some(print) = node.shadow.issued_at(index) else { continue };
            if self.checks.history.committed(&node.id, print) {
                let nodes = &self.nodes;
                let holds = |id: &NodeId, incarnation: Incarnation| {
                    nodes.iter().any(|node| node.id == *id && node.holds(incarnation, print.id))
                };
                let Some(process) = &self.nodes[at].process else { return };
                promises::check_commit(print.id, process.replica.memberships.in_play(), holds);
            }
        }
        let Some(process) = &mut self.nodes[at].process else { return };
        process.checked = to;
        // Figure 2: what makes the commit index of a leader rise is an entry of its own term.
        let replica = &process.replica;
        let led = process.led_term == Some(replica.term()) && replica.is_leader();
        promises::check_commit_rule(replica, led && to > from);
        if to > from
            && let Some((index, membership)) = process.replica.memberships.at(to)
        {
            self.checks.membership.committed(index, membership);
        }
    }

    /// Looks at a node after its turn.
    fn look(&mut self, at: usize) {
        self.check_commit(at);
        changes::check_in_force(&self.nodes[at]);
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return };
        let replica = &process.replica;
        self.checks.monotonic.after_turn(at, node.life, replica);
        memory::check(replica);
        promises::check_disk(replica, process.log.waiting_us(node.clock.local_us(self.now_us)));
        if replica.role() == RoleKind::Leader && process.led_term != Some(replica.term()) {
            process.led_term = Some(replica.term());
            let term = replica.term();
            // The operator does not wait until a new leader has settled.
            if self.chance.percent(30) {
                let after_us = self.chance.below(30_000);
                self.push(after_us, Event::Operator);
            }
            let node = &self.nodes[at];
            let Some(Process { replica, .. }) = &node.process else { return };
            let may_vote = self.checks.membership.may_vote(&node.id, node.incarnation);
            self.checks.election.leads(&node.id, node.incarnation, term, may_vote);
            self.checks.election.check_votes(replica);
            self.checks.history.check_leader(replica);
            self.trace.note(self.now_us, || format!("n{at} leads term {term}"));
        }
    }

    fn send_snapshot(&mut self, at: usize, peer: NodeId) {
        let image = self.snapshot_of(at);
        let to = self.index_of(&peer);
        let life = self.nodes[at].life;
        let travel_us = self.chance.between(5_000, 600_000);
        self.stats.snapshots += 1;
        self.trace.note(self.now_us, || format!("n{at} sends a snapshot of {} to {peer}", image.applied));
        self.push(SNAPSHOT_TIMEOUT_US, Event::Input { at, life, input: Input::SnapshotTimeout { peer } });
        // Transfers break off at any time, and an old one may still arrive when another was begun.
        if !self.network.is_whole(at, to) || self.chance.percent(15) {
            return;
        }
        if self.chance.percent(20) {
            let late_us = travel_us + self.chance.below(SNAPSHOT_TIMEOUT_US);
            self.push(late_us, Event::Packet { from: at, to, packet: Packet::Snapshot(Rc::clone(&image)) });
        }
        self.push(travel_us, Event::Packet { from: at, to, packet: Packet::Snapshot(image) });
    }

    /// A whole snapshot lies ready on a follower.
    fn offer(&mut self, at: usize, from: usize, image: Rc<State>) {
        let Some(meta) = image.meta() else { return };
        match self.replica_mut(at).offer_snapshot(&meta) {
            Ok(()) => self.apply_job(at, ApplyJob::Install { from, image }),
            // It has what the snapshot holds already.
            Err(crate::SnapshotError::Stale) => {
                self.send(at, from, Packet::SnapshotDone { taken: Some(meta.last) });
            }
            Err(_) => self.send(at, from, Packet::SnapshotDone { taken: None }),
        }
    }
}
