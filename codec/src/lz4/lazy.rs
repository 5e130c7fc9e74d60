//! Chooses which matches to take: the longest at a position, unless one of the two positions behind it has a longer one.
//!
//! All offsets cost the same, and what follows a position gets no shorter when
//! the position moves back. So there are two choices only: the longest match, or
//! a literal, and three literals already cost as much as a match does.

use super::MIN_MATCH;
use super::chain::{Chains, Match};
use super::sequence::{Block, LAST_LITERALS, LAST_MATCH};

/// Literals put before a longer match at most.
const LITERALS: usize = 2;

/// Fills `block`.
pub(super) fn parse(chains: &mut Chains, block: &mut Block<'_>) {
    let input = block.input();
    let Some(last) = input.len().checked_sub(LAST_MATCH) else {
        return;
    };
    let end = input.len() - LAST_LITERALS;
    let mut at = 0;
    loop {
        let literals = block.consumed();
        let within = last.min(literals + block.room());
        let Some((mut start, mut found)) = chains.next(input, at, literals, within, end) else {
            return;
        };
        while let Some((later, longer)) = better(chains, block, start, found, last, end) {
            (start, found) = (later, longer);
        }
        if !block.push(start, found.offset, found.length) {
            return;
        }
        at = block.consumed();
    }
}

/// A longer match than the one `found` at `start`, not far behind it.
#[inline(always)]
pub(super) fn better(
    chains: &mut Chains,
    block: &Block<'_>,
    start: usize,
    found: Match,
    last: usize,
    end: usize,
) -> Option<(usize, Match)> {
    let input = block.input();
    let later = start + LITERALS;
    // Whatever starts at `later` or before, and is longer, has the bytes here in common with it.
    let via = (start + found.length - 3).max(later);
    if via > last {
        return None;
    }
    if found.length == MIN_MATCH {
        for at in start + 1..=later {
            if let Some(longer) = chains.longest(input, at, end)
                && longer.length > MIN_MATCH
            {
                return Some((at, longer));
            }
        }
        return None;
    }
    let mut longer = chains.longer(input, later, via, found.length - 1, end)?;
    let mut at = later;
    while at > block.consumed()
        && at > longer.offset
        && input[at - 1] == input[at - 1 - longer.offset]
    {
        at -= 1;
        longer.length += 1;
    }
    (longer.length > found.length).then_some((at, longer))
}
