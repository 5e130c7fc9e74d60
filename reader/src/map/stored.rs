//! The map of a file as it is stored: whole pclusters where the index says they are, plain ones too.
//!
//! [`Image::extent_at`] answers where bytes are read from; this answers what the image says about them, also where that
//! breaks a rule which only reading enforces.

use super::compressed::{Located, Pcluster};
use super::{Extent, FileMap, Place, Stored};
use crate::error::{Error, Rule};
use crate::image::Image;
use crate::inode::Inode;
use crate::metadata::Area;
use erofs_format::compression::Algorithm;
use erofs_format::{ByteOffset, DeviceId};

/// A run of bytes of a file and what is stored for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredExtent {
    /// First byte in the file.
    pub logical: u64,
    /// Length in the file in bytes.
    pub length: u64,
    /// In which form the bytes are stored.
    pub form: Form,
    /// Where they are stored; `None` for a hole.
    pub location: Option<Location>,
    /// How many bytes are stored, with padding inside of the pcluster; 0 for a hole.
    pub stored_length: u64,
}

/// In which form the bytes of an extent are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Not at all: it reads as zeros.
    Hole,
    /// As they are, in a file without compression.
    Data,
    /// As they are, in a pcluster.
    Plain {
        /// Bytes keep their offset in the block.
        interlaced: bool,
    },
    /// Encoded.
    Encoded {
        /// How.
        algorithm: Algorithm,
        /// The pcluster may decode to more than the extent.
        partial: bool,
    },
    /// In the packed inode.
    Fragment,
}

/// Where stored bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Location {
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
    /// In the packed inode's data.
    Packed {
        /// First byte in it.
        offset: u64,
    },
}

impl Image {
    /// The extents of a file as they are stored, in ascending order and without gaps. The iterator ends after the first
    /// error.
    pub fn stored_extents<'a>(&'a self, inode: &Inode) -> StoredExtents<'a> {
        StoredExtents {
            image: self,
            inode: *inode,
            map: FileMap::default(),
            position: 0,
        }
    }

    fn stored_at(
        &self,
        map: &mut FileMap,
        inode: &Inode,
        position: u64,
    ) -> Result<StoredExtent, Error> {
        let located = if inode.layout.is_compressed() {
            map.compressed(self, inode)?.locate(self, inode, position)?
        } else {
            let gap = || inode.corrupt(Rule::MapGap, ByteOffset(position));
            Located::Extent(self.extent_at(inode, position)?.ok_or_else(gap)?)
        };
        match located {
            Located::Extent(extent) => Ok(extent.into_stored(inode.layout.is_compressed())),
            Located::Pcluster(pcluster) => self.stored_pcluster(inode, &pcluster),
        }
    }

    fn stored_pcluster(&self, inode: &Inode, pcluster: &Pcluster) -> Result<StoredExtent, Error> {
        let resolved = self
            .devices()
            .resolve(DeviceId::PRIMARY, pcluster.start, pcluster.length)
            .map_err(|rule| inode.corrupt(rule, ByteOffset(pcluster.logical)))?;
        Ok(StoredExtent {
            logical: pcluster.logical,
            length: pcluster.end.saturating_sub(pcluster.logical),
            form: match pcluster.algorithm {
                Some(algorithm) => Form::Encoded {
                    algorithm,
                    partial: pcluster.partial,
                },
                None => Form::Plain {
                    interlaced: pcluster.interlaced,
                },
            },
            location: Some(Location::Device {
                device: resolved.device,
                offset: resolved.offset,
            }),
            stored_length: pcluster.length,
        })
    }
}

impl Extent {
    fn into_stored(self, compressed: bool) -> StoredExtent {
        let as_is = if compressed {
            Form::Plain { interlaced: false }
        } else {
            Form::Data
        };
        let (form, location, stored_length) = match self.place {
            Place::Hole => (Form::Hole, None, 0),
            Place::Data { device, offset } => (
                as_is,
                Some(Location::Device { device, offset }),
                self.length,
            ),
            Place::Inline { area, offset } => {
                (as_is, Some(Location::Inline { area, offset }), self.length)
            }
            Place::Packed { offset } => (
                Form::Fragment,
                Some(Location::Packed { offset }),
                self.length,
            ),
            Place::Encoded {
                stored,
                length,
                algorithm,
                partial,
            } => (
                Form::Encoded { algorithm, partial },
                Some(match stored {
                    Stored::Device { device, offset } => Location::Device { device, offset },
                    Stored::Inline { area, offset } => Location::Inline { area, offset },
                }),
                length,
            ),
        };
        StoredExtent {
            logical: self.logical,
            length: self.length,
            form,
            location,
            stored_length,
        }
    }
}

/// Iterator over a file's extents as they are stored.
#[derive(Debug)]
pub struct StoredExtents<'a> {
    image: &'a Image,
    inode: Inode,
    map: FileMap,
    position: u64,
}

impl Iterator for StoredExtents<'_> {
    type Item = Result<StoredExtent, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.inode.data_size() {
            return None;
        }
        let result = self
            .image
            .stored_at(&mut self.map, &self.inode, self.position);
        self.position = match &result {
            Ok(extent) => extent.logical.saturating_add(extent.length.max(1)),
            Err(_) => u64::MAX,
        };
        Some(result)
    }
}
