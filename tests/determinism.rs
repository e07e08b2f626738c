//! The same log gives the same database and the same answers: however its entries are batched, whatever the machine's
//! clock says, and however often the node is restarted in between.
//!
//! Scripts are generated from a seed; a failure names the seed and the entry.

mod support;

use ferrolite::command::{Action, Command, Parameter, Request, Statement, StatementResult, Value};
use ferrolite::db::{Item, Outcome, Writer, WriterOptions, dump};
use raft::{ClusterId, Index, LogId, Term};
use std::path::{Path, PathBuf};
use support::rng::Rng;
use support::script::{SCHEMA, extraordinary, ordinary};

/// The log: about `statements` statements in entries of one to four.
fn script(seed: u64, statements: usize, odd_in_hundred: u64) -> Vec<Command> {
    let mut dice = Rng::new(seed);
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
            3..=6 => Action::Script(as_script(request, &mut dice)),
            n if n % 2 == 0 => Action::Execute(request),
            _ => Action::Request(request),
        };
        // Now and then the leader's clock stands still.
        let unix_time_us = 1_600_000_000_000_000 + (commands.len() as i64 / 3) * 1_234_567;
        commands.push(Command { unix_time_us, seed: dice.next_u64(), action, request: None });
    }
    // As they travel: every replica decodes the same bytes.
    commands.iter().map(|c| Command::decode(&c.encode()).expect("an encoded command decodes")).collect()
}

/// The statements as one text, in which transactions begin and end, or do not.
fn as_script(request: Request, dice: &mut Rng) -> Request {
    let mut sql = String::new();
    for statement in request.statements.iter().filter(|statement| statement.parameters.is_empty()) {
        sql.push_str(match dice.below(12) {
            0..=3 => "BEGIN; ",
            4..=6 => "COMMIT; ",
            7 => "ROLLBACK; ",
            8 => "PRAGMA foreign_keys = OFF; ",
            _ => "",
        });
        sql.push_str(&statement.sql);
        sql.push_str("; ");
    }
    sql.push_str(if dice.below(2) == 0 { "COMMIT" } else { "" });
    let statements = vec![Statement { sql, parameters: Vec::new() }];
    Request { statements, vm_steps_max: request.vm_steps_max, ..Request::default() }
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
        let of_scripts = ["no transaction is active", "within a transaction"];
        assert!(
            known.iter().chain(&rare).chain(&of_scripts).any(|k| text.contains(k)),
            "the script meets no other errors: {text}"
        );
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
    let mut dice = Rng::new(7);
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
        let mut dice = Rng::new(seed);
        let restarts: Vec<usize> = (0..log.len()).filter(|_| dice.below(15) == 0).collect();
        let mixed = apply("mixed", &log, foreign_keys, &restarts, || dice.below(12) as usize);
        assert_same(&format!("seed {seed}, mixed"), &log, &single, &mixed);
    }
}

/// Entries one second apart, each one statement with its parameters.
fn log_of(statements: &[(&str, Vec<Value>)]) -> Vec<Command> {
    let command = |(at, (sql, values)): (usize, &(&str, Vec<Value>))| {
        let parameters = values.iter().map(|value| Parameter { name: None, value: value.clone() }).collect();
        let statements = vec![Statement { sql: (*sql).to_owned(), parameters }];
        let action = Action::Request(Request { statements, ..Request::default() });
        Command { unix_time_us: 1_600_000_000_000_000 + at as i64 * 1_000_000, seed: at as u64, action, request: None }
    };
    statements.iter().enumerate().map(command).collect()
}

/// Applies the log without a restart, with one before each entry, and with one in the middle: all must be the same. Gives
/// the outcomes.
fn assert_restarts_change_nothing(name: &str, log: &[Command]) -> Vec<Outcome> {
    let outcomes = outcomes_whatever_the_restarts(name, log);
    assert!(!outcomes.iter().any(has_error), "the log meets no errors: {outcomes:?}");
    outcomes
}

fn has_error(outcome: &Outcome) -> bool {
    outcome.results.iter().any(|r| matches!(r, StatementResult::Error { .. }))
}

/// As [`assert_restarts_change_nothing`], for logs with errors.
fn outcomes_whatever_the_restarts(name: &str, log: &[Command]) -> Vec<Outcome> {
    let steady = apply(&format!("{name}-steady"), log, false, &[], || 1);
    let always: Vec<usize> = (0..log.len()).collect();
    let restarting = apply(&format!("{name}-restarting"), log, false, &always, || 1);
    assert_same(&format!("{name}, always restarting"), log, &steady, &restarting);
    let once = apply(&format!("{name}-once"), log, false, &[log.len() / 2], || 7);
    assert_same(&format!("{name}, restarting once"), log, &steady, &once);
    steady.0
}

