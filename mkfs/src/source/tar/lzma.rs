//! The forms of LZMA that are older than xz: one stream behind 13 bytes (`.lzma`), and the members of lzip.
//!
//! ```text
//! .lzma: properties │ size of the dictionary: 4 │ size of the data, or all ones: 8 │ LZMA
//! lzip:  "LZIP", 1 │ size of the dictionary │ LZMA with an end mark │ CRC-32: 4 │ size of the data: 8 │ of the member: 8
//! ```
//! (`lzma-file-format.txt` of xz; the lzip manual, "File format".) Decoders read ahead, so what they did not need is kept for
//! what follows.

use super::decompress::{Counted, Pieces, another_stream};
use flate2::Crc;
use lzma_rust2::{LzmaReader, lzma_get_memory_usage};
use std::io::{self, BufRead, Read};

/// Most memory of a decoder in KiB: enough for a dictionary of 64 MiB, which `xz -9` takes, and `lzip -9` half of.
pub(super) const MEMORY: u32 = 80 << 10;
const LZIP_MAGIC: &[u8; 5] = b"LZIP\x01";
const LZIP_HEADER: usize = LZIP_MAGIC.len() + 1;
const LZIP_TRAILER: usize = 20;

/// Whether a file begins as one of a `.lzma` stream does. There is no magic: as liblzma does it, only sizes of dictionaries count
/// that encoders choose, 2^n and 2^n + 2^(n-1), of at least 4 KiB here, and data of less than 256 GiB or of unknown size.
pub(super) fn is_lzma(start: &[u8]) -> bool {
    const PROPERTIES: u8 = 9 * 5 * 5;
    let Some(header) = start.first_chunk::<13>() else {
        return false;
    };
    let [properties, d0, d1, d2, d3, size @ ..] = *header;
    let dictionary = u32::from_le_bytes([d0, d1, d2, d3]);
    let size = u64::from_le_bytes(size);
    let rest = dictionary & dictionary.wrapping_sub(1);
    let is_usual = rest == 0 || rest.is_power_of_two() && dictionary ^ rest == rest >> 1;
    properties < PROPERTIES
        && dictionary >= 4096
        && (is_usual || dictionary == u32::MAX)
        && (size < 1 << 38 || size == u64::MAX)
}

/// Decodes a `.lzma` stream, which only zeros may follow.
pub(super) fn decode_lzma(input: &mut Counted, output: &mut Pieces) -> io::Result<()> {
    let mut source = Source::new(input);
    let mut decoder = LzmaReader::new_mem_limit(&mut source, MEMORY, None)?;
    // An end mark may follow the last byte also where the size is told.
    decoder.set_relaxed_end_condition(false);
    output.take_all(&mut decoder)?;
    let (_, unused) = decoder.into_parts();
    source.restore(unused);
    another_stream(&mut source, None).map(drop)
}

/// Decodes all members of lzip, which zeros may follow.
pub(super) fn decode_lzip(input: &mut Counted, output: &mut Pieces) -> io::Result<()> {
    let mut source = Source::new(input);
    loop {
        decode_member(&mut source, output)?;
        if !another_stream(&mut source, LZIP_MAGIC.first().copied())? {
            return Ok(());
        }
    }
}

fn decode_member(source: &mut Source<'_>, output: &mut Pieces) -> io::Result<()> {
    let damaged = |reason| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    let start = source.position();
    let mut header = [0; LZIP_HEADER];
    source.read_exact(&mut header)?;
    let [magic @ .., coded] = header;
    if magic != *LZIP_MAGIC {
        return damaged("this is no member of lzip, version 1");
    }
    let Some(dictionary) = lzip_dictionary(coded) else {
        return damaged("a dictionary of this size is unknown to lzip");
    };
    if lzma_get_memory_usage(dictionary, 3, 0)? > MEMORY {
        return damaged("its dictionary takes too much memory");
    }
    let decoder = LzmaReader::new(&mut *source, u64::MAX, 3, 0, 2, dictionary, None)?;
    let mut summed = Summed {
        decoder,
        sum: Crc::new(),
        length: 0,
    };
    output.take_all(&mut summed)?;
    let Summed {
        decoder,
        sum,
        length,
    } = summed;
    let (_, unused) = decoder.into_parts();
    source.restore(unused);
    let mut trailer = [0; LZIP_TRAILER];
    source.read_exact(&mut trailer)?;
    let mut expected = [0; LZIP_TRAILER];
    let member = source.position() - start;
    let fields = [
        &sum.sum().to_le_bytes()[..],
        &length.to_le_bytes(),
        &member.to_le_bytes(),
    ];
    for (byte, wanted) in expected.iter_mut().zip(fields.into_iter().flatten()) {
        *byte = *wanted;
    }
    match trailer == expected {
        true => Ok(()),
        false => damaged("checksum or sizes of a member are wrong"),
    }
}

