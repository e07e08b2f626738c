//! The same log gives the same database and the same answers: however its entries are batched, whatever the machine's
//! clock says, and however often the node is restarted in between.
//!
//! Scripts are generated from a seed; a failure names the seed and the entry.

mod support;

use ferrolite::command::{Action, Command, Parameter, Request, Statement, StatementResult, Value};
use ferrolite::db::{Item, Outcome, Writer, WriterOptions, dump};
use raft::{ClusterId, Index, LogId, Term};
use std::path::{Path, PathBuf};
use support::script::{Dice, SCHEMA, extraordinary, ordinary};

/// The log: about `statements` statements in entries of one to four.
fn script(seed: u64, statements: usize, odd_in_hundred: u64) -> Vec<Command> {
    let mut dice = Dice(seed);
    let plain = |sql: &str| Statement { sql: sql.to_owned(), parameters: Vec::new() };
    let schema = Request { statements: SCHEMA.iter().map(|s| plain(s)).collect(), ..Request::default() };
    let mut commands =
        vec![Command { unix_time_us: 1_600_000_000_000_000, seed: 1, action: Action::Execute(schema), request: None }];
    let mut count = 0;
    while count < statements {
        let mut request = Request { transaction: dice.below(4) == 0, ..Request::default() };
        if dice.below(10) == 0 {
            request.vm_steps_max = 2000 + dice.below(20_000);
        }
        for _ in 0..=dice.below(4) {
            let odd = dice.below(100) < odd_in_hundred;
            request.statements.push(plain(&if odd { extraordinary(&mut dice) } else { ordinary(&mut dice) }));
            count += 1;
        }
        if dice.below(5) == 0 {
            let value = Value::Text(format!("p{}", dice.below(50)).into_bytes());
            let sql = "INSERT INTO item(name, qty) VALUES(?, length(?1))".to_owned();
            request.statements.push(Statement { sql, parameters: vec![Parameter { name: None, value }] });
        }
        let action = match dice.below(40) {
            0 => Action::Vacuum,
            1 => Action::Optimize { mask: 0xfffe },
            2 => Action::Barrier,
            n if n % 2 == 0 => Action::Execute(request),
            _ => Action::Request(request),
        };
        // Now and then the leader's clock stands still.
        let unix_time_us = 1_600_000_000_000_000 + (commands.len() as i64 / 3) * 1_234_567;
        commands.push(Command { unix_time_us, seed: dice.next(), action, request: None });
    }
    // As they travel: every replica decodes the same bytes.
    commands.iter().map(|c| Command::decode(&c.encode()).expect("an encoded command decodes")).collect()
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("ferrolite-determinism-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a scratch directory can be made");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(directory: &Path, foreign_keys: bool) -> Writer {
    let options = WriterOptions { foreign_keys, cluster: ClusterId(42) };
    Writer::open(&directory.join("db.sqlite"), &options).expect("the database opens")
}

/// Applies the log in batches of the lengths that `batch` gives, opening the database anew before the entries at
/// `restarts`. Gives all outcomes and the dump.
fn apply(
    name: &str,
    log: &[Command],
    foreign_keys: bool,
    restarts: &[usize],
    mut batch: impl FnMut() -> usize,
) -> (Vec<Outcome>, String, u128) {
    let scratch = Scratch::new(name);
    let mut writer = open(&scratch.0, foreign_keys);
    let mut outcomes = Vec::new();
    while outcomes.len() < log.len() {
        let at = outcomes.len();
        if restarts.contains(&at) {
            drop(writer);
            writer = open(&scratch.0, foreign_keys);
        }
        let next_restart = restarts.iter().copied().filter(|r| *r > at).min().unwrap_or(log.len());
        let upto = (at + batch().max(1)).min(next_restart).min(log.len());
        let entries: Vec<_> = log[at..upto]
            .iter()
            .enumerate()
            .map(|(n, c)| (LogId { term: Term(1), index: Index((at + n) as u64 + 1) }, Item::Command(c.clone())))
            .collect();
        outcomes.extend(writer.apply_batch(&entries).expect("applying does not fail"));
    }
    let integrity = writer.connection().query_texts("PRAGMA integrity_check").expect("the check runs");
    assert_eq!(integrity, ["ok"], "{name}");
    let dump = dump::logical_dump(writer.connection()).expect("a dump is possible");
    let hash = dump::logical_hash(writer.connection()).expect("a hash is possible");
    (outcomes, dump, hash)
}

/// Outcomes without what the wall clock measured.
fn timeless(outcome: &Outcome) -> Outcome {
    let mut outcome = outcome.clone();
    for result in &mut outcome.results {
        match result {
            StatementResult::Rows { time, .. } | StatementResult::Write { time, .. } => *time = 0.0,
            StatementResult::Error { .. } => {}
        }
    }
    outcome
}

fn assert_same(what: &str, log: &[Command], one: &(Vec<Outcome>, String, u128), other: &(Vec<Outcome>, String, u128)) {
    for (at, (a, b)) in one.0.iter().zip(&other.0).enumerate() {
        assert_eq!(timeless(a), timeless(b), "{what}: entry {}: {:?}", at + 1, log[at]);
    }
    assert_eq!(one.0.len(), other.0.len(), "{what}");
    for (a, b) in one.1.lines().zip(other.1.lines()) {
        assert_eq!(a, b, "{what}: dumps differ");
    }
    assert_eq!(one.1.len(), other.1.len(), "{what}");
    assert_eq!(one.2, other.2, "{what}");
}

#[test]
fn a_second_node_with_another_clock_batching_and_a_restart_has_the_same_database() {
    let log = script(2024, 1500, 6);
    let first = apply("first", &log, false, &[], || 1);
    let failed = |o: &Outcome| o.results.iter().filter(|r| matches!(r, StatementResult::Error { .. })).count();
    let (errors, all) = first.0.iter().fold((0, 0), |(errors, all), o| (errors + failed(o), all + o.results.len()));
    assert!(all > 1000 && errors * 2 < all, "the script does real work: {errors} errors of {all}");
    assert!(first.1.contains("2020-09-13"), "times come from the log");
    for result in first.0.iter().flat_map(|o| &o.results) {
        let StatementResult::Error { text, .. } = result else { continue };
        let known = ["constraint failed", "no such table", "syntax error", "BEGIN, COMMIT", "thirteen", "seven"];
        let rare = ["timeout", "largest rowid", "VACUUM from within", "snippet"];
        assert!(known.iter().chain(&rare).any(|k| text.contains(k)), "the script meets no other errors: {text}");
    }

    // Meanwhile another thread draws from SQLite's own generator, as readers do.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reader = std::thread::spawn({
        let stop = stop.clone();
        move || {
            use ferrolite::db::sqlite::{Access, Connection};
            let memory = Connection::open(Path::new(":memory:"), Access::ReadWrite, None).expect("memory opens");
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                memory.query_integer("SELECT random()").expect("a random number");
                std::thread::yield_now();
            }
        }
    });
    let mut dice = Dice(7);
    let second = apply("second", &log, false, &[log.len() / 2], || dice.below(64) as usize);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    reader.join().expect("the reader ends");
    assert_same("second node", &log, &first, &second);
}

#[test]
fn batches_of_any_size_come_to_the_same_as_single_entries() {
    // More of them on demand: FERROLITE_SEEDS=100..200.
    let seeds = std::env::var("FERROLITE_SEEDS").unwrap_or_else(|_| "0..8".to_owned());
    let (from, upto) = seeds.split_once("..").expect("FERROLITE_SEEDS is a range");
    let number = |text: &str| text.parse::<u64>().expect("FERROLITE_SEEDS is a range of numbers");
    for seed in number(from)..number(upto) {
        let foreign_keys = seed % 2 == 1;
        let log = script(seed, 220, 30);
        let single = apply("single", &log, foreign_keys, &[], || 1);
        let whole = apply("whole", &log, foreign_keys, &[], || usize::MAX / 2);
        assert_same(&format!("seed {seed}, one batch"), &log, &single, &whole);
        let mut dice = Dice(seed);
        let restarts: Vec<usize> = (0..log.len()).filter(|_| dice.below(15) == 0).collect();
        let mixed = apply("mixed", &log, foreign_keys, &restarts, || dice.below(12) as usize);
        assert_same(&format!("seed {seed}, mixed"), &log, &single, &mixed);
    }
}
