//! Answers that wait to be written to the node that called. Filled by whichever thread answers, emptied by the connection's
//! writer thread. Filling never blocks: a client that does not read its answers loses its connection.

use super::call::{Answer, Failure, FailureKind};
use super::codec::{answer_bytes, encode_answer};
use super::frame::{self, Kind};
use super::limits::{
    ANSWER_QUEUE_BYTES_MAX, ANSWER_QUEUE_MAX, BUFFER_KEPT_BYTES, CALL_FRAME_BYTES_MAX, CALLS_UNANSWERED_MAX,
    WRITE_BATCH_BYTES, WRITE_STALL_MAX,
};
use super::shared::Shared;
use super::spool::{Full, Spool, Taken};
use super::stream::Stream;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long the writer sleeps at a time: it is woken for whatever comes.
const SLEEP: Duration = Duration::from_secs(3600);

pub struct AnswerQueue {
    spool: Spool<(u64, Answer)>,
    stream: Arc<Stream>,
    unanswered: AtomicUsize,
}

impl AnswerQueue {
    pub fn new(stream: Arc<Stream>) -> AnswerQueue {
        let spool = Spool::new(ANSWER_QUEUE_MAX, ANSWER_QUEUE_BYTES_MAX);
        AnswerQueue { spool, stream, unanswered: AtomicUsize::new(0) }
    }

    /// Notes a call that has come in. False when too many wait for their answers.
    pub fn expect(&self) -> bool {
        self.unanswered.fetch_add(1, Ordering::Relaxed) < CALLS_UNANSWERED_MAX
    }

    /// Answers a call that was noted.
    pub fn push(&self, tag: u64, answer: Answer) {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
        let bytes = answer_bytes(&answer);
        if let Err(Full) = self.spool.push((tag, answer), bytes) {
            // It does not read. Its calls become unknown to it, which is true.
            self.close();
        }
    }

    /// What is still queued is lost.
    pub fn close(&self) {
        self.spool.close();
        self.stream.shutdown();
    }

    /// The writer thread, until the queue is closed.
    pub fn run(&self, shared: &Shared) {
        let mut answers = VecDeque::new();
        let mut out = Vec::new();
        loop {
            match self.spool.take(&mut answers, SLEEP) {
                Taken::Some => {}
                Taken::Timeout => continue,
                Taken::Closed => return,
            }
            while !answers.is_empty() {
                out.clear();
                while out.len() < WRITE_BATCH_BYTES
                    && let Some((tag, answer)) = answers.pop_front()
                {
                    put_answer(shared, tag, &answer, &mut out);
                }
                if self.stream.write_all(&[&out], WRITE_STALL_MAX).is_err() {
                    self.close();
                    return;
                }
                if out.capacity() > BUFFER_KEPT_BYTES {
                    out = Vec::new();
                }
            }
        }
    }
}

fn put_answer(shared: &Shared, tag: u64, answer: &Answer, out: &mut Vec<u8>) {
    let at = frame::begin(out);
    let encoded = encode_answer(answer, out);
    if encoded.is_err() || out.len() - at > CALL_FRAME_BYTES_MAX {
        // Whatever was done is done; only the words for it do not fit.
        out.truncate(at + frame::HEADER_BYTES);
        let text = "the answer is too large to be sent to another node".to_owned();
        encode_answer(&Answer::Failed(Failure { kind: FailureKind::Unknown, text }), out).expect("the text is short");
    }
    frame::finish(out, at, Kind::Answer, shared.cluster(), tag);
}
