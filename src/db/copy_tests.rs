//! Copies of a database: taken while it is written, broken off, damaged, and put in place with a crash at every step.

use super::copy::{CopyMeta, CopySource, PIECE_BYTES, READ_BYTES_MAX};
use super::incoming::{CopyTarget, INCOMING_FILE, Incoming, discard};
use super::tests::{CRASH_AFTER, Node, Scratch, execute, open_with, request_of};
use super::*;
use crate::command::{Action, Command, Request, ResultSink, StatementResult};
use raft::{ClusterId, Index, LogId, Term};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

type AtStep = Box<dyn FnMut(&Path)>;

thread_local! {
    static AT_STEP: RefCell<Option<AtStep>> = const { RefCell::new(None) };
}

/// Called at every step of putting a copy in place.
pub fn crash_here(dir: &Path) {
    let at_step = AT_STEP.take();
    if let Some(mut f) = at_step {
        f(dir);
        AT_STEP.set(Some(f));
    }
}

/// What a crash at each step of `f` would leave behind.
pub fn left_at_steps(f: impl FnOnce()) -> Vec<Scratch> {
    let left = std::rc::Rc::new(RefCell::new(Vec::new()));
    let leaves = std::rc::Rc::clone(&left);
    AT_STEP.set(Some(Box::new(move |dir| {
        let scratch = Scratch::new();
        copy_dir(dir, scratch.dir());
        leaves.borrow_mut().push(scratch);
    })));
    f();
    AT_STEP.set(None);
    left.take()
}

fn options() -> WriterOptions {
    WriterOptions { foreign_keys: false, cluster: ClusterId(1) }
}

/// A node with some MiB of data and an unfinished WAL.
fn filled(rows: usize) -> Node {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(id INTEGER PRIMARY KEY, x)", "CREATE VIRTUAL TABLE f USING fts5(x)"]);
    node.execute(&["INSERT INTO f VALUES('quick fox')"]);
    let fill = format!(
        "INSERT INTO t(x) WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g LIMIT {rows}) \
         SELECT printf('%01000d', n) FROM g"
    );
    node.execute(&[&fill]);
    node
}

fn copy_all(source: &mut CopySource, target: &mut CopyTarget) {
    let mut chunk = Vec::new();
    loop {
        let pages = source.read(target.pages(), &mut chunk).unwrap();
        if pages == 0 {
            return;
        }
        assert_eq!(chunk.len(), pages * source.meta().page_bytes as usize);
        assert!(chunk.len() <= READ_BYTES_MAX);
        target.write(&chunk).unwrap();
    }
}

