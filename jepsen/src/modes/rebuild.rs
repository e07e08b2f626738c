//! A follower that lost its disk gets a whole database again while writing goes on: what it costs the leader's writes, and
//! whether it costs an election.

use super::execute;
use super::load::{Load, Sample};
use super::setup::Setup;
use crate::args::Args;
use crate::cluster::{Cluster, HEALTHY_LIMIT, wait};
use crate::http::Client;
use crate::report::{Report, percentile, spread_ms};
use std::time::{Duration, Instant};

/// Bytes of one row of the filler, and rows of one statement.
const ROW_BYTES: u64 = 4000;
const ROWS_PER_STATEMENT: u64 = 2500;
const REBUILD_LIMIT: Duration = Duration::from_secs(900);
/// Megabytes of padding that fill the segments in which the log of the filling stands.
const PADDINGS: usize = 12;
/// To delete a gigabyte keeps a disk busy for seconds (with the mount option `discard` above all), and all nodes share this one. It
/// is the harness that deletes.
const WIPE_TIME: Duration = Duration::from_secs(12);
const WRITE: &str = r#"[["INSERT INTO live(name, value) VALUES(?, ?)", "a name of some length", 12345]]"#;

pub fn main(args: &mut Args) -> Result<Report, String> {
    let mut setup = Setup::take("rebuild", args)?;
    let gb = setup.option(args, "gb", 1.0)?;
    let connections = setup.option(args, "clients", 8usize)?;
    let think_ms = setup.option(args, "think-ms", 10u64)?;
    let normal_s = setup.option(args, "normal-seconds", 30u64)?;
    let by = setup.option(args, "by", "copy".to_owned())?;
    if !["copy", "log"].contains(&by.as_str()) {
        return Err(format!("--by {by:?}: copy or log"));
    }
    let mut cluster = setup.form(args)?;
    let report = &mut setup.report;
    let leader = cluster.leader(HEALTHY_LIMIT)?;
    let port = cluster.members[leader].http_port;
    fill(port, (gb * 1e9) as u64)?;
    if by == "copy" {
        let padding = "x".repeat(1_000_000);
        for _ in 0..PADDINGS {
            execute(port, &[format!("DELETE FROM live WHERE id < 0 /* {padding} */")])?;
        }
    }
    cluster.wait_in_step(REBUILD_LIMIT)?;
    let term = cluster.term();
    report.figure("database bytes", bytes_of(&cluster, leader));

    let load = Load::start(port, connections, "/db/execute", WRITE, Duration::from_millis(think_ms));
    std::thread::sleep(Duration::from_secs(normal_s));
    if by == "copy" {
        // The log goes, whole segments of it, so that only a copy of the database helps.
        for member in &cluster.members {
            Client::new(member.http_port).post("/snapshot?trailing_logs=1", "").map_err(|e| e.to_string())?;
        }
    }
    let victim = (leader + 1) % cluster.plan.nodes;
    cluster.kill9(victim);
    let wiped_us = load.now_us();
    cluster.wipe(victim);
    std::thread::sleep(WIPE_TIME);
    let began_us = load.now_us();
    let began = Instant::now();
    cluster.start(victim, &Vec::new());
    let rebuilt = wait_rebuilt(&cluster, leader, victim);
    let ended_us = load.now_us();
    let copies = cluster.counter(victim, "store", "num_restores");
    if copies.is_none_or(|copies| (by == "copy") != (copies > 0)) {
        report.fail(format!("rebuilt by {copies:?} copies, which is not what was asked for"));
    }
    match rebuilt {
        Some(()) => report.figure("rebuild, seconds", began.elapsed().as_secs_f64()),
        None => report.fail(format!("n{} is not rebuilt after {REBUILD_LIMIT:?}", victim + 1)),
    }
    std::thread::sleep(Duration::from_secs(10));
    let samples = load.finish();
    judge(&samples, [wiped_us, began_us, ended_us], report);
    let elections = cluster.term() - term;
    report.figure("elections", elections);
    if elections > 0 || cluster.leader_now() != Some(leader) {
        report.fail(format!("there were {elections} elections"));
    }
    if let Err(text) = cluster.wait_in_step(HEALTHY_LIMIT) {
        report.fail(text);
    }
    check_counts(&cluster, report);
    Ok(setup.close_without_history(cluster))
}

