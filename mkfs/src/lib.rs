//! Builds EROFS images from directories, tars and raw files.
#![forbid(unsafe_code)]
