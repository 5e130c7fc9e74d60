//! Makes everything but directories: complete under a temporary name first, then moved to its own.

use super::attributes::{Handle, describe};
use super::content::Copier;
use super::error::ExtractError;
use super::shared::Shared;
use crate::inode::Inode;
use erofs_format::inode::{FileType, InodePayload};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType as NodeType, Mode, OFlags, RenameFlags, ftruncate, linkat, makedev, mknodat,
    openat, renameat, renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// Where a file goes.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// An open directory of the target.
    pub(super) directory: &'a Arc<OwnedFd>,
    /// One component.
    pub(super) name: &'a [u8],
    /// Whether whatever stands there may be replaced; it is never written through.
    pub(super) replace: bool,
}

/// A regular file that has no name of its own yet.
pub(super) struct NewFile {
    temporary: Temporary,
    file: File,
}

impl NewFile {
    /// Makes an empty file that will be `size` bytes long.
    pub(super) fn make(directory: &Arc<OwnedFd>, size: u64) -> Result<Self, ExtractError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (temporary, file) = Temporary::make(directory, |name| {
            openat(directory, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
        })
        .map_err(ExtractError::system("make a file"))?;
        ftruncate(&file, size).map_err(ExtractError::system("set the size"))?;
        Ok(Self { temporary, file })
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file, of which `written` bytes are no holes, its attributes and its name.
    pub(super) fn complete(
        &self,
        shared: &Shared<'_>,
        inode: &Inode,
        place: Place<'_>,
        written: u64,
    ) -> Result<(), ExtractError> {
        describe(shared, Handle::Open(self.file.as_fd()), inode)?;
        self.temporary.move_to(place)?;
        shared.made.files.add();
        shared.made.bytes.add_many(inode.data_size());
        shared.made.bytes_written.add_many(written);
        Ok(())
    }
}

/// Makes anything but a directory. `false` for a device node that was left out, and counted, for want of rights.
pub(super) fn make(
    shared: &Shared<'_>,
    inode: &Inode,
    place: Place<'_>,
    copier: &mut Copier<'_>,
) -> Result<bool, ExtractError> {
    if inode.file_type != FileType::Regular {
        return make_special(shared, inode, place);
    }
    let size = inode.data_size();
    let file = NewFile::make(place.directory, size)?;
    let (written, _) = copier.copy(inode, 0..size, file.file())?;
    file.complete(shared, inode, place, written)?;
    Ok(true)
}

fn make_special(
    shared: &Shared<'_>,
    inode: &Inode,
    place: Place<'_>,
) -> Result<bool, ExtractError> {
    let directory = place.directory;
    let node = |node_type, number| {
        Temporary::make(directory, |name| {
            mknodat(directory, name, node_type, Mode::RUSR | Mode::WUSR, number)
        })
    };
    let number = match inode.payload {
        InodePayload::Device(number) => makedev(number.major, number.minor),
        _ => 0,
    };
    let made = match inode.file_type {
        FileType::Symlink => {
            let target = shared.image.read_link(inode)?;
            Temporary::make(directory, |name| symlinkat(&*target, directory, name))
        }
        FileType::CharDevice => node(NodeType::CharacterDevice, number),
        FileType::BlockDevice => node(NodeType::BlockDevice, number),
        FileType::Fifo => node(NodeType::Fifo, 0),
        FileType::Socket => node(NodeType::Socket, 0),
        // Made elsewhere.
        FileType::Regular | FileType::Directory => return Ok(true),
    };
    let temporary = match made {
        Ok((temporary, ())) => temporary,
        Err(Errno::PERM) if is_device(inode) => {
            shared.skipped.device_nodes.add();
            return Ok(false);
        }
        Err(errno) => return Err(ExtractError::system("make the file")(errno)),
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(directory, &*temporary.name, flags, Mode::empty())
        .map_err(ExtractError::system("open what was made"))?;
    describe(shared, Handle::Path(handle.as_fd()), inode)?;
    temporary.move_to(place)?;
    match inode.file_type {
        FileType::Symlink => shared.made.symlinks.add(),
        _ => shared.made.special_files.add(),
    }
    Ok(true)
}

pub(super) fn is_device(inode: &Inode) -> bool {
    matches!(
        inode.file_type,
        FileType::CharDevice | FileType::BlockDevice
    )
}

/// Makes one more name of `name` in `directory`, which was made before.
pub(super) fn make_link(
    directory: &Arc<OwnedFd>,
    name: &[u8],
    place: Place<'_>,
) -> Result<(), ExtractError> {
    let (temporary, ()) = Temporary::make(place.directory, |temporary| {
        linkat(
            directory,
            name,
            place.directory,
            temporary,
            AtFlags::empty(),
        )
    })
    .map_err(ExtractError::system("make a hard link"))?;
    temporary.move_to(place)
}

/// A file under a name that nobody knows, removed unless it gets its own.
struct Temporary {
    directory: Arc<OwnedFd>,
    name: String,
}

impl Temporary {
    /// Calls `make` with names until one is free.
    fn make<T>(
        directory: &Arc<OwnedFd>,
        make: impl Fn(&str) -> Result<T, Errno>,
    ) -> Result<(Self, T), Errno> {
        loop {
            // Not to be guessed by whoever made the image: each such state has keys of its own.
            let random = RandomState::new().hash_one(std::process::id());
            let name = format!(".erofs-extract-{random:016x}");
            match make(&name) {
                Ok(made) => {
                    let directory = Arc::clone(directory);
                    return Ok((Self { directory, name }, made));
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn move_to(&self, place: Place<'_>) -> Result<(), ExtractError> {
        let (from, to) = (&*self.name, place.name);
        let moved = if place.replace {
            renameat(&self.directory, from, place.directory, to)
        } else {
            let flags = RenameFlags::NOREPLACE;
            match renameat_with(&self.directory, from, place.directory, to, flags) {
                // A filesystem without this flag, NFS for example: a link never replaces.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    linkat(&self.directory, from, place.directory, to, AtFlags::empty())
                }
                moved => moved,
            }
        };
        moved.map_err(ExtractError::system("give the file its name"))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a move the name is gone already, unless both names were links to one file, or the move was a link.
        let _ = unlinkat(&self.directory, &*self.name, AtFlags::empty());
    }
}
