//! Peers in both directions: our reader reads what mkfs.erofs writes, and fsck.erofs extracts what we write.

use std::{fs, path::Path};

use erofs_tests::{
    archive,
    manifest::{Field, Manifest},
    peers, require,
    skip::{self, Reason},
    workshop::{FORMS, Workshop, build, erofs, open, succeed},
};

/// Options of mkfs.erofs: all layouts that our reader knows, which go beyond those that we write.
const PEER_FORMS: [&[&str]; 18] = [
    &[],
    &["-Enoinline_data"],
    &["-Eforce-inode-extended"],
    &["-x-1"],
    &["-b512"],
    &["-b1024"],
    &["--chunksize=4096"],
    &["--chunksize=65536", "-Eforce-chunk-indexes"],
    &["--xattr-prefix=user.", "--xattr-prefix=trusted.overlay."],
    &["-zzstd", "-C4096"],
    &["-zzstd", "-C65536"],
    &["-zzstd,level=9", "-C1048576"],
    &["-zzstd", "-C65536", "-Elegacy-compress"],
    &["-zzstd", "-C65536", "-Eztailpacking"],
    &["-zzstd", "-C65536", "-Eall-fragments"],
    &["-zzstd", "-C65536", "-Ededupe"],
    &["-zzstd", "-C16384", "-b1024"],
    &["-zzstd", "-C65536", "-E48bit,force-inode-extended"],
];

fn mkfs(options: &[&str], image: &Path, source: &Path) {
    succeed(
        peers::erofs_utils("mkfs.erofs")
            .expect("asked for")
            // Of files as old as the image the peer loses the nanoseconds.
            .args(["--quiet", "-T77", "--mkfs-time"])
            .args(options)
            .args([image, source]),
    );
}

fn needs() -> Result<(), Reason> {
    skip::root()?;
    erofs()?;
    peers::erofs_utils("mkfs.erofs")?;
    peers::erofs_utils("fsck.erofs").map(drop)
}

#[test]
fn our_reader_reads_images_of_the_peer() {
    require!(needs());
    let workshop = Workshop::light();
    let mut expected = workshop.expected.clone();
    // The peer takes a device 0:0 for a whiteout of overlayfs and marks its directory as merged.
    let merged = expected.nodes.get_mut(b"devices".as_slice());
    let origin = (b"trusted.overlay.origin".to_vec(), Vec::new());
    merged.expect("there").xattrs.extend([origin]);
    for form in PEER_FORMS {
        println!("{form:?}");
        let image = workshop.path("peer.erofs");
        mkfs(form, &image, &workshop.source);
        let read = Manifest::of_image(&open(&image, &[])).expect("readable");
        let ignored: &[Field] = if form == ["-x-1"] {
            &[Field::Xattrs]
        } else {
            &[]
        };
        expected.assert_same(&read, ignored);
        fs::remove_file(&image).expect("there");
    }
}

#[test]
fn our_reader_reads_tars_of_the_peer() {
    require!(needs());
    let workshop = Workshop::light();
    let tar = workshop.path("layer.tar");
    let format = ["--format=posix", "--xattrs", "--xattrs-include=*"];
    archive::create(&workshop.source, &tar, &format);
    let expected = archive::extracted(&tar, &[]);
    for form in [
        ["--tar=f", "-Enoinline_data"].as_slice(),
        &["--tar=f", "-zzstd", "-C65536"],
        &["--tar=i"],
    ] {
        println!("{form:?}");
        let image = workshop.path("peer.erofs");
        mkfs(form, &image, &tar);
        let devices = if form[0] == "--tar=i" {
            vec![tar.clone()]
        } else {
            Vec::new()
        };
        let read = Manifest::of_image(&open(&image, &devices)).expect("readable");
        expected.assert_same(&read, &[]);
    }
}

/// Asserts that fsck.erofs extracts what is expected from an image.
fn extracts(image: &Path, devices: &[&Path], expected: &Manifest) {
    let (seen, expected) = peers::extracted(image, devices, expected).expect("extracted");
    expected.assert_same(&seen, &[]);
}

#[test]
fn the_peer_extracts_our_images() {
    require!(needs());
    let workshop = Workshop::light();
    let more: [&[&str]; 5] = [
        &["-b512"],
        &["-b1024", "-zzstd", "-C16k"],
        &["-zzstd", "-C4k"],
        &["-x0"],
        &["--chunksize=1m"],
    ];
    for form in FORMS.into_iter().chain(more) {
        println!("{form:?}");
        let image = workshop.build("ours.erofs", form);
        extracts(&image, &[], &workshop.expected);
    }
}

#[test]
fn the_peer_extracts_our_images_of_tars() {
    require!(needs());
    let workshop = Workshop::light();
    let tar = workshop.path("layer.tar");
    let format = ["--format=posix", "--xattrs", "--xattrs-include=*"];
    archive::create(&workshop.source, &tar, &format);
    let expected = archive::extracted(&tar, &[]);
    let image = workshop.path("ours.erofs");
    for form in [FORMS[0], FORMS[5]] {
        println!("{form:?}");
        build(&tar, &image, form);
        extracts(&image, &[], &expected);
    }
    println!("an index with its tar");
    let toc = workshop.path("toc.erofs");
    let mut command = erofs().expect("asked for");
    command.args(["index", "--quiet", "-o"]);
    succeed(command.args([&toc, &tar]));
    extracts(&toc, &[&tar], &expected);
}
