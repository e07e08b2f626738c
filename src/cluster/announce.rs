//! What a node says to its cluster right after its start: a founder tells the others that the cluster is formed; a member
//! that was started with `-join` says where it is now. On threads of their own: the node serves meanwhile.

use super::ask::{ask_all, complaint};
use super::control::Control;
use super::form::{FormError, Formation};
use super::{Cluster, identity};
use crate::net::call::{Answer, Call, FailureKind};
use crate::node::Origin;
use raft::{ClusterId, Incarnation, Membership, NodeId};
use std::time::{Duration, Instant};

/// Bound of one round of telling that the cluster is formed, the pause after it, and their number. Who does not hear of it
/// so asks by itself.
const FORMED_TIMEOUT: Duration = Duration::from_secs(1);
const FORMED_PAUSE: Duration = Duration::from_millis(250);
const FORMED_ROUNDS: usize = 20;
/// How long a member of a group that forms itself waits to hear a leader before it asks to be let in again.
const HOME_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two looks at whether a leader is known.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

impl Cluster {
    /// A node alone in its own cluster cannot take its data into another.
    pub(super) fn refuse_to_join_elsewhere(
        &self,
        control: &dyn Control,
        formation: &Formation,
    ) -> Result<(), FormError> {
        let flags = &self.settings.flags;
        let members = control.configuration().members;
        let alone = matches!(members.as_slice(), [member] if member.id == self.settings.node);
        let has_lived = matches!(formation.origin, Origin::Existing);
        if has_lived && alone && !flags.join.is_empty() && flags.bootstrap_expect == 0 {
            return Err(FormError::OnlyNode);
        }
        Ok(())
    }

    pub(super) fn announce(&self, formation: &Formation) {
        match formation.origin.clone() {
            Origin::Formed { cluster, membership } => {
                self.spawn("announce", move |me| me.tell_formed(cluster, &membership));
            }
            Origin::Existing if !self.settings.flags.join.is_empty() => {
                let Some(incarnation) = self.settled_incarnation() else { return };
                self.spawn("join", move |me| me.rejoin(incarnation));
            }
            Origin::Existing | Origin::Single | Origin::Joined { .. } => {}
        }
    }

    /// The life in which the node runs, which is on disk since its log was opened.
    fn settled_incarnation(&self) -> Option<Incarnation> {
        match identity::read(&self.settings.data_dir, &self.settings.node) {
            Ok(identity) => identity.map(|identity| identity.incarnation),
            Err(error) => {
                log::error!(target: "cluster-join", "this node does not announce itself: {error}");
                None
            }
        }
    }

    fn tell_formed(&self, cluster: ClusterId, membership: &Membership) {
        let mut left: Vec<(NodeId, String)> = membership
            .members()
            .iter()
            .filter(|member| member.id != self.settings.node)
            .map(|member| (member.id.clone(), member.address.to_string()))
            .collect();
        for _ in 0..FORMED_ROUNDS {
            let call = Call::Formed { cluster, membership: membership.clone() };
            let questions = left.iter().map(|(_, address)| (address.clone(), call.clone())).collect();
            let answers = ask_all(&*self.ask, questions, FORMED_TIMEOUT);
            let mut answers = answers.into_iter();
            left.retain(|(id, _)| match answers.next().expect("every question has its answer") {
                Ok(Answer::Done) => false,
                Ok(Answer::Failed(failure)) if failure.kind == FailureKind::NotReady => true,
                Ok(other) => {
                    log::warn!(target: "cluster-bootstrap", "node {id} does not come in: {}", complaint(&other));
                    false
                }
                Err(_) => true,
            });
            if left.is_empty() || self.cancel.sleep(FORMED_PAUSE) {
                return;
            }
        }
    }

    /// A member asks to join again: so its leader learns its address, and takes it in again if it was removed. The node
    /// does not depend on it.
    fn rejoin(&self, incarnation: Incarnation) {
        let control = self.control().expect("the node is attached before it announces itself");
        let flags = &self.settings.flags;
        if flags.bootstrap_expect > 0 && self.is_at_home(&**control) {
            log::info!(target: "cluster-bootstrap", "boot operation marked done");
            return;
        }
        let own = control.cluster();
        let mut joiner = self.joiner(incarnation);
        joiner.request.log = Some(control.log_end());
        // The list may name this node itself, as lists that all nodes share do.
        joiner.targets.retain(|target| *target != self.settings.address);
        let questions = joiner.targets.iter().map(|target| (target.clone(), Call::Meta)).collect();
        let answers = ask_all(&*self.ask, questions, FORMED_TIMEOUT);
        let others: Vec<String> = joiner.targets.clone();
        for (target, answer) in others.iter().zip(answers) {
            if let Ok(Answer::Meta(meta)) = answer
                && meta.cluster.is_some_and(|cluster| cluster != own)
            {
                log::error!(
                    target: "cluster-join",
                    "the node at {target} belongs to another cluster than this one, which has data of its own: not joining it"
                );
                joiner.targets.retain(|other| other != target);
            }
        }
        if !joiner.targets.is_empty() {
            // What went wrong is in the log; the node goes on with what it has.
            let _ = joiner.run(&*self.ask, &self.cancel);
        }
    }

    /// Waits a while until a leader is known, and sees whether this node is a member where it is.
    fn is_at_home(&self, control: &dyn Control) -> bool {
        let until = Instant::now() + HOME_TIME_MAX;
        while control.leader().is_none() && Instant::now() < until {
            if self.cancel.sleep(LOOK_INTERVAL) {
                return true;
            }
        }
        let here = |member: &raft::Member| member.id == self.settings.node && *member.address == *self.settings.address;
        control.leader().is_some() && control.configuration().members.iter().any(here)
    }
}
