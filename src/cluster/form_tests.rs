//! Forming and joining with all their threads, over a network inside the process that loses calls and answers.

use super::super::testing::{FakeNode, TempDir, settings};
use super::super::{Ask, Asked};
use super::*;
use crate::coordinator::Membership as _;
use crate::net::CallError;
use crate::net::call::{LeaderHint, Meta};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

const LIMIT: Duration = Duration::from_secs(30);

/// A node, and the cluster that it says it belongs to.
type Reached = (Arc<Cluster>, Option<ClusterId>);

/// Who can be reached where.
#[derive(Default)]
struct Wire {
    nodes: Mutex<BTreeMap<String, Reached>>,
    loss_percent: u64,
    random: AtomicU64,
    joins: AtomicU64,
}

impl Wire {
    fn loses(&self) -> bool {
        let seed = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (seed ^ (seed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 33) % 100 < self.loss_percent
    }

    fn belongs(&self, address: &str, cluster: ClusterId) {
        self.nodes.lock().get_mut(address).expect("the node is known").1 = Some(cluster);
    }
}

/// The network as one node sees it.
struct Line(Arc<Wire>);

impl Ask for Line {
    fn ask(&self, address: &str, call: Call, timeout: Duration) -> Result<Answer, CallError> {
        let (tx, rx) = crossbeam_channel::bounded(1);
        self.ask_then(address, call, timeout, Box::new(move |answer| drop(tx.send(answer))));
        rx.recv_timeout(LIMIT).expect("every call is answered")
    }

