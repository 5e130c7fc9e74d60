//! `erofs build --append-to`: an image that goes on from others shows what overlayfs shows of all of them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use erofs_tests::{
    awkward::bytes,
    golden::Golden,
    kernel::{LoopDevice, Mounted, Way, release},
    manifest::{Field, Manifest},
    require,
    tree::{Content, Tree},
    workshop::{build, erofs, fsck_accepts, open, refused, succeed},
};

use crate::{OVERLAY_COUNTS, Stack, merge, needs};

fn append(base: &Path, source: &Path, image: &Path, options: &[&str]) {
    let mut command = erofs().expect("asked for");
    command.args(["build", "--quiet", "--append-to"]).arg(base);
    succeed(command.args(options).arg(source).arg("-o").arg(image));
}

const SMALL: &[&str] = &["--preset=small"];

/// Each day's image goes on from the one before: in the end it shows what overlayfs shows of the layers.
#[test]
fn images_that_go_on_show_what_layers_do() {
    require!(needs());
    for (seed, first, second, third) in [
        (500, &[][..], &["-zzstd"][..], &["--chunksize=4096"][..]),
        (501, &["-zlz4", "-C4k"], &[], &["-zlzma", "-Eztailpacking"]),
        (
            502,
            &["-zzstd", "-Eall-fragments,dedupe", "--zD"],
            &["-zlz4hc"],
            &[],
        ),
        (
            503,
            &["--chunksize=4096"],
            &["-zzstd", "-Efragments"],
            &["-zzstd", "-m4096"],
        ),
        (504, SMALL, SMALL, SMALL),
        (
            505,
            &["--preset=hpc"],
            &["--preset=hpc"],
            &["-zzstd", "-Eall-fragments,48bit", "--zD"],
        ),
        // One packed inode, one algorithm in it.
        (
            506,
            &["-zlz4", "-C4k", "-Efragments,ztailpacking"],
            &["-zzstd", "-C64k", "-Eall-fragments", "--zD"],
            &["-zlzma:lz4hc,12", "-Efragments,legacy-compress", "--zD"],
        ),
    ] {
        println!("{seed}: {first:?}, {second:?}, {third:?}");
        let stack = Stack::new(seed, first);
        let (one, two) = (stack.path("one.erofs"), stack.path("two.erofs"));
        // A layer as a directory, then one as a tar, in place of the image that it goes on from.
        append(&stack.images[0], &stack.path("source1"), &one, second);
        fs::copy(&one, &two).expect("copied");
        append(&two, &stack.tars("tar.gz")[2], &two, third);
        fsck_accepts(&two);
        let shown = Manifest::of_image(&open(&two, &[])).expect("readable");
        stack.expected.assert_same(&shown, &OVERLAY_COUNTS);
        let mounted = Mounted::new(&two, Way::Loop, "").expect("mounts");
        let shown = Manifest::of_directory(mounted.path()).expect("readable");
        stack.expected.assert_same(&shown, &OVERLAY_COUNTS);
    }
}

/// The devices of an index are devices of what goes on from it, flat files, chunks, ends behind inodes and all.
#[test]
fn indexes_go_on() {
    let ways = require!(needs());
    let stack = Stack::new(510, &[]);
    let lowest = &stack.images[..1];
    let (one, two) = (stack.path("one.erofs"), stack.path("two.erofs"));
    merge(lowest, &one, &["--index"]);
    append(
        &one,
        &stack.path("source1"),
        &one,
        &["-zzstd", "-Eall-fragments"],
    );
    // Its metadata is compressed, so nobody knows where it ends before it is written.
    let options: &[&str] = match release() < (6, 17) {
        true => &[],
        false => SMALL,
    };
    append(&one, &stack.tars("tar.gz")[2], &two, options);
    let shown = Manifest::of_image(&open(&two, lowest)).expect("readable");
    stack.expected.assert_same(&shown, &OVERLAY_COUNTS);
    for way in ways {
        let mounted = Mounted::with_devices(&two, way, lowest).expect("mounts");
        let shown = Manifest::of_directory(mounted.path()).expect("readable");
        stack.expected.assert_same(&shown, &OVERLAY_COUNTS);
    }
}

/// Options that name devices.
fn in_order(devices: &[PathBuf]) -> impl Iterator<Item = &Path> {
    let named = |path| [Path::new("--device"), path];
    devices.iter().map(PathBuf::as_path).flat_map(named)
}

