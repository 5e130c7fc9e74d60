//! Filling a pcluster with one frame.
//!
//! A frame is made in one pass. Pieces of input are flushed through the library,
//! each sized from the ratio seen so far so that it uses most of the room left;
//! the pieces shrink geometrically. A flush ends a block, and a block depends
//! only on what comes before it, so a piece that turns out too large is dropped
//! by ending the frame at the block before it: nothing is encoded again. The
//! last few bytes of room take a block of plain bytes.
//!
//! Only when the dropped piece leaves a gap that is worth it, the frame is made
//! anew with what the overflow taught about the ratio.
//!
//! The ratios are floating point, but only multiplied, divided and compared,
//! which is exact to the bit on every machine.

use std::fmt;

use zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_flush;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

use super::{LEVELS, MAX_WINDOW_LOG, MIN_WINDOW_LOG, NAME, frame};
use crate::{BLOCK, EncodeError, Encoder, Fill};

/// Largest pcluster of EROFS, in bytes.
const MAX_OUTPUT: usize = 1 << 20;
/// The library chooses tables and strategy for inputs of this many times the
/// output. Twice as much costs 1.5 % of size at 64 KiB and level 3.
const EXPECTED_RATIO: usize = 4;
/// The same at level 3 for data that compresses better: the larger tables save
/// 1.5 % of Linux source that is packed at 64 KiB. Other data would take 10 %
/// more time for a thousandth.
const EXPECTED_RATIO_OF_SIMILAR: usize = 8;
/// Largest expected input for which matches of 4 bytes pay at levels 4 to 6.
const SHORT_MATCHES: usize = 256 << 10;
/// Encoded bytes per input byte up to which they pay at level 3. Of data that
/// hardly compresses, as weights of models, most matches are so short: finding
/// them takes four times as long and saves nothing.
const SHORT_MATCHES_PAY: f64 = 0.7;

/// Matches of 4 bytes or more, and of as many as the level says.
const SHORTER: CParameter = CParameter::MinMatch(4);
const AS_THE_LEVEL: CParameter = CParameter::MinMatch(0);

// The values below come from a random search over all of them with
// `examples/fill.rs`, for size and encodes per byte at 4 KiB and 64 KiB.

/// Part of the output that the first piece aims at, going by the frame before.
const FIRST: f64 = 0.85;
/// Part of the room left that each later piece aims at.
const NEXT: f64 = 0.75;
/// Weight of this frame's ratio against that of the frame before.
const HERE: f64 = 0.25;
/// Part of the output below which the room left is not worth another piece.
const LEFTOVER: f64 = 0.005;
/// Part of the output that a dropped piece may leave to plain bytes.
const GAP: f64 = 0.05;
/// Part of the room left that is aimed at when the frame is made anew.
const ANEW: f64 = 0.93;
/// How often a frame is made at most.
const ATTEMPTS: usize = 3;
/// Encoded bytes per input byte from which data counts as incompressible.
const INCOMPRESSIBLE: f64 = 63.0 / 64.0;

/// Encodes Zstd frames that fill pclusters.
///
/// A frame comes out with exactly as many blocks as the output has, or fewer
/// where the cut is better, and covers at most 4 GiB − 1 of input.
pub struct ZstdEncoder {
    context: CCtx<'static>,
    level: i32,
    window_log: u32,
    max_output: usize,
    /// Whether the data compresses well from its beginning.
    similar: bool,
    /// What the library's tables are chosen for.
    expected_ratio: usize,
    short_matches: bool,
    /// The frame as the library writes it, and room to see how far a piece overflows.
    scratch: Box<[u8]>,
    /// Ratio of the frame before.
    ratio: Option<f64>,
    bytes_pushed: u64,
}

impl fmt::Debug for ZstdEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdEncoder")
            .field("window_log", &self.window_log)
            .field("max_output", &self.max_output)
            .field("ratio", &self.ratio)
            .finish_non_exhaustive()
    }
}

/// A place where a frame can end.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Bytes of input before it.
    consumed: usize,
    /// Its position in the scratch buffer.
    end: usize,
    /// Position of the header of the block before it.
    last_block: usize,
}

impl Cut {
    const START: Self = Self {
        consumed: 0,
        end: frame::BARE_HEADER,
        last_block: 0,
    };

    /// Encoded bytes per input byte up to here.
    fn ratio(&self) -> f64 {
        (self.end - frame::BARE_HEADER) as f64 / self.consumed as f64
    }

    /// Bytes of the frame that ends here, with the largest header it may get.
    fn frame_length(&self) -> usize {
        self.end - frame::BARE_HEADER + frame::MAX_HEADER
    }
}

/// The last cut of a frame, and the ratio of the piece after it that did not fit.
type Attempt = (Cut, Option<f64>);

