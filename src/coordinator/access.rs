//! Which permissions it takes that one node does something for another, and what a refusal comes to. Any thread.
//!
//! The first node has asked its own credentials file already. The one that is asked believes it nothing: what a call needs follows
//! from the call alone.

use super::Error;
use crate::auth::Operation;
use crate::command::{Action, Command};
use crate::net::call::{Call, Failure, FailureKind, WriteCall};

/// What a call has this node do. `None`: nothing that takes a permission, as among nodes that trust each other (Raft itself, its
/// copies and hashes) or as everybody may know it (who leads). `is_voter` says of a name whether it is a voting member.
///
/// # Errors
/// A write that must not go into the log, with the reason.
pub(super) fn operation(call: &Call, is_voter: impl Fn(&str) -> bool) -> Result<Option<Operation>, String> {
    Ok(match call {
        Call::Meta | Call::Hash { .. } | Call::SendCopy { .. } => None,
        // A name keeps its place when it joins again: whoever may bring in replicas only must not get a voter's.
        Call::Join(request) if request.voter || is_voter(&request.id) => Some(Operation::Join),
        Call::Join(_) => Some(Operation::JoinReadOnly),
        Call::Notify(_) | Call::Promise { .. } | Call::Formed { .. } => Some(Operation::Join),
        Call::Remove { .. } => Some(Operation::RemoveNode),
        Call::StepDown { .. } => Some(Operation::StepDown),
        Call::Write(write) => Some(write_operation(write)?),
        Call::ReadIndex { purpose, .. } => Some((*purpose).into()),
        Call::Verify => Some(Operation::Verify),
    })
}

/// Bytes from outside go into the log only when every node can read them.
fn write_operation(write: &WriteCall) -> Result<Operation, String> {
    let command = Command::decode(&write.payload);
    let command = command.map_err(|error| format!("a forwarded write cannot be read: {error}"))?;
    // The verdicts of a divergence check, for one, are the leader's own.
    let operation = of_action(&command.action).ok_or("a forwarded write is no request of a client")?;
    if command.request.is_none() {
        return Err("a forwarded write carries no request id".to_owned());
    }
    Ok(operation)
}

/// What a client wants that writes; `None`: no client can want it.
pub(super) fn of_action(action: &Action) -> Option<Operation> {
    match action {
        Action::Execute(_) => Some(Operation::Execute),
        Action::Request(_) => Some(Operation::Request),
        Action::Script(_) | Action::LoadChunk(_) | Action::LoadCommit(_) => Some(Operation::Load),
        Action::Barrier | Action::Vacuum | Action::Optimize { .. } | Action::Hash | Action::Verdict { .. } => None,
    }
}

/// What the client is told for whom another node was asked to do `operation`, and did not.
pub(super) fn failed(failure: Failure, operation: Operation) -> Error {
    match failure.kind {
        FailureKind::Unauthorized => Error::Unauthorized(operation),
        FailureKind::Refused | FailureKind::Unknown | FailureKind::NotReady => Error::Request(failure.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{LoadChunk, LoadCommit, Request, RequestId};
    use crate::net::call::{Candidate, JoinRequest, ReadLevel, ReadPurpose};
    use raft::{ClusterId, Incarnation, Index, Member, Membership, NodeId, Suffrage};

    fn needed(call: &Call) -> Option<Operation> {
        operation(call, |id| id == "voter").expect("nothing is wrong with it")
    }

    fn join(id: &str, voter: bool) -> Call {
        let (id, address) = (id.to_owned(), "h:1".to_owned());
        Call::Join(JoinRequest { id, address, voter, incarnation: Incarnation(1), log: None })
    }

    fn write(action: Action, has_id: bool) -> Call {
        let request = has_id.then(|| RequestId::from_server([1; 16], Index(0), &action));
        Call::Write(WriteCall { payload: Command { unix_time_us: 0, seed: 0, request, action }.encode() })
    }

    #[test]
    fn every_call_has_its_operation() {
        let id = || "x".to_owned();
        let read = |purpose| Call::ReadIndex { level: ReadLevel::Weak, purpose };
        let incarnation = Incarnation(1);
        let candidate = Candidate { id: id(), address: "h:1".to_owned(), incarnation, refused: Vec::new() };
        let founder = NodeId("x".into());
        let member = Member { id: founder.clone(), incarnation, suffrage: Suffrage::Voter, address: "h:1".into() };
        let (cluster, membership) = (ClusterId(1), Membership::new(vec![member]).expect("valid"));
        for (call, expected) in [
            (Call::Meta, None),
            (Call::Hash { index: Index(1) }, None),
            (Call::SendCopy { id: id() }, None),
            (join("new", true), Some(Operation::Join)),
            (join("new", false), Some(Operation::JoinReadOnly)),
            (join("voter", false), Some(Operation::Join)),
            (Call::Notify(candidate), Some(Operation::Join)),
            (Call::Promise { founder, cluster, membership: membership.clone() }, Some(Operation::Join)),
            (Call::Formed { cluster, membership }, Some(Operation::Join)),
            (Call::Remove { id: id() }, Some(Operation::RemoveNode)),
            (Call::StepDown { target: None, wait: false }, Some(Operation::StepDown)),
            (Call::Verify, Some(Operation::Verify)),
            (read(ReadPurpose::Query), Some(Operation::Query)),
            (read(ReadPurpose::Request), Some(Operation::Request)),
            (read(ReadPurpose::Backup), Some(Operation::Backup)),
            (write(Action::Execute(Request::default()), true), Some(Operation::Execute)),
            (write(Action::Request(Request::default()), true), Some(Operation::Request)),
            (write(Action::Script(Request::default()), true), Some(Operation::Load)),
            (write(Action::LoadChunk(LoadChunk { load: 1, number: 0, bytes: vec![1] }), true), Some(Operation::Load)),
            (
                write(Action::LoadCommit(LoadCommit { load: 1, chunks: 1, bytes: 1, hash: [0; 32] }), true),
                Some(Operation::Load),
            ),
        ] {
            assert_eq!(needed(&call), expected, "{call:?}");
        }
    }

    #[test]
    fn only_a_clients_write_with_an_id_goes_into_the_log() {
        let error = |call: &Call| operation(call, |_| false).expect_err("it must not");
        assert_eq!(error(&write(Action::Vacuum, true)), "a forwarded write is no request of a client");
        let execute = Action::Execute(Request::default());
        assert_eq!(error(&write(execute, false)), "a forwarded write carries no request id");
        let junk = Call::Write(WriteCall { payload: vec![0xff; 3] });
        assert!(error(&junk).starts_with("a forwarded write cannot be read: "));
    }
}
