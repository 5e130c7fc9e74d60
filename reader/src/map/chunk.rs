//! Chunk-based layout: a table of chunks behind the inode, each somewhere on some device.

use super::{Extent, Place};
use crate::error::{Error, Rule};
use crate::image::Image;
use crate::inode::Inode;
use erofs_format::BlockAddr;
use erofs_format::chunk::{Chunk, ChunkFormat};

/// Entries that are looked at in one step to join contiguous chunks.
const LOOK_AHEAD: u64 = 128;

/// The extent from `position` on (`erofs_map_blocks_chunk` of fs/erofs/data.c); `position` is below the file's size.
/// Contiguous chunks are joined, up to a limit.
pub(super) fn extent_at(
    image: &Image,
    inode: &Inode,
    format: u16,
    position: u64,
) -> Result<Extent, Error> {
    let format = ChunkFormat::decode(format)
        .map_err(|error| inode.corrupt(Rule::ChunkFormat(error), inode.position().1))?;
    let block_bits = image.superblock().block_bits;
    let size = inode.data_size();
    let chunk_bits = format.chunk_bits(block_bits);
    let chunk_size = 1u64 << chunk_bits;
    let first = position >> chunk_bits;
    let count = (format.chunk_count(size, block_bits) - first).min(LOOK_AHEAD);

    let table = inode.after_xattrs(format.entry_size())?;
    let entry_size = usize::from(format.indexes) * 4 + 4;
    let overflow = || inode.corrupt(Rule::Overflow, table);
    let offset = first
        .checked_mul(format.entry_size())
        .and_then(|offset| table.checked_add(offset))
        .ok_or_else(overflow)?;
    let mut buffer = [0; LOOK_AHEAD as usize * 8];
    let length = usize::try_from(count).unwrap_or(0) * entry_size;
    let entries = buffer.get_mut(..length).unwrap_or_default();
    image.read_metadata(Some(inode.nid()), inode.position().0, offset, entries)?;

    let mut chunks = entries
        .chunks_exact(entry_size)
        .map_while(|entry| format.decode_entry(entry).ok());
    let start = chunks.next().ok_or_else(overflow)?;
    let mut joined = 1u64;
    for chunk in chunks {
        if !follows(start, chunk, joined * (chunk_size >> block_bits.bits())) {
            break;
        }
        joined += 1;
    }

    let logical = first << chunk_bits;
    let length = joined.saturating_mul(chunk_size).min(size - logical);
    let Chunk::Data { device, block } = start else {
        return Ok(Extent {
            logical,
            length,
            place: Place::Hole,
        });
    };
    let skipped = position - logical;
    let data = block
        .checked_offset(block_bits)
        .and_then(|offset| offset.checked_add(skipped))
        .ok_or_else(overflow)?;
    image.data_extent(inode, position, length - skipped, device, data)
}

/// Whether `chunk` continues a run that began with `start` and has `blocks` blocks.
fn follows(start: Chunk, chunk: Chunk, blocks: u64) -> bool {
    match (start, chunk) {
        (Chunk::Hole, Chunk::Hole) => true,
        (
            Chunk::Data {
                device: first,
                block: BlockAddr(begin),
            },
            Chunk::Data {
                device,
                block: BlockAddr(next),
            },
        ) => first == device && begin.checked_add(blocks) == Some(next),
        _ => false,
    }
}
