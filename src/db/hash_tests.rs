//! The logical hash: blind for what nodes may differ in, and for nothing else.

use super::copy::CopySource;
use super::incoming::CopyTarget;
use super::sqlite::{Access, Connection};
use super::tests::{Node, Scratch, execute, open_with, request, transaction};
use super::*;
use crate::command::{Action, Command, RequestId};
use raft::{ClusterId, Index, LogId, Term};
use std::sync::atomic::AtomicBool;

fn hash_of(node: &Node) -> [u8; 32] {
    let source = HashSource::pin(&node.scratch.file()).unwrap();
    assert_eq!(source.applied(), node.writer.applied().id);
    let hash = source.hash(&AtomicBool::new(false)).unwrap().unwrap();
    assert_eq!(hash, hash::of_connection(node.writer.connection()).unwrap());
    hash
}

/// Changes the database past the log.
fn tamper(node: &Node, sql: &str) {
    Connection::open(&node.scratch.file(), Access::ReadWrite, None).unwrap().execute(sql).unwrap();
}

const SCHEMA: [&str; 10] = [
    "CREATE TABLE plain(a, b)",
    "CREATE TABLE keyed(k TEXT PRIMARY KEY, v) WITHOUT ROWID",
    "CREATE TABLE twice(a TEXT COLLATE NOCASE, b INT, c, PRIMARY KEY(b DESC, a COLLATE BINARY)) WITHOUT ROWID",
    "CREATE INDEX covering ON twice(c, a, b)",
    "CREATE TABLE shadowing(rowid TEXT, _rowid_, oid, v)",
    "CREATE TABLE computed(x, z AS (x || 'z') STORED)",
    "CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
    "CREATE VIRTUAL TABLE f USING fts5(t)",
    "CREATE VIRTUAL TABLE box USING rtree(id, x0, x1)",
    "CREATE TABLE \"odd \"\" name's\"(\"odd \"\" column\" DEFAULT 'x')",
];

fn log() -> Vec<Command> {
    let mut log = vec![execute(&SCHEMA)];
    for n in 0..150 {
        let number = n.to_string();
        let sql = match n % 10 {
            0 => format!("INSERT INTO plain VALUES(random(), datetime('now')), ({n}, {n}.0), (NULL, x'00ff')"),
            1 => format!("INSERT INTO keyed VALUES('k{n}', {n})"),
            2 => format!("INSERT INTO twice VALUES('a', {n}, 1), ('A', {n}, 2)"),
            3 => format!("INSERT INTO shadowing VALUES('r', {n}, NULL, 4)"),
            // A column that cannot be computed for the rows that are there.
            4 if n == 144 => "ALTER TABLE computed ADD y AS (json_extract(x, '$.a'))".to_owned(),
            4 => format!("INSERT INTO computed(x) VALUES('no json {n}')"),
            5 => "INSERT INTO counted(v) VALUES(1); DELETE FROM counted WHERE id % 3 = 0".to_owned(),
            6 => format!("INSERT INTO f VALUES('word{n} fox')"),
            7 => format!("INSERT INTO box VALUES({n}, {n}, {n}.5); ANALYZE"),
            8 => "INSERT INTO \"odd \"\" name's\" DEFAULT VALUES; VACUUM".to_owned(),
            _ => "INSERT OR ROLLBACK INTO keyed VALUES('k1', 1)".to_owned(),
        };
        log.push(match n % 3 {
            0 => execute(&[&sql, &sql]),
            1 => transaction(&[&sql]),
            _ => request(&[&sql, &number]),
        });
    }
    log.push(Action::Hash);
    log.push(Action::Verdict { index: Index(1), hash: [1; 32] });
    let command = |(n, action): (usize, Action)| {
        let request = (n % 2 == 0).then(|| RequestId::from_client(&[n as u8 / 4], Index(0), &action).unwrap());
        Command { unix_time_us: 1_700_000_000_000_000 + n as i64, seed: n as u64, action, request }
    };
    log.into_iter().enumerate().map(command).collect()
}

fn apply(node: &mut Node, log: &[Command], sizes: &[usize]) {
    let mut sizes = sizes.iter().cycle();
    loop {
        let done = node.writer.applied().id.index.0 as usize;
        if done == log.len() {
            return;
        }
        let upto = log.len().min(done + sizes.next().unwrap());
        let entries: Vec<_> = (done..upto)
            .map(|n| (LogId { term: Term(1), index: Index(n as u64 + 1) }, Item::Command(log[n].clone())))
            .collect();
        node.writer.apply_batch(&entries).unwrap();
    }
}

#[test]
fn the_same_log_gives_the_same_hash_over_batches_restarts_and_copies() {
    let log = log();
    let mut single = Node::new();
    apply(&mut single, &log, &[1]);
    let hash = hash_of(&single);
    let mut other = Node::new();
    apply(&mut other, &log[..60], &[7, 30]);
    let mut other = other.restart();
    apply(&mut other, &log[..110], &[usize::MAX / 2]);
    // A new node gets a copy, applies the rest, and starts once more.
    let mut source = CopySource::open(&other.scratch.file()).unwrap();
    let mut copy = Node::new();
    let mut target = CopyTarget::create(copy.scratch.dir(), source.meta()).unwrap();
    let mut chunk = Vec::new();
    while source.read(target.pages(), &mut chunk).unwrap() > 0 {
        target.write(&chunk).unwrap();
    }
    let incoming = target.finish(source.checksum().unwrap()).unwrap();
    let Node { writer, .. } = &mut copy;
    let spare = Scratch::new();
    let old = std::mem::replace(writer, open_with(&spare.file(), false));
    *writer = old.replace_with(incoming, &WriterOptions { foreign_keys: false, cluster: ClusterId(1) }).unwrap();
    assert_eq!(hash_of(&copy), hash_of(&other), "the mark of the copy does not count");
    apply(&mut copy, &log[..130], &[9]);
    let mut copy = copy.restart();
    apply(&mut copy, &log, &[100]);
    apply(&mut other, &log, &[3]);
    assert_eq!(hash_of(&copy), hash);
    assert_eq!(hash_of(&other), hash);
    // Where rows lie in the file does not count either.
    tamper(&other, "PRAGMA page_size = 8192; CREATE TABLE later(x); DROP TABLE later");
    assert_eq!(hash_of(&other), hash);
}

