//! What is done to the cluster while clients work: strike, hold, heal. The one thread that owns the cluster.

use crate::cluster::{Cluster, HEALTHY_LIMIT};
use crate::context::Context;
use crate::http::Client;
use crate::rng::Rng;
use crate::shim::Shims;
use std::time::Duration;

/// Longest time for a node to end after SIGTERM.
pub const TERMINATE_LIMIT: Duration = Duration::from_secs(20);
const ADMIN_LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    KillLeader,
    KillFollower,
    KillRandom,
    KillAll,
    PauseLeader,
    PauseFollower,
    IsolateLeader,
    IsolateFollower,
    /// One direction of one link.
    OneWay,
    /// The leader hears nobody, or nobody hears it.
    LeaderDeaf,
    LeaderMute,
    /// The leader and one follower do not see each other; both see the rest.
    Partial,
    Flap,
    Slow,
    Clock,
    Disk,
    Wipe,
    Remove,
    Add,
    Transfer,
    Rolling,
}

/// Names on the command line, and groups of them.
pub const FAULTS: [(&str, Fault); 22] = [
    ("none", Fault::None),
    ("kill-leader", Fault::KillLeader),
    ("kill-follower", Fault::KillFollower),
    ("kill", Fault::KillRandom),
    ("kill-all", Fault::KillAll),
    ("pause-leader", Fault::PauseLeader),
    ("pause-follower", Fault::PauseFollower),
    ("isolate-leader", Fault::IsolateLeader),
    ("isolate-follower", Fault::IsolateFollower),
    ("one-way", Fault::OneWay),
    ("leader-deaf", Fault::LeaderDeaf),
    ("leader-mute", Fault::LeaderMute),
    ("partial", Fault::Partial),
    ("flap", Fault::Flap),
    ("slow", Fault::Slow),
    ("clock", Fault::Clock),
    ("disk", Fault::Disk),
    ("wipe", Fault::Wipe),
    ("remove", Fault::Remove),
    ("add", Fault::Add),
    ("transfer", Fault::Transfer),
    ("rolling", Fault::Rolling),
];

const GROUPS: [(&str, &str); 4] = [
    ("network", "isolate-leader,isolate-follower,one-way,leader-deaf,leader-mute,partial,flap,slow"),
    ("process", "kill-leader,kill-follower,kill,kill-all,pause-leader,pause-follower,rolling,transfer"),
    ("members", "wipe,remove,add,transfer"),
    ("smoke", "kill-leader,pause-leader,isolate-leader,rolling"),
];

/// A list of names and groups, `mix` for all.
pub fn parse(text: &str) -> Result<Vec<Fault>, String> {
    if text == "mix" {
        return Ok(FAULTS[1..].iter().map(|(_, fault)| *fault).collect());
    }
    let mut faults = Vec::new();
    for name in text.split(',') {
        match (GROUPS.iter().find(|(group, _)| *group == name), FAULTS.iter().find(|(n, _)| *n == name)) {
            (Some((_, members)), _) => faults.extend(parse(members)?),
            (_, Some((_, fault))) => faults.push(*fault),
            _ => return Err(format!("nemesis {name:?}: not known")),
        }
    }
    Ok(faults)
}

pub fn name(fault: Fault) -> &'static str {
    FAULTS.iter().find(|(_, f)| *f == fault).map_or("?", |(name, _)| name)
}

/// See the module.
pub struct Nemesis<'a> {
    pub cluster: &'a mut Cluster,
    pub context: &'a Context,
    pub rng: Rng,
    shims: Option<Shims>,
    /// Nodes that run with a shim and have to be started anew.
    tainted: Vec<usize>,
    /// The spare that was added.
    guest: Option<usize>,
    /// What went wrong that must not.
    pub failures: Vec<String>,
}

