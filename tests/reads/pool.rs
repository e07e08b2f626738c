//! The pool: deadlines, waiting, closing, what one client leaves to the next, many threads.

use super::*;
use ferrolite::db::ReadError;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
    let impatient = database.readers_with(|options| options.read_time_max = Duration::from_secs(1));
    assert_eq!(answer(&impatient, &[ENDLESS]), error("query timeout"));
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
