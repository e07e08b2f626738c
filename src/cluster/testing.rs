//! Helpers of this module's tests.

use super::{Ask, Asked, Cluster, Control, Formation, InForce, Settings};
use crate::config::Config;
use crate::net::CallError;
use crate::net::call::{Answer, Call, LeaderHint};
use crate::node::Origin;
use crate::node::handle::{AdminError, ChangeDone, PeerContact, TransferDone};
use parking_lot::Mutex;
use raft::{Change, ClusterId, Incarnation, LogId, Member, Membership, NodeId, Suffrage};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A directory that goes when its test ends.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("ferrolite-cluster-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory can be made");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A node that changes its configuration at once, unless a test wants it otherwise.
pub struct FakeNode(Mutex<FakeState>);

struct FakeState {
    me: String,
    cluster: ClusterId,
    members: Vec<Member>,
    committed: bool,
    leader: String,
    changes: Vec<Change>,
    refusals: usize,
    forgets: bool,
    contacts: Vec<PeerContact>,
}

impl FakeNode {
    /// The first member leads, and is the node itself. Each has an id, an address and an incarnation.
    pub fn leading(members: &[(&str, &str, u64)]) -> Arc<FakeNode> {
        let member = |(id, address, incarnation): &(&str, &str, u64)| Member {
            id: NodeId((*id).into()),
            incarnation: Incarnation(*incarnation),
            suffrage: Suffrage::Voter,
            address: (*address).into(),
        };
        Arc::new(FakeNode(Mutex::new(FakeState {
            me: members[0].0.to_owned(),
            cluster: ClusterId(77),
            leader: members[0].0.to_owned(),
            members: members.iter().map(member).collect(),
            committed: true,
            changes: Vec::new(),
            refusals: 0,
            forgets: false,
            contacts: Vec::new(),
        })))
    }

    /// A member of a cluster that was just formed by `leader`.
    pub fn formed(me: &str, cluster: ClusterId, membership: &Membership, leader: &str) -> Arc<FakeNode> {
        Arc::new(FakeNode(Mutex::new(FakeState {
            me: me.to_owned(),
            cluster,
            leader: leader.to_owned(),
            members: membership.members().to_vec(),
            committed: true,
            changes: Vec::new(),
            refusals: 0,
            forgets: false,
            contacts: Vec::new(),
        })))
    }

    pub fn changes(&self) -> Vec<Change> {
        self.0.lock().changes.clone()
    }

    pub fn configuration_of(&self, id: &str) -> Option<Member> {
        self.0.lock().members.iter().find(|member| *member.id.0 == *id).cloned()
    }

    pub fn suffrage(&self, id: &str) -> Option<Suffrage> {
        self.0.lock().members.iter().find(|member| *member.id.0 == *id).map(|member| member.suffrage)
    }

    pub fn set_suffrage(&self, id: &str, suffrage: Suffrage) {
        for member in self.0.lock().members.iter_mut().filter(|member| *member.id.0 == *id) {
            member.suffrage = suffrage;
        }
    }

    pub fn set_committed(&self, committed: bool) {
        self.0.lock().committed = committed;
    }

    pub fn set_leader(&self, id: &str) {
        self.0.lock().leader = id.to_owned();
    }

    /// So many changes are refused as not ready.
    pub fn set_refusals(&self, refusals: usize) {
        self.0.lock().refusals = refusals;
    }

    /// A member has acknowledged the log up to `matched`.
    pub fn set_matched(&self, id: &str, matched: u64) {
        let contact = PeerContact { id: id.to_owned(), voter: true, last_contact_ms: 0, matched: raft::Index(matched) };
        self.0.lock().contacts.push(contact);
    }

    /// Changes are made, but nobody is told.
    pub fn forget_outcomes(&self) {
        self.0.lock().forgets = true;
    }

    fn make(&self, change: Change) -> Result<LogId, AdminError> {
        let mut state = self.0.lock();
        if state.refusals > 0 {
            state.refusals -= 1;
            return Err(AdminError::NotReady);
        }
        let known = |state: &FakeState, id: &NodeId| state.members.iter().any(|member| member.id == *id);
        match change.clone() {
            Change::Add(member) if known(&state, &member.id) => return Err(AdminError::AlreadyMember),
            Change::Add(mut member) => {
                if member.suffrage == Suffrage::Voter {
                    member.suffrage = Suffrage::Learner;
                }
                state.members.push(member);
            }
            Change::Remove(id) if !known(&state, &id) => return Err(AdminError::NotMember),
            Change::Remove(_) if state.members.len() == 1 => return Err(AdminError::LastVoter),
            Change::Remove(id) => state.members.retain(|member| member.id != id),
            Change::SetAddress { id, address } => {
                for member in state.members.iter_mut().filter(|member| member.id == id) {
                    member.address = address.clone();
                }
            }
        }
        state.changes.push(change);
        if state.forgets { Err(AdminError::Unknown) } else { Ok(LogId::default()) }
    }
}

impl Control for FakeNode {
    fn cluster(&self) -> ClusterId {
        self.0.lock().cluster
    }

    fn configuration(&self) -> InForce {
        let state = self.0.lock();
        InForce { members: state.members.clone(), committed: state.committed }
    }

    fn is_leader(&self) -> bool {
        let state = self.0.lock();
        state.leader == state.me
    }

    fn term(&self) -> u64 {
        1
    }

    fn leader(&self) -> Option<LeaderHint> {
        let state = self.0.lock();
        let member = state.members.iter().find(|member| *member.id.0 == *state.leader)?;
        Some(LeaderHint { id: member.id.to_string(), address: member.address.to_string() })
    }

    fn log_end(&self) -> LogId {
        LogId::default()
    }

    fn contacts(&self) -> Vec<PeerContact> {
        self.0.lock().contacts.clone()
    }

    fn change(&self, change: Change, done: ChangeDone) {
        done(self.make(change));
    }

    fn transfer(&self, target: Option<NodeId>, done: TransferDone) {
        let other = {
            let state = self.0.lock();
            state.members.iter().map(|member| member.id.clone()).find(|id| *id.0 != *state.me)
        };
        done(target.or(other).ok_or_else(|| AdminError::Invalid("cannot find peer".to_owned())));
    }
}

/// Carries no call anywhere.
pub struct Nowhere;

impl Ask for Nowhere {
    fn ask(&self, _address: &str, _call: Call, _timeout: Duration) -> Result<Answer, CallError> {
        Err(CallError::NotSent("connection refused".to_owned()))
    }

    fn ask_then(&self, _address: &str, _call: Call, _timeout: Duration, done: Asked) {
        done(Err(CallError::NotSent("connection refused".to_owned())));
    }
}

/// The settings of a node with flags of the command line.
pub fn settings(id: &str, dir: &Path, flags: &[&str]) -> Settings {
    let dir = dir.to_str().expect("the path is text");
    let words: Vec<&str> = ["-node-id", id].iter().chain(flags).copied().chain([dir]).collect();
    Settings::from_config(&Config::from_words(&words).expect("valid flags"))
}

/// A member of a cluster that runs already, or one that is starting.
pub fn cluster_of(id: &str, dir: &Path, node: Option<Arc<FakeNode>>) -> Arc<Cluster> {
    let cluster = Cluster::new(settings(id, dir, &[]), Arc::new(Nowhere));
    if let Some(node) = node {
        let formation = Formation { origin: Origin::Existing, incarnation: None };
        cluster.attach(node, &formation).expect("nothing is asked of it");
    }
    cluster
}
