//! The leader's side: lets nodes in, takes them out, hands leadership over. Runs on threads of the desk; blocks within a
//! deadline. Changes wait for each other, since Raft makes one at a time.

use super::Cluster;
use super::control::Control;
use super::lobby::refused;
use super::peers_json::shown;
use crate::net::call::{Answer, Failure, FailureKind, JoinRequest};
use crate::node::handle::AdminError;
use crate::vars;
use raft::{Change, Incarnation, Index, Member, NodeId, Suffrage};
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

/// Between two tries while another change is under way, and between two looks at whether one is committed.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// How long a hand-over of leadership may take.
const TRANSFER_TIME_MAX: Duration = Duration::from_secs(10);

const STORE: &str = "store";

impl Cluster {
    /// Lets a node in that asks to join: as a learner that becomes a voter when it has caught up, or as a read replica.
    ///
    /// A member that asks again keeps what it is. One that has another address is found there from now on. One whose data
    /// directory is another than before (its incarnation says so) is taken out first: what its former self has acknowledged
    /// is lost, so it must not count until it has caught up again. The same goes for one without a log, where the membership
    /// does not know the life of that name (it was made by hand): whichever life it meant had a log.
    pub fn admit(&self, request: &JoinRequest, deadline: Instant) -> Answer {
        if request.id.is_empty() {
            return refused("node required");
        }
        if let Err(why) = resolve(&request.address) {
            return refused(&failed_to_resolve(split_address(&request.address), &why));
        }
        let Some(control) = self.control().cloned() else { return Answer::NotLeader { leader: None } };
        let Some(_turn) = self.changes.try_lock_until(deadline) else { return failed(AdminError::NotReady, &*control) };
        if !control.is_leader() {
            return Answer::NotLeader { leader: control.leader() };
        }
        match let_in(&*control, request, deadline) {
            Ok(()) => Answer::Joined { cluster: control.cluster() },
            Err(error) => failed(error, &*control),
        }
    }

    /// Takes a node out, this one included. One that is no member is no error.
    pub fn remove(&self, id: &NodeId, deadline: Instant) -> Answer {
        let Some(control) = self.control().cloned() else { return Answer::NotLeader { leader: None } };
        let Some(_turn) = self.changes.try_lock_until(deadline) else { return failed(AdminError::NotReady, &*control) };
        if !control.is_leader() {
            return Answer::NotLeader { leader: control.leader() };
        }
        log::info!(target: STORE, "received request to remove node {id}");
        match take_out(&*control, id, deadline) {
            Ok(()) => {
                log::info!(target: STORE, "node {id} removed successfully");
                Answer::Done
            }
            Err(error) => failed(error, &*control),
        }
    }

    /// Hands leadership to a node, or to any voter. Without `wait` a hand-over is only begun, and its failure not told; but
    /// that the target cannot lead is told at once.
    pub fn step_down(&self, target: Option<NodeId>, wait: bool) -> Answer {
        let Some(control) = self.control().cloned() else { return Answer::NotLeader { leader: None } };
        if !control.is_leader() {
            return Answer::NotLeader { leader: control.leader() };
        }
        if let Some(target) = &target {
            if *target == self.settings.node {
                return refused("cannot step down to the current Leader");
            }
            if !control.configuration().members.iter().any(|member| member.id == *target) {
                return refused("node not found in cluster");
            }
        }
        let (done_tx, done_rx) = crossbeam_channel::bounded(1);
        let done = Box::new(move |outcome| {
            let _ = done_tx.send(outcome);
        });
        control.transfer(target, done);
        if !wait {
            return Answer::Done;
        }
        match done_rx.recv_timeout(TRANSFER_TIME_MAX) {
            Ok(Ok(_)) => Answer::Done,
            Ok(Err(error)) => failed(error, &*control),
            Err(_) => failed(AdminError::Unknown, &*control),
        }
    }
}

fn let_in(control: &dyn Control, request: &JoinRequest, deadline: Instant) -> Result<(), AdminError> {
    let (id, address) = (&request.id, &request.address);
    let node = NodeId(id.as_str().into());
    let configuration = control.configuration();
    let other_at_address = configuration.members.iter().any(|m| *m.address == **address && m.id != node);
    if other_at_address {
        return Err(AdminError::Invalid(format!("found duplicate address in configuration: {address}")));
    }
    let known = configuration.members.into_iter().find(|member| member.id == node);
    let mut voter = request.voter;
    let is_same_life = |known: &Member| {
        let is_meant = known.incarnation != Incarnation(0) || request.log.is_some();
        is_meant && known.incarnation.matches(request.incarnation)
    };
    match known {
        Some(known) if is_same_life(&known) && *known.address == **address => {
            refuse_empty_copy(control, request)?;
            wait_committed(control, deadline)?;
            log::info!(target: STORE, "node {id} at {address} already member of cluster, ignoring join request");
            vars::store::NUM_IGNORED_JOINS.add(1);
            return Ok(());
        }
        Some(known) if is_same_life(&known) => {
            refuse_older_copy(control, request)?;
            log::info!(target: STORE, "node {id} has moved from {} to {address}", known.address);
            change(control, &Change::SetAddress { id: node, address: address.as_str().into() }, deadline)?;
            voter = known.suffrage != Suffrage::NonVoter;
            removed_before(id);
        }
        known => {
            if let Some(known) = known {
                log::info!(target: STORE, "node {id} has lost its data and begins anew");
                take_out(control, &node, deadline)?;
                // Its place stays what it was: asking to join neither promotes nor demotes.
                voter = known.suffrage != Suffrage::NonVoter;
                removed_before(id);
            }
            let suffrage = if voter { Suffrage::Voter } else { Suffrage::NonVoter };
            let incarnation = request.incarnation;
            let member = Member { id: node, incarnation, suffrage, address: address.as_str().into() };
            change(control, &Change::Add(member), deadline)?;
        }
    }
    let kind = if voter { "voter" } else { "non-voter" };
    log::info!(target: STORE, "node with ID {id}, at {address}, joined successfully as {kind}");
    vars::store::NUM_JOINS.add(1);
    Ok(())
}

