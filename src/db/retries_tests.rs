//! Request ids against everything that may stand between a request and its repeat: batches, rollbacks, crashes, time.

use super::retries::{
    CLIENT_IDS_KEPT_US, CLIENT_IDS_MAX, OUTCOME_BYTES_MAX, SERVER_IDS_KEPT_ENTRIES, SERVER_IDS_KEPT_US,
};
use super::tests::{CRASH_AFTER, Node, execute, request, request_of, show, transaction};
use super::*;
use crate::command::{Action, Command, Repeat, Request, RequestId, StatementResult};
use raft::{Index, LogId, Term};

const TIME_US: i64 = 1_700_000_000_000_000;

fn id_at(index: u64) -> LogId {
    LogId { term: Term(1), index: Index(index) }
}

/// An action with a client's key.
fn keyed(key: &str, action: Action) -> Command {
    let request = Some(RequestId::from_client(key.as_bytes(), Index(0), &action).unwrap());
    Command { unix_time_us: TIME_US, seed: 1, action, request }
}

/// An action with a node's key that was given at `issued_after`.
fn forwarded(key: u8, issued_after: u64, action: Action) -> Command {
    let request = Some(RequestId::from_server([key; 16], Index(issued_after), &action));
    Command { unix_time_us: TIME_US, seed: 1, action, request }
}

fn plain(action: Action) -> Command {
    Command { unix_time_us: TIME_US, seed: 1, action, request: None }
}

impl Node {
    /// Applies as the next entries, in one batch.
    fn commands(&mut self, commands: &[Command]) -> Vec<Outcome> {
        let first = self.writer.applied().id.index.0 + 1;
        let entries: Vec<_> =
            commands.iter().zip(first..).map(|(c, index)| (id_at(index), Item::Command(c.clone()))).collect();
        self.writer.apply_batch(&entries).unwrap()
    }

    fn command(&mut self, command: &Command) -> Outcome {
        self.commands(std::slice::from_ref(command)).remove(0)
    }

    /// All of our own rows but the one in which nodes may differ.
    fn own_rows(&self) -> Vec<String> {
        let sql = "SELECT id || ' ' || hex(value) FROM sqlite_ferrolite WHERE id <> 3 ORDER BY id";
        self.writer.connection().query_texts(sql).unwrap()
    }

    fn ids_kept(&self) -> i64 {
        self.integer("SELECT count(*) FROM sqlite_ferrolite WHERE id >= 1024")
    }

    /// Moves the log on by entries that do nothing.
    fn advance_to(&mut self, index: u64) {
        let next = self.writer.applied().id.index.0 + 1;
        for first in (next..=index).step_by(1024) {
            let entries: Vec<_> = (first..=index.min(first + 1023)).map(|i| (id_at(i), Item::Noop)).collect();
            self.writer.apply_batch(&entries).unwrap();
        }
    }
}

fn timeless(outcome: &Outcome) -> Outcome {
    Outcome::decode(&outcome.encode_timeless(usize::MAX).unwrap()).unwrap()
}

/// `outcome` is the answer to a repeat of what came to `first` as entry `index`.
fn assert_repeats(outcome: &Outcome, first: &Outcome, index: u64) {
    let expected = Outcome { repeat: Repeat::Of(id_at(index)), ..timeless(first) };
    assert_eq!(*outcome, expected);
}

