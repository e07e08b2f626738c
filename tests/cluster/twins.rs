//! Copies of a data directory, started as the node that they were copied from.

use crate::group::{Group, LIMIT, execute_until_done, status};
use crate::support::{Launch, poll};
use std::path::Path;

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("it can be made");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("it can be copied");
        }
    }
}

/// How node `at` is started on another directory, to join the others.
fn elsewhere(group: &Group, at: usize, dir: &Path) -> Launch {
    let others: Vec<String> = (0..3).filter(|other| *other != at).map(|other| group.raft_address(other)).collect();
    let (id, join) = (format!("-node-id=n{}", at + 1), format!("-join={}", others.join(",")));
    Launch::new(dir, &[&id, &join])
}

#[test]
fn a_copy_of_a_running_node_is_refused_and_an_older_one_does_not_take_its_place() {
    let mut group = Group::start("cluster-twins", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]"#);
    group.assert_equal_copies(&["t"]);
    let victim = group.follower();
    group.kill(victim);
    let original = group.data(victim);
    let copied = original.with_file_name("copied");
    copy_dir(&original, &copied);
    group.restart(victim);
    let leader = group.leader();
    for n in 2..30 {
        group.node(leader).execute(&format!("[\"INSERT INTO t VALUES({n})\"]"));
    }
    group.assert_equal_copies(&["t"]);
    let address = |group: &Group| {
        let nodes = status(group.node(leader), "store.nodes");
        let id = format!("n{}", victim + 1);
        nodes
            .as_array()
            .and_then(|nodes| nodes.iter().find(|n| n["id"] == id.as_str()).cloned())
            .map(|n| n["addr"].clone())
    };
    let before = address(&group);

    // The original lives: nobody listens to the copy.
    let launch = elsewhere(&group, victim, &copied);
    let mut copy = launch.spawn();
    let words = "two processes run as node";
    poll("the copy to be told", LIMIT, || copy.log().contains(words).then_some(()));
    poll("the leader to say so", LIMIT, || group.node(leader).log().contains(words).then_some(()));
    execute_until_done(group.node(leader), "INSERT INTO t SELECT 30 WHERE NOT EXISTS (SELECT 1 FROM t WHERE x = 30)");
    group.assert_equal_copies(&["t"]);
    assert_eq!(address(&group), before);
    copy.kill9();

    // The original is gone: what the copy lacks was acknowledged in its name.
    group.kill(victim);
    let mut copy = launch.spawn();
    poll("the copy to be told", LIMIT, || copy.log().contains("it is an older copy").then_some(()));
    assert_eq!(address(&group), before);
    copy.kill9();
    // The original comes back as if nothing had been.
    group.restart(victim);
    group.wait_voters(3);
    group.assert_equal_copies(&["t"]);
}

#[test]
fn a_whole_directory_that_moves_takes_its_place_with_it() {
    let mut group = Group::start("cluster-moves", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]"#);
    group.assert_equal_copies(&["t"]);
    let mover = group.follower();
    group.stop(mover);
    let there = group.data(mover).with_file_name("moved");
    copy_dir(&group.data(mover), &there);
    group.launches[mover] = elsewhere(&group, mover, &there);
    group.restart(mover);
    let leader = group.leader();
    group.node(leader).execute(r#"["INSERT INTO t VALUES(2)"]"#);
    group.assert_equal_copies(&["t"]);
}
