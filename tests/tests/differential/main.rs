//! Three readers, one image: of what mkfs.erofs writes by its options, our reader, the kernel (by file and by loop device) and
//! `fsck.erofs --extract` show the same, and it is what the source holds.
//!
//! And of what `erofs build` writes by its options ([`own`]).
//!
//! `EROFS_ROWS`: rows of options, as the last one or as `first-last` (default: 10, or 2000 for the long form); `EROFS_ONLY`: of
//! these, rows with such a part of their options, to run again what failed.

mod options;
mod own;

use std::{env, fs, ops::RangeInclusive, path::Path, process::Output};

use erofs_tests::{
    awkward,
    kernel::{self, Mounted, Way},
    manifest::{Field, Manifest, Node},
    peers, require,
    skip::{self, Reason},
    tree::Tree,
    workshop::{Workshop, try_open},
};
use options::Row;
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

const SHORT: usize = 10;
/// Of our own options.
const SHORT_OWN: usize = 24;
const LONG: usize = 2000;
/// Rows that share a tree.
const ROWS_OF_A_TREE: usize = 10;
/// The fixed set, the largest tree, is the first of so many trees; the others are random.
const TREES_PER_FIXED_SET: usize = 3;

fn needs() -> Result<Vec<Way>, Reason> {
    skip::root()?;
    for program in ["mkfs.erofs", "fsck.erofs"] {
        peers::erofs_utils(program)?;
    }
    Way::all()
}

fn mkfs(options: &[&str], image: &Path, source: &Path) -> Output {
    let mut mkfs = peers::erofs_utils("mkfs.erofs").expect("asked for");
    // No file is as old as the image, which would cost its nanoseconds.
    mkfs.args(["--quiet", "-T77", "--mkfs-time"])
        .args(options)
        .args([image, source]);
    mkfs.output().expect("starts")
}

/// What keeps an image from showing its source, by mistakes of mkfs.erofs 1.9.4.
fn known_mistakes(row: &Row) -> Vec<(Field, &'static str)> {
    let mut known = Vec::new();
    if row.is_48bit() {
        let reason = "compact inodes of the 48-bit layout get 32 bits of seconds alone";
        known.extend([(Field::Seconds, reason), (Field::Nanoseconds, reason)]);
    }
    if row.has_configured_metabox() {
        known.push((
            Field::Xattrs,
            "shared attributes stand 8 bytes behind where their ids lead",
        ));
    }
    if row.packs_tails_it_may_not_inline() {
        known.push((
            Field::Content,
            "tails to be packed behind inodes that may not have any are taken from other files",
        ));
    }
    known
}

/// What the row does to the source on purpose.
fn intended(row: &Row) -> Vec<Field> {
    if row.separates_links() {
        vec![Field::Links, Field::HardLinks]
    } else {
        Vec::new()
    }
}

fn runs(row: &Row) -> bool {
    kernel::release() >= row.since()
}

/// Takes files of which fsck.erofs forgets a hole at the end out of both sides.
fn forget_lost_ends(extracted: &mut Manifest, comparable: &mut Manifest, options: &[&str]) {
    let lost = |path: &Vec<u8>, node: &Node| {
        let whole = comparable.nodes.get(path);
        whole.is_some_and(|whole| node.size < whole.size)
    };
    let lost: Vec<_> = extracted
        .nodes
        .iter()
        .filter(|(path, node)| lost(path, node))
        .map(|(path, _)| path.clone())
        .collect();
    for path in &lost {
        let name = path.escape_ascii();
        println!("{options:?}: /{name}: fsck.erofs forgets a hole at the end of a file");
        extracted.nodes.remove(path);
        comparable.nodes.remove(path);
    }
}

/// Whether the kernel of this machine reads all of the image, which it is new enough for.
fn linux_reads(image: &Path, row: &Row, ways: &[Way]) -> bool {
    let read = |way: &Way| {
        let mounted = Mounted::new(image, *way, "").ok()?;
        Manifest::of_directory(mounted.path()).ok()
    };
    runs(row) && ways.iter().any(|way| read(way).is_some())
}

