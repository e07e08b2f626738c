//! The queue thread: see the module above.

use super::{QueueOptions, Queued, Waiter};
use crate::auth::Callers;
use crate::command::Request;
use crate::coordinator::{Coordinator, Error, ReadOptions, Written};
use crate::vars;
use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two tries of a batch that failed for a reason that may pass.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long one try of a batch may take, wherever the leader is, and also when it changes meanwhile. A try has one request
/// id: what may have reached a log can only be sent again within it, and is lost at its end. So it must outlast any outage.
const WRITE_TIME_MAX: Duration = Duration::from_secs(3600);

/// How long a stopping node tries to write what is queued.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub enum QueueInput {
    Push(Queued),
    /// Gather no longer: whatever comes is written at once.
    Hurry,
    Stop,
}

/// What the thread is doing with the batch at hand.
enum Stage {
    /// Gathering; the batch goes when it is full or at the deadline.
    Gather { deadline: Option<Instant> },
    /// Proposed; the answer will come.
    Written,
    /// Failed; to be tried again at this time.
    Retry { at: Instant },
}

/// See the module above.
pub struct QueueThread {
    coordinator: Arc<Coordinator>,
    options: QueueOptions,
    inbox: Receiver<QueueInput>,
    written: Arc<AtomicU64>,
    answer_tx: Sender<Result<Written, Error>>,
    answer_rx: Receiver<Result<Written, Error>>,
    batch: Vec<Queued>,
    /// So many of the batch's first requests are under way.
    under_way: usize,
    /// Different callers that may be under way together. One, when the leader has refused some of this batch.
    callers_max: usize,
    stage: Stage,
    hurried: bool,
    stop_by: Option<Instant>,
}

impl QueueThread {
    pub fn new(
        coordinator: Arc<Coordinator>,
        options: QueueOptions,
        inbox: Receiver<QueueInput>,
        written: Arc<AtomicU64>,
    ) -> Self {
        let (answer_tx, answer_rx) = bounded(1);
        QueueThread {
            coordinator,
            options,
            inbox,
            written,
            answer_tx,
            answer_rx,
            batch: Vec::new(),
            under_way: 0,
            callers_max: Callers::MAX,
            stage: Stage::Gather { deadline: None },
            hurried: false,
            stop_by: None,
        }
    }

    pub fn run(mut self) {
        let shut = never();
        loop {
            if self.stop_by.is_some_and(|by| self.batch.is_empty() || Instant::now() >= by) {
                return self.close();
            }
            // One batch at a time: while it is under way the inbox fills up, and then callers wait.
            let gathering = matches!(self.stage, Stage::Gather { .. }) && self.stop_by.is_none();
            let inbox = if gathering { self.inbox.clone() } else { shut.clone() };
            let wait = self.next_wake().map(|at| at.saturating_duration_since(Instant::now()));
            select! {
                recv(inbox) -> input => match input {
                    Ok(QueueInput::Push(queued)) => self.gather(queued),
                    Ok(QueueInput::Hurry) => self.hurried = true,
                    Ok(QueueInput::Stop) | Err(_) => self.begin_stop(),
                },
                recv(self.answer_rx) -> answer => {
                    self.settle(answer.expect("this thread holds the sender"));
                }
                default(wait.unwrap_or(Duration::from_secs(3600))) => {}
            }
            self.expire_waiters();
            self.flush_if_due();
        }
    }

    fn gather(&mut self, queued: Queued) {
        if self.batch.is_empty() {
            let deadline = (!self.options.timeout.is_zero()).then(|| Instant::now() + self.options.timeout);
            self.stage = Stage::Gather { deadline };
        }
        self.batch.push(queued);
    }

