//! Images that want to hurt: comparisons end, and say what is wrong.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use erofs_reader::{Image, Inode, Place};
use erofs_tests::{
    require, skip,
    tree::{Content, Tree},
    workshop::{build, erofs, open},
};

use crate::side::{diff, lines, write};

const DIRENT_SIZE: usize = 12;

/// Where a directory's only block begins in its image, and the number of an entry in it.
fn dirent(image: &Image, directory: &Inode, name: &[u8]) -> (usize, usize) {
    let names = image.read_directory(directory).expect("a directory");
    let number = names
        .map(|entry| entry.expect("readable").name)
        .position(|found| found == name)
        .expect("there");
    let extent = image.extents(directory).next().expect("one").expect("good");
    let Place::Inline { offset, .. } = extent.place else {
        panic!("a small directory is inline: {extent:?}");
    };
    (offset.0 as usize, number)
}

/// An image of a small tree, changed by hand.
fn damaged(folder: &Path, name: &str, damage: impl FnOnce(&Image, &mut Vec<u8>)) -> PathBuf {
    let good = folder.join("good.erofs");
    let mut bytes = fs::read(&good).expect("readable");
    damage(&open(&good, &[]), &mut bytes);
    let path = folder.join(name);
    fs::write(&path, bytes).expect("written");
    path
}

#[test]
fn damaged_images_are_told_and_end() {
    require!(skip::root());
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut tree = Tree::new();
    tree.directory("d");
    tree.directory("d/e");
    tree.file("d/f", Content::dense(b"f".to_vec()));
    tree.file("x", Content::dense(vec![b'x'; 10_000]));
    write(&tree, &folder.path().join("source"));
    let good = folder.path().join("good.erofs");
    build(&folder.path().join("source"), &good, &[]);

    let point = |name: &'static [u8], nid: u64| {
        move |image: &Image, bytes: &mut Vec<u8>| {
            let directory = image.resolve(b"d", Default::default()).expect("there");
            let (block, number) = dirent(image, &directory, name);
            let at = block + DIRENT_SIZE * number;
            bytes[at..at + 8].copy_from_slice(&nid.to_le_bytes());
        }
    };
    let image = open(&good, &[]);
    let root = image.root().expect("there").nid().0;
    let cycle = damaged(folder.path(), "cycle", point(b"e", root));
    let outside = damaged(folder.path(), "outside", point(b"f", 1 << 40));
    let unsorted = damaged(folder.path(), "unsorted", |image, bytes| {
        let directory = image.resolve(b"d", Default::default()).expect("there");
        let [e, f] = [b"e", b"f"].map(|name| {
            let (block, number) = dirent(image, &directory, name);
            let at = block + DIRENT_SIZE * number + 8;
            block + usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
        });
        // One byte is the whole name.
        bytes.swap(e, f);
    });
    for (image, path, said) in [
        (&cycle, "d/e", "directory"),
        (&outside, "d/f", "byte"),
        (&unsorted, "d", "not sorted by name"),
    ] {
        for (sides, side) in [([&**image, &*good], "A"), ([&*good, &**image], "B")] {
            let ran = diff(&sides, &[]);
            assert_eq!(ran.code, 2, "{ran:?}");
            let start = format!("erofs: {side}: {path}: ");
            let line = ran.error.lines().find(|line| line.starts_with(&start));
            assert!(line.is_some_and(|line| line.contains(said)), "{ran:?}");
            assert!(ran.error.contains("could not be compared"), "{ran:?}");
        }
    }
    // Both the same, and still told.
    assert_eq!(diff(&[&cycle, &cycle], &[]).code, 2);
}

/// A link in the place of a directory is a link, and what it leads to is not looked at.
#[test]
fn links_are_not_followed() {
    require!(skip::root());
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name);
    let mut tree = Tree::new();
    tree.directory("d");
    tree.file("d/secret", Content::dense(b"secret".to_vec()));
    write(&tree, &path("a"));
    write(&Tree::new(), &path("b"));
    symlink(path("a/d"), path("b/d")).expect("made");
    let told = lines(&[&path("a"), &path("b")], &["--ignore=mtime,mode"]);
    assert_eq!(told, ["T d  directory → symlink", "D d/secret  (6 bytes)"]);
    let told = lines(&[&path("a"), &path("b")], &["--path=d/secret"]);
    assert_eq!(told, ["D d/secret  (6 bytes)"]);
}

/// Exabytes of holes are compared at once, and digested at once.
#[test]
fn holes_cost_nothing() {
    require!(skip::root());
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name);
    let tree = |name: &str| {
        let mut tree = Tree::new();
        let pieces = vec![(1 << 43, b"data".to_vec())];
        tree.file(name, Content::sparse(1 << 43 | 5, pieces.clone()));
        tree.file("same", Content::sparse(1 << 43 | 4, pieces));
        tree
    };
    write(&tree("old"), &path("a"));
    write(&tree("new"), &path("b"));
    build(&path("b"), &path("b.erofs"), &[]);
    for b in ["b", "b.erofs"] {
        assert_eq!(
            lines(&[&path("a"), &path(b)], &[]),
            ["R old → new  (8.0 TiB)"]
        );
    }
}
