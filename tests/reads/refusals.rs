//! No read path writes, and none shows what is the replica's own.

use super::*;
use ferrolite::db::ReadError;

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
    for refused in ["PRAGMA writable_schema=ON", "PRAGMA locking_mode=EXCLUSIVE", "PRAGMA auto_vacuum=1"] {
        assert_eq!(answer(&readers, &[refused]), "[{\"error\":\"disallowed pragma\"}]", "{refused}");
    }
    for harmless in ["PRAGMA cache_size=1", "PRAGMA optimize(-1)"] {
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
        .execute(
            "PRAGMA writable_schema=ON; CREATE TABLE sqlite_ferrolite (id INTEGER PRIMARY KEY, record BLOB);
             PRAGMA writable_schema=OFF; INSERT INTO sqlite_ferrolite VALUES(1, x'53454352455421')",
        )
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
fn pragmas_that_only_look_are_reads() {
    let database = Database::new("CREATE TABLE t (a)");
    let readers = database.readers();
    for name in [
        "application_id",
        "auto_vacuum",
        "busy_timeout",
        "cache_size",
        "cache_spill",
        "case_sensitive_like",
        "cell_size_check",
        "collation_list",
        "compile_options",
        "data_version",
        "database_list",
        "encoding",
        "foreign_key_check",
        "foreign_key_list(t)",
        "foreign_keys",
        "freelist_count",
        "function_list",
        "ignore_check_constraints",
        "index_list(t)",
        "integrity_check",
        "journal_mode",
        "journal_size_limit",
        "legacy_alter_table",
        "locking_mode",
        "main.journal_mode",
        "max_page_count",
        "mmap_size",
        "module_list",
        "nonsense",
        "page_count",
        "page_size",
        "pragma_list",
        "query_only",
        "quick_check(t)",
        "recursive_triggers",
        "schema_version",
        "secure_delete",
        "synchronous",
        "table_info(t)",
        "table_list",
        "table_xinfo(t)",
        "temp_store",
        "threads",
        "trusted_schema",
        "user_version",
        "wal_autocheckpoint",
        "writable_schema",
    ] {
        let sql = format!("PRAGMA {name}");
        let shown = answer(&readers, &[&sql]);
        assert!(!shown.contains("\"error\""), "{sql}: {shown}");
        assert!(readers.only_reads(&request(&[&sql]), None).unwrap(), "{sql}");
    }
    let mode = r#"[{"columns":["journal_mode"],"types":["text"],"values":[["wal"]]}]"#;
    assert_eq!(answer(&readers, &["PRAGMA journal_mode"]), mode);
    assert_eq!(answer(&readers, &["SELECT load_extension('x')"]), error("not authorized"));
    // What was noticed of one statement says nothing of the next.
    assert_eq!(answer(&readers, &["PRAGMA journal_mode; DELETE FROM t"]), error(WRITE_REFUSED));
}
