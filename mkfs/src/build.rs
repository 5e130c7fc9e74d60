//! From sources to a finished image: the whole of `erofs build`.

mod base;
mod keep;
mod kept_map;
mod kept_records;
mod options;
mod packed;
mod packed_directories;
mod reserve;
mod sink;
mod source;
mod treatment;
mod used;

pub use base::{AppendError, Base};
pub use options::{BuildOptions, Reserve, Verify};
pub use source::BuildSource;
pub(crate) use source::refuse_own_file;
pub(crate) use used::Used;

use crate::data::compression::Compression;
use crate::data::fragments::{FragmentDedupe, Fragments};
use crate::data::output::{FileIdentity, Output};
use crate::data::pipeline::{Pipeline, PipelineError, Stored};
use crate::data::tails::Tails;
use crate::data::writer::Writer;
use crate::image::{Header, Metadata as ImageMetadata};
use crate::index::tag;
use crate::options::{BuildError, folder, requirements};
use crate::plan::inode_data::CompressedDirectories;
use crate::plan::layer_files::place_devices;
use crate::plan::{Plan, most_frequent_time};
use crate::source::StoreError;
use crate::source::directory::DirectoryError;
use crate::source::tar::TarError;
use crate::summary::Summary;

use crate::verify::Expected;
use erofs_format::BlockAddr;
use erofs_format::compression::config::AlgorithmConfigs;
use erofs_format::device::DeviceSlot;
use erofs_format::feature::FeatureIncompat;
use keep::Kept;
use options::{check_options, pipeline_settings};
use packed::{PackedContent, packed_method};
use reserve::reserve;
use source::{Fed, OpenSource, refuse_own_files};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

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
    let (base, source) = source.split();
    let with_base = base
        .as_ref()
        .map(|base| base.options(options))
        .transpose()?;
    let options = with_base.as_ref().unwrap_or(options);
    check_options(options)?;
    let out_error = |source| BuildError::Output {
        path: output.to_path_buf(),
        source,
    };
    let out = Output::create(output)
        .map_err(out_error)?
        .with_offset(options.image.offset)
        .with_passing_name(options.image.passing_name);
    let mut reserved = Header {
        configs: options
            .compression
            .as_ref()
            .map_or_else(AlgorithmConfigs::default, Compression::configs),
        devices: options.blob.iter().count() + base.as_ref().map_or(0, |base| base.devices.len()),
        metabox: options.metabox.is_some(),
        prefixes: options.image.metadata.stored_prefixes(),
    };
    let pipeline = options.metadata_pipeline();
    if let Some(pipeline) = &pipeline {
        let configs = &mut reserved.configs;
        pipeline.method().widen(options.block_bits, configs);
    }
    let mut own_files = out.own_files().map_err(out_error)?;
    if let Some(base) = &base {
        base.widen(&mut reserved.configs);
    }
    let data_start = reserved.end(options.block_bits)?;
    let behind = match &base {
        Some(base) => base
            .copy(&out, &own_files)
            .map_err(|error| error.at(output))?
            .max(data_start),
        None => data_start,
    };
    let image_writer = Writer::new(
        &out,
        behind.0 << options.block_bits.bits(),
        options.block_bits,
    );
    let data_path = options.blob.as_deref().unwrap_or(output);
    let blob_error = |source| BuildError::Output {
        path: data_path.to_path_buf(),
        source,
    };
    let blob = match &options.blob {
        Some(path) => {
            let blob = Output::create(path).map_err(blob_error)?;
            if blob.has_name_of(&out).map_err(blob_error)? {
                return Err(BuildError::OwnDevice(path.clone()));
            }
            own_files.extend(blob.own_files().map_err(blob_error)?);
            Some(blob)
        }
        None => None,
    };
    let mut writer = match &blob {
        Some(blob) => Writer::new(blob, 0, options.block_bits),
        None => image_writer.clone(),
    }
    .with_alignment(options.alignment, options.aligned_from);
    refuse_own_files(&source, &own_files)?;
    let reserve_as = options.reserve.filter(|_| source.can_be_reserved());
    let (Fed { mut tree, vanished }, mut stored) = store_data(
        source,
        folder(output),
        &own_files,
        options,
        &mut writer,
        progress,
    )
    .map_err(|error| error.at(data_path))?;
    let mut rooms = Vec::new();
    if let Some(how) = reserve_as {
        let reserved = reserve(&mut tree, how, options.block_bits, &mut writer)
            .map_err(|error| error.at(data_path))?;
        (stored.files, rooms) = (reserved.files, reserved.rooms);
    }
    let files_read = stored.files.len();
    let mut kept = Kept::default();
    if let Some(base) = &base {
        let mut merged = base.under(&tree)?;
        kept = base.keep(&mut merged, &mut stored, &mut writer, options, data_start)?;
        tree = options.image.settle(merged.tree)?;
        stored.digest = base.digest(&stored.digest);
    }
    let mut with_records = options.clone();
    with_records.image.metadata.bit48 |= kept.bit48;
    let options = &with_records;
    let packed_by = packed_method(options, kept.packed.as_ref());
    let fragments = std::mem::take(&mut stored.fragments);
    let mut content = PackedContent::new(fragments, kept.packed.take());
    let packed_directories = packed_directories::place(&tree, content.size(), options);
    if let Some(directories) = &packed_directories {
        let layer_files = &kept.layer_files;
        stored.digest = packed_directories::append(
            directories,
            &mut tree,
            &mut content,
            &stored,
            layer_files,
            options,
        )
        .map_err(|error| error.at(data_path))?;
    }
    if let Some(method) = packed_by.filter(|_| content.is_new()) {
        method.widen(options.block_bits, &mut reserved.configs);
    }
    let settings = pipeline_settings(options);
    let fragments = content
        .store(
            &mut tree,
            &mut stored.files,
            packed_by,
            settings,
            &mut writer,
        )
        .map_err(|error| error.at(data_path))?;
    let data_end = writer.position();
    let writer = if blob.is_some() {
        writer.flush().map_err(blob_error)?;
        image_writer
    } else {
        writer
    };

    if options.metabox.is_some() {
        tree.add_metabox(most_frequent_time(&tree))?;
    }
    let packed_by = packed_by.map(|method| method.settings.algorithm());
    let packed_by = packed_by.or_else(|| base.as_ref().map(Base::algorithm));
    let used = Used::by(
        &tree,
        &stored.files,
        &kept.layer_files,
        packed_by,
        packed_directories.is_some(),
    );
    let used_by_all = match &pipeline {
        Some(pipeline) => used.with_method(pipeline.method(), options.block_bits),
        None => used,
    };
    let mut header = Header {
        configs: used_by_all.configs(&reserved.configs),
        devices: reserved.devices,
        metabox: tree.metabox().is_some(),
        prefixes: Vec::new(),
    };
    let room_end = data_start.0 << options.block_bits.bits();
    header.prefixes = options
        .image
        .prefixes(&tree, &header, options.block_bits, room_end)?;
    let superblock_with = |used: Used, header: &Header| {
        let mut features = FeatureIncompat::empty();
        if header.devices > 0 {
            features |= FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2;
        }
        used.superblock(&options.image, &tree, options.block_bits, features, header)
    };
    let mut superblock = superblock_with(used_by_all, &header);
    let placed;
    let mut data = options.data_map(&stored, &kept.layer_files, &fragments);
    data.packed_directories = packed_directories.as_ref();
    data.directories = pipeline
        .as_ref()
        .filter(|_| options.compress_directories && packed_directories.is_none())
        .map(|pipeline| CompressedDirectories {
            algorithm: pipeline.method().settings.algorithm(),
            stored: HashMap::new(),
        });
    data.check_tables(&tree)?;
    let plan = Plan::new(&tree, &data, &superblock, &options.image, &header.prefixes);
    if !plan.compresses_metadata() {
        header.configs = used.configs(&reserved.configs);
        superblock = superblock_with(used, &header);
    }
    let requirements = requirements(&superblock);
    options.image.check_kernel(&requirements)?;
    data.metabox_size = plan.metabox_size();
    let align_blocks = options.image.metadata.align_blocks;
    let blob_slot = options.blob.iter().map(|path| DeviceSlot {
        tag: tag(path, output),
        blocks: options.block_bits.whole_blocks(data_end),
        // The image's end is not known yet.
        unified_start: BlockAddr(0),
    });
    let mut devices: Vec<DeviceSlot> = blob_slot.collect();
    if let Some(base) = base.as_ref().filter(|base| !base.devices.is_empty()) {
        devices = base.image.device_slots().to_vec();
        let most = plan.most_end(writer.block(), options.block_bits).0;
        let first = BlockAddr(most.next_multiple_of(align_blocks));
        let mut files = kept.layer_files.clone();
        place_devices(&mut devices, &mut files, first);
        placed = files;
        data.layer_files = &placed;
    }
    let metadata = ImageMetadata {
        tree: &tree,
        data,
        tails: &stored.tails,
        plan,
        pipeline,
        superblock,
        header,
        devices,
        content_digest: stored.digest,
        uuid: options.image.uuid,
        data_start,
        align_blocks,
    };
    let finished = metadata
        .write(&out, writer)
        .map_err(|error| BuildError::from(error).at(output))?;
    let verified = stored.digests.are_kept() && reserve_as.is_none();
    if verified {
        let expected = Expected {
            tree: &tree,
            digests: &stored.digests,
            files_read,
            has_fingerprints: options.image.metadata.inode_digest.is_some(),
            workers: options.workers,
            memory: options.memory,
            folder: folder(output).to_path_buf(),
        };
        let image = out.unpublished(finished.size).map_err(out_error)?;
        let devices = match (&blob, &base) {
            (Some(blob), _) => vec![blob.unpublished(data_end).map_err(blob_error)?],
            (None, Some(base)) => base.open_devices()?,
            (None, None) => Vec::new(),
        };
        expected.compare(&image, &devices)?;
    }
    // The image last: it is of no use without its device. What may fail comes before either has its name.
    if let Some(blob) = blob {
        out.settle(finished.size).map_err(out_error)?;
        blob.publish(data_end).map_err(blob_error)?;
    }
    out.publish(finished.size).map_err(out_error)?;
    let mut summary = Summary::new(
        &tree,
        &finished,
        requirements,
        stored.bytes_in,
        stored.duplicates,
        started.elapsed(),
    );
    summary.verified = verified;
    summary.rooms = rooms;
    summary.vanished = vanished;
    Ok(summary)
}

/// Reads the tree and sends all data through the pipeline.
fn store_data(
    source: BuildSource,
    folder: &Path,
    own_files: &[FileIdentity],
    options: &BuildOptions,
    writer: &mut Writer<'_>,
    progress: &Arc<AtomicU64>,
) -> Result<(Fed, Stored), BuildError> {
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
            Ok(feeding) => {
                let stored = pipeline.finish()?;
                Ok((feeding.finish(options)?, stored))
            }
            Err(error) if stopped(&error) => match pipeline.finish() {
                // The pipeline failed first: it knows why.
                Err(cause) => Err(cause.into()),
                Ok(_) => Err(error),
            },
            Err(error) => Err(error),
        }
    })
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
