//! What 64 clients do, and what each of them remembers of it.
//!
//! One thread per client. Clients know nothing of leaders or faults: they ask any member. The history says only what a
//! client can know.

pub mod append;
pub mod bank;
pub mod probe;
pub mod register;
pub mod rows;
pub mod session;

use crate::client::{Answer, Outcome, Session, Tally};
use crate::context::Context;
use crate::rng::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Parameters of every write.
pub const WRITE: &str = "raft_index&timeout=5s";

/// Tables of all workloads. None has a unique key over what clients insert: a row that is applied twice must show.
pub const SCHEMA: [&str; 8] = [
    "CREATE TABLE rows (client INT, seq INT, how TEXT, filler TEXT)",
    "CREATE TABLE bank (id INTEGER PRIMARY KEY, balance INT)",
    "CREATE TABLE transfers (client INT, seq INT, source INT, target INT, amount INT)",
    "CREATE TABLE register (id INTEGER PRIMARY KEY, v INT)",
    "CREATE TABLE appends (k INT, client INT, seq INT)",
    "CREATE INDEX appends_k ON appends(k)",
    "CREATE TABLE mine (client INTEGER PRIMARY KEY, v INT)",
    "CREATE TABLE probe (at INT)",
];

/// A row that is to be there exactly once, at most once, or not at all.
#[derive(Clone, Debug)]
pub struct Once {
    pub client: u64,
    pub seq: u64,
    pub verdict: Outcome,
    pub keyed: bool,
    /// `last_insert_id` of the acknowledgement.
    pub rowid: Option<i64>,
    /// How many requests were sent for it.
    pub tries: u32,
    pub began_us: u64,
    pub ended_us: u64,
}

/// A read of the bank.
#[derive(Clone, Debug)]
pub struct BankRead {
    pub node: usize,
    pub level: &'static str,
    pub total: i64,
    pub accounts: i64,
    pub began_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterCall {
    /// What was read; `None` when the row was not there.
    Read(Option<i64>),
    Write(i64),
    /// From, to, and whether it says that it changed the row (`None`: unknown).
    Swap(i64, i64, Option<bool>),
}

#[derive(Clone, Debug)]
pub struct RegisterOp {
    pub key: u64,
    pub call: RegisterCall,
    pub known: bool,
    pub node: usize,
    pub began_us: u64,
    pub ended_us: u64,
}

#[derive(Clone, Debug)]
pub struct AppendOp {
    pub key: u64,
    pub value: (u64, u64),
    pub verdict: Outcome,
    pub began_us: u64,
    pub ended_us: u64,
}

#[derive(Clone, Debug)]
pub struct ListRead {
    pub key: u64,
    pub level: &'static str,
    pub reader: u64,
    pub node: usize,
    /// Which life of the node was read.
    pub life: u32,
    pub list: Vec<(u64, u64)>,
    pub began_us: u64,
    pub ended_us: u64,
}

/// A client's own row as it read it again through some node.
#[derive(Clone, Debug)]
pub struct OwnRead {
    pub client: u64,
    pub node: usize,
    /// `None` for a read that promises only not to go back.
    pub min_index: Option<u64>,
    pub life: u32,
    pub value: i64,
    /// Last acknowledged value when the read began.
    pub floor: i64,
    /// Last value sent.
    pub ceiling: i64,
    pub began_us: u64,
}

/// All that clients remember.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub rows: Vec<Once>,
    pub transfers: Vec<Once>,
    pub bank_reads: Vec<BankRead>,
    pub registers: Vec<RegisterOp>,
    pub appends: Vec<AppendOp>,
    pub list_reads: Vec<ListRead>,
    pub own_reads: Vec<OwnRead>,
    /// When writes were acknowledged, microseconds, of all kinds.
    pub acks_us: Vec<u64>,
    /// When a prober's write was acknowledged, microseconds.
    pub probes_us: Vec<u64>,
    pub tallies: BTreeMap<String, Tally>,
}

impl History {
    fn add(&mut self, other: History) {
        self.rows.extend(other.rows);
        self.transfers.extend(other.transfers);
        self.bank_reads.extend(other.bank_reads);
        self.registers.extend(other.registers);
        self.appends.extend(other.appends);
        self.list_reads.extend(other.list_reads);
        self.own_reads.extend(other.own_reads);
        self.acks_us.extend(other.acks_us);
        self.probes_us.extend(other.probes_us);
        for (kind, tally) in other.tallies {
            self.tallies.entry(kind).or_default().add(&tally);
        }
    }
}

