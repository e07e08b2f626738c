//! Files of every kind, through the applier's side of a load: what is taken, what is refused, and what a crash leaves.

use super::parts::{LOAD_KEPT_US, TEXT_DAMAGED, TEXT_GIVEN_UP};
use super::*;
use crate::command::{
    Action, Command, LOAD_CHUNK_BYTES, LoadChunk, LoadCommit, Outcome, Repeat, Request, RequestId, Statement,
    StatementResult,
};
use crate::db::sqlite::{Access, Connection};
use crate::db::tests::{Scratch, execute, open_with, show};
use crate::db::{CopySource, CopyTarget, Item, Writer, WriterOptions, copy_tests, dump, hash};
use raft::{ClusterId, Index, LogId, Term};
use std::path::Path;

const TIME_US: i64 = 1_700_000_000_000_000;

/// One node, to which entries are applied as the applier thread does it.
struct Node {
    writer: Option<Writer>,
    scratch: Scratch,
    time_us: i64,
}

impl Node {
    fn new() -> Node {
        let scratch = Scratch::new();
        Node { writer: Some(open_with(&scratch.file(), false)), scratch, time_us: TIME_US }
    }

    fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().unwrap()
    }

    fn restart(&mut self) {
        drop(self.writer.take());
        discard(self.scratch.dir()).unwrap();
        self.writer = Some(open_with(&self.scratch.file(), false));
    }

    fn apply(&mut self, action: Action) -> Outcome {
        self.apply_as(None, action)
    }

    fn apply_as(&mut self, request: Option<RequestId>, action: Action) -> Outcome {
        let index = self.writer().applied().id.index.next();
        let command = Command { unix_time_us: self.time_us + index.0 as i64, seed: index.0 * 7, action, request };
        self.apply_item(LogId { term: Term(1), index }, Item::Command(command))
    }

    fn apply_item(&mut self, id: LogId, item: Item) -> Outcome {
        let mut writer = self.writer.take().unwrap();
        let outcome = match writer.take_load(id, &item).unwrap() {
            Some(incoming) => {
                let options = WriterOptions { foreign_keys: false, cluster: ClusterId(1) };
                writer = writer.replace_with(incoming, &options).unwrap();
                Outcome::default()
            }
            None => writer.apply_batch(&[(id, item)]).unwrap().remove(0),
        };
        assert_eq!(writer.applied().id, id);
        self.writer = Some(writer);
        outcome
    }

    fn texts(&mut self, sql: &str) -> Vec<String> {
        self.writer().connection().query_texts(sql).unwrap()
    }

    fn hash(&mut self) -> [u8; 32] {
        hash::of_connection(self.writer().connection()).unwrap()
    }

    fn parts(&mut self) -> i64 {
        let sql = format!("SELECT count(*) FROM sqlite_ferrolite WHERE id >= {ROW_PART_FIRST}");
        self.writer().connection().query_integer(&sql).unwrap().unwrap()
    }
}

/// A database file, made by SQL, as bytes.
fn file(sql: &str) -> Vec<u8> {
    let scratch = Scratch::new();
    let path = scratch.file();
    let connection = Connection::open(&path, Access::ReadWrite, None).unwrap();
    connection.execute(sql).unwrap();
    drop(connection);
    std::fs::read(&path).unwrap()
}

/// The entries that bring a file: as many parts as it takes, and the last word.
fn entries_of(load: u128, file: &[u8]) -> Vec<Action> {
    let mut upload = Upload::check(Source::Memory(file.to_vec())).unwrap();
    let (mut hasher, mut actions, mut chunks) = (blake3::Hasher::new(), Vec::new(), 0);
    while let Some(bytes) = upload.next_chunk().unwrap() {
        hasher.update(&bytes);
        actions.push(Action::LoadChunk(LoadChunk { load, number: chunks, bytes }));
        chunks += 1;
    }
    let hash = *hasher.finalize().as_bytes();
    actions.push(Action::LoadCommit(LoadCommit { load, chunks, bytes: upload.bytes(), hash }));
    actions
}

/// Some MiB, so that there are several parts.
const LARGE: &str = "CREATE TABLE large(id INTEGER PRIMARY KEY, x); INSERT INTO large(x)
    WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT 3000) SELECT printf('%01000d', n) FROM g";

fn refusal(bytes: Vec<u8>) -> String {
    match Upload::check(Source::Memory(bytes)) {
        Ok(_) => panic!("it was taken"),
        Err(text) => text,
    }
}

