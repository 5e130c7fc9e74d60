//! What a block would cost about, without making its codes.
//!
//! In floating point, but of additions and multiplications only, which are exact to the bit on every machine.

use super::block::Histogram;
/// Bits of a block without symbols: type, sizes and the code for code lengths.
const HEADER_BITS: f32 = 70.0;
/// Bits that the length of one symbol's code takes, about.
const LENGTH_BITS: f32 = 3.6;

/// The bits of the cheapest block of these tokens, about.
pub(super) fn block_bits(histogram: &Histogram) -> usize {
    let (litlen, litlen_used) = information(&histogram.litlen);
    let (offset, offset_used) = information(&histogram.offset);
    let own = HEADER_BITS + LENGTH_BITS * (litlen_used + offset_used) + litlen + offset;
    (own as usize + histogram.extra_bits()).min(histogram.bytes * 8 + 40)
}

/// Bits of the information in these counts, and how many are not 0.
fn information<const N: usize>(counts: &[u32; N]) -> (f32, f32) {
    // The sum of n log2 n, of so many at a time that it is done with vectors.
    const LANES: usize = 8;
    let (mut weighted, mut used, mut total) = ([0f32; LANES], [0u32; LANES], [0u32; LANES]);
    let mut chunks = counts.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            let count = chunk[lane];
            weighted[lane] += count as i32 as f32 * log2(count);
            used[lane] += u32::from(count > 0);
            total[lane] += count;
        }
    }
    for (lane, &count) in chunks.remainder().iter().enumerate() {
        weighted[lane] += count as i32 as f32 * log2(count);
        used[lane] += u32::from(count > 0);
        total[lane] += count;
    }
    let total: u32 = total.iter().sum();
    let weighted: f32 = weighted.iter().sum();
    let used: u32 = used.iter().sum();
    (total as f32 * log2(total) - weighted, used as f32)
}

/// The unit of [`symbol_costs`] is a bit divided by this.
pub(super) const FRACTIONS: u32 = 32;

/// What each symbol costs that occurs as often as it is counted, in [`FRACTIONS`] of a bit. Those that do not occur cost a
/// bit more than those that occur once.
pub(super) fn symbol_costs<const N: usize>(counts: &[u32; N]) -> [u32; N] {
    let total = log2(counts.iter().sum::<u32>().max(1));
    counts.map(|count| {
        let bits = match count {
            0 => total + 1.0,
            _ => total - log2(count),
        };
        ((bits.clamp(0.0, 15.0) * FRACTIONS as f32) as u32).max(1)
    })
}

/// log2, to 0.0013; something finite for 0.
#[inline]
fn log2(n: u32) -> f32 {
    let bits = (n as i32 as f32).to_bits();
    let exponent = (bits >> 23) as i32 - 127;
    let x = f32::from_bits(bits & 0x7F_FFFF | 0x3F80_0000) - 1.0;
    exponent as f32 + x * (1.42 + x * (-0.57 + x * 0.15))
}
