//! The stamps that a leader gives its entries: a wall clock that never goes back, and a seed.

use super::applier_thread::now_us;

/// Lives on the raft thread.
pub struct EntryClock {
    last_us: i64,
    /// State of a SplitMix64 generator (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    seed: u64,
}

impl EntryClock {
    /// `last_us` is the time of the newest entry known; `seed` comes from the operating system.
    pub fn new(last_us: i64, seed: u64) -> Self {
        EntryClock { last_us, seed }
    }

    /// Microseconds since the Unix epoch; never before the last one given out, even when the clock was set back.
    pub fn next_time_us(&mut self) -> i64 {
        self.last_us = self.last_us.max(now_us());
        self.last_us
    }

    pub fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_does_not_take_the_entries_back() {
        let future_us = now_us() + 3_600_000_000;
        let mut clock = EntryClock::new(future_us, 1);
        assert_eq!(clock.next_time_us(), future_us);
        let mut clock = EntryClock::new(0, 1);
        let first_us = clock.next_time_us();
        assert!(first_us > 0 && clock.next_time_us() >= first_us);
    }

    #[test]
    fn seeds_differ() {
        let mut clock = EntryClock::new(0, 7);
        let (a, b) = (clock.next_seed(), clock.next_seed());
        assert_ne!(a, b);
    }
}