#[test]
fn a_file_takes_the_place_of_the_database_with_all_that_is_in_it() {
    for settings in [
        "PRAGMA page_size = 512",
        "PRAGMA page_size = 65536",
        "PRAGMA journal_mode = WAL",
        "PRAGMA encoding = 'UTF-16'",
        "PRAGMA auto_vacuum = FULL",
    ] {
        let mut node = Node::new();
        node.apply(execute(&["CREATE TABLE old(x)", "INSERT INTO old VALUES(1), (2)"]));
        let sql = format!(
            "{settings}; PRAGMA user_version = 7; PRAGMA application_id = 9;
             CREATE TABLE t(x TEXT UNIQUE); INSERT INTO t(rowid, x) VALUES(5, 'grün'), (9, 'b');
             CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO a VALUES(41); DELETE FROM a;
             CREATE VIEW v AS SELECT x FROM t; CREATE INDEX i ON t(length(x));
             CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO a VALUES(NULL); END;
             CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES('quick fox'); ANALYZE; {LARGE}"
        );
        let actions = entries_of(3, &file(&sql));
        assert!(actions.len() > 3, "{settings}");
        for action in actions {
            assert_eq!(node.apply(action).request_error, None, "{settings}");
        }
        assert_eq!(node.parts(), 0);
        assert_eq!(node.texts("SELECT rowid || x FROM t ORDER BY rowid"), ["5grün", "9b"]);
        assert_eq!(node.texts("SELECT name FROM sqlite_schema WHERE name = 'old'"), [""; 0]);
        assert_eq!(
            node.texts("SELECT user_version || application_id FROM pragma_user_version, pragma_application_id"),
            ["79"]
        );
        assert_eq!(node.texts("SELECT x FROM f('fox')"), ["quick fox"]);
        assert_eq!(node.texts("PRAGMA integrity_check"), ["ok"]);
        assert_eq!(node.texts("PRAGMA journal_mode"), ["wal"]);
        // Writing goes on, with the numbers of a new connection.
        assert_eq!(show(&node.apply(execute(&["CREATE TABLE n(x)"]))), ["0/0"], "{settings}");
        assert_eq!(show(&node.apply(execute(&["INSERT INTO t(x) VALUES('c')"]))), ["10/1"], "{settings}");
        assert_eq!(node.texts("SELECT max(id) || '' FROM a"), ["42"]);
        let (hash, dump) = (node.hash(), dump::logical_dump(node.writer().connection()).unwrap());
        node.restart();
        assert_eq!((node.hash(), dump::logical_dump(node.writer().connection()).unwrap()), (hash, dump));
        assert_eq!(node.texts("SELECT count(*) || '' FROM a"), ["1"]);
    }
}

#[test]
fn what_is_not_of_the_data_survives_the_exchange() {
    let mut node = Node::new();
    let membership: std::sync::Arc<[u8]> = b"a,b,c".as_slice().into();
    node.apply_item(LogId { term: Term(1), index: Index(1) }, Item::Membership(membership));
    let write = execute(&["CREATE TABLE t(x)"]);
    let key = |key: &str, action: &Action| Some(RequestId::from_client(key.as_bytes(), Index(0), action).unwrap());
    node.apply_as(key("w", &write), write.clone());
    node.apply(Action::Vacuum);
    let before = node.writer().applied();
    let mut actions = entries_of(3, &file("CREATE TABLE t(y)"));
    let commit = actions.pop().unwrap();
    actions.into_iter().for_each(|action| drop(node.apply(action)));
    let loaded = node.apply_as(key("l", &commit), commit);
    assert_eq!((loaded.repeat, loaded.request_error), (Repeat::First, None));
    for _ in 0..2 {
        let after = node.writer().applied();
        assert_eq!((after.vacuum_us, after.created_us), (before.vacuum_us, before.created_us));
        assert!(after.time_us > before.time_us && after.changed == after.id.index);
        assert_eq!(node.writer().membership().unwrap(), b"a,b,c");
        assert_eq!(node.writer().membership_index(), Ok(Index(1)));
        node.restart();
    }
    // A repeat of what was before is known, and so is a repeat of the load, which exchanges nothing.
    let repeat = node.apply_as(key("w", &write), write.clone());
    assert_eq!(repeat.repeat, Repeat::Of(LogId { term: Term(1), index: Index(2) }));
    let mut actions = entries_of(4, &file("CREATE TABLE t(y)"));
    let commit = actions.pop().unwrap();
    actions.into_iter().for_each(|action| drop(node.apply(action)));
    node.apply(execute(&["CREATE TABLE kept(x)"]));
    assert_eq!(node.parts(), 1);
    let repeat = node.apply_as(key("l", &commit), commit);
    assert!(matches!(repeat.repeat, Repeat::Of(_)));
    assert_eq!(node.texts("SELECT name FROM sqlite_schema WHERE name = 'kept'"), ["kept"]);
    assert_eq!(node.parts(), 0, "parts that nobody needs are let go");
    let mut other = entries_of(5, &file("CREATE TABLE u(y)"));
    let commit = other.pop().unwrap();
    other.into_iter().for_each(|action| drop(node.apply(action)));
    assert!(matches!(node.apply_as(key("l", &commit), commit).repeat, Repeat::OtherRequest(_)));
}

