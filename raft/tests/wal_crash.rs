//! Power cuts at every boundary between two operations of the disk, keeping every (or many a) choice of what was
//! not synced, torn at sectors or anywhere; and power cuts within the recovery from those. Runs on the test's thread.

mod wal_support;

use std::collections::BTreeMap;
use std::sync::Arc;

use raft::Index;
use raft::disk::{Fault, PendingUnit, SECTOR_BYTES, SimDisk};
use raft::wal::{Batch, Wal, WalError, WalOptions};
use wal_support::{Driver, History, Rng, entry, hard_state, id, options, random_op};

/// All choices are tried when no more units than this are not synced; fewer for a crash within a recovery, because
/// there are so many recoveries.
const UNITS_EXHAUSTIVE_MAX: usize = 8;
const UNITS_EXHAUSTIVE_IN_RECOVERY_MAX: usize = 5;

/// So many choices of each cut, and a part of the others, also meet a crash within their recovery.
const CHOICES_WITH_RECOVERY: usize = 24;

/// A story that one process lives through; it ends early at the power cut.
type Story<'a> = &'a dyn Fn(&mut Driver) -> Result<(), WalError>;

/// How much of a cut's aftermath is looked at.
#[derive(Clone, Copy)]
struct Depth {
    /// Random choices of sectors, where not all choices are tried.
    samples: u64,
    /// Look at power cuts during recovery.
    recovery: bool,
}

/// What a power cut keeps, as a set over the pending units in order.
fn choices(disk: &SimDisk, exhaustive_max: usize, samples: u64, rng: &mut Rng) -> Vec<Vec<bool>> {
    let units = disk.pending();
    let count = units.len();
    if count <= exhaustive_max {
        return (0..1u32 << count).map(|mask| (0..count).map(|unit| mask >> unit & 1 == 1).collect()).collect();
    }
    let mut choices = vec![vec![false; count], vec![true; count]];
    let mut ops: Vec<usize> = units.iter().map(|unit| unit.op()).collect();
    ops.dedup();
    if ops.len() <= exhaustive_max {
        for mask in 1..(1u32 << ops.len()) - 1 {
            let kept: BTreeMap<usize, bool> =
                ops.iter().enumerate().map(|(place, op)| (*op, mask >> place & 1 == 1)).collect();
            choices.push(units.iter().map(|unit| kept[&unit.op()]).collect());
        }
    }
    for place in 0..samples {
        // From few sectors lost to few sectors kept.
        let one_in = 2 + rng.below(8);
        let common = place % 2 == 0;
        choices.push((0..count).map(|_| common != rng.chance(one_in)).collect());
    }
    choices
}

fn crash(disk: &SimDisk, keep: &[bool]) {
    let mut by_unit: Vec<(PendingUnit, bool)> = disk.pending().into_iter().zip(keep.iter().copied()).collect();
    disk.crash(&mut |unit| {
        let place = by_unit.iter().position(|(other, _)| other == unit).expect("the unit was listed");
        by_unit.swap_remove(place).1
    });
    assert!(by_unit.is_empty(), "every unit was asked for");
}

/// The log must open, show a legal state, take more entries, and show them after another loss of power.
fn must_go_on(disk: &SimDisk, history: &History, salt: u64) {
    let mut driver = Driver::open(disk, history.clone(), salt).map_err(|(error, _)| error).expect("recovery succeeds");
    driver.check_now().expect("a healthy disk never fails");
    let last = driver.history.now().last();
    let term = driver.history.now().hard_state.term.0 + 1;
    let next: Vec<_> = (1..3).map(|step| entry(term, last.index.0 + step, 40)).collect();
    driver.append(None, &next, Some(hard_state(term, Some("x")))).expect("the disk works again");
    driver.sync().expect("the disk works again");
    let mut history = driver.history;
    disk.crash(&mut |_| false);
    let (mut wal, recovered) = Wal::open(Arc::new(disk.clone()), &options(salt + 1)).expect("recovery succeeds");
    history.check(&mut wal, &recovered).expect("a healthy disk never fails");
}

