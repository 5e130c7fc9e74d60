//! Feature bits of the superblock.

use bitflags::bitflags;

bitflags! {
    /// `feature_compat`: the kernel ignores bits that it does not know.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct FeatureCompat: u32 {
        /// The superblock checksum is valid (Linux 5.5).
        const SB_CHKSUM = 0x01;
        /// Timestamps are modification times (5.18, informational).
        const MTIME = 0x02;
        /// Name filters of xattr bodies are valid (6.6).
        const XATTR_FILTER = 0x04;
        /// Shared xattrs live in the metabox inode (6.17).
        const SHARED_EA_IN_METABOX = 0x08;
        /// Long xattr prefixes live on the device even if packed or metabox inodes exist (6.17).
        const PLAIN_XATTR_PFX = 0x10;
        /// `ishare_xattr_prefix_id` is valid (7.0).
        const ISHARE_XATTRS = 0x20;
        /// Private marker of nydus RAFS v6.
        const RAFS_V6 = 0x4000_0000;
        const _ = !0;
    }
}

bitflags! {
    /// `feature_incompat`: the kernel refuses to mount an image with a bit that it does not know.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct FeatureIncompat: u32 {
        /// Compressed data is right-aligned in its pcluster behind zeros (5.3).
        const ZERO_PADDING = 0x001;
        /// Algorithm configurations follow the superblock; pclusters may be larger than a block (5.13).
        const COMPR_CFGS_OR_BIG_PCLUSTER = 0x002;
        /// Chunk-based files (5.15).
        const CHUNKED_FILE = 0x004;
        /// Extra devices; a second algorithm per inode (5.16).
        const DEVICE_TABLE_OR_COMPR_HEAD2 = 0x008;
        /// Compressed tails inlined after the inode (5.17).
        const ZTAILPACKING = 0x010;
        /// Fragments in the packed inode; shared pclusters with partial references (6.1).
        const FRAGMENTS_OR_DEDUPE = 0x020;
        /// Long xattr name prefixes (6.4).
        const XATTR_PREFIXES = 0x040;
        /// 48-bit block addresses, encoded extents (6.15).
        const BIT48 = 0x080;
        /// Inodes in the metabox (6.17).
        const METABOX = 0x100;
        const _ = !0;
    }
}

impl FeatureIncompat {
    /// Every bit that Linux 7.3 knows.
    pub const KNOWN: Self = Self::from_bits_retain(0x1FF);

    /// The bits that no kernel up to 7.3 knows.
    pub const fn unknown(self) -> Self {
        self.difference(Self::KNOWN)
    }
}
