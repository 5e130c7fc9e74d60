//! Images of real tools, and our own of everything awkward, have no findings but those that are true.

use super::{json, rules};
use erofs_tests::{
    archive, awkward,
    golden::Golden,
    peers, require,
    skip::{self, Reason},
    workshop::{FORMS, Workshop, erofs, succeed},
};
use proptest::prelude::*;
use std::path::Path;

/// Asserts that an image is clean, and returns the unusual rules.
#[track_caller]
fn clean(what: &str, image: &Path, devices: &[&Path]) -> Vec<String> {
    let mut options = vec!["--data"];
    for device in devices {
        options.extend(["--device", device.to_str().expect("text")]);
    }
    let (report, code) = json(&options, image);
    assert_eq!(code, Some(0), "{what}: {report:#}");
    assert_eq!(report["complete"], true, "{what}");
    rules(&report)
}

/// What is unusual about golden images, and true.
const UNUSUAL: [&str; 7] = [
    // Everything became a fragment or stayed plain.
    "algorithm-unused",
    // mkfs.erofs leaves tags of tars empty, and announces the device table only.
    "device-tag",
    "feature-missing",
    // The manifest does not name the devices of all images.
    "device-missing",
    // Incremental builds count what they replaced.
    "sb-inodes",
    "sb-page-size",
    "xattr-prefix-place",
];

#[test]
fn golden_images() {
    require!(erofs());
    let all = Golden::all();
    assert!(all.len() > 50);
    for golden in all {
        let devices: Vec<_> = golden.devices.iter().map(|path| path.as_path()).collect();
        // Made by hand, as no tool writes it: Linux before 7.2 reads other bytes.
        if golden.name == "index-hole" {
            let (report, _) = json(&["--data"], &golden.image);
            assert_eq!(rules(&report), ["index-hole"]);
            continue;
        }
        for rule in clean(&golden.name, &golden.image, &devices) {
            assert!(UNUSUAL.contains(&rule.as_str()), "{}: {rule}", golden.name);
        }
    }
}

/// Also where no feature bit of the superblock announces it.
#[test]
fn the_oldest_kernel_is_told_from_what_is_in_an_image() {
    require!(erofs());
    let all = Golden::all();
    for (name, kernel, because) in [
        ("lz4-ancient", "5.4", "4096-byte blocks"),
        ("tar-headers", "5.15", "chunk-based files (holes)"),
        ("composefs", "5.15", "chunk-based files (holes)"),
        (
            "xattr-prefix-plain",
            "6.17",
            "long xattr prefixes beside a packed inode",
        ),
        ("index-hole", "7.2", "holes in lcluster indexes"),
    ] {
        let golden = all.iter().find(|golden| golden.name == name);
        let (report, _) = json(&[], &golden.expect("kept").image);
        assert_eq!(report["oldest_kernel"], kernel, "{name}");
        assert_eq!(report["oldest_kernel_because"], because, "{name}");
    }
}

fn needs() -> Result<(), Reason> {
    skip::root()?;
    erofs().map(drop)
}

#[test]
fn our_images_of_the_awkward_set() {
    require!(needs());
    let workshop = Workshop::light();
    let more: [&[&str]; 6] = [
        &["-b512"],
        &["-b1024", "-zzstd", "-C16k"],
        &["-x0"],
        &["-zzstd", "-E48bit,dedupe", "--zD"],
        &["-zlz4", "-m16k:deflate", "--zD", "-Eall-fragments"],
        &["-zzstd", "-Eall-fragments", "--zD"],
    ];
    for form in FORMS.into_iter().chain(more) {
        let image = workshop.build("ours.erofs", form);
        assert_eq!(
            clean(&format!("{form:?}"), &image, &[]),
            [""; 0],
            "{form:?}"
        );
    }
    let tar = workshop.path("layer.tar");
    let format = ["--format=posix", "--xattrs", "--xattrs-include=*"];
    archive::create(&workshop.source, &tar, &format);
    let image = workshop.path("index.erofs");
    let mut command = erofs().expect("asked for");
    command.args(["index", "--quiet", "-o"]);
    succeed(command.args([&image, &tar]));
    assert_eq!(clean("an index", &image, &[&tar]), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn our_images_of_random_trees(tree in awkward::strategy::tree(40), form in 0..FORMS.len()) {
        if needs().is_ok() {
            let workshop = Workshop::new(&tree);
            let image = workshop.build("random.erofs", FORMS[form]);
            prop_assert_eq!(clean(&format!("{:?}", FORMS[form]), &image, &[]), [""; 0]);
        }
    }
}

/// Options of mkfs.erofs that golden images do not cross with awkward trees.
const PEER_FORMS: [&[&str]; 17] = [
    &[],
    &["-Enoinline_data"],
    &["-b1024", "-x0"],
    &["--chunksize=4096"],
    &[
        "--xattr-prefix=user.",
        "--xattr-prefix=trusted.overlay.",
        "-Exattr-name-filter",
    ],
    &["-zlz4", "-C4096"],
    &["-zlz4hc,12", "-C65536", "-Elegacy-compress"],
    &["-zlz4", "-C65536", "-Eztailpacking"],
    &["-zlzma", "-C65536", "-Efragments"],
    &["-zdeflate", "-C65536", "-Eall-fragments"],
    &["-zzstd", "-C65536", "-Ededupe,all-fragments"],
    &["-zlz4:zstd", "-C16384", "-Ededupe"],
    &["-zzstd", "-C16384", "-b1024"],
    &["-zzstd", "-C65536", "-E48bit"],
    &["-zzstd", "-C65536", "-E48bit,fragments,dedupe"],
    &["-zzstd", "-C65536", "-m16384", "--zD", "-x255"],
    // Not with --MZ=id: 1.9.4 then writes directories of several blocks as zeros, which fsck.erofs tells too.
    &["-zlz4", "-m4096:lz4hc"],
];

#[test]
fn images_of_the_peer() {
    require!(needs());
    require!(peers::erofs_utils("mkfs.erofs"));
    let workshop = Workshop::light();
    let image = workshop.path("peer.erofs");
    for form in PEER_FORMS {
        let mut mkfs = peers::erofs_utils("mkfs.erofs").expect("asked for");
        mkfs.args(["--quiet", "-T77"]).args(form);
        succeed(mkfs.args([&image, &workshop.source]));
        for rule in clean(&format!("{form:?}"), &image, &[]) {
            assert!(UNUSUAL.contains(&rule.as_str()), "{form:?}: {rule}");
        }
    }
}