/// Cuts the power before every operation of the story, and looks at what may be left.
/// Returns how many recoveries were looked at.
fn enumerate(prepare: Story<'_>, story: Story<'_>, depth: Depth, seed: u64) -> u64 {
    // Even seeds: writes may be torn anywhere, not only between sectors.
    let start = SimDisk::with_sector_bytes(if seed.is_multiple_of(2) { 40 } else { SECTOR_BYTES });
    let mut driver = Driver::open(&start, History::new(), 1).map_err(|(error, _)| error).expect("first boot");
    prepare(&mut driver).expect("a healthy disk never fails");
    driver.sync().expect("a healthy disk never fails");
    let history = driver.history;
    start.crash(&mut |_| true);
    enumerate_from(&start, &history, story, depth, seed)
}

fn enumerate_from(start: &SimDisk, history: &History, story: Story<'_>, depth: Depth, seed: u64) -> u64 {
    let mut rng = Rng(seed);
    let mut recoveries = 0;
    let first_op = start.op_count();
    for cut in 0.. {
        let disk = start.fork();
        disk.fail_at(first_op + cut, Fault::PowerCut);
        let (history, finished) = match Driver::open(&disk, history.clone(), 2) {
            Err((_, history)) => (history, false),
            Ok(mut driver) => {
                let finished = story(&mut driver).is_ok();
                (driver.history, finished)
            }
        };
        for (place, keep) in choices(&disk, UNITS_EXHAUSTIVE_MAX, depth.samples, &mut rng).into_iter().enumerate() {
            let after = disk.fork();
            crash(&after, &keep);
            recoveries += 1;
            if depth.recovery && (place < CHOICES_WITH_RECOVERY || rng.chance(16)) {
                recoveries += enumerate_recovery(&after, &history, &mut rng);
            }
            must_go_on(&after, &history, 1000);
        }
        if finished {
            return recoveries;
        }
    }
    unreachable!("a story ends");
}

/// Cuts the power before every operation of the recovery itself.
fn enumerate_recovery(start: &SimDisk, history: &History, rng: &mut Rng) -> u64 {
    let first_op = start.op_count();
    let mut recoveries = 0;
    for cut in 0.. {
        let disk = start.fork();
        disk.fail_at(first_op + cut, Fault::PowerCut);
        let opened = Wal::open(Arc::new(disk.clone()), &options(3));
        if opened.is_ok() {
            return recoveries;
        }
        for keep in choices(&disk, UNITS_EXHAUSTIVE_IN_RECOVERY_MAX, 2, rng) {
            let after = disk.fork();
            crash(&after, &keep);
            must_go_on(&after, history, 2000);
            recoveries += 1;
        }
    }
    unreachable!("a recovery ends");
}

const DEEP: Depth = Depth { samples: 6, recovery: true };
const WIDE: Depth = Depth { samples: 24, recovery: false };

fn entries(term: u64, first: u64, count: u64, payload_bytes: usize) -> Vec<raft::Entry> {
    (first..first + count).map(|index| entry(term, index, payload_bytes)).collect()
}

fn nothing(_: &mut Driver) -> Result<(), WalError> {
    Ok(())
}

/// Three entries of term 1, synced.
fn three(driver: &mut Driver) -> Result<(), WalError> {
    driver.append(None, &entries(1, 1, 3, 100), Some(hard_state(1, Some("a"))))?;
    driver.sync()
}

/// Three segments full of entries.
fn three_segments(driver: &mut Driver) -> Result<(), WalError> {
    driver.append(None, &entries(1, 1, 3, 1200), Some(hard_state(1, Some("a"))))?;
    driver.append(None, &entries(1, 4, 6, 1200), None)?;
    driver.sync()
}

#[test]
fn pitfall_5_a_half_made_first_segment_is_no_log_and_a_whole_one_never_vanishes() {
    let story: Story<'_> = &|driver| three(driver);
    let recoveries = enumerate_from(&SimDisk::new(), &History::new(), story, DEEP, 1);
    assert!(recoveries > 100, "{recoveries}");
}

#[test]
fn pitfall_1_an_acknowledged_entry_survives() {
    enumerate(&nothing, &|driver| three(driver), DEEP, 2);
    enumerate(
        &three,
        &|driver| {
            for index in 4..8 {
                driver.append(None, &entries(1, index, 1, 300), None)?;
                driver.sync()?;
            }
            Ok(())
        },
        DEEP,
        3,
    );
}