#[test]
fn a_repeat_changes_nothing_and_answers_what_the_first_came_to() {
    let mut node = Node::with_foreign_keys(true);
    node.execute(&[
        "CREATE TABLE p(id INTEGER PRIMARY KEY)",
        "CREATE TABLE k(p REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED)",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
    ]);
    let commands = [
        keyed(
            "rows",
            request(&["INSERT INTO p VALUES(NULL) RETURNING id, 0.1, x'ff', NULL", "SELECT count(*) FROM p"]),
        ),
        keyed("error", execute(&["INSERT INTO p VALUES(1)", "INSERT INTO p VALUES(NULL)"])),
        keyed("nothing", execute(&["", "-- nothing"])),
        keyed("request error", transaction(&["INSERT INTO k VALUES(99)"])),
        keyed("rollback", execute(&["INSERT INTO p VALUES(NULL)", "INSERT OR ROLLBACK INTO p VALUES(1)"])),
        keyed("virtual", execute(&["INSERT INTO f VALUES('a')", "INSERT INTO f VALUES('b') RETURNING x"])),
        keyed("vacuum", Action::Vacuum),
        keyed("optimize", Action::Optimize { mask: 0xfffe }),
        keyed("barrier", Action::Barrier),
        forwarded(1, 0, execute(&["INSERT INTO p VALUES(NULL)"])),
    ];
    // Each twice in one batch, then once more, then after a restart.
    let twice: Vec<_> = commands.iter().chain(&commands).cloned().collect();
    let firsts = node.commands(&twice);
    let (firsts, repeats) = firsts.split_at(commands.len());
    let (dump, changed) = (node.dump(), node.writer.applied().changed);
    assert!(firsts.iter().all(|f| f.repeat == Repeat::First));
    assert_eq!(show(&firsts[3]), ["request: FOREIGN KEY constraint failed"]);
    assert_eq!(show(&firsts[1])[1], "2/1");
    let again = node.commands(&commands);
    let mut node = node.restart();
    let after_restart = node.commands(&commands);
    for (at, first) in firsts.iter().enumerate() {
        for repeat in [&repeats[at], &again[at], &after_restart[at]] {
            assert_repeats(repeat, first, 2 + at as u64);
        }
    }
    assert_eq!(node.dump(), dump);
    assert_eq!(node.writer.applied().changed, changed, "repeats change no data");
    assert_eq!(node.ids_kept(), commands.len() as i64);
    let check = node.writer.connection().query_texts("PRAGMA integrity_check").unwrap();
    assert_eq!(check, ["ok"]);
}

#[test]
fn a_key_that_was_used_for_another_request_is_refused() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(x)"]);
    node.command(&keyed("k", execute(&["INSERT INTO t VALUES(1)"])));
    let other = node.command(&keyed("k", execute(&["INSERT INTO t VALUES(2)"])));
    assert_eq!(other.repeat, Repeat::OtherRequest(id_at(2)));
    assert!(other.request_error.unwrap().contains("another request"));
    assert_eq!(node.integer("SELECT sum(x) FROM t"), 1);
    // The refusal does not take the key away from the first request.
    let repeat = node.command(&keyed("k", execute(&["INSERT INTO t VALUES(1)"])));
    assert_eq!(repeat.repeat, Repeat::Of(id_at(2)));
    // A bound on the time is not another request.
    let bounded = Request { vm_steps_max: 7777, ..request_of(&["INSERT INTO t VALUES(1)"]) };
    assert_eq!(node.command(&keyed("k", Action::Execute(bounded))).repeat, Repeat::Of(id_at(2)));
}

#[test]
fn what_is_kept_is_the_same_however_entries_are_batched() {
    let mut log =
        vec![plain(execute(&["CREATE TABLE t(id INTEGER PRIMARY KEY, x)", "CREATE VIRTUAL TABLE f USING fts5(x)"]))];
    for n in 0..400u64 {
        let sql = match n % 9 {
            0 => "INSERT OR ROLLBACK INTO t VALUES(1, 2)",
            1 => "INSERT INTO f VALUES(random()) RETURNING x",
            2 => "INSERT INTO t(x) VALUES(1); INSERT INTO nope VALUES(1)",
            3 => "VACUUM; INSERT INTO t(x) VALUES(changes() + total_changes())",
            4 => "ANALYZE",
            _ => "INSERT INTO t(x) VALUES(last_insert_rowid()) RETURNING id, random(), datetime('now')",
        };
        let action = if n % 4 == 0 { transaction(&[sql, sql]) } else { request(&[sql, sql]) };
        // Keys come back, some with the same request and some with another.
        let mut command = match n % 3 {
            0 => keyed(&format!("k{}", if n < 250 { n % 72 } else { n % 50 }), action),
            1 => forwarded((n % 108) as u8, n, action),
            _ => plain(action),
        };
        command.unix_time_us += n as i64 * 1_000;
        log.push(command);
    }
    let run = |sizes: &[usize], restart_every: usize| {
        let mut node = Node::new();
        let mut outcomes = Vec::new();
        let mut sizes = sizes.iter().cycle();
        while outcomes.len() < log.len() {
            let upto = log.len().min(outcomes.len() + sizes.next().unwrap());
            let batch = &log[outcomes.len()..upto];
            outcomes.extend(node.commands(batch).iter().map(timeless));
            if outcomes.len() % restart_every == 0 {
                node = node.restart();
            }
        }
        (outcomes, node.own_rows(), node.dump())
    };
    let single = run(&[1], usize::MAX);
    let repeats = single.0.iter().filter(|o| matches!(o.repeat, Repeat::Of(_))).count();
    let others = single.0.iter().filter(|o| matches!(o.repeat, Repeat::OtherRequest(_))).count();
    assert!(repeats > 100 && others > 10, "{repeats} repeats, {others} other requests");
    assert!(single == run(&[usize::MAX / 2], usize::MAX), "one batch comes to the same");
    assert!(single == run(&[3, 17, 1, 64], 7), "mixed batches and restarts come to the same");
}

