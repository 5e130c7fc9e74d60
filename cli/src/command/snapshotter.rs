//! `erofs snapshotter`: serves containerd.

use super::fuse;
use crate::error::Outcome;
use clap::Args;
use erofs_snapshotter::{Config, serve};
use std::path::PathBuf;

/// Serve containerd as snapshotter and differ: layers become EROFS images when they are pulled.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Snapshotter {
    /// Configuration file (TOML); without one everything has its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Folder of layers and snapshots, in place of `root` in the configuration
    #[arg(long, value_name = "DIRECTORY")]
    root: Option<PathBuf>,

    /// Socket on which containerd calls, in place of `socket` in the configuration
    #[arg(long, value_name = "SOCKET")]
    socket: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  erofs snapshotter --config /etc/erofs/snapshotter.toml
  erofs snapshotter --root /var/lib/erofs-snapshotter --socket /run/erofs-snapshotter.sock";

impl Snapshotter {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        config.root = self.root.unwrap_or(config.root);
        config.socket = self.socket.unwrap_or(config.socket);
        serve(&config, fuse::launch)?;
        Ok(Outcome::Fine)
    }
}
