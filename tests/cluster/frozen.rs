//! A leader that stands still with its connections open: the worst kind of gone, since nobody is told.

use crate::group::{Group, LIMIT, local_rows};
use crate::support::poll;
use serde_json::json;
use std::time::{Duration, Instant};

/// Generous: an election takes about a second, the time allowed to a request is thirty.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

/// Stopped until this is dropped.
struct Frozen<'a>(&'a crate::support::Node);

impl<'a> Frozen<'a> {
    fn new(node: &'a crate::support::Node) -> Frozen<'a> {
        node.signal(libc::SIGSTOP);
        Frozen(node)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.signal(libc::SIGCONT);
    }
}

#[test]
fn what_was_sent_to_a_leader_that_froze_is_done_once_by_the_next_one() {
    let group = Group::start("cluster-frozen", 3, &[]);
    group.node(0).execute(r#"["CREATE TABLE t(id INTEGER PRIMARY KEY, x)"]"#);
    let leader = group.leader();
    let other = group.follower();
    // The connection between the two is there.
    group.node(other).execute(r#"["INSERT INTO t(x) VALUES('before')"]"#);
    let frozen = Frozen::new(group.node(leader));
    // The followers do not know yet: both go to the leader that was.
    let began = Instant::now();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let write = scope.spawn(|| {
            let client = group.node(other).client();
            client.with_timeout(LIMIT).post("/db/execute", r#"["INSERT INTO t(x) VALUES('during')"]"#)
        });
        let read = scope.spawn(|| {
            let client = group.node(other).client();
            client.with_timeout(LIMIT).post("/db/query?level=linearizable", r#"["SELECT x FROM t WHERE id = 1"]"#)
        });
        [write, read].into_iter().map(|thread| thread.join().expect("no panic").expect("an answer")).collect()
    });
    let took = began.elapsed();
    println!("answered after {took:?}");
    assert_eq!(answers[0].json()["results"][0]["last_insert_id"], 2, "{}", answers[0].text());
    assert_eq!(answers[1].json()["results"][0]["values"], json!([["before"]]), "{}", answers[1].text());
    assert!(took < ANSWER_TIME_MAX, "the time of a whole request was waited for: {took:?}");
    drop(frozen);
    group.assert_equal_copies(&["t"]);
    assert_eq!(local_rows(group.node(leader), "t"), json!([[1, "before"], [2, "during"]]));
}

#[test]
fn reads_that_waited_in_vain_leave_no_memory_behind() {
    let group = Group::start("cluster-waits", 1, &[]);
    let node = group.node(0);
    node.execute(r#"["CREATE TABLE t(x)"]"#);
    let ask = |count: usize| {
        let mut client = node.client();
        for _ in 0..count {
            let url = "/db/query?level=none&timeout=1ns&min_index=1000000000000000000";
            let reply = client.post(url, r#"["SELECT 1"]"#).expect("an answer");
            assert!(reply.text().contains("timeout waiting for fsm"), "{}", reply.text());
        }
    };
    ask(2000);
    let before = node.usage().rss_bytes;
    ask(20_000);
    let grown = poll("the memory to be given back", LIMIT, || {
        let grown = node.usage().rss_bytes.saturating_sub(before);
        (grown < 2 << 20).then_some(grown)
    });
    println!("{grown} bytes more");
}
