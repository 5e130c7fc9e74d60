//! How an image is to look, and what of that excludes each other.

use crate::data::compression::{Compression, Method};
use crate::data::fragments::Offsets;
use crate::data::made::MetadataPipeline;
use crate::data::pipeline::{Settings, Stored};
use crate::index::IndexOptions;
use crate::options::{BuildError, ImageOptions, layout_requirements};
use crate::plan::index_form::IndexForm;
use crate::plan::inode_data::{DataMap, LayerFileData};
use erofs_format::kernel::{KernelVersion, Requirement};
use erofs_format::{BlockBits, DeviceId};
use erofs_reader::processors::processors;
use std::path::PathBuf;

/// How an image is to look.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Block size.
    pub block_bits: BlockBits,
    /// Compression of files, if any.
    pub compression: Option<Compression>,
    /// Whether directories are compressed where that pays: with fragments, and without a metabox, in the packed inode, else those of
    /// more than a block, as files without a hint are, or as the metabox is.
    pub compress_directories: bool,
    /// How the inodes are compressed, which then lie in a metabox (Linux 6.17).
    pub metabox: Option<Method>,
    /// Index of compressed files.
    pub index_form: IndexForm,
    /// Whether tails of files may be inlined behind inodes.
    pub inline_tails: bool,
    /// Whether holes stay holes (Linux 5.15) or become zeros.
    pub sparse: bool,
    /// All regular files in chunks of 2^n blocks.
    pub chunk_shift: Option<u8>,
    /// A file for the data of chunks, which the image then needs as its device.
    pub blob: Option<PathBuf>,
    /// Data of files begins at multiples of so many blocks.
    pub alignment: u64,
    /// If they have so many bytes or more.
    pub aligned_from: u64,
    /// Whether chunks are told by indexes of 8 bytes instead of block numbers of 4.
    pub chunk_indexes: bool,
    /// Whether identical files are stored once.
    pub dedupe: bool,
    /// Whether compressed files share extents that they have in common (Linux 6.1).
    pub share_extents: bool,
    /// If files of tars and layers only get room, for somebody else to write their data into.
    pub reserve: Option<Reserve>,
    /// Whether the image is read back and compared before it gets its name.
    pub verify: Verify,
    /// Worker threads.
    pub workers: usize,
    /// Memory for data on its way and tails, in bytes.
    pub memory: usize,
    /// What indexes have in common with it.
    pub image: ImageOptions,
    /// Whether other filesystems below a source directory are left out.
    pub one_file_system: bool,
    /// Whether files that change while they are read are taken as they are.
    pub ignore_changed: bool,
}

/// How those who write the data of files into their room learn where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// From the image.
    Unmapped,
    /// From [`crate::summary::Summary::rooms`], in which each piece of a tar has blocks of its own.
    Mapped,
}

/// Which images are read back and compared before they get their name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// None.
    Never,
    /// Those of up to [`Verify::SMALL`] bytes of data.
    #[default]
    Small,
    /// All.
    Always,
}

impl Verify {
    /// So much data is read back in a few hundredths of a second (docs/build.md).
    pub const SMALL: u64 = 64 << 20;

    /// Most bytes of data.
    const fn limit(self) -> u64 {
        match self {
            Self::Never => 0,
            Self::Small => Self::SMALL,
            Self::Always => u64::MAX,
        }
    }
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            block_bits: BlockBits::B4096,
            compression: None,
            compress_directories: false,
            metabox: None,
            index_form: IndexForm::Compact,
            inline_tails: true,
            sparse: true,
            chunk_shift: None,
            blob: None,
            alignment: 1,
            aligned_from: 0,
            chunk_indexes: false,
            dedupe: true,
            share_extents: false,
            reserve: None,
            verify: Verify::Small,
            workers: processors().get(),
            memory: 128 << 20,
            image: ImageOptions::default(),
            one_file_system: false,
            ignore_changed: false,
        }
    }
}

impl BuildOptions {
    /// How metadata is compressed, if any of it is.
    pub(super) fn metadata_pipeline(&self) -> Option<MetadataPipeline> {
        let files = self
            .compression
            .as_ref()
            .and_then(Compression::default_method);
        let method = match self.metabox {
            Some(method) => method,
            None => files.filter(|_| self.compress_directories)?,
        };
        Some(MetadataPipeline::new(pipeline_settings(self), method))
    }

    /// Whether the data of directories is to be in the packed inode, if there is enough of it. Inodes in a metabox have most of it behind
    /// them, where it is compressed too.
    pub(super) fn packs_directories(&self) -> bool {
        let packs = |compression: &Compression| compression.packing.is_some();
        self.compress_directories
            && self.metabox.is_none()
            && self.compression.as_ref().is_some_and(packs)
    }