impl ZstdEncoder {
    /// An encoder at `level` (1 to 22) of frames that reach back at most
    /// `2^window_log` bytes (10 to 20) into outputs of at most `max_output`
    /// bytes (one block to 1 MiB; of a longer output only that much is used).
    ///
    /// # Errors
    /// [`EncodeError::Parameter`] outside these ranges.
    pub fn new(level: i32, window_log: u32, max_output: usize) -> Result<Self, EncodeError> {
        EncodeError::check(
            "zstd level",
            level.into(),
            i64::from(*LEVELS.start())..=i64::from(*LEVELS.end()),
        )?;
        EncodeError::check(
            "zstd window log",
            window_log.into(),
            MIN_WINDOW_LOG.into()..=MAX_WINDOW_LOG.into(),
        )?;
        let bytes = i64::try_from(max_output).unwrap_or(i64::MAX);
        EncodeError::check("output size", bytes, BLOCK as i64..=MAX_OUTPUT as i64)?;
        let expected = (max_output * EXPECTED_RATIO).min(1 << MAX_WINDOW_LOG);
        let mut context = CCtx::create();
        for parameter in [
            CParameter::CompressionLevel(level),
            CParameter::WindowLog(window_log),
            CParameter::SrcSizeHint(expected as u32),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ] {
            context.set_parameter(parameter).map_err(library)?;
        }
        // Here the library's tables ask for matches of 5 bytes; 4 save up to 1.8 % at 64 KiB, and 0.6 % at level 3 in other sizes.
        let short_matches = level == 3 || (4..=6).contains(&level) && expected <= SHORT_MATCHES;
        if short_matches {
            context.set_parameter(SHORTER).map_err(library)?;
        }
        Ok(Self {
            context,
            level,
            window_log,
            max_output,
            similar: false,
            expected_ratio: EXPECTED_RATIO,
            short_matches,
            scratch: vec![0; max_output + max_output / 4].into(),
            ratio: None,
            bytes_pushed: 0,
        })
    }

    /// Prepares for data that compresses well from its beginning, as that of
    /// many files with similar ones side by side.
    #[must_use]
    pub fn for_similar_files(mut self) -> Self {
        self.similar = true;
        self
    }

    /// Bytes of input that went through the library so far; beside the bytes
    /// consumed this tells what the search for the fill costs.
    #[must_use]
    pub fn bytes_pushed(&self) -> u64 {
        self.bytes_pushed
    }

    /// Makes a frame of at most `limit` bytes in the scratch buffer, going
    /// straight to `goal` bytes of input before it looks at the room left.
    fn attempt(&mut self, input: &[u8], limit: usize, goal: usize) -> Result<Attempt, EncodeError> {
        self.context
            .reset(ResetDirective::SessionOnly)
            .map_err(library)?;
        let mut source = InBuffer::around(&input[..0]);
        let mut cut = Cut::START;
        let mut written = 0;
        while cut.consumed < input.len() {
            let room = limit - cut.end;
            let rest = input.len() - cut.consumed;
            let piece = if cut.consumed < goal {
                goal - cut.consumed
            } else if room as f64 >= LEFTOVER * limit as f64 {
                self.piece(cut, room, rest)
            } else {
                break;
            };
            let piece = piece.clamp(1, rest.min(frame::MAX_BLOCK));
            source.src = &input[..cut.consumed + piece];
            let mut out = OutBuffer::around_pos(&mut *self.scratch, written);
            let pending = loop {
                let pending = self
                    .context
                    .compress_stream2(&mut out, &mut source, ZSTD_e_flush)
                    .map_err(library)?;
                if pending == 0 || out.pos() == out.capacity() {
                    break pending;
                }
            };
            written = out.pos();
            self.bytes_pushed += piece as u64;
            let end = written + pending;
            if end > limit {
                return Ok((cut, Some((end - cut.end) as f64 / piece as f64)));
            }
            let last_block = frame::last_block(&self.scratch, cut.end, end);
            cut = Cut {
                consumed: cut.consumed + piece,
                end,
                last_block,
            };
        }
        Ok((cut, None))
    }

    /// How much of the `rest` of the input to push after `cut`, for `room` bytes.
    fn piece(&self, cut: Cut, room: usize, rest: usize) -> usize {
        let (ratio, part) = match (self.ratio, cut.consumed) {
            (None, 0) => (1.0, 1.0),
            (Some(before), 0) => (before, FIRST),
            (None, _) => (cut.ratio(), NEXT),
            (Some(before), _) => (HERE * cut.ratio() + (1.0 - HERE) * before, NEXT),
        };
        let room = room as f64;
        if rest as f64 * ratio <= room {
            rest
        } else {
            (room * part / ratio) as usize
        }
    }

    /// For how well compressed data the library should choose its tables, going
    /// by the frame before: only at level 3 are both choices worth their time.
    fn choice(&self) -> usize {
        let compresses_well = |ratio: f64| ratio * (EXPECTED_RATIO as f64) < 1.0;
        if self.level == 3 && (self.similar || self.ratio.is_some_and(compresses_well)) {
            EXPECTED_RATIO_OF_SIMILAR
        } else {
            EXPECTED_RATIO
        }
    }

