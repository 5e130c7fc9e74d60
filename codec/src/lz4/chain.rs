//! Finds matches along chains of positions whose next bytes hash alike.

use super::sequence::{common, eight, four, step};
use super::{HASH_FACTOR, MIN_MATCH};

/// log2 of the entries of each of the two tables at most.
const TABLE_LOG: u32 = 16;
const TABLE: usize = 1 << TABLE_LOG;
/// Positions that are linked: the farthest match of the format.
const WINDOW: usize = 1 << 16;

/// How hard to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Positions of a chain that are tried at most.
    pub(super) attempts: u32,
    /// A match that long is taken without looking for a longer one.
    pub(super) nice_length: usize,
    /// Whether to follow a chain where the latest position with the same hash of four bytes is another string.
    pub(super) thorough: bool,
}

/// A match at some position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Match {
    pub(super) length: usize,
    pub(super) offset: usize,
}

/// Earlier positions by their first bytes. For the shortest matches the last position with the same four bytes is as
/// good as any, so only positions with five bytes in common are chained.
#[derive(Debug)]
pub(super) struct Chains {
    /// The last position with these four bytes, plus `base`.
    latest: Box<[u32; TABLE]>,
    /// The last position of each chain, plus `base`.
    heads: Box<[u32; TABLE]>,
    /// How far before a position the one before it in its chain is; 0 = too far, or there is none.
    links: Box<[u16; WINDOW]>,
    /// Positions in the tables below this are of earlier blocks.
    base: u32,
    /// Positions that are in chains.
    inserted: usize,
    /// 64 less log2 of the entries used of each table.
    shift: u32,
    max_distance: u32,
    effort: Effort,
}

/// What is known of a position from the tables.
#[derive(Clone, Copy, Debug)]
struct Before {
    /// Distance to the one before with the same five bytes, 0 = none.
    chained: u32,
    /// And with the same four bytes.
    latest: u32,
}

impl Chains {
    pub(super) fn new(max_distance: u16, effort: Effort) -> Self {
        Self {
            latest: Box::new([0; TABLE]),
            heads: Box::new([0; TABLE]),
            links: Box::new([0; WINDOW]),
            base: 1,
            inserted: 0,
            shift: 64 - TABLE_LOG,
            max_distance: max_distance.into(),
            effort,
        }
    }

    /// Forgets all positions, for a new block of at most `room` bytes from `length` bytes of input.
    pub(super) fn restart(&mut self, length: usize, room: usize) {
        // What fits a small block needs small tables, which stay in the CPU's caches.
        let table_log = (room | 1).ilog2() + 3;
        self.shift = 64 - table_log.min(TABLE_LOG);
        self.base += self.inserted as u32;
        self.inserted = 0;
        if self.base.checked_add(length as u32).is_none() {
            self.heads.fill(0);
            self.latest.fill(0);
            self.base = 1;
        }
    }

    /// Enters positions up to the first that `stop` agrees to, among `at` and those that `step` leads to from there, up
    /// to `last`: where it is, its first bytes, and what was known of it.
    #[inline(always)]
    fn enter(
        &mut self,
        input: &[u8],
        mut at: usize,
        last: usize,
        stop: impl Fn(usize, u64, Before) -> bool,
        step: impl Fn(usize) -> usize,
    ) -> Option<(usize, u64, Before)> {
        // Copies, so that the compiler sees that writing to the tables changes none of them.
        let &mut Self {
            base,
            shift,
            max_distance,
            ..
        } = self;
        let (latest, heads, links) = (&mut *self.latest, &mut *self.heads, &mut *self.links);
        let mut position = self.inserted as u32;
        // How far before the position an entry is; 0 if that is too far for a match.
        let distance = |position: u32, entry: u32| {
            let distance = (base + position).wrapping_sub(entry);
            if distance <= max_distance.min(position) {
                distance
            } else {
                0
            }
        };
        while at <= last {
            let word = eight(input, position as usize)?;
            let hash = (word << 24).wrapping_mul(HASH_FACTOR) >> shift;
            let head = std::mem::replace(&mut heads[hash as usize % TABLE], base + position);
            let hash = (word << 32).wrapping_mul(HASH_FACTOR) >> shift;
            let same = std::mem::replace(&mut latest[hash as usize % TABLE], base + position);
            let chained = distance(position, head);
            links[position as usize % WINDOW] = chained as u16;
            position += 1;
            if position as usize > at {
                let before = Before {
                    chained,
                    latest: distance(position - 1, same),
                };
                if stop(at, word, before) {
                    self.inserted = position as usize;
                    return Some((at, word, before));
                }
                at += step(at);
            }
        }
        self.inserted = position as usize;
        None
    }

