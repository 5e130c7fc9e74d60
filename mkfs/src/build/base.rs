//! Images that are continued: what stays of the base keeps its blocks, everything new comes behind them.
//!
//! ```text
//! block 0: superblock, configurations │ all blocks of the base │ data of new files │ inodes │ directory blocks │ shared xattrs
//! ```
//! All metadata is written anew, as small as options ask for; the base's own becomes dead space. Nothing of the base's data is
//! read but what lies behind its inodes and maps.

use super::options::BuildOptions;
use crate::data::encode::StoredExtent;
use crate::data::fragments::Offsets;
use crate::data::output::{FileIdentity, Output};
use crate::data::pipeline::Stored;
use crate::data::writer::Writer;
use crate::data::{StoredData, StoredPclusters};
use crate::image::ImageError;
use crate::options::BuildError;
use crate::plan::chunk_table::ChunkPiece;
use crate::plan::index_form::{IndexForm, tail_room};
use crate::plan::inode_data::LayerFileData;
use crate::plan::layer_files::Placer;
use crate::plan::xattrs::XattrPlan;
use crate::source::layers::{self, FileSource, LayerFile, Merged};
use crate::tree::{Body, FrozenTree, InodeId, Location, TreeError, display};
use erofs_format::compression::Algorithm;
use erofs_format::compression::config::AlgorithmConfigs;
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::EXTENDED_INODE_SIZE;
use erofs_format::{BlockAddr, BlockBits, DeviceId};
use erofs_reader::map::{Form, Location as Place};
use erofs_reader::{Image, Inode};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

/// An image that another one goes on from.
#[derive(Debug)]
pub struct Base {
    /// Its path.
    pub path: PathBuf,
    /// The image, which begins with its file.
    pub image: Arc<Image>,
    /// Whether whiteouts and overlayfs' attributes of the source are left out, when they have deleted what they name.
    pub strip: bool,
}

/// Why an image cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Its data is in other files too.
    #[error("{}: an image with devices cannot be continued: merge it into a full image first", .0.display())]
    Devices(PathBuf),
    /// Blocks of another size.
    #[error("{} has blocks of {base} bytes, so has what continues it: -b {base}", path.display())]
    BlockSize {
        /// The base.
        path: PathBuf,
        /// Its block size in bytes.
        base: u64,
    },
    /// A second packed inode.
    #[error("{}: an image has one packed inode, and this one has it: leave out -E fragments, also where a preset says it", .0.display())]
    Fragments(PathBuf),
    /// Data in a file of its own.
    #[error("--blobdev has no use here: the data of the base is in the image")]
    Blob,
    /// Compressed data as before Linux 5.3.
    #[error("{}: its compressed data has no zero padding: merge it into a full image", .0.display())]
    NoPadding(PathBuf),
    /// A device that would be overwritten while it is read.
    #[error("{}: a block device is not continued in place: write another one, or a file", .0.display())]
    InPlace(PathBuf),
    /// It is shorter than it says.
    #[error("{}: it ends after {found} of {expected} bytes: it was cut off", path.display())]
    CutOff {
        /// The base.
        path: PathBuf,
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The base.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// Data where the superblock's company goes.
    #[error("{}: data in block {lowest} leaves no room for the {needed} blocks in front of data: merge it into a full image", path.display())]
    NoRoom {
        /// The base.
        path: PathBuf,
        /// First block with data.
        lowest: u64,
        /// Blocks that are taken.
        needed: u64,
    },
    /// The map of a file.
    #[error("{}: {}: {source}", base.display(), display(path))]
    Map {
        /// The base.
        base: PathBuf,
        /// The file.
        path: Vec<u8>,
        /// What is wrong with it.
        source: erofs_reader::Error,
    },
    /// Data in a form that is not written, so that no map could tell of it.
    #[error("{}: {}: {form}: merge it into a full image", base.display(), display(path))]
    Form {
        /// The base.
        base: PathBuf,
        /// The file.
        path: Vec<u8>,
        /// The form.
        form: &'static str,
    },
}

/// What of the base is in the image that continues it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Files without compression, by their number in the layer.
    pub(super) layer_files: Vec<Option<LayerFileData>>,
    /// Where fragments are in the base's packed inode.
    pub(super) fragments: Option<Offsets>,
}

