//! Backups through any node: the leader's state, passed on, or the node's own.

use crate::group::{Group, LIMIT};
use crate::support::{Node, poll};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn backup(node: &Node, query: &str) -> Vec<u8> {
    let reply = node.client().get(&format!("/db/backup{query}")).expect("a whole answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.body
}

#[test]
fn a_backup_taken_through_a_follower_is_the_leaders_and_may_be_its_own() {
    let mut group = Group::start("cluster-backup", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(id INTEGER PRIMARY KEY, x)", "INSERT INTO t(x) VALUES('kept')"]"#);
    // More than what may be on its way at one time.
    let fill = "INSERT INTO t(x) WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT 100) SELECT randomblob(60000) FROM g";
    group.node(0).execute(&serde_json::json!([fill]).to_string());
    group.assert_equal_copies(&["t"]);
    let (leader, follower) = (group.leader(), group.follower());
    let sql = backup(group.node(leader), "?fmt=sql");
    assert!(sql.len() > 10_000_000 && sql.ends_with(b"COMMIT;\n"));
    for query in ["?fmt=sql", "?fmt=sql&noleader"] {
        assert!(backup(group.node(follower), query) == sql, "{query}");
    }
    for (query, journal) in [("", 2), ("?fmt=delete", 1), ("?vacuum", 1)] {
        let file = backup(group.node(follower), query);
        assert!(file.starts_with(b"SQLite format 3\0") && file[18..20] == [journal, journal], "{query}");
        assert!(!file.windows(16).any(|at| at == b"sqlite_ferrolite"), "{query}");
    }
    let moved = group.node(follower).client().get("/db/backup?redirect&fmt=sql").expect("an answer");
    let location = format!("http://127.0.0.1:{}/db/backup?redirect&fmt=sql", group.launches[leader].http_port);
    assert_eq!((moved.status, moved.header("location")), (301, Some(location.as_str())));

    // Without a leader there is only the node's own.
    for at in (0..3).filter(|at| *at != follower) {
        group.kill(at);
    }
    let node = group.node(follower);
    poll("the leader to be missed", LIMIT, || {
        let reply = node.client().get("/db/backup?fmt=sql&timeout=1s").ok()?;
        (reply.status == 503 && reply.text() == "leader not found\n").then_some(())
    });
    assert!(backup(node, "?fmt=sql&noleader") == sql);
}

#[test]
fn a_passed_on_backup_whose_leader_dies_ends_without_its_last_chunk() {
    let mut group = Group::start("cluster-backup-cut", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(x)"]"#);
    let fill = "INSERT INTO t(x) WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT 200) SELECT randomblob(60000) FROM g";
    for _ in 0..5 {
        group.node(0).execute(&serde_json::json!([fill]).to_string());
    }
    let (leader, follower) = (group.leader(), group.follower());
    let mut stream = TcpStream::connect(("127.0.0.1", group.launches[follower].http_port)).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
    stream.write_all(b"GET /db/backup HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    let mut answer = vec![0; 4096];
    let got = stream.read(&mut answer).expect("it begins");
    assert!(answer[..got].starts_with(b"HTTP/1.1 200"));
    // The file is larger than all that the kernels on the way can hold, and nothing more is read: it cannot be through.
    group.kill(leader);
    let mut rest = Vec::new();
    // A reset is as good as an end.
    let _ = stream.read_to_end(&mut rest);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a part must not pass for the whole");
}
