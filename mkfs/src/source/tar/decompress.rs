//! Compressed archives: told by content, decoded in a thread of their own so that decoding and parsing overlap.

use super::header::{BLOCK_SIZE, Header};
use super::lzma;
use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use zstd_safe::{DCtx, InBuffer, OutBuffer};

/// Bytes handed over at once, and how many such pieces may wait: 2 MiB.
const PIECE_SIZE: usize = 256 << 10;
const QUEUE: usize = 8;
/// Bytes read at once from the compressed archive.
const READ_SIZE: usize = 256 << 10;
/// Largest window of a zstd frame as a power of two: 128 MiB, what the `zstd` program takes without `--long`.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// gzip, RFC 1952.
    Gzip,
    /// Zstandard, RFC 8878.
    Zstd,
    /// xz.
    Xz,
    /// LZMA as before xz.
    Lzma,
    /// lzip.
    Lzip,
    /// bzip2.
    Bzip2,
}

impl Compression {
    /// Decodes a stream, in a thread of its own.
    ///
    /// # Errors
    /// When no thread can be started. What is wrong with the stream is told when it is read.
    pub fn decoder(self, reader: impl Read + Send + 'static) -> io::Result<impl Read + Send> {
        Decoded::start(self, Box::new(reader))
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
            Self::Lzip => "lzip",
            Self::Bzip2 => "bzip2",
        })
    }
}

/// What the first bytes of an archive say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A tar, or nothing known.
    Plain,
    /// A supported compression.
    Compressed(Compression),
    /// Another compression.
    Unsupported(&'static str),
}

/// Looks at the first bytes, up to a block. A valid tar header decides, since a member may be called like a magic.
pub(super) fn sniff(start: &[u8]) -> Content {
    if let Some(block) = start.first_chunk::<BLOCK_SIZE>()
        && Header::new(block).is_some()
    {
        return Content::Plain;
    }
    match start {
        [0x1F, 0x8B, 8, ..] => Content::Compressed(Compression::Gzip),
        [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => {
            Content::Compressed(Compression::Zstd)
        }
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Content::Compressed(Compression::Xz),
        // After the level comes the mark of a block, or of the end of an empty stream.
        [
            b'B',
            b'Z',
            b'h',
            b'1'..=b'9',
            0x31,
            0x41,
            0x59,
            0x26,
            0x53,
            0x59,
            ..,
        ]
        | [
            b'B',
            b'Z',
            b'h',
            b'1'..=b'9',
            0x17,
            0x72,
            0x45,
            0x38,
            0x50,
            0x90,
            ..,
        ] => Content::Compressed(Compression::Bzip2),
        [0x1F, 0x9D, ..] => Content::Unsupported("compress"),
        [0x04, 0x22, 0x4D, 0x18, ..] => Content::Unsupported("lz4"),
        [b'L', b'Z', b'I', b'P', ..] => Content::Compressed(Compression::Lzip),
        [0x89, b'L', b'Z', b'O', 0, ..] => Content::Unsupported("lzop"),
        [b'7', b'z', 0xBC, 0xAF, 0x27, 0x1C, ..] => Content::Unsupported("7-Zip"),
        [b'P', b'K', 3, 4, ..] => Content::Unsupported("zip"),
        _ if lzma::is_lzma(start) => Content::Compressed(Compression::Lzma),
        _ => Content::Plain,
    }
}

/// Compressed data is damaged, cut off or needs too much memory.
#[derive(Debug, thiserror::Error)]
#[error("{compression} data near compressed offset {offset}: {reason}")]
struct DecodeError {
    compression: Compression,
    offset: u64,
    reason: String,
}

/// The decoded bytes.
#[derive(Debug)]
pub(super) struct Decoded {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl Decoded {
    /// Starts to decode. The thread ends with the data, or soon after `Self` is dropped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(
        compression: Compression,
        reader: Box<dyn Read + Send>,
    ) -> io::Result<Self> {
        Self::start_with(compression, reader, move |input, output| {
            decode(compression, input, output)
        })
    }

    /// The same by a decoder of `compression` that does more than decode.
    pub(super) fn start_with(
        compression: Compression,
        reader: Box<dyn Read + Send>,
        decode: impl FnOnce(&mut Counted, &mut Pieces) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, pieces) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name(format!("{compression} decoder"))
            .spawn(move || {
                let position = Rc::new(Cell::new(0));
                let mut input = Counted {
                    reader: BufReader::with_capacity(READ_SIZE, reader),
                    position: position.clone(),
                };
                let mut output = Pieces {
                    sender,
                    piece: Vec::new(),
                    filled: 0,
                };
                let result = decode(&mut input, &mut output);
                let last = match result.and_then(|()| output.send()) {
                    // An empty piece is the end; a thread that dies leaves none.
                    Ok(()) => Ok(Vec::new()),
                    Err(error) => Err(describe(compression, position.get(), &error)),
                };
                // Whoever does not listen any more needs no end either.
                let _ = output.sender.send(last);
            })?;
        Ok(Self {
            pieces,
            piece: Vec::new(),
            taken: 0,
            ended: false,
        })
    }
}

