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
//!
//! The founder decides, and makes its log, as one: the decision is on disk before (`Kept::founding`), and a founder that
//! finds it there at a start goes on with it and asks nobody again.
//!
//! # When the founder is gone for good
//!
//! Nobody else knows whether it had decided. But a cluster of N voters lives only if N/2 + 1 of them, rounded down, take
//! part. So who waits for its founder in vain (`refuse`) writes down that it will never take part in that cluster in this
//! life, tells all others with every pass, and takes no such word back: neither does it believe the founder when that one
//! comes back with a log. As soon as a node knows of so many members that refuse - itself, and in the very lives that the
//! promise was about - that the rest make no majority (`is_void`), that cluster can never decide anything, and the promise is
//! void. (A member that had not promised yet when the founder went refuses along with the first that it hears refusing.) Until
//! then the node stays bound: one that let go by itself could help to form another cluster while the founder
//! and the rest form theirs. A clock decides only when a node begins to refuse, and to refuse too early costs the
//! attempt, never the safety: the founder is then left alone with a log that no majority will ever share, says so, and must be
//! emptied.
//!
//! What remains: a founder that has decided, was emptied and waits again answers as if it had given up, since an answer does not
//! say in which life it was given. With fewer nodes than two clusters need, the first cluster then cannot live beside
//! another; with more it could, where it has only the other voters. And a member that is lost as well may keep it from being
//! known that a promise is void; then the others are emptied of their promises by hand (`node-identity`).
//!
//! Who refuses may join any cluster that exists, that one too: if a leader of it lets somebody in, then a majority of its
//! voters has a log of it, none of whom refuses, and so nobody was or will be released.

use super::identity::{Foundation, Founder, Kept, Promised};
use crate::net::call::{Answer, Candidate, Failure, FailureKind};
use raft::{ClusterId, Member, Membership, NodeId, Suffrage};
use std::collections::BTreeMap;

/// A node that was not heard of again for this long is not counted.
pub const CANDIDATE_MS_MAX: u64 = 10_000;
/// Clusters that one life of a node refuses; beyond it an operator must act. It takes a founder lost for good for each.
pub const REFUSED_MAX: usize = 64;
/// Attempts of one founder that are waited for; beyond it it gets no further promise before it has said what came of them.
const PLANS_MAX: usize = 16;
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
    /// What was promised, in one attempt after another: which of them the founder may have decided is not known, and a
    /// question may arrive after a later one. None: an earlier version did not write it down.
    pub plans: Vec<Foundation>,
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

/// Makes durable what must not be forgotten.
pub type Keep = Box<dyn FnMut(&Kept) -> Result<(), String> + Send>;

/// See the module.
pub struct Lobby {
    me: Candidate,
    expect: usize,
    stage: Stage,
    heard: BTreeMap<String, (Candidate, u64)>,
    promise: Option<Promise>,
    serial: u64,
    /// Never taken back in this life.
    refused: Vec<ClusterId>,
    keep: Keep,
}

impl Lobby {
    /// `expect` 0: this node waits for nothing to be formed. `kept` is what its directory remembers.
    pub fn new(mut me: Candidate, expect: usize, kept: Kept, keep: Keep) -> Lobby {
        let promise = kept.promised.map(|Promised { founder, plans }| Promise { founder, plans, serial: 1 });
        me.refused.clone_from(&kept.refused);
        let (heard, refused) = (BTreeMap::new(), kept.refused);
        Lobby { me, expect, stage: Stage::Starting, heard, promise, serial: 1, refused, keep }
    }

    /// Writes down a promise, or that there is none; and, with it, what stands beside it.
    fn keep(&mut self, promise: Option<&Promise>, founding: Option<Foundation>) -> Result<(), String> {
        let promised = promise.map(|p| Promised { founder: p.founder.clone(), plans: p.plans.clone() });
        (self.keep)(&Kept { promised, founding, refused: self.refused.clone() })
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
        let told = candidate.refused.clone();
        if self.expect > 0 && candidate.id != self.me.id && (known || self.heard.len() < CANDIDATES_MAX) {
            self.heard.insert(candidate.id.clone(), (candidate, now_ms));
        }
        self.refuse_along(&told);
        self.drop_void_promise();
        match self.stage {
            Stage::Starting | Stage::Asking(_) | Stage::Decided | Stage::Told(_) => {
                not_ready("a cluster is being formed")
            }
            Stage::Joining | Stage::Waiting => Answer::Done,
        }
    }