#[test]
fn nodes_that_apply_the_same_log_stay_equal_over_restarts_and_copies() {
    let mut log = vec![execute(&["CREATE TABLE old(x)", "INSERT INTO old VALUES(1)"])];
    log.extend(entries_of(3, &file(LARGE)));
    log.insert(3, execute(&["INSERT INTO old VALUES(random())"]));
    log.push(execute(&["INSERT INTO large(x) VALUES(random())", "CREATE TABLE more(x)"]));
    let (mut one, mut other) = (Node::new(), Node::new());
    for action in &log {
        one.apply(action.clone());
        other.apply(action.clone());
        other.restart();
        assert_eq!(one.hash(), other.hash());
    }
    // A node that is given a copy in the middle of it goes on like the rest.
    let (mut early, scratch) = (Node::new(), Scratch::new());
    log[..3].iter().for_each(|action| drop(early.apply(action.clone())));
    let mut source = CopySource::open(&early.scratch.file()).unwrap();
    let mut target = CopyTarget::create(scratch.dir(), source.meta()).unwrap();
    let mut pages = Vec::new();
    while source.read(target.pages(), &mut pages).unwrap() > 0 {
        target.write(&pages).unwrap();
    }
    let incoming = target.finish(source.checksum().unwrap()).unwrap();
    let options = WriterOptions { foreign_keys: false, cluster: ClusterId(1) };
    let writer = open_with(&scratch.file(), false).replace_with(incoming, &options).unwrap();
    let mut late = Node { writer: Some(writer), scratch, time_us: TIME_US };
    log[3..].iter().for_each(|action| drop(late.apply(action.clone())));
    assert_eq!(late.hash(), one.hash());
    assert_eq!(one.texts("SELECT count(*) || '' FROM large"), ["3001"]);
}

#[test]
fn a_load_that_is_not_whole_changes_nothing() {
    let mut node = Node::new();
    node.apply(execute(&["CREATE TABLE old(x)"]));
    let file = file(LARGE);
    let first = entries_of(1, &file);
    let second = entries_of(2, &file);
    let error = |outcome: Outcome| outcome.request_error.unwrap_or_default();
    // Without its parts, with some of them, with a gap.
    assert_eq!(error(node.apply(first.last().unwrap().clone())), TEXT_GIVEN_UP);
    assert_eq!(error(node.apply(first[1].clone())), TEXT_GIVEN_UP);
    assert_eq!(error(node.apply(first[0].clone())), "");
    assert_eq!(error(node.apply(first[2].clone())), TEXT_GIVEN_UP);
    assert_eq!(error(node.apply(first.last().unwrap().clone())), TEXT_GIVEN_UP);
    // A newer one takes its place.
    assert_eq!(node.parts(), 1);
    assert_eq!(error(node.apply(second[0].clone())), "");
    assert_eq!(error(node.apply(first[1].clone())), TEXT_GIVEN_UP);
    assert_eq!(node.parts(), 1);
    // One that is not gone on with is let go, in memory and on disk.
    node.restart();
    node.time_us += LOAD_KEPT_US + 1;
    node.apply(execute(&["INSERT INTO old VALUES(1)"]));
    assert_eq!(node.parts(), 0);
    assert_eq!(error(node.apply(second[1].clone())), TEXT_GIVEN_UP);
    // Parts that are not what was sent.
    for action in &second {
        let action = match action {
            Action::LoadCommit(commit) => Action::LoadCommit(LoadCommit { hash: [1; 32], ..commit.clone() }),
            action => action.clone(),
        };
        let is_last = matches!(action, Action::LoadCommit(_));
        assert_eq!(error(node.apply(action)), if is_last { TEXT_DAMAGED } else { "" });
    }
    assert_eq!(node.parts(), 0);
    assert_eq!(node.texts("SELECT count(*) || '' FROM old"), ["1"]);
    assert!(!node.scratch.dir().join("db.sqlite.loaded").exists());
    // And all is well afterwards.
    second.into_iter().for_each(|action| assert_eq!(error(node.apply(action)), ""));
    assert_eq!(node.texts("SELECT count(*) || '' FROM large"), ["3000"]);
}

