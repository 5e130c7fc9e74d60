//! Random bytes never make a decoder panic, and what decodes encodes to something that decodes the same.

use erofs_format::chunk::ChunkFormat;
use erofs_format::compression::compact_index::Layout;
use erofs_format::compression::config::AlgorithmConfigs;
use erofs_format::compression::encoded_extent::{self, ExtentRecord, RecordSize};
use erofs_format::compression::full_index;
use erofs_format::compression::map_header::MapHeader;
use erofs_format::device::DeviceSlot;
use erofs_format::directory::DirectoryBlock;
use erofs_format::inode::{DataLayout, Inode};
use erofs_format::superblock::{Superblock, image_checksum, verify_checksum};
use erofs_format::xattr::{self, LongPrefix, XattrBody};
use erofs_format::{BlockBits, ByteOffset};
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    // Zeros and ones take decoders further than even noise.
    let byte = prop_oneof![Just(0u8), Just(1), Just(0xFF), any::<u8>()];
    prop::collection::vec(byte, 0..300)
}

/// Random superblocks that pass the checks at mount.
fn superblock() -> impl Strategy<Value = Superblock> {
    let fields = (9..=16u8, 0..0x100u32, any::<[u8; 128]>());
    fields.prop_map(|(bits, incompat, mut raw)| {
        raw[..4].copy_from_slice(&0xE0F5_E1E2u32.to_le_bytes());
        raw[8..12].fill(0);
        raw[12] = bits;
        raw[80..84].copy_from_slice(&incompat.to_le_bytes());
        raw[90] = 0;
        raw[103] &= 0x7F;
        Superblock::decode(&raw).expect("a superblock that mounts")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn superblocks(mut bytes in bytes(), valid in superblock()) {
        let _ = Superblock::decode(&bytes);
        let _ = verify_checksum(&valid, &bytes);
        let _ = image_checksum(&bytes);
        if bytes.len() >= 13 {
            bytes[..4].copy_from_slice(&0xE0F5_E1E2u32.to_le_bytes());
            bytes[12] = 12;
            if let Ok(decoded) = Superblock::decode(&bytes) {
                let _ = decoded.encode();
                let _ = decoded.algorithms();
            }
        }
    }

    #[test]
    fn inodes(bytes in bytes(), valid in superblock()) {
        if let Ok(inode) = Inode::decode(&bytes, &valid) {
            let mut stored = Vec::new();
            if inode.encode(&valid, &mut stored).is_ok() {
                prop_assert_eq!(Inode::decode(&stored, &valid), Ok(inode));
            }
        }
    }

    #[test]
    fn directories(bytes in bytes()) {
        if let Ok(block) = DirectoryBlock::new(&bytes) {
            for entry in block.entries().flatten() {
                prop_assert!((1..=255).contains(&entry.name.len()));
            }
        }
    }

    #[test]
    fn xattrs(bytes in bytes(), offset: usize) {
        let _ = xattr::decode_entry(&bytes, offset % 400);
        let _ = LongPrefix::decode(&bytes);
        if let Ok(body) = XattrBody::new(&bytes) {
            prop_assert!(body.shared_ids().count() <= xattr::MAX_SHARED);
            prop_assert!(body.inline_entries().count() <= bytes.len());
        }
    }

    #[test]
    fn chunks_and_devices(bytes in bytes(), format: u16, size: u64, bits in 9..=16u8) {
        if let Ok(format) = ChunkFormat::decode(format) {
            let _ = format.decode_entry(&bytes);
            let _ = format.chunk_count(size, BlockBits::new(bits).unwrap());
        }
        for wide in [false, true] {
            if let Ok(slot) = DeviceSlot::decode(&bytes, wide) {
                let stored = slot.encode(wide).unwrap();
                prop_assert_eq!(DeviceSlot::decode(&stored, wide), Ok(slot));
                let _ = slot.tag_bytes();
            }
        }
    }

    #[test]
    fn map_headers(bytes in bytes(), valid in superblock()) {
        for layout in [DataLayout::CompressedFull, DataLayout::CompressedCompact] {
            if let Ok(header) = MapHeader::decode(&bytes, layout, &valid)
                && let Ok(stored) = header.encode(valid.block_bits)
            {
                prop_assert_eq!(MapHeader::decode(&stored, layout, &valid), Ok(header));
            }
        }
    }

    #[test]
    fn lcluster_indexes(
        bytes in bytes(),
        position: u64,
        total: u64,
        lcluster: u64,
        two_byte: bool,
        bits: u8,
        big: bool,
    ) {
        if let Ok(record) = full_index::decode(&bytes)
            && let Some(stored) = full_index::encode(record)
        {
            prop_assert_eq!(full_index::decode(&stored), Ok(record));
        }
        let _ = full_index::position(ByteOffset(position), lcluster);
        for total in [total, total % 100] {
            let layout = Layout::new(ByteOffset(position), total, two_byte);
            let _ = layout.size();
            for lcluster in [lcluster, lcluster % 100] {
                if let Some(at) = layout.position(lcluster) {
                    let _ = layout.record(at, &bytes, bits, big);
                    let _ = layout.record(at, &bytes, bits % 16, big);
                }
            }
        }
    }

    #[test]
    fn encoded_extents(bytes in bytes(), selector: u16, position: u64, index: u64) {
        let size = RecordSize::from_selector(selector);
        let _ = encoded_extent::decode_base_address(&bytes);
        let _ = size.table(ByteOffset(position)).and_then(|table| size.position(table, index));
        if let Ok(record) = ExtentRecord::decode(&bytes, size) {
            let mut stored = Vec::new();
            record.encode(size, &mut stored).unwrap();
            prop_assert_eq!(ExtentRecord::decode(&stored, size), Ok(record));
            let _ = record.fragment_offset();
            if let Ok(piece) = record.piece() {
                prop_assert!(piece.encode().is_some());
            }
        }
    }

    #[test]
    fn configurations(bytes in bytes(), bitmap in 0..32u16, bits in 9..=16u8) {
        let block_bits = BlockBits::new(bits).unwrap();
        if let Ok(configs) = AlgorithmConfigs::decode(&bytes, bitmap, block_bits) {
            let stored = configs.encode(block_bits).unwrap();
            prop_assert_eq!(AlgorithmConfigs::decode(&stored, bitmap, block_bits), Ok(configs));
        }
    }
}
