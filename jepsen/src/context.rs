//! What all threads of a run share: the clock, where the nodes are, when to stop, and the figures that are counted live.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Instant;

/// Seen by clients. The cluster itself belongs to the one thread that breaks and mends it.
pub struct Context {
    /// All times of histories are microseconds since this.
    pub start: Instant,
    /// HTTP ports, by node.
    pub ports: Vec<u16>,
    /// Members that clients may ask, whether they answer or not.
    active: Vec<AtomicBool>,
    /// Counted up when a node's directory is wiped: from then on it may know less than before.
    lives: Vec<AtomicU32>,
    /// No new operations.
    stop: AtomicBool,
    /// Give up even on operations under way.
    quit: AtomicBool,
    /// When a write was last acknowledged.
    last_ack_us: AtomicU64,
    pub acks: AtomicU64,
    /// Longest pause of a client between two operations, ms.
    pub think_ms: u64,
    pub seed: u64,
}

impl Context {
    /// `count` members at first; ports beyond them are of spares.
    pub fn new(ports: Vec<u16>, count: usize, think_ms: u64, seed: u64) -> Context {
        Context {
            start: Instant::now(),
            active: (0..ports.len()).map(|node| AtomicBool::new(node < count)).collect(),
            lives: ports.iter().map(|_| AtomicU32::new(0)).collect(),
            ports,
            stop: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            last_ack_us: AtomicU64::new(0),
            acks: AtomicU64::new(0),
            think_ms,
            seed,
        }
    }

    pub fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    pub fn active_nodes(&self) -> Vec<usize> {
        (0..self.ports.len()).filter(|node| self.active[*node].load(SeqCst)).collect()
    }

    pub fn set_active(&self, node: usize, active: bool) {
        self.active[node].store(active, SeqCst);
    }

    pub fn life(&self, node: usize) -> u32 {
        self.lives[node].load(SeqCst)
    }

    pub fn new_life(&self, node: usize) {
        self.lives[node].fetch_add(1, SeqCst);
    }

    pub fn stop(&self) {
        self.stop.store(true, SeqCst);
    }

    pub fn stopping(&self) -> bool {
        self.stop.load(SeqCst)
    }

    pub fn quit(&self) {
        self.quit.store(true, SeqCst);
    }

    pub fn quitting(&self) -> bool {
        self.quit.load(SeqCst)
    }

    /// A write was acknowledged just now.
    pub fn acknowledged(&self) {
        self.last_ack_us.fetch_max(self.now_us(), SeqCst);
        self.acks.fetch_add(1, SeqCst);
    }

    pub fn last_ack_us(&self) -> u64 {
        self.last_ack_us.load(SeqCst)
    }
}
