//! A node that belongs to no cluster yet and waits for one to be formed (`-bootstrap-expect`): whom it has heard of, whom
//! it has promised, whether it is forming itself. A pure state machine; time is a value, one caller at a time.
//!
//! # How one cluster comes out of many nodes
//!
//! Every node tells all others that it waits. The node with the lowest id of those that it has heard of is the founder. It
//! draws a cluster id, and asks as many of the others as make up the number that was asked for, to promise that they will
//! be members. Only when **all** have promised it makes its log, with all of them as voters; only then it tells them.
//!
//! A node keeps a promise to one founder at a time, and takes part in nothing else, until it learns from that founder what
//! came of it, however long that takes and whether or not either was restarted meanwhile: the promise is on disk before it
//! is given. It asks the founder by telling it again that it waits. The answer is decided under the same lock as the
//! founding itself:
//! - the founder is forming, or has decided and its log is not made yet: "not ready", the promise stays;
//! - the cluster is formed with this node: "joined", with the cluster's id;
//! - neither: "done", so the attempt was given up, and the promise with it.
//!
//! An answer counts only if its question was asked after the promise was given, and no other since (`serial`). No clock takes part in this. So
//! of two founders whose sets of members have a node in common at most one can succeed; and with fewer than twice as many
//! nodes as are expected, any two sets have a node in common.

use super::identity::Founder;
use crate::net::call::{Answer, Candidate, Failure, FailureKind};
use raft::{ClusterId, Member, Membership, NodeId, Suffrage};
use std::collections::BTreeMap;

/// A node that was not heard of again for this long is not counted.
pub const CANDIDATE_MS_MAX: u64 = 10_000;
/// Candidates that are remembered; more than any cluster has members.
const CANDIDATES_MAX: usize = 256;

/// What the node is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// It does not know yet what it is: nothing is said that another node could rely on.
    Starting,
    /// It joins a cluster, or has joined and opens its log: it promises nothing.
    Joining,
    /// It waits for a cluster to be formed.
    Waiting,
    /// It asks others for promises, to form this cluster.
    Asking(ClusterId),
    /// All have promised: it makes its log.
    Decided,
    /// A cluster was formed with this node in it.
    Told(ClusterId),
}

/// A promise that was given and not yet resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    pub founder: Founder,
    /// Rises with every promise that is given.
    pub serial: u64,
}

/// What a node tells all others in one pass.
#[derive(Clone, Debug)]
pub struct News {
    pub me: Candidate,
    /// Whom it had promised when it told them.
    pub promise: Option<Promise>,
}

impl News {
    /// Whom to tell: all targets, and whoever must say what came of a promise.
    pub fn addresses(&self, targets: &[String]) -> Vec<String> {
        let founder = self.promise.iter().map(|promise| promise.founder.address.clone());
        targets.iter().cloned().chain(founder.filter(|address| !targets.contains(address))).collect()
    }
}

/// A founding that has begun.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub cluster: ClusterId,
    /// All members, this node among them.
    pub members: Vec<Candidate>,
}

/// Makes a promise durable, or the absence of one.
pub type Keep = Box<dyn FnMut(Option<&Founder>) -> Result<(), String> + Send>;

/// See the module.
pub struct Lobby {
    me: Candidate,
    expect: usize,
    stage: Stage,
    heard: BTreeMap<String, (Candidate, u64)>,
    promise: Option<Promise>,
    serial: u64,
    keep: Keep,
}

impl Lobby {
    /// `expect` 0: this node waits for nothing to be formed. `promised` is what its directory remembers.
    pub fn new(me: Candidate, expect: usize, promised: Option<Founder>, keep: Keep) -> Lobby {
        let promise = promised.map(|founder| Promise { founder, serial: 1 });
        Lobby { me, expect, stage: Stage::Starting, heard: BTreeMap::new(), promise, serial: 1, keep }
    }

