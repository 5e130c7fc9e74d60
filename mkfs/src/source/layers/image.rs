//! An image as a layer: its tree, with all files where they are.

use super::LayerError;
use super::content::{FileSource, LayerFile};
use crate::tree::{Body, Location, Metadata, Tree, TreeError, Xattr};
use erofs_format::inode::{FileType, InodePayload};
use erofs_reader::{Image, Inode, WalkEntry};
use std::collections::HashMap;
use std::path::Path;

/// Puts all entries of `image` into the empty `tree`, and its files behind those in `files`.
///
/// # Errors
/// [`LayerError`]: nothing of an image with a broken part is taken.
pub(super) fn scan(
    image: &Image,
    layer: &Path,
    number: u32,
    tree: &mut Tree,
    files: &mut Vec<LayerFile>,
) -> Result<(), LayerError> {
    let unreadable = |path: &[u8], source| LayerError::Image {
        layer: layer.to_path_buf(),
        path: path.to_vec(),
        source,
    };
    let refused = |source: TreeError| LayerError::Tree {
        layer: layer.to_path_buf(),
        source,
    };
    // Directories may be compressed, but nobody's so well that an entry of 13 bytes takes less than one.
    let mut entries_left = image.total_bytes();
    // By number, the name under which each file with several was met first.
    let mut linked: HashMap<_, Vec<u8>> = HashMap::new();
    let mut walk = image.walk().map_err(|source| unreadable(b"", source))?;
    while let Some(entry) = walk.next() {
        let WalkEntry { path, inode, .. } =
            entry.map_err(|source| unreadable(walk.path(), source))?;
        entries_left = entries_left
            .checked_sub(1)
            .ok_or_else(|| LayerError::TooManyEntries(layer.to_path_buf()))?;
        if !inode.is_directory() && inode.nlink > 1 {
            if let Some(first) = linked.get(&inode.nid()) {
                tree.link(&path, first).map_err(refused)?;
                continue;
            }
            linked.insert(inode.nid(), path.clone());
        }
        let failed = |source| unreadable(&path, source);
        let body = match inode.file_type {
            FileType::Directory => Body::Directory,
            FileType::Regular => Body::Regular {
                size: inode.size,
                location: location(&inode, number, files)?,
            },
            FileType::Symlink => {
                let target = image.read_link(&inode).map_err(failed)?;
                Body::Symlink(tree.intern(&target).map_err(refused)?)
            }
            FileType::CharDevice => Body::CharDevice(device(&inode)),
            FileType::BlockDevice => Body::BlockDevice(device(&inode)),
            FileType::Fifo => Body::Fifo,
            FileType::Socket => Body::Socket,
        };
        let metadata = metadata(image, &inode).map_err(failed)?;
        tree.insert(&path, metadata, body).map_err(refused)?;
    }
    Ok(())
}

fn location(inode: &Inode, layer: u32, files: &mut Vec<LayerFile>) -> Result<Location, LayerError> {
    if inode.size == 0 {
        return Ok(Location::Nowhere);
    }
    let source = FileSource::Inode(inode.nid());
    LayerFile { layer, source }.push(files)
}

fn device(inode: &Inode) -> erofs_format::device::DeviceNumber {
    match inode.payload {
        InodePayload::Device(number) => number,
        // The payload was decoded by type, so there is no other.
        _ => erofs_format::device::DeviceNumber::default(),
    }
}

pub(super) fn metadata(image: &Image, inode: &Inode) -> Result<Metadata, erofs_reader::Error> {
    let xattrs = image.xattrs(inode)?.into_iter().map(|xattr| Xattr {
        name: xattr.name.into(),
        value: xattr.value.into(),
    });
    Ok(Metadata {
        permissions: inode.mode & 0o7777,
        uid: inode.uid,
        gid: inode.gid,
        mtime: inode.mtime,
        xattrs: xattrs.collect(),
    })
}
