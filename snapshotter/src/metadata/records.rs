//! What the database holds.

use crate::api::snapshots::v1::Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Number of a snapshot or layer, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Number(pub(crate) u64);

/// Whether a snapshot can be written to or built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    View,
    Active,
    Committed,
}

impl State {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
        }
    }
}

impl From<State> for Kind {
    fn from(state: State) -> Self {
        match state {
            State::View => Self::View,
            State::Active => Self::Active,
            State::Committed => Self::Committed,
        }
    }
}

/// A time in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Time(pub(crate) u64);

impl Time {
    pub(crate) fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Labels of a snapshot.
pub(crate) type Labels = BTreeMap<String, String>;

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) number: Number,
    pub(crate) state: State,
    /// Name of the committed snapshot below it.
    pub(crate) parent: Option<String>,
    /// Its own layer, which a committed snapshot always has.
    pub(crate) layer: Option<Number>,
    /// The chain ID of its own layer and those below, of a committed snapshot whose layers all came from blobs.
    #[serde(default)]
    pub(crate) chain: Option<String>,
    /// The image that was merged of the layers below it; of a committed one with its own.
    #[serde(default)]
    pub(crate) merged: Option<Number>,
    /// SHA-256 of that image, in the record of the committed one for which it was made.
    #[serde(default)]
    pub(crate) merged_digest: Option<String>,
    /// Bytes of the filesystem to which it is written, if it has one of its own.
    #[serde(default)]
    pub(crate) quota: Option<u64>,
    pub(crate) labels: Labels,
    pub(crate) created: Time,
    pub(crate) updated: Time,
}

impl Snapshot {
    /// Whether containerd is told this label. By one of them it finds, among the snapshots of all namespaces, the one that it need
    /// not unpack, and clients may write there what they like: so that is told of committed snapshots where it is true.
    pub(crate) fn tells(&self, label: &str) -> bool {
        label != TARGET
            || self.state != State::Committed
            || self.chain.as_ref() == self.labels.get(TARGET)
    }
}

/// A layer that is an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// Digest of the uncompressed tar or of the image that came, if something came.
    pub(crate) digest: Option<String>,
    /// Bytes of what has this digest.
    pub(crate) tar_size: u64,
    /// Inodes of the image.
    pub(crate) inodes: u64,
    /// What its files are.
    #[serde(default)]
    pub(crate) form: Form,
    /// Digests of blobs that hold its tar.
    #[serde(default)]
    pub(crate) blobs: Vec<String>,
    /// containerd's namespaces from which such a blob came.
    #[serde(default)]
    pub(crate) namespaces: Vec<String>,
    /// SHA-256 of the image, once that was noted.
    #[serde(default)]
    pub(crate) image: Option<String>,
    /// When its last snapshot was removed, if it has none.
    #[serde(default)]
    pub(crate) unused_since: Option<Time>,
}

impl Layer {
    /// Notes that a blob of it came from this namespace.
    pub(super) fn came_from(&mut self, namespace: &str) {
        if !self.namespaces.iter().any(|known| known == namespace) {
            self.namespaces.push(namespace.to_owned());
        }
    }
}

/// A layer of which a committed snapshot is made without an active one.
#[derive(Debug)]
pub(crate) enum Stored<'a> {
    /// It is here, and may be had unread.
    Unread(Number),
    /// It is here, and this blob of it was read.
    Read(Number, &'a str),
    /// Its image was published under this number.
    New(Number, &'a Layer),
}

/// What the files of a layer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    /// An image that was made of a tar or a folder.
    #[default]
    Converted,
    /// An image that came as it is, and has the layer's digest.
    Native,
    /// An index over the tar that lies beside it, and has the layer's digest.
    Index,
}

/// An image that was merged of the layers of a committed snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merged {
    pub(crate) number: Number,
    /// Name of that snapshot.
    pub(crate) name: String,
    /// SHA-256, unless an earlier version made it.
    pub(crate) digest: Option<String>,
    /// Keys of the snapshots that lie over it.
    pub(crate) users: Vec<String>,
}

/// What is to be thrown away once nothing knows of it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removed {
    /// The snapshot whose folder nobody needs any more.
    pub(crate) snapshot: Option<Number>,
    /// The layer, if no other snapshot has it and it is not kept.
    pub(crate) layer: Option<(Number, Layer)>,
    /// The image that was merged of its layers.
    pub(crate) merged: Option<Number>,
}

/// Label with the chain ID of what a layer is unpacked to, which is the committed snapshot's name for containerd.
pub(crate) const TARGET: &str = "containerd.io/snapshot.ref";

/// containerd's namespace of a snapshot, with which it begins all keys and names; empty where it does not.
pub(crate) fn namespace(key: &str) -> &str {
    key.split_once('/').map_or("", |(namespace, _)| namespace)
}

/// Whether containerd makes a snapshot to unpack a layer: nobody looks at what lies below it, and when this process ends early, it
/// is unpacked anew.
pub(crate) fn is_unpacked_to(key: &str, labels: &Labels) -> bool {
    let own = key.rsplit('/').next().unwrap_or(key);
    labels.contains_key(TARGET) || own.starts_with("extract-")
}
