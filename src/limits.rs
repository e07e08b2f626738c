//! What keeps the memory of a node bounded whatever clients send: the limits that belong together, and the turnstiles
//! through which large requests and large results go one after the other.
//!
//! Any thread. Limits that must be the same on all nodes are in `db/limits.rs`; those of sockets in `http/engine/config.rs`.

use crate::{db, http};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request's body from this size on is large: it is held as text, as a log entry and as SQLite's copy of it.
pub const LARGE_BODY_BYTES: u64 = 1024 * 1024;
/// An answer from this size on is large.
pub const LARGE_RESULT_BYTES: usize = 1024 * 1024;

/// How long a large request or result waits for its turn.
const TURN_WAIT_MAX: Duration = Duration::from_secs(15);
/// Workers that may wait for a turn: the others go on serving small requests.
const TURN_WAITERS_MAX: usize = 32;

/// Large requests, until they are answered.
pub static LARGE_BODIES: Turnstile = Turnstile::new(2);
/// Large results while they are made; what is made and not yet sent goes to a scratch file.
pub static LARGE_RESULTS: Turnstile = Turnstile::new(2);
/// Backups, until they are sent: each holds a snapshot, which keeps the WAL from being reset.
pub static BACKUPS: Turnstile = Turnstile::new(2);

/// Databases that are loaded through this node: the log takes the parts of one at a time.
pub static LOADS: Turnstile = Turnstile::new(1);

/// What the largest answers take while they are made.
const RESULTS_BYTES_MAX: usize = 2 * http::json::DEFAULT_RESULT_BYTES_MAX;
const _: () = assert!(RESULTS_BYTES_MAX <= 48 * 1024 * 1024, "two large answers fit a small machine");
const _: () = assert!(db::limits::ENTRY_RESULT_BYTES_MAX <= http::json::DEFAULT_RESULT_BYTES_MAX);
const _: () = assert!(db::limits::VALUE_BYTES_MAX as usize <= http::json::DEFAULT_RESULT_BYTES_MAX);

/// Lets a number through at a time.
pub struct Turnstile {
    state: Mutex<State>,
    freed: Condvar,
}

struct State {
    free: usize,
    waiting: usize,
}

/// The right to be inside; dropping it lets the next one in.
#[must_use]
pub struct Turn {
    turnstile: &'static Turnstile,
}

impl Turnstile {
    pub const fn new(at_once: usize) -> Turnstile {
        Turnstile { state: Mutex::new(State { free: at_once, waiting: 0 }), freed: Condvar::new() }
    }

    /// Waits for a turn; `None` when too many wait already or it takes too long.
    pub fn enter(&'static self) -> Option<Turn> {
        self.enter_within(TURN_WAIT_MAX)
    }

    /// The same with another patience.
    pub fn enter_within(&'static self, wait_max: Duration) -> Option<Turn> {
        let deadline = Instant::now() + wait_max;
        let mut state = self.state.lock();
        if state.free == 0 && state.waiting >= TURN_WAITERS_MAX {
            return None;
        }
        state.waiting += 1;
        while state.free == 0 && !self.freed.wait_until(&mut state, deadline).timed_out() {}
        state.waiting -= 1;
        if state.free == 0 {
            return None;
        }
        state.free -= 1;
        Some(Turn { turnstile: self })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        release_memory();
        self.turnstile.state.lock().free += 1;
        self.turnstile.freed.notify_one();
    }
}

/// Memory, in bytes, that many may take parts of.
#[derive(Default)]
pub struct Room {
    taken_bytes: Mutex<usize>,
    freed: Condvar,
}

/// A part of a [`Room`]; dropping it gives the bytes back.
#[must_use]
pub struct RoomTaken {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    /// Waits until `bytes` fit `bytes_max` together with what is taken; what alone is larger is let in when nothing else is.
    /// `None` when there is no room by the deadline.
    pub fn take(self: &Arc<Room>, bytes: usize, bytes_max: usize, deadline: Instant) -> Option<RoomTaken> {
        let mut taken = self.taken_bytes.lock();
        while *taken > 0 && *taken + bytes > bytes_max {
            if self.freed.wait_until(&mut taken, deadline).timed_out() {
                return None;
            }
        }
        *taken += bytes;
        Some(RoomTaken { room: Arc::clone(self), bytes })
    }
}

impl Drop for RoomTaken {
    fn drop(&mut self) {
        *self.room.taken_bytes.lock() -= self.bytes;
        self.room.freed.notify_all();
    }
}

/// Sets up the C library's allocator and the descriptor limit; called once, before other threads exist.
///
/// Freed blocks of large requests must go back to the system rather than stay in an arena for each thread, and the limit on
/// descriptors that shells hand down (1,024) is for programs that still use `select`.
pub fn prepare_process() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only sets parameters of the allocator, and no other thread allocates yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 * 1024);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1024 * 1024);
    }
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    // A limit that cannot be raised stays as it is: the engine counts with what there is.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}

/// What programs without privileges may still write on the disk of a directory.
///
/// # Errors
/// It is not there, or its disk does not tell.
pub fn free_disk_bytes(dir: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Gives freed memory back to the system. For after something large; costs about a millisecond.
pub fn release_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim locks the arenas by itself.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets all other threads go first, from here on: for long work in the background, such as copies of the database, which
/// must not make a request wait for the processor.
pub fn work_in_background() {
    // SAFETY: a plain system call; zero means the calling thread on Linux. Where it fails, work is done as ever.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, BACKGROUND_NICE) };
}

/// Of nineteen. A thread with this one still gets a tenth of a busy processor.
const BACKGROUND_NICE: libc::c_int = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn what_is_held_cannot_take_more_memory_than_there_is_room() {
        const MAX: usize = 1000;
        let room = Arc::new(Room::default());
        let soon = || Instant::now() + Duration::from_millis(5);
        let large = room.take(10 * MAX, MAX, soon()).expect("a large one alone is taken");
        assert!(room.take(1, MAX, soon()).is_none());
        drop(large);
        let half = room.take(MAX / 2, MAX, soon()).expect("there is room");
        let other = room.take(MAX / 2, MAX, soon()).expect("there is room");
        assert!(room.take(1, MAX, soon()).is_none());
        let waiter = Arc::clone(&room);
        let waiting =
            std::thread::spawn(move || waiter.take(1, MAX, Instant::now() + Duration::from_secs(20)).is_some());
        drop(half);
        assert!(waiting.join().expect("no panic"));
        drop(other);
        assert_eq!(*room.taken_bytes.lock(), 0);
    }

    #[test]
    fn no_more_are_inside_than_may_be_and_all_get_their_turn() {
        static DOOR: Turnstile = Turnstile::new(2);
        static INSIDE: AtomicUsize = AtomicUsize::new(0);
        let threads: Vec<_> = (0..12)
            .map(|_| {
                std::thread::spawn(|| {
                    for _ in 0..200 {
                        let turn = DOOR.enter().expect("12 threads are few enough");
                        assert!(INSIDE.fetch_add(1, Ordering::SeqCst) < 2);
                        INSIDE.fetch_sub(1, Ordering::SeqCst);
                        drop(turn);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
    }
}
