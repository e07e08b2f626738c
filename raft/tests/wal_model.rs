//! The log against a plain model, without and with restarts. Runs on the test's thread.

mod wal_support;

use raft::disk::SimDisk;
use raft::wal::{Wal, WalOptions};
use wal_support::{Driver, History, Rng, options, random_op};

#[test]
fn the_log_can_live_on_a_thread_of_its_own() {
    fn must_be_send<T: Send>() {}
    must_be_send::<Wal>();
}

#[test]
fn segments_of_another_size_and_no_spares_are_no_obstacle() {
    for seed in 0..30 {
        let disk = SimDisk::new();
        let mut rng = Rng(seed);
        let mut history = History::new();
        for boot in 0..8 {
            let segment_bytes = 4096 * (2 + rng.below(4));
            let options = WalOptions { segment_bytes, spares_max: rng.below(3) as usize, ..options(boot) };
            let opened = Driver::open_with(&disk, history, &options);
            let mut driver = opened.map_err(|(error, _)| error).expect("opens");
            for _ in 0..rng.below(40) {
                random_op(&mut driver, &mut rng).expect("a healthy disk never fails");
            }
            driver.check_now().expect("a healthy disk never fails");
            driver.sync().expect("a healthy disk never fails");
            history = driver.history;
            disk.crash(&mut |_| rng.chance(2));
        }
    }
}

#[test]
fn a_log_that_is_never_cut_off_holds_what_the_model_holds() {
    for seed in 0..60 {
        let disk = SimDisk::new();
        let mut rng = Rng(seed);
        let mut driver = Driver::open(&disk, History::new(), 1).map_err(|(error, _)| error).expect("opens");
        for boot in 2..8 {
            for _ in 0..rng.below(60) {
                random_op(&mut driver, &mut rng).expect("a healthy disk never fails");
                driver.check_now().expect("a healthy disk never fails");
            }
            driver.sync().expect("a healthy disk never fails");
            let Driver { wal, mut history, .. } = driver;
            wal.close().expect("a healthy disk never fails");
            history.note_sync();
            driver = Driver::open(&disk, history, boot).map_err(|(error, _)| error).expect("opens again");
            driver.check_now().expect("a healthy disk never fails");
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_synced_even_to_a_later_power_cut() {
    for seed in 100..160 {
        let disk = SimDisk::new();
        let mut rng = Rng(seed);
        let mut history = History::new();
        for boot in 1..12 {
            let mut driver = Driver::open(&disk, history, boot).map_err(|(error, _)| error).expect("opens");
            for _ in 0..rng.below(25) {
                random_op(&mut driver, &mut rng).expect("a healthy disk never fails");
            }
            // Without a sync or a power cut: what is found now is reported durable, and must then be it.
            history = driver.history;
            disk.kill_process();
            let driver = Driver::open(&disk, history, boot + 1000).map_err(|(error, _)| error).expect("opens");
            history = driver.history;
            disk.crash(&mut |_| false);
        }
    }
}
