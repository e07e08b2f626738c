//! Reads: first the right to read (by level), then the read itself, always on this node's own copy.
//!
//! A node that does not lead asks the leader for one number only: up to which index its copy must have applied the log
//! so that reading it keeps what the level promises. No result ever travels between nodes.

use super::leader_call::call_leader;
use super::timer::TimerKey;
use super::{Coordinator, Error, Level, ReadOptions, access};
use crate::command::{Action, Request, ResultSink};
use crate::db::ReadError;
use crate::net::CallError;
use crate::net::call::{Answer, Call, FailureKind, ReadLevel};
use crate::node::NodeHandle;
use crate::node::applied::WaitKey;
use parking_lot::Mutex;
use raft::Index;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Between two questions to a leader that is not (yet) one.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The right to read the local copy now; what was promised for the level already holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadPermit {
    /// Where the read stands in the log; only for reads that went through it.
    pub raft_index: Option<Index>,
    /// The Raft address of the leader that vouched for it; `None`: nobody was asked.
    pub served_by: Option<String>,
}

/// Called when this node has applied an index, or too late.
pub(super) type Reached = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Called exactly once, on any thread, perhaps before the call that took it returns.
pub type PermitDone = Box<dyn FnOnce(Result<ReadPermit, Error>) + Send>;

impl Coordinator {
    /// Waits until a local read of this level may run (at once for none, and for weak on the leader).
    ///
    /// A strong read takes a place in the log and reads when that place is applied here: it sees every write ordered
    /// before it, and the SQL itself never runs on the applier.
    pub fn permit_read(&self, options: &ReadOptions, done: PermitDone) {
        let done = self.behind_min_index(options, done);
        let node = match self.node() {
            Ok(node) => node,
            Err(error) => return done(Err(error)),
        };
        if node.shared().quarantine.is_on() {
            return done(Err(Error::Quarantined));
        }
        let level = match options.level {
            Level::Auto if node.shared().raft.lock().voter => Level::Weak,
            Level::Auto => Level::None,
            level => level,
        };
        let here = Ok(ReadPermit::default());
        match level {
            Level::None => done(fresh_enough(node, options).and(here)),
            Level::Weak if node.is_leader() => done(ready(node).and(here)),
            Level::Linearizable if node.is_leader() => match ready(node) {
                Ok(node) => linearizable(self, node, options, done),
                Err(error) => done(Err(error)),
            },
            Level::Strong if node.is_leader() => strong(node, done),
            _ if options.redirect => self.redirect(options.timeout, Box::new(move |error| done(Err(error)))),
            Level::Linearizable => self.ask_leader(ReadLevel::Linearizable, options, done),
            Level::Strong => self.ask_leader(ReadLevel::Strong, options, done),
            _ => self.ask_leader(ReadLevel::Weak, options, done),
        }
    }

    /// Runs a read on this node's copy, all statements on one snapshot; blocks the calling thread, within the deadline.
    ///
    /// # Errors
    /// Of the whole request (e.g. `context deadline exceeded`); SQL errors go to the sink.
    pub fn read(
        &self,
        _permit: &ReadPermit,
        request: &Request,
        options: &ReadOptions,
        sink: &mut dyn ResultSink,
    ) -> Result<(), Error> {
        let limit = match options.db_timeout.is_zero() {
            true => self.settings.read_timeout,
            false => options.db_timeout.min(self.settings.read_timeout),
        };
        self.node()?.readers().query(request, Some(Instant::now() + limit), sink).map_err(Error::from)
    }

    /// `min_index`: whatever the level promises, the read also waits until this node has applied so much.
    fn behind_min_index(&self, options: &ReadOptions, done: PermitDone) -> PermitDone {
        let (min_index, timeout) = (Index(options.min_index), options.timeout);
        if min_index == Index(0) {
            return done;
        }
        let coordinator = self.shared_self();
        Box::new(move |permit| match permit {
            Ok(permit) => {
                coordinator.when_applied(min_index, timeout, Box::new(move |applied| done(applied.map(|()| permit))))
            }
            Err(error) => done(Err(error)),
        })
    }

