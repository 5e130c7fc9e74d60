//! The fast encoder: the first match found is taken.

use super::sequence::{Block, LAST_LITERALS, LAST_MATCH, common, eight, encode, four};
use super::{HASH_FACTOR, MIN_MATCH, check_distance};
use crate::{EncodeError, Encoder, Fill};

/// log2 of the number of positions remembered: 16 KiB, half of most L1 caches,
/// and cheap to clear for each block.
const TABLE_LOG: u32 = 12;
/// Positions without a match after which only every second one is tried.
const FIRST: u32 = 32;
/// How many of those are tried until it is only every third one, and so on.
const PATIENCE: u32 = 64;

/// Encodes LZ4 blocks fast, like liblz4 without acceleration.
#[derive(Debug)]
pub struct Lz4Encoder {
    /// Where five bytes of a hash were seen last in the input.
    table: Box<[u32; 1 << TABLE_LOG]>,
    max_distance: u32,
}

impl Lz4Encoder {
    /// An encoder whose matches look back at most `max_distance` bytes.
    ///
    /// # Errors
    /// [`EncodeError::Parameter`] for a distance of 0.
    pub fn new(max_distance: u16) -> Result<Self, EncodeError> {
        check_distance(max_distance)?;
        Ok(Self {
            table: Box::new([0; 1 << TABLE_LOG]),
            max_distance: max_distance.into(),
        })
    }

    fn parse(&mut self, block: &mut Block<'_>) {
        let input = block.input();
        let Some(last) = input.len().checked_sub(LAST_MATCH) else {
            return;
        };
        let end = input.len() - LAST_LITERALS;
        // Every string begins as if it had been seen at 0. That is where the first literal is.
        self.table.fill(0);
        let mut at = 1;
        while at <= last {
            let within = last.min(block.consumed() + block.room());
            let Some((mut start, mut from)) = self.scan(input, at, within) else {
                return;
            };
            let mut length = MIN_MATCH + common(input, from + MIN_MATCH, start + MIN_MATCH, end);
            while from > 0 && start > block.consumed() && input[start - 1] == input[from - 1] {
                start -= 1;
                from -= 1;
                length += 1;
            }
            if !block.push(start, start - from, length) {
                return;
            }
            at = block.consumed();
            if let Some(word) = eight(input, at - 2) {
                *self.slot(word) = (at - 2) as u32;
            }
        }
    }

    /// The first match found from `at` to `last`: where it starts and what it repeats.
    #[inline(always)]
    fn scan(&mut self, input: &[u8], at: usize, last: usize) -> Option<(usize, usize)> {
        let input = input.get(..last + 8)?;
        let mut tried = 2 * PATIENCE - FIRST;
        // 32 bits, so that the compiler sees no overflow in what follows.
        let mut at = at as u32;
        loop {
            let word = eight(input, at as usize)?;
            let from = std::mem::replace(self.slot(word), at);
            if four(input, from as usize) == Some(word as u32) && at - from <= self.max_distance {
                return Some((at as usize, from as usize));
            }
            at += tried / PATIENCE;
            tried += 1;
        }
    }

    #[inline(always)]
    fn slot(&mut self, word: u64) -> &mut u32 {
        let hash = (word << 24).wrapping_mul(HASH_FACTOR) >> (64 - TABLE_LOG);
        &mut self.table[hash as usize]
    }
}

impl Encoder for Lz4Encoder {
    fn fill(&mut self, input: &[u8], output: &mut [u8]) -> Result<Option<Fill>, EncodeError> {
        Ok(encode(input, output, |block| self.parse(block)))
    }

    /// Nothing to forget: no block depends on the one before.
    fn restart(&mut self) {}
}
