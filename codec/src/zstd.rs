//! Zstandard, one frame per pcluster.
//!
//! ```text
//! magic  descriptor  [window]  content size │ block │ block │ … │ block (last)
//! 4 B    1 B         0 or 1 B  2 or 4 B     │ 3-byte header + body each
//! ```
//!
//! The frames written have no dictionary and no checksum. They carry the
//! content size: the kernel does not need it, but fsck.erofs up to 1.9.3
//! refuses frames without (erofs-utils `lib/decompress.c`,
//! `z_erofs_decompress_zstd`). It costs one byte at most, since a frame that is
//! no longer than the window then needs no window descriptor.
mod decoder;
mod encoder;
mod frame;
mod stream;

pub use decoder::ZstdDecoder;
pub use encoder::ZstdEncoder;
pub use stream::StreamEncoder;

/// The codec's name in errors.
const NAME: &str = "zstd";

/// Smallest window, log2 of bytes (RFC 8878 §3.1.1.1.2).
pub const MIN_WINDOW_LOG: u32 = 10;
/// Largest window that EROFS allows, log2 of bytes (kernel
/// `fs/erofs/decompressor_zstd.c`, `z_erofs_load_zstd_config`).
pub const MAX_WINDOW_LOG: u32 = 20;
/// Levels accepted.
pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=22;
