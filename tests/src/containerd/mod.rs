//! A real containerd of its own, with `erofs snapshotter` as its plugin, and images for it.

mod daemon;
mod image;
mod registry;

pub use daemon::{Containerd, NAME, NEWER, Setup, fetched, has_transfer_service, newer};
pub use image::{Layout, Packing};
pub use registry::Registry;
