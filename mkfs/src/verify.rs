//! Reads a finished image back, before it gets its name, and compares it with what went in: names, inodes, attributes and
//! links with the tree, contents with the digests that were taken when they were read, and everything with the format's
//! rules.

use crate::data::digests::{Digests, PieceDigest};
use crate::tree::{Body, FrozenTree, InodeId, Location, display};
use erofs_format::Nid;
use erofs_reader::check::{CheckError, CheckOptions, Finding, Severity, check};
use erofs_reader::{
    ByteSource, DiskPosition, Error, Image, ImageOptions, Inode, OpenError, Place, Xattr,
};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes that are looked at at once where zeros are expected.
const ZEROS: u64 = 1 << 20;

/// A part of a file that is being written: an image, or its device.
#[derive(Debug)]
pub(crate) struct Unpublished {
    pub(crate) file: File,
    /// First byte in the file.
    pub(crate) start: u64,
    /// Length in bytes.
    pub(crate) length: u64,
}

impl ByteSource for Unpublished {
    fn read_at(&self, offset: erofs_format::ByteOffset, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(offset.0);
        let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let position = self.start.saturating_add(offset.0);
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        self.file.read_at(buffer, position)
    }

    fn size(&self) -> u64 {
        self.length
    }
}

/// In what an image differs from what went into it.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It breaks a rule of the format.
    #[error("{}: {finding} ({})", name(finding), finding.rule.id())]
    Rule {
        /// The first breach.
        finding: Box<Finding>,
    },
    /// The rules could not be held against it.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Not everything could be checked.
    #[error("not all of it can be checked")]
    Incomplete,
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Something cannot be read.
    #[error("/{}: {source}", display(path))]
    Read {
        /// The file.
        path: Vec<u8>,
        /// What is wrong with it.
        source: Error,
    },
    /// A directory has other names, or they lead to other inodes.
    #[error("/{}: entry {number} is not \"{}\"", display(path), display(expected))]
    Name {
        /// The directory.
        path: Vec<u8>,
        /// Position of the entry, without `.` and `..`.
        number: usize,
        /// The name that should be there, empty at the end.
        expected: Vec<u8>,
    },
    /// An inode has another type, owner, time, size or other attributes.
    #[error("/{}: inode {nid}: {what} is not what the source has", display(path))]
    Inode {
        /// The file.
        path: Vec<u8>,
        /// Its number.
        nid: Nid,
        /// What differs.
        what: &'static str,
    },
    /// Other bytes than were read from the source.
    #[error(
        "/{}: bytes {offset} to {} are not those of the source",
        display(path),
        offset + length
    )]
    Content {
        /// The file.
        path: Vec<u8>,
        /// First byte of the stretch that differs somewhere.
        offset: u64,
        /// Its length in bytes.
        length: u64,
    },
}

fn name(finding: &Finding) -> String {
    match &finding.path {
        Some(path) => format!("/{}", display(path)),
        None => "the image".to_owned(),
    }
}

/// What went into an image.
pub(crate) struct Expected<'a> {
    pub(crate) tree: &'a FrozenTree,
    pub(crate) digests: &'a Digests,
    /// Files that were read; those with higher numbers stayed where they were, and nobody knows their content.
    pub(crate) files_read: usize,
    /// Whether inodes have an attribute more: their fingerprint.
    pub(crate) has_fingerprints: bool,
    /// Threads.
    pub(crate) workers: usize,
    /// Memory for lists of the check, in bytes; what is more goes to a file in `folder`.
    pub(crate) memory: usize,
    pub(crate) folder: PathBuf,
}

