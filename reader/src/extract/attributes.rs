//! Owner, attributes, mode and times of what was made.

use super::error::ExtractError;
use super::shared::Shared;
use crate::inode::Inode;
use erofs_format::inode::FileType;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat, fchmod, fsetxattr,
    fstat, setxattr, utimensat,
};
use rustix::io::Errno;

const SETUID: u16 = 0o4000;
const SETGID: u16 = 0o2000;

/// What was made, held by a descriptor: nothing is looked up by name again.
#[derive(Clone, Copy)]
pub(super) enum Handle<'a> {
    /// A regular file or directory.
    Open(BorrowedFd<'a>),
    /// Anything else, opened with `O_PATH`. What has no call for such descriptors goes through `/proc/self/fd`.
    Path(BorrowedFd<'a>),
}

impl Handle<'_> {
    fn set_mode(self, mode: Mode) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fchmod(fd, mode),
            Self::Path(fd) => chmod(through_proc(fd), mode),
        }
    }

    fn set_xattr(self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Path(fd) => setxattr(through_proc(fd), name, value, XattrFlags::empty()),
        }
    }
}

impl AsFd for Handle<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Open(fd) | Self::Path(fd) => *fd,
        }
    }
}

fn through_proc(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Gives `handle` what `inode` says, in this order: a new owner clears set-id bits and capabilities, an ACL changes the
/// mode, and every one of these calls needs the rights that the final mode may take away.
pub(super) fn describe(
    shared: &Shared<'_>,
    handle: Handle<'_>,
    inode: &Inode,
) -> Result<(), ExtractError> {
    if shared.options.same_owner {
        set_owner(shared, handle, inode)?;
    }
    if shared.options.xattrs {
        for xattr in shared.image.xattrs(inode)? {
            if handle.set_xattr(&xattr.name, &xattr.value).is_err() {
                shared.skipped.xattrs.add();
            }
        }
    }
    if inode.file_type != FileType::Symlink {
        let mode = safe_mode(shared, handle, inode)?;
        handle
            .set_mode(Mode::from_raw_mode(mode.into()))
            .map_err(ExtractError::system("set the mode"))?;
    }
    let time = Timespec {
        tv_sec: inode.mtime.seconds,
        // Larger values mean something else to the kernel.
        tv_nsec: inode.mtime.nanoseconds.min(999_999_999).into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(handle, c"", &times, AtFlags::EMPTY_PATH)
        .map_err(ExtractError::system("set the time"))
}

fn set_owner(shared: &Shared<'_>, handle: Handle<'_>, inode: &Inode) -> Result<(), ExtractError> {
    // The largest number means "leave it" to the kernel.
    let known = |id: u32| (id != u32::MAX).then_some(id);
    let (uid, gid) = (known(inode.uid), known(inode.gid));
    let result = chownat(
        handle,
        c"",
        uid.map(Uid::from_raw),
        gid.map(Gid::from_raw),
        AtFlags::EMPTY_PATH,
    );
    match result {
        Ok(()) if uid.is_some() && gid.is_some() => {}
        // No right to, or an id that this user namespace does not have.
        Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => shared.skipped.owners.add(),
        Err(errno) => return Err(ExtractError::system("set the owner")(errno)),
    }
    Ok(())
}

/// The mode as asked for, without set-id bits that would speak for somebody else than the image meant.
fn safe_mode(shared: &Shared<'_>, handle: Handle<'_>, inode: &Inode) -> Result<u16, ExtractError> {
    let mode = inode.mode & 0o7777;
    if !shared.options.same_permissions {
        return Ok(mode & !(SETUID | SETGID | shared.umask));
    }
    if mode & (SETUID | SETGID) == 0 {
        return Ok(mode);
    }
    let status = fstat(handle).map_err(ExtractError::system("look at the owner"))?;
    let mut safe = mode;
    if status.st_uid != inode.uid {
        safe &= !SETUID;
    }
    if status.st_gid != inode.gid {
        safe &= !SETGID;
    }
    if safe != mode {
        shared.skipped.set_id_bits.add();
    }
    Ok(safe)
}
