//! Unique rows, each (client, seq): with an `Idempotency-Key` and retried, without one and sent once, and through the queue.

use super::{WRITE, Worker};
use crate::client::Outcome;

/// Retried with the same key until acknowledged.
pub fn keyed(worker: &mut Worker) {
    run(worker, "keyed insert", &format!("/db/execute?{WRITE}"), true);
}

/// Sent once.
pub fn plain(worker: &mut Worker) {
    run(worker, "plain insert", &format!("/db/execute?{WRITE}"), false);
}

fn run(worker: &mut Worker, kind: &'static str, path: &str, keyed: bool) {
    let how = if keyed { "keyed" } else { "plain" };
    for seq in 0.. {
        if !worker.running() {
            return;
        }
        let body = statement(worker.number, seq, how);
        let row = worker.write_once(kind, seq, path, &body, keyed);
        worker.history.rows.push(row);
        worker.session.think();
    }
}

/// Two of three wait for their batch; the third trusts the queue, whose answer promises nothing.
pub fn queued(worker: &mut Worker) {
    for seq in 0.. {
        if !worker.running() {
            return;
        }
        let wait = worker.session.chance(66);
        let (kind, path) = match wait {
            true => ("queued insert, wait", "/db/execute?queue&wait&timeout=5s"),
            false => ("queued insert", "/db/execute?queue&timeout=5s"),
        };
        let body = statement(worker.number, seq, "queued");
        let mut row = worker.write_once(kind, seq, path, &body, false);
        row.rowid = None;
        if !wait && row.verdict == Outcome::Ok {
            row.verdict = Outcome::Unknown("only queued".into());
        }
        worker.history.rows.push(row);
        worker.session.think();
    }
}

fn statement(client: u64, seq: u64, how: &str) -> String {
    format!(
        r#"[["INSERT INTO rows(client, seq, how, filler) VALUES(?,?,?,?)",{client},{seq},"{how}","some text that fills the row"]]"#
    )
}