impl Expected<'_> {
    /// Compares an image and its devices, by slot.
    ///
    /// # Errors
    /// [`VerifyError`]: the first difference.
    pub(crate) fn compare(
        &self,
        image: &Arc<dyn ByteSource>,
        devices: &[Arc<dyn ByteSource>],
    ) -> Result<(), VerifyError> {
        let options = CheckOptions {
            workers: NonZeroUsize::new(self.workers).unwrap_or(NonZeroUsize::MIN),
            max_memory: Some(self.memory),
            temporary_folder: self.folder.clone(),
            findings_per_rule: 1,
            ..CheckOptions::default()
        };
        let report = check(image, devices, &options, &AtomicU64::new(0))?;
        let broken = report
            .findings
            .into_iter()
            .find(|finding| finding.rule.severity() != Severity::Unusual);
        if let Some(finding) = broken {
            return Err(VerifyError::Rule {
                finding: Box::new(finding),
            });
        }
        if !report.complete {
            return Err(VerifyError::Incomplete);
        }
        let options = ImageOptions {
            devices: devices
                .iter()
                .map(|device| Box::new(Arc::clone(device)) as _)
                .collect(),
            ..ImageOptions::default()
        };
        let image = Image::open(Arc::clone(image), options)?;
        let mut files = Vec::new();
        // Numbers of inodes as names lead to them, parents before children.
        let mut nids = vec![None; self.tree.inode_table_len()];
        let root = image
            .root()
            .map_err(|error| self.at(InodeId::ROOT, error))?;
        nids[InodeId::ROOT.index()] = Some(root.nid());
        for id in self.tree.breadth_first() {
            let Some(nid) = nids[id.index()] else {
                continue;
            };
            let inode = self.inode(&image, id, nid)?;
            match self.tree.inode(id).body {
                Body::Directory => self.names(&image, id, &inode, &mut nids)?,
                Body::Symlink(target) => {
                    let read = image
                        .read_link(&inode)
                        .map_err(|error| self.at(id, error))?;
                    if read != self.tree.target(target) {
                        return Err(self.differs(id, &inode, "the target"));
                    }
                }
                Body::Regular { size, .. } if size > 0 => {
                    files.push((DiskPosition::of(&image, &inode), id, nid));
                }
                _ => {}
            }
        }
        // As they are stored, so that what is decoded together is read together.
        files.sort_unstable_by_key(|(position, id, _)| (*position, id.index()));
        self.contents(&image, &files)
    }

    fn at(&self, id: InodeId, source: Error) -> VerifyError {
        VerifyError::Read {
            path: self.tree.path(id),
            source,
        }
    }

    fn differs(&self, id: InodeId, inode: &Inode, what: &'static str) -> VerifyError {
        VerifyError::Inode {
            path: self.tree.path(id),
            nid: inode.nid(),
            what,
        }
    }

    /// Reads the inode of a tree's node and compares it.
    fn inode(&self, image: &Image, id: InodeId, nid: Nid) -> Result<Inode, VerifyError> {
        let node = self.tree.inode(id);
        let inode = image.inode(nid).map_err(|error| self.at(id, error))?;
        let size = match node.body {
            Body::Regular { size, .. } => size,
            _ => inode.size,
        };
        let device = match node.body {
            Body::CharDevice(number) | Body::BlockDevice(number) => {
                Some(erofs_format::inode::InodePayload::Device(number))
            }
            _ => None,
        };
        for (same, what) in [
            (inode.file_type == node.body.file_type(), "the type"),
            (inode.mode == node.mode(), "the mode"),
            ((inode.uid, inode.gid) == (node.uid, node.gid), "the owner"),
            (inode.nlink == node.nlink, "the number of links"),
            (inode.mtime == node.mtime, "the time"),
            (inode.size == size, "the size"),
            (
                device.is_none_or(|device| inode.payload == device),
                "the device number",
            ),
        ] {
            if !same {
                return Err(self.differs(id, &inode, what));
            }
        }
        let attributes = self.tree.xattrs.get(node.xattrs);
        let mut expected: Vec<_> = attributes
            .iter()
            .map(|attribute| (&*attribute.name, &*attribute.value))
            .collect();
        let shown = image.xattrs(&inode).map_err(|error| self.at(id, error))?;
        let mut shown: Vec<_> = shown
            .iter()
            .map(|Xattr { name, value }| (&**name, &**value))
            .collect();
        if self.has_fingerprints {
            shown.retain(|attribute| expected.contains(attribute));
        }
        expected.sort_unstable();
        shown.sort_unstable();
        if expected != shown {
            return Err(self.differs(id, &inode, "the extended attributes"));
        }
        Ok(inode)
    }

    /// Compares the names of a directory, and where they lead.
    fn names(
        &self,
        image: &Image,
        id: InodeId,
        inode: &Inode,
        nids: &mut [Option<Nid>],
    ) -> Result<(), VerifyError> {
        let entries = image
            .read_directory(inode)
            .map_err(|error| self.at(id, error))?;
        let mut expected = self.tree.children(id).enumerate();
        let differs = |number, name: &[u8]| VerifyError::Name {
            path: self.tree.path(id),
            number,
            expected: name.to_vec(),
        };
        for entry in entries {
            let entry = entry.map_err(|error| self.at(id, error))?;
            if entry.is_dot_or_dot_dot() {
                continue;
            }
            let Some((number, child)) = expected.next() else {
                return Err(differs(self.tree.children(id).len(), b""));
            };
            let nid = nids[child.inode.index()].get_or_insert(entry.nid);
            if entry.name != child.name || entry.nid != *nid {
                return Err(differs(number, child.name));
            }
        }
        match expected.next() {
            Some((number, child)) => Err(differs(number, child.name)),
            None => Ok(()),
        }
    }

    /// Reads all files. Of several that differ the first in stored order is told.
    fn contents(
        &self,
        image: &Image,
        files: &[(DiskPosition, InodeId, Nid)],
    ) -> Result<(), VerifyError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut buffer = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((_, id, nid)) = files.get(number) else {
                    return Ok(());
                };
                self.content(image, *id, *nid, &mut buffer)
                    .map_err(|error| {
                        next.store(files.len(), Ordering::Relaxed);
                        (number, error)
                    })?;
            }
        };
        let others = self.workers.min(files.len()).saturating_sub(1);
        let results: Vec<Result<(), (usize, VerifyError)>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..others).map(|_| scope.spawn(work)).collect();
            let own = work();
            let others = threads.into_iter().map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            [own].into_iter().chain(others).collect()
        });
        let first = results
            .into_iter()
            .filter_map(Result::err)
            .min_by_key(|(number, _)| *number);
        first.map_or(Ok(()), |(_, error)| Err(error))
    }

    fn content(
        &self,
        image: &Image,
        id: InodeId,
        nid: Nid,
        buffer: &mut Vec<u8>,
    ) -> Result<(), VerifyError> {
        let Body::Regular { size, location } = self.tree.inode(id).body else {
            return Ok(());
        };
        let inode = image.inode(nid).map_err(|error| self.at(id, error))?;
        let pieces: &[PieceDigest] = match location {
            Location::Stored(number) if number as usize >= self.files_read => return Ok(()),
            Location::Layer(_) => return Ok(()),
            Location::Stored(number) => self.digests.of_file(number),
            _ => &[],
        };
        let mut content = Content {
            image,
            inode: &inode,
            path: || self.tree.path(id),
            buffer,
        };
        let mut position = 0;
        for piece in pieces {
            let range = piece.range;
            content.zeros(position..range.offset)?;
            position = range.offset + range.length;
            content.read(range.offset..position)?;
            if !piece.is_of(content.buffer) {
                return Err(VerifyError::Content {
                    path: self.tree.path(id),
                    offset: range.offset,
                    length: range.length,
                });
            }
        }
        content.zeros(position..size)
    }
}