/// Images of mkfs.erofs in all its forms: what they hold stays in its blocks, and those that cannot go on say why.
#[test]
fn images_of_mkfs_go_on() {
    require!(needs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let source = folder.path().join("source");
    let mut tree = Tree::new();
    tree.directory("new");
    let content =
        |seed| Content::dense([bytes::text(seed, 30_000), bytes::random(seed, 9_000)].concat());
    tree.file("new/file", content(1));
    tree.file("new/small", Content::dense(b"small".to_vec()));
    fs::create_dir(&source).expect("made");
    tree.write(&source).expect("written");
    let image = folder.path().join("image.erofs");
    let mut refusals = BTreeMap::new();
    let goes_on = |options: &'static str| Golden::all().into_iter().map(move |g| (g, options));
    // Those with fragments also with more of them.
    let more = goes_on("-Eall-fragments").filter(|(golden, _)| golden.name.contains("fragment"));
    let mut continued = 0;
    for (golden, option) in goes_on("-C64k").chain(more) {
        let block = format!("-b{}", golden.block_size);
        let mut command = erofs().expect("asked for");
        command
            .args(["build", "--quiet", "--append-to"])
            .arg(&golden.image);
        command
            .args([block.as_str(), "-zzstd", option])
            .args(in_order(&golden.devices))
            .arg(&source)
            .arg("-o")
            .arg(&image);
        let output = command.output().expect("starts");
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            refusals.insert(golden.name, error.into_owned());
            continue;
        }
        println!("{} {option}", golden.name);
        continued += usize::from(option == "-Eall-fragments");
        let devices = &golden.devices;
        let base = open(&golden.image, devices);
        let mut expected = Manifest::of_image(&base).expect("readable");
        let new = Manifest::of_directory(&source).expect("readable");
        expected.nodes.extend(new.nodes);
        let grown = Manifest::of_image(&open(&image, devices)).expect("readable");
        expected.assert_same(&grown, &[Field::Links, Field::DirectoryLinks]);
        let mut check = erofs().expect("asked for");
        check.args(["check", "--quiet", "--data"]).arg(&image);
        succeed(check.args(in_order(devices)));
        let (old, new) = (fs::read(&golden.image), fs::read(&image));
        let (old, new) = (old.expect("readable"), new.expect("readable"));
        let length = (base.superblock().blocks * base.superblock().block_bits.bytes()) as usize;
        let front = length.min(8192.max(golden.block_size as usize));
        assert!(
            old[front..length] == new[front..length],
            "{}: blocks changed",
            golden.name
        );
    }
    println!("{refusals:#?}");
    assert!(continued > 2, "{continued} with fragments");
    // A device that is not there; holes in an index, which no tool writes.
    for (name, error) in &refusals {
        let known = ["device", "a hole"];
        assert!(
            known.iter().any(|word| error.contains(word)),
            "{name}: {error}"
        );
    }
    assert!(refusals.len() < 3, "{refusals:#?}");
}

#[test]
fn images_that_cannot_go_on_say_why() {
    require!(needs());
    let stack = Stack::new(600, &["-zzstd", "-Eall-fragments"]);
    let packed = &stack.images[0];
    let toc = stack.path("all.toc.erofs");
    merge(&stack.images[..1], &stack.path("plain.erofs"), &[]);
    let embedded = ["--index", "--embed"];
    merge(&[stack.path("plain.erofs")], &toc, &embedded);
    let cut = stack.path("cut.erofs");
    let bytes = fs::read(packed).expect("there");
    fs::write(&cut, &bytes[..bytes.len() - 4096]).expect("written");
    let source = stack.path("source1");
    let blob = stack.path("blob");
    let blob = format!("--blobdev={}", blob.display());
    let clusters = stack.path("clusters.erofs");
    let options = ["-zlz4", "-C4096", "-Enosbcrc"];
    merge(&stack.images[..1], &clusters, &options);
    // As before Linux 5.3: the feature bit is for all compressed data.
    let unpadded = stack.path("unpadded.erofs");
    let mut bytes = fs::read(&clusters).expect("there");
    assert_eq!(bytes[1024 + 80] & 1, 1, "ZERO_PADDING");
    bytes[1024 + 80] &= !1;
    fs::write(&unpadded, bytes).expect("written");
    let one = stack.path("one");
    fs::create_dir(&one).expect("made");
    fs::write(one.join("one"), bytes::random(1, 20_000)).expect("written");
    let flat = stack.path("flat.erofs");
    build(&one, &flat, &[]);
    // Their table takes several blocks, where data begins in the second.
    let prefixes = (0..120).map(|n| format!("--xattr-prefix=user.{n:0250}"));
    let prefixes: Vec<_> = prefixes.collect();
    let prefixes: Vec<_> = prefixes.iter().map(String::as_str).collect();
    for (base, options, reason) in [
        (&unpadded, &[][..], "zero padding"),
        (&flat, &prefixes, "no room"),
        (packed, &["-b1024"], "-b 4096"),
        (packed, &["--chunksize=4096", &blob], "--blobdev"),
        (&toc, &[], "in the same file"),
        (&cut, &[], "cut off"),
        (&source.join("none"), &[], "No such file"),
    ] {
        let image = stack.path("no.erofs");
        let mut command = erofs().expect("asked for");
        command
            .args(["build", "--append-to"])
            .arg(base)
            .args(options);
        let error = refused(command.arg(&source).arg("-o").arg(&image));
        assert!(error.contains(reason), "{reason}: {error}");
        assert!(!image.exists());
    }
    // Nothing would be whole in between.
    let device = LoopDevice::writable(packed).expect("set up");
    let mut command = erofs().expect("asked for");
    command.args(["build", "--append-to"]).arg(device.path());
    let error = refused(command.arg(&source).arg("-o").arg(device.path()));
    assert!(error.contains("not continued in place"), "{error}");
}
