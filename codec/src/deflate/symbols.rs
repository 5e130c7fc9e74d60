//! The alphabets of DEFLATE (RFC 1951 §3.2.5): tokens and the symbols they are coded with.

/// Symbols for literals, the end of a block and lengths. The last two have no meaning, only a place in the fixed code.
pub(super) const LITLEN_SYMBOLS: usize = 288;
/// Symbols for offsets.
pub(super) const OFFSET_SYMBOLS: usize = 30;
/// The symbol that ends a block.
pub(super) const END_OF_BLOCK: usize = 256;
/// Symbol of the shortest match.
pub(super) const FIRST_LENGTH: usize = 257;
/// Bytes of the shortest match.
pub(super) const MIN_MATCH: usize = 3;
/// Bytes of the longest match.
pub(super) const MAX_MATCH: usize = 258;

/// Bits behind each length symbol, counted from [`FIRST_LENGTH`].
pub(super) const LENGTH_EXTRA: [u8; 29] = [
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
];

/// Bits behind each offset symbol.
pub(super) const OFFSET_EXTRA: [u8; OFFSET_SYMBOLS] = [
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13,
    13,
];

/// First length of each length symbol.
pub(super) const LENGTH_BASE: [u16; 29] = {
    let mut base = [0; 29];
    let (mut length, mut symbol) = (MIN_MATCH as u16, 0);
    while symbol < 28 {
        base[symbol] = length;
        length += 1 << LENGTH_EXTRA[symbol];
        symbol += 1;
    }
    // The longest length has a symbol of its own, and 284 one value less.
    base[28] = MAX_MATCH as u16;
    base
};

/// First offset of each offset symbol, less one.
pub(super) const OFFSET_BASE: [u16; OFFSET_SYMBOLS] = {
    let mut base = [0; OFFSET_SYMBOLS];
    let (mut offset, mut symbol) = (0, 0);
    while symbol < OFFSET_SYMBOLS {
        base[symbol] = offset;
        offset += 1 << OFFSET_EXTRA[symbol];
        symbol += 1;
    }
    base
};

/// Length symbol of each length, counted from [`FIRST_LENGTH`].
const LENGTH_SYMBOL: [u8; MAX_MATCH + 1] = {
    let mut table = [0; MAX_MATCH + 1];
    let (mut length, mut symbol) = (MIN_MATCH, 0);
    while length <= MAX_MATCH {
        while symbol < 28 && LENGTH_BASE[symbol + 1] as usize <= length {
            symbol += 1;
        }
        table[length] = symbol as u8;
        length += 1;
    }
    table
};

/// Offset symbols of offsets less one: below 256 by the value, from there on by its upper bits.
const OFFSET_SYMBOL: [u8; 512] = {
    let mut table = [0; 512];
    let mut i = 0;
    while i < 512 {
        let offset = if i < 256 { i } else { (i - 256) << 7 };
        let mut symbol = 0;
        while symbol + 1 < OFFSET_SYMBOLS && OFFSET_BASE[symbol + 1] as usize <= offset {
            symbol += 1;
        }
        table[i] = symbol as u8;
        i += 1;
    }
    table
};

/// A length of 3 to 258 as a symbol, counted from [`FIRST_LENGTH`].
#[inline]
pub(super) fn length_symbol(length: usize) -> usize {
    usize::from(LENGTH_SYMBOL[length])
}

/// The symbol of an offset, given less one.
#[inline]
pub(super) fn offset_symbol(less_one: usize) -> usize {
    let index = if less_one < 256 {
        less_one
    } else {
        256 + (less_one >> 7 & 0xFF)
    };
    usize::from(OFFSET_SYMBOL[index])
}

/// A literal byte or a match, in one word: a byte, or the length of the match above the 16 bits of its offset less one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(u32);

impl Token {
    #[inline]
    pub(super) fn literal(byte: u8) -> Self {
        Self(byte.into())
    }

    /// A match of 3 to 258 bytes at an offset of 1 to 32768.
    #[inline]
    pub(super) fn matching(length: usize, offset: usize) -> Self {
        Self((length as u32) << 16 | (offset as u32 - 1) & 0xFFFF)
    }

    /// Length of the match, 0 for a literal.
    #[inline]
    pub(super) fn length(self) -> usize {
        (self.0 >> 16) as usize
    }

    /// Offset of the match, less one; the byte of a literal.
    #[inline]
    pub(super) fn low(self) -> usize {
        (self.0 & 0xFFFF) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_of_the_edges() {
        // RFC 1951 §3.2.5.
        for (length, symbol) in [
            (3, 257),
            (10, 264),
            (11, 265),
            (12, 265),
            (257, 284),
            (258, 285),
        ] {
            assert_eq!(FIRST_LENGTH + length_symbol(length), symbol, "{length}");
        }
        for (offset, symbol) in [
            (1, 0),
            (4, 3),
            (5, 4),
            (256, 15),
            (257, 16),
            (24_576, 28),
            (24_577, 29),
            (32_768, 29),
        ] {
            assert_eq!(offset_symbol(offset - 1), symbol, "{offset}");
        }
    }

    #[test]
    fn extra_bits_reach_every_value() {
        for length in MIN_MATCH..=MAX_MATCH {
            let symbol = length_symbol(length);
            let extra = length - usize::from(LENGTH_BASE[symbol]);
            assert!(extra < 1 << LENGTH_EXTRA[symbol], "{length}");
        }
        for less_one in 0..32_768 {
            let symbol = offset_symbol(less_one);
            let extra = less_one - usize::from(OFFSET_BASE[symbol]);
            assert!(extra < 1 << OFFSET_EXTRA[symbol], "{less_one}");
        }
    }
}
