//! `dump.erofs -e`.

use super::Out;
use erofs_format::DeviceId;
use erofs_format::chunk::ChunkFormat;
use erofs_format::inode::{DataLayout, InodePayload};
use erofs_reader::map::{Form, Location, StoredExtent};
use erofs_reader::{Image, Inode};
use std::io::Write;

/// Prints the extents, and whether all could be read.
pub(super) fn show(
    image: &Image,
    inode: &Inode,
    path: &[u8],
    out: &mut Out,
) -> anyhow::Result<bool> {
    writeln!(
        out.lock,
        "\n Ext:   logical offset   |  length :     physical offset    |  length"
    )?;
    let mut count = 0u64;
    for extent in image.stored_extents(inode) {
        let extent = match extent {
            Ok(extent) => extent,
            Err(error) => {
                complain!("dump.erofs: {error}");
                return Ok(false);
            }
        };
        for line in Lines::new(image, inode, &extent) {
            line.print(count, &mut out.lock)?;
            count += 1;
        }
    }
    out.name(path)?;
    writeln!(out.lock, ": {count} extents found")?;
    Ok(true)
}

/// An extent as it is printed.
#[derive(Debug, Clone, Copy)]
struct Line {
    logical: u64,
    length: u64,
    physical: u64,
    stored: u64,
    device: DeviceId,
}

impl Line {
    fn print(self, number: u64, out: &mut impl Write) -> std::io::Result<()> {
        write!(
            out,
            "{number:>4}: {:>8}..{:>8} | {:>7} : {:>10}..{:>10} | {:>7}",
            self.logical,
            self.logical.saturating_add(self.length),
            self.length,
            self.physical,
            self.physical.saturating_add(self.stored),
            self.stored,
        )?;
        if self.device == DeviceId::PRIMARY {
            writeln!(out)
        } else {
            writeln!(out, "  # device {}", self.device)
        }
    }
}

/// One extent of ours as the C tool splits it: a line for each chunk, whole blocks where no byte is behind the inode.
struct Lines {
    rest: Line,
    /// Size of a piece.
    step: u64,
    mapped: bool,
}

impl Lines {
    fn new(image: &Image, inode: &Inode, extent: &StoredExtent) -> Self {
        let bits = image.superblock().block_bits;
        let step = match inode.payload {
            InodePayload::ChunkFormat(format) => {
                ChunkFormat::decode(format).map_or(u64::MAX, |format| 1 << format.chunk_bits(bits))
            }
            _ => u64::MAX,
        };
        let whole_blocks = matches!(inode.layout, DataLayout::FlatPlain | DataLayout::ChunkBased);
        let length = if whole_blocks {
            bits.blocks_for(extent.length) * bits.bytes()
        } else {
            extent.length
        };
        let (device, physical) = match extent.location {
            Some(Location::Device { device, offset }) => (device, offset.0),
            Some(Location::Inline { offset, .. }) => (DeviceId::PRIMARY, offset.0),
            // The C tool shows no place in the packed inode.
            Some(Location::Packed { .. }) | None => (DeviceId::PRIMARY, 0),
        };
        let stored = match extent.form {
            Form::Hole | Form::Fragment => 0,
            Form::Data => length,
            Form::Plain { .. } | Form::Encoded { .. } => extent.stored_length,
        };
        Self {
            rest: Line {
                logical: extent.logical,
                length,
                physical,
                stored,
                device,
            },
            step,
            mapped: stored > 0,
        }
    }
}

impl Iterator for Lines {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        if self.rest.length == 0 {
            return None;
        }
        let left = self.rest.length.saturating_sub(self.step);
        let length = self.rest.length - left;
        let line = Line {
            length,
            stored: if left == 0 || !self.mapped {
                self.rest.stored
            } else {
                length
            },
            ..self.rest
        };
        self.rest.length = left;
        self.rest.logical = self.rest.logical.saturating_add(length);
        if self.mapped {
            self.rest.physical = self.rest.physical.saturating_add(length);
            self.rest.stored = self.rest.stored.saturating_sub(line.stored);
        }
        Some(line)
    }
}
