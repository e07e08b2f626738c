//! Damaged files: every flipped byte, misdirected and stale blocks, missing and swapped files, garbage. The log
//! must say so, and never become shorter in silence. Runs on the test's thread.

mod wal_support;

use std::sync::Arc;

use raft::disk::{Disk, SimDisk};
use raft::wal::{Batch, Wal, WalError, WalOptions};
use raft::{ClusterId, Entry, Index};
use wal_support::{CLUSTER, Rng, entry, hard_state, id, read_all};

/// Two pages for records.
fn options(boot_salt: u64) -> WalOptions {
    WalOptions { segment_bytes: 3 * 4096, ..wal_support::options(boot_salt) }
}

/// Two segments, the newer one with two batches at its end that nothing follows; returns all entries.
fn filled(disk: &SimDisk, close: bool) -> Vec<Entry> {
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), &options(1)).expect("opens");
    let entries: Vec<Entry> = (1..12).map(|index| entry(1, index, if index < 10 { 900 } else { 90 })).collect();
    let first = hard_state(1, Some("a"));
    for (place, part) in entries.chunks(3).enumerate() {
        let batch = Batch { truncate_after: None, entries: part, hard_state: (place == 0).then_some(&first) };
        wal.append(&batch).expect("appends");
        wal.sync().expect("syncs");
    }
    if close {
        wal.close().expect("closes");
    }
    disk.crash(&mut |_| false);
    entries
}

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.list().expect("lists").into_iter().filter(|name| name.ends_with(".wal")).collect()
}

/// What an open after damage says: all entries, fewer, or an error.
fn reopen(disk: &SimDisk) -> Result<Vec<Entry>, WalError> {
    let (mut wal, recovered) = Wal::open(Arc::new(disk.clone()), &options(9))?;
    assert_eq!(recovered.hard_state, hard_state(1, Some("a")), "the hard state is never lost in silence");
    read_all(&mut wal, 1 << 20)
}

#[test]
fn pitfall_18_no_flipped_byte_shortens_a_closed_log() {
    let disk = SimDisk::new();
    let entries = filled(&disk, true);
    let mut detected = 0;
    let names = segments(&disk);
    assert_eq!(names.len(), 2);
    for name in names {
        let len = disk.contents(&name).expect("there").len();
        for offset in 0..len {
            let damaged = disk.fork();
            let flip = [0x01, 0x80, 0xff][offset % 3];
            damaged.rot(&name, |bytes| bytes[offset] ^= flip);
            match reopen(&damaged) {
                Err(WalError::Corrupt { .. }) => detected += 1,
                Err(other) => panic!("{name} byte {offset}: {other}"),
                Ok(found) => assert!(found == entries, "{name} byte {offset}"),
            }
        }
    }
    assert!(detected > 15_000, "only what holds nothing may rot unnoticed: {detected}");
}

#[test]
fn pitfall_18_without_a_mark_only_the_last_batch_can_be_taken_for_a_torn_write() {
    let disk = SimDisk::new();
    let entries = filled(&disk, false);
    let name = segments(&disk).pop().expect("there are segments");
    for offset in 0..disk.contents(&name).expect("there").len() {
        let damaged = disk.fork();
        damaged.rot(&name, |bytes| bytes[offset] ^= 0x10);
        match reopen(&damaged) {
            Err(WalError::Corrupt { .. }) => {}
            Err(other) => panic!("byte {offset}: {other}"),
            // Entries 10 and 11 are the last batch.
            Ok(found) => assert!(found.len() >= 9 && found == entries[..found.len()], "byte {offset}"),
        }
    }
}