    /// Enters all positions up to `at` and looks `at` up. What is entered already is less well known.
    #[inline(always)]
    fn look_up(&mut self, input: &[u8], at: usize) -> Option<(u64, Before)> {
        let word = eight(input, at)?;
        if at < self.inserted {
            let before = Before {
                chained: self.links[at % WINDOW].into(),
                latest: 0,
            };
            return Some((word, before));
        }
        let (_, word, before) = self.enter(input, at, at, |_, _, _| true, |_| 1)?;
        Some((word, before))
    }

    /// The first position from `at` to `last` with a match, and the longest found there that ends at `end` or before.
    /// The more literals there are since `literals`, the fewer positions are looked up.
    #[inline(always)]
    pub(super) fn next(
        &mut self,
        input: &[u8],
        mut at: usize,
        literals: usize,
        last: usize,
        end: usize,
    ) -> Option<(usize, Match)> {
        let thorough = self.effort.thorough;
        let step = |at: usize| step(at - literals);
        loop {
            let stop = |at, word, before| thorough || latest(input, at, word, before).is_some();
            let (start, word, before) = self.enter(input, at, last, stop, step)?;
            if let Some(found) = self.best(input, start, word, before, end) {
                return Some((start, found));
            }
            at = start + step(start);
        }
    }

    /// The longest match found at `at` that ends at `end` or before.
    #[inline(always)]
    pub(super) fn longest(&mut self, input: &[u8], at: usize, end: usize) -> Option<Match> {
        let (word, before) = self.look_up(input, at)?;
        self.best(input, at, word, before, end)
    }

    #[inline(always)]
    fn best(
        &self,
        input: &[u8],
        at: usize,
        word: u64,
        before: Before,
        end: usize,
    ) -> Option<Match> {
        let mut found = Match {
            length: MIN_MATCH - 1,
            offset: 0,
        };
        if let Some(offset) = latest(input, at, word, before) {
            let length = common(input, at - offset, at, end);
            found = Match { length, offset };
        } else if !self.effort.thorough {
            return None;
        }
        self.follow(input, at, at, before, found, end)
            .or((found.length >= MIN_MATCH).then_some(found))
    }

    /// A match at `at` longer than `than` that ends at `end` or before, among the positions that equal `via` in five
    /// bytes, which is `at` or behind it.
    #[inline(always)]
    pub(super) fn longer(
        &mut self,
        input: &[u8],
        at: usize,
        via: usize,
        than: usize,
        end: usize,
    ) -> Option<Match> {
        let (_, before) = self.look_up(input, via)?;
        let than = Match {
            length: than,
            offset: 0,
        };
        self.follow(input, at, via, before, than, end)
    }

    #[inline(always)]
    fn follow(
        &self,
        input: &[u8],
        at: usize,
        via: usize,
        before: Before,
        than: Match,
        end: usize,
    ) -> Option<Match> {
        let input = input.get(..end)?;
        let mut best = than;
        let mut distance = before.chained as usize;
        let mut offset = 0;
        let mut wanted = four(input, at + best.length - (MIN_MATCH - 1))?;
        let farthest = at.min(self.max_distance as usize);
        for _ in 0..self.effort.attempts {
            if best.length >= self.effort.nice_length || distance == 0 {
                break;
            }
            offset += distance;
            if offset > farthest {
                break;
            }
            let from = at - offset;
            // A longer match has these four bytes in common.
            if four(input, from + best.length - (MIN_MATCH - 1)) == Some(wanted) {
                let length = common(input, from, at, end);
                if length > best.length {
                    best = Match { length, offset };
                    match four(input, at + length - (MIN_MATCH - 1)) {
                        Some(word) => wanted = word,
                        None => break,
                    }
                }
            }
            distance = self.links[(via - offset) % WINDOW].into();
        }
        (best.length > than.length).then_some(best)
    }
}

/// How far before `at`, where `word` is, the latest position with the same four bytes is, if it is that.
#[inline(always)]
fn latest(input: &[u8], at: usize, word: u64, before: Before) -> Option<usize> {
    let offset = before.latest as usize;
    (offset != 0 && four(input, at - offset) == Some(word as u32)).then_some(offset)
}
