//! What operators ask of the raft thread: changes of the configuration, and handing over leadership. Part of
//! `raft_thread`.

use super::handle::{AdminError, Applied, ChangeDone, NodeError, TransferDone};
use super::raft_thread::RaftThread;
use raft::{Change, ChangeError, NodeId, RoleChange, RoleKind, TransferError};

/// A transfer that was begun here, and who waits for its end.
pub struct Transferring {
    pub(super) done: TransferDone,
}

impl RaftThread {
    pub(super) fn change_membership(&mut self, change: Change, done: ChangeDone) {
        match self.replica.change_membership(change) {
            // Its place in the log is the newest, so it waits behind all proposals.
            Ok(id) => self.pending.push(
                id,
                Box::new(move |applied| {
                    done(match applied {
                        Ok(Applied { id, .. }) => Ok(id),
                        Err(NodeError::Overwritten) => {
                            Err(AdminError::Failed("another leader decided otherwise".into()))
                        }
                        Err(_) => Err(AdminError::Unknown),
                    });
                }),
            ),
            Err(error) => done(Err(change_error(error))),
        }
    }

    pub(super) fn transfer(&mut self, target: Option<NodeId>, done: TransferDone) {
        match self.replica.transfer(target.as_ref()) {
            Ok(to) => {
                log::info!(target: "store", "handing leadership over to node {to}");
                if let Some(before) = self.transferring.replace(Transferring { done }) {
                    (before.done)(Err(AdminError::Failed("overtaken by another transfer".into())));
                }
            }
            Err(error) => done(Err(transfer_error(error))),
        }
    }

    pub(super) fn transfer_failed(&mut self, target: &NodeId) {
        if let Some(waiting) = self.transferring.take() {
            (waiting.done)(Err(AdminError::Failed(format!("node {target} did not take over leadership in time"))));
        }
    }

    /// Another leader is known: that is what a transfer was for.
    pub(super) fn settle_transfer(&mut self, change: &RoleChange) {
        let Some(leader) = change.leader.clone().filter(|_| change.role != RoleKind::Leader) else { return };
        if let Some(waiting) = self.transferring.take() {
            (waiting.done)(Ok(leader));
        }
    }
}

fn change_error(error: ChangeError) -> AdminError {
    match error {
        ChangeError::NotLeader { .. } => AdminError::NotLeader,
        ChangeError::NotReady | ChangeError::Transferring { .. } => AdminError::NotReady,
        ChangeError::AlreadyMember => AdminError::AlreadyMember,
        ChangeError::NotMember => AdminError::NotMember,
        ChangeError::LastVoter => AdminError::LastVoter,
        ChangeError::Invalid(why) => AdminError::Invalid(why.to_string()),
    }
}

fn transfer_error(error: TransferError) -> AdminError {
    match error {
        TransferError::NotLeader { .. } => AdminError::NotLeader,
        TransferError::AlreadyLeader => AdminError::Invalid("cannot step down to the current Leader".into()),
        TransferError::NotVoter => AdminError::NotMember,
        TransferError::NoTarget => AdminError::Invalid("cannot find peer".into()),
        TransferError::InProgress { .. } => AdminError::NotReady,
    }
}