#[test]
fn pitfall_27_sectors_that_are_lost_stale_or_misdirected_are_seen() {
    let disk = SimDisk::new();
    let entries = filled(&disk, true);
    let mut rng = Rng(7);
    for name in segments(&disk) {
        let before = disk.contents(&name).expect("there");
        for sector in 0..before.len() / 512 {
            let range = sector * 512..sector * 512 + 512;
            for other in [None, Some(rng.below(24) as usize), Some((sector + 1) % 24)] {
                let damaged = disk.fork();
                damaged.rot(&name, |bytes| match other {
                    None => bytes[range.clone()].fill(0),
                    Some(other) => bytes.copy_within(other * 512..other * 512 + 512, range.start),
                });
                if disk.contents(&name) == damaged.contents(&name) {
                    continue;
                }
                match reopen(&damaged) {
                    Err(WalError::Corrupt { .. }) => {}
                    other => assert!(other.expect("nothing else") == entries, "{name} sector {sector}"),
                }
            }
        }
    }
}

#[test]
fn pitfall_27_an_old_copy_of_a_segment_is_seen() {
    let disk = SimDisk::new();
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), &options(1)).expect("opens");
    let first = hard_state(1, None);
    let batch = Batch { truncate_after: None, entries: &[entry(1, 1, 100)], hard_state: Some(&first) };
    wal.append(&batch).expect("appends");
    wal.sync().expect("syncs");
    let name = segments(&disk).pop().expect("there is one");
    let old = disk.contents(&name).expect("there");
    for index in 2..14 {
        let batch = Batch { entries: &[entry(1, index, 1000)], ..Batch::default() };
        wal.append(&batch).expect("appends");
        wal.sync().expect("syncs");
    }
    drop(wal);
    disk.crash(&mut |_| false);
    assert!(segments(&disk).len() > 1);
    disk.rot(&name, |bytes| *bytes = old);
    assert!(matches!(Wal::open(Arc::new(disk.clone()), &options(2)), Err(WalError::Corrupt { .. })));
}

#[test]
fn pitfall_21_a_missing_swapped_or_shortened_segment_is_seen() {
    let disk = SimDisk::new();
    filled(&disk, true);
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), &options(3)).expect("opens");
    for index in 12..24 {
        wal.append(&Batch { entries: &[entry(1, index, 1500)], ..Batch::default() }).expect("appends");
    }
    wal.close().expect("closes");
    disk.crash(&mut |_| true);
    let names = segments(&disk);
    assert!(names.len() >= 3, "{names:?}");
    for name in &names[1..names.len() - 1] {
        let damaged = disk.fork();
        damaged.unlink(name).expect("unlinks");
        let opened = Wal::open(Arc::new(damaged), &options(4));
        assert!(matches!(opened, Err(WalError::Corrupt { ref file, .. }) if file == name));
    }
    let swapped = disk.fork();
    swapped.rename(&names[0], "x").expect("renames");
    swapped.rename(&names[1], &names[0]).expect("renames");
    swapped.rename("x", &names[1]).expect("renames");
    assert!(matches!(Wal::open(Arc::new(swapped), &options(4)), Err(WalError::Corrupt { .. })));
    for len in [0, 1, 4095, 4096, 4097, 5000] {
        for name in &names[..names.len() - 1] {
            let damaged = disk.fork();
            damaged.rot(name, |bytes| bytes.truncate(len));
            assert!(matches!(Wal::open(Arc::new(damaged), &options(4)), Err(WalError::Corrupt { .. })), "{name} {len}");
        }
    }
}

#[test]
fn another_clusters_log_and_another_format_are_refused() {
    let disk = SimDisk::new();
    filled(&disk, true);
    let foreign = WalOptions { cluster_id: Some(ClusterId(5)), ..options(2) };
    assert!(matches!(
        Wal::open(Arc::new(disk.clone()), &foreign),
        Err(WalError::ForeignCluster { expected: ClusterId(5), found: CLUSTER })
    ));
    let whatever = WalOptions { cluster_id: None, ..options(2) };
    let (wal, recovered) = Wal::open(Arc::new(disk.clone()), &whatever).expect("opens");
    assert_eq!((recovered.cluster_id, recovered.last), (CLUSTER, id(1, 11)));
    drop(wal);
    assert!(matches!(Wal::create(Arc::new(disk.clone()), CLUSTER, &options(3)), Err(WalError::Exists)));
    let empty = SimDisk::new();
    assert!(matches!(Wal::open(Arc::new(empty), &whatever), Err(WalError::NoLog)));
}

