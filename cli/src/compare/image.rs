//! An image as a side of a comparison.

use super::content::Content;
use super::side::{Handle, Identity, Listing, Location, Node, Side, SideError, Xattrs};
use erofs_format::device::DeviceNumber;
use erofs_format::inode::{FileType, InodePayload};
use erofs_format::{ByteOffset, Nid};
use erofs_reader::{Error, Image, Inode, Rule, Symlinks};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// An open image.
#[derive(Debug)]
pub(crate) struct ImageSide {
    image: Image,
    /// Directories that were listed: a hostile image may show one by several names, or inside of itself.
    listed: Mutex<HashSet<Nid>>,
}

impl ImageSide {
    pub(crate) fn new(image: Image) -> Self {
        Self {
            image,
            listed: Mutex::default(),
        }
    }

    fn inode(&self, handle: Handle) -> Result<Inode, SideError> {
        match handle {
            Handle::Nid(nid) => Ok(self.image.inode(nid)?),
            // Handles come from this side.
            Handle::Tree(_) | Handle::Path => Ok(self.image.root()?),
        }
    }
}

impl Side for ImageSide {
    fn find(&self, path: &[u8]) -> Result<Option<Node>, SideError> {
        match self.image.resolve(path, Symlinks::Keep) {
            Ok(inode) => Ok(Some(node(&inode))),
            Err(Error::NotFound { .. } | Error::NotADirectory(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn list(&self, _path: &[u8], directory: &Node) -> Result<Listing, SideError> {
        let inode = self.inode(directory.handle)?;
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if !listed.insert(inode.nid()) {
            return Err(Error::Corrupt {
                rule: Rule::DirectoryAlias(inode.nid()),
                nid: Some(inode.nid()),
                offset: ByteOffset(0),
            }
            .into());
        }
        let mut listing = Listing::default();
        for entry in self.image.read_directory(&inode)? {
            let entry = entry?;
            if !entry.is_dot_or_dot_dot() {
                listing.push(&entry.name, Handle::Nid(entry.nid))?;
            }
        }
        Ok(listing)
    }

    fn node(&self, _at: Location<'_>, handle: Handle) -> Result<Node, SideError> {
        Ok(node(&self.inode(handle)?))
    }

    fn xattrs(&self, _at: Location<'_>, of: &Node) -> Result<Xattrs, SideError> {
        let inode = self.inode(of.handle)?;
        if inode.xattr_icount == 0 {
            return Ok(Xattrs::new());
        }
        let mut xattrs: Xattrs = self
            .image
            .xattrs(&inode)?
            .into_iter()
            .map(|xattr| (xattr.name, xattr.value))
            .collect();
        xattrs.sort();
        Ok(xattrs)
    }

    fn target(&self, _at: Location<'_>, of: &Node) -> Result<Vec<u8>, SideError> {
        Ok(self.image.read_link(&self.inode(of.handle)?)?)
    }

    fn content(&self, _path: &[u8], handle: Handle) -> Result<Content<'_>, SideError> {
        Ok(Content::Image {
            image: &self.image,
            inode: self.inode(handle)?,
        })
    }
}

fn node(inode: &Inode) -> Node {
    Node {
        handle: Handle::Nid(inode.nid()),
        identity: Identity {
            device: 0,
            inode: inode.nid().0,
        },
        file_type: inode.file_type,
        permissions: inode.mode & 0o7777,
        uid: inode.uid,
        gid: inode.gid,
        mtime: inode.mtime,
        linked: inode.nlink > 1,
        size: match inode.file_type {
            FileType::Regular => inode.size,
            _ => 0,
        },
        device: match inode.payload {
            InodePayload::Device(number) => number,
            _ => DeviceNumber::default(),
        },
    }
}
