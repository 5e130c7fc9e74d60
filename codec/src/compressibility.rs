//! A cheap guess whether data is worth encoding.
//!
//! Two things make data shrink: byte values that are not equally frequent, and
//! repeats. The first is measured as order-0 entropy of a few slices; the second
//! is looked for only when the first finds nothing, so that ordinary data costs
//! one histogram over at most 32 KiB. All arithmetic is in integers: the answer
//! is part of what makes an image reproducible.

/// Bytes of one slice whose entropy is taken.
const SLICE: usize = 4096;
/// Most slices taken, evenly spread.
const SLICES: usize = 8;
/// Savings below this many percent do not count.
const WORTHWHILE: usize = 3;
/// One in this many positions, chosen by content, is looked up for repeats.
const ANCHOR_SPACING: u32 = 32;
/// log2 of the number of anchors remembered.
const ANCHOR_LOG: u32 = 13;

/// Level from which [`looks_incompressible`] is faster than to have Zstd find out.
pub const ZSTD_SAMPLED_LEVEL: i32 = 6;
/// The same of DEFLATE, which needs as long for what does not compress as for what does.
pub const DEFLATE_SAMPLED_LEVEL: i32 = 1;
/// The same of LZ4HC. LZ4 itself is always faster.
pub const LZ4HC_SAMPLED_LEVEL: i32 = 1;

/// Whether a general-purpose encoder with an entropy stage (Zstd, DEFLATE, LZMA)
/// would save less than about 3 % of `sample`, judged from its byte frequencies
/// and repeats; encodes nothing.
///
/// Give it the data at stake, from one pcluster to some MiB. Samples shorter than
/// 4 KiB are never called incompressible: trying costs less than guessing well.
///
/// For ordinary data this costs a histogram of at most 32 KiB. Incompressible
/// data is scanned whole at several hundred MB/s: slower than Zstd up to level 3
/// gives up on it, many times faster than the high levels do.
///
/// Weights in bf16 are *compressible* by this measure: their exponents alone let
/// Zstd save over 20 %, while a codec without an entropy stage saves nothing.
#[must_use]
pub fn looks_incompressible(sample: &[u8]) -> bool {
    sample.len() >= SLICE && entropy_saving(sample) < WORTHWHILE && !has_repeats(sample)
}

/// Percent that order-0 coding of each slice would save on average.
fn entropy_saving(sample: &[u8]) -> usize {
    let slices = (sample.len() / SLICE).min(SLICES);
    // Slice i of n begins at i/(n-1) of the way to the last possible start.
    let stride = (sample.len() - SLICE) / (slices - 1).max(1);
    let bits: u64 = (0..slices)
        .map(|i| slice_bits(&sample[i * stride..][..SLICE]))
        .sum();
    let full = (slices * SLICE * 8) as u64 * ONE;
    (full.saturating_sub(bits) * 100 / full) as usize
}

/// Order-0 information of a slice in bits, times [`ONE`].
fn slice_bits(slice: &[u8]) -> u64 {
    let mut counts = [0u16; 256];
    for &byte in slice {
        counts[usize::from(byte)] += 1;
    }
    let weighted: u64 = counts
        .iter()
        .map(|&n| u64::from(n) * LOG2[usize::from(n)])
        .sum();
    let distinct = counts.iter().filter(|&&n| n > 0).count() as u64;
    // A histogram of few values looks more uneven than its source: add what the
    // estimate lacks on average, (distinct - 1) / (2 ln 2) bits (Miller and Madow 1955).
    let bias = distinct.saturating_sub(1) * ONE * 10_000 / 13_863;
    slice.len() as u64 * LOG2[slice.len()] - weighted + bias
}

/// Fixed point: the unit of [`LOG2`].
const ONE: u64 = 1 << 16;

/// log2 of 0 to [`SLICE`] times [`ONE`], with log2(0) taken as 0.
static LOG2: [u64; SLICE + 1] = {
    let mut table = [0; SLICE + 1];
    let mut n = 1;
    while n <= SLICE {
        table[n] = log2(n as u64);
        n += 1;
    }
    table
};

/// Digit by digit: squaring doubles the logarithm.
const fn log2(n: u64) -> u64 {
    let whole = n.ilog2();
    let mut result = whole as u64 * ONE;
    let mut mantissa = (n << 31) >> whole; // in [1, 2), 31 fraction bits
    let mut bit = ONE / 2;
    while bit > 0 {
        mantissa = (mantissa * mantissa) >> 31;
        if mantissa >= 1 << 32 {
            mantissa >>= 1;
            result += bit;
        }
        bit /= 2;
    }
    result
}

/// Whether enough 8-byte strings occur a second time, at any distance. Content
/// decides which positions are looked at, so both copies of a repeat are.
fn has_repeats(sample: &[u8]) -> bool {
    let mut seen = [0u64; 1 << ANCHOR_LOG];
    let (mut anchors, mut repeats) = (0usize, 0usize);
    for window in sample.windows(8) {
        let word = u64::from_le_bytes(window.try_into().expect("windows are 8 bytes long"));
        let hash = word.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        if !((hash >> 32) as u32).is_multiple_of(ANCHOR_SPACING) {
            continue;
        }
        anchors += 1;
        let slot = &mut seen[(hash >> (64 - ANCHOR_LOG)) as usize];
        repeats += usize::from(*slot == word);
        *slot = word;
    }
    repeats > 1 && repeats * 100 >= anchors * WORTHWHILE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn logarithms() {
        for (n, &fixed) in LOG2.iter().enumerate().skip(1) {
            let exact = (n as f64).log2() * ONE as f64;
            assert!(
                (fixed as f64 - exact).abs() <= 2.0,
                "{n}: {fixed} for {exact}"
            );
        }
    }

    #[test]
    fn noise_of_any_length_is_incompressible() {
        for length in [4096, 4097, 8191, 12_000, 65_536, 1 << 20] {
            assert!(looks_incompressible(&noise(length)), "{length}");
        }
    }

    #[test]
    fn short_samples_are_tried() {
        for length in [0, 1, 4095] {
            assert!(!looks_incompressible(&noise(length)), "{length}");
        }
    }

    #[test]
    fn skewed_bytes_shrink() {
        // 6 bits per byte, then noise with one byte in ten a zero.
        let six: Vec<u8> = noise(65_536).iter().map(|b| b & 0x3F).collect();
        assert!(!looks_incompressible(&six));
        let mut zeros = noise(65_536);
        zeros.iter_mut().step_by(10).for_each(|b| *b = 0);
        assert!(!looks_incompressible(&zeros));
    }

    #[test]
    fn some_text_among_noise_shrinks() {
        let mut data = noise(1 << 17);
        data[65_536..81_920].fill(b' ');
        assert!(!looks_incompressible(&data));
    }

    #[test]
    fn distant_repeats_shrink() {
        let once = noise(100_000);
        let twice = [&once[..], &once[..]].concat();
        assert!(!looks_incompressible(&twice));
    }

    /// Signs and exponents of bf16 weights cluster; their mantissas are noise.
    #[test]
    fn bf16_weights_shrink() {
        let weights: Vec<u8> = noise(1 << 17)
            .chunks_exact(2)
            .flat_map(|pair| {
                let exponent = 120 - (pair[1].leading_zeros() as u16).min(7);
                let bits = u16::from(pair[1] & 1) << 15 | exponent << 7 | u16::from(pair[0] & 0x7F);
                bits.to_le_bytes()
            })
            .collect();
        assert!(!looks_incompressible(&weights));
    }
}
