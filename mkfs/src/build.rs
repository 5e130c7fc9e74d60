//! From sources to a finished image: the whole of `erofs build`.

mod used;

use crate::data::compression::{Compression, Method};
use crate::data::fragments::{FragmentDedupe, Fragments, Offsets, Packing};
use crate::data::output::{FileIdentity, Output};
use crate::data::packing::pack;
use crate::data::pipeline::{
    ContentReader, FileContent, Pipeline, PipelineError, Settings, Stored, compressed_segment,
};
use crate::data::tails::Tails;
use crate::data::treatment::{ChunkMap, Treatment};
use crate::data::writer::Writer;
use crate::image::{Header, Metadata as ImageMetadata};
use crate::index::tag;
use crate::options::{BuildError, ImageOptions, folder, layout_requirements, requirements};
use crate::plan::inode_data::{DataMap, IndexForm, tail_room};
use crate::plan::xattrs::XattrPlan;
use crate::plan::{Plan, can_inline, most_frequent_time};
use crate::source::directory::{self, DirectoryError, DirectoryReader, FileSink, ScanOptions};
use crate::source::layers::{self, Layer, LayerReader, LayerRules, Merged};
use crate::source::raw::{self, RawFile, RawReader};
use crate::source::tar::{self, TarError};
use crate::source::{StoreError, StreamSink};
use crate::summary::Summary;
use crate::tree::{
    Body, DataRange, FrozenTree, InodeId, Location, Metadata, Tree, TreeError, Xattr,
};
use erofs_format::compression::config::AlgorithmConfigs;
use erofs_format::device::DeviceSlot;
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::EXTENDED_INODE_SIZE;
use erofs_format::kernel::{KernelVersion, Requirement};
use erofs_format::{BlockAddr, BlockBits, DeviceId, Nid};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use used::Used;

/// How an image is to look.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Block size.
    pub block_bits: BlockBits,
    /// Compression of files, if any.
    pub compression: Option<Compression>,
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
    /// Whether chunks are told by indexes of 8 bytes instead of block numbers of 4.
    pub chunk_indexes: bool,
    /// Whether identical files are stored once.
    pub dedupe: bool,
    /// Whether compressed files share extents that they have in common (Linux 6.1).
    pub share_extents: bool,
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

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            block_bits: BlockBits::B4096,
            compression: None,
            index_form: IndexForm::Compact,
            inline_tails: true,
            sparse: true,
            chunk_shift: None,
            blob: None,
            alignment: 1,
            chunk_indexes: false,
            dedupe: true,
            share_extents: false,
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: 128 << 20,
            image: ImageOptions::default(),
            one_file_system: false,
            ignore_changed: false,
        }
    }
}

