//! A snapshotter and differ of containerd that keep layers as EROFS images.
//!
//! ```text
//! containerd ─► service ─► apply ─► mkfs        a layer's tar becomes an image, in one pass
//!                  ├──────► ahead ─► content  the next ones too, before they are asked for
//!                  ├──────► diff ──► content   what a container wrote becomes a layer
//!                  ▼
//!             snapshotter ─► metadata           which snapshots and layers there are: redb
//!                  │
//!                  ├───────► store              their files
//!                  ├───────► layer_mounts       each layer mounted once
//!                  ├───────► mapped             the same with other owners
//!                  ├───────► writable           what a container with a quota writes to
//!                  ├───────► merge              many layers as one image over them
//!                  └───────► mounts             what containerd is told to mount
//! ```
//!
//! | question | module |
//! |---|---|
//! | what may an operator say? | [`config`] |
//! | what is containerd told? | [`mod@containerd_config`] |
//! | how are we called? | [`serve`] |
//! | how does an operator ask? | [`operate`] |
#![forbid(unsafe_code)]

mod ahead;
// For programs that call what we serve, and containerd, in tests and benchmarks.
#[doc(hidden)]
pub mod api;
mod apply;
mod cache;
mod chains;
#[doc(hidden)]
pub mod client;
mod collect;
pub mod config;
mod consistency;
pub mod containerd_config;
mod content;
mod database;
mod diff;
mod digest;
mod error;
#[doc(hidden)]
pub mod fault;
mod filter;
mod layer_mounts;
mod locks;
mod log;
mod mapped;
mod media_type;
mod merge;
mod metadata;
mod metrics;
mod monitoring;
mod mounts;
pub mod operate;
mod scrub;
mod seal;
pub mod serve;
mod service;
mod snapshotter;
mod socket;
mod spare;
mod status;
mod store;
mod stored;
mod syncing;
mod verify;
mod writable;

pub use config::Config;
pub use consistency::contradictions;
pub use containerd_config::containerd_config;
pub use error::Error;
pub use layer_mounts::FuseServer;
pub use serve::{ServeError, serve};
