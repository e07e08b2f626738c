//! Each hazard of replicated SQLite, as a test named after what it prevents.

use super::*;
use crate::command::{Action, Command, Parameter, Request, Statement, StatementResult, Value};
use raft::{ClusterId, Index, LogId, Term};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory of the test's own, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("ferrolite-db-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn dir(&self) -> &Path {
        &self.0
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("db.sqlite")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn open_with(path: &Path, foreign_keys: bool) -> Writer {
    Writer::open(path, &WriterOptions { foreign_keys, cluster: ClusterId(1) }).unwrap()
}

pub struct Node {
    pub writer: Writer,
    pub scratch: Scratch,
    foreign_keys: bool,
}

impl Node {
    pub fn new() -> Node {
        Node::with_foreign_keys(false)
    }

    pub fn with_foreign_keys(foreign_keys: bool) -> Node {
        let scratch = Scratch::new();
        Node { writer: open_with(&scratch.file(), foreign_keys), scratch, foreign_keys }
    }

    pub fn restart(self) -> Node {
        let Node { writer, scratch, foreign_keys } = self;
        drop(writer);
        Node { writer: open_with(&scratch.file(), foreign_keys), scratch, foreign_keys }
    }

    /// Applies as the next entries, in one batch.
    pub fn apply(&mut self, actions: Vec<Action>) -> Vec<Outcome> {
        let first = self.writer.applied().id.index.0 + 1;
        let entries: Vec<_> = actions
            .into_iter()
            .zip(first..)
            .map(|(action, index)| {
                let id = LogId { term: Term(1), index: Index(index) };
                let command = Command {
                    unix_time_us: 1_700_000_000_000_000 + index as i64,
                    seed: index * 7,
                    action,
                    request: None,
                };
                (id, Item::Command(command))
            })
            .collect();
        self.writer.apply_batch(&entries).unwrap()
    }

    pub fn one(&mut self, action: Action) -> Outcome {
        self.apply(vec![action]).remove(0)
    }

    pub fn execute(&mut self, sql: &[&str]) -> Vec<String> {
        show(&self.one(execute(sql)))
    }

    pub fn dump(&self) -> String {
        dump::logical_dump(self.writer.connection()).unwrap()
    }

    pub fn integer(&self, sql: &str) -> i64 {
        self.writer.connection().query_integer(sql).unwrap().unwrap()
    }
}

pub fn request_of(sql: &[&str]) -> Request {
    let statements = sql.iter().map(|s| Statement { sql: (*s).to_owned(), parameters: Vec::new() }).collect();
    Request { statements, ..Request::default() }
}

pub fn execute(sql: &[&str]) -> Action {
    Action::Execute(request_of(sql))
}

pub fn request(sql: &[&str]) -> Action {
    Action::Request(request_of(sql))
}

pub fn transaction(sql: &[&str]) -> Action {
    Action::Execute(Request { transaction: true, ..request_of(sql) })
}

/// Results in one line each, without times.
pub fn show(outcome: &Outcome) -> Vec<String> {
    let value = |v: &Value| match v {
        Value::Null => "null".to_owned(),
        Value::Integer(i) => i.to_string(),
        Value::Real(r) => r.to_string(),
        Value::Text(t) => String::from_utf8_lossy(t).into_owned(),
        Value::Blob(b) => format!("{b:?}"),
    };
    let row = |r: &Vec<Value>| r.iter().map(value).collect::<Vec<_>>().join(",");
    let result = |r: &StatementResult| match r {
        StatementResult::Rows { columns, rows, .. } => {
            let names: Vec<_> = columns.iter().map(|c| c.name.clone()).collect();
            format!("{}: {}", names.join(","), rows.iter().map(row).collect::<Vec<_>>().join(" "))
        }
        StatementResult::Write { last_insert_id, rows_affected, .. } => format!("{last_insert_id}/{rows_affected}"),
        StatementResult::Error { text, .. } => format!("error: {text}"),
    };
    match &outcome.request_error {
        Some(text) => vec![format!("request: {text}")],
        None => outcome.results.iter().map(result).collect(),
    }
}

#[test]
fn results_are_those_of_the_connection_and_survive_a_restart() {
    let mut node = Node::new();
    assert_eq!(node.execute(&["CREATE TABLE t(id INTEGER PRIMARY KEY, v)"]), ["0/0"]);
    assert_eq!(node.execute(&["INSERT INTO t(v) VALUES(1),(2)", "DROP TABLE IF EXISTS nope"]), ["2/2", "2/2"]);
    assert_eq!(node.execute(&["UPDATE t SET v = 3 WHERE id = 99", "SELECT 1"]), ["2/0", "2/0"]);
    let mut node = node.restart();
    assert_eq!(node.execute(&["CREATE TABLE u(x)"]), ["2/0"]);
    assert_eq!(
        node.execute(&["INSERT INTO t VALUES(1, 1)", "DELETE FROM t"]),
        ["error: UNIQUE constraint failed: t.id", "2/2"]
    );
}

