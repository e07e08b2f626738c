//! Backups of small databases: what is in them, what is not, and what becomes of one that must end.

use super::*;
use crate::db::authorizer::RESERVED_TABLE;
use crate::db::dump::logical_dump;
use crate::db::sqlite::{Access, Connection};
use crate::db::tests::{Node, Scratch};
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

const BINARY: [Format; 3] = [Format::Wal, Format::Delete, Format::Vacuumed];

fn always() -> MayGoOn {
    Arc::new(|| Ok(()))
}

fn opened(node: &Node, format: Format) -> Backup {
    Backup::open(&node.scratch.file(), &Wish { format, compress: false }, always()).unwrap()
}

fn bytes(backup: Backup) -> Vec<u8> {
    let mut out = Vec::new();
    backup.write_to(&mut out).unwrap();
    out
}

fn text(node: &Node, tables: &[&str]) -> String {
    let tables = tables.iter().map(|table| (*table).to_owned()).collect();
    String::from_utf8(bytes(opened(node, Format::Text { tables }))).unwrap()
}

/// A database file as a client keeps it.
fn saved(scratch: &Scratch, bytes: &[u8]) -> (Connection, PathBuf) {
    let path = scratch.dir().join("saved");
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let _ = std::fs::remove_file(scratch.dir().join(format!("saved{suffix}")));
    }
    std::fs::write(&path, bytes).unwrap();
    (Connection::open(&path, Access::ReadWrite, None).unwrap(), path)
}

fn texts(connection: &Connection, sql: &str) -> Vec<String> {
    connection.query_texts(sql).unwrap()
}

/// With everything that has a place of its own in a dump.
fn rich() -> Node {
    let mut node = Node::new();
    node.execute(&[
        "CREATE TABLE plain(a, b TEXT, c BLOB, d REAL)",
        "INSERT INTO plain VALUES(1, 'it''s', x'00ff', 0.1), (-9223372036854775808, '', x'', -1e300), (NULL, NULL, NULL, 9e999)",
        "INSERT INTO plain VALUES('zwei\nZeilen', CAST(x'610062' AS TEXT), CAST(x'ff' AS TEXT), 1.0)",
        "CREATE TABLE computed(a, b AS (a * 2), c AS (a + 1) STORED, \"d e\")",
        "INSERT INTO computed(a, \"d e\") VALUES(4, 'x')",
        "CREATE TABLE keyed(k TEXT PRIMARY KEY, v) WITHOUT ROWID",
        "INSERT INTO keyed VALUES('b', 2), ('a', 1)",
        "CREATE TABLE a_counted(id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "INSERT INTO a_counted VALUES(41), (42)",
        "DELETE FROM a_counted WHERE id = 42",
        "CREATE TABLE \"quo\"\"ted\"(\"x\"\"y\")",
        "INSERT INTO \"quo\"\"ted\" VALUES(1)",
        "CREATE UNIQUE INDEX pi ON plain(a)",
        "CREATE INDEX all_of_it ON keyed(v, k)",
        "CREATE VIEW pv AS SELECT a FROM plain",
        "CREATE VIEW both AS SELECT pv.a FROM pv, keyed",
        "CREATE TRIGGER pt AFTER INSERT ON plain BEGIN DELETE FROM keyed; END",
        "CREATE TRIGGER vt INSTEAD OF INSERT ON pv BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE words USING fts5(body)",
        "INSERT INTO words(rowid, body) VALUES(7, 'quick fox'), (9, 'lazy dog')",
        "CREATE VIRTUAL TABLE vocabulary USING fts5vocab(words, row)",
        "CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1)",
        "INSERT INTO boxes VALUES(3, 1.0, 2.0)",
        "ANALYZE",
    ]);
    node
}

#[test]
fn a_binary_backup_is_an_ordinary_database_without_our_table() {
    let node = rich();
    let dump = node.dump();
    for (format, journal) in BINARY.into_iter().zip([2, 1, 1]) {
        let file = bytes(opened(&node, format.clone()));
        assert_eq!(file[18..20], [journal, journal], "{format:?}");
        assert!(!file.windows(RESERVED_TABLE.len()).any(|at| at == RESERVED_TABLE.as_bytes()), "{format:?}");
        let scratch = Scratch::new();
        let (connection, _) = saved(&scratch, &file);
        assert_eq!(texts(&connection, "PRAGMA integrity_check"), ["ok"], "{format:?}");
        assert_eq!(
            texts(&connection, "SELECT name FROM sqlite_schema WHERE name LIKE '%ferrolite%' OR name LIKE 'gone%'"),
            [""; 0]
        );
        assert_eq!(logical_dump(&connection).unwrap(), dump, "{format:?}");
        assert_eq!(texts(&connection, "SELECT rowid || '' FROM words WHERE words MATCH 'dog'"), ["9"]);
        connection.execute("CREATE TABLE more(x); INSERT INTO more VALUES(1)").unwrap();
    }
}

