//! The quick levels of LZ4HC: of two earlier positions, the last one that eight bytes of a hash lead to and the last one
//! for four, the better is taken.

use super::chain::Match;
use super::sequence::{Block, LAST_LITERALS, LAST_MATCH, common, eight, four, step};
use super::{HASH_FACTOR, MIN_MATCH};

/// log2 of the entries of each of the two tables at most.
const TABLE_LOG: u32 = 14;
const TABLE: usize = 1 << TABLE_LOG;

/// Earlier positions, plus `base`.
#[derive(Debug)]
pub(super) struct Pair {
    /// By eight bytes.
    long: Box<[u32; TABLE]>,
    /// By four bytes.
    short: Box<[u32; TABLE]>,
    /// Entries below this are of earlier blocks.
    base: u32,
    /// Positions of the block that entries may be of.
    length: u32,
    /// 64 less log2 of the entries used of each table.
    shift: u32,
    max_distance: u32,
}

impl Pair {
    pub(super) fn new(max_distance: u16) -> Self {
        Self {
            long: Box::new([0; TABLE]),
            short: Box::new([0; TABLE]),
            base: 1,
            length: 0,
            shift: 64 - TABLE_LOG,
            max_distance: max_distance.into(),
        }
    }

    /// Forgets all positions, for a new block of at most `room` bytes from `length` bytes of input.
    fn restart(&mut self, length: usize, room: usize) {
        // What fits a small block needs small tables, which stay in the CPU's caches.
        self.shift = 64 - ((room | 1).ilog2() + 2).min(TABLE_LOG);
        self.base += self.length;
        self.length = length as u32;
        if self.base.checked_add(self.length).is_none() {
            self.long.fill(0);
            self.short.fill(0);
            self.base = 1;
        }
    }

    /// Fills `block`.
    pub(super) fn parse(&mut self, block: &mut Block<'_>) {
        let input = block.input();
        self.restart(input.len(), block.room());
        let Some(last) = input.len().checked_sub(LAST_MATCH) else {
            return;
        };
        let end = input.len() - LAST_LITERALS;
        let mut at = 0;
        while at <= last.min(block.consumed() + block.room()) {
            let Some((mut start, mut found)) = self.find(input, at, last, end) else {
                at += step(at - block.consumed());
                continue;
            };
            let mut from = start - found.offset;
            while start > block.consumed() && from > 0 && input[start - 1] == input[from - 1] {
                start -= 1;
                from -= 1;
                found.length += 1;
            }
            if !block.push(start, found.offset, found.length) {
                return;
            }
            at = block.consumed();
            // The middle of a match is not entered; what precedes its end often recurs with what follows.
            if let Some(word) = eight(input, at - 2) {
                let position = self.base + (at - 2) as u32;
                *self.long(word) = position;
                *self.short(word) = position;
            }
        }
    }

    /// The match to take at `at` or right behind it.
    #[inline(always)]
    fn find(&mut self, input: &[u8], at: usize, last: usize, end: usize) -> Option<(usize, Match)> {
        let word = eight(input, at)?;
        let position = self.base + at as u32;
        let short = std::mem::replace(self.short(word), position);
        if let Some(found) = self.long_match(input, word, at, end) {
            return Some((at, found));
        }
        let offset = self.distance(input, word, at, short)?;
        let length = common(input, at - offset, at, end);
        let found = Match { length, offset };
        let next = at + 1;
        if next <= last
            && let Some(word) = eight(input, next)
            && let Some(longer) = self.long_match(input, word, next, end)
            && longer.length > length
        {
            return Some((next, longer));
        }
        Some((at, found))
    }

    /// The match where eight bytes were seen last.
    #[inline(always)]
    fn long_match(&mut self, input: &[u8], word: u64, at: usize, end: usize) -> Option<Match> {
        let position = self.base + at as u32;
        let entry = std::mem::replace(self.long(word), position);
        let offset = self.distance(input, word, at, entry)?;
        let length = common(input, at - offset, at, end);
        (length > MIN_MATCH).then_some(Match { length, offset })
    }

    /// How far before `at` an entry is, if the four lowest bytes of `word` are there too. Those of earlier blocks are, less
    /// `base`, behind the end of any input.
    #[inline(always)]
    fn distance(&self, input: &[u8], word: u64, at: usize, entry: u32) -> Option<usize> {
        let from = entry.wrapping_sub(self.base);
        if four(input, from as usize) != Some(word as u32) {
            return None;
        }
        let distance = (at as u32).wrapping_sub(from);
        (distance.wrapping_sub(1) < self.max_distance).then_some(distance as usize)
    }

    #[inline(always)]
    fn long(&mut self, word: u64) -> &mut u32 {
        &mut self.long[(word.wrapping_mul(HASH_FACTOR) >> self.shift) as usize % TABLE]
    }

    #[inline(always)]
    fn short(&mut self, word: u64) -> &mut u32 {
        &mut self.short[((word << 32).wrapping_mul(HASH_FACTOR) >> self.shift) as usize % TABLE]
    }
}
