//! What makes images smaller, over files that show its edges: what was stored comes back, the check finds nothing, and any
//! number of workers writes the same bytes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod extents;
mod fragments;
mod metadata;
mod trees;
