//! Turns bytes into tokens, one pass: each match is taken unless the next position has a better one.

use super::matches::{Effort, HashChains, Match};
use super::symbols::{MIN_MATCH, Token};

/// How a level parses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strategy {
    pub(super) effort: Effort,
    /// Positions behind a match that are searched for a better one: 0 to 2.
    pub(super) ahead: usize,
}

/// Where the parse of a unit stands.
pub(super) struct Parser {
    chains: HashChains,
    strategy: Strategy,
    /// Bytes of input that have tokens.
    at: usize,
    /// What was found there, if it was searched.
    found: Option<Match>,
}

impl Parser {
    pub(super) fn new(strategy: Strategy, window: usize) -> Self {
        Self {
            chains: HashChains::new(window),
            strategy,
            at: 0,
            found: None,
        }
    }

    /// Begins a unit.
    pub(super) fn begin(&mut self) {
        // What is looked at ahead is added, too.
        self.chains.begin(self.at + 3);
        self.at = 0;
        self.found = None;
    }

    /// Bytes of input that have tokens.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Adds about `count` tokens, fewer only at the end of the input.
    pub(super) fn advance(&mut self, input: &[u8], count: usize, tokens: &mut Vec<Token>) {
        let Strategy { effort, ahead } = self.strategy;
        let half = Effort {
            depth: (effort.depth / 2).max(1),
            ..effort
        };
        let quarter = Effort {
            depth: (effort.depth / 4).max(1),
            ..effort
        };
        let enough = tokens.len() + count;
        while tokens.len() < enough && self.at < input.len() {
            let at = self.at;
            let found = match self.found.take() {
                Some(found) => found,
                None => self.chains.longest(input, at, MIN_MATCH - 1, effort),
            };
            if found.length < MIN_MATCH || found.length == MIN_MATCH && found.offset > 8192 {
                tokens.push(Token::literal(input[at]));
                self.at += 1;
                continue;
            }
            let mut searched = 1;
            if ahead > 0 && found.length < effort.nice {
                let next = self.chains.longest(input, at + 1, found.length - 1, half);
                searched += 1;
                if gain(found, next) > 2 {
                    tokens.push(Token::literal(input[at]));
                    self.at += 1;
                    self.found = Some(next);
                    continue;
                }
                if ahead > 1 {
                    let next = self
                        .chains
                        .longest(input, at + 2, found.length - 1, quarter);
                    searched += 1;
                    if gain(found, next) > 6 {
                        tokens.push(Token::literal(input[at]));
                        tokens.push(Token::literal(input[at + 1]));
                        self.at += 2;
                        self.found = Some(next);
                        continue;
                    }
                }
            }
            tokens.push(Token::matching(found.length, found.offset));
            self.at += found.length;
            self.chains
                .skip(input, at + searched, found.length - searched);
        }
    }
}

/// How much better `next` is than `found`, in quarters of a byte, about.
#[inline]
fn gain(found: Match, next: Match) -> i32 {
    if next.length < found.length {
        return i32::MIN;
    }
    4 * (next.length as i32 - found.length as i32) + found.offset.ilog2() as i32
        - next.offset.ilog2() as i32
}
