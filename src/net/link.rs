//! One link for calls: a queue, a connection made on demand, a writer thread (`call-<address>`) and, for each connection, a
//! reader thread (`call-in`).
//!
//! What is known of a call that fails follows from how far it came:
//! - still queued, or not wholly taken by the kernel: it certainly never arrived. It goes out once more on a new connection,
//!   or is reported as not sent.
//! - wholly taken: whether it arrived is not known, and it is never sent again.

use super::call::Answer;
use super::codec::decode_answer;
use super::frame::{FrameError, FrameReader, Kind};
use super::handshake::Lane;
use super::limits::{
    CALL_FRAME_BYTES_MAX, CALL_QUEUE_BYTES_MAX, CALLS_IN_FLIGHT_MAX, HANDSHAKE_MAX, IDLE_IN_MAX, IDLE_OUT_MAX,
    LARGE_CALL_BYTES, WRITE_BATCH_BYTES, WRITE_STALL_MAX,
};
use super::links::{Done, Outgoing};
use super::outgoing::{Connected, DialError, connect};
use super::service::{CallError, PeerLink};
use super::shared::Shared;
use super::stream::Stream;
use crate::vars::cluster;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

pub struct Link {
    address: String,
    is_large: bool,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    is_closed: bool,
    is_asleep: bool,
    queue: VecDeque<Outgoing>,
    queued_bytes: usize,
    calls: HashMap<u64, Waiting>,
    /// Not after the nearest deadline of `calls`; `None` when there are none.
    nearest: Option<Instant>,
    stream: Option<Arc<Stream>>,
    /// Counts the connections; those up to `lost` are gone.
    generation: u64,
    lost: u64,
    last_error: Option<String>,
}

struct Waiting {
    deadline: Instant,
    stage: Stage,
    done: Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Queued,
    /// The writer has it in hand and will say what became of it.
    Writing,
    /// On the connection of this number.
    Written(u64),
}

/// Calls that are over, to be told so when no lock is held.
type Over = Vec<(Done, Result<Answer, CallError>)>;

fn tell(over: Over) {
    for (done, outcome) in over {
        done.finish(outcome);
    }
}

impl Link {
    pub fn new(address: &str, is_large: bool) -> Link {
        Link { address: address.to_owned(), is_large, state: Mutex::default(), bell: Condvar::new() }
    }

