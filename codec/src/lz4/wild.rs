//! Sequences away from the ends of both buffers, copied in pieces of a fixed size
//! that write more than is needed: what is too much is written over later.
//!
//! One of two modules of this crate with `unsafe`: bounds are compared once for all
//! pieces of a sequence instead of for each, see decision 18 in docs/design.md.
//! Every unchecked access passes [`Encoded::piece`], [`Output::piece`] or
//! [`Output::put`], which do check where debug assertions are on: in tests and
//! while fuzzing.
//!
//! Pieces of short matches have 8 bytes: one of 16 often begins in bytes that the
//! piece before has just written, which the processor can only read when they
//! have left for its cache.
#![allow(
    unsafe_code,
    reason = "the hot loop of reading LZ4 images; measured with examples/lz4_decode.rs"
)]

use super::{LONG, MIN_MATCH, long};

/// Bytes of a match that are copied at once, and of a long one.
const PIECE: usize = 8;
const LARGE_PIECE: usize = 32;
/// Bytes of literals that are copied at once when the token holds their number.
const LITERALS: usize = 16;
/// Bytes that are written of a match whose length the token holds: more than the
/// longest of them has.
const MATCH: usize = 3 * PIECE;
const _: () = assert!(MATCH > LONG - 1 + MIN_MATCH);

/// Bytes from a token on that are read when it holds the number of literals.
const ENCODED: usize = 1 + LITERALS;
const _: () = assert!(ENCODED >= 1 + (LONG - 1) + size_of::<u16>());
/// Bytes that are written when the token holds both lengths.
const DECODED: usize = LONG - 1 + MATCH;
const _: () = assert!(DECODED >= LITERALS);

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
    let last = encoded.len().checked_sub(ENCODED);
    let full = output.len().checked_sub(DECODED);
    if let (Some(last), Some(full)) = (last, full) {
        let (encoded, mut output) = (Encoded(encoded), Output(output));
        while at <= last && filled <= full {
            // SAFETY: `at + ENCODED` and `filled + DECODED` are inside, as just compared.
            match unsafe { sequence(encoded, at, &mut output, filled) } {
                Some(next) => (at, filled) = next,
                None => break,
            }
        }
    }
    (at, filled)
}

/// What is decoded.
#[derive(Clone, Copy)]
struct Encoded<'a>(&'a [u8]);

impl Encoded<'_> {
    /// `N` bytes.
    ///
    /// # Safety
    /// `at + N` is at most the length.
    #[inline(always)]
    unsafe fn piece<const N: usize>(self, at: usize) -> [u8; N] {
        debug_assert!(at.checked_add(N).is_some_and(|end| end <= self.0.len()));
        // SAFETY: the bytes lie inside of the slice, as the caller promises; an array of bytes is aligned anywhere.
        unsafe { self.0.as_ptr().add(at).cast::<[u8; N]>().read() }
    }
}

/// What it is decoded to.
struct Output<'a>(&'a mut [u8]);

impl Output<'_> {
    /// `N` bytes.
    ///
    /// # Safety
    /// `at + N` is at most the length.
    #[inline(always)]
    unsafe fn piece<const N: usize>(&self, at: usize) -> [u8; N] {
        debug_assert!(at.checked_add(N).is_some_and(|end| end <= self.0.len()));
        // SAFETY: the bytes lie inside of the slice, as the caller promises; an array of bytes is aligned anywhere.
        unsafe { self.0.as_ptr().add(at).cast::<[u8; N]>().read() }
    }

    /// Replaces `N` bytes.
    ///
    /// # Safety
    /// `at + N` is at most the length.
    #[inline(always)]
    unsafe fn put<const N: usize>(&mut self, at: usize, piece: [u8; N]) {
        debug_assert!(at.checked_add(N).is_some_and(|end| end <= self.0.len()));
        // SAFETY: the bytes lie inside of the slice, which is borrowed for writing, as the caller promises; an array of
        // bytes is aligned anywhere.
        unsafe { self.0.as_mut_ptr().add(at).cast::<[u8; N]>().write(piece) }
    }

    /// Copies `length` bytes or more, up to `N - 1` more, from `from` to behind it in pieces of `N`.
    ///
    /// # Safety
    /// `to + length + N - 1` is at most the length, and `from` is `N` below `to` or more.
    #[inline(always)]
    unsafe fn copy<const N: usize>(&mut self, from: usize, to: usize, length: usize) {
        let mut done = 0;
        while done < length {
            // SAFETY: a piece begins before `length` ends, so it ends inside; it is read from before where it goes.
            unsafe { self.put(to + done, self.piece::<N>(from + done)) };
            done += N;
        }
    }
}

