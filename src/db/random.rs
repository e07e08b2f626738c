//! The random numbers that SQL sees while an entry is applied: a ChaCha8 keystream keyed by (log index, the entry's
//! seed, number of the statement).
//!
//! The same on every node, and one value tells nothing of the others. Pure; any thread.
//! Source: Bernstein, "ChaCha, a variant of Salsa20" (2008); 8 rounds, 64-bit block counter.

const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
const DOUBLE_ROUNDS: usize = 4;
const BLOCK_WORDS: usize = 16;

pub struct Random {
    key: [u32; 8],
    block: [u32; BLOCK_WORDS],
    counter: u64,
    /// Words of the block that were given out; a new generator computes nothing until it is asked.
    used: usize,
}

impl Random {
    pub const fn new(key: [u32; 8]) -> Random {
        Random { key, block: [0; BLOCK_WORDS], counter: 0, used: BLOCK_WORDS }
    }

    /// The generator for one statement of one entry.
    pub fn for_statement(index: u64, seed: u64, statement: u64) -> Random {
        let mut key = [0; 8];
        for (slot, value) in [index, seed, statement].into_iter().enumerate() {
            key[2 * slot] = value as u32;
            key[2 * slot + 1] = (value >> 32) as u32;
        }
        Random::new(key)
    }

    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | u64::from(self.next_u32()) << 32
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(4) {
            chunk.copy_from_slice(&self.next_u32().to_le_bytes()[..chunk.len()]);
        }
    }

    fn next_u32(&mut self) -> u32 {
        if self.used == BLOCK_WORDS {
            self.refill();
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    fn refill(&mut self) {
        let mut start = [0; BLOCK_WORDS];
        start[..4].copy_from_slice(&CONSTANTS);
        start[4..12].copy_from_slice(&self.key);
        start[12] = self.counter as u32;
        start[13] = (self.counter >> 32) as u32;
        let mut state = start;
        for _ in 0..DOUBLE_ROUNDS {
            for column in 0..4 {
                quarter_round(&mut state, [column, column + 4, column + 8, column + 12]);
            }
            for column in 0..4 {
                let diagonal = |row: usize| 4 * row + (column + row) % 4;
                quarter_round(&mut state, [diagonal(0), diagonal(1), diagonal(2), diagonal(3)]);
            }
        }
        for (word, start) in state.iter_mut().zip(start) {
            *word = word.wrapping_add(start);
        }
        self.block = state;
        self.counter += 1;
        self.used = 0;
    }
}

fn quarter_round(state: &mut [u32; BLOCK_WORDS], [a, b, c, d]: [usize; 4]) {
    for (add, into, mix, bits) in [(b, a, d, 16), (d, c, b, 12), (b, a, d, 8), (d, c, b, 7)] {
        state[into] = state[into].wrapping_add(state[add]);
        state[mix] = (state[mix] ^ state[into]).rotate_left(bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published vector for ChaCha8, 256-bit zero key, zero nonce (first bytes of the keystream).
    #[test]
    fn the_keystream_is_chacha8() {
        let mut first = [0; 16];
        Random::new([0; 8]).fill(&mut first);
        assert_eq!(
            first,
            [0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6, 0x7f, 0x5b, 0xb8, 0xe8, 0x1f, 0x09, 0xa5, 0xa1]
        );
    }

    #[test]
    fn each_statement_has_its_own_numbers() {
        let first = |i, s, n| Random::for_statement(i, s, n).next_u64();
        let all = [first(1, 2, 3), first(1, 2, 4), first(1, 3, 3), first(2, 2, 3), first(2, 1, 3)];
        for (at, value) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(value));
        }
        assert_eq!(first(1, 2, 3), first(1, 2, 3));
    }
}
