//! Decodes with zlib-rs.

use std::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::NAME;
use crate::{DecodeError, Decoder, Ending};

/// The largest window DEFLATE has, log2 of bytes. Smaller ones are not enforced,
/// as the kernel does not (`fs/erofs/decompressor_deflate.c`): images declare 0
/// when mkfs.erofs was built with libdeflate.
const WINDOW_BITS: u8 = 15;

/// Decodes raw DEFLATE streams.
pub struct DeflateDecoder {
    inflate: Inflate,
}

impl fmt::Debug for DeflateDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeflateDecoder").finish_non_exhaustive()
    }
}

impl Default for DeflateDecoder {
    fn default() -> Self {
        Self {
            inflate: Inflate::new(false, WINDOW_BITS),
        }
    }
}

impl DeflateDecoder {
    /// Decodes what fits `output`; returns the bytes read and written, and
    /// whether the stream ended.
    fn step(&mut self, encoded: &[u8], output: &mut [u8]) -> Result<Step, DecodeError> {
        let before = (self.inflate.total_in(), self.inflate.total_out());
        let status = self
            .inflate
            .decompress(encoded, output, InflateFlush::NoFlush)
            .map_err(|error| DecodeError::Corrupt {
                codec: NAME,
                reason: self.inflate.error_message().unwrap_or(error.as_str()),
            })?;
        // The library counts within the two slices.
        Ok(Step {
            read: (self.inflate.total_in() - before.0) as usize,
            written: (self.inflate.total_out() - before.1) as usize,
            ended: status == Status::StreamEnd,
        })
    }
}

struct Step {
    read: usize,
    written: usize,
    ended: bool,
}

impl Decoder for DeflateDecoder {
    fn decode(&mut self, encoded: &[u8], output: &mut [u8]) -> Result<Ending, DecodeError> {
        self.inflate.reset(false);
        let expected = output.len();
        let step = self.step(encoded, output)?;
        let produced = step.written;
        let mut rest = encoded.get(step.read..).unwrap_or_default();
        if produced < expected {
            return Err(if step.ended {
                DecodeError::Short { produced, expected }
            } else {
                DecodeError::Truncated { produced, expected }
            });
        }
        let mut ended = step.ended;
        if !ended {
            // The end of the last block may still have to be read; it writes nothing.
            match self.step(rest, &mut [0]) {
                Ok(end) if end.ended && end.written == 0 => {
                    rest = rest.get(end.read..).unwrap_or_default();
                    ended = true;
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(match (ended, rest.len()) {
            (false, _) => Ending::Open,
            (true, 0) => Ending::Exact,
            (true, bytes) => Ending::Trailing { bytes },
        })
    }
}
