//! The asking side of joining: every address in turn, following those that name a leader, for a number of rounds.
//!
//! Runs on the main thread while a new node looks for its cluster, and on its own thread when a member only announces
//! itself. Blocks; ends soon after it is cancelled.

use super::ask::{Ask, complaint};
use super::cancel::Cancel;
use crate::net::call::{Answer, Call, JoinRequest};
use raft::ClusterId;
use std::fmt;
use std::time::Duration;

/// Bound of one call.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How often one try may be sent on to another node.
const REDIRECTS_MAX: usize = 10;

const TARGET: &str = "cluster-join";

/// Why a node did not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// A node without a name.
    NodeRequired,
    Cancelled,
    /// No round brought it in.
    Failed,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JoinError::NodeRequired => "node required",
            JoinError::Cancelled => "join operation canceled",
            JoinError::Failed => "failed to join cluster",
        })
    }
}

impl std::error::Error for JoinError {}

/// What to ask, of whom, how often.
#[derive(Clone, Debug)]
pub struct Joiner {
    pub targets: Vec<String>,
    pub request: JoinRequest,
    /// Rounds over all targets.
    pub attempts: usize,
    /// Pause between two rounds.
    pub interval: Duration,
}

impl Joiner {
    /// Joins through the first target that takes this node in.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub fn run(&self, ask: &dyn Ask, cancel: &Cancel) -> Result<ClusterId, JoinError> {
        if self.request.id.is_empty() {
            return Err(JoinError::NodeRequired);
        }
        for round in 1..=self.attempts {
            if let Some(cluster) = self.round(ask, cancel)? {
                return Ok(cluster);
            }
            if round < self.attempts {
                log::info!(
                    target: TARGET,
                    "failed to join cluster at {}, sleeping {} before retry",
                    list(&self.targets), crate::text::duration::format(self.interval)
                );
                if cancel.sleep(self.interval) {
                    return Err(JoinError::Cancelled);
                }
            }
        }
        log::error!(
            target: TARGET,
            "failed to join cluster at {}, after {} attempt(s)",
            list(&self.targets), self.attempts
        );
        Err(JoinError::Failed)
    }

    /// Every target once, in order.
    fn round(&self, ask: &dyn Ask, cancel: &Cancel) -> Result<Option<ClusterId>, JoinError> {
        for target in &self.targets {
            if cancel.is_cancelled() {
                return Err(JoinError::Cancelled);
            }
            match through(ask, target, &self.request) {
                Ok((cluster, address)) => {
                    log::info!(target: TARGET, "successfully joined cluster at {address}");
                    return Ok(Some(cluster));
                }
                Err(why) => log::warn!(target: TARGET, "{}", not_through(ask, target, &why)),
            }
        }
        Ok(None)
    }
}

/// Asks one node, and then whomever it names as the leader. Gives the cluster and the address that let this node in.
///
/// # Errors
/// Why not, as a text.
pub fn through(ask: &dyn Ask, target: &str, request: &JoinRequest) -> Result<(ClusterId, String), String> {
    let mut address = target.to_owned();
    for _ in 0..=REDIRECTS_MAX {
        match ask.ask(&address, Call::Join(request.clone()), JOIN_TIMEOUT) {
            Ok(Answer::Joined { cluster }) => return Ok((cluster, address)),
            Ok(Answer::NotLeader { leader: Some(leader) }) => address = leader.address,
            Ok(Answer::NotLeader { leader: None }) => return Err("no leader".to_owned()),
            Ok(other) => return Err(complaint(&other)),
            Err(error) => return Err(error.into_text()),
        }
    }
    Err("max redirects exceeded".to_owned())
}

/// The line about a node that did not let this one in.
pub(super) fn not_through(ask: &dyn Ask, target: &str, why: &str) -> String {
    let hint = if ask.is_anonymous() { " (did you forget to set -join-as?)" } else { "" };
    format!("failed to join via node at {target}: {why}{hint}")
}

/// A list as logs of this kind show it.
pub(super) fn list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}