#[test]
fn one_value_that_differs_is_found() {
    let log = log();
    let mut node = Node::new();
    apply(&mut node, &log, &[1000]);
    let hash = hash_of(&node);
    let changes = [
        ("UPDATE plain SET b = b || '' WHERE rowid = 2", "UPDATE plain SET b = 0.0 WHERE rowid = 2"),
        ("UPDATE plain SET a = 0.0 WHERE a IS 0", "UPDATE plain SET a = 0 WHERE a IS 0"),
        ("UPDATE plain SET b = '' WHERE b = x'00ff' AND rowid = 3", "UPDATE plain SET b = x'00ff' WHERE rowid = 3"),
        ("UPDATE keyed SET v = 2 WHERE k = 'k1'", "UPDATE keyed SET v = 1 WHERE k = 'k1'"),
        ("UPDATE twice SET a = 'b' WHERE b = 2 AND c = 2", "UPDATE twice SET a = 'A' WHERE b = 2 AND c = 2"),
        ("UPDATE shadowing SET v = 5", "UPDATE shadowing SET v = 4"),
        ("UPDATE sqlite_sequence SET seq = seq + 1", "UPDATE sqlite_sequence SET seq = seq - 1"),
        ("UPDATE sqlite_stat1 SET stat = stat || ' '", "UPDATE sqlite_stat1 SET stat = rtrim(stat)"),
        ("CREATE TABLE n(x)", "DROP TABLE n"),
        ("CREATE INDEX n ON plain(a)", "DROP INDEX n"),
        ("PRAGMA user_version = 7", "PRAGMA user_version = 0"),
        ("UPDATE plain SET rowid = 5000 WHERE rowid = 1", "UPDATE plain SET rowid = 1 WHERE rowid = 5000"),
        ("UPDATE f_content SET c0 = c0 || 'y' WHERE id = 2", "UPDATE f_content SET c0 = rtrim(c0, 'y') WHERE id = 2"),
        // Our own: the applied row, and what is kept of a request.
        ("UPDATE sqlite_ferrolite SET id = -5 WHERE id = 1025", "UPDATE sqlite_ferrolite SET id = 1025 WHERE id = -5"),
        (
            "UPDATE sqlite_ferrolite SET value = CAST(value || x'00' AS BLOB) WHERE id = 2",
            "UPDATE sqlite_ferrolite SET value = x'' WHERE id = 2",
        ),
    ];
    for (there, back) in changes {
        tamper(&node, there);
        assert_ne!(hash::of_connection(node.writer.connection()).unwrap(), hash, "{there}");
        tamper(&node, back);
        assert_eq!(hash_of(&node), hash, "{back}");
    }
    tamper(&node, "DELETE FROM computed WHERE rowid = 1");
    assert_ne!(hash_of(&node), hash);
}

#[test]
fn values_do_not_run_into_each_other() {
    let hash_with = |sql: &str| {
        let connection = Connection::open(std::path::Path::new(":memory:"), Access::ReadWrite, None).unwrap();
        connection.execute("CREATE TABLE t(a, b); CREATE TABLE u(a, b)").unwrap();
        connection.execute(sql).unwrap();
        hash::of_connection(&connection).unwrap()
    };
    let mut seen = std::collections::HashSet::new();
    let contents = [
        "SELECT 1",
        "INSERT INTO t VALUES('ab', 'c')",
        "INSERT INTO t VALUES('a', 'bc')",
        "INSERT INTO t VALUES('abc', NULL)",
        "INSERT INTO t VALUES('abc', '')",
        "INSERT INTO t VALUES(x'616263', '')",
        "INSERT INTO t VALUES(1, 2)",
        "INSERT INTO t VALUES(1.0, 2)",
        "INSERT INTO t VALUES(-0.0, 2)",
        "INSERT INTO t VALUES(0.0, 2)",
        "INSERT INTO t VALUES('1', '2')",
        "INSERT INTO u VALUES('1', '2')",
        "INSERT INTO t VALUES('1', '2'), ('1', '2')",
        "INSERT INTO t VALUES('1', '2'); INSERT INTO u VALUES('1', '2')",
    ];
    for sql in contents {
        // SQLite stores -0.0 as 0.0 only where it becomes an integer on disk, which is the same on every node.
        seen.insert(hash_with(sql));
    }
    assert!(seen.len() >= contents.len() - 1, "{} of {}", seen.len(), contents.len());
}

#[test]
fn the_snapshot_stays_while_writing_goes_on_and_can_be_given_up() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]);
    let before = hash_of(&node);
    let pinned = HashSource::pin(&node.scratch.file()).unwrap();
    let cancelled = HashSource::pin(&node.scratch.file()).unwrap();
    node.execute(&["INSERT INTO t VALUES(2)"]);
    node.writer.checkpoint().unwrap();
    let hashing = std::thread::spawn(move || pinned.hash(&AtomicBool::new(false)));
    assert_eq!(hashing.join().unwrap(), Ok(Some(before)));
    assert_ne!(hash_of(&node), before);
    assert_eq!(cancelled.hash(&AtomicBool::new(true)), Ok(None));
}
