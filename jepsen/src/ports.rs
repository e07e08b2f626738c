//! Free loopback ports. Any thread.

use crate::rng::Rng;
use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Mutex;

/// Below the range that the kernel gives to outgoing connections, so that none of them takes a port of a node that is down.
const RANGE: (u64, u64) = (15_000, 31_999);
const TRIES_MAX: u32 = 1000;

/// A port that nobody listens on, never given twice by this process.
pub fn free_port() -> u16 {
    static USED: Mutex<Option<(HashSet<u16>, Rng)>> = Mutex::new(None);
    let mut used = USED.lock().expect("nobody panics while holding the lock");
    let (used, rng) = used.get_or_insert_with(|| (HashSet::new(), Rng::new(seed())));
    for _ in 0..TRIES_MAX {
        let port = rng.between(RANGE.0, RANGE.1) as u16;
        if used.insert(port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free loopback port in {TRIES_MAX} tries");
}

/// Different for each process, so that runs side by side rarely try the same ports.
fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::from(std::process::id()) << 32 ^ now.map_or(0, |t| t.as_nanos() as u64)
}
