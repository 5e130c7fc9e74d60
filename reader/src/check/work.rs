//! How much of a hostile image is looked at.

/// A budget for looking at metadata: bytes of it, where a record costs as much as looking at it does.
///
/// Metadata that does not overlap is looked at once, so its size bounds the work. Entangled metadata, where a thousand
/// inodes share a table of a thousand entries, runs into the limit.
#[derive(Debug, Clone)]
pub(super) struct Work {
    left: u64,
}

impl Work {
    /// What every image may cost.
    const LEAST: u64 = 256 << 20;
    /// What each byte of the image may cost: metadata may be compressed.
    const BY_BYTE: u64 = 32;

    /// A name, with finding its inode.
    pub(super) const NAME: u64 = 64;
    /// An inode.
    pub(super) const INODE: u64 = 256;
    /// An extent of a file.
    pub(super) const EXTENT: u64 = 128;
    /// A record of an lcluster index, a chunk, an xattr.
    pub(super) const RECORD: u64 = 16;

    /// Size from which on larger images cost no more: sparse files can be of any size.
    const LARGEST: u64 = 16 << 30;

    /// The budget for an image of this size in bytes.
    pub(super) const fn for_image(size: u64) -> Self {
        let size = if size < Self::LARGEST {
            size
        } else {
            Self::LARGEST
        };
        Self {
            left: Self::LEAST + size * Self::BY_BYTE,
        }
    }

    /// Whether there was so much left.
    #[must_use]
    pub(super) const fn charge(&mut self, units: u64) -> bool {
        match self.left.checked_sub(units) {
            Some(left) => {
                self.left = left;
                true
            }
            None => {
                self.left = 0;
                false
            }
        }
    }
}
