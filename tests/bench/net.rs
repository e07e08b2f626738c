//! How fast the transport is, between two nodes of one process on loopback: `cargo bench --bench net`.
//!
//! Calls: round trips a second of a tiny call, with so many under way. Appends: messages and bytes a second, one way.
//! Snapshot: bytes a second.

#[path = "../net_kit/mod.rs"]
mod net_kit;

use ferrolite::net::{CallError, NetHandle};
use net_kit::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const RUN: Duration = Duration::from_secs(2);

fn main() {
    let (mut a, mut b) = (TestNode::start("a"), TestNode::start("b"));
    b.seen.count_only.store(true, Ordering::SeqCst);
    a.handle.set_peers(&[a.peer(), b.peer()]);
    for in_flight in [1, 16, 64, 256] {
        calls(&a, &b, in_flight, 0);
    }
    calls(&a, &b, 64, 200);
    for bytes in [100, 1000, 100_000, 1_000_000] {
        appends(&a, &b, bytes);
    }
    large_append(&a, &b);
    snapshot(&a, &b);
    a.stop();
    b.stop();
}

/// Keeps a number of calls under way: each answer starts the next.
fn calls(a: &TestNode, b: &TestNode, in_flight: usize, payload_bytes: usize) {
    let ended = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let until = began + RUN;
    for _ in 0..in_flight {
        again(a.handle.clone(), Arc::from(&*b.address), payload_bytes, until, Arc::clone(&ended));
    }
    std::thread::sleep(RUN);
    let per_s = ended.load(Ordering::SeqCst) as f64 / began.elapsed().as_secs_f64();
    let us = in_flight as f64 / per_s * 1e6;
    println!("calls of {payload_bytes} bytes, {in_flight} in flight: {per_s:.0}/s, {us:.0} us each");
}

fn again(handle: NetHandle, address: Arc<str>, payload_bytes: usize, until: Instant, ended: Arc<AtomicU64>) {
    if Instant::now() > until {
        return;
    }
    let call = if payload_bytes == 0 { read_index() } else { write(&vec![1; payload_bytes]) };
    let (next, to) = (handle.clone(), Arc::clone(&address));
    let done = move |outcome: Result<_, CallError>| {
        outcome.expect("it is answered");
        ended.fetch_add(1, Ordering::Relaxed);
        again(next, to, payload_bytes, until, ended);
    };
    handle.call(&address, call, SOON, Box::new(done));
}

/// Keeps 4 MiB (or 64 messages) under way, as a leader does.
fn appends(a: &TestNode, b: &TestNode, bytes: usize) {
    let payload: Arc<[u8]> = vec![1; bytes].into();
    let window = (4 << 20) / bytes as u64;
    let window = window.clamp(1, 64);
    let before = b.seen.message_count.load(Ordering::SeqCst);
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < RUN {
        if sent - (b.seen.message_count.load(Ordering::SeqCst) - before) < window {
            a.handle.send(append("a", "b", &payload));
            sent += 1;
        } else {
            std::thread::yield_now();
        }
    }
    until("what was sent", || b.seen.message_count.load(Ordering::SeqCst) - before == sent);
    let count = sent;
    let per_s = count as f64 / began.elapsed().as_secs_f64();
    let dropped: u64 = a.handle.status().iter().map(|link| link.dropped).sum();
    assert_eq!(dropped, 0, "nothing is lost on a connection that holds");
    println!("appends of {bytes} bytes: {per_s:.0}/s, {:.0} MB/s", per_s * bytes as f64 / 1e6);
}

fn large_append(a: &TestNode, b: &TestNode) {
    const BYTES: usize = 200 << 20;
    let payload: Arc<[u8]> = vec![1; BYTES].into();
    let before = b.seen.entry_bytes.load(Ordering::SeqCst);
    let began = Instant::now();
    a.handle.send(append("a", "b", &payload));
    until("the large append", || b.seen.entry_bytes.load(Ordering::SeqCst) - before >= BYTES as u64);
    println!("one append of 200 MiB: {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
}

fn snapshot(a: &TestNode, b: &TestNode) {
    const CHUNKS: usize = 500;
    let chunk = vec![1; 1 << 20];
    let mut sender = a.handle.open_snapshot(&b.id, &b.address, b"bench").expect("it is taken");
    let began = Instant::now();
    (0..CHUNKS).for_each(|_| sender.send(&chunk).expect("it is taken"));
    sender.finish().expect("it is installed");
    println!("snapshot: {:.0} MB/s", (CHUNKS << 20) as f64 / 1e6 / began.elapsed().as_secs_f64());
    b.seen.snapshot.lock().expect("no panic").clear();
}
