//! The simulated world: nodes, network, clients, faults, and one queue of events in the order of simulated time.
//!
//! Runs on the thread that calls it, and alone: no other source of order or chance than the queue and the seed. The
//! topics are spread: `node` (what a process does), `log` (its WAL thread), `apply` (its applier), `client`,
//! `operator`, `faults`.

use super::check::{Checks, liveness, violated};
use super::client::Client;
use super::machine::State;
use super::network::{Network, Packet};
use super::node::{Input, Node};
use super::plan::Plan;
use super::random::Chance;
use super::trace::Trace;
use crate::{NodeId, Replica, Term};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

/// What happens at a moment. `life` numbers the runs of a node's process: events for an earlier one are void.
#[derive(Debug)]
pub(super) enum Event {
    /// The raft thread of a node takes a turn.
    Turn {
        at: usize,
        life: u64,
    },
    Input {
        at: usize,
        life: u64,
        input: Input,
    },
    /// The WAL thread goes on.
    Log {
        at: usize,
        life: u64,
    },
    /// The applier goes on.
    Apply {
        at: usize,
        life: u64,
    },
    Packet {
        from: usize,
        to: usize,
        packet: Packet,
    },
    Start {
        at: usize,
    },
    Client {
        client: usize,
        event: super::client::ClientEvent,
    },
    /// Fault number so and so of the plan.
    Fault(usize),
    Mend {
        from: usize,
        to: usize,
    },
    Flap {
        from: usize,
        to: usize,
        every_us: u64,
        left: u64,
    },
    Quality(super::network::Quality),
    Space {
        at: usize,
    },
    /// The operator looks after the membership.
    Operator,
    OperatorRound,
}

#[derive(Debug)]
struct Scheduled {
    at_us: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.order == other.order
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}

/// What a run amounted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub simulated_ms: u64,
    pub events: u64,
    pub messages: u64,
    pub commits: u64,
    pub leaders: u64,
    pub faults: u64,
    pub starts: u64,
    pub snapshots: u64,
    pub writes: u64,
    pub reads: u64,
    /// Operations whose outcome no client learnt.
    pub unknown: u64,
}

/// See the module.
pub(super) struct World {
    pub(super) now_us: u64,
    pub(super) plan: Plan,
    pub(super) chance: Chance,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) network: Network,
    pub(super) clients: Vec<Client>,
    pub(super) checks: Checks,
    pub(super) stats: Stats,
    pub(super) trace: Trace,
    /// Faults are over: everything is repaired, and nothing new breaks.
    pub(super) healed: bool,
    pub(super) tokens: u64,
}

impl World {
    pub(super) fn new(plan: &Plan, trace: Trace) -> World {
        let mut chance = Chance::new(plan.seed);
        let nodes = (0..plan.nodes()).map(|at| Node::new(at, usize::from(plan.voters), &mut chance)).collect();
        let mut world = World {
            now_us: 1_000_000,
            network: Network::new(plan.nodes(), plan.quality()),
            clients: (0..plan.clients).map(|_| Client::default()).collect(),
            plan: plan.clone(),
            chance,
            queue: BinaryHeap::new(),
            order: 0,
            nodes,
            checks: Checks::default(),
            stats: Stats::default(),
            trace,
            healed: false,
            tokens: 0,
        };
        for at in 0..world.nodes.len() {
            world.start(at);
        }
        for at in 0..plan.events.len() {
            world.push(plan.events[at].at_ms * 1000, Event::Fault(at));
        }
        for client in 0..world.clients.len() {
            world.client_thinks(client);
        }
        world.push(1_500_000, Event::OperatorRound);
        world
    }

    /// Schedules an event so many microseconds from now.
    pub(super) fn push(&mut self, after_us: u64, event: Event) {
        self.push_at(self.now_us + after_us, event);
    }

