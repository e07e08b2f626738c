//! Statements of clients that once ended the process while they were applied, and again at each start. What fails on every
//! node alike is a result; each test is named after what it prevents.

use super::*;

fn texts(sql: &[String]) -> Vec<&str> {
    sql.iter().map(String::as_str).collect()
}

/// Results that are errors.
fn errors(results: &[String]) -> Vec<&String> {
    results.iter().filter(|r| r.starts_with("error") || r.starts_with("request")).collect()
}

const FTS5_FILLED: &str = "error: database or disk is full";

/// A full-text table that merges nothing any more.
fn unmerged(node: &mut Node) {
    node.execute(&[
        "CREATE VIRTUAL TABLE ft USING fts5(a)",
        "INSERT INTO ft(ft, rank) VALUES('automerge', 0)",
        "INSERT INTO ft(ft, rank) VALUES('crisismerge', 1999)",
    ]);
}

#[test]
fn probe_fts5_segments() {
    for fk in [false, true] {
        let mut node = Node::with_foreign_keys(fk);
        unmerged(&mut node);
        let t = std::time::Instant::now();
        for round in 0..5 {
            let inserts: Vec<_> = (0..1000).map(|i| format!("INSERT INTO ft VALUES('w{round}x{i}')")).collect();
            let out = node.execute(&texts(&inserts));
            eprintln!("{round} {:?} {:?}", t.elapsed(), errors(&out).first());
        }
        eprintln!("{}", node.integer("SELECT count(DISTINCT id >> 37) FROM ft_data"));
    }
}

fn long(node: &mut Node, bytes: usize) -> Vec<String> {
    let parameters = vec![Parameter { name: None, value: Value::Text(vec![b'x'; bytes].into()) }];
    let statement = Statement { sql: "INSERT INTO t VALUES(?1, 1)".to_owned(), parameters };
    show(&node.one(Action::Execute(Request { statements: vec![statement], ..Request::default() })))
}

#[test]
fn probe_optimize() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(x, y)", "CREATE INDEX i ON t(x)", "CREATE UNIQUE INDEX j ON t(y, x)"]);
    for back in [100, 40, 30, 20, 15, 10, 5, 0] {
        let out = long(&mut node, (16 << 20) - back);
        eprintln!("{back} {out:?}");
    }
    for sql in [
        "PRAGMA optimize(0x10002)",
        "PRAGMA optimize",
        "ANALYZE",
        "ANALYZE t",
        "REINDEX",
        "VACUUM",
        "PRAGMA integrity_check",
        "PRAGMA quick_check",
        "UPDATE t SET y = y + 1",
    ] {
        let t = std::time::Instant::now();
        eprintln!("{sql} {:?} {:?}", node.execute(&[sql]), t.elapsed());
        eprintln!("{sql} {:?}", show(&node.one(transaction(&[sql]))));
    }
    for mask in [0x10002, 0xfffe, 0x10012] {
        let t = std::time::Instant::now();
        eprintln!("{mask:x} {:?} {:?}", show(&node.one(Action::Optimize { mask })), t.elapsed());
    }
    eprintln!("vacuum {:?}", show(&node.one(Action::Vacuum)));
    let node = node.restart();
    drop(node);
}

#[test]
fn probe_fk() {
    let mut node = Node::with_foreign_keys(true);
    for sql in [
        "CREATE TABLE c(x REFERENCES sqlite_ferrolite(value))",
        "CREATE TABLE c(x REFERENCES \"SQLITE_FERROLITE\")",
        "CREATE TABLE c(x)",
        "ALTER TABLE c ADD COLUMN z REFERENCES /* */ [sqlite_ferrolite](value)",
        "CREATE TABLE d(x REFERENCES sqlite_sequence(seq))",
        "CREATE TABLE d(x, FOREIGN KEY(x) REFERENCES 'sqlite_master'(name))",
        "CREATE VIEW v AS SELECT * FROM sqlite_ferrolite",
        "CREATE TRIGGER g AFTER INSERT ON c BEGIN DELETE FROM sqlite_ferrolite; END",
        "CREATE TRIGGER g AFTER INSERT ON sqlite_ferrolite BEGIN DELETE FROM c; END",
        "CREATE INDEX g ON sqlite_ferrolite(id)",
        "CREATE TABLE k(x REFERENCES c(x))",
        "SELECT changes()",
    ] {
        eprintln!("{sql} {:?}", node.execute(&[sql]));
    }
    node.writer.connection().execute("DROP TABLE IF EXISTS k; CREATE TABLE k(x REFERENCES sqlite_ferrolite(value) ON UPDATE CASCADE); CREATE TABLE k2(x REFERENCES sqlite_ferrolite(id) ON UPDATE CASCADE)").unwrap();
    let mut node = node.restart();
    eprintln!(
        "{:?}",
        node.execute(&[
            "INSERT INTO c VALUES(1)",
            "SELECT changes()",
            "INSERT INTO c SELECT changes()",
            "CREATE TABLE kk(x REFERENCES c(x))",
            "INSERT INTO kk VALUES(99)"
        ])
    );
    let id = LogId { term: Term(1), index: node.writer.applied().id.index.next() };
    node.writer.apply_batch(&[(id, Item::Membership(vec![1, 2, 3].into()))]).unwrap();
    eprintln!(
        "{:?}",
        node.execute(&[
            "INSERT INTO c VALUES(1)",
            "INSERT INTO k VALUES(99)",
            "INSERT INTO k2 VALUES(1)",
            "INSERT INTO k2 VALUES(99)"
        ])
    );
    let mut node = node.restart();
    eprintln!("{:?}", node.execute(&["INSERT INTO c VALUES(1)", "DROP TABLE k", "DROP TABLE k2"]));
}
