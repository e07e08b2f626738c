//! Writes: through the log, answered when applied - here, or on the leader that this node asks.

use super::submit::Submission;
use super::{Coordinator, Error, ReadOptions};
use crate::auth::Callers;
use crate::command::{Action, Outcome, Repeat, Request, RequestId, StatementResult};
use crate::node::handle::{Applied, ApplyDone};
use crate::random;
use raft::{Index, LogId};
use std::time::Duration;

/// What a write or a logged request came to.
pub struct Written {
    pub results: Vec<StatementResult>,
    pub raft_index: Index,
    /// The Raft address of the leader that this node asked; `None`: it leads itself.
    pub served_by: Option<String>,
}

/// Called exactly once, on any thread.
pub type WriteDone = Box<dyn FnOnce(Result<Written, Error>) + Send>;

/// `db_timeout` for a write becomes this many steps of SQLite's virtual machine for each millisecond, before it is
/// logged: every replica then stops at the same step, whatever its clock (spec 4.10 [Q]). About what a small
/// machine executes in that time; a fast one takes less.
const VM_STEPS_PER_MS: u64 = 20_000;

impl Coordinator {
    /// `/db/execute`: through the log.
    pub fn execute(&self, request: Request, options: &ReadOptions, done: WriteDone) {
        self.write(request, options, Action::Execute, done);
    }

    /// `/db/request` that has a write in it, or is asked for at level strong: through the log.
    pub fn request(&self, request: Request, options: &ReadOptions, done: WriteDone) {
        self.write(request, options, Action::Request, done);
    }

    /// `/db/load` with SQL: through the log, as one string in which transactions may begin and end.
    pub fn load_text(&self, request: Request, options: &ReadOptions, done: WriteDone) {
        self.write(request, options, Action::Script, done);
    }

    fn write(&self, mut request: Request, options: &ReadOptions, action: fn(Request) -> Action, done: WriteDone) {
        let node = match Self::check_statements(&request.statements).and_then(|()| self.node()) {
            Ok(node) => node,
            Err(error) => return done(Err(error)),
        };
        // Nothing is applied on it before it has another copy: the answer would not come.
        if node.is_leader() && node.shared().quarantine.is_on() {
            return done(Err(Error::Quarantined));
        }
        request.vm_steps_max = vm_steps(options.db_timeout, self.settings.write_steps_max);
        // The common way: this node leads, and the client would not ask again.
        if node.is_leader() && options.idempotency_key.is_none() && !options.once {
            return node.propose(action(request), answer(done));
        }
        if options.redirect && !node.is_leader() {
            return self.redirect(options.timeout, Box::new(move |error| done(Err(error))));
        }
        let (callers, key) = (options.callers.clone(), options.idempotency_key.as_deref());
        self.submit(action(request), callers, key, options.timeout, done);
    }

    /// Has an action applied once, by whichever node leads, under the client's key or an id that is drawn here. The leader must
    /// permit it to `callers`.
    pub(super) fn submit(
        &self,
        action: Action,
        callers: Callers,
        key: Option<&[u8]>,
        timeout: Duration,
        done: WriteDone,
    ) {
        let node = match self.node() {
            Ok(node) => node,
            Err(error) => return done(Err(error)),
        };
        let id = match key {
            Some(key) => match RequestId::from_client(key, Index(0), &action) {
                Ok(id) => id,
                Err(error) => return done(Err(Error::Request(error.to_string()))),
            },
            None => {
                let random = match random::bytes() {
                    Ok(random) => random,
                    Err(error) => return done(Err(Error::Request(format!("no random numbers: {error}")))),
                };
                // Nothing up to here can carry an id that is only now drawn.
                RequestId::from_server(random, node.shared().applied.get(), &action)
            }
        };
        Submission::new(self.shared_self(), action, id, callers, timeout, done).attempt();
    }
}

/// Turns the node's answer into the coordinator's.
fn answer(done: WriteDone) -> ApplyDone {
    Box::new(move |applied| {
        done(applied.map_err(Error::from).and_then(|Applied { id, outcome }| answer_to(id, outcome)));
    })
}

pub(super) fn answer_to(id: LogId, outcome: Outcome) -> Result<Written, Error> {
    match (outcome.request_error, outcome.repeat) {
        (Some(why), Repeat::Expired) => Err(Error::OutcomeUnknown { why, key: None }),
        (Some(text), _) => Err(Error::Request(text)),
        (None, repeat) => {
            // A repeat changed nothing: what it repeats has its own place in the log.
            let at = if let Repeat::Of(first) = repeat { first } else { id };
            Ok(Written { results: outcome.results, raft_index: at.index, served_by: None })
        }
    }
}

/// What the log entry says: the client's limit within the server's; 0 where there is neither. A `db_timeout` of zero is none.
fn vm_steps(db_timeout: Duration, steps_max: Option<u64>) -> u64 {
    if db_timeout.is_zero() {
        return steps_max.unwrap_or(0);
    }
    let steps = db_timeout.as_micros() * u128::from(VM_STEPS_PER_MS) / 1000;
    u64::try_from(steps).unwrap_or(u64::MAX).clamp(1, steps_max.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_has_a_limit_and_a_clients_own_never_exceeds_it() {
        const MAX: u64 = 1_000_000;
        let ms = Duration::from_millis;
        assert_eq!(vm_steps(Duration::ZERO, Some(MAX)), MAX);
        assert_eq!(vm_steps(ms(1), Some(MAX)), VM_STEPS_PER_MS);
        assert_eq!(vm_steps(ms(3_600_000), Some(MAX)), MAX);
        assert_eq!(vm_steps(Duration::MAX, Some(MAX)), MAX);
        assert_eq!(vm_steps(Duration::from_nanos(1), Some(MAX)), 1);
        assert_eq!(vm_steps(Duration::ZERO, None), 0);
        assert_eq!(vm_steps(ms(2), None), 2 * VM_STEPS_PER_MS);
    }
}
