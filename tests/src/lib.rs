//! Tests that need root, a kernel, a peer tool or several crates, and what they share.
//!
//! | module | answers |
//! |---|---|
//! | [`tree`] | what a file tree is: the model from which sources are made |
//! | [`awkward`] | which trees are worth testing: a fixed set and a random strategy |
//! | [`manifest`] | what a real directory holds, and how it differs from what it should |
//! | [`listing`] | what our reader sees in an image, errors included, in the form of the kernel matrix |
//! | [`golden`] | which images of the reference tool are kept, and what they show |
//! | [`workshop`] | how a source becomes an image, by the real binary |
//! | [`archive`] | how a source becomes a tar, and what `tar` makes of it |
//! | [`containerd`] | how a real containerd of its own is started, and what it is given |
//! | [`kernel`] | how the kernel shows an image |
//! | [`peers`] | where the other tools are |
//! | [`ustar`] | how to write a tar too large to keep |
//! | [`numbers`] | which choice is next, the same everywhere |
//! | [`pairwise`] | which rows bring every pair of options together |
//! | [`skip`] | what to do where a machine cannot run a test |
#![forbid(unsafe_code)]

pub mod archive;
pub mod awkward;
pub mod containerd;
pub mod golden;
pub mod kernel;
pub mod listing;
pub mod manifest;
pub mod numbers;
pub mod pairwise;
pub mod peers;
pub mod skip;
pub mod tree;
pub mod ustar;
pub mod workshop;
