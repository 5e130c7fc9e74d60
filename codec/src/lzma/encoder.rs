//! Filling a pcluster with one stream.

use std::fmt;

use lzma_rust2::{EncodeMode, LzmaOptions, MfType, MicroLzmaEncoder};

use super::{DICTIONARY_SIZES, EXTREME_LEVELS, LEVELS, NAME, Properties};
use crate::compressibility::looks_incompressible;
use crate::{BLOCK, EncodeError, Encoder, Fill};

/// Largest pcluster of EROFS, in bytes.
const MAX_OUTPUT: usize = 1 << 20;
/// Bytes of an encoding without data.
const MIN_OUTPUT: usize = 5;
/// Most input of one stream, in bytes.
const MAX_INPUT: usize = 1 << 30;
/// Bytes of input looked at, if the output is not larger, to tell whether to encode it.
const SAMPLE: usize = 16 << 10;
/// Length from which a match is taken at once, and matches tried at a position, at
/// levels 5 and 6. At 64 KiB level 6 encodes in 0.7 × the time that the 64 and 48
/// of liblzma take, and saves 0.7 % less; those are what level 7 has.
const LEVEL_5: (u32, i32) = (24, 8);
const LEVEL_6: (u32, i32) = (32, 8);

/// Encodes MicroLZMA streams that fill pclusters.
///
/// A stream is made in one pass and comes out a few bytes shorter than the
/// output, or as short as it gets when it covers all of the input. Each is made
/// without regard to those before it.
pub struct LzmaEncoder {
    encoder: MicroLzmaEncoder,
    max_output: usize,
}

impl fmt::Debug for LzmaEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LzmaEncoder")
            .field("max_output", &self.max_output)
            .finish_non_exhaustive()
    }
}

impl LzmaEncoder {
    /// An encoder at `level` (0 to 9, 100 to 109) of streams that reach back at
    /// most `dictionary_size` bytes (4 KiB to 8 MiB) into outputs of at most
    /// `max_output` bytes (one block to 1 MiB; of a longer output only that much
    /// is used).
    ///
    /// It takes about 12 bytes of memory for each byte of the dictionary.
    ///
    /// # Errors
    /// [`EncodeError::Parameter`] outside these ranges.
    pub fn new(
        level: i32,
        dictionary_size: u32,
        properties: Properties,
        max_output: usize,
    ) -> Result<Self, EncodeError> {
        let extreme = EXTREME_LEVELS.contains(&level);
        if !extreme {
            let range = i64::from(*LEVELS.start())..=i64::from(*LEVELS.end());
            EncodeError::check("lzma level", level.into(), range)?;
        }
        EncodeError::check(
            "lzma dictionary size",
            dictionary_size.into(),
            i64::from(*DICTIONARY_SIZES.start())..=i64::from(*DICTIONARY_SIZES.end()),
        )?;
        EncodeError::check(
            "output size",
            i64::try_from(max_output).unwrap_or(i64::MAX),
            BLOCK as i64..=MAX_OUTPUT as i64,
        )?;
        let mut options = match extreme {
            true => extreme_options(level - EXTREME_LEVELS.start()),
            false => LzmaOptions::with_preset(level.unsigned_abs()),
        };
        match level {
            5 => (options.nice_len, options.depth_limit) = LEVEL_5,
            6 => (options.nice_len, options.depth_limit) = LEVEL_6,
            _ => {}
        }
        options.dict_size = dictionary_size;
        options.lc = properties.literal_context;
        options.lp = properties.literal_position;
        options.pb = properties.position;
        Ok(Self {
            encoder: MicroLzmaEncoder::new(&options).map_err(|_| EncodeError::Library {
                codec: NAME,
                reason: "options refused",
            })?,
            max_output,
        })
    }
}

/// What liblzma makes of a preset with `LZMA_PRESET_EXTREME`.
fn extreme_options(preset: i32) -> LzmaOptions {
    let mut options = LzmaOptions::with_preset(preset.unsigned_abs());
    options.mode = EncodeMode::Normal;
    options.mf = MfType::Bt4;
    (options.nice_len, options.depth_limit) = match preset {
        // 0 means as the length says: 16 + 192 / 2.
        3 | 5 => (192, 0),
        _ => (273, 512),
    };
    options
}

impl Encoder for LzmaEncoder {
    fn fill(&mut self, input: &[u8], output: &mut [u8]) -> Result<Option<Fill>, EncodeError> {
        let budget = output.len().min(self.max_output);
        // What fits a block cannot save one.
        if input.len() <= BLOCK || budget < MIN_OUTPUT {
            return Ok(None);
        }
        let input = &input[..input.len().min(MAX_INPUT)];
        if looks_incompressible(&input[..input.len().min(budget.max(SAMPLE))]) {
            return Ok(None);
        }
        let (consumed, encoded) = self
            .encoder
            .compress_prefix(input, &mut output[..budget])
            .map_err(|_| EncodeError::Library {
                codec: NAME,
                reason: "a stream could not be written",
            })?;
        Ok((encoded.next_multiple_of(BLOCK) < consumed).then_some(Fill { consumed, encoded }))
    }

    /// Each stream stands for itself already.
    fn restart(&mut self) {}
}