/// Gives back the shared attributes that Linux 6.18 and fsck.erofs lose of inodes in a metabox: behind inline ones it goes on in the same page of the
/// metabox, not of the image. Returns where it did: all that are shown, `least` of them, are right, but others are missing.
fn restore_lost_xattrs(shown: &mut Manifest, ours: &Manifest, least: usize) -> Vec<Vec<u8>> {
    let mut lost = Vec::new();
    for (path, node) in &mut shown.nodes {
        let Some(own) = ours.nodes.get(path) else {
            continue;
        };
        let right = node
            .xattrs
            .iter()
            .all(|(name, value)| own.xattrs.get(name) == Some(value));
        if right && (least..own.xattrs.len()).contains(&node.xattrs.len()) {
            node.xattrs.clone_from(&own.xattrs);
            lost.push(path.clone());
        }
    }
    lost
}

/// What fsck.erofs says when it finds no attribute where it looks for one.
const LISTING_FAILED: &str = "failed to list xattrs";

/// Builds one image and compares its readers; an error tells the row.
fn compare(
    workshop: &Workshop,
    expected: &Manifest,
    row: &Row,
    ways: &[Way],
) -> Result<(), String> {
    let options = row.options();
    let image = workshop.path("image.erofs");
    let failed = |what: &str| Err(format!("{options:?}: {what}"));
    let output = mkfs(&options, &image, &workshop.source);
    if !output.status.success() {
        return failed(&format!(
            "mkfs.erofs: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let opened = try_open(&image, &[]).map_err(anyhow::Error::from);
    let ours = match opened.and_then(|image| Manifest::of_image(&image)) {
        Ok(ours) => ours,
        // A mistake of mkfs.erofs 1.9.4, if Linux cannot read it either.
        Err(error) if row.has_zone() && !linux_reads(&image, row, ways) => {
            println!("{options:?}: not readable, by Linux neither: {error:#}");
            return Ok(());
        }
        Err(error) => return failed(&format!("our reader: {error:#}")),
    };
    let mut ignored = intended(row);
    for (field, reason) in known_mistakes(row) {
        println!("{options:?}: {field:?} not held against the source: {reason}");
        ignored.push(field);
    }
    let differ = |left: &Manifest, right: &Manifest, ignored: &[Field], who: &str| {
        let all = left.differences(right, ignored);
        let first: Vec<_> = all.iter().take(5).map(ToString::to_string).collect();
        if all.is_empty() {
            Ok(())
        } else {
            failed(&format!("{who}: {}", first.join("\n    ")))
        }
    };
    differ(expected, &ours, &ignored, "source -> our reader")?;
    if runs(row) {
        for way in ways {
            let mounted = Mounted::new(&image, *way, "")
                .map_err(|error| format!("{options:?}: {way:?}: {error:#}"))?;
            let mut shown = Manifest::of_directory(mounted.path())
                .map_err(|error| format!("{options:?}: {error:#}"))?;
            if row.has_metabox() {
                for path in restore_lost_xattrs(&mut shown, &ours, 1) {
                    let name = path.escape_ascii();
                    println!(
                        "{options:?}: /{name}: Linux ({way:?}) looks for shared attributes in the metabox"
                    );
                }
            }
            differ(
                &shown,
                &ours,
                &[],
                &format!("kernel ({way:?}) -> our reader"),
            )?;
        }
    } else {
        println!(
            "{options:?}: not mounted, because it needs Linux {:?}",
            row.since()
        );
    }
    let (mut extracted, mut comparable) = match peers::extracted(&image, &[], &ours) {
        Ok(both) => both,
        // A mistake of fsck.erofs 1.9.4; what it reads wrongly may not decode.
        Err(error) if row.has_tails_in_metabox() => {
            println!(
                "{options:?}: fsck.erofs looks for tails in the metabox on the device: {error}"
            );
            return Ok(());
        }
        // What it takes for shared attributes there need not be any.
        Err(error) if row.has_metabox() && error.to_string().contains(LISTING_FAILED) => {
            println!("{options:?}: fsck.erofs looks for shared attributes in the metabox: {error}");
            return Ok(());
        }
        Err(error) => return failed(&format!("fsck.erofs: {error}")),
    };
    if row.has_metabox() {
        for path in restore_lost_xattrs(&mut extracted, &comparable, 0) {
            let name = path.escape_ascii();
            println!("{options:?}: /{name}: fsck.erofs looks for shared attributes in the metabox");
        }
    }
    if row.has_lost_ends() {
        forget_lost_ends(&mut extracted, &mut comparable, &options);
    }
    let mut lost = Vec::new();
    if row.has_metabox() {
        println!(
            "{options:?}: content not held against fsck.erofs, which reads plain data of inodes in the metabox wrongly"
        );
        lost.push(Field::Content);
    }
    differ(&comparable, &extracted, &lost, "our reader -> fsck.erofs")?;
    fs::remove_file(&image).expect("there");
    Ok(())
}

/// The source as every reader should show it.
fn expected(workshop: &Workshop) -> Manifest {
    let mut expected = workshop.expected.clone();
    // A device 0:0 is a whiteout for mkfs.erofs, which marks its directory as merged.
    let parents: Vec<Vec<u8>> = expected
        .nodes
        .iter()
        .filter(|(_, node)| node.kind == erofs_tests::manifest::Type::CharacterDevice)
        .filter(|(_, node)| node.device == Some(erofs_tests::tree::Device { major: 0, minor: 0 }))
        .map(|(path, _)| erofs_tests::tree::split(path).0.to_vec())
        .collect();
    for parent in parents {
        let node = expected.nodes.get_mut(&parent).expect("a parent");
        node.xattrs
            .insert(b"trusted.overlay.origin".to_vec(), Vec::new());
    }
    expected
}

fn random_tree(runner: &mut TestRunner) -> Tree {
    awkward::strategy::tree(60)
        .new_tree(runner)
        .expect("a tree")
        .current()
}

/// The rows that are asked for, counted from 1.
fn asked_for(count: usize) -> RangeInclusive<usize> {
    let Ok(rows) = env::var("EROFS_ROWS") else {
        return 1..=count;
    };
    let number = |part: &str| part.parse().expect("EROFS_ROWS: a number or FIRST-LAST");
    rows.split_once('-').map_or_else(
        || 1..=number(&rows),
        |(first, last)| number(first)..=number(last),
    )
}

/// Numbers and rows of those that are asked for.
fn wanted<'r, R>(
    rows: &'r [(usize, R)],
    options: impl Fn(&R) -> Vec<&'static str>,
    asked_for: &RangeInclusive<usize>,
) -> Vec<&'r (usize, R)> {
    let only = env::var("EROFS_ONLY").unwrap_or_default();
    let is_wanted = |(number, row): &&(usize, R)| {
        asked_for.contains(number) && options(row).join(" ").contains(&only)
    };
    rows.iter().filter(is_wanted).collect()
}

fn differential(count: usize) {
    let ways = require!(needs());
    let asked_for = asked_for(count);
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), seed);
    let rows: Vec<(usize, Row)> = (1..).zip(options::rows(*asked_for.end())).collect();
    let (mut count, mut failures) = (0, Vec::new());
    for (number, rows) in rows.chunks(ROWS_OF_A_TREE).enumerate() {
        let tree = (number % TREES_PER_FIXED_SET != 0).then(|| random_tree(&mut runner));
        let rows = wanted(rows, Row::options, &asked_for);
        if rows.is_empty() {
            continue;
        }
        let workshop = tree.map_or_else(Workshop::light, |tree| Workshop::new(&tree));
        let expected = expected(&workshop);
        for (number, row) in rows {
            count += 1;
            if let Err(failure) = compare(&workshop, &expected, row, &ways) {
                let failure = format!("row {number}: {failure}");
                println!("{failure}");
                failures.push(failure);
            }
        }
        println!("{count} rows are done");
    }
    println!("{count} rows of options, {} failed", failures.len());
    assert!(
        failures.is_empty(),
        "{} of {count} rows:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn three_readers_agree_over_the_options() {
    differential(SHORT);
}

#[test]
#[ignore = "builds and reads thousands of images three times each"]
fn three_readers_agree_over_thousands_of_rows() {
    differential(LONG);
}
