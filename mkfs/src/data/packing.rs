//! Writes the packed inode's data once all fragments are known.

use super::StoredData;
use super::compression::Method;
use super::fragments::{Fragments, Offsets};
use super::made;
use super::pipeline::{FileContent, PipelineError, Settings};
use super::writer::Writer;
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

/// Compresses all fragments as one file, in parallel, into the blocks behind what was written.
///
/// # Errors
/// [`PipelineError`].
pub fn pack(
    fragments: Fragments,
    method: Method,
    settings: Settings,
    writer: &mut Writer<'_>,
) -> Result<Packed, PipelineError> {
    let file = Arc::new(fragments.arrange());
    let size = file.size();
    let treatment = made::treatment(size, method, settings.block_bits);
    let content = FileContent {
        path: Box::from(&b"the packed inode"[..]),
        position: 0,
        size,
        ranges: None,
        changed: None,
    };
    let reader = Arc::clone(&file);
    let mut stored = made::store(settings, reader, writer, |pipeline| {
        pipeline.file(content, treatment).map(drop)
    })?;
    let data = stored.files.pop().ok_or(PipelineError::WorkerLost)?;
    let file = Arc::into_inner(file).ok_or(PipelineError::WorkerLost)?;
    Ok(Packed {
        size,
        data,
        offsets: file.into_offsets(),
    })
}
