//! Serves EROFS images through FUSE, with or without root.
//!
//! ```text
//! launch() ──starts──► daemon() ► serve() ──starts──► watch()
//!    ▲                    │  mounts, answers the kernel   waits for the end of serve(),
//!    └──── mount answers ─┘                               unmounts what is left behind
//! ```
//!
//! | question | module |
//! |---|---|
//! | what does the kernel get to see of an image? | [`filesystem`], [`node`] |
//! | how is it mounted? | [`options`], [`mount`] |
//! | how long is it served, what do signals do? | [`server`] |
//! | how does it become a daemon, who cleans up when it is killed? | [`daemon`] |
//!
//! Processes are started by executing a program again, never by forking: the caller says with which arguments its own
//! program comes to [`daemon::daemon`] and [`daemon::watch`].
//!
//! ```no_run
//! use erofs_fuse::{ServeOptions, serve};
//! use erofs_reader::{FileSource, Image, ImageOptions};
//! use std::process::Command;
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let source = FileSource::open("rootfs.erofs".as_ref())?;
//! let image = Arc::new(Image::open(source, ImageOptions::default())?);
//! // This program calls erofs_fuse::watch("/mnt") when it is started so:
//! let mut watcher = Command::new("/proc/self/exe");
//! watcher.args(["watch", "/mnt"]);
//! serve(image, "/mnt".as_ref(), &ServeOptions::default(), watcher, || Ok(()))?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod daemon;
pub mod filesystem;
pub mod mount;
pub mod node;
pub mod options;
pub mod server;

pub use daemon::{LaunchError, Ready, daemon, launch, watch};
pub use filesystem::Filesystem;
pub use mount::MountError;
pub use options::{OptionError, ServeOptions};
pub use server::{ServeError, Server, serve};
