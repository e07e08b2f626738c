//! Messages that no correct peer sends: whatever arrives, in whatever order, the replica does not panic.

mod cluster;

use cluster::{Random, member, node_id, test_config};
use raft::*;

struct Victim {
    replica: Replica,
    random: Random,
}

impl Victim {
    fn new(seed: u64) -> Victim {
        let mut replica = Replica::new(test_config(0, seed), Recovered::default()).unwrap();
        let members = (0..3).map(|at| member(at, 100 + at as u64, Suffrage::Voter)).collect();
        replica.bootstrap(Membership::new(members).unwrap()).unwrap();
        replica.tick(1000);
        Victim { replica, random: Random(seed) }
    }

    fn number(&mut self) -> u64 {
        match self.random.below(20) {
            0 => self.random.next(),
            1 => u64::MAX / 4,
            2 => self.replica.last().index.0,
            _ => self.random.below(8),
        }
    }

    fn id(&mut self) -> LogId {
        if self.random.percent(40) {
            return self.replica.last();
        }
        LogId { term: Term(self.number()), index: Index(self.number()) }
    }

    fn term(&mut self) -> Term {
        let own = self.replica.term().0;
        match self.random.below(10) {
            0 => Term(self.number()),
            1 => Term(own + 1),
            2 => Term(own.saturating_sub(1)),
            _ => Term(own),
        }
    }

    fn entries(&mut self, prev: LogId) -> Vec<Entry> {
        let mut term = prev.term;
        (1..=self.random.below(5))
            .map(|at| {
                term = if self.random.percent(20) { self.term() } else { term };
                let index = if self.random.percent(3) { self.number() } else { prev.index.0.saturating_add(at) };
                let kind = match self.random.below(6) {
                    0 => EntryKind::Membership,
                    1 => EntryKind::Noop,
                    _ => EntryKind::Command,
                };
                let who = self.random.below(5) as usize;
                let valid = Membership::new(vec![member(who, 100 + who as u64, Suffrage::Voter)]).unwrap().encode();
                let payload = if self.random.percent(90) { valid } else { [1u8, 2, 3].into() };
                Entry { id: LogId { term, index: Index(index) }, kind, payload }
            })
            .collect()
    }

    fn message(&mut self) -> Message {
        let term = self.term();
        let flag = self.random.percent(60);
        match self.random.below(14) {
            0 => Message::PreVote { term, last: self.id() },
            1 => Message::PreVoteReply { term: Term(term.0.saturating_add(1)), granted: flag },
            2 => Message::Vote { term, last: self.id(), transfer: flag },
            3 => Message::VoteReply { term, granted: flag },
            4 | 5 => Message::AppendReply { term, matched: Index(self.number()) },
            6 => Message::AppendReject { term, prev: self.id(), hint: self.id() },
            7 => Message::Heartbeat { term, round: self.number(), matched: self.id(), commit: Index(self.number()) },
            8 => {
                let (round, accepted) = (self.random.below(4), Index(self.number()));
                Message::HeartbeatReply { term, round, accepted, matched: Index(self.number()) }
            }
            9 => Message::TimeoutNow { term },
            _ => {
                let prev = self.id();
                Message::Append { term, prev, entries: self.entries(prev), commit: Index(self.number()) }
            }
        }
    }

    fn turn(&mut self) {
        let effects = self.replica.take_effects();
        if let Some(append) = effects.append
            && self.random.percent(80)
        {
            self.replica.durable(append.seq, append.last);
        }
        if let Some(last) = effects.committed.last() {
            self.replica.applied(last.id.index);
        }
    }
}

#[test]
fn no_message_makes_a_replica_panic() {
    let mut roles = std::collections::BTreeSet::new();
    for seed in 0..1000 {
        let mut v = Victim::new(seed);
        for step in 0..400u64 {
            let from = 1 + v.random.below(3) as usize;
            let envelope = Envelope {
                from: node_id(from),
                from_incarnation: Incarnation(100 + from as u64),
                to: node_id(0),
                to_incarnation: Incarnation(100),
                message: v.message(),
            };
            let _ = v.replica.step(envelope);
            match v.random.below(12) {
                0 => v.replica.campaign(),
                1 => {
                    let _ = v.replica.propose(cluster::payload("x"));
                }
                2 => v.replica.tick(1000 + step * 7),
                3 => {
                    let _ = v.replica.read_index(ReadToken(step));
                }
                4 => {
                    let _ = v.replica.transfer(None);
                }
                5 => {
                    let who = member(4, 104, Suffrage::Voter);
                    let _ = v.replica.change_membership(Change::Add(who));
                }
                6 => {
                    let status = v.replica.status();
                    if status.applied == status.last.index {
                        v.replica.purged(status.last);
                    }
                }
                _ => {}
            }
            v.turn();
            roles.insert(format!("{:?}", v.replica.role()));
        }
    }
    assert_eq!(roles.len(), 4, "every role was attacked: {roles:?}");
}
