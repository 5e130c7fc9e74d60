//! Zstandard streams, for those who are not bound to pclusters.

use std::fmt;
use std::io::{self, Write};

use zstd_safe::zstd_sys::ZSTD_EndDirective::{ZSTD_e_continue, ZSTD_e_end};
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

/// Bytes that are written at once.
const ROOM: usize = 128 << 10;

/// Writes what it is given as one Zstandard frame with a checksum, in one thread: the same bytes for the same input, in pieces of
/// any size.
pub struct StreamEncoder<W> {
    context: CCtx<'static>,
    out: W,
    room: Vec<u8>,
}

impl<W> fmt::Debug for StreamEncoder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamEncoder").finish_non_exhaustive()
    }
}

fn failed(code: usize) -> io::Error {
    io::Error::other(zstd_safe::get_error_name(code))
}

impl<W: Write> StreamEncoder<W> {
    /// A frame at this level, see [`LEVELS`](super::LEVELS).
    ///
    /// # Errors
    /// When memory is short or the library refuses the level.
    pub fn new(out: W, level: i32) -> io::Result<Self> {
        let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        for parameter in [
            CParameter::CompressionLevel(level),
            CParameter::ChecksumFlag(true),
        ] {
            context.set_parameter(parameter).map_err(failed)?;
        }
        Ok(Self {
            context,
            out,
            room: vec![0; ROOM],
        })
    }

    /// Ends the frame.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        loop {
            let mut nothing = InBuffer::around(&[]);
            let mut room = OutBuffer::around(self.room.as_mut_slice());
            let left = self
                .context
                .compress_stream2(&mut room, &mut nothing, ZSTD_e_end)
                .map_err(failed)?;
            self.out.write_all(room.as_slice())?;
            if left == 0 {
                return Ok(self.out);
            }
        }
    }
}

impl<W: Write> Write for StreamEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut input = InBuffer::around(bytes);
        while input.pos() < bytes.len() {
            let mut room = OutBuffer::around(self.room.as_mut_slice());
            self.context
                .compress_stream2(&mut room, &mut input, ZSTD_e_continue)
                .map_err(failed)?;
            self.out.write_all(room.as_slice())?;
        }
        Ok(bytes.len())
    }

    /// Does nothing: a frame's blocks end where they compress best.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_whole_and_do_not_depend_on_pieces() {
        let bytes: Vec<u8> = (0..500_000u32)
            .flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 20).to_le_bytes())
            .collect();
        let encoded = |pieces: usize| {
            let mut encoder = StreamEncoder::new(Vec::new(), 3).expect("made");
            for piece in bytes.chunks(pieces) {
                encoder.write_all(piece).expect("memory");
            }
            encoder.finish().expect("memory")
        };
        let whole = encoded(bytes.len());
        assert_eq!(whole, encoded(70_001));
        assert!(whole.len() < bytes.len());
        let mut out = vec![0; bytes.len() + 1];
        let length = zstd_safe::decompress(out.as_mut_slice(), &whole).expect("a frame");
        assert_eq!(out[..length], bytes);
    }
}
