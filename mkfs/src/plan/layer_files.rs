//! Where files of layers are that stay in their blocks.
//!
//! A file in consecutive blocks becomes a flat inode, so it takes no table; what is inlined in a layer is inlined here too.
//! Files in chunks, holes and all, keep chunks.

use super::can_inline;
use super::chunk_table::{ChunkPiece, aligned_shift};
use super::inode_data::LayerFileData;
use super::xattrs::XattrPlan;
use crate::data::tails::Tails;
use crate::data::writer::Writer;
use crate::image::ImageError;
use crate::index::IndexError;
use crate::options::BuildError;
use crate::source::layers::{FileSource, LayerContent, OpenLayer};
use crate::tree::{DataRange, FrozenTree, InodeId};
use erofs_format::device::DeviceSlot;
use erofs_format::inode::EXTENDED_INODE_SIZE;
use erofs_format::{BlockAddr, BlockBits, DeviceId, Nid};
use erofs_reader::{Image, Place};

/// Finds out where files are, and copies what is in no block of its own.
pub(crate) struct Placer<'a, 'o> {
    /// The merged tree.
    pub(crate) tree: &'a FrozenTree,
    /// Layers and files.
    pub(crate) content: &'a LayerContent,
    /// For each layer the device that holds it; its own devices follow that.
    pub(crate) first_devices: &'a [DeviceId],
    /// Blocks of each device that data may lie in, the image itself first.
    pub(crate) blocks: &'a [u64],
    pub(crate) block_bits: BlockBits,
    /// Takes what is copied into the image.
    pub(crate) writer: &'a mut Writer<'o>,
    pub(crate) tails: &'a mut Tails,
}

/// Where the bytes of a file are: whole blocks, then perhaps a tail behind the inode.
#[derive(Default)]
struct Map {
    /// Stretches in ascending order, as long as possible.
    pieces: Vec<Piece>,
    /// The inlined tail.
    tail: Option<Vec<u8>>,
}

/// A stretch of a file on a device.
struct Piece {
    logical: u64,
    length: u64,
    device: DeviceId,
    /// First byte on the device: a block's.
    offset: u64,
}

impl Map {
    fn push(&mut self, piece: Piece) {
        match self.pieces.last_mut() {
            Some(last)
                if last.device == piece.device
                    && last.logical + last.length == piece.logical
                    && last.offset + last.length == piece.offset =>
            {
                last.length += piece.length;
            }
            _ => self.pieces.push(piece),
        }
    }
}

/// Gives all devices their places in the unified address space, from block `first` on, and with them the files that are addressed by
/// these.
pub(crate) fn place_devices(
    devices: &mut [DeviceSlot],
    files: &mut [Option<LayerFileData>],
    first: BlockAddr,
) {
    let mut next = first;
    for device in &mut *devices {
        device.unified_start = next;
        next = BlockAddr(next.0 + device.blocks);
    }
    for file in files.iter_mut().flatten() {
        if let LayerFileData::Flat {
            device: Some(device),
            start,
            unified_start,
            ..
        } = file
            && let Some(slot) = usize::from(device.0).checked_sub(1)
            && let Some(device) = devices.get(slot)
        {
            *unified_start = BlockAddr(device.unified_start.0 + start.0);
        }
    }
}

impl Placer<'_, '_> {
    /// Where file `number` of the layers, which is inode `id`, is in the image.
    ///
    /// # Errors
    /// [`IndexError`]; [`ImageError`] when what is copied cannot be written.
    pub(crate) fn place(
        &mut self,
        id: InodeId,
        number: u32,
        size: u64,
    ) -> Result<LayerFileData, BuildError> {
        let Map { mut pieces, tail } = self.map(id, number, size)?;
        let attributes = self.tree.xattrs.get(self.tree.inode(id).xattrs);
        let head = EXTENDED_INODE_SIZE + XattrPlan::largest_body(attributes);
        let tail_size = tail.as_ref().map_or(0, Vec::len) as u64;
        let is_flat = match &*pieces {
            [] => tail_size == size,
            [piece] => piece.logical == 0 && piece.length + tail_size == size,
            _ => false,
        };
        if is_flat && (tail_size == 0 || can_inline(head, size, self.block_bits)) {
            let tail = tail.map(|tail| self.tails.push(&tail)).transpose();
            let start = pieces.first().map_or(0, |piece| piece.offset);
            return Ok(LayerFileData::Flat {
                device: pieces.first().map(|piece| piece.device),
                start: BlockAddr(self.block_bits.whole_blocks(start)),
                unified_start: BlockAddr(0),
                tail: tail.map_err(ImageError::from)?,
            });
        }
        if let Some(tail) = tail {
            let offset = self.copy(&tail, pieces.last())?;
            pieces.push(Piece {
                logical: size - tail_size,
                length: tail_size,
                device: DeviceId::PRIMARY,
                offset,
            });
        }
        let ranges: Vec<DataRange> = pieces
            .iter()
            .map(|piece| DataRange {
                offset: piece.logical,
                length: piece.length,
            })
            .collect();
        let block_shift = aligned_shift(size, &ranges, self.block_bits);
        let chunk = self.block_bits.bytes() << block_shift;
        let pieces = pieces.iter().map(|piece| ChunkPiece {
            first: piece.logical / chunk,
            count: piece.length.div_ceil(chunk),
            device: piece.device,
            start: BlockAddr(self.block_bits.whole_blocks(piece.offset)),
        });
        Ok(LayerFileData::Chunked {
            block_shift,
            pieces: pieces.collect(),
        })
    }

