//! Decoding of one frame, whole or a prefix of it.

use std::fmt;

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

use super::{MAX_WINDOW_LOG, MIN_WINDOW_LOG, NAME, frame};
use crate::{DecodeError, Decoder, Ending};

/// Decodes Zstd frames as EROFS stores them.
///
/// Checked always: magic, no dictionary, window, every block up to the one that
/// completes the output. When the frame ends there: the declared content size
/// and checksum (if any), and whether something follows. Not checked when the
/// frame goes on: what comes after the block that completes the output.
pub struct ZstdDecoder {
    context: DCtx<'static>,
    max_window_log: u32,
}

impl fmt::Debug for ZstdDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdDecoder")
            .field("max_window_log", &self.max_window_log)
            .finish_non_exhaustive()
    }
}

impl ZstdDecoder {
    /// A decoder of frames whose window is at most `2^max_window_log` bytes
    /// (clamped to what EROFS allows, 10 to 20).
    #[must_use]
    pub fn new(max_window_log: u32) -> Self {
        let max_window_log = max_window_log.clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG);
        let mut context = DCtx::create();
        context
            .set_parameter(DParameter::WindowLogMax(max_window_log))
            .expect("10 to 20 is within the library's range");
        Self {
            context,
            max_window_log,
        }
    }
}

impl Decoder for ZstdDecoder {
    fn decode(&mut self, encoded: &[u8], output: &mut [u8]) -> Result<Ending, DecodeError> {
        frame::check_header(encoded, self.max_window_log)?;
        let corrupt = |code| DecodeError::Corrupt {
            codec: NAME,
            reason: zstd_safe::get_error_name(code),
        };
        self.context
            .reset(ResetDirective::SessionOnly)
            .map_err(corrupt)?;
        let expected = output.len();
        let mut input = InBuffer::around(encoded);
        let mut out = OutBuffer::around(output);
        loop {
            let before = (input.pos(), out.pos());
            let hint = self
                .context
                .decompress_stream(&mut out, &mut input)
                .map_err(corrupt)?;
            let produced = out.pos();
            if hint == 0 {
                let bytes = encoded.len() - input.pos();
                return match (produced == expected, bytes) {
                    (false, _) => Err(DecodeError::Short { produced, expected }),
                    (true, 0) => Ok(Ending::Exact),
                    (true, bytes) => Ok(Ending::Trailing { bytes }),
                };
            }
            if before == (input.pos(), produced) {
                // Either the output is full and the frame goes on, or the input is used up.
                return if produced == expected {
                    Ok(Ending::Open)
                } else {
                    Err(DecodeError::Truncated { produced, expected })
                };
            }
        }
    }
}
