//! What full images and indexes have in common: settings, errors, the superblock they start from.

use crate::build::AppendError;
use crate::data::compression;
use crate::data::pipeline::PipelineError;
use crate::image::{Header, ImageError, UnrepresentableError, check_representable};
use crate::index::IndexError;
use crate::plan::{long_prefix, most_frequent_time};
use crate::source::directory::DirectoryError;
use crate::source::layers::LayerError;
use crate::source::raw::RawFileError;
use crate::source::tar::TarError;
use crate::source::{Rules, Whiteouts, default_root};
use crate::tree::{FrozenTree, Metadata, Tree, TreeError, XattrSetId};
use crate::verify::VerifyError;
use erofs_format::compression::Algorithm;
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::inode::{FileType, Timestamp};
use erofs_format::kernel::{KernelVersion, Requirement};
use erofs_format::superblock::Superblock;
use erofs_format::xattr::{LongPrefix, MAX_LONG_PREFIXES};
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
    /// The root of sources that describe none; otherwise root's, mode 0755.
    pub root: Option<Metadata>,
    /// What becomes of whiteouts of OCI layers.
    pub whiteouts: Whiteouts,
    /// A kernel that must be able to mount the image.
    pub kernel: Option<KernelVersion>,
    /// Byte of the output where the image begins; what is before is zeros.
    pub offset: u64,
    /// Whether the output gets another name soon, from whoever then syncs it: neither need survive a loss of power until then.
    pub passing_name: bool,
    /// Whiteouts and opaque marks of overlayfs are left out.
    pub strip_overlay: bool,
    /// Directories that hold whiteouts get `trusted.overlay.origin`: overlayfs then looks for them in a layer that lies alone.
    pub mark_whiteouts: bool,
    /// How metadata is stored.
    pub metadata: MetadataOptions,
}

/// How metadata is stored.
#[derive(Debug, Clone)]
pub struct MetadataOptions {
    /// The image's own time, to which those of compact inodes are relative; otherwise the most frequent one of the tree.
    pub build_time: Option<Timestamp>,
    /// Files get the image's time where only their own costs them a larger inode.
    pub ignore_mtime: bool,
    /// Size of inodes.
    pub inode_form: InodeForm,
    /// Whether the superblock has a checksum.
    pub checksum: bool,
    /// Whether inodes tell which attributes they do not have (Linux 6.6 makes use of it).
    pub name_filter: bool,
    /// Least size of the attributes behind the root's inode, in bytes: room for attributes of an image written later.
    pub root_xattr_size: u64,
    /// The image's size is a multiple of so many blocks.
    pub align_blocks: u64,
    /// 48-bit layout (Linux 6.15): compact inodes have times of their own, in seconds.
    pub bit48: bool,
    /// Directories have no entry `.`, which goes with the 48-bit layout.
    pub omit_dot: bool,
    /// Prefixes of names of attributes that are stored once (Linux 6.4).
    pub prefixes: Vec<LongPrefix>,
    /// The attribute, if any, in which each regular file gets the SHA-256 of its content. Files of the same content then share
    /// pages where images are mounted for that (Linux 7.0; 6.4 mounts them).
    pub inode_digest: Option<LongPrefix>,
    /// Whether more prefixes are looked for, and taken as far as they pay.
    pub find_prefixes: bool,
}

impl MetadataOptions {
    /// The prefixes that are asked for by name, that of fingerprints, which is told by its number, last.
    pub fn stored_prefixes(&self) -> Vec<LongPrefix> {
        self.prefixes
            .iter()
            .chain(&self.inode_digest)
            .cloned()
            .collect()
    }

    /// Least size of the root's attributes as stored, in bytes.
    pub(crate) fn root_body_size(&self) -> u64 {
        const LARGEST: u64 = erofs_format::xattr::MAX_BODY_SIZE as u64;
        self.root_xattr_size.min(LARGEST).next_multiple_of(4)
    }
}

/// Size of inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InodeForm {
    /// 32 bytes where all values fit.
    #[default]
    Smallest,
    /// 32 bytes, and files that do not fit are errors.
    Compact,
    /// 64 bytes.
    Extended,
}