#[test]
fn strings_of_several_statements_run_whole_and_answer_the_last_rows() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(id INTEGER PRIMARY KEY, v)"]);
    assert_eq!(node.execute(&["INSERT INTO t(v) VALUES(1) RETURNING id; INSERT INTO t(v) VALUES(2)"]), ["id: 1"]);
    assert_eq!(node.execute(&["INSERT INTO t(v) VALUES(3); -- done", "", "  -- nothing"]), ["3/1", "0/0"]);
    assert_eq!(
        node.execute(&["INSERT INTO t(v) VALUES(4); INSERT INTO nope VALUES(1)", "SELECT 1;;"]),
        ["error: no such table: nope", "4/1"]
    );
    assert_eq!(
        show(&node.one(request(&["SELECT count(*) FROM t; SELECT 2 AS two;;", "EXPLAIN QUERY PLAN DELETE FROM t"])))[0],
        "two: 2"
    );
    assert_eq!(
        show(&node.one(request(&["SELECT count(*) AS n FROM t", "PRAGMA nonsense", "INSERT INTO t(v) VALUES(5)"]))),
        ["n: 4", ": ", "5/1"]
    );
    let mut binding = request_of(&["INSERT INTO t(v) VALUES(?); INSERT INTO t(v) VALUES(?)"]);
    binding.statements[0].parameters = vec![Parameter { name: None, value: Value::Integer(1) }];
    assert_eq!(show(&node.one(Action::Execute(binding))), ["error: not enough args to execute query: want 1 got 0"]);
}

#[test]
fn any_error_rolls_back_the_whole_transaction() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(id INTEGER PRIMARY KEY)"]);
    for bad in ["INSERT INTO t VALUES(1)", "SELEC 1", "SELECT * FROM nope", "BEGIN", "INSERT INTO t VALUES(?)"] {
        let outcome = node.one(transaction(&["INSERT INTO t VALUES(1)", bad, "INSERT INTO t VALUES(3)"]));
        assert_eq!(outcome.results.len(), 2, "{bad}");
        assert_eq!(node.integer("SELECT count(*) FROM t"), 0, "{bad}");
    }
    let kept = node.one(transaction(&["INSERT INTO t VALUES(1)", "SELECT 1", "DELETE FROM t WHERE id = 9"]));
    assert_eq!(show(&kept), ["1/1", "1/1", "1/0"]);
}

#[test]
fn a_client_cannot_end_the_batch_with_or_rollback() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES(1)"]);
    let outcomes = node.apply(vec![
        execute(&["INSERT INTO t VALUES(2)"]),
        execute(&["INSERT INTO t VALUES(3)", "INSERT OR ROLLBACK INTO t VALUES(1)", "INSERT INTO t VALUES(4)"]),
        transaction(&["INSERT INTO t VALUES(5)", "INSERT OR ROLLBACK INTO t VALUES(1)", "INSERT INTO t VALUES(6)"]),
        execute(&["INSERT INTO t VALUES(7)"]),
    ]);
    let shown: Vec<_> = outcomes.iter().map(show).collect();
    let error = "error: UNIQUE constraint failed: t.id";
    assert_eq!(shown, [vec!["2/1"], vec!["3/1", error, "4/1"], vec!["5/1", error], vec!["7/1"]]);
    assert_eq!(node.integer("SELECT group_concat(id, '') = '12347' FROM t"), 1);
    assert_eq!(node.writer.applied().id.index, Index(5));
}

#[test]
fn raise_rollback_in_a_trigger_undoes_its_statement_only() {
    let mut node = Node::new();
    node.execute(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY)",
        "CREATE TRIGGER no BEFORE INSERT ON t WHEN new.id < 0 BEGIN SELECT RAISE(ROLLBACK, 'negative'); END",
    ]);
    let shown = node.execute(&["INSERT INTO t VALUES(1)", "INSERT INTO t VALUES(-1)", "INSERT INTO t VALUES(2)"]);
    assert_eq!(shown, ["1/1", "error: negative", "2/1"]);
    assert_eq!(node.integer("SELECT count(*) FROM t"), 2);
}

#[test]
fn transaction_control_attach_and_temp_are_refused() {
    let mut node = Node::new();
    let outside = node.scratch.0.join("outside.db");
    let attach = format!("ATTACH DATABASE '{}' AS e", outside.display());
    let into = format!("VACUUM INTO '{}'", outside.display());
    for sql in ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT x", "/* x */ RELEASE entry", "END"] {
        assert_eq!(node.execute(&[sql]), [format!("error: {}", authorizer::TEXT_TRANSACTION)], "{sql}");
    }
    for sql in [&attach, "DETACH main", "ATTACH ':memory:' AS m", "ATTACH '' AS m"] {
        assert_eq!(node.execute(&[sql]), [format!("error: {}", authorizer::TEXT_ATTACH)], "{sql}");
    }
    for sql in ["CREATE TEMP TABLE t(x)", "CREATE TEMP VIEW v AS SELECT 1", "CREATE TABLE temp.t(x)"] {
        assert_eq!(node.execute(&[sql]), [format!("error: {}", authorizer::TEXT_TEMP)], "{sql}");
    }
    assert_eq!(node.execute(&[&into]), [format!("error: {}", authorizer::TEXT_VACUUM_INTO)]);
    node.execute(&["CREATE TABLE r(a)", "CREATE INDEX ri ON r(a)"]);
    let alter = "ALTER TABLE r RENAME TO s; ALTER TABLE s RENAME a TO b; ALTER TABLE s ADD c; ALTER TABLE s DROP c";
    assert_eq!(node.execute(&[alter]), ["0/0"], "what is like a temporary object is not refused with them");
    assert!(!outside.exists());
    assert_eq!(node.execute(&["SELECT load_extension('x')"]), ["error: not authorized"]);
}

