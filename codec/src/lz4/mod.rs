//! LZ4, one raw block per pcluster.
//!
//! ```text
//! sequence: token │ more literal length │ literals │ offset │ more match length
//!           1 B   │ 0.. B of 255, then < 255       │ 2 B    │ as for literals
//! ```
//! The token's high half is the number of literals, the low half the length of
//! the match less 4; 15 means that more follows. A block ends after literals,
//! without a mark.

mod decoder;

pub use decoder::Lz4Decoder;

/// The codec's name in errors.
const NAME: &str = "lz4";
/// The shortest match: the low half of a token is a match's length less this.
const MIN_MATCH: usize = 4;
/// A length of this value in a token goes on behind it.
const LONG: usize = 15;