const EVENTS: &[&str] = &[
    "CREATE TABLE event(id INTEGER PRIMARY KEY, ts TEXT, kind INT, note TEXT)",
    "CREATE INDEX event_ts ON event(ts)",
    "CREATE INDEX event_kind ON event(kind)",
    "CREATE TABLE picked(n INTEGER PRIMARY KEY, id)",
    // A minute between two of them; rare kinds and a common one; rows of one kind not in the order of time.
    "WITH RECURSIVE s(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < 3000)
     INSERT INTO event(ts, kind, note) SELECT datetime(1600000000 + 60 * ((i * 7919) % 3001), 'unixepoch'),
       CASE WHEN i % 100 < 70 THEN 0 ELSE i % 100 END, hex(zeroblob(40)) FROM s",
];

/// Prevents: the plan of a cached statement that was chosen for the time of an earlier entry.
#[test]
fn plans_with_statistics_follow_the_clock_of_the_entry() {
    let mut statements: Vec<(&str, Vec<Value>)> = EVENTS.iter().map(|sql| (*sql, Vec::new())).collect();
    statements.push(("ANALYZE", Vec::new()));
    let pick = "INSERT INTO picked(id) SELECT id FROM event WHERE ts < datetime('now') AND kind = 0 LIMIT 3";
    let recent = "INSERT INTO picked(id) SELECT id FROM event WHERE ts > CURRENT_TIMESTAMP AND kind > 90 LIMIT 3";
    let update = "UPDATE event SET note = (SELECT count(*) FROM picked) || strftime('%s', 'now') WHERE id IN
        (SELECT id FROM event WHERE ts < datetime('now') AND kind BETWEEN 80 AND 95 LIMIT 2)";
    for _ in 0..6 {
        statements.extend([(pick, Vec::new()), (recent, Vec::new()), (update, Vec::new())]);
    }
    let mut log = log_of(&statements);
    let (start, queries) = (statements.len() - 18, 18);
    for (n, command) in log[start..].iter_mut().enumerate() {
        command.unix_time_us += n as i64 * 60_000_000 * 3000 / queries;
    }
    let plain = assert_restarts_change_nothing("clock", &log);
    assert_eq!(plain.len(), log.len());
    // The time does decide between plans, or this shows nothing.
    let plans = |command: &Command, at: usize| {
        let explain = format!("EXPLAIN QUERY PLAN {}", statements[start + at % 3].0);
        Command { unix_time_us: command.unix_time_us, ..log_of(&[(&explain, Vec::new())]).remove(0) }
    };
    let explained: Vec<Command> = log[start..].iter().enumerate().map(|(at, command)| plans(command, at)).collect();
    let whole = [&log[..start], &explained].concat();
    let mut shown: Vec<String> = assert_restarts_change_nothing("explained", &whole)[start..]
        .iter()
        .map(|outcome| match &outcome.results[0] {
            StatementResult::Rows { rows, .. } => format!("{rows:?}"),
            other => panic!("{other:?}"),
        })
        .collect();
    shown.sort();
    shown.dedup();
    assert!(shown.len() > 3, "three statements have more than three plans: {shown:?}");
}

