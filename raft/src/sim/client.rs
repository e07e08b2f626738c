//! Clients: one request after the other, to any node, with a time-out after which the outcome is unknown. Writes are
//! never tried again, so each value is written once or never.

use super::machine::{KEYS, command};
use super::node::Input;
use super::world::{Event, World};

/// Stands for a client that does not wait for an answer.
pub(super) const NOBODY: usize = usize::MAX;

const TIMEOUT_US: u64 = 1_500_000;

#[derive(Debug)]
pub(super) enum ClientEvent {
    Next,
    Timeout {
        op: u64,
    },
    /// A request reaches a node.
    Arrive {
        at: usize,
        op: u64,
    },
    Answer {
        op: u64,
        answer: Answer,
    },
}

#[derive(Debug)]
pub(super) enum Answer {
    Written {
        key: usize,
        place: usize,
    },
    Read {
        key: usize,
        list: Vec<u64>,
    },
    /// It was not done, and never will be.
    Refused {
        leader: Option<usize>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    op: u64,
    key: usize,
    write: bool,
    /// What it must at least see.
    floor: usize,
}

#[derive(Debug, Default)]
pub(super) struct Client {
    pending: Option<Pending>,
    /// Who it was told leads.
    leader: Option<usize>,
}

impl World {
    pub(super) fn client_thinks(&mut self, client: usize) {
        let think_us = self.chance.below(self.plan.think_ms * 2000);
        self.push(think_us, Event::Client { client, event: ClientEvent::Next });
    }

    /// So many writes at once to whoever leads; nobody waits for their outcome.
    pub(super) fn burst(&mut self, writes: u64) {
        let Some(leader) = self.leader() else { return };
        for _ in 0..writes {
            self.tokens += 1;
            let key = self.chance.below(KEYS as u64) as usize;
            let payload = command(key, self.tokens, self.chance.below(160) as usize);
            self.input(leader, Input::Write { client: NOBODY, op: self.tokens, payload });
        }
    }

    pub(super) fn client(&mut self, client: usize, event: ClientEvent) {
        match event {
            ClientEvent::Next => self.client_begins(client),
            ClientEvent::Arrive { at, op } => self.client_arrives(client, at, op),
            ClientEvent::Timeout { op } => {
                if self.clients[client].pending.is_some_and(|pending| pending.op == op) {
                    self.stats.unknown += 1;
                    self.clients[client].pending = None;
                    self.clients[client].leader = None;
                    self.client_thinks(client);
                }
            }
            ClientEvent::Answer { op, answer } => self.client_hears(client, op, answer),
        }
    }

    fn client_begins(&mut self, client: usize) {
        self.tokens += 1;
        let op = self.tokens;
        let key = self.chance.below(KEYS as u64) as usize;
        let write = self.chance.percent(60);
        let any = self.chance.below(self.nodes.len() as u64) as usize;
        let known = self.clients[client].leader;
        let follow = self.chance.percent(if write { 90 } else { 50 });
        let at = known.filter(|_| follow).unwrap_or(any);
        let floor = self.checks.linear.begins(key);
        self.clients[client].pending = Some(Pending { op, key, write, floor });
        let travel_us = self.chance.between(50, 800);
        self.push(travel_us, Event::Client { client, event: ClientEvent::Arrive { at, op } });
        self.push(TIMEOUT_US, Event::Client { client, event: ClientEvent::Timeout { op } });
    }

    fn client_arrives(&mut self, client: usize, at: usize, op: u64) {
        let Some(pending) = self.clients[client].pending.filter(|pending| pending.op == op) else { return };
        if self.nodes[at].process.is_none() {
            // Nobody listens there.
            return self.answer(client, op, Answer::Refused { leader: None });
        }
        let input = if pending.write {
            let padding = self.chance.below(160) as usize;
            Input::Write { client, op, payload: command(pending.key, op, padding) }
        } else {
            Input::Read { client, op, key: pending.key }
        };
        self.input(at, input);
    }

    /// A node answers; the answer arrives a little later.
    pub(super) fn answer(&mut self, client: usize, op: u64, answer: Answer) {
        if client == NOBODY {
            return;
        }
        let travel_us = self.chance.between(50, 800);
        self.push(travel_us, Event::Client { client, event: ClientEvent::Answer { op, answer } });
    }

    fn client_hears(&mut self, client: usize, op: u64, answer: Answer) {
        let Some(pending) = self.clients[client].pending.filter(|pending| pending.op == op) else { return };
        self.clients[client].pending = None;
        match answer {
            Answer::Written { key, place } => {
                self.stats.writes += 1;
                self.checks.linear.wrote(key, op, place, pending.floor);
            }
            Answer::Read { key, list } => {
                self.stats.reads += 1;
                self.checks.linear.read(key, &list, pending.floor);
            }
            Answer::Refused { leader } => {
                if pending.write {
                    self.checks.linear.refused(op);
                }
                self.clients[client].leader = leader;
            }
        }
        self.client_thinks(client);
    }
}
