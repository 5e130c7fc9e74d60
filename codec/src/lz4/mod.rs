//! LZ4, one raw block per pcluster.
//!
//! ```text
//! sequence: token │ more literal length │ literals │ offset │ more match length
//!           1 B   │ 0.. B of 255, then < 255       │ 2 B    │ as for literals
//! ```
//! The token's high half is the number of literals, the low half the length of
//! the match less 4; 15 means that more follows. A block ends after literals,
//! without a mark.

mod chain;
mod decoder;
mod fast;
mod hc;
mod lazy;
mod optimal;
mod pair;
mod sequence;
mod verifier;
mod wild;

pub use decoder::Lz4Decoder;
pub use fast::Lz4Encoder;
pub use hc::Lz4HcEncoder;

use crate::EncodeError;

/// The codec's name in errors.
const NAME: &str = "lz4";
/// The shortest match: the low half of a token is a match's length less this.
const MIN_MATCH: usize = 4;
/// A length of this value in a token goes on behind it.
const LONG: usize = 15;
/// The upper bits of a product with this are a hash of the other factor (the first prime of XXH64).
const HASH_FACTOR: u64 = 0x9E37_79B1_85EB_CA87;

/// How far back a match may look in the format, in bytes.
pub const MAX_DISTANCE: u16 = u16::MAX;

fn check_distance(max_distance: u16) -> Result<(), EncodeError> {
    if max_distance == 0 {
        return Err(EncodeError::Parameter {
            name: "LZ4 distance",
            value: 0,
            min: 1,
            max: MAX_DISTANCE.into(),
        });
    }
    Ok(())
}

/// A length that goes on at `at`, and where it ends.
#[inline(always)]
fn long(encoded: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let mut length = LONG;
    loop {
        let more = *encoded.get(at)?;
        at += 1;
        length = length.checked_add(more.into())?;
        if more != u8::MAX {
            return Some((length, at));
        }
    }
}
