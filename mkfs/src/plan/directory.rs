//! Directory data: how entries are split into blocks, and the blocks themselves.

use crate::tree::{FrozenTree, InodeId};
use erofs_format::directory::{Dirent, encode_block, fits};
use erofs_format::inode::FileType;
use erofs_format::{BlockBits, Nid};

/// An entry before its inode has a place.
#[derive(Clone, Copy)]
struct PlannedEntry<'t> {
    name: &'t [u8],
    inode: InodeId,
    file_type: FileType,
}

/// All entries of a directory in stored order, `..` and, unless it is omitted, `.` in their places.
fn entries(
    tree: &FrozenTree,
    directory: InodeId,
    omit_dot: bool,
) -> impl Iterator<Item = PlannedEntry<'_>> {
    let dots = [(&b"."[..], directory), (b"..", tree.parent(directory))].map(|(name, inode)| {
        PlannedEntry {
            name,
            inode,
            file_type: FileType::Directory,
        }
    });
    let mut dots = dots.into_iter().skip(omit_dot.into()).peekable();
    let mut children = tree
        .children(directory)
        .map(|child| PlannedEntry {
            name: child.name,
            inode: child.inode,
            file_type: tree.inode(child.inode).body.file_type(),
        })
        .peekable();
    std::iter::from_fn(move || match (dots.peek(), children.peek()) {
        (Some(dot), Some(child)) if child.name < dot.name => children.next(),
        (Some(_), _) => dots.next(),
        (None, _) => children.next(),
    })
}

/// Size of a directory's data in bytes: whole blocks, then what the last one uses.
pub fn size(tree: &FrozenTree, directory: InodeId, block_bits: BlockBits, omit_dot: bool) -> u64 {
    let mut full_blocks = 0;
    let mut used = 0;
    for entry in entries(tree, directory, omit_dot) {
        if !fits(used, entry.name.len(), block_bits.len()) {
            full_blocks += 1;
            used = 0;
        }
        used += erofs_format::directory::DIRENT_SIZE + entry.name.len();
    }
    full_blocks * block_bits.bytes() + used as u64
}

/// Appends a directory's data, [`size`] bytes.
pub fn encode(
    tree: &FrozenTree,
    directory: InodeId,
    block_bits: BlockBits,
    omit_dot: bool,
    nid_of: impl Fn(InodeId) -> Nid,
    out: &mut Vec<u8>,
) {
    let mut block: Vec<Dirent<'_>> = Vec::new();
    let mut used = 0;
    for entry in entries(tree, directory, omit_dot) {
        if !fits(used, entry.name.len(), block_bits.len()) {
            let end = out.len() + block_bits.len();
            encode_block(&block, out);
            out.resize(end, 0);
            block.clear();
            used = 0;
        }
        used += erofs_format::directory::DIRENT_SIZE + entry.name.len();
        block.push(Dirent {
            nid: nid_of(entry.inode),
            file_type: Some(entry.file_type),
            name: entry.name,
        });
    }
    encode_block(&block, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::default_root;
    use crate::tree::{Body, Location, Tree};
    use erofs_format::directory::DirectoryBlock;
    use erofs_format::inode::Timestamp;

    fn tree(names: &[Vec<u8>]) -> FrozenTree {
        let metadata = default_root(Timestamp::default());
        let mut tree = Tree::new(metadata.clone()).unwrap();
        for name in names {
            let body = Body::Regular {
                size: 0,
                location: Location::Nowhere,
            };
            tree.insert(name, metadata.clone(), body).unwrap();
        }
        tree.finish().unwrap()
    }

    #[test]
    fn dots_are_sorted_among_the_names_and_blocks_are_filled() {
        for bits in [BlockBits::B512, BlockBits::B4096] {
            let mut names: Vec<Vec<u8>> = (0..400)
                .map(|n| format!("name-{n:0width$}", width = n % 200).into())
                .collect();
            names.extend([
                b"!".to_vec(),
                b"-".to_vec(),
                b"...".to_vec(),
                b".a".to_vec(),
                vec![0xFF; 255],
            ]);
            let tree = tree(&names);
            let mut data = Vec::new();
            encode(
                &tree,
                InodeId::ROOT,
                bits,
                false,
                |id| Nid(id.index() as u64),
                &mut data,
            );
            assert_eq!(data.len() as u64, size(&tree, InodeId::ROOT, bits, false));
            let mut read: Vec<Vec<u8>> = Vec::new();
            for block in data.chunks(bits.len()) {
                read.extend(
                    DirectoryBlock::new(block)
                        .unwrap()
                        .entries()
                        .map(|entry| entry.unwrap().name.to_vec()),
                );
            }
            names.extend([b".".to_vec(), b"..".to_vec()]);
            names.sort();
            names.dedup();
            assert_eq!(read, names);
        }
    }

    #[test]
    fn an_empty_directory_has_27_bytes() {
        assert_eq!(size(&tree(&[]), InodeId::ROOT, BlockBits::B4096, false), 27);
        assert_eq!(size(&tree(&[]), InodeId::ROOT, BlockBits::B4096, true), 14);
    }
}
