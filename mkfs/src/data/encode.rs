//! Compresses one segment of a file into pclusters.
//!
//! A segment starts at an lcluster's start and, unless it ends the file, ends at an lcluster's end: segments are
//! independent of each other and may be encoded by any worker.

use erofs_codec::compressibility::looks_incompressible;
use erofs_codec::{EncodeError, Encoder, Fill};
use erofs_format::{BlockAddr, BlockBits};

/// One extent of a compressed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredExtent {
    /// Decoded length in bytes.
    pub length: u32,
    /// Physical blocks; 0 says that the data is plain, one block for each block of data.
    compressed_blocks: u32,
    /// First block of a pcluster that was stored for another extent; 0, where no pcluster can be, for one of its own.
    shared: u32,
    /// The pcluster decodes to more.
    partial: bool,
}

impl StoredExtent {
    /// Data stored as it is, in one block for each block of it.
    pub fn plain(length: usize) -> Self {
        Self {
            length: u32::try_from(length).unwrap_or(u32::MAX),
            compressed_blocks: 0,
            shared: 0,
            partial: false,
        }
    }

    /// Data in a pcluster of this many blocks.
    pub fn compressed(length: usize, blocks: u64) -> Self {
        Self {
            length: u32::try_from(length).unwrap_or(u32::MAX),
            compressed_blocks: u32::try_from(blocks).unwrap_or(u32::MAX),
            shared: 0,
            partial: false,
        }
    }

    /// The first `length` bytes of this extent, which is stored from block `start` on, in another place.
    pub fn again(&self, length: u32, start: BlockAddr) -> Self {
        Self {
            length,
            compressed_blocks: self.compressed_blocks,
            shared: u32::try_from(start.0).unwrap_or(u32::MAX),
            partial: !self.is_plain() && (self.partial || length < self.length),
        }
    }

    /// An extent of an image that goes on: in a pcluster of this many blocks or plain, and where that is not right behind the
    /// extent before, its first block.
    pub fn kept(length: u32, blocks: Option<u32>, elsewhere: Option<u32>, partial: bool) -> Self {
        Self {
            length,
            compressed_blocks: blocks.unwrap_or(0),
            shared: elsewhere.unwrap_or(0),
            partial,
        }
    }

    /// `length` bytes of plain data that are stored from block `start` on, which does not follow the extent before.
    pub fn plain_run(
        length: u64,
        start: BlockAddr,
        block_bits: BlockBits,
    ) -> impl Iterator<Item = Self> {
        /// Whole blocks of any size.
        const PIECE: u64 = 1 << 30;
        (0..length.div_ceil(PIECE)).map(move |number| {
            let piece = (length - number * PIECE).min(PIECE);
            let start = start.0 + block_bits.whole_blocks(number * PIECE);
            let extent = Self::plain(usize::try_from(piece).unwrap_or(usize::MAX));
            extent.again(extent.length, BlockAddr(start))
        })
    }

    /// First block of the pcluster when it was stored for another extent.
    pub const fn elsewhere(&self) -> Option<BlockAddr> {
        match self.shared {
            0 => None,
            start => Some(BlockAddr(start as u64)),
        }
    }

    /// Whether the pcluster decodes to more.
    pub const fn is_partial(&self) -> bool {
        self.partial
    }

    /// Whether the data is stored as it is.
    pub const fn is_plain(&self) -> bool {
        self.compressed_blocks == 0
    }

    /// Whether the pcluster is larger than a block, so that the index must say so.
    pub const fn is_big(&self) -> bool {
        self.compressed_blocks > 1
    }

    /// Physical blocks.
    pub const fn blocks(&self, block_bits: BlockBits) -> u64 {
        if self.is_plain() {
            block_bits.blocks_for(self.length as u64)
        } else {
            self.compressed_blocks as u64
        }
    }
}

/// A segment as it goes into the image.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EncodedSegment {
    /// Whole blocks.
    pub bytes: Vec<u8>,
    /// What they decode to, in order.
    pub extents: Vec<StoredExtent>,
    /// The end of the file, when it is to become a fragment.
    pub tail: Vec<u8>,
    /// What the last extent is decoded from, when that is to be inlined and not among the blocks.
    pub inlined: Vec<u8>,
    /// Encoded bytes of the last compressed extent; the padding of its blocks comes before.
    last_encoded: usize,
}

impl EncodedSegment {
    /// Takes the last block away when what it holds is no longer than `room` and all that the last extent has.
    pub fn inline_last(&mut self, room: usize, block_bits: BlockBits) {
        let block = block_bits.len();
        let (Some(last), Some(start)) = (self.extents.last(), self.bytes.len().checked_sub(block))
        else {
            return;
        };
        let inlined = match last.compressed_blocks {
            0 => start..start + last.length as usize % block,
            1 => start + block - self.last_encoded..start + block,
            _ => return,
        };
        if (1..=room).contains(&inlined.len()) {
            self.inlined = self.bytes[inlined].to_vec();
            self.bytes.truncate(start);
        }
    }

