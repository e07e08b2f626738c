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
    /// Elections that are to be tried in quick succession: the leader is gone, and no time need be lost over a vote that
    /// was split or came too early.
    hasty: u8,
}

/// See `Clock::hasty`. After so many it is as if nothing had been known.
const HASTY_TRIES: u8 = 4;

impl Clock {
    pub(crate) fn new(config: &Config) -> Clock {
        Clock {
            now_ms: 0,
            started: false,
            election_due_ms: u64::MAX,
            leader_heard_ms: 0,
            random: Random::new(config.seed),
            hasty: 0,
        }
    }

    /// Two nodes stand in one term. The next attempt comes within a part of a timeout, if neither wins: late enough for
    /// votes that are still on their way, and spread so that the two do not meet again.
    pub(crate) fn vote_is_split(&mut self, timing: &Timing) {
        let part_ms = (timing.election_timeout_ms / 4).max(1);
        let soon_ms = self.now_ms.saturating_add(part_ms).saturating_add(self.random.next_u64() % part_ms);
        self.election_due_ms = self.election_due_ms.min(soon_ms);
    }

    /// The leader is gone, most likely: the next attempt comes after one or two heartbeat intervals, in which a living
    /// leader would be heard.
    pub(crate) fn hasten_election(&mut self, timing: &Timing) {
        self.hasty = HASTY_TRIES;
        let spread = self.random.next_u64() % timing.heartbeat_interval_ms;
        let soon_ms = self.now_ms.saturating_add(timing.heartbeat_interval_ms).saturating_add(spread);
        self.election_due_ms = self.election_due_ms.min(soon_ms);
    }

    /// A leader lives.
    pub(crate) fn heard_leader(&mut self, timing: &Timing) {
        self.leader_heard_ms = self.now_ms;
        self.hasty = 0;
        self.reset_election(timing);
    }

    /// Draws a new timeout between one and one and a half election timeouts; a shorter one in haste. The Raft paper
    /// (section 5.2) draws up to two, to make split votes rare. Here a split takes two nodes that ask within the time of one
    /// message, as whoever asks later is refused (`ask_before_standing`), and costs only a part of a timeout
    /// (`vote_is_split`); so half the spread is enough, and a leader that falls silent is replaced that much sooner.
    pub(crate) fn reset_election(&mut self, timing: &Timing) {
        if self.hasty > 0 {
            self.hasty -= 1;
            // Long enough for an election among the living, each time a little longer.
            let step_ms = timing.heartbeat_interval_ms * u64::from(HASTY_TRIES - self.hasty);
            let spread = self.random.next_u64() % (2 * step_ms);
            let wait_ms = (2 * step_ms + spread).min(timing.election_timeout_ms + spread);
            self.election_due_ms = self.now_ms.saturating_add(wait_ms);
            return;
        }
        let spread = self.random.next_u64() % (timing.election_timeout_ms / 2);
        self.election_due_ms = self.now_ms.saturating_add(timing.election_timeout_ms).saturating_add(spread);
    }
}
