//! Lists directories and looks names up.
//!
//! Input: parameters of [`crate::synthetic::Parameters`], then the data of the root directory.
//!
//! Invariants: names are what the format allows; listing can be taken up behind any entry; a block that was decoded can be
//! encoded and decodes to the same; in a directory whose names ascend, lookup finds every name with its inode, and no other
//! name.

use crate::synthetic::{Content, Parameters};
use erofs_format::directory::{DIRENT_SIZE, DirectoryBlock, Dirent, encode_block};
use erofs_reader::{DirectoryEntry, Image, Inode};

/// Most entries of one directory that are looked at.
const MAX_ENTRIES: usize = 2000;
/// Most names of one directory that are looked up.
const MAX_LOOKUPS: usize = 50;

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some((parameters, data)) = Parameters::split(input) else {
        return;
    };
    check_block(data);
    let Some(image) = parameters.open(Content::Directory(data)) else {
        return;
    };
    let root = image.root().expect("it was read before");
    check(&image, &root);
}

/// The record alone.
fn check_block(data: &[u8]) {
    let Ok(block) = DirectoryBlock::new(data) else {
        return;
    };
    let Ok(entries) = block.entries().collect::<Result<Vec<Dirent<'_>>, _>>() else {
        return;
    };
    let mut again = Vec::new();
    encode_block(&entries, &mut again);
    // Names may overlap in what was decoded, but not in what is encoded: then offsets may need more than 16 bits.
    if again.len() <= usize::from(u16::MAX) {
        let block = DirectoryBlock::new(&again).expect("it was encoded");
        let decoded: Vec<_> = block
            .entries()
            .map(|entry| entry.expect("it was encoded"))
            .collect();
        assert_eq!(decoded, entries);
    }
}

/// Lists a directory and looks its names up.
pub fn check(image: &Image, directory: &Inode) {
    let mut entries: Vec<DirectoryEntry> = Vec::new();
    let mut whole = true;
    for entry in image.read_directory(directory).expect("it is a directory") {
        let Ok(entry) = entry else {
            whole = false;
            break;
        };
        assert!((1..=255).contains(&entry.name.len()));
        assert!(!entry.name.iter().any(|byte| matches!(byte, 0 | b'/')));
        entries.push(entry);
        if entries.len() == MAX_ENTRIES {
            whole = false;
            break;
        }
    }
    assert!(entries.is_sorted_by(|a, b| a.next < b.next));
    if directory.data_size() < (1 << 40) && !directory.dot_omitted {
        assert!(entries.len() as u64 <= directory.data_size() / (DIRENT_SIZE as u64 + 1) + 1);
    }
    if let Some(middle) = entries.get(entries.len() / 2) {
        let rest = image
            .read_directory_from(directory, middle.next)
            .expect("it is a directory")
            .flatten();
        let expected = entries.iter().skip(entries.len() / 2 + 1);
        assert!(
            expected.zip(rest).all(|(a, b)| *a == b),
            "taken up behind {middle:?}"
        );
    }
    let stored = if directory.dot_omitted && whole {
        &entries[..entries.len() - 1]
    } else {
        &entries
    };
    if !whole || !stored.is_sorted_by(|a, b| a.name < b.name) {
        return;
    }
    let step = entries.len() / MAX_LOOKUPS + 1;
    for entry in stored.iter().step_by(step) {
        // An omitted "." that is stored all the same is answered by the inode itself.
        if directory.dot_omitted && entry.name == b"." {
            continue;
        }
        let found = image
            .lookup(directory, &entry.name)
            .expect("all blocks were read");
        assert_eq!(
            found,
            Some(entry.nid),
            "lookup of {:?}",
            entry.name.escape_ascii().to_string()
        );
        let mut other = entry.name.clone();
        other.push(b'!');
        if stored
            .binary_search_by(|entry| entry.name.cmp(&other))
            .is_err()
        {
            assert_eq!(
                image
                    .lookup(directory, &other)
                    .expect("all blocks were read"),
                None
            );
        }
    }
}
