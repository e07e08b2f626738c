//! Taking connections in: the accept thread (`net-accept`), and the first steps of a connection's own thread (`net-in`),
//! which shakes hands and then serves its lane. The accept thread never reads or writes a connection.

use super::answers::AnswerQueue;
use super::call::{Answer, Call, Failure, FailureKind};
use super::codec::decode_call;
use super::fetch_in;
use super::frame::{self, FrameError, FrameReader, Header, Kind};
use super::handshake::{Hello, HelloError, Lane, Welcome, twins};
use super::limits::{
    BULK_FRAME_BYTES_MAX, CALL_CONNECTIONS_MAX, CALL_FRAME_BYTES_MAX, CONNECTIONS_MAX, CONNECTIONS_PER_LANE_MAX,
    CONNECTIONS_SPARE, CONTROL_FRAME_BYTES_MAX, GREETING_PATIENCE, HANDSHAKE_MAX, HELLO_BYTES_MAX, IDLE_IN_MAX,
    RIVAL_LOOK_INTERVAL, RIVAL_WAIT_MAX, STRANGER_CALL_BYTES_MAX, WRITE_STALL_MAX,
};
use super::names::{Claim, Name, Names, Rival, TakeOver};
use super::outgoing::answers_there;
use super::service::{Reply, Service};
use super::shared::Shared;
use super::snapshot_in;
use super::stream::{Stream, accept};
use crate::vars;
use parking_lot::Mutex;
use raft::{ClusterId, Incarnation, NodeId};
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::BTreeMap;
use std::io::{self, PipeReader};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause when the system has no descriptor or thread for a new connection.
const BACK_OFF: Duration = Duration::from_millis(20);

/// The accept thread's struct.
pub struct Acceptor {
    pub shared: Arc<Shared>,
    pub service: Arc<dyn Service>,
    pub listeners: Vec<TcpListener>,
    /// Becomes readable when the transport stops.
    pub stopped: PipeReader,
}

/// The incoming connections, by number: the oldest first.
#[derive(Default)]
struct Table {
    next: u64,
    connections: BTreeMap<u64, Entry>,
    names: Names,
}

struct Entry {
    stream: Arc<Stream>,
    since: Instant,
    /// Ended to make room; it counts until its thread is gone.
    is_leaving: bool,
    /// Known from the handshake on.
    from: Option<(NodeId, Lane)>,
    /// Which process it is, from the same moment on.
    speaker: Option<(Name, u64)>,
}

impl Table {
    /// The connection has the name that it claims, if nobody else has.
    fn claim(&mut self, number: u64, claim: &Claim) -> Result<(), Rival> {
        let connections = &self.connections;
        let connected = |name: &Name, run: u64| {
            connections.values().any(|entry| entry.speaker.as_ref().is_some_and(|(n, r)| n == name && *r == run))
        };
        self.names.claim(claim, connected)?;
        self.speaks(number, claim);
        Ok(())
    }

    /// It gets the name of another process, if that one is gone; and then ends what is left of that one.
    fn take_over(&mut self, number: u64, claim: &Claim, rival: u64) -> TakeOver {
        let whose = (claim.name.clone(), rival);
        let of_rival = || self.connections.values().filter(|entry| entry.speaker.as_ref() == Some(&whose));
        let received = of_rival().map(|entry| entry.stream.received_bytes()).reduce(|a, b| a + b);
        let outcome = self.names.take_over(claim, rival, received, Instant::now());
        if outcome == TakeOver::Done {
            of_rival().for_each(|entry| entry.stream.shutdown());
            self.speaks(number, claim);
        }
        outcome
    }

    fn speaks(&mut self, number: u64, claim: &Claim) {
        if let Some(entry) = self.connections.get_mut(&number) {
            entry.speaker = Some((claim.name.clone(), claim.run));
        }
    }

    /// Whether another connection can be taken. Makes room before there is none: who has to go takes its time.
    fn has_room(&mut self) -> bool {
        let staying = self.connections.values().filter(|entry| !entry.is_leaving).count();
        if staying + CONNECTIONS_SPARE >= CONNECTIONS_MAX
            && let Some(entry) = self.connections.values_mut().find(|entry| entry.is_mute())
        {
            vars::cluster::NUM_CONN_REJECTED.add(1);
            entry.is_leaving = true;
            entry.stream.shutdown();
        }
        self.connections.len() < CONNECTIONS_MAX
    }
}

impl Entry {
    /// It was given the time to greet, and did not.
    fn is_mute(&self) -> bool {
        !self.is_leaving && self.from.is_none() && self.since.elapsed() > GREETING_PATIENCE
    }
}

type Connections = Mutex<Table>;

