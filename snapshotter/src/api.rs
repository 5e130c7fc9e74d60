//! Services and messages, compiled from proto/ by build.rs.
#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated code"
)]

include!(concat!(env!("OUT_DIR"), "/api.rs"));

pub use containerd::services::{content, diff, leases, snapshots};
pub use containerd::types;
pub use erofs::snapshotter::v1 as operator;
