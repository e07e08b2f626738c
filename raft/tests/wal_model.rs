//! The log against a plain model, without and with restarts. Runs on the test's thread.

mod wal_support;

use raft::disk::SimDisk;
use wal_support::{Driver, History, Rng, random_op};

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
