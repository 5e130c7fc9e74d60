//! Lcluster indexes, full and compact: from a byte of the file to its extent, as `z_erofs_map_blocks_fo` (fs/erofs/zmap.c)
//! finds it.

use super::compressed::{Located, Metadata, Pcluster, check_algorithm, checked_length};
use super::{Extent, Place, Stored};
use crate::error::{Error, Rule};
use erofs_format::compression::lcluster::{Head, Lcluster, NonHead};
use erofs_format::compression::map_header::{Advise, IndexHeader};
use erofs_format::compression::{LclusterType, MAX_EXTENT_SIZE, compact_index, full_index};
use erofs_format::inode::DataLayout;
use erofs_format::{BlockBits, ByteOffset};

/// The index of one file.
struct Index<'a> {
    metadata: Metadata<'a>,
    header: &'a IndexHeader,
    block_bits: BlockBits,
    form: Form,
}

enum Form {
    Full {
        map_header: ByteOffset,
    },
    Compact {
        start: ByteOffset,
        layout: compact_index::Layout,
    },
}

/// The extent that holds `position`, which is below the file's size; the map header is at `map_header`.
pub(super) fn locate(
    metadata: Metadata<'_>,
    header: &IndexHeader,
    map_header: ByteOffset,
    position: u64,
) -> Result<Located, Error> {
    let inode = metadata.inode;
    let overflow = || inode.corrupt(Rule::Overflow, map_header);
    let size = inode.data_size();
    let form = if inode.layout == DataLayout::CompressedCompact {
        let start = compact_index::position(map_header).ok_or_else(overflow)?;
        let total = (size >> header.lcluster_bits)
            + u64::from(size & ((1 << header.lcluster_bits) - 1) != 0);
        let two_byte = header.advise.contains(Advise::COMPACTED_2B);
        Form::Compact {
            start,
            layout: compact_index::Layout::new(start, total, two_byte),
        }
    } else {
        Form::Full { map_header }
    };
    let mut index = Index {
        block_bits: metadata.image.superblock().block_bits,
        metadata,
        header,
        form,
    };
    let (number, head) = index.head_of(position)?;
    let logical = index.start_of(number) + u64::from(head.offset);
    let end = index.end_behind(number)?;
    if !(logical..end).contains(&position) {
        return Err(inode.corrupt(Rule::MapGap, ByteOffset(position)));
    }
    if end == size && header.advise.contains(Advise::FRAGMENT_PCLUSTER) {
        return Ok(Located::Extent(index.fragment(logical, &head)));
    }
    if end == size && header.inline_size > 0 {
        return index.inline_tail(logical, &head).map(Located::Extent);
    }
    let blocks = index.blocks(number, &head)?;
    if head.hole || blocks == 0 {
        return Ok(Located::Extent(Extent {
            logical,
            length: end - logical,
            place: Place::Hole,
        }));
    }
    Ok(Located::Pcluster(Pcluster {
        logical,
        end,
        start: head
            .block
            .checked_offset(index.block_bits)
            .ok_or_else(overflow)?,
        length: u64::from(blocks) << index.block_bits.bits(),
        algorithm: index.algorithm(head.kind),
        interlaced: header.advise.contains(Advise::INTERLACED_PCLUSTER),
        partial: head.partial,
    }))
}

