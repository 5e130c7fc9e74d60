//! A place where sources become images, by the real binary.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use erofs_reader::{ByteSource, FileSource, Image, ImageOptions, OpenError};
use tempfile::TempDir;

use crate::{
    awkward::{self, Sizes},
    manifest::Manifest,
    peers,
    skip::{self, Reason},
    tree::Tree,
};

/// Options of `erofs build` that change how data is stored.
pub const FORMS: [&[&str]; 15] = [
    &[],
    &["-Enoinline_data"],
    &["--no-sparse"],
    &["--no-dedupe"],
    &["--chunksize=4096"],
    &["-zzstd"],
    &["-zzstd,9", "-C1m"],
    &["-zzstd", "-C16k", "-Elegacy-compress"],
    &["-zzstd", "-C16k", "-Efragments,dedupe"],
    &["-zzstd", "-Eall-fragments"],
    &["-zlz4", "-C4k"],
    &["-zlz4hc,12", "--max-extent-bytes=70000"],
    &["-zlzma", "-C16k"],
    &["-zdeflate,6", "-C16k"],
    &["-zzstd", "-Eztailpacking"],
];

/// A source directory with a tree in it, beside which the images go.
#[derive(Debug)]
pub struct Workshop {
    /// Holds everything.
    pub directory: TempDir,
    /// The source.
    pub source: PathBuf,
    /// What the source holds.
    pub expected: Manifest,
}

impl Workshop {
    /// Writes the tree. Needs root where the tree does.
    pub fn new(tree: &Tree) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let source = directory.path().join("source");
        fs::create_dir(&source).expect("made");
        tree.write(&source).expect("written");
        let expected = Manifest::of_directory(&source).expect("readable");
        Self {
            directory,
            source,
            expected,
        }
    }

    /// The awkward set without what is merely large, for comparisons of many tools with each other.
    pub fn light() -> Self {
        let mut tree = awkward::tree(Sizes {
            wide: 300,
            ..Sizes::default()
        });
        tree.entries.retain(|entry| entry.path != b"holes/large");
        Self::new(&tree)
    }

    /// A path in the workshop.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Builds the image `name` of the source.
    pub fn build(&self, name: &str, options: &[&str]) -> PathBuf {
        let image = self.path(name);
        build(&self.source, &image, options);
        image
    }
}

/// The `erofs` binary, ready for arguments.
///
/// # Errors
/// It has not been built.
pub fn erofs() -> Result<Command, Reason> {
    skip::erofs_binary().map(Command::new)
}

/// Builds `image` of `source`.
#[track_caller]
pub fn build(source: &Path, image: &Path, options: &[&str]) {
    let mut command = erofs().expect("asked for");
    command.args(["build", "--quiet"]).args(options);
    succeed(command.args([source, Path::new("-o"), image]));
}

/// Runs a command that must succeed.
///
/// # Panics
/// With its standard error.
#[track_caller]
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}: {error}",
        output.status
    );
    output
}

/// Runs an `erofs` command that must be refused: exit code 2 and one line of explanation, which is returned.
///
/// # Panics
/// When it ends in another way.
#[track_caller]
pub fn refused(command: &mut Command) -> String {
    let output = command.output().expect("starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{command:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{command:?}: {error}");
    assert!(error.starts_with("erofs: "), "{command:?}: {error}");
    error
}

/// Asserts that fsck.erofs accepts the image.
#[track_caller]
pub fn fsck_accepts(image: &Path) {
    succeed(
        peers::erofs_utils("fsck.erofs")
            .expect("asked for")
            .arg(image),
    );
}

/// Opens an image in our reader.
#[track_caller]
pub fn open(image: &Path, devices: &[PathBuf]) -> Image {
    try_open(image, devices).expect("an image")
}

/// Opens what may be no image.
///
/// # Errors
/// What the reader says.
pub fn try_open(image: &Path, devices: &[PathBuf]) -> Result<Image, OpenError> {
    let source = |path: &Path| FileSource::open(path).expect("opens");
    let options = ImageOptions {
        devices: devices
            .iter()
            .map(|path| Box::new(source(path)) as Box<dyn ByteSource>)
            .collect(),
        ..ImageOptions::default()
    };
    Image::open(source(image), options)
}
