//! Filling a pcluster with one stream.
//!
//! The input is parsed into tokens once. Their histogram tells what a block of them costs, so the tokens since the last
//! block become a block when their statistics change, and when they would no longer fit, the longest run of them that
//! does is found by costing prefixes: no data is looked at again. What was parsed beyond that is dropped, so the parse
//! goes in small steps near the end.

use std::fmt;

use super::block::{BlockPlan, Histogram};
use super::parse::Parser;
use super::symbols::Token;
use super::{LEVELS, MAX_WINDOW_BITS, MIN_WINDOW_BITS, bits::BitWriter, estimate};
use crate::{BLOCK, EncodeError, Encoder, Fill};

/// Largest pcluster of EROFS, in bytes.
const MAX_OUTPUT: usize = 1 << 20;
/// Most input of one stream, in bytes.
const MAX_INPUT: usize = 1 << 30;
/// Tokens between two looks at the statistics.
const STEP: usize = 512;
/// Most tokens of a block.
const MAX_TOKENS: usize = 1 << 16;
/// Bytes of input from which a block is long enough.
const MAX_BYTES: usize = 512 << 10;
/// Least tokens that may be worth a block of their own.
const MIN_TOKENS: usize = 2 * STEP;
/// Of the output, this part may stay empty at the end: nothing better is looked for.
const GAP: usize = 1024;

/// Encodes raw DEFLATE streams that fill pclusters.
///
/// A stream comes out with as many blocks as the output has, or fewer when all of the input fits. Each is made without
/// regard to those before it.
pub struct DeflateEncoder {
    parser: Parser,
    max_output: usize,
    /// Tokens since the last block written.
    tokens: Vec<Token>,
    /// Better ones, of a parser that finds them once it knows the block.
    refined: Vec<Token>,
    bytes_parsed: u64,
}

impl fmt::Debug for DeflateEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeflateEncoder")
            .field("max_output", &self.max_output)
            .field("bytes_parsed", &self.bytes_parsed)
            .finish_non_exhaustive()
    }
}

impl DeflateEncoder {
    /// An encoder at `level` (1 to 12) of streams that reach back at most `2^window_bits` bytes (8 to 15) into outputs of at
    /// most `max_output` bytes (one block to 1 MiB; of a longer output only that much is used).
    ///
    /// # Errors
    /// [`EncodeError::Parameter`] outside these ranges.
    pub fn new(level: i32, window_bits: u32, max_output: usize) -> Result<Self, EncodeError> {
        EncodeError::check(
            "deflate level",
            level.into(),
            i64::from(*LEVELS.start())..=i64::from(*LEVELS.end()),
        )?;
        EncodeError::check(
            "deflate window bits",
            window_bits.into(),
            MIN_WINDOW_BITS.into()..=MAX_WINDOW_BITS.into(),
        )?;
        EncodeError::check(
            "output size",
            i64::try_from(max_output).unwrap_or(i64::MAX),
            BLOCK as i64..=MAX_OUTPUT as i64,
        )?;
        Ok(Self {
            parser: Parser::new(level as usize, 1 << window_bits),
            max_output,
            tokens: Vec::with_capacity(MAX_TOKENS + STEP),
            refined: Vec::new(),
            bytes_parsed: 0,
        })
    }

    /// Bytes of input that were parsed so far; beside the bytes consumed this tells what the search for the fill costs.
    #[must_use]
    pub fn bytes_parsed(&self) -> u64 {
        self.bytes_parsed
    }
}

/// A stream that is being written.
struct Stream<'a> {
    input: &'a [u8],
    writer: BitWriter<'a>,
    /// Bits of the output.
    limit: usize,
    /// Bytes of input written.
    consumed: usize,
    /// Position of the bit that says whether the last block written is the last.
    last_block: Option<usize>,
}

