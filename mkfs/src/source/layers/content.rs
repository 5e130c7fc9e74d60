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
        ranges: Option<Arc<StoredRanges>>,
    },
}

/// The stretches with data of a sparse file, of which an archive holds one behind the other.
#[derive(Debug)]
pub struct StoredRanges {
    ranges: Box<[DataRange]>,
    /// For each of them how many bytes of the file are stored in front of it.
    before: Box<[u64]>,
}

impl StoredRanges {
    /// Of stretches that ascend and are apart.
    pub fn new(ranges: &[DataRange]) -> Self {
        let lengths = ranges.iter().map(|range| range.length);
        let before = lengths.scan(0, |sum, length| {
            let before = *sum;
            *sum += length;
            Some(before)
        });
        Self {
            ranges: ranges.into(),
            before: before.collect(),
        }
    }

    /// The stretches.
    pub fn ranges(&self) -> &[DataRange] {
        &self.ranges
    }

    /// How many bytes are stored in front of byte `offset` of the file.
    fn stored_before(&self, offset: u64) -> u64 {
        let begun = self.ranges.partition_point(|range| range.offset < offset);
        let last = begun.checked_sub(1);
        last.and_then(|last| Some((self.ranges.get(last)?, self.before.get(last)?)))
            .map_or(0, |(range, before)| {
                before + range.length.min(offset - range.offset)
            })
    }
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
                Ok(ranges.as_ref().map(|ranges| ranges.ranges().to_vec()))
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
                let stored = ranges.as_ref().map(|ranges| ranges.stored_before(offset));
                let at = base + stored.unwrap_or(offset);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_in_front_of_a_byte_is_found_among_a_million_stretches() {
        let range = |number: u64| DataRange {
            offset: 8 * number + 3,
            length: 2,
        };
        let ranges: Vec<DataRange> = (0..1_000_000).map(range).collect();
        let stored = StoredRanges::new(&ranges);
        assert_eq!(stored.ranges(), ranges);
        assert_eq!(StoredRanges::new(&[]).stored_before(100), 0);
        for number in 0..1_000_000 {
            let offsets = (0..8).map(|offset| stored.stored_before(8 * number + offset));
            let inside = [0, 0, 0, 0, 1, 2, 2, 2].map(|bytes| 2 * number + bytes);
            assert!(offsets.eq(inside), "{number}");
        }
    }
}
