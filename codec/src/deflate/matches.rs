//! Finds earlier occurrences with chains of positions of equal hash.

use super::symbols::{MAX_MATCH, MIN_MATCH};

/// log2 of the positions by hash of 3 bytes.
const SHORT_LOG: u32 = 14;
/// log2 of the positions by hash of 4 bytes.
const LONG_LOG: u32 = 15;
/// The largest window in bytes.
const MAX_WINDOW: usize = 1 << 15;

/// An occurrence of the bytes at a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Match {
    /// Bytes that are equal; 0 if nothing was found.
    pub(super) length: usize,
    /// How far back they are.
    pub(super) offset: usize,
}

/// How far a search goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Positions looked at.
    pub(super) depth: usize,
    /// A match of this length is good enough.
    pub(super) nice: usize,
}

/// Positions by the hash of what is there, and before each the one of the same hash.
///
/// Positions count on from unit to unit, so that nothing has to be cleared between them: what is before the unit is
/// farther back than its start.
pub(super) struct HashChains {
    /// Position after the last where 3 bytes of this hash are.
    short: Box<[u32; 1 << SHORT_LOG]>,
    /// The same of 4 bytes.
    long: Box<[u32; 1 << LONG_LOG]>,
    /// How far back the next in the chain is, 0 at its end; by position modulo window.
    back: Box<[u16; MAX_WINDOW]>,
    /// Position of the start of the unit.
    base: u32,
    window: usize,
}

fn zeroed<T: Clone + Default, const N: usize>() -> Box<[T; N]> {
    match vec![T::default(); N].try_into() {
        Ok(array) => array,
        Err(_) => unreachable!("the vector has N elements"),
    }
}

impl HashChains {
    /// Of matches at most `window` bytes back, 32 KiB at most.
    pub(super) fn new(window: usize) -> Self {
        Self {
            short: zeroed(),
            long: zeroed(),
            back: zeroed(),
            base: 1,
            window,
        }
    }

    /// Begins a unit, behind one of which `read` bytes were looked at.
    pub(super) fn begin(&mut self, read: usize) {
        self.base += read as u32;
        if self.base > u32::MAX / 2 {
            self.short.fill(0);
            self.long.fill(0);
            self.base = 1;
        }
    }

    /// Adds the position `at` of `input`; at least 4 bytes are there. Returns how far back the last position with the same
    /// hash of 3 bytes is, and of 4; what is more than `reach` is not in this unit or too far.
    #[inline]
    fn insert(&mut self, at: usize, word: u32, reach: usize) -> (usize, usize) {
        let position = self.base + at as u32;
        let short = ((word << 8).wrapping_mul(0x9E37_79B1) >> (32 - SHORT_LOG)) as usize;
        let long = (word.wrapping_mul(0x9E37_79B1) >> (32 - LONG_LOG)) as usize;
        let near = (position - self.short[short]) as usize;
        let far = (position - self.long[long]) as usize;
        self.short[short] = position;
        self.long[long] = position;
        self.back[at % MAX_WINDOW] = if far <= reach { far as u16 } else { 0 };
        (near, far)
    }

    /// Adds `count` positions from `at` on.
    pub(super) fn skip(&mut self, input: &[u8], at: usize, count: usize) {
        let end = (at + count + 3).min(input.len());
        let Some(bytes) = input.get(at..end) else {
            return;
        };
        for (i, four) in bytes.windows(4).enumerate() {
            let word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
            self.insert(at + i, word, (at + i).min(self.window));
        }
    }

    /// Adds the position `at` and finds the longest match there that is longer than `best`; the nearest of those.
    #[inline]
    pub(super) fn longest(
        &mut self,
        input: &[u8],
        at: usize,
        best: usize,
        effort: Effort,
    ) -> Match {
        let mut found = Match::default();
        let Some(here) = input.get(at..) else {
            return found;
        };
        let here = &here[..here.len().min(MAX_MATCH)];
        let Some(word) = load(here, 0) else {
            return found;
        };
        let reach = at.min(self.window);
        let (near, mut offset) = self.insert(at, word, reach);
        let nice = effort.nice.min(here.len());
        let mut best = best.max(MIN_MATCH - 1);
        if best < MIN_MATCH
            && near <= reach
            && let Some(there) = load(input, at - near)
            && (there ^ word) << 8 == 0
        {
            found = Match {
                length: MIN_MATCH,
                offset: near,
            };
        }
        best = best.max(MIN_MATCH);
        if best >= nice {
            return found;
        }
        // The four bytes that a longer match ends with, at least.
        let mut last = load(here, best - 3).unwrap_or_default();
        let mut depth = effort.depth;
        while offset <= reach {
            let start = at - offset;
            if load(input, start + best - 3) == Some(last) && load(input, start) == Some(word) {
                let length = common(here, &input[start..]);
                if length > best {
                    best = length;
                    found = Match { length, offset };
                    if best >= nice {
                        break;
                    }
                    last = load(here, best - 3).unwrap_or_default();
                }
            }
            depth -= 1;
            let back = usize::from(self.back[start % MAX_WINDOW]);
            if depth == 0 || back == 0 {
                break;
            }
            offset += back;
        }
        found
    }
}

/// Four bytes.
#[inline]
fn load(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*four))
}

/// How many bytes two slices have in common at their start.
#[inline]
fn common(a: &[u8], b: &[u8]) -> usize {
    let mut length = 0;
    for (x, y) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        let differ = word(x) ^ word(y);
        if differ != 0 {
            return length + (differ.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    length
        + a[length..]
            .iter()
            .zip(&b[length..])
            .take_while(|(x, y)| x == y)
            .count()
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |&bytes| u64::from_le_bytes(bytes))
}
