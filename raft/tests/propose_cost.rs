//! What a proposal costs the raft thread: an order of magnitude, guarded loosely so that a slow machine passes.

use raft::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BATCH: usize = 256;
const TURNS: usize = 200;

fn three() -> Membership {
    let member = |at: u64| Member {
        id: NodeId(format!("n{at}").into()),
        incarnation: Incarnation(at + 1),
        suffrage: Suffrage::Voter,
        address: "x:1".into(),
    };
    Membership::new((0..3).map(member).collect()).unwrap()
}

fn reply(from: u64, message: Message) -> Envelope {
    Envelope {
        from: NodeId(format!("n{from}").into()),
        from_incarnation: Incarnation(from + 1),
        to: NodeId("n0".into()),
        to_incarnation: Incarnation(1),
        message,
    }
}

/// A leader of three, with quick followers and a quick disk.
fn leader() -> Replica {
    let mut replica = Replica::new(Config::new(NodeId("n0".into()), Incarnation(1), 3), Recovered::default()).unwrap();
    replica.bootstrap(three()).unwrap();
    replica.tick(0);
    turn(&mut replica);
    replica.campaign();
    turn(&mut replica);
    replica.step(reply(1, Message::PreVoteReply { term: Term(2), granted: true })).unwrap();
    turn(&mut replica);
    replica.step(reply(1, Message::VoteReply { term: Term(2), granted: true })).unwrap();
    assert!(replica.is_leader());
    turn(&mut replica);
    replica
}

fn turn(replica: &mut Replica) -> usize {
    let mut effects = replica.take_effects();
    if let Some(append) = effects.append.take() {
        replica.durable(append.seq, append.last);
        for peer in 1..3 {
            let message = Message::AppendReply { term: replica.term(), matched: append.last.index };
            let _ = replica.step(reply(peer, message));
        }
    }
    let committed = replica.take_effects().committed.len();
    replica.applied(replica.status().handed_over);
    committed
}

#[test]
fn a_proposal_in_a_batch_costs_a_leader_of_three_little() {
    let mut replica = leader();
    let payload: Arc<[u8]> = vec![7; 200].into();
    let mut best = Duration::MAX;
    for _ in 0..TURNS {
        let payloads: Vec<_> = (0..BATCH).map(|_| Arc::clone(&payload)).collect();
        let began = Instant::now();
        replica.propose_batch(payloads).unwrap();
        let committed = turn(&mut replica);
        best = best.min(began.elapsed());
        assert_eq!(committed, BATCH);
    }
    let each = best / u32::try_from(BATCH).unwrap();
    println!("{each:?} for each proposal: appended, sent to two peers, written, acknowledged, committed, handed over");
    // Optimised builds take about a tenth of a microsecond.
    assert!(each < Duration::from_micros(20), "{each:?} for each proposal");
}
