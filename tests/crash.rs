//! `kill -9`, SIGTERM and a second process on the same directory, against the real binary under load.
//!
//! Prevents: an acknowledged write that is lost or applied twice, half a transaction, a slow start after a crash, queued
//! writes dropped by an orderly stop, two processes on one directory.

mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::ledger::{Load, Round, SCHEMA};
use support::{Launch, Node, Rng, TempDir, poll};

const ROUNDS: u64 = 15;
const WRITERS: u64 = 16;
/// The demand on a start, also right after `kill -9`.
const READY_MAX: Duration = Duration::from_secs(1);

#[test]
fn acknowledged_writes_survive_kill_at_random_moments() {
    let mut rng = Rng::new(support::seed(1));
    let dir = TempDir::new("crash");
    let launch = Launch::new(&dir.path().join("data"), &[]);
    let mut rounds: Vec<Round> = Vec::new();
    let mut slowest = Duration::ZERO;
    for number in 0..ROUNDS {
        let mut node = launch.start();
        slowest = slowest.max(node.ready_after);
        if let Some(last) = rounds.last() {
            last.check(&node);
        }
        node.execute(SCHEMA);
        let load = Load::start(node.port(), number, WRITERS, 20, &mut rng);
        // Early kills hit the first appends, late ones the log's rolls and the database's checkpoints.
        let moment = Instant::now() + Duration::from_millis(rng.between(1, 600));
        poll("a random moment", Duration::from_secs(5), || (Instant::now() >= moment).then_some(()));
        node.kill9();
        let round = load.finish(number);
        assert!(round.refusals.is_empty(), "a healthy node refused writes: {:?}", round.refusals);
        rounds.push(round);
    }
    let node = launch.start();
    slowest = slowest.max(node.ready_after);
    for round in &rounds {
        round.check(&node);
    }
    let acknowledged: usize = rounds.iter().map(Round::acknowledged).sum();
    println!("{ROUNDS} kills, {acknowledged} acknowledged requests, slowest start {slowest:?}");
    assert!(acknowledged > ROUNDS as usize * 20, "too few writes to prove anything: {acknowledged}");
    assert!(slowest < READY_MAX, "start to ready took {slowest:?}");
}

/// A crash during recovery must be no worse than the first one: the node is killed again while it starts.
#[test]
fn kill_during_start_loses_nothing() {
    let mut rng = Rng::new(support::seed(2));
    let dir = TempDir::new("crash-start");
    let launch = Launch::new(&dir.path().join("data"), &[]);
    let mut node = launch.start();
    node.execute(SCHEMA);
    let load = Load::start(node.port(), 0, WRITERS, 200, &mut rng);
    poll("2,000 writes", Duration::from_secs(30), || (load.acknowledged.load(Ordering::Relaxed) > 2000).then_some(()));
    node.kill9();
    let round = load.finish(0);
    for _ in 0..12 {
        let mut node = launch.spawn();
        let moment = Instant::now() + Duration::from_millis(rng.between(0, 60));
        poll("a random moment", Duration::from_secs(5), || (Instant::now() >= moment).then_some(()));
        node.kill9();
    }
    round.check(&launch.start());
}

#[test]
fn a_second_process_on_the_same_directory_fails_at_once() {
    let dir = TempDir::new("second");
    let data = dir.path().join("data");
    let first = Node::start(&data, &[]);
    let began = Instant::now();
    let mut second = Launch::new(&data, &[]).spawn();
    let exit = second.wait_exit();
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
    let log = exit.log.to_lowercase();
    assert!(log.contains(&data.display().to_string().to_lowercase()), "the directory is not named:\n{log}");
    assert!(["lock", "in use", "another process"].iter().any(|w| log.contains(w)), "the reason is not given:\n{log}");
    assert_eq!(first.number("SELECT 1"), 1, "the first process is not disturbed");
}