#[test]
fn pragmas_cannot_change_how_later_entries_run() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(a TEXT CHECK (a <> 'x'))"]);
    let refused = [
        "PRAGMA main.wal_autocheckpoint = 1",
        "/**/PRAGMA journal_mode=DELETE",
        "PRAGMA \"main\".journal_mode=DELETE",
        "PRAGMA synchronous(0)",
        "PRAGMA case_sensitive_like = 1",
        "PRAGMA recursive_triggers = 1",
        "PRAGMA ignore_check_constraints = 1",
        "PRAGMA reverse_unordered_selects = 1",
        "PRAGMA writable_schema = ON",
        "PRAGMA legacy_alter_table = ON",
        "PRAGMA schema_version = 5",
        "PRAGMA wal_checkpoint",
        "INSERT INTO t SELECT file FROM pragma_database_list",
        "INSERT INTO t SELECT count(*) FROM pragma_data_version",
        "INSERT INTO t SELECT page_count FROM Pragma_Page_Count",
        "INSERT INTO t SELECT name FROM pragma_table_list",
        "INSERT INTO t SELECT name FROM pragma_module_list",
        "INSERT INTO t SELECT \"table\" FROM pragma_foreign_key_check",
        "INSERT INTO t SELECT * FROM pragma_compile_options",
    ];
    for sql in refused {
        assert_eq!(node.execute(&[sql]), ["error: disallowed pragma"], "{sql}");
    }
    for sql in
        ["PRAGMA foreign_keys = ON", "PRAGMA cache_size = 1", "PRAGMA busy_timeout = 1", "PRAGMA encoding = 'UTF-8'"]
    {
        assert_eq!(node.execute(&[sql]), ["0/0"], "{sql}");
    }
    assert_eq!(node.integer("PRAGMA foreign_keys"), 0);
    assert_eq!(node.integer("PRAGMA cache_size"), -4096);
    assert_eq!(node.execute(&["PRAGMA user_version = 7", "PRAGMA optimize"]), ["0/0", "0/0"]);
    assert_eq!(node.integer("PRAGMA user_version"), 7);
    assert_eq!(
        show(&node.one(request(&["PRAGMA journal_mode", "SELECT name FROM pragma_table_info('t')", "DELETE FROM t"]))),
        ["journal_mode: wal", "name: a", "0/0"]
    );
}

#[test]
fn virtual_tables_work_as_in_stock_sqlite() {
    let mut node = Node::new();
    node.execute(&["CREATE VIRTUAL TABLE doc USING fts5(title, body)"]);
    node.execute(&["CREATE VIRTUAL TABLE old USING fts4(c)", "CREATE VIRTUAL TABLE box USING rtree(id, x0, x1)"]);
    node.execute(&["CREATE VIRTUAL TABLE vocab USING fts5vocab(doc, row)", "CREATE VIRTUAL TABLE g USING geopoly(a)"]);
    assert_eq!(node.execute(&["INSERT INTO doc VALUES('first', 'quick fox'), ('second', 'lazy dogs')"]), ["2/2"]);
    assert_eq!(
        node.execute(&["INSERT INTO old VALUES('alpha beta')", "INSERT INTO box VALUES(1, 0, 10)"]),
        ["1/1", "1/1"]
    );
    let changes = ["UPDATE doc SET body = 'changed words' WHERE rowid = 1", "DELETE FROM doc WHERE doc MATCH 'dogs'"];
    assert_eq!(node.execute(&changes), ["1/1", "1/1"]);
    let reads = [
        "SELECT title FROM doc WHERE doc MATCH 'words'",
        "SELECT c FROM old WHERE old MATCH 'beta'",
        "SELECT id FROM box WHERE x1 >= 5",
        "SELECT term FROM vocab",
        "INSERT INTO g(_shape, a) VALUES('[[0,0],[4,0],[4,3],[0,0]]', 1)",
    ];
    assert_eq!(
        show(&node.one(request(&reads))),
        ["title: first", "c: alpha beta", "id: 1", "term: changed first words", "1/1"]
    );
    let rebuild = ["INSERT INTO doc(doc) VALUES('rebuild')", "INSERT INTO doc_data VALUES(1, x'')"];
    assert_eq!(node.execute(&rebuild)[1], "error: table doc_data may not be modified");
    let node = node.restart();
    assert_eq!(node.integer("SELECT count(*) FROM doc WHERE doc MATCH 'words'"), 1);
}