impl Index<'_> {
    /// First byte of lcluster `number` in the file.
    const fn start_of(&self, number: u64) -> u64 {
        number << self.header.lcluster_bits
    }

    /// Most lclusters that one extent can touch.
    const fn longest(&self) -> u64 {
        (MAX_EXTENT_SIZE >> self.header.lcluster_bits) + 2
    }

    fn corrupt(&self, rule: Rule, number: u64) -> Error {
        self.metadata
            .inode
            .corrupt(rule, ByteOffset(self.start_of(number)))
    }

    fn algorithm(&self, kind: LclusterType) -> Option<erofs_format::compression::Algorithm> {
        match kind {
            LclusterType::Head1 => Some(self.header.head1),
            LclusterType::Head2 => Some(self.header.head2),
            LclusterType::Plain | LclusterType::NonHead => None,
        }
    }

    /// The record of lcluster `number`.
    fn record(&mut self, number: u64) -> Result<Lcluster, Error> {
        let (inode, start) = (self.metadata.inode, self.start_of(number));
        let overflow = || inode.corrupt(Rule::Overflow, ByteOffset(start));
        let big = self.header.advise.intersects(Advise::BIG_PCLUSTERS);
        let record = match &self.form {
            Form::Full { map_header } => {
                let mut bytes = [0; full_index::RECORD_SIZE as usize];
                let at = full_index::position(*map_header, number).ok_or_else(overflow)?;
                self.metadata.read(at, &mut bytes)?;
                full_index::decode(&bytes).map_err(|_| overflow())?
            }
            Form::Compact { start, layout } => {
                let place = layout.position(number).ok_or_else(overflow)?;
                let at = start.checked_add(place.offset).ok_or_else(overflow)?;
                let mut bytes = [0; 32];
                let pack = bytes.get_mut(..place.kind.size()).unwrap_or_default();
                self.metadata.read(at, pack)?;
                layout
                    .record(place, pack, self.header.lcluster_bits, big)
                    .map_err(|error| self.corrupt(Rule::CompactIndex(error), number))?
            }
        };
        match record {
            Lcluster::Head(head) if u64::from(head.offset) >> self.header.lcluster_bits != 0 => {
                Err(self.corrupt(
                    Rule::ClusterOffset {
                        offset: head.offset,
                    },
                    number,
                ))
            }
            Lcluster::NonHead(NonHead {
                blocks: Some(blocks),
                ..
            }) if !big => Err(self.corrupt(Rule::UnexpectedPclusterSize { blocks }, number)),
            record => Ok(record),
        }
    }

    /// The lcluster in which the extent of byte `position` begins, and its record.
    fn head_of(&mut self, position: u64) -> Result<(u64, Head), Error> {
        let first = position >> self.header.lcluster_bits;
        let within = position - self.start_of(first);
        let mut distance = match self.record(first)? {
            Lcluster::Head(head) if u64::from(head.offset) <= within => return Ok((first, head)),
            Lcluster::Head(_) => 1,
            Lcluster::NonHead(record) => record.back,
        };
        let mut number = first;
        loop {
            let back = number
                .checked_sub(u64::from(distance))
                .filter(|back| distance != 0 && first - back <= self.longest());
            let Some(back) = back else {
                return Err(self.corrupt(Rule::LookBack { distance }, number));
            };
            number = back;
            match self.record(number)? {
                Lcluster::Head(head) => return Ok((number, head)),
                Lcluster::NonHead(record) => distance = record.back,
            }
        }
    }

    /// Where the extent that begins in lcluster `head` ends: where the next one begins, or at the end of the file.
    fn end_behind(&mut self, head: u64) -> Result<u64, Error> {
        let size = self.metadata.inode.data_size();
        let mut number = head + 1;
        while self.start_of(number) < size {
            if number - head > self.longest() {
                return Err(self.corrupt(
                    Rule::ExtentSize {
                        length: self.start_of(number) - self.start_of(head),
                    },
                    head,
                ));
            }
            match self.record(number)? {
                Lcluster::Head(next) => {
                    return Ok((self.start_of(number) + u64::from(next.offset)).min(size));
                }
                // The oldest mkfs.erofs left 0 here.
                Lcluster::NonHead(record) => number += u64::from(record.ahead.max(1)),
            }
        }
        Ok(size)
    }

    /// Size in blocks of the pcluster of the extent that begins in lcluster `number`; 0 for a hole.
    fn blocks(&mut self, number: u64, head: &Head) -> Result<u16, Error> {
        let big = self.header.advise.contains(Advise::big_pcluster(head.kind));
        let next = number + 1;
        if !big || self.start_of(next) >= self.metadata.inode.data_size() {
            return Ok(1);
        }
        match self.record(next)? {
            Lcluster::Head(_) => Ok(1),
            Lcluster::NonHead(record) => record
                .blocks
                .ok_or_else(|| self.corrupt(Rule::NoPclusterSize, next)),
        }
    }

    /// The last extent as a fragment. The unused address of a full index holds the high half of its offset.
    fn fragment(&self, logical: u64, head: &Head) -> Extent {
        let high = match self.form {
            Form::Full { .. } => head.block.0 << 32,
            Form::Compact { .. } => 0,
        };
        Extent {
            logical,
            length: self.metadata.inode.data_size() - logical,
            place: Place::Packed {
                offset: u64::from(self.header.fragment_offset) | high,
            },
        }
    }

    /// The last extent inlined behind the index (ztailpacking). Plain data is never interlaced there.
    fn inline_tail(&self, logical: u64, head: &Head) -> Result<Extent, Error> {
        let length = checked_length(
            self.metadata.inode,
            logical,
            self.metadata.inode.data_size(),
        )?;
        let stored_length = u64::from(self.header.inline_size);
        let offset = match &self.form {
            Form::Full { map_header } => {
                let size = self.metadata.inode.data_size();
                let last = (size - 1) >> self.header.lcluster_bits;
                full_index::position(*map_header, last + 1)
            }
            Form::Compact { start, layout } => start.checked_add(layout.size()),
        };
        let offset = offset.ok_or_else(|| {
            self.metadata
                .inode
                .corrupt(Rule::Overflow, ByteOffset(logical))
        })?;
        if self.block_bits.offset_in_block(offset.0) + stored_length > self.block_bits.bytes() {
            return Err(self.metadata.inode.corrupt(
                Rule::InlineCrossesBlock {
                    length: stored_length,
                },
                offset,
            ));
        }
        let area = self.metadata.inode.position().0;
        let place = match self.algorithm(head.kind) {
            Some(algorithm) => {
                check_algorithm(self.metadata.image, self.metadata.inode, logical, algorithm)?;
                Place::Encoded {
                    stored: Stored::Inline { area, offset },
                    length: stored_length,
                    algorithm,
                    partial: head.partial,
                }
            }
            None if length > stored_length => {
                return Err(self.metadata.inode.corrupt(
                    Rule::PlainTooLong {
                        length,
                        stored: stored_length,
                    },
                    ByteOffset(logical),
                ));
            }
            None => Place::Inline { area, offset },
        };
        Ok(Extent {
            logical,
            length,
            place,
        })
    }
}
