//! Flat layouts: consecutive blocks, the last partial one perhaps behind the inode.

use super::{Extent, Place};
use crate::error::{Error, Rule};
use crate::image::Image;
use crate::inode::Inode;
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::DataLayout;
use erofs_format::{BlockAddr, ByteOffset, DeviceId};

/// `erofs_map_blocks` (fs/erofs/data.c) for flat files; `position` is below the file's size.
pub(super) fn extent_at(
    image: &Image,
    inode: &Inode,
    start: Option<BlockAddr>,
    position: u64,
) -> Result<Extent, Error> {
    let bits = image.superblock().block_bits;
    let size = inode.data_size();
    let inline = inode.layout == DataLayout::FlatInline;
    let tail = if inline {
        (bits.blocks_for(size) - 1) * bits.bytes()
    } else {
        size
    };
    if position >= tail {
        return inline_tail(image, inode, tail);
    }
    let Some(start) = start else {
        // A whole file as a hole. Outside of 48-bit images the kernel compares all 48 bits of an extended inode, of which
        // the high ones are 0 there: it goes on to a block that does not exist.
        let wide = image.superblock().incompat.contains(FeatureIncompat::BIT48);
        if inline || (inode.extended && !wide) {
            return Err(inode.corrupt(Rule::NoStartBlock { size }, inode.position().1));
        }
        return Ok(Extent {
            logical: 0,
            length: size,
            place: Place::Hole,
        });
    };
    // Resolved at the position itself: an extent may run over the places of several devices.
    let offset = start
        .checked_offset(bits)
        .and_then(|offset| offset.checked_add(position))
        .ok_or_else(|| inode.corrupt(Rule::Overflow, ByteOffset(position)))?;
    image.data_extent(inode, position, tail - position, DeviceId::PRIMARY, offset)
}

fn inline_tail(image: &Image, inode: &Inode, tail: u64) -> Result<Extent, Error> {
    let bits = image.superblock().block_bits;
    let length = inode.data_size() - tail;
    let offset = inode.after_xattrs(1)?;
    if bits.offset_in_block(offset.0) + length > bits.bytes() {
        return Err(inode.corrupt(Rule::InlineCrossesBlock { length }, offset));
    }
    Ok(Extent {
        logical: tail,
        length,
        place: Place::Inline {
            area: inode.position().0,
            offset,
        },
    })
}
