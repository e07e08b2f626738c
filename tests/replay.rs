//! The same log, replayed by another process with another clock and killed in the middle, gives the same database.
//!
//! Prevents: values that come from the machine that applies an entry rather than from the entry.

mod support;

use ferrolite::db::dump::logical_dump;
use ferrolite::db::sqlite::{Access, Connection};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::node::Launch;
use support::rng::Rng;
use support::{Node, TempDir, poll};

const SCHEMA: &[&str] = &[
    "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE, qty INT, at DEFAULT CURRENT_TIMESTAMP, r DEFAULT (random()))",
    "CREATE TABLE log(n INTEGER PRIMARY KEY AUTOINCREMENT, what, token, at, last)",
    "CREATE TABLE plain(a, b DEFAULT (strftime('%f', 'now')), c DEFAULT (hex(randomblob(4))))",
    "CREATE TRIGGER item_ai AFTER INSERT ON item BEGIN
       INSERT INTO log(what, token, at, last) VALUES(new.name, randomblob(8), julianday('now'), last_insert_rowid()); END",
    "CREATE VIRTUAL TABLE doc USING fts5(body)",
    "CREATE VIEW fresh AS SELECT name, random() AS dice, datetime('now') AS seen FROM item",
];

/// One request: path and statements.
fn request(rng: &mut Rng) -> (&'static str, Vec<String>) {
    let (n, m) = (rng.between(0, 200), rng.between(0, 50));
    let statement = |kind: u64| match kind {
        0 => format!("INSERT INTO item(name, qty) VALUES('n{n}', {m})"),
        1 => format!(
            "INSERT INTO item(name, qty) VALUES('n{n}', {m}) ON CONFLICT(name) DO UPDATE SET qty = qty + 1, r = random()"
        ),
        2 => format!("INSERT INTO item(name) VALUES('x{n}') RETURNING id, at, random()"),
        3 => "DELETE FROM item WHERE id IN (SELECT id FROM item ORDER BY random() LIMIT 1)".to_owned(),
        4 => format!("UPDATE plain SET c = randomblob({m} + 1), b = unixepoch('now') WHERE rowid % 7 = {}", n % 7),
        5 => "INSERT INTO plain(a) SELECT dice FROM fresh ORDER BY random() LIMIT 3".to_owned(),
        6 => format!("INSERT INTO doc VALUES('word{m} ' || hex(randomblob(3)) || ' common')"),
        7 => "INSERT INTO plain(a) VALUES(last_insert_rowid()), (changes()), (total_changes())".to_owned(),
        8 => format!("INSERT INTO log(what, at) SELECT name, seen FROM fresh WHERE length(name) = {}", n % 4),
        9 => "INSERT INTO nowhere VALUES(random())".to_owned(),
        10 => format!("DELETE FROM doc WHERE doc MATCH 'word{m}'"),
        _ => format!("INSERT INTO plain(a) VALUES({n})"),
    };
    let mut kinds = Vec::new();
    for _ in 0..rng.between(1, 6) {
        kinds.push(rng.between(0, 14));
    }
    let statements = kinds.into_iter().map(statement).collect();
    let path = match rng.between(0, 20) {
        0..=4 => "/db/execute?transaction",
        5..=7 => "/db/request",
        8 => "/db/execute?queue&wait",
        9 => "/db/request?transaction",
        _ => "/db/execute",
    };
    (path, statements)
}

fn write_log(node: &Node, rng: &mut Rng) -> usize {
    let mut client = node.client();
    let mut sent = 0;
    let schema: Vec<String> = SCHEMA.iter().map(|s| (*s).to_owned()).collect();
    let vacuum = vec!["VACUUM".to_owned(), "ANALYZE".to_owned()];
    let scripted = std::iter::once(("/db/execute", schema));
    let generated = (0..900).map(|i| if i % 300 == 150 { ("/db/execute", vacuum.clone()) } else { request(rng) });
    for (path, statements) in scripted.chain(generated) {
        sent += statements.len();
        let reply = client.post(path, &serde_json::to_string(&statements).expect("texts")).expect("an answer");
        assert_eq!(reply.status, 200, "{path} {statements:?}: {}", reply.text());
    }
    sent
}

fn dump(dir: &Path) -> String {
    let connection = Connection::open(&dir.join("db.sqlite"), Access::ReadOnly, None).expect("the database opens");
    logical_dump(&connection).expect("the database can be read")
}

fn clock_shim() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fault/clock.c");
    let shim = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("clock-{}.so", std::process::id()));
    let built = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).args([&shim, &source]).arg("-ldl").status();
    assert!(built.expect("a C compiler is there: the bundled SQLite needs it too").success());
    shim
}

/// The applied index as `/status` shows it; 0 until the store is open.
fn applied(node: &Node) -> u64 {
    let reply = node.client().get("/status?key=store.fsm_index");
    reply.ok().and_then(|r| r.text().parse().ok()).unwrap_or(0)
}

fn database_bytes(dir: &Path) -> u64 {
    let bytes = |name: &str| std::fs::metadata(dir.join(name)).map_or(0, |meta| meta.len());
    bytes("db.sqlite") + bytes("db.sqlite-wal")
}

/// The index that the last start found in the database, as its log line says.
fn found_at_start(log: &str) -> u64 {
    let line = log.rsplit("database holds index ").next().expect("the line is logged at every start");
    line.split('@').next().and_then(|index| index.parse().ok()).expect("an index")
}

#[test]
fn a_log_replayed_elsewhere_later_and_in_pieces_gives_the_same_database() {
    let scratch = TempDir::new("replay");
    let mut rng = Rng::new(support::seed(20));
    let (first, second) = (scratch.path().join("first"), scratch.path().join("second"));
    let flags = ["-node-id", "n1"];
    let mut node = Node::start(&first, &flags);
    let sent = write_log(&node, &mut rng);
    assert!(sent >= 1000, "{sent} statements");
    let last = applied(&node);
    assert_eq!(node.terminate().code, Some(0));

    // Only the log travels: the database is made anew from it.
    let (from, to) = (first.join("raft-wal"), second.join("raft-wal"));
    std::fs::create_dir_all(&to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("the log is there") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
    let launch = Launch::new(&second, &flags)
        .env("LD_PRELOAD", clock_shim())
        .env("CLOCK_SHIFT_S", (400 * 24 * 3600).to_string());
    // Each time killed when the database has grown a little more.
    for bytes in [100_000, 300_000] {
        let mut node = launch.spawn();
        poll("the replay goes on", Duration::from_secs(20), || (database_bytes(&second) > bytes).then_some(()));
        node.kill9();
    }
    let mut node = launch.start();
    let resumed_at = found_at_start(&node.log());
    assert!(0 < resumed_at && resumed_at < last, "killed in the middle: {resumed_at} of {last}");
    assert!(applied(&node) >= last);
    let shifted = node.number("SELECT unixepoch('now')");
    assert_eq!(node.terminate().code, Some(0));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    assert!(shifted > now + 300 * 24 * 3600, "the second node has another clock: {shifted}");

    let (one, other) = (dump(&first), dump(&second));
    assert!(one.lines().count() > 500, "there is something to compare");
    if one != other {
        let differing = one.lines().zip(other.lines()).find(|(a, b)| a != b);
        panic!("the replayed database differs: {differing:?}");
    }
}
