//! Reading images of mkfs.erofs: checking, extracting, listing, and the reader beneath.

use std::{ffi::OsString, path::PathBuf};

use super::{Bench, Goal, Row};
use crate::{
    check::Check,
    corpora::Corpus,
    measure::{OUTPUT, Product, Work},
    probe::Probe,
    tools::Tool,
};

/// An image of the root directory, with the names and titles of its rows.
struct Rootfs {
    image: Corpus,
    check: (&'static str, &'static str),
    check_alone: (&'static str, &'static str),
    extract: (&'static str, &'static str),
    sequential: (&'static str, &'static str),
}

const ROOTFS: [Rootfs; 3] = [
    Rootfs {
        image: Corpus::RootfsLz4,
        check: ("check-lz4", "check all data, LZ4"),
        check_alone: ("check-lz4-one", "check all data, LZ4, one worker"),
        extract: ("extract-lz4", "extract the root directory, LZ4"),
        sequential: ("read-lz4", "read all files one after the other, LZ4"),
    },
    Rootfs {
        image: Corpus::RootfsZstd,
        check: ("check-zstd", "check all data, Zstd 64 KiB"),
        check_alone: ("check-zstd-one", "check all data, Zstd 64 KiB, one worker"),
        extract: ("extract-zstd", "extract the root directory, Zstd 64 KiB"),
        sequential: (
            "read-zstd",
            "read all files one after the other, Zstd 64 KiB",
        ),
    },
    Rootfs {
        image: Corpus::RootfsLzma,
        check: ("check-lzma", "check all data, LZMA 64 KiB"),
        check_alone: ("check-lzma-one", "check all data, LZMA 64 KiB, one worker"),
        extract: ("extract-lzma", "extract the root directory, LZMA 64 KiB"),
        sequential: (
            "read-lzma",
            "read all files one after the other, LZMA 64 KiB",
        ),
    },
];

/// Memory for reading any image, in MiB.
const PEAK: f64 = 200.0;

