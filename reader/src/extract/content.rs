//! The bytes of a regular file, holes left out.

use super::error::ExtractError;
use crate::image::Image;
use crate::inode::Inode;
use crate::map::{Extent, Place};
use rustix::io::Errno;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are read and written at once.
pub(super) const PIECE: usize = 1 << 20;

/// Copies content from the image to files.
pub(super) struct Copier<'a> {
    pub(super) image: &'a Image,
    /// Counts the bytes written.
    pub(super) progress: &'a AtomicU64,
    /// For as much as is read at once.
    pub(super) buffer: Vec<u8>,
}

impl<'a> Copier<'a> {
    pub(super) fn new(image: &'a Image, progress: &'a AtomicU64) -> Self {
        Self {
            image,
            progress,
            buffer: vec![0; PIECE],
        }
    }

    /// Copies what [belongs to](part) `range` to `file`, which reads as zeros so far. What the image stores as a hole
    /// stays one. Returns the number of bytes written, and how far behind the range there is nothing but a hole.
    pub(super) fn copy(
        &mut self,
        inode: &Inode,
        range: Range<u64>,
        file: &File,
    ) -> Result<(u64, u64), ExtractError> {
        let mut written = 0;
        let mut behind = range.end;
        // Data that has been seen but not copied: whole extents go together, as far as the buffer holds them.
        let mut pending = 0..0;
        for extent in self.image.extents_from(inode, range.start) {
            let extent = extent?;
            if extent.logical >= range.end {
                break;
            }
            if extent.place == Place::Hole {
                behind = extent.end();
                continue;
            }
            let mut part = part(&extent, &range);
            part.end = part.end.min(inode.data_size());
            if part.start != pending.end || part.end - pending.start > PIECE as u64 {
                written += self.copy_range(inode, pending, file)?;
                pending = part.start..part.start;
            }
            pending.end = part.end;
        }
        written += self.copy_range(inode, pending, file)?;
        Ok((written, behind))
    }

    fn copy_range(
        &mut self,
        inode: &Inode,
        mut range: Range<u64>,
        file: &File,
    ) -> Result<u64, ExtractError> {
        let length = range.end - range.start;
        while !range.is_empty() {
            let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let piece = left.min(self.buffer.len());
            let piece = self.buffer.get_mut(..piece).unwrap_or_default();
            self.image.read(inode, range.start, piece)?;
            file.write_all_at(piece, range.start)
                .map_err(|error| ExtractError::System {
                    action: "write",
                    errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
                })?;
            range.start += piece.len() as u64;
            self.progress
                .fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Ok(length)
    }
}

/// What of an extent belongs to a part of a file: encoded data as a whole to where it begins, so that nobody decodes it
/// twice, all else cut to fit. Empty where that is nothing.
pub(super) fn part(extent: &Extent, range: &Range<u64>) -> Range<u64> {
    if matches!(extent.place, Place::Encoded { .. }) {
        return if range.contains(&extent.logical) {
            extent.logical..extent.end()
        } else {
            range.start..range.start
        };
    }
    extent.logical.max(range.start)..extent.end().min(range.end)
}
