//! Bits in assembly for x86-64.
//!
//! Registers by name: `range`, `code`, `next` and `end` are those of the coder,
//! `probability` is that of the bit at hand and `at` where it is stored; `bound` and
//! `rest` are free between bits. What the processor has to wait for, from one bit to
//! the next, is a shift, a multiplication, a subtraction and a conditional move: the
//! probabilities of both bits that may follow are loaded before the bit is known.

use super::RangeDecoder;
use crate::lzma::model::Literals;
use std::arch::asm;
use std::mem::offset_of;

/// Takes a byte of the input if the range is small, as `RangeDecoder::normalize`.
macro_rules! normalize {
    () => {
        "cmp {range:e}, 0x1000000
        jae 2f
        shl {range:e}, 8
        shl {code:e}, 8
        cmp {next}, {end}
        jae 3f
        mov {code:l}, byte ptr [{next}]
        3: inc {next}
        2:"
    };
}

/// Decodes a bit, which is then the complement of the carry flag, and makes `rest` what
/// [`learn`] takes away from the probability 32 times.
macro_rules! decide {
    () => {
        concat!(
            normalize!(),
            "
            mov {bound:e}, {range:e}
            shr {bound:e}, 11
            imul {bound:e}, {probability:e}
            mov {rest:e}, {code:e}
            sub {range:e}, {bound:e}
            sub {rest:e}, {bound:e}
            cmovae {code:e}, {rest:e}
            cmovb {range:e}, {bound:e}
            lea {rest:e}, [{probability:r} - (0x800 - 31)]
            cmovae {rest:e}, {probability:e}"
        )
    };
}

/// Stores the probability, one step of 2^-5 towards 2^11 or 0. Changes the flags.
macro_rules! learn {
    () => {
        "sar {rest:e}, 5
        sub {probability:e}, {rest:e}
        mov word ptr [{at}], {probability:x}"
    };
}

