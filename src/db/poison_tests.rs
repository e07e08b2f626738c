//! Statements of clients that once ended the process while they were applied, and then again at each start. What fails on
//! every node alike is a result; each test is named after what it prevents.

use super::super::reader::{ConnectionOptions, Reader};
use super::super::{authorizer, shadow};
use super::*;
use crate::command::{Column, ResultSink, SinkFull, ValueRef};
use crate::http::engine::config::WORKER_STACK_BYTES;
use crate::node::spawn::STACK_BYTES;
use std::time::{Duration, Instant};

/// The first error among results.
fn first_error(results: &[String]) -> Option<&str> {
    results.iter().map(String::as_str).find(|r| r.starts_with("error") || r.starts_with("request"))
}

impl Node {
    /// Everything must work.
    fn set_up(&mut self, sql: &[impl AsRef<str>]) {
        let sql: Vec<_> = sql.iter().map(AsRef::as_ref).collect();
        let results = self.execute(&sql);
        assert_eq!(first_error(&results), None, "{:.100}", sql[0]);
    }

    fn membership(&mut self, bytes: &[u8]) {
        let id = LogId { term: Term(1), index: self.writer.applied().id.index.next() };
        self.writer.apply_batch(&[(id, Item::Membership(bytes.into()))]).unwrap();
    }

    /// It goes on after the attack, and after a restart too.
    fn survives(self) -> Node {
        let mut node = self.restart();
        node.set_up(&["CREATE TABLE survivor(x)", "INSERT INTO survivor VALUES(1)", "DROP TABLE survivor"]);
        node.membership(b"members");
        for mask in [0x10002, 0xfffe] {
            node.one(Action::Optimize { mask });
        }
        node.one(Action::Vacuum);
        node.restart()
    }
}

/// Runs `body` with half of the stack that the thread has in a node.
fn on_half<T: Send>(stack_bytes: usize, body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(stack_bytes / 2).spawn_scoped(scope, body);
        thread.unwrap().join().unwrap()
    })
}

/// Keeps errors only.
struct Errors(Vec<String>);