    /// Runs `done` when this node has applied `index`, or when `timeout` has passed, on any thread.
    pub(super) fn when_applied(&self, index: Index, timeout: Duration, done: Reached) {
        let node = match self.node() {
            Ok(node) => node,
            Err(error) => return done(Err(error)),
        };
        if node.shared().applied.get() >= index {
            return done(Ok(()));
        }
        let wait = Arc::new(Mutex::new(Wait { done: Some(done), timer: None, key: None }));
        // Whichever comes first takes the other back: neither an index that never comes nor a far deadline keeps anything.
        let (reached, late) = (Arc::clone(&wait), Arc::clone(&wait));
        let (timer, waiting_node) = (self.timer().clone(), node.clone());
        let key = node.shared().applied.when(
            index,
            Box::new(move || {
                let (done, timer_key) = {
                    let mut wait = reached.lock();
                    (wait.done.take(), wait.timer.take())
                };
                if let Some(timer_key) = timer_key {
                    timer.cancel(timer_key);
                }
                if let Some(done) = done {
                    done(Ok(()));
                }
            }),
        );
        // It may be over already.
        let Some(key) = key else { return };
        wait.lock().key = Some(key);
        let timer_key = self.timer().after(timeout, move || {
            let (done, key) = {
                let mut wait = late.lock();
                (wait.done.take(), wait.key.take())
            };
            if let Some(key) = key {
                waiting_node.shared().applied.forget(key);
            }
            if let Some(done) = done {
                done(Err(Error::FsmTimeout { index: index.0 }));
            }
        });
        let mut wait = wait.lock();
        match wait.done.is_some() {
            true => wait.timer = Some(timer_key),
            false => {
                drop(wait);
                self.timer().cancel(timer_key);
            }
        }
    }

    fn ask_leader(&self, level: ReadLevel, options: &ReadOptions, done: PermitDone) {
        let deadline = Instant::now() + options.timeout;
        let coordinator = self.shared_self();
        // What is left to be looked at once the leader has answered; `min_index` is behind `done`.
        let options = ReadOptions {
            linearizable_timeout: options.linearizable_timeout,
            callers: options.callers.clone(),
            purpose: options.purpose,
            ..ReadOptions::default()
        };
        Question { coordinator, level, deadline, options, attempts: 0, done }.ask();
    }
}

/// Who waits for an index, and what is to be taken back when it is over.
struct Wait {
    done: Option<Reached>,
    timer: Option<TimerKey>,
    key: Option<WaitKey>,
}

/// A read that waits for the leader's word. Asking again is harmless.
struct Question {
    coordinator: Arc<Coordinator>,
    level: ReadLevel,
    deadline: Instant,
    /// How long this node's own copy may take to get there (`linearizable_timeout`), and who wants it for what.
    options: ReadOptions,
    attempts: u32,
    done: PermitDone,
}

impl Question {
    fn ask(mut self) {
        self.attempts += 1;
        let coordinator = Arc::clone(&self.coordinator);
        let left = self.deadline.saturating_duration_since(Instant::now());
        let (Some((_, address)), Some(net)) = (coordinator.leader(), coordinator.net()) else {
            return match self.attempts {
                1 => (self.done)(Err(Error::LeaderNotFound)),
                _ => self.later(Error::LeaderNotFound),
            };
        };
        if coordinator.node().is_ok_and(NodeHandle::is_leader) {
            // Elected meanwhile; the address is its own.
            return self.later(Error::NotLeader);
        }
        let call = Call::ReadIndex { level: self.level, purpose: self.options.purpose };
        let call = call.in_name_of(self.options.callers.clone());
        let leader = address.clone();
        let told = Box::new(move |answer| self.answered(answer, leader));
        call_leader(&coordinator, net, &address, call, left, told);
    }

    fn answered(self, answer: Result<Answer, CallError>, leader: String) {
        match answer {
            Ok(Answer::Readable { index, logged }) => {
                let permit = ReadPermit { raft_index: logged, served_by: Some(leader) };
                let done = self.done;
                let reached = Box::new(move |applied: Result<(), Error>| done(applied.map(|()| permit)));
                self.coordinator.when_applied(index, self.options.linearizable_timeout, reached);
            }
            Ok(Answer::NotLeader { .. }) => self.later(Error::NotLeader),
            Ok(Answer::Failed(failure)) => match failure.kind {
                FailureKind::Refused | FailureKind::Unauthorized => {
                    (self.done)(Err(access::failed(failure, self.options.purpose.into())));
                }
                FailureKind::Unknown | FailureKind::NotReady => self.later(Error::Request(failure.text)),
            },
            Ok(_) => (self.done)(Err(Error::Request("the leader gave an answer to another question".into()))),
            Err(error) => self.later(Error::Request(error.into_text())),
        }
    }

