//! Images that are continued: what stays of the base keeps its blocks, everything new comes behind them.
//!
//! ```text
//! block 0: superblock, configurations │ all blocks of the base │ data of new files │ inodes │ directory blocks │ shared xattrs
//! ```
//! All metadata is written anew, as small as options ask for; the base's own becomes dead space. Nothing of the base's data is
//! read but what lies behind its inodes and maps, and the last bytes of its packed inode when new fragments follow them.

use super::options::BuildOptions;
use super::source::refuse_own_file;
use crate::data::output::{FileIdentity, Output};
use crate::image::ImageError;
use crate::options::BuildError;
use crate::source::layers::{self, Merged};
use crate::tree::{FrozenTree, display};
use erofs_format::BlockAddr;
use erofs_format::compression::Algorithm;
use erofs_format::compression::config::AlgorithmConfigs;
use erofs_format::feature::FeatureIncompat;
use erofs_reader::{ByteSource, FileSource, Image};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An image that another one goes on from.
#[derive(Debug)]
pub struct Base {
    /// Its path.
    pub path: PathBuf,
    /// The image, which begins with its file.
    pub image: Arc<Image>,
    /// Files of its devices, by slot: they are devices of the new image.
    pub devices: Vec<PathBuf>,
    /// Whether whiteouts and overlayfs' attributes of the source are left out, when they have deleted what they name.
    pub strip: bool,
}

/// Why an image cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Its devices are not known, or behind it in its file, where what is new would go.
    #[error("{}: its devices are to be named (--device); where they are in the same file, it ends where they begin and is not continued", .0.display())]
    Embedded(PathBuf),
    /// New metadata and devices behind each other need addresses of more than 32 bits.
    #[error("{}: its devices take more than the blocks that 32 bits address: make an index of them anew", .0.display())]
    Far(PathBuf),
    /// Blocks of another size.
    #[error("{} has blocks of {base} bytes, so has what continues it: -b {base}", path.display())]
    BlockSize {
        /// The base.
        path: PathBuf,
        /// Its block size in bytes.
        base: u64,
    },
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

impl Base {
    /// Looks whether it can be continued with these options, and changes them so that what the source says of layers below it
    /// is kept until it lies over the base, and a root that it does not describe is the base's.
    pub(super) fn options(&self, options: &BuildOptions) -> Result<BuildOptions, BuildError> {
        let superblock = self.image.superblock();
        let path = || self.path.clone();
        let is_far = self
            .image
            .device_slots()
            .iter()
            .map(|slot| slot.blocks)
            .sum::<u64>()
            > u64::from(u32::MAX) / 2;
        let problem = if self.image.device_slots().len() != self.devices.len() {
            Some(AppendError::Embedded(path()))
        } else if is_far {
            Some(AppendError::Far(path()))
        } else if superblock.block_bits != options.block_bits {
            Some(AppendError::BlockSize {
                path: path(),
                base: superblock.block_bits.bytes(),
            })
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
        for device in &self.devices {
            refuse_own_file(device, device.metadata(), own_files)?;
        }
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

    /// Blocks of the image, and of its devices by slot. Where a slot does not tell, the file does.
    pub(super) fn device_blocks(&self) -> Result<Vec<u64>, AppendError> {
        let superblock = self.image.superblock();
        let mut all = vec![superblock.blocks];
        for (slot, path) in self.image.device_slots().iter().zip(&self.devices) {
            let blocks = match slot.blocks {
                0 => superblock
                    .block_bits
                    .whole_blocks(self.device(path)?.size()),
                blocks => blocks,
            };
            all.push(blocks);
        }
        Ok(all)
    }

    /// Its devices, for reading.
    pub(super) fn open_devices(&self) -> Result<Vec<Arc<dyn ByteSource>>, AppendError> {
        let open = |path: &PathBuf| Ok(Arc::new(self.device(path)?) as Arc<dyn ByteSource>);
        self.devices.iter().map(open).collect()
    }

    fn device(&self, path: &Path) -> Result<FileSource, AppendError> {
        FileSource::open(path).map_err(|source| AppendError::Read {
            path: path.to_path_buf(),
            source,
        })
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

    pub(super) fn refused(&self, path: Vec<u8>, form: &'static str) -> AppendError {
        let base = self.path.clone();
        AppendError::Form { base, path, form }
    }

    pub(super) fn unreadable(&self, path: Vec<u8>, source: erofs_reader::Error) -> AppendError {
        let base = self.path.clone();
        AppendError::Map { base, path, source }
    }
}