impl ResultSink for Errors {
    fn begin_rows(&mut self, _columns: &[Column]) {}
    fn row(&mut self, _values: &[ValueRef<'_>]) -> Result<(), SinkFull> {
        Ok(())
    }
    fn end_rows(&mut self, _time: f64) {}
    fn write(&mut self, _last_insert_id: i64, _rows_affected: i64, _time: f64) {}
    fn error(&mut self, text: &str, _is_read: bool) {
        self.0.push(text.to_owned());
    }
}

/// Runs each statement where entries are applied, or where clients read, on half of the stack there is; what it comes to
/// does not matter.
fn survives_on_half_the_stack(mut node: Node, writes: &[String], reads: &[String]) {
    for sql in writes {
        on_half(STACK_BYTES, || node.execute(&[sql]));
    }
    let path = node.scratch.file();
    on_half(WORKER_STACK_BYTES, || {
        let options = ConnectionOptions { foreign_keys: node.foreign_keys, cache_kib: 1000 };
        let mut reader = Reader::open(&path, &options).unwrap();
        for sql in reads.iter().chain(writes) {
            let request = request_of(&[sql]);
            reader.only_reads(&request);
            let deadline = Instant::now() + Duration::from_secs(2);
            reader.query(&request, deadline, &mut Errors(Vec::new())).unwrap();
        }
    });
    on_half(STACK_BYTES, || drop(node.survives()));
}

fn nested(open: &str, inner: &str, close: &str, depth: usize) -> String {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

#[test]
fn a_like_or_glob_of_wildcards_does_not_end_the_process() {
    let mut node = Node::new();
    node.set_up(&["CREATE TABLE t(x)"]);
    let pattern = |operator: &str, wildcard: &str, bytes: usize| {
        format!("'{}' {operator} '{}'", "a".repeat(bytes), format!("{wildcard}a").repeat(bytes / 2))
    };
    let long = node.execute(&[&format!("INSERT INTO t SELECT {}", pattern("LIKE", "%", 6000))]);
    assert_eq!(long, ["error: LIKE or GLOB pattern too complex"]);
    let lawful = [pattern("LIKE", "%", 4998), pattern("GLOB", "*", 4998), pattern("NOT LIKE", "_%", 4998)];
    let writes = lawful.clone().map(|p| format!("INSERT INTO t SELECT {p}"));
    let reads = lawful.map(|p| format!("SELECT {p}"));
    survives_on_half_the_stack(node, &writes, &reads);
}

#[test]
fn chained_triggers_do_not_end_the_process() {
    let steps = [
        "INSERT INTO t@ SELECT new.x",
        "INSERT INTO t@ SELECT new.x WHERE true ON CONFLICT(x) DO UPDATE SET x = (SELECT max(x) FROM t@)",
    ];
    for (tables, step) in [(1100, steps[0]), (990, steps[1])] {
        let mut node = Node::with_foreign_keys(true);
        let mut sql = vec!["CREATE TABLE t0(x INTEGER PRIMARY KEY)".to_owned()];
        for table in 1..=tables {
            let (before, step) = (table - 1, step.replace('@', &table.to_string()));
            sql.push(format!("CREATE TABLE t{table}(x INTEGER PRIMARY KEY)"));
            sql.push(format!("CREATE TRIGGER i{table} AFTER INSERT ON t{before} BEGIN {step}; END"));
        }
        node.set_up(&sql);
        let write = "INSERT INTO t0 VALUES(1)".to_owned();
        survives_on_half_the_stack(node, std::slice::from_ref(&write), &[format!("EXPLAIN {write}")]);
    }
}

#[test]
fn chained_cascades_do_not_end_the_process() {
    for tables in [990, 1100] {
        let mut node = Node::with_foreign_keys(true);
        let mut sql = vec!["CREATE TABLE t0(x INTEGER PRIMARY KEY)".to_owned()];
        for table in 1..=tables {
            let parent = table - 1;
            let cascade = "ON DELETE CASCADE ON UPDATE CASCADE";
            sql.push(format!("CREATE TABLE t{table}(x INTEGER PRIMARY KEY REFERENCES t{parent} {cascade})"));
        }
        sql.extend((0..=tables).map(|table| format!("INSERT INTO t{table} VALUES(1)")));
        node.set_up(&sql);
        let writes = ["UPDATE t0 SET x = 2", "DELETE FROM t0", "DROP TABLE t0"].map(str::to_owned);
        let reads = writes.clone().map(|sql| format!("EXPLAIN {sql}"));
        survives_on_half_the_stack(node, &writes, &reads);
    }
}

#[test]
fn nested_views_do_not_end_the_process() {
    let views = [
        "SELECT * FROM v@",
        "SELECT x FROM v@ UNION SELECT 1",
        "SELECT 1 AS x FROM t WHERE EXISTS (SELECT * FROM v@)",
        "SELECT sum(x) OVER (ORDER BY x) AS x FROM v@",
    ];
    for view in views {
        let mut node = Node::new();
        let mut sql = vec!["CREATE TABLE t(x)".to_owned(), "CREATE VIEW v0 AS SELECT * FROM t".to_owned()];
        sql.extend((1..998).map(|n| format!("CREATE VIEW v{n} AS {}", view.replace('@', &(n - 1).to_string()))));
        node.set_up(&sql);
        let writes = ["INSERT INTO t SELECT * FROM v997", "INSERT INTO t SELECT * FROM v300"].map(str::to_owned);
        survives_on_half_the_stack(node, &writes, &["SELECT * FROM v997".to_owned()]);
    }
}

#[test]
fn nested_expressions_subqueries_and_documents_do_not_end_the_process() {
    let mut queries = Vec::new();
    for depth in [230, 480, 990, 100_000] {
        queries.extend([
            nested("SELECT * FROM (", "SELECT 1 AS x", ")", depth),
            nested("WITH a AS (", "SELECT 1 AS x", ") SELECT * FROM a", depth),
            format!("SELECT {}", nested("(SELECT ", "1", ")", depth)),
            format!("SELECT {}", nested("CASE 1 WHEN ", "1", " THEN 1 ELSE 2 END", depth)),
            format!("SELECT {}", nested("abs(", "1", ")", depth)),
            format!("SELECT {}", nested("(", "1", ")", depth)),
            format!("SELECT {}", nested("NOT EXISTS(SELECT 1 WHERE ", "1", ")", depth)),
            format!("SELECT {}", nested("1 IN (SELECT ", "1", ")", depth)),
            format!("SELECT sum(x) OVER ({}) FROM t", nested("ORDER BY (SELECT sum(x) OVER (", "", ") FROM t)", depth)),
            format!("SELECT * FROM {}", nested("(", "t", ")", depth)),
            format!("SELECT 1{}", "+1".repeat(depth)),
            format!("SELECT 1 WHERE 1{}", " AND 1".repeat(depth)),
            format!("SELECT 1{}", " UNION SELECT 2".repeat(depth)),
            format!("SELECT 1{}", " EXCEPT SELECT 2".repeat(depth)),
            format!("VALUES(1){}", ",(1)".repeat(depth)),
            format!("SELECT json('{}')", nested("[", "", "]", depth)),
            format!("SELECT count(*) FROM json_tree('{}')", nested("[", "", "]", depth)),
            format!("SELECT json_pretty(jsonb('{}'))", nested("[", "", "]", depth)),
            format!("SELECT json_patch('{0}', '{0}')", nested("{\"a\":", "1", "}", depth)),
            format!("SELECT json_set('{{}}', '${}', 1)", ".a".repeat(depth)),
            format!("SELECT count(*) FROM ft WHERE ft MATCH '{}'", nested("(", "a", ")", depth)),
            format!("SELECT count(*) FROM ft WHERE ft MATCH '{}'", nested("(a OR ", "a", ")", depth)),
            format!("SELECT count(*) FROM ft WHERE ft MATCH 'a{}'", " NOT a".repeat(depth)),
            format!("SELECT count(*) FROM f4 WHERE f4 MATCH '{}'", nested("(", "a", ")", depth)),
            format!("SELECT count(*) FROM f4 WHERE f4 MATCH '{}'", nested("(a OR ", "a", ")", depth)),
        ]);
        let chain =
            |from: &str| (1..=depth.min(5000)).map(|n| format!(", c{n} AS ({from}{})", n - 1)).collect::<String>();
        let last = depth.min(5000);
        queries.push(format!("WITH c0 AS (SELECT 1 AS x){} SELECT * FROM c{last}", chain("SELECT * FROM c")));
        queries.push(format!(
            "WITH c0 AS (SELECT 1 AS x){} SELECT * FROM c{last}",
            chain("SELECT 1 UNION SELECT * FROM c")
        ));
    }
    queries.extend(["SELECT a FROM s4", "SELECT a FROM s4 WHERE s4 MATCH 'a'", "SELECT a FROM s5"].map(str::to_owned));
    queries.extend(["SELECT printf('%2147483647d', 1)", "SELECT printf('%.*c', 2147483647, 'a')"].map(str::to_owned));
    let mut node = Node::new();
    node.set_up(&[
        "CREATE TABLE t(x)",
        "INSERT INTO t VALUES(1)",
        "CREATE VIRTUAL TABLE ft USING fts5(a)",
        "INSERT INTO ft VALUES('a')",
        "CREATE VIRTUAL TABLE f4 USING fts4(a)",
        "INSERT INTO f4 VALUES('a')",
        // Tables that have themselves for their content.
        "CREATE VIRTUAL TABLE s4 USING fts4(a, content='s4')",
        "INSERT INTO s4(docid, a) VALUES(1, 'a')",
        "CREATE VIRTUAL TABLE s5 USING fts5(a, content='s5')",
        "INSERT INTO s5(rowid, a) VALUES(1, 'a')",
    ]);
    let writes: Vec<_> = queries.iter().map(|query| format!("CREATE TABLE IF NOT EXISTS z AS {query}")).collect();
    survives_on_half_the_stack(node, &writes, &queries);
}

/// Inserts a text of `x` of this many bytes.
fn insert_long(node: &mut Node, bytes: usize) -> Vec<String> {
    let parameters = vec![Parameter { name: None, value: Value::Text(vec![b'x'; bytes]) }];
    let statement = Statement { sql: "INSERT INTO t VALUES(?1, 1)".to_owned(), parameters };
    show(&node.one(Action::Execute(Request { statements: vec![statement], ..Request::default() })))
}

#[test]
fn values_at_the_limit_do_not_make_analyze_fatal() {
    const TOO_BIG: &str = "error: string or blob too big";
    let mut node = Node::new();
    node.set_up(&["CREATE TABLE t(x, y)", "CREATE INDEX i ON t(y, x)"]);
    assert_eq!(insert_long(&mut node, limits::VALUE_BYTES_MAX as usize - 10), ["1/1"]);
    assert_eq!(node.execute(&["PRAGMA optimize(0x10002)"]), [TOO_BIG]);
    assert_eq!(node.execute(&["ANALYZE", "ANALYZE t", "INSERT INTO t VALUES(1, 1)"]), [TOO_BIG, TOO_BIG, "2/1"]);
    assert_eq!(show(&node.one(transaction(&["DELETE FROM t WHERE x = 1", "PRAGMA optimize(0x10002)"])))[1], TOO_BIG);
    assert_eq!(node.integer("SELECT count(*) FROM t"), 2, "the transaction is undone");
    assert_eq!(node.integer("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'sqlite_stat%'"), 0);
    let before_us = node.writer.applied().optimize_us;
    let failed = node.one(Action::Optimize { mask: 0x10002 });
    assert_eq!(failed.request_error.as_deref(), Some("string or blob too big"));
    assert!(node.writer.applied().optimize_us > before_us, "the next one is not due at once");
    // The node's own takes no samples of values.
    assert_eq!(node.one(Action::Optimize { mask: 0x10012 }).request_error, None);
    assert_eq!(node.execute(&["REINDEX", "PRAGMA integrity_check", "UPDATE t SET y = 2"])[2], "2/2");
    node.survives();
}

#[test]
fn a_full_text_index_out_of_segments_is_a_result_and_not_a_full_disk() {
    for foreign_keys in [false, true] {
        let mut node = Node::with_foreign_keys(foreign_keys);
        node.set_up(&[
            "CREATE TABLE t(x)",
            "CREATE VIRTUAL TABLE ft USING fts5(a)",
            "INSERT INTO ft(ft, rank) VALUES('automerge', 0)",
            "INSERT INTO ft(ft, rank) VALUES('crisismerge', 1999)",
        ]);
        let mut failed = None;
        for _ in 0..5 {
            let results = node.execute(&["INSERT INTO ft VALUES('word')"; 1000]);
            failed = failed.or(first_error(&results).map(str::to_owned));
        }
        assert_eq!(failed.as_deref(), Some("error: database or disk is full"));
        let rows = node.integer("SELECT count(*) FROM ft");
        let mixed = show(&node.one(execute(&["INSERT INTO t VALUES(1)", "INSERT INTO ft VALUES('w')", "SELECT 1"])));
        assert_eq!(mixed[1], "error: database or disk is full", "what the client sees after it: {mixed:?}");
        let together = transaction(&["INSERT INTO t VALUES(2)", "INSERT INTO ft VALUES('w')"]);
        assert_eq!(show(&node.one(together)), ["request: database or disk is full"]);
        assert_eq!(node.integer("SELECT count(*) FROM ft"), rows);
        assert_eq!(node.integer("SELECT sum(x) FROM t"), 1);
        let mut node = node.survives();
        node.set_up(&["INSERT INTO ft(ft) VALUES('optimize')", "INSERT INTO ft VALUES('w')"]);
    }
}

#[test]
fn an_index_on_a_shadow_table_does_not_make_fts5_write_without_end() {
    for foreign_keys in [false, true] {
        let mut node = Node::with_foreign_keys(foreign_keys);
        node.set_up(&["CREATE VIRTUAL TABLE ft USING fts5(a)", "CREATE VIRTUAL TABLE r USING rtree(id, a, b)"]);
        let refused = format!("error: {}", shadow::TEXT_SHADOW);
        for sql in [
            "CREATE UNIQUE INDEX u ON ft_data(length(block) > 0)",
            "CREATE INDEX IF NOT EXISTS main.u ON FT_idx(segid)",
            "CREATE INDEX u ON \"r_node\"(data)",
            "CREATE TABLE c(x REFERENCES ft_data(id))",
            "CREATE TABLE c(x, FOREIGN KEY(x) REFERENCES/**/[Ft_Content](id) ON DELETE CASCADE)",
            "CREATE TABLE c(x); ALTER TABLE c ADD COLUMN y REFERENCES 'ft_idx'(segid)",
        ] {
            assert_eq!(node.execute(&[sql]), [refused.as_str()], "{sql}");
        }
        // The foreign key first, the table that it would tie up after it.
        node.set_up(&["CREATE TABLE early(x REFERENCES late_data(id))", "CREATE TABLE late_idx(x)"]);
        for sql in ["CREATE VIRTUAL TABLE late USING fts5(a)", "ALTER TABLE ft RENAME TO \"late\""] {
            assert_eq!(node.execute(&[sql]), [refused.as_str()], "{sql}");
        }
        node.set_up(&["ALTER TABLE ft RENAME TO other", "INSERT INTO other VALUES('a')", "CREATE INDEX i ON early(x)"]);
        node.survives();
    }
}

#[test]
fn a_database_with_an_index_on_a_shadow_table_works_until_it_is_dropped() {
    let mut node = Node::with_foreign_keys(true);
    node.set_up(&["CREATE VIRTUAL TABLE ft USING fts5(a)", "INSERT INTO ft VALUES('a')"]);
    let earlier = "CREATE UNIQUE INDEX u ON ft_data(length(block) > 0, id); CREATE TABLE c(x REFERENCES ft_data(id))";
    node.writer.connection().execute(earlier).unwrap();
    let mut node = node.restart();
    let refused = format!("error: {}", shadow::TEXT_TAMPERED);
    assert_eq!(node.execute(&["INSERT INTO ft VALUES('b')", "DELETE FROM ft"]), [refused.as_str(); 2]);
    assert_eq!(show(&node.one(transaction(&["DROP INDEX u", "DROP TABLE c", "nonsense"]))).len(), 3);
    assert_eq!(node.execute(&["DROP INDEX u", "INSERT INTO ft VALUES('b')"])[1], refused);
    assert_eq!(node.execute(&["DROP TABLE c", "INSERT INTO ft VALUES('b')"])[1], "2/1");
    node.survives();
}

#[test]
fn other_virtual_tables_fail_as_statements() {
    for foreign_keys in [false, true] {
        let mut node = Node::with_foreign_keys(foreign_keys);
        node.set_up(&["CREATE VIRTUAL TABLE f4 USING fts4(a)", "CREATE VIRTUAL TABLE g USING geopoly(a)"]);
        node.set_up(&["INSERT INTO f4(f4) VALUES('automerge=8')", "CREATE VIRTUAL TABLE r USING rtree(id, a, b)"]);
        let inserts = vec!["INSERT INTO f4 VALUES('some words that fill a segment')"; 100];
        node.set_up(&inserts);
        for action in [execute, request, transaction] {
            for sql in [
                "INSERT INTO r VALUES(1, 5, 1)",
                "INSERT INTO f4(f4) VALUES('nonsense')",
                "INSERT INTO f4(docid, a) VALUES('text', 1)",
                "CREATE VIRTUAL TABLE n USING fts5(a, tokenize = 'none')",
                "INSERT INTO r_node VALUES(1, 1)",
                "CREATE TRIGGER tr AFTER INSERT ON f4_segdir BEGIN SELECT RAISE(ROLLBACK, 'x'); END",
                "CREATE INDEX i ON g_rowid(a0)",
                "ALTER TABLE f4_content ADD COLUMN x",
                "DROP TABLE f4_stat",
            ] {
                assert!(first_error(&show(&node.one(action(&[sql])))).is_some(), "{sql}");
            }
        }
        node.survives();
    }
}

#[test]
fn foreign_keys_onto_our_table_are_refused() {
    let mut node = Node::with_foreign_keys(true);
    node.set_up(&["CREATE TABLE c(x)"]);
    let reserved = format!("error: {}", authorizer::TEXT_RESERVED);
    for sql in [
        "CREATE TABLE k(x REFERENCES sqlite_ferrolite(value))",
        "CREATE TABLE k(x, FOREIGN KEY(x) REFERENCES \"SQLite_Ferrolite\"(id) ON UPDATE CASCADE)",
        "ALTER TABLE c ADD COLUMN z REFERENCES /* */ [sqlite_ferrolite]",
        "CREATE VIEW v AS SELECT * FROM sqlite_ferrolite",
        "CREATE TRIGGER g AFTER INSERT ON c BEGIN DELETE FROM `sqlite_ferrolite`; END",
        "CREATE VIRTUAL TABLE f USING fts5(value, content='sqlite_ferrolite')",
    ] {
        assert_eq!(node.execute(&[sql]), [reserved.as_str()], "{sql}");
    }
    let parent = format!("error: {}", authorizer::TEXT_PARENT);
    assert_eq!(node.execute(&["CREATE TABLE k(x REFERENCES sqlite_sequence(seq))"]), [parent.as_str()]);
    assert_eq!(node.execute(&["INSERT INTO c VALUES('sqlite_ferrolite references sqlite_stat1')"]), ["1/1"]);
    node.set_up(&["CREATE TABLE d(x REFERENCES c(x), \"references\" DEFAULT 'sqlite_x')"]);
    node.survives();
}

#[test]
fn a_database_with_a_foreign_key_onto_our_table_opens_and_is_written() {
    let mut node = Node::with_foreign_keys(true);
    node.set_up(&["CREATE TABLE p(x INTEGER PRIMARY KEY)", "CREATE TABLE c(x REFERENCES p)"]);
    let earlier = "CREATE TABLE k(x REFERENCES sqlite_ferrolite(value) ON UPDATE CASCADE);
                   CREATE TABLE l(x REFERENCES sqlite_ferrolite(id) ON UPDATE CASCADE ON DELETE CASCADE)";
    node.writer.connection().execute(earlier).unwrap();
    for _ in 0..2 {
        node = node.restart();
        node.membership(b"first");
        // `changes()` needs a write of our own before each statement.
        node.set_up(&["INSERT INTO p SELECT 10 * (SELECT count(*) FROM p) + changes()"]);
        assert_eq!(node.execute(&["INSERT INTO c VALUES(99)"]), ["error: FOREIGN KEY constraint failed"]);
        assert!(first_error(&node.execute(&["INSERT INTO k VALUES(1)"])).is_some());
    }
    let mut node = node.survives();
    node.set_up(&["DROP TABLE k", "DROP TABLE l"]);
    assert_eq!(node.execute(&["INSERT INTO c VALUES(99)"]), ["error: FOREIGN KEY constraint failed"]);
}

#[test]
fn statements_that_need_gigabytes_are_results() {
    const TOO_MUCH: &str = "error: the statement needs too much memory";
    let mut node = Node::new();
    let mut sql = vec!["CREATE TABLE t(x)".to_owned(), "INSERT INTO t VALUES(1)".to_owned()];
    sql.push("CREATE VIEW v0 AS SELECT x FROM t".to_owned());
    sql.extend((1..=40).map(|n| format!("CREATE VIEW v{n} AS SELECT x + x AS x FROM v{}", n - 1)));
    node.set_up(&sql);
    let doubling = "INSERT INTO t SELECT x FROM v40".to_owned();
    let wide = format!("CREATE TABLE z AS SELECT {}", vec!["zeroblob(16000000)"; 1900].join(", "));
    for hostile in [&doubling, &wide] {
        let together = node.apply(vec![
            execute(&["UPDATE t SET x = x + 1"]),
            execute(&["UPDATE t SET x = x + 1", hostile, "UPDATE t SET x = x + 1"]),
            transaction(&["UPDATE t SET x = x + 1", hostile]),
            execute(&["UPDATE t SET x = x + 1"]),
        ]);
        assert_eq!(show(&together[1])[1], TOO_MUCH);
        assert_eq!(show(&together[2])[1], TOO_MUCH);
        assert_eq!(show(&together[3]), ["1/1"]);
    }
    assert_eq!(node.integer("SELECT x FROM t"), 9);
    let options = ConnectionOptions { foreign_keys: false, cache_kib: 1000 };
    let mut reader = Reader::open(&node.scratch.file(), &options).unwrap();
    for sql in ["SELECT x FROM v40", &wide[wide.find("SELECT").expect("it is in there")..]] {
        let mut errors = Errors(Vec::new());
        let request = request_of(&[sql, "SELECT 1"]);
        reader.only_reads(&request);
        reader.query(&request, Instant::now() + Duration::from_secs(60), &mut errors).unwrap();
        assert_eq!(errors.0, ["out of memory"], "{sql:.50}");
        assert!(reader.is_clean());
    }
    node.survives();
}