#[test]
fn the_applied_row_and_raw_pages_are_out_of_reach() {
    let mut node = Node::new();
    let reserved = [
        "SELECT * FROM sqlite_ferrolite",
        "DELETE FROM sqlite_ferrolite",
        "UPDATE SQLITE_FERROLITE SET value = x''",
        "INSERT INTO main.sqlite_ferrolite VALUES(3, x'')",
        "CREATE TABLE c AS SELECT * FROM sqlite_ferrolite",
    ];
    for sql in reserved {
        assert_eq!(node.execute(&[sql]), [format!("error: {}", authorizer::TEXT_RESERVED)], "{sql}");
    }
    for sql in [
        "DROP TABLE sqlite_ferrolite",
        "ALTER TABLE sqlite_ferrolite RENAME TO x",
        "CREATE INDEX i ON sqlite_ferrolite(id)",
    ] {
        assert!(node.execute(&[sql])[0].starts_with("error: "), "{sql}");
    }
    node.execute(&["CREATE VIEW v AS SELECT * FROM sqlite_ferrolite"]);
    assert!(node.execute(&["SELECT * FROM v"])[0].starts_with("error: "));
    for sql in ["SELECT data FROM sqlite_dbpage", "SELECT * FROM dbstat", "CREATE VIRTUAL TABLE p USING sqlite_dbpage"]
    {
        assert_eq!(node.execute(&[sql]), [format!("error: {}", authorizer::TEXT_PHYSICAL)], "{sql}");
    }
    let refused = "error: not authorized to use function: ";
    for function in ["sqlite_compileoption_get(1)", "sqlite_compileoption_used('THREADSAFE')", "fts5_locale('a', 'b')"]
    {
        let shown = node.execute(&[&format!("SELECT {function}")]);
        assert!(shown[0].starts_with(refused), "{function}: {shown:?}");
    }
    assert!(node.execute(&["DELETE FROM sqlite_schema"])[0].starts_with("error: "));
    assert!(!node.dump().contains("table sqlite_ferrolite"));
}

/// A database with what `CREATE` of other programs lets pass, and this one does not.
fn node_with_foreign_schema(schema: &str) -> Node {
    let Node { writer, scratch, foreign_keys } = Node::new();
    drop(writer);
    let other = sqlite::Connection::open(&scratch.file(), sqlite::Access::ReadWrite, None).unwrap();
    other.execute(schema).unwrap();
    drop(other);
    Node { writer: open_with(&scratch.file(), foreign_keys), scratch, foreign_keys }
}

#[test]
fn a_string_in_double_quotes_in_an_index_never_turns_into_a_damaged_index() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(a)", "INSERT INTO t VALUES(1)"]);
    for sql in [
        r#"CREATE INDEX i ON t("foo")"#,
        r#"CREATE INDEX i ON t(a) WHERE a > "foo""#,
        r#"CREATE TABLE u(a, b AS ("foo"))"#,
        r#"CREATE TABLE u(a CHECK (a <> "foo"))"#,
    ] {
        let shown = node.execute(&[sql]);
        assert!(shown[0].starts_with("error: no such column") || shown[0].contains("foo"), "{sql}: {shown:?}");
        assert!(shown[0].starts_with("error"), "{sql}: {shown:?}");
    }
    let shown = node.execute(&[r#"INSERT INTO t VALUES("a string")"#, r#"DELETE FROM t WHERE a = "a string""#]);
    assert_eq!(shown, ["2/1", "2/1"], "elsewhere such strings are as they were");

    let schema = r#"CREATE TABLE t(a, v AS ("bar")); CREATE INDEX i ON t("foo"); CREATE INDEX p ON t(a) WHERE "foo" > 'e';
        CREATE INDEX j ON t(v); CREATE TABLE u(a, b); CREATE UNIQUE INDEX ui ON u(a || "baz");
        INSERT INTO t(a) VALUES(1), (2), (3); INSERT INTO u VALUES(1, 1), (2, 2)"#;
    let mut node = node_with_foreign_schema(schema).restart();
    assert_eq!(node.integer("SELECT count(*) FROM t WHERE a > 0"), 3, "it opens and is readable");
    let check = |node: &Node| {
        assert_eq!(node.writer.connection().query_texts("PRAGMA integrity_check").unwrap(), ["ok"]);
    };
    let outcomes = node.apply(vec![
        execute(&["INSERT INTO t(a) VALUES(4)"]),
        execute(&["ALTER TABLE t ADD COLUMN foo", "DELETE FROM t WHERE a = 1"]),
        transaction(&["ALTER TABLE main.\"t\" ADD \"bar\" INT", "UPDATE t SET foo = 'x', bar = 1 WHERE a = 2"]),
        // All rows have the same text in the index now.
        execute(&["ALTER TABLE u ADD COLUMN baz DEFAULT 5", "DELETE FROM u WHERE a = 1"]),
    ]);
    let shown: Vec<_> = outcomes.iter().map(show).collect();
    assert_eq!(shown[1..3], [["4/1", "4/1"], ["4/1", "4/1"]]);
    check(&node);
    node.execute(&["DELETE FROM t", "INSERT INTO t(a, foo) VALUES(9, 'z')", "DELETE FROM u"]);
    check(&node);
    let rename = "ALTER TABLE w RENAME a TO qux; DELETE FROM w WHERE qux = 1";
    let mut node =
        node_with_foreign_schema(r#"CREATE TABLE w(a); CREATE INDEX wi ON w("qux"); INSERT INTO w VALUES(1)"#);
    assert!(node.execute(&[rename])[0].starts_with("error: error in index wi: no such column"), "refused by SQLite");
    assert_eq!(node.execute(&["DELETE FROM w WHERE a = 1"]), ["0/1"]);
    check(&node.restart());
}

#[test]
fn a_column_that_would_make_rows_equal_in_a_unique_index_is_not_added() {
    let schema = r#"CREATE TABLE u(a); CREATE UNIQUE INDEX ui ON u(substr("baz" || a, 4, 1));
        INSERT INTO u VALUES(1), (2)"#;
    let mut node = node_with_foreign_schema(schema);
    let sql = "ALTER TABLE u ADD COLUMN baz DEFAULT '12345'";
    let error = "error: UNIQUE constraint failed: index 'ui'";
    assert_eq!(node.execute(&[sql]), [error]);
    assert_eq!(show(&node.one(transaction(&["INSERT INTO u VALUES(3)", sql]))), ["3/1", error]);
    assert_eq!(node.execute(&["DELETE FROM u WHERE a = 2", sql])[1], "3/1");
    assert_eq!(node.writer.connection().query_texts("PRAGMA integrity_check").unwrap(), ["ok"]);
    assert_eq!(node.integer("SELECT count(*) FROM u WHERE baz = '12345'"), 1);
}

#[test]
fn automatic_rowids_after_the_largest_are_refused_not_random() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(v)", "CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT)", "CREATE TABLE log(x)"]);
    node.execute(&["CREATE TRIGGER tl AFTER INSERT ON t BEGIN INSERT INTO log VALUES(new.rowid); END"]);
    assert_eq!(node.execute(&["INSERT INTO t(rowid, v) VALUES(9223372036854775807, 1)"]), ["9223372036854775807/1"]);
    let full = format!("error: {}", rowids::TEXT_FULL);
    assert_eq!(node.execute(&["INSERT INTO t VALUES(2)", "INSERT INTO t(rowid, v) VALUES(5, 2)"])[0], full);
    let mut node = node.restart();
    assert_eq!(node.execute(&["INSERT INTO t VALUES(2)"]), [full.as_str()]);
    assert_eq!(show(&node.one(transaction(&["INSERT INTO t(rowid) VALUES(6)", "INSERT INTO t VALUES(2)"])))[1], full);
    assert_eq!(node.integer("SELECT group_concat(rowid) = '5,9223372036854775807' FROM t"), 1);
    assert_eq!(node.execute(&["DELETE FROM t WHERE rowid > 5", "INSERT INTO t VALUES(3)"])[1], "6/1");
    let both = "INSERT INTO t(rowid, v) VALUES(9223372036854775807, 1), (NULL, 2)";
    assert_eq!(node.execute(&[both]), [full]);
    assert_eq!(node.integer("SELECT count(*) FROM t"), 2);
}

