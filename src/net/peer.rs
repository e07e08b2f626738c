//! One peer, seen from here: two lanes, each with its queue, its thread (`peer-<id>`, `bulk-<id>`) and its connection. The
//! raft thread fills the queues and never waits; a peer that is dead or slow holds up only its own two threads.
//!
//! Loss is harmless to Raft, so nothing is kept for a peer that cannot be reached: what it would get later is stale.

use super::frame::{self, Kind};
use super::handshake::Lane;
use super::limits::{
    BACK_OFF_MAX, BACK_OFF_MIN, BUFFER_KEPT_BYTES, BULK_FRAME_BYTES_MAX, BULK_QUEUE_BYTES_MAX, BULK_QUEUE_MAX,
    CONTROL_FRAME_BYTES_MAX, CONTROL_QUEUE_MAX, IDLE_OUT_MAX, RAFT_CONNECT_MAX, REFUSED_PAUSE, WRITE_BATCH_BYTES,
    WRITE_STALL_MAX,
};
use super::outgoing::{Connected, DialError, connect, jittered};
use super::service::PeerLink;
use super::shared::Shared;
use super::spool::{Spool, Taken};
use super::stream::Stream;
use parking_lot::Mutex;
use raft::{ClusterId, Envelope, Message, NodeId};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A connection that was silent for this long is looked at before it is used: the peer may have restarted since.
const LOOK_AFTER: Duration = Duration::from_millis(10);

pub struct Peer {
    pub id: NodeId,
    pub address: String,
    control: Arc<LaneOut>,
    bulk: Arc<LaneOut>,
}

/// One lane to one peer.
struct LaneOut {
    lane: Lane,
    id: NodeId,
    address: String,
    spool: Spool<Envelope>,
    status: Mutex<LaneStatus>,
}

#[derive(Default)]
struct LaneStatus {
    stream: Option<Arc<Stream>>,
    last_error: Option<String>,
}

impl Peer {
    /// Starts the peer's threads.
    ///
    /// # Errors
    /// The system gives no further thread.
    pub fn start(shared: &Arc<Shared>, id: NodeId, address: String) -> io::Result<Peer> {
        let lane = |lane, items_max, bytes_max| {
            let spool = Spool::new(items_max, bytes_max);
            Arc::new(LaneOut { lane, id: id.clone(), address: address.clone(), spool, status: Mutex::default() })
        };
        let control = lane(Lane::Control, CONTROL_QUEUE_MAX, usize::MAX);
        let bulk = lane(Lane::Bulk, BULK_QUEUE_MAX, BULK_QUEUE_BYTES_MAX);
        let peer = Peer { id: id.clone(), address: address.clone(), control, bulk };
        for (lane, name) in [(&peer.control, format!("peer-{id}")), (&peer.bulk, format!("bulk-{id}"))] {
            let (shared, lane) = (Arc::clone(shared), Arc::clone(lane));
            let owner = Arc::clone(&shared);
            if let Err(error) = shared.threads.spawn(&name, move || lane.run(&owner)) {
                peer.retire();
                return Err(error);
            }
        }
        Ok(peer)
    }

    /// Queues a message; never blocks.
    pub fn send(&self, envelope: Envelope) {
        let bytes = match &envelope.message {
            Message::Append { entries, .. } => entries.iter().map(|entry| entry.payload.len()).sum(),
            _ => 0,
        };
        match &envelope.message {
            Message::Append { entries, .. } if !entries.is_empty() => {
                // Counted by the queue; Raft sends it again in its own time.
                let _ = self.bulk.spool.push(envelope, bytes);
            }
            _ => self.control.spool.push_over_oldest(envelope, bytes),
        }
    }

    /// Ends its threads and connections, without waiting for them.
    pub fn retire(&self) {
        for lane in [&self.control, &self.bulk] {
            lane.spool.close();
            if let Some(stream) = &lane.status.lock().stream {
                stream.shutdown();
            }
        }
    }

    pub fn status(&self) -> [PeerLink; 2] {
        [self.control.link(), self.bulk.link()]
    }
}

impl LaneOut {
    fn link(&self) -> PeerLink {
        let status = self.status.lock();
        PeerLink {
            id: Some(self.id.to_string()),
            address: self.address.clone(),
            lane: self.lane.name(),
            connected: status.stream.is_some(),
            sent_bytes: status.stream.as_ref().map_or(0, |stream| stream.sent_bytes()),
            received_bytes: status.stream.as_ref().map_or(0, |stream| stream.received_bytes()),
            queued: self.spool.waiting(),
            dropped: self.spool.dropped(),
            last_error: status.last_error.clone(),
        }
    }