impl Base {
    /// Looks whether it can be continued with these options, and changes them so that what the source says of layers below it
    /// is kept until it lies over the base, and a root that it does not describe is the base's.
    pub(super) fn options(&self, options: &BuildOptions) -> Result<BuildOptions, BuildError> {
        let superblock = self.image.superblock();
        let path = || self.path.clone();
        let packs = options
            .compression
            .as_ref()
            .is_some_and(|compression| compression.packing.is_some());
        let problem = if !self.image.device_slots().is_empty() {
            Some(AppendError::Devices(path()))
        } else if superblock.block_bits != options.block_bits {
            Some(AppendError::BlockSize {
                path: path(),
                base: superblock.block_bits.bytes(),
            })
        } else if superblock.packed.is_some() && packs {
            Some(AppendError::Fragments(path()))
        } else if options.blob.is_some() {
            Some(AppendError::Blob)
        } else if superblock.algorithms() != 0
            && !superblock.incompat.contains(FeatureIncompat::ZERO_PADDING)
        {
            Some(AppendError::NoPadding(path()))
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(problem.into());
        }
        let mut options = options.clone();
        options.image.root = Some(layers::root(&self.image, &self.path)?);
        options.image.strip_overlay = false;
        Ok(options)
    }

    /// Makes `configs` such that they hold for the base's data too.
    pub(super) fn widen(&self, configs: &mut AlgorithmConfigs) {
        let base = self.image.configs();
        let distance = |bytes: u16| if bytes == 0 { u16::MAX } else { bytes };
        if let Some(old) = base.lz4 {
            let new = configs.lz4.get_or_insert(old);
            new.max_distance = distance(new.max_distance).max(distance(old.max_distance));
            new.max_pcluster_blocks = new.max_pcluster_blocks.max(old.max_pcluster_blocks);
        }
        if let Some(old) = base.lzma {
            let new = configs.lzma.get_or_insert(old);
            new.dictionary_size = new.dictionary_size.max(old.dictionary_size);
        }
        if let Some(old) = base.deflate {
            let new = configs.deflate.get_or_insert(old);
            new.window_bits = new.window_bits.max(old.window_bits);
        }
        if let Some(old) = base.zstd {
            let new = configs.zstd.get_or_insert(old);
            new.window_bits = new.window_bits.max(old.window_bits);
        }
    }

    /// One of its algorithms, for files whose data tells of none.
    pub(super) fn algorithm(&self) -> Algorithm {
        let listed = self.image.superblock().algorithms();
        let mut all = Algorithm::ALL.into_iter();
        all.find(|algorithm| listed & algorithm.bit() != 0)
            .unwrap_or(Algorithm::Lz4)
    }

    /// Digest of what is known of the base and of new data.
    pub(super) fn digest(&self, new: &[u8; 32]) -> [u8; 32] {
        let mut digest = blake3::Hasher::new();
        digest.update(&self.image.superblock().uuid);
        digest.update(new);
        *digest.finalize().as_bytes()
    }

