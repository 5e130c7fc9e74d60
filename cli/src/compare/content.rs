//! Contents of regular files: read where metadata leaves doubt, holes skipped.

use super::digest::{Digest, Digester};
use super::side::SideError;
use erofs_mkfs::tree::DataRange;
use erofs_reader::{Image, Inode, Place};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Where a file's bytes are.
#[derive(Debug)]
pub(crate) enum Content<'s> {
    /// In an image.
    Image { image: &'s Image, inode: Inode },
    /// In a file of their own.
    File {
        file: File,
        /// Whether it is worth to look for holes.
        sparse: bool,
    },
    /// In a part of a file.
    Part {
        file: &'s File,
        /// First byte in it.
        offset: u64,
        /// Which bytes are stored, one after the other; all of them without ranges.
        ranges: Option<&'s [DataRange]>,
    },
    /// Known by its digest only.
    Digest(Digest),
    /// All zeros.
    Hole,
}

/// Room for what is read of two files, kept from file to file.
#[derive(Debug)]
pub(crate) struct Buffers {
    a: Vec<u8>,
    b: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            a: vec![0; PIECE],
            b: vec![0; PIECE],
        }
    }
}

/// The first byte in `range` by which two contents differ. Both have at least that many bytes. An error comes with the
/// number of its side.
pub(crate) fn first_difference(
    [a, b]: [&Content<'_>; 2],
    range: Range<u64>,
    buffers: &mut Buffers,
) -> Result<Option<u64>, (usize, SideError)> {
    let (in_a, in_b) = (|error| (0, error), |error| (1, error));
    let mut position = range.start;
    while position < range.end {
        let hole = match a.hole_at(position, range.end).map_err(in_a)? {
            0 => 0,
            hole => hole.min(b.hole_at(position, range.end).map_err(in_b)?),
        };
        if hole > 0 {
            position += hole;
            continue;
        }
        let length = usize::try_from(range.end - position).map_or(PIECE, |left| left.min(PIECE));
        let left = &mut buffers.a[..length];
        let right = &mut buffers.b[..length];
        a.read(position, left).map_err(in_a)?;
        b.read(position, right).map_err(in_b)?;
        if left != right {
            let at = left.iter().zip(&*right).position(|(a, b)| a != b);
            return Ok(at.map(|at| position + at as u64));
        }
        position += length as u64;
    }
    Ok(None)
}

/// The digest of a content of `size` bytes.
pub(crate) fn digest(
    content: &Content<'_>,
    size: u64,
    buffers: &mut Buffers,
) -> Result<Digest, SideError> {
    if let Content::Digest(digest) = content {
        return Ok(*digest);
    }
    let mut digester = Digester::default();
    let mut position = 0;
    while position < size {
        let hole = content.hole_at(position, size)?;
        if hole > 0 {
            digester.zeros(hole);
            position += hole;
            continue;
        }
        let length = usize::try_from(size - position).map_or(PIECE, |left| left.min(PIECE));
        let piece = &mut buffers.a[..length];
        content.read(position, piece)?;
        digester.update(piece);
        position += length as u64;
    }
    Ok(digester.finish())
}

impl Content<'_> {
    /// Fills `buffer` with the bytes from `position` on.
    fn read(&self, position: u64, buffer: &mut [u8]) -> Result<(), SideError> {
        match self {
            Self::Image { image, inode } => {
                if image.read(inode, position, buffer)? < buffer.len() {
                    return Err(SideError::Shrunk);
                }
                Ok(())
            }
            Self::File { file, .. } => read_exact(file, position, buffer),
            Self::Part {
                file,
                offset,
                ranges: None,
            } => read_exact(file, offset.saturating_add(position), buffer),
            Self::Part {
                file,
                offset,
                ranges: Some(ranges),
            } => {
                buffer.fill(0);
                let end = position + buffer.len() as u64;
                let mut stored = *offset;
                for range in *ranges {
                    let from = range.offset.max(position);
                    let to = (range.offset + range.length).min(end);
                    if from < to {
                        let place = |at: u64| usize::try_from(at - position).unwrap_or(usize::MAX);
                        let part = buffer.get_mut(place(from)..place(to)).unwrap_or_default();
                        read_exact(file, stored + (from - range.offset), part)?;
                    }
                    stored += range.length;
                }
                Ok(())
            }
            Self::Hole => {
                buffer.fill(0);
                Ok(())
            }
            // Asked for its digest, see `digest`.
            Self::Digest(_) => Err(SideError::System {
                action: "read a content whose digest is all that is known",
                source: io::ErrorKind::Unsupported.into(),
            }),
        }
    }

    /// How many bytes from `position` on, up to `end`, are known to be zeros without reading them.
    fn hole_at(&self, position: u64, end: u64) -> Result<u64, SideError> {
        let behind = match self {
            Self::Image { image, inode } => match image.extent_at(inode, position)? {
                Some(extent) if extent.place == Place::Hole => extent.end(),
                _ => position,
            },
            Self::File { file, sparse: true } => {
                match rustix::fs::seek(file, SeekFrom::Data(position)) {
                    Ok(data) => data,
                    // No data behind this place.
                    Err(Errno::NXIO) => end,
                    Err(Errno::INVAL) => position,
                    Err(errno) => return Err(SideError::system("look for holes")(errno)),
                }
            }
            Self::Part {
                ranges: Some(ranges),
                ..
            } => {
                let next = ranges.partition_point(|range| range.offset + range.length <= position);
                ranges.get(next).map_or(end, |range| range.offset)
            }
            Self::Hole => end,
            Self::File { .. } | Self::Part { .. } | Self::Digest(_) => position,
        };
        Ok(behind.min(end).saturating_sub(position))
    }
}

fn read_exact(file: &File, position: u64, buffer: &mut [u8]) -> Result<(), SideError> {
    file.read_exact_at(buffer, position)
        .map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => SideError::Shrunk,
            _ => SideError::System {
                action: "read",
                source,
            },
        })
}
