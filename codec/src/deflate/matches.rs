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
    /// The last position where 3 bytes of this hash are.
    short: Box<[u32; 1 << SHORT_LOG]>,
    /// The same of 4 bytes.
    long: Box<[u32; 1 << LONG_LOG]>,
    /// How far back the next in the chain is, by position modulo window; the largest value for what is beyond.
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

    /// Adds the position `at`, where the four bytes `word` are. Returns how far back the last position with the same
    /// hash of 3 bytes is, and of 4; what is farther than the unit's start was never in it.
    #[inline(always)]
    fn insert(&mut self, at: usize, word: u32) -> (usize, usize) {
        let position = self.base + at as u32;
        let short = ((word << 8).wrapping_mul(0x9E37_79B1) >> (32 - SHORT_LOG)) as usize;
        let long = (word.wrapping_mul(0x9E37_79B1) >> (32 - LONG_LOG)) as usize;
        let near = position - self.short[short];
        let far = position - self.long[long];
        self.short[short] = position;
        self.long[long] = position;
        self.back[at % MAX_WINDOW] = far.min(u16::MAX.into()) as u16;
        (near as usize, far as usize)
    }

    /// Adds the positions from `from` to `to`.
    #[inline]
    pub(super) fn skip(&mut self, input: &[u8], from: usize, to: usize) {
        let Some(bytes) = input.get(from..input.len().min(to + 3)) else {
            return;
        };
        for (at, four) in (from..).zip(bytes.windows(4)) {
            let four = four.first_chunk().copied().unwrap_or_default();
            self.insert(at, u32::from_le_bytes(four));
        }
    }

    /// Adds the position `at` and finds the longest match there that is longer than `best`; the nearest of those.
    #[inline(always)]
    pub(super) fn longest(
        &mut self,
        input: &[u8],
        at: usize,
        best: usize,
        effort: Effort,
    ) -> Match {
        let mut found = Match::default();
        self.search(input, at, best, effort, |longer| found = longer);
        found
    }

    /// Adds the position `at` and tells of matches there that are longer than `best`, each longer than the one before and
    /// the nearest of its length.
    #[inline(always)]
    pub(super) fn search(
        &mut self,
        input: &[u8],
        at: usize,
        best: usize,
        effort: Effort,
        mut tell: impl FnMut(Match),
    ) {
        let here = input.get(at..).unwrap_or_default();
        let here = &here[..here.len().min(MAX_MATCH)];
        let Some(&first) = here.first_chunk() else {
            return;
        };
        let word = u32::from_le_bytes(first);
        let reach = at.min(self.window);
        let (near, mut offset) = self.insert(at, word);
        if best < MIN_MATCH
            && near <= reach
            && let Some(there) = load(input, at - near)
            && (there ^ word) << 8 == 0
        {
            tell(Match {
                length: MIN_MATCH,
                offset: near,
            });
        }
        let mut best = best.max(MIN_MATCH);
        let nice = effort.nice.min(here.len());
        if best >= nice {
            return;
        }
        // A longer match begins with the first four bytes and ends with these, at least.
        let mut last = ending(here, best);
        let mut depth = effort.depth;
        while offset <= reach {
            let start = at - offset;
            let Some(there) = input.get(start..start + best + 1) else {
                break;
            };
            if there.last_chunk() == Some(&last) && there.first_chunk() == Some(&first) {
                let length = common(here, &input[start..]);
                if length > best {
                    best = length;
                    tell(Match { length, offset });
                    if best >= nice {
                        break;
                    }
                    last = ending(here, best);
                }
            }
            depth -= 1;
            if depth == 0 {
                break;
            }
            offset += usize::from(self.back[start % MAX_WINDOW]);
        }
    }
}

/// The last four of the bytes that are one more than `best`; as many are there.
#[inline]
fn ending(here: &[u8], best: usize) -> [u8; 4] {
    here.get(best - 3..)
        .and_then(|bytes| bytes.first_chunk())
        .copied()
        .unwrap_or_default()
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
