//! How long writes are not possible after the leader died: from the signal to the first acknowledged write, sent after it,
//! through any surviving node.

use super::{Scratch, create_tables, plan};
use crate::args::Args;
use crate::client::{Outcome, classify};
use crate::cluster::{Cluster, HEALTHY_LIMIT};
use crate::context::Context;
use crate::http::Client;
use crate::report::{Report, spread_ms};
use crate::rng::Rng;
use crate::workload::Crowd;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A try that takes longer than this is given up and fails the run.
const TRY_LIMIT: Duration = Duration::from_secs(30);
const PROBE: &str = r#"["INSERT INTO probe(at) VALUES(1)"]"#;

pub fn main(args: &mut Args) -> Result<Report, String> {
    let scratch = Scratch::take(args)?;
    let tries: u64 = args.take("tries", 50)?;
    let how: String = args.take("how", "kill".into())?;
    let clients: u64 = args.take("clients", 0)?;
    let think_ms: u64 = args.take("think-ms", 100)?;
    let bound_ms: u64 = args.take("bound-ms", 2000)?;
    let seed: u64 = args.take("seed", 1)?;
    let plan = plan(args, &scratch, false, 0)?;
    let mut report = Report::new("failover");
    report.set("tries", tries);
    report.set("how", how.clone());
    report.set("clients", clients);
    report.set("flags", plan.flags.clone());

    let nodes = plan.nodes;
    let mut cluster = Cluster::form(plan)?;
    create_tables(&cluster)?;
    let context = Arc::new(Context::new(cluster.ports(), nodes, think_ms, seed));
    let mut rng = Rng::new(seed);
    let crowd = Crowd::start(&context, clients, &mut rng);
    let mut times_us = Vec::new();
    for number in 0..tries {
        cluster.wait_ready(HEALTHY_LIMIT)?;
        // The leader's heartbeats are at a random point of their interval.
        std::thread::sleep(Duration::from_millis(rng.between(500, 1500)));
        let leader = cluster.leader(HEALTHY_LIMIT)?;
        let survivors: Vec<u16> =
            (0..nodes).filter(|at| *at != leader).map(|at| cluster.members[at].http_port).collect();
        let began = Instant::now();
        match how.as_str() {
            "kill" => cluster.kill9(leader),
            "stop" => cluster.pause(leader),
            other => return Err(format!("--how {other:?}: kill or stop")),
        }
        match first_write(&survivors, began) {
            Some(took) => times_us.push(took.as_micros() as u64),
            None => report.fail(format!("try {number}: no write within {TRY_LIMIT:?} after n{} was lost", leader + 1)),
        }
        println!("try {number}: n{} lost, {:?} ms", leader + 1, times_us.last().map(|us| us / 1000));
        match how.as_str() {
            "kill" => cluster.start(leader, &Vec::new()),
            _ => cluster.resume(leader),
        }
    }
    report.events.push(json!({"times_ms": times_us.iter().map(|us| us / 1000).collect::<Vec<_>>()}));
    let spread = spread_ms(times_us);
    let p99_ms = spread["p99_ms"].as_f64().unwrap_or(0.0);
    report.figure("loss of the leader to first acknowledged write", spread);
    if p99_ms > bound_ms as f64 {
        report.fail(format!("p99 of {p99_ms} ms is above {bound_ms} ms"));
    }
    let history = crowd.finish(Duration::from_secs(30));
    super::verify::verify(&mut cluster, history, &mut report);
    drop(cluster);
    scratch.finish(&report);
    Ok(report)
}

/// One prober for each node; the first acknowledgement counts.
fn first_write(ports: &[u16], began: Instant) -> Option<Duration> {
    let done = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = std::sync::mpsc::channel();
    for port in ports.iter().copied() {
        let (done, sender) = (Arc::clone(&done), sender.clone());
        std::thread::spawn(move || {
            while !done.load(SeqCst) {
                let mut client = Client::new(port).with_timeout(Duration::from_secs(2));
                let answer = client.post("/db/execute?timeout=1s", PROBE);
                if classify(answer).0 == Outcome::Ok {
                    // Nobody listens any more when another prober was faster.
                    let _ = sender.send(began.elapsed());
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    }
    let first = receiver.recv_timeout(TRY_LIMIT).ok();
    done.store(true, SeqCst);
    first
}
