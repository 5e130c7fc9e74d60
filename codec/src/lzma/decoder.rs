//! Decoding straight into the output, which is the dictionary too.

use std::hint::select_unpredictable;

use super::NAME;
use super::model::{
    ALIGN_BITS, FIRST_DIRECT_SLOT, FIRST_MODELLED_SLOT, LITERAL_SETS, Lengths, Literals, MIN_MATCH,
    Model, POSITIONS, Properties, State,
};
use crate::{DecodeError, Decoder, Ending};

/// Decodes MicroLZMA streams.
#[derive(Clone, Copy, Debug)]
pub struct LzmaDecoder {
    dictionary_size: u32,
}

impl LzmaDecoder {
    /// A decoder of streams that look back at most `dictionary_size` bytes.
    #[must_use]
    pub const fn new(dictionary_size: u32) -> Self {
        Self { dictionary_size }
    }
}

impl Decoder for LzmaDecoder {
    fn decode(&mut self, encoded: &[u8], output: &mut [u8]) -> Result<Ending, DecodeError> {
        let fault = |reason| DecodeError::Header {
            codec: NAME,
            reason,
        };
        let (&first, coded) = encoded.split_first().ok_or(fault("cut off"))?;
        let properties = Properties::from_byte(!first).ok_or(fault("properties out of range"))?;
        let mut coder = RangeDecoder::new(coded).ok_or(fault("cut off"))?;
        let whole = decode(&mut coder, properties, self.dictionary_size, output)?;
        coder.normalize();
        if !whole || coder.code != 0 || coder.is_cut() {
            return Ok(Ending::Open);
        }
        Ok(match coder.input.len() {
            0 => Ending::Exact,
            bytes => Ending::Trailing { bytes },
        })
    }
}

/// Fills `output`. False if the last match goes on behind its end.
fn decode(
    caller: &mut RangeDecoder,
    properties: Properties,
    dictionary_size: u32,
    output: &mut [u8],
) -> Result<bool, DecodeError> {
    let mut model = Model::NEW;
    // A copy stays in registers.
    let mut coder = caller.clone();
    let mut state = State::default();
    // Bytes between a match and what it repeats, for the last four of these distances.
    let mut distances = [0_u32; 4];
    let position_mask = properties.position_mask();
    let expected = output.len();
    let mut position = 0;
    let mut previous = 0;

    while position < output.len() {
        let cut_off = DecodeError::Truncated {
            produced: position,
            expected,
        };
        let low_position = position & position_mask & (POSITIONS - 1);
        if !coder.bit(&mut model.is_match[state.index()][low_position]) {
            let set = properties.literal_set(position, previous);
            let literals = &mut model.literals[set % LITERAL_SETS];
            previous = if state.is_after_literal() {
                coder.literal(literals)
            } else {
                let unlike = position
                    .checked_sub(distances[0] as usize + 1)
                    .and_then(|before| output.get(before));
                coder.literal_after_match(literals, unlike.copied().unwrap_or(0))
            };
            if coder.is_cut() {
                return Err(cut_off);
            }
            output[position] = previous;
            position += 1;
            state = state.after_literal();
            continue;
        }

        let length = 'length: {
            let [first, second, third, fourth] = distances;
            if !coder.bit(&mut model.is_repeat[state.index()]) {
                state = state.after_match();
                let length = coder.length(&mut model.match_lengths, low_position);
                distances = [coder.distance(&mut model, length), first, second, third];
                break 'length length;
            }
            if !coder.bit(&mut model.is_not_first[state.index()]) {
                if !coder.bit(&mut model.is_long[state.index()][low_position]) {
                    state = state.after_short_repeat();
                    break 'length 1;
                }
            } else if !coder.bit(&mut model.is_not_second[state.index()]) {
                distances = [second, first, third, fourth];
            } else if !coder.bit(&mut model.is_fourth[state.index()]) {
                distances = [third, first, second, fourth];
            } else {
                distances = [fourth, first, second, third];
            }
            state = state.after_repeat();
            coder.length(&mut model.repeat_lengths, low_position)
        };
        if coder.is_cut() {
            return Err(cut_off);
        }
        let back = distances[0];
        if back as usize >= position || back >= dictionary_size {
            return Err(DecodeError::Corrupt {
                codec: NAME,
                reason: "a match reaches before the start of the data or out of the dictionary",
            });
        }
        let fits = length.min(output.len() - position);
        repeat(output, position, back as usize + 1, fits);
        position += fits;
        if fits < length {
            return Ok(false);
        }
        previous = output[position - 1];
    }
    *caller = coder;
    Ok(true)
}

