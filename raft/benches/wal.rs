//! What the log costs beyond the disk: `append` + `sync` of 1, 16, 64 and 256 entries of 100 bytes, against raw writes
//! with fdatasync into a file that was written before - of one page, and of as many pages as the entries fill. All
//! alternate, so that a disk that changes its mood changes it for all. Run: `cargo bench -p ferrolite-raft`; `WAL_BENCH_DIR` names the directory (default: temp).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raft::disk::FsDisk;
use raft::wal::{Batch, SEGMENT_BYTES, Wal, WalOptions};
use raft::{ClusterId, Entry, EntryKind, HardState, Index, LogId, Term};

const ROUNDS: usize = 12;
const SYNCS_PER_ROUND: u32 = 200;
const PAYLOAD_BYTES: usize = 100;

/// A header of 56 bytes and the payload, padded.
const RECORD_BYTES: u64 = 160;

/// The raw side: pages in order, around and around a file of one segment.
struct Raw {
    file: File,
    page: u64,
}

impl Raw {
    fn new(dir: &Path) -> Raw {
        let path = dir.join("raw");
        let file = File::options().read(true).write(true).create_new(true).open(path).expect("creates");
        file.write_all_at(&vec![0xab; SEGMENT_BYTES as usize], 0).expect("writes");
        file.sync_all().expect("syncs");
        Raw { file, page: 0 }
    }

    fn round(&mut self, pages: u64) -> Duration {
        let bytes = vec![self.page as u8; pages as usize * 4096];
        let start = Instant::now();
        for _ in 0..SYNCS_PER_ROUND {
            if (self.page + pages) * 4096 > SEGMENT_BYTES {
                self.page = 0;
            }
            self.file.write_all_at(&bytes, self.page * 4096).expect("writes");
            self.file.sync_data().expect("syncs");
            self.page += pages;
        }
        start.elapsed() / SYNCS_PER_ROUND
    }
}

fn entries(first: u64, payload: &Arc<[u8]>, count: u64) -> Vec<Entry> {
    let id = |index| LogId { term: Term(1), index: Index(index) };
    (first..first + count)
        .map(|index| Entry { id: id(index), kind: EntryKind::Command, payload: payload.clone() })
        .collect()
}

fn log_round(wal: &mut Wal, payload: &Arc<[u8]>, batch: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..SYNCS_PER_ROUND {
        let first = wal.last().index.next().0;
        let entries = entries(first, payload, batch);
        wal.append(&Batch { entries: &entries, ..Batch::default() }).expect("appends");
        wal.sync().expect("syncs");
    }
    let elapsed = start.elapsed() / SYNCS_PER_ROUND;
    // Files are recycled, as in a node whose applier keeps up.
    wal.purge_to(wal.last().index).expect("purges");
    elapsed
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How long a start takes that reads a log of 64 MiB (from the page cache).
fn open_round(disk: &Arc<FsDisk>, payload: &Arc<[u8]>) {
    let (mut wal, _) = Wal::open(disk.clone(), &WalOptions::new(None, 2)).expect("opens");
    while wal.segments_bytes() < 64 * 1024 * 1024 {
        let first = wal.last().index.next().0;
        let entries = entries(first, payload, 1000);
        wal.append(&Batch { entries: &entries, ..Batch::default() }).expect("appends");
    }
    wal.close().expect("closes");
    let start = Instant::now();
    let (mut wal, recovered) = Wal::open(disk.clone(), &WalOptions::new(None, 3)).expect("opens");
    let opened = start.elapsed();
    let start = Instant::now();
    let mut next = recovered.first.index.next();
    let first = next;
    while next <= recovered.last.index {
        let part = wal.read(next..recovered.last.index.next(), 256 * 1024).expect("reads");
        next = part.last().expect("a read makes progress").id.index.next();
    }
    println!(
        "open of {} MiB, {} entries: {:.1} ms; reading all of it: {:.1} ms",
        wal.segments_bytes() >> 20,
        next.0 - first.0,
        opened.as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64() * 1e3
    );
}

fn main() {
    let base = std::env::var_os("WAL_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = base.join(format!("ferrolite-wal-bench-{}", std::process::id()));
    let disk = Arc::new(FsDisk::open(&dir).expect("opens"));
    let (mut wal, _) = Wal::open(disk.clone(), &WalOptions::new(Some(ClusterId(1)), 1)).expect("opens");
    let hard_state = HardState { term: Term(1), voted_for: None };
    wal.append(&Batch { hard_state: Some(&hard_state), ..Batch::default() }).expect("appends");
    let payload: Arc<[u8]> = Arc::from(vec![0x5a; PAYLOAD_BYTES]);
    let mut raw = Raw::new(&dir);
    // Until the log runs on recycled files.
    for _ in 0..4 {
        log_round(&mut wal, &payload, 256);
    }
    println!("microseconds per sync, medians of {ROUNDS} rounds of {SYNCS_PER_ROUND}");
    println!(
        "{:>8} {:>10} {:>12} {:>10} {:>9} {:>12} {:>12}",
        "entries", "raw 4 KiB", "raw as many", "log", "to 4 KiB", "to as many", "entries/s"
    );
    for batch in [1u64, 16, 64, 256] {
        let pages = (batch * RECORD_BYTES).div_ceil(4096);
        let mut rows: [Vec<f64>; 5] = Default::default();
        for _ in 0..ROUNDS {
            let raw_us = raw.round(1).as_secs_f64() * 1e6;
            let log_us = log_round(&mut wal, &payload, batch).as_secs_f64() * 1e6;
            let many_us = raw.round(pages).as_secs_f64() * 1e6;
            for (row, value) in rows.iter_mut().zip([raw_us, many_us, log_us, log_us / raw_us, log_us / many_us]) {
                row.push(value);
            }
        }
        let [raw_us, many_us, log_us, to_raw, to_many] = rows.map(median);
        let entries_per_s = batch as f64 * 1e6 / log_us;
        println!(
            "{batch:>8} {raw_us:>10.1} {many_us:>12.1} {log_us:>10.1} {to_raw:>9.3} {to_many:>12.3} {entries_per_s:>12.0}"
        );
    }
    drop(wal);
    open_round(&disk, &payload);
    std::fs::remove_dir_all(&dir).expect("removes its directory");
}
