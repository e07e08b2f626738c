//! The raft thread's end, with every inbox full. Prevents: a stop that waits for ever, a client that never gets an answer.

use super::applier_thread::{ApplierInput, Committed};
use super::clock::EntryClock;
use super::handle::{NodeError, Shared};
use super::inbox::inbox;
use super::outbox::Outbox;
use super::raft_peers::{PeerNotes, Peers};
use super::raft_thread::{LogBounds, RaftInput, RaftThread};
use super::wal_thread::WalInput;
use crossbeam_channel::bounded;
use raft::{Config, Envelope, Incarnation, Index, LogId, Member, Membership, NodeId, Recovered, Replica, Suffrage};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// A node that has no network.
struct NoPeers;

impl Peers for NoPeers {
    fn set_peers(&self, _peers: &[(NodeId, String)]) {}
    fn send(&self, _envelope: Envelope) {}
    fn send_copy(&self, _peer: NodeId, _address: String) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn replica() -> Replica {
    let (id, incarnation) = (NodeId("a".into()), Incarnation(1));
    let mut replica = Replica::new(Config::new(id.clone(), incarnation, 1), Recovered::default()).unwrap();
    let member = Member { id, incarnation, suffrage: Suffrage::Voter, address: "a:1".into() };
    replica.bootstrap(Membership::new(vec![member]).unwrap()).unwrap();
    replica
}

fn bounds() -> LogBounds {
    LogBounds {
        purged_to: LogId::default(),
        bytes: 0,
        database_durable: LogId::default(),
        trailing_entries: 0,
        last_at_start: Index(0),
    }
}

#[test]
fn a_stop_with_full_inboxes_ends_and_answers_everybody() {
    const PROPOSALS: usize = 3;
    let (raft_tx, raft_rx) = inbox(1 + PROPOSALS);
    let (wal_tx, wal_rx) = inbox(1);
    let (applier_tx, applier_rx) = inbox(1);
    let (answer_tx, answer_rx) = bounded(PROPOSALS);
    raft_tx.send(RaftInput::Stop).unwrap();
    for _ in 0..PROPOSALS {
        let answer_tx = answer_tx.clone();
        let done = Box::new(move |applied: Result<_, NodeError>| answer_tx.send(applied.map(|_| ())).unwrap());
        raft_tx.send(RaftInput::Propose { payload: vec![0; 64], done }).unwrap();
    }
    wal_tx.send(WalInput::Purge { kept_from: Index(0), needless: Index(0) }).unwrap();
    applier_tx.send(ApplierInput::Committed(Vec::<Committed>::new())).unwrap();

    let shared = Arc::new(Shared::default());
    let outbox = Outbox::new(wal_tx, applier_tx);
    let raft = RaftThread::new(
        replica(),
        raft_rx,
        outbox,
        shared,
        EntryClock::new(0, 0),
        bounds(),
        PeerNotes::new(Box::new(NoPeers), false),
    );
    let (ended_tx, ended_rx) = bounded(3);
    let raft_ended = ended_tx.clone();
    thread::spawn(move || {
        raft.run();
        raft_ended.send("raft").unwrap();
    });
    // Both others first report to the raft thread, whose inbox is full, and only then take their own inputs.
    let (applier_raft_tx, applier_ended) = (raft_tx.clone(), ended_tx.clone());
    thread::spawn(move || {
        let _ = applier_raft_tx.send(RaftInput::Applied);
        while !matches!(applier_rx.recv(), Some(ApplierInput::Stop) | None) {}
        applier_ended.send("applier").unwrap();
    });
    thread::spawn(move || {
        let _ = raft_tx.send(RaftInput::Applied);
        while !matches!(wal_rx.recv(), Some(WalInput::Stop) | None) {}
        ended_tx.send("log").unwrap();
    });
    for _ in 0..3 {
        ended_rx.recv_timeout(LIMIT).expect("all three threads end");
    }
    for _ in 0..PROPOSALS {
        assert_eq!(answer_rx.recv_timeout(LIMIT).expect("an answer"), Err(NodeError::Stopped));
    }
}
