//! How fast entries are applied: single-row INSERTs, decoded from their bytes as in the log, in batches of 1 to 256.
//!
//! Run with `cargo bench --bench apply`. Prints microseconds per entry (decoding and applying) over short rounds: the
//! best and the median are mostly free of checkpoints, the mean carries them. And the process's resident memory.

use ferrolite::command::{Action, Command, Parameter, Request, RequestId, Statement, Value};
use ferrolite::db::{Item, Writer, WriterOptions};
use raft::{ClusterId, Index, LogId, Term};
use std::time::Instant;

const ROUNDS: usize = 31;
const ENTRIES_PER_ROUND: usize = 8192;

fn main() {
    let directory = std::env::temp_dir().join(format!("ferrolite-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a scratch directory can be made");
    println!("resident before opening: {} KiB", resident_kib());
    let options = WriterOptions { foreign_keys: false, cluster: ClusterId(1) };
    let mut writer = Writer::open(&directory.join("db.sqlite"), &options).expect("the database opens");
    println!("resident after opening:  {} KiB", resident_kib());
    let mut next = 1;
    apply(&mut writer, &mut next, &[entry("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, n INT)", Vec::new())], 1);
    measure(&mut writer, &mut next, false);
    measure(&mut writer, &mut next, true);
    let start = Instant::now();
    writer.commit_full().expect("a durable commit");
    println!("durable commit: {:.0} us", start.elapsed().as_secs_f64() * 1e6);
    println!("resident at the end:     {} KiB", resident_kib());
    drop(writer);
    let start = Instant::now();
    drop(Writer::open(&directory.join("db.sqlite"), &options).expect("the database opens again"));
    println!("opening again: {:.0} us", start.elapsed().as_secs_f64() * 1e6);
    std::fs::remove_dir_all(&directory).expect("the scratch directory can be removed");
}

/// Fills the table in batches of several sizes; each entry with a request id of its own or none.
fn measure(writer: &mut Writer, next: &mut u64, with_ids: bool) {
    for batch in [1, 16, 64, 256] {
        let mut figures = Vec::new();
        let mut cpu = 0.0;
        for _ in 0..ROUNDS {
            let count = if batch == 1 { ENTRIES_PER_ROUND / 16 } else { ENTRIES_PER_ROUND };
            let entries: Vec<_> = (0..count)
                .map(|n| {
                    let name = Value::Text(format!("name {n}").into_bytes());
                    let values = vec![name, Value::Integer(n as i64)];
                    let mut command = command("INSERT INTO t(name, n) VALUES(?, ?)", values);
                    if with_ids {
                        let key = u128::from(*next + n as u64).to_le_bytes();
                        command.request = Some(RequestId::from_server(key, Index(*next), &command.action));
                    }
                    command.encode()
                })
                .collect();
            let (start, cpu_start) = (Instant::now(), cpu_seconds());
            apply(writer, next, &entries, batch);
            cpu += (cpu_seconds() - cpu_start) * 1e6 / count as f64 / ROUNDS as f64;
            figures.push(start.elapsed().as_secs_f64() * 1e6 / count as f64);
        }
        let mean = figures.iter().sum::<f64>() / ROUNDS as f64;
        figures.sort_by(f64::total_cmp);
        let (best, median) = (figures[0], figures[ROUNDS / 2]);
        let what = if with_ids { "with ids" } else { "without ids" };
        println!(
            "{what}, batches of {batch:>3}: best {best:.2}, median {median:.2}, mean {mean:.2}, processor {cpu:.2} us per entry"
        );
    }
}

fn entry(sql: &str, values: Vec<Value>) -> Vec<u8> {
    command(sql, values).encode()
}

fn command(sql: &str, values: Vec<Value>) -> Command {
    let parameters = values.into_iter().map(|value| Parameter { name: None, value }).collect();
    let statements = vec![Statement { sql: sql.to_owned(), parameters }];
    let action = Action::Execute(Request { statements, ..Request::default() });
    Command { unix_time_us: 1_700_000_000_000_000, seed: 1, action, request: None }
}

fn apply(writer: &mut Writer, next: &mut u64, entries: &[Vec<u8>], batch: usize) {
    for chunk in entries.chunks(batch) {
        let items: Vec<_> = chunk
            .iter()
            .map(|bytes| {
                let id = LogId { term: Term(1), index: Index(*next) };
                *next += 1;
                (id, Item::Command(Command::decode(bytes).expect("an encoded command decodes")))
            })
            .collect();
        writer.apply_batch(&items).expect("applying does not fail");
    }
}

/// Time that this thread has spent on a processor: other than the clock, it does not depend on what else runs.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for writing.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Resident memory of this process, where the system tells.
fn resident_kib() -> u64 {
    const PAGE_KIB: u64 = 4;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE_KIB
}