impl Acceptor {
    pub fn run(self) {
        let table = Arc::new(Connections::default());
        while !self.shared.is_stopping() {
            let mut fds: Vec<PollFd<'_>> =
                self.listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)).collect();
            fds.push(PollFd::new(&self.stopped, PollFlags::IN));
            if poll(&mut fds, None).is_err() {
                continue;
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            for (listener, _) in self.listeners.iter().zip(ready).filter(|(_, is_ready)| *is_ready) {
                match listener.accept() {
                    Ok((stream, _)) => self.welcome(stream, &table),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // No descriptor left, mostly: it stays readable, so do not spin on it.
                    Err(_) => std::thread::sleep(BACK_OFF),
                }
            }
        }
    }

    fn welcome(&self, stream: TcpStream, table: &Arc<Connections>) {
        vars::mux::NUM_CONNECTIONS_HANDLED.add(1);
        if !table.lock().has_room() {
            vars::cluster::NUM_CONN_REJECTED.add(1);
            return;
        }
        let Ok(stream) = accept(&self.shared.streams, stream) else { return };
        let number = {
            let mut table = table.lock();
            table.next += 1;
            let number = table.next;
            table.connections.insert(
                number,
                Entry {
                    stream: Arc::clone(&stream),
                    since: Instant::now(),
                    is_leaving: false,
                    from: None,
                    speaker: None,
                },
            );
            number
        };
        let connection = Connection {
            shared: Arc::clone(&self.shared),
            service: Arc::clone(&self.service),
            reader: FrameReader::new(Arc::clone(&self.shared.incoming)),
            stream,
            seat: Seat { table: Arc::clone(table), number },
        };
        if let Err(error) = self.shared.threads.spawn("net-in", move || connection.run()) {
            // The connection went with the closure.
            self.shared.complaints.say("accept", &format!("no thread for a connection: {error}"));
            std::thread::sleep(BACK_OFF);
        }
    }
}

/// A connection's thread.
struct Connection {
    shared: Arc<Shared>,
    service: Arc<dyn Service>,
    reader: FrameReader,
    stream: Arc<Stream>,
    /// Last, so that it is given back when nothing else of the connection is left.
    seat: Seat,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stream.shutdown();
    }
}

/// A connection's place in the table.
struct Seat {
    table: Arc<Connections>,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        // With the lock held: nobody takes the place before the descriptor is closed.
        let mut table = self.table.lock();
        drop(table.connections.remove(&self.number));
    }
}

impl Connection {
    fn run(mut self) {
        let remote = self.stream.remote().map_or("?".to_owned(), |remote| remote.ip().to_string());
        let hello = match self.shake_hands() {
            Ok(hello) => hello,
            Err(Some(text)) => return self.shared.complaints.say(&remote, &text),
            Err(None) => return,
        };
        if hello.lane == Lane::Look {
            return;
        }
        let from = hello.node_id.clone();
        self.make_room(&from, hello.lane);
        if matches!(hello.lane, Lane::Control | Lane::Bulk) {
            self.shared.meet(&from, &hello.address);
        }
        let ended = match hello.lane {
            Lane::Control => self.messages(&from, CONTROL_FRAME_BYTES_MAX),
            Lane::Bulk => self.messages(&from, BULK_FRAME_BYTES_MAX),
            Lane::Calls => self.calls(&from),
            Lane::Look => Ok(()),
            Lane::Snapshot => {
                let (shared, service) = (&*self.shared, &*self.service);
                snapshot_in::serve(shared, service, from.clone(), &self.stream, &mut self.reader)
            }
            Lane::Fetch => {
                let (shared, service) = (&*self.shared, &*self.service);
                fetch_in::serve(shared, service, from.clone(), &self.stream, &mut self.reader)
            }
        };
        if hello.lane == Lane::Control && !self.shared.is_stopping() && self.was_last_of(&from) {
            self.service.disconnected(from.clone());
        }
        if let Err(text) = ended
            && !self.shared.is_stopping()
        {
            self.shared.complaints.say(&format!("node {from} at {remote}"), &text);
        }
    }

