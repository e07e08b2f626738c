//! What a graceful stop does about the cluster: leaves it for good, or hands leadership over. On the main thread, before
//! the network and the node are stopped; blocks for a bounded time.

use super::Cluster;
use super::ask::complaint;
use crate::net::call::{Answer, Call, LeaderHint};
use std::time::{Duration, Instant};

/// Tries to leave, the pause between two, and how long all of them may take.
const LEAVE_TRIES: u32 = 5;
const LEAVE_PAUSE: Duration = Duration::from_millis(250);
const LEAVE_TIME_MAX: Duration = Duration::from_secs(10);
/// Bound of each step of a try, so that a failed step leaves time for another: to see a leader, to ask it, to see that it is done.
const STEP_TIME_MAX: Duration = Duration::from_secs(3);
/// How long handing leadership over may take: a target that has not taken it by then will not.
const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(3);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

const REMOVE: &str = "cluster-remove";

impl Cluster {
    /// `-raft-cluster-remove-shutdown`: takes this node out of its cluster.
    ///
    /// # Errors
    /// It is still a member, for the reason given. The process says
    /// `failed to remove this node from cluster before shutdown: <reason>` and exits with status 1.
    pub fn leave(&self) -> Result<(), String> {
        log::info!(target: "rqlited", "initiating removal of this node from cluster before shutdown");
        let until = Instant::now() + LEAVE_TIME_MAX;
        let mut why = "timed out".to_owned();
        for round in 0..LEAVE_TRIES {
            if round > 0 {
                std::thread::sleep(LEAVE_PAUSE);
            }
            if Instant::now() >= until {
                break;
            }
            match self.try_to_leave(until) {
                Ok(()) => {
                    log::info!(target: "rqlited", "removed this node successfully from cluster before shutdown");
                    return Ok(());
                }
                Err(reason) => {
                    log::warn!(target: REMOVE, "failed to remove this node: {reason}");
                    why = reason;
                }
            }
        }
        Err(why)
    }

    fn try_to_leave(&self, until: Instant) -> Result<(), String> {
        let step = |now: Instant| until.min(now + STEP_TIME_MAX);
        match self.wait_for_leader(step(Instant::now())) {
            Some(leader) if leader.id == *self.settings.node.0 => {
                let answer = self.remove(&self.settings.node, step(Instant::now()));
                if answer != Answer::Done {
                    return Err(complaint(&answer));
                }
            }
            Some(leader) => self.ask_to_remove(&leader.address)?,
            // A node that is out already may not be told by whom: the others know.
            None => self.ask_anybody_to_remove().ok_or("leader not found")?,
        }
        // The leader says that it is committed. That this node sees it too is good for its log, but not needed: a node that
        // is out is no longer told everything.
        let seen_by = step(Instant::now()).min(Instant::now() + Duration::from_secs(1));
        self.wait_until(seen_by, |me| {
            let control = me.control()?;
            let gone = !control.configuration().members.iter().any(|member| member.id == me.settings.node);
            gone.then_some(())
        });
        Ok(())
    }

    /// Asks a node, and then whomever it names as the leader.
    fn ask_to_remove(&self, address: &str) -> Result<(), String> {
        let call = || Call::Remove { id: self.settings.node.to_string() };
        let answer = match self.ask.ask(address, call(), STEP_TIME_MAX) {
            Ok(Answer::NotLeader { leader: Some(leader) }) if leader.address != address => {
                self.ask.ask(&leader.address, call(), STEP_TIME_MAX)
            }
            answer => answer,
        };
        match answer {
            Ok(Answer::Done) => Ok(()),
            Ok(other) => Err(complaint(&other)),
            Err(error) => Err(error.into_text()),
        }
    }

    fn ask_anybody_to_remove(&self) -> Option<()> {
        let members = self.control()?.configuration().members;
        let others = members.iter().filter(|member| member.id != self.settings.node);
        others.map(|member| self.ask_to_remove(&member.address)).find_map(Result::ok)
    }

    /// `-raft-shutdown-stepdown`: a leader hands leadership over, so that the others need not wait for an election. That
    /// nobody takes it is no reason not to stop.
    pub fn hand_over(&self) {
        let Some(control) = self.control() else { return };
        if !control.is_leader() || control.configuration().members.len() < 2 {
            return;
        }
        log::info!(target: "rqlited", "stepping down as Leader before shutdown");
        let (done_tx, done_rx) = crossbeam_channel::bounded(1);
        let done = Box::new(move |outcome| {
            let _ = done_tx.send(outcome);
        });
        control.transfer(None, done);
        match done_rx.recv_timeout(HAND_OVER_TIME_MAX) {
            Ok(Ok(leader)) => log::info!(target: "store", "node {leader} leads now"),
            Ok(Err(error)) => log::warn!(target: "store", "leadership was not handed over: {error}"),
            Err(_) => log::warn!(target: "store", "leadership was not handed over in time"),
        }
    }

    fn wait_for_leader(&self, until: Instant) -> Option<LeaderHint> {
        self.wait_until(until, |me| me.control()?.leader())
    }

    fn wait_until<T>(&self, until: Instant, look: impl Fn(&Cluster) -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = look(self) {
                return Some(found);
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}
