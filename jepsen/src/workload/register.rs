//! Single registers, shared by a few clients each: writes of unique values, compare-and-swap, linearizable and strong reads
//! through any node. A register is left for a new one after some operations, so that its history can be checked whole.

use super::{RegisterCall, RegisterOp, WRITE, Worker};
use crate::client::{Outcome, rows};

/// Operations of one client on one register.
const OPS_PER_KEY: u64 = 25;
/// Clients that share registers.
const GROUP: u64 = 4;
/// Clients of this workload have every eighth number.
const STRIDE: u64 = 8;

pub fn run(worker: &mut Worker) {
    let group = worker.number / STRIDE / GROUP;
    let mut last_seen = 0;
    for count in 0.. {
        if !worker.running() {
            return;
        }
        let key = group * 1_000_000 + count / OPS_PER_KEY;
        if count % OPS_PER_KEY == 0 {
            last_seen = 0;
        }
        let value = (worker.number * 10_000_000 + count + 1) as i64;
        match worker.session.rng.between(0, 99) {
            0..40 => last_seen = read(worker, key).unwrap_or(last_seen),
            40..75 => write(worker, key, value),
            _ => swap(worker, key, last_seen, value),
        }
        worker.session.think();
    }
}

fn read(worker: &mut Worker, key: u64) -> Option<i64> {
    let node = worker.session.any_node();
    let (level, kind) = match worker.session.chance(85) {
        true => ("linearizable", "linearizable read"),
        false => ("strong", "strong read"),
    };
    let path = format!("/db/query?level={level}&timeout=5s&linearizable_timeout=5s");
    let answer =
        worker.session.post(kind, node, &path, &format!(r#"[["SELECT v FROM register WHERE id = ?",{key}]]"#), None);
    if answer.outcome != Outcome::Ok {
        return None;
    }
    let value = rows(&answer.json).first().and_then(|row| row[0].as_i64());
    let call = RegisterCall::Read(value);
    let (began_us, ended_us) = (answer.began_us, answer.ended_us);
    worker.history.registers.push(RegisterOp { key, call, known: true, node, began_us, ended_us });
    value
}

fn write(worker: &mut Worker, key: u64, value: i64) {
    let body = format!(
        r#"[["INSERT INTO register(id, v) VALUES(?,?) ON CONFLICT(id) DO UPDATE SET v = excluded.v",{key},{value}]]"#
    );
    change(worker, key, &body, |_| RegisterCall::Write(value));
}

fn swap(worker: &mut Worker, key: u64, from: i64, to: i64) {
    let body = format!(r#"[["UPDATE register SET v = ? WHERE id = ? AND v = ?",{to},{key},{from}]]"#);
    change(worker, key, &body, |changed| RegisterCall::Swap(from, to, changed));
}

fn change(worker: &mut Worker, key: u64, body: &str, call: impl Fn(Option<bool>) -> RegisterCall) {
    let node = worker.session.any_node();
    let answer = worker.session.post("register write", node, &format!("/db/execute?{WRITE}"), body, None);
    let known = answer.outcome == Outcome::Ok;
    if known {
        worker.acked(&answer);
    }
    if matches!(answer.outcome, Outcome::Fail(_)) {
        // The checker leaves it out: a value of it that is read was never written.
        return;
    }
    // A count of zero is left out of answers.
    let changed = known.then(|| answer.json["results"][0]["rows_affected"].as_i64().unwrap_or(0) > 0);
    let (began_us, ended_us) = (answer.began_us, answer.ended_us);
    let call = call(changed);
    worker.history.registers.push(RegisterOp { key, call, known, node, began_us, ended_us });
}
