//! Side-by-side benchmarks against the peers.
#![forbid(unsafe_code)]
