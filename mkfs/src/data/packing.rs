//! Writes the packed inode's data once all fragments are known.
//!
//! An image that goes on from another one has a packed inode that does, too:
//!
//! ```text
//! |---- pcluster ----|---- pcluster ----|=bridge=|---- pcluster ----|---- pcluster ----|
//!                               old end ^        ^ start of an lcluster
//! ```
//! What the base has stays where it is. An lcluster's index has room for the start of one extent alone, and segments begin with an
//! lcluster: so what is new up to the next one, the *bridge*, is stored in a block as it is. Where the base's last extent ends in
//! the lcluster that it begins in, or needs the record that the bridge takes, its data is stored again with what is new.

use super::compression::Method;
use super::encode::StoredExtent;
use super::fragments::{Offsets, PackedFile};
use super::made;
use super::pipeline::{FileContent, PipelineError, Settings};
use super::writer::Writer;
use super::{StoredData, StoredPclusters};
use std::sync::Arc;

/// The packed inode's data.
#[derive(Debug)]
pub struct Packed {
    /// Its size in bytes.
    pub size: u64,
    /// Where it is.
    pub data: StoredData,
    /// Where each fragment is in it.
    pub offsets: Offsets,
}

/// Compresses the packed inode's content from byte `start` on as one file, in parallel, into the blocks behind what was written. The
/// data is that from there on.
///
/// # Errors
/// [`PipelineError`].
pub fn pack(
    start: u64,
    file: PackedFile,
    method: Method,
    settings: Settings,
    writer: &mut Writer<'_>,
) -> Result<Packed, PipelineError> {
    let file = Arc::new(file);
    let data = store(&file, start, method, settings, writer)?;
    packed(file, data)
}

/// As [`pack`], behind the packed inode's front `before`, of which all encoded data is encoded as `method` does it. The data is that
/// of both.
///
/// # Errors
/// [`PipelineError`].
pub fn pack_behind(
    before: StoredPclusters,
    file: PackedFile,
    method: Method,
    settings: Settings,
    writer: &mut Writer<'_>,
) -> Result<Packed, PipelineError> {
    if length(&before.extents) == 0 {
        return pack(0, file, method, settings, writer);
    }
    let file = Arc::new(file);
    let data = go_on(before, &file, method, settings, writer)?;
    packed(file, data)
}

fn packed(file: Arc<PackedFile>, data: StoredData) -> Result<Packed, PipelineError> {
    let size = file.size();
    let file = Arc::into_inner(file).ok_or(PipelineError::WorkerLost)?;
    Ok(Packed {
        size,
        data,
        offsets: file.into_offsets(),
    })
}

/// Stores the packed inode's data from byte `start` on.
fn store(
    file: &Arc<PackedFile>,
    start: u64,
    method: Method,
    settings: Settings,
    writer: &mut Writer<'_>,
) -> Result<StoredData, PipelineError> {
    let size = file.size() - start;
    let treatment = made::treatment(size, method, settings.block_bits);
    let content = FileContent {
        path: Box::from(&b"the packed inode"[..]),
        position: start,
        size,
        ranges: None,
        changed: None,
    };
    let reader = Arc::clone(file);
    let mut stored = made::store(settings, reader, writer, |pipeline| {
        pipeline.file(content, treatment).map(drop)
    })?;
    stored.files.pop().ok_or(PipelineError::WorkerLost)
}

/// Stores what follows `before`.
fn go_on(
    before: StoredPclusters,
    file: &Arc<PackedFile>,
    method: Method,
    settings: Settings,
    writer: &mut Writer<'_>,
) -> Result<StoredData, PipelineError> {
    let bits = settings.block_bits;
    let mut extents = before.extents.to_vec();
    let mut blocks = before.blocks;
    let mut position = length(&extents);
    let in_lcluster = bits.offset_in_block(position);
    if in_lcluster > 0 {
        let end = file.size().min(position + bits.bytes() - in_lcluster);
        let mut bridge = Vec::new();
        file.append(position, end, &mut bridge)
            .map_err(PipelineError::Write)?;
        let start = writer.block();
        writer.write(&bridge).map_err(PipelineError::Write)?;
        writer.pad_to_block().map_err(PipelineError::Write)?;
        extents.extend(StoredExtent::plain_run(bridge.len() as u64, start, bits));
        blocks += 1;
        position = end;
    }
    if position < file.size() {
        let first = writer.block();
        match store(file, position, method, settings, writer)? {
            StoredData::Compressed(new) => {
                let mut next = new.start;
                for extent in new.extents.iter() {
                    extents.push(extent.again(extent.length, next));
                    next.0 += extent.blocks(bits);
                }
            }
            // As it is, where that is no larger.
            _ => extents.extend(StoredExtent::plain_run(file.size() - position, first, bits)),
        }
        blocks += writer.block().0 - first.0;
    }
    if writer.block().0 > u64::from(u32::MAX) {
        return Err(PipelineError::TooLarge);
    }
    Ok(StoredData::Compressed(Box::new(StoredPclusters {
        blocks,
        extents: extents.into(),
        algorithm: method.settings.algorithm(),
        ..before
    })))
}

/// What extents decode to, in bytes.
pub fn length(extents: &[StoredExtent]) -> u64 {
    extents.iter().map(|extent| u64::from(extent.length)).sum()
}
