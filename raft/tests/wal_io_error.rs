//! A failing disk: every operation once, in every way. The log must stop at the first error, never repeat a failed
//! sync, and lose nothing acknowledged. Runs on the test's thread.

mod wal_support;

use std::sync::Arc;

use raft::disk::{Fault, FsDisk, SimDisk};
use raft::wal::{Wal, WalError};
use raft::{Index, LogId};
use wal_support::{Driver, History, Rng, entry, hard_state, options, random_op};

/// A life of a log with everything in it.
fn live(driver: &mut Driver) -> Result<(), WalError> {
    driver.append(None, &[entry(1, 1, 600), entry(1, 2, 600)], Some(hard_state(1, Some("a"))))?;
    driver.sync()?;
    for index in 3..12 {
        driver.append(None, &[entry(1, index, 1400)], None)?;
        driver.sync()?;
        driver.check_now()?;
    }
    driver.purge_to(6)?;
    driver.append(Some(8), &[entry(2, 9, 3000)], Some(hard_state(2, None)))?;
    driver.append(None, &[entry(2, 10, 9000)], None)?;
    driver.sync()?;
    driver.wal.prepare_spare()?;
    driver.wal.mark_durable()?;
    driver.reset_to(LogId { term: raft::Term(2), index: Index(30) })?;
    driver.append(None, &[entry(2, 31, 100)], None)?;
    driver.sync()
}

/// After its first error the log answers every call with it and leaves the disk alone.
fn must_be_latched(driver: &mut Driver) {
    let before = driver.disk.op_count();
    let all: [Result<(), WalError>; 7] = [
        driver.wal.append(&Default::default()),
        driver.wal.sync().map(|_| ()),
        driver.wal.read(Index(1)..Index(2), 1).map(|_| ()),
        driver.wal.purge_to(Index(1)),
        driver.wal.reset_to(LogId::default()),
        driver.wal.prepare_spare().map(|_| ()),
        driver.wal.mark_durable(),
    ];
    for result in all {
        assert!(result.expect_err("a failed log refuses everything").is_fatal());
    }
    assert_eq!(driver.disk.op_count(), before, "a failed log touches nothing");
}

#[test]
fn pitfall_20_every_failing_operation_latches_the_log_and_loses_nothing_acknowledged() {
    for fault in [Fault::Io, Fault::Full, Fault::Short] {
        for power_cut in [false, true] {
            for failing in 0.. {
                let disk = SimDisk::new();
                disk.fail_at(failing, fault);
                let (history, finished) = match Driver::open(&disk, History::new(), 1) {
                    Err((error, history)) => {
                        assert!(error.is_fatal());
                        (history, false)
                    }
                    Ok(mut driver) => {
                        let result = live(&mut driver);
                        if let Err(error) = &result {
                            let full = matches!(error, WalError::DiskFull { .. });
                            assert_eq!(full, fault == Fault::Full, "{error}");
                            must_be_latched(&mut driver);
                        }
                        (driver.history, result.is_ok())
                    }
                };
                if power_cut {
                    disk.crash(&mut |_| false);
                } else {
                    disk.kill_process();
                }
                let mut driver = Driver::open(&disk, history, 2)
                    .map_err(|(error, _)| error)
                    .expect("starts again once the disk works");
                driver.check_now().expect("a healthy disk never fails");
                // What this start reported durable must be it, although a sync failed before.
                let history = driver.history;
                disk.crash(&mut |_| false);
                Driver::open(&disk, history, 3).map_err(|(error, _)| error).expect("starts a third time");
                if finished && failing > disk.op_count() {
                    break;
                }
            }
        }
    }
}

#[test]
fn pitfall_21_a_full_disk_stops_the_log_and_freed_space_starts_it() {
    for free_kib in 0..64 {
        let disk = SimDisk::new();
        disk.set_free_bytes(Some(free_kib * 1024));
        let history = match Driver::open(&disk, History::new(), 1) {
            Err((error, history)) => {
                assert!(matches!(error, WalError::DiskFull { .. }), "{error}");
                history
            }
            Ok(mut driver) => {
                if let Err(error) = live(&mut driver) {
                    assert!(matches!(error, WalError::DiskFull { .. }), "{error}");
                    assert!(error.to_string().contains("free some space"));
                    must_be_latched(&mut driver);
                }
                driver.history
            }
        };
        disk.set_free_bytes(None);
        disk.crash(&mut |_| true);
        Driver::open(&disk, history, 2).map_err(|(error, _)| error).expect("starts once there is space");
    }
}

#[test]
fn pitfall_13_random_lives_with_random_faults_lose_nothing_acknowledged() {
    for seed in 0..400 {
        let mut rng = Rng(seed);
        let disk = SimDisk::new();
        let mut history = History::new();
        for boot in 0..6 {
            let fault = [Fault::Io, Fault::Full, Fault::Short, Fault::PowerCut][rng.below(4) as usize];
            disk.fail_at(disk.op_count() + rng.below(150), fault);
            history = match Driver::open(&disk, history, seed << 16 | boot) {
                Err((_, history)) => history,
                Ok(mut driver) => {
                    while random_op(&mut driver, &mut rng).is_ok() {}
                    driver.history
                }
            };
            if fault == Fault::PowerCut || rng.chance(2) {
                disk.crash(&mut |_| rng.chance(2));
            } else {
                disk.kill_process();
            }
        }
        disk.clear_faults();
        let (mut wal, recovered) = Wal::open(Arc::new(disk.clone()), &options(1 << 40)).expect("recovery succeeds");
        history.check(&mut wal, &recovered).expect("a healthy disk never fails");
    }
}

#[test]
fn pitfall_56_a_second_process_is_refused_at_once() {
    let dir = std::env::temp_dir().join(format!("ferrolite-wal-lock-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let first = FsDisk::open(&dir).expect("opens");
    let second = FsDisk::open(&dir).err().expect("the directory is held");
    assert_eq!(second.kind(), std::io::ErrorKind::WouldBlock);
    assert!(second.to_string().contains("in use by another process"), "{second}");
    drop(first);
    let disk: Arc<FsDisk> = Arc::new(FsDisk::open(&dir).expect("it is free again"));
    assert!(raft::disk::Disk::free_bytes(disk.as_ref()).expect("the file system answers") > 0);
    let (mut wal, _) = Wal::open(disk.clone(), &options(1)).expect("opens");
    let first = hard_state(1, Some("a"));
    let entries: Vec<_> = (1..30).map(|index| entry(1, index, 700)).collect();
    wal.append(&raft::wal::Batch { truncate_after: None, entries: &entries, hard_state: Some(&first) })
        .expect("appends");
    wal.sync().expect("syncs");
    wal.purge_to(Index(20)).expect("purges");
    let first_kept = wal.first();
    drop(wal);
    let (mut wal, recovered) = Wal::open(disk, &options(2)).expect("opens");
    assert_eq!((recovered.first, recovered.last), (first_kept, entries[28].id));
    let kept = wal_support::read_all(&mut wal, 4000).expect("reads");
    assert_eq!(kept, entries[first_kept.index.0 as usize..]);
    drop(wal);
    std::fs::remove_dir_all(&dir).expect("removes its directory");
}
