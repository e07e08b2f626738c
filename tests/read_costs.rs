//! What a read costs: a point SELECT through the pool and the encoder, and the encoding of a row.
//!
//! `cargo test --release --test read_costs -- --nocapture` prints figures; as a plain test it only shows that the paths
//! measured give the right answers. `FERROLITE_BENCH_ROUNDS` sets the number of rounds.

use ferrolite::command::{Column, Parameter, Request, ResultSink, Statement, Value, ValueRef};
use ferrolite::db::sqlite::{Access, Connection};
use ferrolite::db::{ReaderOptions, Readers};
use ferrolite::http::json::{EncodeOptions, ResponseTail, ResultEncoder};
use std::hint::black_box;
use std::time::Instant;

fn rounds() -> u32 {
    std::env::var("FERROLITE_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000)
}

/// Microseconds of one call of `f`, the best of five runs.
fn measure(what: &str, mut f: impl FnMut(u32)) {
    let rounds = rounds();
    let run = |f: &mut dyn FnMut(u32)| {
        let started = Instant::now();
        (0..rounds).for_each(f);
        started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
    };
    let best = (0..5).map(|_| run(&mut f)).fold(f64::INFINITY, f64::min);
    println!("{what:<58} {best:>9.3} us");
}

fn point_select(id: i64) -> Request {
    let parameter = Parameter { name: None, value: Value::Integer(id) };
    let statement =
        Statement { sql: "SELECT id, name, age FROM foo WHERE id = ?".to_owned(), parameters: vec![parameter] };
    Request { statements: vec![statement], ..Request::default() }
}

#[test]
fn a_point_select() {
    let dir = std::env::temp_dir().join(format!("ferrolite-read-costs-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("db.sqlite");
    let writer = Connection::open(&path, Access::ReadWrite, None).unwrap();
    writer
        .execute(
            "PRAGMA journal_mode=WAL; CREATE TABLE foo (id INTEGER PRIMARY KEY, name TEXT, age INTEGER);
             WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c LIMIT 100000)
             INSERT INTO foo SELECT x, 'name ' || x, x % 90 FROM c",
        )
        .unwrap();
    let readers = Readers::open(&path, ReaderOptions::default());
    let answer = |request: &Request| {
        let mut encoder = ResultEncoder::new(EncodeOptions::default());
        readers.query(request, None, &mut encoder).unwrap();
        encoder.finish(&ResponseTail::default())
    };
    assert_eq!(
        String::from_utf8(answer(&point_select(7))).unwrap(),
        r#"{"results":[{"columns":["id","name","age"],"types":["integer","text","integer"],"values":[[7,"name 7",7]]}]}"#
    );
    let requests: Vec<Request> = (1..=1000).map(|n| point_select(n * 97 % 100_000 + 1)).collect();
    let at = |round: u32| &requests[round as usize % requests.len()];
    measure("point SELECT: pool, snapshot, row, encoder", |round| {
        black_box(answer(at(round)));
    });
    measure("point SELECT: classify it as well (/db/request)", |round| {
        assert!(readers.only_reads(at(round), None).unwrap());
        black_box(answer(at(round)));
    });
    measure("classify alone", |round| assert!(readers.only_reads(at(round), None).unwrap()));
    let (statement, _) = writer.prepare("SELECT id, name, age FROM foo WHERE id = ?").unwrap();
    let mut statement = statement.unwrap();
    measure("the same on a bare cached statement", |round| {
        statement.bind(1, ValueRef::Integer(i64::from(round) * 97 % 100_000 + 1)).unwrap();
        statement.step().unwrap();
        black_box((statement.column(0), statement.column(1), statement.column(2)));
        statement.reset();
    });
    let mut five = point_select(5);
    five.statements = (1..=5).map(|n| point_select(n).statements.remove(0)).collect();
    measure("five point SELECTs in one request", |_| {
        black_box(answer(&five));
    });
    let all = Statement { sql: "SELECT id, name, age FROM foo LIMIT 1000".to_owned(), parameters: Vec::new() };
    let all = Request { statements: vec![all], ..Request::default() };
    measure("a scan of 1,000 rows of three columns", |round| {
        if round.is_multiple_of(10) {
            black_box(answer(&all));
        }
    });
    println!("(the scan ran in one round of ten: take its figure times ten)");
    drop((statement, writer));
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Holds its connection until all are lent.
struct Hold<'a>(&'a std::sync::Barrier);

impl ResultSink for Hold<'_> {
    fn begin_rows(&mut self, _: &[Column]) {}
    fn row(&mut self, _: &[ValueRef<'_>]) -> Result<(), ferrolite::command::SinkFull> {
        Ok(())
    }
    fn end_rows(&mut self, _: f64) {
        self.0.wait();
    }
    fn write(&mut self, _: i64, _: i64, _: f64) {}
    fn error(&mut self, text: &str, _: bool) {
        panic!("{text}");
    }
}

#[test]
fn memory_of_open_connections() {
    const CONNECTIONS: usize = 64;
    let dir = std::env::temp_dir().join(format!("ferrolite-read-memory-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("db.sqlite");
    let writer = Connection::open(&path, Access::ReadWrite, None).unwrap();
    writer
        .execute(
            "PRAGMA journal_mode=WAL; CREATE TABLE foo (id INTEGER PRIMARY KEY, name TEXT);
             WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c LIMIT 50000)
             INSERT INTO foo SELECT x, hex(randomblob(50)) FROM c",
        )
        .unwrap();
    for (what, sql) in
        [("a point SELECT", "SELECT * FROM foo WHERE id=7"), ("a full scan", "SELECT max(name) FROM foo")]
    {
        let readers = Readers::open(&path, ReaderOptions::default());
        let request = Request {
            statements: vec![Statement { sql: sql.to_owned(), parameters: Vec::new() }],
            ..Request::default()
        };
        let barrier = std::sync::Barrier::new(CONNECTIONS);
        let before_kib = resident_kib();
        std::thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| readers.query(&request, None, &mut Hold(&barrier)).unwrap());
            }
        });
        assert_eq!(readers.status().idle, CONNECTIONS);
        let grown_kib = resident_kib().saturating_sub(before_kib);
        println!("{CONNECTIONS} connections after {what}: {} KiB each", grown_kib / CONNECTIONS as u64);
        assert!(grown_kib < 2048 * CONNECTIONS as u64, "the page cache is bounded");
    }
    drop(writer);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Resident memory of this process; 0 where the system does not tell.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

