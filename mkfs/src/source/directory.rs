//! A directory of this machine as source.

use super::{Rules, StoreError};
use crate::data::output::FileIdentity;
use crate::data::pipeline::{ContentReader, FileContent};
use crate::tree::{Body, DataRange, InodeId, Location, Metadata, Tree, TreeError, Xattr, display};
use erofs_format::device::DeviceNumber;
use erofs_format::inode::{FileType, Timestamp};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, Statx, StatxFlags, StatxTimestamp,
};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Why a directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A system call failed.
    #[error("{}: {operation}: {source}", display(path))]
    System {
        /// The entry, relative to the source.
        path: Vec<u8>,
        /// What was tried.
        operation: &'static str,
        /// What happened.
        source: io::Error,
    },
    /// An entry of a type that Linux does not have.
    #[error("{}: unknown file type in mode {mode:#o}", display(path))]
    FileType {
        /// The entry.
        path: Vec<u8>,
        /// Its mode.
        mode: u16,
    },
    /// An entry that the tree refuses.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The data of a file could not be taken.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes regular files as a scan comes by, so that their data is on its way while the tree is still being read.
pub trait FileSink {
    /// Takes a file of `size` bytes, more than none, with data in `ranges` only (everywhere without ranges), of which anything
    /// was `changed` last then.
    ///
    /// # Errors
    /// [`StoreError`].
    fn file(
        &mut self,
        path: &[u8],
        metadata: &Metadata,
        size: u64,
        ranges: Option<Vec<DataRange>>,
        changed: Timestamp,
    ) -> Result<Location, StoreError>;
}

/// Leaves the data where it is: files get [`Location::Directory`], and nobody looks for holes.
#[derive(Debug)]
pub struct InPlace;

impl FileSink for InPlace {
    fn file(
        &mut self,
        _path: &[u8],
        _metadata: &Metadata,
        _size: u64,
        _ranges: Option<Vec<DataRange>>,
        _changed: Timestamp,
    ) -> Result<Location, StoreError> {
        Ok(Location::Directory)
    }
}

/// What a scan takes along.
#[derive(Debug, Clone, Copy)]
pub struct ScanOptions<'r> {
    /// Changes on the way.
    pub rules: &'r Rules,
    /// Whether holes of files are looked for.
    pub find_holes: bool,
    /// Entries of other filesystems are left out (their mount points stay, empty).
    pub one_file_system: bool,
    /// Entries that vanish after their directory was listed are left out; otherwise they are errors.
    pub ignore_vanished: bool,
    /// Files that are left out wherever they are: an image does not hold itself.
    pub left_out: &'r [FileIdentity],
}

/// Opens the directory at `path`.
///
/// # Errors
/// [`DirectoryError::System`].
pub fn open(path: &Path) -> Result<OwnedFd, DirectoryError> {
    rustix::fs::openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| system(path.as_os_str().as_bytes(), "open the directory", errno))
}

/// Metadata of the directory itself, for the root of a tree.
///
/// # Errors
/// [`DirectoryError::System`].
pub fn root_metadata(root: BorrowedFd<'_>, rules: &Rules) -> Result<Metadata, DirectoryError> {
    let stat = rustix::fs::statx(root, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .map_err(|errno| system(b"", "read the metadata", errno))?;
    let mut metadata = metadata(&stat);
    metadata.xattrs = xattrs(root, c".", b"")?;
    rules.apply(b"", FileType::Directory, &mut metadata);
    Ok(metadata)
}

/// Adds everything below `root` to `tree`, files directory by directory in byte order of their names. Regular files get
/// the location that `sink` returns. Returns the paths of entries that vanished.
///
/// # Errors
/// [`DirectoryError`] names the entry.
pub fn scan(
    root: BorrowedFd<'_>,
    options: ScanOptions<'_>,
    tree: &mut Tree,
    sink: &mut dyn FileSink,
) -> Result<Vec<Vec<u8>>, DirectoryError> {
    Scanner {
        root,
        options,
        sink,
        links: HashMap::new(),
        vanished: Vec::new(),
    }
    .walk(tree)
}

struct Scanner<'a> {
    root: BorrowedFd<'a>,
    options: ScanOptions<'a>,
    sink: &'a mut dyn FileSink,
    /// Inodes with several links that were seen.
    links: HashMap<FileIdentity, InodeId>,
    /// Paths of entries that were listed and are there no more.
    vanished: Vec<Vec<u8>>,
}

