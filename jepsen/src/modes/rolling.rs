//! A rolling restart under load: SIGTERM to one node after the other, each started again and waited for. Clients send every
//! write with an `Idempotency-Key` and again until it is acknowledged; in the end none may have failed.

use super::{Scratch, create_tables, plan, verify};
use crate::args::Args;
use crate::client::Outcome;
use crate::cluster::{Cluster, HEALTHY_LIMIT};
use crate::context::Context;
use crate::nemesis::TERMINATE_LIMIT;
use crate::report::{Report, spread_ms};
use crate::rng::Rng;
use crate::workload::{Crowd, rows};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A write that takes longer than this, all its tries together, counts as failed.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

pub fn main(args: &mut Args) -> Result<Report, String> {
    let scratch = Scratch::take(args)?;
    let seconds: u64 = args.take("seconds", 30)?;
    let clients: u64 = args.take("clients", 64)?;
    let think_ms: u64 = args.take("think-ms", 40)?;
    let seed: u64 = args.take("seed", 1)?;
    let plan = plan(args, &scratch, false, 0)?;
    let mut report = Report::new("rolling");
    report.set("seconds", seconds);
    report.set("clients", clients);
    report.set("flags", plan.flags.clone());

    let nodes = plan.nodes;
    let mut cluster = Cluster::form(plan)?;
    create_tables(&cluster)?;
    let context = Arc::new(Context::new(cluster.ports(), nodes, think_ms, seed));
    let crowd = Crowd::start_all(&context, clients, &mut Rng::new(seed), rows::keyed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut restarts, mut stops_us, mut starts_us) = (0u64, Vec::new(), Vec::new());
    while Instant::now() < end || restarts < nodes as u64 {
        let at = restarts as usize % nodes;
        match cluster.terminate(at, TERMINATE_LIMIT) {
            Ok(took) => stops_us.push(took.as_micros() as u64),
            Err(text) => report.fail(text),
        }
        cluster.start(at, &Vec::new());
        starts_us.push(cluster.wait_node_ready(at, HEALTHY_LIMIT)?.as_micros() as u64);
        restarts += 1;
        std::thread::sleep(Duration::from_millis(500));
    }
    let history = crowd.finish(Duration::from_secs(30));
    let failed: Vec<_> = history.rows.iter().filter(|op| op.verdict != Outcome::Ok).collect();
    if let Some(first) = failed.first() {
        report.fail(format!("{} writes were never acknowledged, such as {first:?}", failed.len()));
    }
    let took = |op: &crate::workload::Once| op.ended_us - op.began_us;
    let slow = history.rows.iter().filter(|op| took(op) > WRITE_LIMIT.as_micros() as u64).count();
    if slow > 0 {
        report.fail(format!("{slow} writes took longer than {WRITE_LIMIT:?}"));
    }
    report.figure("restarts", restarts);
    report.figure("SIGTERM to end", spread_ms(stops_us));
    report.figure("start to ready and in step", spread_ms(starts_us));
    report.figure("writes, all tries together", spread_ms(history.rows.iter().map(took).collect()));
    report.figure("writes sent more than once", history.rows.iter().filter(|op| op.tries > 1).count() as u64);
    verify::verify(&mut cluster, history, &mut report);
    drop(cluster);
    scratch.finish(&report);
    Ok(report)
}
