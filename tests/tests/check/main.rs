//! `erofs check` and `fsck.erofs` through the binary: real images are clean, broken ones are told, in text and JSON.

mod clean;
mod fsck;
mod memory;

use erofs_tests::{
    awkward::bytes,
    peers, require,
    tree::{Content, Tree},
    workshop::{Workshop, erofs, succeed},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

/// Runs `erofs check`.
#[track_caller]
fn check(options: &[&str], image: &Path) -> Output {
    let mut command = erofs().expect("asked for");
    command.arg("check").args(options).arg(image);
    command.output().expect("starts")
}

/// The report, and the exit code.
#[track_caller]
fn json(options: &[&str], image: &Path) -> (Value, Option<i32>) {
    let options = [options, &["--json"]].concat();
    let output = check(&options, image);
    let error = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout);
    (
        report.unwrap_or_else(|_| panic!("{error}")),
        output.status.code(),
    )
}

/// Rules of a report, each once.
fn rules(report: &Value) -> Vec<String> {
    let rules = report["rules"].as_object().expect("an object");
    rules.keys().cloned().collect()
}

/// A small image.
fn small(workshop: &Workshop, options: &[&str]) -> PathBuf {
    workshop.build("small.erofs", options)
}

/// Two files in a directory and one beside it.
fn small_tree() -> Workshop {
    let mut tree = Tree::new();
    tree.directory("a");
    tree.file("a/other", Content::dense(bytes::text(2, 5000)));
    tree.file("a/text", Content::dense(bytes::text(1, 100_000)));
    tree.file("b", Content::dense(b"short".to_vec()));
    Workshop::new(&tree)
}

/// Changes a byte of an image.
fn flip(image: &Path, at: usize) {
    let mut bytes = fs::read(image).expect("readable");
    bytes[at] ^= 0xFF;
    fs::write(image, bytes).expect("written");
}

#[test]
fn a_sound_image_ends_with_0() {
    require!(erofs());
    let workshop = small_tree();
    let image = small(&workshop, &["-zzstd"]);
    let output = check(&["--data"], &image);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("no findings") && text.contains("KiB of data"),
        "{text}"
    );
    let quiet = check(&["--data", "--quiet"], &image);
    assert_eq!((quiet.status.code(), quiet.stdout.len()), (Some(0), 0));
}

#[test]
fn findings_end_with_1_and_are_lines() {
    require!(erofs());
    let workshop = small_tree();
    let image = small(&workshop, &[]);
    flip(&image, 1024 + 48);
    let output = check(&[], &image);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("text");
    let mut lines = text.lines();
    let finding = lines.next().expect("a finding");
    let words: Vec<_> = finding.split_whitespace().collect();
    assert_eq!(words[..2], ["rejects", "sb-checksum"], "{finding}");
    assert!(finding.contains("image byte 1028: 0x"), "{finding}");
    let summary = lines.next().expect("a summary");
    assert!(
        summary.contains("1 finding (1 rejects); 5 inodes"),
        "{summary}"
    );
    assert_eq!(check(&["--no-checksum"], &image).status.code(), Some(0));
}

#[test]
fn reports_for_scripts_say_everything() {
    require!(erofs());
    let workshop = small_tree();
    let image = small(&workshop, &["-zzstd", "-C16k"]);
    let (good, code) = json(&["--data"], &image);
    assert_eq!(code, Some(0));
    assert_eq!(good["clean"], true);
    assert_eq!(good["complete"], true);
    assert_eq!(good["findings"], Value::Array(Vec::new()));
    assert_eq!(good["statistics"]["names"], 5);
    assert_eq!(good["statistics"]["file_bytes"], 105_005);
    // Somewhere in the first pcluster, which follows the superblock's block.
    flip(&image, 2 * 4096 - 40);
    let (bad, code) = json(&["--data"], &image);
    assert_eq!(code, Some(1), "{bad}");
    assert_eq!(bad["clean"], false);
    let finding = &bad["findings"][0];
    for (key, value) in [
        ("severity", "rejects"),
        ("rule", "data-encoded"),
        ("space", "file"),
    ] {
        assert_eq!(finding[key], value, "{bad}");
    }
    assert!(
        finding["path"]
            .as_str()
            .is_some_and(|path| path.starts_with("/a/"))
    );
    assert!(finding["nid"].is_u64() && finding["offset"].is_u64());
    assert!(
        finding["value"]
            .as_str()
            .is_some_and(|value| !value.is_empty())
    );
    assert!(
        finding["sentence"]
            .as_str()
            .is_some_and(|text| text.ends_with('.'))
    );
    assert_eq!(bad["counts"]["rejects"], bad["rules"]["data-encoded"]);
    // Data is not looked at unless asked for.
    assert_eq!(json(&[], &image).1, Some(0));
    // A part of the tree.
    assert_eq!(json(&["--data", "--path", "/b"], &image).1, Some(0));
    let path = finding["path"].as_str().expect("text");
    assert_eq!(json(&["--data", "--path", path], &image).1, Some(1));
    let nid = finding["nid"].as_u64().expect("a number").to_string();
    assert_eq!(json(&["--data", "--nid", &nid], &image).1, Some(1));
}

