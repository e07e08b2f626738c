//! SQL and JSON meant to harm, against the real binary. The engine's own hazards (heads, framing, slow clients) are in
//! `http_hazards.rs`.
//!
//! Prevents: one client's request that stops all others, takes the memory of the machine, kills the process, or leaves
//! threads and descriptors behind.

mod support;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use support::http::encode;
use support::{Client, Node, Reply, TempDir, poll};

/// The demand on the process's memory, whatever clients send.
const RSS_BYTES_MAX: u64 = 100 << 20;
/// Threads that handle requests, at most (`-http-workers`).
const WORKERS: u64 = 64;
/// Longest that an honest small request may take while a hostile one runs.
const HONEST_MAX: Duration = Duration::from_secs(2);
/// Longest wait for the answer to a hostile request: above the default deadline of a read.
const HOSTILE_LIMIT: Duration = Duration::from_secs(90);

const ENDLESS: &str = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) SELECT sum(n) FROM c";

/// A fresh node, with an honest client at work all the time. Dropping it checks what must hold after any attack.
///
/// One siege at a time: what one attack costs must not be blamed on another.
struct Siege {
    _alone: MutexGuard<'static, ()>,
    node: Node,
    stop: Arc<AtomicBool>,
    honest: Option<std::thread::JoinHandle<(u32, Duration)>>,
    before: support::procfs::Usage,
    _dir: TempDir,
}