    /// The lane's thread.
    fn run(&self, shared: &Shared) {
        let mut sender = Sender { lane: self, shared, connected: None, used: Instant::now(), pause: BACK_OFF_MIN };
        let mut batch = VecDeque::new();
        let mut out = Vec::new();
        loop {
            match self.spool.take(&mut batch, IDLE_OUT_MAX) {
                Taken::Closed => break,
                Taken::Timeout => sender.disconnect(None),
                Taken::Some => {}
            }
            while !batch.is_empty() {
                let Some(cluster) = shared.cluster() else {
                    self.spool.give_up(batch.len());
                    batch.clear();
                    break;
                };
                let count = encode(self, cluster, &mut batch, &mut out);
                if !sender.send(&out) {
                    self.spool.give_up(batch.len() + count);
                    batch.clear();
                }
                if out.capacity() > BUFFER_KEPT_BYTES {
                    out = Vec::new();
                }
            }
        }
        sender.disconnect(None);
    }
}

/// Fills `out` with the frames of the first messages of `batch`; gives their number.
fn encode(lane: &LaneOut, cluster: ClusterId, batch: &mut VecDeque<Envelope>, out: &mut Vec<u8>) -> usize {
    let payload_max = if lane.lane == Lane::Control { CONTROL_FRAME_BYTES_MAX } else { BULK_FRAME_BYTES_MAX };
    out.clear();
    let mut count = 0;
    while out.len() < WRITE_BATCH_BYTES
        && let Some(envelope) = batch.pop_front()
    {
        let at = frame::begin(out);
        raft::wire::encode(&envelope, out);
        assert!(out.len() - at - frame::HEADER_BYTES <= payload_max, "the largest message of a lane fits its frames");
        frame::finish(out, at, Kind::Message, Some(cluster), 0);
        count += 1;
    }
    count
}

/// The connection of a lane, as its thread holds it.
struct Sender<'a> {
    lane: &'a LaneOut,
    shared: &'a Shared,
    connected: Option<Connected>,
    used: Instant,
    pause: Duration,
}

impl Sender<'_> {
    /// Writes `bytes`, on a new connection if need be. False when the peer cannot be reached now.
    fn send(&mut self, bytes: &[u8]) -> bool {
        let now = Instant::now();
        if now.duration_since(self.used) > LOOK_AFTER
            && self.connected.as_ref().is_some_and(|connected| !connected.stream.is_open())
        {
            self.disconnect(Some("the peer closed the connection".to_owned()));
        }
        // An old connection may have died unnoticed, with the peer well on a new one.
        let attempts = if self.connected.is_some() { 2 } else { 1 };
        for _ in 0..attempts {
            if self.connected.is_none() && !self.connect() {
                return false;
            }
            let Some(connected) = &self.connected else { return false };
            match connected.stream.write_all(&[bytes], WRITE_STALL_MAX) {
                Ok(()) => {
                    self.used = now;
                    return true;
                }
                Err((_, error)) => self.disconnect(Some(error.to_string())),
            }
            if self.lane.spool.is_closed() {
                return false;
            }
        }
        false
    }

    fn connect(&mut self) -> bool {
        let lane = self.lane;
        let timeout = self.shared.options.connect_timeout.min(RAFT_CONNECT_MAX);
        let is_cancelled = || lane.spool.is_closed();
        match connect(self.shared, &lane.address, lane.lane, Some(&lane.id), Instant::now() + timeout, &is_cancelled) {
            Ok(connected) => {
                *lane.status.lock() = LaneStatus { stream: Some(Arc::clone(&connected.stream)), last_error: None };
                if lane.spool.is_closed() {
                    return false;
                }
                self.connected = Some(connected);
                self.pause = BACK_OFF_MIN;
                true
            }
            Err(DialError::Cancelled) => false,
            Err(error) => {
                let is_refusal = matches!(error, DialError::Refused(_));
                let text = error.text();
                self.shared.complaints.say(&lane.id.0, &text);
                lane.status.lock().last_error = Some(text);
                let pause = if is_refusal { REFUSED_PAUSE } else { self.pause };
                self.pause = (self.pause * 2).min(BACK_OFF_MAX);
                // What was queued up to now is given up by the caller; what comes during the pause goes out after it.
                lane.spool.give_up(0);
                lane.spool.pause(jittered(pause));
                false
            }
        }
    }

    fn disconnect(&mut self, why: Option<String>) {
        self.connected = None;
        let mut status = self.lane.status.lock();
        status.stream = None;
        if why.is_some() {
            status.last_error = why;
        }
    }
}
