//! The log of one process, applied later by other processes, gives the same database: with wall clocks that are wrong by
//! more than a year in both directions, in other batches, and with `kill -9` in the middle.
//!
//! The log comes in over HTTP from several clients at once; everything that a statement can learn of time and chance is in
//! it. Compared are schema and rows of the database files, FTS and R-tree tables down to their shadow tables.

mod support;

use ferrolite::db::dump::{logical_dump, logical_hash};
use ferrolite::db::sqlite::{Access, Connection};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::fault::shift_clock;
use support::rng::Rng;
use support::script::{SCHEMA, extraordinary, ordinary};
use support::{Launch, Node, TempDir, poll};

const CLIENTS: u64 = 4;
/// Enough entries for several of the applier's batches, so that a replay can be seen to be under way.
const STATEMENTS_PER_CLIENT: usize = 2500;
const DAY_S: i64 = 86_400;
/// Replays that are killed before one may finish, and the tries to hit the middle of them.
const KILLS: usize = 2;
const KILL_TRIES_MAX: usize = 40;
/// A node with a wrong clock would otherwise think that maintenance is due, and write to its own copy of the log.
const FLAGS: &[&str] = &["-auto-optimize-int=0s", "-fk"];

/// What the clients sent.
#[derive(Default)]
struct Sent {
    statements: usize,
    errors: usize,
    rows: usize,
}

#[test]
fn the_log_replayed_by_other_processes_with_other_clocks_gives_the_same_database() {
    let seed = support::seed(31);
    let scratch = TempDir::new("replay");
    let first = scratch.path().join("a");
    let last_index = write_log(&first, seed);
    let (text, hash) = content(&first);
    assert!(text.lines().count() > 1000, "the script leaves something to compare: {} lines", text.lines().count());

    let later = scratch.path().join("b");
    copy_log(&first, &later);
    let killed = kill_in_the_middle(&later, last_index, &text);
    assert!(killed >= KILLS, "only {killed} kills hit the middle of the replay");
    replay_to_the_end(&later, last_index, -400 * DAY_S);
    assert_same("killed, with a clock in the past", &text, hash, &later);

    let third = scratch.path().join("c");
    copy_log(&first, &third);
    replay_to_the_end(&third, last_index, 400 * DAY_S);
    assert_same("with a clock in the future", &text, hash, &third);
}

/// Fills a node from several clients at once and gives the index of the last entry that changed something.
fn write_log(dir: &Path, seed: u64) -> u64 {
    let mut node = Node::start(dir, FLAGS);
    node.execute(&json!(SCHEMA).to_string());
    let all: Vec<Sent> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                scope.spawn({
                    let node = &node;
                    move || write(node, seed ^ n << 32)
                })
            })
            .collect();
        clients.into_iter().map(|c| c.join().expect("a client ends")).collect()
    });
    let statements: usize = all.iter().map(|s| s.statements).sum();
    let errors: usize = all.iter().map(|s| s.errors).sum();
    let rows: usize = all.iter().map(|s| s.rows).sum();
    println!("{statements} statements, {errors} errors, {rows} results with rows");
    assert!(statements >= 5000 && errors > 10 && errors * 2 < statements && rows > 20, "the script does real work");
    // The answer of a queued write that waits comes after all that were queued before it.
    let reply = node.client().post("/db/execute?queue&wait&timeout=30s", r#"["INSERT INTO plain(a) VALUES('last')"]"#);
    assert_eq!(reply.expect("the node answers").status, 200);
    let last_index = fsm_index(&node).expect("the node shows its index");
    assert_eq!(node.terminate().code, Some(0));
    last_index
}