#[test]
fn encoding_a_row() {
    let column = |name: &str, decl_type: &str| Column { name: name.to_owned(), decl_type: decl_type.to_owned() };
    let three = [column("id", "integer"), column("name", "text"), column("age", "integer")];
    let three_values = [ValueRef::Integer(123456), ValueRef::Text(b"Fiona Apple Maggart"), ValueRef::Integer(40)];
    let mixed: Vec<Column> =
        [("a", "real"), ("b", "datetime"), ("c", "boolean"), ("d", "blob"), ("e", "text"), ("f", "text")]
            .map(|(name, decl_type)| column(name, decl_type))
            .to_vec();
    let mixed_values = [
        ValueRef::Real(123.456),
        ValueRef::Text(b"2021-10-22 19:39:32.016087"),
        ValueRef::Integer(1),
        ValueRef::Blob(&[0xff; 32]),
        ValueRef::Text("Füße & <tags>".as_bytes()),
        ValueRef::Null,
    ];
    let shapes: [(&str, EncodeOptions); 3] = [
        ("arrays", EncodeOptions::default()),
        ("objects", EncodeOptions { associative: true, ..EncodeOptions::default() }),
        ("arrays, pretty", EncodeOptions { pretty: true, ..EncodeOptions::default() }),
    ];
    for (what, options) in shapes {
        for (kind, columns, values) in [("3 plain", &three[..], &three_values[..]), ("6 mixed", &mixed, &mixed_values)]
        {
            let mut encoder = ResultEncoder::new(options);
            encoder.begin_rows(columns);
            measure(&format!("a row of {kind} columns as {what}"), |_| encoder.row(values).unwrap());
            encoder.end_rows(0.0);
            let answer = encoder.finish(&ResponseTail::default());
            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
            let rows = answer["results"][0].get("values").or(answer["results"][0].get("rows")).unwrap();
            assert_eq!(rows.as_array().unwrap().len(), 5 * rounds() as usize);
        }
    }
}