    /// Greets back, or refuses. The error is for the log, if it is worth a line.
    fn shake_hands(&mut self) -> Result<Hello, Option<String>> {
        let deadline = Instant::now() + HANDSHAKE_MAX;
        let frame = match self.reader.next(&*self.stream, deadline, |_| HELLO_BYTES_MAX) {
            Ok(frame) => frame,
            // A look whether the port is open: nothing to say about it.
            Err(FrameError::Closed) => return Err(None),
            Err(error) => {
                if matches!(error, FrameError::Foreign) {
                    vars::mux::NUM_UNREGISTERED_HANDLERS.add(1);
                }
                return Err(Some(format!("connection closed: {error}")));
            }
        };
        if frame.kind != Kind::Hello {
            return Err(Some("connection closed: it does not begin with a greeting".to_owned()));
        }
        let cluster = frame.cluster;
        let own_cluster = self.shared.cluster();
        let hello = Hello::decode(frame.payload);
        let verdict = match &hello {
            Ok(hello) => hello
                .judge(cluster, &self.shared.own, own_cluster)
                .and_then(|()| self.name(hello, cluster.is_some() && cluster == own_cluster)),
            Err(HelloError::Protocol(_)) => Err(hello.as_ref().map(|_| ()).expect_err("it is an error").to_string()),
            Err(error) => Err(error.to_string()),
        };
        let mut out = Vec::new();
        let at = frame::begin(&mut out);
        match (hello, verdict) {
            (Ok(hello), Ok(())) => {
                let (node_id, fingerprint) = (self.shared.own.node_id.clone(), self.shared.own.fingerprint.clone());
                let (incarnation, run) = (self.shared.incarnation(), self.shared.run);
                let welcome = Welcome { features: 0, incarnation, run, node_id, fingerprint };
                welcome.encode(&mut out);
                frame::finish(&mut out, at, Kind::Welcome, own_cluster, 0);
                self.stream.write_all(&[&out], WRITE_STALL_MAX).map_err(|_| None)?;
                Ok(hello)
            }
            (_, verdict) => {
                let text = verdict.err().unwrap_or_default();
                out.extend_from_slice(text.as_bytes());
                frame::finish(&mut out, at, Kind::Refusal, own_cluster, 0);
                // It may be gone already; then nobody needs the text.
                let _ = self.stream.write_all(&[&out], WRITE_STALL_MAX);
                Err(Some(format!("connection refused: {text}")))
            }
        }
    }

    /// Lets the process at the other end speak for its node, unless another one does: see `names`. Waits a moment for one
    /// that may be gone.
    fn name(&self, hello: &Hello, same_cluster: bool) -> Result<(), String> {
        if hello.lane == Lane::Look || hello.incarnation == Incarnation(0) || !same_cluster {
            return Ok(());
        }
        if self.shared.is_twin(same_cluster, &hello.node_id, hello.incarnation, hello.run) {
            return self.refuse_twin(hello, &self.shared.own.address);
        }
        let name = (hello.node_id.clone(), hello.incarnation);
        let claim = Claim { name, run: hello.run, address: hello.address.clone() };
        let until = Instant::now() + RIVAL_WAIT_MAX;
        loop {
            let Err(rival) = self.seat.table.lock().claim(self.seat.number, &claim) else { return Ok(()) };
            if answers_there(&self.shared, &rival.address, &hello.node_id, rival.run) {
                return self.refuse_twin(hello, &rival.address);
            }
            loop {
                match self.seat.table.lock().take_over(self.seat.number, &claim, rival.run) {
                    TakeOver::Done => return Ok(()),
                    TakeOver::Overtaken => break,
                    TakeOver::Wait => {}
                }
                if Instant::now() >= until || self.shared.is_stopping() {
                    return self.refuse_twin(hello, &rival.address);
                }
                std::thread::sleep(RIVAL_LOOK_INTERVAL);
            }
        }
    }

    fn refuse_twin(&self, hello: &Hello, there: &str) -> Result<(), String> {
        let text = twins(&hello.node_id, &hello.address, there);
        self.shared.complaints.shout(&hello.node_id.0, &text);
        Err(text)
    }

    /// No other connection of this node carries its small Raft messages.
    fn was_last_of(&self, from: &NodeId) -> bool {
        let whose = Some((from.clone(), Lane::Control));
        let table = self.seat.table.lock();
        !table.connections.iter().any(|(number, entry)| *number != self.seat.number && entry.from == whose)
    }

    /// Notes who this is; closes the oldest connections of the same node and lane when there are too many.
    fn make_room(&self, from: &NodeId, lane: Lane) {
        let max = if lane == Lane::Calls { CALL_CONNECTIONS_MAX } else { CONNECTIONS_PER_LANE_MAX };
        let whose = Some((from.clone(), lane));
        let mut table = self.seat.table.lock();
        if let Some(entry) = table.connections.get_mut(&self.seat.number) {
            entry.from = whose.clone();
        }
        let same = table.connections.values().filter(|entry| entry.from == whose);
        let surplus = same.clone().count().saturating_sub(max);
        for entry in same.take(surplus) {
            entry.stream.shutdown();
        }
    }

