//! From an accepted head to the handler: reads the body, whatever its framing, and hands the request over. Part of the
//! connection's driving, on a worker.

use super::body::BodySink;
use super::chunked::{Chunked, Piece};
use super::config::count;
use super::conn::{Conn, Stage, Step, Turn, Window};
use super::head::{Framing, Head, Refusal};
use super::responder::{Answer, handling};
use super::slots::{NEVER, Phase, Slot, Token};
use super::worker::{Input, Worker};
use super::{Body, HeadView, Request, Responder};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A body that is arriving.
pub(super) struct Reading {
    head: Head,
    decoder: Decoder,
    sink: BodySink,
    /// Bytes received, framing included.
    pub moved: u64,
    pub window: Window,
    /// Waits for its turn at the disk, not for input.
    pub is_queued: bool,
}

/// What became of the received bytes.
enum Fed {
    Whole,
    More,
    /// Nothing yet: others are writing.
    Queued,
}

enum Decoder {
    /// Bytes still to come.
    Length(u64),
    Chunked(Chunked),
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Conn {
    /// A head was accepted.
    pub(super) fn begin(&mut self, worker: &mut Worker, slot: &Slot, head: Head) -> Step {
        self.manner.old = head.old;
        self.manner.head_only = head.method == "HEAD";
        self.manner.keep_alive = head.keep_alive;
        let handler = Arc::clone(&worker.shared.handler);
        let bytes_max = handler.body_bytes_max(&head.path, worker.shared.config.body_bytes_max);
        let decoder = match head.framing {
            Framing::None => return self.dispatch(worker, slot, head, Body::Memory(Vec::new())),
            Framing::Length(length) if length > bytes_max => return self.refuse(worker, Refusal(413)),
            Framing::Length(length) => Decoder::Length(length),
            Framing::Chunked => Decoder::Chunked(Chunked::new(bytes_max)),
        };
        let view = HeadView {
            method: &head.method,
            path: &head.path,
            query: &head.query,
            headers: &head.headers,
            body_bytes: if let Framing::Length(length) = head.framing { Some(length) } else { None },
        };
        let early = catch_unwind(AssertUnwindSafe(|| handler.refuse_early(&view)));
        match early {
            Ok(None) => {}
            Ok(Some(response)) => return self.answer_and_close(worker, response),
            Err(_) => {
                count(&worker.shared.counters.handler_panics);
                return self.refuse(worker, Refusal(500));
            }
        }
        if head.expects_continue && worker.input.filled().is_empty() {
            // Nothing else is under way to this client, so the kernel has room for a line.
            match self.socket.write(CONTINUE, &[]) {
                Ok(wrote) if wrote == CONTINUE.len() => {}
                _ => return Step::Close,
            }
        }
        let shared = &worker.shared;
        let window = Window { ends_ms: shared.now_ms() + shared.config.deadlines.window_ms, start_moved: 0 };
        let sink = BodySink::new(&shared.memory, &shared.scratch);
        self.deadline_ms = window.ends_ms;
        self.stage = Stage::Body(Box::new(Reading { head, decoder, sink, moved: 0, window, is_queued: false }));
        Step::Again
    }

    pub(super) fn step_body(&mut self, worker: &mut Worker, slot: &Slot, turn: &mut Turn) -> Step {
        let Stage::Body(reading) = &mut self.stage else { unreachable!("only called in this stage") };
        match reading.feed(worker, self.token) {
            Ok(Fed::Whole) => {}
            Ok(Fed::Queued) => return Step::Park,
            Ok(Fed::More) if self.flow.readable => return self.read_more(worker, turn),
            Ok(Fed::More) => return Step::Park,
            Err(refusal) => return self.refuse(worker, refusal),
        }
        let Stage::Body(reading) = std::mem::replace(&mut self.stage, Stage::Waiting) else {
            unreachable!("matched above")
        };
        match reading.sink.finish() {
            Ok(body) => self.dispatch(worker, slot, reading.head, body),
            Err(refusal) => self.refuse(worker, refusal),
        }
    }

    /// Hands the request to the handler.
    fn dispatch(&mut self, worker: &mut Worker, slot: &Slot, head: Head, body: Body) -> Step {
        self.stage = Stage::Waiting;
        self.deadline_ms = NEVER;
        slot.set_phase(Phase::Busy);
        count(&worker.shared.counters.requests);
        let Head { method, path, query, headers, .. } = head;
        let request = Request { method, path, query, headers, body, peer: self.peer() };
        let responder = Responder::to_connection(Arc::clone(&worker.shared), self.token);
        let handler = Arc::clone(&worker.shared.handler);
        worker.enter_handler();
        let mut panicked = false;
        let answer = handling(self.token, || {
            panicked = catch_unwind(AssertUnwindSafe(|| handler.handle(request, responder))).is_err();
        });
        worker.leave_handler();
        if panicked {
            count(&worker.shared.counters.handler_panics);
        }
        match answer {
            Some(response) => self.answer(worker, response),
            // Somebody else answers, now or later.
            None => Step::Park,
        }
    }

    /// An answer that came from another thread lies in the mailbox.
    pub(super) fn step_waiting(&mut self, worker: &mut Worker, slot: &Slot) -> Step {
        let Some(answer) = slot.mailbox.lock().take() else { return Step::Park };
        match answer {
            Answer::Ready(response) => self.answer(worker, response),
            Answer::Make(make) => {
                worker.enter_handler();
                let made = catch_unwind(AssertUnwindSafe(make));
                worker.leave_handler();
                let response = made.unwrap_or_else(|_| {
                    count(&worker.shared.counters.handler_panics);
                    super::reply::plain(500)
                });
                self.answer(worker, response)
            }
        }
    }
}

impl Reading {
    /// Decodes what the worker's buffer holds.
    fn feed(&mut self, worker: &mut Worker, token: Token) -> Result<Fed, Refusal> {
        let shared = Arc::clone(&worker.shared);
        let needs_disk = self.sink.needs_disk(worker.input.filled().len());
        if needs_disk {
            self.is_queued = !shared.disk.enter_or_wait(token);
            if self.is_queued {
                return Ok(Fed::Queued);
            }
        }
        // Should there be no memory left either, even a small body goes to the disk: rare, and the pool sees it.
        worker.enter_handler();
        let decoded = self.decode(&mut worker.input, &shared);
        worker.leave_handler();
        if needs_disk {
            shared.leave_gate(&shared.disk);
        }
        Ok(if decoded? { Fed::Whole } else { Fed::More })
    }

    fn decode(&mut self, input: &mut Input, shared: &super::shared::Shared) -> Result<bool, Refusal> {
        let available = input.filled().len();
        let mut rest = input.filled();
        let done = loop {
            match &mut self.decoder {
                Decoder::Length(left) => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    let (data, after) = rest.split_at(take);
                    rest = after;
                    *left -= take as u64;
                    let left = *left;
                    if take > 0 {
                        self.keep(data, shared)?;
                    }
                    break left == 0;
                }
                Decoder::Chunked(chunked) => match chunked.next(&mut rest)? {
                    Piece::Data(data) => self.keep(data, shared)?,
                    Piece::More => break false,
                    Piece::End => break true,
                },
            }
        };
        let used = available - rest.len();
        self.moved += used as u64;
        input.consume(used);
        Ok(done)
    }

    fn keep(&mut self, data: &[u8], shared: &super::shared::Shared) -> Result<(), Refusal> {
        if self.sink.push(data, &shared.scratch)? {
            count(&shared.counters.spooled);
        }
        Ok(())
    }
}
