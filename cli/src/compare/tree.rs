//! A tar, or single files, as a side of a comparison: a tree in memory, as `erofs build` reads it.
//!
//! The data of a plain tar stays in its file. That of a compressed one passes by once, so that its files are known by
//! their digests.

use super::content::Content;
use super::digest::{Digest, Digester};
use super::side;
use super::side::{Handle, Identity, Listing, Node, Side, SideError, Xattrs};
use erofs_format::device::DeviceNumber;
use erofs_format::inode::Timestamp;
use erofs_mkfs::source::raw::{self, OpenRawFile, RawFile};
use erofs_mkfs::source::tar::{self, Archive};
use erofs_mkfs::source::{Rules, StoreError, StreamSink, Whiteouts, default_root};
use erofs_mkfs::tree::{
    Body, DataRange, FrozenTree, InodeId, Location, Metadata, Tree, components,
};
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A tree in memory.
#[derive(Debug)]
pub(crate) struct TreeSide {
    tree: FrozenTree,
    data: Data,
    describes_root: bool,
}

/// Where the bytes of its files are.
#[derive(Debug)]
enum Data {
    Archive(Arc<File>),
    Digests(Vec<Digest>),
    Files(Vec<OpenRawFile>),
}

impl TreeSide {
    /// Reads a tar. `progress` counts the bytes of data that were read.
    ///
    /// # Errors
    /// What is wrong with the tar.
    pub(crate) fn of_tar(
        archive: Archive,
        whiteouts: Whiteouts,
        progress: &AtomicU64,
    ) -> anyhow::Result<Self> {
        let undescribed = default_root(Timestamp::default());
        let mut tree = Tree::new(undescribed.clone())?;
        let file = archive.file().cloned();
        let mut digests = Digests {
            digests: Vec::new(),
            buffer: vec![0; 64 << 10],
            progress,
        };
        let data = match &file {
            Some(_) => tar::Data::InPlace,
            None => tar::Data::Through(&mut digests),
        };
        tar::scan(archive, &Rules::default(), whiteouts, &mut tree, data)?;
        let tree = tree.finish()?;
        let root = tree.inode(InodeId::ROOT);
        let describes_root = (root.permissions, root.uid, root.gid, root.mtime)
            != (
                undescribed.permissions,
                undescribed.uid,
                undescribed.gid,
                undescribed.mtime,
            )
            || !tree.xattrs.get(root.xattrs).is_empty();
        Ok(Self {
            tree,
            data: match file {
                Some(file) => Data::Archive(file),
                None => Data::Digests(digests.digests),
            },
            describes_root,
        })
    }

    /// Takes single files, as `erofs build` does.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn of_raw_files(files: &[RawFile]) -> anyhow::Result<Self> {
        let mut tree = Tree::new(default_root(Timestamp::default()))?;
        let files = raw::scan(files, &Rules::default(), &mut tree)?;
        Ok(Self {
            tree: tree.finish()?,
            data: Data::Files(files),
            describes_root: true,
        })
    }

    /// The same with the root that `erofs build` gives an image of a tar that does not describe it.
    pub(crate) fn with_root(self) -> Self {
        Self {
            describes_root: true,
            ..self
        }
    }

    fn id(&self, handle: Handle) -> InodeId {
        match handle {
            Handle::Tree(id) => id,
            // Handles come from this side.
            Handle::Nid(_) | Handle::Path => InodeId::ROOT,
        }
    }

    fn describe(&self, id: InodeId) -> Node {
        let inode = self.tree.inode(id);
        Node {
            handle: Handle::Tree(id),
            identity: Identity {
                device: 0,
                inode: id.index() as u64,
            },
            file_type: inode.body.file_type(),
            permissions: inode.permissions,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            linked: inode.nlink > 1,
            size: match inode.body {
                Body::Regular { size, .. } => size,
                _ => 0,
            },
            device: match inode.body {
                Body::CharDevice(number) | Body::BlockDevice(number) => number,
                _ => DeviceNumber::default(),
            },
        }
    }
}