impl Read for Decoded {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() && !self.ended {
            self.taken = 0;
            self.piece = self
                .pieces
                .recv()
                .map_err(|_| io::Error::other("the decoder died"))??;
            self.ended = self.piece.is_empty();
        }
        let count = (&self.piece[self.taken..]).read(out)?;
        self.taken += count;
        Ok(count)
    }
}

fn describe(compression: Compression, offset: u64, error: &io::Error) -> io::Error {
    let reason = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is truncated".to_owned(),
        _ => error.to_string(),
    };
    io::Error::new(
        error.kind(),
        DecodeError {
            compression,
            offset,
            reason,
        },
    )
}

fn decode(compression: Compression, input: &mut Counted, output: &mut Pieces) -> io::Result<()> {
    match compression {
        Compression::Gzip => loop {
            output.take_all(&mut GzDecoder::new(&mut *input))?;
            if !another_stream(input, Some(0x1F))? {
                return Ok(());
            }
        },
        Compression::Bzip2 => loop {
            output.take_all(&mut BzDecoder::new(&mut *input))?;
            if !another_stream(input, Some(b'B'))? {
                return Ok(());
            }
        },
        Compression::Xz => output.take_all(&mut XzReader::new_mem_limit(input, true, lzma::MEMORY)),
        Compression::Lzma => lzma::decode_lzma(input, output),
        Compression::Lzip => lzma::decode_lzip(input, output),
        Compression::Zstd => decode_zstd(input, output),
    }
}

/// After the end of a stream: whether another one begins, by its first byte if there may be any. Zeros fill up tapes and disk
/// blocks; anything else is damage.
pub(super) fn another_stream(input: &mut impl BufRead, first_byte: Option<u8>) -> io::Result<bool> {
    loop {
        let buffered = input.fill_buf()?;
        if buffered.is_empty() {
            return Ok(false);
        }
        match buffered.iter().position(|byte| *byte != 0) {
            Some(at) if first_byte.is_some() && buffered.get(at).copied() == first_byte => {
                input.consume(at);
                return Ok(true);
            }
            Some(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "something else follows the compressed data",
                ));
            }
            None => {
                let zeros = buffered.len();
                input.consume(zeros);
            }
        }
    }
}

/// Decodes all frames, skippable ones included.
fn decode_zstd(input: &mut Counted, output: &mut Pieces) -> io::Result<()> {
    let failed = |code| io::Error::new(io::ErrorKind::InvalidData, zstd_safe::get_error_name(code));
    let mut context = DCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
    context
        .set_parameter(zstd_safe::DParameter::WindowLogMax(ZSTD_WINDOW_LOG))
        .map_err(failed)?;
    let mut in_frame = false;
    loop {
        let buffered = input.fill_buf()?;
        let at_end = buffered.is_empty();
        if at_end && !in_frame {
            return Ok(());
        }
        let mut from = InBuffer::around(buffered);
        let mut to = OutBuffer::around(output.room()?);
        in_frame = context
            .decompress_stream(&mut to, &mut from)
            .map_err(failed)?
            != 0;
        let (read, written) = (from.pos(), to.pos());
        output.wrote(written);
        input.consume(read);
        if at_end && in_frame && written == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Compressed bytes with their position.
pub(super) struct Counted {
    reader: BufReader<Box<dyn Read + Send>>,
    position: Rc<Cell<u64>>,
}

impl Counted {
    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.position.get()
    }
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(out)?;
        self.position.set(self.position.get() + count as u64);
        Ok(count)
    }
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        loop {
            match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        Ok(self.reader.buffer())
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
        self.position.set(self.position.get() + count as u64);
    }
}

/// Gathers decoded bytes to pieces.
pub(super) struct Pieces {
    sender: SyncSender<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    filled: usize,
}

