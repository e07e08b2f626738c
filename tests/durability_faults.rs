//! Disks that fail: EIO, ENOSPC and short writes at the Nth write or sync of the log and of the database, under load.
//!
//! Prevents: an acknowledged write lost after a failed sync, a node that goes on after its disk failed, a node that does
//! not start again once the disk is well. The rule in every case: the process stops with exit status 1 and a message that
//! names the file and says what to do; after a start on a good disk nothing acknowledged is missing and nothing is there
//! twice.

mod support;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::fault::{Fault, SmallDisk};
use support::ledger::{Load, Round, SCHEMA};
use support::node::EXIT_LIMIT;
use support::{Exit, Launch, Node, Rng, TempDir, poll};

/// Files of the log.
const LOG: &str = "/raft-wal/";
/// The database file and, with it, its `-wal`.
const DATABASE: &str = "/db.sqlite";
const DATABASE_WAL: &str = "/db.sqlite-wal";

const WRITERS: u64 = 8;
/// Rows of this size make the database checkpoint and the log roll within a second of load.
const FILLER_BYTES: usize = 2000;

const SYNC_EIO: Fault = Fault { call: "sync", path: LOG, errno: libc::EIO, sticky: false, short: false };
const WRITE_EIO: Fault = Fault { call: "write", ..SYNC_EIO };
const WRITE_ENOSPC: Fault = Fault { call: "write", errno: libc::ENOSPC, sticky: true, ..SYNC_EIO };
const WRITE_SHORT: Fault = Fault { short: true, ..WRITE_ENOSPC };

#[test]
fn log_sync_eio_stops_the_node_and_loses_nothing() {
    under_load(SYNC_EIO, &[1, 2, 3, 7, 40, 150]);
}

#[test]
fn log_write_eio_stops_the_node_and_loses_nothing() {
    under_load(WRITE_EIO, &[1, 2, 5, 30, 120]);
}

#[test]
fn log_write_enospc_stops_the_node_and_loses_nothing() {
    under_load(WRITE_ENOSPC, &[1, 3, 17, 90]);
}

#[test]
fn log_short_write_stops_the_node_and_loses_nothing() {
    under_load(WRITE_SHORT, &[1, 2, 4, 25]);
}

#[test]
fn database_wal_faults_stop_the_node_and_lose_nothing() {
    under_load(Fault { path: DATABASE_WAL, ..WRITE_EIO }, &[1, 2, 33, 400]);
    under_load(Fault { path: DATABASE_WAL, ..WRITE_ENOSPC }, &[1, 14, 250]);
    under_load(Fault { path: DATABASE_WAL, ..WRITE_SHORT }, &[1, 21]);
    // SQLite syncs its WAL before a checkpoint.
    under_load(Fault { path: DATABASE_WAL, ..SYNC_EIO }, &[1]);
}

/// SQLite has one code for both, and a table like this one must not turn a full disk into an answer to a client.
#[test]
fn a_full_disk_is_fatal_also_beside_a_table_whose_rowids_are_used_up() {
    let used_up = r#"["CREATE TABLE used_up(id INTEGER PRIMARY KEY AUTOINCREMENT)", "INSERT INTO used_up VALUES(9223372036854775807)"]"#;
    under_load_beside(used_up, Fault { path: DATABASE_WAL, ..WRITE_ENOSPC }, &[1, 40]);
}

#[test]
fn database_checkpoint_faults_stop_the_node_and_lose_nothing() {
    let checkpoint = |fault: Fault| Fault { path: DATABASE, ..fault };
    // Beyond what the WAL alone takes: these hit the copy of pages into the main file as well.
    under_load(checkpoint(WRITE_EIO), &[8200]);
    under_load(checkpoint(WRITE_ENOSPC), &[8900]);
    under_load(checkpoint(SYNC_EIO), &[1, 2]);
}

/// First boot and recovery meet the same faults: whatever happens, a later start on a good disk serves all.
#[test]
fn faults_while_starting_are_fatal_and_harmless() {
    for path in [LOG, DATABASE] {
        for fault in [SYNC_EIO, WRITE_EIO, WRITE_ENOSPC, WRITE_SHORT] {
            for at in 1..=5 {
                while_starting(Fault { path, ..fault }, at);
            }
        }
    }
    for at in 1..=3 {
        while_starting(Fault { call: "allocate", errno: libc::ENOSPC, sticky: true, path: LOG, short: false }, at);
    }
}

