//! Sequences, and where a block of a given size ends.
//!
//! A block ends after literals: at least 5, and its last match starts at least
//! 12 bytes before its end (liblz4's `lz4_Block_format.md`, "End of block
//! conditions"; the kernel's `LZ4_decompress_safe` relies on them).

use super::{LONG, MIN_MATCH};
use crate::{BLOCK, Fill};

/// Bytes at the end of a block that are literals at least.
pub(super) const LAST_LITERALS: usize = 5;
/// Bytes from the start of the last match to the end of a block at least.
pub(super) const LAST_MATCH: usize = 12;
/// Bytes written at once for a sequence whose lengths the token holds: those of
/// the longest, the literals copied beyond their end, and room to end the block.
const SHORT: usize = 32;
/// Literals copied at once in that case.
const SHORT_LITERALS: usize = 16;
/// Literals copied at once in others, if that are all: seldom are there more.
const LITERALS: usize = 64;

/// Largest pcluster of EROFS, in bytes.
const MAX_OUTPUT: usize = 1 << 20;
/// The largest number of bytes that one byte of a block decodes to.
const MAX_RATIO: usize = 255;

/// Encodes a prefix of `input` by the sequences that `parse` pushes; `None` if that saves no [`BLOCK`].
#[inline(always)]
pub(super) fn encode(
    input: &[u8],
    output: &mut [u8],
    parse: impl FnOnce(&mut Block<'_>),
) -> Option<Fill> {
    if input.len() <= BLOCK {
        return None;
    }
    // Positions fit 32 bits.
    let room = output.len().min(MAX_OUTPUT);
    let longest = input.len().min(room * MAX_RATIO);
    let mut block = Block::new(&input[..longest], &mut output[..room]);
    parse(&mut block);
    let fill = block.end();
    (fill.encoded.next_multiple_of(BLOCK) < fill.consumed).then_some(fill)
}

/// Bytes behind the token for a length in it.
pub(super) const fn more(length: usize) -> usize {
    if length < LONG {
        0
    } else {
        1 + (length - LONG) / 255
    }
}

/// Fewest literals between a match of `length` and the end of the block.
const fn least_ending(length: usize) -> usize {
    if length + LAST_LITERALS < LAST_MATCH {
        LAST_MATCH - length
    } else {
        LAST_LITERALS
    }
}

/// From a position without a match, behind so many literals, to the next one to try: data in which nothing repeats is
/// passed quickly, and of what does repeat behind it little is lost.
#[inline(always)]
pub(super) const fn step(literals: usize) -> usize {
    const SKIP_LOG: u32 = 6;
    const LARGEST: usize = 64;
    let step = 1 + (literals >> SKIP_LOG);
    if step < LARGEST { step } else { LARGEST }
}

/// Equal bytes in `input` from `from` and from `at` on, which is further behind,
/// counted up to `end`.
#[inline(always)]
pub(super) fn common(input: &[u8], from: usize, at: usize, end: usize) -> usize {
    let input = &input[..end];
    // 32 bits, so that the compiler sees no overflow in what follows.
    let (mut ahead, mut behind) = (at as u32, from as u32);
    while let Some(word) = eight(input, ahead as usize)
        && let Some(earlier) = eight(input, behind as usize)
    {
        let difference = word ^ earlier;
        if difference != 0 {
            return ahead as usize - at + difference.trailing_zeros() as usize / 8;
        }
        ahead += 8;
        behind += 8;
    }
    while let Some(byte) = input.get(ahead as usize)
        && Some(byte) == input.get(behind as usize)
    {
        ahead += 1;
        behind += 1;
    }
    ahead as usize - at
}

/// The eight bytes from `at` on.
#[inline(always)]
pub(super) fn eight(data: &[u8], at: usize) -> Option<u64> {
    let bytes = data.get(at..at + 8)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

/// The four bytes from `at` on.
#[inline(always)]
pub(super) fn four(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at + 4)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

/// A block in the making. What is written always leaves room for its end.
#[derive(Debug)]
pub(super) struct Block<'a> {
    input: &'a [u8],
    /// Bytes of `input` that are encoded.
    consumed: usize,
    output: &'a mut [u8],
    /// Bytes of `output` that are written.
    written: usize,
}

impl<'a> Block<'a> {
    fn new(input: &'a [u8], output: &'a mut [u8]) -> Self {
        Self {
            input,
            consumed: 0,
            output,
            written: 0,
        }
    }

    /// All that is to encode.
    #[inline(always)]
    pub(super) fn input(&self) -> &'a [u8] {
        self.input
    }

    /// Bytes of the input that are encoded: where the next literals begin.
    #[inline(always)]
    pub(super) fn consumed(&self) -> usize {
        self.consumed
    }

    /// Bytes of the output that are not written.
    #[inline(always)]
    pub(super) fn room(&self) -> usize {
        self.output.len() - self.written
    }

    /// Appends the literals before `start` and a match there of `length`, which
    /// must leave [`LAST_LITERALS`] of the input and begin [`LAST_MATCH`] bytes
    /// before its end. `false`: the output is full, and the match is shortened or
    /// left away; nothing more fits.
    #[inline(always)]
    pub(super) fn push(&mut self, start: usize, offset: usize, length: usize) -> bool {
        let literals = start - self.consumed;
        // 32 bits, so that the compiler sees no overflow in what follows.
        let (from, to) = (self.consumed as u32 as usize, self.written as u32 as usize);
        if literals < LONG
            && length < LONG + MIN_MATCH
            && let Some(source) = self.input.get(from..from + SHORT_LITERALS)
            && let Some(target) = self.output.get_mut(to..to + SHORT)
        {
            target[0] = (literals << 4 | (length - MIN_MATCH)) as u8;
            target[1..][..SHORT_LITERALS].copy_from_slice(source);
            target[1 + literals..][..2].copy_from_slice(&(offset as u16).to_le_bytes());
            self.written += 3 + literals;
            self.consumed = start + length;
            true
        } else {
            self.push_long(start, offset, length)
        }
    }

    fn push_long(&mut self, start: usize, offset: usize, length: usize) -> bool {
        let literals = start - self.consumed;
        let fits = self.fitting(literals, length);
        if fits == 0 {
            return false;
        }
        let token = literals.min(LONG) << 4 | (fits - MIN_MATCH).min(LONG);
        self.put(token as u8);
        self.put_more(literals);
        self.put_literals(literals);
        for byte in (offset as u16).to_le_bytes() {
            self.put(byte);
        }
        self.put_more(fits - MIN_MATCH);
        self.consumed += fits;
        fits == length
    }

    /// How much of a match fits behind `literals` with an end behind it; 0 if it does not pay.
    fn fitting(&self, literals: usize, length: usize) -> usize {
        // Token and offset of the match, token of the end.
        let fixed = 1 + more(literals) + literals + 2 + 1;
        let Some(room) = self.room().checked_sub(fixed) else {
            return 0;
        };
        if more(length - MIN_MATCH) + least_ending(length) <= room {
            return length;
        }
        let Some(room) = room.checked_sub(LAST_LITERALS) else {
            return 0;
        };
        // The longest match with `room` more bytes of length.
        let longest = MIN_MATCH + LONG - 1 + room * 255;
        let shortened = longest.min(length);
        if more(shortened - MIN_MATCH) + least_ending(shortened) <= room + LAST_LITERALS {
            shortened
        } else {
            0
        }
    }

    /// Appends as many literals as the output takes, or the input has.
    fn end(mut self) -> Fill {
        let room = self.room();
        let mut literals = room.saturating_sub(1).min(self.input.len() - self.consumed);
        while 1 + more(literals) + literals > room && literals > 0 {
            literals -= 1;
        }
        self.put((literals.min(LONG) << 4) as u8);
        self.put_more(literals);
        self.put_literals(literals);
        Fill {
            consumed: self.consumed,
            encoded: self.written,
        }
    }

    #[inline(always)]
    fn put(&mut self, byte: u8) {
        if let Some(place) = self.output.get_mut(self.written) {
            *place = byte;
            self.written += 1;
        }
    }

    #[inline(always)]
    fn put_more(&mut self, length: usize) {
        let Some(mut length) = length.checked_sub(LONG) else {
            return;
        };
        while length >= 255 {
            self.put(255);
            length -= 255;
        }
        self.put(length as u8);
    }

    #[inline(always)]
    fn put_literals(&mut self, count: usize) {
        let source = &self.input[self.consumed..];
        let target = &mut self.output[self.written..];
        match (source.first_chunk::<LITERALS>(), target.first_chunk_mut()) {
            (Some(source), Some(target)) if count <= LITERALS => *target = *source,
            _ => target[..count].copy_from_slice(&source[..count]),
        }
        self.written += count;
        self.consumed += count;
    }
}