/// A client of one workload while it runs.
pub struct Worker {
    pub number: u64,
    pub session: Session,
    pub history: History,
}

impl Worker {
    pub fn running(&self) -> bool {
        !self.session.context.stopping()
    }

    pub fn acked(&mut self, answer: &Answer) {
        self.session.context.acknowledged();
        self.history.acks_us.push(answer.ended_us);
    }

    /// Sends one write; with a key again and again, through any node, until it is acknowledged or the run is over.
    pub fn write_once(&mut self, kind: &'static str, seq: u64, path: &str, body: &str, keyed: bool) -> Once {
        let key = keyed.then(|| format!("{kind}-{}-{seq}-{:x}", self.number, self.session.context.seed));
        let began_us = self.session.context.now_us();
        let mut verdict: Option<Outcome> = None;
        let mut tries = 0;
        loop {
            let node = self.session.any_node();
            tries += 1;
            // Sometimes a client loses patience and asks elsewhere while the first request is still under way.
            let answer = match keyed && self.session.chance(3) {
                true => {
                    let limit = Duration::from_millis(self.session.rng.between(1, 30));
                    self.session.post_hastily(kind, node, path, body, key.as_deref(), limit)
                }
                false => self.session.post(kind, node, path, body, key.as_deref()),
            };
            let done = answer.outcome == Outcome::Ok;
            // Once unknown, only an acknowledgement makes it known.
            verdict = match verdict.take() {
                Some(open @ Outcome::Unknown(_)) if !done => Some(open),
                _ => Some(answer.outcome.clone()),
            };
            let ended_us = answer.ended_us;
            let rowid = answer.json["results"][0]["last_insert_id"].as_i64().filter(|_| done);
            if done {
                self.acked(&answer);
            }
            if done || !keyed || self.session.context.quitting() {
                let verdict = verdict.expect("at least one request was sent");
                return Once { client: self.number, seq, verdict, keyed, rowid, tries, began_us, ended_us };
            }
        }
    }
}

/// All clients of a run.
pub struct Crowd {
    context: Arc<Context>,
    threads: Vec<JoinHandle<History>>,
}

/// What one client does until the run is over.
pub type Work = fn(&mut Worker);

/// Eight kinds of clients in turn.
const KINDS: [Work; 8] =
    [rows::keyed, rows::plain, register::run, rows::keyed, bank::run, append::run, session::run, rows::queued];

impl Crowd {
    /// Clients of all workloads, and a prober for each node.
    pub fn start(context: &Arc<Context>, clients: u64, rng: &mut Rng) -> Crowd {
        let mut crowd = Crowd { context: Arc::clone(context), threads: Vec::new() };
        (0..clients).for_each(|number| crowd.add(number, rng, KINDS[number as usize % KINDS.len()]));
        (0..context.ports.len()).for_each(|node| crowd.add(node as u64, rng, probe::run));
        crowd
    }

    /// Clients of one workload.
    pub fn start_all(context: &Arc<Context>, clients: u64, rng: &mut Rng, work: Work) -> Crowd {
        let mut crowd = Crowd { context: Arc::clone(context), threads: Vec::new() };
        (0..clients).for_each(|number| crowd.add(number, rng, work));
        crowd
    }

    fn add(&mut self, number: u64, rng: &mut Rng, work: Work) {
        let session = Session::new(&self.context, Rng::new(rng.next_u64()));
        let run = move || {
            let mut worker = Worker { number, session, history: History::default() };
            work(&mut worker);
            let tallies = std::mem::take(&mut worker.session.tallies);
            worker.history.tallies = tallies.into_iter().map(|(kind, tally)| (kind.to_owned(), tally)).collect();
            worker.history
        };
        let thread = std::thread::Builder::new().name(format!("client-{number}")).spawn(run);
        self.threads.push(thread.expect("a thread can be started"));
    }

    /// No new operations; keyed ones under way go on until they are acknowledged or the limit is over.
    pub fn finish(self, limit: Duration) -> History {
        self.context.stop();
        let end = std::time::Instant::now() + limit;
        while std::time::Instant::now() < end && self.threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.context.quit();
        let mut all = History::default();
        for thread in self.threads {
            all.add(thread.join().expect("a client does not panic"));
        }
        all.acks_us.sort_unstable();
        all.probes_us.sort_unstable();
        all
    }
}
