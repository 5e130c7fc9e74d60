//! The parse of least cost, for the highest levels.
//!
//! All matches of each position are kept while provisional tokens are made of them, which tell where blocks end. Then the
//! cheapest way through the block is found from its end backwards, going by what symbols cost in the way found before.

use super::block::Histogram;
use super::estimate;
use super::lazy::{SHORT_REACH, gain};
use super::matches::{Effort, HashChains, Match};
use super::symbols::{
    END_OF_BLOCK, FIRST_LENGTH, LENGTH_EXTRA, MAX_MATCH, MIN_MATCH, OFFSET_EXTRA, OFFSET_SYMBOLS,
    Token, length_symbol, offset_symbol,
};

/// Where the parse of a unit stands.
pub(super) struct OptimalParser {
    chains: HashChains,
    effort: Effort,
    /// How often the cheapest way is looked for.
    passes: usize,
    /// Bytes of input that have tokens.
    at: usize,
    /// Position of the block's start.
    origin: usize,
    /// Matches of all positions from there on, of each the shorter ones first.
    matches: Vec<Token>,
    /// Where those of each position end.
    ends: Vec<usize>,
    /// Least cost from each position to the end of the block, and the token that it begins with.
    ways: Vec<(u32, Token)>,
}

/// What tokens cost, in [`estimate::FRACTIONS`] of a bit.
struct Costs {
    literals: [u32; 256],
    lengths: [u32; MAX_MATCH + 1],
    offsets: [u32; OFFSET_SYMBOLS],
}

impl Costs {
    fn of(histogram: &Histogram) -> Self {
        let mut litlen = histogram.litlen;
        litlen[END_OF_BLOCK] += 1;
        let litlen = estimate::symbol_costs(&litlen);
        let mut offsets = estimate::symbol_costs(&histogram.offset);
        for (cost, bits) in offsets.iter_mut().zip(OFFSET_EXTRA) {
            *cost += u32::from(bits) * estimate::FRACTIONS;
        }
        let mut literals = [0; 256];
        literals.copy_from_slice(&litlen[..256]);
        let mut lengths = [0; MAX_MATCH + 1];
        for (length, cost) in lengths.iter_mut().enumerate().skip(MIN_MATCH) {
            let symbol = length_symbol(length);
            let extra = u32::from(LENGTH_EXTRA[symbol]) * estimate::FRACTIONS;
            *cost = litlen[FIRST_LENGTH + symbol] + extra;
        }
        Self {
            literals,
            lengths,
            offsets,
        }
    }
}

impl OptimalParser {
    pub(super) fn new(effort: Effort, passes: usize, window: usize) -> Self {
        Self {
            chains: HashChains::new(window),
            effort,
            passes,
            at: 0,
            origin: 0,
            matches: Vec::new(),
            ends: Vec::new(),
            ways: Vec::new(),
        }
    }

    /// Begins a unit.
    pub(super) fn begin(&mut self) {
        self.chains.begin(self.origin + self.ends.len());
        (self.at, self.origin) = (0, 0);
        self.matches.clear();
        self.ends.clear();
    }

    /// Bytes of input that have tokens.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Finds the matches of all positions before `end`.
    fn collect(&mut self, input: &[u8], end: usize) {
        for position in self.origin + self.ends.len()..end {
            let matches = &mut self.matches;
            self.chains
                .search(input, position, MIN_MATCH - 1, self.effort, |found| {
                    matches.push(Token::matching(found.length, found.offset));
                });
            self.ends.push(self.matches.len());
        }
    }

    /// The longest match of the position `at`, if it is worth taking without knowing more.
    fn longest(&mut self, input: &[u8], at: usize) -> Option<Match> {
        self.collect(input, at + 1);
        let longest = self.of(at - self.origin).last()?;
        let longest = Match {
            length: longest.length(),
            offset: longest.low() + 1,
        };
        (longest.length > MIN_MATCH || longest.offset <= SHORT_REACH).then_some(longest)
    }