    /// Takes a call in, or gives it back when the link is closed.
    pub fn take_in(
        &self,
        shared: &Shared,
        outgoing: Outgoing,
        deadline: Instant,
        done: Done,
    ) -> Option<(Outgoing, Done)> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Some((outgoing, done));
        }
        let bytes = outgoing.bytes.len();
        let is_full = state.calls.len() >= CALLS_IN_FLIGHT_MAX
            || (state.queued_bytes > 0 && state.queued_bytes + bytes > CALL_QUEUE_BYTES_MAX);
        if is_full {
            drop(state);
            done.finish(Err(CallError::NotSent(format!("too many calls to {} are under way", self.address))));
            return None;
        }
        let waiting = Waiting { deadline, stage: Stage::Queued, done };
        state.calls.insert(outgoing.tag, waiting);
        state.queue.push_back(outgoing);
        state.queued_bytes += bytes;
        let is_nearest = state.nearest.is_none_or(|nearest| deadline < nearest);
        if is_nearest {
            state.nearest = Some(deadline);
        }
        if state.is_asleep {
            state.is_asleep = false;
            self.bell.notify_one();
        }
        drop(state);
        if is_nearest {
            shared.clock.notice(deadline);
        }
        None
    }

    /// Ends the calls whose deadline has passed; gives the nearest of the others.
    pub fn expire(&self, now: Instant) -> Option<Instant> {
        let mut over = Over::new();
        let mut state = self.state.lock();
        let state_now = &mut *state;
        if state_now.nearest.is_some_and(|nearest| nearest <= now) {
            for (_, waiting) in state_now.calls.extract_if(|_, waiting| waiting.deadline <= now) {
                if waiting.stage == Stage::Queued {
                    cluster::NUM_CLIENT_WRITE_TIMEOUTS.add(1);
                } else {
                    cluster::NUM_CLIENT_READ_TIMEOUTS.add(1);
                }
                let text = match (waiting.stage, &state_now.last_error) {
                    (Stage::Queued, Some(error)) => format!("no connection in time: {error}"),
                    (Stage::Queued, None) => format!("no connection to {} in time", self.address),
                    _ => format!("{} did not answer in time", self.address),
                };
                let error = match waiting.stage {
                    Stage::Queued => CallError::NotSent(text),
                    Stage::Writing | Stage::Written(_) => CallError::Unknown(text),
                };
                over.push((waiting.done, Err(error)));
            }
            // What is queued is waited for, and the other way round for what is not written.
            state_now.queue.retain(|outgoing| state_now.calls.contains_key(&outgoing.tag));
            state_now.queued_bytes = state_now.queue.iter().map(|outgoing| outgoing.bytes.len()).sum();
            state_now.nearest = state_now.calls.values().map(|waiting| waiting.deadline).min();
        }
        let nearest = state.nearest;
        drop(state);
        tell(over);
        nearest
    }

    /// Ends the link and all its calls.
    pub fn close(&self, why: &str) {
        let mut over = Over::new();
        let mut state = self.state.lock();
        state.is_closed = true;
        state.queue.clear();
        state.queued_bytes = 0;
        for (_, waiting) in state.calls.drain() {
            let error = match waiting.stage {
                Stage::Queued => CallError::NotSent(why.to_owned()),
                Stage::Writing | Stage::Written(_) => CallError::Unknown(why.to_owned()),
            };
            over.push((waiting.done, Err(error)));
        }
        if let Some(stream) = state.stream.take() {
            stream.shutdown();
        }
        self.bell.notify_all();
        drop(state);
        tell(over);
    }

    pub fn status(&self) -> PeerLink {
        let state = self.state.lock();
        PeerLink {
            id: None,
            address: self.address.clone(),
            lane: Lane::Calls.name(),
            connected: state.stream.is_some(),
            sent_bytes: state.stream.as_ref().map_or(0, |stream| stream.sent_bytes()),
            received_bytes: state.stream.as_ref().map_or(0, |stream| stream.received_bytes()),
            queued: state.queue.len(),
            dropped: 0,
            last_error: state.last_error.clone(),
        }
    }

    /// The writer thread.
    pub fn run(self: &Arc<Link>, shared: &Arc<Shared>) {
        let mut batch = Vec::new();
        let mut out = Vec::with_capacity(2 * LARGE_CALL_BYTES);
        while self.wait_for_calls(shared) {
            let Some((stream, generation)) = self.connection(shared) else { continue };
            // The peer may have closed without the reader having been told yet: what is written now would be lost.
            if !stream.is_open() {
                self.detach(generation);
                continue;
            }
            self.take_batch(&mut batch);
            let written = write(&stream, &batch, &mut out);
            self.settle(&mut batch, generation, &stream, written);
        }
    }

    /// Sleeps until something is queued; false when the link has ended.
    fn wait_for_calls(&self, shared: &Shared) -> bool {
        let mut state = self.state.lock();
        let idle_by = Instant::now() + IDLE_OUT_MAX;
        loop {
            if state.is_closed {
                return false;
            }
            if !state.queue.is_empty() {
                return true;
            }
            state.is_asleep = true;
            let is_late = self.bell.wait_until(&mut state, idle_by).timed_out();
            state.is_asleep = false;
            if is_late && state.queue.is_empty() && !state.is_closed {
                if !state.calls.is_empty() {
                    drop(state);
                    return self.wait_for_calls(shared);
                }
                state.is_closed = true;
                if let Some(stream) = state.stream.take() {
                    stream.shutdown();
                }
                drop(state);
                shared.links.forget(&self.address, self.is_large);
                return false;
            }
        }
    }

    /// The present connection, or a new one. When there is none to be had, ends the queued calls.
    fn connection(self: &Arc<Link>, shared: &Arc<Shared>) -> Option<(Arc<Stream>, u64)> {
        {
            let state = self.state.lock();
            if let Some(stream) = &state.stream {
                return Some((Arc::clone(stream), state.generation));
            }
        }
        // Not wanted any more when all calls have run out of time meanwhile.
        let is_cancelled = || {
            let state = self.state.lock();
            state.is_closed || state.queue.is_empty()
        };
        let deadline = Instant::now() + shared.options.connect_timeout.max(HANDSHAKE_MAX / 5);
        let connected = match connect(shared, &self.address, Lane::Calls, None, deadline, &is_cancelled) {
            Ok(connected) => connected,
            // A call that came meanwhile gets an attempt of its own.
            Err(DialError::Cancelled) => return None,
            Err(error) => {
                self.fail_queued(&error.text());
                return None;
            }
        };
        let Connected { stream, reader, run: _ } = connected;
        let generation = {
            let mut state = self.state.lock();
            if state.is_closed {
                return None;
            }
            if state.generation > 0 {
                cluster::NUM_CLIENT_FORCE_NEW_CONN.add(1);
            }
            state.generation += 1;
            state.stream = Some(Arc::clone(&stream));
            state.last_error = None;
            state.generation
        };
        let (link, incoming) = (Arc::clone(self), Arc::clone(&stream));
        let started = shared.threads.spawn("call-in", move || link.read(&incoming, reader, generation));
        if let Err(error) = started {
            self.lose(generation, "no thread for the connection");
            self.fail_queued(&format!("no thread for the connection: {error}"));
            return None;
        }
        Some((stream, generation))
    }

    /// Nothing more is written to this connection; its reader says what becomes of what was.
    fn detach(&self, generation: u64) {
        let mut state = self.state.lock();
        if state.generation == generation {
            state.stream = None;
        }
    }

    fn fail_queued(&self, why: &str) {
        let mut over = Over::new();
        let mut state = self.state.lock();
        state.last_error = Some(why.to_owned());
        state.queued_bytes = 0;
        while let Some(outgoing) = state.queue.pop_front() {
            if let Some(waiting) = state.calls.remove(&outgoing.tag) {
                over.push((waiting.done, Err(CallError::NotSent(why.to_owned()))));
            }
        }
        drop(state);
        tell(over);
    }

    /// Takes as many calls as make a good write.
    fn take_batch(&self, batch: &mut Vec<Outgoing>) {
        let mut state = self.state.lock();
        let mut bytes = 0;
        while bytes < WRITE_BATCH_BYTES
            && let Some(outgoing) = state.queue.pop_front()
        {
            state.queued_bytes -= outgoing.bytes.len();
            // Those that have run out of time were taken from both.
            let waiting = state.calls.get_mut(&outgoing.tag).expect("what is queued is waited for");
            waiting.stage = Stage::Writing;
            bytes += outgoing.bytes.len();
            batch.push(outgoing);
        }
    }

    /// Notes what became of a batch.
    fn settle(
        &self,
        batch: &mut Vec<Outgoing>,
        generation: u64,
        stream: &Stream,
        written: Result<(), (usize, String)>,
    ) {
        let mut over = Over::new();
        let mut state = self.state.lock();
        let (taken, error) = match written {
            Ok(()) => (usize::MAX, None),
            Err((taken, error)) => (taken, Some(error)),
        };
        if error.is_some() {
            stream.shutdown();
            state.lost = state.lost.max(generation);
            if state.generation == generation {
                state.stream = None;
            }
        }
        let is_lost = state.lost >= generation;
        let mut again = VecDeque::new();
        let mut end = 0;
        for mut outgoing in batch.drain(..) {
            end += outgoing.bytes.len();
            let is_taken = end <= taken;
            let state = &mut *state;
            // It may have been answered, or have run out of time, while it was being written.
            let Some(waiting) = state.calls.get_mut(&outgoing.tag) else { continue };
            let error = match (is_taken, &error) {
                (true, _) if !is_lost => {
                    waiting.stage = Stage::Written(generation);
                    continue;
                }
                (false, _) if !outgoing.is_retried && !state.is_closed => {
                    waiting.stage = Stage::Queued;
                    outgoing.is_retried = true;
                    again.push_back(outgoing);
                    continue;
                }
                (false, error) => CallError::NotSent(error.clone().unwrap_or_default()),
                (true, error) => {
                    let why = error.as_deref().unwrap_or("the other end closed the connection");
                    CallError::Unknown(format!("connection to {} lost: {why}", self.address))
                }
            };
            let waiting = state.calls.remove(&outgoing.tag).expect("it was found there");
            over.push((waiting.done, Err(error)));
        }
        while let Some(outgoing) = again.pop_back() {
            state.queued_bytes += outgoing.bytes.len();
            state.queue.push_front(outgoing);
        }
        state.last_error = error.or(state.last_error.take());
        drop(state);
        tell(over);
    }

    /// The reader thread of one connection.
    fn read(&self, stream: &Stream, mut reader: FrameReader, generation: u64) {
        let why = loop {
            let next = reader.next(stream, Instant::now() + IDLE_IN_MAX, |header| match header.kind {
                Kind::Answer => CALL_FRAME_BYTES_MAX,
                _ => 0,
            });
            let frame = match next {
                Ok(frame) if frame.kind == Kind::Answer => frame,
                Ok(_) => break "it sent what was not asked for".to_owned(),
                // The writer closes what is idle.
                Err(FrameError::Idle) => continue,
                Err(error) => break error.to_string(),
            };
            let waiting = self.state.lock().calls.remove(&frame.tag);
            // None: it came too late.
            if let Some(waiting) = waiting {
                let outcome = decode_answer(frame.payload)
                    .map_err(|error| CallError::Unknown(format!("{} answers: {error}", self.address)));
                waiting.done.finish(outcome);
            }
        };
        stream.shutdown();
        self.lose(generation, &why);
    }

    /// A connection is gone: what was written to it will not be answered.
    fn lose(&self, generation: u64, why: &str) {
        let mut over = Over::new();
        let mut state = self.state.lock();
        state.lost = state.lost.max(generation);
        if state.generation == generation {
            state.stream = None;
            state.last_error = Some(why.to_owned());
        }
        for (_, waiting) in state.calls.extract_if(|_, waiting| waiting.stage == Stage::Written(generation)) {
            let text = format!("connection to {} lost: {why}", self.address);
            over.push((waiting.done, Err(CallError::Unknown(text))));
        }
        drop(state);
        tell(over);
    }
}

/// Writes a batch with few calls of the system; gives how much of it the kernel has taken when it fails.
fn write(stream: &Stream, batch: &[Outgoing], out: &mut Vec<u8>) -> Result<(), (usize, String)> {
    let failed = |(taken, error): (usize, std::io::Error)| (taken, error.to_string());
    if let [one] = batch {
        return stream.write_all(&[&one.bytes], WRITE_STALL_MAX).map_err(failed);
    }
    let is_small = batch.iter().all(|outgoing| outgoing.bytes.len() < LARGE_CALL_BYTES);
    if is_small {
        out.clear();
        batch.iter().for_each(|outgoing| out.extend_from_slice(&outgoing.bytes));
        return stream.write_all(&[out], WRITE_STALL_MAX).map_err(failed);
    }
    let parts: Vec<&[u8]> = batch.iter().map(|outgoing| &outgoing.bytes[..]).collect();
    stream.write_all(&parts, WRITE_STALL_MAX).map_err(failed)
}
