//! Writes answers: at once if the socket takes them, otherwise piece by piece as it does. Part of the connection's
//! driving, on a worker; only streams block, see `stream`.

use super::config::{ANSWER_COPY_BYTES_MAX, LINGER_BYTES_MAX, count};
use super::conn::{Conn, Queued, Stage, Step, Turn, Window, Writing};
use super::head::{HeadScan, Refusal};
use super::output::{Output, Progress};
use super::reply::{self, Delimited};
use super::stream::StreamWriter;
use super::worker::Worker;
use super::{Response, ResponseBody};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

impl Conn {
    /// Answers a request that does not reach the handler, and closes the connection: its framing cannot be trusted.
    pub(super) fn refuse(&mut self, worker: &mut Worker, refusal: Refusal) -> Step {
        count(&worker.shared.counters.bad_requests);
        self.manner.head_only = false;
        self.answer_and_close(worker, reply::plain(refusal.0))
    }

    /// Answers without having read the whole request; the connection cannot be used any further.
    pub(super) fn answer_and_close(&mut self, worker: &mut Worker, response: Response) -> Step {
        self.manner.keep_alive = false;
        self.refused = true;
        self.answer(worker, response)
    }

    /// Starts to answer.
    pub(super) fn answer(&mut self, worker: &mut Worker, response: Response) -> Step {
        if worker.shared.is_cutting() {
            count(&worker.shared.counters.cut);
            return Step::Close;
        }
        let delimited = reply::delimited(&response, self.manner);
        self.manner.keep_alive &= delimited != Delimited::Close && !worker.shared.is_stopping();
        worker.output.clear();
        reply::encode_head(&response, self.manner, &mut worker.date, &mut worker.output);
        let body = match response.body {
            _ if delimited == Delimited::Nothing => Vec::new(),
            ResponseBody::Empty => Vec::new(),
            ResponseBody::Bytes(bytes) => bytes,
            ResponseBody::Stream(source) => {
                let head = worker.output.clone();
                let chunked = delimited == Delimited::Chunked;
                self.stage = Stage::Queued(Box::new(Queued { head, chunked, source }));
                self.deadline_ms = worker.shared.now_ms() + worker.shared.config.deadlines.stream_ms;
                return Step::Again;
            }
        };
        self.write_first(worker, body)
    }

    /// The first attempt to write, which nearly always takes everything.
    fn write_first(&mut self, worker: &mut Worker, mut body: Vec<u8>) -> Step {
        if body.len() <= ANSWER_COPY_BYTES_MAX {
            worker.output.extend_from_slice(&body);
            body = Vec::new();
        }
        let total = worker.output.len() + body.len();
        let mut at = 0;
        while at < total {
            let head = worker.output.get(at..).unwrap_or(&[]);
            let wrote = self.socket.write(head, &body[at.saturating_sub(worker.output.len())..]);
            match wrote {
                Ok(count) => at += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.write_later(worker, body, at),
                Err(_) => return Step::Close,
            }
        }
        self.answered(worker)
    }

    /// The socket is full: the rest is kept until it has room.
    fn write_later(&mut self, worker: &mut Worker, body: Vec<u8>, at: usize) -> Step {
        let shared = Arc::clone(&worker.shared);
        worker.enter_handler();
        let kept = Output::keep(&worker.output, body, at, &shared);
        worker.leave_handler();
        let output = match kept {
            Ok((output, false)) => output,
            Ok((output, true)) => {
                count(&shared.counters.spooled);
                output
            }
            Err(error) => {
                log::warn!("an answer is cut off, there is no room to keep it: {error}");
                count(&shared.counters.cut);
                return Step::Close;
            }
        };
        let now = shared.now_ms();
        let deadlines = shared.config.deadlines;
        let window = Window { ends_ms: now + deadlines.window_ms, start_moved: output.moved() };
        let ends_ms = now + deadlines.answer_ms;
        self.deadline_ms = window.ends_ms.min(ends_ms);
        self.stage = Stage::Writing(Box::new(Writing { output, ends_ms, window }));
        // If there is room again already, beginning to watch for it reports it.
        match shared.poller.watch_output(self.socket.descriptor(), self.token.0) {
            Ok(()) => Step::Park,
            Err(_) => Step::Close,
        }
    }

    pub(super) fn step_writing(&mut self, worker: &mut Worker) -> Step {
        let Stage::Writing(writing) = &mut self.stage else { unreachable!("only called in this stage") };
        match worker.write_kept(&mut self.socket, &mut writing.output) {
            Ok(Progress::Done) => self.answered(worker),
            Ok(Progress::Blocked) => Step::Park,
            Err(_) => Step::Close,
        }
    }

    pub(super) fn step_queued(&mut self, worker: &mut Worker) -> Step {
        if !worker.shared.streams.enter_or_wait(self.token) {
            return Step::Park;
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Waiting);
        let Stage::Queued(queued) = stage else { unreachable!("only called in this stage") };
        let Queued { head, chunked, source } = *queued;
        worker.enter_handler();
        let shared = &worker.shared;
        let socket = &mut self.socket;
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut writer = StreamWriter::new(socket, shared, chunked, &head);
            source(&mut writer)?;
            writer.finish()
        }));
        shared.leave_gate(&shared.streams);
        worker.leave_handler();
        match result {
            Ok(Ok(())) => return self.answered(worker),
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                count(&worker.shared.counters.deadlines_missed);
            }
            Ok(Err(error)) => log::debug!("a streamed answer to {} is cut off: {error}", self.peer()),
            Err(_) => count(&worker.shared.counters.handler_panics),
        }
        // Closed without its last chunk: the client sees that it is not whole.
        count(&worker.shared.counters.cut);
        Step::Close
    }

    /// An answer has gone out whole.
    fn answered(&mut self, worker: &mut Worker) -> Step {
        if self.manner.keep_alive {
            self.stage = Stage::Head(HeadScan::default(), None);
            return Step::Again;
        }
        let unread = self.refused || self.flow.readable || !worker.input.filled().is_empty();
        if self.flow.ended || !unread {
            return Step::Close;
        }
        // Closing with unread input makes the kernel send a reset, which may overtake the answer: say that we are done,
        // then read until the client is done as well.
        self.socket.shutdown_write();
        worker.input.clear();
        self.stage = Stage::Linger(LINGER_BYTES_MAX);
        self.deadline_ms = worker.shared.now_ms() + worker.shared.config.deadlines.linger_ms;
        Step::Again
    }

    pub(super) fn step_linger(&mut self, worker: &mut Worker, turn: &mut Turn) -> Step {
        let Stage::Linger(left) = &mut self.stage else { unreachable!("only called in this stage") };
        let got = worker.input.filled().len() as u64;
        worker.input.clear();
        *left = left.saturating_sub(got);
        if *left == 0 {
            return Step::Close;
        }
        if self.flow.readable { self.read_more(worker, turn) } else { Step::Park }
    }
}
