//! Counts the memory that the log takes, with an allocator that knows its peak. One test, one process: another
//! test beside it would be counted too.

mod wal_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use raft::disk::{Disk, FsDisk, SimDisk};
use raft::wal::{Batch, Wal, WalOptions};
use raft::{Entry, EntryKind, Index};
use wal_support::{CLUSTER, Rng, entry, hard_state, id, options};

struct Counting;

static NOW_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; the counters are atomics and allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW_BYTES.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK_BYTES.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Peak of the bytes that `work` holds beyond those at its start.
fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW_BYTES.load(Ordering::Relaxed);
    PEAK_BYTES.store(before, Ordering::Relaxed);
    let value = work();
    (value, PEAK_BYTES.load(Ordering::Relaxed) - before)
}

fn temp_dir() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("ferrolite-wal-alloc-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

#[test]
fn pitfall_24_memory_stays_small_for_large_logs_large_entries_and_corrupt_lengths() {
    let dir = temp_dir();
    let options_4m = WalOptions::new(Some(CLUSTER), 1);
    let disk = Arc::new(FsDisk::open(&dir).expect("opens the directory"));
    let (mut wal, _) = Wal::open(disk.clone(), &options_4m).expect("opens");
    let small = Entry { id: id(1, 1), kind: EntryKind::Command, payload: Arc::from(vec![7u8; 200]) };
    let first = hard_state(1, None);
    wal.append(&Batch { hard_state: Some(&first), ..Batch::default() }).expect("appends");

    let ((), peak) = peak_bytes(|| {
        for index in 1..40_001 {
            let entry = Entry { id: id(1, index), ..small.clone() };
            wal.append(&Batch { entries: &[entry], ..Batch::default() }).expect("appends");
        }
        wal.sync().expect("syncs");
    });
    assert!(peak < 700_000, "appending 10 MB in small entries held {peak} bytes");

    const LARGE_BYTES: usize = 24 * 1024 * 1024;
    let large = Entry { id: id(1, 40_001), kind: EntryKind::Command, payload: Arc::from(vec![9u8; LARGE_BYTES]) };
    let ((), peak) = peak_bytes(|| {
        wal.append(&Batch { entries: std::slice::from_ref(&large), ..Batch::default() }).expect("appends");
        wal.sync().expect("syncs");
    });
    assert!(peak < 700_000, "appending one large entry held {peak} bytes beside it");
    let (read, peak) = peak_bytes(|| wal.read(Index(40_001)..Index(40_002), 0).expect("reads"));
    assert_eq!(read, [large]);
    assert!(peak < LARGE_BYTES + 300_000, "reading one large entry held {peak} bytes");
    drop(read);
    wal.close().expect("closes");

    let ((mut wal, _), peak) = peak_bytes(|| Wal::open(disk.clone(), &options_4m).expect("opens"));
    assert!(peak < 300_000, "recovery of 34 MB held {peak} bytes");
    let (count, peak) = peak_bytes(|| {
        let (mut next, mut count) = (Index(1), 0);
        while next < Index(40_001) {
            let part = wal.read(next..Index(40_001), 100_000).expect("reads");
            count += part.len();
            next = part[part.len() - 1].id.index.next();
        }
        count
    });
    assert_eq!(count, 40_000);
    assert!(peak < 500_000, "a replay held {peak} bytes");
    drop(wal);
    drop(disk);
    std::fs::remove_dir_all(&dir).expect("removes its directory");

    corrupt_lengths();
}

/// Lengths of all sizes over every record's length field.
fn corrupt_lengths() {
    let disk = SimDisk::new();
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), &options(1)).expect("opens");
    let first = hard_state(1, None);
    let entries: Vec<Entry> = (1..6).map(|index| entry(1, index, 50)).collect();
    wal.append(&Batch { truncate_after: None, entries: &entries, hard_state: Some(&first) }).expect("appends");
    wal.close().expect("closes");
    let name = "0000000000000001.wal";
    let whole = disk.contents(name).expect("there");
    let mut rng = Rng(3);
    let file = disk.open(name).expect("opens");
    for offset in (4096..4900).step_by(4) {
        for _ in 0..4 {
            file.pwrite(&(rng.next() as u32 | 0x4000_0000).to_le_bytes(), offset).expect("writes");
            let (result, peak) = peak_bytes(|| Wal::open(Arc::new(disk.clone()), &options(2)).map(|_| ()));
            assert!(peak < 300_000, "a corrupt word at {offset} made the log hold {peak} bytes");
            drop(result);
            file.pwrite(&whole, 0).expect("writes");
        }
    }
}
