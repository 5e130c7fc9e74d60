//! Building compressed images: every algorithm and every way to save more.

use std::path::Path;

use super::build::{directory, files};
use super::{Bench, Goal, Row};
use crate::corpora::Corpus;

/// One comparison with mkfs.erofs at the same setting.
struct Setting {
    name: &'static str,
    title: &'static str,
    corpus: Corpus,
    /// Options of `erofs build`.
    ours: &'static [&'static str],
    /// Options of mkfs.erofs.
    theirs: &'static [&'static str],
    /// Part of its time that we may take.
    time: f64,
    /// Part of its size that we may take.
    size: f64,
}

const SAME_SIZE: f64 = 1.01;

/// Names of the rows of presets, their titles, and the presets.
const PRESETS: [(&str, &str, &str); 6] = [
    ("preset-fast", "root directory, preset `fast`", "fast"),
    (
        "preset-balanced",
        "root directory, preset `balanced`",
        "balanced",
    ),
    ("preset-small", "root directory, preset `small`", "small"),
    ("preset-hpc", "root directory, preset `hpc`", "hpc"),
    ("preset-model", "root directory, preset `model`", "model"),
    ("preset-gvisor", "root directory, preset `gvisor`", "gvisor"),
];

const SETTINGS: [Setting; 11] = [
    Setting {
        name: "lz4-4k",
        title: "root directory, LZ4, 4 KiB",
        corpus: Corpus::Rootfs,
        ours: &["-z", "lz4", "-C", "4096"],
        theirs: &["-zlz4", "-C4096"],
        time: 1.0,
        size: SAME_SIZE,
    },
    Setting {
        name: "lz4-64k",
        title: "root directory, LZ4, 64 KiB",
        corpus: Corpus::Rootfs,
        ours: &["-z", "lz4", "-C", "65536"],
        theirs: &["-zlz4", "-C65536"],
        time: 1.0,
        size: SAME_SIZE,
    },
    Setting {
        name: "lz4hc",
        title: "root directory, LZ4HC 9, 64 KiB",
        corpus: Corpus::Rootfs,
        ours: &["-z", "lz4hc,9", "-C", "65536"],
        theirs: &["-zlz4hc,level=9", "-C65536"],
        time: 1.0,
        size: SAME_SIZE,
    },
    Setting {
        name: "deflate",
        title: "root directory, DEFLATE 6, 64 KiB",
        corpus: Corpus::Rootfs,
        ours: &["-z", "deflate,6", "-C", "65536"],
        theirs: &["-zdeflate,level=6", "-C65536"],
        time: 0.5,
        size: SAME_SIZE,
    },
    Setting {
        name: "libdeflate",
        title: "root directory, DEFLATE 6 (mkfs.erofs: libdeflate 6), 64 KiB",
        corpus: Corpus::Rootfs,
        ours: &["-z", "libdeflate,6", "-C", "65536"],
        theirs: &["-zlibdeflate,level=6", "-C65536"],
        time: 0.33,
        size: SAME_SIZE,
    },
    Setting {
        name: "lzma",
        title: "root directory, LZMA 6, 64 KiB",
        corpus: Corpus::Rootfs,
        ours: &["-z", "lzma,6", "-C", "65536"],
        theirs: &["-zlzma,level=6", "-C65536"],
        time: 0.9,
        size: SAME_SIZE,
    },
    Setting {
        name: "zstd-15",
        title: "root directory, Zstd 15, 64 KiB",
        corpus: Corpus::Rootfs,
        ours: &["-z", "zstd,15", "-C", "65536"],
        theirs: &["-zzstd,level=15", "-C65536"],
        time: 0.2,
        size: SAME_SIZE,
    },
    Setting {
        name: "dedupe-src",
        title: "Linux source, Zstd 3, 64 KiB, dedupe",
        corpus: Corpus::LinuxSource,
        ours: &["-z", "zstd,3", "-C", "65536", "-E", "dedupe"],
        theirs: &["-zzstd,level=3", "-C65536", "-Ededupe"],
        time: 0.3,
        size: SAME_SIZE,
    },
    Setting {
        name: "fragments-src",
        title: "Linux source, Zstd 3, 64 KiB, all-fragments",
        corpus: Corpus::LinuxSource,
        ours: &["-z", "zstd,3", "-C", "65536", "-E", "all-fragments"],
        theirs: &["-zzstd,level=3", "-C65536", "-Eall-fragments"],
        time: 0.25,
        size: 1.0,
    },
    Setting {
        name: "dedupe-versions",
        title: "five versions of a package, Zstd 3, 64 KiB, dedupe",
        corpus: Corpus::Versions,
        ours: &["-z", "zstd,3", "-C", "65536", "-E", "dedupe"],
        theirs: &["-zzstd,level=3", "-C65536", "-Ededupe"],
        time: 0.3,
        size: SAME_SIZE,
    },
    Setting {
        name: "model-lz4",
        title: "2 GiB of weights, LZ4",
        corpus: Corpus::Model,
        ours: &["-z", "lz4", "-C", "65536"],
        theirs: &["-zlz4", "-C65536"],
        time: 0.3,
        size: SAME_SIZE,
    },
];

impl Bench<'_> {
    /// The rows about compression.
    pub(super) fn compressing(&self) -> Vec<Row> {
        let mut rows: Vec<_> = SETTINGS
            .iter()
            .map(|setting| self.setting(setting))
            .collect();
        rows.push(self.small_files());
        rows.extend(PRESETS.iter().map(|preset| self.preset(preset)));
        rows
    }

    /// What a preset costs and gains, for docs/presets.md.
    fn preset(&self, &(name, title, preset): &(&'static str, &'static str, &str)) -> Row {
        let source = self.corpora.path(Corpus::Rootfs);
        Row {
            name,
            title,
            needs: vec![Corpus::Rootfs],
            goal: Goal {
                peak: Some(256.0),
                ..Goal::default()
            },
            contenders: vec![self.erofs("build", &["--preset", preset], &[&source])],
            check: directory(source, &[]),
        }
    }

    fn setting(&self, setting: &Setting) -> Row {
        let source = self.corpora.path(setting.corpus);
        let goal = Goal {
            time: Some(setting.time),
            size: Some(setting.size),
            peak: Some(256.0),
            ..Goal::default()
        };
        let contenders = vec![
            self.erofs("build", setting.ours, &[&source]),
            self.mkfs_erofs(setting.theirs, Some(&source)),
        ];
        Row {
            name: setting.name,
            title: setting.title,
            needs: vec![setting.corpus],
            goal,
            contenders,
            check: match setting.corpus {
                Corpus::Model => files(Vec::new(), source),
                _ => directory(source, &[]),
            },
        }
    }

    /// Against squashfs, which packs small files.
    fn small_files(&self) -> Row {
        let source = self.corpora.path(Corpus::SmallFiles);
        let options = ["--preset", "hpc"];
        let theirs = ["-comp", "zstd", "-Xcompression-level", "3", "-b", "128K"];
        Row {
            name: "small-files",
            title: "100,000 small files, preset `hpc` (mksquashfs: Zstd 3, 128 KiB)",
            needs: vec![Corpus::SmallFiles],
            goal: Goal {
                size: Some(1.05),
                ..Goal::default()
            },
            contenders: vec![
                self.erofs("build", &options, &[Path::new(&source)]),
                self.mksquashfs(&theirs, &source),
            ],
            check: directory(source, &[]),
        }
    }
}