#[test]
fn pitfall_3_a_vote_is_never_forgotten() {
    enumerate(
        &three,
        &|driver| {
            for term in 2..5 {
                driver.append(None, &[], Some(hard_state(term, None)))?;
                driver.append(None, &[], Some(hard_state(term, Some("a-rather-long-name"))))?;
                driver.sync()?;
            }
            driver.append(None, &entries(4, 4, 2, 10), None)?;
            driver.append(None, &[], Some(hard_state(6, Some("b"))))?;
            driver.sync()
        },
        DEEP,
        4,
    );
}

#[test]
fn pitfall_6_appends_before_one_sync_may_reach_the_disk_in_any_order() {
    let story: Story<'_> = &|driver| {
        // Reading hands each batch to the kernel on its own.
        for index in 4..8 {
            driver.append(None, &entries(1, index, 1, 900), None)?;
            driver.wal.read(Index(index)..Index(index + 1), 1)?;
        }
        driver.sync()?;
        driver.append(None, &entries(1, 8, 2, 700), None)?;
        driver.wal.read(Index(8)..Index(9), 1)?;
        driver.append(None, &entries(1, 10, 1, 700), None)?;
        driver.sync()
    };
    enumerate(&three, story, DEEP, 5);
    enumerate(&three, story, Depth { samples: 300, recovery: false }, 6);
}

#[test]
fn pitfall_11_a_cut_and_what_replaces_it_are_one_step() {
    let story: Story<'_> = &|driver| {
        driver.append(Some(1), &entries(2, 2, 1, 60), Some(hard_state(2, Some("b"))))?;
        driver.append(None, &entries(2, 3, 3, 60), None)?;
        driver.sync()?;
        driver.append(Some(4), &[], None)?;
        driver.sync()?;
        driver.append(None, &entries(3, 5, 1, 60), Some(hard_state(3, None)))?;
        driver.append(Some(2), &entries(4, 3, 1, 2000), Some(hard_state(4, None)))?;
        driver.append(Some(2), &entries(5, 3, 1, 10), Some(hard_state(5, None)))?;
        driver.sync()
    };
    enumerate(&three, story, DEEP, 7);
    enumerate(&three, story, WIDE, 8);
}

#[test]
fn pitfall_11_a_cut_back_into_older_segments_survives_their_purge() {
    let story: Story<'_> = &|driver| {
        driver.append(Some(2), &entries(2, 3, 5, 1100), Some(hard_state(2, Some("b"))))?;
        driver.sync()?;
        driver.purge_to(3)?;
        driver.append(Some(5), &[], None)?;
        driver.sync()?;
        driver.purge_to(5)?;
        driver.append(None, &entries(2, 6, 4, 1500), None)?;
        driver.sync()
    };
    enumerate(&three_segments, story, DEEP, 9);
}

#[test]
fn pitfall_26_a_roll_is_all_or_nothing() {
    let story: Story<'_> = &|driver| {
        driver.append(None, &entries(1, 4, 6, 1500), None)?;
        driver.sync()?;
        driver.append(None, &entries(1, 10, 1, 10_000), None)?;
        driver.append(None, &entries(1, 11, 2, 10), Some(hard_state(7, Some("c"))))?;
        driver.sync()
    };
    enumerate(&three, story, DEEP, 10);
    enumerate(&three, story, WIDE, 11);
}

#[test]
fn pitfall_27_recycled_files_never_bring_old_records_back() {
    let story: Story<'_> = &|driver| {
        // The same payloads and lengths again, at the same offsets of recycled files.
        for round in 0..4u64 {
            let last = driver.history.now().last().index.0;
            driver.purge_to(last)?;
            driver.append(None, &entries(1, last + 1, 3, 1200), None)?;
            driver.sync()?;
            driver.append(None, &entries(1, last + 4, 2, 1200), None)?;
            if round % 2 == 0 {
                driver.sync()?;
            }
        }
        driver.wal.prepare_spare()?;
        driver.sync()
    };
    enumerate(&three_segments, story, DEEP, 12);
}

#[test]
fn pitfall_69_a_reset_leaves_the_old_log_or_an_empty_one() {
    let story: Story<'_> = &|driver| {
        driver.append(None, &entries(1, 10, 1, 50), None)?;
        driver.reset_to(id(1, 40))?;
        driver.append(None, &entries(2, 41, 2, 50), Some(hard_state(2, Some("a"))))?;
        driver.sync()?;
        driver.reset_to(id(2, 41))?;
        driver.reset_to(id(2, 100))?;
        driver.append(None, &entries(2, 101, 2, 2500), None)?;
        driver.sync()
    };
    enumerate(&three_segments, story, DEEP, 13);
}