/// Prevents: the plan of a cached statement that was chosen for parameters of an earlier entry.
#[test]
fn plans_with_statistics_do_not_depend_on_parameters() {
    let mut statements: Vec<(&str, Vec<Value>)> = EVENTS.iter().map(|sql| (*sql, Vec::new())).collect();
    statements.push(("CREATE INDEX event_note ON event(note COLLATE NOCASE) WHERE kind = 0", Vec::new()));
    statements.push(("ANALYZE", Vec::new()));
    let text = |text: &str| Value::Text(text.as_bytes().to_vec());
    let pick = "INSERT INTO picked(id) SELECT id FROM event WHERE ts < ? AND kind = ? LIMIT 3";
    let between = "INSERT INTO picked(id) SELECT id FROM event WHERE ts BETWEEN ? AND ? AND kind > ? LIMIT 3";
    let like = "INSERT INTO picked(id) SELECT id FROM event WHERE note LIKE ? AND kind = ? LIMIT 3";
    let explained = [pick, between, like].map(|sql| format!("EXPLAIN QUERY PLAN {sql}"));
    for (early, late) in [("2020-09-13 13", "2020-09-15"), ("2020-09-15", "2020-09-15 14"), ("2000", "2030")] {
        for kind in [0, 75, 99] {
            let kind = Value::Integer(kind);
            for with in [[pick, between, like], [&explained[0], &explained[1], &explained[2]]] {
                statements.push((with[0], vec![text(late), kind.clone()]));
                statements.push((with[1], vec![text(early), text(late), kind.clone()]));
                statements.push((with[2], vec![text("00%"), kind.clone()]));
            }
        }
    }
    let outcomes = assert_restarts_change_nothing("parameters", &log_of(&statements));
    let plans: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| match &outcome.results[..] {
            [StatementResult::Rows { rows, .. }] => Some(format!("{rows:?}")),
            _ => None,
        })
        .collect();
    assert_eq!(plans.len(), 27);
    for (at, plan) in plans.iter().enumerate() {
        assert_eq!(*plan, plans[at % 3], "one plan for each statement");
    }
}

/// Prevents: estimates that stay in memory, until the next start, when what they came from has changed.
#[test]
fn plans_after_changes_of_the_schema_are_those_of_a_fresh_start() {
    let small = "CREATE TABLE small(k, x); CREATE INDEX small_k ON small(k);
        INSERT INTO small VALUES(3, 'c'), (2, 'b'), (1, 'a'), (3, 'd')";
    let large =
        "CREATE TABLE large(k, y); WITH RECURSIVE s(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < 500)
        INSERT INTO large SELECT i % 5, i FROM s";
    let join = "INSERT INTO picked(id) SELECT x || y FROM large, small WHERE large.k = small.k LIMIT 6";
    let other = "INSERT INTO picked(id) SELECT y || x FROM small, large WHERE large.k + 0 = small.k + 0 LIMIT 6";
    let mut statements = Vec::new();
    statements.extend([small, large, "CREATE TABLE picked(n INTEGER PRIMARY KEY, id)", join, other, "ANALYZE"]);
    for change in [
        "DROP INDEX small_k",
        "CREATE INDEX small_x ON small(x)",
        "DROP INDEX small_x; ANALYZE",
        "CREATE INDEX large_k ON large(k); ANALYZE large; DROP INDEX large_k",
        "ALTER TABLE small ADD COLUMN z",
        "CREATE INDEX small_k ON small(k); ANALYZE; CREATE INDEX small_xz ON small(x, z); DROP INDEX small_xz",
        "ALTER TABLE small RENAME TO tiny; ALTER TABLE tiny RENAME TO small; DROP INDEX small_k",
        "DELETE FROM sqlite_stat1",
        "DROP TABLE sqlite_stat1",
        "DROP TABLE sqlite_stat4",
    ] {
        statements.extend([join, other, change, join, other]);
    }
    let statements: Vec<_> = statements.into_iter().map(|sql| (sql, Vec::new())).collect();
    assert_restarts_change_nothing("schema", &log_of(&statements));
}

/// Prevents: rows in an order that depends on the way in which the schema in memory came to be.
#[test]
fn nothing_is_stored_in_the_order_of_a_hash_table() {
    let mut sql: Vec<String> = (0..40).map(|n| format!("CREATE TABLE t{n}(a); CREATE INDEX i{n} ON t{n}(a)")).collect();
    sql.extend((0..40).map(|n| format!("INSERT INTO t{n} VALUES({n}), (1), (2)")));
    sql.extend((0..40).filter(|n| n % 3 != 0).map(|n| format!("DROP TABLE t{n}")));
    sql.extend(
        (50..60).map(|n| format!("CREATE TABLE t{n}(a); CREATE INDEX i{n} ON t{n}(a); INSERT INTO t{n} VALUES(1)")),
    );
    sql.push("CREATE TABLE seen(n INTEGER PRIMARY KEY, what)".to_owned());
    sql.push("ANALYZE".to_owned());
    sql.push("INSERT INTO seen(what) SELECT tbl FROM sqlite_stat1".to_owned());
    sql.extend(
        (70..80).map(|n| format!("CREATE TABLE t{n}(a); CREATE INDEX i{n} ON t{n}(a); INSERT INTO t{n} VALUES(1)")),
    );
    sql.push("PRAGMA optimize".to_owned());
    sql.push("INSERT INTO seen(what) SELECT tbl FROM sqlite_stat1".to_owned());
    let statements: Vec<_> = sql.iter().map(|sql| (sql.as_str(), Vec::new())).collect();
    assert_restarts_change_nothing("order", &log_of(&statements));
}

