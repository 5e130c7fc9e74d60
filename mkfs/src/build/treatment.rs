//! How each file is stored.

use super::options::BuildOptions;
use crate::data::compression::Method;
use crate::data::fragments::Packing;
use crate::data::pipeline::compressed_segment;
use crate::data::treatment::{ChunkMap, Treatment};
use crate::plan::can_inline;
use crate::plan::index_form::{IndexForm, tail_room};
use crate::plan::xattrs::{FINGERPRINT_ROOM, XattrPlan};
use crate::tree::{DataRange, Xattr};
use erofs_format::Nid;
use erofs_format::inode::EXTENDED_INODE_SIZE;

/// How a file is to be stored.
pub(super) fn treatment(
    options: &BuildOptions,
    path: &[u8],
    size: u64,
    ranges: Option<&[DataRange]>,
    xattrs: &[Xattr],
) -> Treatment {
    let bits = options.block_bits;
    let mut head = EXTENDED_INODE_SIZE + XattrPlan::largest_body(xattrs);
    if options.image.metadata.inode_digest.is_some() {
        head += FINGERPRINT_ROOM;
    }
    let inline_tail = options.inline_tails && can_inline(head, size, bits);
    let method = options
        .compression
        .as_ref()
        .and_then(|compression| compression.method(path));
    if let Some(ranges) = ranges.filter(|_| options.sparse) {
        let data: u64 = ranges.iter().map(|range| range.length).sum();
        // Zeros compress well, and no kernel before 7.2 has holes in compressed files; a file that is mostly hole is
        // better off with chunks.
        if method.is_none() || data < size / 2 {
            return Treatment::Chunked(match options.chunk_shift {
                Some(shift) => ChunkMap::with_shift(size, ranges, shift, bits),
                None => ChunkMap::sparse(size, ranges, bits),
            });
        }
    }
    match (options.chunk_shift, method) {
        (Some(shift), _) => Treatment::Chunked(ChunkMap::full(size, shift, bits)),
        (None, Some(method)) if is_packed(options, method, size) => Treatment::Packed,
        // One block is the least that a pcluster takes.
        (None, Some(method)) if size > bits.bytes() => Treatment::Compressed {
            inline_tail,
            method,
            pack_tail: packing(options).is_some(),
            tail_room: room_for_tail(options, head, size),
        },
        (None, _) => Treatment::Flat { inline_tail },
    }
}

fn packing(options: &BuildOptions) -> Option<Packing> {
    options.compression.as_ref()?.packing
}

/// Whether a file as a whole becomes a fragment.
fn is_packed(options: &BuildOptions, method: Method, size: u64) -> bool {
    let Some(packing) = packing(options) else {
        return false;
    };
    let most = if packing.whole_files {
        compressed_segment(method.max_pcluster)
    } else {
        method.max_pcluster
    };
    // Inlined, a file of a slot takes no more than the map header that points at a fragment.
    let least = if options.inline_tails { Nid::SLOT } else { 0 };
    size > least && size <= most as u64
}

/// Room for an encoded tail behind the index of a file whose inode and attributes take at most `head` bytes.
fn room_for_tail(options: &BuildOptions, head: u64, size: u64) -> u16 {
    match &options.compression {
        Some(compression) if compression.inline_tails => {
            // A file that comes to share extents gets the larger index.
            let form = match options.share_extents {
                true => IndexForm::Full,
                false => options.index_form,
            };
            tail_room(head, size, form, options.block_bits)
        }
        _ => 0,
    }
}
