//! Bits for any processor.

use super::RangeDecoder;
use crate::lzma::model::Literals;
use std::hint::select_unpredictable;

impl RangeDecoder<'_> {
    /// Whether a bit of this probability is 0, found without a branch, and the
    /// probability of the next.
    #[inline(always)]
    fn value(&mut self, probability: u32) -> (bool, u16) {
        self.normalize();
        let bound = (self.range >> 11) * probability;
        let upper = self.range.wrapping_sub(bound);
        let rest = self.code.wrapping_sub(bound);
        let is_zero = self.code < bound;
        self.range = select_unpredictable(is_zero, bound, upper);
        self.code = select_unpredictable(is_zero, self.code, rest);
        // One step of 2^-5 towards 2^11 or 0, rounded towards where it comes from.
        let offset = probability.wrapping_sub((1 << 11) - 31);
        let offset = select_unpredictable(is_zero, offset, probability);
        let next = probability.wrapping_sub((offset as i32 >> 5) as u32);
        (is_zero, next as u16)
    }
}

/// One of `COUNT` values, a power of two, from its highest bit to its lowest, each with a
/// probability by those before it.
#[inline(always)]
pub(in crate::lzma) fn tree<const COUNT: usize>(
    coder: &mut RangeDecoder<'_>,
    probabilities: &mut [u16; COUNT],
) -> usize {
    const { assert!(COUNT.is_power_of_two() && COUNT > 1) };
    let mut symbol = 1;
    let mut probability = u32::from(probabilities[1]);
    for _ in 0..COUNT.ilog2() {
        // Both are loaded before the bit is known, which would take longer otherwise.
        let zero = u32::from(probabilities[symbol * 2 % COUNT]);
        let one = u32::from(probabilities[(symbol * 2 + 1) % COUNT]);
        let (is_zero, after) = coder.value(probability);
        probabilities[symbol % COUNT] = after;
        probability = select_unpredictable(is_zero, zero, one);
        symbol = symbol * 2 + 1 - usize::from(is_zero);
    }
    symbol - COUNT
}

/// `bits` bits, at least one, from the lowest to the highest, each with a probability by those
/// before it.
///
/// # Panics
/// With fewer than 2^(`bits` + 1) probabilities, of which the upper half is not used.
#[inline(always)]
pub(in crate::lzma) fn reverse_tree(
    coder: &mut RangeDecoder<'_>,
    probabilities: &mut [u16],
    bits: u32,
) -> u32 {
    assert!((1..8).contains(&bits) && probabilities.len() >= 2 << bits);
    let (mut symbol, mut value) = (1, 0);
    let mut probability = u32::from(probabilities[1]);
    for index in 0..bits {
        let zero = u32::from(probabilities[symbol * 2]);
        let one = u32::from(probabilities[symbol * 2 + 1]);
        let (is_zero, after) = coder.value(probability);
        probabilities[symbol] = after;
        probability = select_unpredictable(is_zero, zero, one);
        symbol = symbol * 2 + 1 - usize::from(is_zero);
        value |= u32::from(!is_zero) << index;
    }
    value
}

/// `bits` bits, at least one, as likely 0 as 1, from the highest to the lowest.
#[inline(always)]
pub(in crate::lzma) fn direct(coder: &mut RangeDecoder<'_>, bits: u32) -> u32 {
    let mut value = 0;
    for _ in 0..bits.max(1) {
        coder.normalize();
        coder.range >>= 1;
        let rest = coder.code.wrapping_sub(coder.range);
        let one = rest >> 31 == 0;
        coder.code = select_unpredictable(one, rest, coder.code);
        value = value << 1 | u32::from(one);
    }
    value
}

/// A literal that is not `unlike`, with which the match before it would go on.
#[inline(always)]
pub(in crate::lzma) fn literal_after_match(
    coder: &mut RangeDecoder<'_>,
    probabilities: &mut Literals,
    unlike: u8,
) -> u8 {
    let Literals { any, alike } = probabilities;
    let unlike = 0x100 | usize::from(unlike);
    let mut symbol = 1;
    let mut is_alike = true;
    let mut probability = u32::from(alike[unlike >> 7]);
    for shift in (0..8).rev() {
        let next_alike = u32::from(alike[unlike >> (shift.max(1) - 1)]);
        let zero = u32::from(any[symbol * 2 % 0x100]);
        let one = u32::from(any[(symbol * 2 + 1) % 0x100]);
        let (is_zero, after) = coder.value(probability);
        *select_unpredictable(
            is_alike,
            &mut alike[unlike >> shift],
            &mut any[symbol % 0x100],
        ) = after;
        probability = select_unpredictable(is_zero, zero, one);
        symbol = symbol * 2 + 1 - usize::from(is_zero);
        is_alike = symbol == unlike >> shift;
        probability = select_unpredictable(is_alike, next_alike, probability);
    }
    symbol as u8
}