/// Who applies entries must know of exchanges: a batch that holds one and does not make it would be lost.
#[test]
fn a_batch_never_passes_over_an_exchange() {
    let mut node = Node::new();
    let mut actions = entries_of(1, &file("CREATE TABLE t(y)"));
    let commit = actions.pop().unwrap();
    actions.into_iter().for_each(|action| drop(node.apply(action)));
    let id = LogId { term: Term(1), index: node.writer().applied().id.index.next() };
    let command = Command { unix_time_us: 1, seed: 1, action: commit, request: None };
    assert!(node.writer().apply_batch(&[(id, Item::Command(command))]).is_err());
}

#[test]
fn a_crash_at_any_step_leaves_the_old_database_or_the_new_one() {
    let mut node = Node::new();
    node.apply(execute(&["CREATE TABLE old(x)", "INSERT INTO old VALUES(1)"]));
    let mut actions = entries_of(3, &file(LARGE));
    let commit = actions.pop().unwrap();
    actions.into_iter().for_each(|action| drop(node.apply(action)));
    let id = LogId { term: Term(1), index: node.writer().applied().id.index.next() };
    let command = Command { unix_time_us: TIME_US, seed: 1, action: commit, request: None };
    let at_steps = copy_tests::left_at_steps(|| {
        node.apply_item(id, Item::Command(command.clone()));
    });
    assert!(at_steps.len() >= 8, "{}", at_steps.len());
    let whole = node.hash();
    let mut exchanged = 0;
    for left in at_steps {
        discard(left.dir()).unwrap();
        let writer = Some(open_with(&left.file(), false));
        let mut node = Node { writer, scratch: left, time_us: TIME_US };
        let applied = node.writer().applied().id;
        if applied == id {
            exchanged += 1;
        } else {
            assert_eq!(
                (applied.index.next(), node.texts("SELECT count(*) || '' FROM old")),
                (id.index, vec!["1".to_owned()])
            );
            node.apply_item(id, Item::Command(command.clone()));
        }
        assert_eq!(node.hash(), whole);
    }
    assert!(exchanged > 0);
}

/// What was taken must not bring a node down later.
fn use_it(file: &[u8]) {
    let mut node = Node::new();
    for action in entries_of(1, file) {
        node.apply(action);
    }
    node.hash();
    for sql in
        ["INSERT INTO t VALUES(7, 8)", "UPDATE t SET y = x", "ALTER TABLE t ADD COLUMN z", "DELETE FROM t", "VACUUM"]
    {
        node.apply(execute(&[sql]));
    }
    node.hash();
    node.restart();
}

#[test]
fn damaged_files_are_refused_and_nothing_panics() {
    let whole = file(&format!("CREATE TABLE t(x PRIMARY KEY, y) WITHOUT ROWID; CREATE INDEX i ON t(y); {LARGE}"));
    assert!(refusal(Vec::new()).contains("too short"));
    assert!(refusal(b"SQLite format 3\0".to_vec()).contains("too short"));
    for length in [100, 512, 4096, whole.len() - 4096, whole.len() - 1] {
        let text = refusal(whole[..length].to_vec());
        assert!(text.contains("not whole"), "{length}: {text}");
    }
    let mut zeroed = whole.clone();
    zeroed[5 * 4096..6 * 4096].fill(0);
    assert!(refusal(zeroed).contains("damaged"));
    // Every bit of the header that means something to SQLite, and bits all over the pages. The view is there because SQLite's own
    // check leaves out the list of free pages where it meets one first.
    let small =
        file("CREATE TABLE t(x PRIMARY KEY, y); INSERT INTO t VALUES(1, 2), ('a', 'b'); CREATE VIEW v AS SELECT 1");
    let header = [16..60, 64..68, 92..96].into_iter().flatten().flat_map(|byte| (0..8).map(move |bit| byte * 8 + bit));
    for bit in header.chain((800..small.len() * 8).step_by(997)) {
        let mut flipped = small.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if Upload::check(Source::Memory(flipped.clone())).is_ok() {
            use_it(&flipped);
        }
    }
    // Behind the header anything may stand.
    let mut random = small[..100].to_vec();
    random.extend((100..small.len()).map(|n| (n * n % 251) as u8));
    refusal(random);
}

