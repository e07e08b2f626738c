//! The same log gives the same database and the same answers: however its entries are batched, whatever the machine's
//! clock says, and however often the node is restarted in between.
//!
//! Scripts are generated from a seed; a failure names the seed and the entry.

use ferrolite::command::{Action, Command, Parameter, Request, Statement, StatementResult, Value};
use ferrolite::db::{Item, Outcome, Writer, WriterOptions, dump};
use raft::{ClusterId, Index, LogId, Term};
use std::path::{Path, PathBuf};

const SCHEMA: &[&str] = &[
    "CREATE TABLE plain(a, b DEFAULT CURRENT_TIMESTAMP, c DEFAULT (random()), d DEFAULT (hex(randomblob(8))))",
    "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE, qty INT CHECK (qty >= 0), at TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')))",
    "CREATE TABLE auto(id INTEGER PRIMARY KEY AUTOINCREMENT, v REAL, day TEXT DEFAULT CURRENT_DATE, tm TEXT DEFAULT CURRENT_TIME)",
    "CREATE TABLE keyed(k TEXT PRIMARY KEY, v INT, z AS (v * 2) STORED, y AS (v + 1)) WITHOUT ROWID",
    "CREATE TABLE parent(id INTEGER PRIMARY KEY, label TEXT)",
    "CREATE TABLE child(id INTEGER PRIMARY KEY, pid REFERENCES parent(id) ON DELETE CASCADE ON UPDATE SET NULL, note)",
    "CREATE TABLE later(id INTEGER PRIMARY KEY, pid REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE audit(n INTEGER PRIMARY KEY, what, token, at, last, chg, total)",
    "CREATE TABLE big(x)",
    "CREATE INDEX item_qty ON item(qty) WHERE qty > 5",
    "CREATE TRIGGER item_ai AFTER INSERT ON item BEGIN
       INSERT INTO audit(what, token, at, last, chg, total)
       VALUES('+' || new.name, randomblob(6), unixepoch('now', 'subsec'), last_insert_rowid(), changes(), total_changes());
       UPDATE plain SET c = random() WHERE rowid = (SELECT max(rowid) FROM plain); END",
    "CREATE TRIGGER item_bu BEFORE UPDATE ON item WHEN new.qty = 13 BEGIN SELECT RAISE(ROLLBACK, 'thirteen'); END",
    "CREATE TRIGGER item_bd BEFORE DELETE ON item WHEN old.qty = 7 BEGIN SELECT RAISE(FAIL, 'seven'); END",
    "CREATE VIEW recent AS SELECT name, julianday('now') - julianday(at) AS age, random() AS r FROM item",
    "CREATE VIRTUAL TABLE doc USING fts5(title, body)",
    "CREATE VIRTUAL TABLE old USING fts4(c, d)",
    "CREATE VIRTUAL TABLE box USING rtree(id, x0, x1, y0, y1)",
];

