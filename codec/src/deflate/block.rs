//! What a block costs, and writing it.
//!
//! ```text
//! last  type   │ stored: pad to a byte, length, its complement, bytes
//! 1 bit 2 bits │ fixed codes: tokens, end of block
//!              │ own codes: their lengths, tokens, end of block
//! ```

use super::bits::BitWriter;
use super::huffman;
use super::symbols::{
    END_OF_BLOCK, FIRST_LENGTH, LENGTH_BASE, LENGTH_EXTRA, LITLEN_SYMBOLS, MAX_MATCH, MIN_MATCH,
    OFFSET_BASE, OFFSET_EXTRA, OFFSET_SYMBOLS, Token, length_symbol, offset_symbol,
};

/// How often each symbol occurs among tokens.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    pub(super) litlen: [u32; LITLEN_SYMBOLS],
    pub(super) offset: [u32; OFFSET_SYMBOLS],
    /// Bytes that the tokens stand for.
    pub(super) bytes: usize,
}

impl Histogram {
    pub(super) const EMPTY: Self = Self {
        litlen: [0; LITLEN_SYMBOLS],
        offset: [0; OFFSET_SYMBOLS],
        bytes: 0,
    };

    pub(super) fn add(&mut self, tokens: &[Token]) {
        for &token in tokens {
            let length = token.length();
            if length == 0 {
                self.litlen[token.low() & 0xFF] += 1;
                self.bytes += 1;
            } else {
                self.litlen[FIRST_LENGTH + length_symbol(length)] += 1;
                self.offset[offset_symbol(token.low())] += 1;
                self.bytes += length;
            }
        }
    }

