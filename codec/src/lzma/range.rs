//! The range decoder: code split into bits of known probabilities.
//!
//! Most of the time goes into bits of trees, which depend on each other and cannot
//! be guessed: [`tree`], [`reverse_tree`], [`direct`] and [`literal_after_match`]
//! decode them without branches. x86-64 has them in assembly: compilers compare
//! more than once and run out of registers, with which all decoding takes 1.12
//! times as long. Other processors have them in Rust (`portable`), which tests
//! hold the assembly to.

use std::marker::PhantomData;

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use portable::{direct, literal_after_match, reverse_tree, tree};
#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::{direct, literal_after_match, reverse_tree, tree};

/// Splits the code into bits of known probabilities. Behind the end of the
/// input it reads zeros.
#[derive(Clone, Debug)]
pub(super) struct RangeDecoder<'a> {
    /// The next byte of the input, behind `end` once zeros were read.
    next: *const u8,
    end: *const u8,
    range: u32,
    code: u32,
    input: PhantomData<&'a [u8]>,
}

impl<'a> RangeDecoder<'a> {
    /// A decoder of `input`, if that is long enough to begin.
    pub(super) fn new(input: &'a [u8]) -> Option<Self> {
        let (code, input) = input.split_first_chunk()?;
        let input = input.as_ptr_range();
        Some(Self {
            next: input.start,
            end: input.end,
            range: u32::MAX,
            code: u32::from_be_bytes(*code),
            input: PhantomData,
        })
    }

    /// Whether more was read than there is.
    #[inline(always)]
    pub(super) fn is_cut(&self) -> bool {
        self.next > self.end
    }

    /// How many bytes were not read, if what was read ends as it should: nothing
    /// is left of the code.
    pub(super) fn finish(mut self) -> Option<usize> {
        self.normalize();
        (self.code == 0 && !self.is_cut()).then(|| self.end.addr() - self.next.addr())
    }

    #[inline(always)]
    fn normalize(&mut self) {
        if self.range < 1 << 24 {
            let byte = if self.next < self.end {
                // SAFETY: `next` began in the input, only ever went ahead, and is not at its end.
                unsafe { *self.next }
            } else {
                0
            };
            self.next = self.next.wrapping_add(1);
            self.range <<= 8;
            self.code = self.code << 8 | u32::from(byte);
        }
    }

    /// A bit that is worth a branch, because it chooses what follows.
    #[inline(always)]
    pub(super) fn bit(&mut self, probability: &mut u16) -> bool {
        self.normalize();
        let bound = (self.range >> 11) * u32::from(*probability);
        if self.code < bound {
            self.range = bound;
            *probability += ((1 << 11) - *probability) >> 5;
            false
        } else {
            self.range -= bound;
            self.code -= bound;
            *probability -= *probability >> 5;
            true
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::lzma::model::Literals;
    use proptest::prelude::*;

    impl RangeDecoder<'_> {
        fn state(&self) -> (usize, usize, u32, u32) {
            (self.next.addr(), self.end.addr(), self.range, self.code)
        }
    }

    proptest! {
        /// Any input, also one with a code that is not below the range, decoded behind its end too.
        #[test]
        fn the_assembly_decodes_as_the_portable_form(
            input in prop::collection::vec(any::<u8>(), 4..40),
            steps in prop::collection::vec((0..6, any::<u8>(), 1..=5_u32), 1..40),
            seed in 31..=2017_u16,
        ) {
            let (mut coder, mut other) = (RangeDecoder::new(&input).unwrap(), RangeDecoder::new(&input).unwrap());
            let learnt = |index: usize| 31 + (usize::from(seed) * 31 + index * 97) as u16 % 1987;
            let mut literals = [Literals {
                any: std::array::from_fn(learnt),
                alike: std::array::from_fn(learnt),
            }; 2];
            for (step, unlike, bits) in steps {
                let [first, second] = &mut literals;
                let (ours, theirs) = match step {
                    0 => (tree(&mut coder, &mut first.any), portable::tree(&mut other, &mut second.any)),
                    1 => (
                        tree::<8>(&mut coder, first.any.first_chunk_mut().unwrap()),
                        portable::tree::<8>(&mut other, second.any.first_chunk_mut().unwrap()),
                    ),
                    2 => (
                        reverse_tree(&mut coder, &mut first.alike, bits) as usize,
                        portable::reverse_tree(&mut other, &mut second.alike, bits) as usize,
                    ),
                    3 => (
                        direct(&mut coder, bits * 5) as usize,
                        portable::direct(&mut other, bits * 5) as usize,
                    ),
                    _ => (
                        literal_after_match(&mut coder, first, unlike).into(),
                        portable::literal_after_match(&mut other, second, unlike).into(),
                    ),
                };
                prop_assert_eq!(ours, theirs);
                prop_assert_eq!(coder.state(), other.state());
                prop_assert!(first.any == second.any && first.alike == second.alike);
            }
        }
    }
}