    /// Writes bytes into a block of the index. Returns its place, which is not that of the sector behind `before` on
    /// another device: kernels merge reads of such neighbours (see [`super::raw_files`]).
    fn copy(&mut self, bytes: &[u8], before: Option<&Piece>) -> Result<u64, BuildError> {
        if before.is_some_and(|piece| piece.offset + piece.length == self.writer.position()) {
            self.writer
                .pad_to(self.writer.position() + 1)
                .map_err(ImageError::from)?;
            self.writer.pad_to_block().map_err(ImageError::from)?;
        }
        let at = self.writer.position();
        self.writer.write(bytes).map_err(ImageError::from)?;
        self.writer.pad_to_block().map_err(ImageError::from)?;
        Ok(at)
    }

    fn map(&self, id: InodeId, number: u32, size: u64) -> Result<Map, IndexError> {
        let mut map = Map::default();
        let Some((file, layer)) = self.content.file(number) else {
            return Ok(map);
        };
        let layer_number = file.layer as usize;
        match (&file.source, layer) {
            (FileSource::Inode(nid), OpenLayer::Image { image, .. }) => {
                self.map_inode(id, layer_number, image, *nid, &mut map)?;
            }
            (FileSource::Archive { offset, ranges }, _) => {
                let device = self.device(layer_number, DeviceId::PRIMARY);
                let whole = [DataRange {
                    offset: 0,
                    length: size,
                }];
                let mut at = *offset;
                let ranges = ranges.as_ref().map(|ranges| ranges.ranges());
                for range in ranges.unwrap_or(&whole) {
                    let is_last = range.offset + range.length == size;
                    if !self.is_aligned(at)
                        || !self.is_aligned(range.offset)
                        || !(is_last || self.is_aligned(range.length))
                    {
                        let path = self.tree.path(id);
                        return Err(IndexError::UnalignedPiece { path });
                    }
                    map.push(Piece {
                        logical: range.offset,
                        length: range.length,
                        device,
                        offset: at,
                    });
                    at += range.length;
                }
            }
            (FileSource::Inode(_), OpenLayer::Tar(_)) => {}
        }
        Ok(map)
    }

    fn map_inode(
        &self,
        id: InodeId,
        layer: usize,
        image: &Image,
        nid: Nid,
        map: &mut Map,
    ) -> Result<(), IndexError> {
        let failed = |source| IndexError::Layer {
            layer: self.content.layers[layer].0.clone(),
            path: self.tree.path(id),
            source,
        };
        let inode = image.inode(nid).map_err(failed)?;
        for extent in image.extents(&inode) {
            let extent = extent.map_err(failed)?;
            let form = match extent.place {
                Place::Hole => continue,
                // In the unified address space the data of another layer comes there.
                Place::Data { device, offset }
                    if !self.is_inside(layer, device, offset.0, extent.length) =>
                {
                    return Err(IndexError::Outside {
                        layer: self.content.layers[layer].0.clone(),
                        path: self.tree.path(id),
                    });
                }
                Place::Data { device, offset }
                    if self.is_aligned(offset.0) && self.is_aligned(extent.logical) =>
                {
                    map.push(Piece {
                        logical: extent.logical,
                        length: extent.length,
                        device: self.device(layer, device),
                        offset: offset.0,
                    });
                    continue;
                }
                Place::Inline { .. } if extent.length < self.block_bits.bytes() => {
                    let mut tail = vec![0; extent.length as usize];
                    image
                        .read(&inode, extent.logical, &mut tail)
                        .map_err(failed)?;
                    map.tail = Some(tail);
                    continue;
                }
                Place::Data { .. } | Place::Inline { .. } => "not at the start of a block",
                Place::Packed { .. } => "a fragment",
                Place::Encoded { .. } => "compressed",
            };
            return Err(IndexError::NotInBlocks {
                layer: self.content.layers[layer].0.clone(),
                path: self.tree.path(id),
                form,
            });
        }
        Ok(())
    }

    /// The device of the image that is a device of a layer.
    fn device(&self, layer: usize, own: DeviceId) -> DeviceId {
        // Counted when the table was made.
        DeviceId(self.first_devices[layer].0.saturating_add(own.0))
    }

    /// Whether a stretch of bytes is within the blocks of a device of a layer.
    fn is_inside(&self, layer: usize, own: DeviceId, offset: u64, length: u64) -> bool {
        let blocks = self.blocks.get(usize::from(self.device(layer, own).0));
        let end = offset.checked_add(length);
        blocks
            .zip(end)
            .is_some_and(|(blocks, end)| self.block_bits.blocks_for(end) <= *blocks)
    }

    const fn is_aligned(&self, bytes: u64) -> bool {
        self.block_bits.offset_in_block(bytes) == 0
    }
}
