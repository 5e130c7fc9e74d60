//! Decodes whole blocks and prefixes of them.
//!
//! The decoder is ours because images need prefixes: an extent that shares its
//! pcluster with a longer one wants only the front of what is encoded
//! (`LZ4_decompress_safe_partial` in the kernel), which no Rust crate offers.

use super::{LONG, MIN_MATCH, NAME, wild};
use crate::{DecodeError, Decoder, Ending};

/// Decodes LZ4 blocks.
///
/// Matches may look back as far as the format allows, 64 KiB. The rules for the
/// last bytes of a block, made for decoders that copy beyond its end, are not
/// enforced.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lz4Decoder;

impl Decoder for Lz4Decoder {
    fn decode(&mut self, encoded: &[u8], output: &mut [u8]) -> Result<Ending, DecodeError> {
        let mut block = Block {
            encoded,
            at: 0,
            filled: 0,
            output,
        };
        loop {
            (block.at, block.filled) =
                wild::sequences(block.encoded, block.at, block.output, block.filled);
            let token = block.byte()?;
            if let Some(ending) = block.literals(token >> 4)? {
                return Ok(ending);
            }
            if let Some(ending) = block.copy_match(token & 0xF)? {
                return Ok(ending);
            }
        }
    }
}

/// A block that is decoded sequence by sequence, byte for byte: what is near an
/// end, and what is broken.
struct Block<'a> {
    encoded: &'a [u8],
    /// Bytes of `encoded` that are read.
    at: usize,
    output: &'a mut [u8],
    /// Bytes of `output` that are written.
    filled: usize,
}

impl Block<'_> {
    #[cold]
    fn truncated(&self) -> DecodeError {
        DecodeError::Truncated {
            produced: self.filled,
            expected: self.output.len(),
        }
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.encoded.get(self.at).ok_or_else(|| self.truncated())?;
        self.at += 1;
        Ok(byte)
    }

    /// A length as the token begins it.
    fn length(&mut self, nibble: u8) -> Result<usize, DecodeError> {
        let mut length = usize::from(nibble);
        if length == LONG {
            loop {
                let more = self.byte()?;
                length = length.saturating_add(more.into());
                if more != u8::MAX {
                    break;
                }
            }
        }
        Ok(length)
    }

    /// Copies literals; tells the ending when they fill the output.
    fn literals(&mut self, nibble: u8) -> Result<Option<Ending>, DecodeError> {
        let length = self.length(nibble)?;
        let room = self.output.get_mut(self.filled..).unwrap_or_default();
        let count = length.min(room.len());
        let source = self.encoded.get(self.at..).unwrap_or_default();
        let (Some(source), Some(target)) = (source.get(..count), room.get_mut(..count)) else {
            return Err(self.truncated());
        };
        target.copy_from_slice(source);
        self.at += count;
        self.filled += count;
        let at_end = self.at == self.encoded.len();
        match (self.filled == self.output.len(), at_end) {
            (true, true) if count == length => Ok(Some(Ending::Exact)),
            (true, _) => Ok(Some(Ending::Open)),
            (false, true) => Err(DecodeError::Short {
                produced: self.filled,
                expected: self.output.len(),
            }),
            (false, false) => Ok(None),
        }
    }

    /// Copies a match; tells the ending when it fills the output: at least one
    /// token follows a match.
    fn copy_match(&mut self, nibble: u8) -> Result<Option<Ending>, DecodeError> {
        let offset = usize::from(u16::from_le_bytes([self.byte()?, self.byte()?]));
        let length = self.length(nibble)?.saturating_add(MIN_MATCH);
        let start = self.match_start(offset)?;
        let length = length.min(self.output.len() - self.filled);
        if offset >= length {
            self.output.copy_within(start..start + length, self.filled);
        } else {
            self.repeat(start, length);
        }
        self.filled += length;
        Ok((self.filled == self.output.len()).then_some(Ending::Open))
    }

    /// Where a match begins in the output.
    fn match_start(&self, offset: usize) -> Result<usize, DecodeError> {
        let corrupt = |reason| DecodeError::Corrupt {
            codec: NAME,
            reason,
        };
        if offset == 0 {
            return Err(corrupt("a match of distance 0"));
        }
        self.filled
            .checked_sub(offset)
            .ok_or_else(|| corrupt("a match begins before the data"))
    }

    /// Copies `length` bytes from `start` on that overlap their copy.
    fn repeat(&mut self, start: usize, length: usize) {
        let offset = self.filled - start;
        let Some(area) = self.output.get_mut(start..self.filled + length) else {
            return;
        };
        let mut known = offset;
        while known < area.len() {
            let count = known.min(area.len() - known);
            area.copy_within(..count, known);
            known += count;
        }
    }
}
