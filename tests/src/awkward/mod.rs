//! Trees worth testing: everything that a Linux directory can hold and that builders get wrong.
//!
//! [`tree`] is the fixed set, one folder per theme; [`huge`] and [`deep`] hold what is too costly or too
//! far beyond other tools for every comparison; [`strategy::tree`] yields small random mixtures of the same.

pub mod bytes;
mod fixed;
pub mod strategy;

pub use fixed::{Sizes, deep, huge, tree};
