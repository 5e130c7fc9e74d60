//! One module for each subcommand.

pub(crate) mod build;
pub(crate) mod index;