/// A small generator (SplitMix64, Steele et al. 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn ordinary(dice: &mut Dice) -> String {
    let (n, m) = (dice.below(60), dice.below(20));
    match dice.below(40) {
        0 => format!("INSERT INTO plain(a) VALUES({n})"),
        1 => "INSERT INTO plain(a) SELECT random() FROM item".to_owned(),
        2 => format!("INSERT INTO item(name, qty) VALUES('n{n}', {m})"),
        3 => format!("INSERT INTO item(name, qty) VALUES('n{n}', {m}) ON CONFLICT(name) DO UPDATE SET qty = excluded.qty + 1"),
        4 => format!("INSERT INTO item(name, qty) VALUES('n{n}', {m}) RETURNING id, name, at, random()"),
        5 => format!("UPDATE item SET qty = {m} WHERE id % 7 = {}", n % 7),
        6 => format!("UPDATE plain SET c = random(), d = datetime('now', 'localtime') WHERE rowid % 5 = {}", n % 5),
        7 => "DELETE FROM plain WHERE rowid IN (SELECT rowid FROM plain ORDER BY random() LIMIT 2)".to_owned(),
        8 => format!("DELETE FROM item WHERE id = {n} RETURNING name, last_insert_rowid()"),
        9 => format!("INSERT INTO auto(v) VALUES({n} * 1.1), (julianday('now')) RETURNING *"),
        10 => format!("DELETE FROM auto WHERE id % 11 = {}", n % 11),
        11 => format!("INSERT INTO keyed(k, v) VALUES(hex(randomblob(2)), {n}), ('k{m}', {n}) ON CONFLICT DO NOTHING"),
        12 => format!("UPDATE keyed SET v = v + changes() WHERE k > 'k{m}'"),
        13 => format!("REPLACE INTO parent VALUES({n}, 'p' || abs(random() % 100))"),
        14 => format!("INSERT INTO child(pid, note) VALUES({n}, datetime('now'))"),
        15 => format!("DELETE FROM parent WHERE id = {n}"),
        16 => format!("INSERT INTO later(pid) VALUES({n})"),
        17 => format!("INSERT INTO doc VALUES('t{n}', 'quick brown fox {m} ' || hex(randomblob(3)))"),
        18 => format!("DELETE FROM doc WHERE doc MATCH '{m}'"),
        19 => format!("UPDATE doc SET body = body || ' w{n}' WHERE rowid = {m}"),
        20 => format!("INSERT OR REPLACE INTO box VALUES({n}, {m}, {m} + 1, abs(random() % 9), 9)"),
        21 => format!("DELETE FROM box WHERE x0 > {m} AND y0 < 3"),
        22 => "INSERT INTO audit(what, last, chg, total) VALUES('numbers', last_insert_rowid(), changes(), total_changes())".to_owned(),
        23 => "SELECT name, row_number() OVER (ORDER BY random()) AS r, lag(qty) OVER (ORDER BY id) FROM item LIMIT 5".to_owned(),
        24 => format!("SELECT json_group_array(v) AS j, group_concat(k) AS k, random() FROM keyed WHERE v < {n}"),
        25 => format!(
            "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT {m})
             INSERT INTO plain(a) SELECT json_object('i', i, 'r', random()) FROM s"
        ),
        26 => format!("INSERT INTO plain(a) VALUES({n}); INSERT INTO plain(a) VALUES(last_insert_rowid()); -- end"),
        27 => "SELECT * FROM recent ORDER BY r LIMIT 3".to_owned(),
        28 => format!("INSERT OR IGNORE INTO item(id, name, qty) VALUES({n}, 'n{m}', 1)"),
        29 => format!("UPDATE OR FAIL item SET name = 'n' || (id % {}) WHERE id > {m}", n + 1),
        30 => format!("INSERT INTO nope VALUES({n})"),
        31 => "SELEC 1".to_owned(),
        32 => format!("INSERT INTO item(name, qty) VALUES('bad', -{})", n + 1),
        33 => format!("UPDATE child SET note = (SELECT count(*) FROM parent WHERE label > 'p{m}') WHERE id = {n}"),
        34 => "INSERT INTO plain SELECT a, b, c, d FROM plain ORDER BY random() LIMIT 3".to_owned(),
        35 => format!("INSERT INTO old VALUES('alpha {n} ' || random(), 'beta {m}')"),
        36 => format!("UPDATE old SET d = c WHERE old MATCH 'beta {m}'"),
        37 => format!("DELETE FROM old WHERE old MATCH 'alpha {n}'"),
        38 => format!("SELECT rowid, snippet(doc) FROM doc WHERE doc MATCH 'quick AND {m}' ORDER BY rank LIMIT 3"),
        _ => format!("EXPLAIN QUERY PLAN SELECT * FROM item WHERE qty = {m}"),
    }
}

/// Statements that an entry cannot run inside its batch's transaction, or that meet other rare machinery.
fn extraordinary(dice: &mut Dice) -> String {
    let n = dice.below(60);
    match dice.below(20) {
        0 => format!("INSERT OR ROLLBACK INTO item(id, name, qty) VALUES({n}, 'n{n}', 3)"),
        1 => format!("UPDATE item SET qty = 13 WHERE id > {n}"),
        2 => "VACUUM".to_owned(),
        3 => format!("INSERT INTO plain(a) VALUES({n}); VACUUM; INSERT INTO plain(a) VALUES(total_changes())"),
        4 => "ANALYZE".to_owned(),
        5 => "PRAGMA optimize".to_owned(),
        6 => "INSERT INTO big(rowid, x) VALUES(9223372036854775807, 1)".to_owned(),
        7 => "INSERT INTO big VALUES(random())".to_owned(),
        8 => format!("DELETE FROM big WHERE rowid > {n}"),
        9 => format!("PRAGMA user_version = {n}"),
        10 => "PRAGMA defer_foreign_keys = ON".to_owned(),
        11 => "BEGIN".to_owned(),
        12 => "CREATE TABLE IF NOT EXISTS extra(a, b DEFAULT (random()))".to_owned(),
        13 => "INSERT INTO extra(a) VALUES(datetime('now'))".to_owned(),
        14 => "DROP TABLE IF EXISTS extra".to_owned(),
        15 => "CREATE INDEX IF NOT EXISTS plain_a ON plain(a); DROP INDEX IF EXISTS plain_a".to_owned(),
        16 => "REINDEX".to_owned(),
        17 => "INSERT INTO doc(doc) VALUES('optimize')".to_owned(),
        18 => "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) INSERT INTO big SELECT i FROM r LIMIT 20000".to_owned(),
        _ => "ALTER TABLE plain RENAME COLUMN a TO aa; ALTER TABLE plain RENAME COLUMN aa TO a".to_owned(),
    }
}

