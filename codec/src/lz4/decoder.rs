//! Decodes whole blocks and prefixes of them.
//!
//! The decoder is ours because images need prefixes: an extent that shares its
//! pcluster with a longer one wants only the front of what is encoded
//! (`LZ4_decompress_safe_partial` in the kernel), which no Rust crate offers.

use super::verifier::Counted;
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
        Block::new(encoded, output).decode()
    }

    /// Follows the sequences and copies nothing: a block has no checksum, so they
    /// tell all that there is to tell.
    fn verify(
        &mut self,
        encoded: &[u8],
        length: usize,
        _: &mut Vec<u8>,
    ) -> Result<Ending, DecodeError> {
        Block::new(encoded, Counted(length)).decode()
    }
}

/// What a block is decoded to.
pub(super) trait Output {
    /// Bytes to be filled.
    fn len(&self) -> usize;

    /// Decodes sequences from the one at `at` on that are sound and away from the
    /// ends, where `filled` bytes are filled. Returns where the first one begins
    /// that is not, and how many bytes are filled then, never all.
    fn sequences(&mut self, encoded: &[u8], at: usize, filled: usize) -> (usize, usize);

    /// Puts literals at `filled`, for which there is room.
    fn literals(&mut self, filled: usize, literals: &[u8]);

    /// Copies `length` bytes from `start` to `filled`, for which there is room.
    fn copy(&mut self, start: usize, filled: usize, length: usize);
}

impl Output for &mut [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn sequences(&mut self, encoded: &[u8], at: usize, filled: usize) -> (usize, usize) {
        wild::sequences(encoded, at, self, filled)
    }

    fn literals(&mut self, filled: usize, literals: &[u8]) {
        if let Some(room) = self.get_mut(filled..filled + literals.len()) {
            room.copy_from_slice(literals);
        }
    }

    fn copy(&mut self, start: usize, filled: usize, length: usize) {
        let offset = filled - start;
        let Some(area) = self.get_mut(start..filled + length) else {
            return;
        };
        // What overlaps its copy repeats.
        let mut known = offset;
        while known < area.len() {
            let count = known.min(area.len() - known);
            area.copy_within(..count, known);
            known += count;
        }
    }
}

/// A block that is decoded sequence by sequence: what is near an end, and what is
/// broken.
struct Block<'a, O> {
    encoded: &'a [u8],
    /// Bytes of `encoded` that are read.
    at: usize,
    output: O,
    /// Bytes of `output` that are filled.
    filled: usize,
}

impl<'a, O: Output> Block<'a, O> {
    const fn new(encoded: &'a [u8], output: O) -> Self {
        Self {
            encoded,
            at: 0,
            output,
            filled: 0,
        }
    }

    fn decode(&mut self) -> Result<Ending, DecodeError> {
        loop {
            (self.at, self.filled) = self.output.sequences(self.encoded, self.at, self.filled);
            let token = self.byte()?;
            if let Some(ending) = self.literals(token >> 4)? {
                return Ok(ending);
            }
            if let Some(ending) = self.copy_match(token & 0xF)? {
                return Ok(ending);
            }
        }
    }

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
        let count = length.min(self.output.len() - self.filled);
        let source = self.encoded.get(self.at..).unwrap_or_default();
        let Some(source) = source.get(..count) else {
            return Err(self.truncated());
        };
        self.output.literals(self.filled, source);
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
        self.output.copy(start, self.filled, length);
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
}
