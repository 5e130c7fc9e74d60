//! Files without their data, which somebody else writes into the image later.

use crate::data::StoredData;
use crate::data::pipeline::PipelineError;
use crate::data::writer::Writer;
use crate::options::BuildError;
use crate::tree::{Body, FrozenTree, InodeId, Location, TreeError};
use erofs_format::BlockBits;

/// Gives every file that is not empty blocks of its own with zeros in them, one file behind the other, and tells where they are.
///
/// # Errors
/// [`BuildError::Pipeline`] when the blocks are too many or cannot be written.
pub(super) fn reserve(
    tree: &mut FrozenTree,
    block_bits: BlockBits,
    writer: &mut Writer<'_>,
) -> Result<Vec<StoredData>, BuildError> {
    let mut stored = Vec::new();
    let files: Vec<InodeId> = tree.depth_first().collect();
    for id in files {
        let Body::Regular {
            size: size @ 1.., ..
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
        let number = u32::try_from(stored.len()).map_err(|_| TreeError::TooMany("files"))?;
        stored.push(StoredData::Flat { start, tail: None });
        tree.set_location(id, size, Location::Stored(number));
    }
    Ok(stored)
}