    /// The node has no cluster, and says so from here on.
    pub fn open(&mut self) {
        self.stage = if self.expect > 0 { Stage::Waiting } else { Stage::Joining };
    }

    /// What this node tells others, and what it must remember until they answer.
    pub fn news(&self) -> News {
        News { me: self.me.clone(), promise: self.promise.clone() }
    }

    /// The cluster that was formed with this node in it.
    pub fn told(&self) -> Option<ClusterId> {
        match self.stage {
            Stage::Told(cluster) => Some(cluster),
            _ => None,
        }
    }

    /// Whether an attempt to form a cluster would begin now.
    pub fn may_begin(&self, now_ms: u64) -> bool {
        self.members_to_be(now_ms).is_some()
    }

    /// Another node says that it waits.
    pub fn hear(&mut self, candidate: Candidate, now_ms: u64) -> Answer {
        if self.stage == Stage::Starting {
            return not_ready("node is starting");
        }
        self.heard.retain(|_, (_, at_ms)| is_fresh(*at_ms, now_ms));
        let known = self.heard.contains_key(&candidate.id);
        if self.expect > 0 && candidate.id != self.me.id && (known || self.heard.len() < CANDIDATES_MAX) {
            self.heard.insert(candidate.id.clone(), (candidate, now_ms));
        }
        match self.stage {
            Stage::Starting | Stage::Asking(_) | Stage::Decided | Stage::Told(_) => {
                not_ready("a cluster is being formed")
            }
            Stage::Joining | Stage::Waiting => Answer::Done,
        }
    }

    /// A founder asks this node to be a member of its cluster.
    pub fn asked_to_promise(&mut self, founder: &NodeId) -> Answer {
        match &self.stage {
            Stage::Waiting => {}
            // Of two that form at the same time the lower goes on.
            Stage::Asking(_) if *founder.0 < *self.me.id => self.stage = Stage::Waiting,
            Stage::Asking(_) | Stage::Starting => return not_ready("forming a cluster itself"),
            Stage::Joining | Stage::Decided | Stage::Told(_) => {
                return refused("belongs to a cluster, or is joining one");
            }
        }
        match &mut self.promise {
            Some(promise) if promise.founder.id == *founder => {
                // A promise to the founder of an attempt is one to its next attempt: it makes one at a time.
                self.serial += 1;
                promise.serial = self.serial;
                return Answer::Done;
            }
            Some(promise) => return not_ready(&format!("promised to node {}", promise.founder.id)),
            None => {}
        }
        // Without its address the founder could not be asked what came of it.
        let Some((candidate, _)) = self.heard.get(&*founder.0) else {
            return not_ready("has not heard of the founder yet");
        };
        let founder = Founder { id: founder.clone(), address: candidate.address.clone() };
        if let Err(why) = (self.keep)(Some(&founder)) {
            return not_ready(&why);
        }
        self.serial += 1;
        self.promise = Some(Promise { founder, serial: self.serial });
        Answer::Done
    }

    /// What the node at `address` answered to the news.
    pub fn answered(&mut self, news: &News, address: &str, answer: &Answer) {
        match answer {
            Answer::Joined { cluster } => {
                self.belongs_to(*cluster);
            }
            // The founder is neither forming a cluster nor has formed one with this node. If it has asked for another
            // promise since the news were sent, then this says nothing about that one.
            Answer::Done => {
                let asked = news.promise.as_ref().filter(|promise| promise.founder.address == address);
                let over = asked.is_some() && asked == self.promise.as_ref();
                if self.stage == Stage::Waiting && over && (self.keep)(None).is_ok() {
                    self.promise = None;
                }
            }
            _ => {}
        }
    }

    /// A cluster is formed; is this node in it?
    pub fn hear_formed(&mut self, cluster: ClusterId, membership: &Membership) -> Answer {
        let me = membership.get(&NodeId(self.me.id.as_str().into()));
        if me.is_none_or(|me| me.incarnation != self.me.incarnation) {
            return refused("not a member of that cluster in this life");
        }
        self.belongs_to(cluster)
    }