impl Pieces {
    /// Room for at least one byte.
    fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == PIECE_SIZE {
            self.send()?;
        }
        self.piece.resize(PIECE_SIZE, 0);
        Ok(self.piece.get_mut(self.filled..).unwrap_or_default())
    }

    /// Counts bytes that were put into the room.
    fn wrote(&mut self, count: usize) {
        self.filled += count;
    }

    /// Takes decoded bytes.
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = bytes.read(self.room()?)?;
            self.wrote(count);
        }
        Ok(())
    }

    /// Hands over what there is.
    fn send(&mut self) -> io::Result<()> {
        self.piece.truncate(self.filled);
        self.filled = 0;
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() {
            return Ok(());
        }
        self.sender
            .send(Ok(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    pub(super) fn take_all(&mut self, decoder: &mut dyn Read) -> io::Result<()> {
        loop {
            match decoder.read(self.room()?) {
                Ok(0) => return Ok(()),
                Ok(count) => self.wrote(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn data() -> Vec<u8> {
        (0..700_000u32)
            .flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 20).to_le_bytes())
            .collect()
    }

    /// What `xz` of xz-utils, which every Debian has, makes of `data`.
    fn xz(arguments: &[&str], data: &[u8]) -> Vec<u8> {
        let mut child = Command::new("xz")
            .args(arguments)
            .arg("--stdout")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("xz-utils is part of every Debian");
        let mut input = child.stdin.take().expect("piped");
        let data = data.to_vec();
        let feeder = std::thread::spawn(move || input.write_all(&data));
        let output = child.wait_with_output().expect("xz runs");
        feeder.join().expect("no panic").expect("xz reads");
        assert!(output.status.success(), "xz {arguments:?}");
        output.stdout
    }

    /// A member of lzip: a stream of `xz` with what stands around it.
    fn lzip(data: &[u8]) -> Vec<u8> {
        let mut sum = flate2::Crc::new();
        sum.update(data);
        let raw = ["--format=raw", "--lzma1=preset=1,dict=64KiB,lc=3,lp=0,pb=2"];
        let stream = xz(&raw, data);
        let length = 6 + stream.len() as u64 + 20;
        [
            b"LZIP\x01\x10",
            &stream[..],
            &sum.sum().to_le_bytes(),
            &(data.len() as u64).to_le_bytes(),
            &length.to_le_bytes(),
        ]
        .concat()
    }

    /// Compresses with the encoders of the crates that also decode, or by `xz`.
    fn compress(compression: Compression, data: &[u8]) -> Vec<u8> {
        match compression {
            Compression::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).expect("memory");
                encoder.finish().expect("memory")
            }
            Compression::Bzip2 => {
                let mut encoder =
                    bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(data).expect("memory");
                encoder.finish().expect("memory")
            }
            Compression::Zstd => {
                let mut out = Vec::with_capacity(zstd_safe::compress_bound(data.len()));
                zstd_safe::compress(&mut out, data, 1).expect("room");
                out
            }
            Compression::Xz => xz(&["-1"], data),
            Compression::Lzma => xz(&["-1", "--format=lzma"], data),
            Compression::Lzip => lzip(data),
        }
    }

    const ALL: [Compression; 6] = [
        Compression::Gzip,
        Compression::Zstd,
        Compression::Xz,
        Compression::Lzma,
        Compression::Lzip,
        Compression::Bzip2,
    ];

    fn decoded(compression: Compression, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        let mut out = vec![];
        Decoded::start(compression, Box::new(io::Cursor::new(bytes)))
            .expect("a thread")
            .read_to_end(&mut out)
            .map_err(|error| error.to_string())?;
        Ok(out)
    }

    #[test]
    fn every_compression_is_told_and_decoded() {
        for compression in ALL {
            let (plain, packed) = (data(), compress(compression, &data()));
            assert_eq!(sniff(&packed), Content::Compressed(compression));
            assert!(
                decoded(compression, packed.clone()) == Ok(plain.clone()),
                "{compression}"
            );
            let twice = decoded(compression, [packed.clone(), packed.clone()].concat());
            match compression {
                // One stream is all of the file.
                Compression::Lzma => assert!(twice.is_err()),
                _ => assert!(
                    twice == Ok([plain.clone(), plain].concat()),
                    "{compression} twice"
                ),
            }
            let nothing = compress(compression, b"");
            assert_eq!(sniff(&nothing), Content::Compressed(compression));
            assert_eq!(decoded(compression, nothing), Ok(vec![]), "{compression}");
        }
    }

    #[test]
    fn zeros_may_follow() {
        let packed = compress(Compression::Gzip, b"abc");
        for zeros in [1, 4, 512, 1 << 20] {
            for compression in ALL {
                if compression == Compression::Zstd {
                    continue;
                }
                let mut packed = compress(compression, b"abc");
                packed.resize(packed.len() + zeros * 4, 0);
                assert_eq!(decoded(compression, packed), Ok(b"abc".to_vec()));
            }
        }
        let between = [&packed[..], &[0; 100], &packed].concat();
        assert_eq!(decoded(Compression::Gzip, between), Ok(b"abcabc".to_vec()));
        let skippable = [
            &b"\x50\x2A\x4D\x18\x03\0\0\0???"[..],
            &compress(Compression::Zstd, b"abc"),
            b"\x5F\x2A\x4D\x18\x01\0\0\0?",
        ]
        .concat();
        assert_eq!(sniff(&skippable), Content::Compressed(Compression::Zstd));
        assert_eq!(decoded(Compression::Zstd, skippable), Ok(b"abc".to_vec()));
    }

    /// Members of lzip of any length, as other programs read them; the size of a `.lzma` stream may be told, with or without an
    /// end mark behind it.
    #[test]
    fn members_are_what_they_say() {
        let mut all = Vec::new();
        let mut plain = Vec::new();
        for length in [0, 1, 5, 4000, 70_000, 3] {
            plain.extend_from_slice(&data()[..length]);
            all.extend(lzip(&data()[..length]));
        }
        assert_eq!(decoded(Compression::Lzip, all.clone()), Ok(plain.clone()));
        assert_eq!(xz(&["-d", "--format=lzip"], &all), plain);
        let member = lzip(&data()[..4000]);
        for field in 1..=20 {
            let mut wrong = member.clone();
            let at = wrong.len() - field;
            wrong[at] ^= 1;
            let error = decoded(Compression::Lzip, [wrong, member.clone()].concat());
            assert!(
                error
                    .expect_err("damaged")
                    .contains("of a member are wrong"),
                "{field}"
            );
        }
        for (at, value, reason) in [
            (4, 0, "version 1"),
            (5, 11, "unknown to lzip"),
            (5, 29, "too much memory"),
        ] {
            let mut wrong = member.clone();
            wrong[at] = value;
            let both = [member.clone(), wrong].concat();
            let error = decoded(Compression::Lzip, both).expect_err("damaged");
            assert!(error.contains(reason), "{error}");
        }
        let mut stream = xz(&["-1", "--format=lzma"], &plain);
        for size in [
            plain.len() as u64,
            plain.len() as u64 - 1,
            plain.len() as u64 + 1,
        ] {
            stream[5..13].copy_from_slice(&size.to_le_bytes());
            let is_right = size == plain.len() as u64;
            let got = decoded(Compression::Lzma, stream.clone());
            assert_eq!(got.is_ok_and(|got| got == plain), is_right, "{size}");
        }
    }

    #[test]
    fn damage_is_told_with_its_place() {
        for compression in ALL {
            let packed = compress(compression, &data());
            for cut in [packed.len() / 2, packed.len() - 1] {
                let message = decoded(compression, packed[..cut].to_vec()).expect_err("truncated");
                assert!(
                    message.contains("near compressed offset")
                        && message.contains("it is truncated"),
                    "{compression} cut at {cut}: {message}"
                );
            }
            let mut flipped = packed.clone();
            let at = flipped.len() / 2;
            flipped[at] ^= 0x55;
            // zstd has a checksum only when asked for, and then other bytes come out.
            assert!(
                decoded(compression, flipped) != Ok(data()),
                "{compression} flipped"
            );
            let garbage = [&packed[..], b"garbage that is long enough"].concat();
            assert!(
                decoded(compression, garbage)
                    .expect_err("garbage")
                    .contains("near compressed offset"),
                "{compression} garbage"
            );
        }
    }

    #[test]
    fn a_reader_that_is_dropped_stops_the_decoder() {
        let packed = compress(Compression::Gzip, &data());
        struct Endless(Vec<u8>, SyncSender<()>);
        impl Read for Endless {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                (&self.0[..]).read(out)
            }
        }
        impl Drop for Endless {
            fn drop(&mut self) {
                let _ = self.1.send(());
            }
        }
        let (sender, stopped) = sync_channel(1);
        let endless = Endless(packed, sender);
        drop(Decoded::start(Compression::Gzip, Box::new(endless)).expect("a thread"));
        assert_eq!(
            stopped.recv_timeout(std::time::Duration::from_secs(60)),
            Ok(())
        );
    }
}
