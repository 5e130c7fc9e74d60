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

mod decoder;
mod model;

pub use decoder::LzmaDecoder;

/// The codec's name in errors.
const NAME: &str = "lzma";
