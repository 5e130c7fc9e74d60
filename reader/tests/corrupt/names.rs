//! Directories and walks.

use crate::support::{Builder, inode, open, sample};
use crate::{BITS, changed, error_of, rule};
use erofs_format::DeviceId;
use erofs_format::chunk::{Chunk, ChunkFormat};
use erofs_format::directory::{self, Dirent, DirentError};
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::{DataLayout, FileType, InodePayload};
use erofs_reader::{Error, Rule, Symlinks};

#[test]
fn directories() {
    let sample = sample(BITS);
    let image = open(&sample.image).unwrap();
    let many = image.resolve(b"many", Symlinks::Keep).unwrap();
    let extent = image.extents(&many).next().unwrap().unwrap();
    let erofs_reader::Place::Data { offset, .. } = extent.place else {
        panic!("{extent:?}");
    };
    let at = offset.0 as usize;
    let of = |offset: usize, bytes: &[u8]| {
        let image = changed(&sample.image, at + offset, bytes);
        rule::<()>(Err(error_of(&image, "many")))
    };
    for nameoff in [0u16, 13, 4096] {
        assert_eq!(
            of(8, &nameoff.to_le_bytes()),
            Rule::Directory(DirentError::FirstNameOffset {
                nameoff,
                length: 4096
            })
        );
    }
    assert!(matches!(
        of(20, &[0xFF, 0xFF]),
        Rule::Directory(DirentError::Name { .. })
    ));
    let names = u16::from_le_bytes([sample.image[at + 8], sample.image[at + 9]]) as usize;
    assert_eq!(
        of(names, b"/"),
        Rule::Directory(DirentError::NameByte {
            index: 0,
            byte: b'/'
        })
    );
    assert_eq!(
        of(names + 5, &[0]),
        Rule::Directory(DirentError::NameByte { index: 2, byte: 0 })
    );
    // A directory of 2^62 bytes: the blocks that are there can be listed, the rest is an error.
    let image = changed(&sample.image, sample.inode_at("many") + 15, &[0x40]);
    assert!(matches!(
        rule::<()>(Err(error_of(&image, "many"))),
        Rule::BeyondDevice { .. } | Rule::Directory(_)
    ));
}

#[test]
fn walks_end() {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(512);
    let middle = builder.reserve(512);
    let leaf = builder.reserve(512);
    builder.superblock.root = root;
    builder.directory(
        root,
        root,
        &[(b"a", middle), (b"b", middle), (b"c", root), (b"z", leaf)],
        &[],
    );
    builder.directory(
        middle,
        root,
        &[(b"up", root), (b"self", middle), (b"x", leaf)],
        &[],
    );
    builder.directory(leaf, root, &[], &[]);
    let image = open(&builder.finish()).unwrap();
    let results: Vec<_> = image
        .walk()
        .unwrap()
        .map(|entry| match entry {
            Ok(entry) => Ok(String::from_utf8(entry.path).unwrap()),
            Err(Error::Corrupt { rule, .. }) => Err(rule),
            Err(other) => panic!("{other}"),
        })
        .collect();
    assert_eq!(
        results,
        [
            Ok(String::new()),
            Ok("a".into()),
            Err(Rule::DirectoryCycle(middle)),
            Err(Rule::DirectoryCycle(root)),
            Ok("a/x".into()),
            Err(Rule::DirectoryAlias(middle)),
            Err(Rule::DirectoryCycle(root)),
            Err(Rule::DirectoryAlias(leaf)),
        ]
    );
    let shallow: Vec<_> = image.walk_from(&image.root().unwrap(), 1).collect();
    assert!(shallow.iter().any(|entry| matches!(
        entry,
        Err(Error::Corrupt {
            rule: Rule::TooDeep { limit: 1 },
            ..
        })
    )));
}

/// A root whose blocks are all the same one, full of `.`: more of them than any image of this size can mean.
#[test]
fn endless_dots_end() {
    let mut builder = Builder::new(BITS);
    builder.superblock.incompat |= FeatureIncompat::CHUNKED_FILE;
    let dots = vec![
        Dirent {
            nid: builder.superblock.root,
            file_type: Some(FileType::Directory),
            name: b".",
        };
        4096 / 13
    ];
    let mut block = Vec::new();
    directory::encode_block(&dots, &mut block);
    let block = builder.data(&block);
    let format = ChunkFormat {
        block_shift: 0,
        indexes: false,
        wide: false,
    };
    let chunks = 25_000;
    let mut table = Vec::new();
    for _ in 0..chunks {
        let device = DeviceId::PRIMARY;
        format
            .encode_entry(Chunk::Data { device, block }, &mut table)
            .unwrap();
    }
    let payload = InodePayload::ChunkFormat(format.encode());
    let record = inode(
        FileType::Directory,
        DataLayout::ChunkBased,
        chunks * 4096,
        payload,
    );
    builder.superblock.root = builder.add(&record, &[], 4, &table);
    let image = open(&builder.finish()).unwrap();
    let results: Vec<_> = image.walk().unwrap().collect();
    let [Ok(root), Err(Error::Corrupt { rule, .. })] = results.as_slice() else {
        panic!("{} results", results.len());
    };
    assert!(root.path.is_empty());
    assert!(matches!(rule, Rule::TooManyEntries { .. }), "{rule}");
}
