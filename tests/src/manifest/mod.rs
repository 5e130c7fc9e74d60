//! What a directory tree really holds, told by system calls alone.
//!
//! The walk knows nothing of EROFS and shares no code with the reader, so it may judge a mounted image:
//! the manifest of the source must equal that of the mount. A manifest can also be made from the
//! [model](crate::tree), which shows whether a source filesystem stored what it was told to, and by our reader
//! from an image, which is then what is judged.

mod content;
mod difference;
mod image;
mod model;
mod walk;

use std::collections::BTreeMap;

pub use content::of_file as digest;
pub use difference::{Difference, Field};

use crate::tree::{Device, Time, Xattrs};

/// Every name of a tree, by its path below the root (empty for the root), in byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Path to what stands there.
    pub nodes: BTreeMap<Vec<u8>, Node>,
}

/// What an observer can tell about one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// File type.
    pub kind: Type,
    /// Permission, setuid, setgid and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Link count.
    pub links: u64,
    /// Bytes of content or of a symlink's target; 0 for the rest (the size of a directory is its
    /// filesystem's own affair).
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Number of a device node.
    pub device: Option<Device>,
    /// Target of a symlink.
    pub target: Option<Vec<u8>>,
    /// [Digest of the content](content) of a regular file.
    pub digest: Option<[u8; 32]>,
    /// Extended attributes of all namespaces.
    pub xattrs: Xattrs,
    /// The first path, in byte order, of all that share this inode, where there are several.
    pub shared_with: Option<Vec<u8>>,
}

/// The seven file types of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Character device.
    CharacterDevice,
    /// Block device.
    BlockDevice,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
}

impl Manifest {
    /// Whether the manifests differ in anything but the ignored fields: a line per difference.
    pub fn differences(&self, actual: &Self, ignore: &[Field]) -> Vec<Difference> {
        difference::between(self, actual, ignore)
    }

    /// Asserts that `actual` is like this manifest, the expected one, but for the ignored fields.
    ///
    /// # Panics
    /// With the first twenty differences.
    #[track_caller]
    pub fn assert_same(&self, actual: &Self, ignore: &[Field]) {
        let all = self.differences(actual, ignore);
        let first: Vec<_> = all.iter().take(20).map(ToString::to_string).collect();
        assert!(
            all.is_empty(),
            "{} differences, expected -> actual:\n{}",
            all.len(),
            first.join("\n")
        );
    }

    /// The regular files alone: what a set of raw files has in common with an image of it.
    #[must_use]
    pub fn files(mut self) -> Self {
        self.nodes.retain(|_, node| node.kind == Type::File);
        self
    }

    /// Fills `shared_with` in from which names share an inode: groups of paths.
    pub fn note_shared(&mut self, groups: impl IntoIterator<Item = Vec<Vec<u8>>>) {
        for group in groups.into_iter().filter(|group| group.len() > 1) {
            let first = group.iter().min().cloned();
            for path in group {
                if let Some(node) = self.nodes.get_mut(&path) {
                    node.shared_with.clone_from(&first);
                }
            }
        }
    }
}