#[test]
fn a_mark_or_a_clean_end_changes_nothing() {
    let story: Story<'_> = &|driver| {
        driver.wal.mark_durable()?;
        driver.append(None, &entries(1, 4, 1, 100), None)?;
        driver.sync()?;
        driver.wal.mark_durable()?;
        driver.sync()
    };
    enumerate(&three, story, DEEP, 14);
}

#[test]
fn pitfall_25_many_crashes_in_a_row_lose_nothing_acknowledged() {
    for seed in 0..250 {
        let mut rng = Rng(seed);
        // Also with writes that are torn within a sector.
        let disk = SimDisk::with_sector_bytes(if seed % 3 == 0 { 24 } else { SECTOR_BYTES });
        let mut history = History::new();
        for boot in 0..8 {
            disk.fail_at(disk.op_count() + rng.below(120), Fault::PowerCut);
            history = match Driver::open(&disk, history, seed << 16 | boot) {
                Err((_, history)) => history,
                Ok(mut driver) => {
                    while random_op(&mut driver, &mut rng).is_ok() {}
                    driver.history
                }
            };
            let one_in = 1 + rng.below(6);
            disk.crash(&mut |_| !rng.chance(one_in));
        }
        must_go_on(&disk, &history, 1 << 40);
    }
}

/// Entry 4 is lost in a power cut and entry 5, in the page behind it, is not. When 4 is written again, 5 must not be
/// back: neither when everything is as it was, nor when the new records end just where the old entry 5 begins.
#[test]
fn pitfall_27_what_lies_behind_a_torn_tail_never_comes_back() {
    const HEADER_BYTES: usize = 56;
    // Entry 5 begins with the second page of records.
    const PAYLOAD_BYTES: usize = 4096 - 3 * 160 - 64 - HEADER_BYTES;
    const OLD_SECTOR: u64 = 8192 / SECTOR_BYTES as u64;
    for shorter_by in [0, HEADER_BYTES, 2 * HEADER_BYTES] {
        let disk = SimDisk::new();
        let open = |boot_salt| {
            let options = WalOptions { segment_bytes: 4 * 4096, ..options(boot_salt) };
            Wal::open(Arc::new(disk.clone()), &options).expect("a healthy disk never fails")
        };
        let (mut wal, _) = open(1);
        let first = hard_state(1, Some("a"));
        let three = entries(1, 1, 3, 100);
        wal.append(&Batch { truncate_after: None, entries: &three, hard_state: Some(&first) }).expect("appends");
        wal.sync().expect("syncs");
        let two = [entry(1, 4, PAYLOAD_BYTES), entry(1, 5, 900)];
        wal.append(&Batch { entries: &two, ..Batch::default() }).expect("appends");
        wal.read(Index(5)..Index(6), 1).expect("a read hands all to the kernel");
        disk.crash(&mut |unit| match unit {
            PendingUnit::Sector { sector, .. } => *sector >= OLD_SECTOR,
            _ => true,
        });
        let page = disk.contents("0000000000000001.wal").expect("there")[8192..].to_vec();
        assert!(page.starts_with(&[0xf7, b'r', b'e', b'c']), "the head of entry 5 is where it should be");

        let (mut wal, recovered) = open(2);
        assert_eq!(recovered.last, id(1, 3));
        assert!(recovered.torn.is_some());
        let again = [entry(1, 4, PAYLOAD_BYTES - shorter_by)];
        wal.append(&Batch { entries: &again, ..Batch::default() }).expect("appends");
        wal.read(Index(4)..Index(5), 1).expect("a read hands all to the kernel");
        disk.crash(&mut |unit| match unit {
            PendingUnit::Sector { sector, .. } => *sector < OLD_SECTOR,
            _ => true,
        });
        assert_eq!(disk.contents("0000000000000001.wal").expect("there")[8192..], page);
        let (wal, _) = open(3);
        assert!(wal.last() <= id(1, 4), "shorter by {shorter_by}: {:?}", wal.last());
    }
}
