//! The configuration file.

mod layers;

pub use layers::{LayerCompression, Layers, Mode};

use erofs_mount::Via;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

mod value;

pub use value::{Address, Level, Merge, Quota, Size};

/// The configuration file with which everything has its default, and what each key means.
pub const DEFAULT: &str = include_str!("config/default.toml");

/// What an operator may say; every key has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of layers, snapshots and the database.
    pub root: PathBuf,
    /// Unix socket on which containerd calls.
    pub socket: PathBuf,
    /// What concerns containerd.
    pub containerd: Containerd,
    /// How layers are stored.
    #[serde(skip_serializing)]
    pub layers: Layers,
    /// How snapshots are mounted.
    pub mounts: Mounts,
    /// What containers write.
    pub writable: Writable,
    /// Which layers need no conversion.
    pub cache: Cache,
    /// Who may ask for numbers.
    pub metrics: Metrics,
    /// What is told on standard error.
    pub log: Log,
    /// How layers are protected.
    pub integrity: Integrity,
}

/// How snapshots are mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mounts {
    /// Who mounts layers.
    pub mode: MountMode,
    /// The way in which layers are mounted here.
    pub via: Via,
    /// Of more than how many layers an image of all of them is made before they are used, so that one mount is enough.
    pub merge: Merge,
}

/// Who mounts layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountMode {
    /// This process, once; containerd gets one overlay or bind.
    #[default]
    Overlay,
    /// containerd's mount manager (2.2 and newer), or a virtual machine.
    Delegate,
}

/// What containers write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Writable {
    /// How much of it one may write that says nothing else.
    pub quota: Quota,
}

/// How containerd is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Containerd {
    /// Its socket, by which blobs are read that `content` does not show.
    pub address: PathBuf,
    /// Folder of its content store, from which blobs are read without asking.
    pub content: PathBuf,
    /// Namespace of blobs where it does not tell (before 2.1).
    pub namespace: String,
    /// Seconds for which a new layer is held in its content store, until the caller has made an image of it, where it does not tell
    /// the caller's lease.
    pub lease: NonZeroU32,
}

/// Which layers need no conversion.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Bytes on disk up to which unused layers are kept.
    pub size: Size,
    /// Folders `<algorithm>/<2 hex>/<hex>.erofs` of layers by diffID.
    pub sources: Vec<PathBuf>,
    /// Who gets a layer that is here by its diffID alone.
    pub sharing: Sharing,
    /// Whether such a layer is not even downloaded.
    pub skip_download: bool,
}

/// Who gets a layer without bringing a blob of it, as the policy of containerd's content store says it of blobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Those namespaces of containerd that brought a blob of it before.
    #[default]
    Isolated,
    /// All of them.
    Shared,
}

/// Who may ask for numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Where they ask.
    pub address: Address,
}

/// What is told on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// From which importance on.
    pub level: Level,
    /// In which form.
    pub format: Format,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// An object on each line.
    Json,
}

/// How layers are protected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Integrity {
    /// Whether the kernel checks them whenever it reads them.
    pub fs_verity: Verity,
    /// Whether layers are read, and their digests compared, before they are mounted.
    pub verify_at_mount: bool,
    /// Whether even root has to ask before changing them (`FS_IMMUTABLE_FL`).
    pub immutable: bool,
}

/// Whether the kernel checks files whenever it reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verity {
    /// Where the filesystem can.
    #[default]
    Auto,
    /// Nothing else will do.
    On,
    /// No.
    Off,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: "/var/lib/erofs-snapshotter".into(),
            socket: "/run/erofs-snapshotter.sock".into(),
            containerd: Containerd::default(),
            layers: Layers::default(),
            mounts: Mounts::default(),
            writable: Writable::default(),
            cache: Cache::default(),
            metrics: Metrics::default(),
            log: Log::default(),
            integrity: Integrity::default(),
        }
    }
}

impl Default for Containerd {
    fn default() -> Self {
        Self {
            address: "/run/containerd/containerd.sock".into(),
            content: "/var/lib/containerd/io.containerd.content.v1.content".into(),
            namespace: "default".into(),
            lease: NonZeroU32::new(3600).unwrap_or(NonZeroU32::MIN),
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
    /// Images are to be merged of layers that cannot be: an index points at whole blocks of data.
    #[error("{}: [mounts] merge = {merge} wants layers without compression: leave it or [layers] compression out", path.display())]
    Merge {
        /// The file.
        path: PathBuf,
        /// Its number of layers.
        merge: usize,
    },
}

impl Config {
    /// What is allowed and yet cannot be what somebody wants.
    #[must_use]
    pub fn doubts(&self) -> Vec<String> {
        let missing = self.cache.sources.iter().filter(|source| !source.is_dir());
        missing
            .map(|source| {
                format!(
                    "cache.sources: {}: there is no such folder",
                    source.display()
                )
            })
            .collect()
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`], with the line where there is one.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let config: Self = toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_path_buf(),
            source: Box::new(source),
        })?;
        match config.mounts.merge {
            Merge::Over(merge) if merge > 0 && config.layers.compression.is_some() => {
                let path = path.to_path_buf();
                Err(ConfigError::Merge { path, merge })
            }
            Merge::Over(_) | Merge::Auto => Ok(config),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Every key stands in the default file, with its default.
    #[test]
    fn the_default_file_is_the_default() {
        let read: Config = toml::from_str(DEFAULT).unwrap();
        assert_eq!(read, Config::default());
        let mut written: serde_json::Value = toml::from_str(DEFAULT).unwrap();
        // What is read of this table does not tell how it was written.
        let layers = written.as_object_mut().unwrap().remove("layers");
        assert_eq!(layers.unwrap().as_object().unwrap().len(), 3);
        assert_eq!(written, serde_json::to_value(read).unwrap());
        assert!(include_str!("../../docs/containerd.md").contains(DEFAULT));
    }

    #[test]
    fn what_nobody_can_want_is_told() {
        let doubts = |text: &str| toml::from_str::<Config>(text).unwrap().doubts().join(", ");
        assert_eq!(doubts(DEFAULT), "");
        let told = doubts("[cache]\nsources = [\"/\", \"/nonexistent\"]");
        assert!(
            told.contains("/nonexistent") && !told.contains("/:"),
            "{told}"
        );
    }

    #[test]
    fn compressed_layers_are_not_to_be_merged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshotter.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Config::read(&path).map_err(|error| error.to_string())
        };
        read("[mounts]\nmerge = 3").unwrap();
        read("[layers]\ncompression = \"lz4\"").unwrap();
        read("[layers]\ncompression = \"lz4\"\n[mounts]\nmerge = \"auto\"").unwrap();
        read("[layers]\ncompression = \"lz4\"\n[mounts]\nmerge = 0").unwrap();
        let error = read("[mounts]\nmerge = \"never\"").unwrap_err();
        assert!(error.contains("or \"auto\""), "{error}");
        let error = read("[layers]\ncompression = \"lz4\"\n[mounts]\nmerge = 3").unwrap_err();
        assert!(
            error.contains("merge = 3") && error.contains("compression"),
            "{error}"
        );
    }

    #[test]
    fn what_no_key_is_called_is_refused() {
        let error = toml::from_str::<Config>("[containerd]\nadress = \"/c.sock\"").unwrap_err();
        assert!(error.to_string().contains("adress"), "{error}");
    }
}
