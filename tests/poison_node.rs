//! Statements that once ended the process while they were applied, and then again at each start, against the real binary.
//! Each case by itself is in `src/db/poison_tests.rs`.
//!
//! Prevents: an entry in the log that no restart gets past.

mod support;

use support::{Node, TempDir};

/// Sends the statements to every endpoint, in and out of a transaction. Whatever the answer is, the node must give one.
fn attack(node: &Node, statements: &[String]) {
    let body = serde_json::json!(statements).to_string();
    for path in ["/db/execute", "/db/execute?transaction", "/db/request", "/db/request?transaction", "/db/query"] {
        let reply =
            node.client().post(path, &body).unwrap_or_else(|error| panic!("{path} {:.80}: {error}", statements[0]));
        assert_eq!(reply.status, 200, "{path}: {:.200}", reply.text());
    }
}

fn hostile() -> Vec<Vec<String>> {
    let text = |sql: &[&str]| sql.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let mut triggers = text(&["CREATE TABLE t0(x INTEGER PRIMARY KEY)"]);
    for table in 1..=700 {
        let parent = table - 1;
        triggers.push(format!("CREATE TABLE t{table}(x INTEGER PRIMARY KEY REFERENCES t{parent} ON DELETE CASCADE)"));
        triggers.push(format!(
            "CREATE TRIGGER g{table} AFTER INSERT ON t{parent} BEGIN INSERT INTO t{table} SELECT new.x; END"
        ));
    }
    triggers.extend(text(&["INSERT INTO t0 VALUES(1)", "DELETE FROM t0"]));
    let mut views = text(&["CREATE TABLE v(x)", "CREATE VIEW v0 AS SELECT * FROM v"]);
    views.extend((1..998).map(|view| format!("CREATE VIEW v{view} AS SELECT * FROM v{}", view - 1)));
    views.push("INSERT INTO v SELECT * FROM v997".to_owned());
    let operators = [("LIKE", "%a"), ("GLOB", "*a")];
    let like = operators.map(|(operator, part)| {
        format!("CREATE TABLE IF NOT EXISTS l AS SELECT '{}' {operator} '{}'", "a".repeat(49_000), part.repeat(24_000))
    });
    vec![
        triggers,
        views,
        like.to_vec(),
        text(&["SELECT '%' LIKE '%a'", "CREATE TABLE k(x REFERENCES sqlite_ferrolite(value))", "SELECT changes()"]),
        text(&[
            "CREATE VIRTUAL TABLE ft USING fts5(a)",
            "CREATE UNIQUE INDEX u ON ft_data(length(block) > 0)",
            "CREATE TABLE s(x REFERENCES ft_data(id))",
            "INSERT INTO ft VALUES('a')",
        ]),
        text(&[
            "CREATE TABLE big(x)",
            "CREATE INDEX i ON big(x)",
            "INSERT INTO big VALUES(zeroblob(16777206))",
            "PRAGMA optimize(0x10002)",
            "ANALYZE",
        ]),
    ]
}

#[test]
fn no_entry_ends_the_process_at_each_start() {
    for flags in [&[][..], &["-fk"]] {
        let dir = TempDir::new("poison");
        let mut node = Node::start(&dir.path().join("data"), flags);
        for statements in hostile() {
            attack(&node, &statements);
            // Nothing of it is in the database file for good yet: the whole log is applied again.
            node.kill9();
            node = node.launch().start();
            node.execute(r#"["CREATE TABLE IF NOT EXISTS honest(x)", "INSERT INTO honest VALUES(1)"]"#);
        }
        assert_eq!(node.number("SELECT count(*) FROM honest"), hostile().len() as i64);
        assert_eq!(node.terminate().code, Some(0));
    }
}
