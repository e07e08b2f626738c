//! What may go wrong between nodes, on real sockets: hostile bytes, dead and slow peers, restarts, floods, stops. Test
//! threads only.

mod net_kit;

use ferrolite::net::{Answer, Call, CallError};
use net_kit::*;
use raft::NodeId;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[test]
fn messages_calls_and_snapshots_arrive() {
    let (mut a, mut b) = (TestNode::start("a"), TestNode::start("b"));
    a.handle.set_peers(&[a.peer(), b.peer()]);
    let payload: Arc<[u8]> = vec![7; 100_000].into();
    let sent = [heartbeat("a", "b", 1), append("a", "b", &payload), heartbeat("a", "b", 2)];
    sent.iter().for_each(|envelope| a.handle.send(envelope.clone()));
    until("three messages", || b.seen.messages.lock().expect("no panic").len() == 3);
    for envelope in &sent {
        assert!(b.seen.messages.lock().expect("no panic").contains(envelope));
    }

    assert_eq!(
        a.handle.call_wait(&b.address, read_index(), SOON),
        Ok(Answer::Readable { index: raft::Index(7), logged: None })
    );
    let Ok(Answer::Meta(meta)) = a.handle.call_wait(&b.address, Call::Meta, SOON) else { panic!() };
    assert_eq!(meta.id, "a");
    let large = vec![9; 3 << 20];
    let Ok(Answer::Written { outcome, .. }) = a.handle.call_wait(&b.address, write(&large), SOON) else { panic!() };
    assert!(outcome == large);
    let Ok(Answer::Failed(failure)) = a.handle.call_wait(&b.address, Call::Remove { id: "x".to_owned() }, SOON) else {
        panic!()
    };
    assert_eq!(failure.kind, ferrolite::net::call::FailureKind::Unknown, "dropped without an answer");

    b.seen.resume_from.store(5, Ordering::SeqCst);
    let mut sender = a.handle.open_snapshot(&NodeId("b".into()), &b.address, b"header").expect("it is taken");
    assert_eq!(sender.resume_from(), 5);
    let bytes: Vec<u8> = (0..20_000_000u32).map(|n| (n / 1000) as u8).collect();
    bytes.chunks(3_000_000).for_each(|chunk| sender.send(chunk).expect("it is taken"));
    assert_eq!(sender.finish(), Ok(b"20000000 bytes from a".to_vec()));
    assert!(*b.seen.snapshot.lock().expect("no panic") == bytes);
    let refused = a.handle.open_snapshot(&NodeId("b".into()), &b.address, b"unwanted").map(drop);
    assert_eq!(refused, Err(ferrolite::net::NetError::Failed("not wanted".to_owned())));

    b.stop();
    assert!(matches!(a.handle.call_wait(&b.address, read_index(), SOON), Err(CallError::NotSent(_))));
    a.stop();
    assert_eq!((a.handle.connections(), b.handle.connections()), (0, 0));
}
