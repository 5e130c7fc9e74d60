//! Sequences away from the ends of both buffers, copied in pieces of a fixed size
//! that write more than is needed: what is too much is written over later.
//!
//! Pieces of matches have 8 bytes: one of 16 often begins in bytes that the
//! piece before has just written, which the processor can only read when they
//! have left for its cache.

use super::{LONG, MIN_MATCH};

/// Bytes of a match that are copied at once, and of a long one.
const PIECE: usize = 8;
const LARGE_PIECE: usize = 32;
/// Bytes of literals that are copied at once when the token holds their number.
const LITERALS: usize = 16;
/// The longest match whose length the token holds: two pieces and two bytes.
const MATCH: usize = LONG - 1 + MIN_MATCH;

/// Decodes sequences from the token at `at` on for as long as they are sound and
/// away from the ends. Returns where the first one begins that is not, and how
/// many bytes of the output are filled then, never all; those behind are
/// unspecified.
pub(super) fn sequences(
    encoded: &[u8],
    mut at: usize,
    output: &mut [u8],
    mut filled: usize,
) -> (usize, usize) {
    while let Some(next) = sequence(encoded, at, output, filled) {
        (at, filled) = next;
    }
    (at, filled)
}

#[inline(always)]
fn sequence(
    encoded: &[u8],
    mut at: usize,
    output: &mut [u8],
    mut filled: usize,
) -> Option<(usize, usize)> {
    let head: &[u8; 1 + LITERALS] = encoded.get(at..)?.first_chunk()?;
    let room: &mut [u8; LITERALS + MATCH] = output.get_mut(filled..)?.first_chunk_mut()?;
    let [token, ..] = *head;
    let mut literals = usize::from(token >> 4);
    at += 1;
    if literals == LONG {
        (literals, at) = long(encoded, at)?;
        long_literals(encoded.get(at..)?, output.get_mut(filled..)?, literals)?;
    } else {
        *room.first_chunk_mut::<LITERALS>()? = *head.last_chunk()?;
    }
    at += literals;
    filled += literals;
    let offset = u16::from_le_bytes(*encoded.get(at..)?.first_chunk()?);
    let offset = usize::from(offset);
    at += 2;
    let area = output.get_mut(filled.checked_sub(offset)?..)?;
    let mut length = usize::from(token & 0xF);
    if length == LONG {
        (length, at) = long(encoded, at)?;
        length = length.checked_add(MIN_MATCH)?;
        long_match(area, offset, length)?;
    } else {
        length += MIN_MATCH;
        if offset >= PIECE {
            let area = area.get_mut(..offset + MATCH)?;
            copy::<PIECE>(area, 0, offset)?;
            copy::<PIECE>(area, PIECE, offset + PIECE)?;
            copy::<2>(area, 2 * PIECE, offset + 2 * PIECE)?;
        } else {
            repeat(area, offset, length)?;
        }
    }
    Some((at, filled + length))
}

/// A length that goes on at `at`, and where it ends.
#[inline(always)]
fn long(encoded: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let mut length = LONG;
    loop {
        let more = *encoded.get(at)?;
        at += 1;
        length = length.checked_add(more.into())?;
        if more != u8::MAX {
            return Some((length, at));
        }
    }
}

#[inline(always)]
fn long_literals(source: &[u8], target: &mut [u8], length: usize) -> Option<()> {
    let copied = length.checked_next_multiple_of(LARGE_PIECE)?;
    let source = source.get(..copied)?;
    // The match that follows does not fill the output either.
    let target = target.get_mut(..copied.checked_add(MATCH + 1)?)?;
    let mut done = 0;
    while done < length {
        let piece: &[u8; LARGE_PIECE] = source.get(done..)?.first_chunk()?;
        *target.get_mut(done..)?.first_chunk_mut()? = *piece;
        done += LARGE_PIECE;
    }
    Some(())
}

/// Copies a match from the start of an area to its byte `offset`.
#[inline(always)]
fn long_match(area: &mut [u8], offset: usize, length: usize) -> Option<()> {
    let area = area.get_mut(..length.checked_add(offset + LARGE_PIECE)?)?;
    let mut done = 0;
    if offset >= LARGE_PIECE / 2 {
        while done < length {
            copy::<{ LARGE_PIECE / 2 }>(area, done, offset + done)?;
            done += LARGE_PIECE / 2;
        }
    } else if offset >= PIECE {
        while done < length {
            copy::<PIECE>(area, done, offset + done)?;
            done += PIECE;
        }
    } else {
        repeat(area, offset, length)?;
    }
    Some(())
}

#[inline(always)]
fn copy<const N: usize>(area: &mut [u8], from: usize, to: usize) -> Option<()> {
    let piece: [u8; N] = *area.get(from..)?.first_chunk()?;
    *area.get_mut(to..)?.first_chunk_mut()? = piece;
    Some(())
}

/// Copies a match from the start of an area to its byte `offset`, which is so near
/// that no piece is known as a whole.
#[inline(always)]
fn repeat(area: &mut [u8], offset: usize, length: usize) -> Option<()> {
    let Repeat { factor, step } = *REPEAT.get(offset).filter(|_| offset > 0)?;
    let known = u64::from_le_bytes(*area.first_chunk()?) & ((1 << (8 * offset)) - 1);
    let piece = known.wrapping_mul(factor).to_le_bytes();
    let area = area.get_mut(offset..)?;
    let mut done = 0;
    while done < length {
        *area.get_mut(done..)?.first_chunk_mut()? = piece;
        done += step;
    }
    Some(())
}

/// How less than a piece becomes one.
#[derive(Clone, Copy)]
struct Repeat {
    /// What a number of so many bytes is multiplied with to repeat them.
    factor: u64,
    /// Bytes of a piece that are whole repetitions.
    step: usize,
}

/// By offset.
const REPEAT: [Repeat; PIECE] = {
    let mut table = [Repeat { factor: 0, step: 0 }; PIECE];
    let mut offset = 1;
    while offset < PIECE {
        let mut at = 0;
        while at < PIECE {
            table[offset].factor |= 1 << (8 * at);
            at += offset;
        }
        table[offset].step = PIECE - PIECE % offset;
        offset += 1;
    }
    table
};
