//! Inodes: found by NID, checked as the kernel checks them.

use crate::error::{Error, Rule};
use crate::image::Image;
use crate::metadata::{Area, Window};
use erofs_format::chunk::ChunkFormat;
use erofs_format::inode::{
    COMPACT_INODE_SIZE, EXTENDED_INODE_SIZE, FileType, Inode as Record, InodePayload,
};
use erofs_format::{ByteOffset, Nid, xattr};
use std::ops::Deref;

/// An inode of an open image: its NID and its decoded record, to which it dereferences.
///
/// It is a plain value: keep it as long as you like, but use it only with the image that it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Inode {
    nid: Nid,
    record: Record,
    area: Area,
    offset: ByteOffset,
}

impl Deref for Inode {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

impl Inode {
    /// Its number on disk.
    pub const fn nid(&self) -> Nid {
        self.nid
    }

    /// Where its record is stored: byte `offset` of the image or of the metabox inode's data.
    pub const fn position(&self) -> (Area, ByteOffset) {
        (self.area, self.offset)
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Size of its data in bytes; 0 for files that have none, whatever their size field says.
    pub fn data_size(&self) -> u64 {
        match self.file_type {
            FileType::Regular | FileType::Directory | FileType::Symlink => self.size,
            _ => 0,
        }
    }

    /// Where its xattr body begins, in its area.
    pub(crate) fn xattr_offset(&self) -> Result<ByteOffset, Error> {
        self.offset
            .checked_add(self.core_size())
            .ok_or_else(|| self.corrupt(Rule::Overflow, self.offset))
    }

    /// The first multiple of `alignment` behind its xattrs, in its area: its index, chunk table or inline data.
    pub(crate) fn after_xattrs(&self, alignment: u64) -> Result<ByteOffset, Error> {
        self.xattr_offset()?
            .checked_add(xattr::body_size(self.xattr_icount))
            .and_then(|end| end.checked_align_up(alignment))
            .ok_or_else(|| self.corrupt(Rule::Overflow, self.offset))
    }

    pub(crate) const fn corrupt(&self, rule: Rule, offset: ByteOffset) -> Error {
        Error::Corrupt {
            rule,
            nid: Some(self.nid),
            offset,
        }
    }
}

impl Image {
    /// Reads the inode `nid`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for an inode that lies outside of the image or that the kernel refuses (`erofs_read_inode`,
    /// fs/erofs/inode.c); I/O errors.
    pub fn inode(&self, nid: Nid) -> Result<Inode, Error> {
        self.inode_through(&mut Window::default(), nid)
    }

    /// As [`Image::inode`], for who reads on near this inode.
    pub(crate) fn inode_through(&self, window: &mut Window, nid: Nid) -> Result<Inode, Error> {
        let superblock = self.superblock();
        let corrupt = |rule, offset| Error::Corrupt {
            rule,
            nid: Some(nid),
            offset,
        };
        let (area, start) = if nid.in_metabox() {
            (Area::Metabox, Some(ByteOffset(0)))
        } else {
            let start = superblock.meta_block.checked_offset(superblock.block_bits);
            (Area::Primary, start)
        };
        let offset = nid
            .offset_in_area()
            .and_then(|offset| start?.checked_add(offset))
            .ok_or_else(|| corrupt(Rule::Overflow, ByteOffset(0)))?;

        let mut bytes = [0; EXTENDED_INODE_SIZE as usize];
        let (core, extension) = bytes.split_at_mut(COMPACT_INODE_SIZE as usize);
        self.read_through(window, Some(nid), area, offset, core)?;
        // An extended inode says so in its first bit; a compact one may be the last thing in the image.
        if core.first().is_some_and(|format| format & 1 != 0) {
            let rest = offset
                .checked_add(COMPACT_INODE_SIZE)
                .ok_or_else(|| corrupt(Rule::Overflow, offset))?;
            self.read_through(window, Some(nid), area, rest, extension)?;
        }
        let record = Record::decode(&bytes, superblock)
            .map_err(|error| corrupt(Rule::Inode(error), offset))?;
        if let InodePayload::ChunkFormat(format) = record.payload {
            ChunkFormat::decode(format)
                .map_err(|error| corrupt(Rule::ChunkFormat(error), offset))?;
        }
        if record.layout.is_compressed() && superblock.algorithms() == 0 {
            return Err(corrupt(Rule::NoAlgorithm, offset));
        }
        Ok(Inode {
            nid,
            record,
            area,
            offset,
        })
    }
}
