//! MicroLZMA, one raw LZMA stream per pcluster, decoded by lzma-rust2.
//!
//! ```text
//! !properties │ range coder: 4 bytes of code, then the data
//! 1 B         │
//! ```
//! In raw LZMA the range coder begins with a zero byte; the complement of the
//! properties byte `(pb·5 + lp)·9 + lc` takes its place. There is no end marker
//! and no size: both are known from elsewhere (kernel
//! `lib/xz/xz_dec_lzma2.c`, `xz_dec_microlzma_run`).

use std::io::{Cursor, ErrorKind, Read};

use lzma_rust2::LzmaReader;

use crate::{DecodeError, Decoder, Ending};

/// The codec's name in errors.
const NAME: &str = "lzma";

/// The largest sum of literal context and literal position bits that the kernel
/// decodes (`lib/xz/xz_dec_lzma2.c`, `lzma_props`).
const MAX_LITERAL_BITS: u8 = 4;

/// Decodes MicroLZMA streams.
#[derive(Clone, Copy, Debug)]
pub struct LzmaDecoder {
    dictionary_size: u32,
}

impl LzmaDecoder {
    /// A decoder of streams that look back at most `dictionary_size` bytes.
    #[must_use]
    pub const fn new(dictionary_size: u32) -> Self {
        Self { dictionary_size }
    }
}

impl Decoder for LzmaDecoder {
    fn decode(&mut self, encoded: &[u8], output: &mut [u8]) -> Result<Ending, DecodeError> {
        let expected = output.len();
        let fault = |reason| DecodeError::Header {
            codec: NAME,
            reason,
        };
        let (&first, coded) = encoded.split_first().ok_or(fault("cut off"))?;
        let [lc, lp, pb] = properties(!first).ok_or(fault("properties out of range"))?;
        // The zero byte that the properties replaced.
        let source = [0].chain(Cursor::new(coded));
        let (lc, lp, pb) = (lc.into(), lp.into(), pb.into());
        let size = expected as u64;
        let mut reader = LzmaReader::new(source, size, lc, lp, pb, self.dictionary_size, None)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => fault("cut off"),
                _ => fault("range coder cannot start"),
            })?;
        reader.set_relaxed_end_condition(false);
        reader.set_defer_errors(true);

        let mut produced = 0;
        while let Some(rest) = output.get_mut(produced..).filter(|rest| !rest.is_empty()) {
            match reader.read(rest) {
                Ok(0) => return Err(DecodeError::Short { produced, expected }),
                Ok(count) => produced += count,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(DecodeError::Truncated { produced, expected });
                }
                Err(_) => {
                    return Err(DecodeError::Corrupt {
                        codec: NAME,
                        reason: "a match reaches before the start of the data or out of the dictionary",
                    });
                }
            }
        }
        // Fails unless the range coder has come to its end.
        if !matches!(reader.read(&mut [0]), Ok(0)) {
            return Ok(Ending::Open);
        }
        let (source, buffered) = reader.into_parts();
        let (_, coded) = source.into_inner();
        let behind = coded.get_ref().len() as u64 - coded.position();
        Ok(match buffered.len() + behind as usize {
            0 => Ending::Exact,
            bytes => Ending::Trailing { bytes },
        })
    }
}

/// Literal context, literal position and position bits.
fn properties(byte: u8) -> Option<[u8; 3]> {
    let (pb, rest) = (byte / 45, byte % 45);
    let (lp, lc) = (rest / 9, rest % 9);
    (pb <= 4 && lc + lp <= MAX_LITERAL_BITS).then_some([lc, lp, pb])
}
