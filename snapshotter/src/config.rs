//! The configuration file.

mod layers;

pub use layers::{LayerCompression, Layers, Mode};

use erofs_mount::Via;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What an operator may say; every key has a default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of layers, snapshots and the database.
    pub root: PathBuf,
    /// Unix socket on which containerd calls.
    pub socket: PathBuf,
    /// What concerns containerd.
    pub containerd: Containerd,
    /// How layers are stored.
    pub layers: Layers,
    /// How snapshots are mounted.
    pub mounts: Mounts,
}

/// How snapshots are mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mounts {
    /// Who mounts layers.
    pub mode: MountMode,
    /// The way in which layers are mounted here.
    pub via: Via,
    /// From how many layers on an image of all of them is made before they are used, so that one mount is enough; 0: never.
    pub merge: usize,
}

/// Who mounts layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountMode {
    /// This process, once; containerd gets one overlay or bind.
    #[default]
    Overlay,
    /// containerd's mount manager (2.2 and newer), or a virtual machine.
    Delegate,
}

/// How containerd is found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Containerd {
    /// Its socket, by which blobs are read that `content` does not show.
    pub address: PathBuf,
    /// Folder of its content store, from which blobs are read without asking.
    pub content: PathBuf,
    /// Namespace of blobs where it does not tell (before 2.0).
    pub namespace: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: "/var/lib/erofs-snapshotter".into(),
            socket: "/run/erofs-snapshotter.sock".into(),
            containerd: Containerd::default(),
            layers: Layers::default(),
            mounts: Mounts::default(),
        }
    }
}

impl Default for Containerd {
    fn default() -> Self {
        Self {
            address: "/run/containerd/containerd.sock".into(),
            content: "/var/lib/containerd/io.containerd.content.v1.content".into(),
            namespace: "default".into(),
        }
    }
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`], with the line.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_path_buf(),
            source: Box::new(source),
        })
    }
}
