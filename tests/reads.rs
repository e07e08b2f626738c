//! Reads through the pool of read-only connections, shown through the encoder of answers.

use ferrolite::command::{Parameter, Request, ResultSink, Statement, StatementResult, Value};
use ferrolite::db::sqlite::{Access, Connection};
use ferrolite::db::{ReadError, ReaderOptions, Readers};
use ferrolite::http::json::{EncodeOptions, ResponseTail, ResultEncoder};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

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
    let expected = r#"[{"columns":["a"],"types":["integer"],"values":[[1]]},{"error":"no such table: nope"},{"columns":["a"],"types":["integer"],"values":[[2]]}]"#;
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

/// Every row of every table, and the schema.
fn contents(database: &Database) -> Vec<String> {
    let mut all = database.writer.query_texts("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name").unwrap();
    all.extend(database.writer.query_texts("SELECT a FROM t ORDER BY rowid").unwrap());
    all.push(format!("{:?}", database.writer.query_integer("PRAGMA user_version").unwrap()));
    all.push(format!("{:?}", database.writer.query_integer("PRAGMA application_id").unwrap()));
    all
}

#[test]
fn nothing_can_be_written_in_any_form() {
    let database = Database::new(
        "CREATE TABLE t (a TEXT); INSERT INTO t VALUES('one'); CREATE VIEW v AS SELECT a FROM t; CREATE INDEX i ON t(a);
         CREATE TRIGGER tr INSTEAD OF INSERT ON v BEGIN INSERT INTO t VALUES(new.a); END;
         CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES('word');",
    );
    let before = contents(&database);
    let readers = database.readers();
    let outside = database.dir.join("outside.db");
    let attach = format!("ATTACH DATABASE '{}' AS o", outside.display());
    let vacuum_into = format!("VACUUM INTO '{}'", outside.display());
    let refused = [
        "INSERT INTO t VALUES('x')",
        "insert into t values('x') RETURNING a",
        "INSERT INTO v VALUES('x')",
        "REPLACE INTO t VALUES('x')",
        "UPDATE t SET a='x'",
        "UPDATE t SET a='x' RETURNING a",
        "DELETE FROM t",
        "DELETE FROM t WHERE 0",
        "WITH w AS (SELECT 1) INSERT INTO t SELECT * FROM w",
        "WITH w AS (SELECT 'one') DELETE FROM t WHERE a IN w",
        "CREATE TABLE u (a)",
        "CREATE TABLE IF NOT EXISTS u AS SELECT * FROM t",
        "CREATE TEMP TABLE u (a)",
        "CREATE TEMPORARY VIEW u AS SELECT 1",
        "CREATE TEMP TRIGGER u AFTER INSERT ON t BEGIN SELECT 1; END",
        "CREATE INDEX j ON t(a)",
        "CREATE VIEW w AS SELECT 1",
        "CREATE TRIGGER u AFTER INSERT ON t BEGIN DELETE FROM t; END",
        "CREATE VIRTUAL TABLE g USING fts5(x)",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE t ADD COLUMN b",
        "DROP TABLE t",
        "DROP VIEW v",
        "DROP INDEX i",
        "DROP TRIGGER tr",
        "REINDEX",
        "ANALYZE",
        "VACUUM",
        "INSERT INTO f VALUES('other')",
        "INSERT INTO f(f) VALUES('optimize')",
        "PRAGMA user_version=7",
        "PRAGMA application_id=7",
        "PRAGMA schema_version=7",
        "PRAGMA incremental_vacuum",
        "SELECT 1; INSERT INTO t VALUES('x')",
        "INSERT INTO t VALUES('x'); SELECT 1",
        "/* SELECT */ DELETE FROM t -- SELECT",
    ];
    for sql in refused {
        assert_eq!(answer(&readers, &[sql]), error(WRITE_REFUSED), "{sql}");
        assert!(!readers.only_reads(&request(&[sql]), None).unwrap(), "{sql}");
    }
    let other_errors = [
        attach.as_str(),
        vacuum_into.as_str(),
        "DETACH main",
        "BEGIN",
        "BEGIN IMMEDIATE",
        "BEGIN EXCLUSIVE",
        "COMMIT",
        "END",
        "ROLLBACK",
        "SAVEPOINT s",
        "RELEASE s",
        "SELECT 1; BEGIN",
        "INSERT INTO nope VALUES(1)",
        "DELETE FROM sqlite_schema",
        "DELETE FROM f_data",
        "UPDATE f_content SET c0='x'",
        "UPDATE sqlite_master SET sql='x'",
        "SELECT load_extension('x')",
        "SELECT fts3_tokenizer('simple', x'00')",
        "SELECT writefile('x', 'y')",
        "SELECT data FROM sqlite_dbpage",
        "UPDATE sqlite_dbpage SET data=zeroblob(4096) WHERE pgno=1",
        "SELECT * FROM pragma_wal_checkpoint",
    ];
    for sql in other_errors {
        let shown = answer(&readers, &[sql]);
        assert!(shown.starts_with("[{\"error\":\""), "{sql}: {shown}");
    }
    for harmless in
        ["PRAGMA writable_schema=ON", "PRAGMA locking_mode=EXCLUSIVE", "PRAGMA auto_vacuum=1", "PRAGMA optimize(-1)"]
    {
        assert_eq!(answer(&readers, &[harmless, "DELETE FROM t"]), format!("[{{}},{{\"error\":\"{WRITE_REFUSED}\"}}]"));
    }
    for sql in ["PRAGMA journal_mode=DELETE", "SELECT 1; PRAGMA query_only=0", "PRAGMA wal_checkpoint(TRUNCATE)"] {
        let mut results: Vec<StatementResult> = Vec::new();
        let refused = readers.query(&request(&["SELECT 1", sql]), None, &mut results);
        assert_eq!(refused, Err(ReadError::DisallowedPragma), "{sql}");
        assert!(results.is_empty());
    }
    assert_eq!(contents(&database), before);
    assert!(!outside.exists());
    assert_eq!(database.writer.query_texts("PRAGMA integrity_check").unwrap(), ["ok"]);
    // And the writer is not locked out.
    database.writer.execute("INSERT INTO t VALUES('two')").unwrap();
}