fn fill(port: u16, bytes: u64) -> Result<(), String> {
    let tables = [
        "CREATE TABLE IF NOT EXISTS big (id INTEGER PRIMARY KEY, data BLOB)",
        "CREATE TABLE IF NOT EXISTS live (id INTEGER PRIMARY KEY, name TEXT, value INT)",
    ];
    execute(port, &tables.map(str::to_owned))?;
    let statements = bytes.div_ceil(ROW_BYTES * ROWS_PER_STATEMENT);
    for number in 0..statements {
        // Done twice it changes nothing.
        let first = number * ROWS_PER_STATEMENT;
        let last = first + ROWS_PER_STATEMENT - 1;
        let sql = format!(
            "INSERT OR REPLACE INTO big(id, data) WITH RECURSIVE c(x) AS (SELECT {first} UNION ALL SELECT x + 1 FROM c \
             WHERE x < {last}) SELECT x, randomblob({ROW_BYTES}) FROM c"
        );
        execute(port, &[sql])?;
        if number % 10 == 9 {
            println!("filled {} of {statements}", number + 1);
        }
    }
    Ok(())
}

fn bytes_of(cluster: &Cluster, at: usize) -> u64 {
    cluster.status(at, "store.sqlite3.db_size").and_then(|size| size.as_u64()).unwrap_or(0)
}

/// The copy is whole when the node has applied what the leader had when it was asked, and says that it is ready.
fn wait_rebuilt(cluster: &Cluster, leader: usize, victim: usize) -> Option<()> {
    let applied = |at| cluster.status(at, "store.raft.applied_index").and_then(|index| index.as_u64());
    let goal = applied(leader)?;
    wait(REBUILD_LIMIT, || (applied(victim)? >= goal).then_some(()))
}

fn judge(samples: &[Sample], [wiped_us, began_us, ended_us]: [u64; 3], report: &mut Report) {
    // The first seconds are for warming up.
    let times = |from: u64, to: u64| -> Vec<u64> {
        let range = samples.iter().filter(|s| s.ok && s.began_us >= from && s.began_us < to);
        range.map(|s| s.took_us).collect()
    };
    let normal = times(5_000_000, wiped_us);
    let (wiping, during, after) = (times(wiped_us, began_us), times(began_us, ended_us), times(ended_us, u64::MAX));
    let failed = samples.iter().filter(|s| !s.ok).count();
    if failed > 0 {
        report.fail(format!("{failed} writes on the leader failed"));
    }
    let p99 = |times: &[u64]| {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        percentile(&sorted, 99.0)
    };
    let ratio = p99(&during) as f64 / p99(&normal).max(1) as f64;
    report.figure("leader's writes, normal", spread_ms(normal));
    report.figure("leader's writes, while the old files are deleted", spread_ms(wiping));
    report.figure("leader's writes, during the rebuild", spread_ms(during));
    report.figure("leader's writes, after it", spread_ms(after));
    report.figure("p99 during / normal", ratio);
    if ratio > 2.0 {
        report.fail(format!("p99 of the leader's writes rose {ratio:.2} times"));
    }
}

fn check_counts(cluster: &Cluster, report: &mut Report) {
    let sql = r#"["SELECT (SELECT count(*) FROM big), (SELECT count(*) FROM live), (SELECT sum(id * length(data)) FROM big)"]"#;
    let mut answers = Vec::new();
    for at in cluster.awake() {
        let mut client = Client::new(cluster.members[at].http_port).with_timeout(Duration::from_secs(120));
        answers.push(client.post("/db/query?level=none", sql).map_or_else(|e| e.to_string(), |reply| reply.text()));
    }
    if answers.iter().any(|answer| *answer != answers[0] || answer.contains("\"error\"")) {
        report.fail(format!("the copies differ: {answers:?}"));
    }
}
