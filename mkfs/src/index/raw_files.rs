//! Raw files that stay where they are: flat inline inodes whose start block is the file's place in the unified address space,
//! so that there is no table at all.
//!
//! The kernel reads no partial block at the end of a device, so the last partial block is copied into the index; where it fits
//! behind no inode, the last chunk of a chunk index is.

use super::{Index, IndexError, IndexOptions, TAIL_MEMORY, needs_wide, tag};
use crate::data::output::Output;
use crate::data::tails::Tails;
use crate::data::writer::Writer;
use crate::image::ImageError;
use crate::options::{BuildError, folder};
use crate::plan::can_inline;
use crate::plan::inode_data::{RawFileData, RawFileEnd};
use crate::source::directory;
use crate::source::raw::{self, OpenRawFile, RawFile};
use erofs_format::device::DeviceSlot;
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::EXTENDED_INODE_SIZE;
use erofs_format::{BlockAddr, BlockBits, DeviceId};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

impl<'o> Index<'o> {
    pub(super) fn of_raw_files(
        files: &[RawFile],
        output: &Path,
        options: &IndexOptions,
        out: &'o Output,
    ) -> Result<Self, BuildError> {
        let block_bits = BlockBits::B4096;
        let mut tree = options.image.empty_tree()?;
        let opened = raw::scan(files, &options.image.rules, &mut tree)?;
        let tree = options.image.finish(tree)?;
        // A file below a block lies in the index whole and needs no device.
        let ends: Vec<_> = opened
            .iter()
            .map(|file| End::of(file.size, block_bits))
            .collect();
        let mut devices = Vec::new();
        for ((file, source), end) in opened.iter().zip(files).zip(&ends) {
            if end.outside(file.size) > 0 {
                devices.push(DeviceSlot {
                    tag: tag(&source.path, output),
                    blocks: block_bits.blocks_for(file.size),
                    unified_start: BlockAddr(0),
                });
            }
        }
        if u16::try_from(devices.len()).is_err() {
            return Err(IndexError::TooManyFiles(devices.len()).into());
        }
        let data_start = options.header(devices.len(), block_bits).end(block_bits)?;
        let mut writer = Writer::new(out, data_start.0 << block_bits.bits(), block_bits);
        let mut tails = Tails::new(TAIL_MEMORY, folder(output).to_path_buf());
        let mut raw_files = Vec::new();
        let mut next_device = 1;
        let mut incompat = FeatureIncompat::empty();
        incompat.set(
            FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2,
            !devices.is_empty(),
        );
        incompat.set(FeatureIncompat::BIT48, needs_wide(&devices));
        let mut bytes_in = 0;
        for (file, end) in opened.iter().zip(&ends) {
            bytes_in += file.size;
            let outside = end.outside(file.size);
            let device = (outside > 0).then(|| {
                next_device += 1;
                DeviceId(next_device - 1)
            });
            incompat.set(
                FeatureIncompat::CHUNKED_FILE,
                incompat.contains(FeatureIncompat::CHUNKED_FILE)
                    || device.is_some() && matches!(end, End::Copied { .. }),
            );
            let end = end.copy(file, outside, &mut writer, &mut tails)?;
            raw_files.push(RawFileData {
                device,
                unified_start: BlockAddr(0),
                end,
            });
        }
        Ok(Self {
            tree,
            block_bits,
            raw_files,
            layer_files: Vec::new(),
            tails,
            devices,
            incompat,
            data_start,
            writer,
            bytes_in,
            blobs: Vec::new(),
        })
    }
}

/// How a raw file's end will be kept.
enum End {
    Aligned,
    Inline { tail: u64 },
    Copied { block_shift: u8, copied: u64 },
}

impl End {
    fn of(size: u64, block_bits: BlockBits) -> Self {
        let tail = block_bits.offset_in_block(size);
        if tail == 0 {
            return Self::Aligned;
        }
        if can_inline(EXTENDED_INODE_SIZE, size, block_bits) {
            return Self::Inline { tail };
        }
        // A table of 8 bytes for each chunk against half a chunk of copied data: least at the square root.
        let chunk = size
            .saturating_mul(16)
            .isqrt()
            .next_power_of_two()
            .max(block_bits.bytes());
        let block_shift = u8::try_from((chunk >> block_bits.bits()).ilog2()).unwrap_or(0);
        Self::Copied {
            block_shift,
            copied: size % chunk,
        }
    }

    /// Bytes of the file that stay outside of the index.
    const fn outside(&self, size: u64) -> u64 {
        match self {
            Self::Aligned => size,
            Self::Inline { tail } => size - *tail,
            Self::Copied { copied, .. } => size - *copied,
        }
    }

    /// Copies the end of the file, everything behind byte `outside`.
    fn copy(
        &self,
        file: &OpenRawFile,
        outside: u64,
        writer: &mut Writer<'_>,
        tails: &mut Tails,
    ) -> Result<RawFileEnd, BuildError> {
        let failed = |source| {
            let path = file.name.clone();
            BuildError::from(IndexError::Read { path, source })
        };
        if let Self::Aligned = self {
            return Ok(RawFileEnd::Aligned);
        }
        // Reads of neighbouring sectors become one, without a look at whose sectors they are (fs/iomap/buffered-io.c, seen on
        // Linux 6.12 and 6.16): a copy must not begin in the sector behind the last one that is read on the file's device.
        if matches!(self, Self::Copied { .. }) && writer.position() == outside {
            writer.pad_to(outside + 1).map_err(ImageError::from)?;
            writer.pad_to_block().map_err(ImageError::from)?;
        }
        let start = writer.block();
        let mut at = outside;
        let mut piece = Vec::new();
        while at < file.size {
            piece.clear();
            let length = (file.size - at).min(1 << 20);
            let read =
                directory::read_at(file.file.as_fd(), at, length, &mut piece).map_err(failed)?;
            if read < length {
                return Err(failed(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file became shorter",
                )));
            }
            if let Self::Inline { .. } = self {
                return Ok(RawFileEnd::Inline(
                    tails.push(&piece).map_err(ImageError::from)?,
                ));
            }
            writer.write(&piece).map_err(ImageError::from)?;
            at += length;
        }
        writer.pad_to_block().map_err(ImageError::from)?;
        match self {
            Self::Copied { block_shift, .. } => Ok(RawFileEnd::Copied {
                block_shift: *block_shift,
                start,
            }),
            Self::Aligned | Self::Inline { .. } => Ok(RawFileEnd::Aligned),
        }
    }
}
