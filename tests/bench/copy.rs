//! How fast a database is hashed, copied and put in place, and what that does to writing meanwhile.
//!
//! Run with `cargo bench --bench copy`; FERROLITE_BENCH_MIB sets the size of the database (default 1100, which goes beyond
//! SQLite's lock page at 1 GiB). Needs three times as much disk.

use ferrolite::command::{Action, Command, Request, Statement};
use ferrolite::db::{CopySource, CopyTarget, HashSource, Item, Writer, WriterOptions};
use raft::{ClusterId, Index, LogId, Term};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn main() {
    let mib: u64 = std::env::var("FERROLITE_BENCH_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(1100);
    let directory = std::env::temp_dir().join(format!("ferrolite-copy-{}", std::process::id()));
    let (from, to) = (directory.join("from"), directory.join("to"));
    std::fs::create_dir_all(&from).expect("a scratch directory can be made");
    std::fs::create_dir_all(&to).expect("a scratch directory can be made");
    let options = WriterOptions { foreign_keys: false, cluster: ClusterId(1) };
    let path = from.join("db.sqlite");
    let mut writer = Writer::open(&path, &options).expect("the database opens");
    let mut next = 1;
    execute(&mut writer, &mut next, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, n INT, r REAL)");
    for _ in 0..mib {
        execute(
            &mut writer,
            &mut next,
            "INSERT INTO t(name, n, r) WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT 8192) \
             SELECT printf('%090d', n), random(), n / 7.0 FROM g",
        );
        writer.tidy_up(false).expect("a checkpoint");
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (writer, next, stop) = (&mut writer, &mut next, &stop);
        scope.spawn(move || write_on(writer, next, stop));
        measure(&path, &to, stop);
    });
    let target = Writer::open(&to.join("db.sqlite"), &options).expect("the copy opens");
    println!("the copy holds entry {}", target.applied().id);
    std::fs::remove_dir_all(&directory).expect("the scratch directory can be removed");
}

fn measure(path: &Path, to: &Path, stop: &AtomicBool) {
    let report = |what: &str, bytes: u64, (start, cpu_start): (Instant, f64)| {
        let mib = bytes as f64 / f64::from(1 << 20);
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu_start);
        println!("{what}: {mib:.0} MiB in {seconds:.2} s ({cpu:.2} s of a processor), {:.0} MiB/s", mib / seconds);
    };
    let now = || (Instant::now(), cpu_seconds());
    let start = Instant::now();
    let source = HashSource::pin(path).expect("the database can be read");
    println!("pinning a snapshot: {:.0} us", start.elapsed().as_secs_f64() * 1e6);
    let start = now();
    source.hash(&AtomicBool::new(false)).expect("the database can be read");
    let bytes = CopySource::open(path).expect("the database can be read").meta().bytes();
    report("hashing", bytes, start);

    let mut chunk = Vec::new();
    let mut source = CopySource::open(path).expect("the database can be read");
    let (start, mut page) = (now(), 0);
    while page < source.meta().pages {
        page += source.read(page, &mut chunk).expect("the database can be read") as u64;
    }
    report("reading for a copy", source.meta().bytes(), start);

    let mut source = CopySource::open(path).expect("the database can be read");
    let start = now();
    let mut target = CopyTarget::create(to, source.meta()).expect("the copy can be written");
    while source.read(target.pages(), &mut chunk).expect("the database can be read") > 0 {
        target.write(&chunk).expect("the copy can be written");
    }
    report("copying to disk", source.meta().bytes(), start);
    let start = Instant::now();
    let checksum = source.checksum().expect("everything was read");
    let incoming = target.finish(checksum).expect("the copy is whole");
    println!("verifying and marking: {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    drop(source);
    stop.store(true, Ordering::Relaxed);
    let options = WriterOptions { foreign_keys: false, cluster: ClusterId(1) };
    let old = Writer::open(&to.join("db.sqlite"), &options).expect("the database opens");
    let start = Instant::now();
    old.replace_with(incoming, &options).expect("the copy takes its place");
    println!("putting it in place: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
}

/// Time that this thread has spent on a processor: other than the clock, it does not depend on what else runs.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for writing.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Small writes all the while; shows how long they took.
fn write_on(writer: &mut Writer, next: &mut u64, stop: &AtomicBool) {
    let mut times_us = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        execute(writer, next, "INSERT INTO t(name, n) VALUES('meanwhile', 1)");
        writer.tidy_up(false).expect("a checkpoint");
        times_us.push(start.elapsed().as_secs_f64() * 1e6);
        std::thread::sleep(Duration::from_micros(500));
    }
    times_us.sort_by(f64::total_cmp);
    let at = |share: f64| times_us[((times_us.len() - 1) as f64 * share) as usize];
    println!(
        "{} writes meanwhile: median {:.0}, p99 {:.0}, p999 {:.0}, max {:.0} us",
        times_us.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

fn execute(writer: &mut Writer, next: &mut u64, sql: &str) {
    let statements = vec![Statement { sql: sql.to_owned(), parameters: Vec::new() }];
    let action = Action::Execute(Request { statements, ..Request::default() });
    let command = Command { unix_time_us: 1_700_000_000_000_000, seed: *next, action, request: None };
    let id = LogId { term: Term(1), index: Index(*next) };
    writer.apply_batch(&[(id, Item::Command(command))]).expect("applying does not fail");
    *next += 1;
}