/// The log: about `statements` statements in entries of one to four.
fn script(seed: u64, statements: usize, odd_in_hundred: u64) -> Vec<Command> {
    let mut dice = Dice(seed);
    let plain = |sql: &str| Statement { sql: sql.to_owned(), parameters: Vec::new() };
    let schema = Request { statements: SCHEMA.iter().map(|s| plain(s)).collect(), ..Request::default() };
    let mut commands = vec![Command { unix_time_us: 1_600_000_000_000_000, seed: 1, action: Action::Execute(schema) }];
    let mut count = 0;
    while count < statements {
        let mut request = Request { transaction: dice.below(4) == 0, ..Request::default() };
        if dice.below(10) == 0 {
            request.vm_steps_max = 2000 + dice.below(20_000);
        }
        for _ in 0..=dice.below(4) {
            let odd = dice.below(100) < odd_in_hundred;
            request.statements.push(plain(&if odd { extraordinary(&mut dice) } else { ordinary(&mut dice) }));
            count += 1;
        }
        if dice.below(5) == 0 {
            let value = Value::Text(format!("p{}", dice.below(50)).into_bytes());
            let sql = "INSERT INTO item(name, qty) VALUES(?, length(?1))".to_owned();
            request.statements.push(Statement { sql, parameters: vec![Parameter { name: None, value }] });
        }
        let action = match dice.below(40) {
            0 => Action::Vacuum,
            1 => Action::Optimize { mask: 0xfffe },
            2 => Action::Barrier,
            n if n % 2 == 0 => Action::Execute(request),
            _ => Action::Request(request),
        };
        // Now and then the leader's clock stands still.
        let unix_time_us = 1_600_000_000_000_000 + (commands.len() as i64 / 3) * 1_234_567;
        commands.push(Command { unix_time_us, seed: dice.next(), action });
    }
    // As they travel: every replica decodes the same bytes.
    commands.iter().map(|c| Command::decode(&c.encode()).expect("an encoded command decodes")).collect()
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("ferrolite-determinism-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a scratch directory can be made");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(directory: &Path, foreign_keys: bool) -> Writer {
    let options = WriterOptions { foreign_keys, cluster: ClusterId(42) };
    Writer::open(&directory.join("db.sqlite"), &options).expect("the database opens")
}

/// Applies the log in batches of the lengths that `batch` gives, opening the database anew before the entries at
/// `restarts`. Gives all outcomes and the dump.
fn apply(
    name: &str,
    log: &[Command],
    foreign_keys: bool,
    restarts: &[usize],
    mut batch: impl FnMut() -> usize,
) -> (Vec<Outcome>, String, u128) {
    let scratch = Scratch::new(name);
    let mut writer = open(&scratch.0, foreign_keys);
    let mut outcomes = Vec::new();
    while outcomes.len() < log.len() {
        let at = outcomes.len();
        if restarts.contains(&at) {
            drop(writer);
            writer = open(&scratch.0, foreign_keys);
        }
        let next_restart = restarts.iter().copied().filter(|r| *r > at).min().unwrap_or(log.len());
        let upto = (at + batch().max(1)).min(next_restart).min(log.len());
        let entries: Vec<_> = log[at..upto]
            .iter()
            .enumerate()
            .map(|(n, c)| (LogId { term: Term(1), index: Index((at + n) as u64 + 1) }, Item::Command(c.clone())))
            .collect();
        outcomes.extend(writer.apply_batch(&entries).expect("applying does not fail"));
    }
    let integrity = writer.connection().query_texts("PRAGMA integrity_check").expect("the check runs");
    assert_eq!(integrity, ["ok"], "{name}");
    let dump = dump::logical_dump(writer.connection()).expect("a dump is possible");
    let hash = dump::logical_hash(writer.connection()).expect("a hash is possible");
    (outcomes, dump, hash)
}

/// Outcomes without what the wall clock measured.
fn timeless(outcome: &Outcome) -> Outcome {
    let mut outcome = outcome.clone();
    for result in &mut outcome.results {
        match result {
            StatementResult::Rows { time, .. } | StatementResult::Write { time, .. } => *time = 0.0,
            StatementResult::Error { .. } => {}
        }
    }
    outcome
}

fn assert_same(what: &str, log: &[Command], one: &(Vec<Outcome>, String, u128), other: &(Vec<Outcome>, String, u128)) {
    for (at, (a, b)) in one.0.iter().zip(&other.0).enumerate() {
        assert_eq!(timeless(a), timeless(b), "{what}: entry {}: {:?}", at + 1, log[at]);
    }
    assert_eq!(one.0.len(), other.0.len(), "{what}");
    for (a, b) in one.1.lines().zip(other.1.lines()) {
        assert_eq!(a, b, "{what}: dumps differ");
    }
    assert_eq!(one.1.len(), other.1.len(), "{what}");
    assert_eq!(one.2, other.2, "{what}");
}

#[test]
fn a_second_node_with_another_clock_batching_and_a_restart_has_the_same_database() {
    let log = script(2024, 1500, 6);
    let first = apply("first", &log, false, &[], || 1);
    let failed = |o: &Outcome| o.results.iter().filter(|r| matches!(r, StatementResult::Error { .. })).count();
    let (errors, all) = first.0.iter().fold((0, 0), |(errors, all), o| (errors + failed(o), all + o.results.len()));
    assert!(all > 1000 && errors * 2 < all, "the script does real work: {errors} errors of {all}");
    assert!(first.1.contains("2020-09-13"), "times come from the log");
    for result in first.0.iter().flat_map(|o| &o.results) {
        let StatementResult::Error { text, .. } = result else { continue };
        let known = ["constraint failed", "no such table", "syntax error", "BEGIN, COMMIT", "thirteen", "seven"];
        let rare = ["timeout", "largest rowid", "VACUUM from within", "snippet"];
        assert!(known.iter().chain(&rare).any(|k| text.contains(k)), "the script meets no other errors: {text}");
    }

    // Meanwhile another thread draws from SQLite's own generator, as readers do.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reader = std::thread::spawn({
        let stop = stop.clone();
        move || {
            use ferrolite::db::sqlite::{Access, Connection};
            let memory = Connection::open(Path::new(":memory:"), Access::ReadWrite, None).expect("memory opens");
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                memory.query_integer("SELECT random()").expect("a random number");
                std::thread::yield_now();
            }
        }
    });
    let mut dice = Dice(7);
    let second = apply("second", &log, false, &[log.len() / 2], || dice.below(64) as usize);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    reader.join().expect("the reader ends");
    assert_same("second node", &log, &first, &second);
}

#[test]
fn batches_of_any_size_come_to_the_same_as_single_entries() {
    // More of them on demand: FERROLITE_SEEDS=100..200.
    let seeds = std::env::var("FERROLITE_SEEDS").unwrap_or_else(|_| "0..8".to_owned());
    let (from, upto) = seeds.split_once("..").expect("FERROLITE_SEEDS is a range");
    let number = |text: &str| text.parse::<u64>().expect("FERROLITE_SEEDS is a range of numbers");
    for seed in number(from)..number(upto) {
        let foreign_keys = seed % 2 == 1;
        let log = script(seed, 220, 30);
        let single = apply("single", &log, foreign_keys, &[], || 1);
        let whole = apply("whole", &log, foreign_keys, &[], || usize::MAX / 2);
        assert_same(&format!("seed {seed}, one batch"), &log, &single, &whole);
        let mut dice = Dice(seed);
        let restarts: Vec<usize> = (0..log.len()).filter(|_| dice.below(15) == 0).collect();
        let mixed = apply("mixed", &log, foreign_keys, &restarts, || dice.below(12) as usize);
        assert_same(&format!("seed {seed}, mixed"), &log, &single, &mixed);
    }
}