/// A node that comes from elsewhere has all that it acknowledged there, or its directory is an older copy: in its name
/// it could vote for a log without what was acknowledged. (Where it stands it is heard directly, and this would be a race
/// with its own acknowledgements; the replica has an alarm for that.) Only the present leader's term is known about.
fn refuse_older_copy(control: &dyn Control, request: &JoinRequest) -> Result<(), AdminError> {
    let has = request.log.map_or(Index(0), |last| last.index);
    let contact = control.contacts().into_iter().find(|contact| contact.id == request.id);
    let acknowledged = contact.map_or(Index(0), |contact| contact.matched);
    if has >= acknowledged {
        return Ok(());
    }
    let id = &request.id;
    let why = format!(
        "node {id} has acknowledged the log up to {acknowledged}, and the directory that it was started with now holds it only up to \
         {has}: it is an older copy. Stop it, empty its directory, and start it again with -join"
    );
    log::error!(target: STORE, "{why}");
    Err(AdminError::Invalid(why))
}

/// The copy of a directory from before it had a log has the same incarnation as what became of the original.
fn refuse_empty_copy(control: &dyn Control, request: &JoinRequest) -> Result<(), AdminError> {
    if request.log.is_some() { Ok(()) } else { refuse_older_copy(control, request) }
}

/// In the words and numbers of the API: there a node that moves is taken out and let in again.
fn removed_before(id: &str) {
    log::info!(target: STORE, "removed node {id} prior to rejoin with changed ID or address");
    vars::store::NUM_REMOVED_BEFORE_JOINS.add(1);
}

/// Takes a node out; one that is no member is out already.
pub(super) fn take_out(control: &dyn Control, id: &NodeId, deadline: Instant) -> Result<(), AdminError> {
    let before = control.configuration().members;
    match change(control, &Change::Remove(id.clone()), deadline) {
        Err(AdminError::NotMember) => Ok(()),
        Err(AdminError::LastVoter) => {
            let left: Vec<Member> = before.into_iter().filter(|member| member.id != *id).collect();
            Err(AdminError::Invalid(format!("need at least one voter in configuration: {}", shown(&left))))
        }
        // A leader that goes may lose sight of the entry that says so, when it has served its last.
        Err(AdminError::Unknown | AdminError::NotLeader) if wait_gone(control, id, deadline) => Ok(()),
        outcome => outcome,
    }
}

/// Makes a change and waits until it is committed; tries again while another is under way.
fn change(control: &dyn Control, change: &Change, deadline: Instant) -> Result<(), AdminError> {
    loop {
        let (done_tx, done_rx) = crossbeam_channel::bounded(1);
        let done = Box::new(move |outcome| {
            let _ = done_tx.send(outcome);
        });
        control.change(change.clone(), done);
        match done_rx.recv_deadline(deadline) {
            Ok(Err(AdminError::NotReady)) if Instant::now() + RETRY_INTERVAL < deadline => {
                std::thread::sleep(RETRY_INTERVAL);
            }
            Ok(outcome) => return outcome.map(drop),
            Err(_) => return Err(AdminError::Unknown),
        }
    }
}

/// What the configuration says is certain only once it is committed.
fn wait_committed(control: &dyn Control, deadline: Instant) -> Result<(), AdminError> {
    loop {
        if !control.is_leader() {
            return Err(AdminError::NotLeader);
        }
        if control.configuration().committed {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(AdminError::NotReady);
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
}

fn wait_gone(control: &dyn Control, id: &NodeId, deadline: Instant) -> bool {
    loop {
        let configuration = control.configuration();
        if configuration.committed && !configuration.members.iter().any(|member| member.id == *id) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
}

fn failed(error: AdminError, control: &dyn Control) -> Answer {
    let kind = match error {
        AdminError::NotLeader => return Answer::NotLeader { leader: control.leader() },
        AdminError::NotReady => FailureKind::NotReady,
        AdminError::Unknown => FailureKind::Unknown,
        AdminError::AlreadyMember
        | AdminError::NotMember
        | AdminError::LastVoter
        | AdminError::Invalid(_)
        | AdminError::Failed(_) => FailureKind::Refused,
    };
    Answer::Failed(Failure { kind, text: error.to_string() })
}

/// Whether the host of an address stands for anything. Blocks for as long as the resolver does. An empty host means this
/// machine to whoever calls it, which is allowed as it always was.
///
/// # Errors
/// What the resolver says.
pub(super) fn resolve(address: &str) -> Result<(), String> {
    let host = split_address(address);
    if host.is_empty() {
        return Ok(());
    }
    match (host, 0).to_socket_addrs() {
        Ok(mut found) => found.next().map(drop).ok_or_else(|| "no such host".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn failed_to_resolve(host: &str, why: &str) -> String {
    format!("failed to resolve {host}: {why}")
}

/// The host of an address; the whole text when it has no port.
pub(super) fn split_address(address: &str) -> &str {
    crate::config::address::split_host_port(address).map_or(address, |(host, _)| host)
}

#[cfg(test)]
#[path = "admit_tests.rs"]
mod tests;