#[test]
fn a_crash_between_statements_forgets_nothing_of_the_answer() {
    let schema = ["CREATE TABLE t(id INTEGER PRIMARY KEY, x)", "INSERT INTO t VALUES(1, 1)"];
    let large = format!("INSERT INTO f VALUES('l') RETURNING zeroblob({OUTCOME_BYTES_MAX})");
    let statements = [
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "SELECT * FROM later",
        "INSERT INTO f VALUES(?)",
        "INSERT INTO f VALUES('a') RETURNING x; INSERT INTO t(x) VALUES(total_changes() + last_insert_rowid()); ",
        "INSERT INTO t VALUES(1, 1); INSERT INTO t(x) VALUES('never')",
        "CREATE TABLE later AS SELECT 1 AS a; SELECT 5; SELECT random() AS r, 'größe';INSERT INTO later VALUES(2)",
        "",
        "DROP TABLE later; DROP TABLE later; SELECT 1",
        "INSERT INTO t VALUES(90, ?); INSERT INTO t VALUES(91, ?); INSERT INTO t VALUES(92, ?)",
        &large,
        "VACUUM",
        "INSERT INTO t(x) VALUES(changes()) RETURNING *",
    ];
    for with_large in [false, true] {
        let mut wanted = request_of(&statements);
        wanted.statements[8].parameters = (1..=3)
            .map(|n| crate::command::Parameter { name: None, value: crate::command::Value::Integer(n) })
            .collect();
        if !with_large {
            wanted.statements.remove(9);
        }
        let command = keyed("k", Action::Request(wanted));
        let mut whole = Node::new();
        whole.execute(&schema);
        let first = whole.command(&command);
        let expected = whole.command(&command);
        assert_eq!(matches!(expected.repeat, Repeat::ResultNotKept(_)), with_large);
        assert_eq!(first.results.len(), if with_large { 11 } else { 10 }, "{:?}", show(&first));
        let errors = first.results.iter().filter(|r| matches!(r, StatementResult::Error { .. })).count();
        assert_eq!(errors, 4, "{:?}", show(&first));
        let mut crash_after = 1;
        loop {
            let mut node = Node::new();
            node.execute(&schema);
            let entry = [(id_at(2), Item::Command(command.clone()))];
            CRASH_AFTER.set(crash_after);
            let crashed = node.writer.apply_batch(&entry).is_err();
            CRASH_AFTER.set(0);
            if !crashed {
                break;
            }
            // And once more, further on.
            let mut node = node.restart();
            CRASH_AFTER.set(crash_after + 2);
            let crashed = node.writer.apply_batch(&entry);
            CRASH_AFTER.set(0);
            let mut node = if crashed.is_err() { node.restart() } else { node };
            if crashed.is_err() {
                node.writer.apply_batch(&entry).unwrap();
            }
            assert_eq!(node.command(&command), expected, "after {crash_after}");
            assert_eq!(node.dump(), whole.dump(), "after {crash_after}");
            assert_eq!(node.own_rows(), whole.own_rows(), "after {crash_after}");
            crash_after += 1;
        }
        assert!(crash_after >= 15, "crashed after {crash_after} statements");
    }
}

