//! A rolling restart under load: SIGTERM to one node after the other (or `--down` of them at once), each started again and
//! waited for. Clients send every
//! write with an `Idempotency-Key` and again until it is acknowledged; in the end none may have failed.

use super::setup::{Load, Setup, Stage};
use crate::args::Args;
use crate::client::Outcome;
use crate::cluster::HEALTHY_LIMIT;
use crate::nemesis::TERMINATE_LIMIT;
use crate::report::{Report, spread_ms};
use crate::workload::{Crowd, rows};
use std::time::{Duration, Instant};

/// A write that takes longer than this, all its tries together, counts as failed.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

pub fn main(args: &mut Args) -> Result<Report, String> {
    let mut setup = Setup::take("rolling", args)?;
    let seconds = setup.option(args, "seconds", 30u64)?;
    let down = setup.option(args, "down", 1usize)?;
    let load = setup.load(args, Load { clients: 64, think_ms: 40, seed: 1 })?;
    let nodes = setup.plan.nodes;
    if down == 0 || 2 * down >= nodes {
        return Err(format!("--down {down}: of {nodes} nodes a majority must stay up"));
    }
    let Stage { mut cluster, context, mut rng } = setup.stage(args, load)?;
    let crowd = Crowd::start_all(&context, load.clients, &mut rng, rows::keyed);
    let report = &mut setup.report;
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut restarts, mut stops_us, mut starts_us) = (0, Vec::new(), Vec::new());
    while Instant::now() < end || restarts < nodes {
        let batch: Vec<usize> = (restarts..restarts + down).map(|count| count % nodes).collect();
        batch.iter().for_each(|at| cluster.signal(*at, libc::SIGTERM));
        for at in &batch {
            match cluster.terminate(*at, TERMINATE_LIMIT) {
                Ok(took) => stops_us.push(took.as_micros() as u64),
                Err(text) => report.fail(text),
            }
        }
        batch.iter().for_each(|at| cluster.start(*at, &Vec::new()));
        for at in &batch {
            starts_us.push(cluster.wait_node_ready(*at, HEALTHY_LIMIT)?.as_micros() as u64);
        }
        restarts += down;
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
    report.figure("restarts", restarts as u64);
    report.figure("SIGTERM to end", spread_ms(stops_us));
    report.figure("start to ready and in step", spread_ms(starts_us));
    report.figure("writes, all tries together", spread_ms(history.rows.iter().map(took).collect()));
    report.figure("writes sent more than once", history.rows.iter().filter(|op| op.tries > 1).count() as u64);
    Ok(setup.close(cluster, history))
}
