//! One connection: what it is in the middle of, and the driving of it. Whoever owns the slot runs this, always on a
//! worker; nothing here blocks but handlers, streams and writes to scratch files.
//!
//! One request at a time: while one is being answered nothing is read, so a client that sends on without waiting fills
//! the kernel's buffers and then waits itself. Reading bodies is in `receive`, answering in `answer`.

use super::config::{TURN_READS_MAX, TURN_REQUESTS_MAX, count};
use super::head::{self, HeadScan, Refusal};
use super::output::Output;
use super::receive::Reading;
use super::slots::{
    ANSWERED, BROKEN, CUT, EVICT, HANGUP, LATE, NEVER, Phase, READABLE, RESUME, STOP, Slot, Token, WRITABLE,
};
use super::socket::Socket;
use super::worker::Worker;
use super::{StreamFn, budget::Charge};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

pub struct Conn {
    pub(super) socket: Socket,
    pub(super) token: Token,
    peer: SocketAddr,
    /// Bytes that were received and not yet used, while nobody drives.
    parked: Vec<u8>,
    parked_charge: Charge,
    pub(super) stage: Stage,
    pub(super) flow: Flow,
    /// When the stage's patience ends, in milliseconds since the engine's start.
    pub(super) deadline_ms: u64,
    pub(super) manner: super::reply::Manner,
    /// Input is left unread on purpose: it has to be thrown away before closing.
    pub(super) refused: bool,
    /// Asked to close if no request has come.
    closes_if_idle: bool,
    /// Accepted beyond the limit, only to be told so.
    pub(super) is_surplus: bool,
}

/// What is known about the socket.
#[derive(Clone, Copy)]
pub(super) struct Flow {
    /// A read may find something.
    pub readable: bool,
    /// The peer has sent its last byte; it may still be waiting to be read.
    pub hangup: bool,
    /// The end of the input was read.
    pub ended: bool,
}

pub(super) enum Stage {
    Head(HeadScan, Option<HeadSince>),
    Body(Box<Reading>),
    /// The handler, or whoever holds the responder, has the request.
    Waiting,
    Writing(Box<Writing>),
    /// Waits for leave to stream: encoded head, delimiting, source.
    Queued(Box<Queued>),
    /// Input is thrown away until this many bytes, the deadline or the end.
    Linger(u64),
}

/// When the first byte of the current head came, in milliseconds since the engine's start.
#[derive(Clone, Copy)]
pub(super) struct HeadSince(u64);

pub(super) struct Writing {
    pub output: Output,
    pub ends_ms: u64,
    pub window: Window,
}

pub(super) struct Queued {
    pub head: Vec<u8>,
    pub chunked: bool,
    pub source: Box<StreamFn>,
}

/// A stretch of time in which a transfer must have moved a minimum of bytes.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub ends_ms: u64,
    pub start_moved: u64,
}

/// What a step of driving came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Again,
    /// Nothing to do until a signal comes.
    Park,
    /// There is more to do, but others shall have their turn first.
    Yield,
    Close,
}

