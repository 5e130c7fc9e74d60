//! TOC-only indexes: small metadata images whose data stays in a tar or in raw files.
//!
//! *Tar*: 512-byte blocks, one device, every file a chunk index to its place in the tar.
//!
//! *Raw files*: 4 KiB blocks, one device for each file; see [`raw_files`].
//!
//! *Layers*: images and tars that are merged, one device for each and for each device of an image; see [`layers`].
//!
//! The devices of tars and layers may also be copied behind the index, into its own file; see [`embed`].

mod embed;
mod layers;
mod options;
mod raw_files;
mod write;

pub use options::IndexOptions;

use crate::build::refuse_own_file;
use crate::data::output::Output;
use crate::data::tails::Tails;
use crate::data::writer::Writer;
use crate::options::{BuildError, folder};
use crate::plan::inode_data::{LayerFileData, RawFileData};
use crate::source::layers::Layer;
use crate::source::raw::RawFile;
use crate::source::tar;
use crate::summary::Summary;
use crate::tree::{Body, FrozenTree, Location, display};
use embed::Blob;
use erofs_format::device::{DeviceSlot, TAG_SIZE};
use erofs_format::feature::FeatureIncompat;
use erofs_format::{BlockAddr, BlockBits};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// What an index points into.
#[derive(Debug)]
pub enum IndexSource {
    /// A plain tar.
    Tar {
        /// The open tar.
        archive: tar::Archive,
        /// Its path, for the tag by which a mount finds it.
        path: PathBuf,
    },
    /// A tar, plain or compressed, of which whoever mounts the index has the uncompressed form: behind the index or beside it.
    TarElsewhere {
        /// The tar.
        archive: tar::Archive,
        /// Where that form will be, for the tag by which a mount finds it, if that is known.
        path: Option<PathBuf>,
    },
    /// Raw files.
    RawFiles(Vec<RawFile>),
    /// Layers, the lowest first.
    Layers {
        /// Images and plain tars.
        layers: Vec<Layer>,
        /// Whether whiteouts and overlayfs' attributes are left out.
        strip: bool,
    },
}

/// Where the data of an index is.
#[derive(Debug, Clone, Copy)]
pub enum Placement<'p> {
    /// In the files that it is made of, which are its devices.
    Apart,
    /// Behind the index, copied into its own file, which mounts without any device (Linux 6.4).
    Embedded {
        /// Counts the bytes that are copied.
        progress: &'p AtomicU64,
    },
}

/// Why an index cannot point at a file's data.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The tar ends inside a block of 512 bytes.
    #[error(
        "{}: the tar ends inside its last block, which no kernel reads; pad it: truncate -s %512 FILE",
        display(path)
    )]
    UnpaddedTar {
        /// The last file.
        path: Vec<u8>,
    },
    /// Data of a sparse file that does not start with a block.
    #[error(
        "{}: a piece of this sparse file does not start at a multiple of 512 bytes; build a full image instead",
        display(path)
    )]
    UnalignedPiece {
        /// The file.
        path: Vec<u8>,
    },
    /// A tar that is compressed or passes by.
    #[error("{}: only the data of a plain tar can stay where it is: unpack it, or merge into a full image", .0.display())]
    NotInPlace(PathBuf),
    /// Raw files in the file of the index.
    #[error(
        "an index with raw files in it would be a full image that fewer kernels mount: build a full image of them"
    )]
    EmbeddedRawFiles,
    /// Blocks of different sizes.
    #[error("{} has blocks of {other} bytes, the layers before it have {bytes}: merge into a full image", layer.display())]
    BlockSizes {
        /// The layer.
        layer: PathBuf,
        /// Its block size in bytes (512 for a tar).
        other: u64,
        /// That of the layers before it.
        bytes: u64,
    },
    /// Data of a layer that is not in blocks of its own.
    #[error("{}: its data in {} is {form}: merge into a full image, or build the layer without compression", display(path), layer.display())]
    NotInBlocks {
        /// The layer.
        layer: PathBuf,
        /// The file.
        path: Vec<u8>,
        /// How it is stored.
        form: &'static str,
    },
    /// Data of a layer that is not there.
    #[error("{}: its data in {} begins or ends behind the end of the layer: see erofs check", display(path), layer.display())]
    Outside {
        /// The layer.
        layer: PathBuf,
        /// The file.
        path: Vec<u8>,
    },
    /// A file of a layer whose map or end cannot be read.
    #[error("{}: {}: {source}", layer.display(), display(path))]
    Layer {
        /// The layer.
        layer: PathBuf,
        /// The file.
        path: Vec<u8>,
        /// What is wrong with it.
        source: erofs_reader::Error,
    },
    /// More devices than a table holds.
    #[error("an index holds at most 65535 files with data of their own, these are {0}")]
    TooManyFiles(usize),
    /// The end of a file could not be read.
    #[error("{}: {source}", display(path))]
    Read {
        /// The file.
        path: Vec<u8>,
        /// What happened.
        source: io::Error,
    },
}