#[test]
fn a_large_table_of_ours_leaves_only_empty_pages_behind() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(x)", "INSERT INTO t VALUES('kept')"]);
    let Node { writer, scratch, .. } = node;
    drop(writer);
    let plain = Connection::open(&scratch.file(), Access::ReadWrite, None).unwrap();
    let fill = format!(
        "INSERT INTO {RESERVED_TABLE} WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT 30000)
         SELECT 5000 + n, CAST(printf('secret-%.1000c', 'x') AS BLOB) FROM g"
    );
    plain.execute(&fill).unwrap();
    drop(plain);
    let wish = Wish { format: Format::Wal, compress: false };
    let file = bytes(Backup::open(&scratch.file(), &wish, always()).unwrap());
    assert!(!file.windows(7).any(|at| at == b"secret-"));
    let (connection, _) = saved(&scratch, &file);
    assert_eq!(texts(&connection, "PRAGMA integrity_check"), ["ok"]);
    assert_eq!(texts(&connection, "SELECT x FROM t"), ["kept"]);
    let small = bytes(Backup::open(&scratch.file(), &Wish { format: Format::Vacuumed, ..wish }, always()).unwrap());
    assert!(small.len() < 100_000 && file.len() > 30_000_000, "{} {}", small.len(), file.len());
}

#[test]
fn a_backup_shows_the_state_at_its_beginning_whatever_is_written_meanwhile() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]);
    let before = node.dump();
    let formats = [Format::Wal, Format::Vacuumed, Format::Text { tables: Vec::new() }];
    let backups = formats.map(|format| opened(&node, format));
    let numbers = "WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT 50)";
    node.execute(&[&format!("INSERT INTO t {numbers} SELECT randomblob(5000) FROM g"), "CREATE TABLE u(x)"]);
    let [wal, vacuumed, text] = backups.map(bytes);
    for file in [wal, vacuumed] {
        let (connection, _) = saved(&node.scratch, &file);
        assert_eq!(logical_dump(&connection).unwrap(), before);
    }
    assert!(String::from_utf8(text).unwrap().ends_with("INSERT INTO \"t\" VALUES(1);\nCOMMIT;\n"));
}

#[test]
fn the_text_makes_the_same_database_anew() {
    let node = rich();
    let sql = text(&node, &[]);
    assert!(!sql.contains(RESERVED_TABLE));
    let scratch = Scratch::new();
    let (connection, path) = saved(&scratch, b"");
    connection.execute(&sql).unwrap();
    assert_eq!(texts(&connection, "PRAGMA integrity_check"), ["ok"]);
    assert_eq!(texts(&connection, "SELECT rowid || '' FROM words WHERE words MATCH 'dog'"), ["9"]);
    assert_eq!(texts(&connection, "SELECT id || '' FROM boxes WHERE x0 < 1.5"), ["3"]);
    assert_eq!(texts(&connection, "SELECT seq || '' FROM sqlite_sequence"), ["42"]);
    let hex = "SELECT group_concat(hex(b) || typeof(c)) FROM plain";
    assert_eq!(texts(&connection, hex), texts(node.writer.connection(), hex));
    // Shadow tables lie differently after other writes; everything else is the same.
    let of_clients = |dump: String| -> Vec<String> {
        let mut lines: Vec<String> = dump.lines().map(str::to_owned).collect();
        let shadow = lines.iter().position(|line| line.starts_with("rows boxes_") || line.starts_with("rows words_"));
        lines.truncate(shadow.unwrap_or(lines.len()));
        lines
    };
    assert_eq!(of_clients(logical_dump(&connection).unwrap()), of_clients(node.dump()));
    drop(connection);
    assert!(std::fs::metadata(path).unwrap().len() > 0);
}

