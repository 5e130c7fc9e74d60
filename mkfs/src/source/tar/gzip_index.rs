//! Checkpoints of a gzip stream, from which others decode parts of it: zinfo of AWS SOCI, version 2.
//!
//! The file is `have: u32` and `span: u64`, then for each checkpoint `in: u64`, `out: u64`, `bits: u8` and the 32 KiB of
//! data in front of `out`, all little-endian. `in` is the first byte that is wholly unread, and `bits` of the byte in front
//! of it are unread too, as in zlib's `examples/zran.c`. There is one checkpoint at the start of each gzip member, and
//! one at the first start of a block that is more than the span behind the checkpoint before it.

use super::decompress::{Counted, Pieces, another_stream};
use flate2::Crc;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};

/// Distance of checkpoints in bytes of data, that of mkfs.erofs.
const SPAN: u64 = 4 << 20;
/// How far back DEFLATE refers, in bytes.
const WINDOW: usize = 32 << 10;
/// Bytes of the file in front of the checkpoints.
const HEADER_SIZE: u64 = 12;

// Flags of a gzip header, RFC 1952 section 2.3.1.
const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;

/// What checkpoints are written to.
pub(super) trait Sink: Write + Seek + Send {}
impl<S: Write + Seek + Send> Sink for S {}

/// Decodes gzip members and writes the checkpoints of all of them to `index`.
///
/// # Errors
/// Those of input and output; damage.
pub(super) fn decode(
    input: &mut Counted,
    output: &mut Pieces,
    index: &mut dyn Sink,
) -> io::Result<()> {
    let mut checkpoints = Checkpoints {
        index,
        count: 0,
        last: 0,
        window: vec![0; WINDOW],
        read: 0,
        written: 0,
    };
    checkpoints.index.seek(SeekFrom::Start(HEADER_SIZE))?;
    loop {
        read_header(input)?;
        checkpoints.decode_member(input, output)?;
        if !another_stream(input, Some(0x1F))? {
            return checkpoints.finish();
        }
    }
}

struct Checkpoints<'i> {
    index: &'i mut dyn Sink,
    count: u32,
    /// Where the last one is in the data.
    last: u64,
    /// The last data. The next byte goes to `written`, where the oldest one is.
    window: Vec<u8>,
    written: usize,
    /// Bytes of data so far.
    read: u64,
}

impl Checkpoints<'_> {
    /// Decodes from behind the header of a member to behind its trailer.
    fn decode_member(&mut self, input: &mut Counted, output: &mut Pieces) -> io::Result<()> {
        let mut decoder = Box::<DecompressorOxide>::default();
        let mut crc = Crc::new();
        // A member refers to none before it, and mkfs.erofs begins a new buffer.
        self.written = 0;
        self.add(input.position(), 0)?;
        loop {
            let buffered = input.fill_buf()?;
            if buffered.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let from = self.written;
            let flags = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
            let (status, read, written) =
                decompress(&mut decoder, buffered, &mut self.window, from, flags);
            input.consume(read);
            let data = self.window.get(from..from + written).unwrap_or_default();
            crc.update(data);
            output.put(data)?;
            self.read += written as u64;
            self.written = (from + written) % WINDOW;
            match status {
                TINFLStatus::Done => break,
                TINFLStatus::BlockBoundary if self.read - self.last > SPAN => {
                    let state = decoder.block_boundary_state();
                    self.add(input.position(), state.map_or(0, |state| state.num_bits))?;
                }
                TINFLStatus::BlockBoundary
                | TINFLStatus::HasMoreOutput
                | TINFLStatus::NeedsMoreInput => {}
                _ => return Err(damaged("corrupt deflate stream")),
            }
        }
        let mut trailer = [0; 8];
        input.read_exact(&mut trailer)?;
        let [a, b, c, d, size @ ..] = trailer;
        if u32::from_le_bytes([a, b, c, d]) != crc.sum() || u32::from_le_bytes(size) != crc.amount()
        {
            return Err(damaged(
                "corrupt gzip stream does not have a matching checksum",
            ));
        }
        Ok(())
    }

    /// Adds a checkpoint: the next block begins in the last `bits` bits in front of compressed offset `position`.
    fn add(&mut self, position: u64, bits: u8) -> io::Result<()> {
        self.index.write_all(&position.to_le_bytes())?;
        self.index.write_all(&self.read.to_le_bytes())?;
        self.index.write_all(&[bits])?;
        let (newest, oldest) = self.window.split_at(self.written);
        self.index.write_all(oldest)?;
        self.index.write_all(newest)?;
        self.last = self.read;
        self.count = self
            .count
            .checked_add(1)
            .ok_or_else(|| damaged("too many gzip members for an index"))?;
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        self.index.seek(SeekFrom::Start(0))?;
        self.index.write_all(&self.count.to_le_bytes())?;
        self.index.write_all(&SPAN.to_le_bytes())?;
        self.index.flush()
    }
}

/// Reads the header of a member, whatever is in it.
fn read_header(input: &mut Counted) -> io::Result<()> {
    let mut fixed = [0; 10];
    input.read_exact(&mut fixed)?;
    let [0x1F, 0x8B, 8, flags, ..] = fixed else {
        return Err(damaged("invalid gzip header"));
    };
    if flags & EXTRA != 0 {
        let mut length = [0; 2];
        input.read_exact(&mut length)?;
        skip(input, u16::from_le_bytes(length).into())?;
    }
    for field in [NAME, COMMENT] {
        if flags & field != 0 {
            while byte(input)? != 0 {}
        }
    }
    if flags & HEADER_CRC != 0 {
        skip(input, 2)?;
    }
    Ok(())
}