    /// Copies its blocks to the front of the image. Returns the first block behind them.
    pub(super) fn copy(
        &self,
        out: &Output,
        own_files: &[FileIdentity],
    ) -> Result<BlockAddr, BuildError> {
        let superblock = self.image.superblock();
        let failed = |source| AppendError::Read {
            path: self.path.clone(),
            source,
        };
        let mut file = File::open(&self.path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() && own_files.contains(&FileIdentity::of(&metadata)) {
            return Err(AppendError::InPlace(self.path.clone()).into());
        }
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let expected = superblock.blocks << superblock.block_bits.bits();
        let found = out
            .copy_at(0, &mut (&file).take(expected))
            .map_err(ImageError::from)?;
        if found < expected {
            let path = self.path.clone();
            return Err(AppendError::CutOff {
                path,
                expected,
                found,
            }
            .into());
        }
        Ok(BlockAddr(superblock.blocks))
    }

    /// The base with the tree of the source over it.
    pub(super) fn under(&self, upper: &FrozenTree) -> Result<Merged, BuildError> {
        Ok(layers::lay_over_image(
            &self.path,
            Arc::clone(&self.image),
            upper,
            self.strip,
        )?)
    }

    /// Finds out where the files are that stay. `merged` then has a packed inode if the base has one. Data is where it was, and
    /// none of it before block `first`.
    pub(super) fn keep(
        &self,
        merged: &mut Merged,
        stored: &mut Stored,
        writer: &mut Writer<'_>,
        options: &BuildOptions,
        first: BlockAddr,
    ) -> Result<Kept, BuildError> {
        let Merged { tree, content } = merged;
        if let Some(nid) = self.image.superblock().packed {
            let failed = |source| self.unreadable(b"the packed inode".to_vec(), source);
            let packed = self.image.inode(nid).map_err(failed)?;
            let number =
                u32::try_from(content.files.len()).map_err(|_| TreeError::TooMany("files"))?;
            let source = FileSource::Inode(nid);
            content.files.push(LayerFile { layer: 0, source });
            tree.add_packed(packed.size, Location::Layer(number), packed.mtime)?;
        }
        let files: Vec<_> = tree
            .all_inodes()
            .filter_map(|id| match tree.inode(id).body {
                Body::Regular {
                    size,
                    location: Location::Layer(number),
                } => Some((id, size, number)),
                _ => None,
            })
            .collect();
        let mut keeper = Keeper {
            base: self,
            tree,
            stored,
            writer,
            index_form: options.index_form,
            fragments: Offsets::default(),
            lowest: u64::MAX,
        };
        let mut layer_files = vec![None; content.files.len()];
        let mut compressed = Vec::new();
        for (id, size, number) in files {
            let Some((file, _)) = content.file(number) else {
                continue;
            };
            let FileSource::Inode(nid) = file.source else {
                continue;
            };
            let failed = |source| self.unreadable(tree.path(id), source);
            let inode = self.image.inode(nid).map_err(failed)?;
            if inode.layout.is_compressed() {
                let data = keeper.pclusters(id, &inode)?;
                let number = u32::try_from(keeper.stored.files.len())
                    .map_err(|_| TreeError::TooMany("files"))?;
                keeper.stored.files.push(data);
                compressed.push((id, size, Location::Stored(number)));
                continue;
            }
            let mut placer = Placer {
                tree,
                content,
                first_devices: &[DeviceId::PRIMARY],
                blocks: &[self.image.superblock().blocks],
                block_bits: self.image.superblock().block_bits,
                writer: &mut *keeper.writer,
                tails: &mut keeper.stored.tails,
            };
            let mut data = placer.place(id, number, size)?;
            keeper.see(&mut data);
            layer_files[number as usize] = Some(data);
        }
        let (lowest, fragments) = (keeper.lowest, keeper.fragments);
        if lowest < first.0 {
            return Err(AppendError::NoRoom {
                path: self.path.clone(),
                lowest,
                needed: first.0,
            }
            .into());
        }
        for (id, size, location) in compressed {
            tree.set_location(id, size, location);
        }
        Ok(Kept {
            layer_files,
            fragments: tree.packed().map(|_| fragments),
        })
    }

    fn unreadable(&self, path: Vec<u8>, source: erofs_reader::Error) -> AppendError {
        let base = self.path.clone();
        AppendError::Map { base, path, source }
    }
}

/// Takes maps of the base over.
struct Keeper<'a, 'o> {
    base: &'a Base,
    tree: &'a FrozenTree,
    stored: &'a mut Stored,
    writer: &'a mut Writer<'o>,
    /// Form of the indexes of compressed files.
    index_form: IndexForm,
    fragments: Offsets,
    /// First block with data.
    lowest: u64,
}

impl Keeper<'_, '_> {
    /// Takes note of where a file without compression is: where it was.
    fn see(&mut self, data: &mut LayerFileData) {
        match data {
            LayerFileData::Flat {
                device,
                start,
                unified_start,
                ..
            } => {
                *unified_start = *start;
                if device.is_some() {
                    self.lowest = self.lowest.min(start.0);
                }
            }
            LayerFileData::Chunked { pieces, .. } => {
                let starts = pieces.iter().map(|ChunkPiece { start, .. }| start.0);
                self.lowest = starts.fold(self.lowest, u64::min);
            }
        }
    }

    /// Writes what was inlined, and has no room behind the new inode, into a block: padded in front when it is encoded (format
    /// reference §11.4).
    fn write_tail(
        &mut self,
        bytes: &[u8],
        is_encoded: bool,
        block_bits: BlockBits,
    ) -> Result<BlockAddr, ImageError> {
        let at = self.writer.block();
        if is_encoded {
            let padding = block_bits.bytes().saturating_sub(bytes.len() as u64);
            self.writer.pad_to(self.writer.position() + padding)?;
        }
        self.writer.write(bytes)?;
        self.writer.pad_to_block()?;
        Ok(at)
    }