impl Stream<'_> {
    fn room(&self) -> usize {
        self.limit - self.writer.position()
    }

    fn plan(&self, histogram: &Histogram) -> BlockPlan {
        BlockPlan::cheapest(histogram, self.writer.position())
    }

    fn write(&mut self, plan: &BlockPlan, tokens: &[Token], bytes: usize) {
        let covered = &self.input[self.consumed..self.consumed + bytes];
        self.last_block = Some(plan.write(tokens, covered, &mut self.writer));
        self.consumed += bytes;
    }

    /// Writes the longest prefix of `tokens` that fits as a block; all of them, of that histogram and plan, do not.
    fn write_prefix(&mut self, tokens: &[Token], mut histogram: Histogram, whole: &BlockPlan) {
        let room = self.room();
        let gap = self.limit / GAP;
        // Tokens that fit and that do not, and what they cost.
        let (mut fits, mut exceeds) = ((0, 0), (tokens.len(), whole.bits));
        let mut best = None;
        let mut at = tokens.len();
        let mut round = 0;
        while fits.0 + 1 < exceeds.0 && fits.1 + gap < room {
            round += 1;
            let between = exceeds.0 - fits.0;
            let step = if round % 4 == 0 {
                between / 2
            } else {
                // As if each token cost the same; half the gap below the edge.
                (room - gap / 2).saturating_sub(fits.1) * between / (exceeds.1 - fits.1)
            };
            let next = fits.0 + step.clamp(1, between - 1);
            if next < at {
                histogram.remove(&tokens[next..at]);
            } else {
                histogram.add(&tokens[at..next]);
            }
            at = next;
            let plan = self.plan(&histogram);
            if plan.bits <= room {
                fits = (at, plan.bits);
                best = Some((plan, at, histogram.bytes));
            } else {
                exceeds = (at, plan.bits);
            }
        }
        if let Some((plan, count, bytes)) = best {
            self.write(&plan, &tokens[..count], bytes);
        }
    }

    /// Marks the end. `None` when nothing was written.
    fn finish(mut self) -> Option<Fill> {
        self.writer.set(self.last_block?);
        self.writer.align();
        Some(Fill {
            consumed: self.consumed,
            encoded: self.writer.position() / 8,
        })
    }
}

impl DeflateEncoder {
    fn encode(&mut self, mut stream: Stream<'_>) -> Option<Fill> {
        let Self {
            parser,
            tokens,
            refined,
            ..
        } = self;
        let input = stream.input;
        parser.begin();
        tokens.clear();
        // Tokens since the last block: those that belong together, and those that may begin another.
        let mut settled = Histogram::EMPTY;
        let mut settled_count = 0;
        let mut recent = Histogram::EMPTY;
        let mut step = STEP;
        // Bits of blocks for each that was estimated.
        let mut bias = 1.0;
        loop {
            let before = tokens.len();
            parser.advance(input, step, tokens);
            recent.add(&tokens[before..]);
            let ended = parser.position() == input.len();

            let mut all = settled.clone();
            all.merge(&recent);
            let estimated = estimate::block_bits(&all);
            let cost = (estimated as f64 * bias) as usize;
            let recent_count = tokens.len() - settled_count;
            let room = stream.room();
            // So many tokens should fit, of the kind of those since the last block.
            step = match (room.checked_sub(cost), tokens.len()) {
                (Some(left), count @ 1..) => (left * count / cost.max(1) + 8).min(STEP),
                _ => 32,
            };
            let full = tokens.len() >= MAX_TOKENS || all.bytes >= MAX_BYTES;
            // A block of their own for the recent ones, if that is cheaper.
            let (mut block, count) = if settled_count > 0
                && recent_count >= MIN_TOKENS
                && estimate::block_bits(&settled) + estimate::block_bits(&recent) < estimated
            {
                (settled.clone(), settled_count)
            } else if ended || full || cost >= room {
                (all.clone(), tokens.len())
            } else {
                if settled_count == 0 || recent_count >= MIN_TOKENS {
                    settled = all;
                    settled_count = tokens.len();
                    recent = Histogram::EMPTY;
                }
                continue;
            };

            let chosen = parser.refine(input, &tokens[..count], &mut block, refined);
            let plan = stream.plan(&block);
            if plan.bits > room {
                stream.write_prefix(chosen, block, &plan);
                break;
            }
            if count == tokens.len() && !ended && !full {
                // It only looked as if they would not fit.
                bias = plan.bits as f64 / estimated as f64;
                continue;
            }
            stream.write(&plan, chosen, block.bytes);
            parser.next_block(block.bytes);
            if ended && count == tokens.len() {
                break;
            }
            tokens.drain(..count);
            settled_count = tokens.len();
            settled = if settled_count > 0 {
                recent
            } else {
                Histogram::EMPTY
            };
            recent = Histogram::EMPTY;
        }
        self.bytes_parsed += parser.position() as u64;
        stream.finish()
    }
}

impl Encoder for DeflateEncoder {
    fn fill(&mut self, input: &[u8], output: &mut [u8]) -> Result<Option<Fill>, EncodeError> {
        // What fits a block cannot save one.
        if input.len() <= BLOCK {
            return Ok(None);
        }
        let budget = output.len().min(self.max_output);
        let fill = self.encode(Stream {
            input: &input[..input.len().min(MAX_INPUT)],
            writer: BitWriter::new(&mut output[..budget]),
            limit: budget * 8,
            consumed: 0,
            last_block: None,
        });
        Ok(fill.filter(|fill| fill.encoded.next_multiple_of(BLOCK) < fill.consumed))
    }

    /// Each stream stands for itself already.
    fn restart(&mut self) {}
}