    /// A member says that this node, in this life, belongs to a cluster.
    pub fn belongs_to(&mut self, cluster: ClusterId) -> Answer {
        match self.stage {
            Stage::Waiting | Stage::Joining | Stage::Asking(_) => {
                self.stage = Stage::Told(cluster);
                Answer::Done
            }
            Stage::Told(known) if known == cluster => Answer::Done,
            Stage::Starting => not_ready("node is starting"),
            Stage::Told(_) | Stage::Decided => refused("belongs to another cluster"),
        }
    }

    /// Begins to join a cluster that exists; `false` when the node may not, for it has promised or is told already.
    pub fn begin_joining(&mut self) -> bool {
        let free = self.stage == Stage::Waiting && self.promise.is_none();
        if free {
            self.stage = Stage::Joining;
        }
        free || self.stage == Stage::Joining
    }

    /// Joining has failed; the node waits again.
    pub fn end_joining(&mut self) {
        if self.stage == Stage::Joining && self.expect > 0 {
            self.stage = Stage::Waiting;
        }
    }

    /// Begins to form a cluster, if this node is the one to do so.
    pub fn begin(&mut self, cluster: ClusterId, now_ms: u64) -> Option<Attempt> {
        let members = self.members_to_be(now_ms)?;
        self.stage = Stage::Asking(cluster);
        Some(Attempt { cluster, members })
    }

    /// All others have promised. `true`: the cluster is formed, and this node must make its log.
    pub fn decide(&mut self, attempt: &Attempt) -> bool {
        let asking = self.stage == Stage::Asking(attempt.cluster);
        if asking {
            self.stage = Stage::Decided;
        }
        asking
    }

    /// Not all have promised.
    pub fn abandon(&mut self, attempt: &Attempt) {
        if self.stage == Stage::Asking(attempt.cluster) {
            self.stage = Stage::Waiting;
        }
    }

    /// The lowest ids of those heard of lately, if there are enough and this node has the lowest of all.
    fn members_to_be(&self, now_ms: u64) -> Option<Vec<Candidate>> {
        if self.stage != Stage::Waiting || self.promise.is_some() {
            return None;
        }
        let others = self.heard.values().filter(|(_, at_ms)| is_fresh(*at_ms, now_ms)).map(|(candidate, _)| candidate);
        let mut members: Vec<Candidate> = others.cloned().chain([self.me.clone()]).collect();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        members.truncate(self.expect);
        let mut addresses: Vec<&str> = members.iter().map(|member| member.address.as_str()).collect();
        addresses.sort_unstable();
        let unique = addresses.windows(2).all(|pair| pair[0] != pair[1]);
        (members.len() == self.expect && unique && members[0].id == self.me.id).then_some(members)
    }
}

fn is_fresh(at_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(at_ms) <= CANDIDATE_MS_MAX
}

impl Attempt {
    /// All members as voters.
    ///
    /// # Errors
    /// An id or address that cannot stand in a membership.
    pub fn membership(&self) -> Result<Membership, raft::MembershipError> {
        let member = |candidate: &Candidate| Member {
            id: NodeId(candidate.id.as_str().into()),
            incarnation: candidate.incarnation,
            suffrage: Suffrage::Voter,
            address: candidate.address.as_str().into(),
        };
        Membership::new(self.members.iter().map(member).collect())
    }
}

pub(super) fn not_ready(text: &str) -> Answer {
    Answer::Failed(Failure { kind: FailureKind::NotReady, text: text.to_owned() })
}

pub(super) fn refused(text: &str) -> Answer {
    Answer::Failed(Failure { kind: FailureKind::Refused, text: text.to_owned() })
}

#[cfg(test)]
#[path = "lobby_tests.rs"]
mod tests;
