//! Admission against a node that is not there: it changes its configuration at once, or as a test wants it.

use super::super::testing::{FakeNode, TempDir, cluster_of};
use super::*;
use crate::coordinator::Membership as _;
use crate::net::call::{Call, Candidate};
use raft::{LogId, Term};
use std::time::Duration;

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(300)
}

fn request(id: &str, address: &str, incarnation: u64) -> JoinRequest {
    let (id, address) = (id.to_owned(), address.to_owned());
    JoinRequest { id, address, voter: true, incarnation: Incarnation(incarnation), log: None }
}

/// Of a node that has a log which ends there.
fn with_log(request: JoinRequest, index: u64) -> JoinRequest {
    JoinRequest { log: Some(LogId { term: Term(1), index: Index(index) }), ..request }
}

fn refusal(answer: &Answer) -> &str {
    match answer {
        Answer::Failed(failure) => &failure.text,
        other => panic!("not refused: {other:?}"),
    }
}

/// Counters belong to the process and tests run side by side: only that they grow is certain.
fn grows(counter: &vars::Counter, act: impl FnOnce()) {
    let before = counter.get();
    act();
    assert!(counter.get() > before);
}

#[test]
fn a_stranger_is_let_in_as_a_learner_or_a_read_replica() {
    let dir = TempDir::new("admit-strangers");
    let node = FakeNode::leading(&[("a", "127.0.0.1:1", 1)]);
    let cluster = cluster_of("a", dir.path(), Some(node.clone()));
    grows(&vars::store::NUM_JOINS, || {
        let answer = cluster.admit(&request("b", "127.0.0.1:2", 2), soon());
        assert_eq!(answer, Answer::Joined { cluster: node.cluster() });
    });
    let reader = JoinRequest { voter: false, ..request("c", "127.0.0.1:3", 3) };
    assert!(matches!(cluster.admit(&reader, soon()), Answer::Joined { .. }));
    assert_eq!(node.suffrage("b"), Some(Suffrage::Learner));
    assert_eq!(node.suffrage("c"), Some(Suffrage::NonVoter));
    assert_eq!(refusal(&cluster.admit(&request("", "127.0.0.1:4", 4), soon())), "node required");
}

#[test]
fn a_member_that_asks_again_stays_what_it_is() {
    let dir = TempDir::new("admit-again");
    let node = FakeNode::leading(&[("a", "127.0.0.1:1", 1), ("b", "127.0.0.1:2", 2)]);
    let cluster = cluster_of("a", dir.path(), Some(node.clone()));
    let reader = JoinRequest { voter: false, ..request("b", "127.0.0.1:2", 2) };
    grows(&vars::store::NUM_IGNORED_JOINS, || {
        assert!(matches!(cluster.admit(&reader, soon()), Answer::Joined { .. }));
    });
    assert!(node.changes().is_empty());
    node.set_committed(false);
    let answer = cluster.admit(&reader, soon());
    assert!(matches!(&answer, Answer::Failed(Failure { kind: FailureKind::NotReady, .. })), "{answer:?}");
    node.set_committed(true);
    grows(&vars::store::NUM_REMOVED_BEFORE_JOINS, || {
        assert!(matches!(cluster.admit(&request("b", "127.0.0.1:9", 2), soon()), Answer::Joined { .. }));
    });
    let moved = Change::SetAddress { id: NodeId("b".into()), address: "127.0.0.1:9".into() };
    assert_eq!(node.changes(), [moved]);
    assert_eq!(node.suffrage("b"), Some(Suffrage::Voter));
}