fn byte(input: &mut Counted) -> io::Result<u8> {
    let mut byte = [0];
    input.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn skip(input: &mut Counted, count: u64) -> io::Result<()> {
    match io::copy(&mut input.take(count), &mut io::sink())? {
        skipped if skipped < count => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn damaged(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::super::decompress::{Compression, Decoded};
    use super::*;
    use flate2::GzBuilder;
    use flate2::write::GzEncoder;
    use std::io::Cursor;
    use std::sync::{Arc, Mutex};

    /// A sink that outlives the thread.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Cursor<Vec<u8>>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Kept {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.lock().expect("no panic").seek(to)
        }
    }

    fn indexed(packed: &[u8]) -> (Result<Vec<u8>, String>, Vec<u8>) {
        let kept = Kept::default();
        let mut index = kept.clone();
        let packed = Box::new(Cursor::new(packed.to_vec()));
        let mut decoded = Decoded::start_with(Compression::Gzip, packed, move |input, output| {
            decode(input, output, &mut index)
        })
        .expect("a thread");
        let mut data = Vec::new();
        let result = decoded.read_to_end(&mut data).map(|_| data);
        let index = kept.0.lock().expect("no panic").get_ref().clone();
        (result.map_err(|error| error.to_string()), index)
    }

    fn data(length: u32) -> Vec<u8> {
        let words = (0..length / 4).map(|n| n.wrapping_mul(2_654_435_761) >> (n >> 13 & 31));
        words.flat_map(u32::to_le_bytes).collect()
    }

    fn number(bytes: &[u8]) -> u64 {
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    /// What `packed` holds from a checkpoint on, up to `length` bytes.
    fn from_checkpoint(packed: &[u8], checkpoint: &[u8], length: usize) -> Vec<u8> {
        let (start, bits) = (number(&checkpoint[..8]) as usize, checkpoint[16]);
        let mut decoder = DecompressorOxide::from_block_boundary_state(
            &miniz_oxide::inflate::core::BlockBoundaryState {
                num_bits: bits,
                bit_buf: match bits {
                    0 => 0,
                    bits => packed[start - 1] >> (8 - bits),
                },
                ..Default::default()
            },
        );
        let mut out = checkpoint[17..].to_vec();
        out.resize(WINDOW + length, 0);
        let flags =
            miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (_, _, written) = decompress(&mut decoder, &packed[start..], &mut out, WINDOW, flags);
        out.drain(..WINDOW);
        out.truncate(written);
        out
    }

    #[test]
    fn data_is_decoded_from_every_checkpoint() {
        let plain = data(30 << 20);
        let mut packed = Vec::new();
        for (part, level) in plain.chunks(plain.len() / 2).zip([6, 0]) {
            let header = GzBuilder::new()
                .filename("name")
                .comment("text")
                .extra([7; 300]);
            let mut encoder: GzEncoder<_> =
                header.write(Vec::new(), flate2::Compression::new(level));
            encoder.write_all(part).expect("memory");
            packed.extend(encoder.finish().expect("memory"));
        }
        packed.resize(packed.len() + 512, 0);
        let (decoded, index) = indexed(&packed);
        assert!(decoded.as_deref() == Ok(&plain));
        let count = number(&index[..4]) as usize;
        assert_eq!(number(&index[4..12]), SPAN);
        assert_eq!(index.len(), 12 + count * (17 + WINDOW));
        assert!(count > 6, "{count}");
        for checkpoint in index[12..].chunks_exact(17 + WINDOW) {
            let at = number(&checkpoint[8..16]) as usize;
            let part = from_checkpoint(&packed, checkpoint, 5000);
            assert!(part.len() == 5000 && part == plain[at..at + 5000], "{at}");
        }
        assert_eq!(number(&index[12..20]), 10 + 2 + 300 + 5 + 5);
    }

    #[test]
    fn damage_is_told() {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&data(100_000)).expect("memory");
        let packed = encoder.finish().expect("memory");
        assert!(indexed(&packed).0.is_ok());
        for (at, reason) in [
            (packed.len() - 8, "checksum"),
            (packed.len() - 1, "checksum"),
        ] {
            let mut packed = packed.clone();
            packed[at] ^= 1;
            let error = indexed(&packed).0.expect_err("damaged");
            assert!(error.contains(reason), "{error}");
        }
        for end in [5, 20, packed.len() / 2, packed.len() - 3] {
            let error = indexed(&packed[..end]).0.expect_err("cut off");
            assert!(error.contains("truncated"), "{error}");
        }
        let mut trailed = packed.clone();
        trailed.extend(b"x");
        assert!(
            indexed(&trailed)
                .0
                .expect_err("more")
                .contains("something else")
        );
        // Whatever the middle becomes, there is an end, and nothing but the data passes the checksum.
        for at in (10..packed.len() - 8).step_by(packed.len() / 50) {
            let mut packed = packed.clone();
            packed[at] ^= 0x55;
            assert!(indexed(&packed).0.is_err(), "{at}");
        }
    }
}
