//! Helpers for tests that run real `ferrolite` processes on loopback.
//!
//! Test threads only. Nothing in here may sleep for luck: whatever waits polls until a deadline and then fails with what
//! it saw last. Every process that a test starts is killed when its `Node` goes out of scope.

// Each test binary compiles this module anew and uses only the part of it that it needs.
#![allow(dead_code, unused_imports)]

pub mod databases;
pub mod fault;
pub mod http;
pub mod ledger;
pub mod node;
pub mod procfs;
pub mod rng;
pub mod script;
pub mod tempdir;

pub use http::{Client, Reply};
pub use node::{Exit, Launch, Node};
pub use rng::Rng;
pub use tempdir::TempDir;

use std::time::{Duration, Instant};

/// Calls `probe` until it returns something.
///
/// # Panics
/// Nothing came within `limit`; the panic says `what` was waited for.
pub fn poll<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        std::thread::sleep(POLL_PAUSE);
    }
}

/// Pause between two looks of [`poll`]: short beside what is measured with it (a start takes tens of milliseconds).
pub const POLL_PAUSE: Duration = Duration::from_millis(2);

/// The seed of a test's randomness: `FERROLITE_TEST_SEED` when set, so that a failing run can be repeated, else the
/// given one. Printed, so that a failure shows it.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("FERROLITE_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(default);
    println!("seed {seed} (set FERROLITE_TEST_SEED to change it)");
    seed
}
