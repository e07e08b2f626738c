//! Read your writes: a client writes through one node and reads its row through another with `min_index`; and reads of
//! level `none` on one node, which may be old but never go back.

use super::{OwnRead, WRITE, Worker};
use crate::client::{Outcome, rows};

pub fn run(worker: &mut Worker) {
    let (mut floor, mut index) = (0i64, None);
    for seq in 1.. {
        if !worker.running() {
            return;
        }
        let node = worker.session.any_node();
        // A write of unknown outcome may come late; it must not put an old value back.
        let body = format!(
            r#"[["INSERT INTO mine(client, v) VALUES(?,?) ON CONFLICT(client) DO UPDATE SET v = max(v, excluded.v)",{},{seq}]]"#,
            worker.number
        );
        let answer = worker.session.post("own write", node, &format!("/db/execute?{WRITE}"), &body, None);
        if answer.outcome == Outcome::Ok {
            worker.acked(&answer);
            floor = seq;
            index = answer.json["raft_index"].as_u64().or(index);
        }
        if let Some(index) = index {
            read(worker, Some(index), floor, seq);
        }
        read(worker, None, floor, seq);
        worker.session.think();
    }
}

fn read(worker: &mut Worker, min_index: Option<u64>, floor: i64, ceiling: i64) {
    let node = worker.session.any_node();
    let life = worker.session.context.life(node);
    let (kind, path) = match min_index {
        Some(index) => ("own read, min_index", format!("/db/query?level=none&min_index={index}&timeout=3s")),
        None => ("own read, none", "/db/query?level=none".to_owned()),
    };
    let body = format!(r#"[["SELECT v FROM mine WHERE client = ?",{}]]"#, worker.number);
    let answer = worker.session.post(kind, node, &path, &body, None);
    if answer.outcome != Outcome::Ok {
        return;
    }
    let value = rows(&answer.json).first().and_then(|row| row[0].as_i64()).unwrap_or(0);
    let (client, began_us) = (worker.number, answer.began_us);
    worker.history.own_reads.push(OwnRead { client, node, min_index, life, value, floor, ceiling, began_us });
}
