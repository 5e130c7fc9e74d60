//! Building images, full ones and indexes.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use erofs_tests::manifest::Field;

use super::{Bench, Goal, Row};
use crate::{
    check::{Check, Source},
    corpora::Corpus,
    measure::{OUTPUT, Work},
    tools::Tool,
};

/// Memory for any file of any size, in MiB.
const PEAK: Goal = Goal {
    time: None,
    size: None,
    peak: Some(192.0),
    seconds: None,
};

/// What a tar of the root directory does not carry: GNU tars have whole seconds and no attributes.
const NOT_IN_TAR: &[Field] = &[Field::Nanoseconds, Field::Xattrs];

impl Bench<'_> {
    /// The rows about building.
    pub(super) fn building(&self) -> Vec<Row> {
        let mut rows = vec![self.rootfs()];
        rows.extend(self.tars());
        rows.extend(self.tar_indexes());
        rows.extend(self.zstd());
        rows.extend(self.large_files());
        rows.extend(self.raw_indexes());
        rows
    }

    fn rootfs(&self) -> Row {
        let source = self.corpora.path(Corpus::Rootfs);
        Row {
            name: "rootfs",
            title: "root directory, uncompressed",
            needs: vec![Corpus::Rootfs],
            goal: Goal {
                time: Some(1.0),
                ..Goal::default()
            },
            contenders: vec![
                self.erofs("build", &[], &[&source]),
                self.mkfs_erofs(&[], Some(&source)),
                self.mksquashfs(&["-noI", "-noD", "-noF", "-noX"], &source),
            ],
            check: directory(source, &[]),
        }
    }

    fn tars(&self) -> Vec<Row> {
        let row = |name, title, corpus, goal, theirs: Work| {
            let (us, ours) = self.erofs("build", &[], &[Path::new("-")]);
            let stdin = |work: Work| Work {
                stdin: Some(self.corpora.path(corpus)),
                ..work
            };
            Row {
                name,
                title,
                needs: vec![corpus],
                goal,
                contenders: vec![(us, stdin(ours)), (Tool::MkfsErofs, stdin(theirs))],
                check: directory(self.corpora.path(Corpus::Rootfs), NOT_IN_TAR),
            }
        };
        let (_, plain) = self.mkfs_erofs(&["--tar=f"], None);
        let (_, gzip) = self.mkfs_erofs(&["--tar=f", "--ungzip"], None);
        // mkfs.erofs does not read Zstd itself.
        let zstd = Work::writing_a_file(
            ["sh", "-c", "zstd -dcq | \"$@\"", "sh"]
                .map(OsString::from)
                .into_iter()
                .chain(plain.command.clone())
                .collect(),
        );
        let goal = Goal {
            time: Some(0.7),
            ..Goal::default()
        };
        vec![
            row(
                "tar",
                "its tar on standard input",
                Corpus::RootfsTar,
                goal,
                plain,
            ),
            row(
                "tar-gz",
                "its tar.gz on standard input",
                Corpus::RootfsTarGz,
                Goal::default(),
                gzip,
            ),
            row(
                "tar-zst",
                "its tar.zst on standard input (mkfs.erofs behind `zstd -d`)",
                Corpus::RootfsTarZst,
                Goal::default(),
                zstd,
            ),
        ]
    }

    fn tar_indexes(&self) -> Vec<Row> {
        let row = |name, title, corpus, goal, source| {
            let tar = self.corpora.path(corpus);
            Row {
                name,
                title,
                needs: vec![corpus],
                goal,
                contenders: vec![
                    self.erofs("index", &[], &[&tar]),
                    self.mkfs_erofs(&["--tar=i"], Some(&tar)),
                ],
                check: Check::Mounted {
                    devices: vec![tar],
                    source,
                },
            }
        };
        let many = Source::Tar(self.corpora.path(Corpus::ManyFilesTar));
        let rootfs = Source::Directory(self.corpora.path(Corpus::Rootfs), NOT_IN_TAR);
        let goal = Goal {
            time: Some(0.5),
            peak: Some(200.0),
            ..Goal::default()
        };
        vec![
            row(
                "index-many",
                "index of a tar of 1,000,000 files",
                Corpus::ManyFilesTar,
                goal,
                many,
            ),
            row(
                "index-rootfs",
                "index of the root directory's tar",
                Corpus::RootfsTar,
                Goal::default(),
                rootfs,
            ),
        ]
    }

    fn zstd(&self) -> Vec<Row> {
        let row = |name, title, corpus, goal| {
            let source = self.corpora.path(corpus);
            let theirs = ["-zzstd,level=3", "-C65536", "--workers=1"];
            let (_, alone) = self.mkfs_erofs(&theirs, Some(&source));
            Row {
                name,
                title,
                needs: vec![corpus],
                goal,
                contenders: vec![
                    self.erofs("build", &["-z", "zstd,3", "-C", "65536"], &[&source]),
                    self.mkfs_erofs(&theirs[..2], Some(&source)),
                    (Tool::MkfsErofsAlone, alone),
                    self.mksquashfs(
                        &["-comp", "zstd", "-Xcompression-level", "3", "-b", "64K"],
                        &source,
                    ),
                    tar_zstd(&source),
                ],
                check: directory(source, &[]),
            }
        };
        let goal = Goal {
            time: Some(0.2),
            size: Some(1.01),
            ..Goal::default()
        };
        vec![
            row(
                "zstd",
                "root directory, Zstd 3, 64 KiB",
                Corpus::Rootfs,
                goal,
            ),
            row(
                "zstd-src",
                "Linux source, Zstd 3, 64 KiB",
                Corpus::LinuxSource,
                Goal::default(),
            ),
            row(
                "zstd-pysite",
                "Python packages, Zstd 3, 64 KiB",
                Corpus::PythonSite,
                Goal::default(),
            ),
        ]
    }

    fn large_files(&self) -> Vec<Row> {
        let row = |name, title, corpus, zstd: bool| {
            let source = self.corpora.path(corpus);
            let (ours, theirs): (&[_], &[_]) = if zstd {
                (
                    &["-z", "zstd,3", "-C", "1m"],
                    &["-zzstd,level=3", "-C1048576"],
                )
            } else {
                (&[], &[])
            };
            Row {
                name,
                title,
                needs: vec![corpus],
                goal: PEAK,
                contenders: vec![
                    self.erofs("build", ours, &[&source]),
                    self.mkfs_erofs(theirs, Some(&source)),
                ],
                check: files(Vec::new(), source),
            }
        };
        vec![
            row(
                "model",
                "2 GiB of weights, uncompressed",
                Corpus::Model,
                false,
            ),
            row(
                "model-zstd",
                "2 GiB of weights, Zstd 3, 1 MiB",
                Corpus::Model,
                true,
            ),
            row(
                "noise",
                "2 GiB of random bytes, uncompressed",
                Corpus::Noise,
                false,
            ),
            row(
                "noise-zstd",
                "2 GiB of random bytes, Zstd 3, 1 MiB",
                Corpus::Noise,
                true,
            ),
        ]
    }

    fn raw_indexes(&self) -> Vec<Row> {
        // A file below one block is all tail: it stands in the index and needs no device.
        let row = |name, title, corpus, goal, on_devices: &[&str], inside: &[&str]| {
            let source = self.corpora.path(corpus);
            let join = |names: &[&str]| -> Vec<PathBuf> {
                names.iter().map(|name| source.join(name)).collect()
            };
            let (devices, small) = (join(on_devices), join(inside));
            let sources: Vec<_> = devices.iter().chain(&small).map(PathBuf::as_path).collect();
            Row {
                name,
                title,
                needs: vec![corpus],
                goal,
                contenders: vec![self.erofs("index", &[], &sources)],
                check: files(devices, source),
            }
        };
        vec![
            row(
                "index-model",
                "index of 2 GiB of weights and 3 JSON files",
                Corpus::Model,
                Goal::default(),
                &[
                    "model-00001-of-00001.safetensors",
                    "model.safetensors.index.json",
                    "tokenizer.json",
                ],
                &["config.json"],
            ),
            row(
                "index-sparse",
                "index of a sparse file of 100 GiB",
                Corpus::Sparse,
                Goal {
                    seconds: Some(1.0),
                    ..Goal::default()
                },
                &["sparse.bin"],
                &[],
            ),
        ]
    }

    pub(super) fn erofs(&self, command: &str, options: &[&str], sources: &[&Path]) -> (Tool, Work) {
        let mut line: Vec<OsString> = vec![self.tools.erofs.clone().into()];
        line.extend([command, "--quiet", "-o", OUTPUT].map(OsString::from));
        line.extend(options.iter().map(OsString::from));
        line.extend(sources.iter().map(OsString::from));
        (Tool::Erofs, Work::writing_a_file(line))
    }

    /// Without a source: from a tar on standard input.
    pub(super) fn mkfs_erofs(&self, options: &[&str], source: Option<&Path>) -> (Tool, Work) {
        let mut line: Vec<OsString> = vec![self.tools.mkfs_erofs.clone().into(), "--quiet".into()];
        line.extend(options.iter().map(OsString::from));
        line.push(OUTPUT.into());
        line.extend(source.map(OsString::from));
        (Tool::MkfsErofs, Work::writing_a_file(line))
    }

    pub(super) fn mksquashfs(&self, options: &[&str], source: &Path) -> (Tool, Work) {
        let mut line: Vec<OsString> = vec![self.tools.mksquashfs.clone().into()];
        line.extend([source.into(), OUTPUT.into()]);
        line.extend(["-noappend", "-quiet", "-no-progress"].map(OsString::from));
        line.extend(options.iter().map(OsString::from));
        (Tool::Mksquashfs, Work::writing_a_file(line))
    }
}

/// Every file read, and compressed in one piece on every processor.
fn tar_zstd(source: &Path) -> (Tool, Work) {
    let script = "tar -C \"$1\" -c . | zstd -qq -3 -T0 -o \"$2\"";
    let mut line: Vec<_> = ["sh", "-c", script, "sh"].map(OsString::from).into();
    line.extend([source.into(), OUTPUT.into()]);
    (Tool::TarZstd, Work::writing_a_file(line))
}

pub(super) fn directory(source: PathBuf, ignore: &'static [Field]) -> Check {
    Check::Mounted {
        devices: Vec::new(),
        source: Source::Directory(source, ignore),
    }
}

pub(super) fn files(devices: Vec<PathBuf>, source: PathBuf) -> Check {
    Check::Mounted {
        devices,
        source: Source::Files(source),
    }
}
