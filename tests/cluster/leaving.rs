//! Nodes that go for good: at their stop, because they were silent for too long; and nodes that move.

use crate::group::{Group, LIMIT, status};
use crate::support::poll;
use serde_json::{Value, json};

fn counter(group: &Group, at: usize, vars: &str, name: &str) -> u64 {
    let reply = group.node(at).client().get(&format!("/debug/vars?key={vars}")).expect("the node answers");
    let counters = reply.json();
    // The document has the group as its one member, or is the group.
    let found = counters.get(name).or_else(|| counters.get(vars).and_then(|vars| vars.get(name)));
    found.and_then(Value::as_u64).unwrap_or_default()
}

fn members(group: &Group, at: usize) -> usize {
    status(group.node(at), "store.nodes").as_array().map_or(0, Vec::len)
}

#[test]
fn a_node_leaves_at_its_stop_leader_or_not_and_comes_back_with_the_same_flags() {
    let mut group = Group::start("cluster-leave", 3, &["-raft-cluster-remove-shutdown"]);
    group.node(0).execute(r#"["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]"#);
    let leader = group.leader();
    group.stop(leader);
    let left = (leader + 1) % 3;
    poll("two members", LIMIT, || (members(&group, left) == 2).then_some(()));
    group.wait_voters(2);
    // Two that need each other: the next one must go before it stops, or the last one could not go on.
    let follower = group.follower();
    group.stop(follower);
    let last = (0..3).find(|at| group.nodes[*at].is_some()).expect("one is left");
    group.wait_voters(1);
    group.node(last).execute(r#"["INSERT INTO t VALUES(2)"]"#);
    for at in [leader, follower] {
        let join = format!("-join={}", group.raft_address(last));
        group.replan(at, &[&join]);
        group.restart(at);
    }
    group.wait_voters(3);
    group.assert_equal_copies(&["t"]);
}

#[test]
fn what_another_node_asks_for_is_counted_once() {
    let group = Group::start("cluster-counted", 3, &[]);
    let leader = group.leader();
    let (asked, gone) = ((leader + 1) % 3, (leader + 2) % 3);
    let body = format!(r#"{{"id":"n{}"}}"#, gone + 1);
    let reply = group.node(asked).client().call("DELETE", "/remove", &[], body.as_bytes()).expect("an answer");
    assert_eq!((reply.status, reply.text().as_str()), (200, ""));
    assert_eq!(counter(&group, leader, "cluster", "num_remove_node_req"), 1);
    assert_eq!(counter(&group, asked, "proxy", "remote_remove_node"), 1);
}

#[test]
fn a_member_that_moves_is_found_at_its_new_address() {
    let mut group = Group::start("cluster-move", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(x)"]"#);
    let leader = group.leader();
    let moving = group.follower();
    let before: u64 = counter(&group, leader, "store", "num_removed_before_joins");
    group.kill(moving);
    group.node(leader).execute(r#"["INSERT INTO t VALUES(1)"]"#);
    let (id, join) = (format!("-node-id=n{}", moving + 1), format!("-join={}", group.raft_address(leader)));
    group.launches[moving] = crate::support::Launch::new(&group.data(moving), &[&id, &join]);
    group.restart(moving);
    let address = group.raft_address(moving);
    poll("the new address", LIMIT, || {
        let nodes = status(group.node(leader), "store.nodes");
        nodes.as_array()?.iter().any(|node| node["addr"] == json!(address)).then_some(())
    });
    group.wait_voters(3);
    group.assert_equal_copies(&["t"]);
    assert_eq!(counter(&group, leader, "store", "num_removed_before_joins"), before + 1);
}

#[test]
fn silent_nodes_are_removed_each_kind_by_its_own_clock() {
    let flags = ["-raft-reap-node-timeout=3s", "-raft-reap-read-only-node-timeout=3s"];
    let mut group = Group::start("cluster-reap", 3, &flags);
    let reader = group.add(&["-raft-non-voter", flags[0], flags[1]]);
    poll("four members", LIMIT, || (members(&group, 0) == 4).then_some(()));
    group.kill(reader);
    poll("the reader to be gone", LIMIT, || (members(&group, 0) == 3).then_some(()));
    let follower = group.follower();
    group.kill(follower);
    let left = group.leader();
    poll("the voter to be gone", LIMIT, || (members(&group, left) == 2).then_some(()));
    assert_eq!(counter(&group, left, "store", "nodes_reaped_failed"), 0);
}
