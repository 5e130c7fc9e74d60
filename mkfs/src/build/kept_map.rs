//! The map of a compressed file of an image that is continued, taken over extent by extent.

use crate::data::encode::StoredExtent;
use erofs_format::compression::Algorithm;
use erofs_format::{BlockAddr, BlockBits, DeviceId};
use erofs_reader::Image;
use erofs_reader::map::{self, Form, Location};

/// Extents that stay where they are.
#[derive(Debug, Default)]
pub(super) struct KeptMap {
    /// All of them, in order.
    pub(super) extents: Vec<StoredExtent>,
    /// First block of the first.
    pub(super) start: BlockAddr,
    /// Blocks of those that follow each other from there on.
    pub(super) blocks: u64,
    /// What those that are encoded have in common.
    pub(super) algorithm: Option<Algorithm>,
    /// Plain data keeps its offset in the block.
    pub(super) interlaced: bool,
    /// First block that any of them lies in.
    pub(super) lowest: Option<u64>,
}

impl KeptMap {
    /// Takes the next extent, which lies in blocks of `image`.
    ///
    /// # Errors
    /// Its form, when that is one in which no map tells of it that is written.
    pub(super) fn push(
        &mut self,
        extent: &map::StoredExtent,
        image: &Image,
    ) -> Result<(), &'static str> {
        let bits = image.superblock().block_bits;
        let (pcluster_blocks, partial) = match extent.form {
            Form::Encoded { algorithm, partial } => {
                if *self.algorithm.get_or_insert(algorithm) != algorithm {
                    return Err("several algorithms in one file");
                }
                let stored = u32::try_from(bits.blocks_for(extent.stored_length)).ok();
                (stored, partial)
            }
            Form::Plain { interlaced } => {
                // At the start of a block it is the same.
                let interlaced = interlaced && !is_aligned(extent.logical, bits);
                if interlaced && extent.stored_length != bits.bytes() {
                    return Err("interlaced data of several blocks");
                }
                self.interlaced |= interlaced;
                (None, false)
            }
            Form::Hole => return Err("a hole in a compressed file"),
            Form::Data | Form::Fragment => return Err("plain data in a compressed file"),
        };
        let length = u32::try_from(extent.length).map_err(|_| "a very long extent")?;
        let offset = match extent.location {
            Some(Location::Device { device, offset }) if device == DeviceId::PRIMARY => offset.0,
            _ => return Err("data on a device"),
        };
        if !is_aligned(offset, bits)
            || pcluster_blocks.is_some() && !is_aligned(extent.stored_length, bits)
        {
            return Err("pclusters that are no whole blocks");
        }
        let at = bits.whole_blocks(offset);
        let count = pcluster_blocks.map_or(bits.blocks_for(extent.length), u64::from);
        let end = at.saturating_add(count);
        if end > image.superblock().blocks {
            return Err("data behind the end of the image");
        }
        if self.extents.is_empty() {
            self.start = BlockAddr(at);
        }
        let elsewhere = if at == self.start.0 + self.blocks && !partial {
            self.blocks += count;
            None
        } else {
            let at = u32::try_from(at).map_err(|_| "shared data behind block 2^32")?;
            Some(at)
        };
        self.lowest = Some(self.lowest.map_or(at, |lowest| lowest.min(at)));
        let kept = StoredExtent::kept(length, pcluster_blocks, elsewhere, partial);
        self.extents.push(kept);
        Ok(())
    }

    /// Takes the whole blocks of the next extent, of a file without compression. Returns whether these are all of it, and in
    /// blocks of `image`.
    pub(super) fn push_flat(&mut self, extent: &map::StoredExtent, image: &Image) -> bool {
        let bits = image.superblock().block_bits;
        let Some(Location::Device { device, offset }) = extent.location else {
            return false;
        };
        let at = bits.whole_blocks(offset.0);
        let count = bits.whole_blocks(extent.length);
        let end = at.saturating_add(count);
        if device != DeviceId::PRIMARY
            || !is_aligned(offset.0, bits)
            || !is_aligned(extent.logical, bits)
            || end > image.superblock().blocks.min(u32::MAX.into())
        {
            return false;
        }
        if self.extents.is_empty() {
            self.start = BlockAddr(at);
        }
        self.lowest = Some(self.lowest.map_or(at, |lowest| lowest.min(at)));
        let pieces = StoredExtent::plain_run(count << bits.bits(), BlockAddr(at), bits);
        self.extents.extend(pieces);
        is_aligned(extent.length, bits)
    }
}

const fn is_aligned(bytes: u64, block_bits: BlockBits) -> bool {
    block_bits.offset_in_block(bytes) == 0
}
