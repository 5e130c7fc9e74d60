//! `dump.erofs` against the C tool.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use erofs_tests::{
    golden::{self, Golden},
    peers, require,
    skip::{self, Reason},
    workshop::succeed,
};
use tempfile::TempDir;

use super::{dump, json, text};

/// The binary under the name of the C tool.
struct Link {
    _folder: TempDir,
    path: PathBuf,
}

impl Link {
    fn new() -> Result<Self, Reason> {
        let binary = skip::erofs_binary()?;
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("dump.erofs");
        std::os::unix::fs::symlink(binary, &path).expect("made");
        Ok(Self {
            _folder: folder,
            path,
        })
    }
}

/// Runs both tools with the same words.
fn both(link: &Link, golden: &Golden, words: &[&str]) -> (String, String) {
    let run = |mut command: Command| {
        command.args(words).env("TZ", "UTC");
        for device in &golden.devices {
            command.arg("--device").arg(device);
        }
        String::from_utf8_lossy(&succeed(command.arg(&golden.image)).stdout).into_owned()
    };
    let peer = peers::erofs_utils("dump.erofs").expect("asked for");
    (run(peer), run(Command::new(&link.path)))
}

/// Golden images that the peer opens: it was built for pages of 4 KiB.
fn of_the_peer() -> impl Iterator<Item = Golden> {
    let all = Golden::all().into_iter();
    all.filter(|golden| golden.block_size <= 4096)
}

#[test]
fn the_peer_says_the_same_of_superblocks_and_statistics() {
    require!(peers::erofs_utils("dump.erofs"));
    let link = require!(Link::new());
    for golden in of_the_peer() {
        println!("{}", golden.name);
        let (mut expected, ours) = both(&link, &golden, &["-s", "-S"]);
        if golden.name == "xattr-prefix-plain" {
            // The peer looks at incompatible features alone; kernels before 6.17 take the table for one in the packed inode.
            let line = "Required upstream Linux kernel version:       ";
            expected = expected.replace(&format!("{line}6.4"), &format!("{line}6.17"));
        }
        assert_eq!(ours, expected, "{}", golden.name);
    }
}

/// Lines of extents as numbers. The peer takes no care of what it prints as the place of a hole, and it shows none of a
/// fragment: both have no stored bytes with us, and then only the logical part counts.
fn extents(text: &str) -> Vec<(String, Option<String>)> {
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with(" Ext:"))
        .skip(1);
    lines
        .filter_map(|line| line.split_once(" : "))
        .map(|(logical, physical)| {
            let stored = !physical.trim_end().ends_with("|       0");
            (
                logical.to_owned(),
                stored.then(|| physical.trim_end().to_owned()),
            )
        })
        .collect()
}

#[test]
fn the_peer_says_the_same_of_inodes_and_extents() {
    require!(peers::erofs_utils("dump.erofs"));
    let link = require!(Link::new());
    let mut compared = 0;
    for golden in of_the_peer() {
        println!("{}", golden.name);
        for nid in telling_inodes(&golden) {
            let nid = nid.to_string();
            let (expected, ours) = both(&link, &golden, &["-e", "--nid", &nid]);
            let head = |text: &str| {
                let lines = text.lines().take_while(|line| !line.is_empty());
                lines.map(str::to_owned).collect::<Vec<_>>()
            };
            // Which of several names of an inode is its path, is everybody's own choice.
            let names = |lines: &[String]| lines.iter().any(|line| line.contains("Links: 1 "));
            let skipped = usize::from(!names(&head(&ours)));
            assert_eq!(
                head(&ours)[skipped..],
                head(&expected)[skipped..],
                "{} nid {nid}",
                golden.name
            );
            let (ours, expected) = (extents(&ours), extents(&expected));
            assert_eq!(ours.len(), expected.len(), "{} nid {nid}", golden.name);
            for (own, other) in ours.iter().zip(&expected) {
                assert_eq!(own.0, other.0, "{} nid {nid}", golden.name);
                if own.1.is_some() {
                    assert_eq!(own.1, other.1, "{} nid {nid}", golden.name);
                }
            }
            compared += 1;
        }
    }
    assert!(compared > 300, "{compared} inodes");
}

/// Inodes of one image that are worth a look: of each layout and type the largest.
fn telling_inodes(golden: &Golden) -> Vec<u64> {
    let tree = json(&mut dump(golden, &["--all", "--json"]));
    let mut largest: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for inode in tree["inodes"].as_array().expect("a list") {
        let layout = inode["record"]["layout"].as_str().expect("a layout");
        let kind = inode["type"].as_str().expect("a type");
        let size = inode["size"].as_u64().expect("a size");
        let nid = inode["nid"].as_u64().expect("a number");
        // The peer finds no path of what lies in the metabox by its number.
        if nid >> 63 != 0 {
            continue;
        }
        let key = (layout.to_owned(), kind.to_owned());
        let entry = largest.entry(key).or_insert((size, nid));
        *entry = (*entry).max((size, nid));
    }
    largest.into_values().map(|(_, nid)| nid).collect()
}

#[test]
fn the_link_has_the_exit_codes_of_the_peer() {
    let mut peer = require!(peers::erofs_utils("dump.erofs"));
    let link = require!(Link::new());
    let image = Golden::all().remove(0).image;
    let image = image.to_str().expect("text");
    let nowhere = "/nowhere/image.erofs";
    let no_image = golden::folder().join("manifest.tsv");
    let no_image = no_image.to_str().expect("text");
    for words in [
        vec![image],
        vec!["-V"],
        vec!["--help"],
        vec!["--blkid-udev", image],
        vec!["--ls", "--path=/", image],
        vec!["--cat", "--path=/", image],
        vec![],
        vec!["--unknown", image],
        vec!["--nid=3x", image],
        vec![image, image],
        vec![nowhere],
        vec![no_image],
    ] {
        let code = |command: &mut Command| {
            let output = command.args(&words).output().expect("starts");
            output.status.code().expect("an exit")
        };
        let expected = code(&mut peer);
        peer = peers::erofs_utils("dump.erofs").expect("there");
        assert_eq!(code(&mut Command::new(&link.path)), expected, "{words:?}");
    }
    // Where the peer complains and ends with 0.
    for words in [["--path=/nowhere", image], ["-e", image]] {
        let output = Command::new(&link.path).args(words).output();
        let output = output.expect("starts");
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(!output.stderr.is_empty());
    }
    let listed = |path: &Path| {
        let words = ["--ls", "--path=/", image];
        text(succeed(Command::new(path).args(words).env("TZ", "UTC")))
    };
    let program = PathBuf::from(peer.get_program());
    assert_eq!(listed(&link.path), listed(&program));
}