/// One client: its share of the script, over all the ways in which a statement may come.
fn write(node: &Node, seed: u64) -> Sent {
    let mut dice = Rng::new(seed);
    let mut client = node.client();
    let mut sent = Sent::default();
    while sent.statements < STATEMENTS_PER_CLIENT {
        let mut statements = Vec::new();
        for _ in 0..=dice.below(4) {
            let odd = dice.below(100) < 6;
            statements.push(json!(if odd { extraordinary(&mut dice) } else { ordinary(&mut dice) }));
        }
        if dice.below(4) == 0 {
            statements
                .push(json!(["INSERT INTO item(name, qty) VALUES(?, length(?1))", format!("p{}", dice.below(50))]));
            statements.push(json!(["INSERT INTO plain(a, b) VALUES(:a, :b)", {"a": dice.below(9), "b": [1, 2, 3]}]));
        }
        sent.statements += statements.len();
        let path = match dice.below(12) {
            0 | 1 => "/db/execute?queue",
            2 | 3 => "/db/request?transaction",
            4 => "/db/execute?transaction",
            5 => "/db/execute?db_timeout=1ms",
            6..9 => "/db/request",
            _ => "/db/execute?timings",
        };
        let reply = client.post(path, &Value::from(statements).to_string()).expect("the node answers");
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        for result in reply.json()["results"].as_array().into_iter().flatten() {
            sent.errors += usize::from(result.get("error").is_some());
            sent.rows += usize::from(result.get("columns").is_some());
        }
    }
    sent
}

/// A data directory that holds the log and no database.
fn copy_log(from: &Path, to: &Path) {
    let (from, to) = (from.join("raft-wal"), to.join("raft-wal"));
    fs::create_dir_all(&to).expect("the scratch directory is writable");
    for file in fs::read_dir(&from).expect("the log's directory can be read") {
        let file = file.expect("the log's directory can be read");
        fs::copy(file.path(), to.join(file.file_name())).expect("the log can be copied");
    }
}

/// Starts replays and kills each as soon as it shows an index between the ends. Gives how many kills left a database that
/// is still behind.
fn kill_in_the_middle(dir: &Path, last_index: u64, finished: &str) -> usize {
    let launch = shift_clock(Launch::new(dir, FLAGS), -200 * DAY_S);
    let mut killed = 0;
    let mut seen_max = 0;
    for _ in 0..KILL_TRIES_MAX {
        let mut node = launch.spawn();
        let seen = poll("the replay is under way", Duration::from_secs(20), || {
            fsm_index(&node).filter(|index| *index > seen_max)
        });
        node.kill9();
        let behind = content(dir).0 != finished;
        println!("killed at index {seen} of {last_index}, behind: {behind}");
        if !behind {
            break;
        }
        seen_max = seen;
        killed += 1;
        if killed == KILLS {
            break;
        }
    }
    killed
}

fn replay_to_the_end(dir: &Path, last_index: u64, shift_s: i64) {
    let mut node = shift_clock(Launch::new(dir, FLAGS), shift_s).start();
    let now_s = unix_time_s() + shift_s;
    let node_s = wall_clock_s(&node);
    assert!((now_s - node_s).abs() < 60, "the node's clock is wrong by what was asked for: {node_s}, {now_s}");
    poll("the log is applied", Duration::from_secs(60), || fsm_index(&node).filter(|index| *index >= last_index));
    assert!(node.log().contains("first index is 1,"), "the whole log was there: {}", node.log());
    assert_eq!(node.terminate().code, Some(0));
}

/// `store.fsm_index` of `/status`, when the node answers and its store is open.
fn fsm_index(node: &Node) -> Option<u64> {
    let reply = node.client().with_timeout(Duration::from_secs(5)).get("/status").ok()?;
    reply.json()["store"]["fsm_index"].as_u64()
}

/// The node's clock, as its readers see it.
fn wall_clock_s(node: &Node) -> i64 {
    let reply = node.client().get("/db/query?level=none&q=SELECT%20unixepoch()").expect("the node answers");
    reply.json()["results"][0]["values"][0][0].as_i64().unwrap_or_else(|| panic!("no time in {}", reply.text()))
}

fn unix_time_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs() as i64
}

fn content(dir: &Path) -> (String, u128) {
    let connection = Connection::open(&dir.join("db.sqlite"), Access::ReadWrite, None).expect("the database opens");
    let check = connection.query_texts("PRAGMA integrity_check").expect("the check runs");
    assert_eq!(check, ["ok"], "{}", dir.display());
    (logical_dump(&connection).expect("a dump is possible"), logical_hash(&connection).expect("a hash is possible"))
}

fn assert_same(what: &str, text: &str, hash: u128, other: &Path) {
    let (other_text, other_hash) = content(other);
    for (line, (a, b)) in text.lines().zip(other_text.lines()).enumerate() {
        assert_eq!(a, b, "{what}: line {line} of the dumps differs");
    }
    assert_eq!(text.lines().count(), other_text.lines().count(), "{what}");
    assert_eq!(hash, other_hash, "{what}");
}