    /// Whether matches of 4 bytes are looked for, by the same.
    fn wants_short_matches(&self) -> bool {
        match self.level {
            3 => self.ratio.is_none_or(|ratio| ratio <= SHORT_MATCHES_PAY),
            _ => self.short_matches,
        }
    }

    fn choose_tables(&mut self) -> Result<(), EncodeError> {
        let (expected_ratio, short_matches) = (self.choice(), self.wants_short_matches());
        if (expected_ratio, short_matches) == (self.expected_ratio, self.short_matches) {
            return Ok(());
        }
        let expected = (self.max_output * expected_ratio).min(1 << MAX_WINDOW_LOG);
        self.context
            .reset(ResetDirective::SessionOnly)
            .map_err(library)?;
        let hint = CParameter::SrcSizeHint(expected as u32);
        self.context.set_parameter(hint).map_err(library)?;
        let least = if short_matches { SHORTER } else { AS_THE_LEVEL };
        self.context.set_parameter(least).map_err(library)?;
        (self.expected_ratio, self.short_matches) = (expected_ratio, short_matches);
        Ok(())
    }

    /// Makes the frame, anew as long as that promises to help. `None` = the
    /// data does not compress.
    fn search(&mut self, input: &[u8], budget: usize) -> Result<Option<Cut>, EncodeError> {
        self.choose_tables()?;
        let limit = budget - frame::MAX_HEADER + frame::BARE_HEADER;
        let mut goal = 0;
        for attempts_left in (0..ATTEMPTS).rev() {
            let (cut, overflow) = self.attempt(input, limit, goal)?;
            let gap = target(cut, budget) - cut.frame_length();
            match overflow {
                Some(ratio)
                    if cut.consumed == 0 && (attempts_left == 0 || ratio >= INCOMPRESSIBLE) =>
                {
                    self.ratio = Some(ratio);
                    return Ok(None);
                }
                Some(ratio) if attempts_left > 0 && gap as f64 > GAP * budget as f64 => {
                    let fits = ((limit - cut.end) as f64 / ratio * ANEW) as usize;
                    goal = cut.consumed + fits.max(1);
                }
                _ => {
                    self.ratio = Some(cut.ratio());
                    return Ok(Some(cut));
                }
            }
        }
        Ok(None)
    }
}

/// Where the frame that is cut at `cut` should end: the next end of a block.
fn target(cut: Cut, budget: usize) -> usize {
    cut.frame_length().next_multiple_of(BLOCK).min(budget)
}

fn library(code: usize) -> EncodeError {
    EncodeError::Library {
        codec: NAME,
        reason: zstd_safe::get_error_name(code),
    }
}

impl Encoder for ZstdEncoder {
    fn fill(&mut self, input: &[u8], output: &mut [u8]) -> Result<Option<Fill>, EncodeError> {
        let budget = output.len().min(self.max_output);
        // What fits a block cannot save one; and there must be room for the headers and some data.
        if input.len() <= BLOCK || budget <= frame::MAX_HEADER + frame::BLOCK_HEADER {
            return Ok(None);
        }
        let input = &input[..input.len().min(u32::MAX as usize)];
        let is_first = self.ratio.is_none();
        let Some(mut cut) = self.search(input, budget)? else {
            return Ok(None);
        };
        // A first frame had nothing to go by.
        if is_first && self.choice() != self.expected_ratio {
            let Some(anew) = self.search(input, budget)? else {
                return Ok(None);
            };
            cut = anew;
        }
        let plain = (target(cut, budget) - cut.frame_length())
            .saturating_sub(frame::BLOCK_HEADER)
            .min(input.len() - cut.consumed)
            .min(1 << self.window_log);
        let consumed = cut.consumed + plain;
        if consumed <= BLOCK {
            return Ok(None);
        }
        if plain == 0 {
            frame::mark_last(&mut self.scratch[cut.last_block]);
        }
        let window = if consumed > 1 << self.window_log {
            Some(self.scratch[frame::BARE_HEADER - 1])
        } else {
            None
        };
        let (header, header_length) = frame::header(consumed, window);
        let mut encoded = 0;
        let mut put = |part: &[u8]| {
            output[encoded..encoded + part.len()].copy_from_slice(part);
            encoded += part.len();
        };
        put(&header[..header_length]);
        put(&self.scratch[frame::BARE_HEADER..cut.end]);
        if plain > 0 {
            put(&frame::raw_block(plain, true));
            put(&input[cut.consumed..consumed]);
        }
        Ok((encoded.next_multiple_of(BLOCK) < consumed).then_some(Fill { consumed, encoded }))
    }

    fn restart(&mut self) {
        self.ratio = None;
    }
}
