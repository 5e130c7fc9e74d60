//! A snapshotter and differ of containerd that keep layers as EROFS images.
//!
//! ```text
//! containerd ─► service ─► apply ─► mkfs        a layer's tar becomes an image, in one pass
//!                  │
//!                  ▼
//!             snapshotter ─► metadata           which snapshots and layers there are: redb
//!                  │
//!                  ├───────► store              their files
//!                  └───────► layer_mounts       each layer mounted once
//! ```
//!
//! | question | module |
//! |---|---|
//! | what may an operator say? | [`config`] |
//! | how are we called? | [`serve`] |
#![forbid(unsafe_code)]

mod api;
mod apply;
pub mod config;
mod content;
mod error;
mod filter;
mod layer_mounts;
mod metadata;
pub mod serve;
mod service;
mod snapshotter;
mod store;

pub use config::Config;
pub use error::Error;
pub use serve::{ServeError, serve};