#[test]
fn a_node_without_its_data_begins_anew() {
    let dir = TempDir::new("admit-wiped");
    let node = FakeNode::leading(&[("a", "127.0.0.1:1", 1), ("b", "127.0.0.1:2", 2), ("c", "127.0.0.1:3", 3)]);
    node.set_suffrage("c", Suffrage::NonVoter);
    let cluster = cluster_of("a", dir.path(), Some(node.clone()));
    assert!(matches!(cluster.admit(&request("b", "127.0.0.1:2", 20), soon()), Answer::Joined { .. }));
    assert!(matches!(node.changes().as_slice(), [Change::Remove(_), Change::Add(_)]));
    assert_eq!(node.suffrage("b"), Some(Suffrage::Learner));
    // It asks for a vote that it never had.
    assert!(matches!(cluster.admit(&request("c", "127.0.0.1:3", 30), soon()), Answer::Joined { .. }));
    assert_eq!(node.suffrage("c"), Some(Suffrage::NonVoter));
    // Members that were written by hand have no known incarnation.
    let node = FakeNode::leading(&[("a", "127.0.0.1:1", 1), ("b", "127.0.0.1:2", 0)]);
    let cluster = cluster_of("a", dir.path(), Some(node.clone()));
    let whole = with_log(request("b", "127.0.0.1:2", 5), 9);
    assert!(matches!(cluster.admit(&whole, soon()), Answer::Joined { .. }));
    assert!(node.changes().is_empty());
    // But each of them had a log: who has none has lost it.
    assert!(matches!(cluster.admit(&request("b", "127.0.0.1:2", 6), soon()), Answer::Joined { .. }));
    assert!(matches!(node.changes().as_slice(), [Change::Remove(_), Change::Add(_)]));
    assert_eq!(node.configuration_of("b").map(|member| member.incarnation), Some(Incarnation(6)));
    assert_eq!(node.suffrage("b"), Some(Suffrage::Learner));
}

#[test]
fn an_older_copy_is_not_let_in_in_the_name_of_the_original() {
    let dir = TempDir::new("admit-copies");
    let node = FakeNode::leading(&[("a", "127.0.0.1:1", 1), ("b", "127.0.0.1:2", 2)]);
    let cluster = cluster_of("a", dir.path(), Some(node.clone()));
    node.set_matched("b", 100);
    let moved = request("b", "127.0.0.1:9", 2);
    for older in [with_log(moved.clone(), 99), moved.clone(), request("b", "127.0.0.1:2", 2)] {
        let answer = cluster.admit(&older, soon());
        assert!(refusal(&answer).contains("acknowledged the log up to 100") && refusal(&answer).contains("older copy"));
    }
    assert!(node.changes().is_empty());
    assert!(matches!(cluster.admit(&with_log(moved, 100), soon()), Answer::Joined { .. }));
    assert!(matches!(node.changes().as_slice(), [Change::SetAddress { .. }]));
}

#[test]
fn addresses_are_unique_and_can_be_called() {
    let dir = TempDir::new("admit-addresses");
    let node = FakeNode::leading(&[("a", "127.0.0.1:1", 1), ("b", "127.0.0.1:2", 2)]);
    let cluster = cluster_of("a", dir.path(), Some(node.clone()));
    let duplicate = "found duplicate address in configuration: 127.0.0.1:2";
    assert_eq!(refusal(&cluster.admit(&request("c", "127.0.0.1:2", 3), soon())), duplicate);
    assert_eq!(refusal(&cluster.admit(&request("a", "127.0.0.1:2", 1), soon())), duplicate);
    let answer = cluster.admit(&request("c", "no such host:1", 3), soon());
    assert!(refusal(&answer).starts_with("failed to resolve no such host: "), "{answer:?}");
    assert!(node.changes().is_empty());
}

#[test]
fn who_does_not_lead_names_who_does_and_changes_are_tried_until_they_can_be_made() {
    let dir = TempDir::new("admit-followers");
    let node = FakeNode::leading(&[("a", "127.0.0.1:1", 1), ("b", "127.0.0.1:2", 2)]);
    node.set_leader("b");
    let cluster = cluster_of("a", dir.path(), Some(node.clone()));
    for answer in [
        cluster.admit(&request("c", "127.0.0.1:3", 3), soon()),
        cluster.remove(&NodeId("b".into()), soon()),
        cluster.step_down(None, true),
    ] {
        assert!(matches!(&answer, Answer::NotLeader { leader: Some(leader) } if leader.id == "b"), "{answer:?}");
    }
    node.set_leader("a");
    node.set_refusals(5);
    assert!(matches!(cluster.admit(&request("c", "127.0.0.1:3", 3), soon()), Answer::Joined { .. }));
    node.set_refusals(1000);
    let answer = cluster.remove(&NodeId("b".into()), soon());
    assert!(matches!(&answer, Answer::Failed(Failure { kind: FailureKind::NotReady, .. })), "{answer:?}");
}

