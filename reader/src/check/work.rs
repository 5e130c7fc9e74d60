//! How much of a hostile image is looked at.

use crate::image::Image;

/// A budget for looking at metadata: bytes of it, where a record costs as much as looking at it does.
///
/// Metadata that does not overlap is looked at once, so its size bounds the work. Entangled metadata, where a thousand
/// inodes share a table of a thousand entries, runs into the limit. So does metadata that has to be decoded, directories
/// and the metabox, when for each bit of it another large extent is decoded.
#[derive(Debug)]
pub(super) struct Work<'a> {
    left: u64,
    image: &'a Image,
    /// Bytes decoded so far.
    decoded: u64,
}

impl<'a> Work<'a> {
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

    /// The budget for an image whose primary device has this size in bytes.
    pub(super) fn for_image(image: &'a Image, size: u64) -> Self {
        let size = if size < Self::LARGEST {
            size
        } else {
            Self::LARGEST
        };
        Self {
            left: Self::LEAST + size * Self::BY_BYTE,
            image,
            decoded: image.decoders().decoded(),
        }
    }

    /// Whether there was so much left, with what was decoded meanwhile.
    #[must_use]
    pub(super) fn charge(&mut self, units: u64) -> bool {
        let before = std::mem::replace(&mut self.decoded, self.image.decoders().decoded());
        let units = units.saturating_add(self.decoded.saturating_sub(before));
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