    /// Takes away tokens that were added.
    pub(super) fn remove(&mut self, tokens: &[Token]) {
        for &token in tokens {
            let length = token.length();
            if length == 0 {
                self.litlen[token.low() & 0xFF] -= 1;
                self.bytes -= 1;
            } else {
                self.litlen[FIRST_LENGTH + length_symbol(length)] -= 1;
                self.offset[offset_symbol(token.low())] -= 1;
                self.bytes -= length;
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (sum, count) in self.litlen.iter_mut().zip(&other.litlen) {
            *sum += count;
        }
        for (sum, count) in self.offset.iter_mut().zip(&other.offset) {
            *sum += count;
        }
        self.bytes += other.bytes;
    }

    /// Bits behind the symbols.
    pub(super) fn extra_bits(&self) -> usize {
        let weigh = |counts: &[u32], bits: &[u8]| -> usize {
            counts
                .iter()
                .zip(bits)
                .map(|(&count, &bits)| count as usize * usize::from(bits))
                .sum()
        };
        weigh(&self.litlen[FIRST_LENGTH..], &LENGTH_EXTRA) + weigh(&self.offset, &OFFSET_EXTRA)
    }
}

/// Lengths of the two codes of a block.
#[derive(Clone, Debug)]
pub(super) struct CodeLengths {
    pub(super) litlen: [u8; LITLEN_SYMBOLS],
    pub(super) offset: [u8; OFFSET_SYMBOLS],
}

impl CodeLengths {
    /// The fixed codes (RFC 1951 §3.2.6).
    pub(super) const FIXED: Self = {
        let mut litlen = [8; LITLEN_SYMBOLS];
        let mut symbol = 144;
        while symbol < 280 {
            litlen[symbol] = if symbol < 256 { 9 } else { 7 };
            symbol += 1;
        }
        Self {
            litlen,
            offset: [5; OFFSET_SYMBOLS],
        }
    };

    /// The shortest for these tokens and the end of the block.
    pub(super) fn of(histogram: &Histogram) -> Self {
        let mut litlen = histogram.litlen;
        litlen[END_OF_BLOCK] += 1;
        Self {
            litlen: huffman::lengths(&litlen, huffman::MAX_LENGTH),
            offset: huffman::lengths(&histogram.offset, huffman::MAX_LENGTH),
        }
    }

    /// Bits of all symbols of the tokens and the end of the block, without the bits behind them.
    fn weigh(&self, histogram: &Histogram) -> usize {
        let weigh = |counts: &[u32], lengths: &[u8]| -> usize {
            counts
                .iter()
                .zip(lengths)
                .map(|(&count, &length)| count as usize * usize::from(length))
                .sum()
        };
        weigh(&histogram.litlen, &self.litlen)
            + weigh(&histogram.offset, &self.offset)
            + usize::from(self.litlen[END_OF_BLOCK])
    }
}

/// Order in which the lengths of the code for code lengths are written.
const HEADER_ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];
/// Longest code for code lengths.
const HEADER_MAX_LENGTH: usize = 7;
/// Bits behind the symbols for repeats, from symbol 16 on.
const REPEAT_EXTRA: [u32; 3] = [2, 3, 7];

/// How the lengths of the codes are written.
#[derive(Clone, Debug)]
struct Header {
    litlen_symbols: usize,
    offset_symbols: usize,
    /// Symbol and what is behind it.
    items: [(u8, u8); LITLEN_SYMBOLS + OFFSET_SYMBOLS],
    item_count: usize,
    lengths: [u8; 19],
    /// Lengths of `lengths` that are written.
    length_count: usize,
    bits: usize,
}

impl Header {
    fn of(codes: &CodeLengths) -> Self {
        let used = |lengths: &[u8]| lengths.iter().rposition(|&length| length > 0);
        let litlen_symbols = used(&codes.litlen).map_or(0, |last| last + 1).max(257);
        let offset_symbols = used(&codes.offset).map_or(0, |last| last + 1).max(1);
        let mut all = [0; LITLEN_SYMBOLS + OFFSET_SYMBOLS];
        all[..litlen_symbols].copy_from_slice(&codes.litlen[..litlen_symbols]);
        all[litlen_symbols..litlen_symbols + offset_symbols]
            .copy_from_slice(&codes.offset[..offset_symbols]);

        let mut items = [(0, 0); LITLEN_SYMBOLS + OFFSET_SYMBOLS];
        let mut item_count = 0;
        let mut counts = [0u32; 19];
        let mut put = |symbol: u8, extra: usize| {
            items[item_count] = (symbol, extra as u8);
            item_count += 1;
            counts[usize::from(symbol)] += 1;
        };
        for run in all[..litlen_symbols + offset_symbols].chunk_by(|a, b| a == b) {
            let (length, mut left) = (run[0], run.len());
            if length == 0 {
                while left >= 11 {
                    let part = left.min(138);
                    put(18, part - 11);
                    left -= part;
                }
                if left >= 3 {
                    put(17, left - 3);
                    left = 0;
                }
            } else if left >= 4 {
                put(length, 0);
                left -= 1;
                while left >= 3 {
                    // Seven are better split so that no single ones are left.
                    let part = if matches!(left, 7 | 8) {
                        4
                    } else {
                        left.min(6)
                    };
                    put(16, part - 3);
                    left -= part;
                }
            }
            for _ in 0..left {
                put(length, 0);
            }
        }

        let lengths = huffman::lengths(&counts, HEADER_MAX_LENGTH);
        let length_count = HEADER_ORDER
            .iter()
            .rposition(|&symbol| lengths[symbol] > 0)
            .map_or(4, |last| (last + 1).max(4));
        let symbol_bits: usize = counts
            .iter()
            .zip(lengths)
            .map(|(&count, length)| count as usize * usize::from(length))
            .sum();
        let extra_bits: usize = counts[16..]
            .iter()
            .zip(REPEAT_EXTRA)
            .map(|(count, bits)| (count * bits) as usize)
            .sum();
        Self {
            litlen_symbols,
            offset_symbols,
            items,
            item_count,
            lengths,
            length_count,
            bits: 5 + 5 + 4 + 3 * length_count + symbol_bits + extra_bits,
        }
    }

    fn write(&self, writer: &mut BitWriter<'_>) {
        writer.put((self.litlen_symbols - 257) as u64, 5);
        writer.put((self.offset_symbols - 1) as u64, 5);
        writer.put((self.length_count - 4) as u64, 4);
        writer.flush();
        for &symbol in &HEADER_ORDER[..self.length_count] {
            writer.put(self.lengths[symbol].into(), 3);
            writer.flush();
        }
        let codes = huffman::codes(&self.lengths);
        for &(symbol, extra) in &self.items[..self.item_count] {
            let symbol = usize::from(symbol);
            writer.put(codes[symbol].into(), self.lengths[symbol].into());
            if symbol >= 16 {
                writer.put(extra.into(), REPEAT_EXTRA[symbol - 16]);
            }
            writer.flush();
        }
    }
}

/// Bytes of one stored block.
const MAX_STORED: usize = 0xFFFF;

/// The cheapest way to write a block.
#[derive(Clone, Debug)]
pub(super) struct BlockPlan {
    form: Form,
    /// All bits of the block; of stored ones this depends on where it begins.
    pub(super) bits: usize,
}

#[derive(Clone, Debug)]
enum Form {
    Stored,
    Fixed,
    Own(Box<(CodeLengths, Header)>),
}

impl BlockPlan {
    /// For tokens of this histogram, to be written at bit `position`.
    pub(super) fn cheapest(histogram: &Histogram, position: usize) -> Self {
        let extra = 3 + histogram.extra_bits();
        let codes = CodeLengths::of(histogram);
        let header = Header::of(&codes);
        let own = extra + header.bits + codes.weigh(histogram);
        let fixed = extra + CodeLengths::FIXED.weigh(histogram);
        let stored = stored_bits(histogram.bytes, position);
        let bits = own.min(fixed).min(stored);
        let form = if bits == stored {
            Form::Stored
        } else if bits == fixed {
            Form::Fixed
        } else {
            Form::Own(Box::new((codes, header)))
        };
        Self { form, bits }
    }

