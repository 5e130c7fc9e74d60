//! A rolling hash over the last 64 bytes (gear hash), with which places are found that depend on content alone.

/// One random number for each value of a byte: the outputs of SplitMix64.
const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut state = 0u64;
    let mut index = 0;
    while index < table.len() {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        table[index] = mixed ^ (mixed >> 31);
        index += 1;
    }
    table
};

/// The hash behind one more byte.
#[inline]
pub(super) const fn roll(hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(TABLE[byte as usize])
}

/// Length of the first chunk of `bytes`: up to the first place behind 1 KiB where the hash of the last 64 bytes says so, which
/// is one place of 4096; at most 64 KiB.
pub(super) fn cut(bytes: &[u8]) -> usize {
    const LEAST: usize = 1 << 10;
    const MOST: usize = 64 << 10;
    const CUT: u64 = 0xFFF << 52;
    let window = bytes.get(..MOST).unwrap_or(bytes);
    let mut hash = 0;
    for (index, byte) in window.iter().enumerate().skip(LEAST - 64) {
        hash = roll(hash, *byte);
        if hash & CUT == 0 && index + 1 >= LEAST {
            return index + 1;
        }
    }
    window.len()
}

/// A number that similar contents probably share: of all their windows the smallest hash. `None` for what is too short to
/// tell.
pub(super) fn sketch(bytes: &[u8]) -> Option<u64> {
    /// One window of 64 is looked at: those whose hash has these bits clear.
    const SAMPLED: u64 = 0x3F << 58;
    /// What comes behind does not matter.
    const LIMIT: usize = 256 << 10;
    let mut hash = 0;
    let mut least = None;
    for byte in bytes.get(..LIMIT).unwrap_or(bytes) {
        hash = roll(hash, *byte);
        if hash & SAMPLED == 0 {
            // The bits that were sampled say nothing, and the low ones depend on few bytes only.
            let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            least = Some(least.map_or(mixed, |least: u64| least.min(mixed)));
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as u8
            })
            .collect()
    }

    #[test]
    fn cuts_follow_the_content() {
        let lengths = |mut bytes: &[u8]| {
            let mut lengths = Vec::new();
            while !bytes.is_empty() {
                let length = cut(bytes);
                lengths.push(length);
                bytes = &bytes[length..];
            }
            lengths
        };
        let data = text(3, 1 << 20);
        let before = lengths(&data);
        let mean = data.len() / before.len();
        assert!((3 << 10..10 << 10).contains(&mean), "{mean}");
        let moved = lengths(&[text(4, 5000), data].concat());
        let same = before
            .iter()
            .rev()
            .zip(moved.iter().rev())
            .take_while(|(a, b)| a == b);
        assert!(same.count() + 4 > before.len());
        assert_eq!(lengths(&[7; 200_000]).iter().sum::<usize>(), 200_000);
    }

    #[test]
    fn similar_contents_share_a_sketch_and_others_do_not() {
        let original = text(1, 20_000);
        let shared = (0..100)
            .filter(|edit| {
                let mut edited = original.clone();
                edited[edit * 200] ^= 0x55;
                sketch(&edited) == sketch(&original)
            })
            .count();
        assert!(shared > 90, "{shared} of 100");
        assert_ne!(sketch(&original), sketch(&text(2, 20_000)));
        assert_eq!(sketch(b""), None);
    }
}
