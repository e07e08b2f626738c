//! How long a cluster is without a leader that serves, for every way of losing one. Time starts at the fault.
//!
//! Three times are told of each try ([`outage`](super::outage) takes them): when another node says that it leads, when a write
//! is first acknowledged through any other node, and when a client that knows all nodes, and asks the lost one first, has
//! its first write acknowledged.

use super::outage::{self, Outage};
use super::setup::{Load, Setup, Stage};
use crate::args::Args;
use crate::cluster::{Cluster, HEALTHY_LIMIT};
use crate::http::Client;
use crate::nemesis::TERMINATE_LIMIT;
use crate::report::{Report, spread_ms};
use crate::rng::Rng;
use crate::workload::Crowd;
use serde_json::json;
use std::str::FromStr;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// SIGKILL: its connections are closed by the kernel.
    Kill,
    /// SIGSTOP: its connections stay open and say nothing.
    Stop,
    /// No byte passes in either direction; no connection is closed.
    Cut,
    /// It is heard and hears nobody.
    Deaf,
    /// It hears everybody and nobody hears it.
    Mute,
    /// SIGTERM.
    Term,
    /// It is asked to hand over to another node.
    Transfer,
}

const LOSSES: [(&str, Loss); 7] = [
    ("kill", Loss::Kill),
    ("stop", Loss::Stop),
    ("cut", Loss::Cut),
    ("deaf", Loss::Deaf),
    ("mute", Loss::Mute),
    ("term", Loss::Term),
    ("transfer", Loss::Transfer),
];

impl FromStr for Loss {
    type Err = ();

    fn from_str(text: &str) -> Result<Loss, ()> {
        LOSSES.iter().find(|(name, _)| *name == text).map(|(_, loss)| *loss).ok_or(())
    }
}

impl Loss {
    fn needs_proxy(self) -> bool {
        matches!(self, Loss::Cut | Loss::Deaf | Loss::Mute)
    }

    fn strike(self, cluster: &mut Cluster, leader: usize, others: &[usize]) {
        match self {
            // Only the signal: to wait for the end of the process is no part of the fault.
            Loss::Kill => cluster.signal(leader, libc::SIGKILL),
            Loss::Stop => cluster.pause(leader),
            Loss::Cut => cluster.network.split(&[leader], others),
            Loss::Deaf => others.iter().for_each(|at| cluster.network.cut(*at, leader)),
            Loss::Mute => others.iter().for_each(|at| cluster.network.cut(leader, *at)),
            Loss::Term => cluster.signal(leader, libc::SIGTERM),
            Loss::Transfer => {
                let (port, target) = (cluster.members[leader].http_port, cluster.members[others[0]].id.clone());
                // A failure shows as a try without a new leader.
                std::thread::spawn(move || Client::new(port).post("/leader", &format!(r#"{{"id":"{target}"}}"#)));
            }
        }
    }

    fn heal(self, cluster: &mut Cluster, leader: usize, rng: &mut Rng) -> Result<(), String> {
        match self {
            Loss::Kill => cluster.kill9(leader),
            Loss::Stop => cluster.resume(leader),
            Loss::Cut | Loss::Deaf | Loss::Mute => cluster.network.heal(rng.between(0, 1) == 0),
            Loss::Term => cluster.terminate(leader, TERMINATE_LIMIT).map(|_| ())?,
            Loss::Transfer => {}
        }
        if !cluster.runs(leader) {
            cluster.start(leader, &Vec::new());
        }
        Ok(())
    }
}

pub fn main(args: &mut Args) -> Result<Report, String> {
    let mut setup = Setup::take("failover", args)?;
    let tries = setup.option(args, "tries", 50u64)?;
    let how = setup.option(args, "how", "kill".to_owned())?;
    let loss: Loss = how.parse().map_err(|()| format!("--how {how:?}: one of {:?}", LOSSES.map(|(name, _)| name)))?;
    let bound_ms = setup.option(args, "bound-ms", 2000u64)?;
    let load = setup.load(args, Load { clients: 0, think_ms: 100, seed: 1 })?;
    setup.plan.proxied = loss.needs_proxy();
    let Stage { mut cluster, context, mut rng } = setup.stage(args, load)?;
    let crowd = Crowd::start(&context, load.clients, &mut rng);
    let (nodes, report) = (setup.plan.nodes, &mut setup.report);
    let mut outages: Vec<Outage> = Vec::new();
    for number in 0..tries {
        cluster.wait_ready(HEALTHY_LIMIT)?;
        // The leader's heartbeats are at a random point of their interval.
        std::thread::sleep(Duration::from_millis(rng.between(500, 1500)));
        let leader = cluster.leader(HEALTHY_LIMIT)?;
        let term = cluster.term();
        let others: Vec<usize> = (0..nodes).filter(|at| *at != leader).collect();
        let outage = outage::measure(&cluster.ports(), leader, term, || loss.strike(&mut cluster, leader, &others));
        println!("try {number}: n{} lost in term {term}: {outage:?}", leader + 1);
        match outage {
            Ok(outage) => {
                report.events.push(json!({"lost": format!("n{}", leader + 1), "term": term, "terms": outage.terms,
                    "leads_ms": outage.leads_us / 1000, "write_ms": outage.write_us / 1000,
                    "client_ms": outage.client_us / 1000}));
                outages.push(outage);
            }
            Err(text) => report.fail(format!("try {number}, n{} lost: {text}", leader + 1)),
        }
        loss.heal(&mut cluster, leader, &mut rng)?;
    }
    let times = |of: fn(&Outage) -> u64| outages.iter().map(of).collect::<Vec<_>>();
    let serving = spread_ms(times(|outage| outage.write_us));
    let p99_ms = serving["p99_ms"].as_f64().unwrap_or(0.0);
    report.figure("1. until another node leads", spread_ms(times(|outage| outage.leads_us)));
    report.figure("2. until a write is acknowledged", serving);
    report.figure("3. until a client that asks the lost node first", spread_ms(times(|outage| outage.client_us)));
    report.figure("elections that took more than one term", times(|o| u64::from(o.terms > 1)).iter().sum::<u64>());
    if p99_ms > bound_ms as f64 {
        report.fail(format!("p99 of {p99_ms} ms is above {bound_ms} ms"));
    }
    let history = crowd.finish(Duration::from_secs(30));
    Ok(setup.close(cluster, history))
}
