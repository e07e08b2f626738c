//! Nodes of the transport on loopback, with a service that notes what arrives. Test threads only.

// Each test binary compiles this module anew and uses only the part of it that it needs.
#![allow(dead_code)]

use ferrolite::auth::Callers;
use ferrolite::net::call::{CallAs, Failure, FailureKind, Meta, ReadLevel, ReadPurpose, WriteCall};
use ferrolite::net::{Answer, Call, Identity, Net, NetHandle, NetOptions, Reply, Service, SnapshotSource};
use raft::{ClusterId, Entry, EntryKind, Envelope, Incarnation, Index, LogId, Message, NodeId, Term};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const CLUSTER: ClusterId = ClusterId(0xfe44);
pub const FINGERPRINT: &str = "sqlite 3.x, test";
/// Time enough for anything that is not broken.
pub const SOON: Duration = Duration::from_secs(20);

/// What arrived at a node, and how it answers.
#[derive(Default)]
pub struct Seen {
    pub messages: Mutex<Vec<Envelope>>,
    pub message_count: AtomicU64,
    pub heartbeat_count: AtomicU64,
    pub entry_bytes: AtomicU64,
    pub calls: AtomicU64,
    /// In whose name the last call was made.
    pub callers: Mutex<Callers>,
    /// Payloads of the writes that arrived.
    pub writes: Mutex<Vec<Vec<u8>>>,
    /// Do not keep messages, only count them.
    pub count_only: AtomicBool,
    /// Keep replies instead of answering.
    pub hold_replies: AtomicBool,
    pub held: Mutex<Vec<Reply>>,
    pub snapshot: Mutex<Vec<u8>>,
    /// From where on a snapshot is wanted.
    pub resume_from: AtomicU64,
    /// Fail a snapshot after so many bytes, if not zero.
    pub snapshot_fails_at: AtomicU64,
    /// Work so long on a snapshot before answering.
    pub install_ms: AtomicU64,
}

impl Service for Seen {
    fn disconnected(&self, _from: NodeId) {}

    fn message(&self, envelope: Envelope) {
        if let Message::Append { entries, .. } = &envelope.message {
            let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
            self.entry_bytes.fetch_add(bytes as u64, Ordering::SeqCst);
        }
        if matches!(envelope.message, Message::Heartbeat { .. }) {
            self.heartbeat_count.fetch_add(1, Ordering::SeqCst);
        }
        self.message_count.fetch_add(1, Ordering::SeqCst);
        if !self.count_only.load(Ordering::Relaxed) {
            self.messages.lock().expect("no panic").push(envelope);
        }
    }

    fn call(&self, from: Option<NodeId>, call: CallAs, reply: Reply) {
        let CallAs { call, callers } = call;
        *self.callers.lock().expect("no panic") = callers;
        self.calls.fetch_add(1, Ordering::SeqCst);
        if let Call::Write(write) = &call
            && !self.count_only.load(Ordering::Relaxed)
        {
            self.writes.lock().expect("no panic").push(write.payload.clone());
        }
        if self.hold_replies.load(Ordering::SeqCst) {
            self.held.lock().expect("no panic").push(reply);
            return;
        }
        match call {
            Call::Meta => reply.send(Answer::Meta(Meta {
                id: from.map_or(String::new(), |from| from.to_string()),
                ..Meta::default()
            })),
            Call::Write(write) => reply.send(Answer::Written { id: LogId::default(), outcome: write.payload }),
            Call::ReadIndex { .. } => reply.send(Answer::Readable { index: Index(7), logged: None }),
            Call::Remove { .. } => drop(reply),
            _ => reply.send(Answer::Failed(Failure { kind: FailureKind::Refused, text: "no".to_owned() })),
        }
    }