#[test]
fn a_full_autoincrement_is_a_result_and_not_a_full_disk() {
    let mut node = Node::new();
    let text = "error: database or disk is full";
    node.execute(&[
        "CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
        "INSERT INTO a VALUES(9223372036854775807, 1)",
    ]);
    let shown: Vec<_> = node
        .apply(vec![
            execute(&["CREATE TABLE b(x)"]),
            execute(&["INSERT INTO a(v) VALUES(2)", "INSERT INTO b VALUES(1)"]),
        ])
        .iter()
        .map(show)
        .collect();
    assert_eq!(shown[1][0], text);
    assert_eq!(node.integer("SELECT count(*) FROM b"), 1);
    assert_eq!(show(&node.one(transaction(&["INSERT INTO b VALUES(2)", "INSERT INTO a(v) VALUES(2)"])))[1], text);
    assert_eq!(node.integer("SELECT count(*) FROM b"), 1);
    let edit = "UPDATE sqlite_sequence SET seq = 9223372036854775807";
    let shown = show(&node.one(transaction(&["DELETE FROM a", edit, "INSERT INTO a(v) VALUES(2)"])));
    assert_eq!(shown.last().unwrap(), text);
    assert_eq!(node.integer("SELECT count(*) FROM a"), 1);
    assert!(!sqlite::disk_failed());
}

#[test]
fn a_table_made_from_a_query_gets_no_random_column_names() {
    let mut node = Node::new();
    let refused = ["error: too many columns of the same name: give them names"];
    assert_eq!(node.execute(&["CREATE TABLE t AS SELECT 1 AS a, 2 AS a, 3 AS a, 4 AS a, 5 AS a"]).len(), 1);
    assert_eq!(node.execute(&["CREATE TABLE u AS SELECT 1 AS a, 2 AS a, 3 AS a, 4 AS a, 5 AS a, 6 AS a"]), refused);
    node.execute(&["CREATE VIEW v AS SELECT 1 AS a, 2 AS a, 3 AS A, 4 AS a, 5 AS a, 6 AS a"]);
    assert_eq!(node.execute(&["CREATE TABLE u AS SELECT * FROM v"]), refused);
    assert_eq!(node.integer("SELECT count(*) FROM sqlite_schema WHERE name IN ('t', 'u')"), 1);
    assert_eq!(node.execute(&["CREATE TABLE w AS SELECT * FROM t; INSERT INTO w SELECT * FROM w"]), ["2/1"]);
}

#[test]
fn connection_numbers_do_not_leak_into_sql() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, c)"]);
    let numbers = "INSERT INTO t(a, b, c) VALUES(last_insert_rowid(), changes(), total_changes())";
    node.execute(&["INSERT INTO t(a) VALUES(1), (2), (3)"]);
    node.execute(&[numbers, numbers]);
    let mut node = node.restart();
    node.execute(&[numbers, numbers]);
    let rows = show(&node.one(request(&["SELECT a, b, c FROM t WHERE id > 3"])));
    assert_eq!(rows, ["a,b,c: 0,0,0 4,1,1 0,0,0 6,1,1"]);
}

