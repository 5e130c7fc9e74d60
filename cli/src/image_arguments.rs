//! Options that full images and indexes have in common.

use crate::values;
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use erofs_format::inode::Timestamp;
use erofs_format::kernel::KernelVersion;
use erofs_format::xattr::MAX_BODY_SIZE;
use erofs_mkfs::options::{ImageOptions, MetadataOptions};
use erofs_mkfs::source::file_contexts::FileContexts;
use erofs_mkfs::source::{Rules, Whiteouts};
use regex::bytes::Regex;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

/// What an image is called and what is changed on the way into it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Image")]
pub(crate) struct ImageArguments {
    /// UUID, `random` or `clear`; by default it follows from the content
    #[arg(short = 'U', long, value_name = "UUID", value_parser = values::uuid)]
    uuid: Option<[u8; 16]>,

    /// Label, up to 15 bytes (16 since Linux 6.15)
    #[arg(short = 'L', long, value_name = "LABEL", default_value = "")]
    label: String,

    /// Refuse what this kernel cannot mount, e.g. 5.10
    #[arg(long, value_name = "X.Y")]
    kernel: Option<KernelVersion>,

    /// Share extended attributes that more than N files have in common; -1 leaves all attributes out
    #[arg(
        short = 'x',
        value_name = "N",
        default_value = "2",
        allow_negative_numbers = true
    )]
    xattr_tolerance: i64,

    /// SELinux labels of files by their paths, as file_contexts(5) has them, in place of those of the source; with the files
    /// beside it that end in .homedirs, .local, .subs and .subs_dist
    #[arg(long, value_name = "FILE")]
    file_contexts: Option<PathBuf>,

    /// Where the image will be mounted: --file-contexts goes by paths below it
    #[arg(long, value_name = "PATH", default_value = "/")]
    mount_point: PathBuf,

    /// Time of the image and of all files (Unix seconds)
    #[arg(short = 'T', value_name = "SECONDS", value_parser = values::timestamp, allow_negative_numbers = true)]
    time: Option<Timestamp>,

    /// The time of -T is that of all files too; the default
    #[arg(long, overrides_with = "mkfs_time")]
    all_time: bool,

    /// The time of -T is that of the image only
    #[arg(long, overrides_with = "all_time")]
    mkfs_time: bool,

    /// Files get the image's time where only their own would cost them a larger inode
    #[arg(long, overrides_with = "preserve_mtime")]
    ignore_mtime: bool,

    /// Files keep their time; the default
    #[arg(long, overrides_with = "ignore_mtime")]
    preserve_mtime: bool,

    /// Everything belongs to root, but for --force-uid and --force-gid
    #[arg(long)]
    all_root: bool,

    /// Everything belongs to this user
    #[arg(long, value_name = "UID", value_parser = values::owner)]
    force_uid: Option<u32>,

    /// Everything belongs to this group
    #[arg(long, value_name = "GID", value_parser = values::owner)]
    force_gid: Option<u32>,

    /// Add this to all user ids, after --force-uid
    #[arg(long, value_name = "N", default_value = "0")]
    uid_offset: u32,

    /// Add this to all group ids, after --force-gid
    #[arg(long, value_name = "N", default_value = "0")]
    gid_offset: u32,

    /// Leave out this path (relative to the root) and all below it; may be repeated
    #[arg(long, value_name = "PATH")]
    exclude_path: Vec<PathBuf>,

    /// Leave out paths (relative to the root) that this regular expression matches, and all below them; may be repeated
    #[arg(long, value_name = "REGEX", value_parser = values::regex)]
    exclude_regex: Vec<Regex>,

    /// Make each hard link a file of its own
    #[arg(long)]
    hard_dereference: bool,

    /// What becomes of the .wh. names of OCI layers
    #[arg(long, value_name = "WHAT", default_value = "keep")]
    whiteouts: WhiteoutMode,

    /// The same as --whiteouts=overlay
    #[arg(long, conflicts_with = "whiteouts")]
    aufs: bool,

    /// Leave out overlayfs whiteouts and opaque marks (=0: keep them, the default but for merged layers)
    #[arg(long, value_name = "0|1", num_args = 0..=1, default_missing_value = "1", require_equals = true, value_parser = values::zero_or_one)]
    ovlfs_strip: Option<bool>,

    /// Begin the image at this byte of the file
    #[arg(long, value_name = "BYTES", value_parser = values::size, default_value = "0")]
    offset: u64,

    /// Make the image's size a multiple of this many blocks
    #[arg(long = "fsalignblks", value_name = "BLOCKS", default_value = "1", value_parser = clap::value_parser!(u64).range(0..=1 << 32))]
    align_blocks: u64,

    /// Leave room for this many bytes of attributes behind the root's inode
    #[arg(long = "root-xattr-isize", value_name = "BYTES", default_value = "0", value_parser = clap::value_parser!(u64).range(0..=MAX_BODY_SIZE as u64))]
    root_xattr_size: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum WhiteoutMode {
    /// Overlayfs whiteouts and opaque directories
    Overlay,
    /// The same for mounts with userxattr
    OverlayUser,
    /// Ordinary files
    Keep,
    /// Nothing
    Strip,
}

