//! A real containerd of its own, with `erofs snapshotter` as its plugin, and images for it.

mod daemon;
mod image;

pub use daemon::{Containerd, NAME, Setup, fetched};
pub use image::{Layout, Packing, sha256};