#[test]
fn removal_has_its_texts() {
    let dir = TempDir::new("admit-remove");
    let node = FakeNode::leading(&[("a", "127.0.0.1:1", 1), ("b", "127.0.0.1:2", 2)]);
    let cluster = cluster_of("a", dir.path(), Some(node.clone()));
    assert_eq!(cluster.remove(&NodeId("stranger".into()), soon()), Answer::Done);
    assert_eq!(cluster.remove(&NodeId("b".into()), soon()), Answer::Done);
    let answer = cluster.remove(&NodeId("a".into()), soon());
    assert_eq!(refusal(&answer), "need at least one voter in configuration: {[]}");
    // A leader that takes itself out loses sight of the entry.
    let node = FakeNode::leading(&[("a", "127.0.0.1:1", 1), ("b", "127.0.0.1:2", 2)]);
    node.forget_outcomes();
    let cluster = cluster_of("a", dir.path(), Some(node.clone()));
    assert_eq!(cluster.remove(&NodeId("a".into()), soon()), Answer::Done);
}

#[test]
fn stepping_down_tells_at_once_what_cannot_be() {
    let dir = TempDir::new("admit-stepdown");
    let node = FakeNode::leading(&[("a", "127.0.0.1:1", 1), ("b", "127.0.0.1:2", 2)]);
    let cluster = cluster_of("a", dir.path(), Some(node.clone()));
    let to = |id: &str| Some(NodeId(id.into()));
    for wait in [false, true] {
        let answer = cluster.step_down(to("a"), wait);
        assert_eq!(refusal(&answer), "cannot step down to the current Leader");
        assert_eq!(refusal(&cluster.step_down(to("x"), wait)), "node not found in cluster");
    }
    assert_eq!(cluster.step_down(to("b"), true), Answer::Done);
    let alone = FakeNode::leading(&[("a", "127.0.0.1:1", 1)]);
    let cluster = cluster_of("a", dir.path(), Some(alone));
    assert_eq!(cluster.step_down(None, false), Answer::Done);
    assert_eq!(refusal(&cluster.step_down(None, true)), "cannot find peer");
}

#[test]
fn members_are_told_where_they_belong_and_strangers_nothing() {
    let dir = TempDir::new("admit-notify");
    let node = FakeNode::leading(&[("a", "127.0.0.1:1", 1), ("b", "127.0.0.1:2", 2)]);
    let cluster = cluster_of("a", dir.path(), Some(node.clone()));
    let ask = |call: Call| {
        let (tx, rx) = crossbeam_channel::bounded(1);
        cluster.answer(call, Box::new(move |answer| tx.send(answer).expect("the test waits")));
        rx.recv_timeout(Duration::from_secs(5)).expect("an answer")
    };
    let candidate = |id: &str, incarnation: u64| {
        let (id, address) = (id.to_owned(), "127.0.0.1:2".to_owned());
        Call::Notify(Candidate { id, address, incarnation: Incarnation(incarnation), refused: Vec::new() })
    };
    assert_eq!(ask(candidate("b", 2)), Answer::Joined { cluster: node.cluster() });
    assert_eq!(ask(candidate("b", 3)), Answer::Done, "another life");
    assert_eq!(ask(candidate("c", 2)), Answer::Done);
    let founder = NodeId("b".into());
    let membership = raft::Membership::new(node.configuration().members).expect("valid");
    let promise = Call::Promise { founder, cluster: raft::ClusterId(9), membership };
    assert!(refusal(&ask(promise)).contains("belongs to a cluster"));
    let starting = cluster_of("a", dir.path(), None);
    let (tx, rx) = crossbeam_channel::bounded(1);
    starting.answer(candidate("b", 2), Box::new(move |answer| tx.send(answer).expect("the test waits")));
    assert!(matches!(rx.recv(), Ok(Answer::Failed(Failure { kind: FailureKind::NotReady, .. }))));
}