impl Side for TreeSide {
    fn find(&self, path: &[u8]) -> Result<Option<Node>, SideError> {
        let mut at = InodeId::ROOT;
        for name in components(path)? {
            let Some(child) = self.tree.children(at).find(|child| child.name == name) else {
                return Ok(None);
            };
            at = child.inode;
        }
        Ok(Some(self.describe(at)))
    }

    fn list(&self, _path: &[u8], directory: &Node) -> Result<Listing, SideError> {
        let mut listing = Listing::default();
        for child in self.tree.children(self.id(directory.handle)) {
            listing.push(child.name, Handle::Tree(child.inode))?;
        }
        Ok(listing)
    }

    fn node(&self, _at: side::Location<'_>, handle: Handle) -> Result<Node, SideError> {
        Ok(self.describe(self.id(handle)))
    }

    fn xattrs(&self, _at: side::Location<'_>, of: &Node) -> Result<Xattrs, SideError> {
        let set = self.tree.inode(self.id(of.handle)).xattrs;
        let pairs = self.tree.xattrs.get(set).iter();
        Ok(pairs
            .map(|xattr| (xattr.name.to_vec(), xattr.value.to_vec()))
            .collect())
    }

    fn target(&self, _at: side::Location<'_>, of: &Node) -> Result<Vec<u8>, SideError> {
        Ok(match self.tree.inode(self.id(of.handle)).body {
            Body::Symlink(target) => self.tree.target(target).to_vec(),
            _ => Vec::new(),
        })
    }

    fn content(&self, _path: &[u8], handle: Handle) -> Result<Content<'_>, SideError> {
        let Body::Regular { location, .. } = self.tree.inode(self.id(handle)).body else {
            return Ok(Content::Hole);
        };
        Ok(match (&self.data, location) {
            (Data::Archive(file), Location::Archive { offset, sparse }) => Content::Part {
                file,
                offset,
                ranges: sparse.map(|map| self.tree.sparse_map(map)),
            },
            (Data::Digests(digests), Location::Stored(number)) => digests
                .get(number as usize)
                .map_or(Content::Hole, |digest| Content::Digest(*digest)),
            (Data::Files(files), Location::RawFile(number)) => {
                files
                    .get(number as usize)
                    .map_or(Content::Hole, |raw| Content::Part {
                        file: &raw.file,
                        offset: 0,
                        ranges: None,
                    })
            }
            _ => Content::Hole,
        })
    }

    fn has_digests_only(&self) -> bool {
        matches!(self.data, Data::Digests(_))
    }

    fn describes_root(&self) -> bool {
        self.describes_root
    }
}

/// Digests the files of a tar as they pass by.
struct Digests<'p> {
    digests: Vec<Digest>,
    buffer: Vec<u8>,
    progress: &'p AtomicU64,
}

impl StreamSink for Digests<'_> {
    fn store(
        &mut self,
        path: &[u8],
        _metadata: &Metadata,
        size: u64,
        ranges: Option<&[DataRange]>,
        data: &mut dyn Read,
    ) -> Result<Location, StoreError> {
        let failed = |source| StoreError::Read {
            path: path.to_vec(),
            source,
        };
        let whole = [DataRange {
            offset: 0,
            length: size,
        }];
        let mut digester = Digester::default();
        let mut position = 0;
        for range in ranges.unwrap_or(&whole) {
            digester.zeros(range.offset - position);
            let mut left = (&mut *data).take(range.length);
            loop {
                match left.read(&mut self.buffer) {
                    Ok(0) => break,
                    Ok(count) => {
                        digester.update(&self.buffer[..count]);
                        self.progress.fetch_add(count as u64, Ordering::Relaxed);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(failed(error)),
                }
            }
            position = range.offset + range.length;
        }
        digester.zeros(size.saturating_sub(position));
        let number = u32::try_from(self.digests.len())
            .map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
        self.digests.push(digester.finish());
        Ok(Location::Stored(number))
    }
}
