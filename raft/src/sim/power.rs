//! Starts and ends of processes, and what a crash does to disks.

use super::check::shadow::Log;
use super::check::{history::Print, violated};
use super::log::LogThread;
use super::node::{Condition, Input, Node, Process};
use super::world::{Event, World};
use crate::disk::Fault;
use crate::wal::{self, Wal, WalError, WalOptions};
use crate::{ClusterId, Incarnation, Index, Member, Membership, Recovered, Replica, Suffrage};
use std::sync::Arc;

pub(super) const CLUSTER: ClusterId = ClusterId(0x5eed);
/// Small, so that segments are rolled, recycled and purged all the time.
const SEGMENT_BYTES: u64 = 16 * 1024;
/// How long a process takes to be started again after it stopped by itself.
const RESTART_US: (u64, u64) = (200_000, 3_000_000);

impl World {
    /// Starts the process of a node, if it has none: recovery as in the server.
    pub(super) fn start(&mut self, at: usize) {
        if self.nodes[at].process.is_some() {
            return;
        }
        self.stats.starts += 1;
        let salt = self.chance.next();
        let node = &mut self.nodes[at];
        if let Some(ops) = node.cut_at_start.take() {
            node.disk.fail_at(node.disk.op_count() + ops, Fault::PowerCut);
        }
        match recover(node, salt) {
            Ok((wal, recovered)) => self.started(at, wal, recovered),
            Err(WalError::Corrupt { .. }) if self.nodes[at].condition == Condition::Rotten => {
                // It does not vote on a shortened log; the operator brings it back as another life, with no data.
                self.trace.note(self.now_us, || format!("n{at} finds its log damaged"));
            }
            Err(error) => self.start_failed(at, &error),
        }
    }

    fn start_failed(&mut self, at: usize, error: &WalError) {
        if !matches!(error, WalError::Io { .. } | WalError::DiskFull { .. }) {
            violated("durability", format!("n{at} does not start: {error}"));
        }
        self.trace.note(self.now_us, || format!("n{at} fails to start: {error}"));
        self.cut_power(at);
        let after_us = self.chance.between(RESTART_US.0, RESTART_US.1);
        self.push(after_us, Event::Start { at });
    }

    fn started(&mut self, at: usize, wal: Wal, recovered: Recovered) {
        let seed = self.chance.next();
        let node = &mut self.nodes[at];
        node.life += 1;
        let config = node.config(seed, &self.plan);
        let mut replica = match Replica::new(config, recovered) {
            Ok(replica) => replica,
            Err(error) => violated("durability", format!("n{at} does not start: {error}")),
        };
        let first_life = node.incarnation == super::node::first_incarnation(at);
        let founder = match self.plan.by_hand {
            0 => at == 0 && first_life && self.checks.history.last() == Index(0),
            // Every member of a cluster that was recovered by hand has the same membership from the start.
            _ => at < usize::from(self.plan.voters) && first_life,
        };
        if founder && replica.last().index == Index(0) {
            let by_hand = self.plan.by_hand;
            let voters = (0..usize::from(self.plan.voters)).map(|at| {
                let member = self.nodes[at].member(Suffrage::Voter);
                let is_known = by_hand == 0 || (by_hand == 1 && at == 0);
                if is_known { member } else { Member { incarnation: Incarnation(0), ..member } }
            });
            let founders = Membership::new(voters.collect()).expect("founders make a membership");
            // A crash may have left the term without the entry; then it is done again.
            let _ = replica.bootstrap(founders);
        }
        let node = &mut self.nodes[at];
        let (term, last, applied) = (replica.term(), replica.last(), node.machine.state.applied);
        node.process = Some(Process::new(replica, LogThread::new(wal)));
        self.trace.note(self.now_us, || format!("n{at} starts: term {term}, log to {last}, applied {applied}"));
        // The first turn starts its timers.
        self.input(at, Input::Applied(applied.index));
    }

    /// The process is gone. What it had only in memory is lost.
    fn end(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.process = None;
        node.life += 1;
        node.paused_until_us = 0;
    }

    /// The process dies; the operating system and its caches live on.
    pub(super) fn kill(&mut self, at: usize) {
        self.flush_some(at);
        let gone = self.nodes[at].process.as_ref().map(|process| process.replica.id().clone());
        self.end(at);
        self.nodes[at].disk.kill_process();
        // Its connections end with it, which the others notice.
        if let Some(gone) = gone {
            for other in (0..self.nodes.len()).filter(|other| *other != at) {
                if self.nodes[other].process.is_some() && self.chance.below(4) > 0 {
                    self.input(other, Input::LostContact(gone.clone()));
                }
            }
        }
    }

