//! Reading a file's data at an offset.

use crate::decode::{EncodedExtent, Lease, Pcluster};
use crate::error::{Error, Rule};
use crate::image::Image;
use crate::inode::Inode;
use crate::map::{FileMap, Place};
use erofs_format::ByteOffset;
use erofs_format::inode::FileType;

/// Longest target of a symbolic link in bytes (`PATH_MAX` without the NUL).
pub const MAX_SYMLINK_SIZE: u64 = 4095;

impl Image {
    /// Reads from byte `offset` of a file (regular, directory or symbolic link) and returns the number of bytes, less
    /// than `buffer.len()` only at the end of the file. The content of `buffer` behind them is unspecified.
    ///
    /// Encoded extents of which only a part is read are decoded once and kept in the cache. Those that lie in `buffer` as
    /// a whole are decoded right into it and are not kept: so scans read extent by extent.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when map or data break a rule; [`Error::Unsupported`]; I/O errors. No byte is then valid.
    pub fn read(&self, inode: &Inode, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let available = inode.data_size().saturating_sub(offset);
        let length = usize::try_from(available).map_or(buffer.len(), |size| size.min(buffer.len()));
        let mut reading = Reading {
            image: self,
            inode,
            map: FileMap::default(),
            lease: None,
        };
        let mut filled = 0;
        while let Some(rest) = buffer
            .get_mut(filled..length)
            .filter(|rest| !rest.is_empty())
        {
            let position = offset + filled as u64;
            filled += reading.extent(position, rest)?;
        }
        Ok(length)
    }

    /// The packed inode, for a fragment of any inode but itself: so reading ends after one step.
    fn packed_for(&self, inode: &Inode, position: u64) -> Result<&Inode, Error> {
        let corrupt = |rule| inode.corrupt(rule, ByteOffset(position));
        let packed = self.packed().ok_or_else(|| corrupt(Rule::NoPackedInode))?;
        if packed.nid() == inode.nid() {
            return Err(corrupt(Rule::PackedInPacked));
        }
        Ok(packed)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// [`Error::NotASymlink`]; [`Error::Corrupt`] for an empty or too long target or one with a NUL; as [`Image::read`].
    pub fn read_link(&self, inode: &Inode) -> Result<Vec<u8>, Error> {
        if inode.file_type != FileType::Symlink {
            return Err(Error::NotASymlink(inode.nid()));
        }
        let size = inode.size;
        let place = inode.position().1;
        if !(1..=MAX_SYMLINK_SIZE).contains(&size) {
            return Err(inode.corrupt(Rule::SymlinkSize { size }, place));
        }
        let mut target = vec![0; usize::try_from(size).unwrap_or(0)];
        self.read(inode, 0, &mut target)?;
        if let Some(at) = target.iter().position(|byte| *byte == 0) {
            return Err(inode.corrupt(Rule::SymlinkNul { at }, place));
        }
        Ok(target)
    }
}

/// One call of [`Image::read`].
struct Reading<'a> {
    image: &'a Image,
    inode: &'a Inode,
    map: FileMap,
    /// From the first encoded extent on.
    lease: Option<Lease<'a>>,
}

impl Reading<'_> {
    /// Reads from `position` up to the end of the extent that holds it, and returns the number of bytes, never 0.
    fn extent(&mut self, position: u64, rest: &mut [u8]) -> Result<usize, Error> {
        let (image, inode) = (self.image, self.inode);
        let gap = || inode.corrupt(Rule::MapGap, ByteOffset(position));
        let extent = image
            .extent_of(&mut self.map, inode, position)?
            .ok_or_else(gap)?;
        let skip = position.checked_sub(extent.logical).ok_or_else(gap)?;
        let left = extent.length.checked_sub(skip).filter(|left| *left > 0);
        let left = left.ok_or_else(gap)?;
        let count = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        let wanted = rest.len();
        let part = rest.get_mut(..count).unwrap_or_default();
        let nid = Some(inode.nid());
        let forward = |offset: ByteOffset| {
            let overflow = || inode.corrupt(Rule::Overflow, offset);
            offset.checked_add(skip).ok_or_else(overflow)
        };
        match extent.place {
            Place::Hole => part.fill(0),
            Place::Inline { area, offset } => {
                image.read_metadata(nid, area, forward(offset)?, part)?;
            }
            // Directories and symbolic links are read again and again in small pieces.
            Place::Data { device, offset } if inode.file_type != FileType::Regular => {
                image.read_pages(nid, device, forward(offset)?, part)?;
            }
            Place::Data { device, offset } => {
                image
                    .devices()
                    .read_exact(nid, device, forward(offset)?, part)?;
            }
            Place::Packed { offset } => {
                let packed = image.packed_for(inode, position)?;
                let at = forward(ByteOffset(offset))?;
                if image.read(packed, at.0, part)? < count {
                    return Err(inode.corrupt(
                        Rule::BeyondPacked {
                            offset: at.0,
                            length: count as u64,
                            size: packed.size,
                        },
                        ByteOffset(position),
                    ));
                }
            }
            Place::Encoded {
                stored,
                length,
                algorithm,
                partial,
            } => {
                let encoded = EncodedExtent {
                    pcluster: Pcluster {
                        stored,
                        length,
                        algorithm,
                    },
                    logical: extent.logical,
                    length: extent.length,
                    partial,
                };
                let lease = self.lease.get_or_insert_with(|| image.decoders().lease());
                // Encoded data is not longer than what it decodes to.
                image.read_encoded(lease, inode.nid(), &encoded, skip, wanted, part)?;
            }
        }
        Ok(count)
    }
}