#[test]
fn a_crash_between_statements_skips_none_of_a_request_without_an_id() {
    // What has run may not compile any more, and what did not compile may do so now.
    let statements = [
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "INSERT INTO later VALUES(0)",
        "CREATE TABLE later AS SELECT 1 AS a",
        "INSERT INTO later VALUES(2); INSERT INTO later VALUES(3); INSERT INTO nope VALUES(4)",
        "DROP TABLE f",
        "INSERT INTO later VALUES(5)",
    ];
    let command = plain(execute(&statements));
    let mut whole = Node::new();
    whole.command(&command);
    assert_eq!(whole.integer("SELECT sum(a) FROM later"), 11);
    for crash_after in 1..=5 {
        let mut node = Node::new();
        let entry = [(id_at(1), Item::Command(command.clone()))];
        CRASH_AFTER.set(crash_after);
        assert!(node.writer.apply_batch(&entry).is_err(), "after {crash_after}");
        CRASH_AFTER.set(0);
        let mut node = node.restart();
        node.writer.apply_batch(&entry).unwrap();
        assert_eq!(node.dump(), whole.dump(), "after {crash_after}");
        assert_eq!(node.own_rows(), whole.own_rows(), "after {crash_after}");
    }
}

#[test]
fn results_too_large_to_keep_are_said_to_be_applied() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(x)"]);
    let with = |bytes: usize| execute(&[&format!("INSERT INTO t VALUES(1) RETURNING zeroblob({bytes})")]);
    let large = keyed("large", with(OUTCOME_BYTES_MAX));
    let fitting = keyed("fitting", with(OUTCOME_BYTES_MAX - 200));
    let firsts = node.commands(&[large.clone(), fitting.clone()]);
    assert!(firsts.iter().all(|f| f.request_error.is_none()));
    let mut node = node.restart();
    let repeat = node.command(&large);
    assert_eq!(repeat.repeat, Repeat::ResultNotKept(id_at(2)));
    assert!(repeat.request_error.unwrap().contains("applied before"));
    assert_repeats(&node.command(&fitting), &firsts[1], 3);
    assert_eq!(node.integer("SELECT count(*) FROM t"), 2);
}

#[test]
fn the_table_of_ids_has_a_size_limit() {
    let mut node = Node::new();
    let action = |n: usize| request(&[&format!("SELECT {n}, zeroblob(60000)")]);
    let mut kept = 0;
    for first in (0..1200).step_by(100) {
        let commands: Vec<_> = (first..first + 100).map(|n| keyed(&n.to_string(), action(n))).collect();
        node.commands(&commands);
    }
    let mut node = node.restart();
    for n in 0..1200 {
        match node.command(&keyed(&n.to_string(), action(n))).repeat {
            Repeat::Of(_) => kept += 1,
            Repeat::ResultNotKept(_) => {}
            other => panic!("{n}: {other:?}"),
        }
    }
    assert!((1100..1120).contains(&kept), "64 MiB are kept: {kept}");
    let short = keyed("short", request(&["SELECT 1"]));
    node.command(&short);
    assert!(matches!(node.command(&short).repeat, Repeat::Of(_)), "short outcomes are kept nevertheless");
}

#[test]
fn a_skipped_entry_fails_for_its_repeats_too_and_leaves_nothing_of_its_way() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(x)"]);
    // It has come to its second statement when the process ends.
    let statements = ["INSERT INTO t VALUES(1)", "INSERT OR ROLLBACK INTO t VALUES(2)", "ANALYZE", "SELECT 1"];
    let command = keyed("k", execute(&statements));
    CRASH_AFTER.set(2);
    assert!(node.writer.apply_batch(&[(id_at(2), Item::Command(command.clone()))]).is_err());
    CRASH_AFTER.set(0);
    let mut node = node.restart();
    assert_eq!(node.integer("SELECT count(*) FROM sqlite_ferrolite WHERE id < 0"), 2);
    let skipped = node.writer.skip(id_at(2), Some(&command)).unwrap();
    assert!(skipped.request_error.is_some() && skipped.repeat == Repeat::First);
    assert_eq!(node.integer("SELECT count(*) FROM sqlite_ferrolite WHERE id < 0"), 0);
    for _ in 0..2 {
        let repeat = node.command(&command);
        assert_repeats(&repeat, &skipped, 2);
        node = node.restart();
    }
    // A repeat needs no skipping; an entry that cannot be read has no id.
    let repeat = node.writer.skip(id_at(5), Some(&command)).unwrap();
    assert_repeats(&repeat, &skipped, 2);
    assert!(node.writer.skip(id_at(6), None).unwrap().request_error.is_some());
    assert_eq!(node.ids_kept(), 1);
    assert_eq!(node.command(&keyed("other", execute(&statements))).results.len(), 4);
}

