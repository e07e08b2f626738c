//! Transfers between accounts, each one transaction with a line in the table of transfers; reads of the sum.
//!
//! Whatever is done twice, in part or not at all shows: the sum is constant, and each balance follows from the lines.

use super::{BankRead, WRITE, Worker};
use crate::client::{Outcome, rows};

pub const ACCOUNTS: u64 = 8;
pub const START_BALANCE: i64 = 1000;
const LEVELS: [&str; 4] = ["weak", "linearizable", "strong", "none"];

pub fn run(worker: &mut Worker) {
    let mut seq = 0;
    while worker.running() {
        if worker.session.chance(40) {
            read(worker);
        } else {
            transfer(worker, seq);
            seq += 1;
        }
        worker.session.think();
    }
}

fn transfer(worker: &mut Worker, seq: u64) {
    let rng = &mut worker.session.rng;
    let (source, amount) = (rng.between(1, ACCOUNTS), rng.between(1, 5));
    let target = (source + rng.between(1, ACCOUNTS - 1) - 1) % ACCOUNTS + 1;
    let number = worker.number;
    let body = format!(
        r#"[["INSERT INTO transfers(client, seq, source, target, amount) VALUES(?,?,?,?,?)",{number},{seq},{source},{target},{amount}],
            ["UPDATE bank SET balance = balance - ? WHERE id = ?",{amount},{source}],
            ["UPDATE bank SET balance = balance + ? WHERE id = ?",{amount},{target}]]"#
    );
    let path = format!("/db/execute?transaction&{WRITE}");
    let keyed = worker.session.chance(70);
    let kind = if keyed { "keyed transfer" } else { "plain transfer" };
    let row = worker.write_once(kind, seq, &path, &body, keyed);
    worker.history.transfers.push(row);
}

fn read(worker: &mut Worker) {
    let node = worker.session.any_node();
    let level = LEVELS[worker.session.rng.between(0, 3) as usize];
    let path = format!("/db/query?level={level}&timeout=5s");
    let answer = worker.session.post("bank read", node, &path, r#"["SELECT sum(balance), count(*) FROM bank"]"#, None);
    if answer.outcome != Outcome::Ok {
        return;
    }
    let row = rows(&answer.json).into_iter().next().unwrap_or_default();
    let number = |at: usize| row.get(at).and_then(serde_json::Value::as_i64);
    worker.history.bank_reads.push(BankRead {
        node,
        level,
        total: number(0).unwrap_or(0),
        accounts: number(1).unwrap_or(0),
        began_us: answer.began_us,
    });
}
