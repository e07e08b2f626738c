//! One peer, seen from here: two lanes, each with its queue, its thread (`peer-<id>`, `bulk-<id>`) and its connection. A
//! peer that is dead or slow holds up only its own two threads; the raft thread never waits.
//!
//! While a lane's thread has nothing to do and its connection is well, the raft thread gives the kernel what it has to say
//! itself: a hand-over to another thread costs as much as the call. Everything that may take time is the lane's thread's: to
//! connect, to wait until the kernel takes more, large messages. The order of what is sent is kept: nothing is sent past the queue.
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
/// Payload of a message that the raft thread sends itself.
const DIRECT_BYTES_MAX: usize = 64 * 1024;

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
    spool: Spool<Out>,
    status: Mutex<LaneStatus>,
    direct: Mutex<Direct>,
}

/// What a lane's thread has to write.
enum Out {
    Message(Envelope),
    Rest(Rest),
}

/// What the kernel did not take of a message that was sent directly. Always the first thing in the queue, which was empty.
struct Rest {
    stream: Arc<Stream>,
    bytes: Vec<u8>,
    is_written: bool,
}

impl Drop for Rest {
    /// Half a message and then another would be nonsense to the peer.
    fn drop(&mut self) {
        if !self.is_written {
            self.stream.shutdown();
        }
    }
}

/// For sending without the lane's thread.
struct Direct {
    /// When the connection was last used, by whichever thread.
    used: Instant,
    out: Vec<u8>,
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
            let direct = Mutex::new(Direct { used: Instant::now(), out: Vec::new() });
            let (id, address) = (id.clone(), address.clone());
            Arc::new(LaneOut { lane, id, address, spool, status: Mutex::default(), direct })
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

    /// Sends a message, or queues it; never blocks. To be called by one thread at a time: it is that thread's order which is kept.
    pub fn send(&self, shared: &Shared, envelope: Envelope) {
        let bytes = match &envelope.message {
            Message::Append { entries, .. } => entries.iter().map(|entry| entry.payload.len()).sum(),
            _ => 0,
        };
        let is_bulk = matches!(&envelope.message, Message::Append { entries, .. } if !entries.is_empty());
        let lane = if is_bulk { &self.bulk } else { &self.control };
        if bytes <= DIRECT_BYTES_MAX && lane.send_directly(shared, &envelope) {
            return;
        }
        match is_bulk {
            // Counted by the queue; Raft sends it again in its own time.
            true => drop(lane.spool.push(Out::Message(envelope), bytes)),
            false => lane.spool.push_over_oldest(Out::Message(envelope), bytes),
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

    /// Gives the message to the kernel at once. False: it is to be queued.
    fn send_directly(&self, shared: &Shared, envelope: &Envelope) -> bool {
        if !self.spool.is_quiet() {
            return false;
        }
        let Some(stream) = self.status.lock().stream.clone() else { return false };
        let Some(cluster) = shared.cluster() else { return false };
        let mut direct = self.direct.lock();
        let now = Instant::now();
        if now.duration_since(direct.used) > LOOK_AFTER && !stream.is_open() {
            return false;
        }
        direct.out.clear();
        encode(self, cluster, envelope, &mut direct.out);
        match stream.write_some(&direct.out) {
            Ok(0) | Err(_) => return false,
            Ok(count) if count < direct.out.len() => {
                let rest = Rest { stream, bytes: direct.out.split_off(count), is_written: false };
                let bytes = rest.bytes.len();
                // The queue is empty, so that there is room.
                let _ = self.spool.push(Out::Rest(rest), bytes);
            }
            Ok(_) => {}
        }
        direct.used = now;
        true
    }

    /// The lane's thread.
    fn run(&self, shared: &Shared) {
        let mut sender = Sender { lane: self, shared, connected: None, pause: BACK_OFF_MIN };
        let mut batch = VecDeque::new();
        let mut out = Vec::new();
        loop {
            match self.spool.take(&mut batch, IDLE_OUT_MAX) {
                Taken::Closed => break,
                Taken::Timeout if self.direct.lock().used.elapsed() < IDLE_OUT_MAX => continue,
                Taken::Timeout => sender.disconnect(None),
                Taken::Some => {}
            }
            while !batch.is_empty() {
                if matches!(batch.front(), Some(Out::Rest(_))) {
                    let Some(Out::Rest(rest)) = batch.pop_front() else { unreachable!("just seen") };
                    sender.finish(rest);
                    continue;
                }
                let Some(cluster) = shared.cluster() else {
                    self.spool.give_up(batch.len());
                    batch.clear();
                    break;
                };
                let count = encode_all(self, cluster, &mut batch, &mut out);
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
fn encode_all(lane: &LaneOut, cluster: ClusterId, batch: &mut VecDeque<Out>, out: &mut Vec<u8>) -> usize {
    out.clear();
    let mut count = 0;
    while out.len() < WRITE_BATCH_BYTES
        && let Some(Out::Message(envelope)) = batch.front()
    {
        encode(lane, cluster, envelope, out);
        batch.pop_front();
        count += 1;
    }
    count
}

/// Appends the frame of a message.
fn encode(lane: &LaneOut, cluster: ClusterId, envelope: &Envelope, out: &mut Vec<u8>) {
    let payload_max = if lane.lane == Lane::Control { CONTROL_FRAME_BYTES_MAX } else { BULK_FRAME_BYTES_MAX };
    let at = frame::begin(out);
    raft::wire::encode(envelope, out);
    assert!(out.len() - at - frame::HEADER_BYTES <= payload_max, "the largest message of a lane fits its frames");
    frame::finish(out, at, Kind::Message, Some(cluster), 0);
}

/// The connection of a lane, as its thread holds it.
struct Sender<'a> {
    lane: &'a LaneOut,
    shared: &'a Shared,
    connected: Option<Connected>,
    pause: Duration,
}

impl Sender<'_> {
    /// Writes `bytes`, on a new connection if need be. False when the peer cannot be reached now.
    fn send(&mut self, bytes: &[u8]) -> bool {
        let now = Instant::now();
        let used = self.lane.direct.lock().used;
        if now.duration_since(used) > LOOK_AFTER
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
                    self.lane.direct.lock().used = now;
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

    /// Writes what is missing of a message, if its connection is still this one.
    fn finish(&mut self, mut rest: Rest) {
        let Some(connected) = &self.connected else { return };
        if !Arc::ptr_eq(&connected.stream, &rest.stream) {
            return;
        }
        match connected.stream.write_all(&[&rest.bytes], WRITE_STALL_MAX) {
            Ok(()) => rest.is_written = true,
            Err((_, error)) => self.disconnect(Some(error.to_string())),
        }
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
