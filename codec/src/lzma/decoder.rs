//! Decoding straight into the output, which is the dictionary too.

use super::NAME;
use super::model::{
    ALIGN_BITS, FIRST_DIRECT_SLOT, FIRST_MODELLED_SLOT, LITERAL_SETS, Lengths, MIN_MATCH, Model,
    POSITIONS, Properties, State,
};
use super::range::{RangeDecoder, direct, literal_after_match, reverse_tree, tree};
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
        Ok(match coder.finish() {
            Some(0) if whole => Ending::Exact,
            Some(bytes) if whole => Ending::Trailing { bytes },
            _ => Ending::Open,
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
                tree(&mut coder, &mut literals.any) as u8
            } else {
                // Far behind the end where there is no byte so far before.
                let before = position.wrapping_sub(distances[0] as usize + 1);
                let unlike = output.get(before);
                literal_after_match(&mut coder, literals, unlike.copied().unwrap_or(0))
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
                let length = length(&mut coder, &mut model.match_lengths, low_position);
                distances = [
                    distance(&mut coder, &mut model, length),
                    first,
                    second,
                    third,
                ];
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
            length(&mut coder, &mut model.repeat_lengths, low_position)
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
    } else {
        repeat_bytes(output, position, distance, end);
    }
}

/// The same for what overlaps or ends close to the end of `output`, up to `end`.
///
/// Not inlined: what the compiler makes of its loop takes registers from everything else.
#[inline(never)]
fn repeat_bytes(output: &mut [u8], position: usize, distance: usize, end: usize) {
    if distance == 1 {
        let byte = output[position - 1];
        output[position..end].fill(byte);
    } else {
        for to in position..end {
            output[to] = output[to - distance];
        }
    }
}

#[inline(always)]
fn length(coder: &mut RangeDecoder<'_>, lengths: &mut Lengths, low_position: usize) -> usize {
    let [first, second] = &mut lengths.choices;
    MIN_MATCH
        + if !coder.bit(first) {
            tree(coder, &mut lengths.low[low_position])
        } else if !coder.bit(second) {
            8 + tree(coder, &mut lengths.middle[low_position])
        } else {
            16 + tree(coder, &mut lengths.high)
        }
}

/// Bytes between the match and what it repeats.
#[inline(always)]
fn distance(coder: &mut RangeDecoder<'_>, model: &mut Model, length: usize) -> u32 {
    let slot = tree(coder, &mut model.slots[(length - MIN_MATCH).min(3)]);
    if slot < FIRST_MODELLED_SLOT {
        return slot as u32;
    }
    let bits = slot as u32 / 2 - 1;
    let base = (2 | slot as u32 & 1) << bits;
    if slot < FIRST_DIRECT_SLOT {
        // The root of each tree is at index 1 of it.
        let start = base as usize - slot;
        base + reverse_tree(coder, &mut model.distances[start..], bits)
    } else {
        let high = direct(coder, bits - ALIGN_BITS) << ALIGN_BITS;
        base.wrapping_add(high + reverse_tree(coder, &mut model.align, ALIGN_BITS))
    }
}
