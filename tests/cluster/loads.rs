//! Databases and SQL that are loaded through any node of a cluster, while others write.

use crate::group::{Group, LIMIT, local_rows, query, status};
use crate::support::databases::{self, load};
use crate::support::{Node, poll};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a loaded database holds: a table that clients write, with a mark of its own.
fn database(mark: &str, rows: u32) -> Vec<u8> {
    databases::made(&format!(
        "PRAGMA journal_mode = WAL; CREATE TABLE w(n INTEGER PRIMARY KEY, who TEXT);
         INSERT INTO w VALUES(0, '{mark}'); CREATE TABLE large(id INTEGER PRIMARY KEY, x);
         INSERT INTO large(x) WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT {rows})
         SELECT printf('%01000d', n) FROM g"
    ))
}

/// Inserts numbered rows until it is stopped; gives those that were acknowledged, each with its place in the log.
fn write(port: u16, first: u64, stop: &AtomicBool) -> Vec<(u64, u64)> {
    let mut client = crate::support::Client::new(port).with_timeout(LIMIT);
    let mut acknowledged = Vec::new();
    for n in first.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let body = json!([[format!("INSERT INTO w VALUES({n}, 'client')")]]).to_string();
        let Ok(reply) = client.post("/db/execute?raft_index", &body) else { continue };
        if reply.status == 200 && !reply.text().contains("error") {
            acknowledged.push((n, reply.json()["raft_index"].as_u64().expect("an index")));
        }
    }
    acknowledged
}

fn verify_equal(node: &Node) {
    let reply = node.client().with_timeout(LIMIT).post("/verify", "").expect("an answer");
    assert_eq!(reply.json()["equal"], json!(true), "{}", reply.text());
    assert_eq!(reply.json()["nodes"].as_object().map(|nodes| nodes.len()), Some(3), "{}", reply.text());
}

#[test]
fn a_file_is_loaded_through_any_node_and_keeps_its_place_among_the_writes() {
    let group = Group::start("cluster-load", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE w(n INTEGER PRIMARY KEY, who TEXT)", "CREATE TABLE old(x)"]"#);
    let (leader, follower) = (group.leader(), group.follower());
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|at| {
            let (port, stop) = (group.launches[at].http_port, Arc::clone(&stop));
            std::thread::spawn(move || write(port, 1 + at as u64 * 1_000_000, &stop))
        })
        .collect();
    poll("writes", LIMIT, || (group.node(0).number("SELECT count(*) FROM w") > 50).then_some(()));
    let mut last = 0;
    for (through, mark) in [(leader, "by the leader"), (follower, "by a follower")] {
        // More than one entry could hold many times over, and more than what may be on its way at one time.
        let reply = load(group.node(through), "?raft_index", &[], &database(mark, 30_000));
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["results"], json!([]));
        let index = reply.json()["raft_index"].as_u64().expect("an index");
        assert!(index > last);
        last = index;
        let served_by = if through == leader {
            format!("127.0.0.1:{}", group.launches[leader].http_port)
        } else {
            group.raft_address(leader)
        };
        assert_eq!(reply.header("x-rqlite-served-by"), Some(served_by.as_str()));
        let goal = index + 20;
        poll("writes after it", LIMIT, || (crate::group::applied(group.node(leader)) > goal).then_some(()));
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().expect("no panic")).collect();
    let after: Vec<_> = acknowledged.iter().filter(|(_, index)| *index > last).map(|(n, _)| *n).collect();
    let before: Vec<_> = acknowledged.iter().filter(|(_, index)| *index < last).map(|(n, _)| *n).collect();
    assert!(after.len() > 10 && before.len() > 50, "{} {}", after.len(), before.len());
    let rows = group.node(leader).rows("SELECT n FROM w");
    let there: std::collections::BTreeSet<_> = rows.iter().map(|row| row[0].as_u64().expect("a number")).collect();
    assert!(after.iter().all(|n| there.contains(n)), "a write that was acknowledged after the load is missing");
    assert!(before.iter().all(|n| !there.contains(n)), "what the load replaced is back");
    group.assert_equal_copies(&["w"]);
    assert_eq!(local_rows(group.node(follower), "w")[0], json!([0, "by a follower"]));
    verify_equal(group.node(leader));
    for at in 0..3 {
        let left = query(group.node(at), "level=none", "SELECT count(*) FROM sqlite_master WHERE name = 'old'");
        assert_eq!(left["results"][0]["values"], json!([[0]]));
        let files = std::fs::read_dir(group.data(at)).expect("a directory");
        let names: Vec<_> = files.map(|f| f.expect("a file").file_name().into_string().expect("UTF-8")).collect();
        assert!(names.iter().all(|name| !name.contains("loaded")), "{names:?}");
    }
}