    /// A Raft lane. Gives why the connection was closed, if that is worth a line.
    fn messages(&mut self, from: &NodeId, bytes_max: usize) -> Result<(), String> {
        let Some(cluster) = self.shared.cluster() else { return Ok(()) };
        let max = |header: &Header| {
            let fits = header.kind == Kind::Message && header.cluster == Some(cluster);
            if fits { bytes_max } else { 0 }
        };
        loop {
            let frame = match self.reader.next(&*self.stream, Instant::now() + IDLE_IN_MAX, max) {
                Ok(frame) => frame,
                Err(error) => return quiet(error),
            };
            if frame.kind != Kind::Message || frame.cluster != Some(cluster) {
                return Err("connection closed: a frame of another kind or cluster on a Raft lane".to_owned());
            }
            let envelope = raft::wire::decode(frame.payload).map_err(|error| format!("connection closed: {error}"))?;
            if envelope.from != *from || envelope.to != self.shared.own.node_id {
                return Err("connection closed: a message in the name of, or for, another node".to_owned());
            }
            self.service.message(envelope);
        }
    }

    /// The calls lane.
    fn calls(&mut self, from: &NodeId) -> Result<(), String> {
        let answers = Arc::new(AnswerQueue::new(Arc::clone(&self.stream)));
        let (writer, owner) = (Arc::clone(&answers), Arc::clone(&self.shared));
        let started = self.shared.threads.spawn("call-out", move || writer.run(&owner));
        started.map_err(|error| format!("connection closed: no thread for it: {error}"))?;
        let ended = self.read_calls(from, &answers);
        answers.close();
        ended
    }

    fn read_calls(&mut self, from: &NodeId, answers: &Arc<AnswerQueue>) -> Result<(), String> {
        let shared = Arc::clone(&self.shared);
        // What strangers may send is small; members may send the largest entry.
        let max = |header: &Header| match header.kind {
            Kind::Call if header.cluster.is_some() && header.cluster == shared.cluster() => CALL_FRAME_BYTES_MAX,
            Kind::Call => STRANGER_CALL_BYTES_MAX,
            _ => 0,
        };
        loop {
            let frame = match self.reader.next(&*self.stream, Instant::now() + IDLE_IN_MAX, max) {
                Ok(frame) => frame,
                Err(error) => return quiet(error),
            };
            if frame.kind != Kind::Call {
                return Err("connection closed: a frame of another kind on a lane for calls".to_owned());
            }
            let is_too_much = !answers.expect();
            let reply = Reply::new(Arc::clone(answers), frame.tag);
            if is_too_much {
                let text = "too many calls wait for their answers".to_owned();
                reply.send(Answer::Failed(Failure { kind: FailureKind::NotReady, text }));
                continue;
            }
            let call = match decode_call(frame.payload) {
                Ok(call) => call,
                Err(error) => {
                    let text = format!("the call is not understood: {error}");
                    reply.send(Answer::Failed(Failure { kind: FailureKind::Refused, text }));
                    continue;
                }
            };
            match refuse(&call.call, frame.cluster, shared.cluster()) {
                Some(failure) => reply.send(Answer::Failed(failure)),
                None => {
                    count(&call.call);
                    self.service.call(Some(from.clone()), call, reply);
                }
            }
        }
    }
}

/// The end of a connection that needs no line in the log, or the line.
fn quiet(error: FrameError) -> Result<(), String> {
    match error {
        FrameError::Closed | FrameError::Idle | FrameError::Io(_) => Ok(()),
        error => Err(format!("connection closed: {error}")),
    }
}

/// Calls that touch the database or the membership are for members only: a node whose address was given to another cluster
/// must not write there. Those by which nodes come together are for all.
fn refuse(call: &Call, theirs: Option<ClusterId>, ours: Option<ClusterId>) -> Option<Failure> {
    match call {
        Call::Meta | Call::Join(_) | Call::Notify(_) | Call::Promise { .. } | Call::Formed { .. } => None,
        Call::Remove { .. }
        | Call::StepDown { .. }
        | Call::Write(_)
        | Call::ReadIndex { .. }
        | Call::Hash { .. }
        | Call::SendCopy { .. }
        | Call::Verify => match (theirs, ours) {
            (Some(theirs), Some(ours)) if theirs == ours => None,
            (_, None) => {
                let text = "this node belongs to no cluster yet".to_owned();
                Some(Failure { kind: FailureKind::NotReady, text })
            }
            (_, Some(ours)) => {
                let text = format!("this node belongs to cluster {ours}, the caller does not: check the addresses");
                Some(Failure { kind: FailureKind::Refused, text })
            }
        },
    }
}

fn count(call: &Call) {
    match call {
        Call::Meta => vars::cluster::NUM_GET_NODE_API_REQ.add(1),
        Call::Join(_) => vars::cluster::NUM_JOIN_REQ.add(1),
        Call::Notify(_) => vars::cluster::NUM_NOTIFY_REQ.add(1),
        Call::Remove { .. } => vars::cluster::NUM_REMOVE_NODE_REQ.add(1),
        Call::StepDown { .. } => vars::cluster::NUM_STEPDOWN_REQ.add(1),
        _ => {}
    }
}
