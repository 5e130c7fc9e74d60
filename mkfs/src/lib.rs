//! Builds EROFS images from directories, tars and raw files.
#![forbid(unsafe_code)]

pub mod source;
pub mod tree;
