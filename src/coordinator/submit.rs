//! A write that this node may have to send elsewhere: tried until its outcome is known or its time is over.
//!
//! Safe to repeat because it carries a request id: the state machine keeps the ids and outcomes of recent entries, and an
//! id that it knows changes nothing a second time (state machine, section 4). An attempt that certainly never reached a
//! log is repeated in any case. What is still open at the deadline is said to be unknown.

use super::leader_call::call_leader;
use super::write::{WriteDone, Written, answer_to};
use super::{Coordinator, Error, access};
use crate::auth::Callers;
use crate::command::{Action, Command, Outcome, Repeat, RequestId};
use crate::net::call::{Answer, Call, FailureKind, WriteCall};
use crate::net::{CallError, NetHandle};
use crate::node::NodeError;
use crate::random;
use raft::{Index, LogId};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two attempts. An election takes about a second; a hint that was out of date is mended much sooner.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// See the module.
pub struct Submission {
    coordinator: Arc<Coordinator>,
    action: Action,
    request: RequestId,
    /// Whom the leader must permit it.
    callers: Callers,
    deadline: Instant,
    attempts: u32,
    /// An attempt may have reached a log, and may yet be applied.
    open: bool,
    /// What this node had applied before the first attempt: no attempt stands there or before it.
    began_at: Index,
    done: WriteDone,
}

impl Submission {
    pub fn new(
        coordinator: Arc<Coordinator>,
        action: Action,
        request: RequestId,
        callers: Callers,
        timeout: Duration,
        done: WriteDone,
    ) -> Box<Submission> {
        let began_at = coordinator.node().map_or(Index(0), |node| node.shared().applied.get());
        Box::new(Submission {
            coordinator,
            action,
            request,
            callers,
            deadline: Instant::now() + timeout,
            attempts: 0,
            open: false,
            began_at,
            done,
        })
    }

    /// One attempt, wherever the leader is.
    pub fn attempt(mut self: Box<Self>) {
        self.attempts += 1;
        let coordinator = Arc::clone(&self.coordinator);
        let node = match coordinator.node() {
            Ok(node) => node,
            Err(error) => return self.fail(error),
        };
        if node.is_leader() && node.shared().quarantine.is_on() {
            return self.later(Error::Quarantined);
        }
        if node.is_leader() {
            let (action, request) = (self.action.clone(), self.request.clone());
            // Later attempts run on the timer's thread, where others' deadlines wait.
            let node = if self.attempts == 1 { node.clone() } else { node.impatient() };
            return node.propose_as(action, Some(request), Box::new(move |applied| self.applied_here(applied)));
        }
        match (coordinator.leader(), coordinator.net()) {
            (Some((_, address)), Some(net)) => self.forward(net, address),
            // Between two leaders; a request that never found one is told so at once.
            _ if self.attempts > 1 => self.later(Error::LeaderNotFound),
            _ => self.fail(Error::LeaderNotFound),
        }
    }

