//! Writes an index whose tree and devices are known.
//!
//! Flat inodes tell where their data is by its place behind the index, so that has to be known before they are written. Compressed
//! metadata takes what it turns out to take: so it is first written as if nothing of it compressed, and then again with the devices
//! right behind what that took and little room to spare, which is filled with zeros.

use super::{Index, IndexOptions, Placement, embed};
use crate::build::Used;
use crate::data::made::MetadataPipeline;
use crate::data::output::Output;
use crate::image::{Finished, Header, Metadata as ImageMetadata};
use crate::options::{BuildError, requirements};
use crate::plan::index_form::IndexForm;
use crate::plan::inode_data::{CompressedDirectories, DataMap, LayerFileData};
use crate::plan::layer_files::place_devices;
use crate::plan::{Plan, most_frequent_time};
use crate::summary::Summary;
use erofs_format::feature::FeatureIncompat;
use erofs_format::kernel::Requirement;
use erofs_format::superblock::Superblock;
use erofs_format::{BlockAddr, DeviceId};
use std::collections::HashMap;
use std::time::Instant;

/// What was decided before anything is written.
struct Decided {
    header: Header,
    superblock: Superblock,
    plan: Plan,
    pipeline: Option<MetadataPipeline>,
}

impl Index<'_> {
    pub(super) fn write(
        mut self,
        out: &Output,
        options: &IndexOptions,
        placement: Placement<'_>,
        started: Instant,
    ) -> Result<Summary, BuildError> {
        if options.metabox.is_some() {
            self.tree.add_metabox(most_frequent_time(&self.tree))?;
        }
        let decided = self.decide(options)?;
        let mut requirements = requirements(&decided.superblock);
        if let Placement::Embedded { .. } = placement {
            requirements.push(Requirement::FlatDevices);
            requirements.sort_by_key(|requirement| requirement.since());
            embed::name(&mut self.devices);
        }
        options.image.check_kernel(&requirements)?;
        let mut finished = if self.has_flat_files() {
            self.write_in_front(&decided, options, out)?
        } else {
            self.write_metadata(&decided, options, out)?
        };
        if let Placement::Embedded { progress } = placement {
            let devices = &finished.devices;
            embed::write(&self.blobs, devices, self.block_bits, out, progress)?;
            if let Some(last) = devices.last() {
                finished.size = (last.unified_start.0 + last.blocks) << self.block_bits.bits();
            }
        }
        Ok(Summary::new(
            &self.tree,
            &finished,
            requirements,
            self.bytes_in,
            0,
            started.elapsed(),
        ))
    }

    fn decide(&self, options: &IndexOptions) -> Result<Decided, BuildError> {
        let pipeline = options.pipeline(self.block_bits);
        let reserved = options.header(self.devices.len(), self.block_bits);
        let superblock_with = |used: Used| {
            let header = Header {
                configs: used.configs(&reserved.configs),
                metabox: self.tree.metabox().is_some(),
                ..reserved.clone()
            };
            let (image, features) = (&options.image, self.incompat);
            let superblock = used.superblock(image, &self.tree, self.block_bits, features, &header);
            (header, superblock)
        };
        let plain = Used::default();
        let compressed = match &pipeline {
            Some(pipeline) => plain.with_method(pipeline.method(), self.block_bits),
            None => plain,
        };
        let (mut header, mut superblock) = superblock_with(compressed);
        let data = self.data_map(options, pipeline.as_ref(), &superblock);
        data.check_tables(&self.tree)?;
        let plan = Plan::new(&self.tree, &data, &superblock, &options.image, &[]);
        if !plan.compresses_metadata() {
            (header, superblock) = superblock_with(plain);
        }
        Ok(Decided {
            header,
            superblock,
            plan,
            pipeline,
        })
    }

    /// Whether any file is addressed by the place of its device behind the index.
    fn has_flat_files(&self) -> bool {
        let mut layer_files = self.layer_files.iter().flatten();
        self.raw_files.iter().any(|file| file.device.is_some())
            || layer_files.any(|file| {
                matches!(
                    file,
                    LayerFileData::Flat {
                        device: Some(_),
                        ..
                    }
                )
            })
    }

    /// Writes the metadata in front of devices that are as near as can be.
    fn write_in_front(
        &mut self,
        decided: &Decided,
        options: &IndexOptions,
        out: &Output,
    ) -> Result<Finished, BuildError> {
        let align = options.image.metadata.align_blocks;
        let start = self.writer.block();
        let most = decided.plan.most_end(start, self.block_bits);
        let most = BlockAddr(most.0.next_multiple_of(align));
        self.place_devices(most);
        let finished = self.write_metadata(decided, options, out)?;
        // Other addresses compress to another size.
        let spare = finished.end.0.saturating_sub(start.0) / 64 + 2;
        let nearer = BlockAddr((finished.end.0 + spare).next_multiple_of(align));
        if nearer >= most {
            return Ok(finished);
        }
        self.place_devices(nearer);
        let finished = self.write_metadata(decided, options, out)?;
        if finished.end <= nearer {
            return Ok(finished);
        }
        self.place_devices(most);
        self.write_metadata(decided, options, out)
    }

    /// Gives all devices their places in the unified address space, from block `first` on.
    fn place_devices(&mut self, first: BlockAddr) {
        place_devices(&mut self.devices, &mut self.layer_files, first);
        for raw in &mut self.raw_files {
            let slot = raw
                .device
                .and_then(|id| usize::from(id.0).checked_sub(1))
                .and_then(|slot| self.devices.get(slot));
            if let Some(device) = slot {
                raw.unified_start = device.unified_start;
            }
        }
    }

    fn write_metadata(
        &self,
        decided: &Decided,
        options: &IndexOptions,
        out: &Output,
    ) -> Result<Finished, BuildError> {
        let Decided {
            header,
            superblock,
            plan,
            pipeline,
        } = decided;
        let mut data = self.data_map(options, pipeline.as_ref(), superblock);
        data.metabox_size = plan.metabox_size();
        let metadata = ImageMetadata {
            tree: &self.tree,
            data,
            tails: &self.tails,
            plan: plan.clone(),
            pipeline: pipeline.clone(),
            superblock: superblock.clone(),
            header: header.clone(),
            devices: self.devices.clone(),
            content_digest: [0; 32],
            uuid: options.image.uuid,
            data_start: self.data_start,
            align_blocks: options.image.metadata.align_blocks,
        };
        Ok(metadata.write(out, self.writer.clone())?)
    }

    fn data_map(
        &self,
        options: &IndexOptions,
        pipeline: Option<&MetadataPipeline>,
        superblock: &Superblock,
    ) -> DataMap<'_> {
        let compressed_by = pipeline.filter(|_| options.compress_directories);
        DataMap {
            stored: &[],
            raw_files: &self.raw_files,
            layer_files: &self.layer_files,
            fingerprints: &[],
            fragments: None,
            block_bits: self.block_bits,
            index_form: IndexForm::Compact,
            encoded_extents: false,
            directories: compressed_by.map(|pipeline| CompressedDirectories {
                algorithm: pipeline.method().settings.algorithm(),
                stored: HashMap::new(),
            }),
            packed_directories: None,
            metabox: None,
            metabox_size: 0,
            wide: superblock.incompat.contains(FeatureIncompat::BIT48),
            chunk_indexes: true,
            root_xattr_size: options.image.metadata.root_body_size(),
            omit_dot: false,
            blob: DeviceId::PRIMARY,
        }
    }
}
