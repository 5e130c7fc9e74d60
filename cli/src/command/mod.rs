//! One module for each subcommand.

pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod cat;
pub(crate) mod check;
pub(crate) mod diff;
pub(crate) mod dump;
pub(crate) mod extract;
pub(crate) mod features;
pub(crate) mod find;
pub(crate) mod fuse;
pub(crate) mod index;
pub(crate) mod ls;
pub(crate) mod merge;
pub(crate) mod mount;
pub(crate) mod snapshotter;
pub(crate) mod stat;
pub(crate) mod try_;
pub(crate) mod umount;
