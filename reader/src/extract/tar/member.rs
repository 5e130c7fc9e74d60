//! What a member is.

use crate::xattr::Xattr;
use erofs_format::device::DeviceNumber;
use erofs_format::inode::Timestamp;
use std::ops::Range;

/// A member of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Path without leading or trailing slashes, or empty for the root itself, which is written as `./`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions, set-id and sticky bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes, written in this order.
    pub xattrs: Vec<Xattr>,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, all of whose bytes follow.
    File {
        /// In bytes.
        size: u64,
    },
    /// A regular file of which only the bytes in `data` follow.
    Sparse {
        /// Of the whole file, in bytes.
        size: u64,
        /// Disjoint, ascending, none empty, at most [`MAX_RANGES`](super::MAX_RANGES); each begins and ends at a multiple
        /// of [`BLOCK_SIZE`](super::BLOCK_SIZE), or ends with the file. GNU tar reads no others.
        data: Vec<Range<u64>>,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Its target.
        target: Vec<u8>,
    },
    /// One more name of an earlier member.
    HardLink {
        /// Path of that member, as it was given there.
        target: Vec<u8>,
    },
    /// A character device; 0:0 is a whiteout of overlayfs.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
    /// A socket, for which tar has no type: programs that do not know `SCHILY.filetype` make an empty file of it.
    Socket,
}

/// Why something cannot be a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// A path or target that no tar program would take for what it is.
    #[error("a path that is empty, contains NUL, or begins or ends with a slash")]
    Path,
    /// More than any tar program reads.
    #[error("{0} bytes are more than a tar can say")]
    Size(u64),
    /// Data ranges that break the rules of [`Kind::Sparse`].
    #[error("data from byte {0} on is not aligned, or out of order")]
    Range(u64),
    /// More data ranges than readers have to take.
    #[error("the file consists of more than {} pieces", super::MAX_RANGES)]
    TooManyRanges,
}