#[test]
fn a_full_disk_stops_the_node_and_space_heals_it() {
    const SMALL_BYTES: u64 = 80 << 20;
    const LARGE_BYTES: u64 = 600 << 20;
    let scratch = TempDir::new("enospc");
    let disk = SmallDisk::mount("small-disk", SMALL_BYTES);
    let home = disk.as_ref().map_or(scratch.path(), SmallDisk::path);
    let plain = Launch::new(&home.join("data"), &[]);
    // Without the right to mount, a limit on the size of every file plays the full disk.
    let small = if disk.is_some() { plain.clone() } else { plain.clone().file_bytes_max(SMALL_BYTES / 4) };
    let mut rng = Rng::new(support::seed(4));

    let mut node = small.start();
    node.execute(SCHEMA);
    let load = Load::start(node.port(), 0, WRITERS, 20_000, &mut rng);
    poll("the disk fills up", Duration::from_secs(60), || node.try_exit());
    let exit = node.wait_exit();
    let round = load.finish(0);
    assert_fatal(&exit, home, "a full disk");
    assert!(round.acknowledged() > 50, "the disk filled too early: {} writes", round.acknowledged());

    // Still full: the node may refuse to start or may serve reads; it must not make things worse.
    let mut still_full = small.spawn();
    let mut client = still_full.client().with_timeout(Duration::from_secs(1));
    poll("a start on a full disk comes to something", EXIT_LIMIT, || {
        let ready = client.get("/readyz").is_ok_and(|r| r.status == 200);
        (ready || still_full.try_exit().is_some()).then_some(())
    });
    still_full.kill9();

    if let Some(disk) = &disk {
        disk.resize(LARGE_BYTES);
    }
    let mut node = plain.start();
    round.check(&node);
    node.execute(r#"["INSERT INTO ledger(round) VALUES(99)"]"#);
    assert_eq!(node.terminate().code, Some(0));
}

/// One fault at each of several counts, each on a fresh directory, while writers are at work.
fn under_load(fault: Fault, counts: &[u64]) {
    under_load_beside(r#"["SELECT 1"]"#, fault, counts);
}

/// The same, beside what `before` writes.
fn under_load_beside(before: &str, fault: Fault, counts: &[u64]) {
    let mut rng = Rng::new(support::seed(5));
    for &at in counts {
        let scratch = TempDir::new("fault");
        let plain = Launch::new(&scratch.path().join("data"), &[]);
        let (faulty, armed) = fault.add_to(plain.clone(), scratch.path(), at, false);
        let mut node = faulty.start();
        node.execute(SCHEMA);
        node.execute(before);
        let load = Load::start(node.port(), 0, WRITERS, FILLER_BYTES, &mut rng);
        poll("some writes", EXIT_LIMIT, || (load.acknowledged.load(Ordering::Relaxed) > 20).then_some(()));
        armed.arm();
        poll(&format!("{fault:?} at {at} happens"), EXIT_LIMIT, || armed.fired());
        let exit = node.wait_exit();
        let round = load.finish(0);
        let file = armed.fired().expect("it happened");
        assert_fatal(&exit, &file, &format!("{fault:?} at {at}"));
        drop(node);
        recovers(&plain, &round);
    }
}

/// One fault on the first boot of a directory, then one on the boot after a crash.
fn while_starting(fault: Fault, at: u64) {
    let what = format!("{fault:?} at {at} while starting");
    let scratch = TempDir::new("fault-boot");
    let plain = Launch::new(&scratch.path().join("data"), &[]);
    let mut round = Round::default();
    for first_boot in [true, false] {
        let (faulty, armed) = fault.add_to(plain.clone(), scratch.path(), at, true);
        let mut node = faulty.spawn();
        let mut client = node.client().with_timeout(Duration::from_secs(1));
        poll(&format!("{what} comes to something"), EXIT_LIMIT, || {
            // A start may do fewer such calls than `at`: then the node serves, and a write may meet the fault.
            let ready = client.get("/readyz").is_ok_and(|r| r.status == 200);
            (ready || node.try_exit().is_some()).then_some(())
        });
        if armed.fired().is_some() {
            let exit = node.wait_exit();
            assert_fatal(&exit, &armed.fired().expect("it happened"), &what);
        }
        node.kill9();
        if first_boot {
            let mut node = plain.start();
            node.execute(SCHEMA);
            let load = Load::start(node.port(), 0, WRITERS, 100, &mut Rng::new(at));
            poll("some writes", EXIT_LIMIT, || (load.acknowledged.load(Ordering::Relaxed) > 20).then_some(()));
            node.kill9();
            round = load.finish(0);
        }
    }
    recovers(&plain, &round);
}

/// A start on a good disk holds all that was acknowledged, once, and takes writes.
fn recovers(plain: &Launch, round: &Round) {
    let node: Node = plain.start();
    round.check(&node);
    node.execute(r#"["INSERT INTO ledger(round) VALUES(99)"]"#);
}

/// Exit status 1, not a signal, and a message that names the file and says what to do.
fn assert_fatal(exit: &Exit, file: &Path, what: &str) {
    assert_eq!((exit.code, exit.signal), (Some(1), None), "{what}:\n{}", exit.log);
    // SQLite reports the database, whichever of its files failed.
    let name = file.file_name().expect("a file has a name").to_string_lossy().to_string();
    let name = name.trim_end_matches("-wal").trim_end_matches("-journal").trim_end_matches("-shm");
    assert!(exit.log.contains(name), "{what}: the message does not name {name}:\n{}", exit.log);
    let log = exit.log.to_lowercase();
    let advice = ["start the node again", "start again", "restart", "free space", "free some space", "replace"];
    assert!(advice.iter().any(|a| log.contains(a)), "{what}: the message does not say what to do:\n{}", exit.log);
    assert!(!log.contains("panicked"), "{what}: a panic is no message:\n{}", exit.log);
}
