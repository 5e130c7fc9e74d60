//! A manifest from an image, by our reader.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use anyhow::{Context, Result, bail};
use erofs_format::inode::{FileType, InodePayload};
use erofs_reader::{Image, Inode};

use super::{Manifest, Node, Type, content};
use crate::tree::{Device, Time};

impl Manifest {
    /// Walks `image` and reads everything in it.
    ///
    /// # Errors
    /// Whatever the reader refuses, with its path.
    pub fn of_image(image: &Image) -> Result<Self> {
        let mut manifest = Self::default();
        let mut inodes: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        for entry in image.walk()? {
            let entry = entry?;
            let path = entry.path;
            let node = node(image, &entry.inode)
                .with_context(|| format!("reading {}", path.escape_ascii()))?;
            let names = inodes.entry(entry.inode.nid().0).or_default();
            names.push(path.clone());
            if manifest.nodes.insert(path.clone(), node).is_some() {
                bail!("{} is listed twice", path.escape_ascii());
            }
        }
        manifest.note_shared(inodes.into_values());
        Ok(manifest)
    }
}

fn node(image: &Image, inode: &Inode) -> Result<Node> {
    let (mut device, mut target, mut digest, mut size) = (None, None, None, 0);
    let kind = match inode.file_type {
        FileType::Regular => {
            let mut content = Content {
                image,
                inode,
                position: 0,
            };
            let (sum, length) = content::of_file(&mut content)?;
            size = inode.size;
            if length != size {
                bail!("{length} bytes of content, but a size of {size}");
            }
            digest = Some(sum);
            Type::File
        }
        FileType::Symlink => {
            let to = image.read_link(inode)?;
            size = to.len() as u64;
            target = Some(to);
            Type::Symlink
        }
        FileType::Directory => Type::Directory,
        FileType::CharDevice => Type::CharacterDevice,
        FileType::BlockDevice => Type::BlockDevice,
        FileType::Fifo => Type::Fifo,
        FileType::Socket => Type::Socket,
    };
    if let InodePayload::Device(number) = inode.payload {
        device = Some(Device {
            major: number.major,
            minor: number.minor,
        });
    }
    let xattrs = image.xattrs(inode)?;
    Ok(Node {
        kind,
        mode: u32::from(inode.mode) & 0o7777,
        uid: inode.uid,
        gid: inode.gid,
        links: inode.nlink.into(),
        size,
        mtime: Time {
            seconds: inode.mtime.seconds,
            nanoseconds: inode.mtime.nanoseconds,
        },
        device,
        target,
        digest,
        xattrs: xattrs
            .into_iter()
            .map(|xattr| (xattr.name, xattr.value))
            .collect(),
        shared_with: None,
    })
}

/// The bytes of a file from its beginning on.
struct Content<'a> {
    image: &'a Image,
    inode: &'a Inode,
    position: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self
            .image
            .read(self.inode, self.position, buffer)
            .map_err(io::Error::other)?;
        self.position += count as u64;
        Ok(count)
    }
}
