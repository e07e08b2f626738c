//! Who belongs to the cluster: forming, joining, leaving, coming back.

use crate::group::{Group, LIMIT, execute_until_done, local_rows, query, status};
use crate::support::fault::Fault;
use crate::support::{Launch, poll};
use serde_json::json;

/// Plans nodes that form a cluster together.
fn expecting(group: &mut Group, count: usize) {
    for at in 0..count {
        group.launches.push(Launch::new(&group.data(at), &[]));
        group.nodes.push(None);
    }
    let addresses: Vec<_> = (0..count).map(|at| group.raft_address(at)).collect();
    let join = format!("-join={}", addresses.join(","));
    for at in 0..count {
        group.replan(at, &["-bootstrap-expect=3", &join]);
    }
}

#[test]
fn three_nodes_that_wait_for_each_other_form_one_cluster_and_a_fourth_joins_it() {
    let mut group = Group::plan("cluster-expect");
    expecting(&mut group, 4);
    for at in 0..3 {
        group.nodes[at] = Some(group.launches[at].spawn());
    }
    for node in group.nodes.iter_mut().flatten() {
        node.wait_ready();
    }
    group.wait_voters(3);
    group.node(1).execute(r#"["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]"#);
    group.restart(3);
    group.wait_voters(4);
    group.assert_equal_copies(&["t"]);
    // The same flags stay on the command line for life.
    for at in 0..4 {
        group.kill(at);
    }
    for at in 0..4 {
        group.nodes[at] = Some(group.launches[at].spawn());
    }
    for node in group.nodes.iter_mut().flatten() {
        node.wait_ready();
    }
    group.wait_voters(4);
    group.assert_equal_copies(&["t"]);
}

/// A failed sync of the log ends the process: before it made its log, between that and its first entry, or later.
#[test]
fn a_founder_that_is_cut_down_at_any_sync_of_its_new_log_goes_on_with_founding() {
    let mut ended = 0;
    for at in 1..=6 {
        let mut group = Group::plan(&format!("cluster-founder-{at}"));
        expecting(&mut group, 3);
        let scratch = group.data(0).with_extension("fault");
        std::fs::create_dir_all(&scratch).expect("it can be made");
        let fault = Fault { call: "sync", path: "raft-wal", errno: libc::EIO, sticky: true, short: false };
        let (launch, armed) = fault.add_to(group.launches[0].clone(), &scratch, at, true);
        let mut founder = launch.spawn();
        for node in 1..3 {
            group.nodes[node] = Some(group.launches[node].spawn());
        }
        poll("the sync to fail", LIMIT, || armed.fired());
        let exit = founder.wait_exit();
        ended += u32::from(exit.code == Some(1));
        for node in 0..3 {
            group.nodes[node] = group.nodes[node].take().or_else(|| Some(group.launches[node].spawn()));
        }
        for node in group.nodes.iter_mut().flatten() {
            node.wait_ready();
        }
        group.wait_voters(3);
        group.node(1).execute(r#"["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]"#);
        group.assert_equal_copies(&["t"]);
    }
    assert_eq!(ended, 6);
}

#[test]
fn a_member_starts_from_its_own_state_though_its_join_targets_are_gone() {
    let mut group = Group::start("cluster-stale-join", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(x)"]"#);
    group.stop(1);
    group.kill(0);
    // n2 and n3 are a quorum; n1, through which n2 once joined, is down.
    group.restart(1);
    execute_until_done(group.node(1), "INSERT INTO t SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM t)");
    assert_eq!(query(group.node(2), "level=strong", "SELECT x FROM t")["results"][0]["values"], json!([[1]]));
}

#[test]
fn a_non_voter_gets_the_log_and_does_not_count() {
    let mut group = Group::start("cluster-non-voter", 1, &[]);
    let reader = group.add(&["-raft-non-voter"]);
    group.node(reader).execute(r#"["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]"#);
    group.assert_equal_copies(&["t"]);
    assert_eq!(status(group.node(reader), "store.raft.voter"), json!(false));
    assert_eq!(status(group.node(0), "store.raft.num_peers"), json!(0));
    let answer = query(group.node(reader), "level=auto", "SELECT x FROM t");
    assert_eq!(answer["results"][0]["values"], json!([[1]]));
    group.kill(reader);
    group.node(0).execute(r#"["INSERT INTO t VALUES(2)"]"#);
    group.restart(reader);
    group.assert_equal_copies(&["t"]);
}

#[test]
fn a_removed_node_is_gone_and_may_come_back() {
    let mut group = Group::start("cluster-remove", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(x)"]"#);
    let reply = group.node(1).client().call("DELETE", "/remove", &[], br#"{"id":"n3"}"#).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    poll("two voters", LIMIT, || (status(group.node(0), "store.nodes").as_array()?.len() == 2).then_some(()));
    group.kill(2);
    group.node(0).execute(r#"["INSERT INTO t VALUES(1)"]"#);
    group.restart(2);
    group.wait_voters(3);
    group.assert_equal_copies(&["t"]);
}

#[test]
fn an_emptied_node_comes_back_as_another_and_is_filled_again() {
    let mut group = Group::start("cluster-wiped", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]"#);
    let victim = group.follower();
    group.kill(victim);
    std::fs::remove_dir_all(group.data(victim)).expect("the directory is there");
    if victim == 0 {
        // It would found a cluster of its own without a place to go.
        let join = format!("-join={}", group.raft_address(1));
        group.replan(0, &[&join]);
    }
    group.restart(victim);
    group.wait_voters(3);
    group.assert_equal_copies(&["t"]);
    assert_eq!(local_rows(group.node(victim), "t"), json!([[1]]));
}

#[test]
fn peers_json_makes_one_survivor_a_cluster() {
    let mut group = Group::start("cluster-peers-json", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]"#);
    group.assert_equal_copies(&["t"]);
    for at in 0..3 {
        group.kill(at);
    }
    let peers = json!([{"id": "n2", "address": group.raft_address(1), "non_voter": false}]).to_string();
    std::fs::write(group.data(1).join("raft/peers.json"), peers).expect("the directory is there from the first start");
    group.replan(1, &[]);
    group.restart(1);
    group.node(1).execute(r#"["INSERT INTO t VALUES(2)"]"#);
    assert_eq!(local_rows(group.node(1), "t"), json!([[1], [2]]));
    assert!(group.data(1).join("raft/peers.info").exists());
}

#[test]
fn a_member_emptied_around_a_recovery_by_hand_is_another_and_cannot_vote_for_its_former_self() {
    let mut group = Group::start("cluster-peers-json-wiped", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]"#);
    group.assert_equal_copies(&["t"]);
    for at in 0..3 {
        group.kill(at);
    }
    let peers: Vec<_> =
        (0..3).map(|at| json!({"id": format!("n{}", at + 1), "address": group.raft_address(at)})).collect();
    for at in 0..2 {
        std::fs::write(group.data(at).join("raft/peers.json"), json!(peers).to_string())
            .expect("the directory is there");
        group.replan(at, &[]);
    }
    // n3 has lost its log and nobody has heard it since the recovery, which does not know its life.
    std::fs::remove_dir_all(group.data(2)).expect("the directory is there");
    group.spawn(0);
    group.spawn(1);
    for node in group.nodes.iter_mut().flatten() {
        node.wait_ready();
    }
    group.node(0).execute(r#"["INSERT INTO t VALUES(2)"]"#);
    let join = format!("-join={},{}", group.raft_address(0), group.raft_address(1));
    group.replan(2, &[&join]);
    group.restart(2);
    group.wait_voters(3);
    group.assert_equal_copies(&["t"]);
    let leader = group.leader();
    let told = group.node(leader).log();
    assert!(told.contains("node n3 has lost its data and begins anew"), "{told}");
    // n2 was heard, so its life is known: without its data it is another, too.
    let victim = if leader == 1 { 0 } else { 1 };
    group.kill(victim);
    std::fs::remove_dir_all(group.data(victim)).expect("the directory is there");
    group.replan(victim, &[&format!("-join={}", group.raft_address(2))]);
    group.restart(victim);
    group.wait_voters(3);
    group.assert_equal_copies(&["t"]);
}

#[test]
fn a_node_with_a_damaged_log_does_not_vote_on_it_and_is_filled_again_when_told_so() {
    let mut group = Group::start("cluster-damaged", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]"#);
    for n in 2..50 {
        group.node(0).execute(&format!("[\"INSERT INTO t VALUES({n})\"]"));
    }
    let victim = group.follower();
    group.assert_equal_copies(&["t"]);
    group.kill(victim);
    // The first entries of the log: durable long since, so that no crash can explain it.
    let log = group.data(victim).join("raft-wal/0000000000000001.wal");
    let mut bytes = std::fs::read(&log).expect("the first segment");
    bytes[4096 + 200] ^= 0xff;
    std::fs::write(&log, bytes).expect("nobody else uses it");
    let exit = group.launches[victim].spawn().wait_exit();
    assert_eq!(exit.code, Some(1));
    assert!(exit.log.contains("the log is damaged") && exit.log.contains("-rejoin"), "{}", exit.log);
    let through = group.raft_address(group.leader());
    group.replan(victim, &["-rejoin", &format!("-join={through}")]);
    group.restart(victim);
    group.wait_voters(3);
    group.assert_equal_copies(&["t"]);
}
