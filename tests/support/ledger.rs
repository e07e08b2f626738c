//! A ledger of writes: what was attempted, what was acknowledged, and the check that a database agrees.
//!
//! Writer threads send requests of several kinds, each stamped with (round, writer, seq) and a number of parts. After a
//! crash: an acknowledged request is there exactly once and whole, any other one at most once and whole (a request is one
//! log entry, so it is all or nothing even without `?transaction`).

use super::http::Client;
use super::node::Node;
use super::rng::Rng;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// No unique key on purpose: a request that is applied twice must show.
pub const SCHEMA: &str =
    r#"["CREATE TABLE IF NOT EXISTS ledger (round INT, writer INT, seq INT, part INT, kind TEXT, filler TEXT)"]"#;

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Single,
    Batch,
    Transaction,
    QueuedWait,
}

pub const KINDS: [Kind; 4] = [Kind::Single, Kind::Batch, Kind::Transaction, Kind::QueuedWait];

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Kind::Single | Kind::Batch => "/db/execute",
            Kind::Transaction => "/db/execute?transaction",
            Kind::QueuedWait => "/db/execute?queue&wait",
        }
    }

    fn parts(self, rng: &mut Rng) -> u64 {
        if self == Kind::Single { 1 } else { rng.between(2, 6) }
    }
}

/// One request that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub writer: u64,
    pub seq: u64,
    pub parts: u64,
    pub acknowledged: bool,
}

/// Writers at work on one node.
pub struct Load {
    stop: Arc<AtomicBool>,
    /// Requests acknowledged so far.
    pub acknowledged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<(Vec<Attempt>, Vec<String>)>>,
}

/// What the writers of one round did.
#[derive(Default)]
pub struct Round {
    pub number: u64,
    pub attempts: Vec<Attempt>,
    /// Answers that were no acknowledgement: a healthy node gives none.
    pub refusals: Vec<String>,
}

impl Load {
    /// Starts `writers` threads, each with its own connection and its own kind of request in turn. Each row carries
    /// `filler_bytes` of text, so that a test can choose how fast files fill.
    pub fn start(port: u16, round: u64, writers: u64, filler_bytes: usize, rng: &mut Rng) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let threads = (0..writers)
            .map(|writer| {
                let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
                let rng = Rng::new(rng.next_u64());
                std::thread::spawn(move || write(port, round, writer, filler_bytes, rng, &stop, &acknowledged))
            })
            .collect();
        Load { stop, acknowledged, threads }
    }

    /// Tells the writers to stop after their current request, and waits for them.
    pub fn finish(self, number: u64) -> Round {
        self.stop.store(true, Ordering::Relaxed);
        let mut round = Round { number, ..Round::default() };
        for thread in self.threads {
            let (attempts, refusals) = thread.join().expect("a writer does not panic");
            round.attempts.extend(attempts);
            round.refusals.extend(refusals);
        }
        round
    }
}

/// One writer: sends until told to stop or until the first request without an answer.
fn write(
    port: u16,
    round: u64,
    writer: u64,
    filler_bytes: usize,
    mut rng: Rng,
    stop: &AtomicBool,
    acknowledged: &AtomicU64,
) -> (Vec<Attempt>, Vec<String>) {
    let kind = KINDS[(writer % KINDS.len() as u64) as usize];
    let filler = "x".repeat(filler_bytes);
    let mut client = Client::new(port).with_timeout(Duration::from_secs(30));
    let mut attempts = Vec::new();
    let mut refusals = Vec::new();
    for seq in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let parts = kind.parts(&mut rng);
        let statements: Vec<String> = (0..parts)
            .map(|part| {
                format!(
                    r#"["INSERT INTO ledger VALUES(?,?,?,?,?,?)",{round},{writer},{seq},{part},"{kind:?}","{filler}"]"#
                )
            })
            .collect();
        let answer = client.post(kind.path(), &format!("[{}]", statements.join(",")));
        let acknowledgement = match &answer {
            Ok(reply) => reply.status == 200 && !reply.text().contains("\"error\""),
            Err(_) => false,
        };
        attempts.push(Attempt { writer, seq, parts, acknowledged: acknowledgement });
        match answer {
            Ok(_) if acknowledgement => {
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            // A node that is about to stop may still say so; one such answer is as good as a lost connection.
            Ok(reply) => {
                refusals.push(format!("{kind:?}: {} {}", reply.status, reply.text()));
                break;
            }
            Err(_) => break,
        }
    }
    (attempts, refusals)
}

impl Round {
    pub fn acknowledged(&self) -> usize {
        self.attempts.iter().filter(|a| a.acknowledged).count()
    }

    /// Compares one round with what the database holds.
    ///
    /// # Panics
    /// Something acknowledged is missing, something is there twice or in part, or something is there that was never sent.
    pub fn check(&self, node: &Node) {
        let sql = format!(
            "SELECT writer, seq, count(*), count(DISTINCT part), max(part) FROM ledger WHERE round = {} GROUP BY 1, 2",
            self.number
        );
        let mut found: HashMap<(u64, u64), (u64, u64, u64)> = HashMap::new();
        for row in node.rows(&sql) {
            let n = |i: usize| row[i].as_u64().expect("the ledger holds integers");
            found.insert((n(0), n(1)), (n(2), n(3), n(4)));
        }
        for attempt in &self.attempts {
            match found.remove(&(attempt.writer, attempt.seq)) {
                Some((rows, distinct, last)) => assert!(
                    rows == attempt.parts && distinct == attempt.parts && last + 1 == attempt.parts,
                    "round {}: {attempt:?} is there with {rows} rows, {distinct} distinct",
                    self.number
                ),
                None => assert!(!attempt.acknowledged, "round {}: acknowledged and lost: {attempt:?}", self.number),
            }
        }
        assert!(found.is_empty(), "round {}: never sent, but there: {found:?}", self.number);
    }
}
