//! What other nodes ask of this one. Runs on the network's threads: answers at once, or hands a continuation on.
//!
//! Nothing is ever passed on to a third node: who does not lead says who does. Whether those may have it done in whose name a node
//! asks is looked at here, before anything else.

use super::{Coordinator, Error, access, read};
use crate::auth::{AccessControl, Callers, Operation};
use crate::command::{Action, codec};
use crate::net::call::{
    Answer, Call, CallAs, Failure, FailureKind, LeaderHint, Meta, ReadLevel, UNAUTHORIZED, WriteCall,
};
use crate::net::{Feed, Reply, Service, SnapshotSource};
use crate::node::{NodeError, NodeHandle, snapshot_in};
use crate::vars;
use raft::{Envelope, Index, NodeId};
use std::sync::{Arc, OnceLock};

/// What of a call concerns who belongs to the cluster, and is answered there.
pub trait MembershipService: Send + Sync + 'static {
    fn call(&self, from: Option<NodeId>, call: Call, reply: Reply);
}

/// See the module.
pub struct Inbound {
    coordinator: Arc<Coordinator>,
    membership: OnceLock<Arc<dyn MembershipService>>,
    access: Arc<AccessControl>,
}

impl Inbound {
    pub fn new(coordinator: Arc<Coordinator>, access: Arc<AccessControl>) -> Arc<Inbound> {
        Arc::new(Inbound { coordinator, membership: OnceLock::new(), access })
    }

    pub fn attach_membership(&self, service: Arc<dyn MembershipService>) {
        assert!(self.membership.set(service).is_ok(), "a membership service is attached once");
    }

    /// The answer to a call that this node must not even look into.
    fn refusal(&self, call: &CallAs) -> Option<Answer> {
        match access::operation(&call.call, |id| self.coordinator.is_voter(id)) {
            Ok(Some(operation)) if !self.access.permits_all(&call.callers, operation) => {
                Some(Answer::Failed(Failure::unauthorized()))
            }
            Ok(_) => None,
            Err(why) => Some(refused(&why)),
        }
    }
}

impl Service for Inbound {
    fn message(&self, envelope: Envelope) {
        if let Ok(node) = self.coordinator.node() {
            node.message(envelope);
        }
    }

    fn disconnected(&self, from: NodeId) {
        if let Ok(node) = self.coordinator.node() {
            node.lost_contact(from);
        }
    }

    fn call(&self, from: Option<NodeId>, call: CallAs, reply: Reply) {
        if let Some(refusal) = self.refusal(&call) {
            return reply.send(refusal);
        }
        match call.call {
            Call::Meta => reply.send(Answer::Meta(self.coordinator.meta())),
            Call::Write(write) => self.coordinator.write_for_peer(write, reply),
            Call::ReadIndex { level, purpose: _ } => self.coordinator.read_index_for_peer(level, reply),
            Call::Verify => self.coordinator.verify_for_peer(reply),
            Call::SendCopy { id } => match self.coordinator.leading() {
                Ok(node) => {
                    node.copy_wanted(NodeId(id.as_str().into()));
                    reply.send(Answer::Done);
                }
                Err(answer) => reply.send(*answer),
            },
            Call::Hash { index } => {
                let shared = self.coordinator.node.get().map(NodeHandle::shared);
                reply.send(match shared {
                    Some(shared) if shared.hashes.will_never_come(index, shared.applied.get()) => {
                        refused("the copy was not hashed there, and cannot be any more")
                    }
                    shared => Answer::Hash(shared.and_then(|shared| shared.hashes.get(index))),
                });
            }
            other => match self.membership.get() {
                Some(membership) => membership.call(from, other, reply),
                None => reply.send(not_ready("store not open")),
            },
        }
    }

    fn snapshot(&self, from: NodeId, header: Vec<u8>, source: &mut dyn SnapshotSource) -> Result<Vec<u8>, String> {
        let node = self.coordinator.node().map_err(|error| error.to_string())?;
        snapshot_in::receive(node, &self.coordinator.settings.data_dir, &from, &header, source)
    }

    fn fetch(&self, _from: NodeId, callers: &Callers, wanted: &[u8], feed: &mut dyn Feed) -> Result<(), String> {
        if !self.access.permits_all(callers, Operation::Backup) {
            return Err(UNAUTHORIZED.to_owned());
        }
        self.coordinator.backup_for_peer(wanted, feed)
    }
}