    /// What waits in the inbox still belongs to the last batch.
    fn begin_stop(&mut self) {
        self.stop_by = Some(Instant::now() + STOP_TIMEOUT);
        while let Ok(input) = self.inbox.try_recv() {
            if let QueueInput::Push(queued) = input {
                self.batch.push(queued);
            }
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let stage = match self.stage {
            Stage::Gather { deadline } if !self.batch.is_empty() => deadline,
            Stage::Retry { at } => Some(at),
            _ => None,
        };
        let waiters = self.batch.iter().filter_map(|q| q.waiter.as_ref().map(|w| w.deadline)).min();
        [stage, waiters, self.stop_by].into_iter().flatten().min()
    }

    fn flush_if_due(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let now = Instant::now();
        let due = match self.stage {
            Stage::Gather { deadline } => {
                let full = self.batch.len() >= self.options.batch_size.max(1);
                full || self.hurried || self.stop_by.is_some() || deadline.is_some_and(|at| now >= at)
            }
            Stage::Written => false,
            Stage::Retry { at } => now >= at,
        };
        if due {
            self.flush();
        }
    }

    fn flush(&mut self) {
        match self.stage {
            Stage::Gather { deadline: Some(at) } if Instant::now() >= at => vars::queue::NUM_TIMEOUT.add(1),
            _ => {}
        }
        vars::queue::NUM_FLUSH.add(1);
        self.stage = Stage::Written;
        let (under_way, callers) = callers_of(&self.batch, self.callers_max);
        self.under_way = under_way;
        let statements: Vec<_> = self.batch[..under_way].iter().flat_map(|q| q.statements.iter().cloned()).collect();
        if statements.is_empty() {
            // Only barriers: everything before them is written already.
            return self.finish();
        }
        vars::http::QUEUED_EXECUTIONS_NUM_STMTS_TX.add(statements.len() as u64);
        let request = Request { statements, transaction: self.options.transaction, ..Request::default() };
        let answer_tx = self.answer_tx.clone();
        let done = Box::new(move |answer| {
            // There is one batch under way and room for its answer: this never blocks.
            let _ = answer_tx.send(answer);
        });
        let options = ReadOptions { timeout: WRITE_TIME_MAX, once: true, callers, ..ReadOptions::default() };
        self.coordinator.execute(request, &options, done);
    }

    fn settle(&mut self, answer: Result<Written, Error>) {
        match answer {
            Ok(_) => {
                vars::http::QUEUED_EXECUTIONS_OK.add(self.under_way as u64);
                self.finish();
            }
            Err(error) if may_pass(&error) => {
                count_failure(&error);
                log::warn!(target: "http", "queued writes: {error}, trying again in {RETRY_INTERVAL:?}");
                self.stage = Stage::Retry { at: Instant::now() + RETRY_INTERVAL };
            }
            Err(Error::Unauthorized(_)) if self.has_several_callers() => {
                self.callers_max = 1;
                self.stage = Stage::Retry { at: Instant::now() };
            }
            Err(error) => self.drop_batch(&error),
        }
    }

    fn has_several_callers(&self) -> bool {
        self.batch[..self.under_way].iter().any(|queued| queued.caller != self.batch[0].caller)
    }

    fn finish(&mut self) {
        vars::queue::OBJECTS_TX.add(self.under_way as u64);
        if let Some(last) = self.batch[..self.under_way].last() {
            self.written.store(last.sequence, Ordering::Release);
        }
        for queued in self.batch.drain(..self.under_way) {
            if let Some(waiter) = queued.waiter {
                (waiter.done)(Ok(queued.sequence));
            }
        }
        self.go_on();
    }

    /// With the rest of the batch, which has waited long enough, or with the next one.
    fn go_on(&mut self) {
        self.under_way = 0;
        self.stage = match self.batch.is_empty() {
            true => {
                self.callers_max = Callers::MAX;
                Stage::Gather { deadline: None }
            }
            false => Stage::Retry { at: Instant::now() },
        };
    }

    /// A batch that can never be written (its COMMIT fails), or of which nobody knows whether it was, must not hold up
    /// the others for ever, and must not be sent twice.
    fn drop_batch(&mut self, error: &Error) {
        vars::http::QUEUED_EXECUTIONS_FAILED.add(1);
        log::error!(target: "http", "queued writes dropped, they cannot be written: {error}");
        for queued in self.batch.drain(..self.under_way) {
            if let Some(waiter) = queued.waiter {
                (waiter.done)(Err(error.clone()));
            }
        }
        self.go_on();
    }

    /// Whoever waited too long is told so; the statements stay queued.
    fn expire_waiters(&mut self) {
        let now = Instant::now();
        for queued in &mut self.batch {
            if queued.waiter.as_ref().is_some_and(|w| now >= w.deadline) {
                let Waiter { done, .. } = queued.waiter.take().expect("just seen");
                done(Err(Error::QueueWaitTimeout));
            }
        }
    }

    fn close(mut self) {
        if !self.batch.is_empty() {
            let error = Error::QueueClosed;
            log::error!(target: "http", "{} queued requests could not be written before the stop", self.batch.len());
            self.under_way = self.batch.len();
            self.drop_batch(&error);
        }
    }
}

/// How many of a batch's first requests go together, and in whose name: at most `max` different callers.
fn callers_of(batch: &[Queued], max: usize) -> (usize, Callers) {
    let mut callers = Callers::default();
    for (before, queued) in batch.iter().enumerate() {
        if !callers.add(&queued.caller, max) {
            return (before, callers);
        }
    }
    (batch.len(), callers)
}

/// Whether trying again can help.
fn may_pass(error: &Error) -> bool {
    matches!(
        error,
        Error::LeaderNotFound
            | Error::NotLeader
            | Error::StoreNotOpen
            | Error::StoreNotReady
            | Error::EnqueueTimeout
            | Error::DeadlineExceeded
    )
}

fn count_failure(error: &Error) {
    match error {
        Error::LeaderNotFound => vars::http::QUEUED_EXECUTIONS_NO_LEADER.add(1),
        Error::NotLeader => vars::http::QUEUED_EXECUTIONS_NOT_LEADER.add(1),
        Error::LeadershipLost => vars::http::QUEUED_EXECUTIONS_LEADERSHIP_LOST.add(1),
        _ => vars::http::QUEUED_EXECUTIONS_UNKNOWN_ERROR.add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Credentials;
    use crate::limits::Room;

    fn batch(callers: impl IntoIterator<Item = String>) -> Vec<Queued> {
        let room = Arc::new(Room::default());
        let queued = |(n, name): (usize, String)| Queued {
            sequence: n as u64,
            caller: Credentials::new(name, "p".to_owned()).expect("short"),
            statements: Vec::new(),
            waiter: None,
            _room: room.take(1, 1000, Instant::now()).expect("there is room"),
        };
        callers.into_iter().enumerate().map(queued).collect()
    }

    #[test]
    fn so_many_go_together_as_one_call_has_room_for_their_callers() {
        let few = batch(["a", "b", "a", "", "b"].map(str::to_owned));
        let (count, callers) = callers_of(&few, Callers::MAX);
        let names: Vec<&str> = callers.as_slice().iter().map(Credentials::username).collect();
        assert_eq!((count, names), (5, vec!["a", "b", ""]));
        for (from, alone) in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)] {
            assert_eq!(callers_of(&few[from..], 1).0, alone);
        }
        assert_eq!(callers_of(&batch(["a", "a", "b"].map(str::to_owned)), 1).0, 2);
        let many = batch((0..Callers::MAX + 5).map(|n| n.to_string()));
        assert_eq!(callers_of(&many, Callers::MAX).0, Callers::MAX);
        assert_eq!(callers_of(&many[Callers::MAX..], Callers::MAX).0, 5);
        assert_eq!(callers_of(&[], 1).0, 0);
    }
}