#[test]
fn damage_that_comes_after_the_start_is_met_when_reading_and_latches() {
    let disk = SimDisk::new();
    filled(&disk, true);
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), &options(2)).expect("opens");
    disk.crash(&mut |_| true);
    let name = segments(&disk).remove(0);
    disk.rot(&name, |bytes| bytes[4096 + 400] ^= 1);
    assert!(matches!(wal.read(Index(1)..Index(3), 1 << 20), Err(WalError::Corrupt { .. })));
    assert!(matches!(wal.sync(), Err(WalError::Corrupt { .. })));
}

/// Bytes of every kind in place of the files: no panic, and no memory beyond what the files hold.
#[test]
fn pitfall_23_and_24_arbitrary_bytes_neither_panic_nor_allocate() {
    let disk = SimDisk::new();
    filled(&disk, true);
    let names = segments(&disk);
    let mut rng = Rng(99);
    for _ in 0..3000 {
        let damaged = disk.fork();
        let name = &names[rng.below(names.len() as u64) as usize];
        damaged.rot(name, |bytes| {
            match rng.below(5) {
                // Whole garbage.
                0 => bytes.iter_mut().for_each(|byte| *byte = rng.next() as u8),
                // Any length.
                1 => bytes.resize(rng.below(20_000) as usize, 0xf7),
                // Many small errors.
                2 => {
                    for _ in 0..1 + rng.below(40) {
                        let place = rng.below(bytes.len() as u64) as usize;
                        bytes[place] = rng.next() as u8;
                    }
                }
                // A header page that is right, and garbage with good starts of records.
                3 => {
                    for place in 4096..bytes.len() {
                        bytes[place] = bytes[4096 + rng.below(600) as usize];
                    }
                }
                // A run of one byte.
                _ => {
                    let start = rng.below(bytes.len() as u64) as usize;
                    let end = (start + rng.below(3000) as usize).min(bytes.len());
                    bytes[start..end].fill(rng.next() as u8);
                }
            }
        });
        match Wal::open(Arc::new(damaged), &options(5)) {
            Ok((mut wal, _)) => drop(read_all(&mut wal, 1 << 16)),
            Err(error) => assert!(matches!(error, WalError::Corrupt { .. } | WalError::Version { .. }), "{error}"),
        }
    }
}

#[test]
fn pitfall_56_a_segment_of_another_node_with_the_same_entries_is_seen() {
    let (disk, other) = (SimDisk::new(), SimDisk::new());
    filled(&disk, true);
    // The other node's log differs in nothing but its salt.
    let (wal, _) = Wal::open(Arc::new(other.clone()), &options(77)).expect("opens");
    drop(wal);
    filled(&other, true);
    let name = segments(&disk).remove(0);
    let foreign = other.contents(&name).expect("there");
    assert_ne!(disk.contents(&name).expect("there"), foreign);
    disk.rot(&name, |bytes| *bytes = foreign);
    assert!(matches!(reopen(&disk), Err(WalError::Corrupt { .. })));
}

/// Logs outlive programs: whoever changes a byte of the format must raise its version, and read the old one.
#[test]
fn pitfall_61_the_bytes_of_format_1_never_change() {
    let disk = SimDisk::new();
    filled(&disk, true);
    let sums: Vec<u32> =
        segments(&disk).iter().map(|name| crc32c::crc32c(&disk.contents(name).expect("there"))).collect();
    assert_eq!(sums, [2_350_284_591, 3_466_679_906]);
}