    /// Writes the block of `tokens`, which stand for `bytes`, as not the last one. Returns the position of the bit that
    /// says whether it is the last one.
    pub(super) fn write(
        &self,
        tokens: &[Token],
        bytes: &[u8],
        writer: &mut BitWriter<'_>,
    ) -> usize {
        let mut start = writer.position();
        match &self.form {
            Form::Stored => {
                let mut pieces = bytes.chunks(MAX_STORED);
                // No bytes are one empty piece.
                let mut piece = pieces.next().unwrap_or_default();
                loop {
                    start = writer.position();
                    // A unit must not begin with a zero byte, which the decoder would take for padding. Bits before
                    // the next whole byte are ignored.
                    match start {
                        0 => writer.put(0b1000, 4),
                        _ => writer.put(0, 3),
                    }
                    writer.align();
                    writer.put(piece.len() as u64, 16);
                    writer.put(!(piece.len() as u64) & 0xFFFF, 16);
                    writer.flush();
                    writer.bytes(piece);
                    match pieces.next() {
                        Some(next) => piece = next,
                        None => break,
                    }
                }
            }
            Form::Fixed => {
                writer.put(0b010, 3);
                write_tokens(&CodeLengths::FIXED, tokens, writer);
            }
            Form::Own(own) => {
                let (codes, header) = &**own;
                writer.put(0b100, 3);
                header.write(writer);
                write_tokens(codes, tokens, writer);
            }
        }
        debug_assert!(matches!(self.form, Form::Stored) || writer.position() == start + self.bits);
        start
    }
}

/// Bits of stored blocks that hold so many bytes, from a position in bits.
fn stored_bits(bytes: usize, position: usize) -> usize {
    let first = (position + 3).next_multiple_of(8) - position;
    let blocks = bytes.div_ceil(MAX_STORED).max(1);
    first + (blocks - 1) * 8 + blocks * 32 + bytes * 8
}

/// A code with what is behind it, and its bits.
type Word = (u32, u32);

fn write_tokens(lengths: &CodeLengths, tokens: &[Token], writer: &mut BitWriter<'_>) {
    let codes = huffman::codes(&lengths.litlen);
    let mut literals: [Word; 256] = [(0, 0); 256];
    for (word, (&code, &length)) in literals.iter_mut().zip(codes.iter().zip(&lengths.litlen)) {
        *word = (code.into(), length.into());
    }
    let mut matches: [Word; MAX_MATCH + 1] = [(0, 0); MAX_MATCH + 1];
    for (length, word) in matches.iter_mut().enumerate().skip(MIN_MATCH) {
        let symbol = length_symbol(length);
        let extra = (length - usize::from(LENGTH_BASE[symbol])) as u32;
        let (code, bits) = (
            codes[FIRST_LENGTH + symbol],
            u32::from(lengths.litlen[FIRST_LENGTH + symbol]),
        );
        *word = (
            u32::from(code) | extra << bits,
            bits + u32::from(LENGTH_EXTRA[symbol]),
        );
    }
    let offsets = huffman::codes(&lengths.offset);
    // Three literals, or one behind which a match comes, take 45 and 15 + 20 + 28 bits.
    for &token in tokens {
        let length = token.length();
        if length == 0 {
            let (word, bits) = literals[token.low() & 0xFF];
            writer.put(word.into(), bits);
        } else {
            let (word, bits) = matches[length];
            writer.put(word.into(), bits);
            let less_one = token.low();
            let symbol = offset_symbol(less_one);
            writer.put(offsets[symbol].into(), lengths.offset[symbol].into());
            writer.put(
                (less_one - usize::from(OFFSET_BASE[symbol])) as u64,
                OFFSET_EXTRA[symbol].into(),
            );
        }
        writer.flush();
    }
    writer.put(
        codes[END_OF_BLOCK].into(),
        lengths.litlen[END_OF_BLOCK].into(),
    );
    writer.flush();
}
