//! Decodes whole blocks and prefixes of them.
//!
//! The decoder is ours because images need prefixes: an extent that shares its
//! pcluster with a longer one wants only the front of what is encoded
//! (`LZ4_decompress_safe_partial` in the kernel), which no Rust crate offers.

use super::{LONG, MIN_MATCH, NAME};
use crate::{DecodeError, Decoder, Ending};

/// Bytes copied at once for literals and matches whose length the token holds.
const SHORT_LITERALS: usize = 16;
const SHORT_MATCH: usize = 18;

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
            let token = block.byte()?;
            if block.short_sequence(token)? {
                continue;
            }
            if let Some(ending) = block.literals(token >> 4)? {
                return Ok(ending);
            }
            if let Some(ending) = block.copy_match(token & 0xF)? {
                return Ok(ending);
            }
        }
    }
}

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

    #[inline(always)]
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.encoded.get(self.at).ok_or_else(|| self.truncated())?;
        self.at += 1;
        Ok(byte)
    }

    /// The sequence of `token` if it is short and far from the ends of both
    /// buffers, so that all copies have a fixed length.
    #[inline(always)]
    fn short_sequence(&mut self, token: u8) -> Result<bool, DecodeError> {
        let (literals, matched) = (usize::from(token >> 4), usize::from(token & 0xF));
        if literals == LONG || matched == LONG {
            return Ok(false);
        }
        let source = self.encoded.get(self.at..).and_then(<[u8]>::first_chunk);
        let room = self.output.get_mut(self.filled..).unwrap_or_default();
        let (Some(source), Some(target)) = (
            source as Option<&[u8; SHORT_LITERALS]>,
            room.first_chunk_mut::<{ SHORT_LITERALS + SHORT_MATCH }>(),
        ) else {
            return Ok(false);
        };
        if let Some(target) = target.first_chunk_mut() {
            *target = *source;
        }
        // At most 14 literals: the offset is within the source.
        let offset = usize::from(u16::from_le_bytes([source[literals], source[literals + 1]]));
        self.at += literals + 2;
        self.filled += literals;
        let length = matched + MIN_MATCH;
        let start = self.match_start(offset)?;
        if offset >= length {
            self.output
                .copy_within(start..start + SHORT_MATCH, self.filled);
        } else {
            self.repeat(start, length);
        }
        self.filled += length;
        Ok(true)
    }

    /// A length as the token begins it.
    #[inline(always)]
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
    #[inline(always)]
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
    #[inline(always)]
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
    #[inline(always)]
    fn match_start(&self, offset: usize) -> Result<usize, DecodeError> {
        self.filled
            .checked_sub(offset)
            .filter(|_| offset != 0)
            .ok_or(DecodeError::Corrupt {
                codec: NAME,
                reason: "a match begins before the data",
            })
    }

    /// Copies `length` bytes from `start` on that overlap their copy.
    #[inline(always)]
    fn repeat(&mut self, start: usize, length: usize) {
        let offset = self.filled - start;
        let Some(area) = self.output.get_mut(start..self.filled + length) else {
            return;
        };
        if offset == 1 {
            let byte = area[0];
            area.fill(byte);
            return;
        }
        let mut known = offset;
        while known < area.len() {
            let count = known.min(area.len() - known);
            area.copy_within(..count, known);
            known += count;
        }
    }
}
