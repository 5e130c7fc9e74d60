//! Directory blocks: an array of 12-byte entries, then the names, then zeros.
//!
//! ```text
//! | entry 0 | entry 1 | … | name 0 | name 1 | … | zeros |
//!   entry: nid u64, nameoff u16, file_type u8, reserved u8
//! ```
//! The number of entries is `nameoff[0] / 12`. Entries ascend by name in unsigned byte order over the whole directory.

use crate::address::Nid;
use crate::inode::FileType;
use crate::record;
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Size of an entry in bytes, without its name.
pub const DIRENT_SIZE: usize = 12;
/// Longest name in bytes.
pub const MAX_NAME_LENGTH: usize = 255;

/// An entry as stored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RawDirent {
    /// Inode.
    pub nid: U64,
    /// Offset of the name from the start of the block.
    pub nameoff: U16,
    /// File type, see [`file_type_value`].
    pub file_type: u8,
    /// Zero.
    pub reserved: u8,
}

const _: () = assert!(size_of::<RawDirent>() == DIRENT_SIZE);

/// File type as an entry stores it (`FT_*`).
pub const fn file_type_value(file_type: FileType) -> u8 {
    match file_type {
        FileType::Regular => 1,
        FileType::Directory => 2,
        FileType::CharDevice => 3,
        FileType::BlockDevice => 4,
        FileType::Fifo => 5,
        FileType::Socket => 6,
        FileType::Symlink => 7,
    }
}

/// File type from an entry; `None` for "unknown" and undefined values.
pub const fn file_type_from_value(value: u8) -> Option<FileType> {
    Some(match value {
        1 => FileType::Regular,
        2 => FileType::Directory,
        3 => FileType::CharDevice,
        4 => FileType::BlockDevice,
        5 => FileType::Fifo,
        6 => FileType::Socket,
        7 => FileType::Symlink,
        _ => return None,
    })
}

/// An entry of a directory block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirent<'a> {
    /// Inode.
    pub nid: Nid,
    /// File type; `None` when the entry does not tell.
    pub file_type: Option<FileType>,
    /// Name, 1 to 255 bytes.
    pub name: &'a [u8],
}

/// Why a directory block cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirentError {
    /// First `nameoff` is no multiple of 12 inside the block.
    #[error("first name offset {nameoff} is not a multiple of 12 inside a block of {length} bytes")]
    FirstNameOffset {
        /// As stored.
        nameoff: u16,
        /// Bytes in the block.
        length: usize,
    },
    /// A name that lies outside its block, is empty or too long.
    #[error("entry {index}: name at {start}..{end} in a block of {length} bytes")]
    Name {
        /// Which entry of the block.
        index: usize,
        /// Start of the name in the block.
        start: usize,
        /// End of the name in the block.
        end: usize,
        /// Bytes in the block.
        length: usize,
    },
    /// A byte that no name may have.
    #[error("entry {index}: name contains {byte:#04x}")]
    NameByte {
        /// Which entry of the block.
        index: usize,
        /// NUL or slash.
        byte: u8,
    },
}

/// A directory block whose entry count is known to be sane.
#[derive(Debug, Clone, Copy)]
pub struct DirectoryBlock<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> DirectoryBlock<'a> {
    /// Looks at one block of a directory; the last one may be shorter than a block.
    ///
    /// # Errors
    /// [`DirentError::FirstNameOffset`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, DirentError> {
        let nameoff = record::read::<RawDirent>(bytes, "directory entry")
            .map_or(0, |first| first.nameoff.get());
        let start = usize::from(nameoff);
        if start == 0 || start >= bytes.len() || start % DIRENT_SIZE != 0 {
            return Err(DirentError::FirstNameOffset {
                nameoff,
                length: bytes.len(),
            });
        }
        Ok(Self {
            bytes,
            count: start / DIRENT_SIZE,
        })
    }

    /// Number of entries.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Entry `index`, below [`Self::count`].
    ///
    /// # Errors
    /// [`DirentError`] for names that the kernel refuses.
    pub fn entry(&self, index: usize) -> Result<Dirent<'a>, DirentError> {
        let entry = self.entry_of_any_name(index)?;
        match entry.name.iter().find(|byte| matches!(byte, 0 | b'/')) {
            Some(byte) => Err(DirentError::NameByte { index, byte: *byte }),
            None => Ok(entry),
        }
    }

    /// As [`Self::entry`], but NUL and slash may be in the name: for those who look into what the kernel refuses.
    ///
    /// # Errors
    /// [`DirentError`] for a name that is no range of the block.
    pub fn entry_of_any_name(&self, index: usize) -> Result<Dirent<'a>, DirentError> {
        let length = self.bytes.len();
        let raw = |at: usize| -> Option<RawDirent> {
            record::read(
                self.bytes.get(at.checked_mul(DIRENT_SIZE)?..)?,
                "directory entry",
            )
            .ok()
        };
        let outside = DirentError::Name {
            index,
            start: 0,
            end: 0,
            length,
        };
        let this = raw(index).filter(|_| index < self.count).ok_or(outside)?;
        let start = usize::from(this.nameoff.get());
        let end = if index + 1 < self.count {
            usize::from(raw(index + 1).ok_or(outside)?.nameoff.get())
        } else {
            let tail = self.bytes.get(start..).unwrap_or_default();
            start
                + tail
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap_or(tail.len())
        };
        let name = self
            .bytes
            .get(start..end)
            .filter(|name| {
                (1..=MAX_NAME_LENGTH).contains(&name.len()) && start >= self.count * DIRENT_SIZE
            })
            .ok_or(DirentError::Name {
                index,
                start,
                end,
                length,
            })?;
        Ok(Dirent {
            nid: Nid(this.nid.get()),
            file_type: file_type_from_value(this.file_type),
            name,
        })
    }

    /// All entries in stored order.
    pub fn entries(self) -> impl Iterator<Item = Result<Dirent<'a>, DirentError>> {
        (0..self.count).map(move |index| self.entry(index))
    }
}

