//! A story as plain data: how large the world is, what the clients do, and which fault happens when.
//!
//! A seed yields a plan, and a plan yields a run: the plan's seed also feeds every smaller choice (delays, timeouts,
//! what a power cut keeps). Plans are shrunk by deleting faults and saved as text (`text`).

use super::network::Quality;
use super::random::Chance;

/// Whom a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Node(u8),
    /// Whoever leads at that moment (the node of the highest term that believes so).
    Leader,
    /// Everybody else.
    Others,
}

/// One thing that happens to the world. Times are simulated milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The power of a machine goes; un-synced data is kept or lost in any combination.
    Power {
        who: Who,
        down_ms: u64,
    },
    /// The same, in the middle of the log's disk operation number `ops` from now.
    PowerAtOp {
        who: Who,
        ops: u64,
        down_ms: u64,
    },
    /// The power goes while the node starts, at disk operation `ops` of its recovery.
    PowerAtStart {
        who: Who,
        ops: u64,
        down_ms: u64,
    },
    /// The process dies, the machine lives on.
    Kill {
        who: Who,
        down_ms: u64,
    },
    /// SIGSTOP.
    Pause {
        who: Who,
        for_ms: u64,
    },
    /// EIO at the disk operation number `ops` from now.
    DiskError {
        who: Who,
        ops: u64,
    },
    /// A write stores half of its data and fails.
    ShortWrite {
        who: Who,
        ops: u64,
    },
    DiskFull {
        who: Who,
        for_ms: u64,
    },
    /// The disk answers nothing.
    DiskHang {
        who: Who,
        for_ms: u64,
    },
    /// Every sync takes up to so long.
    DiskSlow {
        who: Who,
        sync_ms: u64,
        for_ms: u64,
    },
    /// The power goes, and a part of the log rots meanwhile.
    Rot {
        who: Who,
        place: u64,
    },
    /// All data of a node is lost; it comes back as another life.
    Wipe {
        who: Who,
    },
    /// Nodes whose bit is set in `side` cannot talk to the others.
    Partition {
        side: u8,
        for_ms: u64,
    },
    /// One direction only.
    CutOut {
        who: Who,
        for_ms: u64,
    },
    CutIn {
        who: Who,
        for_ms: u64,
    },
    /// One directed link.
    CutLink {
        from: u8,
        to: u8,
        for_ms: u64,
    },
    /// A link that comes and goes.
    Flap {
        from: u8,
        to: u8,
        every_ms: u64,
        times: u64,
    },
    /// The whole network becomes bad.
    Rough {
        loss_percent: u64,
        late_ms: u64,
        for_ms: u64,
    },
    /// A clock runs at so many thousandths of true time from now on.
    ClockRate {
        who: Who,
        permille: u64,
    },
    ClockJump {
        who: Who,
        ms: u64,
    },
    Add {
        node: u8,
        votes: bool,
    },
    Remove {
        who: Who,
    },
    Address {
        who: Who,
    },
    /// To a node, or to whom the leader chooses.
    Transfer {
        to: Option<u8>,
    },
    Campaign {
        who: Who,
    },
    /// So many commands at once, to whoever leads.
    Burst {
        writes: u64,
    },
}

impl Action {
    /// Whom it strikes, if it strikes one node.
    pub(super) fn who(&self) -> Option<Who> {
        { *self }.who_mut().copied()
    }

    pub(super) fn with_who(mut self, other: Who) -> Action {
        if let Some(who) = self.who_mut() {
            *who = other;
        }
        self
    }

