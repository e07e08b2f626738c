//! What may go wrong between nodes, on real sockets: hostile bytes, dead and slow peers, restarts, floods, stops. Test
//! threads only.

mod net_kit;

use ferrolite::auth::{Callers, Credentials};
use ferrolite::net::call::FailureKind;
use ferrolite::net::codec::encode_call;
use ferrolite::net::frame::{self, FrameReader, Kind};
use ferrolite::net::handshake::{Hello, Lane, Welcome};
use ferrolite::net::{Answer, Call, CallError, Identity, NetError};
use net_kit::*;
use raft::{ClusterId, Envelope, Incarnation, Message, NodeId};
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
    assert_eq!(*b.seen.callers.lock().expect("no panic"), Callers::default());
    let bob = Credentials::new("bob".to_owned(), "secret".to_owned()).expect("short");
    assert!(a.handle.call_wait(&b.address, read_index().in_name_of(bob.clone()), SOON).is_ok());
    assert_eq!(*b.seen.callers.lock().expect("no panic"), Callers::from(bob));
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

/// Everything goes on working for others whatever a hostile connection does.
fn assert_well(a: &TestNode, b: &TestNode) {
    assert!(a.handle.call_wait(&b.address, read_index(), SOON).is_ok());
}

/// The transport's first frame, by hand.
fn hello(change: impl FnOnce(&mut Hello)) -> Vec<u8> {
    hello_of(Some(CLUSTER), change)
}

fn hello_of(cluster: Option<ClusterId>, change: impl FnOnce(&mut Hello)) -> Vec<u8> {
    let mut hello = Hello {
        lane: Lane::Control,
        features: 0,
        incarnation: Incarnation(1),
        run: 1,
        node_id: node_id("x"),
        address: "127.0.0.1:1".to_owned(),
        expected: None,
        fingerprint: FINGERPRINT.to_owned(),
    };
    change(&mut hello);
    let mut payload = Vec::new();
    hello.encode(&mut payload);
    let mut out = Vec::new();
    frame::put(&mut out, Kind::Hello, cluster, 0, &payload);
    out
}

/// Connects and sends these bytes.
fn intrude(node: &TestNode, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(&node.address).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a timeout can be set");
    // It may close before it has read everything.
    let _ = stream.write_all(bytes);
    stream
}

/// Reads until the other end closes; what it said.
fn last_words(mut stream: TcpStream) -> Vec<u8> {
    let mut words = Vec::new();
    match stream.read_to_end(&mut words) {
        Ok(_) => words,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => words,
        Err(error) => panic!("it does not close: {error}"),
    }
}

fn welcomed(stream: &mut TcpStream) -> bool {
    let mut reader = FrameReader::new(Arc::default());
    let deadline = Instant::now() + SOON;
    reader.next(stream, deadline, |_| 10_000).is_ok_and(|frame| frame.kind == Kind::Welcome)
}

