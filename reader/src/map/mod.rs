//! The map of a file: which bytes of it lie where.
//!
//! One file per layout: `flat`, `chunk`, and for compressed files `index` and `extents`. Each answers one question: which
//! extent holds this byte?

mod chunk;
mod compressed;
mod extents;
mod flat;
mod index;
mod stored;
mod sums;

use crate::error::Error;
use crate::image::Image;
use crate::inode::Inode;
use crate::metadata::Area;
use erofs_format::compression::Algorithm;
use erofs_format::inode::{DataLayout, InodePayload};
use erofs_format::{ByteOffset, DeviceId};

pub(crate) use sums::Sums;

pub use stored::{Form, Location, StoredExtent, StoredExtents};

/// A run of bytes of a file that lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte in the file.
    pub logical: u64,
    /// Length in bytes, never 0. Two neighbours may be contiguous on disk too.
    pub length: u64,
    /// Where it lies.
    pub place: Place,
}

/// Where an extent's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it reads as zeros.
    Hole,
    /// As they are, on a device.
    Data {
        /// Which device: 0 is the image, `i + 1` the source given for slot `i`.
        device: DeviceId,
        /// First byte on it.
        offset: ByteOffset,
    },
    /// As they are, behind the inode.
    Inline {
        /// In the image or in the metabox.
        area: Area,
        /// First byte in it.
        offset: ByteOffset,
    },
    /// In the packed inode's data.
    Packed {
        /// First byte in it.
        offset: u64,
    },
    /// Encoded, as a whole: the extent is what the front of it decodes to.
    Encoded {
        /// Where the encoded bytes are.
        stored: Stored,
        /// How many, with the zeros in front of them.
        length: u64,
        /// How they are encoded.
        algorithm: Algorithm,
        /// They may decode to more than the extent.
        partial: bool,
    },
}

/// Where encoded bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stored {
    /// On a device.
    Device {
        /// Which device.
        device: DeviceId,
        /// First byte on it.
        offset: ByteOffset,
    },
    /// Behind the inode.
    Inline {
        /// In the image or in the metabox.
        area: Area,
        /// First byte in it.
        offset: ByteOffset,
    },
}

/// Bytes of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataRange {
    /// Which device: 0 is the image, `i + 1` the source given for slot `i`.
    pub device: DeviceId,
    /// First byte on it.
    pub offset: ByteOffset,
    /// Length in bytes, never 0.
    pub length: u64,
}

/// What is kept of the map of one file from one look-up to the next.
#[derive(Debug, Default)]
pub(crate) struct FileMap(Option<compressed::Map>);

impl FileMap {
    /// The map of a compressed file.
    fn compressed(&mut self, image: &Image, inode: &Inode) -> Result<&mut compressed::Map, Error> {
        Ok(match &mut self.0 {
            Some(map) => map,
            none => none.insert(compressed::Map::open(image, inode)?),
        })
    }
}

impl Extent {
    /// First byte behind it in the file.
    pub const fn end(&self) -> u64 {
        self.logical.saturating_add(self.length)
    }
}

impl Image {
    /// The extent that holds byte `position` of a file, or `None` at or behind its end. It may begin before `position`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the map breaks a rule; [`Error::Unsupported`]; I/O errors.
    pub fn extent_at(&self, inode: &Inode, position: u64) -> Result<Option<Extent>, Error> {
        self.extent_of(&mut FileMap::default(), inode, position)
    }

    /// As [`Image::extent_at`], for who asks for more extents of the same file.
    pub(crate) fn extent_of(
        &self,
        map: &mut FileMap,
        inode: &Inode,
        position: u64,
    ) -> Result<Option<Extent>, Error> {
        if position >= inode.data_size() {
            return Ok(None);
        }
        let extent = match (inode.layout, inode.payload) {
            (DataLayout::FlatPlain | DataLayout::FlatInline, InodePayload::StartBlock(start)) => {
                flat::extent_at(self, inode, start, position)?
            }
            (DataLayout::ChunkBased, InodePayload::ChunkFormat(format)) => {
                chunk::extent_at(self, inode, format, position)?
            }
            // The payload was decoded by layout, so only compressed layouts are left.
            _ => map
                .compressed(self, inode)?
                .extent_at(self, inode, position)?,
        };
        Ok(Some(extent))
    }

    /// The extents of a file in ascending order, without gaps, from byte `position` on. The iterator ends after the first
    /// error; nothing is allocated for it.
    pub fn extents_from<'a>(&'a self, inode: &Inode, position: u64) -> Extents<'a> {
        Extents {
            image: self,
            inode: *inode,
            map: FileMap::default(),
            position,
        }
    }

    /// All extents of a file, see [`Image::extents_from`].
    pub fn extents<'a>(&'a self, inode: &Inode) -> Extents<'a> {
        self.extents_from(inode, 0)
    }

    /// The bytes of a device that are the whole file as it is, if there are such: neither encoded nor a hole nor scattered.
    /// `None` for empty files too.
    ///
    /// # Errors
    /// As [`Image::extent_at`].
    pub fn data_range(&self, inode: &Inode) -> Result<Option<DataRange>, Error> {
        let mut range: Option<DataRange> = None;
        for extent in self.extents(inode) {
            let extent = extent?;
            let (device, offset) = match extent.place {
                Place::Data { device, offset } => (device, offset),
                Place::Inline {
                    area: Area::Primary,
                    offset,
                } => (DeviceId::PRIMARY, offset),
                _ => return Ok(None),
            };
            match &mut range {
                None => {
                    range = Some(DataRange {
                        device,
                        offset,
                        length: extent.length,
                    });
                }
                Some(range)
                    if range.device == device
                        && range.offset.checked_add(range.length) == Some(offset) =>
                {
                    range.length += extent.length;
                }
                Some(_) => return Ok(None),
            }
        }
        Ok(range)
    }

    /// Resolves a range of blocks to the device that it lies on; the extent ends where the device does.
    fn data_extent(
        &self,
        inode: &Inode,
        logical: u64,
        length: u64,
        device: DeviceId,
        position: ByteOffset,
    ) -> Result<Extent, Error> {
        let resolved = self
            .devices()
            .resolve(device, position, length)
            .map_err(|rule| inode.corrupt(rule, ByteOffset(logical)))?;
        Ok(Extent {
            logical,
            length: resolved.length,
            place: Place::Data {
                device: resolved.device,
                offset: resolved.offset,
            },
        })
    }
}

/// Iterator over a file's extents.
#[derive(Debug)]
pub struct Extents<'a> {
    image: &'a Image,
    inode: Inode,
    map: FileMap,
    position: u64,
}

impl Iterator for Extents<'_> {
    type Item = Result<Extent, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self
            .image
            .extent_of(&mut self.map, &self.inode, self.position)
            .transpose()?;
        self.position = match &result {
            Ok(extent) if extent.end() > self.position => extent.end(),
            _ => u64::MAX,
        };
        Some(result)
    }
}
