//! What the user wants of a mount.

use crate::options::{MountOptions, OptionError};
use std::fmt;
use std::str::FromStr;

/// How the user wants an image mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The best way that works.
    #[default]
    Auto,
    /// By the kernel, straight from the file.
    File,
    /// By the kernel, through loop devices.
    Loop,
    /// In user space.
    Fuse,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::File => "file",
            Self::Loop => "loop",
            Self::Fuse => "fuse",
        })
    }
}

impl FromStr for Via {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        match text {
            "auto" => Ok(Self::Auto),
            "file" => Ok(Self::File),
            "loop" => Ok(Self::Loop),
            "fuse" => Ok(Self::Fuse),
            _ => Err(OptionError::value(
                "via",
                text.as_ref(),
                "one of auto, file, loop, fuse",
            )),
        }
    }
}

/// Whether data is read past the page cache of the filesystem that holds the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DirectIo {
    /// Where it is a gain and the kernel agrees.
    #[default]
    Auto,
    /// Asked for (`directio`): an error where a file-backed mount cannot have it. Loop devices take it where they can.
    Always,
    /// Ruled out (`nodirectio`).
    Never,
}

/// What the user wants, beside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// The way asked for.
    pub via: Via,
    /// Start of the image, in bytes.
    pub offset: u64,
    /// Bytes of the file that belong to the image.
    pub size_limit: Option<u64>,
    /// Direct I/O.
    pub direct_io: DirectIo,
    /// Whether the caller can start a FUSE server.
    pub fuse_launcher: bool,
}

impl Wish {
    /// From mount options.
    pub fn new(options: &MountOptions, fuse_launcher: bool) -> Self {
        Self {
            via: options.via,
            offset: options.offset,
            size_limit: options.size_limit,
            direct_io: options.direct_io,
            fuse_launcher,
        }
    }
}
