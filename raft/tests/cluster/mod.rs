//! A small deterministic cluster for tests: replicas over modelled disks and a modelled network, with checkers that
//! are too dumb to share a mistake with the code. One seed gives one run.
#![allow(dead_code)]

pub mod checks;
pub mod model;

use checks::Checks;
use model::{Log, Machine};
use raft::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// SplitMix64 again, so that tests choose their own chances.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// How unkind the world is.
#[derive(Clone, Debug)]
pub struct World {
    pub loss_percent: u64,
    pub duplicate_percent: u64,
    pub delay_ms_max: u64,
    pub sync_ms_max: u64,
    pub apply_ms_max: u64,
}

impl World {
    pub fn kind() -> World {
        World { loss_percent: 0, duplicate_percent: 0, delay_ms_max: 1, sync_ms_max: 1, apply_ms_max: 1 }
    }

    pub fn rough() -> World {
        World { loss_percent: 5, duplicate_percent: 5, delay_ms_max: 15, sync_ms_max: 10, apply_ms_max: 20 }
    }
}

pub struct Node {
    pub config: Config,
    pub replica: Option<Replica>,
    /// What is on disk.
    pub disk: Log,
    /// What was handed to the disk: `disk` once all that waits is durable.
    pub mirror: Log,
    pub waiting: VecDeque<(u64, Append)>,
    pub disk_hangs: bool,
    pub machine: Machine,
    apply_due_ms: u64,
    applying: VecDeque<Entry>,
}

enum Job {
    LogRead { reader: usize, read: LogRead },
    Snapshot { sender: usize, peer: NodeId },
}

pub struct Cluster {
    pub now_ms: u64,
    pub nodes: Vec<Node>,
    pub world: World,
    pub random: Random,
    /// Directed cuts: (from, to).
    pub cut: Vec<(usize, usize)>,
    pub checks: Checks,
    pub readable: BTreeMap<ReadToken, Index>,
    pub failed_reads: Vec<ReadToken>,
    pub alarms: Vec<Alarm>,
    pub transfers_failed: u64,
    /// Every message that was sent, when somebody listens.
    pub trace: Option<Vec<String>>,
    pub messages_sent: u64,
    network: BTreeMap<(u64, u64), Envelope>,
    jobs: BTreeMap<(u64, u64), Job>,
    sequence: u64,
    proposals: u64,
    reads: u64,
    founders: Membership,
}

pub fn node_id(at: usize) -> NodeId {
    NodeId(format!("n{at}").into())
}

pub fn member(at: usize, incarnation: u64, suffrage: Suffrage) -> Member {
    let address = format!("n{at}:4002").into();
    Member { id: node_id(at), incarnation: Incarnation(incarnation), suffrage, address }
}

fn incarnation(at: usize) -> u64 {
    100 + at as u64
}

/// Short times and small bounds, so that every limit is met.
pub fn test_config(at: usize, seed: u64) -> Config {
    let mut config =
        Config::new(node_id(at), Incarnation(incarnation(at)), seed.wrapping_mul(31).wrapping_add(at as u64));
    config.timing = Timing {
        heartbeat_interval_ms: 20,
        election_timeout_ms: 100,
        leader_lease_ms: 80,
        disk_stall_ms: 150,
        commit_notify_ms: 5,
    };
    config.limits.batch_bytes_max = 600;
    config.limits.in_flight_bytes_max = 1800;
    config.limits.uncommitted_bytes_max = 6000;
    config.limits.unapplied_bytes_max = 1500;
    config.limits.tail_bytes_max = 4000;
    config
}

impl Cluster {
    /// `voters` founding members and `strangers` that may be added later. Node 0 founds the cluster.
    pub fn new(seed: u64, voters: usize, strangers: usize, world: World) -> Cluster {
        let nodes = (0..voters + strangers).map(|at| Node::new(test_config(at, seed))).collect();
        let founders = (0..voters).map(|at| member(at, incarnation(at), Suffrage::Voter)).collect();
        let founders = Membership::new(founders).unwrap();
        let mut cluster = Cluster {
            now_ms: 1000,
            nodes,
            world,
            random: Random(seed),
            cut: Vec::new(),
            checks: Checks::default(),
            readable: BTreeMap::new(),
            failed_reads: Vec::new(),
            alarms: Vec::new(),
            transfers_failed: 0,
            trace: None,
            messages_sent: 0,
            network: BTreeMap::new(),
            jobs: BTreeMap::new(),
            sequence: 0,
            proposals: 0,
            reads: 0,
            founders: founders.clone(),
        };
        cluster.replica(0).bootstrap(founders).unwrap();
        cluster
    }

    pub fn replica(&mut self, at: usize) -> &mut Replica {
        self.nodes[at].replica.as_mut().expect("the node is up")
    }

