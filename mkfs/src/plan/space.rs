//! Places inodes in the metadata area: what belongs together stays inside one block where it fits.

use erofs_format::{BlockBits, Nid};

/// Granularity of placement: inodes start at multiples of 32 bytes.
const SLOT: u64 = Nid::SLOT;

/// Hands out places in an area that grows block by block.
///
/// Blocks with room left are kept by how much it is, so that each piece goes where it leaves the least behind.
#[derive(Debug)]
pub(super) struct Space {
    block_bits: BlockBits,
    blocks: u64,
    /// `open[n]`: blocks with `n` free slots at their end.
    open: Vec<Vec<u64>>,
}

impl Space {
    /// An empty area.
    pub(super) fn new(block_bits: BlockBits) -> Self {
        let slots = (block_bits.bytes() / SLOT) as usize;
        Self {
            block_bits,
            blocks: 0,
            open: vec![Vec::new(); slots + 1],
        }
    }

    /// Size of the area in blocks.
    pub(super) const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Takes `size` bytes and returns their offset in the area, a multiple of 32. Up to a block they do not cross the
    /// border of a block; more than a block starts with one.
    pub(super) fn take(&mut self, size: u64) -> u64 {
        let block_slots = self.block_bits.bytes() / SLOT;
        let slots = size.div_ceil(SLOT);
        if slots <= block_slots {
            let found = (slots as usize..self.open.len())
                .find_map(|free| Some((free, self.open[free].pop()?)));
            if let Some((free, block)) = found {
                self.keep_open(block, free as u64 - slots);
                return block * self.block_bits.bytes() + (block_slots - free as u64) * SLOT;
            }
        }
        let first = self.blocks;
        let count = slots.div_ceil(block_slots);
        self.blocks += count;
        self.keep_open(first + count - 1, count * block_slots - slots);
        first * self.block_bits.bytes()
    }

    fn keep_open(&mut self, block: u64, free: u64) {
        if free > 0 {
            self.open[free as usize].push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_never_overlap_nor_cross_blocks(sizes in prop::collection::vec(1u64..9000, 1..200), bits in 9u8..13) {
            let bits = BlockBits::new(bits).unwrap();
            let mut space = Space::new(bits);
            let mut taken: Vec<(u64, u64)> = sizes.iter().map(|size| (space.take(*size), *size)).collect();
            prop_assert_eq!(taken[0].0, 0);
            for (offset, size) in &taken {
                prop_assert_eq!(offset % 32, 0);
                if *size <= bits.bytes() {
                    prop_assert!(bits.offset_in_block(*offset) + size <= bits.bytes());
                } else {
                    prop_assert_eq!(bits.offset_in_block(*offset), 0);
                }
                prop_assert!(offset + size <= space.blocks() * bits.bytes());
            }
            taken.sort_unstable();
            prop_assert!(taken.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        }
    }

    #[test]
    fn room_left_behind_is_used() {
        let mut space = Space::new(BlockBits::B4096);
        assert_eq!(space.take(4000), 0);
        assert_eq!(space.take(100), 4096);
        assert_eq!(space.take(33), 4000_u64.next_multiple_of(32));
        assert_eq!((space.take(5000), space.take(3000)), (8192, 13216));
        assert_eq!(space.blocks(), 4);
    }
}