    /// Takes away what is inlined, if anything is: its extent and what that is decoded from.
    pub fn take_inlined(&mut self, block_bits: BlockBits) -> Option<(StoredExtent, Vec<u8>)> {
        if self.inlined.is_empty() {
            return None;
        }
        let last = self.extents.pop()?;
        let bytes = std::mem::take(&mut self.inlined);
        if !last.is_plain() {
            return Some((last, bytes));
        }
        let whole = last.length as usize / block_bits.len() * block_bits.len();
        if whole > 0 {
            self.extents.push(StoredExtent::plain(whole));
        }
        Some((StoredExtent::plain(bytes.len()), bytes))
    }
}

/// How a segment is encoded.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Block size.
    pub block_bits: BlockBits,
    /// Largest pcluster in bytes.
    pub max_pcluster: usize,
    /// Most decoded bytes of an extent, at least a block.
    pub max_extent: usize,
    /// The encoder is asked only for what looks compressible; fast levels find that out as fast by themselves.
    pub sample: bool,
    /// What is left for a pcluster that would not be full is not encoded but given back as the tail.
    pub pack_tail: bool,
}

/// Bytes that are sampled at a time for whether they are worth encoding.
const SAMPLE_SIZE: usize = 128 << 10;

/// Encodes `input`.
///
/// # Errors
/// What the encoder says.
pub fn encode_segment(
    encoder: &mut dyn Encoder,
    input: &[u8],
    form: Form,
) -> Result<EncodedSegment, EncodeError> {
    let Form {
        block_bits,
        max_pcluster,
        max_extent,
        sample,
        pack_tail,
    } = form;
    encoder.restart();
    let block = block_bits.len();
    let mut segment = EncodedSegment {
        bytes: Vec::with_capacity(input.len() / 2),
        ..EncodedSegment::default()
    };
    let mut output = vec![0; max_pcluster];
    let mut position = 0;
    // Where the sample taken last ends, and whether it was worth encoding.
    let mut sampled_to = 0;
    let mut worth = true;
    while position < input.len() {
        if pack_tail && input.len() - position <= max_pcluster {
            segment.tail = input[position..].to_vec();
            break;
        }
        if sample && position >= sampled_to {
            let window = &input[position..input.len().min(position + SAMPLE_SIZE)];
            worth = !looks_incompressible(window);
            sampled_to = position + window.len();
        }
        let rest = &input[position..input.len().min(position + max_extent)];
        let fill = if worth {
            encoder.fill(rest, &mut output)?
        } else {
            None
        };
        match fill {
            Some(fill)
                if block_bits.blocks_for(fill.encoded as u64)
                    < block_bits.blocks_for(fill.consumed as u64) =>
            {
                let blocks = block_bits.blocks_for(fill.encoded as u64);
                let is_last = position + fill.consumed == input.len();
                if pack_tail && is_last && is_tail(fill, max_pcluster) {
                    segment.tail = input[position..].to_vec();
                    break;
                }
                // Encoded bytes are right-aligned, the decoder skips zeros in front (format reference §11.4).
                let padding = blocks as usize * block - fill.encoded;
                segment.bytes.resize(segment.bytes.len() + padding, 0);
                segment.bytes.extend_from_slice(&output[..fill.encoded]);
                segment
                    .extents
                    .push(StoredExtent::compressed(fill.consumed, blocks));
                segment.last_encoded = fill.encoded;
                position += fill.consumed;
            }
            _ => {
                // Whole blocks, to the end of what was sampled or of what did not encode.
                let end = if worth {
                    position + max_pcluster
                } else {
                    sampled_to
                };
                let whole_blocks = (end.max(position + block) - position) / block * block;
                let length = whole_blocks.min(input.len() - position);
                push_plain(&mut segment, &input[position..position + length], block);
                position += length;
            }
        }
    }
    Ok(segment)
}

/// Whether the last pcluster of a file is far from full, and so better off among other fragments. What is much larger
/// decoded than encoded is not: it would have to be decoded for a few bytes of its neighbours.
fn is_tail(fill: Fill, max_pcluster: usize) -> bool {
    fill.encoded <= max_pcluster / 8 * 7 && fill.consumed <= 8 * max_pcluster
}

/// Plain extents of one block each: every kernel reads these.
fn push_plain(segment: &mut EncodedSegment, data: &[u8], block: usize) {
    segment.bytes.extend_from_slice(data);
    segment
        .bytes
        .resize(segment.bytes.len().next_multiple_of(block), 0);
    match segment.extents.last_mut() {
        Some(last) if last.is_plain() && (last.length as usize).is_multiple_of(block) => {
            last.length = last
                .length
                .saturating_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
        }
        _ => segment.extents.push(StoredExtent::plain(data.len())),
    }
}
