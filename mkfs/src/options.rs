//! What full images and indexes have in common: settings, errors, the superblock they start from.

use crate::data::compression;
use crate::data::pipeline::PipelineError;
use crate::image::{Header, ImageError, UnrepresentableError};
use crate::index::IndexError;
use crate::plan::most_frequent_time;
use crate::source::directory::DirectoryError;
use crate::source::layers::LayerError;
use crate::source::raw::RawFileError;
use crate::source::tar::TarError;
use crate::source::{Rules, Whiteouts, default_root};
use crate::tree::{FrozenTree, Tree, TreeError, XattrSetId};
use erofs_format::compression::Algorithm;
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::inode::Timestamp;
use erofs_format::kernel::{KernelVersion, Requirement};
use erofs_format::superblock::Superblock;
use erofs_format::{BlockAddr, BlockBits, ByteOffset, Nid};
use std::io;
use std::path::{Path, PathBuf};

/// Settings of any image.
#[derive(Debug, Clone)]
pub struct ImageOptions {
    /// Attributes that more inodes than this have in common are shared.
    pub xattr_tolerance: u32,
    /// UUID; otherwise derived from the content.
    pub uuid: Option<[u8; 16]>,
    /// Label, up to 15 bytes (16 since Linux 6.15).
    pub label: Vec<u8>,
    /// Changes on the way from the source.
    pub rules: Rules,
    /// What becomes of whiteouts of OCI layers.
    pub whiteouts: Whiteouts,
    /// A kernel that must be able to mount the image.
    pub kernel: Option<KernelVersion>,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            xattr_tolerance: 2,
            uuid: None,
            label: Vec::new(),
            rules: Rules::default(),
            whiteouts: Whiteouts::Keep,
            kernel: None,
        }
    }
}

impl ImageOptions {
    /// The label as the superblock stores it.
    pub(crate) fn stored_label(&self) -> [u8; 16] {
        let mut label = [0; 16];
        for (to, from) in label.iter_mut().zip(&self.label) {
            *to = *from;
        }
        label
    }

    /// The superblock of an image, of which addresses and counts are filled in later.
    pub(crate) fn superblock(
        &self,
        tree: &FrozenTree,
        block_bits: BlockBits,
        incompat: FeatureIncompat,
        header: &Header,
    ) -> Superblock {
        let epoch = most_frequent_time(tree);
        let has_xattrs = tree
            .breadth_first()
            .any(|id| tree.inode(id).xattrs != XattrSetId::EMPTY);
        let mut compat = FeatureCompat::SB_CHKSUM | FeatureCompat::MTIME;
        compat.set(FeatureCompat::XATTR_FILTER, has_xattrs);
        Superblock {
            checksum: 0,
            compat,
            incompat,
            block_bits,
            extension_slots: 0,
            root: Nid(0),
            inodes: 0,
            epoch: epoch.seconds,
            fixed_nanoseconds: epoch.nanoseconds,
            build_time: 0,
            blocks: 0,
            meta_block: BlockAddr(0),
            xattr_block: BlockAddr(0),
            uuid: [0; 16],
            label: self.stored_label(),
            algorithms_or_lz4_window: header.configs.bitmap(),
            extra_devices: 0,
            device_table: ByteOffset(0),
            xattr_prefix_count: 0,
            xattr_prefix_start: ByteOffset(0),
            packed: None,
            metabox: None,
            xattr_filter: has_xattrs,
            inode_share_prefix: None,
        }
    }

    /// Refuses what the kernel that the user named lacks.
    pub(crate) fn check_kernel(&self, requirements: &[Requirement]) -> Result<(), BuildError> {
        let Some(kernel) = self.kernel else {
            return Ok(());
        };
        let lacking = requirements
            .iter()
            .filter(|requirement| requirement.since() > kernel);
        match lacking.max_by_key(|requirement| requirement.since()) {
            Some(requirement) => Err(BuildError::Kernel {
                kernel,
                requirement: *requirement,
            }),
            None => Ok(()),
        }
    }

    /// A tree with the root of a source that describes none.
    pub(crate) fn empty_tree(&self) -> Result<Tree, TreeError> {
        let mut root = default_root(Timestamp::default());
        self.rules.apply(&mut root);
        Tree::new(root)
    }
}

/// What a kernel must know to mount the image, oldest first.
pub(crate) fn requirements(superblock: &Superblock) -> Vec<Requirement> {
    let mut all = vec![Requirement::Baseline];
    all.extend(Requirement::from_features(superblock.incompat));
    let compressed = superblock
        .incompat
        .contains(FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER);
    if compressed {
        let used =
            |algorithm: &Algorithm| superblock.algorithms_or_lz4_window & algorithm.bit() != 0;
        all.extend(
            Algorithm::ALL
                .into_iter()
                .filter(used)
                .filter_map(compression::requirement),
        );
    }
    all.extend(layout_requirements(
        superblock.block_bits,
        &superblock.label,
        superblock.incompat.contains(FeatureIncompat::ZERO_PADDING),
    ));
    all.sort_by_key(|requirement| requirement.since());
    all
}

/// What block size and label ask for.
pub(crate) fn layout_requirements(
    block_bits: BlockBits,
    label: &[u8; 16],
    compressed: bool,
) -> Vec<Requirement> {
    let mut all = Vec::new();
    if block_bits < BlockBits::B4096 {
        all.push(if compressed {
            Requirement::SmallBlocksCompressed
        } else {
            Requirement::SmallBlocks
        });
    }
    if !label.contains(&0) {
        all.push(Requirement::LongLabel);
    }
    all
}

/// The folder of a file.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Why an image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The output cannot be made.
    #[error("cannot write {}: {source}", path.display())]
    Output {
        /// The image.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The output would take the place of its own source.
    #[error("{} is a source of the image: write the image to another name", .0.display())]
    OwnSource(PathBuf),
    /// The source directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The source tar.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A source file.
    #[error(transparent)]
    RawFile(#[from] RawFileError),
    /// An entry that cannot be part of an image.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A value that cannot be part of an image.
    #[error(transparent)]
    Unrepresentable(#[from] UnrepresentableError),
    /// Layers that cannot be merged.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A file whose data an index cannot point at.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Data could not be read or written.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// Metadata could not be written.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image would need a newer kernel than allowed.
    #[error("Linux {kernel} cannot mount this image: {} needs {}{}", requirement.describe(), requirement.since(), advice(*requirement))]
    Kernel {
        /// The kernel that the user asked for.
        kernel: KernelVersion,
        /// What it lacks.
        requirement: Requirement,
    },
}

impl BuildError {
    /// Names the image where all that is known is that writing it failed.
    pub(crate) fn at(self, output: &Path) -> Self {
        match self {
            Self::Pipeline(PipelineError::Write(source))
            | Self::Image(ImageError::Write(source)) => Self::Output {
                path: output.to_path_buf(),
                source,
            },
            other => other,
        }
    }
}

const fn advice(requirement: Requirement) -> &'static str {
    match requirement {
        Requirement::ChunkedFile => {
            " (--no-sparse writes zeros instead of holes; --chunksize asks for chunks)"
        }
        Requirement::MicroLzma | Requirement::Deflate | Requirement::Zstd => {
            " (without -z nothing is compressed)"
        }
        Requirement::DeviceTable => " (build a full image instead of an index)",
        Requirement::LongLabel => " (use a label of at most 15 bytes)",
        Requirement::SmallBlocks | Requirement::SmallBlocksCompressed => {
            " (erofs build has 4096-byte blocks)"
        }
        _ => "",
    }
}
