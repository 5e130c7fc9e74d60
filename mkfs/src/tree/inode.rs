//! Inodes of the tree: what they are, and where their data comes from.

use super::{NameRef, Xattr, XattrSetId, XattrSets};
use erofs_format::device::DeviceNumber;
use erofs_format::inode::{FileType, Timestamp};

/// An inode of a [`Tree`]. The root directory is [`InodeId::ROOT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(pub(super) u32);

impl InodeId {
    /// The root directory.
    pub const ROOT: Self = Self(0);

    /// Position in tables that have one element for each inode.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Owner, permissions, time and attributes of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits, set-id and sticky bits (`0o7777`); the type comes from the body.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes by full name, in any order; of equal names the last counts.
    pub xattrs: Vec<Xattr>,
}

/// Where the data of a regular file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Location {
    /// There is none: the file is empty or one hole.
    Nowhere,
    /// The file of the same path below the source directory.
    Directory,
    /// A place in the archive, with the map of its pieces when it is sparse.
    Archive {
        /// Offset of the first stored byte in the archive, in bytes.
        offset: u64,
        /// Which part of the file is stored.
        sparse: Option<SparseId>,
    },
    /// File number `n` of the command line.
    RawFile(u32),
    /// File number `n` of the layers.
    Layer(u32),
    /// In the metabox inode: inodes are its data.
    Metabox,
    /// Already in the image: the data passed by in a stream.
    Stored(u32),
}

/// A map of [`Tree::sparse_map`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SparseId(pub(super) std::num::NonZeroU32);

/// A stretch of a sparse file that holds data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataRange {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// What an inode is, besides its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// A directory.
    Directory,
    /// A regular file.
    Regular {
        /// Size in bytes.
        size: u64,
        /// Where its data comes from.
        location: Location,
    },
    /// A symbolic link; the target is in the arena.
    Symlink(NameRef),
    /// A character device.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Body {
    /// Its file type.
    pub const fn file_type(&self) -> FileType {
        match self {
            Self::Directory => FileType::Directory,
            Self::Regular { .. } => FileType::Regular,
            Self::Symlink(_) => FileType::Symlink,
            Self::CharDevice(_) => FileType::CharDevice,
            Self::BlockDevice(_) => FileType::BlockDevice,
            Self::Fifo => FileType::Fifo,
            Self::Socket => FileType::Socket,
        }
    }
}

/// An inode of the tree.
#[derive(Debug, Clone, Copy)]
pub struct TreeInode {
    /// What it is.
    pub body: Body,
    /// Modification time.
    pub mtime: Timestamp,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of links; right after [`Tree::finish`].
    pub nlink: u32,
    /// Extended attributes.
    pub xattrs: XattrSetId,
    /// Permission bits.
    pub permissions: u16,
}

impl TreeInode {
    /// Whether all of it but the time has room in an inode of 32 bytes.
    pub fn fits_compact_but_for_its_time(&self) -> bool {
        let size = match self.body {
            Body::Regular { size, .. } => size,
            _ => 0,
        };
        u32::try_from(size).is_ok()
            && [self.uid, self.gid, self.nlink]
                .into_iter()
                .all(|value| u16::try_from(value).is_ok())
    }

    /// `st_mode`, with type bits.
    pub const fn mode(&self) -> u16 {
        self.body.file_type().mode_bits() | self.permissions
    }

    pub(super) fn metadata(&self, xattrs: &XattrSets) -> Metadata {
        Metadata {
            permissions: self.permissions,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            xattrs: xattrs.get(self.xattrs).to_vec(),
        }
    }
}
