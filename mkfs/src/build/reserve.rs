//! Files without their data, which somebody else writes into the image later.

use super::options::Reserve;
use crate::data::StoredData;
use crate::data::pipeline::PipelineError;
use crate::data::writer::Writer;
use crate::options::BuildError;
use crate::source::tar::TarError;
use crate::summary::Room;
use crate::tree::{Body, DataRange, FrozenTree, InodeId, Location, TreeError};
use erofs_format::{BlockAddr, BlockBits};

/// Room for the data of files.
pub(super) struct Reserved {
    /// Where each file is.
    pub(super) files: Vec<StoredData>,
    /// Where the data of a tar belongs, by ascending block, if that is asked for.
    pub(super) rooms: Vec<Room>,
}

/// Gives every file that is not empty blocks of its own with zeros in them, one file behind the other, and tells where they are.
///
/// # Errors
/// [`BuildError::Pipeline`] when the blocks are too many or cannot be written, [`BuildError::Tar`] when pieces of a sparse member
/// share a block.
pub(super) fn reserve(
    tree: &mut FrozenTree,
    how: Reserve,
    block_bits: BlockBits,
    writer: &mut Writer<'_>,
) -> Result<Reserved, BuildError> {
    let (mut stored, mut rooms) = (Vec::new(), Vec::new());
    let files: Vec<InodeId> = tree.depth_first().collect();
    for id in files {
        let Body::Regular {
            size: size @ 1..,
            location,
        } = tree.inode(id).body
        else {
            continue;
        };
        writer.begin_file(size).map_err(PipelineError::Write)?;
        let start = writer.block();
        let end = start.0.saturating_add(block_bits.blocks_for(size));
        if end > u64::from(u32::MAX) {
            return Err(PipelineError::TooLarge.into());
        }
        writer
            .leave_to(end << block_bits.bits())
            .map_err(PipelineError::Write)?;
        if let (Reserve::Mapped, Location::Archive { offset, sparse }) = (how, location) {
            let whole = [DataRange {
                offset: 0,
                length: size,
            }];
            let pieces = sparse.map_or(&whole[..], |map| tree.sparse_map(map));
            let found = rooms_of(pieces, start, offset, block_bits);
            let found = found.ok_or_else(|| TarError::SharedBlock(tree.path(id)))?;
            rooms.extend(found);
        }
        let number = u32::try_from(stored.len()).map_err(|_| TreeError::TooMany("files"))?;
        stored.push(StoredData::Flat { start, tail: None });
        tree.set_location(id, size, Location::Stored(number));
    }
    Ok(Reserved {
        files: stored,
        rooms,
    })
}

/// Where the pieces of a file belong, which stand in the tar one behind the other from `offset` on; `None` when any two of them
/// share a block.
fn rooms_of(
    pieces: &[DataRange],
    start: BlockAddr,
    mut offset: u64,
    block_bits: BlockBits,
) -> Option<Vec<Room>> {
    let mut rooms = Vec::with_capacity(pieces.len());
    for piece in pieces.iter().filter(|piece| piece.length > 0) {
        if block_bits.offset_in_block(piece.offset) != 0 {
            return None;
        }
        rooms.push(Room {
            block: BlockAddr(start.0 + block_bits.whole_blocks(piece.offset)),
            offset,
            length: piece.length,
        });
        offset += piece.length;
    }
    Some(rooms)
}
