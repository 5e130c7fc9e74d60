//! A snapshotter and differ of containerd that keep layers as EROFS images.
//!
//! ```text
//! containerd ─► service ─► apply ─► mkfs        a layer's tar becomes an image, in one pass
//!                  ├──────► diff ──► content   what a container wrote becomes a layer
//!                  ▼
//!             snapshotter ─► metadata           which snapshots and layers there are: redb
//!                  │
//!                  ├───────► store              their files
//!                  ├───────► layer_mounts       each layer mounted once
//!                  ├───────► mapped             the same with other owners
//!                  ├───────► merge              many layers as one image over them
//!                  └───────► mounts             what containerd is told to mount
//! ```
//!
//! | question | module |
//! |---|---|
//! | what may an operator say? | [`config`] |
//! | how are we called? | [`serve`] |
#![forbid(unsafe_code)]

// For programs that call what we serve, and containerd, in tests and benchmarks.
#[doc(hidden)]
pub mod api;
mod apply;
#[doc(hidden)]
pub mod client;
pub mod config;
mod content;
mod diff;
mod digest;
mod error;
mod filter;
mod layer_mounts;
mod mapped;
mod merge;
mod metadata;
mod mounts;
pub mod serve;
mod service;
mod snapshotter;
mod store;

pub use config::Config;
pub use error::Error;
pub use layer_mounts::FuseServer;
pub use serve::{ServeError, serve};