/// Memory for tails before they go to a temporary file, in bytes.
const TAIL_MEMORY: usize = 16 << 20;

/// Writes an index of `source` at `output`. File data is not read, but for the ends of raw files, unless it is embedded.
///
/// # Errors
/// [`BuildError`]; nothing is left under the name `output` then.
pub fn index(
    source: IndexSource,
    output: &Path,
    options: &IndexOptions,
    placement: Placement<'_>,
) -> Result<Summary, BuildError> {
    let started = Instant::now();
    let is_embedded = matches!(placement, Placement::Embedded { .. });
    let out_error = |source| BuildError::Output {
        path: output.to_path_buf(),
        source,
    };
    let out = Output::create(output)
        .map_err(out_error)?
        .with_offset(options.image.offset)
        .with_passing_name(options.image.passing_name);
    let own_files = out.own_files().map_err(out_error)?;
    let paths: Vec<&Path> = match &source {
        IndexSource::Tar { path, archive } => {
            if let Some(file) = archive.file() {
                refuse_own_file(path, file.metadata(), &own_files)?;
            }
            vec![path]
        }
        IndexSource::TarElsewhere { .. } => Vec::new(),
        IndexSource::RawFiles(files) => files.iter().map(|file| file.path.as_path()).collect(),
        IndexSource::Layers { layers, .. } => layers.iter().flat_map(Layer::files).collect(),
    };
    for path in paths {
        refuse_own_file(path, path.metadata(), &own_files)?;
    }
    let index = match source {
        IndexSource::Tar { archive, path } => {
            let archive = match is_embedded {
                true => archive.in_place(folder(output))?,
                false => archive,
            };
            let data = tar::Data::InPlace;
            Index::of_tar(
                archive,
                data,
                Some(&path),
                is_embedded,
                output,
                options,
                &out,
            )?
        }
        IndexSource::TarElsewhere { archive, path } => {
            let data = tar::Data::Elsewhere;
            Index::of_tar(archive, data, path.as_deref(), false, output, options, &out)?
        }
        IndexSource::RawFiles(_) if is_embedded => {
            return Err(IndexError::EmbeddedRawFiles.into());
        }
        IndexSource::RawFiles(files) => Index::of_raw_files(&files, output, options, &out)?,
        IndexSource::Layers { layers, strip } => {
            Index::of_layers(layers, strip, is_embedded, output, options, &out)?
        }
    };
    let summary = index
        .write(&out, options, placement, started)
        .map_err(|error| error.at(output))?;
    out.publish(summary.image_size).map_err(out_error)?;
    Ok(summary)
}

/// An index whose tree and devices are known.
struct Index<'o> {
    tree: FrozenTree,
    block_bits: BlockBits,
    raw_files: Vec<RawFileData>,
    layer_files: Vec<Option<LayerFileData>>,
    tails: Tails,
    devices: Vec<DeviceSlot>,
    incompat: FeatureIncompat,
    data_start: BlockAddr,
    writer: Writer<'o>,
    bytes_in: u64,
    /// What is copied behind the index, by slot; none where data stays apart.
    blobs: Vec<Blob>,
}

