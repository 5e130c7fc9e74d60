//! Layers merged without copying: each is a device, as is each device of an image.
//!
//! A file in consecutive blocks becomes a flat inode that starts at its place in the unified address space, so it takes no
//! table; what is inlined in a layer is inlined here too. Files in chunks, holes and all, keep chunks.

use super::embed::Blob;
use super::{Index, IndexError, IndexOptions, needs_wide, tag};
use crate::data::output::Output;
use crate::data::tails::Tails;
use crate::data::writer::Writer;
use crate::options::{BuildError, folder};
use crate::plan::inode_data::LayerFileData;
use crate::plan::layer_files::Placer;
use crate::source::layers::{
    Layer, LayerContent, LayerRules, LayerSource, Merged, OpenLayer, merge,
};
use crate::tree::{Body, Location};
use erofs_format::device::DeviceSlot;
use erofs_format::feature::FeatureIncompat;
use erofs_format::{BlockAddr, BlockBits, DeviceId};
use std::path::Path;

impl<'o> Index<'o> {
    pub(super) fn of_layers(
        layers: Vec<Layer>,
        strip: bool,
        is_embedded: bool,
        output: &Path,
        options: &IndexOptions,
        out: &'o Output,
    ) -> Result<Self, BuildError> {
        let block_bits = block_bits(&layers, is_embedded)?;
        let rules = LayerRules {
            rules: &options.image.rules,
            strip,
        };
        let Merged { tree, content } =
            merge(layers, options.image.empty_tree()?, &rules, folder(output))?;
        let merged = Merged {
            tree: options.image.settle(tree)?,
            content,
        };
        let (devices, first) = devices(&merged.content, output, block_bits)?;
        let data_start = options.header(devices.len(), block_bits).end(block_bits)?;
        let mut writer = Writer::new(out, data_start.0 << block_bits.bits(), block_bits);
        let mut tails = Tails::new(super::TAIL_MEMORY, folder(output).to_path_buf());
        // None of the data is in the index itself.
        let own = std::iter::once(0);
        let blocks: Vec<u64> = own.chain(devices.iter().map(|slot| slot.blocks)).collect();
        let mut placer = Placer {
            tree: &merged.tree,
            content: &merged.content,
            first_devices: &first,
            blocks: &blocks,
            block_bits,
            writer: &mut writer,
            tails: &mut tails,
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

/// The device table, and for each layer its first device.
fn devices(
    content: &LayerContent,
    output: &Path,
    block_bits: BlockBits,
) -> Result<(Vec<DeviceSlot>, Vec<DeviceId>), IndexError> {
    let mut slots = Vec::new();
    let mut first_devices = Vec::new();
    let slot = |path: &Path, blocks| DeviceSlot {
        tag: tag(path, output),
        blocks,
        unified_start: BlockAddr(0),
    };
    for (path, layer) in &content.layers {
        // Too many are counted below.
        first_devices.push(DeviceId::from_slot(slots.len()).unwrap_or(DeviceId::PRIMARY));
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
    Ok((slots, first_devices))
}