#[test]
fn unusual_findings_count_only_if_asked_for() {
    require!(erofs());
    let workshop = small_tree();
    let image = small(&workshop, &[]);
    let mut bytes = fs::read(&image).expect("readable");
    // More inodes than there are; images made here have a checksum.
    bytes[1024 + 16] += 1;
    fs::write(&image, bytes).expect("written");
    let (report, code) = json(&["--no-checksum"], &image);
    assert_eq!(
        (rules(&report), code),
        (vec!["sb-inodes".to_owned()], Some(0))
    );
    assert_eq!(report["clean"], true);
    assert_eq!(json(&["--no-checksum", "--strict"], &image).1, Some(1));
}

/// The C tool writes what Linux 6.16 and later do not mount.
#[test]
fn lz4_pclusters_of_more_blocks_than_linux_has_pages_for_are_told() {
    require!(erofs());
    require!(peers::erofs_utils("mkfs.erofs").map(drop));
    let workshop = small_tree();
    for (size, bad) in [("-C131072", false), ("-C131584", true), ("-C1048576", true)] {
        let image = workshop.path("lz4.erofs");
        let mut peer = peers::erofs_utils("mkfs.erofs").expect("there");
        let command = peer.args(["--quiet", "-b512", "-zlz4", size]);
        succeed(command.args([&image, &workshop.source]));
        let (report, code) = json(&["--data"], &image);
        assert_eq!(code, Some(i32::from(bad)), "{size}: {report:#}");
        let found = rules(&report).contains(&"algorithm-blocks".to_owned());
        assert_eq!(found, bad, "{size}: {report:#}");
    }
}

#[test]
fn an_image_without_its_end_is_told_from_one_with_a_broken_root() {
    require!(erofs());
    let workshop = small_tree();
    let image = small(&workshop, &["-Enoinline_data"]);
    // Metadata is behind the data: now there is none.
    fs::File::options()
        .write(true)
        .open(&image)
        .unwrap()
        .set_len(8192)
        .unwrap();
    let (report, code) = json(&[], &image);
    assert_eq!(code, Some(1));
    let rules = rules(&report);
    for rule in ["sb-blocks", "root"] {
        assert!(rules.contains(&rule.to_owned()), "{rules:?}");
    }
}

#[test]
fn what_cannot_run_ends_with_2() {
    require!(erofs());
    let workshop = small_tree();
    let image = small(&workshop, &[]);
    for (options, image, words) in [
        (&[][..], Path::new("/nonexistent"), "/nonexistent"),
        (&["--path", "/nowhere"], &image, "nowhere"),
        (&["--device", "/dev/null"], &image, "device"),
        (&["--bogus"], &image, "--bogus"),
        (&["--workers=0"], &image, "\"0\" is no number of threads"),
    ] {
        let output = check(options, image);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{options:?}: {error}");
        assert!(error.contains(words), "{error}");
    }
    // Something else than an image is a finding: somebody wants to know what this file is.
    let text = workshop.source.join("a/text");
    let (report, code) = json(&[], &text);
    assert_eq!(
        (rules(&report), code),
        (vec!["sb-magic".to_owned()], Some(1))
    );
    assert_eq!(report["complete"], false);
}

#[test]
fn an_image_inside_of_a_file_and_its_devices_are_found() {
    require!(erofs());
    let workshop = small_tree();
    let image = small(&workshop, &["-zzstd"]);
    let inside = workshop.path("inside");
    let bytes = [vec![7; 8192], fs::read(&image).expect("readable")].concat();
    fs::write(&inside, bytes).expect("written");
    let (report, code) = json(&["--data", "--offset", "8192"], &inside);
    assert_eq!(
        (report["clean"].clone(), code),
        (Value::Bool(true), Some(0))
    );
    // An index and its tar, which it finds beside itself, and does without elsewhere.
    let tar = workshop.path("layer.tar");
    erofs_tests::archive::create(&workshop.source, &tar, &[]);
    let index = workshop.path("layer.erofs");
    let mut command = erofs().expect("asked for");
    command
        .args(["index", "--quiet", "-o"])
        .args([&index, &tar]);
    erofs_tests::workshop::succeed(&mut command);
    let (report, code) = json(&["--data"], &index);
    assert_eq!((rules(&report), code), (Vec::new(), Some(0)));
    assert!(report["statistics"]["read_bytes"].as_u64() > Some(100_000));
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let alone = elsewhere.path().join("layer.erofs");
    fs::copy(&index, &alone).expect("copied");
    let (report, code) = json(&["--data"], &alone);
    assert_eq!(
        (rules(&report), code),
        (vec!["device-missing".to_owned()], Some(0))
    );
    let device = tar.to_str().expect("text");
    let (report, code) = json(&["--data", "--device", device], &alone);
    assert_eq!((rules(&report), code), (Vec::new(), Some(0)));
}