    /// A founder asks this node to be a member of the cluster that it plans.
    pub fn asked_to_promise(&mut self, founder: &NodeId, plan: Foundation) -> Answer {
        match &self.stage {
            Stage::Waiting => {}
            // Of two that form at the same time the lower goes on.
            Stage::Asking(_) if *founder.0 < *self.me.id => self.stage = Stage::Waiting,
            Stage::Asking(_) | Stage::Starting => return not_ready("forming a cluster itself"),
            Stage::Joining | Stage::Decided | Stage::Told(_) => {
                return refused("belongs to a cluster, or is joining one");
            }
        }
        if !self.is_voter_of(&plan.membership) || self.refused.contains(&plan.cluster) {
            return refused("not a member of that cluster in this life");
        }
        let (founder, mut plans) = match &self.promise {
            // A promise to the founder of an attempt is one to its next attempt as well: it makes one at a time.
            Some(promise) if promise.founder.id == *founder => (promise.founder.clone(), promise.plans.clone()),
            Some(promise) => return not_ready(&format!("promised to node {}", promise.founder.id)),
            // Without its address the founder could not be asked what came of it.
            None => match self.heard.get(&*founder.0) {
                Some((known, _)) => (Founder { id: founder.clone(), address: known.address.clone() }, Vec::new()),
                None => return not_ready("has not heard of the founder yet"),
            },
        };
        let is_new = !plans.contains(&plan);
        if is_new && plans.len() >= PLANS_MAX {
            return not_ready("waits to hear what came of earlier promises");
        }
        if is_new {
            plans.push(plan);
        }
        self.serial += 1;
        let promise = Promise { founder, plans, serial: self.serial };
        if is_new && let Err(why) = self.keep(Some(&promise), None) {
            return not_ready(&why);
        }
        self.promise = Some(promise);
        Answer::Done
    }

    fn is_voter_of(&self, membership: &Membership) -> bool {
        let me = membership.get(&NodeId(self.me.id.as_str().into()));
        me.is_some_and(|me| me.incarnation == self.me.incarnation)
    }

    /// The founder to whom this node has promised does not answer any more: from here on this node takes no part in what it
    /// planned, whatever came of it. Gives the clusters, if that is new.
    pub fn refuse(&mut self) -> Vec<ClusterId> {
        let plans = self.promise.iter().flat_map(|promise| &promise.plans).map(|plan| plan.cluster);
        let new: Vec<ClusterId> = plans.filter(|cluster| !self.refused.contains(cluster)).collect();
        if self.stage != Stage::Waiting {
            return Vec::new();
        }
        let new = self.write_refusal(new);
        self.drop_void_promise();
        new
    }

    /// Another node refuses these. One that this node has not promised, or not any more, cannot have been decided with it
    /// as a member: refusing it too costs nothing, and releases those who had promised when the founder went.
    fn refuse_along(&mut self, clusters: &[ClusterId]) {
        if self.stage != Stage::Waiting {
            return;
        }
        let promised = |cluster: &ClusterId| {
            let mut plans = self.promise.iter().flat_map(|promise| &promise.plans);
            plans.any(|plan| plan.cluster == *cluster)
        };
        // What an earlier version has promised is not known.
        let knows_all = self.promise.as_ref().is_none_or(|promise| !promise.plans.is_empty());
        let is_new = |cluster: &&ClusterId| knows_all && !self.refused.contains(cluster) && !promised(cluster);
        let new: Vec<ClusterId> = clusters.iter().filter(is_new).copied().collect();
        self.write_refusal(new);
    }

    /// Gives what is refused from now on: all of it, or nothing.
    fn write_refusal(&mut self, new: Vec<ClusterId>) -> Vec<ClusterId> {
        if new.is_empty() || self.refused.len() + new.len() > REFUSED_MAX {
            return Vec::new();
        }
        let before = self.refused.len();
        self.refused.extend(&new);
        let promise = self.promise.clone();
        if self.keep(promise.as_ref(), None).is_err() {
            self.refused.truncate(before);
            return Vec::new();
        }
        // Said only now that it is on disk.
        self.me.refused.clone_from(&self.refused);
        new
    }

