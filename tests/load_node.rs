//! Databases that are loaded into, or booted on, a node that is alone: crashes, hostile files, memory.
//!
//! Prevents: half a database after a crash, a file that takes the node down or is taken though it is damaged, memory that
//! grows with the file, a log that keeps what was loaded.

mod support;

use serde_json::json;
use std::time::{Duration, Instant};
use support::databases::{self, load};
use support::{Client, Launch, Node, Rng, TempDir, poll};

const LIMIT: Duration = Duration::from_secs(60);
/// The demand on the process's memory while a large database is loaded.
const RSS_BYTES_MAX: u64 = 100 << 20;

/// A database of some kilobytes for each row.
fn database(mark: &str, rows: u32) -> Vec<u8> {
    databases::made(&format!(
        "CREATE TABLE t(mark TEXT); INSERT INTO t VALUES('{mark}'); CREATE TABLE large(id INTEGER PRIMARY KEY, x);
         INSERT INTO large(x) WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT {rows})
         SELECT printf('%01000d', n) FROM g"
    ))
}

fn boot(node: &Node, body: &[u8]) -> support::Reply {
    node.client().with_timeout(LIMIT).call("POST", "/boot", &[], body).expect("an answer")
}

#[test]
fn a_kill_within_a_load_leaves_the_old_database_or_the_new_one() {
    let mut rng = Rng::new(support::seed(61));
    let dir = TempDir::new("load-kill");
    let launch = Launch::new(&dir.path().join("data"), &[]);
    let mut node = launch.start();
    node.execute(r#"["CREATE TABLE t(mark TEXT)", "INSERT INTO t VALUES('0')"]"#);
    let mut current = "0".to_owned();
    let (mut kept, mut replaced) = (0, 0);
    let began = Instant::now();
    let _ = load(&node, "", &[], &database("0", 15_000));
    let whole_ms = began.elapsed().as_millis() as u64;
    for round in 1..=10 {
        let mark = round.to_string();
        let (file, port) = (database(&mark, 15_000), node.port());
        let loading = std::thread::spawn(move || {
            let mut client = Client::new(port).with_timeout(LIMIT);
            client.call("POST", "/db/load", &[], &file).is_ok_and(|reply| reply.status == 200)
        });
        let moment = Instant::now() + Duration::from_millis(rng.between(whole_ms / 10, whole_ms));
        poll("a random moment", LIMIT, || (Instant::now() >= moment).then_some(()));
        node.kill9();
        let acknowledged = loading.join().expect("no panic");
        node = launch.start();
        let found = node.rows("SELECT mark FROM t")[0][0].as_str().expect("text").to_owned();
        assert!(found == mark || found == current && !acknowledged, "{found} in round {round}, after {current}");
        if found == mark {
            replaced += 1
        } else {
            kept += 1
        }
        assert_eq!(node.number("SELECT count(*) FROM large"), 15_000);
        assert_eq!(node.rows("PRAGMA quick_check"), [[json!("ok")]]);
        node.execute(r#"["INSERT INTO large(x) VALUES('after')", "DELETE FROM large WHERE x = 'after'"]"#);
        current = found;
    }
    println!("{kept} kept, {replaced} replaced");
    // And a load that nobody disturbs.
    let reply = load(&node, "", &[], &database("last", 15_000));
    assert_eq!((reply.status, reply.text().as_str()), (200, r#"{"results":[]}"#));
    assert_eq!(node.rows("SELECT mark FROM t"), [[json!("last")]]);
}

#[test]
fn a_large_database_takes_little_memory_and_leaves_no_log() {
    let dir = TempDir::new("load-large");
    let launch = Launch::new(&dir.path().join("data"), &[]);
    let mut node = launch.start();
    node.execute(r#"["CREATE TABLE t(mark TEXT)"]"#);
    let file = database("large", 300_000);
    assert!(file.len() > 300_000_000, "more than a request may have: {}", file.len());
    let began = Instant::now();
    let reply = load(&node, "", &[], &file);
    assert_eq!((reply.status, reply.text().as_str()), (200, r#"{"results":[]}"#));
    println!("{} MB loaded in {:?}", file.len() / 1_000_000, began.elapsed());
    assert_eq!(node.number("SELECT count(*) FROM large"), 300_000);
    let peak = node.usage().peak_rss_bytes;
    println!("the process took {} MB at most", peak / 1_000_000);
    assert!(peak < RSS_BYTES_MAX, "{peak}");
    poll("the log to be let go of", LIMIT, || {
        let files = std::fs::read_dir(launch.dir.join("raft-wal")).ok()?;
        let bytes: u64 = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum();
        (bytes < 20_000_000).then_some(())
    });
    let status = node.client().get("/status?key=store.sqlite3.db_size").expect("an answer");
    assert!(status.json().as_u64().expect("a size") >= file.len() as u64);
    node.kill9();
    let node = launch.start();
    assert_eq!(node.number("SELECT count(*) FROM large"), 300_000);
    let vars = node.client().get("/debug/vars?key=store").expect("an answer").text();
    assert!(vars.contains("\"num_loads\": 0"), "counted where it was done: {vars}");
}

#[test]
fn hostile_files_are_refused_and_change_nothing() {
    let dir = TempDir::new("load-hostile");
    let node = Node::start(&dir.path().join("data"), &[]);
    node.execute(r#"["CREATE TABLE t(mark TEXT)", "INSERT INTO t VALUES('kept')"]"#);
    let whole = database("hostile", 3000);
    let mut damaged = whole.clone();
    damaged[40_960..45_056].fill(0xa5);
    let mut other_module = databases::made("CREATE VIRTUAL TABLE f USING fts5(x)");
    let at = other_module.windows(4).position(|w| w == b"fts5").expect("its definition");
    other_module[at..at + 4].copy_from_slice(b"evil");
    let mut longer = whole.clone();
    longer.extend_from_slice(&[0; 4096]);
    for (what, file) in [
        ("truncated", whole[..whole.len() / 2].to_vec()),
        ("cut within a page", whole[..whole.len() - 7].to_vec()),
        ("longer", longer),
        ("a header alone", whole[..100].to_vec()),
        ("the magic alone", b"SQLite format 3\0".to_vec()),
        ("damaged", damaged),
        ("another module", other_module),
        ("no such format", [b"SQLite format 4\0".as_slice(), &[0; 4096]].concat()),
    ] {
        let reply = load(&node, "", &[], &file);
        assert_eq!(reply.status, 500, "{what}");
        assert!(reply.text().starts_with("error swapping databases: "), "{what}: {}", reply.text());
        assert!(reply.header("x-rqlite-served-by").is_none());
        let reply = boot(&node, &file);
        assert!([400, 503].contains(&reply.status), "{what}: {}", reply.text());
    }
    for (what, body) in [("gzip", [0x1f, 0x8b, 8, 0].as_slice()), ("words", b"not SQL"), ("a prefix", b"SQLite format")]
    {
        let reply = load(&node, "", &[], body);
        assert!(reply.status == 200 && reply.text().contains("\"error\":\""), "{what}: {}", reply.text());
        let reply = boot(&node, body);
        assert_eq!((reply.status, reply.text().as_str()), (400, "invalid SQLite data\n"), "{what}");
    }
    assert_eq!(load(&node, "", &[], b"").text(), r#"{"results":[]}"#);
    assert_eq!(node.rows("SELECT mark FROM t"), [[json!("kept")]]);
    // Where it lies in the way of nothing.
    for settings in ["page_size = 512", "page_size = 65536", "journal_mode = WAL", "encoding = 'UTF-16be'"] {
        let file = databases::made(&format!(
            "PRAGMA {settings}; CREATE TABLE t(mark); INSERT INTO t VALUES('{}')",
            &settings[..4]
        ));
        assert_eq!(load(&node, "", &[], &file).status, 200, "{settings}");
        assert_eq!(node.rows("SELECT mark FROM t"), [[json!(settings[..4])]]);
        node.execute(r#"["INSERT INTO t VALUES('more')"]"#);
    }
    let own = node.client().get("/db/backup").expect("a whole answer").body;
    assert_eq!(load(&node, "", &[], &own).status, 200);
    assert_eq!(node.number("SELECT count(*) FROM t"), 2);
}

/// The WAL's bound is one of bytes, whatever the pages of a loaded database.
#[test]
fn large_pages_make_no_large_wal() {
    let dir = TempDir::new("load-pages");
    let launch = Launch::new(&dir.path().join("data"), &[]);
    let node = launch.start();
    let file = databases::made("PRAGMA page_size = 65536; CREATE TABLE t(x)");
    assert_eq!(load(&node, "", &[], &file).status, 200);
    for _ in 0..60 {
        node.execute(r#"["INSERT INTO t VALUES(randomblob(1000000)), (randomblob(1000000))"]"#);
    }
    let bytes = std::fs::metadata(launch.dir.join("db.sqlite-wal")).expect("there is one").len();
    assert!(bytes < 60_000_000, "{bytes}");
}

#[test]
fn a_booted_node_has_the_database_after_a_crash_and_gives_it_to_those_who_join() {
    let dir = TempDir::new("boot");
    let launch = Launch::new(&dir.path().join("n1"), &["-node-id=n1"]);
    let mut node = launch.start();
    node.execute(r#"["CREATE TABLE old(x)"]"#);
    let reply = boot(&node, &database("booted", 30_000));
    assert_eq!((reply.status, reply.text().as_str(), reply.header("content-type")), (200, "", None));
    node.execute(r#"["INSERT INTO t VALUES('after')"]"#);
    node.kill9();
    let node = launch.start();
    assert_eq!(node.rows("SELECT mark FROM t"), [[json!("booted")], [json!("after")]]);
    assert_eq!(node.number("SELECT count(*) FROM sqlite_master WHERE name = 'old'"), 0);
    let join = format!("-join=127.0.0.1:{}", launch.raft_port);
    let joining = Launch::new(&dir.path().join("n2"), &["-node-id=n2", &join]);
    let joined = joining.start();
    poll("the database", LIMIT, || {
        let body = r#"["SELECT count(*) FROM large"]"#;
        let reply = joined.client().post("/db/query?level=none", body).ok()?;
        (reply.json()["results"][0]["values"] == json!([[30_000]])).then_some(())
    });
    poll("a member that counts", LIMIT, || {
        let reply = boot(&node, &database("refused", 1));
        (reply.status == 503 && reply.text() == "not single-node\n").then_some(())
    });
}