    fn snapshot(&self, from: NodeId, header: Vec<u8>, source: &mut dyn SnapshotSource) -> Result<Vec<u8>, String> {
        if header == b"unwanted" {
            return Err("not wanted".to_owned());
        }
        let io = |error: std::io::Error| error.to_string();
        source.accept(self.resume_from.load(Ordering::SeqCst)).map_err(io)?;
        let fails_at = self.snapshot_fails_at.load(Ordering::SeqCst);
        let mut taken = 0;
        while let Some(chunk) = source.read_chunk().map_err(io)? {
            taken += chunk.len() as u64;
            self.snapshot.lock().expect("no panic").extend_from_slice(&chunk);
            if fails_at > 0 && taken >= fails_at {
                return Err("disk full".to_owned());
            }
        }
        let ready = Instant::now() + Duration::from_millis(self.install_ms.load(Ordering::SeqCst));
        while Instant::now() < ready {
            source.keep_alive();
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(format!("{taken} bytes from {from}").into_bytes())
    }
}

pub struct TestNode {
    pub net: Option<Net>,
    pub handle: NetHandle,
    pub seen: Arc<Seen>,
    pub address: String,
    pub id: NodeId,
}

pub fn node_id(id: &str) -> NodeId {
    NodeId(id.into())
}

pub fn options(id: &str, address: &str) -> NetOptions {
    NetOptions {
        connect_timeout: Duration::from_secs(5),
        compress_snapshots: false,
        fingerprint: FINGERPRINT.to_owned(),
        advertised: address.to_owned(),
        node_id: id.to_owned(),
    }
}

impl TestNode {
    /// A node of the cluster.
    pub fn start(id: &str) -> TestNode {
        let node = TestNode::start_unformed(id);
        node.handle.identify(Identity { cluster: CLUSTER, incarnation: Incarnation(1) });
        node
    }

    pub fn start_unformed(id: &str) -> TestNode {
        TestNode::start_with(id, |_| {})
    }

    pub fn start_with(id: &str, change: impl FnOnce(&mut NetOptions)) -> TestNode {
        TestNode::start_at(id, TcpListener::bind("127.0.0.1:0").expect("a port is free"), change)
    }

    pub fn start_at(id: &str, listener: TcpListener, change: impl FnOnce(&mut NetOptions)) -> TestNode {
        let address = listener.local_addr().expect("it is bound").to_string();
        let seen = Arc::new(Seen::default());
        let mut options = options(id, &address);
        change(&mut options);
        let service: Arc<dyn Service> = Arc::clone(&seen) as Arc<dyn Service>;
        let net = Net::start(vec![listener], options, service).expect("it starts");
        let handle = net.handle();
        TestNode { net: Some(net), handle, seen, address, id: node_id(id) }
    }

    pub fn stop(&mut self) {
        if let Some(net) = self.net.take() {
            assert_eq!(net.stop(), 0, "all threads have ended");
        }
    }

    pub fn peer(&self) -> (NodeId, String) {
        (self.id.clone(), self.address.clone())
    }
}

pub fn envelope(from: &str, to: &str, message: Message) -> Envelope {
    Envelope {
        from: node_id(from),
        from_incarnation: Incarnation(1),
        to: node_id(to),
        to_incarnation: Incarnation(1),
        message,
    }
}

pub fn heartbeat(from: &str, to: &str, round: u64) -> Envelope {
    let message = Message::Heartbeat { term: Term(1), round, matched: LogId::default(), commit: Index(0) };
    envelope(from, to, message)
}

/// An Append of one entry.
pub fn append(from: &str, to: &str, payload: &Arc<[u8]>) -> Envelope {
    let id = LogId { term: Term(1), index: Index(1) };
    let entries = vec![Entry { id, kind: EntryKind::Command, payload: Arc::clone(payload) }];
    envelope(from, to, Message::Append { term: Term(1), prev: LogId::default(), entries, commit: Index(0) })
}

pub fn write(payload: &[u8]) -> Call {
    Call::Write(WriteCall { payload: payload.to_vec() })
}

pub fn read_index() -> Call {
    Call::ReadIndex { level: ReadLevel::Linearizable, purpose: ReadPurpose::Query }
}

/// Looks until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not in {SOON:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