    fn ask_then(&self, address: &str, call: Call, _timeout: Duration, done: Asked) {
        let (wire, address) = (Arc::clone(&self.0), address.to_owned());
        if wire.loses() {
            return done(Err(CallError::NotSent("lost".to_owned())));
        }
        std::thread::spawn(move || {
            let Some((node, cluster)) = wire.nodes.lock().get(&address).cloned() else {
                return done(Err(CallError::NotSent("connection refused".to_owned())));
            };
            if matches!(call, Call::Meta) {
                return done(Ok(Answer::Meta(Meta { cluster, ..Meta::default() })));
            }
            if matches!(call, Call::Join(_)) {
                wire.joins.fetch_add(1, Ordering::Relaxed);
            }
            let late = Arc::clone(&wire);
            let answered = move |answer| {
                done(if late.loses() { Err(CallError::Unknown("lost".to_owned())) } else { Ok(answer) });
            };
            node.answer(call, Box::new(answered));
        });
    }
}

fn address(n: usize) -> String {
    format!("127.0.0.1:{n}")
}

fn node(wire: &Arc<Wire>, dir: &Path, n: usize, flags: &[&str]) -> Arc<Cluster> {
    let own = address(n);
    let flags: Vec<&str> = ["-raft-addr", own.as_str()].iter().chain(flags).copied().collect();
    let cluster = Cluster::new(settings(&format!("n{n}"), dir, &flags), Arc::new(Line(Arc::clone(wire))));
    wire.nodes.lock().insert(own, (Arc::clone(&cluster), None));
    cluster
}

/// Lets a node find its place and live there; gives its cluster, and whether it was the founder.
fn live(wire: Arc<Wire>, cluster: Arc<Cluster>) -> JoinHandle<(ClusterId, bool)> {
    std::thread::spawn(move || {
        let settings = cluster.settings.clone();
        let formation = cluster.form(false).expect("a place is found");
        let me = settings.node.to_string();
        let (id, founder, node) = match &formation.origin {
            Origin::Formed { cluster, membership } => {
                (*cluster, true, FakeNode::formed(&me, *cluster, membership, &me))
            }
            Origin::Joined { cluster } => {
                // Only the address of the founder matters to those who ask this node.
                let founder = raft::Member {
                    id: NodeId("n1".into()),
                    incarnation: Incarnation(1),
                    suffrage: raft::Suffrage::Voter,
                    address: address(1).into(),
                };
                let membership = raft::Membership::new(vec![founder]).expect("valid");
                (*cluster, false, FakeNode::formed(&me, *cluster, &membership, "n1"))
            }
            other => panic!("{other:?}"),
        };
        let kept = identity::settle(&settings.data_dir, &settings.node, id, None, false).expect("settles");
        assert_eq!(Some(kept), formation.incarnation);
        wire.belongs(&settings.address, id);
        cluster.attach(node, &formation).expect("nothing speaks against it");
        (id, founder)
    })
}

#[test]
fn groups_form_one_cluster_over_a_bad_network_and_later_nodes_join_it() {
    for (seed, count, expect, loss_percent) in [(1, 3, 3, 0), (2, 5, 5, 20), (3, 5, 3, 30), (4, 4, 3, 50), (5, 1, 1, 0)]
    {
        let dir = TempDir::new(&format!("form-{seed}"));
        let wire = Arc::new(Wire { loss_percent, random: AtomicU64::new(seed * 7919), ..Wire::default() });
        let join: Vec<String> = (1..=count).map(address).collect();
        let (join, expect) = (format!("-join={}", join.join(",")), format!("-bootstrap-expect={expect}"));
        let nodes: Vec<_> = (1..=count)
            .map(|n| {
                let own = dir.path().join(n.to_string());
                std::fs::create_dir(&own).expect("a directory can be made");
                node(&wire, &own, n, &[&join, &expect])
            })
            .collect();
        let lives: Vec<_> = nodes.iter().map(|node| live(Arc::clone(&wire), Arc::clone(node))).collect();
        let homes: Vec<_> = lives.into_iter().map(|life| life.join().expect("no panic")).collect();
        assert!(homes.iter().all(|(cluster, _)| *cluster == homes[0].0), "seed {seed}: {homes:?}");
        assert_eq!(homes.iter().filter(|(_, founder)| *founder).count(), 1, "seed {seed}");
        for node in nodes {
            node.stop();
        }
    }
}

#[test]
fn a_joiner_follows_to_the_leader_and_tries_again() {
    let dir = TempDir::new("form-join");
    let wire = Arc::new(Wire::default());
    // The leader, and a member that only knows who leads.
    let (leader_dir, member_dir, own_dir) = (dir.path().join("1"), dir.path().join("2"), dir.path().join("3"));
    for dir in [&leader_dir, &member_dir, &own_dir] {
        std::fs::create_dir(dir).expect("a directory can be made");
    }
    let existing = Formation { origin: Origin::Existing, incarnation: None };
    let fake = FakeNode::leading(&[("n1", &address(1), 1), ("n2", &address(2), 2)]);
    node(&wire, &leader_dir, 1, &[]).attach(Arc::clone(&fake) as _, &existing).expect("attaches");
    let follower = FakeNode::leading(&[("n2", &address(2), 2), ("n1", &address(1), 1)]);
    follower.set_leader("n1");
    node(&wire, &member_dir, 2, &[]).attach(follower, &existing).expect("attaches");

    let join = format!("-join=127.0.0.1:9,{}", address(2));
    let joiner = node(&wire, &own_dir, 3, &[&join, "-join-interval", "10ms"]);
    let formation = joiner.form(false).expect("joins");
    assert!(matches!(formation.origin, Origin::Joined { cluster } if cluster == ClusterId(77)));
    let member = fake.configuration_of("n3").expect("it was let in");
    assert_eq!(Some(member.incarnation), formation.incarnation);
    // A start that was cut short before the log was made goes on as the same.
    let again = joiner.form(false).expect("joins");
    assert_eq!(again.incarnation, formation.incarnation);
    assert_eq!(fake.changes().len(), 1);
}

#[test]
fn failures_have_their_texts() {
    let dir = TempDir::new("form-texts");
    let wire = Arc::new(Wire::default());
    let text = |flags: &[&str]| {
        let cluster = node(&wire, dir.path(), 1, flags);
        cluster.form(false).expect_err("no place").to_string()
    };
    assert_eq!(
        text(&["-raft-non-voter"]),
        "cannot create a new non-voting node without joining it to an existing cluster"
    );
    let join = ["-join=127.0.0.1:9", "-join-attempts=2", "-join-interval=1ms"];
    assert_eq!(text(&join), "failed to join cluster: failed to join cluster");
    assert_eq!(text(&["-join=127.0.0.1:9", "-bootstrap-expect=2", "-bootstrap-expect-timeout=50ms"]), "boot timeout");
    let http = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let serving = http.local_addr().expect("bound").to_string();
    let thread = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = http.accept().expect("the probe comes");
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    });
    let told = text(&[&format!("-join={serving}")]);
    assert_eq!(told, format!("join address {serving} appears to be serving HTTP when it should be Raft"));
    thread.join().expect("no panic");

    for (flags, told) in [
        (&["-join=127.0.0.1:9", "-join-interval=1h"][..], "failed to join cluster: join operation canceled"),
        (&["-join=127.0.0.1:9", "-bootstrap-expect=2"], "boot canceled"),
    ] {
        let cluster = node(&wire, dir.path(), 1, flags);
        let cancel = cluster.canceller();
        let waiting = Arc::clone(&cluster);
        let forming = std::thread::spawn(move || waiting.form(false).expect_err("cancelled").to_string());
        let until = Instant::now() + LIMIT;
        while cluster.lobby.lock().is_none() && Instant::now() < until {
            std::thread::yield_now();
        }
        cancel.cancel();
        assert_eq!(forming.join().expect("no panic"), told);
    }
}