impl Coordinator {
    /// What this node says of itself.
    pub fn meta(&self) -> Meta {
        let node = self.node.get();
        Meta {
            id: self.settings.node_id.clone(),
            api_url: self.settings.api_url.clone(),
            version: self.settings.version.clone(),
            commit_index: node.map_or(Index(0), |node| Index(node.shared().raft.lock().commit_index)),
            is_leader: node.is_some_and(NodeHandle::is_leader),
            cluster: node.map(|node| node.shared().cluster),
        }
    }

    fn leading(&self) -> Result<&NodeHandle, Box<Answer>> {
        match self.node() {
            Ok(node) if node.is_leader() && node.shared().quarantine.is_on() => {
                Err(Box::new(not_ready(&Error::Quarantined.to_string())))
            }
            Ok(node) if node.is_leader() => Ok(node),
            Ok(_) => Err(Box::new(self.not_leader())),
            Err(error) => Err(Box::new(not_ready(&error.to_string()))),
        }
    }

    /// Whether a member of this name votes, or will.
    fn is_voter(&self, id: &str) -> bool {
        let Some(node) = self.node.get() else { return false };
        let members = node.shared().members.lock();
        members.iter().any(|member| member.id == id && (member.voter || member.learner))
    }

    fn not_leader(&self) -> Answer {
        let leader = self.leader().map(|(id, address)| LeaderHint { id, address });
        Answer::NotLeader { leader }
    }

    fn write_for_peer(&self, write: WriteCall, reply: Reply) {
        let node = match self.leading() {
            Ok(node) => node,
            Err(answer) => return reply.send(*answer),
        };
        if codec::is_load_commit(&write.payload) {
            vars::cluster::NUM_LOAD_REQ.add(1);
        }
        let coordinator = self.shared_self();
        // Further calls of the same node wait behind this one, reads among them: it asks again when there is no room.
        node.impatient().propose_encoded(
            write.payload,
            Box::new(move |applied| {
                reply.send(match applied {
                    Ok(applied) => Answer::Written { id: applied.id, outcome: applied.outcome.encode() },
                    Err(error) => coordinator.failure(&error),
                });
            }),
        );
    }

    fn read_index_for_peer(&self, level: ReadLevel, reply: Reply) {
        let node = match self.leading() {
            Ok(node) => node,
            Err(answer) => return reply.send(*answer),
        };
        if let Err(error) = read::ready(node) {
            return reply.send(not_ready(&error.to_string()));
        }
        let coordinator = self.shared_self();
        let node = &node.impatient();
        match level {
            ReadLevel::Weak => reply.send(Answer::Readable { index: node.shared().applied.get(), logged: None }),
            ReadLevel::Linearizable => node.read_index_for_peer(Box::new(move |index| {
                reply.send(match index {
                    Ok(index) => Answer::Readable { index, logged: None },
                    Err(error) => coordinator.failure(&error),
                });
            })),
            ReadLevel::Strong => node.propose(
                Action::Barrier,
                Box::new(move |applied| {
                    reply.send(match applied {
                        Ok(applied) => Answer::Readable { index: applied.id.index, logged: Some(applied.id.index) },
                        Err(error) => coordinator.failure(&error),
                    });
                }),
            ),
        }
    }

    fn verify_for_peer(&self, reply: Reply) {
        if let Err(answer) = self.leading() {
            return reply.send(*answer);
        }
        self.verify_here(Box::new(move |report| {
            reply.send(match report {
                Ok(report) => Answer::Verified { report },
                Err(error) => refused(&error.to_string()),
            });
        }));
    }

    fn failure(&self, error: &NodeError) -> Answer {
        let kind = match error {
            NodeError::NotLeader | NodeError::Overwritten => return self.not_leader(),
            NodeError::LeadershipLost | NodeError::Stopped => FailureKind::Unknown,
            NodeError::EnqueueTimeout => FailureKind::NotReady,
            NodeError::TooLarge { .. } => FailureKind::Refused,
        };
        Answer::Failed(Failure { kind, text: error.to_string() })
    }
}

fn not_ready(text: &str) -> Answer {
    Answer::Failed(Failure { kind: FailureKind::NotReady, text: text.to_owned() })
}

fn refused(text: &str) -> Answer {
    Answer::Failed(Failure { kind: FailureKind::Refused, text: text.to_owned() })
}