/// Decodes the sequence whose token is at `at`, as far as it is sound and its copies stay inside of both buffers.
///
/// # Safety
/// `at + ENCODED` is at most the length of `encoded`, `filled + DECODED` that of `output`.
#[inline(always)]
unsafe fn sequence(
    encoded: Encoded<'_>,
    mut at: usize,
    output: &mut Output<'_>,
    mut filled: usize,
) -> Option<(usize, usize)> {
    // SAFETY: `ENCODED` is not 0.
    let [token] = unsafe { encoded.piece(at) };
    let mut literals = usize::from(token >> 4);
    at += 1;
    if literals == LONG {
        (literals, at) = long(encoded.0, at)?;
        let copied = literals.checked_next_multiple_of(LARGE_PIECE)?;
        // An offset follows, and a match is written.
        let read = copied.max(literals.checked_add(size_of::<u16>())?);
        if read > encoded.0.len() - at || copied.checked_add(MATCH)? > output.0.len() - filled {
            return None;
        }
        let mut done = 0;
        while done < literals {
            // SAFETY: `done + LARGE_PIECE` is at most `copied`, for which there is room in both, as just compared.
            unsafe { output.put(filled + done, encoded.piece::<LARGE_PIECE>(at + done)) };
            done += LARGE_PIECE;
        }
    } else {
        // SAFETY: `ENCODED` has them behind the token, and `DECODED` is no less.
        unsafe { output.put(filled, encoded.piece::<LITERALS>(at)) };
    }
    at += literals;
    filled += literals;
    // SAFETY: `ENCODED` has two more bytes than fewer than `LONG` literals and their token; of more literals it was compared.
    let offset = usize::from(u16::from_le_bytes(unsafe { encoded.piece(at) }));
    at += size_of::<u16>();
    if offset == 0 || offset > filled {
        return None;
    }
    let from = filled - offset;
    let mut length = usize::from(token & 0xF);
    if length == LONG {
        (length, at) = long(encoded.0, at)?;
        length = length.checked_add(MIN_MATCH)?;
        if length.checked_add(LARGE_PIECE)? > output.0.len() - filled {
            return None;
        }
        // SAFETY: there is room for `LARGE_PIECE` bytes more than `length`, as just compared, and no piece is larger than
        // the offset.
        unsafe {
            if offset >= LARGE_PIECE {
                output.copy::<LARGE_PIECE>(from, filled, length);
            } else if offset >= LARGE_PIECE / 2 {
                output.copy::<{ LARGE_PIECE / 2 }>(from, filled, length);
            } else if offset >= PIECE {
                output.copy::<PIECE>(from, filled, length);
            } else {
                let (piece, step) = repeated(output.piece(from), offset);
                let mut done = 0;
                while done < length {
                    output.put(filled + done, piece);
                    done += step;
                }
            }
        }
    } else {
        length += MIN_MATCH;
        // SAFETY: there is room for `MATCH` bytes, by `DECODED` or as compared for many literals; `from` is before them.
        unsafe {
            if offset >= PIECE {
                output.copy::<PIECE>(from, filled, 2 * PIECE);
                // Seldom, and what is read then was often just written: without it reading would wait for that.
                if length > 2 * PIECE {
                    output.copy::<PIECE>(from + 2 * PIECE, filled + 2 * PIECE, PIECE);
                }
            } else {
                let (piece, step) = repeated(output.piece(from), offset);
                output.put(filled, piece);
                output.put(filled + step, piece);
                output.put(filled + 2 * step, piece);
            }
        }
    }
    Some((at, filled + length))
}

/// A piece that repeats the first `offset` bytes of another, fewer than all but not 0, and how many of its bytes are
/// whole repetitions: three such pieces have more bytes than a match whose length the token holds.
#[inline(always)]
fn repeated(first: [u8; PIECE], offset: usize) -> ([u8; PIECE], usize) {
    let Repeat { factor, step } = REPEAT[offset % PIECE];
    let known = u64::from_le_bytes(first) & ((1 << (8 * (offset % PIECE))) - 1);
    (known.wrapping_mul(factor).to_le_bytes(), step)
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
        // A short match is complete with three pieces.
        assert!(2 * table[offset].step + PIECE >= LONG - 1 + MIN_MATCH);
        offset += 1;
    }
    table
};