    fn who_mut(&mut self) -> Option<&mut Who> {
        match self {
            Action::Power { who, .. }
            | Action::PowerAtOp { who, .. }
            | Action::PowerAtStart { who, .. }
            | Action::Kill { who, .. }
            | Action::Pause { who, .. }
            | Action::DiskError { who, .. }
            | Action::ShortWrite { who, .. }
            | Action::DiskFull { who, .. }
            | Action::DiskHang { who, .. }
            | Action::DiskSlow { who, .. }
            | Action::Rot { who, .. }
            | Action::Wipe { who }
            | Action::CutOut { who, .. }
            | Action::CutIn { who, .. }
            | Action::ClockRate { who, .. }
            | Action::ClockJump { who, .. }
            | Action::Remove { who }
            | Action::Address { who }
            | Action::Campaign { who } => Some(who),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub at_ms: u64,
    pub action: Action,
}

impl Event {
    /// Whether all nodes that it names are among the first `nodes`.
    pub(super) fn names_only(&self, nodes: u8) -> bool {
        match self.action {
            Action::CutLink { from, to, .. } | Action::Flap { from, to, .. } => from < nodes && to < nodes,
            Action::Add { node, .. } => node < nodes,
            Action::Transfer { to } => to.is_none_or(|to| to < nodes),
            action => !matches!(action.who(), Some(Who::Node(at)) if at >= nodes),
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    /// Founding voters; node 0 founds the cluster.
    pub voters: u8,
    /// Further nodes, which belong to no cluster at first.
    pub strangers: u8,
    pub clients: u8,
    /// A client waits up to twice so long between two requests.
    pub think_ms: u64,
    pub duration_ms: u64,
    pub loss_percent: u64,
    /// After so long without a quorum a leader steps down.
    pub lease_ms: u64,
    /// Whose lives the founding membership does not know, as after a recovery by hand: 0 nobody's, 1 those of all but the
    /// founder, 2 everybody's.
    pub by_hand: u8,
    /// Size of one Append message; the bounds in flight follow from it.
    pub batch_bytes: u64,
    pub events: Vec<Event>,
}

pub(super) const NODES_MAX: u8 = 7;

impl Plan {
    /// The story of a seed.
    pub fn of(seed: u64) -> Plan {
        let mut chance = Chance::new(seed ^ 0x706c_616e);
        let voters = chance.pick(&[1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 5, 5, 7]);
        let strangers = chance.pick(&[0, 0, 1, 1, 2]).min(NODES_MAX - voters);
        let duration_ms = chance.between(45, 90) * 1000;
        let mut plan = Plan {
            seed,
            voters,
            strangers,
            clients: chance.between(2, 5) as u8,
            think_ms: chance.between(60, 250),
            duration_ms,
            loss_percent: chance.pick(&[0, 0, 1, 3, 8]),
            lease_ms: chance.pick(&[500, 500, 1000]),
            by_hand: Chance::new(seed ^ 0x6279_6861).pick(&[0, 0, 0, 0, 1, 1, 2]),
            batch_bytes: chance.pick(&[100, 300, 900, 3000]),
            events: Vec::new(),
        };
        let mood = Mood::new(&mut chance);
        let mut at_ms = chance.between(500, 4000);
        while at_ms < duration_ms {
            let action = mood.action(voters + strangers, &mut chance);
            plan.events.push(Event { at_ms, action });
            // Faults come in bunches: the worst ones happen while another is being repaired.
            at_ms += if chance.percent(40) { chance.between(1, 400) } else { chance.between(500, 5000) };
        }
        plan
    }

    pub fn nodes(&self) -> usize {
        usize::from(self.voters + self.strangers)
    }

    pub(super) fn quality(&self) -> Quality {
        let rough = self.loss_percent > 0;
        Quality {
            loss_percent: self.loss_percent,
            duplicate_percent: self.loss_percent,
            late_percent: if rough { 5 } else { 0 },
            late_us_max: 400_000,
            delay_us_max: if rough { 12_000 } else { 2_000 },
        }
    }
}

/// Which kinds of faults a story is made of: one that has everything seldom has any two in the order that hurts.
struct Mood {
    weights: [u64; 5],
}

impl Mood {
    fn new(chance: &mut Chance) -> Mood {
        let mut weights = [0; 5];
        for weight in &mut weights {
            *weight = chance.pick(&[0, 1, 1, 3]);
        }
        weights[chance.below(5) as usize] += 3;
        Mood { weights }
    }

    fn action(&self, nodes: u8, chance: &mut Chance) -> Action {
        let mut ticket = chance.below(self.weights.iter().sum());
        let kind = self.weights.iter().position(|weight| {
            let hit = ticket < *weight;
            ticket = ticket.saturating_sub(*weight);
            hit
        });
        match kind.expect("some weight is not zero") {
            0 => crash(nodes, chance),
            1 => disk(nodes, chance),
            2 => network(nodes, chance),
            3 => time(nodes, chance),
            _ => membership(nodes, chance),
        }
    }
}

fn who(nodes: u8, chance: &mut Chance) -> Who {
    if chance.percent(45) {
        Who::Leader
    } else if chance.percent(6) {
        Who::Others
    } else {
        Who::Node(chance.below(u64::from(nodes)) as u8)
    }
}

fn crash(nodes: u8, chance: &mut Chance) -> Action {
    let who = who(nodes, chance);
    let down_ms = chance.pick(&[20, 200, 1500, 4000, 9000]);
    let ops = chance.between(0, 12);
    match chance.below(10) {
        0..=2 => Action::Power { who, down_ms },
        3..=6 => Action::PowerAtOp { who, ops, down_ms },
        7 => Action::PowerAtStart { who, ops: chance.between(0, 30), down_ms },
        _ => Action::Kill { who, down_ms },
    }
}

fn disk(nodes: u8, chance: &mut Chance) -> Action {
    let who = who(nodes, chance);
    let for_ms = chance.pick(&[300, 1200, 2500, 6000]);
    let ops = chance.between(0, 20);
    match chance.below(10) {
        0 => Action::DiskError { who, ops },
        1 => Action::ShortWrite { who, ops },
        2 => Action::DiskFull { who, for_ms },
        3..=5 => Action::DiskHang { who, for_ms },
        6 | 7 => Action::DiskSlow { who, sync_ms: chance.pick(&[30, 200, 900]), for_ms: for_ms * 2 },
        8 => Action::Rot { who, place: chance.below(1 << 32) },
        _ => Action::Wipe { who },
    }
}

fn network(nodes: u8, chance: &mut Chance) -> Action {
    let who = who(nodes, chance);
    let for_ms = chance.pick(&[100, 700, 1800, 4000, 8000]);
    let (from, to) = (chance.below(u64::from(nodes)) as u8, chance.below(u64::from(nodes)) as u8);
    match chance.below(10) {
        0..=2 => Action::Partition { side: chance.below(1 << nodes) as u8, for_ms },
        3 | 4 => Action::CutOut { who, for_ms },
        5 => Action::CutIn { who, for_ms },
        6 | 7 => Action::CutLink { from, to, for_ms },
        8 => Action::Flap { from, to, every_ms: chance.between(20, 700), times: chance.between(3, 15) },
        _ => Action::Rough { loss_percent: chance.between(5, 40), late_ms: chance.between(10, 1500), for_ms },
    }
}

fn time(nodes: u8, chance: &mut Chance) -> Action {
    let who = who(nodes, chance);
    match chance.below(8) {
        0..=3 => Action::Pause { who, for_ms: chance.pick(&[50, 600, 1300, 3000, 7000]) },
        4 => Action::ClockRate { who, permille: chance.pick(&[300, 800, 900, 1100, 1250, 3000]) },
        5 => {
            let who = if chance.percent(40) { Who::Others } else { who };
            Action::ClockJump { who, ms: chance.pick(&[100, 900, 5000]) }
        }
        6 => Action::Campaign { who },
        _ => Action::Burst { writes: chance.between(10, 300) },
    }
}

fn membership(nodes: u8, chance: &mut Chance) -> Action {
    let who = who(nodes, chance);
    let node = chance.below(u64::from(nodes)) as u8;
    match chance.below(10) {
        0..=2 => Action::Add { node, votes: chance.percent(80) },
        3 | 4 => Action::Remove { who },
        5 => Action::Address { who },
        6 | 7 => Action::Transfer { to: chance.percent(50).then_some(node) },
        8 => Action::Campaign { who },
        _ => Action::Wipe { who },
    }
}
