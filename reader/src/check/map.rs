//! The map of a file: what each layout asks for, and which bytes it stores.

use super::Checker;
use super::finding::At;
use super::inode::space_of;
use super::range::{Kind, Range, Space};
use super::rule::Rule;
use super::work::Work;
use crate::error::{Error, Rule as Broken};
use crate::inode::Inode;
use crate::map::{Form, Location, StoredExtent};
use crate::metadata::Area;
use erofs_format::chunk::{Chunk, ChunkFormat, RawChunkIndex, mask_device};
use erofs_format::compression::{Algorithm, MAX_EXTENT_SIZE, MAX_PCLUSTER_SIZE};
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::{DataLayout, FileType, InodePayload};
use erofs_format::{BlockBits, ByteOffset, DeviceId, record};
use std::io;

/// Bytes of a table that are read at once.
pub(super) const PIECE: usize = 4096;

/// What the extents of a file come to.
struct Sum {
    /// Byte of the file up to which the map was followed.
    end: u64,
    /// Stored bytes in pclusters outside of the inode.
    stored: u64,
    /// Bytes of the file.
    size: u64,
}

impl Checker<'_> {
    /// Looks at the map of a file. Returns where its metadata ends, with inline data; `None` when the budget is spent.
    pub(super) fn data(&mut self, inode: &Inode) -> io::Result<Option<ByteOffset>> {
        let mut end = match inode.after_xattrs(1) {
            Ok(end) => end,
            Err(error) => {
                self.broken(inode, &error);
                return Ok(Some(inode.position().1));
            }
        };
        let size = inode.data_size();
        if size == 0 {
            return Ok(Some(end));
        }
        match (inode.layout, inode.payload) {
            (DataLayout::FlatInline, _) => self.flat_inline(inode, end),
            (DataLayout::ChunkBased, InodePayload::ChunkFormat(format)) => {
                match self.chunk_table(inode, format) {
                    Scan::Done(table) => end = table,
                    Scan::Unreadable => return Ok(Some(end)),
                    Scan::BudgetSpent => return Ok(None),
                }
            }
            (DataLayout::CompressedFull | DataLayout::CompressedCompact, _) => {
                if self.opened.without_algorithms {
                    return Ok(Some(end));
                }
                match self.index(inode, end) {
                    Scan::Done(index) => end = index,
                    Scan::Unreadable => return Ok(Some(end)),
                    Scan::BudgetSpent => return Ok(None),
                }
            }
            _ => {}
        }
        let mut sum = Sum {
            end: 0,
            stored: 0,
            size,
        };
        let mut complete = true;
        for extent in self.image.stored_extents(inode) {
            if !self.work.charge(Work::EXTENT) {
                return Ok(None);
            }
            match extent {
                Ok(extent) => {
                    if let Some(inline) = self.extent(inode, &extent, &mut sum)? {
                        end = end.max(inline);
                    }
                }
                Err(error) => {
                    self.broken(inode, &error);
                    complete = false;
                }
            }
        }
        if complete && sum.end < size {
            let value = format!("the map ends at byte {}", sum.end);
            self.found(inode, Rule::ExtentOrder, At::File(sum.end), || value);
        } else if complete && let InodePayload::CompressedBlocks(blocks) = inode.payload {
            self.compressed_blocks(inode, blocks, sum.stored);
        }
        Ok(Some(end))
    }

    /// Compares the number of blocks that stat(2) shows with that of the pclusters. Shared pclusters are not counted by
    /// every file that uses them, so where they are allowed there may be fewer.
    fn compressed_blocks(&mut self, inode: &Inode, blocks: u64, stored: u64) {
        let counted = self.image.superblock().block_bits.blocks_for(stored);
        let shared = self.has(FeatureIncompat::FRAGMENTS_OR_DEDUPE);
        if blocks != counted && !(shared && blocks < counted) {
            let (area, offset) = inode.position();
            let value = format!("{blocks} blocks, counted {counted}");
            self.found(inode, Rule::InodeBlocks, At::area(area, offset), || value);
        }
    }

    fn flat_inline(&mut self, inode: &Inode, tail: ByteOffset) {
        let bits = self.image.superblock().block_bits;
        let at = At::area(inode.position().0, tail);
        if bits.offset_in_block(inode.size) == 0 {
            let value = format!("{} bytes inline", bits.bytes());
            self.found(inode, Rule::InlineAligned, at, || value);
        }
        if bits.offset_in_block(tail.0) == 0 {
            self.found(inode, Rule::InlineNextBlock, at, || {
                "the next block".to_owned()
            });
        }
    }

    /// Looks at the entries of a chunk table, and finds its end.
    fn chunk_table(&mut self, inode: &Inode, format: u16) -> Scan {
        let bits = self.image.superblock().block_bits;
        let Ok(format) = ChunkFormat::decode(format) else {
            // Reading the inode refuses it.
            return Scan::Unreadable;
        };
        let start = match inode.after_xattrs(format.entry_size()) {
            Ok(start) => start,
            Err(error) => {
                self.broken(inode, &error);
                return Scan::Unreadable;
            }
        };
        if format.wide {
            self.needs_feature(inode, FeatureIncompat::BIT48);
        }
        let length = format
            .chunk_count(inode.size, bits)
            .saturating_mul(format.entry_size());
        let end = ByteOffset(start.0.saturating_add(length));
        if !self.is_inside(inode, start, end) {
            return Scan::Unreadable;
        }
        let slots = u16::try_from(self.image.device_slots().len()).unwrap_or(u16::MAX);
        self.table(inode, start, end, &mut |checker, at, piece| {
            let size = usize::from(format.indexes) * 4 + 4;
            for (entry, at) in piece.chunks_exact(size).zip((at.0..).step_by(size)) {
                let Ok(raw) = record::read::<RawChunkIndex>(entry, "chunk index") else {
                    continue;
                };
                let Ok(Chunk::Data { device, .. }) = format.decode_entry(entry) else {
                    continue;
                };
                let at = At::area(inode.position().0, ByteOffset(at));
                if !format.wide && raw.startblk_hi.get() != 0 {
                    let value = format!("{:#06x}", raw.startblk_hi.get());
                    checker.found(inode, Rule::ChunkHigh, at, || value);
                }
                let masked = mask_device(device, slots);
                if masked != device {
                    let value = format!("device {device} is read as {masked} of {slots}");
                    checker.found(inode, Rule::ChunkDeviceAlias, at, || value);
                }
            }
        })
    }

    /// Reads a table behind an inode piece by piece.
    pub(super) fn table(
        &mut self,
        inode: &Inode,
        start: ByteOffset,
        end: ByteOffset,
        look: &mut dyn FnMut(&mut Self, ByteOffset, &[u8]),
    ) -> Scan {
        let mut bytes = std::mem::take(&mut self.piece);
        let scan = self.pieces(inode, start, end, &mut bytes, look);
        self.piece = bytes;
        scan
    }

    fn pieces(
        &mut self,
        inode: &Inode,
        start: ByteOffset,
        end: ByteOffset,
        bytes: &mut [u8],
        look: &mut dyn FnMut(&mut Self, ByteOffset, &[u8]),
    ) -> Scan {
        let mut at = start;
        while at < end {
            let length = usize::try_from(end.0 - at.0).map_or(PIECE, |left| left.min(PIECE));
            if !self.work.charge((length as u64).saturating_mul(4)) {
                return Scan::BudgetSpent;
            }
            let piece = bytes.get_mut(..length).unwrap_or_default();
            if let Err(error) = self.read(inode, at, piece) {
                self.broken(inode, &error);
                return Scan::Unreadable;
            }
            look(self, at, piece);
            at = ByteOffset(at.0 + length as u64);
        }
        Scan::Done(end)
    }

    /// Looks at one extent. Returns where it ends when it is stored behind the inode as it is.
    fn extent(
        &mut self,
        inode: &Inode,
        extent: &StoredExtent,
        sum: &mut Sum,
    ) -> io::Result<Option<ByteOffset>> {
        self.statistics.extents += 1;
        let at = At::File(extent.logical);
        if extent.logical != sum.end {
            let value = format!("the map goes on at byte {}", extent.logical);
            self.found(inode, Rule::ExtentOrder, At::File(sum.end), || value);
        }
        sum.end = extent.logical.saturating_add(extent.length);
        let compressed = inode.layout.is_compressed();
        let in_pcluster = matches!(extent.form, Form::Plain { .. } | Form::Encoded { .. });
        let sound = !in_pcluster || self.pcluster(inode, extent, sum);
        let mut range = Range {
            space: space_of(Area::Primary),
            start: 0,
            length: extent.stored_length,
            kind: Kind::Plain,
            nid: inode.nid(),
            logical: extent.logical,
            more: 0,
            early: false,
        };
        match extent.location {
            None => self.hole(inode, at),
            Some(Location::Packed { offset }) => self.fragment(inode, extent, offset),
            Some(Location::Inline { area, offset }) => {
                let end = offset.checked_add(extent.stored_length);
                if end.is_none_or(|end| !self.is_inside(inode, offset, end)) {
                    return Ok(None);
                }
                let Form::Encoded { algorithm, .. } = extent.form else {
                    return Ok(end);
                };
                range.space = space_of(area);
                range.start = offset.0;
                range.kind = Kind::Encoded {
                    algorithm,
                    partial: false,
                    inline: true,
                };
                range.more = u32::try_from(extent.length).unwrap_or(u32::MAX);
                if sound {
                    self.ranges.push(range)?;
                }
            }
            Some(Location::Device { device, offset }) => {
                range.space = Space::Device(device);
                range.start = offset.0;
                if compressed {
                    sum.stored = sum.stored.saturating_add(extent.stored_length);
                }
                if !self.is_on_device(inode, extent, device, offset.0) {
                    return Ok(None);
                }
                match extent.form {
                    Form::Encoded { algorithm, partial } => {
                        range.kind = Kind::Encoded {
                            algorithm,
                            partial,
                            inline: false,
                        };
                        range.more = u32::try_from(extent.length).unwrap_or(u32::MAX);
                    }
                    _ if !compressed && sum.end >= sum.size => {
                        range.more = self.tail(inode, device, range.end());
                    }
                    _ => {}
                }
                if sound && range.length > 0 {
                    if let Some(jobs) = &mut self.jobs {
                        range.early = jobs.give_early(&range);
                    }
                    self.ranges.push(range)?;
                }
            }
        }
        Ok(None)
    }

    /// Rules for a pcluster, encoded or plain. Tells whether its sizes are such that it can be decoded.
    fn pcluster(&mut self, inode: &Inode, extent: &StoredExtent, sum: &Sum) -> bool {
        let at = At::File(extent.logical);
        let (length, stored) = (extent.length, extent.stored_length);
        let extent_fits = (1..=MAX_EXTENT_SIZE).contains(&length);
        if !extent_fits {
            self.found(inode, Rule::ExtentSize, at, || format!("{length} bytes"));
        }
        let pcluster_fits = stored <= MAX_PCLUSTER_SIZE;
        if !pcluster_fits {
            self.found(inode, Rule::PclusterSize, at, || format!("{stored} bytes"));
        }
        let sound = extent_fits && pcluster_fits;
        let Form::Encoded { algorithm, partial } = extent.form else {
            if length > stored {
                let value = || format!("{length} bytes in a pcluster of {stored}");
                self.found(inode, Rule::PlainSize, at, value);
            }
            return sound;
        };
        let superblock = self.image.superblock();
        let listed = superblock.algorithms() & algorithm.bit() != 0;
        if !listed {
            let value = || algorithm.name().to_owned();
            self.found(inode, Rule::AlgorithmListed, at, value);
        }
        self.algorithms |= algorithm.bit();
        if stored > length && !partial && sum.end < sum.size {
            let value = || format!("{stored} bytes for {length}");
            self.found(inode, Rule::ExtentExpanded, at, value);
        }
        if algorithm == Algorithm::Lz4
            && let Some(config) = self.image.configs().lz4
        {
            let bits = superblock.block_bits;
            let (blocks, most) = (bits.blocks_for(stored), config.max_pcluster_blocks.max(1));
            if blocks > most.into() {
                let value = || format!("{blocks} blocks, {most} declared");
                self.found(inode, Rule::PclusterDeclared, at, value);
            }
        }
        // Pclusters are resolved to devices when they are read.
        if !self.image.device_slots().is_empty()
            && let Err(error) = self.image.extent_at(inode, extent.logical)
            && matches!(
                error,
                Error::Corrupt {
                    rule: Broken::CrossesDevices { .. },
                    ..
                }
            )
        {
            self.broken(inode, &error);
        }
        sound && listed
    }

    fn hole(&mut self, inode: &Inode, at: At) {
        match inode.layout {
            DataLayout::FlatPlain | DataLayout::FlatInline => {
                if !self.has(FeatureIncompat::BIT48) {
                    let value = || format!("{} bytes", inode.size);
                    self.found(inode, Rule::FlatHole, at, value);
                }
            }
            // Holes of encoded extents and chunks are as old as these; those of indexes are told where they are scanned.
            DataLayout::CompressedFull | DataLayout::CompressedCompact | DataLayout::ChunkBased => {
            }
        }
    }

    fn fragment(&mut self, inode: &Inode, extent: &StoredExtent, offset: u64) {
        let at = At::File(extent.logical);
        self.needs_feature(inode, FeatureIncompat::FRAGMENTS_OR_DEDUPE);
        let Some(packed) = self.image.packed().copied() else {
            let unknown = [Rule::PackedInode, Rule::SuperblockPacked];
            if !unknown.into_iter().any(|rule| self.findings.found(rule)) {
                let value = || format!("{} bytes at {offset}", extent.length);
                self.found(inode, Rule::FragmentPacked, at, value);
            }
            return;
        };
        if packed.nid() == inode.nid() {
            let value = || format!("{} bytes at {offset}", extent.length);
            self.found(inode, Rule::FragmentRecursion, at, value);
        } else if offset.saturating_add(extent.length) > packed.size {
            let value = || format!("{} bytes at {offset} of {}", extent.length, packed.size);
            self.found(inode, Rule::FragmentOutside, at, value);
        }
    }

    /// Whether a stored extent lies inside of its device; a finding if it does not.
    fn is_on_device(
        &mut self,
        inode: &Inode,
        extent: &StoredExtent,
        device: DeviceId,
        offset: u64,
    ) -> bool {
        let size = self.image.devices().size(device);
        let end = offset.checked_add(extent.stored_length);
        if end.is_some_and(|end| end <= size) {
            return true;
        }
        let stored = extent.stored_length;
        let value = || format!("{stored} bytes at {offset} of device {device}, which has {size}");
        self.found(inode, Rule::DataOutside, At::File(extent.logical), value);
        false
    }

    /// Bytes behind the end of a file, up to the end of its last block, which begins at `end` on a device.
    fn tail(&mut self, inode: &Inode, device: DeviceId, end: u64) -> u32 {
        let bits: BlockBits = self.image.superblock().block_bits;
        let tail = match bits.offset_in_block(end) {
            0 => return 0,
            used => bits.bytes() - used,
        };
        let at = Space::Device(device).at(end);
        let left = self.image.devices().size(device).saturating_sub(end);
        if left < tail {
            let value = || format!("{left} of {tail} bytes are left in its last block");
            self.found(inode, Rule::DataCut, at, value);
        }
        let tail = tail.min(left);
        if inode.file_type == FileType::Regular {
            // Read together with the file, if its data is looked at at all.
            return u32::try_from(tail).unwrap_or(0);
        }
        let mut bytes = vec![0; usize::try_from(tail).unwrap_or(0)];
        match self
            .image
            .read_pages(Some(inode.nid()), device, ByteOffset(end), &mut bytes)
        {
            Ok(()) => {
                let stray = bytes.iter().zip(end..).find(|(byte, _)| **byte != 0);
                if let Some((byte, at)) = stray {
                    let value = format!("{byte:#04x}");
                    let at = Space::Device(device).at(at);
                    self.found(inode, Rule::DataTail, at, || value);
                }
            }
            Err(error) => self.broken(inode, &error),
        }
        0
    }
}

/// How looking at a table ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// With its end.
    Done(ByteOffset),
    /// It cannot be read, which was told.
    Unreadable,
    /// The budget is spent.
    BudgetSpent,
}
