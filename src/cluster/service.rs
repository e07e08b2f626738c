//! What other nodes ask about the membership. Runs on the network's threads: answers at once, or on a thread of the desk.

use super::admit::{failed_to_resolve, split_address};
use super::desk::Answered;
use super::form::is_member;
use super::identity::Foundation;
use super::lobby::{not_ready, refused};
use super::{Cluster, admit};
use crate::coordinator::Membership;
use crate::coordinator::inbound::MembershipService;
use crate::net::Reply;
use crate::net::call::{Answer, Call, Candidate, JoinRequest};
use raft::NodeId;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the leader tries to let a node in. The node asks again every second.
const JOIN_TIME_MAX: Duration = Duration::from_secs(3);
/// How long it tries to take one out.
const REMOVE_TIME_MAX: Duration = Duration::from_secs(5);

impl MembershipService for Cluster {
    fn call(&self, _from: Option<NodeId>, call: Call, reply: Reply) {
        self.answer(call, Box::new(move |answer| reply.send(answer)));
    }
}

impl Membership for Cluster {
    /// Answers a call about the membership: of another node, or of this one's own API when it leads.
    fn answer(&self, call: Call, answered: Answered) {
        match call {
            Call::Notify(candidate) => self.hear(candidate, answered),
            Call::Promise { founder, cluster, membership } => {
                let plan = Foundation { cluster, membership };
                answered(self.at_lobby(|lobby| lobby.asked_to_promise(&founder, plan)));
            }
            Call::Formed { cluster, membership } => {
                answered(match self.control() {
                    Some(control) if control.cluster() == cluster => Answer::Done,
                    Some(_) => refused("belongs to another cluster"),
                    None => self.at_lobby(|lobby| lobby.hear_formed(cluster, &membership)),
                });
            }
            Call::Join(request) => self.join(request, answered),
            Call::Remove { id } => {
                self.at_desk(answered, move |me| me.remove(&NodeId(id.into()), Instant::now() + REMOVE_TIME_MAX));
            }
            Call::StepDown { target, wait } => {
                self.at_desk(answered, move |me| me.step_down(target.map(|id| NodeId(id.into())), wait));
            }
            _ => answered(refused("not a question about the membership")),
        }
    }
}

impl Cluster {
    /// A member answers at once; a node that waits itself makes sure first that the other can be called back.
    fn hear(&self, candidate: Candidate, answered: Answered) {
        if let Some(control) = self.control() {
            let members = control.configuration().members;
            let is_ours = is_member(&members, &NodeId(candidate.id.as_str().into()), candidate.incarnation);
            return answered(if is_ours { Answer::Joined { cluster: control.cluster() } } else { Answer::Done });
        }
        if self.settings.flags.bootstrap_expect == 0 {
            return answered(self.at_lobby(|lobby| lobby.hear(candidate, 0)));
        }
        self.at_desk(answered, move |me| {
            if let Err(why) = admit::resolve(&candidate.address) {
                return refused(&failed_to_resolve(split_address(&candidate.address), &why));
            }
            let now_ms = me.now_ms();
            me.at_lobby(|lobby| lobby.hear(candidate, now_ms))
        });
    }

    fn join(&self, request: JoinRequest, answered: Answered) {
        match self.control() {
            Some(control) if control.is_leader() => {
                self.at_desk(answered, move |me| me.admit(&request, Instant::now() + JOIN_TIME_MAX));
            }
            Some(control) => answered(Answer::NotLeader { leader: control.leader() }),
            None => answered(Answer::NotLeader { leader: None }),
        }
    }

    /// A node whose store opens, or has just opened, has no lobby: it will say more when asked again.
    fn at_lobby(&self, act: impl FnOnce(&mut super::lobby::Lobby) -> Answer) -> Answer {
        let answer = match self.lobby.lock().as_mut() {
            Some(lobby) => act(lobby),
            None if self.control().is_some() => refused("belongs to a cluster"),
            None => not_ready("node is starting"),
        };
        self.lobby_changed.notify_all();
        answer
    }

    fn at_desk(&self, answered: Answered, work: impl FnOnce(&Cluster) -> Answer + Send + 'static) {
        let me: Arc<Cluster> = self.me.upgrade().expect("a cluster is only ever made shared");
        self.desk.run(answered, move || work(&me));
    }
}