    /// Whether this node refuses that cluster.
    pub fn refuses(&self, cluster: ClusterId) -> bool {
        self.refused.contains(&cluster)
    }

    /// Whether so many members of `plan` refuse it for ever that the others make no majority.
    fn is_void(&self, plan: &Foundation) -> bool {
        let refuses = |member: &&Member| {
            let who = if *member.id.0 == *self.me.id {
                Some(&self.me)
            } else {
                self.heard.get(&*member.id.0).map(|(c, _)| c)
            };
            who.is_some_and(|who| who.incarnation == member.incarnation && who.refused.contains(&plan.cluster))
        };
        let refusing = plan.membership.voters().filter(refuses).count();
        plan.membership.voters().count() - refusing < plan.membership.quorum()
    }

    fn drop_void_promise(&mut self) {
        let plans = self.promise.as_ref().map_or(&[][..], |promise| &promise.plans);
        let is_void = !plans.is_empty() && plans.iter().all(|plan| self.is_void(plan));
        if is_void && self.stage == Stage::Waiting && self.keep(None, None).is_ok() {
            self.promise = None;
        }
    }

    /// What the node at `address` answered to the news.
    pub fn answered(&mut self, news: &News, address: &str, answer: &Answer) {
        match answer {
            Answer::Joined { cluster } if self.refuses(*cluster) => self.founder_decided(news, address, *cluster),
            Answer::Joined { cluster } => {
                self.belongs_to(*cluster);
            }
            // The founder is neither forming a cluster nor has formed one with this node. If it has asked for another
            // promise since the news were sent, then this says nothing about that one.
            Answer::Done => {
                let asked = news.promise.as_ref().filter(|promise| promise.founder.address == address);
                let over = asked.is_some() && asked == self.promise.as_ref();
                if self.stage == Stage::Waiting && over && self.keep(None, None).is_ok() {
                    self.promise = None;
                }
            }
            _ => {}
        }
    }

    /// The founder has a log of a cluster that this node refuses. It makes one log in its life, so nothing came of its other
    /// attempts; that one still binds this node until it is void.
    fn founder_decided(&mut self, news: &News, address: &str, cluster: ClusterId) {
        let asked = news.promise.as_ref().filter(|promise| promise.founder.address == address);
        let Some(promise) = self.promise.clone().filter(|promise| asked == Some(promise)) else { return };
        let plans = promise.plans.iter().filter(|plan| plan.cluster == cluster).cloned().collect();
        let left = Some(Promise { plans, ..promise }).filter(|promise| !promise.plans.is_empty());
        if self.stage == Stage::Waiting && self.keep(left.as_ref(), None).is_ok() {
            self.promise = left;
            self.drop_void_promise();
        }
    }

    /// A cluster is formed; is this node in it?
    pub fn hear_formed(&mut self, cluster: ClusterId, membership: &Membership) -> Answer {
        if !self.is_voter_of(membership) {
            return refused("not a member of that cluster in this life");
        }
        self.belongs_to(cluster)
    }

    /// A member says that this node, in this life, belongs to a cluster.
    pub fn belongs_to(&mut self, cluster: ClusterId) -> Answer {
        if self.refuses(cluster) {
            return refused(
                "it has waited for its founder in vain and takes no part in that cluster any more. If no majority of its voters does, \
                 it cannot come about: stop the founder, empty its directory, and start it again",
            );
        }
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
        let refuses_all = |plans: &[Foundation]| !plans.is_empty() && plans.iter().all(|p| self.refuses(p.cluster));
        let is_bound = self.promise.as_ref().is_some_and(|promise| !refuses_all(&promise.plans));
        let free = self.stage == Stage::Waiting && !is_bound;
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

    /// All others have promised. `true`: the cluster is formed, and this node must make its log, now or after a crash.
    pub fn decide(&mut self, attempt: &Attempt) -> bool {
        let asking = self.stage == Stage::Asking(attempt.cluster);
        let plan = attempt.plan().ok().filter(|_| asking);
        let decided = plan.is_some_and(|plan| self.keep(None, Some(plan)).is_ok());
        if decided {
            self.stage = Stage::Decided;
        }
        decided
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
    /// What the others are asked to promise.
    ///
    /// # Errors
    /// As `membership`.
    pub fn plan(&self) -> Result<Foundation, raft::MembershipError> {
        Ok(Foundation { cluster: self.cluster, membership: self.membership()? })
    }

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
