//! Time and chance as values: what the caller said the time is, and a small generator fed by a seed.

use crate::config::{Config, Timing};

/// Sebastiano Vigna's SplitMix64. Good enough to spread timeouts; nothing secret depends on it.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The replica's view of time, in milliseconds of the caller's monotonic clock.
#[derive(Debug)]
pub(crate) struct Clock {
    pub(crate) now_ms: u64,
    pub(crate) started: bool,
    /// When a follower or candidate tries the next election.
    pub(crate) election_due_ms: u64,
    /// When a leader of the current term was last heard.
    pub(crate) leader_heard_ms: u64,
    random: Random,
}

impl Clock {
    pub(crate) fn new(config: &Config) -> Clock {
        Clock {
            now_ms: 0,
            started: false,
            election_due_ms: u64::MAX,
            leader_heard_ms: 0,
            random: Random::new(config.seed),
        }
    }

    /// Draws a new timeout between one and two election timeouts (Raft paper, section 5.2).
    pub(crate) fn reset_election(&mut self, timing: &Timing) {
        let spread = self.random.next_u64() % timing.election_timeout_ms;
        self.election_due_ms = self.now_ms.saturating_add(timing.election_timeout_ms).saturating_add(spread);
    }
}