#[test]
fn no_client_meets_the_replicas_own_table() {
    let database = Database::new("CREATE TABLE t (a)");
    database
        .writer
        .execute("PRAGMA writable_schema=ON; CREATE TABLE sqlite_ferrolite (id INTEGER PRIMARY KEY, record BLOB); PRAGMA writable_schema=OFF; INSERT INTO sqlite_ferrolite VALUES(1, x'53454352455421')")
        .unwrap();
    let readers = database.readers();
    for sql in [
        "SELECT * FROM sqlite_ferrolite",
        "SELECT count(*) FROM SQLITE_FERROLITE",
        "SELECT (SELECT record FROM main.\"sqlite_ferrolite\")",
        "SELECT 1 FROM t WHERE EXISTS (SELECT 1 FROM sqlite_ferrolite)",
        "WITH w AS (SELECT * FROM sqlite_ferrolite) SELECT hex(record) FROM w",
    ] {
        let shown = answer(&readers, &[sql]);
        assert!(shown.contains("\"error\"") && shown.contains("prohibited"), "{sql}: {shown}");
    }
}

#[test]
fn pragmas_of_one_client_do_not_reach_the_next() {
    let database = Database::new("CREATE TABLE t (a TEXT); INSERT INTO t VALUES('A'), ('b')");
    // One connection, so that the next client certainly gets the same.
    let readers = database.readers_with(|options| options.connections_max = 1);
    let looks = [
        "PRAGMA foreign_keys",
        "PRAGMA case_sensitive_like",
        "PRAGMA cache_size",
        "PRAGMA busy_timeout",
        "PRAGMA reverse_unordered_selects",
        "PRAGMA recursive_triggers",
        "PRAGMA query_only",
        "PRAGMA locking_mode",
        "PRAGMA temp_store",
        "PRAGMA mmap_size",
        "PRAGMA trusted_schema",
        "PRAGMA writable_schema",
        "PRAGMA max_page_count",
        "PRAGMA full_column_names",
        "PRAGMA soft_heap_limit",
        "PRAGMA hard_heap_limit",
        "PRAGMA analysis_limit",
        "SELECT a FROM t WHERE a LIKE 'a'",
        "SELECT a FROM t",
    ];
    let before = answer(&readers, &looks);
    for pragma in [
        "PRAGMA foreign_keys=ON",
        "PRAGMA case_sensitive_like=ON",
        "PRAGMA cache_size=1",
        "PRAGMA busy_timeout=1",
        "PRAGMA reverse_unordered_selects=1",
        "PRAGMA recursive_triggers=1",
        "PRAGMA locking_mode=EXCLUSIVE",
        "PRAGMA temp_store=MEMORY",
        "PRAGMA mmap_size=100000",
        "PRAGMA trusted_schema=OFF",
        "PRAGMA main.writable_schema=ON",
        "PRAGMA max_page_count=5",
        "PRAGMA full_column_names=1",
        "PRAGMA soft_heap_limit=1000000",
        "PRAGMA hard_heap_limit=1000000",
        "PRAGMA analysis_limit=7",
        "PRAGMA shrink_memory",
        "PRAGMA defer_foreign_keys=1",
        "EXPLAIN PRAGMA cache_size=3",
    ] {
        answer(&readers, &[pragma]);
        answer(&readers, &[pragma, "SELECT 1"]);
    }
    assert_eq!(answer(&readers, &looks), before);
    assert_eq!(readers.status().open, 1);
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
fn a_deadline_ends_a_statement_and_only_that() {
    let database = Database::new("CREATE TABLE t (a)");
    let readers = database.readers_with(|options| options.connections_max = 1);
    let started = Instant::now();
    let mut results: Vec<StatementResult> = Vec::new();
    let deadline = Some(started + Duration::from_millis(100));
    readers.query(&request(&["SELECT 1", ENDLESS, "SELECT 2"]), deadline, &mut results).unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(matches!(results[0], StatementResult::Rows { .. }));
    for late in &results[1..] {
        assert_eq!(*late, StatementResult::Error { text: "query timeout".to_owned(), is_read: true });
    }
    // The same connection is as good as new.
    assert_eq!(answer(&readers, &["SELECT 3 AS a"]), r#"[{"columns":["a"],"types":["integer"],"values":[[3]]}]"#);
    assert_eq!(readers.status().open, 1);
    // Rows that take long, each in a few steps.
    let slow_rows =
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT length(hex(zeroblob(300000))) FROM c";
    let mut results: Vec<StatementResult> = Vec::new();
    let started = Instant::now();
    readers.query(&request(&[slow_rows]), Some(started + Duration::from_millis(100)), &mut results).unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(matches!(&results[..], [StatementResult::Error { text, .. }] if text == "query timeout"));
    // A deadline that has passed already is the request's failure.
    let past = Some(Instant::now());
    assert_eq!(readers.query(&request(&["SELECT 1"]), past, &mut results), Err(ReadError::DeadlineExceeded));
    // Without a deadline the pool's own limit counts.
    let impatient = database.readers_with(|options| options.read_time_max = Duration::from_millis(50));
    assert_eq!(answer(&impatient, &[ENDLESS]), error("query timeout"));
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

#[test]
fn requests_are_told_apart_by_what_sqlite_says() {
    let database = Database::new("CREATE TABLE t (a)");
    let readers = database.readers();
    for reads in [
        &["SELECT 1"][..],
        &["SELECT 1", "SELECT * FROM t; SELECT 2", "PRAGMA table_info(t)", "", "-- c"],
        &["EXPLAIN DELETE FROM t"],
        &["PRAGMA foreign_keys=ON"],
        &["VALUES (1)"],
        &[],
    ] {
        assert!(readers.only_reads(&request(reads), None).unwrap(), "{reads:?}");
    }
    for writes in [
        &["SELECT 1", "INSERT INTO t VALUES(1)"][..],
        &["SELECT * FROM nope"],
        &["SELEC 1"],
        &["PRAGMA user_version=1"],
        &["PRAGMA optimize"],
        &["PRAGMA optimize"],
        &["DELETE FROM t RETURNING a"],
        &["SELECT 1; DELETE FROM t"],
        &["BEGIN"],
    ] {
        assert!(!readers.only_reads(&request(writes), None).unwrap(), "{writes:?}");
    }
}

#[test]
fn when_all_connections_are_lent_the_next_waits_within_its_deadline() {
    let database = Database::new("CREATE TABLE t (a)");
    let readers = Arc::new(database.readers_with(|options| options.connections_max = 2));
    let stop_at = Instant::now() + Duration::from_millis(600);
    let busy: Vec<_> = (0..2)
        .map(|_| {
            let readers = Arc::clone(&readers);
            std::thread::spawn(move || readers.query(&request(&[ENDLESS]), Some(stop_at), &mut Vec::new()))
        })
        .collect();
    wait_until(|| readers.status().in_use == 2);
    let mut results: Vec<StatementResult> = Vec::new();
    let soon = Some(Instant::now() + Duration::from_millis(20));
    assert_eq!(readers.query(&request(&["SELECT 1"]), soon, &mut results), Err(ReadError::DeadlineExceeded));
    assert_eq!(readers.only_reads(&request(&["SELECT 1"]), soon), Err(ReadError::DeadlineExceeded));
    // One that has more time gets the first connection that comes free.
    readers.query(&request(&["SELECT 1"]), Some(Instant::now() + Duration::from_secs(30)), &mut results).unwrap();
    busy.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    let status = readers.status();
    assert_eq!((status.open, status.in_use, status.idle), (2, 0, 2));
    assert!(status.wait_count >= 3 && status.wait_us > 0, "{status:?}");
}

#[test]
fn a_closed_pool_lets_the_file_go() {
    let database = Database::new("CREATE TABLE t (a); INSERT INTO t VALUES('old')");
    let readers = Arc::new(database.readers());
    answer(&readers, &["SELECT 1"]);
    let long = {
        let readers = Arc::clone(&readers);
        std::thread::spawn(move || {
            let mut results: Vec<StatementResult> = Vec::new();
            readers.query(&request(&[ENDLESS, ENDLESS]), None, &mut results).unwrap();
            results
        })
    };
    wait_until(|| readers.status().in_use == 1);
    readers.close(Duration::from_millis(20));
    assert_eq!(readers.status().open, 0);
    assert!(
        long.join().unwrap().iter().all(|r| matches!(r, StatementResult::Error { text, .. } if text == "interrupted"))
    );
    assert_eq!(readers.query(&request(&["SELECT 1"]), None, &mut Vec::new()), Err(ReadError::Closed));
    assert_eq!(readers.only_reads(&request(&["SELECT 1"]), None), Err(ReadError::Closed));
    readers.reopen();
    assert!(answer(&readers, &["SELECT a FROM t"]).contains("old"));
}

#[test]
fn a_missing_or_foreign_file_is_the_requests_error() {
    let database = Database::new("CREATE TABLE t (a)");
    let missing = Readers::open(&database.dir.join("none.sqlite"), ReaderOptions::default());
    assert!(matches!(missing.query(&request(&["SELECT 1"]), None, &mut Vec::new()), Err(ReadError::Open(_))));
    assert_eq!(missing.status().open, 0);
    let junk = database.dir.join("junk.sqlite");
    std::fs::write(&junk, [b'x'; 5000]).unwrap();
    let junk = Readers::open(&junk, ReaderOptions::default());
    let outcome = junk.query(&request(&["SELECT * FROM sqlite_schema"]), None, &mut Vec::new());
    assert!(matches!(outcome, Err(ReadError::Broken(_) | ReadError::Open(_))), "{outcome:?}");
    assert_eq!(junk.status().open, 0, "a connection to a broken file is not lent out again");
}

#[test]
fn sixty_four_threads_and_a_writer() {
    let database =
        Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER); INSERT INTO t VALUES(1, 0, 0)");
    let readers = Arc::new(database.readers_with(|options| options.connections_max = 16));
    let descriptors_before = open_descriptors(&database.dir);
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..64)
        .map(|number| {
            let (readers, stop) = (Arc::clone(&readers), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut reads = 0;
                while !stop.load(Ordering::Relaxed) {
                    let request =
                        request(&["SELECT a FROM t", "SELECT b FROM t WHERE id = 1", "SELECT nope", "SELECT random()"]);
                    let mut results: Vec<StatementResult> = Vec::new();
                    readers.query(&request, None, &mut results).unwrap();
                    let first = |at: usize| match &results[at] {
                        StatementResult::Rows { rows, .. } => rows[0][0].clone(),
                        other => panic!("{other:?}"),
                    };
                    assert_eq!(first(0), first(1), "both columns are written in one transaction");
                    reads += 1;
                    if number % 8 == 0 {
                        readers.query(&request, Some(Instant::now()), &mut Vec::new()).ok();
                    }
                }
                reads
            })
        })
        .collect();
    let ends = Instant::now() + Duration::from_millis(700);
    let mut writes = 0;
    while Instant::now() < ends {
        writes += 1;
        database.writer.execute("UPDATE t SET a = a + 1, b = b + 1").unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let reads: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(reads >= 64 && writes > 0);
    let status = readers.status();
    assert!(status.open <= 16 && status.in_use == 0 && status.idle == status.open, "{status:?}");
    // SQLite keeps a closed connection's descriptor as long as another one (here the writer) has locks on the file, and
    // takes it for the next connection. So their number is bounded by the connections that were ever open at once.
    let descriptors = open_descriptors(&database.dir);
    assert!(descriptors <= descriptors_before + 2 * status.open, "{descriptors}");
    for _ in 0..5 {
        readers.close(Duration::ZERO);
        readers.reopen();
        answer(&readers, &["SELECT 1"]);
        assert!(open_descriptors(&database.dir) <= descriptors);
    }
}

#[test]
fn what_status_shows() {
    let database = Database::new("CREATE TABLE t (a); INSERT INTO t VALUES(zeroblob(100000))");
    let readers = database.readers();
    let status = readers.database_status(vec![("foreign_keys".to_owned(), "0".to_owned())]).unwrap();
    assert_eq!(status.path, database.path());
    assert_eq!(status.db_bytes, status.page_bytes * status.page_count);
    assert!(status.db_bytes > 100_000 && status.wal_bytes > 100_000 && status.last_modified_us > 0);
    assert!(status.compile_options.iter().any(|option| option == "ENABLE_FTS5"));
    let ro: Vec<_> = status.pragmas_ro.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        ro,
        [
            ("busy_timeout", "5000"),
            ("foreign_keys", "0"),
            ("journal_mode", "wal"),
            ("synchronous", "0"),
            ("wal_autocheckpoint", "1000")
        ]
    );
    assert_eq!((status.readers_max, status.readers_open), (256, 1));
    assert_eq!(status.pragmas_rw.len(), 1);
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long");
        std::thread::yield_now();
    }
}

/// Files below `dir` that this process has open.
fn open_descriptors(dir: &Path) -> usize {
    let Ok(all) = std::fs::read_dir("/proc/self/fd") else { return 0 };
    all.flatten().filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|file| file.starts_with(dir))).count()
}
