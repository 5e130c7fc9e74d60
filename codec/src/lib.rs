//! Compression codecs that fill a fixed output.
#![forbid(unsafe_code)]