#[test]
fn the_text_has_the_form_that_clients_know() {
    let mut node = Node::new();
    node.execute(&[
        "CREATE TABLE foo (name text)",
        "INSERT INTO foo VALUES('it''s'), (NULL), (x'0aff')",
        "CREATE TABLE ai (id INTEGER PRIMARY KEY AUTOINCREMENT, r REAL)",
        "INSERT INTO ai VALUES(41, -2.5)",
    ]);
    assert_eq!(
        text(&node, &[]),
        "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n\
         CREATE TABLE ai (id INTEGER PRIMARY KEY AUTOINCREMENT, r REAL);\nINSERT INTO \"ai\" VALUES(41,-2.5);\n\
         CREATE TABLE foo (name text);\n\
         INSERT INTO \"foo\" VALUES('it''s');\nINSERT INTO \"foo\" VALUES(NULL);\nINSERT INTO \"foo\" VALUES(X'0AFF');\n\
         DELETE FROM \"sqlite_sequence\";\nINSERT INTO \"sqlite_sequence\" VALUES('ai',41);\nCOMMIT;\n"
    );
}

#[test]
fn chosen_tables_bring_what_belongs_to_them_and_nothing_else() {
    let node = rich();
    let names = |sql: &str| -> Vec<String> {
        let made = sql.lines().filter_map(|line| line.strip_prefix("CREATE "));
        made.map(|line| line.split(['(', ' ']).take(3).collect::<Vec<_>>().join(" ")).collect()
    };
    let plain = text(&node, &["plain", "nobody"]);
    assert_eq!(
        names(&plain),
        ["TABLE plain a,", "UNIQUE INDEX pi", "VIEW pv AS", "TRIGGER pt AFTER", "TRIGGER vt INSTEAD"]
    );
    assert!(!plain.contains("sqlite_sequence") && !plain.contains("ANALYZE"));
    let both = names(&text(&node, &["plain", "keyed"]));
    assert!(both.contains(&"VIEW both AS".to_owned()) && both.contains(&"INDEX all_of_it ON".to_owned()), "{both:?}");
    let counted = text(&node, &["a_counted"]);
    let sequence = "DELETE FROM \"sqlite_sequence\" WHERE name IN ('a_counted');\n";
    assert!(counted.contains(sequence) && counted.contains("('a_counted',42);\n"), "{counted}");
    assert_eq!(text(&node, &["Plain"]), "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCOMMIT;\n");
}

#[test]
fn a_compressed_backup_is_one_gzip_stream_of_the_same() {
    let node = rich();
    let plain = text(&node, &[]);
    let wish = Wish { format: Format::Text { tables: Vec::new() }, compress: true };
    let packed = bytes(Backup::open(&node.scratch.file(), &wish, always()).unwrap());
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
}

#[test]
fn a_backup_that_must_end_breaks_off_with_the_reason() {
    let node = rich();
    for format in [Format::Wal, Format::Text { tables: Vec::new() }] {
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let counter = Arc::clone(&left);
        let may_go_on: MayGoOn = Arc::new(move || match counter.fetch_sub(1, Ordering::SeqCst) {
            0 => Err(io::Error::other("the node is stopping")),
            _ => Ok(()),
        });
        let wish = Wish { format, compress: true };
        let backup = Backup::open(&node.scratch.file(), &wish, may_go_on).unwrap();
        left.store(3, Ordering::SeqCst);
        let mut out = Vec::new();
        let error = backup.write_to(&mut out).unwrap_err().to_string();
        assert!(error.contains("the node is stopping"), "{error}");
        let mut unpacked = Vec::new();
        assert!(
            flate2::read::GzDecoder::new(&out[..]).read_to_end(&mut unpacked).is_err(),
            "it does not pass for whole"
        );
    }
    let never: MayGoOn = Arc::new(|| Err(io::Error::other("the database is being replaced")));
    let wish = Wish { format: Format::Vacuumed, compress: false };
    assert!(Backup::open(&node.scratch.file(), &wish, never).is_err());
}

#[test]
fn vacuuming_leaves_no_file_behind_and_a_start_removes_what_a_crash_left() {
    let node = rich();
    let files = |node: &Node| -> Vec<String> {
        let names = std::fs::read_dir(node.scratch.dir()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    let before = files(&node);
    let backup = opened(&node, Format::Vacuumed);
    assert_eq!(files(&node), before, "also while it is being sent");
    drop(backup);
    std::fs::write(node.scratch.dir().join("db.sqlite.backup-7"), b"x").unwrap();
    discard(node.scratch.dir()).unwrap();
    assert_eq!(files(&node), before);
}
