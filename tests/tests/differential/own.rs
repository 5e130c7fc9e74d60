//! Rows of options of `erofs build`: what it writes is the source to our reader, the kernel and fsck.erofs, sound to
//! `erofs check --data`, and the same for any number of workers.

use super::options::{ALGORITHM, CHUNKS, CLUSTER, INDEX, METADATA, PACKING, PLACEMENT};
use super::{LONG, ROWS_OF_A_TREE, SHORT_OWN, forget_lost_ends, needs, random_tree};
use erofs_tests::{
    awkward::{self, Sizes},
    kernel::{self, Mounted, Way},
    manifest::{Field, Manifest},
    pairwise::{self, Matrix},
    peers, require,
    workshop::{Workshop, erofs, open, succeed},
};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::{fs, path::PathBuf, process::Command};

const SOURCE: usize = 9;
const WORKERS: usize = 10;

const DIMENSIONS: [&[&[&str]]; 11] = [
    &[
        &[],
        &["-zlz4"],
        &["-zlz4hc,12"],
        &["-zlzma,1"],
        &["-zdeflate,6"],
        &["-zzstd,3"],
        &["-zlz4hc,4:zstd", "--compress-hints=hints"],
        &["--preset=small", "-zzstd,5"],
        &["--preset=hpc", "-zlz4"],
    ],
    &[
        &[],
        &["-C4096"],
        &["-C16384"],
        &["-C1048576"],
        &["-C16384", "--max-extent-bytes=32768"],
    ],
    &[
        &[],
        &["-Eztailpacking"],
        &["-Efragments"],
        &["-Eall-fragments=32768"],
        &["-Efragments,^fragdedupe,ztailpacking"],
        &["-Ededupe"],
        &["-Ededupe,ztailpacking"],
        &["-Ededupe,fragments=16384,fragdedupe=inode,ztailpacking"],
    ],
    &[&[], &["-Elegacy-compress"]],
    &[
        &[],
        &["--no-sparse"],
        &["--chunksize=4096"],
        &["--chunksize=65536", "-Eforce-chunk-indexes"],
        &["--chunksize=16384", "--blobdev=blob"],
    ],
    &[
        &[],
        &["-E48bit"],
        &["-Edot-omitted"],
        &["-Eforce-inode-extended"],
        &["-Enosbcrc"],
        &["-m16384:zstd"],
        &["-m4096:lz4", "--zD"],
        &["--zD"],
    ],
    &[&[], &["-b512"], &["-b1024"], &["-b2048"]],
    &[
        &[],
        &["-x0"],
        &["-x255"],
        &["--xattr-prefix=user.m", "--xattr-prefix=trusted.overlay."],
        &["--xattr-prefix=auto"],
        &["-E^xattr-name-filter"],
    ],
    &[
        &[],
        &["-Enoinline_data"],
        &["--fsalignblks=16", "--dsunit=4"],
        &["--root-xattr-isize=400"],
    ],
    &[&[], &["--hard-dereference"], &["--no-dedupe"]],
    &[
        &["--workers=2"],
        &["--workers=1"],
        &["--workers=3", "--memory=16M"],
        &["--workers=8"],
    ],
];

const COUNT: usize = DIMENSIONS.len();

const MATRIX: Matrix<COUNT> = Matrix {
    sizes: {
        let mut sizes = [0; COUNT];
        let mut dimension = 0;
        while dimension < COUNT {
            sizes[dimension] = DIMENSIONS[dimension].len();
            dimension += 1;
        }
        sizes
    },
    is_possible,
};

/// Without what the command refuses, because it would mean nothing.
fn is_possible(row: &pairwise::Row<COUNT>) -> bool {
    let chosen = |dimension: usize| row[dimension] != 0;
    let compressed = chosen(ALGORITHM);
    let needs_compression = chosen(CLUSTER) || chosen(PACKING) || chosen(INDEX);
    let chunked = row[CHUNKS] >= 2;
    let refused = [
        !compressed && needs_compression,
        compressed && chunked,
        !compressed && row[METADATA] == 7,
        row[CHUNKS] == 4 && row[PLACEMENT] == 2,
        row[SOURCE] == 2 && matches!(row[PACKING], 5..=7),
    ];
    !refused.contains(&true)
}

#[derive(Clone, Copy)]
struct Row(pairwise::Row<COUNT>);

impl Row {
    fn options(&self) -> Vec<&'static str> {
        let values = DIMENSIONS.iter().zip(self.0);
        values
            .flat_map(|(values, number)| values[number])
            .copied()
            .collect()
    }

    fn devices(&self, workshop: &Workshop) -> Vec<PathBuf> {
        let blob = (self.0[CHUNKS] == 4).then(|| workshop.path("blob"));
        blob.into_iter().collect()
    }

    /// What the row does to the source on purpose.
    fn intended(&self) -> &'static [Field] {
        if self.0[SOURCE] == 1 {
            &[Field::Links, Field::HardLinks]
        } else {
            &[]
        }
    }

    /// Compact inodes of the 48-bit layout have times in seconds, which fsck.erofs 1.9.4 reads wrongly.
    const fn is_48bit(&self) -> bool {
        matches!(self.0[METADATA], 1 | 2)
    }

    /// Whether inodes are compressed: of these fsck.erofs 1.9.4 takes inlined data from another place.
    const fn has_metabox(&self) -> bool {
        matches!(self.0[METADATA], 5 | 6) || self.0[ALGORITHM] >= 7
    }

    /// Whether fsck.erofs forgets holes at the ends of files.
    const fn has_lost_ends(&self) -> bool {
        self.is_48bit() || self.0[CHUNKS] >= 3
    }
}