/// The content of a file in the image, as it is read.
struct Content<'a, P> {
    image: &'a Image,
    inode: &'a Inode,
    /// Makes the file's path, for messages.
    path: P,
    /// What was read last.
    buffer: &'a mut Vec<u8>,
}

impl<P: Fn() -> Vec<u8>> Content<'_, P> {
    fn at(&self, source: Error) -> VerifyError {
        VerifyError::Read {
            path: (self.path)(),
            source,
        }
    }

    /// Reads a stretch into the buffer.
    fn read(&mut self, range: Range<u64>) -> Result<(), VerifyError> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        self.buffer.resize(length, 0);
        let read = self
            .image
            .read(self.inode, range.start, self.buffer)
            .map_err(|error| self.at(error))?;
        self.buffer.truncate(read);
        Ok(())
    }

    /// Sees whether a stretch of which the source has nothing is a hole or zeros.
    fn zeros(&mut self, range: Range<u64>) -> Result<(), VerifyError> {
        let mut position = range.start;
        while position < range.end {
            let extent = self
                .image
                .extent_at(self.inode, position)
                .map_err(|error| self.at(error))?;
            let Some(extent) = extent else {
                return Err(VerifyError::Inode {
                    path: (self.path)(),
                    nid: self.inode.nid(),
                    what: "the size",
                });
            };
            let end = extent.end().min(range.end);
            if extent.place == Place::Hole {
                position = end;
                continue;
            }
            let end = end.min(position + ZEROS);
            self.read(position..end)?;
            if self.buffer.iter().any(|byte| *byte != 0) {
                return Err(VerifyError::Content {
                    path: (self.path)(),
                    offset: position,
                    length: end - position,
                });
            }
            position = end;
        }
        Ok(())
    }
}