fn copied(node: &Node, dir: &Path) -> Incoming {
    let mut source = CopySource::open(&node.scratch.file()).unwrap();
    let mut target = CopyTarget::create(dir, source.meta()).unwrap();
    copy_all(&mut source, &mut target);
    target.finish(source.checksum().unwrap()).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_copy_is_the_database_as_it_was_when_it_began() {
    let mut node = filled(3000);
    let membership: std::sync::Arc<[u8]> = b"a,b,c".as_slice().into();
    let at = |index| LogId { term: Term(1), index: Index(index) };
    node.writer.apply_batch(&[(at(4), Item::Membership(membership))]).unwrap();
    let (dump, hash) = (node.dump(), hash::of_connection(node.writer.connection()).unwrap());
    let mut source = CopySource::open(&node.scratch.file()).unwrap();
    let meta = source.meta().clone();
    assert_eq!((meta.cluster, meta.applied), (ClusterId(1), at(4)));
    assert_eq!((meta.membership.as_slice(), meta.membership_index), (b"a,b,c".as_slice(), Index(4)));
    assert_eq!(CopyMeta::decode(&meta.encode()), Some(meta.clone()));
    let other = Scratch::new();
    let mut target = CopyTarget::create(other.dir(), &meta).unwrap();
    let mut chunk = Vec::new();
    while source.read(target.pages(), &mut chunk).unwrap() > 0 {
        target.write(&chunk).unwrap();
        // Writing goes on, and checkpoints too.
        node.execute(&["UPDATE t SET x = randomblob(1000) WHERE id % 7 = 0", "INSERT INTO t(x) VALUES(1)"]);
        node.writer.checkpoint().unwrap();
    }
    let incoming = target.finish(source.checksum().unwrap()).unwrap();
    assert_eq!(incoming.applied(), at(4));
    assert_eq!(names(other.dir()), [INCOMING_FILE]);
    drop(source);
    // It takes the place of a database that knew something else.
    let mut old = open_with(&other.file(), false);
    old.apply_batch(&[(at(1), Item::Noop)]).unwrap();
    let writer = old.replace_with(incoming, &options()).unwrap();
    assert_eq!(writer.applied().id, at(4));
    assert_eq!(writer.installed_snapshot(), Ok(Some(at(4))));
    assert_eq!(
        (writer.membership().unwrap().as_slice(), writer.membership_index()),
        (b"a,b,c".as_slice(), Ok(Index(4)))
    );
    assert_eq!(dump::logical_dump(writer.connection()).unwrap(), dump);
    assert_eq!(hash::of_connection(writer.connection()).unwrap(), hash);
    assert_eq!(writer.connection().query_texts("PRAGMA integrity_check").unwrap(), ["ok"]);
    assert_eq!(writer.connection().query_texts("PRAGMA journal_mode").unwrap(), ["wal"]);
    assert_eq!(node.writer.installed_snapshot(), Ok(None));
}

#[test]
fn a_copy_that_was_broken_off_goes_on_where_it_is_safe() {
    let node = filled(9500);
    let mut source = CopySource::open(&node.scratch.file()).unwrap();
    let meta = source.meta().clone();
    assert!(meta.bytes() > 9 * PIECE_BYTES as u64);
    let dir = Scratch::new();
    assert!(CopyTarget::resume(dir.dir(), &meta).is_none());
    let mut target = CopyTarget::create(dir.dir(), &meta).unwrap();
    let mut chunk = Vec::new();
    let per_page = u64::from(meta.page_bytes);
    while target.pages() * per_page < 6 * PIECE_BYTES as u64 {
        source.read(target.pages(), &mut chunk).unwrap();
        // In pieces that fit nothing.
        chunk.chunks(1000).for_each(|bytes| target.write(bytes).unwrap());
    }
    drop(target);
    let other = CopyMeta { copy_id: 1, ..meta.clone() };
    assert!(CopyTarget::resume(dir.dir(), &other).is_none(), "pages of two snapshots never mix");
    let mut target = CopyTarget::resume(dir.dir(), &meta).unwrap();
    assert_eq!(target.pages() * per_page, 4 * PIECE_BYTES as u64, "what was not synced is asked for again");
    copy_all(&mut source, &mut target);
    let checksum = source.checksum().unwrap();
    // The sender may have forgotten what it sent: it finds the same checksum.
    let incoming = target.finish(checksum).unwrap();
    assert!(CopyTarget::resume(dir.dir(), &meta).is_none());
    let writer = open_with(&dir.file(), false).replace_with(incoming, &options()).unwrap();
    assert_eq!(dump::logical_dump(writer.connection()).unwrap(), node.dump());

    // A state that lies about itself, or a file that is shorter than it says, is not trusted.
    let half = |dir: &Scratch| {
        let mut source = CopySource::open(&node.scratch.file()).unwrap();
        let mut target = CopyTarget::create(dir.dir(), source.meta()).unwrap();
        let mut chunk = Vec::new();
        while target.pages() * per_page < 5 * PIECE_BYTES as u64 {
            source.read(target.pages(), &mut chunk).unwrap();
            target.write(&chunk).unwrap();
        }
        source
    };
    let source = half(&dir);
    let state = dir.dir().join("db.sqlite.incoming-state");
    let mut bytes = std::fs::read(&state).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&state, &bytes).unwrap();
    assert!(CopyTarget::resume(dir.dir(), source.meta()).is_none());
    bytes[9] ^= 1;
    std::fs::write(&state, &bytes).unwrap();
    assert!(CopyTarget::resume(dir.dir(), source.meta()).is_some());
    std::fs::OpenOptions::new().write(true).open(dir.dir().join(INCOMING_FILE)).unwrap().set_len(1000).unwrap();
    assert!(CopyTarget::resume(dir.dir(), source.meta()).is_none());
    discard(dir.dir()).unwrap();
    assert_eq!(names(dir.dir()), ["db.sqlite", "db.sqlite-shm", "db.sqlite-wal"]);
}

#[test]
fn a_source_that_begins_in_the_middle_has_the_checksum_of_the_whole() {
    let node = filled(3000);
    let mut source = CopySource::open(&node.scratch.file()).unwrap();
    let mut chunk = Vec::new();
    let last = source.meta().pages - 1;
    assert_eq!(source.read(last, &mut chunk).unwrap(), 1);
    let checksum = source.checksum().unwrap();
    let mut whole = copy::CopyHash::new(source.meta());
    let mut page = 0;
    loop {
        let pages = source.read(page, &mut chunk).unwrap();
        if pages == 0 {
            break;
        }
        whole.add(&chunk);
        page += pages as u64;
    }
    assert_eq!(page, source.meta().pages);
    assert_eq!(whole.checksum(), checksum);
    assert_eq!(source.read(u64::MAX, &mut chunk).unwrap(), 0);
}

