//! Directories: listing, and lookup by binary search.

use crate::error::{Error, Rule};
use crate::image::Image;
use crate::inode::Inode;
use erofs_format::directory::{DIRENT_SIZE, DirectoryBlock, Dirent, DirentError};
use erofs_format::inode::FileType;
use erofs_format::{ByteOffset, Nid};
use std::cmp::Ordering;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Name, 1 to 255 bytes without NUL and slash.
    pub name: Vec<u8>,
    /// Inode. It has not been looked at.
    pub nid: Nid,
    /// File type as the entry tells it; `None` when it does not.
    pub file_type: Option<FileType>,
    /// Where listing goes on behind this entry, see [`Image::read_directory_from`].
    pub next: u64,
}

impl DirectoryEntry {
    /// Whether it is `.` or `..`.
    pub fn is_dot_or_dot_dot(&self) -> bool {
        matches!(self.name.as_slice(), b"." | b"..")
    }
}

/// Iterator over a directory's entries in stored order, with `.` and `..`. Holds one directory block in memory at most.
/// Ends after the first error.
#[derive(Debug)]
pub struct DirectoryEntries<'a> {
    image: &'a Image,
    inode: Inode,
    /// Block start plus 12 times the entry's index; the directory's size at the end.
    position: u64,
    /// The block that holds `position`, or empty.
    block: Vec<u8>,
    /// NUL and slash may be in names.
    any_names: bool,
}

impl Image {
    /// Lists a directory. A `.` that the directory omits comes last, as from the kernel.
    ///
    /// # Errors
    /// [`Error::NotADirectory`]. The iterator yields [`Error::Corrupt`] for a broken block, and I/O errors.
    pub fn read_directory<'a>(&'a self, directory: &Inode) -> Result<DirectoryEntries<'a>, Error> {
        self.read_directory_from(directory, 0)
    }

    /// Lists a directory from a position on: 0 or [`DirectoryEntry::next`].
    ///
    /// # Errors
    /// As [`Image::read_directory`].
    pub fn read_directory_from<'a>(
        &'a self,
        directory: &Inode,
        position: u64,
    ) -> Result<DirectoryEntries<'a>, Error> {
        if !directory.is_directory() {
            return Err(Error::NotADirectory(directory.nid()));
        }
        Ok(DirectoryEntries {
            image: self,
            inode: *directory,
            position,
            block: Vec::new(),
            any_names: false,
        })
    }

    /// Finds `name` in a directory, by binary search over the first names of its blocks and then inside of one block, as
    /// the kernel does (fs/erofs/namei.c): in an unsorted directory some names are not found.
    ///
    /// # Errors
    /// [`Error::NotADirectory`]; [`Error::Corrupt`] for a broken block on the way; I/O errors.
    pub fn lookup(&self, directory: &Inode, name: &[u8]) -> Result<Option<Nid>, Error> {
        if !directory.is_directory() {
            return Err(Error::NotADirectory(directory.nid()));
        }
        if directory.dot_omitted && name == b"." {
            return Ok(Some(directory.nid()));
        }
        let bits = self.superblock().block_bits;
        let (mut low, mut high) = (0, bits.blocks_for(directory.size));
        let mut bytes = Vec::new();
        let mut candidate = Vec::new();
        while low < high {
            // Where several names are equal or unsorted, the middle decides which one is found: here the kernel's.
            let middle = low + (high - 1 - low) / 2;
            self.read_directory_block(directory, middle << bits.bits(), &mut bytes)?;
            let first = entry_at(directory, middle << bits.bits(), &bytes, 0)?;
            match first.name.cmp(name) {
                Ordering::Equal => return Ok(Some(first.nid)),
                Ordering::Greater => high = middle,
                Ordering::Less => {
                    low = middle + 1;
                    std::mem::swap(&mut bytes, &mut candidate);
                }
            }
        }
        if candidate.is_empty() {
            return Ok(None);
        }
        // The candidate is the last block whose first name is smaller.
        let start = low.saturating_sub(1) << bits.bits();
        let count = block_at(directory, start, &candidate)?.count();
        let (mut low, mut high) = (1, count);
        while low < high {
            let middle = low + (high - 1 - low) / 2;
            let entry = entry_at(directory, start, &candidate, middle)?;
            match entry.name.cmp(name) {
                Ordering::Equal => return Ok(Some(entry.nid)),
                Ordering::Greater => high = middle,
                Ordering::Less => low = middle + 1,
            }
        }
        Ok(None)
    }

    /// Reads the directory block that begins at byte `start` of a directory.
    pub(crate) fn read_directory_block(
        &self,
        directory: &Inode,
        start: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let block_size = self.superblock().block_bits.bytes();
        let length = directory.size.saturating_sub(start).min(block_size);
        bytes.clear();
        bytes.resize(usize::try_from(length).unwrap_or(0), 0);
        self.read(directory, start, bytes).map(|_| ())
    }
}