    /// The machine loses its power: of what was not synced, anything may be lost.
    pub(super) fn cut_power(&mut self, at: usize) {
        self.flush_some(at);
        self.end(at);
        let style = self.chance.below(4);
        let share = self.chance.between(1, 99);
        let cut = self.chance.below(40) as usize;
        let World { nodes, chance, .. } = self;
        let node = &mut nodes[at];
        let first = node.disk.pending().first().map_or(0, crate::disk::PendingUnit::op);
        node.disk.crash(&mut |unit| match style {
            0 => false,
            1 => true,
            // In order, up to some place.
            2 => unit.op() < first + cut,
            _ => chance.percent(share),
        });
        node.machine.lose_power(chance);
        node.hangs_until_us = 0;
    }

    /// At the moment of a crash the log may have written something and not have synced it.
    fn flush_some(&mut self, at: usize) {
        let ops = self.chance.below(4);
        let node = &mut self.nodes[at];
        if let Some(process) = &mut node.process
            && !node.shadow.unsynced.is_empty()
        {
            node.disk.fail_at(node.disk.op_count() + ops, Fault::PowerCut);
            // It may even succeed: then all is durable and nobody was told.
            let _ = process.log.wal.sync();
        }
    }

    /// The log has failed: the server's process ends, and its supervisor starts it again.
    pub(super) fn log_failed(&mut self, at: usize, error: &WalError) {
        self.trace.note(self.now_us, || format!("n{at} stops: {error}"));
        let power = error.to_string().contains("power cut");
        self.end(at);
        if power {
            self.cut_power(at)
        } else {
            self.nodes[at].disk.kill_process()
        }
        let after_us = self.chance.between(RESTART_US.0, RESTART_US.1);
        self.push(after_us, Event::Start { at });
    }

    /// All data is lost; the node comes back under its old name as somebody else.
    pub(super) fn wipe(&mut self, at: usize) {
        self.end(at);
        let node = &mut self.nodes[at];
        node.graves.push((node.incarnation, std::mem::take(&mut node.shadow).durable));
        node.incarnation = Incarnation(node.incarnation.0 + 1000);
        node.disk = crate::disk::SimDisk::new();
        node.has_log = false;
        node.machine = super::machine::Machine::default();
        node.condition = Condition::Sound;
        node.hangs_until_us = 0;
    }
}

impl Node {
    pub(super) fn member(&self, suffrage: Suffrage) -> Member {
        let address = format!("{}:4002", self.id).into();
        Member { id: self.id.clone(), incarnation: self.incarnation, suffrage, address }
    }
}

/// Opens the log, holds it against what is known to be durable, and collects what the replica must know.
fn recover(node: &mut Node, salt: u64) -> Result<(Wal, Recovered), WalError> {
    let cluster_id = (!node.has_log).then_some(CLUSTER);
    let options = WalOptions { segment_bytes: SEGMENT_BYTES, ..WalOptions::new(cluster_id, salt) };
    let (mut wal, found) = Wal::open(Arc::new(node.disk.clone()), &options)?;
    node.has_log = true;
    // Every byte that matters was checked: what rotted was none of those.
    node.condition = Condition::Sound;
    let entries = wal.read(found.first.index.next()..found.last.index.next(), u64::MAX)?;
    let state = &node.machine.state;
    let mut recovered = Recovered {
        hard_state: found.hard_state.clone(),
        purged_to: found.first,
        last: found.last,
        applied: state.applied,
        applied_is_snapshot: state.is_snapshot,
        memberships: state.membership.iter().cloned().collect(),
        ..Recovered::default()
    };
    for entry in &entries {
        recovered.scan(entry).expect("a membership in the log can be read");
    }
    node.shadow.recovered(&node.id, log_of(&found, &entries));
    if salt.is_multiple_of(2) {
        recovered.entries = entries;
    }
    Ok((wal, recovered))
}

fn log_of(found: &wal::Recovered, entries: &[crate::Entry]) -> Log {
    let entries = entries.iter().map(Print::of).collect();
    Log { hard: found.hard_state.clone(), base: found.first, entries }
}
