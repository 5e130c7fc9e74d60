//! Prefix codes of limited length.

/// Longest code of literals, lengths and offsets.
pub(super) const MAX_LENGTH: usize = 15;

/// Gives each symbol that occurs the length of its code, at most `limit` (15 at most) bits, and the others 0. `counts`
/// are below 2^23 and there are at most 512 symbols.
///
/// At least two symbols get a code, as some decoders accept no less.
pub(super) fn lengths<const N: usize>(counts: &[u32; N], limit: usize) -> [u8; N] {
    let mut lengths = [0; N];
    // Symbols that occur by count: the key holds both, so that the order is one.
    let mut keys = [0u32; N];
    let mut used = 0;
    for (symbol, &count) in (0u32..).zip(counts) {
        keys[used] = count << 9 | symbol;
        used += usize::from(count > 0);
    }
    if used < 2 {
        let symbol = (keys[0] & 511) as usize * used;
        lengths[symbol] = 1;
        lengths[usize::from(symbol == 0)] = 1;
        return lengths;
    }
    let keys = &mut keys[..used];
    keys.sort_unstable();

    let mut numbers = count_lengths(keys);
    limit_lengths(&mut numbers, limit);
    // The rarest get the longest.
    let mut keys = keys.iter();
    for (length, &number) in numbers.iter().enumerate().rev() {
        for key in keys.by_ref().take(number as usize) {
            lengths[(key & 511) as usize] = length as u8;
        }
    }
    lengths
}

/// Depths that are told apart; what is deeper counts as this deep.
const DEPTHS: usize = 32;

/// How many symbols Huffman's algorithm gives which length, from keys in ascending order of count.
///
/// Moffat and Katajainen 1995: the tree is kept in the array of counts itself, each inner node replaced by the index of
/// its parent once it has one.
fn count_lengths(keys: &[u32]) -> [u32; DEPTHS] {
    let leaves = keys.len();
    let mut tree = [0u32; 512];
    let tree = &mut tree[..leaves];
    for (count, key) in tree.iter_mut().zip(keys) {
        *count = key >> 9;
    }
    let (mut leaf, mut root) = (0, 0);
    for node in 0..leaves - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            if leaf >= leaves || root < node && tree[root] < tree[leaf] {
                weight += tree[root];
                tree[root] = node as u32;
                root += 1;
            } else {
                weight += tree[leaf];
                leaf += 1;
            }
        }
        tree[node] = weight;
    }
    // From the root down: the depth of each inner node, and so the number of leaves between them.
    let mut numbers = [0; DEPTHS];
    let root = leaves - 2;
    tree[root] = 0;
    let (mut depth, mut slots, mut next) = (0usize, 1u32, root as isize);
    for node in (0..root).rev() {
        tree[node] = tree[tree[node] as usize] + 1;
    }
    while slots > 0 {
        let mut inner = 0;
        while next >= 0 && tree[next as usize] as usize == depth {
            inner += 1;
            next -= 1;
        }
        numbers[depth.min(DEPTHS - 1)] += slots - inner;
        slots = 2 * inner;
        depth += 1;
    }
    numbers
}

/// Moves symbols up to `limit` and makes room for them by moving others down, so that the code stays complete.
fn limit_lengths(numbers: &mut [u32; DEPTHS], limit: usize) {
    let too_deep: u32 = numbers[limit + 1..].iter().sum();
    if too_deep == 0 {
        return;
    }
    numbers[limit + 1..].fill(0);
    numbers[limit] += too_deep;
    // Code space in units of the longest code.
    let mut space: u32 = numbers
        .iter()
        .enumerate()
        .map(|(length, &number)| number << (MAX_LENGTH - length.min(MAX_LENGTH)))
        .sum();
    let unit = 1 << (MAX_LENGTH - limit);
    while space > 1 << MAX_LENGTH {
        // Make the deepest code above the limit one longer; its new sibling takes one from the limit.
        let mut length = limit - 1;
        while numbers[length] == 0 {
            length -= 1;
        }
        numbers[length] -= 1;
        numbers[length + 1] += 2;
        numbers[limit] -= 1;
        space -= unit;
    }
}

/// The codes that go with the lengths (RFC 1951 §3.2.2), their bits in the order of writing.
pub(super) fn codes<const N: usize>(lengths: &[u8; N]) -> [u16; N] {
    let mut numbers = [0u16; MAX_LENGTH + 1];
    for &length in lengths {
        numbers[usize::from(length)] += 1;
    }
    numbers[0] = 0;
    let mut next = [0u16; MAX_LENGTH + 1];
    for length in 1..=MAX_LENGTH {
        next[length] = (next[length - 1] + numbers[length - 1]) << 1;
    }
    let mut codes = [0; N];
    for (code, &length) in codes.iter_mut().zip(lengths) {
        if length > 0 {
            let next = &mut next[usize::from(length)];
            *code = next.reverse_bits() >> (16 - length);
            *next = next.wrapping_add(1);
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code space used, of 2^15.
    fn space(lengths: &[u8]) -> u32 {
        lengths
            .iter()
            .filter(|&&length| length > 0)
            .map(|&length| 1 << (15 - length))
            .sum()
    }

    #[test]
    fn codes_are_complete_and_within_the_limit() {
        // Fibonacci numbers make the deepest trees.
        let mut fibonacci = [0u32; 30];
        fibonacci[0] = 1;
        fibonacci[1] = 1;
        for i in 2..30 {
            fibonacci[i] = fibonacci[i - 1] + fibonacci[i - 2];
        }
        for limit in [5, 7, 15] {
            for used in 2..=30 {
                let mut counts = [0; 30];
                counts[..used].copy_from_slice(&fibonacci[..used]);
                let lengths = lengths(&counts, limit);
                assert!(lengths.iter().all(|&length| usize::from(length) <= limit));
                assert_eq!(space(&lengths), 1 << 15, "{used} symbols, limit {limit}");
                assert!(lengths[..used].is_sorted_by(|a, b| a >= b));
                assert!(lengths[used..].iter().all(|&length| length == 0));
            }
        }
    }

    #[test]
    fn lengths_are_optimal() {
        // Huffman's own example: weights and the sum of weight times length.
        assert_eq!(lengths(&[5, 9, 12, 13, 16, 45], 15), [4, 4, 3, 3, 3, 1]);
        assert_eq!(
            lengths(&[1; 286], 15).iter().filter(|&&l| l == 8).count(),
            226
        );
    }

    #[test]
    fn no_fewer_than_two_codes() {
        assert_eq!(lengths(&[0; 4], 7), [1, 1, 0, 0]);
        assert_eq!(lengths(&[3, 0, 0, 0], 7), [1, 1, 0, 0]);
        assert_eq!(lengths(&[0, 0, 3, 0], 7), [1, 0, 1, 0]);
    }

    #[test]
    fn codes_of_the_specification() {
        // RFC 1951 §3.2.2: ABCDEFGH; codes are written from their highest bit.
        let codes = codes(&[3, 3, 3, 3, 3, 2, 4, 4]);
        let reversed = [0b010, 0b110, 0b001, 0b101, 0b011, 0b00, 0b0111, 0b1111];
        assert_eq!(codes, reversed);
    }
}
