//! Tests that need root, a kernel, a peer tool or several crates.
#![forbid(unsafe_code)]