impl Conn {
    pub fn new(socket: Socket, peer: SocketAddr, token: Token, parked_charge: Charge) -> Conn {
        Conn {
            socket,
            token,
            peer,
            parked: Vec::new(),
            parked_charge,
            stage: Stage::Head(HeadScan::default(), None),
            flow: Flow { readable: false, hangup: false, ended: false },
            deadline_ms: NEVER,
            manner: super::reply::Manner { old: false, head_only: false, keep_alive: true },
            refused: false,
            closes_if_idle: false,
            is_surplus: false,
        }
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// What others may know about it while it is parked.
    fn phase(&self) -> Phase {
        match self.stage {
            Stage::Head(..) if self.parked.is_empty() => Phase::Idle,
            Stage::Head(..) => Phase::Head,
            Stage::Linger(_) => Phase::Linger,
            _ => Phase::Busy,
        }
    }

    /// Tells the slot what the others may know.
    pub(super) fn publish(&self, slot: &Slot) {
        slot.deadline_ms.store(self.deadline_ms, Ordering::Release);
        slot.set_phase(self.phase());
    }

    /// Is it between two requests, as far as we know?
    fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Head(..)) && self.parked.is_empty() && !self.flow.readable
    }

    /// Acts on signals until there is nothing left to do.
    pub(super) fn drive(&mut self, worker: &mut Worker, slot: &Slot, signals: u32) -> Step {
        self.flow.readable |= signals & (READABLE | HANGUP) != 0;
        self.flow.hangup |= signals & HANGUP != 0;
        if signals & (BROKEN | CUT) != 0 {
            if signals & CUT != 0 && !matches!(self.stage, Stage::Linger(_) | Stage::Head(..)) {
                count(&worker.shared.counters.cut);
            }
            return Step::Close;
        }
        let may_close =
            signals & EVICT != 0 && self.is_idle() || signals & STOP != 0 && matches!(self.stage, Stage::Head(..));
        if may_close {
            // A request may have come already, unnoticed: closing now would throw it away, so look first.
            self.closes_if_idle = true;
            self.flow.readable = true;
        }
        if self.is_surplus && matches!(self.stage, Stage::Head(..)) {
            self.is_surplus = false;
            return self.settle(worker, slot, |conn, worker, _| conn.refuse(worker, Refusal(503)));
        }
        if signals & LATE != 0 && self.deadline_ms <= worker.shared.now_ms() {
            return self.settle(worker, slot, |conn, worker, _| conn.late(worker));
        }
        let waits_for_other = match self.stage {
            Stage::Queued(_) => signals & RESUME == 0,
            Stage::Body(ref reading) => reading.is_queued && signals & RESUME == 0,
            Stage::Waiting => signals & ANSWERED == 0,
            Stage::Writing(_) => signals & WRITABLE == 0,
            _ => false,
        };
        if waits_for_other { Step::Park } else { self.settle(worker, slot, |_, _, _| Step::Again) }
    }

    /// Steps on, `first` being the first step; the received bytes are in the worker's buffer meanwhile.
    fn settle(&mut self, worker: &mut Worker, slot: &Slot, first: fn(&mut Conn, &mut Worker, &Slot) -> Step) -> Step {
        worker.input.load(&mut self.parked);
        let mut turn = Turn { requests: 0, reads: 0 };
        let mut step = first(self, worker, slot);
        while step == Step::Again {
            step = self.step(worker, slot, &mut turn);
        }
        if step == Step::Close || worker.input.unload(&mut self.parked, &mut self.parked_charge) {
            return step;
        }
        // All memory for what is half read is taken, and this connection would need more.
        if !matches!(self.stage, Stage::Head(..)) {
            return Step::Close;
        }
        step = self.refuse(worker, Refusal(503));
        while step == Step::Again {
            step = self.step(worker, slot, &mut turn);
        }
        worker.input.clear();
        step
    }

    fn step(&mut self, worker: &mut Worker, slot: &Slot, turn: &mut Turn) -> Step {
        match &mut self.stage {
            Stage::Head(..) => self.step_head(worker, slot, turn),
            Stage::Body(_) => self.step_body(worker, slot, turn),
            Stage::Waiting => self.step_waiting(worker, slot),
            Stage::Writing(_) => self.step_writing(worker),
            Stage::Queued(_) => self.step_queued(worker),
            Stage::Linger(_) => self.step_linger(worker, turn),
        }
    }

    fn step_head(&mut self, worker: &mut Worker, slot: &Slot, turn: &mut Turn) -> Step {
        let Stage::Head(scan, since) = &mut self.stage else { unreachable!("only called in this stage") };
        match scan.advance(worker.input.filled()) {
            Ok(Some((start, end))) => {
                turn.requests += 1;
                if turn.requests > TURN_REQUESTS_MAX {
                    *scan = HeadScan::default();
                    return Step::Yield;
                }
                *since = None;
                let parsed = head::parse(&worker.input.filled()[start..end], u64::MAX);
                worker.input.consume(end);
                return match parsed {
                    Ok(head) => self.begin(worker, slot, head),
                    Err(refusal) => self.refuse(worker, refusal),
                };
            }
            Ok(None) => {}
            Err(refusal) => return self.refuse(worker, refusal),
        }
        if self.flow.readable {
            return self.read_more(worker, turn);
        }
        let Stage::Head(_, since) = &mut self.stage else { unreachable!("not changed above") };
        let now = worker.shared.now_ms();
        let deadlines = &worker.shared.config.deadlines;
        // A head that is not whole when the engine stops is no request yet.
        if worker.shared.is_stopping() {
            return Step::Close;
        }
        if worker.input.filled().is_empty() {
            if self.closes_if_idle {
                count(&worker.shared.counters.evicted);
                return Step::Close;
            }
            self.deadline_ms = now + deadlines.idle_ms;
        } else {
            let since = since.get_or_insert(HeadSince(now));
            self.deadline_ms = since.0 + deadlines.head_ms;
        }
        Step::Park
    }

    /// Reads once into the worker's buffer.
    pub(super) fn read_more(&mut self, worker: &mut Worker, turn: &mut Turn) -> Step {
        turn.reads += 1;
        if turn.reads > TURN_READS_MAX {
            return Step::Yield;
        }
        let room = worker.input.room();
        let asked = room.len();
        match self.socket.read(room) {
            Ok(0) => {
                self.flow.readable = false;
                self.flow.ended = true;
                match self.stage {
                    Stage::Head(..) if worker.input.filled().is_empty() => Step::Close,
                    Stage::Linger(_) => Step::Close,
                    // Cut off in the middle; the client may still listen.
                    _ => self.refuse(worker, Refusal(400)),
                }
            }
            Ok(got) => {
                self.closes_if_idle = false;
                worker.input.add(got);
                // A short read means that there is no more for now; but the end still has to be read.
                if got < asked && !self.flow.hangup {
                    self.flow.readable = false;
                }
                Step::Again
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                self.flow.readable = false;
                Step::Again
            }
            Err(_) => Step::Close,
        }
    }

    /// The deadline of the stage has passed.
    fn late(&mut self, worker: &mut Worker) -> Step {
        let now = worker.shared.now_ms();
        let deadlines = worker.shared.config.deadlines;
        match &mut self.stage {
            Stage::Head(_, None) => Step::Close,
            Stage::Head(_, Some(_)) => self.refuse_late(worker),
            Stage::Body(reading) => {
                if !reading.is_queued && reading.window.is_slow(reading.moved, deadlines.window_bytes) {
                    return self.refuse_late(worker);
                }
                reading.window = Window { ends_ms: now + deadlines.window_ms, start_moved: reading.moved };
                self.deadline_ms = reading.window.ends_ms;
                Step::Again
            }
            Stage::Writing(writing) => {
                // The kernel tells of room only when there is much of it: try, so that slow but steady is seen.
                if now < writing.ends_ms {
                    match worker.write_kept(&mut self.socket, &mut writing.output) {
                        Ok(super::output::Progress::Done) => return Step::Again,
                        Ok(super::output::Progress::Blocked) => {}
                        Err(_) => return Step::Close,
                    }
                }
                let moved = writing.output.moved();
                if now >= writing.ends_ms || writing.window.is_slow(moved, deadlines.window_bytes) {
                    count(&worker.shared.counters.deadlines_missed);
                    count(&worker.shared.counters.cut);
                    return Step::Close;
                }
                writing.window = Window { ends_ms: now + deadlines.window_ms, start_moved: moved };
                self.deadline_ms = writing.window.ends_ms.min(writing.ends_ms);
                Step::Park
            }
            Stage::Queued(_) => {
                count(&worker.shared.counters.deadlines_missed);
                Step::Close
            }
            Stage::Waiting => Step::Park,
            Stage::Linger(_) => Step::Close,
        }
    }

    fn refuse_late(&mut self, worker: &mut Worker) -> Step {
        count(&worker.shared.counters.deadlines_missed);
        self.refuse(worker, Refusal(408))
    }
}

impl Window {
    fn is_slow(self, moved: u64, bytes_min: u64) -> bool {
        moved - self.start_moved < bytes_min
    }
}

/// What one connection did since others had their turn.
pub(super) struct Turn {
    requests: u32,
    reads: u32,
}