/// Appends one directory block with `entries`, without padding to the block size.
///
/// The caller has sorted the entries and chosen as many as fit (see [`fits`]).
pub fn encode_block(entries: &[Dirent<'_>], out: &mut Vec<u8>) {
    let mut nameoff = entries.len() * DIRENT_SIZE;
    for entry in entries {
        let raw = RawDirent {
            nid: U64::new(entry.nid.0),
            nameoff: U16::new(u16::try_from(nameoff).unwrap_or(u16::MAX)),
            file_type: entry.file_type.map_or(0, file_type_value),
            reserved: 0,
        };
        out.extend_from_slice(raw.as_bytes());
        nameoff += entry.name.len();
    }
    for entry in entries {
        out.extend_from_slice(entry.name);
    }
}

/// Whether an entry with a name of `name_length` bytes still fits a block of `block_size` bytes of which `used` are
/// taken.
pub const fn fits(used: usize, name_length: usize, block_size: usize) -> bool {
    used + DIRENT_SIZE + name_length <= block_size
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(names: &[&[u8]]) -> Vec<u8> {
        let entries: Vec<_> = names
            .iter()
            .zip(40u64..)
            .map(|(name, nid)| Dirent {
                nid: Nid(nid),
                file_type: Some(FileType::Regular),
                name,
            })
            .collect();
        let mut out = Vec::new();
        encode_block(&entries, &mut out);
        out
    }

    #[test]
    fn entries_round_trip_with_and_without_padding() {
        let names: &[&[u8]] = &[b"!first", b".", b"..", b"z\xFF"];
        let mut bytes = block(names);
        for padding in [0, 1, 100] {
            bytes.resize(bytes.len() + padding, 0);
            let parsed = DirectoryBlock::new(&bytes).unwrap();
            let read: Vec<_> = parsed.entries().map(|entry| entry.unwrap().name).collect();
            assert_eq!(read, names);
        }
    }

    #[test]
    fn hostile_blocks_are_refused() {
        assert!(DirectoryBlock::new(&[]).is_err());
        assert!(DirectoryBlock::new(&[0; 4096]).is_err());
        let good = block(&[b"a", b"b"]);
        for nameoff in [0u16, 1, 11, 13, 26, 4096, u16::MAX] {
            let mut bad = good.clone();
            bad[8..10].copy_from_slice(&nameoff.to_le_bytes());
            let error = DirectoryBlock::new(&bad).err();
            assert!(
                matches!(error, Some(DirentError::FirstNameOffset { .. })),
                "{nameoff}: {error:?}"
            );
        }
        for nameoff in [0u16, 23, 24, 27, u16::MAX] {
            let mut bad = good.clone();
            bad[20..22].copy_from_slice(&nameoff.to_le_bytes());
            let parsed = DirectoryBlock::new(&bad).unwrap();
            assert!(
                parsed
                    .entries()
                    .any(|entry| matches!(entry, Err(DirentError::Name { .. }))),
                "{nameoff}"
            );
        }
        let slash = block(&[b"a/b"]);
        assert_eq!(
            DirectoryBlock::new(&slash).unwrap().entry(0),
            Err(DirentError::NameByte {
                index: 0,
                byte: b'/'
            })
        );
        assert!(DirectoryBlock::new(&good).unwrap().entry(2).is_err());
        assert!(
            DirectoryBlock::new(&good)
                .unwrap()
                .entry(usize::MAX)
                .is_err()
        );
    }
}