#[test]
fn a_damaged_or_short_copy_is_refused() {
    let node = filled(100);
    let dir = Scratch::new();
    let mut source = CopySource::open(&node.scratch.file()).unwrap();
    let meta = source.meta().clone();
    let mut chunk = Vec::new();
    source.read(0, &mut chunk).unwrap();
    let checksum = source.checksum().unwrap();

    let mut target = CopyTarget::create(dir.dir(), &meta).unwrap();
    target.write(&chunk[..chunk.len() - 1]).unwrap();
    assert!(target.finish(checksum).unwrap_err().contains("not whole"));

    let mut target = CopyTarget::create(dir.dir(), &meta).unwrap();
    target.write(&chunk).unwrap();
    assert!(target.write(&[0]).is_err());
    assert!(target.finish([7; 32]).unwrap_err().contains("checksum"));
    assert!(names(dir.dir()).is_empty());

    let mut damaged = chunk.clone();
    damaged[5000] ^= 1;
    let mut target = CopyTarget::create(dir.dir(), &meta).unwrap();
    target.write(&damaged).unwrap();
    assert!(target.finish(checksum).is_err());

    // A sender that is wrong about what it sends.
    let applied = LogId { index: Index(99), ..meta.applied };
    for wrong in [
        CopyMeta { applied, ..meta.clone() },
        CopyMeta { cluster: ClusterId(3), ..meta.clone() },
        CopyMeta { membership: vec![1], ..meta.clone() },
    ] {
        let mut target = CopyTarget::create(dir.dir(), &wrong).unwrap();
        target.write(&chunk).unwrap();
        let mut hash = copy::CopyHash::new(&wrong);
        hash.add(&chunk);
        assert!(target.finish(hash.checksum()).is_err(), "{wrong:?}");
        assert!(names(dir.dir()).is_empty());
    }
    for (at, value) in [(0, None), (56, Some(0)), (56, Some(3)), (60, Some(0)), (64, Some(255))] {
        let mut bytes = meta.encode();
        match value {
            None => bytes.truncate(67),
            Some(value) => bytes[at..at + 4].fill(value),
        }
        assert_eq!(CopyMeta::decode(&bytes), None, "{at}");
    }
}