    pub fn index_of(&self, id: &NodeId) -> usize {
        id.0[1..].parse().expect("test ids are numbered")
    }

    /// The leader of the highest term.
    pub fn leader(&self) -> Option<usize> {
        let leads = |node: &Node| node.replica.as_ref().filter(|r| r.is_leader()).map(Replica::term);
        (0..self.nodes.len()).filter(|at| leads(&self.nodes[*at]).is_some()).max_by_key(|at| leads(&self.nodes[*at]))
    }

    /// One millisecond.
    pub fn step(&mut self) {
        self.now_ms += 1;
        self.deliver();
        self.run_jobs();
        for at in 0..self.nodes.len() {
            let now_ms = self.now_ms;
            let node = &mut self.nodes[at];
            if let Some(replica) = &mut node.replica {
                replica.tick(now_ms);
            }
            node.sync_due(now_ms);
            node.apply_due(now_ms);
            self.take_effects(at);
        }
        self.checks.between_steps(&self.nodes);
    }

    pub fn run(&mut self, duration_ms: u64) {
        for _ in 0..duration_ms {
            self.step();
        }
    }

    /// Runs until `done`, or fails after `limit_ms`.
    pub fn run_until(&mut self, limit_ms: u64, what: &str, mut done: impl FnMut(&mut Cluster) -> bool) {
        for _ in 0..limit_ms {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("not within {limit_ms} ms: {what}\n{}", self.describe());
    }

    pub fn await_leader(&mut self) -> usize {
        self.run_until(5000, "a leader that has committed in its term", |c| {
            c.leader().is_some_and(|at| {
                let r = c.replica(at);
                let term = r.term();
                c.checks.committed.values().any(|e| e.id.term == term)
            })
        });
        self.leader().expect("there is one")
    }

    pub fn propose(&mut self, at: usize) -> Result<LogId, ProposeError> {
        self.proposals += 1;
        let text = format!("p{}", self.proposals);
        self.replica(at).propose(text.as_bytes().into())
    }

    /// Begins a read; the checker holds it to what was committed by now.
    pub fn read(&mut self, at: usize) -> Option<ReadToken> {
        self.reads += 1;
        let token = ReadToken(self.reads);
        self.replica(at).read_index(token).ok()?;
        self.checks.read_began(token);
        Some(token)
    }

    pub fn isolate(&mut self, at: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != at) {
            self.cut.push((at, other));
            self.cut.push((other, at));
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Power cut: what waits for the disk is lost, except for a random beginning of it. The state machine may fall
    /// back to an earlier state that it had saved.
    pub fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.replica = None;
        node.applying.clear();
        let survive = self.random.below(node.waiting.len() as u64 + 1);
        for _ in 0..survive {
            let (_, append) = node.waiting.pop_front().expect("counted");
            node.disk.apply(&append);
        }
        if let Some((_, append)) = node.waiting.pop_front() {
            let kept = self.random.below(append.entries.len() as u64 + 1) as usize;
            node.disk.apply_torn(&append, kept);
        }
        node.waiting.clear();
        node.mirror = node.disk.clone();
        let back = self.random.below(4);
        node.machine.fall_back(back, &self.checks.committed);
        self.checks.crashed(at, &self.nodes[at]);
    }

    pub fn restart(&mut self, at: usize) {
        let now_seed = self.random.next();
        let node = &mut self.nodes[at];
        assert!(node.replica.is_none(), "the node is down");
        node.config.seed = now_seed;
        let with_entries = self.random.percent(50);
        node.replica = Some(node.recover(with_entries).unwrap_or_else(|e| panic!("node {at} does not start: {e}")));
        if at == 0 && self.nodes[0].disk.last() == LogId::default() && self.checks.committed.is_empty() {
            // It crashed while it founded the cluster.
            let founders = self.founders.clone();
            let _ = self.replica(0).bootstrap(founders);
        }
    }

    /// All data of the node is lost; it comes back as another life.
    pub fn wipe(&mut self, at: usize) {
        let mut config = self.nodes[at].config.clone();
        config.incarnation = Incarnation(config.incarnation.0 + 1000);
        self.nodes[at] = Node::new(config);
    }

    /// The log drops what the state machine has saved, but for a few entries.
    pub fn purge(&mut self, at: usize, keep: u64) {
        let node = &mut self.nodes[at];
        let Some(replica) = &mut node.replica else { return };
        let applied = replica.status().applied;
        let to = Index(applied.0.min(node.machine.applied.index.0).min(node.disk.last().index.0).saturating_sub(keep));
        let Some(id) = node.disk.id_at(to) else { return };
        // A reset that is still on its way must come first.
        if node.waiting.iter().any(|(_, append)| append.reset_to.is_some() || append.truncate_after.is_some()) {
            return;
        }
        node.machine.saved = node.machine.applied.index;
        node.disk.purge(id);
        node.mirror.purge(id);
        replica.purged(id);
    }

    fn sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub fn take_effects(&mut self, at: usize) {
        let now_ms = self.now_ms;
        let sync_ms = 1 + self.random.below(self.world.sync_ms_max);
        let apply_ms = 1 + self.random.below(self.world.apply_ms_max);
        let node = &mut self.nodes[at];
        let Some(replica) = &mut node.replica else { return };
        let effects = replica.take_effects();
        if let Some(append) = effects.append {
            node.mirror.apply(&append);
            assert_eq!(node.mirror.last(), append.last, "the append says where the log ends");
            let due_ms = node.waiting.back().map_or(now_ms, |(due_ms, _)| *due_ms).max(now_ms + sync_ms);
            node.waiting.push_back((due_ms, append));
        }
        if let Some(range) = effects.committed_in_log {
            let entries = node.disk.range(range.first, range.last);
            self.checks.handed_over(at, &entries, &self.nodes);
            self.nodes[at].applying.extend(entries);
        }
        self.checks.handed_over(at, &effects.committed, &self.nodes);
        let node = &mut self.nodes[at];
        node.applying.extend(effects.committed);
        if !node.applying.is_empty() && node.apply_due_ms <= now_ms {
            node.apply_due_ms = now_ms + apply_ms;
        }
        if let Some(role) = &effects.role {
            self.checks.role_changed(at, role, &self.nodes);
        }
        for (token, index) in effects.readable {
            self.checks.read_done(token, index);
            self.readable.insert(token, index);
        }
        self.failed_reads.extend(effects.failed_reads);
        self.transfers_failed += u64::from(effects.transfer_failed.is_some());
        self.alarms.extend(effects.alarms);
        for read in effects.log_reads {
            let key = (now_ms + 1 + self.random.below(5), self.sequence());
            self.jobs.insert(key, Job::LogRead { reader: at, read });
        }
        for peer in effects.snapshots_needed {
            let key = (now_ms + 10 + self.random.below(50), self.sequence());
            self.jobs.insert(key, Job::Snapshot { sender: at, peer });
        }
        for envelope in effects.messages {
            self.send(envelope);
        }
    }

    fn send(&mut self, envelope: Envelope) {
        self.messages_sent += 1;
        if let Some(trace) = &mut self.trace {
            trace.push(model::describe(&envelope));
        }
        let copies = 1 + u64::from(self.random.percent(self.world.duplicate_percent));
        for _ in 0..copies {
            if self.random.percent(self.world.loss_percent) {
                continue;
            }
            let key = (self.now_ms + 1 + self.random.below(self.world.delay_ms_max), self.sequence());
            self.network.insert(key, envelope.clone());
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.network.first_entry()
            && entry.key().0 <= self.now_ms
        {
            let envelope = entry.remove();
            let from = self.index_of(&envelope.from);
            let to = self.index_of(&envelope.to);
            if self.cut.contains(&(from, to)) {
                continue;
            }
            let Some(replica) = &mut self.nodes[to].replica else { continue };
            if let Err(StepError::Malformed(why)) = replica.step(envelope) {
                panic!("a correct peer sent something malformed: {why}");
            }
        }
    }

    fn run_jobs(&mut self) {
        while let Some(entry) = self.jobs.first_entry()
            && entry.key().0 <= self.now_ms
        {
            match entry.remove() {
                Job::LogRead { reader, read } => self.answer_log_read(reader, &read),
                Job::Snapshot { sender, peer } => self.carry_snapshot(sender, &peer),
            }
        }
    }

    fn answer_log_read(&mut self, reader: usize, read: &LogRead) {
        let node = &mut self.nodes[reader];
        let Some(replica) = &mut node.replica else { return };
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in node.disk.try_range(read.range.first, read.range.last) {
            bytes += entry.payload.len() as u64;
            entries.push(entry);
            if bytes >= read.bytes_max {
                break;
            }
        }
        replica.log_read(&read.peer, entries);
    }

    fn carry_snapshot(&mut self, sender: usize, peer: &NodeId) {
        let to = self.index_of(peer);
        let Some(meta) = self.nodes[sender].machine.snapshot(&self.checks.committed) else { return };
        let fails = self.cut.contains(&(sender, to)) || self.nodes[to].replica.is_none() || self.random.percent(20);
        let Some(source) = &mut self.nodes[sender].replica else { return };
        if fails {
            source.snapshot_failed(peer);
            return;
        }
        let crash_between = self.world.loss_percent > 0 && self.random.percent(20);
        let target = &mut self.nodes[to];
        let replica = target.replica.as_mut().expect("checked");
        let accepted = replica.offer_snapshot(&meta);
        if accepted.is_ok() {
            // What waits for the state machine comes before the snapshot.
            target.applying.clear();
            target.machine.install(&meta);
            if crash_between {
                self.crash(to);
                self.nodes[sender].replica.as_mut().expect("up").snapshot_failed(peer);
                return;
            }
            target.replica.as_mut().expect("up").snapshot_installed(meta.clone());
        }
        self.take_effects(to);
        self.nodes[sender].replica.as_mut().expect("up").snapshot_sent(peer, meta.last);
    }

    pub fn describe(&self) -> String {
        let mut out = format!("at {} ms, cut {:?}\n", self.now_ms, self.cut);
        for (at, node) in self.nodes.iter().enumerate() {
            let Some(s) = node.replica.as_ref().map(Replica::status) else {
                out.push_str(&format!("n{at} down, applied {}\n", node.machine.applied));
                continue;
            };
            let members: Vec<String> = s.membership.iter().flat_map(|m| m.members()).map(short).collect();
            out.push_str(&format!(
                "n{at} {:?} term {} vote {:?} leader {:?} log {}..{} durable {} commit {} handed {} applied {} of {}: {}\n",
                s.role, s.hard_state.term, s.hard_state.voted_for, s.leader, s.purged_to, s.last, s.durable, s.commit,
                s.handed_over, node.machine.applied, s.membership_index, members.join(" ")
            ));
            for p in s.peers {
                out.push_str(&format!("    {p:?}\n"));
            }
        }
        out
    }

    /// Heals everything, starts everybody, and demands that all agree on one log within a bounded time.
    pub fn settle(&mut self) {
        self.heal();
        self.world = World::kind();
        for at in 0..self.nodes.len() {
            self.nodes[at].disk_hangs = false;
            if self.nodes[at].replica.is_none() {
                self.restart(at);
            }
        }
        self.run_until(5000, "everybody agrees after healing", |c| {
            let Some(leader) = c.leader() else { return false };
            let status = c.replica(leader).status();
            let Some(membership) = status.membership.clone() else { return false };
            status.commit == status.last.index
                && membership.members().iter().filter(|m| m.suffrage != Suffrage::Learner).all(|m| {
                    let at = c.index_of(&m.id);
                    c.nodes[at].config.incarnation != m.incarnation
                        || c.nodes[at].machine.applied.index == status.last.index
                })
        });
        self.checks.at_the_end(&self.nodes);
    }
}

impl Node {
    fn new(config: Config) -> Node {
        let replica = Replica::new(config.clone(), Recovered::default()).expect("an empty node starts");
        Node {
            config,
            replica: Some(replica),
            disk: Log::default(),
            mirror: Log::default(),
            waiting: VecDeque::new(),
            disk_hangs: false,
            machine: Machine::default(),
            apply_due_ms: 0,
            applying: VecDeque::new(),
        }
    }

    fn recover(&self, with_entries: bool) -> Result<Replica, RecoverError> {
        let mut found = Recovered {
            hard_state: self.disk.hard_state.clone(),
            purged_to: self.disk.purged_to,
            last: self.disk.last(),
            applied: self.machine.applied,
            applied_is_snapshot: self.machine.is_snapshot,
            ..Recovered::default()
        };
        if let Some((index, membership)) = &self.machine.membership {
            found.memberships.push((*index, membership.clone()));
        }
        for entry in &self.disk.entries {
            found.scan(entry).expect("the log holds valid memberships");
        }
        if with_entries {
            found.entries = self.disk.entries.clone();
        }
        Replica::new(self.config.clone(), found)
    }

    fn sync_due(&mut self, now_ms: u64) {
        let mut report = None;
        while let Some((due_ms, _)) = self.waiting.front()
            && *due_ms <= now_ms
            && !self.disk_hangs
        {
            let (_, append) = self.waiting.pop_front().expect("there is a front");
            self.disk.apply(&append);
            report = Some((append.seq, append.last));
        }
        if let (Some((seq, last)), Some(replica)) = (report, &mut self.replica) {
            replica.durable(seq, last);
        }
    }

    fn apply_due(&mut self, now_ms: u64) {
        if self.apply_due_ms > now_ms || self.applying.is_empty() {
            return;
        }
        for entry in self.applying.drain(..) {
            self.machine.apply(&entry);
        }
        if let Some(replica) = &mut self.replica {
            replica.applied(self.machine.applied.index);
        }
    }
}

fn short(m: &Member) -> String {
    format!("{}/{}{}", m.id, m.incarnation.0, &format!("{:?}", m.suffrage)[..1])
}

pub fn payload(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}