    fn forward(self: Box<Self>, net: &NetHandle, address: String) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return self.fail(Error::Request("timeout waiting for the leader".into()));
        }
        let request = Some(self.request.clone());
        let payload = Command { unix_time_us: 0, seed: 0, request, action: self.action.clone() }.encode();
        let (leader, self_coordinator) = (address.clone(), Arc::clone(&self.coordinator));
        let call = Call::Write(WriteCall { payload }).in_name_of(self.callers.clone());
        let done = Box::new(move |answer| self.answered(answer, leader));
        call_leader(&self_coordinator, net, &address, call, left, done);
    }

    fn answered(mut self: Box<Self>, answer: Result<Answer, CallError>, leader: String) {
        match answer {
            Ok(Answer::Written { id, outcome }) => match Outcome::decode(&outcome) {
                Ok(outcome) if self.is_refused_though_new(&outcome) => self.attempt_anew(id),
                Ok(outcome) => {
                    let written = answer_to(id, outcome).map(|written| Written { served_by: Some(leader), ..written });
                    self.finish(written);
                }
                Err(error) => self.fail(Error::Request(format!("the leader's answer cannot be read: {error}"))),
            },
            Ok(Answer::NotLeader { .. }) => self.later(Error::NotLeader),
            Ok(Answer::Failed(failure)) => match failure.kind {
                FailureKind::Refused => self.finish(Err(Error::Request(failure.text))),
                // An earlier attempt may have found a leader that knows the caller.
                FailureKind::Unauthorized => {
                    let refused = access::of_action(&self.action).map(Error::Unauthorized);
                    self.fail(refused.unwrap_or(Error::Request(failure.text)));
                }
                FailureKind::NotReady => self.later(Error::Request(failure.text)),
                FailureKind::Unknown => {
                    self.open = true;
                    self.later(Error::Request(failure.text));
                }
            },
            Ok(_) => self.fail(Error::Request("the leader gave an answer to another question".into())),
            Err(CallError::NotSent(text)) => self.later(Error::Request(text)),
            Err(CallError::Unknown(text)) => {
                self.open = true;
                self.later(Error::Request(text));
            }
        }
    }

    fn applied_here(mut self: Box<Self>, applied: Result<crate::node::handle::Applied, NodeError>) {
        match applied {
            Ok(applied) if self.is_refused_though_new(&applied.outcome) => self.attempt_anew(applied.id),
            Ok(applied) => self.finish(answer_to(applied.id, applied.outcome)),
            Err(NodeError::NotLeader | NodeError::Overwritten) => self.later(Error::NotLeader),
            Err(NodeError::LeadershipLost) => {
                self.open = true;
                self.later(Error::LeadershipLost);
            }
            Err(NodeError::EnqueueTimeout) if self.attempts > 1 => self.later(Error::EnqueueTimeout),
            Err(error) => self.fail(error.into()),
        }
    }

    /// The id is new and no attempt but this one was made with it, but it says that it was made before what is still kept
    /// of ids: this node is far behind the log. So it is certain that nothing was applied.
    fn is_refused_though_new(&self, outcome: &Outcome) -> bool {
        outcome.repeat == Repeat::Expired && !self.open && !self.request.is_from_client()
    }

    /// Tries again under another id, which cannot stand in the log up to `refused_at`.
    fn attempt_anew(mut self: Box<Self>, refused_at: LogId) {
        let random = match random::bytes() {
            Ok(random) => random,
            Err(error) => return self.fail(Error::Request(format!("no random numbers: {error}"))),
        };
        self.request = RequestId::from_server(random, refused_at.index, &self.action);
        self.later(Error::Request("the leader keeps request ids for too short a time".into()));
    }

    /// Tries again soon, or gives up with what went wrong last.
    fn later(mut self: Box<Self>, why: Error) {
        if self.open && self.request.issued_after == Index(0) {
            // An attempt may have been applied meanwhile, and its id been let go again: then a further one must be refused
            // and not be applied. What the client did with its key before this request is not known here, as ever.
            self.request.issued_after = self.began_at.max(Index(1));
        }
        if Instant::now() + RETRY_INTERVAL >= self.deadline {
            return self.fail(why);
        }
        let timer = self.coordinator.timer().clone();
        timer.after(RETRY_INTERVAL, move || self.attempt());
    }

    fn fail(self, why: Error) {
        let error = match self.open {
            true => Error::OutcomeUnknown { why: why.to_string(), key: client_key(&self.request) },
            false => why,
        };
        self.finish(Err(error));
    }

    fn finish(self, result: Result<Written, Error>) {
        (self.done)(result);
    }
}

/// As the client gave it.
fn client_key(request: &RequestId) -> Option<String> {
    request.is_from_client().then(|| String::from_utf8_lossy(&request.key()[1..]).into_owned())
}