fn block_at<'b>(
    directory: &Inode,
    start: u64,
    bytes: &'b [u8],
) -> Result<DirectoryBlock<'b>, Error> {
    DirectoryBlock::new(bytes).map_err(|error| broken(directory, start, error))
}

fn entry_at<'b>(
    directory: &Inode,
    start: u64,
    bytes: &'b [u8],
    index: usize,
) -> Result<Dirent<'b>, Error> {
    block_at(directory, start, bytes)?
        .entry(index)
        .map_err(|error| broken(directory, start, error))
}

pub(crate) fn broken(directory: &Inode, start: u64, error: DirentError) -> Error {
    directory.corrupt(Rule::Directory(error), ByteOffset(start))
}

impl DirectoryEntries<'_> {
    /// Lets NUL and slash in names pass, with which the kernel refuses to list the directory. Whoever asks for that must
    /// not take such a name for a path.
    #[must_use]
    pub const fn with_any_names(mut self) -> Self {
        self.any_names = true;
        self
    }

    /// The directory that is listed.
    pub const fn directory(&self) -> &Inode {
        &self.inode
    }

    /// Gives the block's memory back until the next entry is asked for.
    pub(crate) fn release(&mut self) {
        self.block = Vec::new();
    }

    fn next_stored(&mut self) -> Result<Option<DirectoryEntry>, Error> {
        let bits = self.image.superblock().block_bits;
        while self.position < self.inode.size {
            let in_block = bits.offset_in_block(self.position);
            let start = self.position - in_block;
            if self.block.is_empty() {
                self.image
                    .read_directory_block(&self.inode, start, &mut self.block)?;
            }
            let block = block_at(&self.inode, start, &self.block)?;
            let index = usize::try_from(in_block).unwrap_or(usize::MAX) / DIRENT_SIZE;
            let behind = start.saturating_add(bits.bytes()).min(self.inode.size);
            if index >= block.count() {
                self.position = behind;
                self.block.clear();
                continue;
            }
            let entry = if self.any_names {
                block.entry_of_any_name(index)
            } else {
                block.entry(index)
            };
            let entry = entry.map_err(|error| broken(&self.inode, start, error))?;
            let last = index + 1 == block.count();
            let next = if last {
                behind
            } else {
                start + ((index + 1) * DIRENT_SIZE) as u64
            };
            let entry = DirectoryEntry {
                name: entry.name.to_vec(),
                nid: entry.nid,
                file_type: entry.file_type,
                next,
            };
            self.position = next;
            if last {
                self.block.clear();
            }
            return Ok(Some(entry));
        }
        Ok(None)
    }

    fn omitted_dot(&mut self) -> Option<DirectoryEntry> {
        let due = self.inode.dot_omitted && self.position == self.inode.size;
        due.then(|| {
            self.position = self.inode.size.saturating_add(1);
            DirectoryEntry {
                name: b".".to_vec(),
                nid: self.inode.nid(),
                file_type: Some(FileType::Directory),
                next: self.position,
            }
        })
    }
}

impl Iterator for DirectoryEntries<'_> {
    type Item = Result<DirectoryEntry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_stored() {
            Ok(Some(entry)) => Some(Ok(entry)),
            Ok(None) => self.omitted_dot().map(Ok),
            Err(error) => {
                self.position = u64::MAX;
                self.block.clear();
                Some(Err(error))
            }
        }
    }
}
