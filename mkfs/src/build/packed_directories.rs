//! Puts directories into the packed inode, behind the fragments of files.

use super::options::BuildOptions;
use super::packed::PackedContent;
use crate::data::pipeline::Stored;
use crate::image::{Header, ImageError};
use crate::options::BuildError;
use crate::plan::inode_data::LayerFileData;
use crate::plan::packed_directories::PackedDirectories;
use crate::plan::{Plan, directory, most_frequent_time};
use crate::tree::{FrozenTree, Location};
use erofs_format::compression::config::AlgorithmConfigs;
use erofs_format::feature::FeatureIncompat;

/// Where the directories of a tree come to be behind byte `start` of the packed inode, if they are to be there at all.
pub(super) fn place(
    tree: &FrozenTree,
    start: u64,
    options: &BuildOptions,
) -> Option<PackedDirectories> {
    if !options.packs_directories() {
        return None;
    }
    let omit_dot = options.image.metadata.omit_dot;
    PackedDirectories::place(tree, start, options.block_bits, omit_dot)
}

/// Appends their data to `content`, and returns a digest of it. The tree then has a packed inode. All data but that of the packed inode
/// is in `stored` or where `layer_files` say.
pub(super) fn append(
    directories: &PackedDirectories,
    tree: &mut FrozenTree,
    content: &mut PackedContent,
    stored: &Stored,
    layer_files: &[Option<LayerFileData>],
    options: &BuildOptions,
) -> Result<[u8; 32], BuildError> {
    let bits = options.block_bits;
    // Where its data is decides about its own place alone, which is behind all others.
    let (size, location) = (directories.end(), Location::Nowhere);
    match tree.packed() {
        Some(id) => tree.set_location(id, size, location),
        None => tree.add_packed(size, location, most_frequent_time(tree))?,
    }
    let mut header = Header {
        configs: AlgorithmConfigs::default(),
        devices: 0,
        metabox: false,
        prefixes: Vec::new(),
    };
    header.prefixes = options.image.prefixes(tree, &header, bits, 0)?;
    let mut data = options.data_map(stored, layer_files, content.offsets());
    data.packed_directories = Some(directories);
    let superblock = options
        .image
        .superblock(tree, bits, FeatureIncompat::empty(), &header);
    let plan = Plan::new(tree, &data, &superblock, &options.image, &header.prefixes);
    let omit_dot = data.omit_dot;
    let mut digest = blake3::Hasher::new();
    digest.update(&stored.digest);
    let mut bytes = Vec::new();
    for id in directories.in_order() {
        bytes.clear();
        let nid_of = |inode| plan.nid(inode, bits);
        directory::encode(tree, *id, bits, omit_dot, nid_of, &mut bytes);
        digest.update(&bytes);
        content.push(&bytes).map_err(ImageError::from)?;
    }
    Ok(*digest.finalize().as_bytes())
}
