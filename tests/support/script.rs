//! Generated SQL that depends on everything a replica must not depend on: time, chance, row numbers, change counters.
//!
//! Test threads only. The same seed gives the same statements.

use super::rng::Rng;

/// Tables, triggers and views whose defaults and bodies ask for time and chance.
pub const SCHEMA: &[&str] = &[
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

/// One statement of the common kinds, some of them with errors.
pub fn ordinary(dice: &mut Rng) -> String {
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
pub fn extraordinary(dice: &mut Rng) -> String {
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