#[test]
fn schemas_that_clients_could_not_make_are_refused() {
    let hack = |sql: &str| {
        file(&format!("CREATE TABLE t(a, b); CREATE VIRTUAL TABLE f USING fts5(x); PRAGMA writable_schema = ON; {sql}"))
    };
    for (sql, expected) in [
        ("CREATE TABLE sqlite_ferrolite_x(y)", "reserved"),
        ("CREATE TABLE sqlite_other(y)", "reserved"),
        ("CREATE TABLE sqlite_stat1(tbl, idx, stat, more)", "reserved"),
        ("CREATE VIEW sqlite_stat4 AS SELECT 1", "reserved"),
        (
            "INSERT INTO sqlite_schema VALUES('view', 'sqlite_ferrolite', 'sqlite_ferrolite', 0, 'CREATE VIEW x AS SELECT 1')",
            "",
        ),
        ("UPDATE sqlite_schema SET sql = replace(sql, 'fts5', 'nope') WHERE name = 'f'", "no such module: nope"),
        ("UPDATE sqlite_schema SET sql = replace(sql, 'fts5(x)', 'dbstat') WHERE name = 'f'", "prohibited"),
        ("UPDATE sqlite_schema SET sql = 'CREATE TABLE u(a, b)' WHERE name = 't'", "malformed"),
        ("CREATE TABLE c(x REFERENCES sqlite_ferrolite)", "sqlite_ferrolite"),
        ("CREATE TABLE c(x REFERENCES f_data)", "virtual tables"),
        ("CREATE INDEX i ON t(\"no such column\")", "no such column"),
        ("CREATE TABLE g(a, b AS (\"text\"))", "no such column"),
        ("INSERT INTO sqlite_schema VALUES('trigger', 'g', 't', 0, 'SELECT 1')", ""),
        ("INSERT INTO sqlite_schema VALUES('table', x'ff', 't', 0, 'CREATE TABLE x(y)')", ""),
    ] {
        let text = refusal(hack(sql));
        assert!(text.contains(expected), "{sql}: {text}");
    }
    let fine = "CREATE TABLE c(a CHECK(a IN (\"x\", \"y\")), b DEFAULT \"z\"); CREATE TABLE p(id INTEGER PRIMARY KEY);
                CREATE TABLE q(p REFERENCES p); CREATE VIEW broken AS SELECT * FROM nowhere;
                CREATE VIEW w AS SELECT a FROM t; CREATE TRIGGER i INSTEAD OF INSERT ON w BEGIN SELECT 1; END;
                CREATE VIRTUAL TABLE r USING rtree(id, x0, x1); CREATE VIRTUAL TABLE e USING fts5(a, content='t');
                CREATE VIRTUAL TABLE o USING fts4(a)";
    Upload::check(Source::Memory(hack(fine))).map(drop).unwrap();
}

/// The file of a node's database is what an operator has at hand, and what it says of the node must not come along.
#[test]
fn a_copy_of_a_nodes_own_file_is_taken_without_our_table() {
    let mut other = Node::new();
    other.apply(execute(&["CREATE TABLE t(x)", "INSERT INTO t VALUES('theirs')"]));
    let copy = other.scratch.dir().join("copy");
    other.writer().connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    std::fs::copy(other.scratch.file(), &copy).unwrap();
    let mut node = Node::new();
    node.apply(execute(&["CREATE TABLE mine(x)"]));
    let at = node.writer().applied().id.index;
    for action in entries_of(1, &std::fs::read(&copy).unwrap()) {
        assert_eq!(node.apply(action).request_error, None);
    }
    assert!(node.writer().applied().id.index > at);
    assert_eq!(node.texts("SELECT x FROM t"), ["theirs"]);
    assert_eq!(node.texts("SELECT name FROM sqlite_schema ORDER BY 1"), ["sqlite_ferrolite", "t"]);
}

