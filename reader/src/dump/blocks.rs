//! The blocks of a directory as stored.

use crate::directory::broken;
use crate::error::{Error, Rule};
use crate::image::Image;
use crate::inode::Inode;
use crate::map::Place;
use erofs_format::directory::{DIRENT_SIZE, DirectoryBlock, RawDirent};
use erofs_format::record;
use erofs_format::{ByteOffset, Nid};

/// A block of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryBlockRecord {
    /// First byte in the directory.
    pub start: u64,
    /// Bytes of the directory in this block.
    pub length: u64,
    /// Where it lies; for a compressed directory the extent that it begins in.
    pub place: Place,
    /// Entries in stored order.
    pub entries: Vec<DirentRecord>,
    /// Bytes behind the last name.
    pub free: u64,
}

/// A directory entry as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirentRecord {
    /// Inode.
    pub nid: Nid,
    /// Where its name begins in the block.
    pub nameoff: u16,
    /// File type as stored.
    pub file_type: u8,
    /// Name.
    pub name: Vec<u8>,
}

impl Image {
    /// The blocks of a directory, in order. The iterator ends after the first error.
    ///
    /// # Errors
    /// [`Error::NotADirectory`]. The iterator yields [`Error::Corrupt`] for a broken block, and I/O errors.
    pub fn directory_blocks<'a>(
        &'a self,
        directory: &Inode,
    ) -> Result<impl Iterator<Item = Result<DirectoryBlockRecord, Error>> + use<'a>, Error> {
        if !directory.is_directory() {
            return Err(Error::NotADirectory(directory.nid()));
        }
        let directory = *directory;
        let (mut start, mut entries) = (0, 0);
        let limit = self.entry_limit();
        Ok(std::iter::from_fn(move || {
            if start >= directory.size {
                return None;
            }
            let block = self.directory_block(&directory, start).and_then(|block| {
                entries += block.entries.len() as u64;
                if entries > limit {
                    let rule = Rule::TooManyEntries { limit };
                    return Err(directory.corrupt(rule, ByteOffset(start)));
                }
                Ok(block)
            });
            start = match &block {
                Ok(_) => start.saturating_add(self.superblock().block_bits.bytes()),
                Err(_) => u64::MAX,
            };
            Some(block)
        }))
    }

    fn directory_block(
        &self,
        directory: &Inode,
        start: u64,
    ) -> Result<DirectoryBlockRecord, Error> {
        let mut bytes = Vec::new();
        self.read_directory_block(directory, start, &mut bytes)?;
        let corrupt = |error| broken(directory, start, error);
        let block = DirectoryBlock::new(&bytes).map_err(corrupt)?;
        let mut entries = Vec::with_capacity(block.count());
        let mut used = 0;
        for index in 0..block.count() {
            let entry = block.entry(index).map_err(corrupt)?;
            let stored = bytes.get(index * DIRENT_SIZE..).unwrap_or_default();
            let raw: Option<RawDirent> = record::read(stored, "directory entry").ok();
            let (nameoff, file_type) = raw.map_or((0, 0), |raw| (raw.nameoff.get(), raw.file_type));
            used = used.max(usize::from(nameoff) + entry.name.len());
            entries.push(DirentRecord {
                nid: entry.nid,
                nameoff,
                file_type,
                name: entry.name.to_vec(),
            });
        }
        let place = self
            .extent_at(directory, start)?
            .map_or(Place::Hole, |extent| {
                // Where this block itself is, if it is stored as it is.
                let skip = start.saturating_sub(extent.logical);
                match extent.place {
                    Place::Data { device, offset } => Place::Data {
                        device,
                        offset: offset.checked_add(skip).unwrap_or(offset),
                    },
                    place => place,
                }
            });
        Ok(DirectoryBlockRecord {
            start,
            length: bytes.len() as u64,
            place,
            entries,
            free: bytes.len().saturating_sub(used) as u64,
        })
    }
}
