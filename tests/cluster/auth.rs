//! Credentials on real nodes: at the API, at the door for other nodes, and in what one node passes on to another.

use crate::group::{Group, LIMIT, status};
use crate::support::{Launch, Node, Reply, TempDir, poll};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::PathBuf;

/// What the tests themselves look at.
const EVERYBODY: (&str, &[&str]) = ("*", &["ready", "status"]);

/// Stands in every password, and must not stand in any log.
const SECRET: &str = "s3cret";

/// A file with these users and their permissions.
fn credentials(dir: &TempDir, name: &str, users: &[(&str, &[&str])]) -> String {
    let user = |(name, perms): &(&str, &[&str])| json!({"username": name, "password": format!("{name}-{SECRET}"), "perms": perms});
    let users: Vec<Value> = [EVERYBODY].iter().chain(users).map(user).collect();
    let path: PathBuf = dir.path().join(name);
    std::fs::write(&path, json!(users).to_string()).expect("the file can be written");
    format!("-auth={}", path.display())
}

fn call_as(node: &Node, user: &str, method: &str, path: &str, body: &str) -> Reply {
    let authorization = format!("Basic {}", STANDARD.encode(format!("{user}:{user}-{SECRET}")));
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    node.client().call(method, path, &headers, body.as_bytes()).expect("the node answers")
}

fn execute_as(node: &Node, user: &str, statement: &str) {
    let reply = call_as(node, user, "POST", "/db/execute", &json!([statement]).to_string());
    assert!(reply.status == 200 && !reply.text().contains("\"error\""), "{statement}: {}", reply.text());
}

fn assert_discreet(group: &Group) {
    for node in group.nodes.iter().flatten() {
        assert!(!node.log().contains(SECRET), "{}", node.log());
    }
}

fn members(node: &Node) -> usize {
    status(node, "store.nodes").as_array().map_or(0, Vec::len)
}

/// Starts one more node that must not get in; gives its log.
fn refused(group: &Group, name: &str, flags: &[&str]) -> String {
    let dir = TempDir::new(name);
    let join = format!("-join={}", group.raft_address(0));
    let flags: Vec<&str> = ["-node-id=x", &join, "-join-attempts=1"].iter().chain(flags).copied().collect();
    let exit = Launch::new(&dir.path().join("x"), &flags).spawn().wait_exit();
    assert_eq!(exit.code, Some(1), "{}", exit.log);
    assert!(exit.log.contains("clustering failure: failed to join cluster"), "{}", exit.log);
    assert!(!exit.log.contains(SECRET), "{}", exit.log);
    exit.log
}

#[test]
fn each_permission_opens_its_own_endpoints() {
    let dir = TempDir::new("auth-endpoints");
    let endpoints = [
        ("execute", "POST", "/db/execute", r#"["CREATE TABLE IF NOT EXISTS t(x)"]"#),
        ("query", "GET", "/db/query?q=SELECT%201", ""),
        ("query", "GET", "/db/sql?q=SELECT%201", ""),
        ("backup", "GET", "/db/backup?fmt=sql", ""),
        ("load", "POST", "/db/load", "SELECT 1"),
        ("load", "POST", "/boot", "x"),
        ("snapshot", "POST", "/snapshot", ""),
        ("snapshot", "POST", "/reap", ""),
        ("snapshot", "POST", "/verify", ""),
        ("remove", "DELETE", "/remove", r#"{"id":"x"}"#),
        ("status", "GET", "/status", ""),
        ("status", "GET", "/nodes", ""),
        ("status", "GET", "/licenses", ""),
        ("status", "GET", "/debug/vars", ""),
        ("status", "GET", "/debug/pprof/cmdline", ""),
        ("leader-ops", "GET", "/leader", ""),
        ("ready", "GET", "/readyz", ""),
        ("ui", "GET", "/console/", ""),
    ];
    let users = ["all", "execute", "query", "backup", "load", "snapshot", "remove", "leader-ops", "ui", "join"];
    let granted: Vec<(&str, &[&str])> = users.iter().map(|user| (*user, std::slice::from_ref(user))).collect();
    let node = Node::start(&dir.path().join("n"), &[&credentials(&dir, "credentials", &granted)]);
    for (needed, method, path, body) in endpoints {
        for user in users {
            let reply = call_as(&node, user, method, path, body);
            let expected = user == "all" || user == needed || EVERYBODY.1.contains(&needed);
            assert_eq!(reply.status != 401, expected, "{user}: {method} {path} gives {}", reply.status);
            assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"rqlite\""));
        }
        let stranger = node.client().call(method, path, &[], body.as_bytes()).expect("an answer");
        assert_eq!(stranger.status != 401, EVERYBODY.1.contains(&needed), "{method} {path}");
        assert!(stranger.status != 401 || stranger.body.is_empty(), "{method} {path}");
    }
    assert_eq!(status(&node, "http.auth"), "enabled");
    let vars = node.client().get("/debug/vars?key=http").expect("an answer").json();
    assert!(vars["http"]["auth_ok"].as_u64() > Some(0) && vars["http"]["auth_fail"].as_u64() > Some(0), "{vars}");
}