#[test]
fn ids_are_kept_also_where_foreign_keys_point_to_the_table_that_keeps_them() {
    let mut node = Node::with_foreign_keys(true);
    node.execute(&["CREATE TABLE t(x)"]);
    let earlier = "CREATE TABLE k(x REFERENCES sqlite_ferrolite(value) ON UPDATE CASCADE);
                   CREATE TABLE l(x REFERENCES sqlite_ferrolite(id) ON UPDATE CASCADE ON DELETE CASCADE)";
    node.writer.connection().execute(earlier).unwrap();
    let mut node = node.restart();
    let plain_one = keyed("plain", execute(&["INSERT INTO t VALUES(1)", "INSERT INTO t VALUES(changes())"]));
    let alone = keyed("alone", execute(&["INSERT INTO t VALUES(3)", "ANALYZE", "INSERT INTO t VALUES(4) RETURNING x"]));
    let firsts = node.commands(&[plain_one.clone(), alone.clone()]);
    for _ in 0..2 {
        for (at, command) in [&plain_one, &alone].into_iter().enumerate() {
            assert_repeats(&node.command(command), &firsts[at], 2 + at as u64);
        }
        node = node.restart();
    }
    assert_eq!(node.integer("SELECT group_concat(x) = '1,1,3,4' FROM t"), 1);
    let late = TIME_US + 100 + CLIENT_IDS_KEPT_US;
    node.command(&Command { unix_time_us: late, ..plain(Action::Barrier) });
    node.advance_to(512);
    assert_eq!(node.ids_kept(), 0, "they can be let go");
    assert!(
        show(&node.one(execute(&["INSERT INTO l VALUES(77)"])))[0].starts_with("error: "),
        "they count for clients"
    );
}

#[test]
fn what_a_virtual_table_refuses_at_the_commit_is_the_outcome_that_is_kept() {
    let mut node = Node::new();
    node.execute(&[
        "CREATE TABLE t(x)",
        "CREATE VIRTUAL TABLE ft USING fts5(a)",
        "INSERT INTO ft(ft, rank) VALUES('automerge', 0)",
        "INSERT INTO ft(ft, rank) VALUES('crisismerge', 1999)",
    ]);
    for _ in 0..5 {
        node.execute(&["INSERT INTO ft VALUES('word')"; 1000]);
    }
    let first = node.writer.applied().id.index.0 + 1;
    let statements = ["INSERT INTO t VALUES(1)", "INSERT INTO ft VALUES('w')", "INSERT INTO t VALUES(2)"];
    let commands = [keyed("one by one", execute(&statements)), keyed("together", transaction(&statements[..2]))];
    let firsts = node.commands(&commands);
    assert_eq!(show(&firsts[0]), ["1/1", "error: database or disk is full", "2/1"]);
    assert_eq!(show(&firsts[1]), ["request: database or disk is full"]);
    for _ in 0..2 {
        for (at, command) in commands.iter().enumerate() {
            assert_repeats(&node.command(command), &firsts[at], first + at as u64);
        }
        node = node.restart();
    }
    assert_eq!(node.integer("SELECT count(*) FROM t"), 2);
    assert_eq!(node.integer("SELECT count(*) FROM sqlite_ferrolite WHERE id < 0"), 0);
}

#[test]
fn a_forwarded_id_is_never_applied_again_when_it_is_forgotten() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(x)"]);
    let old = forwarded(1, 1, execute(&["INSERT INTO t VALUES(1)"]));
    node.command(&old);
    let barrier = |time_us| Command { unix_time_us: TIME_US + time_us, ..plain(Action::Barrier) };
    node.command(&barrier(SERVER_IDS_KEPT_US - 1));
    node.advance_to(SERVER_IDS_KEPT_ENTRIES + 300);
    assert_eq!(node.command(&old).repeat, Repeat::Of(id_at(2)), "the log is long, but the id is young");
    let mut other = Node::new();
    other.execute(&["CREATE TABLE t(x)"]);
    other.command(&old);
    other.command(&barrier(CLIENT_IDS_KEPT_US));
    other.advance_to(SERVER_IDS_KEPT_ENTRIES);
    assert_eq!(other.command(&old).repeat, Repeat::Of(id_at(2)), "the id is old, but the log is short");
    node.command(&barrier(SERVER_IDS_KEPT_US + 1));
    node.advance_to(SERVER_IDS_KEPT_ENTRIES + 600);
    assert_eq!(node.ids_kept(), 0);
    for restarts in 0..2 {
        let refused = node.command(&old);
        assert_eq!(refused.repeat, Repeat::Expired, "after {restarts} restarts");
        assert!(refused.request_error.unwrap().contains("outcome unknown"));
        node = node.restart();
    }
    let never_applied = forwarded(2, 2, execute(&["INSERT INTO t VALUES(2)"]));
    assert_eq!(node.command(&never_applied).repeat, Repeat::First, "given after the last id that was let go");
    assert_eq!(node.integer("SELECT group_concat(x) = '1,2' FROM t"), 1);
}

