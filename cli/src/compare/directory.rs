//! A directory of this machine as a side of a comparison. No link is followed and no path leads out of it.

use super::content::Content;
use super::side::{Handle, Identity, Listing, Location, Node, Side, SideError, Xattrs};
use erofs_format::device::DeviceNumber;
use erofs_format::inode::{FileType, Timestamp};
use erofs_mkfs::source::directory::{self, DirectoryError};
use erofs_mkfs::tree::components;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, OFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// An open directory.
#[derive(Debug)]
pub(crate) struct DirectorySide {
    root: OwnedFd,
    /// The folder that was looked at last, with its path: its neighbours come next.
    last: Mutex<Option<(Vec<u8>, OwnedFd)>>,
}

impl DirectorySide {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// As the system says.
    pub(crate) fn open(path: &Path) -> Result<Self, DirectoryError> {
        Ok(Self {
            root: directory::open(path)?,
            last: Mutex::default(),
        })
    }

    /// Calls `act` with the directory at `path`.
    fn in_folder<T>(
        &self,
        path: &[u8],
        act: impl FnOnce(BorrowedFd<'_>) -> Result<T, SideError>,
    ) -> Result<T, SideError> {
        if path.is_empty() {
            return act(self.root.as_fd());
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = match last.take().filter(|(known, _)| known == path) {
            Some(known) => known,
            None => (path.to_vec(), self.open_folder(path)?),
        };
        let result = act(folder.1.as_fd());
        *last = Some(folder);
        result
    }

    fn open_folder(&self, path: &[u8]) -> Result<OwnedFd, SideError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        directory::open_below(self.root.as_fd(), path, flags)
            .map_err(SideError::system("open the directory"))
    }

    fn stat(&self, at: Location<'_>) -> Result<Statx, SideError> {
        let name = c_name(at.name)?;
        self.in_folder(at.folder, |folder| {
            rustix::fs::statx(
                folder,
                &name,
                AtFlags::SYMLINK_NOFOLLOW,
                StatxFlags::BASIC_STATS,
            )
            .map_err(SideError::system("read the metadata"))
        })
    }
}

/// The name of an entry for a system call; the root's is `.`.
fn c_name(name: &[u8]) -> Result<CString, SideError> {
    let name = if name.is_empty() { b"." } else { name };
    CString::new(name).map_err(|_| SideError::system("look up a name with a NUL")(Errno::INVAL))
}

impl Side for DirectorySide {
    fn find(&self, path: &[u8]) -> Result<Option<Node>, SideError> {
        components(path)?;
        match self.node(Location::of(path), Handle::Path) {
            Ok(node) => Ok(Some(node)),
            Err(SideError::System { source, .. })
                if matches!(
                    Errno::from_io_error(&source),
                    Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn list(&self, path: &[u8], _node: &Node) -> Result<Listing, SideError> {
        // A descriptor of its own, so that listing begins at the start.
        let folder = self.open_folder(path)?;
        let mut names =
            directory::list(folder.as_fd()).map_err(SideError::system("list the directory"))?;
        names.sort_unstable();
        let mut listing = Listing::default();
        for name in names {
            listing.push(name.to_bytes(), Handle::Path)?;
        }
        Ok(listing)
    }

    fn node(&self, at: Location<'_>, _handle: Handle) -> Result<Node, SideError> {
        let stat = self.stat(at)?;
        let mode = stat.stx_mode;
        let file_type = FileType::from_mode(mode)
            .ok_or_else(|| SideError::system("take a file of this type")(Errno::INVAL))?;
        Ok(Node {
            handle: Handle::Path,
            identity: Identity {
                device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
            },
            file_type,
            permissions: mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            mtime: Timestamp {
                seconds: stat.stx_mtime.tv_sec,
                nanoseconds: stat.stx_mtime.tv_nsec,
            },
            linked: stat.stx_nlink > 1,
            size: match file_type {
                FileType::Regular => stat.stx_size,
                _ => 0,
            },
            device: DeviceNumber {
                major: stat.stx_rdev_major,
                minor: stat.stx_rdev_minor,
            },
        })
    }

    fn xattrs(&self, at: Location<'_>, _node: &Node) -> Result<Xattrs, SideError> {
        let name = c_name(at.name)?;
        let found = self.in_folder(at.folder, |folder| {
            Ok(directory::xattrs(folder, &name, at.name)?)
        })?;
        let mut xattrs: Xattrs = found
            .into_iter()
            .map(|xattr| (xattr.name.into(), xattr.value.into()))
            .collect();
        xattrs.sort();
        Ok(xattrs)
    }

    fn target(&self, at: Location<'_>, _node: &Node) -> Result<Vec<u8>, SideError> {
        let name = c_name(at.name)?;
        self.in_folder(at.folder, |folder| {
            let target = rustix::fs::readlinkat(folder, &name, Vec::new())
                .map_err(SideError::system("read the link"))?;
            Ok(target.into_bytes())
        })
    }

    fn content(&self, path: &[u8], _handle: Handle) -> Result<Content<'_>, SideError> {
        let open = |flags| directory::open_below(self.root.as_fd(), path, flags);
        let file = open(OFlags::RDONLY | OFlags::NOATIME)
            .or_else(|errno| match errno {
                // NOATIME is for the owner only.
                Errno::PERM => open(OFlags::RDONLY),
                other => Err(other),
            })
            .map_err(SideError::system("open"))?;
        let file = File::from(file);
        let stat = rustix::fs::fstat(&file).map_err(SideError::system("read the metadata"))?;
        Ok(Content::File {
            // Fewer blocks than bytes: a hole, or a filesystem that compresses.
            sparse: stat.st_blocks.saturating_mul(512) < stat.st_size,
            file,
        })
    }

    fn is_of_this_machine(&self) -> bool {
        true
    }
}