impl Scanner<'_> {
    fn walk(mut self, tree: &mut Tree) -> Result<Vec<Vec<u8>>, DirectoryError> {
        let root_stat =
            rustix::fs::statx(self.root, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
                .map_err(|errno| system(b"", "read the metadata", errno))?;
        let root_device = device(&root_stat);
        let mut stack = vec![(Vec::new(), InodeId::ROOT)];
        while let Some((path, inode)) = stack.pop() {
            let opened = open_below(self.root, &path, OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(|errno| system(&path, "open the directory", errno));
            let Some(directory) = self.unless_vanished(&path, opened)? else {
                continue;
            };
            let listed =
                list(directory.as_fd()).map_err(|errno| system(&path, "list the directory", errno));
            let Some(mut names) = self.unless_vanished(&path, listed)? else {
                continue;
            };
            // Not the order of the filesystem: the same tree gives the same image anywhere.
            names.sort_unstable();
            let first_directory = stack.len();
            for name in names {
                let mut child_path = path.clone();
                if !child_path.is_empty() {
                    child_path.push(b'/');
                }
                child_path.extend_from_slice(name.as_bytes());
                if self.options.rules.excludes_any() {
                    let parts: Vec<_> = child_path.split(|byte| *byte == b'/').collect();
                    if self.options.rules.excludes(&parts) {
                        continue;
                    }
                }
                let entry = self.entry(tree, directory.as_fd(), inode, &name, &child_path);
                let entry = self.unless_vanished(&child_path, entry)?;
                let Some((child, stat)) = entry.flatten() else {
                    continue;
                };
                let is_directory = tree.inode(child).body.file_type() == FileType::Directory;
                if is_directory && !(self.options.one_file_system && device(&stat) != root_device) {
                    stack.push((child_path, child));
                }
            }
            stack[first_directory..].reverse();
        }
        Ok(self.vanished)
    }

    /// The result, or `None` when the entry is there no more and that is to be ignored. A directory that was there stays,
    /// empty.
    fn unless_vanished<T>(
        &mut self,
        path: &[u8],
        result: Result<T, DirectoryError>,
    ) -> Result<Option<T>, DirectoryError> {
        match result {
            Err(DirectoryError::System { source, .. })
                if self.options.ignore_vanished && source.kind() == io::ErrorKind::NotFound =>
            {
                self.vanished.push(path.to_vec());
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    fn entry(
        &mut self,
        tree: &mut Tree,
        directory: BorrowedFd<'_>,
        parent: InodeId,
        name: &CStr,
        path: &[u8],
    ) -> Result<Option<(InodeId, Statx)>, DirectoryError> {
        let stat = rustix::fs::statx(
            directory,
            name,
            AtFlags::SYMLINK_NOFOLLOW,
            StatxFlags::BASIC_STATS,
        )
        .map_err(|errno| system(path, "read the metadata", errno))?;
        let mode = stat.stx_mode;
        let file_type = FileType::from_mode(mode).ok_or_else(|| DirectoryError::FileType {
            path: path.to_vec(),
            mode,
        })?;
        let identity = FileIdentity {
            device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
        };
        if self.options.left_out.contains(&identity) {
            return Ok(None);
        }
        let linked = stat.stx_nlink > 1
            && file_type != FileType::Directory
            && !self.options.rules.separate_links;
        if let Some(inode) = linked.then(|| self.links.get(&identity)).flatten() {
            tree.link_child(parent, name.to_bytes(), *inode)?;
            return Ok(Some((*inode, stat)));
        }
        let mut metadata = metadata(&stat);
        if !self.options.rules.drop_xattrs {
            metadata.xattrs = xattrs(directory, name, path)?;
        }
        self.options.rules.apply(path, file_type, &mut metadata);
        let number = DeviceNumber {
            major: stat.stx_rdev_major,
            minor: stat.stx_rdev_minor,
        };
        let body = match file_type {
            FileType::Directory => Body::Directory,
            FileType::Fifo => Body::Fifo,
            FileType::Socket => Body::Socket,
            FileType::CharDevice => Body::CharDevice(number),
            FileType::BlockDevice => Body::BlockDevice(number),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new())
                    .map_err(|errno| system(path, "read the link", errno))?;
                Body::Symlink(tree.intern(target.to_bytes())?)
            }
            FileType::Regular => Body::Regular {
                size: stat.stx_size,
                location: self.location(directory, name, path, &stat, &metadata)?,
            },
        };
        let inode = tree.insert_child(parent, name.to_bytes(), path, metadata, body)?;
        if linked {
            self.links.insert(identity, inode);
        }
        Ok(Some((inode, stat)))
    }

    fn location(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        stat: &Statx,
        metadata: &Metadata,
    ) -> Result<Location, DirectoryError> {
        let size = stat.stx_size;
        if size == 0 {
            return Ok(Location::Nowhere);
        }
        // Fewer blocks than bytes: a hole, or a filesystem that compresses. Only then is it worth a look.
        let ranges = if self.options.find_holes && stat.stx_blocks.saturating_mul(512) < size {
            let ranges = data_ranges(directory, name, size)
                .map_err(|errno| system(path, "look for holes", errno))?;
            let whole = matches!(*ranges, [all] if all.offset == 0 && all.length == size);
            (!whole).then_some(ranges)
        } else {
            None
        };
        let changed = timestamp(stat.stx_ctime);
        Ok(self.sink.file(path, metadata, size, ranges, changed)?)
    }
}

/// Attributes of the entry `name` of a directory that EROFS can hold, in the order of the filesystem. `path` is for errors.
///
/// # Errors
/// [`DirectoryError::System`].
pub fn xattrs(
    directory: BorrowedFd<'_>,
    name: &CStr,
    path: &[u8],
) -> Result<Vec<Xattr>, DirectoryError> {
    use std::os::fd::AsRawFd;
    // There is no listxattrat before Linux 6.13: the way leads through /proc, and never follows a link at its end.
    let mut full = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    full.extend_from_slice(name.to_bytes());
    let mut names = vec![0u8; 1024];
    let length = loop {
        match rustix::fs::llistxattr(full.as_slice(), names.as_mut_slice()) {
            Ok(length) => break length,
            Err(Errno::RANGE) => names.resize(names.len() * 4, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(system(path, "list the extended attributes", errno)),
        }
    };
    let mut xattrs = Vec::new();
    for attribute in names[..length]
        .split(|byte| *byte == 0)
        .filter(|attribute| !attribute.is_empty())
    {
        if erofs_format::xattr::Prefix::split(attribute).is_none() {
            // Made up by the filesystem (system.*, btrfs.*, …): nothing that was stored with the file.
            continue;
        }
        let mut value = vec![0u8; 256];
        let size = loop {
            match rustix::fs::lgetxattr(full.as_slice(), attribute, value.as_mut_slice()) {
                Ok(size) => break Some(size),
                Err(Errno::RANGE) => value.resize(value.len() * 16, 0),
                Err(Errno::NODATA) => break None,
                Err(errno) => return Err(system(path, "read an extended attribute", errno)),
            }
        };
        if let Some(size) = size {
            value.truncate(size);
            xattrs.push(Xattr {
                name: attribute.into(),
                value: value.into(),
            });
        }
    }
    Ok(xattrs)
}

/// Reads files of a source directory.
#[derive(Debug)]
pub struct DirectoryReader {
    /// The directory.
    pub root: OwnedFd,
    /// Files that changed size are taken as they are: cut, or filled up with zeros.
    pub ignore_changed: bool,
    /// Files that were not there any more when they were to be read; their data is taken for zeros.
    vanished: Mutex<BTreeSet<Vec<u8>>>,
}

impl DirectoryReader {
    /// Reads files below `root`; those that change or vanish are errors unless that is to be ignored.
    pub fn new(root: OwnedFd, ignore_changed: bool) -> Self {
        Self {
            root,
            ignore_changed,
            vanished: Mutex::default(),
        }
    }

    /// Paths of files that were not there any more when they were to be read, in byte order.
    pub fn take_vanished(&self) -> BTreeSet<Vec<u8>> {
        std::mem::take(&mut *self.vanished.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        open_below(self.root.as_fd(), path, OFlags::RDONLY | OFlags::NOATIME).or_else(|errno| {
            match errno {
                // NOATIME is for the owner only.
                Errno::PERM => open_below(self.root.as_fd(), path, OFlags::RDONLY),
                other => Err(other),
            }
        })
    }
}

impl ContentReader for DirectoryReader {
    fn read(
        &self,
        file: &FileContent,
        offset: u64,
        length: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let failed = |source: io::Error| StoreError::Read {
            path: file.path.to_vec(),
            source,
        };
        let opened = match self.open(&file.path) {
            Err(Errno::NOENT) if self.ignore_changed => {
                let mut vanished = self.vanished.lock().unwrap_or_else(PoisonError::into_inner);
                vanished.insert(file.path.to_vec());
                out.resize(out.len() + length as usize, 0);
                return Ok(());
            }
            opened => opened.map_err(|errno| failed(errno.into()))?,
        };
        let read = read_at(opened.as_fd(), offset, length, out).map_err(failed)?;
        // What is changed from now on changes nothing of what was read.
        let wanted = StatxFlags::SIZE | StatxFlags::CTIME;
        let stat = rustix::fs::statx(&opened, c"", AtFlags::EMPTY_PATH, wanted)
            .map_err(|errno| failed(errno.into()))?;
        if stat.stx_size != file.size && !self.ignore_changed {
            return Err(StoreError::Changed {
                path: file.path.to_vec(),
                expected: file.size,
                found: stat.stx_size,
            });
        }
        if read < length {
            if !self.ignore_changed {
                return Err(StoreError::Short {
                    path: file.path.to_vec(),
                    expected: file.size,
                    found: offset + read,
                });
            }
            out.resize(out.len() + (length - read) as usize, 0);
        }
        let is_changed = file
            .changed
            .is_some_and(|time| time != timestamp(stat.stx_ctime));
        if is_changed && !self.ignore_changed {
            return Err(StoreError::Touched(file.path.to_vec()));
        }
        Ok(())
    }
}

/// Appends up to `length` bytes from `offset` on; fewer only at the end of the file.
pub(crate) fn read_at(
    file: BorrowedFd<'_>,
    offset: u64,
    length: u64,
    out: &mut Vec<u8>,
) -> io::Result<u64> {
    let capacity =
        usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let start = out.len();
    out.reserve(capacity);
    while out.len() - start < capacity {
        let wanted = capacity - (out.len() - start);
        let at = offset + (out.len() - start) as u64;
        let before = out.len();
        // The spare capacity may be larger than what is wanted.
        let mut limited = std::mem::take(out);
        let result = rustix::io::pread(file, rustix::buffer::spare_capacity(&mut limited), at);
        *out = limited;
        out.truncate(before + wanted);
        match result {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok((out.len() - start) as u64)
}

/// Opens an entry below `root` (itself for an empty path) without leaving it and without following links. A path too long
/// for one system call is followed in pieces.
///
/// # Errors
/// As openat2(2).
pub fn open_below(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    const LONGEST: usize = 4000;
    let mut rest = if path.is_empty() { &b"."[..] } else { path };
    let mut reached: Option<OwnedFd> = None;
    while rest.len() > LONGEST {
        // Names have at most 255 bytes, so there is a slash.
        let cut = rest[..LONGEST]
            .iter()
            .rposition(|byte| *byte == b'/')
            .ok_or(Errno::NAMETOOLONG)?;
        let from = reached.as_ref().map_or(root, AsFd::as_fd);
        reached = Some(open_piece(
            from,
            &rest[..cut],
            OFlags::PATH | OFlags::DIRECTORY,
        )?);
        rest = &rest[cut + 1..];
    }
    open_piece(
        reached.as_ref().map_or(root, AsFd::as_fd),
        rest,
        flags | OFlags::NONBLOCK | OFlags::NOCTTY,
    )
}

fn open_piece(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        // Linux before 5.6, or a sandbox that does not know it.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(root, path, flags, Mode::empty()),
        result => result,
    }
}

/// Names of a directory's entries but `.` and `..`, in the order of the filesystem.
///
/// # Errors
/// As getdents64(2).
pub fn list(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<CString>> {
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut names = Vec::new();
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Stretches of a file that hold data, as the filesystem tells them.
fn data_ranges(
    directory: BorrowedFd<'_>,
    name: &CStr,
    size: u64,
) -> rustix::io::Result<Vec<DataRange>> {
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    let mut ranges = Vec::new();
    let mut position = 0;
    while position < size {
        let start = match rustix::fs::seek(&file, SeekFrom::Data(position)) {
            Ok(start) => start,
            // No data behind this place.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => {
                return Ok(vec![DataRange {
                    offset: 0,
                    length: size,
                }]);
            }
            Err(errno) => return Err(errno),
        };
        let end = rustix::fs::seek(&file, SeekFrom::Hole(start))?.min(size);
        if start >= size || end <= start {
            break;
        }
        ranges.push(DataRange {
            offset: start,
            length: end - start,
        });
        position = end;
    }
    Ok(ranges)
}

fn metadata(stat: &Statx) -> Metadata {
    Metadata {
        permissions: stat.stx_mode & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: timestamp(stat.stx_mtime),
        xattrs: Vec::new(),
    }
}

const fn timestamp(time: StatxTimestamp) -> Timestamp {
    Timestamp {
        seconds: time.tv_sec,
        nanoseconds: time.tv_nsec,
    }
}

fn device(stat: &Statx) -> u64 {
    u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor)
}

fn system(path: &[u8], operation: &'static str, errno: Errno) -> DirectoryError {
    DirectoryError::System {
        path: path.to_vec(),
        operation,
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests;
