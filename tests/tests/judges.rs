//! The judges agree: the fixed set, built by the peer, comes through the kernel as it went in, and the
//! peer's own check accepts it. What fails here is not the fault of this workspace's images.

use std::{fs, path::Path};

use erofs_tests::{
    awkward,
    kernel::{Mounted, Way},
    manifest::Manifest,
    peers, require, skip,
};

/// Options of mkfs.erofs, one image for each: plain, chunks with holes, compressed.
const FORMS: [&[&str]; 3] = [
    &[],
    &["--chunksize=4096"],
    &["-zzstd,level=3", "-C65536", "-Ededupe"],
];

#[test]
fn the_kernel_shows_what_the_peer_stored() {
    require!(skip::root());
    require!(peers::erofs_utils("mkfs.erofs"));
    let ways = require!(Way::all());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = directory.path().join("source");
    fs::create_dir(&source).expect("made");
    awkward::tree(awkward::Sizes::default())
        .write(&source)
        .expect("written");
    let mut expected = Manifest::of_directory(&source).expect("readable");
    // The peer takes a device 0:0 for a whiteout of overlayfs and marks its directory as merged.
    let merged = expected
        .nodes
        .get_mut(b"devices".as_slice())
        .expect("there");
    merged
        .xattrs
        .insert(b"trusted.overlay.origin".to_vec(), Vec::new());
    for (number, form) in FORMS.iter().enumerate() {
        let image = directory.path().join(format!("{number}.erofs"));
        build(form, &source, &image);
        accept(&image);
        for way in &ways {
            println!("{form:?} {way:?}");
            let mounted = Mounted::new(&image, *way, "").expect("mounts");
            let shown = Manifest::of_directory(mounted.path()).expect("readable");
            expected.assert_same(&shown, &[]);
        }
    }
}

fn build(form: &[&str], source: &Path, image: &Path) {
    let output = peers::erofs_utils("mkfs.erofs")
        .expect("asked for")
        .args(["--quiet"])
        .args(form)
        .args([image, source])
        .output()
        .expect("starts");
    assert!(output.status.success(), "{form:?}: {output:?}");
}

fn accept(image: &Path) {
    let mut fsck = require!(peers::erofs_utils("fsck.erofs"));
    let output = fsck.arg(image).output().expect("starts");
    assert!(output.status.success(), "{output:?}");
}
