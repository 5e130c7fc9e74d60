//! The same program called `fsck.erofs`.

use super::{flip, small, small_tree};
use erofs_tests::{
    golden::Golden,
    manifest::{Field, Manifest},
    peers, require, skip,
    workshop::{Workshop, erofs},
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};

fn fsck(workshop: &Workshop, arguments: &[&str]) -> Output {
    let link = workshop.path("fsck.erofs");
    if !link.exists() {
        symlink(skip::erofs_binary().expect("asked for"), &link).expect("made");
    }
    Command::new(link).args(arguments).output().expect("starts")
}

fn text(path: &Path) -> String {
    path.to_str().expect("text").to_owned()
}

#[test]
fn exit_codes_are_those_of_the_peer() {
    require!(erofs());
    let workshop = small_tree();
    let good = text(&small(&workshop, &["-zzstd", "-C16k"]));
    let bad = text(&workshop.path("bad.erofs"));
    fs::copy(&good, &bad).expect("copied");
    flip(Path::new(&bad), 1024 + 48);
    let other = text(&workshop.source.join("a/text"));
    let cases: Vec<(Vec<&str>, i32)> = vec![
        (vec![&good], 0),
        (vec!["-p", "--extract", &good], 0),
        (vec!["-d0", "-a", "-y", "-A", &good], 0),
        (vec!["--path=/a", &good], 0),
        (vec!["--no-sbcrc", &bad], 0),
        (vec!["-V"], 0),
        (vec!["--help"], 0),
        (vec![&bad], 1),
        (vec![&other], 1),
        (vec!["/nonexistent"], 1),
        (vec!["--path=/nope", &good], 1),
        (vec!["--nid=99999999", &good], 1),
        (vec!["--bogus", &good], 1),
        (vec!["--force", &good], 1),
        (vec!["--extract=/", &good], 1),
        (vec![], 1),
    ];
    let peer = peers::erofs_utils("fsck.erofs").is_ok();
    for (arguments, code) in cases {
        let output = fsck(&workshop, &arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        // The peer complains of a checksum, and ends with 0.
        if peer && arguments != [bad.as_str()] {
            let mut command = peers::erofs_utils("fsck.erofs").expect("there");
            let theirs = command.args(&arguments).output().expect("starts");
            assert_eq!(
                theirs.status.code(),
                Some(code),
                "{arguments:?}: {theirs:?}"
            );
        }
    }
}

#[test]
fn success_is_silent_unless_asked_for() {
    require!(erofs());
    let workshop = small_tree();
    let image = text(&small(&workshop, &["-zzstd"]));
    let output = fsck(&workshop, &[&image]);
    assert_eq!((output.stdout.len(), output.stderr.len()), (0, 0));
    let output = fsck(&workshop, &["-d3", &image]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("No errors found"), "{told}");
    let output = fsck(&workshop, &["-p", "--extract", &image]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let ratio = told.strip_prefix("Compression ratio: ");
    let ratio = ratio.and_then(|ratio| ratio.trim_end().strip_suffix("(%)"));
    let ratio: f64 = ratio.expect("a ratio").parse().expect("a number");
    assert!((1.0..100.0).contains(&ratio), "{told}");
}

#[test]
fn what_is_broken_is_named() {
    require!(erofs());
    let workshop = small_tree();
    let path = small(&workshop, &["-zzstd", "-C16k"]);
    flip(&path, 2 * 4096 - 40);
    let image = text(&path);
    assert_eq!(fsck(&workshop, &[&image]).status.code(), Some(0));
    let output = fsck(&workshop, &["--extract", &image]);
    assert_eq!(output.status.code(), Some(1));
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        found.contains("data-encoded") && found.contains("/a/"),
        "{found}"
    );
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("Found some filesystem corruption"), "{told}");
    let silent = fsck(&workshop, &["-d0", "--extract", &image]);
    assert_eq!(silent.status.code(), Some(1));
    assert_eq!((silent.stdout.len(), silent.stderr.len()), (0, 0));
    let target = format!("--extract={}", text(&workshop.path("out")));
    assert_eq!(fsck(&workshop, &[&target, &image]).status.code(), Some(1));
}

