//! A log whose bytes were changed behind its back: opening and reading it never panics, and whatever it gives back is a
//! prefix of what was appended.
#![no_main]

use libfuzzer_sys::{arbitrary::Unstructured, fuzz_target};
use raft::disk::{Disk, SimDisk};
use raft::types::{ClusterId, Entry, EntryKind, HardState, Index, LogId, NodeId, Term};
use raft::wal::{Batch, SEGMENT_BYTES_MIN, Wal, WalOptions};
use std::sync::Arc;

const CLUSTER: ClusterId = ClusterId(7);
const SEGMENT_BYTES: u64 = 4 * SEGMENT_BYTES_MIN;

fuzz_target!(|bytes: &[u8]| {
    let mut u = Unstructured::new(bytes);
    let (disk, appended) = written(&mut u);
    let names: Vec<String> = disk.list().expect("the disk is well");
    let changes = u.int_in_range(0..=6).unwrap_or(1);
    for _ in 0..changes {
        let Ok(name) = u.choose(&names) else { break };
        let kind = u.int_in_range(0..=3u8).unwrap_or(0);
        let at: u32 = u.arbitrary().unwrap_or(0);
        let new: [u8; 8] = u.arbitrary().unwrap_or_default();
        disk.rot(name, |file| {
            if file.is_empty() {
                return;
            }
            let at = at as usize % file.len();
            match kind {
                0 => file[at] ^= new[0] | 1,
                1 => file.truncate(at),
                2 => file.extend_from_slice(&new),
                _ => {
                    let end = (at + new.len()).min(file.len());
                    file[at..end].copy_from_slice(&new[..end - at]);
                }
            }
        });
    }
    let mut options = WalOptions::new(Some(CLUSTER), 2);
    options.segment_bytes = SEGMENT_BYTES;
    let Ok((mut wal, recovered)) = Wal::open(Arc::new(disk), &options) else { return };
    if recovered.created {
        return;
    }
    let (first, last) = (recovered.first.index, recovered.last.index);
    assert!(last.0 <= appended.len() as u64, "entries that were never appended");
    if let Ok(entries) = wal.read(Index(first.0 + 1)..Index(last.0 + 1), u64::MAX) {
        for entry in entries {
            assert_eq!(entry, appended[entry.id.index.0 as usize - 1]);
        }
    }
});

/// A log of a few segments, cleanly closed, and its entries.
fn written(u: &mut Unstructured) -> (SimDisk, Vec<Entry>) {
    let disk = SimDisk::new();
    let mut options = WalOptions::new(Some(CLUSTER), 1);
    options.segment_bytes = SEGMENT_BYTES;
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), &options).expect("a new log opens");
    let mut entries = Vec::new();
    for n in 1..=u.int_in_range(1..=12u64).unwrap_or(4) {
        let bytes = u.int_in_range(0..=9000usize).unwrap_or(10);
        let id = LogId { term: Term(1 + n / 5), index: Index(n) };
        let entry = Entry { id, kind: EntryKind::Command, payload: vec![n as u8; bytes].into() };
        let vote = HardState { term: id.term, voted_for: Some(NodeId("n1".into())) };
        wal.append(&Batch { truncate_after: None, entries: &[entry.clone()], hard_state: Some(&vote) })
            .expect("the disk is well");
        wal.sync().expect("the disk is well");
        entries.push(entry);
    }
    wal.close().expect("the disk is well");
    (disk, entries)
}