#[test]
fn bytes_that_are_no_greeting_end_the_connection_and_nothing_else() {
    let (a, b) = (TestNode::start("a"), TestNode::start("b"));
    let mut lying = hello(|_| {});
    lying[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut oversized = Vec::new();
    frame::put(&mut oversized, Kind::Hello, Some(CLUSTER), 0, &[0; 100_000]);
    let mut flipped = hello(|_| {});
    let at = flipped.len() - 1;
    flipped[at] ^= 4;
    let mut other_kind = Vec::new();
    frame::put(&mut other_kind, Kind::Message, Some(CLUSTER), 0, b"");
    let garbage: Vec<u8> = (0..1000u32).map(|n| (n * 37) as u8).collect();
    for bytes in [&garbage, &lying, &oversized, &flipped, &other_kind] {
        assert!(last_words(intrude(&b, bytes)).is_empty());
    }
    assert_well(&a, &b);
}

#[test]
fn slow_greetings_and_half_frames_end_by_their_deadline() {
    let (a, b) = (TestNode::start("a"), TestNode::start("b"));
    let greeting = hello(|_| {});
    let began = Instant::now();
    // One says nothing, one stops in the middle, one trickles, one stops in the middle of a message.
    let silent = intrude(&b, b"");
    let half = intrude(&b, &greeting[..30]);
    let mut trickle = intrude(&b, b"");
    let mut message = Vec::new();
    frame::put(&mut message, Kind::Message, Some(CLUSTER), 0, &[1; 5000]);
    let mut late = intrude(&b, &greeting);
    assert!(welcomed(&mut late));
    late.write_all(&message[..1000]).expect("it is connected");
    // A header's bytes, one by one, for longer than a frame may take.
    let mut bytes = greeting.iter().take(43);
    until("the trickle is cut off", || {
        std::thread::sleep(Duration::from_millis(350));
        bytes.next().is_some_and(|byte| trickle.write_all(&[*byte]).is_err())
    });
    for stream in [silent, half, late] {
        assert!(last_words(stream).is_empty());
    }
    assert!(began.elapsed() < Duration::from_secs(40));
    assert_well(&a, &b);
}

#[test]
fn strangers_are_refused_with_a_reason() {
    let b = TestNode::start("b");
    let says = |bytes: &[u8], words: &str| {
        let answer = last_words(intrude(&b, bytes));
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains(words), "{words}: {text}");
    };
    says(&hello_of(Some(ClusterId(1)), |_| {}), "belongs to cluster");
    says(&hello_of(None, |_| {}), "only from members");
    says(&hello(|hello| hello.expected = Some(node_id("c"))), "this is node b");
    says(&hello(|hello| hello.fingerprint = "newer".to_owned()), "another build");
    // Another version of the protocol: the first two bytes of the greeting.
    let mut payload = vec![9, 9];
    payload.extend_from_slice(b"whatever that version says");
    let mut newer = Vec::new();
    frame::put(&mut newer, Kind::Hello, Some(CLUSTER), 0, &payload);
    says(&newer, "run one version on all nodes");
    // A node of no cluster takes no Raft messages, but calls.
    let unformed = TestNode::start_unformed("u");
    let answer = last_words(intrude(&unformed, &hello(|_| {})));
    assert!(String::from_utf8_lossy(&answer).contains("no cluster yet"));
    assert!(b.handle.call_wait(&unformed.address, Call::Meta, SOON).is_ok());
    let write_there = b.handle.call_wait(&unformed.address, write(b"x"), SOON);
    assert!(matches!(write_there, Ok(Answer::Failed(failure)) if failure.kind == FailureKind::NotReady));
    let write_here = unformed.handle.call_wait(&b.address, write(b"x"), SOON);
    assert!(matches!(write_here, Ok(Answer::Failed(failure)) if failure.kind == FailureKind::Refused));
    assert!(unformed.handle.call_wait(&b.address, Call::Meta, SOON).is_ok());
    assert_eq!(unformed.seen.writes.lock().expect("no panic").len() + b.seen.writes.lock().expect("no panic").len(), 0);
}

