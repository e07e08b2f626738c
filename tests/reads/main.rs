//! Reads through the pool of read-only connections, shown through the encoder of answers.

mod pool;
mod refusals;

use ferrolite::command::{Parameter, Request, ResultSink, Statement, StatementResult, Value};
use ferrolite::db::sqlite::{Access, Connection};
use ferrolite::db::{ReaderOptions, Readers};
use ferrolite::http::json::{EncodeOptions, ResponseTail, ResultEncoder};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

const WRITE_REFUSED: &str = "attempt to change database via query operation";
/// Runs for minutes, if nothing stops it.
const ENDLESS: &str =
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 20000000000) SELECT count(*) FROM c";

/// A database file of its own, removed at the end.
struct Database {
    dir: PathBuf,
    writer: Connection,
}

impl Database {
    fn new(setup: &str) -> Database {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("ferrolite-reads-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&dir).unwrap();
        let writer = Connection::open(&dir.join("db.sqlite"), Access::ReadWrite, None).unwrap();
        // A connection that is just being opened may hold a lock of the WAL for a moment.
        writer.set_busy_timeout_ms(5000);
        writer.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF").unwrap();
        writer.execute(setup).unwrap();
        Database { dir, writer }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("db.sqlite")
    }

    fn readers(&self) -> Readers {
        Readers::open(&self.path(), ReaderOptions::default())
    }

    fn readers_with(&self, change: impl FnOnce(&mut ReaderOptions)) -> Readers {
        let mut options = ReaderOptions::default();
        change(&mut options);
        Readers::open(&self.path(), options)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

fn request(statements: &[&str]) -> Request {
    let statement = |sql: &&str| Statement { sql: (*sql).to_owned(), parameters: Vec::new() };
    Request { statements: statements.iter().map(statement).collect(), ..Request::default() }
}

fn with_parameters(sql: &str, parameters: &[(Option<&str>, Value)]) -> Request {
    let parameter =
        |(name, value): &(Option<&str>, Value)| Parameter { name: name.map(str::to_owned), value: value.clone() };
    let statement = Statement { sql: sql.to_owned(), parameters: parameters.iter().map(parameter).collect() };
    Request { statements: vec![statement], ..Request::default() }
}

fn answer_with(readers: &Readers, request: &Request, options: EncodeOptions) -> String {
    let mut encoder = ResultEncoder::new(options);
    readers.query(request, None, &mut encoder).unwrap();
    let text = String::from_utf8(encoder.finish(&ResponseTail::default())).unwrap();
    text.strip_prefix("{\"results\":").unwrap().strip_suffix('}').unwrap().to_owned()
}

/// The results of an answer.
fn answer(readers: &Readers, statements: &[&str]) -> String {
    answer_with(readers, &request(statements), EncodeOptions::default())
}

fn error(text: &str) -> String {
    format!("[{{\"error\":\"{text}\"}}]")
}

#[test]
fn declared_types_and_storage_classes_reach_the_client_as_specified() {
    let database = Database::new(
        "CREATE TABLE ty (k INTEGER PRIMARY KEY, a BOOLEAN, b Date, c DATETIME, d timestamp, e VARCHAR(36), f blob, g);
         INSERT INTO ty VALUES(0, 1, 1, 1, 1, 1, 1, 1), (1, 'word', '2004-02-14', '12:00', '', 'é', x'ff00', x'41'),
                              (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL), (3, 1.5, 1.5, 1.5, 1.5, x'4142', 'x', 9e999);",
    );
    let readers = database.readers();
    assert_eq!(
        answer(&readers, &["SELECT * FROM ty"]),
        concat!(
            r#"[{"columns":["k","a","b","c","d","e","f","g"],"types":["integer","boolean","date","datetime","timestamp","varchar(36)","blob","integer"],"#,
            r#""values":[[0,true,"1970-01-01T00:00:01Z","1970-01-01T00:00:01Z","1970-01-01T00:00:01Z","1",1,1],"#,
            r#"[1,"word","2004-02-14T00:00:00Z","12:00","","é","/wA=","QQ=="],"#,
            r#"[2,null,null,null,null,null,null,null],[3,1.5,1.5,1.5,1.5,"AB","x","Infinity"]]}]"#
        )
    );
    let through = "SELECT b AS x, max(b), b||'', (SELECT b FROM ty WHERE k=1) FROM (SELECT * FROM ty) WHERE k=1";
    assert_eq!(
        answer(&readers, &[through]),
        concat!(
            r#"[{"columns":["x","max(b)","b||''","(SELECT b FROM ty WHERE k=1)"],"types":["date","text","text","date"],"#,
            r#""values":[["2004-02-14T00:00:00Z","2004-02-14","2004-02-14","2004-02-14T00:00:00Z"]]}]"#
        )
    );
}

#[test]
fn errors_stand_for_their_own_statement_only() {
    let database = Database::new("CREATE TABLE t (a)");
    let readers = database.readers();
    let three = ["SELECT 1 AS a", "SELECT * FROM nope", "", "SELECT 2 AS a"];
    let expected = concat!(
        r#"[{"columns":["a"],"types":["integer"],"values":[[1]]},{"error":"no such table: nope"},"#,
        r#"{"columns":["a"],"types":["integer"],"values":[[2]]}]"#
    );
    assert_eq!(answer(&readers, &three), expected);
    let in_transaction = Request { transaction: true, ..request(&three) };
    assert_eq!(answer_with(&readers, &in_transaction, EncodeOptions::default()), expected);
    // An error after rows takes the rows back.
    let late = "SELECT abs(x) FROM (SELECT 1 AS x UNION ALL SELECT -9223372036854775808)";
    assert_eq!(answer(&readers, &[late]), error("integer overflow"));
    assert_eq!(answer(&readers, &[]), "[]");
    assert_eq!(answer(&readers, &["", ""]), "[]");
}

#[test]
fn strings_of_several_statements_answer_with_the_last_that_has_columns() {
    let database = Database::new("CREATE TABLE t (a)");
    let readers = database.readers();
    let two = r#"[{"columns":["b"],"types":["integer"],"values":[[2]]}]"#;
    for sql in [
        "SELECT 2 AS b",
        "SELECT 2 AS b;",
        "SELECT 2 AS b; \n",
        "/* c */ SELECT 2 AS b",
        "SELECT 1 AS a; SELECT 2 AS b",
        "SELECT 2 AS b; -- tail",
        "SELECT 2 AS b;;",
        ";; SELECT 2 AS b; /* tail */ ;",
        "SELECT 2 AS b; PRAGMA foreign_keys=ON",
    ] {
        assert_eq!(answer(&readers, &[sql]), two, "{sql}");
    }
    for nothing in ["-----", "   ", ";", "/* only */", "PRAGMA foreign_keys=ON", "PRAGMA nonsense", "PRAGMA optimize"] {
        assert_eq!(answer(&readers, &[nothing]), "[{}]", "{nothing}");
    }
    // What would have changed the answers of the string, had it not been left out, is refused rather than left out.
    for refused in ["case_sensitive_like=ON; SELECT 1", "reverse_unordered_selects(1)", "writable_schema=ON", "stats=1"]
    {
        let sql = format!("SELECT 1; PRAGMA {refused}");
        assert_eq!(answer(&readers, &[&sql]), error("disallowed pragma"), "{sql}");
    }
    assert_eq!(answer(&readers, &["SELECT 1; SELECT * FROM nope"]), error("no such table: nope"));
    let associative = EncodeOptions { associative: true, ..EncodeOptions::default() };
    assert_eq!(answer_with(&readers, &request(&["PRAGMA foreign_keys=ON"]), associative), r#"[{"rows":[]}]"#);
    let many = "SELECT 1;".repeat(1001);
    assert_eq!(answer(&readers, &[&many]), error("more than 1000 statements in one string"));
}

#[test]
fn parameters() {
    let database = Database::new("CREATE TABLE t (a)");
    let readers = database.readers();
    let shown = |request: &Request| answer_with(&readers, request, EncodeOptions::default());
    let (one, x) = (Value::Integer(1), Value::Text(b"x".to_vec()));
    let named = with_parameters("SELECT :b AS b, $a AS a", &[(Some("a"), one.clone()), (Some("b"), x.clone())]);
    assert_eq!(shown(&named), r#"[{"columns":["b","a"],"types":["text","integer"],"values":[["x",1]]}]"#);
    let missing = with_parameters("SELECT ?, ?", &[(None, one.clone())]);
    assert_eq!(shown(&missing), error("not enough args to execute query: want 2 got 1"));
    assert_eq!(answer(&readers, &["SELECT ?"]), error("not enough args to execute query: want 1 got 0"));
    let both = with_parameters("SELECT ? AS a; SELECT ? AS b", &[(None, one.clone()), (None, x.clone())]);
    assert_eq!(shown(&both), r#"[{"columns":["b"],"types":["text"],"values":[["x"]]}]"#);
    let badly_named = with_parameters("SELECT :a", &[(Some(":a"), one.clone())]);
    assert!(shown(&badly_named).contains("does not begin with a letter"));
    // A cached statement forgets the values of the request before.
    assert_eq!(
        shown(&with_parameters("SELECT ?1 AS a", &[(None, x)])),
        r#"[{"columns":["a"],"types":["text"],"values":[["x"]]}]"#
    );
    assert_eq!(
        shown(&with_parameters("SELECT ?1 AS a", &[(None, one)])),
        r#"[{"columns":["a"],"types":["integer"],"values":[[1]]}]"#
    );
}

#[test]
fn qualified_names_use_the_real_table() {
    let database =
        Database::new("CREATE TABLE contacts (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO contacts VALUES(1,'f')");
    let readers = database.readers();
    let mut qualified = request(&["SELECT c.id, name AS who, count(*) AS n FROM contacts c"]);
    let plain = r#"[{"columns":["id","who","n"],"types":["integer","text","integer"],"values":[[1,"f",1]]}]"#;
    for _ in 0..2 {
        qualified.qualify_columns = true;
        assert_eq!(
            answer_with(&readers, &qualified, EncodeOptions::default()),
            r#"[{"columns":["contacts.id","contacts.who","n"],"types":["integer","text","integer"],"values":[[1,"f",1]]}]"#
        );
        qualified.qualify_columns = false;
        assert_eq!(answer_with(&readers, &qualified, EncodeOptions::default()), plain);
    }
}

#[test]
fn explain_is_a_read_also_of_a_write() {
    let database = Database::new("CREATE TABLE t (a INTEGER PRIMARY KEY)");
    let readers = database.readers();
    let plan = answer(&readers, &["EXPLAIN QUERY PLAN DELETE FROM t WHERE a=1"]);
    let head =
        r#"[{"columns":["id","parent","notused","detail"],"types":["integer","integer","integer","text"],"values":[["#;
    assert!(plan.starts_with(head), "{plan}");
    let program = answer(&readers, &["EXPLAIN INSERT INTO t VALUES(1)"]);
    let head = r#"[{"columns":["addr","opcode","p1","p2","p3","p4","p5","comment"]"#;
    assert!(program.starts_with(head), "{program}");
    assert!(readers.only_reads(&request(&["EXPLAIN INSERT INTO t VALUES(1)"]), None).unwrap());
    assert_eq!(
        answer(&readers, &["SELECT count(*) AS n FROM t"]),
        r#"[{"columns":["n"],"types":["integer"],"values":[[0]]}]"#
    );
}

#[test]
fn what_lies_beyond_plain_tables_can_be_read() {
    let database = Database::new(
        "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t VALUES(1, '{\"k\":[1,2]}');
         CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES('some word'), ('another');
         CREATE VIRTUAL TABLE f4 USING fts4(x); INSERT INTO f4 VALUES('some word');
         CREATE VIRTUAL TABLE r USING rtree(id, x0, x1); INSERT INTO r VALUES(1, 0, 5);",
    );
    let readers = database.readers();
    for (sql, value) in [
        ("SELECT x FROM f WHERE f MATCH 'word' ORDER BY rank", "\"some word\""),
        ("SELECT snippet(f, 0, '[', ']', '', 5) FROM f('word')", "\"some [word]\""),
        ("SELECT x FROM f4 WHERE x MATCH 'word'", "\"some word\""),
        ("SELECT id FROM r WHERE x0 < 3 AND x1 > 3", "1"),
        ("SELECT sum(value) FROM t, json_each(b, '$.k')", "3"),
        ("SELECT group_concat(name) FROM pragma_table_info('t')", "\"a,b\""),
        ("SELECT journal_mode FROM pragma_journal_mode", "\"wal\""),
        ("SELECT sqrt(16)", "4"),
        ("SELECT count(*) > 0 FROM dbstat", "1"),
        ("SELECT typeof(random()), length(randomblob(-1)), length(randomblob(9))", "\"integer\",1,9"),
        ("SELECT random() = random()", "0"),
        ("SELECT last_insert_rowid(), changes(), total_changes()", "0,0,0"),
        ("SELECT julianday('now') > 2460000", "1"),
        ("SELECT \"no such column\"", "\"no such column\""),
        ("PRAGMA integrity_check", "\"ok\""),
    ] {
        let shown = answer(&readers, &[sql]);
        assert!(shown.ends_with(&format!("\"values\":[[{value}]]}}]")), "{sql}: {shown}");
    }
    assert_eq!(answer(&readers, &["SELECT randomblob(1000000000)"]), error("string or blob too big"));
    assert_eq!(answer(&readers, &["SELECT hex(zeroblob(1000000000))"]), error("string or blob too big"));
}

#[test]
fn a_request_sees_one_snapshot_while_a_writer_commits() {
    let database = Database::new("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES(0)");
    let readers = database.readers();
    /// Commits another row whenever a result ends: between the statements of the request.
    struct Meddler<'a> {
        writer: &'a Connection,
        results: Vec<StatementResult>,
    }
    impl ResultSink for Meddler<'_> {
        fn begin_rows(&mut self, columns: &[ferrolite::command::Column]) {
            self.results.begin_rows(columns);
        }
        fn row(&mut self, values: &[ferrolite::command::ValueRef<'_>]) -> Result<(), ferrolite::command::SinkFull> {
            self.results.row(values)
        }
        fn end_rows(&mut self, time: f64) {
            self.results.end_rows(time);
            self.writer.execute("INSERT INTO t VALUES(1)").unwrap();
        }
        fn write(&mut self, _: i64, _: i64, _: f64) {
            unreachable!("a read");
        }
        fn error(&mut self, text: &str, is_read: bool) {
            self.results.error(text, is_read);
        }
    }
    let mut meddler = Meddler { writer: &database.writer, results: Vec::new() };
    let count = "SELECT count(*) FROM t";
    readers
        .query(&request(&[count, "SELECT 1; SELECT count(*) FROM t", count, "oops", count]), None, &mut meddler)
        .unwrap();
    let counts: Vec<&StatementResult> = meddler.results.iter().collect();
    for at in [0, 1, 2, 4] {
        assert!(
            matches!(counts[at], StatementResult::Rows { rows, .. } if rows[0][0] == Value::Integer(1)),
            "{:?}",
            counts[at]
        );
    }
    // The next request sees what was committed meanwhile, and nothing holds up a checkpoint.
    assert!(answer(&readers, &[count]).contains("[[5]]"));
    let busy = database.writer.query_integer("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    assert_eq!(busy, Some(0), "a reader still holds a snapshot");
}

#[test]
fn columns_follow_the_schema_although_statements_are_cached() {
    let database = Database::new("CREATE TABLE t (a INTEGER); INSERT INTO t VALUES(1)");
    let readers = database.readers_with(|options| options.connections_max = 1);
    let all = ["SELECT * FROM t"];
    assert_eq!(answer(&readers, &all), r#"[{"columns":["a"],"types":["integer"],"values":[[1]]}]"#);
    database.writer.execute("ALTER TABLE t ADD COLUMN b TEXT DEFAULT 'x'").unwrap();
    let with_b = r#"[{"columns":["a","b"],"types":["integer","text"],"values":[[1,"x"]]}]"#;
    assert_eq!(answer(&readers, &all), with_b);
    assert_eq!(answer(&readers, &all), with_b);
    database.writer.execute("ALTER TABLE t DROP COLUMN a; ALTER TABLE t RENAME COLUMN b TO c").unwrap();
    assert_eq!(answer(&readers, &all), r#"[{"columns":["c"],"types":["text"],"values":[["x"]]}]"#);
    database.writer.execute("DROP TABLE t").unwrap();
    assert_eq!(answer(&readers, &all), error("no such table: t"));
}

#[test]
fn a_result_beyond_the_limit_is_an_error_of_its_statement() {
    let database = Database::new("CREATE TABLE t (a)");
    let readers = database.readers();
    let large =
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c LIMIT 100000) SELECT x, 'some text' FROM c";
    let options = EncodeOptions { bytes_max: 100_000, ..EncodeOptions::default() };
    let shown = answer_with(&readers, &request(&["SELECT 1 AS a", large, "SELECT 2 AS a"]), options);
    assert!(shown.starts_with(
        r#"[{"columns":["a"],"types":["integer"],"values":[[1]]},{"error":"result larger than 100000 bytes"#
    ));
    assert!(shown.ends_with(r#"{"columns":["a"],"types":["integer"],"values":[[2]]}]"#));
}