/// Prevents: a budget of steps that a cached statement, or a schema that is already in memory, uses up sooner or later than
/// a node that was just started.
#[test]
fn a_budget_of_steps_ends_at_the_same_step_whatever_was_prepared_before() {
    const STEPS_APART: u64 = 100;
    let mut sql: Vec<&str> = EVENTS.to_vec();
    sql.push(
        "CREATE TRIGGER event_au AFTER UPDATE ON event BEGIN
           INSERT INTO picked(id) SELECT max(id) + random() % 2 FROM event WHERE kind = new.kind AND ts < datetime('now');
         END",
    );
    sql.push("ANALYZE");
    let mut log = log_of(&sql.iter().map(|sql| (*sql, Vec::new())).collect::<Vec<_>>());
    let start = log.len();
    let limited = [
        "UPDATE event SET note = 'x' WHERE ts > datetime('now') AND kind > 97",
        "INSERT INTO picked(id) SELECT e.id FROM event e, event f WHERE e.kind = f.kind + 1 AND e.ts < f.ts LIMIT 50",
        "SELECT count(*) FROM event WHERE note LIKE '%1%'",
        "CREATE INDEX event_both ON event(kind, ts); DROP INDEX event_both",
        "ALTER TABLE picked RENAME COLUMN id TO number; ALTER TABLE picked RENAME COLUMN number TO id",
    ];
    let command = |sql: &str, vm_steps_max: u64| {
        let statements = vec![Statement { sql: sql.to_owned(), parameters: Vec::new() }];
        let request = Request { statements, vm_steps_max, transaction: sql.contains(';'), ..Request::default() };
        Command { unix_time_us: 1_600_000_500_000_000, seed: 1, action: Action::Request(request), request: None }
    };
    for sql in limited {
        // How many portions it takes; then budgets around it, with the same text run without a limit in between, so that
        // it is cached.
        let first_that_suffices = |portions: Vec<u64>| {
            let tried = portions.iter().map(|p| command(sql, p * STEPS_APART));
            let tried: Vec<Command> = log[..start].iter().cloned().chain(tried).collect();
            let outcomes = apply("tried", &tried, false, &[], || 99).0;
            let at = outcomes[start..].iter().position(|outcome| !has_error(outcome));
            portions[at.expect("the largest budget suffices")]
        };
        let about = first_that_suffices((0..40).map(|n| 1 + n * 50).collect());
        let low = first_that_suffices((about.saturating_sub(50).max(1)..=about).collect());
        let low = low * STEPS_APART;
        let exactly = [low; 7];
        for round in 0..3 {
            let around = [0, low - 1, low - STEPS_APART * (round % 3), low + STEPS_APART * round];
            log.extend(exactly.iter().chain(&around).map(|budget| command(sql, *budget)));
        }
    }
    let outcomes = outcomes_whatever_the_restarts("steps", &log);
    for (at, sql) in limited.iter().enumerate() {
        let failed = outcomes[start + at * 33..][..33].iter().filter(|outcome| has_error(outcome)).count();
        assert!(failed > 3 && failed < 30, "{sql}: the budget ends {failed} of 33");
    }
}

/// Prevents: a program that is linked so that the machine's C library computes again (see `src/db/sqlite/math.rs`), whose last
/// bits are not the same everywhere.
#[test]
fn the_program_as_it_is_built_computes_its_own_logarithms_and_powers() {
    let dir = support::TempDir::new("mathematics");
    let node = support::Node::start(&dir.path().join("data"), &[]);
    node.execute(
        r#"["CREATE TABLE t(e, s, p, l)", "INSERT INTO t VALUES(exp(1.0), sin(1e5), pow(1.1, 30.3), ln(0.3))"]"#,
    );
    let expected = [libm::exp(1.0), libm::sin(1e5), libm::pow(1.1, 30.3), libm::log(0.3)];
    for sql in ["SELECT * FROM t", "SELECT exp(1.0), sin(1e5), pow(1.1, 30.3), ln(0.3)"] {
        let row: Vec<f64> = node.rows(sql)[0].iter().map(|value| value.as_f64().expect("a number")).collect();
        assert_eq!(row.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), expected.map(f64::to_bits), "{sql}");
    }
}