#[test]
fn messages_of_another_cluster_or_to_the_wrong_node_never_arrive() {
    let (a, b) = (TestNode::start("a"), TestNode::start("b"));
    let other = TestNode::start_unformed("o");
    other.handle.identify(Identity { cluster: ClusterId(1), incarnation: Incarnation(1) });
    // "c" is said to be where b is.
    other.handle.set_peers(&[b.peer()]);
    a.handle.set_peers(&[(node_id("c"), b.address.clone())]);
    let refused = |node: &TestNode, words: &str| {
        node.handle.status().iter().any(|link| link.last_error.as_ref().is_some_and(|error| error.contains(words)))
    };
    until("both refusals", || {
        other.handle.send(heartbeat("o", "b", 1));
        a.handle.send(heartbeat("a", "c", 1));
        refused(&other, "belongs to cluster") && refused(&a, "this is node b")
    });
    assert_eq!(b.seen.message_count.load(Ordering::SeqCst), 0);
    a.handle.set_peers(&[b.peer()]);
    a.handle.send(heartbeat("a", "b", 2));
    until("the right one", || b.seen.message_count.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_damaged_frame_in_a_stream_ends_it_before_it_is_seen() {
    let b = TestNode::start("b");
    let mut stream = intrude(&b, &hello(|_| {}));
    assert!(welcomed(&mut stream));
    let mut out = Vec::new();
    for round in 0..3 {
        let mut payload = Vec::new();
        raft::wire::encode(&heartbeat("x", "b", round), &mut payload);
        frame::put(&mut out, Kind::Message, Some(CLUSTER), 0, &payload);
    }
    let frame_bytes = out.len() / 3;
    out[frame_bytes + 60] ^= 1;
    stream.write_all(&out).expect("it is connected");
    assert!(last_words(stream).is_empty());
    assert_eq!(b.seen.message_count.load(Ordering::SeqCst), 1, "the one before the damage");
    // In the name of another node.
    let mut stream = intrude(&b, &hello(|_| {}));
    assert!(welcomed(&mut stream));
    let mut payload = Vec::new();
    raft::wire::encode(&heartbeat("a", "b", 7), &mut payload);
    out.clear();
    frame::put(&mut out, Kind::Message, Some(CLUSTER), 0, &payload);
    stream.write_all(&out).expect("it is connected");
    assert!(last_words(stream).is_empty());
    assert_eq!(b.seen.message_count.load(Ordering::SeqCst), 1);
}

/// Takes connections and greets back as node `id`, then never reads again.
fn deaf_node(id: &'static str) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    listener.set_nonblocking(true).expect("it can be set");
    std::thread::spawn(move || {
        let mut open = Vec::new();
        while !over.load(Ordering::SeqCst) {
            if let Ok((mut stream, _)) = listener.accept() {
                stream.set_nonblocking(false).expect("it can be set");
                let welcome = Welcome {
                    features: 0,
                    incarnation: Incarnation(1),
                    run: 1,
                    node_id: node_id(id),
                    fingerprint: FINGERPRINT.to_owned(),
                };
                let mut payload = Vec::new();
                welcome.encode(&mut payload);
                let mut out = Vec::new();
                frame::put(&mut out, Kind::Welcome, Some(CLUSTER), 0, &payload);
                let _ = stream.write_all(&out);
                open.push(stream);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    (address, is_over)
}

#[test]
fn a_peer_that_never_reads_holds_up_nobody_and_little_memory() {
    let (a, b) = (TestNode::start("a"), TestNode::start("b"));
    let (deaf, is_over) = deaf_node("d");
    a.handle.set_peers(&[b.peer(), (node_id("d"), deaf.clone())]);
    let payload: Arc<[u8]> = vec![1; 1 << 20].into();
    let began = Instant::now();
    for round in 0..3000 {
        a.handle.send(append("a", "d", &payload));
        a.handle.send(heartbeat("a", "d", round));
        a.handle.send(heartbeat("a", "b", round));
        if round % 100 == 99 {
            // The live one gets its own at once.
            until("heartbeats", || b.seen.heartbeat_count.load(Ordering::SeqCst) == round + 1);
        }
    }
    assert!(began.elapsed() < Duration::from_secs(15), "sending never blocks");
    let link = |lane| {
        let links = a.handle.status();
        links.into_iter().find(|link| link.id.as_deref() == Some("d") && link.lane == lane).expect("it is a peer")
    };
    assert!(link("bulk").queued <= 64 && link("control").queued <= 1024);
    assert!(link("bulk").dropped > 2000);
    // Calls to it end by their deadline, and it is not known what became of them.
    let called = Instant::now();
    let outcome = a.handle.call_wait(&deaf, read_index(), Duration::from_millis(300));
    assert!(matches!(outcome, Err(CallError::Unknown(_))), "{outcome:?}");
    assert!(called.elapsed() < Duration::from_secs(5));
    is_over.store(true, Ordering::SeqCst);
}

#[test]
fn calls_to_a_peer_that_takes_connections_but_stays_silent_are_not_sent() {
    let a = TestNode::start("a");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = silent.local_addr().expect("it is bound").to_string();
    let began = Instant::now();
    let outcome = a.handle.call_wait(&address, read_index(), Duration::from_millis(200));
    assert!(matches!(outcome, Err(CallError::NotSent(_))), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(3));
    // And one that answers nonsense.
    let (listener, other) = (TcpListener::bind("127.0.0.1:0").expect("a port is free"), TestNode::start("o"));
    let nonsense = listener.local_addr().expect("it is bound").to_string();
    let speaker = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it is dialled");
        let _ = stream.write_all(&[b'x'; 100]);
        last_words(stream);
    });
    let outcome = a.handle.call_wait(&nonsense, read_index(), SOON);
    assert!(matches!(outcome, Err(CallError::NotSent(_))), "{outcome:?}");
    speaker.join().expect("no panic");
    assert_well(&a, &other);
}

#[test]
fn six_hundred_connections_leave_the_door_open_for_peers() {
    let (mut a, b) = (TestNode::start("a"), TestNode::start("b"));
    assert_well(&a, &b);
    a.handle.set_peers(&[b.peer()]);
    let crowd: Vec<TcpStream> =
        (0..600).map(|_| TcpStream::connect(&b.address).expect("the kernel takes it")).collect();
    // On a slow machine the first ones make room before the last ones come: 16 places are kept free.
    until("it is full", || b.handle.connections() >= 490);
    assert!(b.handle.connections() <= 520);
    assert_well(&a, &b);
    // A newcomer is let in before the silent ones have had their time.
    let began = Instant::now();
    until("the heartbeat", || {
        a.handle.send(heartbeat("a", "b", 1));
        b.seen.heartbeat_count.load(Ordering::SeqCst) > 0
    });
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // Those who had their time make room, and count until they are gone.
    let mut most = 0;
    let second: Vec<TcpStream> = (0..600)
        .map(|_| {
            let stream = TcpStream::connect(&b.address).expect("the kernel takes it");
            most = most.max(b.handle.connections());
            stream
        })
        .collect();
    assert!((490..=520).contains(&most), "{most}");
    drop((crowd, second));
    until("the crowd is gone", || b.handle.connections() < 10);
    a.stop();
}

#[test]
fn many_connections_of_one_node_push_out_its_oldest() {
    let b = TestNode::start("b");
    let mut streams: Vec<TcpStream> = Vec::new();
    for _ in 0..5 {
        let mut stream = intrude(&b, &hello(|_| {}));
        assert!(welcomed(&mut stream));
        streams.push(stream);
    }
    let newest = streams.split_off(3);
    for stream in streams {
        assert!(last_words(stream).is_empty());
    }
    until("the two newest are left", || b.handle.connections() == 2);
    drop(newest);
}

#[test]
fn a_restarted_peer_loses_no_call_that_was_never_written() {
    let a = TestNode::start("a");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let before = ferrolite::vars::cluster::NUM_CLIENT_FORCE_NEW_CONN.get();
    let mut b = TestNode::start_at("b", listener, |_| {});
    b.handle.identify(Identity { cluster: CLUSTER, incarnation: Incarnation(1) });
    for _ in 0..5 {
        assert_well(&a, &b);
        b.stop();
        let listener = rebind(address);
        b = TestNode::start_at("b", listener, |_| {});
        b.handle.identify(Identity { cluster: CLUSTER, incarnation: Incarnation(1) });
    }
    assert_well(&a, &b);
    assert!(ferrolite::vars::cluster::NUM_CLIENT_FORCE_NEW_CONN.get() >= before + 5);
    // Raft lanes too.
    a.handle.set_peers(&[b.peer()]);
    until("a heartbeat", || {
        a.handle.send(heartbeat("a", "b", 1));
        b.seen.heartbeat_count.load(Ordering::SeqCst) > 0
    });
    b.stop();
    let b = TestNode::start_at("b", rebind(address), |_| {});
    b.handle.identify(Identity { cluster: CLUSTER, incarnation: Incarnation(1) });
    until("a heartbeat after the restart", || {
        a.handle.send(heartbeat("a", "b", 2));
        b.seen.heartbeat_count.load(Ordering::SeqCst) > 0
    });
}

/// How each call ended, by its number: once, if all is well.
type Ends = HashMap<u64, Vec<Result<Answer, CallError>>>;

fn rebind(address: SocketAddr) -> TcpListener {
    let mut listener = None;
    until("the port is free again", || {
        listener = TcpListener::bind(address).ok();
        listener.is_some()
    });
    listener.expect("it was bound")
}

#[test]
fn each_call_ends_exactly_once_and_truly_while_the_peer_is_killed_over_and_over() {
    const ROUNDS: usize = 8;
    const CALLS: u64 = 400;
    let a = TestNode::start("a");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let mut next = Some(listener);
    let ends: Arc<Mutex<Ends>> = Arc::default();
    let mut arrived: HashSet<u64> = HashSet::new();
    let mut number = 0u64;
    for _ in 0..ROUNDS {
        let mut b = TestNode::start_at("b", next.take().expect("it was bound"), |_| {});
        b.handle.identify(Identity { cluster: CLUSTER, incarnation: Incarnation(1) });
        let last = number + CALLS;
        while number < last {
            number += 1;
            let (mine, ends) = (number, Arc::clone(&ends));
            let done = move |outcome| ends.lock().expect("no panic").entry(mine).or_default().push(outcome);
            a.handle.call(&b.address, write(&mine.to_le_bytes()), Duration::from_secs(2), Box::new(done));
        }
        // In the middle of it: some are answered, some are on their way.
        b.stop();
        for payload in b.seen.writes.lock().expect("no panic").drain(..) {
            let mine = u64::from_le_bytes(payload[..].try_into().expect("eight bytes were sent"));
            assert!(arrived.insert(mine), "call {mine} arrived twice");
        }
        next = Some(rebind(address));
    }
    until("all have ended", || ends.lock().expect("no panic").len() as u64 == number);
    for (mine, ends) in ends.lock().expect("no panic").iter() {
        match &ends[..] {
            [Ok(Answer::Written { .. })] => assert!(arrived.contains(mine)),
            [Err(CallError::NotSent(_))] => assert!(!arrived.contains(mine), "call {mine} was said not to be sent"),
            [Err(CallError::Unknown(_))] => {}
            other => panic!("call {mine}: {other:?}"),
        }
    }
}

/// Small messages are written by whoever sends them, the rest of what the kernel does not take, and all behind it, by the lane's
/// thread: here both take turns, with a receiver that stops reading again and again.
#[test]
fn messages_keep_their_order_whoever_writes_them() {
    const BURSTS: u64 = 20;
    const BURST: u64 = 200;
    let (a, b) = (TestNode::start("a"), TestNode::start("b"));
    a.handle.set_peers(&[b.peer()]);
    let numbered = |number: u64| {
        let mut payload = vec![7; 60_000];
        payload[..8].copy_from_slice(&number.to_le_bytes());
        append("a", "b", &payload.into())
    };
    let number_of = |envelope: &Envelope| match &envelope.message {
        Message::Append { entries, .. } => u64::from_le_bytes(entries[0].payload[..8].try_into().expect("it has more")),
        message => panic!("{message:?}"),
    };
    for burst in 0..BURSTS {
        let held = b.seen.messages.lock().expect("no panic");
        (0..BURST).for_each(|n| a.handle.send(numbered(burst * BURST + n)));
        drop(held);
        let last = burst * BURST + BURST - 1;
        until("the last of the burst", || {
            b.seen.messages.lock().expect("no panic").last().is_some_and(|envelope| number_of(envelope) == last)
        });
    }
    let numbers: Vec<u64> = b.seen.messages.lock().expect("no panic").iter().map(number_of).collect();
    assert_eq!(numbers.windows(2).find(|pair| pair[1] != pair[0] + 1), None, "nothing is lost, doubled or overtaken");
    assert_eq!((numbers.first(), numbers.len() as u64), (Some(&0), BURSTS * BURST));
}

#[test]
fn heartbeats_pass_while_a_large_append_is_under_way() {
    const BYTES: usize = 200 << 20;
    let (a, b) = (TestNode::start("a"), TestNode::start("b"));
    a.handle.set_peers(&[b.peer()]);
    b.seen.count_only.store(true, Ordering::SeqCst);
    let payload: Arc<[u8]> = vec![1; BYTES].into();
    a.handle.send(append("a", "b", &payload));
    let mut longest = Duration::ZERO;
    let mut rounds = 0;
    while b.seen.entry_bytes.load(Ordering::SeqCst) < BYTES as u64 {
        let began = Instant::now();
        rounds += 1;
        a.handle.send(heartbeat("a", "b", rounds));
        until("the heartbeat", || b.seen.heartbeat_count.load(Ordering::SeqCst) == rounds);
        longest = longest.max(began.elapsed());
        assert!(a.handle.call_wait(&b.address, read_index(), SOON).is_ok());
    }
    println!("{rounds} heartbeats meanwhile, the slowest took {longest:?}");
    assert!(rounds > 1 && longest < Duration::from_secs(1), "{rounds} {longest:?}");
}

#[test]
fn a_client_that_does_not_read_its_answers_is_cut_off() {
    let b = TestNode::start("b");
    let mut stream = intrude(&b, &hello(|hello| hello.lane = Lane::Calls));
    assert!(welcomed(&mut stream));
    let mut payload = Vec::new();
    encode_call(&write(&vec![3; 1 << 20]).into(), &mut payload).expect("it is short");
    let mut out = Vec::new();
    frame::put(&mut out, Kind::Call, Some(CLUSTER), 1, &payload);
    stream.set_write_timeout(Some(SOON)).expect("a timeout can be set");
    let mut sent = 0;
    while stream.write_all(&out).is_ok() {
        sent += 1;
        assert!(sent < 1000, "it is never cut off");
    }
    until("it is gone", || b.handle.connections() == 0);
}

#[test]
fn snapshots_survive_compression_and_failures_are_told() {
    let a = TestNode::start_with("a", |options| options.compress_snapshots = true);
    a.handle.identify(Identity { cluster: CLUSTER, incarnation: Incarnation(1) });
    let b = TestNode::start("b");
    // Parts that become smaller, and parts that do not.
    let mut state = 1u64;
    let mut bytes = vec![0u8; 5 << 20];
    for byte in bytes[2 << 20..4 << 20].iter_mut() {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *byte = (state >> 56) as u8;
    }
    let mut sender = a.handle.open_snapshot(&b.id, &b.address, b"").expect("it is taken");
    bytes.chunks(77_777).for_each(|chunk| sender.send(chunk).expect("it is taken"));
    sender.send(&[]).expect("nothing is no chunk");
    sender.finish().expect("it is installed");
    assert!(*b.seen.snapshot.lock().expect("no panic") == bytes);

    // The receiver works for longer than silence would be borne without its signs of life.
    b.seen.install_ms.store(5000, Ordering::SeqCst);
    let mut sender = a.handle.open_snapshot(&b.id, &b.address, b"").expect("it is taken");
    sender.send(b"abc").expect("it is taken");
    assert!(sender.finish().is_ok());

    b.seen.snapshot_fails_at.store(3 << 20, Ordering::SeqCst);
    let mut sender = a.handle.open_snapshot(&b.id, &b.address, b"").expect("it is taken");
    let mut outcome = Ok(());
    for _ in 0..100 {
        outcome = sender.send(&bytes);
        if outcome.is_err() {
            break;
        }
    }
    assert_eq!(outcome, Err(NetError::Failed("disk full".to_owned())));
    let wrong = a.handle.open_snapshot(&node_id("c"), &b.address, b"").map(drop);
    assert!(matches!(wrong, Err(NetError::Refused(_))), "{wrong:?}");
}

#[test]
fn a_stop_with_everything_in_flight_leaves_nothing_behind() {
    let (mut a, mut b) = (TestNode::start("a"), TestNode::start("b"));
    let (deaf, is_over) = deaf_node("d");
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let silent = nobody.local_addr().expect("it is bound").to_string();
    a.handle.set_peers(&[b.peer(), (node_id("d"), deaf.clone()), (node_id("s"), silent.clone())]);
    b.seen.hold_replies.store(true, Ordering::SeqCst);
    let ended = Arc::new(AtomicU64::new(0));
    let payload: Arc<[u8]> = vec![1; 30 << 20].into();
    for _ in 0..20 {
        for to in ["b", "d", "s"] {
            a.handle.send(append("a", to, &payload));
            a.handle.send(heartbeat("a", to, 1));
        }
        for address in [&b.address, &deaf, &silent] {
            let ended = Arc::clone(&ended);
            let done = move |_| {
                ended.fetch_add(1, Ordering::SeqCst);
            };
            a.handle.call(address, write(&payload[..1000]), Duration::from_secs(60), Box::new(done));
        }
    }
    let handle = a.handle.clone();
    let (id, address) = (b.id.clone(), b.address.clone());
    let snapshot = std::thread::spawn(move || {
        let mut sender = handle.open_snapshot(&id, &address, b"")?;
        loop {
            sender.send(&[1; 100_000])?;
        }
        #[allow(unreachable_code)]
        Ok::<(), NetError>(())
    });
    until("calls are held", || b.seen.held.lock().expect("no panic").len() == 20);
    until("the snapshot runs", || !b.seen.snapshot.lock().expect("no panic").is_empty());
    let began = Instant::now();
    a.stop();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(snapshot.join().expect("no panic").is_err());
    assert_eq!(ended.load(Ordering::SeqCst), 60, "all have ended by then");
    assert_eq!(a.handle.connections(), 0);
    b.seen.held.lock().expect("no panic").clear();
    let began = Instant::now();
    b.stop();
    assert!(began.elapsed() < Duration::from_secs(4));
    assert_eq!(b.handle.connections(), 0);
    // Whatever comes after the stop ends at once.
    let outcome = a.handle.call_wait(&b.address, read_index(), SOON);
    assert!(matches!(outcome, Err(CallError::NotSent(_))));
    a.handle.set_peers(&[b.peer()]);
    a.handle.send(heartbeat("a", "b", 1));
    assert!(a.handle.open_snapshot(&b.id, &b.address, b"").is_err());
    is_over.store(true, Ordering::SeqCst);
}

/// A process named x, by hand: its run, where it says it is.
fn process(run: u64, address: &str) -> Vec<u8> {
    hello(|hello| (hello.run, hello.address) = (run, address.to_owned()))
}

fn heartbeat_frame() -> Vec<u8> {
    let (mut payload, mut out) = (Vec::new(), Vec::new());
    raft::wire::encode(&heartbeat("x", "b", 1), &mut payload);
    frame::put(&mut out, Kind::Message, Some(CLUSTER), 0, &payload);
    out
}

#[test]
fn of_two_processes_on_copies_of_one_directory_only_the_first_is_listened_to() {
    let b = TestNode::start("b");
    let mut original = TestNode::start("a");
    let copy = TestNode::start("a");
    original.handle.set_peers(&[b.peer()]);
    original.handle.send(heartbeat("a", "b", 1));
    until("the original", || b.seen.heartbeat_count.load(Ordering::SeqCst) == 1);
    let refused = |node: &TestNode| {
        node.handle.status().iter().any(|link| {
            link.last_error
                .as_ref()
                .is_some_and(|error| error.contains("two processes run as node a") && error.contains("Stop one"))
        })
    };
    copy.handle.set_peers(&[b.peer()]);
    until("the refusal", || {
        copy.handle.send(heartbeat("a", "b", 2));
        refused(&copy)
    });
    // Nor are its calls answered.
    assert!(matches!(copy.handle.call_wait(&b.address, read_index(), SOON), Err(CallError::NotSent(_))));
    assert_eq!(b.seen.heartbeat_count.load(Ordering::SeqCst), 1);
    original.handle.send(heartbeat("a", "b", 3));
    until("the original goes on", || b.seen.heartbeat_count.load(Ordering::SeqCst) == 2);
    // When the original has ended the name is free.
    original.stop();
    until("the other one", || {
        copy.handle.send(heartbeat("a", "b", 4));
        b.seen.heartbeat_count.load(Ordering::SeqCst) > 2
    });
}

#[test]
fn a_process_that_was_killed_and_started_again_waits_for_nothing() {
    let b = TestNode::start("b");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let mut next = Some(listener);
    let mut slowest = Duration::ZERO;
    for round in 1..6 {
        let mut a = TestNode::start_at("a", next.take().expect("it was bound"), |_| {});
        a.handle.identify(Identity { cluster: CLUSTER, incarnation: Incarnation(1) });
        a.handle.set_peers(&[b.peer()]);
        let began = Instant::now();
        a.handle.send(heartbeat("a", "b", round));
        until("the heartbeat", || b.seen.heartbeat_count.load(Ordering::SeqCst) == round);
        slowest = slowest.max(began.elapsed());
        a.stop();
        next = Some(rebind(address));
    }
    assert!(slowest < Duration::from_millis(900), "{slowest:?}");
}

#[test]
fn who_neither_answers_nor_speaks_loses_its_name_and_who_speaks_keeps_it() {
    let b = TestNode::start("b");
    // Nobody listens at its address, and no end of it was heard: its power is gone, as far as one can see.
    let nowhere = "127.0.0.1:1";
    let mut gone = intrude(&b, &process(1, nowhere));
    assert!(welcomed(&mut gone));
    let mut second = intrude(&b, &process(2, nowhere));
    assert!(welcomed(&mut second), "the first one is silent");
    assert!(last_words(gone).is_empty(), "and listened to no more");
    // The second one speaks all the time, though nobody can reach it.
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let speaks = std::thread::spawn(move || {
        while !over.load(Ordering::SeqCst) {
            second.write_all(&heartbeat_frame()).expect("it is listened to");
            std::thread::sleep(Duration::from_millis(10));
        }
        second
    });
    let words = last_words(intrude(&b, &process(3, nowhere)));
    assert!(String::from_utf8_lossy(&words).contains("two processes run as node x"));
    is_over.store(true, Ordering::SeqCst);
    let second = speaks.join().expect("it was listened to all the time");
    // The same process may have many connections; another life of the node is told apart by other means.
    assert!(welcomed(&mut intrude(&b, &process(2, nowhere))));
    let other_life = hello(|hello| (hello.run, hello.incarnation) = (9, Incarnation(2)));
    assert!(welcomed(&mut intrude(&b, &other_life)));
    drop(second);
    // A copy of the very node that is called.
    let twin = hello(|hello| (hello.run, hello.node_id) = (9, node_id("b")));
    let words = last_words(intrude(&b, &twin));
    assert!(String::from_utf8_lossy(&words).contains("two processes run as node b"));
}