impl BuildOptions {
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
        let has_prefixes = metadata.find_prefixes || !metadata.prefixes.is_empty();
        if is_too_new(Requirement::XattrPrefixes, has_prefixes) {
            metadata.find_prefixes = false;
            metadata.prefixes.clear();
        }
        if self.blob.is_none() && is_too_new(Requirement::ChunkedFile, self.chunk_shift.is_some()) {
            self.chunk_shift = None;
            self.sparse = false;
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

/// Where an image comes from.
#[derive(Debug)]
pub enum BuildSource {
    /// A directory.
    Directory(PathBuf),
    /// A tar.
    Tar(tar::Archive),
    /// Single files.
    RawFiles(Vec<RawFile>),
    /// Layers, the lowest first.
    Layers {
        /// Images and tars.
        layers: Vec<Layer>,
        /// Whether whiteouts and overlayfs' attributes are left out.
        strip: bool,
    },
}

/// Builds an image of `source` at `output`. `progress` counts bytes of file data.
///
/// # Errors
/// [`BuildError`]; nothing is left under the name `output` then.
pub fn build(
    source: BuildSource,
    output: &Path,
    options: &BuildOptions,
    progress: &Arc<AtomicU64>,
) -> Result<Summary, BuildError> {
    let started = std::time::Instant::now();
    check_options(options)?;
    let out_error = |source| BuildError::Output {
        path: output.to_path_buf(),
        source,
    };
    let out = Output::create(output)
        .map_err(out_error)?
        .with_offset(options.image.offset);
    let reserved = Header {
        configs: options
            .compression
            .as_ref()
            .map_or_else(AlgorithmConfigs::default, |compression| {
                compression.configs(options.block_bits)
            }),
        devices: options.blob.iter().count(),
        prefixes: options.image.metadata.prefixes.clone(),
    };
    let data_start = reserved.end(options.block_bits)?;
    let image_writer = Writer::new(
        &out,
        data_start.0 << options.block_bits.bits(),
        options.block_bits,
    );
    let mut own_files = out.own_files().map_err(out_error)?;
    let data_path = options.blob.as_deref().unwrap_or(output);
    let blob_error = |source| BuildError::Output {
        path: data_path.to_path_buf(),
        source,
    };
    let blob = match &options.blob {
        Some(path) => {
            let blob = Output::create(path).map_err(blob_error)?;
            own_files.extend(blob.own_files().map_err(blob_error)?);
            Some(blob)
        }
        None => None,
    };
    let mut writer = match &blob {
        Some(blob) => Writer::new(blob, 0, options.block_bits),
        None => image_writer.clone(),
    }
    .with_alignment(options.alignment);
    refuse_own_files(&source, &own_files)?;
    let (mut tree, mut stored) = store_data(
        source,
        folder(output),
        &own_files,
        options,
        &mut writer,
        progress,
    )
    .map_err(|error| error.at(data_path))?;
    let fragments = store_fragments(&mut tree, &mut stored, options, &mut writer)
        .map_err(|error| error.at(data_path))?;
    let data_end = writer.position();
    let writer = if blob.is_some() {
        writer.flush().map_err(blob_error)?;
        image_writer
    } else {
        writer
    };

    let used = Used::by(&tree, &stored.files, options.compression.as_ref());
    let mut header = Header {
        configs: used.configs(reserved.configs),
        devices: reserved.devices,
        prefixes: Vec::new(),
    };
    let room_end = data_start.0 << options.block_bits.bits();
    header.prefixes = options
        .image
        .prefixes(&tree, &header, options.block_bits, room_end)?;
    let mut superblock =
        options
            .image
            .superblock(&tree, options.block_bits, used.features, &header);
    if used.is_plain_lz4() {
        superblock.algorithms_or_lz4_window = erofs_codec::lz4::MAX_DISTANCE;
    }
    let data = DataMap {
        stored: &stored.files,
        raw_files: &[],
        layer_files: &[],
        fragments: Some(&fragments),
        block_bits: options.block_bits,
        index_form: options.index_form,
        wide: false,
        chunk_indexes: options.chunk_indexes,
        root_xattr_size: options.image.metadata.root_body_size(),
        omit_dot: options.image.metadata.omit_dot,
        blob: if blob.is_some() {
            DeviceId(1)
        } else {
            DeviceId::PRIMARY
        },
    };
    superblock.incompat.set(
        FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2,
        superblock
            .incompat
            .contains(FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2)
            || blob.is_some(),
    );
    let requirements = requirements(&superblock);
    options.image.check_kernel(&requirements)?;
    let plan = Plan::new(
        &tree,
        &data,
        &superblock,
        &options.image,
        &header.prefixes,
        writer.block(),
    );
    let align_blocks = options.image.metadata.align_blocks;
    let devices = options.blob.iter().map(|path| DeviceSlot {
        tag: tag(path, output),
        blocks: options.block_bits.whole_blocks(data_end),
        unified_start: BlockAddr(plan.end.0.next_multiple_of(align_blocks)),
    });
    let metadata = ImageMetadata {
        tree: &tree,
        data,
        tails: &stored.tails,
        plan: &plan,
        superblock,
        header,
        devices: devices.collect(),
        content_digest: stored.digest,
        uuid: options.image.uuid,
        data_start,
        align_blocks,
    };
    let finished = metadata
        .write(&out, writer)
        .map_err(|error| BuildError::from(error).at(output))?;
    // The image last: it is of no use without its device.
    if let Some(blob) = blob {
        blob.publish(data_end).map_err(blob_error)?;
    }
    out.publish(finished.size).map_err(out_error)?;
    Ok(Summary::new(
        &tree,
        &finished,
        requirements,
        stored.bytes_in,
        stored.duplicates,
        started.elapsed(),
    ))
}

/// What is wrong with options is said before anything is read.
fn check_options(options: &BuildOptions) -> Result<(), BuildError> {
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

/// Refuses to put an image in the place of the tar or file that it is made of.
fn refuse_own_files(source: &BuildSource, own_files: &[FileIdentity]) -> Result<(), BuildError> {
    match source {
        BuildSource::Directory(_) => Ok(()),
        BuildSource::Tar(archive) => match archive.file() {
            Some(file) => refuse_own_file(Path::new("the tar"), file.metadata(), own_files),
            None => Ok(()),
        },
        BuildSource::RawFiles(files) => files
            .iter()
            .try_for_each(|file| refuse_own_file(&file.path, file.path.metadata(), own_files)),
        BuildSource::Layers { layers, .. } => layers
            .iter()
            .flat_map(Layer::files)
            .try_for_each(|path| refuse_own_file(path, path.metadata(), own_files)),
    }
}

/// Refuses a source that is one of the output's own files. What cannot be looked at is for others to complain about.
pub(crate) fn refuse_own_file(
    path: &Path,
    metadata: io::Result<std::fs::Metadata>,
    own_files: &[FileIdentity],
) -> Result<(), BuildError> {
    match metadata {
        Ok(metadata) if own_files.contains(&FileIdentity::of(&metadata)) => {
            Err(BuildError::OwnSource(path.to_path_buf()))
        }
        _ => Ok(()),
    }
}

/// Reads the tree and sends all data through the pipeline.
fn store_data(
    source: BuildSource,
    folder: &Path,
    own_files: &[FileIdentity],
    options: &BuildOptions,
    writer: &mut Writer<'_>,
    progress: &Arc<AtomicU64>,
) -> Result<(FrozenTree, Stored), BuildError> {
    let settings = pipeline_settings(options);
    let packing = options.compression.as_ref().and_then(|all| all.packing);
    // The other half of the memory.
    let waiting = options.memory / if packing.is_some() { 4 } else { 2 };
    let tails = Tails::new(waiting, folder.to_path_buf());
    let dedupe = match packing {
        Some(packing) if options.dedupe => packing.dedupe,
        _ => FragmentDedupe::Off,
    };
    let fragments = Fragments::new(dedupe, waiting, folder.to_path_buf());
    let source = OpenSource::open(source, folder, options)?;
    std::thread::scope(|scope| {
        let reader = source.reader();
        let mut pipeline = Pipeline::start(
            scope,
            settings,
            reader,
            writer,
            tails,
            fragments,
            Arc::clone(progress),
        );
        let fed = source.feed(options, own_files, &mut pipeline);
        match fed {
            Ok(tree) => Ok((tree, pipeline.finish()?)),
            Err(error) if stopped(&error) => match pipeline.finish() {
                // The pipeline failed first: it knows why.
                Err(cause) => Err(cause.into()),
                Ok(_) => Err(error),
            },
            Err(error) => Err(error),
        }
    })
}

fn pipeline_settings(options: &BuildOptions) -> Settings {
    Settings {
        block_bits: options.block_bits,
        compression: options.compression.clone(),
        dedupe: options.dedupe,
        share_extents: options.share_extents && options.dedupe,
        workers: options.workers,
        // The other half is for what waits.
        memory: options.memory / 2,
    }
}

/// Writes the fragments, if there are any, and adds the packed inode to the tree.
fn store_fragments(
    tree: &mut FrozenTree,
    stored: &mut Stored,
    options: &BuildOptions,
    writer: &mut Writer<'_>,
) -> Result<Offsets, BuildError> {
    let fragments = std::mem::take(&mut stored.fragments);
    let method = options
        .compression
        .as_ref()
        .and_then(Compression::packed_method);
    let Some(method) = method.filter(|_| !fragments.is_empty()) else {
        return Ok(Offsets::default());
    };
    let packed = pack(fragments, method, pipeline_settings(options), writer)?;
    let number = u32::try_from(stored.files.len()).map_err(|_| TreeError::TooMany("files"))?;
    stored.files.push(packed.data);
    tree.add_packed(
        packed.size,
        Location::Stored(number),
        most_frequent_time(tree),
    )?;
    Ok(packed.offsets)
}

/// Whether an error only says that the pipeline failed before.
fn stopped(error: &BuildError) -> bool {
    let store = match error {
        BuildError::Pipeline(PipelineError::Source(store))
        | BuildError::Directory(DirectoryError::Store(store))
        | BuildError::Tar(TarError::Store(store)) => store,
        _ => return false,
    };
    matches!(store, StoreError::Stopped)
}

/// A source that is open, with whoever reads its files for the pipeline.
enum OpenSource {
    Directory(Arc<DirectoryReader>),
    Tar(tar::Archive),
    RawFiles(Box<Tree>, Arc<RawReader>),
    Layers(Box<FrozenTree>, Arc<LayerReader>),
}

impl OpenSource {
    fn open(
        source: BuildSource,
        folder: &Path,
        options: &BuildOptions,
    ) -> Result<Self, BuildError> {
        match source {
            BuildSource::Directory(path) => Ok(Self::Directory(Arc::new(DirectoryReader {
                root: directory::open(&path)?,
                ignore_changed: options.ignore_changed,
            }))),
            BuildSource::RawFiles(files) => {
                let mut tree = options.image.empty_tree()?;
                let files = raw::scan(&files, &options.image.rules, &mut tree)?;
                Ok(Self::RawFiles(
                    Box::new(tree),
                    Arc::new(RawReader { files }),
                ))
            }
            BuildSource::Tar(archive) => Ok(Self::Tar(archive)),
            BuildSource::Layers { layers, strip } => {
                let rules = LayerRules {
                    rules: &options.image.rules,
                    strip,
                };
                let root = options.image.empty_tree()?;
                let Merged { tree, content } = layers::merge(layers, root, &rules, folder)?;
                Ok(Self::Layers(
                    Box::new(options.image.settle(tree)?),
                    Arc::new(LayerReader { content }),
                ))
            }
        }
    }

    fn reader(&self) -> Arc<dyn ContentReader> {
        match self {
            Self::Directory(reader) => Arc::clone(reader) as _,
            Self::RawFiles(_, reader) => Arc::clone(reader) as _,
            Self::Layers(_, reader) => Arc::clone(reader) as _,
            Self::Tar(_) => Arc::new(NoReader),
        }
    }

    /// Reads the tree and sends the data of all files into the pipeline on the way.
    fn feed(
        self,
        options: &BuildOptions,
        own_files: &[FileIdentity],
        pipeline: &mut Pipeline<'_>,
    ) -> Result<FrozenTree, BuildError> {
        let rules = &options.image.rules;
        let mut sink = Sink { pipeline, options };
        match self {
            Self::Directory(reader) => {
                let root = reader.root.as_fd();
                let mut tree = options.image.tree(directory::root_metadata(root, rules)?)?;
                let scan = ScanOptions {
                    rules,
                    find_holes: options.sparse,
                    one_file_system: options.one_file_system,
                    left_out: own_files,
                };
                directory::scan(root, scan, &mut tree, &mut sink)?;
                options.image.finish(tree)
            }
            Self::Tar(archive) => {
                let mut tree = options.image.empty_tree()?;
                let whiteouts = options.image.whiteouts;
                tar::scan(
                    archive,
                    rules,
                    whiteouts,
                    &mut tree,
                    tar::Data::Through(&mut sink),
                )?;
                options.image.finish(tree)
            }
            Self::RawFiles(tree, _) => {
                let mut tree = options.image.finish(*tree)?;
                let files: Vec<InodeId> = tree.depth_first().collect();
                for id in files {
                    let Body::Regular {
                        size,
                        location: Location::RawFile(number),
                    } = tree.inode(id).body
                    else {
                        continue;
                    };
                    let location = sink
                        .send(tree.path(id), number.into(), size, None, &[])
                        .map_err(PipelineError::from)?;
                    tree.set_location(id, size, location);
                }
                Ok(tree)
            }
            Self::Layers(mut tree, reader) => {
                let files: Vec<InodeId> = tree.depth_first().collect();
                for id in files {
                    let inode = *tree.inode(id);
                    let Body::Regular {
                        size,
                        location: Location::Layer(number),
                    } = inode.body
                    else {
                        continue;
                    };
                    let ranges = reader.ranges(number, || tree.path(id))?;
                    let xattrs = tree.xattrs.get(inode.xattrs);
                    let location = sink
                        .send(tree.path(id), number.into(), size, ranges, xattrs)
                        .map_err(PipelineError::from)?;
                    tree.set_location(id, size, location);
                }
                Ok(*tree)
            }
        }
    }
}

/// For tars: all data came through the sink.
struct NoReader;

impl ContentReader for NoReader {
    fn read(
        &self,
        file: &FileContent,
        _offset: u64,
        _length: u64,
        _out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Read {
            path: file.path.to_vec(),
            source: io::ErrorKind::NotSeekable.into(),
        })
    }
}

/// Takes files into the pipeline.
struct Sink<'p, 's, 'o> {
    pipeline: &'p mut Pipeline<'s>,
    options: &'o BuildOptions,
}

impl Sink<'_, '_, '_> {
    /// Sends in a file that a [`ContentReader`] finds by path or `position`.
    fn send(
        &mut self,
        path: Vec<u8>,
        position: u64,
        size: u64,
        ranges: Option<Vec<DataRange>>,
        xattrs: &[Xattr],
    ) -> Result<Location, StoreError> {
        let treatment = treatment(self.options, &path, size, ranges.as_deref(), xattrs);
        let ranges = ranges.map(Arc::from);
        let content = FileContent {
            path: path.into(),
            position,
            size,
            ranges,
        };
        let number = self.pipeline.file(content, treatment)?;
        Ok(number.map_or(Location::Nowhere, Location::Stored))
    }
}

