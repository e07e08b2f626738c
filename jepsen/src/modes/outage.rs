//! Takes the times of one loss of a leader: one thread per surviving node that looks who leads, one per surviving node that
//! writes, and one client that knows all nodes.

use crate::client::{Outcome, classify};
use crate::http::Client;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// A try that takes longer than this is given up and fails the run.
const TRY_LIMIT: Duration = Duration::from_secs(30);
const WRITE_BODY: &str = r#"["INSERT INTO probe(at) VALUES(1)"]"#;
const PAUSE: Duration = Duration::from_millis(5);
/// Of the writers at one node: it bounds by how much they may be late.
const IMPATIENCE: Duration = Duration::from_millis(100);
/// Of the client, before it goes on to the next node.
const PATIENCE: Duration = Duration::from_millis(500);

/// One try, microseconds since the fault.
#[derive(Clone, Debug)]
pub struct Outage {
    /// A node other than the lost one said that it leads in a higher term.
    pub leads_us: u64,
    /// A write that was sent after the fault through one of the others was acknowledged.
    pub write_us: u64,
    /// The same for a client that knows all nodes and asks the lost one first.
    pub client_us: u64,
    /// By how much the term rose: 1 unless an election failed.
    pub terms: u64,
}

/// What a watcher found, and when.
enum Seen {
    Leader { term: u64 },
    Write,
    Client,
}

/// The ends of a channel to the one who waits, and the time of the fault.
#[derive(Clone)]
struct Watch {
    began: Instant,
    done: Arc<AtomicBool>,
    sender: Sender<(Duration, Seen)>,
}

impl Watch {
    /// Calls `look` on a thread of its own until it has found something or nobody waits any more.
    fn start(&self, mut look: impl FnMut() -> Option<Seen> + Send + 'static) {
        let watch = self.clone();
        std::thread::spawn(move || {
            while !watch.done.load(SeqCst) {
                if let Some(seen) = look() {
                    // Nobody listens any more when another watcher was faster.
                    let _ = watch.sender.send((watch.began.elapsed(), seen));
                    return;
                }
                std::thread::sleep(PAUSE);
            }
        });
    }
}

/// `ports` of all nodes; `term` is that of the leader `lost`.
pub fn measure(ports: &[u16], lost: usize, term: u64, strike: impl FnOnce()) -> Result<Outage, String> {
    let (sender, receiver) = channel();
    let watch = Watch { began: Instant::now(), done: Arc::new(AtomicBool::new(false)), sender };
    strike();
    for (_, port) in ports.iter().copied().enumerate().filter(|(at, _)| *at != lost) {
        let mut status = patient_for(port, IMPATIENCE);
        watch.start(move || leader_at(&mut status).filter(|seen| *seen > term).map(|term| Seen::Leader { term }));
        let mut writer = patient_for(port, IMPATIENCE);
        watch.start(move || write(&mut writer, IMPATIENCE).then_some(Seen::Write));
    }
    let mut clients: Vec<Client> = ports.iter().map(|port| patient_for(*port, PATIENCE)).collect();
    let mut turn = lost;
    watch.start(move || {
        let at = turn % clients.len();
        turn += 1;
        write(&mut clients[at], PATIENCE).then_some(Seen::Client)
    });
    let outage = collect(&receiver, watch.began + TRY_LIMIT, term);
    watch.done.store(true, SeqCst);
    outage.ok_or_else(|| format!("not all of new leader, write and client within {TRY_LIMIT:?}"))
}

fn collect(receiver: &Receiver<(Duration, Seen)>, end: Instant, term: u64) -> Option<Outage> {
    let (mut leader, mut write_us, mut client_us) = (None, None, None);
    loop {
        if let (Some((leads_us, terms)), Some(write_us), Some(client_us)) = (leader, write_us, client_us) {
            return Some(Outage { leads_us, write_us, client_us, terms });
        }
        let (after, seen) = receiver.recv_timeout(end.saturating_duration_since(Instant::now())).ok()?;
        let at_us = after.as_micros() as u64;
        match seen {
            Seen::Leader { term: new } => leader = leader.or(Some((at_us, new - term))),
            Seen::Write => write_us = write_us.or(Some(at_us)),
            Seen::Client => client_us = client_us.or(Some(at_us)),
        }
    }
}

/// The server is told the limit, and is given a moment more to say that it is over. Connections are kept while they work:
/// thousands of closed ones would slow down the proxies' look into the kernel's table.
fn patient_for(port: u16, limit: Duration) -> Client {
    Client::new(port).with_timeout(limit + limit / 2)
}

/// The term in which the node says that it leads.
fn leader_at(client: &mut Client) -> Option<u64> {
    let reply = client.get("/status?key=store.raft").ok()?;
    let raft: Value = serde_json::from_slice(&reply.body).ok()?;
    raft["term"].as_u64().filter(|_| raft["state"] == "Leader")
}

fn write(client: &mut Client, limit: Duration) -> bool {
    let path = format!("/db/execute?timeout={}ms", limit.as_millis());
    classify(client.post(&path, WRITE_BODY)).0 == Outcome::Ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_counts() {
        let (sender, receiver) = channel();
        let seen = [
            (3, Seen::Write),
            (4, Seen::Leader { term: 9 }),
            (5, Seen::Write),
            (6, Seen::Leader { term: 10 }),
            (7, Seen::Client),
        ];
        for (ms, what) in seen {
            sender.send((Duration::from_millis(ms), what)).expect("the receiver is there");
        }
        let outage = collect(&receiver, Instant::now(), 7).expect("all three were seen");
        assert_eq!((outage.write_us, outage.leads_us, outage.client_us, outage.terms), (3000, 4000, 7000, 2));
        assert!(collect(&receiver, Instant::now(), 7).is_none());
    }
}
