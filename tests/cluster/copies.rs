//! Copies of the database: for those who are far behind, and instead of one that went wrong.

use crate::group::{Group, LIMIT, status};
use crate::support::poll;
use serde_json::{Value, json};

/// A log that is let go of quickly.
const SHORT_LOG: [&str; 4] =
    ["-raft-snap=20", "-raft-snap-int=100ms", "-raft-snap-wal-size=0", "-raft-wal-segment-size=65536"];

fn write_rows(group: &Group, at: usize, count: usize) {
    for _ in 0..count {
        group.node(at).execute(r#"["INSERT INTO t(x) VALUES(hex(randomblob(2000)))"]"#);
    }
}

#[test]
fn a_node_whom_the_log_does_not_reach_gets_a_copy() {
    let mut group = Group::start("cluster-copy", 3, &SHORT_LOG);
    group.node(0).execute(r#"["CREATE TABLE t(id INTEGER PRIMARY KEY, x)"]"#);
    let leader = group.leader();
    let behind = group.follower();
    group.kill(behind);
    write_rows(&group, leader, 400);
    let lost = poll("the log to be let go of", LIMIT, || {
        let first = status(group.node(leader), "store.raft.last_snapshot_index").as_u64()?;
        (first > 300).then_some(first)
    });
    println!("the log is gone up to {lost}");
    group.restart(behind);
    group.assert_equal_copies(&["t"]);
    write_rows(&group, leader, 5);
    group.assert_equal_copies(&["t"]);
    // It stands on its own feet after a restart.
    group.kill(behind);
    group.restart(behind);
    group.assert_equal_copies(&["t"]);
}

fn verify(group: &Group, at: usize) -> Value {
    let reply = group.node(at).client().post("/verify", "").expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// Stops a node and changes a row in its file behind its back.
fn falsify(group: &mut Group, victim: usize) {
    group.assert_equal_copies(&["t"]);
    group.stop(victim);
    // A clean stop has moved everything into the database file.
    let _ = std::fs::remove_file(group.data(victim).join("db.sqlite-wal"));
    let file = group.data(victim).join("db.sqlite");
    let mut bytes = std::fs::read(&file).expect("the database is there");
    let needle = b"value-number-0007";
    let at = bytes.windows(needle.len()).position(|window| window == needle).expect("a checkpoint put it there");
    bytes[at..at + 5].copy_from_slice(b"WRONG");
    std::fs::write(&file, bytes).expect("nobody else uses it");
    group.restart(victim);
}

#[test]
fn a_copy_that_went_wrong_is_found_and_replaced() {
    let mut group = Group::start("cluster-diverged", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(id INTEGER PRIMARY KEY, x)"]"#);
    for n in 0..20 {
        group.node(0).execute(&format!("[\"INSERT INTO t(x) VALUES('value-number-{n:04}')\"]"));
    }
    let report = verify(&group, 1);
    assert_eq!((&report["equal"], &report["diverged"]), (&json!(true), &json!([])), "{report}");
    assert_eq!(report["nodes"].as_object().map(|nodes| nodes.len()), Some(3));

    let victim = group.follower();
    falsify(&mut group, victim);

    let report = verify(&group, victim);
    assert_eq!(
        (&report["equal"], &report["diverged"]),
        (&json!(false), &json!([format!("n{}", victim + 1)])),
        "{report}"
    );
    poll("the copy to be replaced", LIMIT, || {
        let rows = crate::group::local_rows(group.node(victim), "t");
        // It reads nothing until then.
        let row = rows.as_array().and_then(|rows| rows.get(7));
        row.is_some_and(|row| row[1] == "value-number-0007").then_some(())
    });
    poll("the node to serve again", LIMIT, || {
        let reply = group.node(victim).client().get("/readyz").ok()?;
        (reply.status == 200).then_some(())
    });
    let report = verify(&group, 0);
    assert_eq!(report["equal"], json!(true), "{report}");
    group.assert_equal_copies(&["t"]);
}

#[test]
fn a_node_in_quarantine_says_so_in_its_status_until_it_has_another_copy() {
    let mut group = Group::start("cluster-quarantine", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(id INTEGER PRIMARY KEY, x)"]"#);
    let victim = group.follower();
    (0..3).for_each(|at| group.kill(at));
    let mark = "the database differs from the majority's at index 7";
    std::fs::write(group.data(victim).join("quarantine"), mark).expect("the directory is there");
    group.spawn(victim);
    poll("the alarm", LIMIT, || {
        let reply = group.node(victim).client().get("/status?key=store.quarantine").ok()?;
        (reply.json() == mark).then_some(())
    });
    assert_eq!(group.node(victim).client().get("/readyz").expect("an answer").status, 503);
    (0..3).filter(|at| *at != victim).for_each(|at| group.spawn(at));
    poll("another copy", LIMIT, || (status(group.node(victim), "store.quarantine") == json!({})).then_some(()));
    group.assert_equal_copies(&["t"]);
}

#[test]
fn a_leader_whose_copy_went_wrong_acknowledges_nothing_on_it_and_hands_over() {
    let mut group = Group::start("cluster-diverged-leader", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(id INTEGER PRIMARY KEY, x)"]"#);
    for n in 0..20 {
        group.node(0).execute(&format!("[\"INSERT INTO t(x) VALUES('value-number-{n:04}')\"]"));
    }
    let victim = group.follower();
    falsify(&mut group, victim);
    let to_victim = json!({ "id": format!("n{}", victim + 1) }).to_string();
    poll("the victim to lead", LIMIT, || {
        let reply = group.node(victim).client().post("/leader?wait", &to_victim).ok()?;
        (reply.status == 200 || group.leader() == victim).then_some(())
    });
    let report = verify(&group, (victim + 1) % 3);
    assert_eq!(report["diverged"], json!([format!("n{}", victim + 1)]), "{report}");
    // Whoever leads by now: what is acknowledged is there.
    for n in 0..20 {
        let insert = format!("INSERT OR REPLACE INTO t VALUES({}, 'late')", 100 + n);
        crate::group::execute_until_done(group.node(n % 3), &insert);
    }
    poll("another leader", LIMIT, || (group.leader() != victim).then_some(()));
    poll("the victim to serve again", LIMIT, || {
        let reply = group.node(victim).client().get("/readyz").ok()?;
        (reply.status == 200).then_some(())
    });
    group.assert_equal_copies(&["t"]);
    let rows = crate::group::local_rows(group.node(victim), "t");
    assert_eq!((rows[7][1].as_str(), rows.as_array().map(Vec::len)), (Some("value-number-0007"), Some(40)));
}
