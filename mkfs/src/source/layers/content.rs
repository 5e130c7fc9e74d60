//! What files of layers hold.

use super::LayerError;
use crate::data::pipeline::{ContentReader, FileContent};
use crate::source::StoreError;
use crate::source::directory::read_at;
use crate::tree::{DataRange, Location};
use erofs_format::Nid;
use erofs_format::inode::DataLayout;
use erofs_reader::{Image, Place};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

/// A file of a layer, by its number in [`Location::Layer`].
#[derive(Debug, Clone)]
pub struct LayerFile {
    /// Number of the layer, from the lowest.
    pub layer: u32,
    /// Where in it.
    pub source: FileSource,
}

/// Where a file is in its layer.
#[derive(Debug, Clone)]
pub enum FileSource {
    /// An inode of an image.
    Inode(Nid),
    /// Bytes of a tar.
    Archive {
        /// Offset of the first stored byte.
        offset: u64,
        /// The stretches with data, which lie one after the other, when it is sparse.
        ranges: Option<Arc<[DataRange]>>,
    },
}

impl LayerFile {
    /// Gives the file the next number.
    pub(super) fn push(self, files: &mut Vec<Self>) -> Result<Location, LayerError> {
        let number = u32::try_from(files.len()).map_err(|_| LayerError::TooManyFiles)?;
        files.push(self);
        Ok(Location::Layer(number))
    }
}

/// An open layer.
#[derive(Debug)]
pub enum OpenLayer {
    /// An image.
    Image {
        /// The image.
        image: Arc<Image>,
        /// Files of its extra devices, by slot.
        devices: Vec<PathBuf>,
    },
    /// A plain tar; `None` of one that is empty.
    Tar(Option<Arc<File>>),
}

/// Layers, the lowest first, and their files.
#[derive(Debug, Default)]
pub struct LayerContent {
    /// Path and content of each layer.
    pub layers: Vec<(PathBuf, OpenLayer)>,
    /// Files by their number; some may be part of the tree no more.
    pub files: Vec<LayerFile>,
}

impl LayerContent {
    pub(super) fn next_layer(&self) -> Result<u32, LayerError> {
        u32::try_from(self.layers.len()).map_err(|_| LayerError::TooManyFiles)
    }

    /// File number `number`, and the layer that it is in.
    pub fn file(&self, number: u32) -> Option<(&LayerFile, &OpenLayer)> {
        let file = self.files.get(number as usize)?;
        let (_, layer) = self.layers.get(file.layer as usize)?;
        Some((file, layer))
    }
}

/// Reads files of layers for the pipeline; [`FileContent::position`] is the number of the file.
#[derive(Debug)]
pub struct LayerReader {
    /// The layers.
    pub content: LayerContent,
}

impl LayerReader {
    /// The stretches of file `number` that hold data, ascending and apart; `None` for a file without holes. `path` is for
    /// messages.
    ///
    /// # Errors
    /// [`LayerError::Image`] when the map of the file cannot be read.
    pub(crate) fn ranges(
        &self,
        number: u32,
        path: impl Fn() -> Vec<u8>,
    ) -> Result<Option<Vec<DataRange>>, LayerError> {
        let Some((file, layer)) = self.content.file(number) else {
            return Ok(None);
        };
        match (&file.source, layer) {
            (FileSource::Archive { ranges, .. }, _) => {
                Ok(ranges.as_ref().map(|ranges| ranges.to_vec()))
            }
            (FileSource::Inode(nid), OpenLayer::Image { image, .. }) => data_ranges(image, *nid)
                .map_err(|source| LayerError::Image {
                    layer: self.content.layers[file.layer as usize].0.clone(),
                    path: path(),
                    source,
                }),
            (FileSource::Inode(_), OpenLayer::Tar(_)) => Ok(None),
        }
    }
}

fn data_ranges(image: &Image, nid: Nid) -> Result<Option<Vec<DataRange>>, erofs_reader::Error> {
    let inode = image.inode(nid)?;
    // Other layouts have holes too, but neither many nor cheaply found.
    if inode.layout != DataLayout::ChunkBased {
        return Ok(None);
    }
    let mut ranges: Vec<DataRange> = Vec::new();
    let mut has_holes = false;
    for extent in image.extents(&inode) {
        let extent = extent?;
        if extent.place == Place::Hole {
            has_holes = true;
            continue;
        }
        match ranges.last_mut() {
            Some(last) if last.offset + last.length == extent.logical => {
                last.length += extent.length;
            }
            _ => ranges.push(DataRange {
                offset: extent.logical,
                length: extent.length,
            }),
        }
    }
    Ok(has_holes.then_some(ranges))
}

impl ContentReader for LayerReader {
    fn read(
        &self,
        file: &FileContent,
        offset: u64,
        length: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let failed = |source: io::Error| StoreError::Read {
            path: file.path.to_vec(),
            source,
        };
        let number = u32::try_from(file.position).ok();
        let found = number.and_then(|number| self.content.file(number));
        let (layer_file, layer) = found.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let read = match (&layer_file.source, layer) {
            (FileSource::Inode(nid), OpenLayer::Image { image, .. }) => {
                let start = out.len();
                let wanted = usize::try_from(length)
                    .map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
                out.resize(start + wanted, 0);
                let read = image
                    .inode(*nid)
                    .and_then(|inode| {
                        let room = out.get_mut(start..).unwrap_or_default();
                        image.read(&inode, offset, room)
                    })
                    .map_err(|error| failed(io::Error::other(error)))?;
                out.truncate(start + read);
                read as u64
            }
            (
                FileSource::Archive {
                    offset: base,
                    ranges,
                },
                OpenLayer::Tar(Some(tar)),
            ) => {
                let at = base + stored_before(ranges.as_deref(), offset);
                read_at(tar.as_fd(), at, length, out).map_err(failed)?
            }
            _ => return Err(failed(io::ErrorKind::NotFound.into())),
        };
        if read < length {
            return Err(StoreError::Short {
                path: file.path.to_vec(),
                expected: file.size,
                found: offset + read,
            });
        }
        Ok(())
    }
}

/// Bytes that a sparse file's archive holds in front of byte `offset` of the file.
fn stored_before(ranges: Option<&[DataRange]>, offset: u64) -> u64 {
    let Some(ranges) = ranges else {
        return offset;
    };
    let before = ranges.iter().take_while(|range| range.offset < offset);
    before
        .map(|range| range.length.min(offset - range.offset))
        .sum()
}