/// Writes `length` bytes at `position`, each that of `distance` bytes before.
#[inline(always)]
fn repeat(output: &mut [u8], position: usize, distance: usize, length: usize) {
    /// Bytes copied at a time; those beyond the match are overwritten later.
    const WIDE: usize = 16;
    let end = position + length;
    if distance >= WIDE && end + WIDE <= output.len() {
        let mut to = position;
        while to < end {
            let from = to - distance;
            let mut chunk = [0; WIDE];
            chunk.copy_from_slice(&output[from..from + WIDE]);
            output[to..to + WIDE].copy_from_slice(&chunk);
            to += WIDE;
        }
    } else if distance == 1 {
        let byte = output[position - 1];
        output[position..end].fill(byte);
    } else {
        for to in position..end {
            output[to] = output[to - distance];
        }
    }
}

/// Splits the code into bits of known probabilities. Behind the end of the
/// input it reads zeros.
#[derive(Clone, Debug)]
struct RangeDecoder<'a> {
    input: std::slice::Iter<'a, u8>,
    /// Bytes read behind the end of the input.
    missing: usize,
    range: u32,
    code: u32,
}

impl<'a> RangeDecoder<'a> {
    fn new(input: &'a [u8]) -> Option<Self> {
        let (code, input) = input.split_first_chunk()?;
        Some(Self {
            input: input.iter(),
            missing: 0,
            range: u32::MAX,
            code: u32::from_be_bytes(*code),
        })
    }

    #[inline(always)]
    fn is_cut(&self) -> bool {
        self.missing > 0
    }

    #[inline(always)]
    fn normalize(&mut self) {
        if self.range < 1 << 24 {
            let byte = self.input.next().copied().unwrap_or_else(|| {
                self.missing += 1;
                0
            });
            self.range <<= 8;
            self.code = self.code << 8 | u32::from(byte);
        }
    }

