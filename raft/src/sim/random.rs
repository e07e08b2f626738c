//! Chance from a seed. Every choice of a simulated world comes from one of these, so a seed is a whole story.

use crate::clock::Random;

/// See the module. Wraps the replica's own generator.
pub(super) struct Chance(Random);

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance(Random::new(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Evenly from zero up to and without `bound`, which is not zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Evenly; both ends belong to it.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Mixes `value` into a running hash (the FNV-1a step over words; only equality matters).
pub(super) fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
}

pub(super) fn mix_bytes(hash: u64, bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let rest = words.remainder().iter().fold(bytes.len() as u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let hash = words.fold(hash, |h, word| mix(h, u64::from_le_bytes(word.try_into().expect("eight bytes"))));
    mix(hash, rest)
}