    /// Where the data of files is, for the metadata. Of directories nothing is compressed yet.
    pub(super) fn data_map<'d>(
        &self,
        stored: &'d Stored,
        layer_files: &'d [Option<LayerFileData>],
        fragments: &'d Offsets,
    ) -> DataMap<'d> {
        let metadata = &self.image.metadata;
        DataMap {
            stored: &stored.files,
            raw_files: &[],
            layer_files,
            fingerprints: &stored.fingerprints,
            fragments: Some(fragments),
            block_bits: self.block_bits,
            index_form: self.index_form,
            encoded_extents: self.image.is_48bit() && self.index_form == IndexForm::Compact,
            directories: None,
            packed_directories: None,
            metabox: None,
            metabox_size: 0,
            wide: false,
            chunk_indexes: self.chunk_indexes,
            root_xattr_size: metadata.root_body_size(),
            omit_dot: metadata.omit_dot,
            blob: match self.blob {
                Some(_) => DeviceId(1),
                None => DeviceId::PRIMARY,
            },
        }
    }

    /// What is wanted of an index, which is of metadata alone.
    pub fn for_index(&self) -> IndexOptions {
        IndexOptions {
            image: self.image.clone(),
            metabox: self.metabox,
            compress_directories: self.compress_directories,
            workers: self.workers,
        }
    }

    /// Leaves out what `kernel` does not read where the image can do without. Returns what was left out.
    pub fn downgrade(&mut self, kernel: KernelVersion) -> Vec<Requirement> {
        let mut left_out = Vec::new();
        let mut is_too_new = |requirement: Requirement, is_wanted: bool| {
            let too_new = requirement.since() > kernel;
            if too_new && is_wanted {
                left_out.push(requirement);
            }
            too_new
        };
        let metadata = &mut self.image.metadata;
        if is_too_new(Requirement::Bit48, metadata.bit48 || metadata.omit_dot) {
            (metadata.bit48, metadata.omit_dot) = (false, false);
        }
        let has_prefixes = metadata.find_prefixes
            || !metadata.prefixes.is_empty()
            || metadata.inode_digest.is_some();
        if is_too_new(Requirement::XattrPrefixes, has_prefixes) {
            metadata.find_prefixes = false;
            metadata.prefixes.clear();
            metadata.inode_digest = None;
        }
        if self.blob.is_none() && is_too_new(Requirement::ChunkedFile, self.chunk_shift.is_some()) {
            self.chunk_shift = None;
            self.sparse = false;
        }
        if is_too_new(Requirement::Metabox, self.metabox.is_some()) {
            self.metabox = None;
        }
        let block = self.block_bits.len();
        if let Some(compression) = &mut self.compression {
            if is_too_new(
                Requirement::FragmentsOrDedupe,
                compression.packing.is_some(),
            ) {
                compression.packing = None;
            }
            let is_big = compression.max_pcluster > block;
            if is_too_new(Requirement::BigPcluster, is_big) {
                compression.max_pcluster = block;
            }
        }
        left_out
    }
}

/// What is wrong with options is said before anything is read.
pub(super) fn check_options(options: &BuildOptions) -> Result<(), BuildError> {
    let mut wanted = Vec::new();
    if let Some(compression) = &options.compression {
        wanted.extend(compression.requirement());
        if compression.inline_tails {
            wanted.push(Requirement::Ztailpacking);
        }
        if compression.max_pcluster > options.block_bits.len() {
            wanted.push(Requirement::BigPcluster);
        }
        if compression.packing.is_some() || options.share_extents {
            wanted.push(Requirement::FragmentsOrDedupe);
        }
    }
    if options.image.metadata.inode_digest.is_some() {
        wanted.push(Requirement::XattrPrefixes);
    }
    if options.metabox.is_some() {
        wanted.push(Requirement::Metabox);
    }
    if options.blob.is_some() {
        wanted.push(Requirement::DeviceTable);
    }
    if options.image.metadata.bit48 || options.image.metadata.omit_dot {
        wanted.push(Requirement::Bit48);
    }
    if options.chunk_shift.is_some() {
        wanted.push(Requirement::ChunkedFile);
    }
    let label = options.image.stored_label();
    wanted.extend(layout_requirements(
        options.block_bits,
        &label,
        options.compression.is_some(),
    ));
    options.image.check_kernel(&wanted)
}

/// What of the options is the pipeline's business.
pub(super) fn pipeline_settings(options: &BuildOptions) -> Settings {
    Settings {
        block_bits: options.block_bits,
        compression: options.compression.clone(),
        dedupe: options.dedupe,
        share_extents: options.share_extents && options.dedupe,
        fingerprints: options.image.metadata.inode_digest.is_some(),
        digested: options.verify.limit(),
        workers: options.workers,
        // The other half is for what waits.
        memory: options.memory / 2,
    }
}
