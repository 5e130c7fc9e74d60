//! The bytes of a regular file, holes left out.

use super::error::ExtractError;
use crate::image::Image;
use crate::inode::Inode;
use crate::map::Place;
use rustix::io::Errno;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are read and written at once.
pub(super) const PIECE: usize = 1 << 20;

/// Copies a file's content from the image to `file`, an empty file, through `buffer`. What the image stores as a hole
/// stays one. `progress` counts the bytes written, which are returned.
pub(super) fn copy(
    image: &Image,
    inode: &Inode,
    file: &File,
    buffer: &mut [u8],
    progress: &AtomicU64,
) -> Result<u64, ExtractError> {
    let size = inode.data_size();
    rustix::fs::ftruncate(file, size).map_err(ExtractError::system("set the size"))?;
    let mut written = 0;
    let mut copy_range = |range: &mut Range<u64>, least: u64| -> Result<(), ExtractError> {
        while range.end - range.start >= least && !range.is_empty() {
            let length = usize::try_from(range.end - range.start)
                .map_or(buffer.len(), |left| left.min(buffer.len()));
            let piece = buffer.get_mut(..length).unwrap_or_default();
            image.read(inode, range.start, piece)?;
            file.write_all_at(piece, range.start)
                .map_err(|error| ExtractError::System {
                    action: "write",
                    errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
                })?;
            range.start += length as u64;
            written += length as u64;
            progress.fetch_add(length as u64, Ordering::Relaxed);
        }
        Ok(())
    };
    // Data that has been seen but not copied: neighbours go together.
    let mut pending = 0..0;
    for extent in image.extents(inode) {
        let extent = extent?;
        if extent.place == Place::Hole {
            continue;
        }
        if extent.logical != pending.end {
            copy_range(&mut pending, 0)?;
            pending = extent.logical..extent.logical;
        }
        pending.end = extent.end().min(size);
        copy_range(&mut pending, PIECE as u64)?;
    }
    copy_range(&mut pending, 0)?;
    Ok(written)
}
