//! What a comparison asks of either side.

use super::content::Content;
use erofs_format::Nid;
use erofs_format::device::DeviceNumber;
use erofs_format::inode::{FileType, Timestamp};
use erofs_mkfs::source::directory::DirectoryError;
use erofs_mkfs::tree::{InodeId, NameError};
use rustix::io::Errno;
use std::io;

/// How a side finds an entry again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handle {
    /// By its inode in an image.
    Nid(Nid),
    /// By its inode in a tree in memory.
    Tree(InodeId),
    /// By its path only.
    Path,
}

/// Which names of a side are one file: equal for hard links, and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    /// Device number, 0 where there is only one.
    pub(crate) device: u64,
    /// Inode number.
    pub(crate) inode: u64,
}

/// Metadata of an entry, without what takes more than a look: attributes, link target and content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) handle: Handle,
    pub(crate) identity: Identity,
    pub(crate) file_type: FileType,
    /// Permission bits with set-id and sticky bits.
    pub(crate) permissions: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    /// Whether the file may have other names.
    pub(crate) linked: bool,
    /// Size of a regular file in bytes, otherwise 0.
    pub(crate) size: u64,
    /// Of device files.
    pub(crate) device: DeviceNumber,
}

impl Node {
    pub(crate) fn is_directory(&self) -> bool {
        self.file_type == FileType::Directory
    }
}

/// Extended attributes by name, in byte order of the names.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// A directory's entries in byte order of their names, in two allocations.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    names: Vec<u8>,
    entries: Vec<Listed>,
}

#[derive(Debug, Clone, Copy)]
struct Listed {
    start: u32,
    length: u16,
    handle: Handle,
}

impl Listing {
    /// Adds an entry behind all others. Its name must be greater than theirs.
    pub(crate) fn push(&mut self, name: &[u8], handle: Handle) -> Result<(), SideError> {
        if let Some((last, _)) = self.get(self.entries.len().wrapping_sub(1))
            && last >= name
        {
            return Err(SideError::Unsorted {
                name: name.to_vec(),
            });
        }
        let start = u32::try_from(self.names.len()).map_err(|_| SideError::TooLarge)?;
        let length = u16::try_from(name.len()).map_err(|_| SideError::TooLarge)?;
        self.names.extend_from_slice(name);
        self.entries.push(Listed {
            start,
            length,
            handle,
        });
        Ok(())
    }

    /// Name and handle of entry `index`.
    pub(crate) fn get(&self, index: usize) -> Option<(&[u8], Handle)> {
        let entry = self.entries.get(index)?;
        let start = entry.start as usize;
        let name = self.names.get(start..start + usize::from(entry.length))?;
        Some((name, entry.handle))
    }
}

/// Where an entry is: the path of its directory from the root, and its name. Both are empty for the root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Location<'p> {
    pub(crate) folder: &'p [u8],
    pub(crate) name: &'p [u8],
}

impl<'p> Location<'p> {
    /// Cuts a path at its last slash.
    pub(crate) fn of(path: &'p [u8]) -> Self {
        let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => path.split_at(slash),
            None => (&[][..], path),
        };
        Self {
            folder,
            name: name.strip_prefix(b"/").unwrap_or(name),
        }
    }
}

/// A tree that can be compared: an image, a directory, a tar.
///
/// One thread walks, any number reads contents. Each directory is listed once.
pub(crate) trait Side: Sync {
    /// The entry at a path, or `None` where there is none. The empty path is the root.
    fn find(&self, path: &[u8]) -> Result<Option<Node>, SideError>;

    /// Entries of the directory `node` at `path`.
    fn list(&self, path: &[u8], node: &Node) -> Result<Listing, SideError>;

    /// Metadata of an entry.
    fn node(&self, at: Location<'_>, handle: Handle) -> Result<Node, SideError>;

    /// Extended attributes of an entry.
    fn xattrs(&self, at: Location<'_>, node: &Node) -> Result<Xattrs, SideError>;

    /// Target of a symbolic link.
    fn target(&self, at: Location<'_>, node: &Node) -> Result<Vec<u8>, SideError>;

    /// Content of the regular file at `path`, which is not empty.
    fn content(&self, path: &[u8], handle: Handle) -> Result<Content<'_>, SideError>;

    /// Whether contents are known by their digests only.
    fn has_digests_only(&self) -> bool {
        false
    }

    /// Whether identities are those of the machine, so that equal ones on both sides are one file.
    fn is_of_this_machine(&self) -> bool {
        false
    }

    /// Whether the root has metadata of its own. A tar need not describe it.
    fn describes_root(&self) -> bool {
        true
    }
}

/// Why an entry cannot be compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SideError {
    /// An image.
    #[error(transparent)]
    Image(#[from] erofs_reader::Error),
    /// A directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A system call.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What happened.
        source: io::Error,
    },
    /// A name that is not greater than the one before it.
    #[error(
        "its entries are not sorted by name (at {}), as EROFS asks for",
        crate::names::Printable(name)
    )]
    Unsorted {
        /// The name.
        name: Vec<u8>,
    },
    /// A directory with more than 4 GiB of names.
    #[error("the directory is too large")]
    TooLarge,
    /// A path that cannot be asked for.
    #[error(transparent)]
    Path(#[from] NameError),
    /// A path that nothing can open.
    #[error("the path is longer than {limit} bytes")]
    TooDeep {
        /// Most bytes of a path that are followed.
        limit: usize,
    },
    /// A file that has become shorter.
    #[error("it became shorter while it was read")]
    Shrunk,
}

impl SideError {
    /// A failed system call.
    pub(crate) fn system(action: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::System {
            action,
            source: errno.into(),
        }
    }
}
