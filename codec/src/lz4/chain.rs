//! Finds matches along chains of positions whose next bytes hash alike.

use super::MIN_MATCH;
use super::sequence::{common, eight, four};

/// Entries of each of the two tables at most.
const TABLE: usize = 1 << 16;
/// Positions that are linked: the farthest match of the format.
const WINDOW: usize = 1 << 16;

/// Positions before one asked for that are entered where chains are not followed.
const UNCHAINED: usize = 3;

/// How hard to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Positions of a chain that are tried at most.
    pub(super) attempts: u32,
    /// A match that long is taken without looking for a longer one.
    pub(super) nice_length: usize,
    /// Whether to follow a chain where the latest position with the same hash of four bytes is another string.
    pub(super) thorough: bool,
    /// log2 of the entries of each table at most, up to 16.
    pub(super) table_log: u32,
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
            shift: 64 - effort.table_log,
            max_distance: max_distance.into(),
            effort,
        }
    }

    /// Forgets all positions, for a new block of at most `room` bytes from `length` bytes of input.
    pub(super) fn restart(&mut self, length: usize, room: usize) {
        // What fits a small block needs small tables, which stay in the CPU's caches.
        let table_log = (room | 1).ilog2() + 2;
        self.shift = 64 - table_log.min(self.effort.table_log);
        self.base += self.inserted as u32;
        self.inserted = 0;
        if self.base.checked_add(length as u32).is_none() {
            self.heads.fill(0);
            self.latest.fill(0);
            self.base = 1;
        }
    }

    /// Enters the next position.
    #[inline(always)]
    fn insert(&mut self, word: u64) -> Before {
        let position = self.base + self.inserted as u32;
        let hash = (word << 24).wrapping_mul(0x9E37_79B1_85EB_CA87) >> self.shift;
        let head = std::mem::replace(&mut self.heads[hash as usize % TABLE], position);
        let hash = (word << 32).wrapping_mul(0x9E37_79B1_85EB_CA87) >> self.shift;
        let latest = std::mem::replace(&mut self.latest[hash as usize % TABLE], position);
        let before = Before {
            chained: self.distance(head),
            latest: self.distance(latest),
        };
        self.links[self.inserted % WINDOW] = before.chained as u16;
        self.inserted += 1;
        before
    }

    /// How far before the next position `entry` is; 0 if that is too far for a match.
    #[inline(always)]
    fn distance(&self, entry: u32) -> u32 {
        let distance = (self.base + self.inserted as u32).wrapping_sub(entry);
        if distance <= self.max_distance.min(self.inserted as u32) {
            distance
        } else {
            0
        }
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
        if self.effort.attempts == 1 {
            // Chains are not followed: they may have gaps.
            self.inserted = self.inserted.max(at.saturating_sub(UNCHAINED));
        }
        while self.inserted < at {
            self.insert(eight(input, self.inserted)?);
        }
        Some((word, self.insert(word)))
    }

    /// The longest match found at `at` that ends at `end` or before.
    #[inline(always)]
    pub(super) fn longest(&mut self, input: &[u8], at: usize, end: usize) -> Option<Match> {
        let (word, before) = self.look_up(input, at)?;
        let mut found = Match {
            length: MIN_MATCH - 1,
            offset: before.latest as usize,
        };
        if found.offset != 0 && four(input, at - found.offset) == Some(word as u32) {
            found.length = common(input, at - found.offset, at, end);
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
