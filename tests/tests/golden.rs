//! The golden images: our reader shows of each what the tree that it was made of says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, atomic::AtomicU64},
};

use erofs_reader::{
    ByteSource, FileSource,
    check::{CheckOptions, Severity, check},
};
use erofs_tests::{
    golden::{self, Golden},
    listing::{self, sha256},
    peers, require, skip,
    workshop::{open, succeed},
};

/// All files of the folder together, in bytes.
const LIMIT: u64 = 2 << 20;

/// Lines that only one of two listings has.
fn differences(expected: &str, shown: &str) -> Vec<String> {
    let missing = expected
        .lines()
        .filter(|line| !shown.lines().any(|other| other == *line));
    let surplus = shown
        .lines()
        .filter(|line| !expected.lines().any(|other| other == *line));
    missing
        .map(|line| format!("- {line}"))
        .chain(surplus.map(|line| format!("+ {line}")))
        .collect()
}

#[test]
fn our_reader_shows_what_every_image_was_made_of() {
    let mut failed = Vec::new();
    for golden in Golden::all() {
        let shown = listing::of_image(&open(&golden.image, &golden.devices));
        let different = differences(&golden.expected(), &shown);
        if !different.is_empty() {
            let first: Vec<_> = different
                .iter()
                .take(6)
                .map(|line| format!("    {line}"))
                .collect();
            failed.push(format!(
                "{}: {} lines\n{}",
                golden.name,
                different.len(),
                first.join("\n")
            ));
        }
    }
    assert!(
        failed.is_empty(),
        "{} images differ:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
fn reading_backwards_shows_the_same() {
    // Not a divisor of anything, so that clusters are cut everywhere.
    const STEP: u64 = 4096 + 517;
    for golden in Golden::all() {
        let image = open(&golden.image, &golden.devices);
        for entry in image.walk().expect("a root") {
            let entry = entry.expect("readable");
            let size = usize::try_from(entry.inode.data_size()).expect("small");
            let mut forwards = vec![0; size];
            image
                .read(&entry.inode, 0, &mut forwards)
                .expect("readable");
            // A cache that the whole file did not fill.
            let image = open(&golden.image, &golden.devices);
            let mut end = size as u64;
            while end > 0 {
                let start = end.saturating_sub(STEP);
                let mut part = vec![0; (end - start) as usize];
                image
                    .read(&entry.inode, start, &mut part)
                    .expect("readable");
                let expected = &forwards[start as usize..end as usize];
                assert!(
                    part == expected,
                    "{}: {} from {start}",
                    golden.name,
                    entry.path.escape_ascii()
                );
                end = start;
            }
        }
    }
}

#[test]
fn checking_finds_nothing_that_linux_would_not_read() {
    // Older kernels than that of the manifest read the block in place of the hole.
    const MISREAD: [&str; 1] = ["index-hole: index-hole"];
    let mut found = Vec::new();
    for golden in Golden::all() {
        let source = |path: &PathBuf| {
            Arc::new(FileSource::open(path).expect("opens")) as Arc<dyn ByteSource>
        };
        let devices: Vec<_> = golden.devices.iter().map(source).collect();
        let options = CheckOptions {
            data: true,
            ..CheckOptions::default()
        };
        let report = check(
            &source(&golden.image),
            &devices,
            &options,
            &AtomicU64::new(0),
        );
        let report = report.expect("checked");
        assert!(report.complete, "{}", golden.name);
        let bad = report
            .findings
            .iter()
            .filter(|finding| finding.rule.severity() != Severity::Unusual);
        found.extend(bad.map(|finding| format!("{}: {}", golden.name, finding.rule.id())));
    }
    assert_eq!(found, MISREAD);
}

#[test]
fn the_manifest_is_right() {
    for golden in Golden::all() {
        let files = std::iter::once(&golden.image).chain(&golden.devices);
        for (file, digest) in files.zip(&golden.digests) {
            let bytes = fs::read(file).expect("kept");
            let found = sha256(&bytes);
            assert_eq!(found, *digest, "{}", file.display());
        }
        let image = open(&golden.image, &golden.devices);
        assert_eq!(
            u64::from(golden.block_size),
            image.superblock().block_bits.bytes(),
            "{}",
            golden.name
        );
    }
}

#[test]
fn they_stay_small() {
    let total = size_of(&golden::folder());
    assert!(total <= LIMIT, "{total} bytes");
}

fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("readable"));
    entries
        .filter(|entry| entry.file_name() != "__pycache__")
        .map(|entry| {
            let metadata = entry.metadata().expect("readable");
            if metadata.is_dir() {
                size_of(&entry.path())
            } else {
                metadata.len()
            }
        })
        .sum()
}

#[test]
fn the_recipe_makes_them_again() {
    require!(skip::root());
    require!(skip::program("python3"));
    let mkfs = require!(peers::erofs_utils("mkfs.erofs"));
    let peers = Path::new(mkfs.get_program()).parent().expect("a folder");
    let packages = fs::read_to_string(peers.join("../versions")).unwrap_or_default();
    let wrote = fs::read_to_string(golden::folder().join("versions")).expect("kept");
    let same = wrote
        .lines()
        .all(|package| packages.lines().any(|other| other == package));
    if !same {
        println!("skipped, because other versions of the peers may write other bytes:\n{packages}");
        return;
    }
    let output = tempfile::tempdir().expect("a temporary directory");
    succeed(
        Command::new("python3")
            .arg("-B")
            .arg(golden::folder().join("make.py"))
            .args([peers, output.path()]),
    );
    for golden in Golden::all() {
        for file in std::iter::once(&golden.image).chain(&golden.devices) {
            let again =
                fs::read(output.path().join(file.file_name().expect("a name"))).expect("made");
            assert!(
                again == fs::read(file).expect("kept"),
                "{} differs",
                file.display()
            );
        }
    }
    let again = fs::read(output.path().join("manifest.tsv")).expect("made");
    assert!(again == fs::read(golden::folder().join("manifest.tsv")).expect("kept"));
}
