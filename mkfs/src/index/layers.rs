//! Layers merged without copying: each is a device, as is each device of an image.
//!
//! A file in consecutive blocks becomes a flat inode that starts at its place in the unified address space, so it takes no
//! table; what is inlined in a layer is inlined here too. Files in chunks, holes and all, keep chunks.

use super::embed::Blob;
use super::{Index, IndexError, header, needs_wide, tag};
use crate::data::output::Output;
use crate::data::tails::Tails;
use crate::data::writer::Writer;
use crate::image::ImageError;
use crate::options::{BuildError, ImageOptions, folder};
use crate::plan::can_inline;
use crate::plan::chunk_table::{ChunkPiece, aligned_shift};
use crate::plan::inode_data::LayerFileData;
use crate::plan::xattrs::XattrPlan;
use crate::source::layers::{
    FileSource, Layer, LayerContent, LayerRules, LayerSource, Merged, OpenLayer, merge,
};
use crate::tree::{Body, DataRange, FrozenTree, InodeId, Location};
use erofs_format::device::DeviceSlot;
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::EXTENDED_INODE_SIZE;
use erofs_format::{BlockAddr, BlockBits, DeviceId, Nid};
use erofs_reader::{Image, Place};
use std::path::Path;

impl<'o> Index<'o> {
    pub(super) fn of_layers(
        layers: Vec<Layer>,
        strip: bool,
        is_embedded: bool,
        output: &Path,
        options: &ImageOptions,
        out: &'o Output,
    ) -> Result<Self, BuildError> {
        let block_bits = block_bits(&layers, is_embedded)?;
        let rules = LayerRules {
            rules: &options.rules,
            strip,
        };
        let Merged { tree, content } =
            merge(layers, options.empty_tree()?, &rules, folder(output))?;
        let merged = Merged {
            tree: options.settle(tree)?,
            content,
        };
        let (devices, first_slots) = devices(&merged.content, output, block_bits)?;
        let data_start = header(&devices).end(block_bits)?;
        let mut placer = Placer {
            tree: &merged.tree,
            content: &merged.content,
            first_slots: &first_slots,
            devices: &devices,
            block_bits,
            writer: Writer::new(out, data_start.0 << block_bits.bits(), block_bits),
            tails: Tails::new(super::TAIL_MEMORY, folder(output).to_path_buf()),
        };
        let mut layer_files = vec![None; merged.content.files.len()];
        let mut incompat = FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2;
        incompat.set(FeatureIncompat::BIT48, needs_wide(&devices));
        let mut bytes_in = 0;
        for id in merged.tree.depth_first() {
            let Body::Regular { size, location } = merged.tree.inode(id).body else {
                continue;
            };
            bytes_in += size;
            if let Location::Layer(number) = location {
                let data = placer.place(id, number, size)?;
                incompat.set(
                    FeatureIncompat::CHUNKED_FILE,
                    incompat.contains(FeatureIncompat::CHUNKED_FILE)
                        || matches!(data, LayerFileData::Chunked { .. }),
                );
                layer_files[number as usize] = Some(data);
            } else if size > 0 {
                incompat |= FeatureIncompat::CHUNKED_FILE;
            }
        }
        let Placer { writer, tails, .. } = placer;
        let blobs = match is_embedded {
            true => Blob::of_layers(&merged.content)?,
            false => Vec::new(),
        };
        Ok(Self {
            tree: merged.tree,
            block_bits,
            raw_files: Vec::new(),
            layer_files,
            tails,
            devices,
            incompat,
            data_start,
            writer,
            bytes_in,
            blobs,
        })
    }
}

/// The block size that all layers have. Tars that are unpacked anyway may be compressed.
fn block_bits(layers: &[Layer], is_embedded: bool) -> Result<BlockBits, IndexError> {
    let mut all: Option<BlockBits> = None;
    for layer in layers {
        let own = match &layer.source {
            LayerSource::Image { image, .. } => image.superblock().block_bits,
            LayerSource::Tar(archive) if is_embedded || archive.file().is_some() => BlockBits::B512,
            LayerSource::Tar(_) => return Err(IndexError::NotInPlace(layer.path.clone())),
        };
        let all = *all.get_or_insert(own);
        if all != own {
            return Err(IndexError::BlockSizes {
                layer: layer.path.clone(),
                other: own.bytes(),
                bytes: all.bytes(),
            });
        }
    }
    Ok(all.unwrap_or(BlockBits::B4096))
}

/// The device table, and for each layer the slot of its first device.
fn devices(
    content: &LayerContent,
    output: &Path,
    block_bits: BlockBits,
) -> Result<(Vec<DeviceSlot>, Vec<usize>), IndexError> {
    let mut slots = Vec::new();
    let mut first_slots = Vec::new();
    let slot = |path: &Path, blocks| DeviceSlot {
        tag: tag(path, output),
        blocks,
        unified_start: BlockAddr(0),
    };
    for (path, layer) in &content.layers {
        first_slots.push(slots.len());
        match layer {
            OpenLayer::Image { image, devices } => {
                let own = if devices.is_empty() {
                    image.total_bytes()
                } else {
                    image.superblock().blocks << block_bits.bits()
                };
                slots.push(slot(path, block_bits.blocks_for(own)));
                for (device, path) in image.device_slots().iter().zip(devices) {
                    slots.push(slot(path, device.blocks));
                }
            }
            OpenLayer::Tar(file) => {
                let length = match file {
                    Some(file) => file.metadata().map(|metadata| metadata.len()),
                    None => Ok(0),
                };
                let length = length.map_err(|source| IndexError::Read {
                    path: path.as_os_str().as_encoded_bytes().to_vec(),
                    source,
                })?;
                slots.push(slot(path, block_bits.blocks_for(length)));
            }
        }
    }
    if u16::try_from(slots.len()).is_err() {
        return Err(IndexError::TooManyFiles(slots.len()));
    }
    Ok((slots, first_slots))
}

/// Finds out where files are, and copies what is in no block of its own.
struct Placer<'a, 'o> {
    tree: &'a FrozenTree,
    content: &'a LayerContent,
    first_slots: &'a [usize],
    devices: &'a [DeviceSlot],
    block_bits: BlockBits,
    writer: Writer<'o>,
    tails: Tails,
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

impl Placer<'_, '_> {
    fn place(&mut self, id: InodeId, number: u32, size: u64) -> Result<LayerFileData, BuildError> {
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

    /// The device of the index that is a device of a layer.
    fn device(&self, layer: usize, own: DeviceId) -> DeviceId {
        // Counted when the table was made.
        DeviceId::from_slot(self.slot(layer, own)).unwrap_or(DeviceId::PRIMARY)
    }

    fn slot(&self, layer: usize, own: DeviceId) -> usize {
        self.first_slots[layer] + own.slot().map_or(0, |slot| slot + 1)
    }

    /// Whether a stretch of bytes is within the blocks of a device of a layer.
    fn is_inside(&self, layer: usize, own: DeviceId, offset: u64, length: u64) -> bool {
        let device = self.devices.get(self.slot(layer, own));
        let end = offset.checked_add(length);
        device
            .zip(end)
            .is_some_and(|(device, end)| self.block_bits.blocks_for(end) <= device.blocks)
    }

    const fn is_aligned(&self, bytes: u64) -> bool {
        self.block_bits.offset_in_block(bytes) == 0
    }
}