/// 2^n bytes less some sixteenths of it, from 4 KiB to 512 MiB.
fn lzip_dictionary(coded: u8) -> Option<u32> {
    let bits = coded & 0x1F;
    let base = (12..=29).contains(&bits).then(|| 1u32 << bits)?;
    let size = base - base / 16 * u32::from(coded >> 5);
    (size >= 4096).then_some(size)
}

/// Decoded bytes with their checksum and number.
struct Summed<D> {
    decoder: D,
    sum: Crc,
    length: u64,
}

impl<D: Read> Read for Summed<D> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(out)?;
        self.sum.update(out.get(..count).unwrap_or_default());
        self.length += count as u64;
        Ok(count)
    }
}

/// Compressed bytes, of which a decoder may give back what it did not need.
struct Source<'c> {
    /// What was given back.
    ahead: Vec<u8>,
    /// Of that so many bytes were read again.
    taken: usize,
    input: &'c mut Counted,
}

impl<'c> Source<'c> {
    const fn new(input: &'c mut Counted) -> Self {
        Self {
            ahead: Vec::new(),
            taken: 0,
            input,
        }
    }

    fn rest(&self) -> &[u8] {
        self.ahead.get(self.taken..).unwrap_or_default()
    }

    /// Bytes read so far.
    fn position(&self) -> u64 {
        self.input.position() - self.rest().len() as u64
    }

    /// Takes back the last bytes that were read.
    fn restore(&mut self, mut unused: Vec<u8>) {
        unused.extend_from_slice(self.rest());
        self.ahead = unused;
        self.taken = 0;
    }
}

impl Read for Source<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.rest().read(out)?;
        if count == 0 {
            return self.input.read(out);
        }
        self.taken += count;
        Ok(count)
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.taken < self.ahead.len() {
            true => Ok(self.rest()),
            false => self.input.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        match self.taken < self.ahead.len() {
            true => self.taken += count,
            false => self.input.consume(count),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn dictionaries_of_lzip() {
        assert_eq!(lzip_dictionary(0xD3), Some(320 << 10));
        assert_eq!(lzip_dictionary(12), Some(4096));
        assert_eq!(lzip_dictionary(29), Some(512 << 20));
        for coded in [0, 11, 30, 31, 0x2C, 0xFF] {
            assert_eq!(lzip_dictionary(coded), None, "{coded}");
        }
    }

    #[test]
    fn heads_of_lzma() {
        let head = |properties: u8, dictionary: u32, size: u64| {
            let fields = [
                &[properties][..],
                &dictionary.to_le_bytes(),
                &size.to_le_bytes(),
            ];
            fields.concat()
        };
        for dictionary in [4096, 3 << 12, 8 << 20, 3 << 22, 64 << 20, u32::MAX] {
            assert!(is_lzma(&head(93, dictionary, u64::MAX)), "{dictionary}");
            assert!(is_lzma(&head(0, dictionary, 1)), "{dictionary}");
        }
        for dictionary in [0, 1, 4095, 4097, 5 << 12, 7 << 20, u32::MAX - 1] {
            assert!(!is_lzma(&head(93, dictionary, u64::MAX)), "{dictionary}");
        }
        assert!(!is_lzma(&head(225, 4096, 1)));
        assert!(!is_lzma(&head(93, 4096, 1 << 38)));
        assert!(!is_lzma(&head(93, 4096, 1)[..12]));
        assert!(!is_lzma(&[0; 512]));
    }
}