#[test]
fn sigterm_finishes_requests_and_flushes_queued_writes() {
    let mut rng = Rng::new(support::seed(3));
    let dir = TempDir::new("sigterm");
    // Queued writes stay in memory until the stop: neither size nor time lets the queue flush before.
    let flags = ["-write-queue-timeout=1h", "-write-queue-batch-size=100000", "-write-queue-capacity=100000"];
    let launch = Launch::new(&dir.path().join("data"), &flags);
    let mut node = launch.start();
    node.execute(SCHEMA);
    node.execute(r#"["CREATE TABLE queued (n INT)"]"#);
    let mut client = node.client();
    for n in 0..500 {
        let reply = client.post("/db/execute?queue", &format!(r#"[["INSERT INTO queued VALUES(?)",{n}]]"#));
        let reply = reply.expect("the node answers");
        // From the first moment of a node that says it is ready.
        assert!(reply.status == 200 && !reply.text().contains("\"error\""), "{}", reply.text());
    }
    assert_eq!(node.number("SELECT count(*) FROM queued"), 0, "the queue flushed too early for this test");

    // These wait for the queue's hour: the stop must flush first and then let them have their answer.
    let waiting: Vec<_> = (500..504)
        .map(|n| {
            let mut client = node.client();
            let body = format!(r#"[["INSERT INTO queued VALUES(?)",{n}]]"#);
            std::thread::spawn(move || client.post("/db/execute?queue&wait&timeout=1h", &body))
        })
        .collect();
    // Of the ledger's writers, only those that do not use the queue take part.
    let load = Load::start(node.port(), 0, 3, 20, &mut rng);
    let port = node.port();
    let slow = std::thread::spawn(move || {
        let sql =
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 1500000) SELECT count(*) FROM c";
        support::Client::new(port).get(&format!("/db/query?level=none&q={}", support::http::encode(sql)))
    });
    poll("writes under way", Duration::from_secs(20), || {
        (load.acknowledged.load(Ordering::Relaxed) > 50).then_some(())
    });
    let began = Instant::now();
    let exit = node.terminate();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let slow = slow.join().expect("no panic").expect("a request that was under way is answered");
    assert_eq!(slow.json()["results"][0]["values"][0][0], 1_500_000);
    for thread in waiting {
        let reply = thread.join().expect("no panic").expect("a request that waits for the queue is answered");
        assert!(reply.status == 200 && !reply.text().contains("\"error\""), "{}", reply.text());
    }
    assert!(began.elapsed() < Duration::from_secs(8), "the stop took {:?}", began.elapsed());
    let round = load.finish(0);

    let node = launch.start();
    assert!(node.ready_after < READY_MAX, "start to ready took {:?}", node.ready_after);
    assert_eq!(node.rows("SELECT count(*), count(DISTINCT n) FROM queued"), vec![vec![serde_json::json!(504); 2]]);
    round.check(&node);
}

#[test]
fn sigint_stops_an_idle_node_with_exit_0() {
    let dir = TempDir::new("sigint");
    let mut node = Node::start(&dir.path().join("data"), &[]);
    // A connection that is merely open must not hold up the stop.
    let mut idle = node.client();
    assert_eq!(idle.get("/readyz?noleader").expect("the node answers").status, 200);
    let began = Instant::now();
    node.signal(libc::SIGINT);
    let exit = node.wait_exit();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "the stop took {:?}", began.elapsed());
}

/// Entries larger than what the log keeps in memory are answered all the same, and so are small ones behind them.
#[test]
fn large_writes_are_answered_and_survive() {
    let dir = TempDir::new("large");
    let mut node = Node::start(&dir.path().join("data"), &[]);
    node.execute(SCHEMA);
    node.execute(r#"["CREATE TABLE large (n INT, x TEXT)"]"#);
    let load = Load::start(node.port(), 0, 4, 20, &mut Rng::new(6));
    const MEGABYTES: [usize; 4] = [10, 1, 15, 8];
    // The largest entry is larger than all that a leader keeps in memory of its log.
    const COPIES: usize = 3;
    let threads: Vec<_> = MEGABYTES
        .into_iter()
        .map(|megabytes| {
            let mut client = node.client();
            std::thread::spawn(move || {
                let one = format!(r#"["INSERT INTO large VALUES(?,?)",{megabytes},"{}"]"#, "y".repeat(megabytes << 20));
                let body = format!("[{}]", vec![one; COPIES].join(","));
                client.post("/db/execute", &body)
            })
        })
        .collect();
    for thread in threads {
        let reply = thread.join().expect("no panic").expect("a large write is answered");
        let results = reply.json()["results"].clone();
        for copy in 0..COPIES {
            assert_eq!(results[copy]["rows_affected"], 1, "{}", reply.text());
        }
    }
    node.kill9();
    let round = load.finish(0);
    let node = node.launch().start();
    round.check(&node);
    let sizes = node.rows("SELECT n, length(x) FROM large ORDER BY n");
    let expected: Vec<Vec<serde_json::Value>> =
        [1, 8, 10, 15].iter().flat_map(|m| vec![vec![(*m).into(), (*m << 20).into()]; COPIES]).collect();
    assert_eq!(sizes, expected);
}

fn raft_status(node: &Node, key: &str) -> u64 {
    let reply = node.client().get(&format!("/status?key=store.raft.{key}")).expect("an answer");
    reply.text().trim().parse().unwrap_or_else(|_| panic!("{key}: {}", reply.text()))
}

/// Without a limit a write can be without end. It must not keep the node from stopping, and the operator gets rid of it.
#[test]
fn an_endless_write_holds_up_no_stop_and_can_be_skipped() {
    let dir = TempDir::new("endless");
    let data = dir.path().join("data");
    let flags = ["-write-steps-max=0", "-http-shutdown-timeout=500ms"];
    let launch = Launch::new(&data, &flags);
    let mut node = launch.start();
    node.execute(r#"["CREATE TABLE t(n)"]"#);
    let (mut client, mut other) = (node.client(), node.client());
    let endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) INSERT INTO t SELECT sum(n) FROM c";
    let endless = std::thread::spawn(move || client.post("/db/execute", &format!("[\"{endless}\"]")));
    poll("the endless write is under way", Duration::from_secs(20), || {
        (raft_status(&node, "fsm_pending") > 0).then_some(())
    });
    let entry = raft_status(&node, "applied_index") + 1;
    // Behind it, acknowledged by nobody, and in the log all the same.
    let behind = std::thread::spawn(move || other.post("/db/execute", r#"["INSERT INTO t VALUES(7)"]"#));
    poll("the write behind it is in the log", Duration::from_secs(20), || {
        (raft_status(&node, "fsm_pending") > 1).then_some(())
    });
    let began = Instant::now();
    let exit = node.terminate();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "the stop took {:?}", began.elapsed());
    assert!(exit.log.contains(&format!("while entry {entry} or")), "the log does not say why:\n{}", exit.log);
    for thread in [endless, behind] {
        let answer = thread.join().expect("no panic");
        assert!(!answer.is_ok_and(|r| r.text().contains("rows_affected")), "nothing was acknowledged");
    }

    // The replay comes to it again; the second stop is no slower.
    let mut node = launch.spawn();
    poll("the replay", Duration::from_secs(20), || {
        let reply = node.client().get("/status?key=store.raft.fsm_pending").ok()?;
        (reply.text().trim().parse().unwrap_or(0) > 0).then_some(())
    });
    node.kill9();

    for (index, why) in [(1, "no effect"), (entry + 1000, "no such entry")] {
        let flag = format!("-skip-entry={index}");
        let mut node = Launch::new(&data, &[&flag, flags[0], flags[1]]).spawn();
        if index == 1 {
            poll(why, Duration::from_secs(20), || node.log().contains(why).then_some(()));
            node.kill9();
        } else {
            let exit = node.wait_exit();
            assert!(exit.code == Some(1) && exit.log.contains(why), "{exit:?}");
        }
    }

    let mut node = Launch::new(&data, &[&format!("-skip-entry={entry}"), flags[0]]).start();
    assert_eq!(node.number("SELECT n FROM t"), 7, "what was behind it is applied");
    assert!(node.log().contains(&format!("{entry} was not applied but failed")), "{}", node.log());
    assert_eq!(node.terminate().code, Some(0));
    assert_eq!(launch.start().number("SELECT count(*) FROM t"), 1);
}

/// The largest replay there can be: the log as long as it may get, and a database that has nothing of it.
#[test]
fn the_replay_of_a_long_log_takes_little_memory() {
    const VALUE_BYTES: usize = 500_000;
    const VALUES: usize = 110;
    const RSS_BYTES_MAX: u64 = 48 << 20;
    let dir = TempDir::new("replay-memory");
    let data = dir.path().join("data");
    let launch = Launch::new(&data, &["-raft-snap=1000000", "-raft-snap-wal-size=0"]);
    let mut node = launch.start();
    node.execute(r#"["CREATE TABLE t(n INTEGER PRIMARY KEY, x TEXT)"]"#);
    let mut client = node.client();
    for n in 0..VALUES {
        let body = format!(r#"[["INSERT INTO t VALUES(?,?)",{n},"{}"]]"#, "x".repeat(VALUE_BYTES));
        assert!(client.post("/db/execute", &body).expect("an answer").text().contains("rows_affected"));
    }
    node.kill9();
    // The log still begins at its first entry, so that the database is made anew from it.
    for file in ["db.sqlite", "db.sqlite-wal", "db.sqlite-shm"] {
        std::fs::remove_file(data.join(file)).expect("the file was there");
    }
    let node = launch.start();
    let peak = node.usage().peak_rss_bytes;
    assert_eq!(node.number("SELECT sum(length(x)) FROM t"), (VALUE_BYTES * VALUES) as i64);
    println!(
        "{} MB of log replayed in {:?}, at most {} MB",
        (VALUES * VALUE_BYTES) >> 20,
        node.ready_after,
        peak >> 20
    );
    assert!(peak < RSS_BYTES_MAX, "the replay took {} MB", peak >> 20);
}
