//! Many seeds of an unkind world: whatever happens, the properties hold, and after healing everybody agrees.

mod cluster;

use cluster::{Cluster, World, member};
use raft::*;

/// One run: `rounds` of random faults, then healing.
fn run(seed: u64, voters: usize, strangers: usize, rounds: u64) -> Cluster {
    let mut c = Cluster::new(seed, voters, strangers, World::rough());
    for _ in 0..rounds {
        c.step();
        workload(&mut c);
        faults(&mut c);
        if strangers > 0 {
            administration(&mut c);
        }
    }
    c.settle();
    c
}

fn up(c: &Cluster) -> usize {
    c.nodes.iter().filter(|n| n.replica.is_some()).count()
}

fn workload(c: &mut Cluster) {
    for at in 0..c.nodes.len() {
        if c.nodes[at].replica.as_ref().is_some_and(Replica::is_leader) {
            for _ in 0..c.random.below(4) {
                let _ = c.propose(at);
            }
            if c.random.percent(20) {
                c.read(at);
            }
        }
    }
}

fn faults(c: &mut Cluster) {
    let count = c.nodes.len() as u64;
    let at = c.random.below(count) as usize;
    let other = c.random.below(count) as usize;
    match c.random.below(400) {
        0 => c.isolate(at),
        1 | 2 => c.cut.push((at, other)),
        3 | 4 => c.heal(),
        5 if c.nodes[at].replica.is_some() && up(c) > c.nodes.len() / 2 => c.crash(at),
        6..=8 => {
            if let Some(down) = c.nodes.iter().position(|n| n.replica.is_none()) {
                c.restart(down);
            }
        }
        9 => c.nodes[at].disk_hangs = true,
        10..=12 => c.nodes.iter_mut().for_each(|n| n.disk_hangs = false),
        13..=20 => c.purge(at, 3),
        21 => {
            if let Some(leader) = c.leader() {
                let _ = c.replica(leader).transfer(None);
            }
        }
        22 => {
            if let Some(replica) = &mut c.nodes[at].replica {
                replica.campaign();
            }
        }
        _ => {}
    }
}

fn administration(c: &mut Cluster) {
    let at = c.random.below(c.nodes.len() as u64) as usize;
    let Some(leader) = c.leader() else { return };
    let incarnation = c.nodes[at].config.incarnation.0;
    let id = c.nodes[at].config.id.clone();
    match c.random.below(200) {
        0 => {
            let voters = c.replica(leader).membership().map_or(0, |(_, m)| m.voters().count());
            if voters > 2 {
                let _ = c.replica(leader).change_membership(Change::Remove(id));
            }
        }
        1 | 2 => {
            let _ = c.replica(leader).change_membership(Change::Add(member(at, incarnation, Suffrage::Voter)));
        }
        3 => {
            let _ = c.replica(leader).change_membership(Change::Add(member(at, incarnation, Suffrage::NonVoter)));
        }
        // A node may lose its data only after the cluster has let go of that life of it.
        4 => {
            let gone = c.nodes.iter().all(|n| {
                let committed = n.replica.as_ref().and_then(|r| r.membership());
                committed.is_none_or(|(_, m)| m.get(&id).is_none_or(|m| m.incarnation.0 != incarnation))
            });
            if gone && up(c) == c.nodes.len() && c.checks.committed.len() > 3 {
                c.wipe(at);
            }
        }
        _ => {}
    }
}

/// How many times the usual number of seeds to run: `CHAOS_FACTOR=20 cargo test -p ferrolite-raft --test chaos`.
fn factor() -> u64 {
    std::env::var("CHAOS_FACTOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[test]
fn three_nodes_keep_every_property_under_faults() {
    let committed: usize = (0..40 * factor()).map(|seed| run(seed, 3, 0, 1500).checks.committed.len()).sum();
    assert!(committed as u64 > 40 * factor() * 100, "the runs did something: {committed} commits");
}

#[test]
fn five_nodes_keep_every_property_under_faults() {
    for seed in 100_000..100_000 + 15 * factor() {
        run(seed, 5, 0, 1500);
    }
}

#[test]
fn memberships_change_under_faults() {
    for seed in 200_000..200_000 + 40 * factor() {
        run(seed, 3, 2, 2000);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 300_000..300_003 {
        let history = |c: Cluster| (c.messages_sent, c.now_ms, c.checks.committed);
        assert_eq!(history(run(seed, 3, 1, 1000)), history(run(seed, 3, 1, 1000)));
    }
}
