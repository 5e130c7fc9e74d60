//! Chooses which matches to take by what it costs to get behind them.
//!
//! From a position with a match, ways go on over its longest match and over the
//! better one [close behind](super::lazy). Where all ways meet, the cheapest is taken.

use super::chain::{Chains, Match};
use super::lazy::better;
use super::sequence::{Block, LAST_LITERALS, LAST_MATCH, more};
use super::{LONG, MIN_MATCH};

/// Positions after which a way is taken before all meet.
const WINDOW: usize = 4096;
/// Cost of a byte. Each sequence costs one besides: of ways equally long, the one
/// of fewer sequences decodes faster.
const BYTE: u32 = 32;
/// The longest match whose length the token holds.
const IN_TOKEN: usize = LONG - 1 + MIN_MATCH;

/// Matches up to this much longer are tried with that length, too: what is cut off may be part of the next one.
const SPARE: usize = 20;

/// The cheapest way found to a position.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// `u32::MAX`: no way leads here.
    cost: u32,
    /// Literals at the end of the way.
    literals: u32,
    /// The match at its end, if there are no literals.
    length: u16,
    offset: u16,
    /// Whether the literals are there for the sake of a match that is known.
    passed: bool,
}

const UNREACHED: Node = Node {
    cost: u32::MAX,
    literals: 0,
    length: 0,
    offset: 0,
    passed: false,
};

/// The ways from one position on.
#[derive(Debug)]
pub(super) struct Optimal {
    nodes: Vec<Node>,
    /// The matches of a way, last first.
    way: Vec<(usize, Match)>,
    /// A match that long is taken at once.
    nice_length: usize,
}

impl Optimal {
    pub(super) fn new(nice_length: usize) -> Self {
        Self {
            nodes: Vec::new(),
            way: Vec::new(),
            nice_length,
        }
    }

    /// Fills `block`.
    pub(super) fn parse(&mut self, chains: &mut Chains, block: &mut Block<'_>) {
        let input = block.input();
        let Some(last) = input.len().checked_sub(LAST_MATCH) else {
            return;
        };
        let end = input.len() - LAST_LITERALS;
        let mut at = 0;
        loop {
            let literals = block.consumed();
            let within = last.min(literals + block.room());
            let Some((start, found)) = chains.next(input, at, literals, within, end) else {
                return;
            };
            let Some(next) = self.meet(chains, block, start, found, last, end) else {
                return;
            };
            at = next;
        }
    }

    /// Follows the ways from `origin`, where there is a match, to where they meet, and takes the cheapest: returns where
    /// that is. `None`: the block is full.
    fn meet(
        &mut self,
        chains: &mut Chains,
        block: &mut Block<'_>,
        origin: usize,
        first: Match,
        last: usize,
        end: usize,
    ) -> Option<usize> {
        self.nodes.clear();
        self.nodes.push(Node {
            cost: 0,
            literals: (origin - block.consumed()) as u32,
            ..UNREACHED
        });
        let mut known = Some(first);
        let mut i = 0;
        loop {
            let node = self.nodes[i];
            let at = origin + i;
            if !node.passed {
                if let Some(found) = known
                    .take()
                    .or_else(|| chains.longest(block.input(), at, end))
                {
                    if found.length >= self.nice_length {
                        self.take(origin, i, block)?;
                        return block
                            .push(at, found.offset, found.length)
                            .then(|| block.consumed());
                    }
                    self.over(i, found);
                    if let Some((start, mut longer)) = better(chains, block, at, found, last, end) {
                        longer.length -= at.saturating_sub(start);
                        longer.length = longer.length.min(self.nice_length);
                        let later = i + start.saturating_sub(at);
                        for i in i..later {
                            self.literal(i, true);
                        }
                        self.over(later, longer);
                    }
                } else {
                    self.literal(i, false);
                }
            }
            // Ways are of use as long as they are cheaper than the one that leads farthest.
            let farthest = self.nodes.len() - 1;
            let bound = self.nodes[farthest].cost;
            i += 1;
            while i < farthest && (self.nodes[i].cost >= bound || self.nodes[i].passed) {
                i += 1;
            }
            if i == farthest || i > WINDOW || origin + i > last {
                self.take(origin, farthest, block)?;
                return Some(origin + farthest);
            }
        }
    }

    fn node(&mut self, i: usize) -> &mut Node {
        if self.nodes.len() <= i {
            self.nodes.resize(i + 1, UNREACHED);
        }
        &mut self.nodes[i]
    }

    /// Offers a way from node `i` over a literal.
    fn literal(&mut self, i: usize, passed: bool) {
        let Node { cost, literals, .. } = self.nodes[i];
        let extra = more(literals as usize + 1) - more(literals as usize);
        let cost = cost + BYTE * (1 + extra as u32);
        let node = self.node(i + 1);
        if cost < node.cost {
            *node = Node {
                cost,
                literals: literals + 1,
                passed,
                ..UNREACHED
            };
        }
    }

    /// Offers ways from node `i` over a match.
    fn over(&mut self, i: usize, found: Match) {
        let cost = self.nodes[i].cost + BYTE * 3 + 1;
        let mut offer = |length: usize| {
            let cost = cost + BYTE * more(length - MIN_MATCH) as u32;
            let node = self.node(i + length);
            if cost <= node.cost {
                *node = Node {
                    cost,
                    literals: 0,
                    length: length as u16,
                    offset: found.offset as u16,
                    passed: false,
                };
            }
        };
        offer(found.length);
        if found.length > IN_TOKEN && found.length < IN_TOKEN + SPARE {
            offer(IN_TOKEN);
        }
    }

    /// Takes the way to node `i`. `None`: the block is full.
    fn take(&mut self, origin: usize, mut i: usize, block: &mut Block<'_>) -> Option<()> {
        self.way.clear();
        loop {
            i = i.saturating_sub(self.nodes[i].literals as usize);
            if i == 0 {
                break;
            }
            let Node { length, offset, .. } = self.nodes[i];
            i -= usize::from(length);
            let found = Match {
                length: length.into(),
                offset: offset.into(),
            };
            self.way.push((origin + i, found));
        }
        self.way
            .drain(..)
            .rev()
            .all(|(start, found)| block.push(start, found.offset, found.length))
            .then_some(())
    }
}