#[test]
fn a_copy_taken_within_an_entry_goes_on_with_it() {
    let statements = ["CREATE VIRTUAL TABLE f USING fts5(x)", "INSERT INTO f VALUES(random())", "VACUUM"];
    let command = Command { unix_time_us: 1, seed: 9, action: execute(&statements), request: None };
    let entry = [(LogId { term: Term(1), index: Index(1) }, Item::Command(command))];
    let mut whole = Node::new();
    whole.writer.apply_batch(&entry).unwrap();
    let mut node = Node::new();
    CRASH_AFTER.set(2);
    assert!(node.writer.apply_batch(&entry).is_err());
    CRASH_AFTER.set(0);
    assert!(HashSource::pin(&node.scratch.file()).is_err(), "half an entry has no hash");
    let dir = Scratch::new();
    let incoming = copied(&node, dir.dir());
    let mut writer = open_with(&dir.file(), false).replace_with(incoming, &options()).unwrap();
    writer.apply_batch(&entry).unwrap();
    assert_eq!(dump::logical_dump(writer.connection()).unwrap(), whole.dump());
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names(from) {
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

#[test]
fn a_crash_at_any_step_leaves_the_old_or_the_new_database() {
    let new = filled(200);
    let mut old = Node::new();
    old.execute(&["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"]);
    old.writer.commit_full().unwrap();
    old.execute(&["INSERT INTO t VALUES(2)"]);
    let (old_dump, new_dump) = (old.dump(), new.dump());
    let crashes = Scratch::new();
    let crashes_dir = crashes.dir().to_owned();
    let mut count = 0;
    AT_STEP.set(Some(Box::new(move |dir| {
        count += 1;
        copy_dir(dir, &crashes_dir.join(format!("{count:02}")));
    })));
    let Node { writer, scratch, .. } = old;
    let incoming = copied(&new, scratch.dir());
    let writer = writer.replace_with(incoming, &options()).unwrap();
    AT_STEP.set(None);
    assert_eq!(dump::logical_dump(writer.connection()).unwrap(), new_dump);
    drop(writer);
    assert_eq!(names(scratch.dir()), ["db.sqlite"]);

    let steps = names(crashes.dir());
    assert!(steps.len() >= 10, "{steps:?}");
    let mut is_new_seen = false;
    for step in steps {
        let dir: PathBuf = crashes.dir().join(&step);
        let writer = open_with(&dir.join("db.sqlite"), false);
        let dump = dump::logical_dump(writer.connection()).unwrap();
        let is_new = dump == new_dump;
        assert!(is_new || dump == old_dump, "after step {step}");
        assert!(is_new || !is_new_seen, "once new, always new: step {step}");
        assert_eq!(writer.installed_snapshot().unwrap().is_some(), is_new, "after step {step}");
        assert_eq!(writer.connection().query_texts("PRAGMA integrity_check").unwrap(), ["ok"], "after step {step}");
        is_new_seen |= is_new;
        // What is left of the copy is in nobody's way.
        drop(writer);
        discard(&dir).unwrap();
        assert_eq!(names(&dir), ["db.sqlite"], "after step {step}");
    }
    assert!(is_new_seen);
}

#[test]
fn reads_wait_while_the_database_is_replaced() {
    let new = filled(10);
    let mut old = Node::new();
    old.execute(&["CREATE TABLE old(x)"]);
    let readers = std::sync::Arc::new(Readers::open(&old.scratch.file(), ReaderOptions::default()));
    let count = |readers: &Readers, deadline: Duration| {
        let mut sink: Vec<StatementResult> = Vec::new();
        let sql: Request = request_of(&["SELECT count(*) FROM t"]);
        let read = readers.query(&sql, Some(Instant::now() + deadline), &mut sink as &mut dyn ResultSink);
        read.map(|()| sink)
    };
    assert!(matches!(count(&readers, Duration::from_secs(9)).unwrap()[0], StatementResult::Error { .. }));
    let incoming = copied(&new, old.scratch.dir());
    readers.hold(Duration::from_secs(1));
    assert_eq!(readers.status().open, 0);
    assert_eq!(count(&readers, Duration::from_millis(20)), Err(ReadError::DeadlineExceeded));
    let waiting = std::thread::spawn({
        let readers = std::sync::Arc::clone(&readers);
        move || count(&readers, Duration::from_secs(60))
    });
    let waits = || readers.status().wait_count;
    let Node { writer, scratch: _scratch, .. } = old;
    let writer = writer.replace_with(incoming, &options()).unwrap();
    assert_eq!(waits(), 1, "only the one that gave up is counted yet");
    readers.reopen();
    let results = waiting.join().unwrap().unwrap();
    assert!(matches!(&results[0], StatementResult::Rows { rows, .. } if rows.len() == 1), "{results:?}");
    drop(writer);
}

#[test]
fn a_database_that_others_read_is_not_replaced() {
    let new = filled(10);
    let mut old = Node::new();
    old.execute(&["CREATE TABLE old(x)"]);
    let reading = CopySource::open(&old.scratch.file()).unwrap();
    old.execute(&["INSERT INTO old VALUES(1)"]);
    let incoming = copied(&new, old.scratch.dir());
    let dump = old.dump();
    let Node { writer, scratch, .. } = old;
    let fatal = writer.replace_with(incoming, &options()).err().unwrap();
    assert!(fatal.text.contains("others read it"), "{fatal}");
    drop(reading);
    let writer = open_with(&scratch.file(), false);
    assert_eq!(dump::logical_dump(writer.connection()).unwrap(), dump);
}

#[test]
fn ids_of_requests_travel_with_the_copy() {
    let mut node = Node::new();
    node.execute(&["CREATE TABLE t(x)"]);
    let action = execute(&["INSERT INTO t VALUES(1)"]);
    let request = crate::command::RequestId::from_client(b"k", Index(0), &action).ok();
    let command = Command { unix_time_us: 1, seed: 9, action, request };
    let at = |index| LogId { term: Term(1), index: Index(index) };
    node.writer.apply_batch(&[(at(2), Item::Command(command.clone()))]).unwrap();
    let dir = Scratch::new();
    let incoming = copied(&node, dir.dir());
    let mut writer = open_with(&dir.file(), false).replace_with(incoming, &options()).unwrap();
    let outcome = writer.apply_batch(&[(at(3), Item::Command(command))]).unwrap().remove(0);
    assert_eq!(outcome.repeat, crate::command::Repeat::Of(at(2)));
    let barrier = Command { unix_time_us: 1, seed: 9, action: Action::Barrier, request: None };
    writer.apply_batch(&[(at(4), Item::Command(barrier))]).unwrap();
    assert_eq!(writer.installed_snapshot(), Ok(Some(at(2))), "it says what was copied, whatever came after");
}
