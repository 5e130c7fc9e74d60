//! Decodes arbitrary bytes as each record of the format.
//!
//! Invariants: no panic; what decodes and can be encoded again decodes to the same value.

use erofs_format::chunk::ChunkFormat;
use erofs_format::compression::config::AlgorithmConfigs;
use erofs_format::compression::encoded_extent::{ExtentRecord, Piece, RecordSize};
use erofs_format::compression::map_header::MapHeader;
use erofs_format::compression::{compact_index, full_index};
use erofs_format::device::DeviceSlot;
use erofs_format::directory::DirectoryBlock;
use erofs_format::inode::{DataLayout, Inode};
use erofs_format::superblock::Superblock;
use erofs_format::xattr::{LongPrefix, XattrBody};
use erofs_format::{BlockBits, ByteOffset};

/// Runs the target.
pub fn run(data: &[u8]) {
    let Some((selector, bytes)) = data.split_first() else {
        return;
    };
    if let Ok(block) = DirectoryBlock::new(bytes) {
        let _ = block.entries().count();
    }
    if let Ok(body) = XattrBody::new(bytes) {
        let _ = (body.shared_ids().count(), body.inline_entries().count());
    }
    if let Ok((prefix, size)) = LongPrefix::decode(bytes) {
        let mut again = Vec::new();
        prefix.encode(&mut again).expect("it was decoded");
        assert_eq!(again.len(), size);
    }
    for wide in [false, true] {
        if let Ok(slot) = DeviceSlot::decode(bytes, wide) {
            let again = slot.encode(wide).expect("it was decoded");
            assert_eq!(DeviceSlot::decode(&again, wide).as_ref(), Ok(&slot));
        }
    }
    if let Ok(record) = full_index::decode(bytes)
        && let Some(again) = full_index::encode(record)
    {
        assert_eq!(full_index::decode(&again), Ok(record));
    }
    for size in [
        RecordSize::B4,
        RecordSize::B8,
        RecordSize::B16,
        RecordSize::B32,
    ] {
        if let Ok(record) = ExtentRecord::decode(bytes, size) {
            if let Ok(piece) = record.piece()
                && let Some(plen) = piece.encode()
            {
                assert_eq!(Piece::decode(plen), Ok(piece));
            }
            let mut again = Vec::new();
            if record.encode(size, &mut again).is_some() {
                assert_eq!(ExtentRecord::decode(&again, size), Ok(record));
            }
        }
    }
    if let Some(format) = bytes.first_chunk().map(|field| u16::from_le_bytes(*field))
        && let Ok(format) = ChunkFormat::decode(format)
    {
        let _ = format.decode_entry(bytes);
    }
    let bits = BlockBits::new(9 + selector % 8).expect("9 to 16");
    let _ = AlgorithmConfigs::decode(bytes, u16::from(selector >> 4), bits);
    let total = u64::from(*selector) + 1;
    let layout = compact_index::Layout::new(
        ByteOffset(u64::from(*selector) * 8),
        total,
        selector & 1 != 0,
    );
    for lcluster in 0..total {
        let Some(at) = layout.position(lcluster) else {
            continue;
        };
        let pack = bytes
            .get(usize::try_from(at.offset).unwrap_or(usize::MAX)..)
            .unwrap_or_default();
        let _ = layout.record(at, pack, 9 + selector % 7, selector & 8 != 0);
    }
    let Ok(superblock) = Superblock::decode(bytes) else {
        return;
    };
    let rest = bytes.get(128..).unwrap_or_default();
    if let Ok(inode) = Inode::decode(rest, &superblock) {
        let mut again = Vec::new();
        if inode.encode(&superblock, &mut again).is_ok() {
            assert_eq!(Inode::decode(&again, &superblock), Ok(inode));
        }
    }
    for layout in [DataLayout::CompressedFull, DataLayout::CompressedCompact] {
        if let Ok(header) = MapHeader::decode(rest, layout, &superblock)
            && let Ok(again) = header.encode(superblock.block_bits)
        {
            assert_eq!(MapHeader::decode(&again, layout, &superblock), Ok(header));
        }
    }
}
