//! The faults of a plan, as they strike; and healing.

use super::node::{Condition, Input};
use super::plan::{Action, Who};
use super::random::Chance;
use super::world::{Event, World};
use crate::disk::{Disk, Fault};
use crate::{Change, Suffrage};

/// What a full disk still takes: less than a new segment.
const FREE_BYTES: u64 = 9_000;

impl World {
    pub(super) fn fault(&mut self, number: usize) {
        if self.healed {
            return;
        }
        self.stats.faults += 1;
        let action = self.plan.events[number].action;
        if action.who() == Some(Who::Others) {
            let leader = self.leader();
            for at in (0..self.nodes.len()).filter(|at| Some(*at) != leader) {
                self.strike(action.with_who(Who::Node(at as u8)));
            }
            return;
        }
        self.strike(action);
    }

    fn strike(&mut self, action: Action) {
        self.trace.note(self.now_us, || format!("{action:?}"));
        match action {
            Action::Power { .. }
            | Action::PowerAtOp { .. }
            | Action::PowerAtStart { .. }
            | Action::Kill { .. }
            | Action::Rot { .. }
            | Action::Wipe { .. } => self.crash_fault(action),
            Action::DiskError { .. }
            | Action::ShortWrite { .. }
            | Action::DiskFull { .. }
            | Action::DiskHang { .. }
            | Action::DiskSlow { .. } => self.disk_fault(action),
            Action::Partition { .. }
            | Action::CutOut { .. }
            | Action::CutIn { .. }
            | Action::CutLink { .. }
            | Action::Flap { .. }
            | Action::Rough { .. } => self.network_fault(action),
            _ => self.other_fault(action),
        }
    }

    fn find(&self, who: Who) -> Option<usize> {
        match who {
            Who::Node(at) => Some(usize::from(at)).filter(|at| *at < self.nodes.len()),
            Who::Leader => self.leader(),
            Who::Others => None,
        }
    }

    fn crash_fault(&mut self, action: Action) {
        match action {
            Action::Power { who, down_ms } => {
                if let Some(at) = self.find(who) {
                    self.cut_power(at);
                    self.push(down_ms * 1000, Event::Start { at });
                }
            }
            Action::PowerAtOp { who, ops, .. } => self.fail_at(who, ops, Fault::PowerCut),
            Action::PowerAtStart { who, ops, down_ms } => {
                if let Some(at) = self.find(who) {
                    self.cut_power(at);
                    self.nodes[at].cut_at_start = Some(ops);
                    self.push(down_ms * 1000, Event::Start { at });
                }
            }
            Action::Kill { who, down_ms } => {
                if let Some(at) = self.find(who) {
                    self.kill(at);
                    self.push(down_ms * 1000, Event::Start { at });
                }
            }
            Action::Rot { who, place } => {
                if let Some(at) = self.find(who).filter(|at| self.may_lose(*at)) {
                    let synced = self.nodes[at].process.as_ref().map_or((0, 0), |process| process.log.synced);
                    self.cut_power(at);
                    self.rot(at, place, synced);
                    self.push(50_000, Event::Start { at });
                }
            }
            Action::Wipe { who } => {
                if let Some(at) = self.find(who).filter(|at| self.may_lose(*at)) {
                    self.wipe(at);
                    self.push(400_000, Event::Start { at });
                }
            }
            _ => unreachable!("sorted by the caller"),
        }
    }

    fn fail_at(&mut self, who: Who, ops: u64, fault: Fault) {
        if let Some(at) = self.find(who).filter(|at| self.nodes[*at].process.is_some()) {
            let disk = &self.nodes[at].disk;
            disk.fail_at(disk.op_count() + ops, fault);
        }
    }

    /// Damages one byte of what was durable long ago. The last batch is left alone: damage in it cannot be told from a
    /// torn write (the log's contract).
    fn rot(&mut self, at: usize, place: u64, synced: (u64, u32)) {
        let node = &mut self.nodes[at];
        let Ok(names) = node.disk.list() else { return };
        let segments: Vec<&String> = names.iter().filter(|name| name.ends_with(".wal")).collect();
        let Some((newest, sealed)) = segments.split_last() else { return };
        let mut choice = Chance::new(place);
        let early = **newest == format!("{:016x}.wal", synced.0) && synced.1 >= 3;
        let (name, from, to) = match sealed.first() {
            Some(name) if choice.percent(50) => (name.as_str(), 0, 12_000),
            // The first record of the segment: later ones prove that it was durable.
            _ if early && choice.percent(70) => (newest.as_str(), 4096, 4096 + 56),
            _ => (newest.as_str(), 0, 4096),
        };
        node.condition = Condition::Rotten;
        node.disk.rot(name, |contents| {
            let at = (from + choice.below((contents.len() as u64).min(to) - from)) as usize;
            contents[at] ^= 1 << choice.below(8);
        });
    }

