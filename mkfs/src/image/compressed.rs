//! Map headers and indexes of compressed files.

use super::{ImageError, Metadata};
use crate::data::encode::StoredExtent;
use crate::plan::encoded_extents::{self, FileExtents};
use crate::plan::index_form::{FileIndex, IndexForm, advise};
use crate::plan::inode_data::InodeData;
use crate::tree::InodeId;
use erofs_format::compression::encoded_extent::ExtentRecord;
use erofs_format::compression::map_header::{Advise, ExtentsHeader, IndexHeader, MapHeader};
use erofs_format::compression::{Algorithm, Extent, LclusterType, compact_index, full_index};
use erofs_format::{BlockAddr, BlockBits, ByteOffset};

impl Metadata<'_> {
    pub(super) fn encode_header(
        &self,
        id: InodeId,
        header: MapHeader,
        out: &mut Vec<u8>,
    ) -> Result<(), ImageError> {
        out.resize(out.len().next_multiple_of(8), 0);
        let header = header.encode(self.superblock.block_bits);
        let header = header.map_err(|source| ImageError::MapHeader {
            path: self.tree.path(id),
            source,
        })?;
        out.extend_from_slice(&header);
        Ok(())
    }

    /// Map header and records of encoded extents.
    pub(super) fn encode_extents(
        &self,
        id: InodeId,
        header: ExtentsHeader,
        all: impl Iterator<Item = ExtentRecord>,
        out: &mut Vec<u8>,
    ) -> Result<(), ImageError> {
        self.encode_header(id, MapHeader::Extents(header), out)?;
        encoded_extents::encode(all, header.records, out).ok_or_else(|| ImageError::Extents {
            path: self.tree.path(id),
        })
    }

    /// Map header, index and inlined tail of a compressed file.
    pub(super) fn encode_map(
        &self,
        id: InodeId,
        data: &InodeData<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ImageError> {
        let InodeData::Compressed {
            size,
            start,
            extents,
            algorithm,
            interlaced,
            fragment,
            index,
            tail,
            ..
        } = *data
        else {
            return Ok(());
        };
        let bits = self.superblock.block_bits;
        let form = match index {
            FileIndex::Lclusters(form) => form,
            FileIndex::Extents { records, .. } => {
                let file = FileExtents {
                    size,
                    start,
                    extents,
                    algorithm,
                    fragment,
                    block_bits: bits,
                };
                let header = ExtentsHeader {
                    records,
                    interlaced,
                    fragment: fragment.is_some(),
                };
                return self.encode_extents(id, header, file.records(), out);
            }
        };
        let mut extents = layout_extents(extents, start, bits);
        if let (Some(_), Some(last)) = (tail, extents.last_mut()) {
            last.blocks = 0;
            last.start = BlockAddr(0);
        }
        if let Some(offset) = fragment {
            extents.push(fragment_extent(&extents, size, offset));
        }
        let mut advise = advise(form, bits, &extents, fragment.is_some(), tail);
        advise.set(Advise::INTERLACED_PCLUSTER, interlaced);
        let header = IndexHeader {
            advise,
            head1: algorithm,
            head2: Algorithm::Lz4,
            lcluster_bits: bits.bits(),
            // Below a block, which has 64 KiB at most.
            inline_size: tail.map_or(0, |tail| u16::try_from(tail.size()).unwrap_or(0)),
            // The high bits are in the extent.
            fragment_offset: fragment.unwrap_or(0) as u32,
        };
        self.encode_header(id, MapHeader::Index(header), out)?;
        let index = match form {
            IndexForm::Full => {
                out.resize(out.len() + 8, 0);
                full_index::encode_index(&extents, size, bits, advise)
            }
            IndexForm::Compact => {
                let position = ByteOffset(out.len() as u64);
                compact_index::encode_index(&extents, size, bits, advise, position)
            }
        };
        let index = index.map_err(|source| ImageError::Layout {
            path: self.tree.path(id),
            source,
        })?;
        out.extend_from_slice(&index);
        if let Some(tail) = tail {
            self.tails.read(tail, out)?;
        }
        Ok(())
    }
}

/// The last extent of a file of `size` bytes, which begins with `extents`: a fragment at `offset` in the packed inode.
fn fragment_extent(extents: &[Extent], size: u64, offset: u64) -> Extent {
    let before: u64 = extents.iter().map(|extent| extent.length).sum();
    Extent {
        length: size.saturating_sub(before),
        kind: LclusterType::Head1,
        blocks: 0,
        start: BlockAddr(offset >> 32),
        partial: false,
    }
}

/// Extents with their addresses. Plain data gets one extent for each block: every kernel reads these.
fn layout_extents(stored: &[StoredExtent], start: BlockAddr, block_bits: BlockBits) -> Vec<Extent> {
    let mut extents = Vec::with_capacity(stored.len());
    let mut next = start.0;
    for piece in stored {
        let mut at = piece.elsewhere().map_or(next, |start| start.0);
        if piece.elsewhere().is_none() {
            next += piece.blocks(block_bits);
        }
        if !piece.is_plain() {
            extents.push(Extent {
                length: piece.length.into(),
                kind: LclusterType::Head1,
                blocks: u32::try_from(piece.blocks(block_bits)).unwrap_or(u32::MAX),
                start: BlockAddr(at),
                partial: piece.is_partial(),
            });
            continue;
        }
        let mut left = u64::from(piece.length);
        while left > 0 {
            let length = left.min(block_bits.bytes());
            extents.push(Extent {
                length,
                kind: LclusterType::Plain,
                blocks: 1,
                start: BlockAddr(at),
                partial: false,
            });
            at += 1;
            left -= length;
        }
    }
    extents
}
