//! Kernel versions, and since when Linux reads what (format reference §22).

use crate::feature::{FeatureCompat, FeatureIncompat};
use std::fmt;
use std::str::FromStr;

/// A Linux version without its patch level, e.g. 6.12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    /// The part before the dot.
    pub major: u16,
    /// The part after the dot.
    pub minor: u16,
}

impl KernelVersion {
    /// `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Text that does not start with `MAJOR.MINOR`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kernel version: expected MAJOR.MINOR, e.g. 6.12")]
pub struct KernelVersionError(String);

impl FromStr for KernelVersion {
    type Err = KernelVersionError;

    /// Accepts `6.12` and whole release strings such as `6.12.41+deb13-amd64`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || KernelVersionError(text.to_owned());
        let (major, rest) = text.split_once('.').ok_or_else(error)?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (minor, tail) = rest.split_at(digits);
        if tail.starts_with(|c: char| c.is_ascii_alphabetic())
            || !major.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(error());
        }
        Ok(Self {
            major: major.parse().map_err(|_| error())?,
            minor: minor.parse().map_err(|_| error())?,
        })
    }
}

/// Something an image uses that not every kernel reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// Nothing but what the first EROFS in mainline reads.
    Baseline,
    /// Compressed data behind zero padding.
    ZeroPadding,
    /// Algorithm configurations or pclusters larger than a block.
    BigPcluster,
    /// Chunk-based files.
    ChunkedFile,
    /// Extra devices.
    DeviceTable,
    /// Extra devices behind the image in one file, mounted without naming them. No feature bit announces it.
    FlatDevices,
    /// MicroLZMA.
    MicroLzma,
    /// Compressed inline tails.
    Ztailpacking,
    /// Fragments, or shared pclusters.
    FragmentsOrDedupe,
    /// Blocks smaller than a page, uncompressed.
    SmallBlocks,
    /// Blocks smaller than a page, compressed.
    SmallBlocksCompressed,
    /// Long xattr prefixes.
    XattrPrefixes,
    /// DEFLATE.
    Deflate,
    /// Zstd.
    Zstd,
    /// A label of 16 bytes, without a NUL.
    LongLabel,
    /// 48-bit addresses, encoded extents, compact inodes with times of their own.
    Bit48,
    /// Metabox.
    Metabox,
    /// Long xattr prefixes on the device, in an image with a packed inode, where older kernels look for them.
    PlainXattrPrefixes,
    /// Holes in lcluster indexes. Nothing announces them, and older kernels read some block.
    IndexHoles,
}

impl Requirement {
    /// The first kernel that reads it.
    pub const fn since(self) -> KernelVersion {
        let (major, minor) = match self {
            Self::Baseline | Self::ZeroPadding => (5, 4),
            Self::BigPcluster => (5, 13),
            Self::ChunkedFile => (5, 15),
            Self::DeviceTable | Self::MicroLzma => (5, 16),
            Self::Ztailpacking => (5, 17),
            Self::FragmentsOrDedupe => (6, 1),
            Self::SmallBlocks | Self::XattrPrefixes | Self::FlatDevices => (6, 4),
            Self::Deflate => (6, 6),
            Self::SmallBlocksCompressed => (6, 8),
            Self::Zstd => (6, 10),
            Self::LongLabel | Self::Bit48 => (6, 15),
            Self::Metabox | Self::PlainXattrPrefixes => (6, 17),
            Self::IndexHoles => (7, 2),
        };
        KernelVersion::new(major, minor)
    }

    /// What a user would call it.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Baseline => "plain EROFS",
            Self::ZeroPadding => "compression with zero padding",
            Self::BigPcluster => "pclusters larger than a block",
            Self::ChunkedFile => "chunk-based files (holes)",
            Self::DeviceTable => "extra devices",
            Self::FlatDevices => "extra devices behind the image in one file",
            Self::MicroLzma => "MicroLZMA",
            Self::Ztailpacking => "compressed inline tails",
            Self::FragmentsOrDedupe => "fragments or deduplication",
            Self::SmallBlocks => "blocks smaller than a page",
            Self::SmallBlocksCompressed => "compression with blocks smaller than a page",
            Self::XattrPrefixes => "long xattr prefixes",
            Self::Deflate => "DEFLATE",
            Self::Zstd => "Zstd",
            Self::LongLabel => "a 16-byte label",
            Self::Bit48 => "48-bit layout",
            Self::Metabox => "metabox",
            Self::PlainXattrPrefixes => "long xattr prefixes beside a packed inode",
            Self::IndexHoles => "holes in lcluster indexes",
        }
    }

    /// What the feature bits of a superblock ask for, oldest first.
    pub fn from_features(features: FeatureIncompat) -> Vec<Self> {
        [
            (FeatureIncompat::ZERO_PADDING, Self::ZeroPadding),
            (
                FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER,
                Self::BigPcluster,
            ),
            (FeatureIncompat::CHUNKED_FILE, Self::ChunkedFile),
            (
                FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2,
                Self::DeviceTable,
            ),
            (FeatureIncompat::ZTAILPACKING, Self::Ztailpacking),
            (
                FeatureIncompat::FRAGMENTS_OR_DEDUPE,
                Self::FragmentsOrDedupe,
            ),
            (FeatureIncompat::XATTR_PREFIXES, Self::XattrPrefixes),
            (FeatureIncompat::BIT48, Self::Bit48),
            (FeatureIncompat::METABOX, Self::Metabox),
        ]
        .into_iter()
        .filter_map(|(bit, requirement)| features.contains(bit).then_some(requirement))
        .collect()
    }
}

/// The first kernel that uses a compatible feature; older ones ignore it. `None` for what no kernel uses, and for several
/// bits at once.
pub const fn used_since(feature: FeatureCompat) -> Option<KernelVersion> {
    const SB_CHKSUM: u32 = FeatureCompat::SB_CHKSUM.bits();
    const MTIME: u32 = FeatureCompat::MTIME.bits();
    const XATTR_FILTER: u32 = FeatureCompat::XATTR_FILTER.bits();
    const SHARED_EA_IN_METABOX: u32 = FeatureCompat::SHARED_EA_IN_METABOX.bits();
    const PLAIN_XATTR_PFX: u32 = FeatureCompat::PLAIN_XATTR_PFX.bits();
    const ISHARE_XATTRS: u32 = FeatureCompat::ISHARE_XATTRS.bits();
    let (major, minor) = match feature.bits() {
        SB_CHKSUM => (5, 5),
        MTIME => (5, 18),
        XATTR_FILTER => (6, 6),
        SHARED_EA_IN_METABOX | PLAIN_XATTR_PFX => (6, 17),
        ISHARE_XATTRS => (7, 0),
        _ => return None,
    };
    Some(KernelVersion::new(major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse_from_releases() {
        for (text, expected) in [
            ("6.12", Some((6, 12))),
            ("5.4.0-rc1", Some((5, 4))),
            ("6.12.41+deb13-amd64", Some((6, 12))),
            ("7.2-rc3", Some((7, 2))),
            ("6", None),
            ("6.", None),
            ("+6.1", None),
            ("6.x", None),
            ("6.1a", None),
            ("", None),
            ("99999.1", None),
        ] {
            let parsed = text.parse::<KernelVersion>().ok();
            assert_eq!(
                parsed,
                expected.map(|(a, b)| KernelVersion::new(a, b)),
                "{text:?}"
            );
        }
        assert!(KernelVersion::new(5, 15) < KernelVersion::new(6, 1));
        assert!(KernelVersion::new(6, 9) < KernelVersion::new(6, 10));
    }
}
