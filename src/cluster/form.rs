//! Where a node belongs: found out before its log is made, since a log belongs to one cluster for ever.
//!
//! Runs on the main thread between the start of the listeners and the opening of the store, for as long as it takes; HTTP
//! and other nodes are answered meanwhile. Never touches the log or the database.

use super::ask::{ask_all, complaint};
use super::cancel::Cancel;
use super::identity::{self, Foundation, Identity, IdentityError, Kept};
use super::join::{JOIN_TIMEOUT, JoinError, Joiner, list, not_through, through};
use super::lobby::{Attempt, Lobby, Promise};
use super::probe::first_that_serves_http;
use super::{Cluster, Settings};
use crate::net::call::{Answer, Call, Candidate, FailureKind, JoinRequest};
use crate::node::Origin;
use crate::random;
use raft::{ClusterId, Incarnation, NodeId};
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// Bound of a question of one pass. Passes are short, so that a dead target does not delay them all.
const ASK_TIMEOUT: Duration = JOIN_TIMEOUT;
/// Time between two passes: at least so much, and up to as much again by chance, or sooner when something changes.
const PASS_INTERVAL_MS: u64 = if cfg!(test) { 20 } else { 1000 };
/// A founder that does not answer for so long is given up (`Lobby::refuse`): longer than a machine takes to come back.
const FOUNDER_PATIENCE: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(45) };
/// After a failed attempt to form a cluster, so that others have their turn: at least so much, and up to as much again.
const RETREAT_MS: u64 = if cfg!(test) { 10 } else { 100 };

const BOOTSTRAP: &str = "cluster-bootstrap";
const PROCESS: &str = "rqlited";

/// Where a node belongs.
#[derive(Clone, Debug)]
pub struct Formation {
    pub origin: Origin,
    /// The life in which the node takes part; `None`: it has a log, and [`identity::settle`] says so once that is open.
    pub incarnation: Option<Incarnation>,
}

/// Why a node finds no cluster. The process ends with the line `clustering failure: <this>`.
#[derive(Debug)]
pub enum FormError {
    NonVoterAlone,
    ServesHttp(String),
    OnlyNode,
    Join(JoinError),
    BootTimeout,
    BootCancelled,
    Identity(IdentityError),
    /// The system gives no random numbers.
    Random(io::Error),
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormError::NonVoterAlone => {
                f.write_str("cannot create a new non-voting node without joining it to an existing cluster")
            }
            FormError::ServesHttp(address) => {
                write!(f, "join address {address} appears to be serving HTTP when it should be Raft")
            }
            FormError::OnlyNode => {
                f.write_str("node is the only node in a single-node cluster, joining other clusters not supported")
            }
            FormError::Join(error) => write!(f, "failed to join cluster: {error}"),
            FormError::BootTimeout => f.write_str("boot timeout"),
            FormError::BootCancelled => f.write_str("boot canceled"),
            FormError::Identity(error) => error.fmt(f),
            FormError::Random(error) => write!(f, "no random numbers: {error}"),
        }
    }
}

impl std::error::Error for FormError {}

impl From<IdentityError> for FormError {
    fn from(error: IdentityError) -> Self {
        FormError::Identity(error)
    }
}

impl Cluster {
    /// Finds the cluster of a node that has no log yet, or forms it together with others. One that has lived before needs
    /// none of this: `exists`.
    ///
    /// # Errors
    /// See [`FormError`]; nothing was made but the node's identity.
    pub fn form(&self, exists: bool) -> Result<Formation, FormError> {
        let settings = &self.settings;
        if exists {
            // Only the name is looked at: a directory of another node must not be opened.
            let known = identity::read(&settings.data_dir, &settings.node)?;
            let incarnation = known.as_ref().map(|known| known.incarnation);
            // The process ended when all had promised, and perhaps before that was in its log.
            let founding = known.and_then(|known| known.kept.founding);
            return Ok(Formation { origin: founding.map_or(Origin::Existing, formed), incarnation });
        }
        if settings.flags.join.is_empty() && settings.flags.non_voter {
            return Err(FormError::NonVoterAlone);
        }
        let identity = identity::prepare(&settings.data_dir, &settings.node)?;
        let incarnation = Some(identity.incarnation);
        if let Some(plan) = identity.kept.founding {
            return Ok(Formation { origin: formed(plan), incarnation });
        }
        if settings.flags.join.is_empty() {
            return Ok(Formation { origin: Origin::Single, incarnation });
        }
        log::info!(target: PROCESS, "checking that supplied join addresses don't serve HTTP(S)");
        if let Some(address) = first_that_serves_http(&settings.flags.join) {
            return Err(FormError::ServesHttp(address));
        }
        self.open_lobby(&identity);
        let origin = match settings.flags.bootstrap_expect {
            0 => {
                let cluster =
                    self.joiner(identity.incarnation).run(&*self.ask, &self.cancel).map_err(FormError::Join)?;
                Origin::Joined { cluster }
            }
            _ => Boot {
                cluster: self,
                incarnation: identity.incarnation,
                told: String::new(),
                founder_silent_since: None,
            }
            .run()?,
        };
        Ok(Formation { origin, incarnation })
    }