    fn later(self, why: Error) {
        if Instant::now() + RETRY_INTERVAL >= self.deadline {
            return (self.done)(Err(why));
        }
        let timer = self.coordinator.timer().clone();
        timer.after(RETRY_INTERVAL, move || match self.coordinator.node().is_ok_and(NodeHandle::is_leader) {
            false => self.ask(),
            true => {
                let coordinator = Arc::clone(&self.coordinator);
                let level = match self.level {
                    ReadLevel::Weak => Level::Weak,
                    ReadLevel::Linearizable => Level::Linearizable,
                    ReadLevel::Strong => Level::Strong,
                };
                let timeout = self.deadline.saturating_duration_since(Instant::now());
                let options = ReadOptions { level, timeout, ..self.options };
                coordinator.permit_read(&options, self.done);
            }
        });
    }
}

/// Reads of the leader's present wait until the log that was there at start is applied: before that they would show
/// the past (spec 5.3 [Q]).
pub(super) fn ready(node: &NodeHandle) -> Result<&NodeHandle, Error> {
    match node.shared().caught_up.load(Ordering::Acquire) {
        true => Ok(node),
        false => Err(Error::StoreNotReady),
    }
}

/// A read of level none may ask that the copy be no older than this (spec 5.4).
fn fresh_enough(node: &NodeHandle, options: &ReadOptions) -> Result<(), Error> {
    if options.freshness.is_zero() || node.is_leader() {
        return Ok(());
    }
    let shared = node.shared();
    let heard_ms = shared.leader_heard_ms.load(Ordering::Relaxed);
    let heard_ago = match heard_ms {
        0 => Duration::MAX,
        _ => shared.started.elapsed().saturating_sub(Duration::from_millis(heard_ms)),
    };
    if heard_ago > options.freshness {
        return Err(Error::StaleRead);
    }
    if !options.freshness_strict {
        return Ok(());
    }
    let applied = shared.applied.get().0;
    let behind = applied > 0 && applied < shared.raft.lock().last_log_index;
    let lag_us = shared.applied_time_us.load(Ordering::Relaxed) - shared.last_entry_time_us.load(Ordering::Relaxed);
    let lag = Duration::from_micros(u64::try_from(lag_us).unwrap_or(0));
    if behind && lag > options.freshness { Err(Error::StaleRead) } else { Ok(()) }
}

/// ReadIndex (thesis, section 6.4), and a limit to how long it may take.
fn linearizable(coordinator: &Coordinator, node: &NodeHandle, options: &ReadOptions, done: PermitDone) {
    let coordinator = coordinator.shared_self();
    let retry = options.clone();
    node.read_index(Box::new(move |index| match index {
        Ok(_) => done(Ok(ReadPermit::default())),
        // Another node leads by now, and can be asked.
        Err(crate::node::NodeError::NotLeader) if !retry.redirect && coordinator.leader().is_some() => {
            coordinator.ask_leader(ReadLevel::Linearizable, &retry, done);
        }
        Err(crate::node::NodeError::NotLeader) if coordinator.leader().is_none() => done(Err(Error::LeaderNotFound)),
        Err(error) => done(Err(error.into())),
    }));
}

fn strong(node: &NodeHandle, done: PermitDone) {
    let shared = node.clone();
    node.propose(
        Action::Barrier,
        Box::new(move |applied| {
            done(applied.map_err(Error::from).map(|applied| {
                shared.shared().strong_read_term.store(applied.id.term.0, Ordering::Relaxed);
                ReadPermit { raft_index: Some(applied.id.index), served_by: None }
            }));
        }),
    );
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::DeadlineExceeded => Error::DeadlineExceeded,
            ReadError::DisallowedPragma => Error::DisallowedPragma,
            other => Error::Request(other.to_string()),
        }
    }
}
