//! All 64 directed link graphs on three nodes, each with a verdict.
//!
//! The rule: where some node has links in both directions to enough others to make a majority with itself, there must
//! be a leader that commits, and the terms must come to rest; who leads already and reaches a majority stays. Where no
//! node has, nothing can be committed: nobody may go on believing to lead, and the terms must not run away. In both
//! cases nothing wrong happens, and when the links are mended the cluster works again.

use super::check::{Violation, liveness, violated};
use super::plan::Plan;
use super::trace::Trace;
use super::world::World;
use super::{Outcome, guarded};
use crate::{Replica, Term};

const NODES: usize = 3;
/// Directed links: (from, to).
const LINKS: [(usize, usize); 6] = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)];
/// Different seeds make different nodes lead when the links are cut.
const SEEDS: u64 = 4;

const BEFORE_US: u64 = 4_000_000;
/// After the cut the cluster may take so long to find its leader, or to notice that there is none.
const TURMOIL_US: u64 = 8_000_000;
const CALM_US: u64 = 20_000_000;
/// Terms that may pass while it is calm.
const TERMS_MAX: u64 = 0;

/// What happened with one graph.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Bit n stands for link n of `LINKS`.
    pub links: u8,
    pub must_lead: bool,
    /// Runs (of all seeds) in which a leader committed in the calm time.
    pub led: u64,
    pub runs: u64,
    /// Terms that passed in the calm time, at most.
    pub terms: u64,
    pub violation: Option<Violation>,
}

impl Verdict {
    /// The links as text, such as `0>1 1>0`.
    pub fn graph(&self) -> String {
        let present = LINKS.iter().enumerate().filter(|(at, _)| self.links >> at & 1 == 1);
        let texts: Vec<String> = present.map(|(_, (from, to))| format!("{from}>{to}")).collect();
        texts.join(" ")
    }
}

/// Every graph, with every seed.
pub fn run_all() -> Vec<Verdict> {
    (0..64).map(run_graph).collect()
}

fn reaches_majority(node: usize, links: u8) -> bool {
    let linked = |pair: (usize, usize)| LINKS.iter().position(|l| *l == pair).is_some_and(|at| links >> at & 1 == 1);
    (0..NODES).filter(|n| *n == node || linked((node, *n)) && linked((*n, node))).count() > NODES / 2
}

fn has_two_way_quorum(links: u8) -> bool {
    (0..NODES).any(|node| reaches_majority(node, links))
}

/// Who leads now, in which term, if the graph leaves it a majority.
fn lasting_leader(world: &World, links: u8) -> Option<(usize, Term)> {
    let leader = world.leader().filter(|at| reaches_majority(*at, links))?;
    Some((leader, world.replica(leader)?.term()))
}

fn run_graph(links: u8) -> Verdict {
    let mut verdict =
        Verdict { links, must_lead: has_two_way_quorum(links), led: 0, runs: SEEDS, terms: 0, violation: None };
    for seed in 0..SEEDS {
        let plan = Plan {
            seed: seed * 64 + u64::from(links),
            voters: NODES as u8,
            strangers: 0,
            // Idle clusters are other than busy ones: who hears nothing then misses nothing.
            clients: if seed % 2 == 0 { 3 } else { 0 },
            think_ms: 100,
            duration_ms: 0,
            loss_percent: 0,
            lease_ms: 500,
            by_hand: 0,
            batch_bytes: 900,
            events: Vec::new(),
        };
        let mut world = World::new(&plan, Trace::new(false));
        let mut seen = (false, 0);
        let Outcome { violation, .. } = guarded(&mut world, |world| seen = one_run(world, links));
        verdict.led += u64::from(seen.0);
        verdict.terms = verdict.terms.max(seen.1);
        verdict.violation = verdict.violation.or(violation);
    }
    verdict
}

fn highest_term(world: &World) -> u64 {
    (0..NODES).filter_map(|at| world.replica(at)).map(|replica| replica.term().0).max().unwrap_or(0)
}

/// Returns whether a leader committed, and how many terms passed, while it was calm.
fn one_run(world: &mut World, links: u8) -> (bool, u64) {
    world.run_until(world.now_us + BEFORE_US);
    for (at, (from, to)) in LINKS.iter().enumerate() {
        if links >> at & 1 == 0 {
            world.network.cut(*from, *to);
        }
    }
    let lasting = lasting_leader(world, links);
    world.run_until(world.now_us + TURMOIL_US);
    let (term, commits) = (highest_term(world), world.checks.history.last());
    world.run_until(world.now_us + CALM_US);
    let terms = highest_term(world) - term;
    let leads = world.leader().and_then(|at| world.replica(at)).is_some_and(|r| r.commit() == r.last().index);
    let led = if world.clients.is_empty() { leads } else { world.checks.history.last() > commits };
    let name = || format!("link graph {links:06b}");
    if has_two_way_quorum(links) && !led {
        violated("link graphs", format!("{}: no leader that commits\n{}", name(), world.describe()));
    }
    if !has_two_way_quorum(links) && (0..NODES).any(|at| world.replica(at).is_some_and(Replica::is_leader)) {
        violated("link graphs", format!("{}: a leader that cannot commit goes on", name()));
    }
    if lasting.is_some() && lasting != lasting_leader(world, links) {
        violated("link graphs", format!("{}: a leader that reaches a majority was deposed", name()));
    }
    if terms > TERMS_MAX {
        violated("link graphs", format!("{}: {terms} terms passed without need", name()));
    }
    world.heal();
    for _ in 0..liveness::LIMIT_MS / 100 {
        world.run_until(world.now_us + 100_000);
        if liveness::missing(world).is_none() {
            liveness::check_end(world);
            return (led, terms);
        }
    }
    liveness::too_late("after mending the links", world)
}
