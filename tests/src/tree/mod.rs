//! The model of a file tree: everything a Linux directory can hold, as plain data.

pub(crate) mod write;

use std::collections::BTreeMap;

/// Data of a file as `(offset, bytes)`: disjoint and ascending.
pub type Pieces = Vec<(u64, Vec<u8>)>;

/// Extended attributes: full name, namespace prefix included, to value.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A file tree. Parents come before their children, targets of hard links before the links, and the
/// root, whose path is empty, first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The entries in the order in which they can be made.
    pub entries: Vec<Entry>,
}

/// One name in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path below the root: no leading slash, empty for the root itself.
    pub path: Vec<u8>,
    /// What stands there.
    pub kind: Kind,
    /// Owner, mode, time and attributes; a hard link has those of its target instead.
    pub attributes: Attributes,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A character device.
    CharacterDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// One more name of the entry at this path.
    HardLink(Vec<u8>),
}

/// A device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Up to 12 bits.
    pub major: u32,
    /// Up to 20 bits.
    pub minor: u32,
}

/// Inode metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission, setuid, setgid and sticky bits; symlinks are always 0o777 on Linux.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// Extended attributes of any namespace.
    pub xattrs: Xattrs,
}

/// Seconds since 1970, possibly negative, and nanoseconds (below 10^9) after that second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds since the whole second.
    pub nanoseconds: u32,
}

/// Content of a regular file: pieces of data in order of offset, holes between and after them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Length of the file in bytes.
    pub size: u64,
    /// What is not a hole, within `size`.
    pub pieces: Pieces,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time {
                seconds: 1_500_000_000,
                nanoseconds: 0,
            },
            xattrs: Xattrs::new(),
        }
    }
}

impl Attributes {
    /// The default attributes with this mode.
    pub fn with_mode(mode: u32) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }
}

impl Content {
    /// A file without holes.
    pub fn dense(bytes: Vec<u8>) -> Self {
        let size = bytes.len() as u64;
        let pieces = if bytes.is_empty() {
            Vec::new()
        } else {
            vec![(0, bytes)]
        };
        Self { size, pieces }
    }

    /// A file of `size` bytes with holes wherever no piece is.
    pub fn sparse(size: u64, pieces: Pieces) -> Self {
        let mut end = 0;
        for (offset, bytes) in &pieces {
            assert!(*offset >= end, "pieces ascend and do not overlap");
            end = offset + bytes.len() as u64;
        }
        assert!(end <= size, "pieces lie within the file");
        Self { size, pieces }
    }
}

impl Tree {
    /// A tree that holds only a root directory of mode 0o755.
    pub fn new() -> Self {
        Self {
            entries: vec![Entry {
                path: Vec::new(),
                kind: Kind::Directory,
                attributes: Attributes::with_mode(0o755),
            }],
        }
    }

    /// Adds an entry; its parent (and the target of a hard link) must have been added before.
    pub fn add(&mut self, path: impl AsRef<[u8]>, kind: Kind, attributes: Attributes) {
        self.entries.push(Entry {
            path: path.as_ref().to_vec(),
            kind,
            attributes,
        });
    }

    /// Adds a directory of mode 0o755.
    pub fn directory(&mut self, path: impl AsRef<[u8]>) {
        self.add(path, Kind::Directory, Attributes::with_mode(0o755));
    }

    /// Adds a file with default attributes.
    pub fn file(&mut self, path: impl AsRef<[u8]>, content: Content) {
        self.add(path, Kind::File(content), Attributes::default());
    }

    /// Adds a symlink with default attributes.
    pub fn symlink(&mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) {
        let target = target.as_ref().to_vec();
        self.add(path, Kind::Symlink(target), Attributes::with_mode(0o777));
    }

    /// Adds one more name of `target`.
    pub fn hard_link(&mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) {
        let target = target.as_ref().to_vec();
        self.add(path, Kind::HardLink(target), Attributes::default());
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

/// `parent/name`, or `name` where the parent is the root.
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        return name.to_vec();
    }
    [parent, b"/", name].concat()
}

/// Parent path and last component.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}
