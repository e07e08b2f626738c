//! One replica, messages by hand, a disk that is as quick or slow as the test says.
#![allow(dead_code)]

use crate::cluster::{member, node_id, payload, test_config};
use raft::*;

/// Replica n0 of the voters n0, n1, n2 and what came out of it.
pub struct Solo {
    pub replica: Replica,
    pub messages: Vec<Envelope>,
    pub committed: Vec<LogId>,
    pub log: Vec<Entry>,
    pub hard: HardState,
    pub readable: Vec<(ReadToken, Index)>,
    pub failed_reads: Vec<ReadToken>,
    pub alarms: Vec<Alarm>,
    pub transfer_failed: Option<NodeId>,
    pub waiting: Vec<(u64, LogId)>,
    pub disk_works: bool,
}

pub fn id(term: u64, index: u64) -> LogId {
    LogId { term: Term(term), index: Index(index) }
}

pub fn entry(term: u64, index: u64) -> Entry {
    Entry { id: id(term, index), kind: EntryKind::Command, payload: payload(&format!("{term}/{index}")) }
}

pub fn config() -> Config {
    test_config(0, 5)
}

impl Solo {
    /// A log with these terms, a saved term, nothing applied.
    pub fn new(terms: &[u64], term: u64) -> Solo {
        Solo::of(terms, term, (0..3).map(|at| member(at, 100 + at as u64, Suffrage::Voter)).collect())
    }

    pub fn of(terms: &[u64], term: u64, members: Vec<Member>) -> Solo {
        Solo::with(config(), terms, term, members)
    }

    /// One entry, in term 1; another seed than the others.
    pub fn seeded(seed: u64) -> Solo {
        let members = (0..3).map(|at| member(at, 100 + at as u64, Suffrage::Voter)).collect();
        Solo::with(test_config(0, seed), &[1], 1, members)
    }

    fn with(config: Config, terms: &[u64], term: u64, members: Vec<Member>) -> Solo {
        let log: Vec<Entry> = terms.iter().zip(1..).map(|(term, index)| entry(*term, index)).collect();
        let hard = HardState { term: Term(term), voted_for: None };
        let mut found = Recovered { hard_state: hard.clone(), ..Recovered::default() };
        found.last = log.last().map_or(LogId::default(), |e| e.id);
        found.memberships.push((Index(0), Membership::new(members).unwrap()));
        log.iter().for_each(|e| found.scan(e).unwrap());
        found.entries = log.clone();
        let mut replica = Replica::new(config, found).unwrap();
        replica.tick(1000);
        Solo {
            replica,
            messages: Vec::new(),
            committed: Vec::new(),
            log,
            hard,
            readable: Vec::new(),
            failed_reads: Vec::new(),
            alarms: Vec::new(),
            transfer_failed: None,
            waiting: Vec::new(),
            disk_works: true,
        }
    }

    /// Takes effects until there are none; a disk that works syncs at once.
    pub fn turn(&mut self) -> Vec<Envelope> {
        loop {
            let effects = self.replica.take_effects();
            let idle = effects.is_empty();
            self.messages.extend(effects.messages);
            self.committed.extend(effects.committed.iter().map(|e| e.id));
            self.readable.extend(effects.readable);
            self.failed_reads.extend(effects.failed_reads);
            self.alarms.extend(effects.alarms);
            self.transfer_failed = effects.transfer_failed.or(self.transfer_failed.take());
            if let Some(append) = effects.append {
                if let Some(index) = append.truncate_after {
                    self.log.retain(|e| e.id.index <= index);
                }
                self.log.extend(append.entries);
                self.hard = append.hard_state.unwrap_or(self.hard.clone());
                self.waiting.push((append.seq, append.last));
            }
            if self.disk_works {
                self.sync();
            }
            if idle {
                return std::mem::take(&mut self.messages);
            }
        }
    }

    pub fn sync(&mut self) {
        for (seq, last) in self.waiting.drain(..) {
            self.replica.durable(seq, last);
        }
    }

    pub fn hear(&mut self, from: usize, message: Message) -> Vec<Envelope> {
        self.replica.step(envelope(from, message)).unwrap();
        self.turn()
    }

    pub fn ids(&self) -> Vec<LogId> {
        self.log.iter().map(|e| e.id).collect()
    }

    /// n1 helps n0 to lead.
    pub fn lead(&mut self) -> Vec<Envelope> {
        let term = Term(self.replica.term().0 + 1);
        self.replica.campaign();
        self.turn();
        self.hear(1, Message::PreVoteReply { term, granted: true });
        let sent = self.hear(1, Message::VoteReply { term, granted: true });
        assert!(self.replica.is_leader());
        sent
    }

    pub fn acknowledge(&mut self, from: usize, index: u64) -> Vec<Envelope> {
        let term = self.replica.term();
        self.hear(from, Message::AppendReply { term, matched: Index(index) })
    }

    pub fn tick_to(&mut self, now_ms: u64) -> Vec<Envelope> {
        self.replica.tick(now_ms);
        self.turn()
    }
}

pub fn envelope(from: usize, message: Message) -> Envelope {
    Envelope {
        from: node_id(from),
        from_incarnation: Incarnation(100 + from as u64),
        to: node_id(0),
        to_incarnation: Incarnation(100),
        message,
    }
}

pub fn append(term: u64, prev: LogId, entries: Vec<Entry>, commit: u64) -> Message {
    Message::Append { term: Term(term), prev, entries, commit: Index(commit) }
}

pub fn vote(term: u64, last: LogId) -> Message {
    Message::Vote { term: Term(term), last, transfer: false }
}

pub fn only(messages: Vec<Envelope>) -> Message {
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.into_iter().next().unwrap().message
}

pub fn names(messages: &[Envelope]) -> Vec<(&str, &'static str)> {
    messages.iter().map(|e| (&*e.to.0, e.message.name())).collect()
}