impl<'o> Index<'o> {
    fn of_tar(
        archive: tar::Archive,
        data: tar::Data<'_>,
        path: Option<&Path>,
        is_embedded: bool,
        output: &Path,
        options: &IndexOptions,
        out: &'o Output,
    ) -> Result<Self, BuildError> {
        let block_bits = BlockBits::B512;
        let file = archive.file().cloned();
        let image = &options.image;
        let mut tree = image.empty_tree()?;
        let summary = tar::scan(archive, &image.rules, image.whiteouts, &mut tree, data)?;
        let tree = image.finish(tree)?;
        let name = path.unwrap_or(Path::new("the tar"));
        let length = match &file {
            Some(file) => file
                .metadata()
                .map_err(|source| IndexError::Read {
                    path: name.as_os_str().as_bytes().to_vec(),
                    source,
                })?
                .len(),
            None => summary.length + summary.trailing,
        };
        let blocks = block_bits.blocks_for(length);
        // A copy gets the padding that the tar lacks.
        let readable = match is_embedded {
            true => blocks << block_bits.bits(),
            false => length,
        };
        let bytes_in = check_tar(&tree, readable)?;
        let blob = file.filter(|_| is_embedded).map(|file| Blob {
            path: name.to_path_buf(),
            file,
        });
        let devices = vec![DeviceSlot {
            tag: path.map_or([0; TAG_SIZE], |path| tag(path, output)),
            blocks,
            unified_start: BlockAddr(0),
        }];
        let mut incompat =
            FeatureIncompat::CHUNKED_FILE | FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2;
        incompat.set(FeatureIncompat::BIT48, needs_wide(&devices));
        let data_start = options.header(devices.len(), block_bits).end(block_bits)?;
        Ok(Self {
            tree,
            block_bits,
            raw_files: Vec::new(),
            layer_files: Vec::new(),
            tails: Tails::new(TAIL_MEMORY, folder(output).to_path_buf()),
            devices,
            incompat,
            data_start,
            writer: Writer::new(out, data_start.0 << block_bits.bits(), block_bits),
            bytes_in,
            blobs: blob.into_iter().collect(),
        })
    }
}

/// Whether any block behind the index needs more than 32 bits: room for an index of a quarter of these is left.
fn needs_wide(devices: &[DeviceSlot]) -> bool {
    devices.iter().map(|device| device.blocks).sum::<u64>() > u64::from(u32::MAX) / 4 * 3
}

/// Looks for data that the kernel would not find through the index. Returns the bytes of all files.
fn check_tar(tree: &FrozenTree, length: u64) -> Result<u64, IndexError> {
    const BLOCK: u64 = 512;
    let mut bytes = 0;
    for id in tree.breadth_first() {
        let Body::Regular {
            size,
            location: Location::Archive { offset, sparse },
        } = tree.inode(id).body
        else {
            continue;
        };
        let mut stored = size;
        if let Some(map) = sparse {
            let ranges = tree.sparse_map(map);
            let aligned = |value: u64| value.is_multiple_of(BLOCK);
            let starts = ranges.iter().all(|range| aligned(range.offset));
            let lengths = ranges
                .split_last()
                .is_none_or(|(_, before)| before.iter().all(|range| aligned(range.length)));
            if !starts || !lengths {
                return Err(IndexError::UnalignedPiece {
                    path: tree.path(id),
                });
            }
            stored = ranges.iter().map(|range| range.length).sum();
        }
        if offset.saturating_add(stored.next_multiple_of(BLOCK)) > length {
            return Err(IndexError::UnpaddedTar {
                path: tree.path(id),
            });
        }
        bytes += stored;
    }
    Ok(bytes)
}

/// The tag by which a mount finds a blob: its path below the folder of the index, else its name.
pub(crate) fn tag(blob: &Path, output: &Path) -> [u8; TAG_SIZE] {
    let below = || {
        let blob = blob.canonicalize().ok()?;
        let home = folder(output).canonicalize().ok()?;
        Some(blob.strip_prefix(home).ok()?.to_path_buf())
    };
    let path = below()
        .filter(|path| path.as_os_str().len() < TAG_SIZE)
        .or_else(|| blob.file_name().map(PathBuf::from))
        .unwrap_or_default();
    let mut tag = [0; TAG_SIZE];
    for (to, from) in tag
        .iter_mut()
        .take(TAG_SIZE - 1)
        .zip(path.as_os_str().as_bytes())
    {
        *to = *from;
    }
    tag
}