    fn disk_fault(&mut self, action: Action) {
        match action {
            Action::DiskError { who, ops } => self.fail_at(who, ops, Fault::Io),
            Action::ShortWrite { who, ops } => self.fail_at(who, ops, Fault::Short),
            Action::DiskFull { who, for_ms } => {
                if let Some(at) = self.find(who) {
                    self.nodes[at].disk.set_free_bytes(Some(FREE_BYTES));
                    self.push(for_ms * 1000, Event::Space { at });
                }
            }
            Action::DiskHang { who, for_ms } => {
                if let Some(at) = self.find(who) {
                    self.nodes[at].hangs_until_us = self.now_us + for_ms * 1000;
                }
            }
            Action::DiskSlow { who, sync_ms, for_ms } => {
                if let Some(at) = self.find(who) {
                    let until_us = self.now_us + for_ms * 1000;
                    self.nodes[at].slow = super::node::Slow { sync_us: sync_ms * 1000, until_us };
                }
            }
            _ => unreachable!("sorted by the caller"),
        }
    }

    fn cut(&mut self, from: usize, to: usize, for_ms: u64) {
        let count = self.nodes.len();
        if from != to && from < count && to < count {
            self.network.cut(from, to);
            self.push(for_ms * 1000, Event::Mend { from, to });
        }
    }

    fn network_fault(&mut self, action: Action) {
        let count = self.nodes.len();
        match action {
            Action::Partition { side, for_ms } => {
                let is_in = |at: usize| side >> at & 1 == 1;
                for from in 0..count {
                    for to in (0..count).filter(|to| is_in(from) != is_in(*to)) {
                        self.cut(from, to, for_ms);
                    }
                }
            }
            Action::CutOut { who, for_ms } => {
                if let Some(from) = self.find(who) {
                    (0..count).for_each(|to| self.cut(from, to, for_ms));
                }
            }
            Action::CutIn { who, for_ms } => {
                if let Some(to) = self.find(who) {
                    (0..count).for_each(|from| self.cut(from, to, for_ms));
                }
            }
            Action::CutLink { from, to, for_ms } => self.cut(usize::from(from), usize::from(to), for_ms),
            Action::Flap { from, to, every_ms, times } => {
                self.flap(usize::from(from), usize::from(to), every_ms * 1000, times);
            }
            Action::Rough { loss_percent, late_ms, for_ms } => {
                let usual = self.plan.quality();
                self.network.quality.loss_percent = loss_percent;
                self.network.quality.duplicate_percent = loss_percent;
                self.network.quality.late_percent = 20;
                self.network.quality.late_us_max = late_ms * 1000;
                self.push(for_ms * 1000, Event::Quality(usual));
            }
            _ => unreachable!("sorted by the caller"),
        }
    }

    pub(super) fn flap(&mut self, from: usize, to: usize, every_us: u64, left: u64) {
        if left > 0 && !self.healed {
            self.cut(from, to, every_us / 2000);
            self.push(every_us, Event::Flap { from, to, every_us, left: left - 1 });
        }
    }

    fn other_fault(&mut self, action: Action) {
        match action {
            Action::Pause { who, for_ms } => {
                if let Some(at) = self.find(who).filter(|at| self.nodes[*at].process.is_some()) {
                    self.nodes[at].paused_until_us = self.now_us + for_ms * 1000;
                }
            }
            Action::ClockRate { who, permille } => {
                if let Some(at) = self.find(who) {
                    self.nodes[at].clock.change(self.now_us, permille, 0);
                }
            }
            Action::ClockJump { who, ms } => {
                if let Some(at) = self.find(who) {
                    let permille = self.nodes[at].clock.permille;
                    self.nodes[at].clock.change(self.now_us, permille, ms * 1000);
                }
            }
            Action::Burst { writes } => self.burst(writes),
            _ => self.operator_acts(action),
        }
    }

    fn operator_acts(&mut self, action: Action) {
        match action {
            Action::Add { node, votes } => {
                let suffrage = if votes { Suffrage::Voter } else { Suffrage::NonVoter };
                if self.nodes[usize::from(node)].wanted.is_none() {
                    self.want(usize::from(node), Some(suffrage));
                }
                self.operator();
            }
            Action::Remove { who } => {
                if let Some(at) = self.find(who) {
                    self.want(at, None);
                }
                self.operator();
            }
            Action::Address { who } => {
                if let (Some(at), Some(leader)) = (self.find(who), self.leader()) {
                    let (id, address) = (self.nodes[at].id.clone(), format!("n{at}:{}", self.now_us).into());
                    self.input(leader, Input::Change(Change::SetAddress { id, address }));
                }
            }
            Action::Transfer { to } => {
                if let Some(leader) = self.leader() {
                    let target = to.map(|to| self.nodes[usize::from(to)].id.clone());
                    self.input(leader, Input::Transfer(target));
                }
            }
            Action::Campaign { who } => {
                if let Some(at) = self.find(who) {
                    self.input(at, Input::Campaign);
                }
            }
            _ => unreachable!("sorted by the caller"),
        }
    }

    /// Everything is repaired, and everybody is started.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.trace.note(self.now_us, || "everything is repaired".into());
        self.network.mend_all();
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            node.disk.clear_faults();
            node.disk.set_free_bytes(None);
            node.slow.until_us = 0;
            node.hangs_until_us = node.hangs_until_us.min(self.now_us);
            node.paused_until_us = node.paused_until_us.min(self.now_us);
            node.cut_at_start = None;
            let permille = 1000;
            node.clock.change(self.now_us, permille, 0);
            if node.condition == Condition::Rotten && node.process.is_none() {
                self.wipe(at);
            }
            self.push(10_000, Event::Start { at });
        }
    }
}