#[test]
fn a_part_is_as_large_as_all_nodes_expect() {
    let mut upload = Upload::check(Source::Memory(file(LARGE))).unwrap();
    let mut lengths = Vec::new();
    while let Some(chunk) = upload.next_chunk().unwrap() {
        lengths.push(chunk.len());
    }
    let last = lengths.pop().unwrap();
    assert!(lengths.iter().all(|length| *length == LOAD_CHUNK_BYTES) && last > 0 && last <= LOAD_CHUNK_BYTES);
    assert_eq!(upload.bytes(), (lengths.len() * LOAD_CHUNK_BYTES + last) as u64);
    assert!(upload.check_room(Path::new("/")).is_ok());
}

mod script {
    //! SQL texts: transactions in them, and what a crash between their statements leaves.

    use super::*;
    use crate::db::tests::{CRASH_AFTER, Node};

    fn script(sql: &str) -> Action {
        let statements = vec![Statement { sql: sql.to_owned(), parameters: Vec::new() }];
        Action::Script(Request { statements, ..Request::default() })
    }

    fn load(node: &mut Node, sql: &str) -> String {
        show(&node.one(script(sql))).join("|")
    }

    #[test]
    fn transactions_hold_and_errors_end_the_text() {
        let mut node = Node::new();
        assert_eq!(load(&mut node, "CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES(4, 1);"), "4/1");
        assert_eq!(load(&mut node, "BEGIN; INSERT INTO t VALUES(5, 1); INSERT INTO t(x) VALUES(2); COMMIT;"), "6/1");
        assert_eq!(load(&mut node, "INSERT INTO t VALUES(7, 1); nonsense"), "error: near \"nonsense\": syntax error");
        assert_eq!(node.integer("SELECT count(*) FROM t"), 4, "what came before the error stays");
        let both = "INSERT INTO t VALUES(8, 1); BEGIN; INSERT INTO t VALUES(9, 1); INSERT INTO t VALUES(9, 1); COMMIT";
        assert_eq!(load(&mut node, both), "error: UNIQUE constraint failed: t.id");
        assert_eq!(node.integer("SELECT max(id) FROM t"), 8, "the transaction is rolled back, and nothing else");
        let undone = "BEGIN; DELETE FROM t; ROLLBACK; BEGIN; INSERT INTO t VALUES(10, 1); END TRANSACTION";
        assert_eq!(load(&mut node, undone), "10/1");
        assert_eq!(node.integer("SELECT count(*) FROM t"), 6);
        assert!(load(&mut node, "BEGIN; DELETE FROM t").contains("COMMIT is missing"));
        assert_eq!(load(&mut node, "BEGIN; BEGIN"), "error: cannot start a transaction within a transaction");
        assert_eq!(load(&mut node, "COMMIT"), "error: cannot commit - no transaction is active");
        assert_eq!(load(&mut node, "ROLLBACK"), "error: cannot rollback - no transaction is active");
        assert!(load(&mut node, "SAVEPOINT x").contains("not allowed"));
        assert_eq!(
            load(&mut node, "BEGIN; INSERT OR ROLLBACK INTO t VALUES(10, 1); COMMIT"),
            "error: UNIQUE constraint failed: t.id"
        );
        assert_eq!(load(&mut node, "INSERT INTO t VALUES(11, 1) RETURNING id; SELECT 5"), "11/1", "no rows");
        assert_eq!(load(&mut node, "-- nothing"), "0/0");
        assert_eq!(load(&mut node, "VACUUM; INSERT INTO t VALUES(12, 1)"), "12/1");
        assert_eq!(node.integer("SELECT count(*) FROM t"), 8);
        // None of it holds where it is not a script, whatever was compiled before.
        for sql in ["BEGIN", "COMMIT", "ROLLBACK"] {
            assert!(node.execute(&[sql])[0].starts_with("error: BEGIN, COMMIT"), "{sql}");
        }
        assert!(load(&mut node, "ATTACH 'x' AS y").contains("not allowed"));
        assert_eq!(load(&mut node, "DELETE FROM sqlite_ferrolite"), "error: access to sqlite_ferrolite is prohibited");
    }

