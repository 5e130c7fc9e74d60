//! Options that full images and indexes have in common.

use crate::values;
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use erofs_format::inode::Timestamp;
use erofs_format::kernel::KernelVersion;
use erofs_mkfs::options::ImageOptions;
use erofs_mkfs::source::{Rules, Whiteouts};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

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

    /// Give all files this modification time (Unix seconds)
    #[arg(short = 'T', value_name = "SECONDS", value_parser = values::timestamp, allow_negative_numbers = true)]
    time: Option<Timestamp>,

    /// Everything belongs to root
    #[arg(long, conflicts_with_all = ["force_uid", "force_gid"])]
    all_root: bool,

    /// Everything belongs to this user
    #[arg(long, value_name = "UID")]
    force_uid: Option<u32>,

    /// Everything belongs to this group
    #[arg(long, value_name = "GID")]
    force_gid: Option<u32>,

    /// Leave out this path (relative to the root) and all below it; may be repeated
    #[arg(long, value_name = "PATH")]
    exclude_path: Vec<PathBuf>,

    /// What becomes of the .wh. names of OCI layers
    #[arg(long, value_name = "WHAT", default_value = "keep")]
    whiteouts: WhiteoutMode,

    /// The same as --whiteouts=overlay
    #[arg(long, conflicts_with = "whiteouts")]
    aufs: bool,
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
        let owner = |forced: Option<u32>| if self.all_root { Some(0) } else { forced };
        Ok(ImageOptions {
            // A negative tolerance means no attributes at all, as in mkfs.erofs.
            xattr_tolerance: u32::try_from(self.xattr_tolerance).unwrap_or(u32::MAX),
            uuid: self.uuid,
            label: self.label.clone().into_bytes(),
            rules: Rules {
                force_uid: owner(self.force_uid),
                force_gid: owner(self.force_gid),
                fixed_time: self.time,
                clamp_time,
                drop_xattrs: self.xattr_tolerance < 0,
                excluded: self
                    .exclude_path
                    .iter()
                    .map(|path| path.as_os_str().as_bytes().to_vec())
                    .collect(),
            },
            whiteouts: if self.aufs {
                Whiteouts::Overlay
            } else {
                self.whiteouts.into()
            },
            kernel: self.kernel,
        })
    }
}
