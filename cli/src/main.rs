//! The `erofs` program.
#![forbid(unsafe_code)]

fn main() {}