/// Appends the bit in the carry flag to `symbol`. Changes the flags.
macro_rules! append {
    () => {
        "lea {symbol:e}, [{symbol:r}*2 + 1]
        sbb {symbol:e}, 0"
    };
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
    // SAFETY: reads `next` only where it is before `end`, as `RangeDecoder::normalize`. `symbol` is
    // 1 and gets a bit in each round but the last, so it stays below half of `COUNT` where
    // probabilities 2·symbol and 2·symbol + 1 are read, and below `COUNT` where one is written.
    unsafe {
        asm!(
            "movzx {probability:e}, word ptr [{probabilities} + 2]",
            ".rept {rounds}",
            "movzx {zero:e}, word ptr [{probabilities} + {symbol}*4]",
            "movzx {one:e}, word ptr [{probabilities} + {symbol}*4 + 2]",
            "lea {at}, [{probabilities} + {symbol}*2]",
            decide!(),
            "cmovb {one:e}, {zero:e}",
            append!(),
            learn!(),
            "mov {probability:e}, {one:e}",
            ".endr",
            "lea {at}, [{probabilities} + {symbol}*2]",
            decide!(),
            append!(),
            learn!(),
            rounds = const COUNT.ilog2() - 1,
            probabilities = in(reg) probabilities.as_mut_ptr(),
            symbol = inout(reg) symbol,
            range = inout(reg) coder.range,
            code = inout(reg) coder.code,
            next = inout(reg) coder.next,
            end = in(reg) coder.end,
            probability = out(reg) _,
            zero = out(reg) _,
            one = out(reg) _,
            at = out(reg) _,
            bound = out(reg) _,
            rest = out(reg) _,
            options(nostack),
        );
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
    let mut symbol = 1_usize;
    // SAFETY: reads `next` only where it is before `end`, as `RangeDecoder::normalize`. `symbol` is
    // 1 and gets a bit in each of `bits` rounds, so it stays below 2^bits where probabilities
    // 2·symbol and 2·symbol + 1 are read and that of `symbol` is written.
    unsafe {
        asm!(
            "movzx {probability:e}, word ptr [{probabilities} + 2]",
            "4:",
            "movzx {zero:e}, word ptr [{probabilities} + {symbol}*4]",
            "movzx {one:e}, word ptr [{probabilities} + {symbol}*4 + 2]",
            "lea {at}, [{probabilities} + {symbol}*2]",
            decide!(),
            "cmovb {one:e}, {zero:e}",
            append!(),
            learn!(),
            "mov {probability:e}, {one:e}",
            "dec {bits:e}",
            "jnz 4b",
            probabilities = in(reg) probabilities.as_mut_ptr(),
            symbol = inout(reg) symbol,
            bits = inout(reg) bits => _,
            range = inout(reg) coder.range,
            code = inout(reg) coder.code,
            next = inout(reg) coder.next,
            end = in(reg) coder.end,
            probability = out(reg) _,
            zero = out(reg) _,
            one = out(reg) _,
            at = out(reg) _,
            bound = out(reg) _,
            rest = out(reg) _,
            options(nostack),
        );
    }
    // The highest bit is the one it began with.
    (symbol as u32).reverse_bits() >> (32 - bits)
}

/// `bits` bits, at least one, as likely 0 as 1, from the highest to the lowest.
#[inline(always)]
pub(in crate::lzma) fn direct(coder: &mut RangeDecoder<'_>, bits: u32) -> u32 {
    let mut value = 0;
    // SAFETY: reads `next` only where it is before `end`, as `RangeDecoder::normalize`.
    unsafe {
        asm!(
            "4:",
            normalize!(),
            "shr {range:e}, 1",
            "mov {rest:e}, {code:e}",
            "sub {rest:e}, {range:e}",
            "cmovns {code:e}, {rest:e}",
            "lea {value:e}, [{value:r}*2 + 1]",
            "shr {rest:e}, 31",
            "sub {value:e}, {rest:e}",
            "dec {bits:e}",
            "jnz 4b",
            value = inout(reg) value,
            bits = inout(reg) bits.max(1) => _,
            range = inout(reg) coder.range,
            code = inout(reg) coder.code,
            next = inout(reg) coder.next,
            end = in(reg) coder.end,
            rest = out(reg) _,
            options(nostack),
        );
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
    let mut symbol = 1_usize;
    // One bit. Then what the next one is read with, by whether the literal is still like `unlike`.
    macro_rules! round {
        ($shift:literal, $next_shift:literal) => {
            concat!(
                "movzx {zero:e}, word ptr [{probabilities} + {symbol}*4 + {any}]
                movzx {one:e}, word ptr [{probabilities} + {symbol}*4 + {any} + 2]
                ",
                decide!(),
                "
                cmovb {one:e}, {zero:e}
                ",
                append!(),
                "
                ",
                learn!(),
                "
                mov {rest:e}, {unlike:e}
                shr {rest:e}, ",
                $next_shift,
                "
                lea {rest}, [{probabilities} + {rest}*2 + {alike}]
                movzx {probability:e}, word ptr [{rest}]
                mov {bound:e}, {unlike:e}
                shr {bound:e}, ",
                $shift,
                "
                lea {at}, [{probabilities} + {symbol}*2 + {any}]
                cmp {symbol:e}, {bound:e}
                cmove {at}, {rest}
                cmovne {probability:e}, {one:e}"
            )
        };
    }
    // SAFETY: reads `next` only where it is before `end`, as `RangeDecoder::normalize`. `symbol` is
    // 1 and gets a bit in each of eight rounds, so it stays below 0x80 where probabilities 2·symbol
    // and 2·symbol + 1 of `any` are read, and below 0x100 where `at` is made of it. `unlike` is
    // below 0x200, as many as `alike` has. Both are at these places of `Literals`, to which there
    // is no other reference.
    unsafe {
        asm!(
            "mov {at:e}, {unlike:e}",
            "shr {at:e}, 7",
            "lea {at}, [{probabilities} + {at}*2 + {alike}]",
            "movzx {probability:e}, word ptr [{at}]",
            round!(7, 6),
            round!(6, 5),
            round!(5, 4),
            round!(4, 3),
            round!(3, 2),
            round!(2, 1),
            round!(1, 0),
            decide!(),
            append!(),
            learn!(),
            any = const offset_of!(Literals, any),
            alike = const offset_of!(Literals, alike),
            probabilities = in(reg) std::ptr::from_mut(probabilities),
            symbol = inout(reg) symbol,
            unlike = in(reg) 0x100 | u32::from(unlike),
            range = inout(reg) coder.range,
            code = inout(reg) coder.code,
            next = inout(reg) coder.next,
            end = in(reg) coder.end,
            probability = out(reg) _,
            zero = out(reg) _,
            one = out(reg) _,
            at = out(reg) _,
            bound = out(reg) _,
            rest = out(reg) _,
            options(nostack),
        );
    }
    symbol as u8
}
