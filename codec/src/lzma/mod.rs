//! MicroLZMA, one raw LZMA stream per pcluster.
//!
//! ```text
//! !properties │ range coder: 4 bytes of code, then the data
//! 1 B         │
//! ```
//! In raw LZMA the range coder begins with a zero byte; the complement of the
//! properties byte `(pb·5 + lp)·9 + lc` takes its place. There is no end marker
//! and no size: both are known from elsewhere (kernel
//! `lib/xz/xz_dec_lzma2.c`, `xz_dec_microlzma_run`).

//!
//! Streams are decoded by ours and encoded by lzma-rust2, which is told how
//! large the output is and stops where it is full: nothing is searched for.

mod decoder;
mod encoder;
mod model;
#[allow(unsafe_code, reason = "a measured exception, see docs/design.md")]
mod range;

use std::ops::RangeInclusive;

pub use decoder::LzmaDecoder;
pub use encoder::LzmaEncoder;
pub use model::Properties;

/// The codec's name in errors.
const NAME: &str = "lzma";

/// Levels accepted, of the effort that the presets of liblzma have.
pub const LEVELS: RangeInclusive<i32> = 0..=9;
/// Levels that try harder, as mkfs.erofs counts them: 100 more than those they
/// come from.
pub const EXTREME_LEVELS: RangeInclusive<i32> = 100..=109;
/// The level of mkfs.erofs when none is given.
pub const DEFAULT_LEVEL: i32 = 6;

/// Sizes in bytes of a dictionary (kernel `fs/erofs/decompressor_lzma.c`,
/// `z_erofs_load_lzma_config`).
pub const DICTIONARY_SIZES: RangeInclusive<u32> = 4096..=8 << 20;

/// The dictionary in bytes that mkfs.erofs chooses for pclusters of at most
/// `max_pcluster` bytes.
#[must_use]
pub fn default_dictionary_size(max_pcluster: usize) -> u32 {
    let size = u32::try_from(max_pcluster.saturating_mul(4)).unwrap_or(u32::MAX);
    size.clamp(32 << 10, *DICTIONARY_SIZES.end())
}