impl Default for MetadataOptions {
    fn default() -> Self {
        Self {
            build_time: None,
            ignore_mtime: false,
            inode_form: InodeForm::Smallest,
            checksum: true,
            name_filter: true,
            root_xattr_size: 0,
            align_blocks: 1,
            bit48: false,
            omit_dot: false,
            prefixes: Vec::new(),
            inode_digest: None,
            find_prefixes: false,
        }
    }
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            xattr_tolerance: 2,
            uuid: None,
            label: Vec::new(),
            rules: Rules::default(),
            root: None,
            whiteouts: Whiteouts::Keep,
            kernel: None,
            offset: 0,
            passing_name: false,
            strip_overlay: false,
            mark_whiteouts: false,
            metadata: MetadataOptions::default(),
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
        let (epoch, build_time) = self.epoch(tree);
        let mut incompat = incompat;
        incompat.set(
            FeatureIncompat::BIT48,
            incompat.contains(FeatureIncompat::BIT48) || self.is_48bit(),
        );
        incompat.set(FeatureIncompat::METABOX, header.metabox);
        incompat.set(FeatureIncompat::XATTR_PREFIXES, !header.prefixes.is_empty());
        let inode_share_prefix = header.fingerprint_prefix(self.metadata.inode_digest.as_ref());
        let has_xattrs = has_xattrs(tree) || inode_share_prefix.is_some();
        let mut compat = FeatureCompat::MTIME;
        compat.set(FeatureCompat::SB_CHKSUM, self.metadata.checksum);
        let xattr_filter = has_xattrs && self.metadata.name_filter;
        compat.set(FeatureCompat::XATTR_FILTER, xattr_filter);
        compat.set(FeatureCompat::ISHARE_XATTRS, inode_share_prefix.is_some());
        // Where the table is, whatever special inodes the image has.
        compat.set(FeatureCompat::PLAIN_XATTR_PFX, !header.prefixes.is_empty());
        Superblock {
            checksum: 0,
            compat,
            incompat,
            block_bits,
            extension_slots: header.extension_slots(),
            root: Nid(0),
            inodes: 0,
            epoch: epoch.seconds,
            fixed_nanoseconds: epoch.nanoseconds,
            build_time,
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
            packed: tree.packed().map(|_| Nid(0)),
            metabox: None,
            xattr_filter,
            inode_share_prefix,
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

    /// Whether the options ask for the 48-bit layout.
    pub(crate) const fn is_48bit(&self) -> bool {
        self.metadata.bit48 || self.metadata.omit_dot
    }

    /// The image's own time.
    fn time(&self, tree: &FrozenTree) -> Timestamp {
        self.metadata
            .build_time
            .unwrap_or_else(|| most_frequent_time(tree))
    }

    /// The time to which those of compact inodes are relative, and the image's own behind it, in seconds. In the 48-bit layout
    /// compact inodes count 32 bits of seconds from it on, so it lies as far back as the image's own time allows.
    fn epoch(&self, tree: &FrozenTree) -> (Timestamp, u32) {
        let time = self.time(tree);
        if !self.is_48bit() {
            return (time, 0);
        }
        let earliest = time.seconds.saturating_sub(u32::MAX.into()).max(0);
        let seconds = earliest.min(time.seconds);
        let behind = u32::try_from(time.seconds - seconds).unwrap_or(0);
        (Timestamp { seconds, ..time }, behind)
    }

    /// The prefixes that the names of a tree's attributes get, and that have room before byte `end` in `header`.
    ///
    /// # Errors
    /// [`ImageError::Config`].
    pub(crate) fn prefixes(
        &self,
        tree: &FrozenTree,
        header: &Header,
        block_bits: BlockBits,
        end: u64,
    ) -> Result<Vec<LongPrefix>, ImageError> {
        let metadata = &self.metadata;
        if !metadata.find_prefixes || !has_xattrs(tree) {
            let wanted = metadata.stored_prefixes();
            return Ok(match (has_xattrs(tree), &metadata.inode_digest) {
                (true, _) => wanted,
                (false, digest) => digest.iter().cloned().collect(),
            });
        }
        let mut prefixes: Vec<LongPrefix> = metadata.inode_digest.iter().cloned().collect();
        if tree.packed().is_none() {
            let taken: u64 = prefixes.iter().map(long_prefix::stored_size).sum();
            let room = end.saturating_sub(header.end_in_bytes(block_bits)? + taken);
            let found = long_prefix::worthwhile(tree, self.xattr_tolerance, room);
            let most = MAX_LONG_PREFIXES - prefixes.len();
            prefixes.splice(0..0, found.into_iter().take(most));
        }
        // Else Linux before 6.17 would look for the table in the packed inode.
        Ok(prefixes)
    }

    /// Resolves what could only be known when all of the source was seen, and changes what the options want changed.
    ///
    /// # Errors
    /// [`BuildError::Tree`], [`BuildError::Unrepresentable`].
    pub(crate) fn finish(&self, mut tree: Tree) -> Result<FrozenTree, BuildError> {
        if self.strip_overlay {
            tree.strip_overlay()?;
        }
        if self.mark_whiteouts {
            tree.mark_whiteouts()?;
        }
        self.settle(tree.finish()?)
    }

    /// Looks whether an image can hold all of a tree, labels directories that the source did not mention and changes the times
    /// that the options want changed.
    ///
    /// # Errors
    /// [`BuildError::Tree`], [`BuildError::Unrepresentable`].
    pub(crate) fn settle(&self, mut tree: FrozenTree) -> Result<FrozenTree, BuildError> {
        if let Some(labels) = &self.rules.labels {
            // The others got theirs on the way: what a file's attributes take decides where its tail goes.
            let all = tree.breadth_first();
            let implied: Vec<_> = all.filter(|id| tree.is_implied(*id)).collect();
            for id in implied {
                let mut xattrs = tree.metadata(id).xattrs;
                labels.apply(&tree.path(id), FileType::Directory, &mut xattrs);
                tree.set_xattrs(id, xattrs)?;
            }
        }
        check_representable(&tree)?;
        let compact = self.metadata.inode_form == InodeForm::Compact;
        if self.metadata.ignore_mtime || compact {
            let time = self.time(&tree);
            let all: Vec<_> = tree.breadth_first().collect();
            for id in all {
                let fits = tree.inode(id).fits_compact_but_for_its_time();
                if fits {
                    tree.set_time(id, time);
                } else if compact {
                    let path = tree.path(id);
                    return Err(UnrepresentableError::Compact { path }.into());
                }
            }
        }
        Ok(tree)
    }

    /// A tree with the root of a source that describes none.
    pub(crate) fn empty_tree(&self) -> Result<Tree, TreeError> {
        if let Some(root) = &self.root {
            return self.tree(root.clone());
        }
        let mut root = default_root(Timestamp::default());
        self.rules.apply(b"", FileType::Directory, &mut root);
        self.tree(root)
    }

    /// A tree with this root.
    pub(crate) fn tree(&self, root: Metadata) -> Result<Tree, TreeError> {
        let mut tree = Tree::new(root)?;
        if self.rules.separate_links {
            tree.separate_links();
        }
        Ok(tree)
    }
}

fn has_xattrs(tree: &FrozenTree) -> bool {
    tree.breadth_first()
        .any(|id| tree.inode(id).xattrs != XattrSetId::EMPTY)
}

/// What a kernel must know to mount the image, oldest first.
pub(crate) fn requirements(superblock: &Superblock) -> Vec<Requirement> {
    let mut all = vec![Requirement::Baseline];
    all.extend(Requirement::from_features(superblock.incompat));
    if superblock.packed.is_some()
        && superblock
            .incompat
            .contains(FeatureIncompat::XATTR_PREFIXES)
    {
        all.push(Requirement::PlainXattrPrefixes);
    }
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
    /// The image and its extra device would take each other's place.
    #[error("the image and the file of --blobdev, {}, need different names", .0.display())]
    OwnDevice(PathBuf),
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
    /// An image that cannot be continued.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A file whose data an index cannot point at.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Data could not be read or written.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// Metadata could not be written.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// What was written is not what went in.
    #[error(
        "the image was read back and is not what went in: {0}; nothing was written. This program, the memory or the disk is at fault: try again, and report it if it comes again"
    )]
    Verify(#[from] VerifyError),
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
        Requirement::Ztailpacking => " (leave out -E ztailpacking)",
        Requirement::BigPcluster => " (-C of one block keeps pclusters small)",
        Requirement::MicroLzma | Requirement::Deflate | Requirement::Zstd => {
            " (without -z nothing is compressed)"
        }
        Requirement::Bit48 => " (leave out -E48bit and -Edot-omitted)",
        Requirement::Metabox => " (leave out -m)",
        Requirement::XattrPrefixes | Requirement::PlainXattrPrefixes => {
            " (leave out --xattr-prefix)"
        }
        Requirement::DeviceTable => " (build a full image instead of an index)",
        Requirement::FlatDevices => " (leave out --embed)",
        Requirement::LongLabel => " (use a label of at most 15 bytes)",
        Requirement::SmallBlocks | Requirement::SmallBlocksCompressed => {
            " (erofs build has 4096-byte blocks)"
        }
        _ => "",
    }
}
