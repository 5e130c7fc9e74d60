//! Serves EROFS images through FUSE.
#![forbid(unsafe_code)]
