//! Questions to the other nodes: who answers, and how far the leader is.
//!
//! Asks all nodes at once and waits for nobody: continuations collect what comes, on the network's threads.

use super::status::Member;
use super::{Coordinator, Error};
use crate::net::CallError;
use crate::net::call::{Answer, Call, Meta};
use crate::vars;
use parking_lot::Mutex;
use raft::Index;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A member and whether it answers, as `/nodes` and `/leader` show it. Empty texts and zero times stand for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeReport {
    pub id: String,
    /// URL of its API.
    pub api_addr: String,
    /// Raft address.
    pub addr: String,
    /// Empty when it did not answer.
    pub version: String,
    pub voter: bool,
    pub reachable: bool,
    pub leader: bool,
    /// How long it took to answer.
    pub time: Duration,
    pub error: String,
}

/// Called exactly once, on any thread; reports are sorted by id.
pub type NodesDone = Box<dyn FnOnce(Result<Vec<NodeReport>, Error>) + Send>;
pub type NodeDone = Box<dyn FnOnce(Result<NodeReport, Error>) + Send>;
/// Called with the leader's commit index.
pub type LeaderDone = Box<dyn FnOnce(Result<Index, Error>) + Send>;

/// Collects the answers of all nodes.
struct Gathering {
    reports: Vec<Option<NodeReport>>,
    done: Option<NodesDone>,
}

impl Coordinator {
    /// Asks every member, all at once. Read replicas only with `nonvoters`; a node that is about to become a voter is none.
    pub fn nodes(&self, nonvoters: bool, timeout: Duration, done: NodesDone) {
        let node = match self.node() {
            Ok(node) => node,
            Err(error) => return done(Err(error)),
        };
        let mut members = node.shared().members.lock().clone();
        members.retain(|member| member.voter || member.learner || nonvoters);
        members.sort_by(|a, b| a.id.as_bytes().cmp(b.id.as_bytes()));
        if members.is_empty() {
            return done(Ok(Vec::new()));
        }
        let gathering = Arc::new(Mutex::new(Gathering { reports: vec![None; members.len()], done: Some(done) }));
        for (place, member) in members.into_iter().enumerate() {
            let gathering = Arc::clone(&gathering);
            self.report(member, timeout, Box::new(move |report| Gathering::take(&gathering, place, report)));
        }
    }

    /// Asks the leader who it is.
    pub fn leader_report(&self, timeout: Duration, done: NodeDone) {
        let (Some((id, addr)), Ok(node)) = (self.leader(), self.node()) else {
            return done(Err(Error::LeaderNotFound));
        };
        let known = node.shared().members.lock().iter().find(|member| member.id == id).cloned();
        let member = known.unwrap_or_else(|| Member { id, addr, voter: true, ..Member::default() });
        self.report(member, timeout, Box::new(move |report| done(Ok(report))));
    }

    /// The leader's commit index, asked of the leader itself.
    ///
    /// `Error::LeaderNotFound`, or the text of what keeps the network from reaching it.
    pub fn leader_commit(&self, timeout: Duration, done: LeaderDone) {
        let (Some((_, address)), Ok(node)) = (self.leader(), self.node()) else {
            return done(Err(Error::LeaderNotFound));
        };
        if node.is_leader() {
            let commit = node.shared().raft.lock().commit_index;
            return done(Ok(Index(commit)));
        }
        let Some(net) = self.net() else { return done(Err(Error::LeaderNotFound)) };
        let told = Box::new(move |answer| {
            done(match answer {
                Ok(Answer::Meta(meta)) => Ok(meta.commit_index),
                Ok(_) => Err(Error::Request("unexpected answer".into())),
                Err(error) => Err(Error::Request(CallError::into_text(error))),
            });
        });
        net.call(&address, Call::Meta, timeout, told);
    }

    /// Runs `done` when this node has applied `index`, or too late: `Error::FsmTimeout`.
    pub fn wait_synced(&self, index: Index, timeout: Duration, done: Box<dyn FnOnce(Result<(), Error>) + Send>) {
        self.when_applied(index.max(Index(1)), timeout, done);
    }

    fn report(&self, member: Member, timeout: Duration, done: Box<dyn FnOnce(NodeReport) + Send>) {
        let leads = self.leader().is_some_and(|(id, _)| id == member.id);
        let started = Instant::now();
        if member.id == self.settings.node_id {
            vars::cluster::NUM_GET_NODE_API_REQ_LOCAL.add(1);
            return done(answered(&member, leads, self.meta(), started.elapsed()));
        }
        let Some(net) = self.net() else {
            return done(unanswered(&member, "the network is not open yet".to_owned()));
        };
        let address = member.addr.clone();
        let told = Box::new(move |answer| {
            done(match answer {
                Ok(Answer::Meta(meta)) if meta.id == member.id => answered(&member, leads, meta, started.elapsed()),
                Ok(Answer::Meta(meta)) => {
                    unanswered(&member, format!("another node answers at this address: {}", meta.id))
                }
                Ok(_) => unanswered(&member, "unexpected answer".to_owned()),
                Err(error) => unanswered(&member, CallError::into_text(error)),
            });
        });
        net.call(&address, Call::Meta, timeout, told);
    }
}

impl Gathering {
    /// Takes one report; the last one sends all of them.
    fn take(gathering: &Mutex<Gathering>, place: usize, report: NodeReport) {
        let mut state = gathering.lock();
        state.reports[place] = Some(report);
        if state.reports.iter().any(Option::is_none) {
            return;
        }
        let reports = std::mem::take(&mut state.reports).into_iter().flatten().collect();
        let done = state.done.take().expect("every node reports once");
        drop(state);
        done(Ok(reports));
    }
}

fn answered(member: &Member, leader: bool, meta: Meta, time: Duration) -> NodeReport {
    NodeReport {
        api_addr: meta.api_url,
        version: if meta.version.is_empty() { "unknown".to_owned() } else { meta.version },
        reachable: true,
        leader,
        // A time of zero would be left out.
        time: time.max(Duration::from_nanos(1)),
        ..unanswered(member, String::new())
    }
}

fn unanswered(member: &Member, error: String) -> NodeReport {
    NodeReport { id: member.id.clone(), addr: member.addr.clone(), voter: member.voter, error, ..NodeReport::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reports_are_told_once_and_in_order() {
        let (tx, rx) = crossbeam_channel::bounded(2);
        let done: NodesDone = Box::new(move |reports| tx.send(reports.expect("no error")).expect("the test listens"));
        let gathering = Mutex::new(Gathering { reports: vec![None; 3], done: Some(done) });
        let member = |id: &str| Member { id: id.to_owned(), ..Member::default() };
        for (place, id) in [(2, "c"), (0, "a"), (1, "b")] {
            assert!(rx.is_empty());
            Gathering::take(&gathering, place, unanswered(&member(id), "x".to_owned()));
        }
        let ids: Vec<_> = rx.recv().expect("sent").into_iter().map(|report| report.id).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        let report = answered(&member("a"), true, Meta::default(), Duration::ZERO);
        assert_eq!((report.version.as_str(), report.time), ("unknown", Duration::from_nanos(1)));
        assert!(report.reachable && report.error.is_empty());
    }
}