#[test]
fn a_step_budget_stops_at_the_same_step_everywhere() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(x)"]);
    let endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)";
    let limited = |sql: &[&str]| Request { vm_steps_max: 100_000, ..request_of(sql) };
    let write = format!("INSERT INTO t {endless} SELECT n FROM r");
    let read = format!("{endless} SELECT count(*) FROM r");
    let shown = show(&node.one(Action::Request(limited(&[
        "INSERT INTO t VALUES(1)",
        &write,
        &read,
        "INSERT INTO t VALUES(2)",
    ]))));
    // The budget is the request's: what comes after its end does not begin.
    assert_eq!(shown, ["1/1", "error: execute timeout", "error: execute timeout", "error: execute timeout"]);
    assert_eq!(show(&node.one(Action::Request(limited(&[&read])))), ["error: query timeout"]);
    let many = vec!["SELECT 1"; 2_000];
    let shown = show(&node.one(Action::Execute(limited(&many))));
    assert_eq!(shown.iter().filter(|s| s.starts_with("error")).count(), 1_000);
    assert_eq!(node.integer("SELECT count(*) FROM t"), 1);
}

/// Cached statements and virtual tables remember things; a budget must not care.
#[test]
fn a_step_budget_runs_out_at_the_same_step_whatever_the_node_remembers() {
    let setup = [
        "CREATE TABLE t(x)",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "CREATE VIRTUAL TABLE r USING rtree(id, a, b)",
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 300)
         INSERT INTO f SELECT 'word' || (n % 7) || ' and other ' || n FROM c",
    ];
    let (mut old, mut new) = (Node::new(), Node::new());
    old.execute(&setup);
    new.execute(&setup);
    let statements = [
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 20) INSERT INTO t SELECT n FROM c",
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 20) INSERT INTO f SELECT 'a b ' || n FROM c",
        "INSERT INTO t SELECT rowid FROM f WHERE f MATCH 'other' LIMIT 200",
        "INSERT INTO r SELECT rowid, 1, 2 FROM f WHERE rowid NOT IN (SELECT id FROM r) LIMIT 20",
    ];
    for sql in statements {
        let (mut fitted, mut exceeded) = (0, 0);
        for vm_steps_max in (100..3_000).step_by(100) {
            let limited = || Action::Execute(Request { vm_steps_max, ..request_of(&[sql]) });
            // The same statement has run on one node before, with a part of a portion left over; the other begins anew.
            new = new.restart();
            let (remembers, forgets) = (show(&old.one(limited())), show(&new.one(limited())));
            assert_eq!(remembers, forgets, "{vm_steps_max}: {sql}");
            *(if forgets[0].starts_with("error") { &mut exceeded } else { &mut fitted }) += 1;
        }
        assert!(fitted > 0 && exceeded > 0, "{fitted} {exceeded}: {sql}");
    }
    assert_eq!(old.dump(), new.dump());
}

#[test]
fn a_skipped_entry_fails_leaves_nothing_and_those_after_it_are_applied() {
    let mut nodes = [Node::new(), Node::new()];
    for node in &mut nodes {
        node.execute(&["CREATE TABLE t(x)"]);
        let after =
            |node: &Node, by| LogId { index: Index(node.writer.applied().id.index.0 + by), ..node.writer.applied().id };
        assert!(node.writer.skip(after(node, 2), None).is_err(), "only the next one can be skipped");
        let (id, before) = (after(node, 1), node.writer.applied());
        let unix_time_us = before.time_us + 5;
        let command = Command { unix_time_us, seed: 1, action: execute(&["INSERT INTO t VALUES(0)"]), request: None };
        let outcome = node.writer.skip(id, Some(&command)).expect("it can be skipped");
        assert!(outcome.results.is_empty() && outcome.request_error.is_some());
        assert_eq!((node.writer.applied().id, node.writer.applied().time_us), (id, before.time_us + 5));
    }
    let [one, two] = nodes;
    let (mut one, mut two) = (one, two.restart());
    for node in [&mut one, &mut two] {
        assert_eq!(node.execute(&["INSERT INTO t VALUES(random())"]), ["1/1"]);
    }
    assert_eq!((one.dump(), one.writer.applied()), (two.dump(), two.writer.applied()));
}

#[test]
fn vacuum_runs_alone_and_a_crash_in_between_repeats_nothing() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(x)", "INSERT INTO t VALUES(1), (2), (3)", "DELETE FROM t WHERE x = 2"]);
    let mixed = execute(&["INSERT INTO t VALUES(4); VACUUM; INSERT INTO t VALUES(last_insert_rowid())", "SELECT 1"]);
    let outcomes =
        node.apply(vec![execute(&["INSERT INTO t VALUES(9)"]), mixed, execute(&["INSERT INTO t VALUES(10)"])]);
    assert_eq!(show(&outcomes[1]), ["5/1", "5/1"]);
    assert_eq!(node.integer("SELECT group_concat(x) = '1,3,9,4,5,10' FROM t"), 1);
    assert_eq!(node.execute(&["VACUUM main"]), ["6/1"]);
    assert_eq!(show(&node.one(transaction(&["VACUUM"]))), ["error: cannot VACUUM from within a transaction"]);
    node.one(Action::Vacuum);
    node.one(Action::Optimize { mask: 0xfffe });
    node.one(Action::Barrier);
    assert!(node.writer.applied().vacuum_us > 0);
    assert_eq!(node.writer.applied().changed.0 + 1, node.writer.applied().id.index.0);
}