    /// From here on other nodes get answers.
    fn open_lobby(&self, identity: &Identity) {
        let settings = &self.settings;
        let me = Candidate {
            id: settings.node.to_string(),
            address: settings.address.clone(),
            incarnation: identity.incarnation,
            refused: Vec::new(),
        };
        let (dir, base) = (settings.data_dir.clone(), identity.clone());
        let keep = Box::new(move |kept: &Kept| {
            let next = Identity { kept: kept.clone(), ..base.clone() };
            identity::write(&dir, &next).map_err(|error| error.to_string())
        });
        let mut lobby = Lobby::new(me, settings.flags.bootstrap_expect, identity.kept.clone(), keep);
        lobby.open();
        *self.lobby.lock() = Some(lobby);
    }

    pub(super) fn joiner(&self, incarnation: Incarnation) -> Joiner {
        let flags = &self.settings.flags;
        Joiner {
            targets: flags.join.clone(),
            request: self.settings.join_request(incarnation),
            attempts: flags.join_attempts,
            interval: flags.join_interval,
        }
    }
}

impl Settings {
    /// For a node without a log; one that has one says where it ends.
    pub(super) fn join_request(&self, incarnation: Incarnation) -> JoinRequest {
        JoinRequest {
            log: None,
            id: self.node.to_string(),
            address: self.address.clone(),
            voter: !self.flags.non_voter,
            incarnation,
        }
    }
}

/// The waiting for a cluster to be formed. See `lobby` for the rules.
struct Boot<'a> {
    cluster: &'a Cluster,
    incarnation: Incarnation,
    /// The last line about notifications, so that it is not repeated with every pass.
    told: String,
    /// Since when the founder to whom this node has promised does not answer.
    founder_silent_since: Option<Instant>,
}

fn formed(plan: Foundation) -> Origin {
    Origin::Formed { cluster: plan.cluster, membership: plan.membership }
}

/// What a pass came to.
enum Pass {
    Found(Origin),
    /// Nothing yet.
    Again,
    /// An attempt has failed: others have their turn.
    Retreat,
}

