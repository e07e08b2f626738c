//! Lists that only grow, shared by all clients of this workload; read whole at every level through any node.

use super::{AppendOp, ListRead, WRITE, Worker};
use crate::client::{Outcome, rows};

/// Operations of one client on one list.
const OPS_PER_KEY: u64 = 40;
const LEVELS: [&str; 4] = ["linearizable", "strong", "weak", "none"];

pub fn run(worker: &mut Worker) {
    for count in 0.. {
        if !worker.running() {
            return;
        }
        let key = count / OPS_PER_KEY;
        if worker.session.chance(50) {
            append(worker, key, count);
        } else {
            read(worker, key);
        }
        worker.session.think();
    }
}

fn append(worker: &mut Worker, key: u64, seq: u64) {
    let value = (worker.number, seq);
    let body = format!(r#"[["INSERT INTO appends(k, client, seq) VALUES(?,?,?)",{key},{},{}]]"#, value.0, value.1);
    let keyed = worker.session.chance(50);
    let once = worker.write_once("append", seq, &format!("/db/execute?{WRITE}"), &body, keyed);
    let (began_us, ended_us) = (once.began_us, once.ended_us);
    worker.history.appends.push(AppendOp { key, value, verdict: once.verdict, began_us, ended_us });
}

fn read(worker: &mut Worker, key: u64) {
    let node = worker.session.any_node();
    let level = LEVELS[worker.session.rng.between(0, 3) as usize];
    let life = worker.session.context.life(node);
    let path = format!("/db/query?level={level}&timeout=5s&linearizable_timeout=5s");
    let body = format!(r#"[["SELECT client, seq FROM appends WHERE k = ? ORDER BY rowid",{key}]]"#);
    let answer = worker.session.post("list read", node, &path, &body, None);
    if answer.outcome != Outcome::Ok {
        return;
    }
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or(u64::MAX);
    let list = rows(&answer.json).iter().map(|row| (number(&row[0]), number(&row[1]))).collect();
    let (reader, began_us, ended_us) = (worker.number, answer.began_us, answer.ended_us);
    worker.history.list_reads.push(ListRead { key, level, reader, node, life, list, began_us, ended_us });
}
