//! What operators ask for: snapshot, step-down, removal.

use super::{Coordinator, Error, access};
use crate::auth::{Credentials, Operation};
use crate::net::CallError;
use crate::net::call::{Answer, Call};
use crate::node::handle::SnapshotDone;
use crate::vars;
use crossbeam_channel::RecvTimeoutError;
use std::time::Duration;

/// How long a snapshot may take. It waits its turn behind what is being applied.
const SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(120);

/// How an operator's request that only the leader can serve is to get there.
#[derive(Clone, Debug)]
pub struct AdminOptions {
    /// Bound of the network's part of it.
    pub timeout: Duration,
    /// Answer where the leader is instead of asking it.
    pub redirect: bool,
    /// Whom the leader must permit it, should it be asked.
    pub caller: Credentials,
}

/// Called exactly once, on any thread; with the Raft address of the leader, where it was asked.
pub type AdminDone = Box<dyn FnOnce(Result<Option<String>, Error>) + Send>;

/// Who answers questions about the membership on this node.
pub trait Membership: Send + Sync + 'static {
    /// `done` is called exactly once, perhaps after long.
    fn answer(&self, call: Call, done: Box<dyn FnOnce(Answer) + Send>);
}

impl Coordinator {
    /// `POST /snapshot`: makes everything applied durable in the database file and drops the log before it, but for
    /// `trailing_logs` entries (0 = the configured number). `Ok(false)`: nothing new. Blocks the calling worker, within a deadline.
    pub fn snapshot(&self, trailing_logs: u64) -> Result<bool, Error> {
        let (done_tx, done_rx) = crossbeam_channel::bounded(1);
        let trailing = (trailing_logs > 0).then_some(trailing_logs);
        let done: SnapshotDone = Box::new(move |result| {
            let _ = done_tx.send(result);
        });
        self.node()?.snapshot(trailing, done);
        match done_rx.recv_timeout(SNAPSHOT_TIME_MAX) {
            Ok(result) => result.map_err(Error::from),
            Err(RecvTimeoutError::Timeout) => {
                let text = format!("the snapshot is not done after {SNAPSHOT_TIME_MAX:?}; it goes on");
                Err(Error::Request(text))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::Request("the node is stopping".into())),
        }
    }

    /// Hands leadership to `target`, or to any voter. Without `wait` the hand-over is only begun.
    pub fn step_down(&self, target: Option<&str>, wait: bool, options: &AdminOptions, done: AdminDone) {
        let call = Call::StepDown { target: target.map(str::to_owned), wait };
        self.at_leader(call, Operation::StepDown, options, done);
    }

    /// Takes a node out of the cluster; one that is no member is no error.
    pub fn remove_node(&self, id: &str, options: &AdminOptions, done: AdminDone) {
        self.at_leader(Call::Remove { id: id.to_owned() }, Operation::RemoveNode, options, done);
    }

    /// Has the leader answer: here, or over the network, or by the client itself.
    fn at_leader(&self, call: Call, operation: Operation, options: &AdminOptions, done: AdminDone) {
        let node = match self.node() {
            Ok(node) => node,
            Err(error) => return done(Err(error)),
        };
        if node.is_leader() {
            return match self.membership.get() {
                Some(membership) => {
                    membership.answer(call, Box::new(move |answer| done(done_by(answer, None, operation))))
                }
                // The store has opened this moment.
                None => done(Err(Error::StoreNotReady)),
            };
        }
        if options.redirect {
            return self.redirect(options.timeout, Box::new(move |error| done(Err(error))));
        }
        let (Some((_, address)), Some(net)) = (self.leader(), self.net()) else {
            return done(Err(Error::LeaderNotFound));
        };
        match &call {
            Call::StepDown { .. } => vars::proxy::REMOTE_STEPDOWNS.add(1),
            _ => vars::proxy::REMOTE_REMOVE_NODE.add(1),
        }
        let leader = address.clone();
        let told = Box::new(move |answer| {
            done(match answer {
                Ok(answer) => done_by(answer, Some(leader), operation),
                Err(error) => Err(Error::Request(CallError::into_text(error))),
            });
        });
        net.call(&address, call.in_name_of(options.caller.clone()), options.timeout, told);
    }
}

fn done_by(answer: Answer, served_by: Option<String>, operation: Operation) -> Result<Option<String>, Error> {
    match answer {
        Answer::Done => Ok(served_by),
        Answer::NotLeader { .. } => Err(Error::NotLeader),
        Answer::Failed(failure) => Err(access::failed(failure, operation)),
        _ => Err(Error::Request("the leader gave an answer to another question".into())),
    }
}