#[test]
fn joining_takes_the_permission_for_what_the_node_is_to_be() {
    let dir = TempDir::new("auth-join-files");
    let users: [(&str, &[&str]); 5] = [
        ("root", &["all"]),
        ("voter", &["join"]),
        ("reader", &["join-read-only"]),
        ("replica", &["join-read-replica"]),
        ("writer", &["execute", "query", "remove", "load"]),
    ];
    let auth = credentials(&dir, "credentials", &users);
    let mut group = Group::start("auth-join", 1, &[&auth]);

    let log = refused(&group, "auth-nobody", &[]);
    let at = group.raft_address(0);
    let line = format!("failed to join via node at {at}: unauthorized");
    assert!(log.contains(&format!("{line} (did you forget to set -join-as?)\n")), "{log}");
    for (user, kind) in [("writer", ""), ("reader", ""), ("voter", "-raft-non-voter"), ("writer", "-raft-non-voter")] {
        let join_as = format!("-join-as={user}");
        let flags: Vec<&str> = [auth.as_str(), &join_as, kind].into_iter().filter(|flag| !flag.is_empty()).collect();
        let log = refused(&group, "auth-refused", &flags);
        assert!(log.contains(&format!("{line}\n")), "{user} {kind}: {log}");
    }
    assert_eq!(members(group.node(0)), 1);

    group.add(&[&auth, "-join-as=voter"]);
    group.add(&[&auth, "-join-as=root"]);
    group.wait_voters(3);
    group.add(&[&auth, "-join-as=reader", "-raft-non-voter"]);
    group.add(&[&auth, "-join-as=replica", "-raft-non-voter"]);
    poll("five members", LIMIT, || (members(group.node(0)) == 5).then_some(()));
    group.wait_voters(3);

    // Who may bring in replicas must not take the place of a voter that is down.
    group.kill(1);
    let leader = group.leader();
    let join = format!("-join={}", group.raft_address(leader));
    let empty = TempDir::new("auth-usurper");
    let flags = ["-node-id=n2", &join, &auth, "-join-as=reader", "-raft-non-voter", "-join-attempts=1"];
    let exit = Launch::new(&empty.path().join("n2"), &flags).spawn().wait_exit();
    assert!(exit.code == Some(1) && exit.log.contains(": unauthorized\n"), "{}", exit.log);
    // A member that starts again tells where it is, in the same name as before.
    group.restart(1);
    poll("its announcement", LIMIT, || group.node(1).log().contains("successfully joined cluster at").then_some(()));
}

#[test]
fn a_group_forms_itself_of_those_only_that_may_join() {
    let dir = TempDir::new("auth-form-files");
    let auth = credentials(&dir, "credentials", &[("node", &["join"])]);
    let mut group = Group::plan("auth-form");
    for at in 0..3 {
        group.launches.push(Launch::new(&group.data(at), &[]));
        group.nodes.push(None);
    }
    let join = format!("-join={}", [0, 1, 2].map(|at| group.raft_address(at)).join(","));
    let flags = ["-bootstrap-expect=3", join.as_str(), auth.as_str()];
    let named = [&flags[..], &["-join-as=node"]].concat();
    for at in 0..3 {
        group.replan(at, if at == 2 { &flags } else { &named });
        group.spawn(at);
    }
    poll("the refusal", LIMIT, || {
        let log = group.node(2).log();
        let refused = |at: usize| format!("failed to notify node at {}: unauthorized", group.raft_address(at));
        (log.contains(&refused(0)) && log.contains(&refused(1))).then_some(())
    });
    for at in 0..3 {
        assert!(!group.node(at).log().contains("reached expected bootstrap count"), "{}", group.node(at).log());
    }
    group.kill(2);
    group.replan(2, &named);
    group.spawn(2);
    for node in group.nodes.iter_mut().flatten() {
        node.wait_ready();
    }
    group.wait_voters(3);
}

