//! The network between nodes: every directed link of its own, with cuts, loss, duplication, delay and reordering.
//! Messages between replicas travel as the bytes of `wire`.

use super::machine::State;
use super::random::Chance;
use crate::{Index, LogId};
use std::rc::Rc;

/// What travels from node to node.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Raft(Rc<[u8]>),
    /// A follower asks the leader for the index of a read.
    IndexRequest {
        token: u64,
    },
    /// None: the asked node could not say.
    IndexReply {
        token: u64,
        index: Option<Index>,
    },
    /// A whole copy of the state machine.
    Snapshot(Rc<State>),
    SnapshotDone {
        taken: Option<LogId>,
    },
}

/// How unkind all links are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quality {
    pub(super) loss_percent: u64,
    pub(super) duplicate_percent: u64,
    /// Of a hundred messages so many are late by up to `late_us_max`, and so overtaken by others.
    pub(super) late_percent: u64,
    pub(super) late_us_max: u64,
    pub(super) delay_us_max: u64,
}

impl Quality {
    pub(super) const GOOD: Quality =
        Quality { loss_percent: 0, duplicate_percent: 0, late_percent: 0, late_us_max: 1, delay_us_max: 2_000 };
}

#[derive(Debug)]
pub(super) struct Network {
    nodes: usize,
    /// How many cuts lie on each directed link; a link with none is whole.
    cuts: Vec<u32>,
    pub(super) quality: Quality,
}

impl Network {
    pub(super) fn new(nodes: usize, quality: Quality) -> Network {
        Network { nodes, cuts: vec![0; nodes * nodes], quality }
    }

    pub(super) fn is_whole(&self, from: usize, to: usize) -> bool {
        self.cuts[from * self.nodes + to] == 0
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.cuts[from * self.nodes + to] += 1;
    }

    pub(super) fn mend(&mut self, from: usize, to: usize) {
        let cuts = &mut self.cuts[from * self.nodes + to];
        *cuts = cuts.saturating_sub(1);
    }

    pub(super) fn mend_all(&mut self) {
        self.cuts.fill(0);
        self.quality = Quality::GOOD;
    }

    /// Delays at which copies of a packet arrive: none when it is lost, two when it is doubled.
    pub(super) fn arrivals(&self, from: usize, to: usize, whole: bool, chance: &mut Chance) -> [Option<u64>; 2] {
        let quality = self.quality;
        if !self.is_whole(from, to) || chance.percent(quality.loss_percent) {
            return [None, None];
        }
        let mut delay_us = || {
            let late_us = if chance.percent(quality.late_percent) { chance.below(quality.late_us_max) } else { 0 };
            100 + chance.below(quality.delay_us_max) + late_us
        };
        let first = delay_us();
        let second = delay_us();
        let twice = !whole && chance.percent(quality.duplicate_percent);
        [Some(first), twice.then_some(second)]
    }
}