    #[test]
    fn foreign_keys_are_off_up_to_the_end_of_the_text_and_deferred_ones_count_at_the_commit() {
        let mut node = Node::with_foreign_keys(true);
        let child_first = "BEGIN; CREATE TABLE a(x REFERENCES b(id)); INSERT INTO a VALUES(1);
                           CREATE TABLE b(id INTEGER PRIMARY KEY); INSERT INTO b VALUES(1); COMMIT;";
        assert_eq!(load(&mut node, child_first), "error: no such table: main.b");
        assert_eq!(load(&mut node, &format!("PRAGMA foreign_keys=OFF; {child_first}")), "1/1");
        assert_eq!(load(&mut node, "INSERT INTO a VALUES(2)"), "error: FOREIGN KEY constraint failed");
        let inside = "BEGIN; PRAGMA foreign_keys=OFF; INSERT INTO a VALUES(2); COMMIT";
        assert_eq!(load(&mut node, inside), "error: FOREIGN KEY constraint failed", "no effect in a transaction");
        let again = "PRAGMA foreign_keys=OFF; INSERT INTO a VALUES(3); PRAGMA foreign_keys=ON; INSERT INTO a VALUES(4)";
        assert_eq!(load(&mut node, again), "error: FOREIGN KEY constraint failed");
        let deferred = "BEGIN; PRAGMA defer_foreign_keys=ON; INSERT INTO a VALUES(7); COMMIT";
        assert_eq!(load(&mut node, deferred), "error: FOREIGN KEY constraint failed");
        assert_eq!(node.integer("SELECT group_concat(x) = '1,3' FROM (SELECT x FROM a ORDER BY x)"), 1);
        assert_eq!(node.execute(&["INSERT INTO a VALUES(9)"]), ["error: FOREIGN KEY constraint failed"]);
    }

    #[test]
    fn a_crash_between_any_two_statements_changes_nothing_of_the_outcome() {
        let text = "PRAGMA foreign_keys=OFF; CREATE TABLE a(x REFERENCES b(id), r); INSERT INTO a VALUES(1, random());
                    BEGIN; INSERT INTO a VALUES(2, changes()), (3, total_changes()); CREATE TABLE c(x); COMMIT;
                    INSERT INTO a VALUES(4, last_insert_rowid());
                    BEGIN; DELETE FROM a; ROLLBACK; INSERT INTO c VALUES(total_changes()); ANALYZE;
                    BEGIN; CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES('a'); COMMIT; INSERT INTO a VALUES(5, 5)";
        let mut whole = Node::with_foreign_keys(true);
        let (expected, mut crashes) = (load(&mut whole, text), 0);
        assert_eq!(expected, "5/1");
        for after in 1..20 {
            let mut node = Node::with_foreign_keys(true);
            CRASH_AFTER.set(after);
            let id = LogId { term: Term(1), index: Index(1) };
            let command = Command { unix_time_us: TIME_US + 1, seed: 7, action: script(text), request: None };
            let entries = [(id, Item::Command(command))];
            let crashed = node.writer.apply_batch(&entries).is_err();
            CRASH_AFTER.set(0);
            crashes += usize::from(crashed);
            if crashed {
                node = node.restart();
                assert_eq!(show(&node.writer.apply_batch(&entries).unwrap()[0]), [expected.as_str()], "{after}");
            }
            assert_eq!(node.dump(), whole.dump(), "after {after}");
            assert_eq!(hash::of_connection(node.writer.connection()), hash::of_connection(whole.writer.connection()));
            assert!(node.execute(&["INSERT INTO a VALUES(9, 9)"])[0].starts_with("error"), "foreign keys are on again");
        }
        assert!(crashes >= 6, "{crashes}");
    }

    #[test]
    fn a_text_that_is_sent_again_is_done_once() {
        let mut node = Node::new();
        let action =
            script("CREATE TABLE t(x); BEGIN; INSERT INTO t VALUES(1); COMMIT; INSERT INTO t VALUES(2); nonsense");
        let mut outcomes = Vec::new();
        for index in 1..3 {
            let request = Some(RequestId::from_client(b"k", Index(0), &action).unwrap());
            let command = Command { unix_time_us: TIME_US, seed: 1, action: action.clone(), request };
            let entry = (LogId { term: Term(1), index: Index(index) }, Item::Command(command));
            outcomes.push(node.writer.apply_batch(&[entry]).unwrap().remove(0));
        }
        assert_eq!(show(&outcomes[0]), show(&outcomes[1]));
        assert!(matches!(outcomes[1].results[0], StatementResult::Error { .. }));
        assert_eq!(node.integer("SELECT count(*) FROM t"), 2);
    }
}