impl FileSink for Sink<'_, '_, '_> {
    fn file(
        &mut self,
        path: &[u8],
        metadata: &Metadata,
        size: u64,
        ranges: Option<Vec<DataRange>>,
    ) -> Result<Location, StoreError> {
        self.send(path.to_vec(), 0, size, ranges, &metadata.xattrs)
    }
}

impl StreamSink for Sink<'_, '_, '_> {
    fn store(
        &mut self,
        path: &[u8],
        metadata: &Metadata,
        size: u64,
        ranges: Option<&[DataRange]>,
        data: &mut dyn Read,
    ) -> Result<Location, StoreError> {
        let treatment = treatment(self.options, path, size, ranges, &metadata.xattrs);
        let number = self.pipeline.stream(path, size, ranges, treatment, data)?;
        Ok(number.map_or(Location::Nowhere, Location::Stored))
    }
}

/// How a file is to be stored.
fn treatment(
    options: &BuildOptions,
    path: &[u8],
    size: u64,
    ranges: Option<&[DataRange]>,
    xattrs: &[Xattr],
) -> Treatment {
    let bits = options.block_bits;
    let head = EXTENDED_INODE_SIZE + XattrPlan::largest_body(xattrs);
    let inline_tail = options.inline_tails && can_inline(head, size, bits);
    let method = options
        .compression
        .as_ref()
        .and_then(|compression| compression.method(path));
    if let Some(ranges) = ranges.filter(|_| options.sparse) {
        let data: u64 = ranges.iter().map(|range| range.length).sum();
        // Zeros compress well, and no kernel before 7.2 has holes in compressed files; a file that is mostly hole is
        // better off with chunks.
        if method.is_none() || data < size / 2 {
            return Treatment::Chunked(match options.chunk_shift {
                Some(shift) => ChunkMap::with_shift(size, ranges, shift, bits),
                None => ChunkMap::sparse(size, ranges, bits),
            });
        }
    }
    match (options.chunk_shift, method) {
        (Some(shift), _) => Treatment::Chunked(ChunkMap::full(size, shift, bits)),
        (None, Some(method)) if is_packed(options, method, size) => Treatment::Packed,
        // One block is the least that a pcluster takes.
        (None, Some(method)) if size > bits.bytes() => Treatment::Compressed {
            inline_tail,
            method,
            pack_tail: packing(options).is_some(),
            tail_room: room_for_tail(options, head, size),
        },
        (None, _) => Treatment::Flat { inline_tail },
    }
}

fn packing(options: &BuildOptions) -> Option<Packing> {
    options.compression.as_ref()?.packing
}

/// Whether a file as a whole becomes a fragment.
fn is_packed(options: &BuildOptions, method: Method, size: u64) -> bool {
    let Some(packing) = packing(options) else {
        return false;
    };
    let most = if packing.whole_files {
        compressed_segment(method.max_pcluster)
    } else {
        method.max_pcluster
    };
    // Inlined, a file of a slot takes no more than the map header that points at a fragment.
    let least = if options.inline_tails { Nid::SLOT } else { 0 };
    size > least && size <= most as u64
}

/// Room for an encoded tail behind the index of a file whose inode and attributes take at most `head` bytes.
fn room_for_tail(options: &BuildOptions, head: u64, size: u64) -> u16 {
    match &options.compression {
        Some(compression) if compression.inline_tails => {
            tail_room(head, size, options.index_form, options.block_bits)
        }
        _ => 0,
    }
}