#[test]
fn ids_of_clients_are_kept_for_a_day_of_entry_time() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(x)"]);
    let mut early = keyed("k", execute(&["INSERT INTO t VALUES(1)"]));
    early.unix_time_us = TIME_US + 100;
    node.command(&early);
    node.advance_to(SERVER_IDS_KEPT_ENTRIES + 1000);
    assert_eq!(node.command(&early).repeat, Repeat::Of(id_at(2)), "the length of the log does not count");
    let at = |node: &mut Node, time_us| {
        let next = (node.writer.applied().id.index.0 / 256 + 2) * 256;
        node.command(&Command { unix_time_us: time_us, ..plain(Action::Barrier) });
        node.advance_to(next);
        node.ids_kept()
    };
    assert_eq!(at(&mut node, TIME_US + 99 + CLIENT_IDS_KEPT_US), 1);
    assert_eq!(at(&mut node, TIME_US + 100 + CLIENT_IDS_KEPT_US), 0);
    // A client that said since when the key exists is refused; one that did not has lost its protection.
    let action = execute(&["INSERT INTO t VALUES(1)"]);
    let request = Some(RequestId::from_client(b"k", Index(1), &action).unwrap());
    let dated = Command { unix_time_us: TIME_US, seed: 1, action, request };
    assert_eq!(node.command(&dated).repeat, Repeat::Expired);
    assert_eq!(node.command(&early).repeat, Repeat::First);
    assert_eq!(node.integer("SELECT count(*) FROM t"), 2);
}

#[test]
fn ids_of_clients_are_bounded_in_number() {
    let mut node = Node::new();
    let more = CLIENT_IDS_MAX + 2048;
    let mut last = None;
    for first in (0..more).step_by(1024) {
        let commands: Vec<_> = (first..first + 1024).map(|n| keyed(&format!("{n:07}"), Action::Barrier)).collect();
        node.commands(&commands);
        last = commands.into_iter().next();
    }
    let kept = node.ids_kept();
    assert!((CLIENT_IDS_MAX as i64..=CLIENT_IDS_MAX as i64 + 256).contains(&kept), "{kept}");
    let started = std::time::Instant::now();
    let mut node = node.restart();
    println!("opening with {kept} ids: {:?}", started.elapsed());
    assert!(matches!(node.command(&last.unwrap()).repeat, Repeat::Of(_)));
    assert_eq!(node.command(&keyed("0000000", Action::Barrier)).repeat, Repeat::First, "the oldest went first");
}

#[test]
fn a_database_of_the_first_format_is_brought_up_to_date() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(x)"]);
    // As the first format had it: fewer rows, another number.
    let connection =
        super::sqlite::Connection::open(&node.scratch.file(), super::sqlite::Access::ReadWrite, None).unwrap();
    connection
        .execute(
            "DELETE FROM sqlite_ferrolite WHERE id > 2;
             UPDATE sqlite_ferrolite SET value = x'01000000' || substr(value, 5) WHERE id = 1;
             UPDATE sqlite_ferrolite SET value = CAST(value AS BLOB) WHERE id = 1",
        )
        .unwrap();
    drop(connection);
    let mut node = node.restart();
    assert_eq!(node.writer.applied().id, id_at(1));
    assert_eq!(node.writer.membership_index().unwrap(), Index(0));
    let command = keyed("k", execute(&["INSERT INTO t VALUES(1)"]));
    node.command(&command);
    let mut node = node.restart();
    assert_eq!(node.command(&command).repeat, Repeat::Of(id_at(2)));
    let mut fresh = Node::new();
    fresh.execute(&["CREATE TABLE t(x)"]);
    fresh.commands(&[command.clone(), command]);
    assert_eq!(node.own_rows(), fresh.own_rows());
}