thread_local! {
    /// After which statement of an entry that is applied alone this thread "crashes".
    pub static CRASH_AFTER: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

pub fn crash_after_statement(statements: u64) -> Result<(), Fatal> {
    if CRASH_AFTER.get() == statements { Err(Fatal::new("crash")) } else { Ok(()) }
}

#[test]
fn an_entry_that_runs_alone_is_applied_exactly_once_wherever_a_crash_falls() {
    let schema = ["CREATE TABLE t(id INTEGER PRIMARY KEY, x, l, c, n)", "INSERT INTO t(id, x) VALUES(1, 1), (7, 7)"];
    let add = "INSERT INTO t(x, l, c, n) VALUES(random(), last_insert_rowid(), changes(), total_changes())";
    let string = format!("{add}; VACUUM; {add}");
    let statements = [add, &string, "INSERT OR ROLLBACK INTO t(id) VALUES(1)", add, "VACUUM", "ANALYZE", add];
    let mut whole = Node::new();
    whole.execute(&schema);
    let expected = whole.execute(&statements);
    assert_eq!(expected.iter().filter(|r| r.starts_with("error")).count(), 1);
    for crash_after in 1..=9 {
        let mut node = Node::new();
        node.execute(&schema);
        let id = LogId { term: Term(1), index: Index(2) };
        let action = execute(&statements);
        let command = Command { unix_time_us: 1_700_000_000_000_002, seed: 14, action, request: None };
        CRASH_AFTER.set(crash_after);
        let crashed = node.writer.apply_batch(&[(id, Item::Command(command.clone()))]);
        CRASH_AFTER.set(0);
        assert!(crashed.err().is_some_and(|fatal| fatal.text.ends_with(": crash")), "after {crash_after}");
        let mut node = node.restart();
        assert_eq!(node.writer.applied().id.index, Index(1), "not yet applied");
        node.writer.apply_batch(&[(id, Item::Command(command))]).unwrap();
        assert_eq!(node.dump(), whole.dump(), "after {crash_after}");
        assert_eq!(node.execute(&["CREATE TABLE z(a)"]), ["12/1"], "after {crash_after}");
    }
}

#[test]
fn deferred_foreign_keys_are_checked_where_a_commit_would_check_them() {
    let mut node = Node::with_foreign_keys(true);
    node.execute(&[
        "CREATE TABLE p(id INTEGER PRIMARY KEY)",
        "CREATE TABLE k(id INTEGER PRIMARY KEY, p REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TABLE n(id INTEGER PRIMARY KEY, p REFERENCES p(id))",
    ]);
    let text = "FOREIGN KEY constraint failed";
    assert_eq!(
        show(&node.one(transaction(&["INSERT INTO k VALUES(1, 10)", "INSERT INTO p VALUES(10)"]))),
        ["1/1", "10/1"]
    );
    assert_eq!(show(&node.one(transaction(&["INSERT INTO k VALUES(2, 20)"]))), [format!("request: {text}")]);
    let alone = execute(&["INSERT INTO k VALUES(3, 20)", "INSERT INTO p VALUES(20)"]);
    let shown: Vec<_> = node.apply(vec![execute(&["INSERT INTO p VALUES(11)"]), alone]).iter().map(show).collect();
    assert_eq!(shown[1], [format!("error: {text}"), "20/1".to_owned()]);
    let deferring = ["PRAGMA defer_foreign_keys = ON", "INSERT INTO n VALUES(1, 30)", "INSERT INTO p VALUES(30)"];
    assert_eq!(show(&node.one(transaction(&deferring))).len(), 3);
    assert_eq!(node.integer("PRAGMA defer_foreign_keys"), 0);
    assert_eq!(node.execute(&["INSERT INTO n VALUES(2, 40)"]), [format!("error: {text}")]);
    assert_eq!(node.integer("SELECT count(*) FROM k"), 1);
}

#[test]
fn an_entry_that_cannot_be_read_stops_with_its_place_and_leaves_nothing_of_its_batch() {
    let mut node = Node::new();
    let id = |index| LogId { term: Term(1), index: Index(index) };
    let command = Command { unix_time_us: 1, seed: 1, action: execute(&["CREATE TABLE t(x)"]), request: None };
    let bytes = command.encode();
    let encoded = |bytes: &[u8]| Item::Encoded(bytes.into());
    let batch = [(id(1), encoded(&bytes)), (id(2), encoded(&bytes[..bytes.len() - 1]))];
    let fatal = node.writer.apply_batch(&batch).unwrap_err();
    assert!(fatal.text.contains("cannot be read: the command is cut off"), "{}", fatal.text);
    assert!(fatal.advice().contains("version"), "{}", fatal.advice());
    let mut node = node.restart();
    assert_eq!(node.writer.applied().id.index, Index(0));
    node.writer.apply_batch(&batch[..1]).unwrap();
    assert_eq!(node.integer("SELECT count(*) FROM t"), 0);
}

#[test]
fn entries_that_do_not_follow_and_foreign_databases_are_refused() {
    let mut node = Node::new();
    let id = |index| LogId { term: Term(1), index: Index(index) };
    assert!(node.writer.apply_batch(&[(id(2), Item::Noop)]).is_err());
    let membership: std::sync::Arc<[u8]> = b"a,b".as_slice().into();
    node.writer.apply_batch(&[(id(1), Item::Noop), (id(2), Item::Membership(membership))]).unwrap();
    assert!(node.writer.apply_batch(&[(id(2), Item::Noop)]).is_err());
    assert_eq!(node.writer.commit_full().unwrap(), id(2));
    let node = node.restart();
    assert_eq!(node.writer.applied().id, id(2));
    assert_eq!(node.writer.membership().unwrap(), b"a,b");
    let path = node.scratch.file();
    let other = Writer::open(&path, &WriterOptions { foreign_keys: false, cluster: ClusterId(2) });
    assert!(other.err().unwrap().text.contains("belongs to cluster"));
}

#[test]
fn a_file_that_is_refused_stays_as_it_was() {
    let scratch = Scratch::new();
    let path = scratch.file();
    let options = WriterOptions { foreign_keys: false, cluster: ClusterId(1) };
    let look = || String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
    let assert_as = |before: &str| assert!(look() == before, "the file was changed");
    // Somebody else's database, in either mode.
    let foreign = sqlite::Connection::open(&path, sqlite::Access::ReadWrite, None).unwrap();
    foreign.execute("CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    let before = look();
    assert!(Writer::open(&path, &options).err().unwrap().text.contains("belongs to it"));
    assert_as(&before);
    foreign.execute("PRAGMA journal_mode = WAL; INSERT INTO t VALUES(2)").unwrap();
    let before = look();
    assert!(Writer::open(&path, &options).is_err());
    assert_as(&before);
    foreign.execute("DROP TABLE t").unwrap();
    drop(foreign);

    // One that the log contradicts; one that is empty, or not there yet; one of another cluster.
    let refuse = |_| Err(Fatal::new("no"));
    let before = look();
    assert_eq!(Writer::open_if(&path, &options, refuse).err(), Some(Fatal::new("no")));
    assert_as(&before);
    drop(Writer::open(&path, &options).unwrap());
    let before = look();
    assert_eq!(Writer::open_if(&path, &options, refuse).err(), Some(Fatal::new("no")));
    assert!(Writer::open(&path, &WriterOptions { cluster: ClusterId(2), ..options.clone() }).is_err());
    assert_as(&before);
    let missing = scratch.0.join("missing.sqlite");
    assert!(Writer::open_if(&missing, &options, refuse).is_err() && !missing.exists());
    Writer::open(&path, &options).unwrap();
}

#[test]
fn a_damaged_file_is_fatal_and_never_a_result() {
    let node = Node::new();
    let path = node.scratch.file();
    let Node { mut writer, scratch: _scratch, .. } = node;
    let id = |index| LogId { term: Term(1), index: Index(index) };
    let command = |action| Item::Command(Command { unix_time_us: 1, seed: 1, action, request: None });
    let fill = "INSERT INTO t SELECT hex(randomblob(500)) FROM generate";
    let view = "CREATE VIEW generate AS WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM g LIMIT 100) SELECT n FROM g";
    writer.apply_batch(&[(id(1), command(execute(&["CREATE TABLE t(x)", view, fill])))]).unwrap();
    writer.commit_full().unwrap();
    drop(writer);
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[4096 * 4..length.min(4096 * 20)].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let mut writer = open_with(&path, false);
    let fatal = writer.apply_batch(&[(id(2), command(execute(&["UPDATE t SET x = x || 'y'"])))]).unwrap_err();
    assert_eq!(fatal.sqlite_code.map(|c| c & 0xff), Some(11), "{fatal}");
}

/// Runs this test once more as a process that may write no file beyond a size, as on a full disk.
#[test]
fn a_write_that_the_disk_refuses_is_fatal_and_loses_nothing() {
    const CHILD: &str = "FERROLITE_TEST_SMALL_DISK";
    const NAME: &str = "db::tests::a_write_that_the_disk_refuses_is_fatal_and_loses_nothing";
    let fill = "INSERT INTO t(x) VALUES(randomblob(3000))";
    if let Some(path) = std::env::var_os(CHILD) {
        let mut writer = open_with(Path::new(&path), false);
        for index in writer.applied().id.index.0 + 1.. {
            let id = LogId { term: Term(1), index: Index(index) };
            let sql = if index == 1 { "CREATE TABLE t(x)" } else { fill };
            let command = Command { unix_time_us: 1, seed: 1, action: execute(&[sql]), request: None };
            match writer.apply_batch(&[(id, Item::Command(command))]) {
                Ok(outcomes) => assert_eq!(outcomes[0].results.len(), 1),
                Err(fatal) => {
                    println!("fatal code {} at {index}", fatal.sqlite_code.unwrap_or(0) & 0xff);
                    std::process::exit(0);
                }
            }
        }
    }
    let scratch = Scratch::new();
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .arg(NAME)
        .env(CHILD, scratch.file())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = text.split_once("fatal code ").unwrap_or_else(|| panic!("no fatal failure: {text}"));
    let numbers: Vec<u64> = rest.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).take(2).collect();
    assert!([10, 13].contains(&numbers[0]), "IOERR or FULL: {text}");
    let writer = open_with(&scratch.file(), false);
    assert_eq!(writer.applied().id.index, Index(numbers[1] - 1), "all that was applied is there, and no more");
    assert_eq!(writer.connection().query_texts("PRAGMA integrity_check").unwrap(), ["ok"]);
}

#[path = "poison_tests.rs"]
mod poison;
