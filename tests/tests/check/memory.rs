//! What the lists of a check cost, and that they can be kept out of memory.

use super::{json, rules};
use erofs_tests::{
    require, ustar,
    workshop::{build, erofs},
};
use std::{
    fs::File,
    io::{BufWriter, Write},
};

/// Many small files: more names, inodes and extents than a small list can hold.
#[test]
fn lists_go_to_a_file_when_they_should() {
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let tar = folder.path().join("many.tar");
    let mut out = BufWriter::new(File::create(&tar).expect("made"));
    for number in 0..30_000 {
        let name = format!("d{:03}/f{number:06}", number / 100);
        out.write_all(&ustar::header(&name, 0)).expect("written");
    }
    out.write_all(&[0; 1024]).expect("written");
    drop(out);
    let image = folder.path().join("many.erofs");
    build(&tar, &image, &[]);
    let (whole, code) = json(&["--data"], &image);
    assert_eq!((rules(&whole), code), (Vec::new(), Some(0)));
    assert_eq!(whole["statistics"]["inodes"], 30_301);
    assert_eq!(whole["statistics"]["spilled_bytes"], 0);
    let (spilling, code) = json(&["--data", "--max-memory", "256k"], &image);
    assert_eq!((rules(&spilling), code), (Vec::new(), Some(0)));
    assert!(spilling["statistics"]["spilled_bytes"].as_u64() > Some(1 << 20));
}