impl Bench<'_> {
    /// The rows about reading.
    pub(super) fn reading(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for rootfs in &ROOTFS {
            rows.push(self.check(rootfs.image, rootfs.check, None, 1.0 / 1.8));
            rows.push(self.check(rootfs.image, rootfs.check_alone, Some("1"), 1.0));
        }
        rows.extend(ROOTFS.iter().map(|rootfs| self.extract(rootfs)));
        rows.push(self.list());
        rows.push(self.diff());
        rows.extend(ROOTFS.iter().map(|rootfs| self.sequential(rootfs)));
        rows.push(self.random());
        rows
    }

    fn check(
        &self,
        corpus: Corpus,
        (name, title): (&'static str, &'static str),
        workers: Option<&str>,
        time: f64,
    ) -> Row {
        let image = self.corpora.path(corpus);
        let mut ours = self.ours(&["check", "--data", "--quiet"]);
        if let Some(workers) = workers {
            ours.extend(["--workers".into(), workers.into()]);
        }
        ours.push(image.clone().into());
        // Without a folder it decodes everything and writes nothing.
        let theirs = self.fsck(&["--extract".into(), image.clone().into()]);
        Row {
            name,
            title,
            needs: vec![corpus],
            goal: Goal {
                time: Some(time),
                peak: Some(PEAK),
                ..Goal::default()
            },
            contenders: vec![
                (Tool::Erofs, Work::reading(ours)),
                (Tool::FsckErofs, Work::reading(theirs)),
            ],
            check: Check::FindsDamage {
                erofs: self.tools.erofs.clone(),
                image,
            },
        }
    }

    fn extract(&self, rootfs: &Rootfs) -> Row {
        let image: PathBuf = self.corpora.path(rootfs.image);
        let (name, title) = rootfs.extract;
        let mut ours = self.ours(&["extract", "--quiet"]);
        ours.extend([image.clone().into(), OUTPUT.into()]);
        let theirs = self.fsck(&[
            format!("--extract={OUTPUT}").into(),
            "--preserve".into(),
            "--xattrs".into(),
            image.into(),
        ]);
        let work = |command| Work {
            product: Product::Directory,
            ..Work::reading(command)
        };
        Row {
            name,
            title,
            needs: vec![Corpus::Rootfs, rootfs.image],
            goal: Goal {
                time: Some(1.0 / 1.5),
                peak: Some(PEAK),
                ..Goal::default()
            },
            contenders: vec![(Tool::Erofs, work(ours)), (Tool::FsckErofs, work(theirs))],
            check: Check::Extracted(self.corpora.path(Corpus::Rootfs)),
        }
    }

    fn list(&self) -> Row {
        let image = self.corpora.path(Corpus::ManyFilesImage);
        let mut ours = self.ours(&["ls", "-R"]);
        ours.push(image.clone().into());
        // It walks all names and looks at all inodes, as a listing does.
        let theirs = self.fsck(&[image.clone().into()]);
        Row {
            name: "list-many",
            title: "list 1,000,000 files (`ls -R`; fsck.erofs checks their metadata)",
            needs: vec![Corpus::ManyFilesTar, Corpus::ManyFilesImage],
            goal: Goal {
                time: Some(0.5),
                peak: Some(PEAK),
                ..Goal::default()
            },
            contenders: vec![
                (Tool::Erofs, Work::reading(ours)),
                (Tool::FsckErofs, Work::reading(theirs)),
            ],
            check: Check::Lists {
                erofs: self.tools.erofs.clone(),
                image,
                tar: self.corpora.path(Corpus::ManyFilesTar),
            },
        }
    }

    fn diff(&self) -> Row {
        let image = self.corpora.path(Corpus::ManyFilesImage);
        let tar = self.corpora.path(Corpus::ManyFilesTar);
        let mut ours = self.ours(&["diff", "--summary"]);
        ours.extend([image.into(), tar.into()]);
        Row {
            name: "diff-many",
            title: "compare an image of 1,000,000 files with its tar, contents too",
            needs: vec![Corpus::ManyFilesTar, Corpus::ManyFilesImage],
            goal: Goal::default(),
            contenders: vec![(Tool::Erofs, Work::reading(ours))],
            // It fails when it finds a difference.
            check: Check::ByItself,
        }
    }

    fn sequential(&self, rootfs: &Rootfs) -> Row {
        let image = self.corpora.path(rootfs.image);
        let (name, title) = rootfs.sequential;
        Row {
            name,
            title,
            needs: vec![rootfs.image],
            goal: Goal {
                // Throughput within 15 %.
                time: Some(1.0 / 0.85),
                ..Goal::default()
            },
            contenders: vec![
                (Tool::Reader, Probe::Sequential.work(&image)),
                (Tool::BareDecoder, Probe::BareDecoder.work(&image)),
            ],
            check: Check::SameSums,
        }
    }

    fn random(&self) -> Row {
        let image = self.corpora.path(Corpus::RootfsZstd);
        Row {
            name: "read-random",
            title: "4 KiB reads, each block of 48 MiB once in random order, Zstd 64 KiB",
            needs: vec![Corpus::RootfsZstd],
            goal: Goal {
                time: Some(1.0 / 20.0),
                ..Goal::default()
            },
            contenders: vec![
                (Tool::Reader, Probe::Random.work(&image)),
                (Tool::ErofsRs, Probe::RandomErofsRs.work(&image)),
            ],
            check: Check::SameSums,
        }
    }

    fn ours(&self, arguments: &[&str]) -> Vec<OsString> {
        let program = OsString::from(self.tools.erofs.clone());
        [program]
            .into_iter()
            .chain(arguments.iter().map(OsString::from))
            .collect()
    }

    fn fsck(&self, arguments: &[OsString]) -> Vec<OsString> {
        let mut command = vec![self.tools.fsck_erofs.clone().into()];
        command.extend_from_slice(arguments);
        command
    }
}