impl From<WhiteoutMode> for Whiteouts {
    fn from(mode: WhiteoutMode) -> Self {
        match mode {
            WhiteoutMode::Overlay => Self::Overlay,
            WhiteoutMode::OverlayUser => Self::OverlayUser,
            WhiteoutMode::Keep => Self::Keep,
            WhiteoutMode::Strip => Self::Strip,
        }
    }
}

impl ImageArguments {
    /// Whether overlayfs metadata is to be left out, if that is said.
    pub(crate) const fn ovlfs_strip(&self) -> Option<bool> {
        self.ovlfs_strip
    }

    /// Whether all files are to get one time, and nothing says which.
    pub(crate) const fn wants_some_time(&self) -> bool {
        self.all_time && self.time.is_none()
    }

    /// The label.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// The options, with `SOURCE_DATE_EPOCH` from the environment as the latest modification time.
    pub(crate) fn options(&self) -> anyhow::Result<ImageOptions> {
        if self.label.len() > 16 {
            bail!("label {:?} is longer than 16 bytes", self.label);
        }
        let clamp_time = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => Some(
                values::timestamp(&text)
                    .map_err(anyhow::Error::msg)
                    .context("environment variable SOURCE_DATE_EPOCH")?,
            ),
            Err(_) => None,
        };
        // Without attributes there are no labels, as in mkfs.erofs.
        let labels = match &self.file_contexts {
            Some(path) if self.xattr_tolerance >= 0 => {
                let mount_point = self.mount_point.as_os_str().as_bytes();
                Some(Arc::new(FileContexts::read(path, mount_point)?))
            }
            _ => None,
        };
        let owner = |forced: Option<u32>| forced.or(self.all_root.then_some(0));
        Ok(ImageOptions {
            passing_name: false,
            // A negative tolerance means no attributes at all, as in mkfs.erofs.
            xattr_tolerance: u32::try_from(self.xattr_tolerance).unwrap_or(u32::MAX),
            uuid: self.uuid,
            label: self.label.clone().into_bytes(),
            rules: Rules {
                force_uid: owner(self.force_uid),
                force_gid: owner(self.force_gid),
                uid_offset: self.uid_offset,
                gid_offset: self.gid_offset,
                fixed_time: self.time.filter(|_| !self.mkfs_time),
                clamp_time,
                drop_xattrs: self.xattr_tolerance < 0,
                labels,
                excluded: self
                    .exclude_path
                    .iter()
                    .map(|path| path.as_os_str().as_bytes().to_vec())
                    .collect(),
                excluded_patterns: self.exclude_regex.clone(),
                separate_links: self.hard_dereference,
                as_layer: false,
            },
            root: None,
            whiteouts: if self.aufs {
                Whiteouts::Overlay
            } else {
                self.whiteouts.into()
            },
            kernel: self.kernel,
            offset: self.offset,
            strip_overlay: self.ovlfs_strip.unwrap_or(false),
            mark_whiteouts: false,
            metadata: MetadataOptions {
                build_time: self.time,
                ignore_mtime: self.ignore_mtime,
                root_xattr_size: self.root_xattr_size,
                align_blocks: self.align_blocks.max(1),
                ..MetadataOptions::default()
            },
        })
    }
}
