//! Serving through any node, and what is promised when the leader goes.

use crate::group::{Group, LIMIT, applied, execute_until_done, local_rows, query};
use crate::support::{Node, poll};
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn every_node_takes_writes_and_reads_and_all_copies_are_equal() {
    let group = Group::start("cluster-serving", 3, &[]);
    group
        .node(1)
        .execute(r#"["CREATE TABLE t(id INTEGER PRIMARY KEY, r DEFAULT (random()), at DEFAULT CURRENT_TIMESTAMP)"]"#);
    for n in 0..30 {
        let results = group.node(n % 3).execute(r#"["INSERT INTO t DEFAULT VALUES"]"#);
        assert_eq!(results[0]["last_insert_id"], n + 1);
    }
    for level in ["weak", "linearizable", "strong", "auto"] {
        for at in 0..3 {
            let answer = query(group.node(at), &format!("level={level}"), "SELECT count(*) FROM t");
            assert_eq!(answer["results"][0]["values"], json!([[30]]), "{level} on n{}", at + 1);
        }
    }
    group.assert_equal_copies(&["t"]);
}

#[test]
fn a_read_with_min_index_sees_the_write_on_another_node() {
    let group = Group::start("cluster-min-index", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(x)"]"#);
    for n in 1..=50 {
        let body = format!("[\"INSERT INTO t VALUES({n})\"]");
        let reply = group.node(n % 3).client().post("/db/execute?raft_index", &body).expect("an answer");
        let index = reply.json()["raft_index"].as_u64().expect("the place in the log");
        let answer = query(group.node((n + 1) % 3), &format!("level=none&min_index={index}"), "SELECT max(x) FROM t");
        assert_eq!(answer["results"][0]["values"], json!([[n]]));
    }
    let began = Instant::now();
    let answer = query(group.node(1), "level=none&timeout=50ms&min_index=1000000000", "SELECT 1");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(answer["error"], "index 1000000000: timeout waiting for fsm");
}

fn execute_as(node: &Node, key: &str, statement: &str) -> serde_json::Value {
    let body = json!([statement]).to_string();
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
    let reply = node.client().call("POST", "/db/execute?raft_index", &headers, body.as_bytes()).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

#[test]
fn a_request_with_a_key_is_done_once_however_often_and_wherever_it_is_sent() {
    let mut group = Group::start("cluster-keys", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(id INTEGER PRIMARY KEY, x)"]"#);
    let insert = "INSERT INTO t(x) VALUES(7)";
    let first = execute_as(group.node(1), "order-1", insert);
    assert_eq!(first["results"][0]["last_insert_id"], 1);
    for at in 0..3 {
        assert_eq!(execute_as(group.node(at), "order-1", insert), first, "n{}", at + 1);
    }
    let other = execute_as(group.node(2), "order-1", "DELETE FROM t");
    assert!(other["error"].as_str().is_some_and(|e| !e.is_empty()), "{other}");
    // The next leader knows it as well.
    let leader = group.leader();
    group.kill(leader);
    let survivor = group.follower();
    assert_eq!(execute_as(group.node(survivor), "order-1", insert), first);
    assert_eq!(execute_as(group.node(survivor), "order-2", insert)["results"][0]["last_insert_id"], 2);
}

#[test]
fn the_cluster_goes_on_without_its_leader_and_takes_it_back() {
    let mut group = Group::start("cluster-failover", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]"#);
    let leader = group.leader();
    group.kill(leader);
    let began = Instant::now();
    let survivor = (leader + 1) % 3;
    execute_until_done(group.node(survivor), "INSERT INTO t SELECT 2 WHERE NOT EXISTS (SELECT 1 FROM t WHERE x = 2)");
    println!("writes again after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(10));
    group.restart(leader);
    group.assert_equal_copies(&["t"]);
    assert_eq!(local_rows(group.node(leader), "t"), json!([[1], [2]]));
}

#[test]
fn without_a_quorum_nothing_is_acknowledged_and_only_level_none_is_read() {
    let mut group = Group::start("cluster-no-quorum", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]"#);
    group.assert_equal_copies(&["t"]);
    let left = group.leader();
    for at in 0..3 {
        if at != left {
            group.kill(at);
        }
    }
    let node = group.node(left);
    poll("the leader to give up", LIMIT, || {
        let reply = node.client().post("/db/query?level=linearizable&timeout=1s", r#"["SELECT 1"]"#).ok()?;
        (reply.status == 503).then_some(())
    });
    let reply = node.client().post("/db/execute?timeout=1s", r#"["INSERT INTO t VALUES(2)"]"#).expect("an answer");
    assert_eq!((reply.status, reply.text().as_str()), (503, "leader not found\n"));
    assert_eq!(local_rows(node, "t"), json!([[1]]));
}

#[test]
fn leadership_moves_on_request_and_at_a_clean_stop_without_a_gap() {
    let mut group = Group::start("cluster-transfer", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(x)"]"#);
    let reply = group.node(1).client().post("/leader?wait", r#"{"id":"n3"}"#).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(group.leader(), 2);
    let before = applied(group.node(0));
    group.stop(2);
    let began = Instant::now();
    execute_until_done(group.node(0), "INSERT INTO t VALUES(1)");
    println!("writes again {:?} after the stop", began.elapsed());
    assert!(applied(group.node(0)) > before);
    group.restart(2);
    group.assert_equal_copies(&["t"]);
}