fn command(workshop: &Workshop, row: &Row, image: &str) -> Command {
    let mut command = erofs().expect("asked for");
    command
        .current_dir(workshop.directory.path())
        .args(["build", "--json", "source", "-o", image])
        .args(row.options());
    command
}

/// The kernel that the build says the image needs, as `(major, minor)`.
fn needed(report: &[u8]) -> (u32, u32) {
    let report: serde_json::Value = serde_json::from_slice(report).expect("JSON");
    assert_eq!(report["verified"], true, "small images are read back");
    let text = report["oldest_kernel"].as_str().expect("text");
    let mut numbers = text.split('.').map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Builds a row's image and shows it to all judges; an error tells the row. With `again` it is built twice.
fn judge(workshop: &Workshop, row: &Row, ways: &[Way], again: bool) -> Result<(), String> {
    let options = row.options();
    let failed = |what: String| Err(format!("{options:?}: {what}"));
    let output = command(workshop, row, "image.erofs")
        .output()
        .expect("starts");
    if !output.status.success() {
        return failed(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let needed = needed(&output.stdout);
    let image = workshop.path("image.erofs");
    if again {
        let mut others = *row;
        others.0[WORKERS] = 1 + others.0[WORKERS] % (DIMENSIONS[WORKERS].len() - 1);
        succeed(command(workshop, &others, "again.erofs").arg("--no-verify"));
        let twin = workshop.path("again.erofs");
        if fs::read(&image).expect("there") != fs::read(twin).expect("there") {
            return failed("other bytes from another number of workers".to_owned());
        }
    }
    let devices = row.devices(workshop);
    let ours = Manifest::of_image(&open(&image, &devices));
    let ours = ours.map_err(|error| format!("{options:?}: our reader: {error:#}"))?;
    let differ = |expected: &Manifest, shown: &Manifest, who: &str| {
        let all = expected.differences(shown, row.intended());
        let first: Vec<_> = all.iter().take(5).map(ToString::to_string).collect();
        match first.as_slice() {
            [] => Ok(()),
            first => failed(format!("{who}: {}", first.join("\n    "))),
        }
    };
    differ(&workshop.expected, &ours, "source -> our reader")?;
    let mut check = erofs().expect("asked for");
    check.args(["check", "--data", "--quiet"]);
    for device in &devices {
        check.arg("--device").arg(device);
    }
    let output = check.arg(&image).output().expect("starts");
    if !output.status.success() {
        let findings = String::from_utf8_lossy(&output.stdout).into_owned();
        return failed(format!("erofs check: {findings}"));
    }
    for way in ways.iter().filter(|_| kernel::release() >= needed) {
        let mounted = Mounted::with_devices(&image, *way, &devices)
            .map_err(|error| format!("{options:?}: {way:?}: {error:#}"))?;
        let shown = Manifest::of_directory(mounted.path());
        let shown = shown.map_err(|error| format!("{options:?}: {way:?}: {error:#}"))?;
        differ(
            &workshop.expected,
            &shown,
            &format!("source -> kernel ({way:?})"),
        )?;
    }
    if row.has_metabox() {
        return Ok(());
    }
    let paths: Vec<_> = devices.iter().map(PathBuf::as_path).collect();
    let (mut extracted, mut expected) = peers::extracted(&image, &paths, &ours)
        .map_err(|error| format!("{options:?}: fsck.erofs: {error}"))?;
    if row.has_lost_ends() {
        forget_lost_ends(&mut extracted, &mut expected, &options);
    }
    differ(&expected, &extracted, "our reader -> fsck.erofs")
}

fn matrix(count: usize, again: bool) {
    let ways = require!(needs());
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), seed);
    let asked_for = super::asked_for(count);
    let rows = MATRIX.rows(*asked_for.end()).into_iter().map(Row);
    let rows: Vec<(usize, Row)> = (1..).zip(rows).collect();
    let (mut count, mut failures) = (0, Vec::new());
    for (number, rows) in rows.chunks(ROWS_OF_A_TREE).enumerate() {
        let tree = if number % 2 == 0 {
            let mut tree = awkward::tree(Sizes {
                wide: 40,
                ..Sizes::default()
            });
            tree.entries.retain(|entry| entry.path != b"holes/large");
            tree
        } else {
            random_tree(&mut runner)
        };
        let rows = super::wanted(rows, Row::options, &asked_for);
        if rows.is_empty() {
            continue;
        }
        let workshop = Workshop::new(&tree);
        fs::write(
            workshop.path("hints"),
            "0 \\.bin$\n65536 1 e$\n4096 ^[a-m]\n",
        )
        .expect("written");
        for (number, row) in rows {
            count += 1;
            if let Err(failure) = judge(&workshop, row, &ways, again) {
                let failure = format!("row {number}: {failure}");
                println!("{failure}");
                failures.push(failure);
            }
        }
        println!("{count} rows are done");
    }
    println!("{count} rows of options, {} failed", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn our_options_go_together() {
    matrix(SHORT_OWN, false);
}

#[test]
#[ignore = "builds thousands of images twice and reads each five times"]
fn our_options_go_together_in_thousands_of_rows() {
    matrix(LONG, true);
}

#[test]
fn a_thousand_rows_have_every_possible_pair() {
    assert_eq!(MATRIX.missing(1000), []);
}
