//! Turns bytes into tokens, one pass: each match is taken unless the next position has a better one.

use super::matches::{Effort, HashChains, Match};
use super::symbols::{MIN_MATCH, Token};

/// What a match so many positions later must gain to be taken instead.
const LEAST_GAIN: [i32; 3] = [0, 2, 6];

/// Farther back the shortest matches cost more than literals.
pub(super) const SHORT_REACH: usize = 4096;

/// Where the parse of a unit stands.
pub(super) struct LazyParser {
    chains: HashChains,
    effort: Effort,
    /// Positions behind that of a match that are searched for a better one: 0 to 2.
    ahead: usize,
    /// Bytes of input that have tokens.
    at: usize,
    /// What was found there, if anything, and how many positions behind it were searched for a better one.
    found: Match,
    searched: usize,
}

impl LazyParser {
    pub(super) fn new(effort: Effort, ahead: usize, window: usize) -> Self {
        Self {
            chains: HashChains::new(window),
            effort,
            ahead,
            at: 0,
            found: Match::default(),
            searched: 0,
        }
    }

    /// Begins a unit.
    pub(super) fn begin(&mut self) {
        // What is looked at ahead is added, too.
        self.chains.begin(self.at + LEAST_GAIN.len());
        self.at = 0;
        self.searched = 0;
    }

    /// Bytes of input that have tokens.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Adds about `count` tokens, fewer only at the end of the input.
    pub(super) fn advance(&mut self, input: &[u8], count: usize, tokens: &mut Vec<Token>) {
        let (effort, ahead) = (self.effort, self.ahead);
        let chains = &mut self.chains;
        let enough = tokens.len() + count;
        let (mut at, mut found, mut searched) = (self.at, self.found, self.searched);
        while tokens.len() < enough && at < input.len() {
            let (least, depth) = match searched {
                0 => (MIN_MATCH - 1, effort.depth),
                _ => (found.length - 1, (effort.depth >> searched).max(1)),
            };
            let next = chains.longest(input, at + searched, least, Effort { depth, ..effort });
            if searched == 0 {
                if next.length < MIN_MATCH || next.length == MIN_MATCH && next.offset > SHORT_REACH
                {
                    tokens.push(Token::literal(input[at]));
                    at += 1;
                    continue;
                }
                found = next;
            } else if gain(found, next) > LEAST_GAIN[searched] {
                tokens.extend(
                    input[at..at + searched]
                        .iter()
                        .map(|&byte| Token::literal(byte)),
                );
                at += searched;
                found = next;
                searched = 0;
            }
            if searched < ahead && found.length < effort.nice {
                searched += 1;
                continue;
            }
            tokens.push(Token::matching(found.length, found.offset));
            chains.skip(input, at + searched + 1, at + found.length);
            at += found.length;
            searched = 0;
        }
        (self.at, self.found, self.searched) = (at, found, searched);
    }
}

/// How much better `next` is than `found`, in quarters of a byte, about.
#[inline]
pub(super) fn gain(found: Match, next: Match) -> i32 {
    if next.length < found.length {
        return i32::MIN;
    }
    4 * (next.length as i32 - found.length as i32) + (found.offset | 1).ilog2() as i32
        - (next.offset | 1).ilog2() as i32
}
