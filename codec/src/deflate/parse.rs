//! What each level does to turn bytes into tokens.

use super::block::Histogram;
use super::lazy::LazyParser;
use super::matches::Effort;
use super::optimal::OptimalParser;
use super::symbols::Token;

/// How a level parses.
#[derive(Clone, Copy, Debug)]
enum Strategy {
    /// Each match unless there is a better one so many positions later.
    Lazy(Effort, usize),
    /// The cheapest way, looked for so often.
    Optimal(Effort, usize),
}

/// What each level does, from 1 on.
const STRATEGIES: [Strategy; 12] = {
    use Strategy::{Lazy, Optimal};
    const fn effort(depth: usize, nice: usize) -> Effort {
        Effort { depth, nice }
    }
    [
        Lazy(effort(2, 16), 0),
        Lazy(effort(6, 10), 0),
        Lazy(effort(12, 14), 0),
        Lazy(effort(16, 30), 0),
        Lazy(effort(16, 30), 1),
        Lazy(effort(35, 65), 1),
        Lazy(effort(100, 130), 1),
        Lazy(effort(300, 258), 2),
        Lazy(effort(600, 258), 2),
        Optimal(effort(70, 75), 2),
        Optimal(effort(200, 150), 3),
        Optimal(effort(600, 258), 6),
    ]
};

/// Where the parse of a unit stands.
pub(super) enum Parser {
    Lazy(LazyParser),
    Optimal(OptimalParser),
}

impl Parser {
    /// Of a level of 1 to 12 with matches at most `window` bytes back.
    pub(super) fn new(level: usize, window: usize) -> Self {
        match STRATEGIES[level - 1] {
            Strategy::Lazy(effort, ahead) => Self::Lazy(LazyParser::new(effort, ahead, window)),
            Strategy::Optimal(effort, passes) => {
                Self::Optimal(OptimalParser::new(effort, passes, window))
            }
        }
    }

    /// Begins a unit.
    pub(super) fn begin(&mut self) {
        match self {
            Self::Lazy(parser) => parser.begin(),
            Self::Optimal(parser) => parser.begin(),
        }
    }

    /// Bytes of input that have tokens.
    pub(super) fn position(&self) -> usize {
        match self {
            Self::Lazy(parser) => parser.position(),
            Self::Optimal(parser) => parser.position(),
        }
    }

    /// Adds about `count` tokens, fewer only at the end of the input.
    pub(super) fn advance(&mut self, input: &[u8], count: usize, tokens: &mut Vec<Token>) {
        match self {
            Self::Lazy(parser) => parser.advance(input, count, tokens),
            Self::Optimal(parser) => parser.advance(input, count, tokens),
        }
    }

    /// Makes the tokens of a block from those that were added for it. Those and their histogram are replaced, in
    /// `refined`, where the parser knows better ones.
    pub(super) fn refine<'a>(
        &mut self,
        input: &[u8],
        added: &'a [Token],
        histogram: &mut Histogram,
        refined: &'a mut Vec<Token>,
    ) -> &'a [Token] {
        match self {
            Self::Lazy(_) => added,
            Self::Optimal(parser) => {
                parser.refine(input, histogram, refined);
                refined
            }
        }
    }

    /// Begins a block so many bytes behind the last.
    pub(super) fn next_block(&mut self, bytes: usize) {
        match self {
            Self::Lazy(_) => {}
            Self::Optimal(parser) => parser.next_block(bytes),
        }
    }
}