impl Boot<'_> {
    fn run(mut self) -> Result<Origin, FormError> {
        let until = Instant::now() + self.cluster.settings.flags.bootstrap_timeout;
        loop {
            if self.cancel().is_cancelled() {
                return Err(FormError::BootCancelled);
            }
            if Instant::now() >= until {
                return Err(FormError::BootTimeout);
            }
            let chance = random::u64().map_err(FormError::Random)?;
            match self.pass()? {
                Pass::Found(origin) => return Ok(origin),
                Pass::Again => {
                    let wait = Duration::from_millis(PASS_INTERVAL_MS + chance % PASS_INTERVAL_MS);
                    self.wait(until.min(Instant::now() + wait));
                }
                Pass::Retreat => {
                    let _ = self.cancel().sleep(Duration::from_millis(RETREAT_MS + chance % RETREAT_MS));
                }
            }
        }
    }

    fn cancel(&self) -> &Cancel {
        &self.cluster.cancel
    }

    /// Waits until the time has come, a cluster is formed with this node, or enough nodes have been heard of.
    fn wait(&self, until: Instant) {
        let mut lobby = self.cluster.lobby.lock();
        loop {
            let now_ms = self.cluster.now_ms();
            let lobby_ref = lobby.as_ref().expect("the lobby is open while the node waits");
            if lobby_ref.told().is_some() || lobby_ref.may_begin(now_ms) || self.cancel().is_cancelled() {
                return;
            }
            if self.cluster.lobby_changed.wait_until(&mut lobby, until).timed_out() {
                return;
            }
        }
    }

    fn with_lobby<T>(&self, act: impl FnOnce(&mut Lobby) -> T) -> T {
        act(self.cluster.lobby.lock().as_mut().expect("the lobby is open while the node waits"))
    }

    /// Asks and tells all targets at once; joins what exists, or forms what does not.
    fn pass(&mut self) -> Result<Pass, FormError> {
        if let Some(cluster) = self.with_lobby(|lobby| lobby.told()) {
            return Ok(Pass::Found(Origin::Joined { cluster }));
        }
        let existing = self.tell_and_ask();
        if let Some(cluster) = self.with_lobby(|lobby| lobby.told()) {
            return Ok(Pass::Found(Origin::Joined { cluster }));
        }
        if !existing.is_empty() {
            let targets: Vec<String> = existing.iter().map(|(target, _)| target.clone()).collect();
            if let Some(cluster) = self.join_existing(&targets) {
                return Ok(Pass::Found(Origin::Joined { cluster }));
            }
            // One that this node refuses, and that lets nobody in, may never live: it must not keep others from forming.
            if !existing.iter().all(|(_, cluster)| self.with_lobby(|lobby| lobby.refuses(*cluster))) {
                return Ok(Pass::Again);
            }
        }
        let drawn = ClusterId(random::u128().map_err(FormError::Random)?);
        let now_ms = self.cluster.now_ms();
        match self.with_lobby(|lobby| lobby.begin(drawn, now_ms)) {
            Some(attempt) => Ok(self.attempt(&attempt)),
            None => Ok(Pass::Again),
        }
    }

    /// Tells everybody that this node waits, and asks who belongs to a cluster already: gives their addresses, and which.
    fn tell_and_ask(&mut self) -> Vec<(String, ClusterId)> {
        let targets = &self.cluster.settings.flags.join;
        let news = self.with_lobby(|lobby| lobby.news());
        let told = news.addresses(targets);
        let mut questions: Vec<(String, Call)> =
            told.iter().map(|address| (address.clone(), Call::Notify(news.me.clone()))).collect();
        questions.extend(targets.iter().map(|address| (address.clone(), Call::Meta)));
        let mut answers = ask_all(&*self.cluster.ask, questions, ASK_TIMEOUT).into_iter();

        let mut failures = Vec::new();
        for address in &told {
            let answer = match answers.next().expect("every question has its answer") {
                Ok(answer) => answer,
                Err(error) => {
                    failures.push((address, error.into_text()));
                    continue;
                }
            };
            self.with_lobby(|lobby| lobby.answered(&news, address, &answer));
            match answer {
                Answer::Done | Answer::Joined { .. } => {}
                // It has heard, and is busy forming.
                Answer::Failed(failure) if failure.kind == FailureKind::NotReady => {}
                other => failures.push((address, complaint(&other))),
            }
        }
        let unheard = |promise: &&Promise| failures.iter().any(|(told, _)| **told == promise.founder.address);
        let waited_for = news.promise.as_ref().filter(unheard);
        self.watch_founder(waited_for);
        if let Some(promise) = waited_for {
            let file = self.cluster.settings.data_dir.join(identity::IDENTITY_FILE);
            let (id, address) = (&promise.founder.id, &promise.founder.address);
            failures.push((
                address_of(&told, address),
                format!(
                    "this node has promised node {id} to be a member of its cluster and waits to hear what came of it. If node {id} \
                     is gone for good, this node goes on when so many of that cluster's nodes wait in vain that it can never come about; \
                     where they do not, stop them all and delete {} on each",
                    file.display()
                ),
            ));
        }
        self.log_told(&told, &failures);
        let belongs = |answer: Result<Answer, _>| match answer {
            Ok(Answer::Meta(meta)) => meta.cluster,
            _ => None,
        };
        let others = targets.iter().zip(answers).filter(|(target, _)| **target != news.me.address);
        others.filter_map(|(target, answer)| Some((target.clone(), belongs(answer)?))).collect()
    }

    /// `silent`: the promise whose founder did not answer in this pass.
    fn watch_founder(&mut self, silent: Option<&Promise>) {
        let Some(promise) = silent else {
            self.founder_silent_since = None;
            return;
        };
        let since = *self.founder_silent_since.get_or_insert_with(Instant::now);
        let patience = FOUNDER_PATIENCE.min(self.cluster.settings.flags.bootstrap_timeout / 2);
        if since.elapsed() < patience {
            return;
        }
        for cluster in self.with_lobby(Lobby::refuse) {
            log::warn!(
                target: BOOTSTRAP,
                "node {} does not answer since {}: this node takes no part in the cluster {cluster} any more that it was to form",
                promise.founder.id, crate::text::duration::format(since.elapsed())
            );
        }
    }

    fn log_told(&mut self, told: &[String], failures: &[(&String, String)]) {
        let line = match failures {
            [] => format!("succeeded notifying all targets: {}", list(told)),
            failures => {
                let each = |(address, why): &(&String, String)| {
                    format!("failed to notify node at {address}: {why}, will retry")
                };
                let each: Vec<String> = failures.iter().map(each).collect();
                format!("failed to notify all targets: {} ({})", list(told), each.join("; "))
            }
        };
        if line != self.told {
            log::info!(target: BOOTSTRAP, "{line}");
            self.told = line;
        }
    }

    fn join_existing(&self, targets: &[String]) -> Option<ClusterId> {
        if !self.with_lobby(Lobby::begin_joining) {
            return None;
        }
        let request = self.cluster.settings.join_request(self.incarnation);
        for target in targets {
            match through(&*self.cluster.ask, target, &request) {
                Ok((cluster, _)) => {
                    log::info!(target: BOOTSTRAP, "succeeded directly joining cluster via node at {target} as VOTER");
                    return Some(cluster);
                }
                Err(why) => log::warn!(target: BOOTSTRAP, "{}", not_through(&*self.cluster.ask, target, &why)),
            }
        }
        self.with_lobby(Lobby::end_joining);
        None
    }

    /// Asks the others for their promises.
    fn attempt(&self, attempt: &Attempt) -> Pass {
        let me = &self.cluster.settings.node;
        log::info!(
            target: BOOTSTRAP,
            "reached expected bootstrap count of {}, starting cluster bootstrap",
            attempt.members.len()
        );
        let give_up = |why: String| {
            self.with_lobby(|lobby| lobby.abandon(attempt));
            log::warn!(target: BOOTSTRAP, "cluster bootstrap failed: {why}");
            Pass::Retreat
        };
        let membership = match attempt.membership() {
            Ok(membership) => membership,
            Err(error) => return give_up(error.to_string()),
        };
        let others: Vec<&Candidate> = attempt.members.iter().filter(|member| *member.id != *me.0).collect();
        let call = Call::Promise { founder: me.clone(), cluster: attempt.cluster, membership: membership.clone() };
        let questions = others.iter().map(|other| (other.address.clone(), call.clone())).collect();
        for (other, answer) in others.iter().zip(ask_all(&*self.cluster.ask, questions, ASK_TIMEOUT)) {
            match answer {
                Ok(Answer::Done) => {}
                Ok(refusal) => return give_up(format!("node {}: {}", other.id, complaint(&refusal))),
                Err(error) => return give_up(format!("node {}: {}", other.id, error.into_text())),
            }
        }
        if !self.with_lobby(|lobby| lobby.decide(attempt)) {
            return give_up("another node forms a cluster".to_owned());
        }
        let servers: Vec<String> = attempt.members.iter().map(|m| format!("{} at {}", m.id, m.address)).collect();
        log::info!(target: BOOTSTRAP, "cluster bootstrap successful, servers: {}", list(&servers));
        Pass::Found(Origin::Formed { cluster: attempt.cluster, membership })
    }
}

/// The text in the list that equals `address`.
fn address_of<'a>(told: &'a [String], address: &str) -> &'a String {
    told.iter().find(|told| *told == address).expect("whoever is asked stands in the list")
}

/// Whether this life of a node belongs to a configuration.
pub(super) fn is_member(members: &[raft::Member], id: &NodeId, incarnation: Incarnation) -> bool {
    members.iter().any(|member| member.id == *id && member.incarnation == incarnation)
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
