//! DEFLATE (RFC 1951), one raw stream per pcluster.
//!
//! Streams are decoded by zlib-rs; the encoder is ours, since what it has to answer, how much data fits a given number of
//! bytes, costs a library that only knows how to encode all of its input many encodes.
mod bits;
mod block;
mod decoder;
mod encoder;
mod estimate;
mod huffman;
mod lazy;
mod matches;
mod optimal;
mod parse;
mod symbols;

pub use decoder::DeflateDecoder;
pub use encoder::DeflateEncoder;

/// The codec's name in errors.
const NAME: &str = "deflate";

/// Smallest window, log2 of bytes.
pub const MIN_WINDOW_BITS: u32 = 8;
/// Largest window, log2 of bytes (RFC 1951; kernel `fs/erofs/decompressor_deflate.c`).
pub const MAX_WINDOW_BITS: u32 = 15;
/// Levels accepted, each of about the effect that libdeflate's has: 1 to 4 take every match, 5 to 9 the better of two or
/// three, 10 to 12 look for the cheapest way through a block.
pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=12;