#[test]
fn alone_and_member_nodes_need_nobody() {
    let dir = TempDir::new("form-alone");
    let wire = Arc::new(Wire::default());
    let cluster = node(&wire, dir.path(), 1, &[]);
    let formation = cluster.form(false).expect("alone");
    assert!(matches!(formation.origin, Origin::Single) && formation.incarnation.is_some());
    assert!(matches!(cluster.form(true).expect("has lived").origin, Origin::Existing));
    let stranger = node(&wire, dir.path(), 2, &[]);
    assert!(stranger.form(true).expect_err("another's directory").to_string().contains("belongs to node n1"));

    let joining = node(&wire, dir.path(), 1, &["-join=127.0.0.1:9", "-join-attempts=1"]);
    let formation = joining.form(true).expect("its own state is enough");
    let alone = FakeNode::leading(&[("n1", &address(1), 1)]);
    let told = joining.attach(alone, &formation).expect_err("it has data of its own").to_string();
    assert_eq!(told, "node is the only node in a single-node cluster, joining other clusters not supported");
}

#[test]
fn a_member_asks_to_join_again_in_the_background_unless_it_is_another_cluster() {
    for (theirs, joins) in [(77, 1), (78, 0)] {
        let dir = TempDir::new(&format!("form-rejoin-{theirs}"));
        let wire = Arc::new(Wire::default());
        let (leader_dir, own_dir) = (dir.path().join("1"), dir.path().join("2"));
        for dir in [&leader_dir, &own_dir] {
            std::fs::create_dir(dir).expect("a directory can be made");
        }
        let existing = Formation { origin: Origin::Existing, incarnation: None };
        let fake = FakeNode::leading(&[("n1", &address(1), 1)]);
        node(&wire, &leader_dir, 1, &[]).attach(fake, &existing).expect("attaches");
        wire.belongs(&address(1), ClusterId(theirs));

        let id = NodeId("n2".into());
        identity::settle(&own_dir, &id, ClusterId(77), None, false).expect("settles");
        let member = node(&wire, &own_dir, 2, &[&format!("-join={}", address(1)), "-join-attempts=1"]);
        let formation = member.form(true).expect("it has lived");
        let own = FakeNode::leading(&[("n2", &address(2), 2), ("n1", &address(1), 1)]);
        own.set_leader("n1");
        member.attach(own, &formation).expect("attaches at once");
        // Ends when the thread has asked.
        let threads = std::mem::take(&mut *member.threads.lock());
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(wire.joins.load(Ordering::Relaxed), joins);
    }
}

#[test]
fn redirects_have_an_end() {
    struct Circle;
    impl Ask for Circle {
        fn ask(&self, _address: &str, _call: Call, _timeout: Duration) -> Result<Answer, CallError> {
            let leader = LeaderHint { id: "x".to_owned(), address: "h:1".to_owned() };
            Ok(Answer::NotLeader { leader: Some(leader) })
        }
        fn ask_then(&self, address: &str, call: Call, timeout: Duration, done: Asked) {
            done(self.ask(address, call, timeout));
        }
    }
    let dir = TempDir::new("form-circle");
    let request = settings("n1", dir.path(), &[]).join_request(Incarnation(1));
    assert_eq!(through(&Circle, "h:1", &request).expect_err("a circle"), "max redirects exceeded");
}