    /// A bit that is worth a branch, because it chooses what follows.
    #[inline(always)]
    fn bit(&mut self, probability: &mut u16) -> bool {
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

    /// One of `COUNT` values, a power of two, from its highest bit to its lowest, each with a
    /// probability by those before it.
    #[inline(always)]
    fn tree<const COUNT: usize, const SIZE: usize>(
        &mut self,
        probabilities: &mut [u16; SIZE],
    ) -> usize {
        let mut symbol = 1;
        let mut probability = u32::from(probabilities[1]);
        for _ in 0..COUNT.ilog2() {
            // Both are loaded before the bit is known, which would take longer otherwise.
            let zero = u32::from(probabilities[symbol * 2 % COUNT]);
            let one = u32::from(probabilities[(symbol * 2 + 1) % COUNT]);
            let (is_zero, after) = self.value(probability);
            probabilities[symbol % COUNT] = after;
            probability = select_unpredictable(is_zero, zero, one);
            symbol = symbol * 2 + 1 - usize::from(is_zero);
        }
        symbol - COUNT
    }

    /// `bits` bits from the lowest to the highest, with the tree that begins at `start`.
    #[inline(always)]
    fn reverse_tree<const COUNT: usize>(
        &mut self,
        probabilities: &mut [u16; COUNT],
        start: usize,
        bits: u32,
    ) -> u32 {
        let (mut symbol, mut value) = (1, 0);
        let mut probability = u32::from(probabilities[(start + symbol) % COUNT]);
        for index in 0..bits {
            let zero = u32::from(probabilities[(start + symbol * 2) % COUNT]);
            let one = u32::from(probabilities[(start + symbol * 2 + 1) % COUNT]);
            let (is_zero, after) = self.value(probability);
            probabilities[(start + symbol) % COUNT] = after;
            probability = select_unpredictable(is_zero, zero, one);
            symbol = symbol * 2 + 1 - usize::from(is_zero);
            value |= u32::from(!is_zero) << index;
        }
        value
    }

    /// Bits as likely 0 as 1, from the highest to the lowest.
    #[inline(always)]
    fn direct(&mut self, bits: u32) -> u32 {
        let mut value = 0;
        for _ in 0..bits {
            self.normalize();
            self.range >>= 1;
            let rest = self.code.wrapping_sub(self.range);
            let one = rest >> 31 == 0;
            self.code = select_unpredictable(one, rest, self.code);
            value = value << 1 | u32::from(one);
        }
        value
    }

    #[inline(always)]
    fn literal(&mut self, probabilities: &mut Literals) -> u8 {
        self.tree::<0x100, _>(probabilities) as u8
    }

    /// A literal that is not `unlike`, with which the match before it would go on.
    #[inline(always)]
    fn literal_after_match(&mut self, probabilities: &mut Literals, unlike: u8) -> u8 {
        const SIZE: usize = size_of::<Literals>() / size_of::<u16>();
        let mut unlike = usize::from(unlike) << 1;
        // 0x100 as long as the bits are those of `unlike`, then 0.
        let mut alike = 0x100;
        let mut symbol = 1;
        let mut index = (alike + (alike & unlike) + symbol) % SIZE;
        let mut probability = u32::from(probabilities[index]);
        for _ in 0..8 {
            let (alike_zero, alike_one) = (alike & !unlike, alike & unlike);
            unlike <<= 1;
            let index_zero = (alike_zero + (alike_zero & unlike) + symbol * 2) % SIZE;
            let index_one = (alike_one + (alike_one & unlike) + symbol * 2 + 1) % SIZE;
            let zero = u32::from(probabilities[index_zero]);
            let one = u32::from(probabilities[index_one]);
            let (is_zero, after) = self.value(probability);
            probabilities[index] = after;
            probability = select_unpredictable(is_zero, zero, one);
            index = select_unpredictable(is_zero, index_zero, index_one);
            alike = select_unpredictable(is_zero, alike_zero, alike_one);
            symbol = symbol * 2 + 1 - usize::from(is_zero);
        }
        symbol as u8
    }

    #[inline(always)]
    fn length(&mut self, lengths: &mut Lengths, low_position: usize) -> usize {
        let [first, second] = &mut lengths.choices;
        MIN_MATCH
            + if !self.bit(first) {
                self.tree::<8, _>(&mut lengths.low[low_position])
            } else if !self.bit(second) {
                8 + self.tree::<8, _>(&mut lengths.middle[low_position])
            } else {
                16 + self.tree::<256, _>(&mut lengths.high)
            }
    }

    /// Bytes between the match and what it repeats.
    #[inline(always)]
    fn distance(&mut self, model: &mut Model, length: usize) -> u32 {
        let slot = self.tree::<64, _>(&mut model.slots[(length - MIN_MATCH).min(3)]);
        if slot < FIRST_MODELLED_SLOT {
            return slot as u32;
        }
        let bits = slot as u32 / 2 - 1;
        let base = (2 | slot as u32 & 1) << bits;
        if slot < FIRST_DIRECT_SLOT {
            // The root of each tree is at index 1 of it.
            let start = base as usize - slot;
            base + self.reverse_tree(&mut model.distances, start, bits)
        } else {
            let high = self.direct(bits - ALIGN_BITS) << ALIGN_BITS;
            base.wrapping_add(high + self.reverse_tree(&mut model.align, 0, ALIGN_BITS))
        }
    }
}
