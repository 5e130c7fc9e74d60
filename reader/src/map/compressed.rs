//! Compressed layouts: the map header, and what all forms of index share.

use super::{Extent, Place, Stored, extents, index};
use crate::error::{Error, Rule};
use crate::image::Image;
use crate::inode::Inode;
use crate::metadata::Window;
use erofs_format::compression::map_header::{self, MAP_HEADER_SIZE, MapHeader};
use erofs_format::compression::{Algorithm, MAX_EXTENT_SIZE, MAX_PCLUSTER_SIZE};
use erofs_format::{ByteOffset, DeviceId};

/// What the map says about a byte of the file.
pub(super) enum Located {
    /// Nothing is left to look up.
    Extent(Extent),
    /// A pcluster, neither checked nor resolved.
    Pcluster(Pcluster),
}

/// What all look-ups in the map of one file begin with, and the metadata that the last one read.
#[derive(Debug)]
pub(super) struct Map {
    /// Where the map header is.
    start: ByteOffset,
    header: MapHeader,
    window: Window,
}

impl Map {
    /// Reads the map header of a compressed file.
    pub(super) fn open(image: &Image, inode: &Inode) -> Result<Self, Error> {
        let end = inode.after_xattrs(1)?;
        let start = map_header::position(end).ok_or_else(|| inode.corrupt(Rule::Overflow, end))?;
        let mut bytes = [0; MAP_HEADER_SIZE as usize];
        let mut window = Window::default();
        let (nid, area) = (Some(inode.nid()), inode.position().0);
        image.read_through(&mut window, nid, area, start, &mut bytes)?;
        let header = MapHeader::decode(&bytes, inode.layout, image.superblock())
            .map_err(|error| inode.corrupt(Rule::MapHeader(error), start))?;
        Ok(Self {
            start,
            header,
            window,
        })
    }

    /// The extent that holds `position`, which is below the file's size.
    pub(super) fn extent_at(
        &mut self,
        image: &Image,
        inode: &Inode,
        position: u64,
    ) -> Result<Extent, Error> {
        match self.locate(image, inode, position)? {
            Located::Extent(extent) => Ok(extent),
            Located::Pcluster(pcluster) => pcluster.extent_at(image, inode, position),
        }
    }

    /// What the map says about `position`, which is below the file's size.
    pub(super) fn locate(
        &mut self,
        image: &Image,
        inode: &Inode,
        position: u64,
    ) -> Result<Located, Error> {
        let metadata = Metadata {
            image,
            inode,
            window: &mut self.window,
        };
        match &self.header {
            MapHeader::Fragment { offset } => Ok(Located::Extent(Extent {
                logical: 0,
                length: inode.data_size(),
                place: Place::Packed { offset: *offset },
            })),
            MapHeader::Index(header) => index::locate(metadata, header, self.start, position),
            MapHeader::Extents(header) => extents::locate(metadata, header, self.start, position),
        }
    }
}

/// The metadata of a compressed file.
pub(super) struct Metadata<'a> {
    pub(super) image: &'a Image,
    pub(super) inode: &'a Inode,
    window: &'a mut Window,
}

impl Metadata<'_> {
    /// Fills `buffer` from byte `offset` of the inode's area.
    pub(super) fn read(&mut self, offset: ByteOffset, buffer: &mut [u8]) -> Result<(), Error> {
        let (nid, area) = (Some(self.inode.nid()), self.inode.position().0);
        self.image
            .read_through(self.window, nid, area, offset, buffer)
    }
}

/// An extent of a compressed file before it is checked and resolved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pcluster {
    /// First byte of the extent in the file.
    pub(super) logical: u64,
    /// First byte behind it in the file.
    pub(super) end: u64,
    /// Where the stored bytes begin, in the unified address space.
    pub(super) start: ByteOffset,
    /// How many there are.
    pub(super) length: u64,
    /// `None` for plain data.
    pub(super) algorithm: Option<Algorithm>,
    /// Plain data that keeps its offset in the block.
    pub(super) interlaced: bool,
    /// It may decode to more than the extent.
    pub(super) partial: bool,
}

impl Pcluster {
    /// The extent of the file that holds `position`.
    pub(super) fn extent_at(
        self,
        image: &Image,
        inode: &Inode,
        position: u64,
    ) -> Result<Extent, Error> {
        let corrupt = |rule| inode.corrupt(rule, ByteOffset(self.logical));
        let length = checked_length(inode, self.logical, self.end)?;
        if self.length > MAX_PCLUSTER_SIZE {
            return Err(corrupt(Rule::PclusterSize {
                length: self.length,
            }));
        }
        let Some(algorithm) = self.algorithm else {
            if length > self.length {
                return Err(corrupt(Rule::PlainTooLong {
                    length,
                    stored: self.length,
                }));
            }
            return self.plain_at(image, inode, position);
        };
        check_algorithm(image, inode, self.logical, algorithm)?;
        let resolved = image
            .devices()
            .resolve(DeviceId::PRIMARY, self.start, self.length)
            .map_err(corrupt)?;
        if resolved.length < self.length {
            return Err(corrupt(Rule::CrossesDevices {
                length: self.length,
            }));
        }
        Ok(Extent {
            logical: self.logical,
            length,
            place: Place::Encoded {
                stored: Stored::Device {
                    device: resolved.device,
                    offset: resolved.offset,
                },
                length: self.length,
                algorithm,
                partial: self.partial,
            },
        })
    }

    /// Plain data is like data of a flat file; interlaced, what lies before the first block boundary of the file comes
    /// last (`z_erofs_transform_plain`, fs/erofs/decompressor.c).
    fn plain_at(self, image: &Image, inode: &Inode, position: u64) -> Result<Extent, Error> {
        let bits = image.superblock().block_bits;
        let block_left = bits.bytes() - bits.offset_in_block(self.logical);
        let boundary = self.logical.saturating_add(block_left);
        let (end, stored) = if !self.interlaced {
            (self.end, Some(position - self.logical))
        } else if position < boundary {
            let last = self.length.checked_sub(block_left);
            (
                self.end.min(boundary),
                last.map(|last| last + (position - self.logical)),
            )
        } else {
            (self.end, Some(position - boundary))
        };
        let offset = stored
            .and_then(|stored| self.start.checked_add(stored))
            .ok_or_else(|| inode.corrupt(Rule::Overflow, ByteOffset(self.logical)))?;
        image.data_extent(inode, position, end - position, DeviceId::PRIMARY, offset)
    }
}

/// Length of an extent that must not be empty nor larger than the kernel decodes.
pub(super) fn checked_length(inode: &Inode, logical: u64, end: u64) -> Result<u64, Error> {
    let length = end.saturating_sub(logical);
    if (1..=MAX_EXTENT_SIZE).contains(&length) {
        Ok(length)
    } else {
        Err(inode.corrupt(Rule::ExtentSize { length }, ByteOffset(logical)))
    }
}

/// Refuses algorithms that the superblock does not list.
pub(super) fn check_algorithm(
    image: &Image,
    inode: &Inode,
    logical: u64,
    algorithm: Algorithm,
) -> Result<(), Error> {
    if image.superblock().algorithms() & algorithm.bit() == 0 {
        return Err(inode.corrupt(Rule::AlgorithmNotListed(algorithm), ByteOffset(logical)));
    }
    Ok(())
}