    /// The matches of the position `index` behind the origin.
    fn of(&self, index: usize) -> &[Token] {
        let start = match index {
            0 => 0,
            _ => self.ends[index - 1],
        };
        &self.matches[start..self.ends[index]]
    }

    /// Adds about `count` provisional tokens, fewer only at the end of the input.
    pub(super) fn advance(&mut self, input: &[u8], count: usize, tokens: &mut Vec<Token>) {
        let enough = tokens.len() + count;
        while tokens.len() < enough && self.at < input.len() {
            let at = self.at;
            let found = match self.longest(input, at) {
                Some(found) if found.length >= self.effort.nice => {
                    // No better way leads through here.
                    let next = self.origin + self.ends.len();
                    let end = at + found.length;
                    self.chains.skip(input, next, end);
                    self.ends
                        .resize(self.ends.len().max(end - self.origin), self.matches.len());
                    Some(found)
                }
                Some(found) => self
                    .longest(input, at + 1)
                    .is_none_or(|next| gain(found, next) <= 2)
                    .then_some(found),
                None => None,
            };
            match found {
                Some(Match { length, offset }) => {
                    tokens.push(Token::matching(length, offset));
                    self.at += length;
                }
                None => {
                    tokens.push(Token::literal(input[at]));
                    self.at += 1;
                }
            }
        }
    }

    /// Replaces provisional tokens from the origin on, of that histogram, by those of the cheapest way that is found.
    pub(super) fn refine(
        &mut self,
        input: &[u8],
        histogram: &mut Histogram,
        tokens: &mut Vec<Token>,
    ) {
        let end = self.origin + histogram.bytes;
        let Some(bytes) = input.get(self.origin..end) else {
            return;
        };
        // Those of the positions within the last match are still missing.
        self.collect(input, end);
        let mut ways = std::mem::take(&mut self.ways);
        for _ in 0..self.passes {
            self.find_ways(bytes, &Costs::of(histogram), &mut ways);
            tokens.clear();
            let mut at = 0;
            while at < bytes.len() {
                let token = ways[at].1;
                tokens.push(token);
                at += token.length().max(1);
            }
            *histogram = Histogram::EMPTY;
            histogram.add(tokens);
        }
        self.ways = ways;
    }

    fn find_ways(&self, bytes: &[u8], costs: &Costs, ways: &mut Vec<(u32, Token)>) {
        ways.clear();
        ways.resize(bytes.len() + 1, (0, Token::literal(0)));
        for (index, &byte) in bytes.iter().enumerate().rev() {
            // Ways from here on, by the length of the first token.
            let here = &mut ways[index..];
            let mut best = (
                costs.literals[usize::from(byte)] + here[1].0,
                Token::literal(byte),
            );
            let mut shortest = MIN_MATCH;
            for found in self.of(index) {
                let (length, offset) = (found.length(), found.low() + 1);
                let cost = costs.offsets[offset_symbol(found.low())];
                let lengths = shortest..(length + 1).min(here.len());
                let rest = here.get(lengths.clone()).unwrap_or_default();
                for ((length, &(rest, _)), price) in
                    lengths.clone().zip(rest).zip(&costs.lengths[shortest..])
                {
                    let cost = cost + price + rest;
                    if cost < best.0 {
                        best = (cost, Token::matching(length, offset));
                    }
                }
                shortest = length + 1;
            }
            here[0] = best;
        }
    }

    /// Begins a block so many bytes behind the last.
    pub(super) fn next_block(&mut self, bytes: usize) {
        if let Some(last) = bytes.checked_sub(1) {
            let dropped = self.ends[last];
            self.matches.drain(..dropped);
            self.ends.drain(..bytes);
            for end in &mut self.ends {
                *end -= dropped;
            }
        }
        self.origin += bytes;
    }
}