#[test]
fn extraction_gives_the_tree() {
    require!(skip::root());
    require!(erofs());
    let workshop = Workshop::light();
    let image = text(&workshop.build("light.erofs", &["-zzstd"]));
    let target = workshop.path("out");
    let extract = format!("--extract={}", text(&target));
    let output = fsck(&workshop, &["--preserve", "--xattrs", &extract, &image]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let seen = Manifest::of_directory(&target).expect("readable");
    workshop.expected.assert_same(&seen, &[]);
    // Files that exist are left alone unless they may be replaced; attributes are not extracted by default.
    assert_eq!(fsck(&workshop, &[&extract, &image]).status.code(), Some(1));
    fs::remove_dir_all(&target).expect("removed");
    assert_eq!(fsck(&workshop, &[&extract, &image]).status.code(), Some(0));
    let seen = Manifest::of_directory(&target).expect("readable");
    workshop.expected.assert_same(&seen, &[Field::Xattrs]);
    assert!(seen.nodes.values().all(|node| node.xattrs.is_empty()));
    let overwrite = fsck(&workshop, &["--overwrite", "--xattrs", &extract, &image]);
    assert_eq!(overwrite.status.code(), Some(0), "{overwrite:?}");
}

#[test]
fn extraction_begins_where_it_is_told() {
    require!(erofs());
    let workshop = small_tree();
    let image = text(&small(&workshop, &[]));
    let target = workshop.path("part");
    let extract = format!("--extract={}", text(&target));
    let output = fsck(&workshop, &["--path=/a", &extract, &image]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let names: Vec<_> = fs::read_dir(&target)
        .expect("there")
        .map(|entry| entry.expect("readable").file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let content = |path: &Path| fs::read(path).expect("readable");
    let source = workshop.source.join("a/text");
    assert!(content(&target.join("text")) == content(&source));
}

/// The image of mkfs.erofs, as it is and with a byte of a file changed: both say what the peer says.
#[test]
fn content_is_held_against_digests() {
    require!(erofs());
    let workshop = small_tree();
    let all = Golden::all();
    let golden = |name: &str| {
        let golden = all.iter().find(|golden| golden.name == name);
        golden.expect("kept").image.clone()
    };
    let changed = workshop.path("changed.erofs");
    let mut bytes = fs::read(golden("xattr-digest")).expect("kept");
    let words = b"a of the low";
    let at = bytes.windows(words.len()).position(|part| part == words);
    bytes[at.expect("uncompressed")] = b'A';
    fs::write(&changed, bytes).expect("written");
    let unknown = workshop.path("unknown.erofs");
    let mut bytes = fs::read(golden("xattr-digest")).expect("kept");
    let at = bytes.windows(7).position(|part| part == b"sha256:");
    bytes[at.expect("a digest")] = b'S';
    fs::write(&unknown, bytes).expect("written");
    for (image, code, says) in [
        (golden("xattr-digest"), 0, ""),
        (golden("xattr-fingerprint"), 0, ""),
        (changed, 1, "/dir/a: the content has another digest"),
        (unknown, 1, "unknown form of digest"),
        (golden("plain"), 1, "no digests of inodes"),
    ] {
        // Attributes may stand behind the superblock, in its checksum.
        let arguments = ["--no-sbcrc", "--xattr-inode-digest", &text(&image)];
        let output = fsck(&workshop, &arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{}: {error}",
            image.display()
        );
        assert!(error.contains(says), "{}: {error}", image.display());
        if let Ok(mut peer) = peers::erofs_utils("fsck.erofs") {
            let output = peer.args(arguments).output().expect("starts");
            assert_eq!(
                output.status.code(),
                Some(code),
                "{}: {output:?}",
                image.display()
            );
        }
    }
}
