//! What LZMA knows about the data: the probabilities of each kind of bit, and
//! the state that says what the last few symbols were.

use crate::EncodeError;

/// A probability of one half, in units of 2^-11.
const HALF: u16 = 1 << 10;

/// The largest sum of literal context and literal position bits that the kernel
/// decodes (`lib/xz/xz_dec_lzma2.c`, `lzma_props`).
const MAX_LITERAL_BITS: u32 = 4;
/// The most position bits.
const MAX_POSITION_BITS: u32 = 4;

/// Shortest match.
pub(super) const MIN_MATCH: usize = 2;

/// How much of what is around a symbol chooses its probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties {
    pub(super) literal_context: u32,
    pub(super) literal_position: u32,
    pub(super) position: u32,
}

impl Default for Properties {
    /// 3, 0 and 2, as mkfs.erofs has them.
    fn default() -> Self {
        Self {
            literal_context: 3,
            literal_position: 0,
            position: 2,
        }
    }
}

impl Properties {
    /// Numbers of high bits of the byte before a literal (`lc`, 0 to 4), of low
    /// bits of a literal's position (`lp`, 0 to 4), both together at most 4, and
    /// of low bits of the position of any symbol (`pb`, 0 to 4).
    ///
    /// # Errors
    /// [`EncodeError::Parameter`] outside these ranges.
    pub fn new(
        literal_context: u32,
        literal_position: u32,
        position: u32,
    ) -> Result<Self, EncodeError> {
        let largest = i64::from(MAX_LITERAL_BITS);
        let context = literal_context.into();
        EncodeError::check("lzma literal context bits", context, 0..=largest)?;
        let left = largest - context;
        let name = "lzma literal position bits";
        EncodeError::check(name, literal_position.into(), 0..=left)?;
        let most = MAX_POSITION_BITS.into();
        EncodeError::check("lzma position bits", position.into(), 0..=most)?;
        Ok(Self {
            literal_context,
            literal_position,
            position,
        })
    }

    /// From a byte `(pb·5 + lp)·9 + lc`, if the kernel takes it.
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        let (position, rest) = (byte / 45, byte % 45);
        let (literal_position, literal_context) = (rest / 9, rest % 9);
        Self::new(
            literal_context.into(),
            literal_position.into(),
            position.into(),
        )
        .ok()
    }

    /// The low bits of a position that choose probabilities of symbols.
    pub(super) fn position_mask(self) -> usize {
        (1 << self.position) - 1
    }

    /// The set of probabilities for a literal at `position` behind `previous`,
    /// below [`LITERAL_SETS`].
    #[inline(always)]
    pub(super) fn literal_set(self, position: usize, previous: u8) -> usize {
        let kept = (0x100 << self.literal_position) - 1;
        ((position << 8 | usize::from(previous)) & kept) >> (8 - self.literal_context)
    }
}

/// What the last few symbols were, 0 to 11; 0 to 6 after a literal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State(u8);

impl State {
    /// States to index by, rounded up to a power of two.
    pub(super) const COUNT: usize = 16;

    #[inline(always)]
    pub(super) fn index(self) -> usize {
        usize::from(self.0) % Self::COUNT
    }

    #[inline(always)]
    pub(super) fn is_after_literal(self) -> bool {
        self.0 < 7
    }

    #[inline(always)]
    pub(super) fn after_literal(self) -> Self {
        const NEXT: [u8; State::COUNT] = [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 4, 5, 0, 0, 0, 0];
        Self(NEXT[self.index()])
    }

    #[inline(always)]
    pub(super) fn after_match(self) -> Self {
        Self(if self.is_after_literal() { 7 } else { 10 })
    }

    #[inline(always)]
    pub(super) fn after_repeat(self) -> Self {
        Self(if self.is_after_literal() { 8 } else { 11 })
    }

    #[inline(always)]
    pub(super) fn after_short_repeat(self) -> Self {
        Self(if self.is_after_literal() { 9 } else { 11 })
    }
}

/// Probabilities that choose by the low bits of the position.
pub(super) const POSITIONS: usize = 1 << MAX_POSITION_BITS;

/// Distance slots from which on the low bits of a distance have a tree of their own …
pub(super) const FIRST_MODELLED_SLOT: usize = 4;
/// … and from which on only its lowest [`ALIGN_BITS`] bits are modelled.
pub(super) const FIRST_DIRECT_SLOT: usize = 14;
pub(super) const ALIGN_BITS: u32 = 4;
/// Where the last tree of low bits begins, that of slot 13 with base 96, and room for it and what may be behind it.
const DISTANCES: usize = (96 - 13) + (2 << 5);

/// Probabilities of the length of a match.
pub(super) struct Lengths {
    pub(super) choices: [u16; 2],
    pub(super) low: [[u16; 8]; POSITIONS],
    pub(super) middle: [[u16; 8]; POSITIONS],
    pub(super) high: [u16; 256],
}

impl Lengths {
    const NEW: Self = Self {
        choices: [HALF; 2],
        low: [[HALF; 8]; POSITIONS],
        middle: [[HALF; 8]; POSITIONS],
        high: [HALF; 256],
    };
}

/// Most sets of probabilities for literals.
pub(super) const LITERAL_SETS: usize = 1 << MAX_LITERAL_BITS;

/// Probabilities of a literal.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Literals {
    /// A tree for those after a literal, and for those after a match as soon as they are not like
    /// the byte that would continue the match.
    pub(super) any: [u16; 0x100],
    /// For those after a match as long as they are: that byte from its highest bit to the one at
    /// hand, with a 1 in front. The first two are not used.
    pub(super) alike: [u16; 0x200],
}

/// All probabilities, each that of a 0.
pub(super) struct Model {
    pub(super) is_match: [[u16; POSITIONS]; State::COUNT],
    pub(super) is_repeat: [u16; State::COUNT],
    pub(super) is_not_first: [u16; State::COUNT],
    pub(super) is_not_second: [u16; State::COUNT],
    pub(super) is_fourth: [u16; State::COUNT],
    pub(super) is_long: [[u16; POSITIONS]; State::COUNT],
    pub(super) match_lengths: Lengths,
    pub(super) repeat_lengths: Lengths,
    pub(super) slots: [[u16; 64]; 4],
    /// Trees of the slots from 4 to 13; that of slot `s` with base `b` begins at `b - s`. Behind
    /// each may be as many that are not used.
    pub(super) distances: [u16; DISTANCES],
    /// The upper half is not used.
    pub(super) align: [u16; 2 << ALIGN_BITS],
    pub(super) literals: [Literals; LITERAL_SETS],
}

impl Model {
    /// Every bit as likely as not.
    pub(super) const NEW: Self = Self {
        is_match: [[HALF; POSITIONS]; State::COUNT],
        is_repeat: [HALF; State::COUNT],
        is_not_first: [HALF; State::COUNT],
        is_not_second: [HALF; State::COUNT],
        is_fourth: [HALF; State::COUNT],
        is_long: [[HALF; POSITIONS]; State::COUNT],
        match_lengths: Lengths::NEW,
        repeat_lengths: Lengths::NEW,
        slots: [[HALF; 64]; 4],
        distances: [HALF; DISTANCES],
        align: [HALF; 2 << ALIGN_BITS],
        literals: [Literals {
            any: [HALF; 0x100],
            alike: [HALF; 0x200],
        }; LITERAL_SETS],
    };
}