    /// The pclusters of a file.
    fn pclusters(&mut self, id: InodeId, inode: &Inode) -> Result<StoredData, BuildError> {
        let (image, path) = (&self.base.image, || self.tree.path(id));
        let refused = |form| AppendError::Form {
            base: self.base.path.clone(),
            path: path(),
            form,
        };
        let bits = image.superblock().block_bits;
        let mut extents = Vec::new();
        let mut start = None;
        // The first block behind those before.
        let mut next = 0;
        let mut blocks = 0;
        let mut algorithm = None;
        let (mut fragment, mut tail) = (None, None);
        for extent in image.stored_extents(inode) {
            let extent = extent.map_err(|source| self.base.unreadable(path(), source))?;
            let (pcluster_blocks, partial) = match extent.form {
                Form::Fragment => {
                    let Some(Place::Packed { offset }) = extent.location else {
                        continue;
                    };
                    let kept = self.fragments.keep(offset);
                    fragment = Some(kept.ok_or(TreeError::TooMany("fragments"))?);
                    continue;
                }
                Form::Encoded {
                    algorithm: own,
                    partial,
                } => {
                    if *algorithm.get_or_insert(own) != own {
                        return Err(refused("several algorithms in one file").into());
                    }
                    let stored = u32::try_from(bits.blocks_for(extent.stored_length)).ok();
                    (stored, partial)
                }
                // At the start of a block interlaced is the same.
                Form::Plain { interlaced } if !interlaced || is_aligned(extent.logical, bits) => {
                    (None, false)
                }
                Form::Plain { .. } => return Err(refused("interlaced data").into()),
                Form::Hole => return Err(refused("a hole in a compressed file").into()),
                Form::Data => return Err(refused("plain data in a compressed file").into()),
            };
            let length = u32::try_from(extent.length).map_err(|_| refused("a very long extent"))?;
            let offset = match extent.location {
                Some(Place::Device { device, offset }) if device == DeviceId::PRIMARY => offset.0,
                Some(Place::Inline { area, offset }) => {
                    let mut bytes = vec![0; usize::try_from(extent.stored_length).unwrap_or(0)];
                    image
                        .read_metadata(Some(inode.nid()), area, offset, &mut bytes)
                        .map_err(|source| self.base.unreadable(path(), source))?;
                    tail = Some((length, pcluster_blocks.is_some(), bytes));
                    continue;
                }
                _ => return Err(refused("data on a device").into()),
            };
            if !is_aligned(offset, bits)
                || pcluster_blocks.is_some() && !is_aligned(extent.stored_length, bits)
            {
                return Err(refused("pclusters that are no whole blocks").into());
            }
            let at = bits.whole_blocks(offset);
            let count = pcluster_blocks.map_or(bits.blocks_for(extent.length), u64::from);
            let end = at.saturating_add(count);
            if end > image.superblock().blocks {
                return Err(refused("data behind the end of the image").into());
            }
            self.lowest = self.lowest.min(at);
            if start.is_none() {
                (start, next) = (Some(BlockAddr(at)), at);
            }
            let elsewhere = if at == next && !partial {
                next = end;
                blocks += count;
                None
            } else {
                let at = u32::try_from(at).ok();
                Some(at.ok_or_else(|| refused("shared data behind block 2^32"))?)
            };
            let kept = StoredExtent::kept(length, pcluster_blocks, elsewhere, partial);
            extents.push(kept);
        }
        if let (true, Some(fragment)) = (extents.is_empty(), fragment) {
            return Ok(StoredData::Packed(fragment));
        }
        let mut inlined = None;
        if let Some((length, is_encoded, bytes)) = tail {
            let is_shared = |extent: &StoredExtent| extent.elsewhere().is_some();
            let form = match extents.iter().any(is_shared) {
                true => IndexForm::Full,
                false => self.index_form,
            };
            let attributes = self.tree.xattrs.get(self.tree.inode(id).xattrs);
            let head = EXTENDED_INODE_SIZE + XattrPlan::largest_body(attributes);
            let mut elsewhere = None;
            if bytes.len() <= usize::from(tail_room(head, inode.size, form, bits)) {
                let tail = self.stored.tails.push(&bytes).map_err(ImageError::from)?;
                inlined = Some(tail);
            } else {
                let at = self.write_tail(&bytes, is_encoded, bits)?;
                let at = u32::try_from(at.0).ok();
                elsewhere = Some(at.ok_or_else(|| refused("an end behind block 2^32"))?);
            }
            let blocks = is_encoded.then_some(1);
            extents.push(StoredExtent::kept(length, blocks, elsewhere, false));
        }
        Ok(StoredData::Compressed(Box::new(StoredPclusters {
            start: start.unwrap_or_default(),
            blocks,
            extents: extents.into(),
            algorithm: algorithm.unwrap_or_else(|| self.base.algorithm()),
            fragment,
            tail: inlined,
        })))
    }
}

const fn is_aligned(bytes: u64, block_bits: BlockBits) -> bool {
    block_bits.offset_in_block(bytes) == 0
}