impl<'a> Nemesis<'a> {
    pub fn new(cluster: &'a mut Cluster, context: &'a Context, rng: Rng) -> Nemesis<'a> {
        let shims = Shims::compile(&cluster.plan.dir.join("shims"));
        Nemesis { cluster, context, rng, shims, tainted: Vec::new(), guest: None, failures: Vec::new() }
    }

    /// Does it; the text says what was done to whom.
    pub fn strike(&mut self, fault: Fault, hold: Duration) -> Result<String, String> {
        let leader = self.cluster.leader(HEALTHY_LIMIT)?;
        let members = self.context.active_nodes();
        let others: Vec<usize> = members.iter().copied().filter(|at| *at != leader).collect();
        let Some(follower) = self.pick(&others) else { return Err("a cluster of one has no followers".into()) };
        let (l, f) = (leader + 1, follower + 1);
        let followers = self.minority(&others, members.len());
        let what = match fault {
            Fault::None => "nothing".to_owned(),
            Fault::KillLeader => self.kill(&with(leader, followers)),
            Fault::KillFollower => self.kill(&followers),
            Fault::KillRandom => {
                let victims = self.minority(&members, members.len());
                self.kill(&victims)
            }
            Fault::KillAll => self.kill(&members),
            Fault::PauseLeader => self.pause(&with(leader, followers)),
            Fault::PauseFollower => self.pause(&followers),
            Fault::IsolateLeader => self.isolate(&with(leader, followers), &members),
            Fault::IsolateFollower => self.isolate(&followers, &members),
            Fault::OneWay => {
                let (from, to) = if self.rng.between(0, 1) == 0 { (leader, follower) } else { (follower, leader) };
                self.cluster.network.cut(from, to);
                format!("cut n{} to n{} (leader n{l})", from + 1, to + 1)
            }
            Fault::LeaderDeaf => {
                others.iter().for_each(|at| self.cluster.network.cut(*at, leader));
                format!("leader n{l} hears nobody")
            }
            Fault::LeaderMute => {
                others.iter().for_each(|at| self.cluster.network.cut(leader, *at));
                format!("nobody hears leader n{l}")
            }
            Fault::Partial => {
                self.cluster.network.split(&[leader], &[follower]);
                format!("cut between leader n{l} and n{f}")
            }
            Fault::Flap => self.flap(leader, &others, hold),
            Fault::Slow => {
                let delay = Duration::from_millis(self.rng.between(20, 200));
                self.cluster.network.slow(leader, follower, delay, 100_000);
                self.cluster.network.slow(follower, leader, delay, 100_000);
                format!("{delay:?} and 100 kB/s between leader n{l} and n{f}")
            }
            Fault::Clock => self.wrong_clock(&members)?,
            Fault::Disk => self.failing_disk(&members)?,
            Fault::Wipe => {
                for at in &followers {
                    self.cluster.kill9(*at);
                    self.forget(*at);
                }
                format!("wiped {}", names(&followers))
            }
            Fault::Remove => self.remove(leader, &followers),
            Fault::Add => self.add()?,
            Fault::Transfer => self.transfer(leader, follower),
            Fault::Rolling => self.rolling(&members)?,
        };
        Ok(format!("n{l} leads: {what}"))
    }

    /// Everything is as it was: links whole, all members running on sound machines.
    pub fn heal(&mut self) {
        let reset = self.rng.between(0, 1) == 0;
        self.cluster.network.heal(reset);
        for at in self.context.active_nodes() {
            if self.cluster.members[at].paused {
                self.cluster.resume(at);
            }
        }
        for at in std::mem::take(&mut self.tainted) {
            self.cluster.kill9(at);
        }
        self.cluster.look_for_deaths("found while healing");
        if let Some(guest) = self.guest.take() {
            self.part_with(guest);
        }
        for at in self.context.active_nodes() {
            if !self.cluster.runs(at) {
                self.cluster.start(at, &Vec::new());
            }
        }
    }

    /// At random one or more of `among`, so few that a cluster of `count` still has a majority without them.
    fn minority(&mut self, among: &[usize], count: usize) -> Vec<usize> {
        let most = (count.saturating_sub(1) / 2).clamp(1, among.len().max(1));
        let wanted = self.rng.between(1, most as u64) as usize;
        let mut left = among.to_vec();
        let mut chosen = Vec::new();
        while chosen.len() < wanted && !left.is_empty() {
            chosen.push(left.remove(self.rng.next_u64() as usize % left.len()));
        }
        chosen
    }

    fn pick(&mut self, among: &[usize]) -> Option<usize> {
        (!among.is_empty()).then(|| among[self.rng.next_u64() as usize % among.len()])
    }

    fn kill(&mut self, victims: &[usize]) -> String {
        for at in victims {
            // All at once: nobody has time to notice that another one is gone.
            self.cluster.signal(*at, libc::SIGKILL);
        }
        victims.iter().for_each(|at| self.cluster.kill9(*at));
        format!("killed {}", names(victims))
    }

    fn pause(&mut self, victims: &[usize]) -> String {
        victims.iter().for_each(|at| self.cluster.pause(*at));
        format!("stopped {}", names(victims))
    }

    /// Those inside still see each other.
    fn isolate(&mut self, inside: &[usize], members: &[usize]) -> String {
        let outside: Vec<usize> = members.iter().copied().filter(|at| !inside.contains(at)).collect();
        self.cluster.network.split(inside, &outside);
        format!("isolated {}", names(inside))
    }

    fn flap(&mut self, leader: usize, others: &[usize], hold: Duration) -> String {
        let end = std::time::Instant::now() + hold;
        let mut times = 0;
        while std::time::Instant::now() < end {
            self.cluster.network.split(&[leader], others);
            std::thread::sleep(Duration::from_millis(self.rng.between(50, 900)));
            self.cluster.network.heal(self.rng.between(0, 1) == 0);
            std::thread::sleep(Duration::from_millis(self.rng.between(50, 900)));
            times += 1;
        }
        format!("isolated n{} {times} times for a moment", leader + 1)
    }

    fn restart_with(&mut self, at: usize, env: &crate::shim::Env) -> Result<(), String> {
        self.terminate(at);
        self.cluster.start(at, env);
        self.tainted.push(at);
        self.cluster.wait_node_ready(at, HEALTHY_LIMIT).map(|_| ())
    }

    fn wrong_clock(&mut self, members: &[usize]) -> Result<String, String> {
        let victim = self.pick(members).expect("there are members");
        let seconds = self.rng.between(0, 7200) as i64 - 3600;
        let Some(shims) = &self.shims else { return Err("no C compiler for the shim".into()) };
        let env = shims.wrong_clock(seconds);
        self.restart_with(victim, &env)?;
        // The clock of a leader stamps entries.
        let leader = self.cluster.leader(HEALTHY_LIMIT)?;
        let told = self.post_leader(leader, victim);
        Ok(format!("n{} has a clock wrong by {seconds} s; asked to lead: {told}", victim + 1))
    }

    fn failing_disk(&mut self, members: &[usize]) -> Result<String, String> {
        let victims = self.minority(members, members.len());
        let (call, errno) = match self.rng.between(0, 3) {
            0 => ("write", libc::ENOSPC),
            1 => ("write", libc::EIO),
            2 => ("sync", libc::EIO),
            _ => ("allocate", libc::ENOSPC),
        };
        let at = self.rng.between(1, 50);
        for victim in &victims {
            let Some(shims) = &self.shims else { return Err("no C compiler for the shim".into()) };
            let env = shims.failing_disk(call, &format!("n{}/", victim + 1), at, errno);
            self.restart_with(*victim, &env)?;
        }
        let leader = self.cluster.leader(HEALTHY_LIMIT)?;
        let told = match self.rng.between(0, 1) == 0 {
            true => self.post_leader(leader, victims[0]),
            false => "no".into(),
        };
        if let Some(shims) = &self.shims {
            shims.arm();
        }
        Ok(format!(
            "{}: {call} number {at} and all later ones fail with errno {errno}; first asked to lead: {told}",
            names(&victims)
        ))
    }

    fn forget(&mut self, at: usize) {
        self.context.new_life(at);
        self.cluster.wipe(at);
    }

    /// Takes members out of the cluster, one after the other, and empties them; healing starts them again, so that they
    /// join as new nodes.
    fn remove(&mut self, leader: usize, victims: &[usize]) -> String {
        let mut told = Vec::new();
        for at in victims {
            told.push(self.delete(leader, *at));
            self.terminate(*at);
            self.forget(*at);
        }
        format!("removed {}: {}", names(victims), told.join(", "))
    }

    fn add(&mut self) -> Result<String, String> {
        let guest = self.cluster.plan.nodes;
        if guest >= self.cluster.members.len() {
            return Err("no spare node".into());
        }
        self.cluster.start(guest, &Vec::new());
        self.guest = Some(guest);
        let took = self.cluster.wait_node_ready(guest, HEALTHY_LIMIT)?;
        self.context.set_active(guest, true);
        Ok(format!("added n{}, ready after {} ms", guest + 1, took.as_millis()))
    }

    fn part_with(&mut self, guest: usize) {
        self.context.set_active(guest, false);
        match self.cluster.leader(HEALTHY_LIMIT) {
            Ok(leader) => {
                let told = self.delete(leader, guest);
                if !told.starts_with("200") {
                    self.failures.push(format!("n{} could not be removed: {told}", guest + 1));
                }
            }
            Err(text) => self.failures.push(text),
        }
        self.terminate(guest);
        self.forget(guest);
    }

    fn transfer(&mut self, leader: usize, target: usize) -> String {
        let told = self.post_leader(leader, target);
        format!("leadership from n{} to n{}: {told}", leader + 1, target + 1)
    }

    fn rolling(&mut self, members: &[usize]) -> Result<String, String> {
        let together = self.minority(members, members.len()).len();
        for batch in members.chunks(together) {
            batch.iter().for_each(|at| self.terminate(*at));
            batch.iter().for_each(|at| self.cluster.start(*at, &Vec::new()));
            for at in batch {
                self.cluster.wait_node_ready(*at, HEALTHY_LIMIT)?;
            }
        }
        Ok(format!("restarted {} in turn, {together} at a time", names(members)))
    }

    fn terminate(&mut self, at: usize) {
        if let Err(text) = self.cluster.terminate(at, TERMINATE_LIMIT) {
            self.failures.push(text);
        }
    }

    fn delete(&self, leader: usize, victim: usize) -> String {
        let body = format!(r#"{{"id":"n{}"}}"#, victim + 1);
        self.admin(leader, "DELETE", "/remove?timeout=8s", &body)
    }

    fn post_leader(&self, leader: usize, target: usize) -> String {
        if leader == target {
            return "it leads".into();
        }
        self.admin(leader, "POST", "/leader?wait&timeout=8s", &format!(r#"{{"id":"n{}"}}"#, target + 1))
    }

    fn admin(&self, at: usize, method: &str, path: &str, body: &str) -> String {
        let mut client = Client::new(self.cluster.members[at].http_port).with_timeout(ADMIN_LIMIT);
        match client.call(method, path, &[("Content-Type", "application/json")], body.as_bytes()) {
            Ok(reply) => format!("{} {}", reply.status, reply.text().trim()),
            Err(e) => e.to_string(),
        }
    }
}

/// The leader and some of its followers, not more of them all than before.
fn with(leader: usize, followers: Vec<usize>) -> Vec<usize> {
    let company = followers.len() - 1;
    std::iter::once(leader).chain(followers.into_iter().take(company)).collect()
}

fn names(nodes: &[usize]) -> String {
    nodes.iter().map(|at| format!("n{}", at + 1)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_groups() {
        assert_eq!(parse("kill,wipe"), Ok(vec![Fault::KillRandom, Fault::Wipe]));
        assert_eq!(parse("smoke").map(|faults| faults.len()), Ok(4));
        assert_eq!(parse("mix").map(|faults| faults.len()), Ok(FAULTS.len() - 1));
        assert!(parse("kil").is_err());
        assert_eq!(name(Fault::LeaderDeaf), "leader-deaf");
    }

    #[test]
    fn the_leader_takes_the_place_of_one_of_its_followers() {
        assert_eq!(with(0, vec![1]), [0]);
        assert_eq!(with(2, vec![4, 3]), [2, 4]);
    }
}
