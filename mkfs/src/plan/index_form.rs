//! The index of a compressed file: its form, what it announces, what it takes.

use super::encoded_extents;
use crate::data::tails::TailRef;
use erofs_format::compression::map_header::{Advise, ExtentRecords, MAP_HEADER_SIZE};
use erofs_format::compression::{Extent, compact_index, full_index};
use erofs_format::{BlockBits, ByteOffset};

/// Which lcluster index compressed files get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IndexForm {
    /// Two to four bytes for each block.
    #[default]
    Compact,
    /// Eight bytes for each block.
    Full,
}

impl IndexForm {
    /// The compact form has no room for offsets in blocks above 16 KiB.
    pub(super) fn for_blocks(self, block_bits: BlockBits) -> Self {
        if block_bits.bits() > 14 {
            Self::Full
        } else {
            self
        }
    }
}

/// The index that a file gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileIndex {
    /// A record for each lcluster.
    Lclusters(IndexForm),
    /// A record for each extent, in the 48-bit layout.
    Extents {
        /// Form of the records.
        records: ExtentRecords,
        /// Number of the records.
        count: u64,
    },
}

/// Advise bits of a compressed file: sizes of pclusters are recorded where any is larger than a block, and two-byte
/// records are used where an offset in a block fits them.
pub fn advise(
    form: IndexForm,
    block_bits: BlockBits,
    extents: &[Extent],
    has_fragment: bool,
    tail: Option<TailRef>,
) -> Advise {
    let mut advise = Advise::empty();
    advise.set(Advise::FRAGMENT_PCLUSTER, has_fragment);
    advise.set(Advise::COMPACTED_2B, has_two_byte_records(form, block_bits));
    let big = extents.iter().any(|extent| extent.blocks > 1);
    advise.set(Advise::BIG_PCLUSTERS, big);
    advise.set(Advise::INLINE_PCLUSTER, tail.is_some());
    advise
}

fn has_two_byte_records(form: IndexForm, block_bits: BlockBits) -> bool {
    form == IndexForm::Compact && block_bits <= BlockBits::B4096
}

/// Where the index of a compressed file of `size` bytes ends whose inode and attributes take `head` bytes, counted from the
/// start of the inode.
pub(super) fn index_end(head: u64, size: u64, index: FileIndex, block_bits: BlockBits) -> u64 {
    let header = head.next_multiple_of(8);
    let lclusters = block_bits.blocks_for(size);
    match index {
        FileIndex::Extents { records, count } => encoded_extents::end(header, records, count),
        FileIndex::Lclusters(form) => lclusters_end(header, lclusters, form, block_bits),
    }
}

fn lclusters_end(header: u64, records: u64, form: IndexForm, block_bits: BlockBits) -> u64 {
    match form {
        IndexForm::Full => header + full_index::INDEX_OFFSET + records * full_index::RECORD_SIZE,
        IndexForm::Compact => {
            let packs = header + MAP_HEADER_SIZE;
            let two_byte = has_two_byte_records(form, block_bits);
            packs + compact_index::Layout::new(ByteOffset(packs), records, two_byte).size()
        }
    }
}

/// Bytes that are sure to fit between the end of the index of a compressed file and the end of a block, when inode and
/// attributes take at most `head` bytes.
pub fn tail_room(head: u64, size: u64, form: IndexForm, block_bits: BlockBits) -> u16 {
    // A smaller inode may shift 16 records from packs of two to packs of four bytes.
    const SHIFTED: u64 = 32;
    let index = FileIndex::Lclusters(form.for_blocks(block_bits));
    let end = index_end(head, size, index, block_bits) + SHIFTED;
    u16::try_from(block_bits.bytes().saturating_sub(end)).unwrap_or(0)
}
