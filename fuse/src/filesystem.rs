//! The filesystem as the kernel asks for it.
//!
//! Stateless: every request names a node, which is an inode of the image. Nothing is remembered, so no lock is taken here
//! (those of the reader's caches are per shard and short), and nothing has to be given back: opening is left to the kernel.

use crate::node::{Nodes, attributes, kind, unknown_attributes};
use crate::options::ServeOptions;
use erofs_format::Nid;
use erofs_reader::{DirectoryEntry, Error, Image, Inode, Place};
use fuser::{
    Errno, FileAttr, FileHandle, Generation, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long the kernel may believe an answer: an image does not change.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// An answer that is to be asked for again.
const AT_ONCE: Duration = Duration::ZERO;
/// Inodes of an image are never used for another file.
const GENERATION: Generation = Generation(0);
/// Longest name of a file in bytes.
const MAX_NAME: usize = 255;
/// Most bytes read by one request; the kernel's own limit unless `fs.fuse.max_pages_limit` was raised.
const MAX_READ: u32 = 1 << 20;
/// Most requests of readahead on their way at a time.
const MAX_BACKGROUND: u16 = 64;

thread_local! {
    /// Each serving thread reads into the same buffer again and again; it grows to [`MAX_READ`] at most.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// An image behind the FUSE protocol.
#[derive(Debug)]
pub struct Filesystem {
    image: Arc<Image>,
    nodes: Nodes,
    acl: bool,
    user_xattr: bool,
}

impl Filesystem {
    /// Serves `image`; of the options those about attributes matter.
    pub fn new(image: Arc<Image>, options: &ServeOptions) -> Self {
        Self {
            nodes: Nodes::new(&image),
            image,
            acl: options.acl,
            user_xattr: options.user_xattr,
        }
    }

    fn inode(&self, node: INodeNo) -> Result<Inode, Error> {
        self.image.inode(self.nodes.nid(node))
    }

    fn attributes(&self, inode: &Inode, number: INodeNo) -> FileAttr {
        attributes(inode, number, self.image.superblock().block_bits)
    }

    fn find(&self, parent: INodeNo, name: &[u8]) -> Result<Option<Inode>, Error> {
        let parent = self.inode(parent)?;
        let nid = self.image.lookup(&parent, name)?;
        nid.map(|nid| self.image.inode(nid)).transpose()
    }

    /// Calls `add` with the entries from `offset` on until it returns `true` for a full buffer. An error counts only when
    /// nothing was added before it: the kernel comes back for the rest.
    fn list(
        &self,
        node: INodeNo,
        offset: u64,
        mut add: impl FnMut(&DirectoryEntry) -> bool,
    ) -> Result<(), Error> {
        let directory = self.inode(node)?;
        let mut empty = true;
        for entry in self.image.read_directory_from(&directory, offset)? {
            match entry {
                Err(error) if empty => return Err(error),
                Err(_) => break,
                Ok(entry) if add(&entry) => break,
                Ok(_) => empty = false,
            }
        }
        Ok(())
    }

    /// Number, attributes and how long they hold of an entry in a listing.
    fn listed(&self, entry: &DirectoryEntry) -> (FileAttr, Duration) {
        let number = INodeNo(self.nodes.number(entry.nid));
        if entry.is_dot_or_dot_dot() {
            // The kernel takes nothing but number and type of these.
            return (unknown_attributes(entry.file_type, number), AT_ONCE);
        }
        match self.image.inode(entry.nid) {
            Ok(inode) => {
                let lifetime = self.lifetime(entry.nid);
                (
                    self.attributes(&inode, self.nodes.node(entry.nid)),
                    lifetime,
                )
            }
            // Whoever looks closer gets the error.
            Err(_) => (
                unknown_attributes(entry.file_type, self.nodes.node(entry.nid)),
                AT_ONCE,
            ),
        }
    }

    /// Attributes that come with a node id show that id as the number, so they must not be kept where the two differ.
    fn lifetime(&self, nid: Nid) -> Duration {
        if self.nodes.is_displaced(nid) {
            AT_ONCE
        } else {
            FOREVER
        }
    }

    /// Whether a kernel mount with these options has a handler for the namespace of `name`.
    fn has_namespace(&self, name: &[u8]) -> bool {
        match name {
            b"system.posix_acl_access" | b"system.posix_acl_default" => self.acl,
            _ if name.starts_with(b"user.") => self.user_xattr,
            _ => name.starts_with(b"trusted.") || name.starts_with(b"security."),
        }
    }

    fn xattr(&self, node: INodeNo, name: &[u8]) -> Result<Vec<u8>, Errno> {
        if !self.has_namespace(name) {
            return Err(Errno::EOPNOTSUPP);
        }
        let inode = self.inode(node).map_err(|error| errno(&error))?;
        let value = self.image.xattr(&inode, name);
        value.map_err(|error| errno(&error))?.ok_or(Errno::NO_XATTR)
    }

    /// Names, each with a NUL behind it. `trusted.*` is for root only, as from the kernel; values are its own business.
    fn xattr_names(&self, node: INodeNo, root: bool) -> Result<Vec<u8>, Error> {
        let inode = self.inode(node)?;
        let mut names = Vec::new();
        for xattr in self.image.xattrs(&inode)? {
            if self.has_namespace(&xattr.name) && (root || !xattr.name.starts_with(b"trusted.")) {
                names.extend_from_slice(&xattr.name);
                names.push(0);
            }
        }
        Ok(names)
    }

    /// `SEEK_DATA` and `SEEK_HOLE` (lseek(2)).
    fn seek(&self, node: INodeNo, offset: i64, whence: i32) -> Result<i64, Errno> {
        let inode = self.inode(node).map_err(|error| errno(&error))?;
        let size = inode.data_size();
        let start = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        if start >= size {
            return Err(Errno::ENXIO);
        }
        let want_hole = match whence {
            libc::SEEK_DATA => false,
            libc::SEEK_HOLE => true,
            _ => return Err(Errno::EINVAL),
        };
        for extent in self.image.extents_from(&inode, start) {
            let extent = extent.map_err(|error| errno(&error))?;
            if (extent.place == Place::Hole) == want_hole {
                let found = extent.logical.max(start);
                return i64::try_from(found).map_err(|_| Errno::EOVERFLOW);
            }
        }
        // Behind the data of a file there is a hole, even without one before its end.
        if want_hole {
            i64::try_from(size).map_err(|_| Errno::EOVERFLOW)
        } else {
            Err(Errno::ENXIO)
        }
    }
}

/// Answers with the size, the bytes, or that they do not fit (getxattr(2)).
fn reply_xattr(reply: ReplyXattr, bytes: Result<Vec<u8>, Errno>, room: u32) {
    match bytes {
        Err(errno) => reply.error(errno),
        Ok(bytes) => match u32::try_from(bytes.len()) {
            Ok(size) if room == 0 => reply.size(size),
            Ok(size) if size <= room => reply.data(&bytes),
            _ => reply.error(Errno::ERANGE),
        },
    }
}

/// EUCLEAN is what the kernel's driver returns for a corrupt image (EFSCORRUPTED, fs/erofs/internal.h).
fn errno(error: &Error) -> Errno {
    match error {
        Error::Io { source, .. } => match source.raw_os_error() {
            Some(code) if code > 0 => Errno::from_i32(code),
            _ => Errno::EIO,
        },
        Error::Corrupt { .. } => Errno::from_i32(libc::EUCLEAN),
        Error::Unsupported { .. } => Errno::EOPNOTSUPP,
        Error::NotFound { .. } => Errno::ENOENT,
        Error::NotADirectory(_) => Errno::ENOTDIR,
        Error::NotASymlink(_) => Errno::EINVAL,
        Error::SymlinkLoop { .. } => Errno::ELOOP,
    }
}

impl fuser::Filesystem for Filesystem {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_EXPORT_SUPPORT
            | InitFlags::FUSE_ASYNC_DIO;
        if self.acl {
            wanted |= InitFlags::FUSE_POSIX_ACL;
        }
        let refused = |value: u32| io::Error::other(format!("FUSE takes at most {value}"));
        config
            .add_capabilities(wanted & config.capabilities())
            .map_err(|flags| io::Error::other(format!("FUSE lacks {flags:?}")))?;
        // Requests are as large as this allows, for reading too.
        config.set_max_write(MAX_READ).map_err(refused)?;
        config
            .set_max_background(MAX_BACKGROUND)
            .map_err(|value| refused(value.into()))?;
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name.len() > MAX_NAME {
            return reply.error(Errno::ENAMETOOLONG);
        }
        match self.find(parent, name.as_bytes()) {
            Ok(Some(inode)) => {
                let attributes = self.attributes(&inode, self.nodes.node(inode.nid()));
                reply.entry_with_ttls(
                    &self.lifetime(inode.nid()),
                    &FOREVER,
                    &attributes,
                    GENERATION,
                );
            }
            // Node 0: the kernel remembers that there is no such name.
            Ok(None) => reply.entry(&FOREVER, &unknown_attributes(None, INodeNo(0)), GENERATION),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.inode(node) {
            Ok(inode) => {
                let number = INodeNo(self.nodes.number(inode.nid()));
                reply.attr(&FOREVER, &self.attributes(&inode, number));
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readlink(&self, _request: &Request, node: INodeNo, reply: ReplyData) {
        match self
            .inode(node)
            .and_then(|inode| self.image.read_link(&inode))
        {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(&error)),
        }
    }

    /// Tells the kernel to open files itself from now on, which also keeps their pages cached.
    fn open(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    /// The same for directories, whose listings then stay cached.
    fn opendir(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            let room = buffer.get_mut(..length).unwrap_or_default();
            let read = self
                .inode(node)
                .and_then(|inode| self.image.read(&inode, offset, room));
            match read {
                Ok(count) => reply.data(room.get(..count).unwrap_or_default()),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn readdir(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.list(node, offset, |entry| {
            let file_type = entry
                .file_type
                .or_else(|| Some(self.image.inode(entry.nid).ok()?.file_type));
            let kind = file_type.map_or(fuser::FileType::RegularFile, kind);
            let number = INodeNo(self.nodes.number(entry.nid));
            reply.add(number, entry.next, kind, OsStr::from_bytes(&entry.name))
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    /// The protocol has a field of its own for `d_ino`, but fuser fills it with the node id: that of a displaced node differs
    /// from its `st_ino` here.
    fn readdirplus(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listed = self.list(node, offset, |entry| {
            let (attributes, lifetime) = self.listed(entry);
            reply.add(
                attributes.ino,
                entry.next,
                OsStr::from_bytes(&entry.name),
                &lifetime,
                &attributes,
                GENERATION,
            )
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    /// As `erofs_statfs` (fs/erofs/super.c).
    fn statfs(&self, _request: &Request, _node: INodeNo, reply: ReplyStatfs) {
        let superblock = self.image.superblock();
        let slots = self.image.device_slots().iter();
        let blocks = slots.fold(superblock.blocks, |sum, slot| {
            sum.saturating_add(slot.blocks)
        });
        let block_size = u32::try_from(superblock.block_bits.bytes()).unwrap_or(4096);
        let free_files = u64::MAX.saturating_sub(superblock.inodes);
        let longest = MAX_NAME as u32;
        reply.statfs(
            blocks,
            0,
            0,
            u64::MAX,
            free_files,
            block_size,
            longest,
            block_size,
        );
    }

    fn getxattr(
        &self,
        _request: &Request,
        node: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        reply_xattr(reply, self.xattr(node, name.as_bytes()), size);
    }

    fn listxattr(&self, request: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.xattr_names(node, request.uid() == 0);
        reply_xattr(reply, names.map_err(|error| errno(&error)), size);
    }

    fn lseek(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self.seek(node, offset, whence) {
            Ok(found) => reply.offset(found),
            Err(errno) => reply.error(errno),
        }
    }

    // What follows is refused by the kernel already, until somebody remounts without `ro`.

    fn setattr(
        &self,
        _request: &Request,
        _node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<fuser::TimeOrNow>,
        _mtime: Option<fuser::TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        _flags: fuser::RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn link(
        &self,
        _request: &Request,
        _node: INodeNo,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EROFS);
    }

    fn create(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        _data: &[u8],
        _write_flags: fuser::WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    fn setxattr(
        &self,
        _request: &Request,
        _node: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _request: &Request, _node: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn fallocate(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }
}