fn lead_through_n1(group: &Group) {
    poll("n1 to lead", LIMIT, || {
        let leader = group.leader();
        if leader != 0 {
            call_as(group.node(leader), "root", "POST", "/leader?wait", r#"{"id":"n1"}"#);
        }
        (leader == 0).then_some(())
    });
}

/// Three nodes, of which the first leads, and lets its users do less than the others do.
fn divided(name: &str, dir: &TempDir, more: &[&str]) -> Group {
    let strict: [(&str, &[&str]); 3] = [("root", &["all"]), ("half", &["query"]), ("guest", &[])];
    let lax: [(&str, &[&str]); 3] = [("root", &["all"]), ("half", &["query", "execute"]), ("guest", &["all"])];
    let (strict, lax) = (credentials(dir, "strict", &strict), credentials(dir, "lax", &lax));
    let mut group = Group::plan(name);
    for auth in [&strict, &lax, &lax] {
        let flags = [&[auth.as_str(), "-join-as=root"], more].concat();
        group.add(&flags);
    }
    group.wait_voters(3);
    lead_through_n1(&group);
    group
}

#[test]
fn the_leader_looks_at_the_caller_of_what_is_passed_on() {
    let dir = TempDir::new("auth-forward-files");
    let group = divided("auth-forward", &dir, &[]);
    let (leader, follower) = (group.node(0), group.node(1));
    execute_as(leader, "root", "CREATE TABLE t(x)");
    let (select, insert) = (r#"["SELECT count(*) FROM t"]"#, r#"["INSERT INTO t VALUES(1)"]"#);
    let passed_on = [
        ("POST", "/db/execute", insert, "Execute"),
        ("POST", "/db/query?level=weak", select, "query"),
        ("POST", "/db/query?level=linearizable", select, "query"),
        ("POST", "/db/query?level=strong", select, "query"),
        ("POST", "/db/request", insert, "Request"),
        ("POST", "/db/request", select, "Request"),
        ("GET", "/db/backup", "", "backup"),
        ("GET", "/db/backup?fmt=sql", "", "backup"),
        ("POST", "/verify", "", "verify"),
        ("DELETE", "/remove", r#"{"id":"stranger"}"#, "remove node"),
        ("POST", "/leader", r#"{"id":"n1"}"#, "stepdown"),
    ];
    let load = ("POST", "/db/load", "INSERT INTO t VALUES(1)", "load");
    for (method, path, body, what) in passed_on.into_iter().chain([load]) {
        let reply = call_as(follower, "guest", method, path, body);
        let refusal = format!("remote {what} not authorized\n");
        assert_eq!((reply.status, reply.text()), (401, refusal), "{method} {path}");
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"), "{method} {path}");
        assert_eq!(reply.header("x-rqlite-served-by"), None, "{method} {path}");
        // Whom the first node does not know, no other is asked about.
        let reply = call_as(follower, "stranger", method, path, body);
        assert_eq!((reply.status, reply.text().as_str()), (401, ""), "{method} {path}");
    }
    assert_eq!(rows(leader), json!([[0]]));
    for (path, body, status) in [
        ("/db/query", select, 200),
        ("/db/request", select, 401),
        ("/db/execute", insert, 401),
        // What this node does by itself it decides by itself.
        ("/db/query?level=none", select, 200),
    ] {
        assert_eq!(call_as(follower, "half", "POST", path, body).status, status, "{path}");
    }
    for (method, path, body, what) in passed_on {
        let reply = call_as(follower, "root", method, path, body);
        // Of a hand-over to the leader itself the leader says so.
        let expected = if what == "stepdown" { 500 } else { 200 };
        assert_eq!(reply.status, expected, "{method} {path}: {}", reply.text());
        if path.starts_with("/db/") && what != "backup" {
            let leader = group.raft_address(0);
            assert_eq!(reply.header("x-rqlite-served-by"), Some(leader.as_str()), "{path}");
        }
    }
    assert_eq!(rows(leader), json!([[2]]));
    assert_discreet(&group);
}

fn rows(node: &Node) -> Value {
    let reply = call_as(node, "root", "POST", "/db/query?level=strong", r#"["SELECT count(*) FROM t"]"#);
    reply.json()["results"][0]["values"].clone()
}

#[test]
fn a_queued_write_is_passed_on_in_its_callers_name_and_a_refused_one_stops_no_other() {
    let dir = TempDir::new("auth-queue-files");
    // Two requests make a batch, so that both stand in one.
    let group = divided("auth-queue", &dir, &["-write-queue-batch-size=2", "-write-queue-timeout=60s"]);
    let (leader, follower) = (group.node(0), group.node(1));
    execute_as(leader, "root", "CREATE TABLE t(x)");
    let insert = |value: u32| format!("[\"INSERT INTO t VALUES({value})\"]");
    let values = || {
        let reply = call_as(leader, "root", "POST", "/db/query?level=strong", r#"["SELECT x FROM t ORDER BY rowid"]"#);
        reply.json()["results"][0]["values"].clone()
    };
    // Both of one caller.
    call_as(follower, "root", "POST", "/db/execute?queue", &insert(1));
    let reply = call_as(follower, "root", "POST", "/db/execute?queue&wait", &insert(2));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(values(), json!([[1], [2]]));
    // The refused one first, and last.
    call_as(follower, "guest", "POST", "/db/execute?queue", &insert(3));
    let reply = call_as(follower, "root", "POST", "/db/execute?queue&wait", &insert(4));
    assert_eq!(reply.status, 200, "{}", reply.text());
    call_as(follower, "root", "POST", "/db/execute?queue", &insert(5));
    let reply = call_as(follower, "guest", "POST", "/db/execute?queue&wait", &insert(6));
    assert_eq!((reply.status, reply.text().as_str()), (401, "remote Execute not authorized\n"));
    assert_eq!(values(), json!([[1], [2], [4], [5]]));
    // And the queue goes on.
    call_as(follower, "root", "POST", "/db/execute?queue", &insert(7));
    let reply = call_as(follower, "root", "POST", "/db/execute?queue&wait", &insert(8));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(values(), json!([[1], [2], [4], [5], [7], [8]]));
    let dropped = follower.log().matches("queued writes dropped, they cannot be written: remote Execute").count();
    assert_eq!(dropped, 2, "{}", follower.log());
    assert_discreet(&group);
}

#[test]
fn a_node_leaves_in_the_name_in_which_it_joined() {
    let dir = TempDir::new("auth-leave-files");
    let auth =
        credentials(&dir, "credentials", &[("root", &["all"]), ("comer", &["join"]), ("goer", &["join", "remove"])]);
    let mut group = Group::start("auth-leave", 1, &[&auth]);
    for join_as in ["-join-as=comer", "-join-as=goer"] {
        group.add(&[&auth, join_as, "-raft-cluster-remove-shutdown"]);
    }
    group.wait_voters(3);
    // The one that leads needs nobody's permission to leave.
    lead_through_n1(&group);
    group.stop(2);
    poll("two members", LIMIT, || (members(group.node(0)) == 2).then_some(()));
    let exit = group.nodes[1].take().expect("it runs").terminate();
    assert_eq!(exit.code, Some(1), "{}", exit.log);
    let line = "failed to remove this node from cluster before shutdown: unauthorized\n";
    assert!(exit.log.contains(line), "{}", exit.log);
    // It is a member still: nothing is written without it.
    assert_eq!(members(group.node(0)), 2);
    group.restart(1);
    group.wait_voters(2);
    let leader = group.leader();
    execute_as(group.node(leader), "root", "CREATE TABLE t(x)");
    assert_eq!(rows(group.node(1)), json!([[0]]));
}