    pub(super) fn push_at(&mut self, at_us: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at_us: at_us.max(self.now_us), order: self.order, event }));
    }

    /// Runs the plan to its end, heals everything, and waits until all agree.
    pub(super) fn run(&mut self) {
        let start_us = self.now_us;
        self.run_until(start_us + self.plan.duration_ms * 1000);
        self.heal();
        let limit_us = self.now_us + liveness::LIMIT_MS * 1000;
        let mut probe = None;
        loop {
            let mut missing = liveness::missing(self);
            if missing.is_none() {
                // Agreement alone may be that of a cluster that can no longer write.
                let written = self.stats.writes;
                let before = *probe.get_or_insert(written);
                if written > before {
                    break;
                }
                missing = Some("no write succeeds".into());
            }
            if self.now_us >= limit_us {
                liveness::too_late(&missing.unwrap_or_default(), self);
            }
            self.run_until(self.now_us + 50_000);
        }
        liveness::check_end(self);
        self.stats.simulated_ms = (self.now_us - start_us) / 1000;
        self.stats.leaders = self.checks.election.count();
        self.stats.commits = self.checks.history.last().0;
    }

    pub(super) fn run_until(&mut self, until_us: u64) {
        while let Some(Reverse(next)) = self.queue.peek()
            && next.at_us <= until_us
        {
            let Reverse(next) = self.queue.pop().expect("it was seen just now");
            self.now_us = next.at_us;
            self.stats.events += 1;
            self.handle(next.event);
        }
        self.now_us = until_us;
    }

    fn handle(&mut self, event: Event) {
        // A stopped process does nothing; what is meant for it waits.
        if let Some(at) = event.node()
            && self.nodes[at].paused_until_us > self.now_us
        {
            return self.push_at(self.nodes[at].paused_until_us, event);
        }
        match event {
            Event::Turn { at, life } if self.lives(at, life) => self.turn(at),
            Event::Input { at, life, input } if self.lives(at, life) => self.input(at, input),
            Event::Log { at, life } if self.lives(at, life) => self.log_goes_on(at),
            Event::Apply { at, life } if self.lives(at, life) => self.applier_goes_on(at),
            Event::Turn { .. } | Event::Input { .. } | Event::Log { .. } | Event::Apply { .. } => {}
            Event::Packet { from, to, packet } => self.receive(from, to, packet),
            Event::Start { at } => self.start(at),
            Event::Client { client, event } => self.client(client, event),
            Event::Fault(number) => self.fault(number),
            Event::Mend { from, to } => self.network.mend(from, to),
            Event::Flap { from, to, every_us, left } => self.flap(from, to, every_us, left),
            Event::Quality(quality) => self.network.quality = quality,
            Event::Space { at } => self.nodes[at].disk.set_free_bytes(None),
            Event::Operator => self.operator(),
            Event::OperatorRound => self.operator_round(),
        }
    }

    pub(super) fn lives(&self, at: usize, life: u64) -> bool {
        self.nodes[at].process.is_some() && self.nodes[at].life == life
    }

    /// Sends a packet on its way, if the link carries it.
    pub(super) fn send(&mut self, from: usize, to: usize, packet: Packet) {
        self.stats.messages += 1;
        let whole = matches!(packet, Packet::Snapshot(_) | Packet::SnapshotDone { .. });
        let [first, second] = self.network.arrivals(from, to, whole, &mut self.chance);
        if let Some(second_us) = second {
            self.push(second_us, Event::Packet { from, to, packet: packet.clone() });
        }
        if let Some(first_us) = first {
            self.push(first_us, Event::Packet { from, to, packet });
        }
    }

    fn receive(&mut self, from: usize, to: usize, packet: Packet) {
        if !self.network.is_whole(from, to) || self.nodes[to].process.is_none() {
            return;
        }
        let input = match packet {
            Packet::Raft(bytes) => {
                self.trace.packet(self.now_us, from, to, &bytes);
                let envelope = crate::wire::decode(&bytes);
                Input::Message(envelope.unwrap_or_else(|e| violated("wire", format!("{e} in a message of n{from}"))))
            }
            Packet::IndexRequest { token } => Input::IndexRequest { from, token },
            Packet::IndexReply { token, index } => Input::IndexReply { token, index },
            Packet::Snapshot(image) => Input::Snapshot { from, image },
            Packet::SnapshotDone { taken } => Input::SnapshotDone { peer: from, taken },
        };
        self.input(to, input);
    }

    pub(super) fn replica(&self, at: usize) -> Option<&Replica> {
        self.nodes[at].process.as_ref().map(|process| &process.replica)
    }

    pub(super) fn index_of(&self, id: &NodeId) -> usize {
        id.0[1..].parse().expect("simulated nodes are numbered")
    }

    /// The node of the highest term that believes to lead.
    pub(super) fn leader(&self) -> Option<usize> {
        let term = |at: usize| self.replica(at).filter(|r| r.is_leader()).map(Replica::term);
        (0..self.nodes.len()).filter(|at| term(*at).is_some()).max_by_key(|at| term(*at).unwrap_or(Term(0)))
    }

    pub(super) fn snapshot_of(&self, at: usize) -> Rc<State> {
        Rc::new(self.nodes[at].machine.state.clone())
    }

    /// For the eyes of whoever reads a violation.
    pub(super) fn describe(&self) -> String {
        let mut out = format!("at {} ms\n", self.now_us / 1000);
        for node in &self.nodes {
            let Some(replica) = node.process.as_ref().map(|p| &p.replica) else {
                out.push_str(&format!("{}/{} down ({:?})\n", node.id, node.incarnation.0, node.condition));
                continue;
            };
            let s = replica.status();
            let member = |m: &crate::Member| format!("{}/{} {:?}", m.id, m.incarnation.0, m.suffrage);
            let members: Vec<String> = s.membership.iter().flat_map(|m| m.members()).map(member).collect();
            out.push_str(&format!(
                "{}/{} {:?} term {} vote {:?} leader {:?} log {}..{} durable {} commit {} handed {} applied {}; {}: {}\n",
                node.id, node.incarnation.0, s.role, s.hard_state.term, s.hard_state.voted_for.map(|v| v.0), s.leader.map(|l| l.0),
                s.purged_to, s.last, s.durable, s.commit, s.handed_over, node.machine.state.applied, s.membership_index,
                members.join(", ")
            ));
            for peer in s.peers {
                out.push_str(&format!("    {peer:?}\n"));
            }
        }
        out
    }
}

impl Event {
    /// The node whose process would handle it.
    fn node(&self) -> Option<usize> {
        match self {
            Event::Turn { at, .. }
            | Event::Input { at, .. }
            | Event::Log { at, .. }
            | Event::Apply { at, .. }
            | Event::Start { at } => Some(*at),
            Event::Packet { to, .. } => Some(*to),
            _ => None,
        }
    }
}