impl Siege {
    fn lay(name: &str, flags: &[&str]) -> Siege {
        static ALONE: Mutex<()> = Mutex::new(());
        // A siege that failed says nothing about the next one.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = TempDir::new(name);
        let node = Node::start(&dir.path().join("data"), flags);
        node.execute(r#"["CREATE TABLE t (id INTEGER PRIMARY KEY, x)", "CREATE TABLE honest (n INT)"]"#);
        node.execute(r#"["INSERT INTO t(x) VALUES('one'), ('two')"]"#);
        let before = node.usage();
        let stop = Arc::new(AtomicBool::new(false));
        let (port, told) = (node.port(), stop.clone());
        let honest = Some(std::thread::spawn(move || honest(port, &told)));
        Siege { _alone: alone, node, stop, honest, before, _dir: dir }
    }

    fn client(&self) -> Client {
        self.node.client().with_timeout(HOSTILE_LIMIT)
    }

    fn lift(self) {
        self.lift_below(RSS_BYTES_MAX, HONEST_MAX);
    }

    /// The honest client was served throughout, memory stayed bounded, nothing is left behind.
    fn lift_below(mut self, rss_bytes_max: u64, honest_max: Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let (calls, slowest) =
            self.honest.take().expect("lifted once").join().expect("the honest client panicked, see above");
        assert!(calls > 0, "the honest client was never served");
        assert!(slowest < honest_max, "an honest request took {slowest:?}");
        let usage = self.node.usage();
        assert!(usage.peak_rss_bytes < rss_bytes_max, "memory rose to {} MB", usage.peak_rss_bytes >> 20);
        let honest = self.node.number("SELECT count(*) FROM honest");
        assert_eq!(honest, i64::from(calls), "acknowledged writes of the honest client");
        // Up to 64 workers and a read connection (three descriptors) for each are started when needed, and kept a while; an
        // attack must not add one for each request.
        poll("descriptors and threads are given back", Duration::from_secs(10), || {
            let now = self.node.usage();
            (now.fds <= self.before.fds + 3 * WORKERS && now.threads <= self.before.threads + WORKERS).then_some(())
        });
        assert_eq!(self.node.terminate().code, Some(0));
    }
}

/// Reads and writes until told to stop; (rounds, slowest request).
fn honest(port: u16, stop: &AtomicBool) -> (u32, Duration) {
    let mut client = Client::new(port).with_timeout(Duration::from_secs(20));
    let (mut rounds, mut slowest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        for (path, body) in [
            ("/db/execute", r#"["INSERT INTO honest VALUES(1)"]"#),
            ("/db/query", r#"["SELECT x FROM t WHERE id = 2"]"#),
            ("/readyz", ""),
        ] {
            let began = Instant::now();
            let reply = if body.is_empty() { client.get(path) } else { client.post(path, body) };
            let reply = reply.expect("the node answers an honest client");
            assert!(reply.status == 200 && !reply.text().contains("\"error\""), "{path}: {}", reply.text());
            slowest = slowest.max(began.elapsed());
        }
        rounds += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    (rounds, slowest)
}

/// Refused: by status, by an error in the result, or by a connection that is cut. Never by the death of the process.
fn assert_refused(answer: &io::Result<Reply>, what: &str) {
    if let Ok(reply) = answer {
        let refused = reply.status >= 400 || reply.text().contains("\"error\"");
        assert!(refused, "{what}: {} {:.200}", reply.status, reply.text());
    }
}

#[test]
fn json_a_million_levels_deep_is_refused() {
    let siege = Siege::lay("deep-json", &[]);
    let mut client = siege.client();
    let depth = 1_000_000;
    for body in [
        "[".repeat(depth),
        format!("{}{}", "[".repeat(depth), "]".repeat(depth)),
        format!(r#"[["SELECT ?", {}1{}]]"#, r#"{"a":"#.repeat(depth), "}".repeat(depth)),
        format!(r#"[["SELECT ?", {}]]"#, "[".repeat(depth)),
    ] {
        for path in ["/db/execute", "/db/query", "/db/request"] {
            let reply = client.post(path, &body).expect("an answer");
            assert_eq!(reply.status, 400, "{path}: {}", reply.text());
        }
    }
    siege.lift();
}

#[test]
fn expressions_too_deep_and_statements_too_long_are_errors() {
    let siege = Siege::lay("deep-sql", &[]);
    let mut client = siege.client();
    let deep = format!("SELECT {}1{}", "(".repeat(200_000), ")".repeat(200_000));
    let sum = format!("SELECT 1{}", "+1".repeat(500_000));
    let union = format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(50_000));
    let unknown = "x".repeat(20 << 20);
    for sql in [&deep, &sum, &union, &unknown] {
        for path in ["/db/execute", "/db/query", "/db/request"] {
            assert_refused(&client.post(path, &format!(r#"["{sql}"]"#)), &sql[..30]);
        }
    }
    // Long but lawful: a statement of 2 MB that only compares a text.
    let long = format!(r#"["SELECT length('{}')"]"#, "y".repeat(300_000));
    let reply = client.post("/db/query", &long).expect("an answer");
    assert_eq!(reply.json()["results"][0]["values"][0][0], 300_000, "{}", reply.text());
    siege.lift_below(RSS_BYTES_MAX, HONEST_MAX);
}

#[test]
fn endless_reads_end_at_db_timeout_and_others_are_served() {
    let siege = Siege::lay("endless-timeout", &[]);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let mut client = siege.client();
            std::thread::spawn(move || {
                let began = Instant::now();
                let reply = client.get(&format!("/db/query?level=none&db_timeout=500ms&q={}", encode(ENDLESS)));
                (began.elapsed(), reply.expect("an answer"))
            })
        })
        .collect();
    for thread in threads {
        let (took, reply) = thread.join().expect("no panic");
        assert_eq!(reply.json()["results"][0]["error"], "query timeout", "{}", reply.text());
        assert!(took < Duration::from_secs(10), "db_timeout=500ms took {took:?}");
    }
    siege.lift();
}

#[test]
fn an_endless_read_ends_at_the_deadline_of_all_reads() {
    let siege = Siege::lay("endless", &["-db-read-timeout=2s"]);
    let reply = siege.client().get(&format!("/db/query?level=none&q={}", encode(ENDLESS))).expect("an answer");
    assert!(reply.text().contains("\"error\""), "{}", reply.text());
    siege.lift();
}

#[test]
fn an_endless_write_is_stopped_by_its_budget_of_steps() {
    let siege = Siege::lay("endless-write", &[]);
    let sql = format!("INSERT INTO t(x) {ENDLESS}");
    let answer = siege.client().post("/db/execute?db_timeout=200ms", &format!(r#"["{sql}"]"#));
    assert_refused(&answer, "an endless write");
    assert_eq!(siege.node.number("SELECT count(*) FROM t"), 2);
    // While it ran, honest writes had to wait for it: the bound on them is the write's own limit.
    siege.lift();
}

#[test]
fn values_that_explode_are_errors() {
    let siege = Siege::lay("bombs", &[]);
    let mut client = siege.client();
    for expression in [
        "hex(zeroblob(300000000))",
        "zeroblob(2000000000)",
        "randomblob(1000000000)",
        "printf('%.*c', 300000000, 'x')",
        "printf('%0300000000d', 1)",
        "replace(hex(zeroblob(10000)), '0', hex(zeroblob(100000)))",
        "replace(replace(hex(zeroblob(3000)), '00', hex(zeroblob(3000))), '00', hex(zeroblob(3000)))",
        "(WITH RECURSIVE b(x) AS (SELECT 'xxxxxxxx' UNION ALL SELECT x || x FROM b LIMIT 40) SELECT max(x) FROM b)",
        "(WITH RECURSIVE b(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM b LIMIT 3000000) SELECT group_concat(hex(zeroblob(500))) FROM b)",
    ] {
        let reads = [format!(r#"["SELECT length({expression})"]"#), format!(r#"["SELECT {expression}"]"#)];
        for body in reads {
            let answer = client.post("/db/query?db_timeout=5s", &body);
            assert!(answer.is_ok(), "{expression}: {answer:?}");
            assert_refused(&answer, expression);
        }
        let answer = client.post("/db/execute?db_timeout=1s", &format!(r#"["INSERT INTO t(x) VALUES({expression})"]"#));
        assert_refused(&answer, expression);
    }
    // A statement that runs holds up other writes: `db_timeout` bounds it.
    siege.lift_below(RSS_BYTES_MAX, HONEST_MAX * 2);
}

#[test]
fn a_million_statements_in_one_request_do_no_harm() {
    let siege = Siege::lay("million", &[]);
    let mut client = siege.client();
    // Most of them do nothing; what matters is the list. Refusing it is as good as carrying it out.
    let body = format!("[{}]", vec![r#""SELECT 1""#; 1_000_000].join(","));
    for path in ["/db/query", "/db/execute?db_timeout=1s"] {
        match client.post(path, &body) {
            Ok(reply) => assert!([200, 400, 413].contains(&reply.status), "{path}: {}", reply.status),
            Err(e) => assert_ne!(e.kind(), io::ErrorKind::WouldBlock, "{path}: no answer in time"),
        }
    }
    let semicolons = format!(r#"["{}"]"#, "SELECT 1;".repeat(100_000));
    let answer = client.post("/db/execute?db_timeout=1s", &semicolons);
    assert!(answer.is_ok(), "{answer:?}");
    // `db_timeout` bounds each statement of a write and not their sum, so that honest writes wait for all of them.
    siege.lift_below(RSS_BYTES_MAX, Duration::from_secs(15));
}

#[test]
fn a_hundred_thousand_parameters_are_an_error_or_a_result() {
    let siege = Siege::lay("parameters", &[]);
    let mut client = siege.client();
    let count = 100_000;
    let marks = vec!["?"; count].join(",");
    let values = vec!["1"; count].join(",");
    let answer = client.post("/db/query", &format!(r#"[["SELECT 1 IN ({marks})", {values}]]"#)).expect("an answer");
    assert_refused(&Ok(answer), "100,000 placeholders");
    // Surplus values are ignored, as the API says.
    let reply = client.post("/db/query", &format!(r#"[["SELECT ?", {values}]]"#)).expect("an answer");
    assert_eq!(reply.json()["results"][0]["values"][0][0], 1);
    let named: Vec<String> = (0..count).map(|i| format!(r#""n{i}":{i}"#)).collect();
    let reply =
        client.post("/db/query", &format!(r#"[["SELECT :n77777", {{{}}}]]"#, named.join(","))).expect("an answer");
    assert_eq!(reply.json()["results"][0]["values"][0][0], 77_777);
    siege.lift();
}

#[test]
fn results_too_large_are_errors_and_memory_stays_bounded() {
    let siege = Siege::lay("large-results", &[]);
    let rows = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 20000000) SELECT hex(randomblob(500)) FROM c";
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let mut client = siege.client();
            let path = format!("/db/query?level=none&db_timeout=60s&q={}", encode(rows));
            std::thread::spawn(move || assert_refused(&client.get(&path), "20 GB of rows"))
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    siege.lift();
}

#[test]
fn cross_joins_and_sorts_that_never_end_do_not_hold_writes() {
    let siege = Siege::lay("sorts", &[]);
    let mut client = siege.client();
    for sql in [
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 3000000) \
         SELECT count(*) FROM (SELECT hex(randomblob(200)) b FROM c ORDER BY 1) WHERE b < 'A'",
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 100000) SELECT count(*) FROM c a, c b, c d WHERE a.n + b.n + d.n = 7",
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 3000000) SELECT count(DISTINCT hex(randomblob(200))) FROM c",
    ] {
        let reply = client.get(&format!("/db/query?level=none&db_timeout=3s&q={}", encode(sql))).expect("an answer");
        assert_eq!(reply.status, 200, "{sql}: {}", reply.text());
    }
    siege.lift();
}

#[test]
fn statements_that_would_leave_the_database_are_refused() {
    let siege = Siege::lay("escape", &[]);
    let outside = siege.node.launch().dir.with_extension("escaped");
    let path = outside.display();
    for sql in [
        format!("ATTACH DATABASE '{path}' AS e"),
        format!("VACUUM INTO '{path}'"),
        "BEGIN".into(),
        "COMMIT".into(),
        "SAVEPOINT s".into(),
        "PRAGMA journal_mode(delete)".into(),
        "/* */ PRAGMA journal_mode=delete".into(),
        "PRAGMA main.synchronous=off".into(),
        "PRAGMA journal_mode=delete; SELECT 1".into(),
        "CREATE TEMP TABLE x(a)".into(),
        "SELECT load_extension('x.so')".into(),
        "SELECT writefile('x', 'y')".into(),
    ] {
        let body = serde_json::json!([sql]).to_string();
        for endpoint in ["/db/execute", "/db/request"] {
            assert_refused(&siege.client().post(endpoint, &body), &sql);
        }
    }
    // Its value is an address in the process.
    let body = r#"[["INSERT INTO t(x) SELECT fts3_tokenizer(?)", "simple"]]"#;
    assert_refused(&siege.client().post("/db/execute", body), "an address as a value");
    // It does nothing there, or is refused; what matters is that the catalogue stays out of reach.
    for endpoint in ["/db/execute", "/db/request"] {
        let body = r#"["PRAGMA writable_schema=ON", "DELETE FROM sqlite_master"]"#;
        assert_refused(&siege.client().post(endpoint, body), "a write to the catalogue");
    }
    assert!(!outside.exists(), "a file was written outside the data directory");
    siege.lift();
}

#[test]
fn hostile_requests_all_at_once() {
    let siege = Siege::lay("all-at-once", &[]);
    let bodies = [
        ("/db/query?db_timeout=2s", format!(r#"["{ENDLESS}"]"#)),
        ("/db/query?db_timeout=2s", r#"["SELECT hex(zeroblob(300000000))"]"#.to_owned()),
        ("/db/execute", "[".repeat(1_000_000)),
        ("/db/request", format!("[{}]", vec![r#""SELECT 1""#; 100_000].join(","))),
        ("/db/query?db_timeout=2s&level=strong", format!(r#"["{ENDLESS}"]"#)),
        ("/db/query?db_timeout=2s&level=linearizable", format!(r#"["{ENDLESS}"]"#)),
    ];
    let bodies = Arc::new(bodies);
    let threads: Vec<_> = (0..24)
        .map(|n| {
            let (mut client, bodies) = (siege.client(), bodies.clone());
            std::thread::spawn(move || {
                for round in 0..4 {
                    let (path, body) = &bodies[(n + round) % bodies.len()];
                    // Only what becomes of the node counts here; the answers are judged one by one above.
                    let _ = client.post(path, body);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    siege.lift_below(RSS_BYTES_MAX, HONEST_MAX);
}

/// No client names a `db_timeout` here: the server's own limit is in the log entry, so that it also ends the replay.
#[test]
fn an_endless_write_ends_by_itself_also_when_it_is_replayed() {
    const ROUND: &str = r#"["INSERT INTO t(x) VALUES('after')"]"#;
    let flags = ["-write-steps-max=30000000"];
    let siege = Siege::lay("endless-write", &flags);
    let body = format!("[\"INSERT INTO t(x) {}\"]", ENDLESS.replace("sum(n)", "n"));
    siege.node.execute(r#"["CREATE VIRTUAL TABLE f USING fts5(x)"]"#);
    for sql in [body.clone(), body.replace("INTO t(x)", "INTO f(x)")] {
        for path in ["/db/execute", "/db/execute?transaction", "/db/request"] {
            let reply = siege.client().post(path, &sql).expect("an answer");
            assert!(reply.text().contains("timeout"), "{path} {sql}: {}", reply.text());
            siege.node.execute(ROUND);
        }
    }
    // Queued, nobody waits for it; the stop does.
    let reply = siege.client().post("/db/execute?queue", &body).expect("an answer");
    assert_eq!(reply.status, 200);
    siege.lift_below(RSS_BYTES_MAX, Duration::from_secs(15));

    let dir = TempDir::new("endless-replay");
    let mut node = Node::start(&dir.path().join("data"), &flags);
    node.execute(r#"["CREATE TABLE t(x)"]"#);
    let mut client = node.client();
    let killed = std::thread::spawn(move || client.post("/db/execute", &body));
    let status = || node.client().get("/status?key=store.raft.fsm_pending").expect("an answer").text();
    poll("the endless write is under way", Duration::from_secs(20), || (status().trim() == "1").then_some(()));
    node.kill9();
    let _ = killed.join();
    let node = node.launch().start();
    node.execute(ROUND);
    assert_eq!(node.number("SELECT count(*) FROM t"), 1);
}
