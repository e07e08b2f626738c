//! Many short reads that overlap, one read that takes long, and writes all the while, against the real binary.
//!
//! Prevents: a `-wal` file that grows for as long as there are reads, reads that stand still meanwhile, and writes that do.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::http::encode;
use support::{Node, TempDir, poll};

const READERS: usize = 6;
/// Some milliseconds each, so that with several readers there is never a moment without one.
const SHORT_READ: &str =
    "SELECT count(*), (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 40000)
                          SELECT sum(n) FROM c) FROM t";
/// Written in all: without limits the file would get as large.
const WRITTEN_BYTES: u64 = 300 << 20;
const VALUE_BYTES: u64 = 400_000;
const WAL_BYTES_MAX: u64 = 100 << 20;
/// One test at a time: how long reads take is what they are about.
static ALONE: Mutex<()> = Mutex::new(());
/// Far more than any read or write should wait for the file to be cut back, even on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(5);

fn wal_bytes(data: &Path) -> u64 {
    std::fs::metadata(data.join("db.sqlite-wal")).map_or(0, |file| file.len())
}

struct Readers {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Duration>>,
}

impl Readers {
    fn start(node: &Node) -> Readers {
        let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let read = |_| {
            let (mut client, stop, reads) = (node.client(), Arc::clone(&stop), Arc::clone(&reads));
            std::thread::spawn(move || {
                let path = format!("/db/query?level=none&q={}", encode(SHORT_READ));
                let mut slowest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let reply = client.get(&path).expect("the node answers");
                    assert!(reply.text().contains("800020000"), "{}", reply.text());
                    slowest = slowest.max(began.elapsed());
                    reads.fetch_add(1, Ordering::Relaxed);
                }
                slowest
            })
        };
        let threads = (0..READERS).map(read).collect();
        Readers { stop, reads, threads }
    }

    fn finish(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let slowest = self.threads.into_iter().map(|t| t.join().expect("a reader panicked, see above")).max();
        (self.reads.load(Ordering::Relaxed), slowest.expect("there are readers"))
    }
}

/// Replaces values until so many bytes are written; gives the largest size of the file and the slowest write.
fn write(node: &Node, data: &Path, bytes: u64) -> (u64, Duration) {
    let mut client = node.client();
    let (mut largest, mut slowest) = (0, Duration::ZERO);
    for n in 0..bytes / VALUE_BYTES {
        let body = format!(r#"["UPDATE t SET x = randomblob({VALUE_BYTES}) WHERE id = {}"]"#, n % 20 + 1);
        let began = Instant::now();
        let reply = client.post("/db/execute", &body).expect("the node answers");
        assert!(reply.text().contains("\"rows_affected\":1"), "{}", reply.text());
        slowest = slowest.max(began.elapsed());
        largest = largest.max(wal_bytes(data));
    }
    (largest, slowest)
}

fn started(data: &Path) -> Node {
    let node = Node::start(data, &[]);
    node.execute(r#"["CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)"]"#);
    let rows =
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 20) INSERT INTO t SELECT n, 0 FROM c";
    node.execute(&format!("[\"{rows}\"]"));
    node
}

#[test]
fn reads_that_overlap_do_not_let_the_wal_file_grow_and_go_on() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new("wal-growth");
    let data = dir.path().join("data");
    let node = started(&data);
    let readers = Readers::start(&node);
    let (largest, slowest_write) = write(&node, &data, WRITTEN_BYTES);
    let (reads, slowest_read) = readers.finish();
    println!("{} MB at most, {reads} reads, slowest {slowest_read:?}, slowest write {slowest_write:?}", largest >> 20);
    assert!(largest < WAL_BYTES_MAX, "the -wal file grew to {} MB", largest >> 20);
    assert!(reads > 100, "reads stood still: {reads}");
    assert!(slowest_read < WAIT_MAX && slowest_write < WAIT_MAX, "{slowest_read:?} {slowest_write:?}");
}

#[test]
fn after_a_long_read_the_wal_file_is_cut_back_and_others_hardly_notice_it() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new("wal-long-read");
    let data = dir.path().join("data");
    let node = started(&data);
    let mut client = node.client();
    let long = std::thread::spawn(move || {
        let sql = "SELECT (SELECT count(*) FROM t), (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE
                   n < 5000000) SELECT sum(n) FROM c)";
        client.get(&format!("/db/query?level=none&q={}", encode(sql))).expect("the long read is answered")
    });
    poll("the long read is under way", Duration::from_secs(10), || {
        let reply = node.client().get("/status?key=store.sqlite3.conn_pool_stats.ro.in_use").expect("an answer");
        (reply.text().trim().parse::<u64>().unwrap_or(0) > 0).then_some(())
    });
    let readers = Readers::start(&node);
    let (_, slowest_write) = write(&node, &data, WRITTEN_BYTES / 3);
    assert!(long.join().expect("no panic").text().contains("12500002500000"), "the long read gets its answer");
    // Whatever it had grown to: the file is used anew, and cut back to what is kept.
    let (_, slowest_after) = write(&node, &data, WRITTEN_BYTES / 3);
    let (_, slowest_read) = readers.finish();
    assert!(wal_bytes(&data) < WAL_BYTES_MAX, "the -wal file has {} MB", wal_bytes(&data) >> 20);
    let slowest = slowest_write.max(slowest_after).max(slowest_read);
    assert!(slowest < WAIT_MAX, "{slowest_write:?} {slowest_after:?} {slowest_read:?}");
}