#[test]
fn a_founder_that_is_gone_for_good_does_not_hold_the_others_up_for_ever() {
    let dir = TempDir::new("form-lost-founder");
    let wire = Arc::new(Wire::default());
    let join: Vec<String> = (1..=4).map(address).collect();
    let join = format!("-join={}", join.join(","));
    let started = |n: usize| {
        let own = dir.path().join(n.to_string());
        std::fs::create_dir(&own).expect("a directory can be made");
        let cluster = node(&wire, &own, n, &[&join, "-bootstrap-expect=3"]);
        let life = live(Arc::clone(&wire), Arc::clone(&cluster));
        let until = Instant::now() + LIMIT;
        while cluster.lobby.lock().is_none() && Instant::now() < until {
            std::thread::yield_now();
        }
        (cluster, life)
    };
    let ask = |cluster: &Cluster, call: Call| {
        let (tx, rx) = crossbeam_channel::bounded(1);
        cluster.answer(call, Box::new(move |answer| tx.send(answer).expect("the test waits")));
        rx.recv_timeout(LIMIT).expect("an answer")
    };
    let (second, third) = (started(2), started(3));
    // n1 has told them that it waits, has got their promises, and may have decided: nobody will ever know.
    let founder = Candidate { id: "n1".into(), address: address(1), incarnation: Incarnation(1), refused: Vec::new() };
    let of = |n: usize| {
        let node = NodeId(format!("n{n}").into());
        let known = identity::read(&dir.path().join(n.to_string()), &node).expect("valid").expect("there");
        Candidate { id: format!("n{n}"), address: address(n), incarnation: known.incarnation, refused: Vec::new() }
    };
    let attempt = Attempt { cluster: ClusterId(7), members: vec![founder.clone(), of(2), of(3)] };
    let membership = attempt.membership().expect("valid");
    for (cluster, _) in [&second, &third] {
        assert_eq!(ask(cluster, Call::Notify(founder.clone())), Answer::Done);
        let promise =
            Call::Promise { founder: NodeId("n1".into()), cluster: ClusterId(7), membership: membership.clone() };
        assert_eq!(ask(cluster, promise), Answer::Done);
    }
    let fourth = started(4);
    let nodes = [second, third, fourth];
    let homes: Vec<_> = nodes.into_iter().map(|(cluster, life)| (cluster, life.join().expect("no panic").0)).collect();
    assert!(homes.iter().all(|(_, home)| *home == homes[0].1 && *home != ClusterId(7)), "one cluster, and another");
    // It comes back after all, with a log: it is told that it stays alone.
    for (cluster, _) in &homes {
        let formed = Call::Formed { cluster: ClusterId(7), membership: membership.clone() };
        assert!(matches!(ask(cluster, formed), Answer::Failed(_)));
        cluster.stop();
    }
}

#[test]
fn a_founding_that_was_cut_short_goes_on_whether_its_log_is_there_or_not() {
    let dir = TempDir::new("form-cut-short");
    let wire = Arc::new(Wire::default());
    let cluster = node(&wire, dir.path(), 1, &["-join=127.0.0.1:9", "-bootstrap-expect=1"]);
    let Origin::Formed { cluster: first, membership } = cluster.form(false).expect("alone").origin else {
        panic!("it is the founder");
    };
    for log_exists in [false, true] {
        let again = node(&wire, dir.path(), 1, &["-join=127.0.0.1:9", "-bootstrap-expect=1"]);
        match again.form(log_exists).expect("it has decided").origin {
            Origin::Formed { cluster, membership: kept } => assert_eq!((cluster, kept), (first, membership.clone())),
            other => panic!("{other:?}"),
        }
        // The log was made, and nothing is in it.
        identity::settle(dir.path(), &NodeId("n1".into()), first, None, true).expect("settles");
    }
    identity::settle(dir.path(), &NodeId("n1".into()), first, None, false).expect("settles");
    assert!(matches!(cluster.form(true).expect("it has lived").origin, Origin::Existing));
}