#[test]
fn nodes_that_were_down_or_join_later_have_the_loaded_database() {
    let mut group = Group::start("cluster-load-behind", 3, &["-raft-wal-segment-size=1048576"]);
    group.node(0).execute(r#"["CREATE TABLE w(n INTEGER PRIMARY KEY, who TEXT)"]"#);
    let down = group.follower();
    group.kill(down);
    let through = group.leader();
    let reply = load(group.node(through), "", &[("Idempotency-Key", "once")], &database("first", 10));
    assert_eq!((reply.status, reply.text().as_str()), (200, r#"{"results":[]}"#));
    group.restart(down);
    group.assert_equal_copies(&["w", "large"]);
    // So much that the log is let go of behind it: the node gets a copy instead of the parts.
    group.kill(down);
    let reply = load(group.node(through), "", &[], &database("second", 80_000));
    assert_eq!(reply.status, 200, "{}", reply.text());
    poll("the log to be let go of", LIMIT, || {
        let bytes = std::fs::read_dir(group.data(through).join("raft-wal")).ok()?;
        let bytes: u64 = bytes.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum();
        (bytes < 80_000_000).then_some(())
    });
    group.restart(down);
    group.assert_equal_copies(&["w", "large"]);
    // What was loaded once is not loaded again under the same key.
    group.node(through).execute(r#"["INSERT INTO w VALUES(5, 'after')"]"#);
    let reply = load(group.node(down), "", &[("Idempotency-Key", "once")], &database("first", 10));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(group.node(through).number("SELECT count(*) FROM w"), 2);
    let reply = load(group.node(through), "", &[("Idempotency-Key", "once")], &database("another", 10));
    assert!(reply.status == 500 && reply.text().contains("used before"), "{}", reply.text());
    let joined = group.add(&[]);
    poll("the copy", LIMIT, || (local_rows(group.node(joined), "w")[0][1] == "second").then_some(()));
    for at in 0..4 {
        group.kill(at);
    }
    (0..4).for_each(|at| group.spawn(at));
    group.assert_equal_copies(&["w", "large"]);
    verify_equal_among(&group, 4);
}

fn verify_equal_among(group: &Group, nodes: usize) {
    poll("a whole check", LIMIT, || {
        let reply = group.node(0).client().with_timeout(LIMIT).post("/verify", "").ok()?;
        let report: Value = serde_json::from_slice(&reply.body).ok()?;
        assert_ne!(report["equal"], json!(false), "{report}");
        (report["nodes"].as_object()?.len() == nodes && report["equal"] == json!(true)).then_some(())
    });
}

#[test]
fn sql_is_loaded_through_a_follower_and_gives_the_database_that_it_came_from() {
    let group = Group::start("cluster-load-sql", 3, &["-fk"]);
    group.node(0).execute(
        r#"["CREATE TABLE z(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE)",
            "CREATE TABLE a(z REFERENCES z(id), v)", "CREATE INDEX i ON a(v)",
            "CREATE VIEW v AS SELECT name FROM z", "CREATE TRIGGER t AFTER DELETE ON z BEGIN DELETE FROM a; END",
            "CREATE VIRTUAL TABLE f USING fts5(x)", "INSERT INTO f VALUES('quick fox')",
            "INSERT INTO z(name) VALUES('gr\u00fcn'), ('it''s'), (x'00ff')", "INSERT INTO a VALUES(1, 1.5), (NULL, 'x')",
            "ANALYZE"]"#,
    );
    let dump = |at: usize| {
        let reply = group.node(at).client().get("/db/backup?fmt=sql").expect("a whole answer");
        assert_eq!(reply.status, 200);
        reply.body
    };
    let (leader, follower) = (group.leader(), group.follower());
    let before = dump(leader);
    group
        .node(0)
        .execute(r#"["DROP VIEW v", "DROP TABLE f", "DROP TABLE a", "DROP TABLE z", "DELETE FROM sqlite_stat1"]"#);
    let reply = load(group.node(follower), "", &[], &before);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(!reply.text().contains("error"), "{}", reply.text());
    assert_eq!(reply.header("x-rqlite-served-by"), Some(group.raft_address(leader).as_str()));
    assert!(dump(leader) == before && dump(follower) == before);
    group.assert_equal_copies(&["a", "z"]);
    let broken = group.node(0).client().post("/db/execute", r#"["INSERT INTO a VALUES(99, 1)"]"#).expect("an answer");
    assert!(broken.text().contains("FOREIGN KEY constraint failed"), "foreign keys hold again: {}", broken.text());

    let moved = load(group.node(follower), "?redirect", &[], b"SELECT 1");
    let location = format!("http://127.0.0.1:{}/db/load?redirect", group.launches[leader].http_port);
    assert_eq!((moved.status, moved.header("location")), (301, Some(location.as_str())));
    let moved = load(group.node(follower), "?redirect", &[], &database("x", 1));
    assert_eq!((moved.status, moved.header("location")), (301, Some(location.as_str())));
    let refused = group.node(leader).client().call("POST", "/boot", &[], &database("x", 1)).expect("an answer");
    assert_eq!((refused.status, refused.text().as_str()), (503, "not single-node\n"));
    let refused = group.node(follower).client().call("POST", "/boot", &[], &database("x", 1)).expect("an answer");
    assert_eq!((refused.status, refused.text().as_str()), (503, "not leader\n"));
    verify_equal(group.node(leader));
}

#[test]
fn a_leader_that_dies_within_a_load_leaves_the_old_database_or_the_new_one() {
    let mut group = Group::start("cluster-load-failover", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE w(n INTEGER PRIMARY KEY, who TEXT)", "INSERT INTO w VALUES(0, 'old')"]"#);
    let (leader, follower) = (group.leader(), group.follower());
    let port = group.launches[follower].http_port;
    let file = database("new", 60_000);
    let before = crate::group::applied(group.node(follower));
    let loading = std::thread::spawn(move || {
        let mut client = crate::support::Client::new(port).with_timeout(LIMIT);
        client.call("POST", "/db/load?timeout=30s", &[], &file)
    });
    poll("parts of it", LIMIT, || (crate::group::applied(group.node(follower)) > before + 5).then_some(()));
    group.kill(leader);
    let reply = loading.join().expect("no panic").expect("the follower lives");
    // It goes on with the next leader: no part is lost, and none applied twice.
    assert_eq!((reply.status, reply.text().as_str()), (200, r#"{"results":[]}"#));
    group.restart(leader);
    group.assert_equal_copies(&["w", "large"]);
    assert_eq!(group.node(follower).rows("SELECT who FROM w"), [[json!("new")]]);
    assert_eq!(status(group.node(follower), "store.quarantine"), json!({}));
    verify_equal_among(&group, 3);
}
