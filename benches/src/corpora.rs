//! What is measured on: folders and files in the cache, made by the recipes of `benches/corpora`.

use std::{
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// A corpus; see `benches/corpora/README.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Corpus {
    /// Folder: a Debian root.
    Rootfs,
    /// Tar of it.
    RootfsTar,
    /// The same in gzip.
    RootfsTarGz,
    /// The same in Zstd.
    RootfsTarZst,
    /// Folder: the source of Linux.
    LinuxSource,
    /// Folder: Python packages.
    PythonSite,
    /// Folder: several versions of a Python package.
    Versions,
    /// Folder: 100,000 tiny files.
    SmallFiles,
    /// Folder: one file of weights, three of JSON.
    Model,
    /// Folder: one file of random bytes.
    Noise,
    /// Folder: one file of holes.
    Sparse,
    /// Tar of a million files.
    ManyFilesTar,
    /// Image of the root by mkfs.erofs, in LZ4.
    RootfsLz4,
    /// The same in Zstd, clusters of 64 KiB.
    RootfsZstd,
    /// The same in LZMA, clusters of 64 KiB.
    RootfsLzma,
    /// Image of the million files by mkfs.erofs, uncompressed.
    ManyFilesImage,
}

impl Corpus {
    fn name(self) -> &'static str {
        match self {
            Self::Rootfs => "rootfs",
            Self::RootfsTar => "rootfs.tar",
            Self::RootfsTarGz => "rootfs.tar.gz",
            Self::RootfsTarZst => "rootfs.tar.zst",
            Self::LinuxSource => "src",
            Self::PythonSite => "pysite",
            Self::Versions => "versions",
            Self::SmallFiles => "small",
            Self::Model => "model",
            Self::Noise => "noise",
            Self::Sparse => "sparse",
            Self::ManyFilesTar => "many.tar",
            Self::RootfsLz4 => "rootfs.lz4.erofs",
            Self::RootfsZstd => "rootfs.zstd.erofs",
            Self::RootfsLzma => "rootfs.lzma.erofs",
            Self::ManyFilesImage => "many.plain.erofs",
        }
    }

    /// The recipe, and the corpus it starts from.
    fn recipe(self) -> (&'static str, Option<Self>) {
        match self {
            Self::Rootfs => ("rootfs.sh", None),
            Self::RootfsTar | Self::RootfsTarGz | Self::RootfsTarZst => {
                ("archive.sh", Some(Self::Rootfs))
            }
            Self::LinuxSource => ("src.sh", None),
            Self::PythonSite => ("pysite.sh", None),
            Self::Versions => ("versions.sh", None),
            Self::SmallFiles => ("smallfiles.sh", None),
            Self::Model => ("model.sh", None),
            Self::Noise => ("noise.py", None),
            Self::Sparse => ("sparse.py", None),
            Self::ManyFilesTar => ("manyfiles.py", None),
            Self::RootfsLz4 | Self::RootfsZstd | Self::RootfsLzma => {
                ("image.sh", Some(Self::Rootfs))
            }
            Self::ManyFilesImage => ("image.sh", Some(Self::ManyFilesTar)),
        }
    }
}

/// The folder of all corpora.
#[derive(Clone, Debug)]
pub(crate) struct Corpora(PathBuf);

impl Corpora {
    /// In `directory`, or in the cache.
    ///
    /// # Errors
    /// Nothing says where the cache is.
    pub(crate) fn new(directory: Option<PathBuf>) -> Result<Self> {
        let cache = || {
            let of = |name, below: &str| Some(PathBuf::from(env::var_os(name)?).join(below));
            of("EROFS_CACHE", "")
                .or_else(|| of("XDG_CACHE_HOME", "erofs-toolkit"))
                .or_else(|| of("HOME", ".cache/erofs-toolkit"))
        };
        let directory = directory.or_else(|| Some(cache()?.join("corpora")));
        Ok(Self(
            directory.context("set HOME or EROFS_CACHE, or give --corpora")?,
        ))
    }

    /// Where a corpus is, or will be.
    pub(crate) fn path(&self, corpus: Corpus) -> PathBuf {
        let path = self.0.join(corpus.name());
        // It may stand elsewhere behind a link, which not every program follows.
        path.canonicalize().unwrap_or(path)
    }

    /// Where something that is made of corpora is, or will be.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a corpus unless it is there. It gets its name when it is whole.
    ///
    /// # Errors
    /// The recipe fails.
    pub(crate) fn make(&self, corpus: Corpus) -> Result<()> {
        let path = self.path(corpus);
        if path.exists() {
            return Ok(());
        }
        let (recipe, from) = corpus.recipe();
        if let Some(from) = from {
            self.make(from)?;
        }
        eprintln!("making {}", path.display());
        fs::create_dir_all(&self.0)?;
        let scratch = tempfile::tempdir_in(&self.0)?;
        let new = scratch.path().join(corpus.name());
        let status = Command::new(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("corpora")
                .join(recipe),
        )
        .args(from.map(|from| self.path(from)))
        .arg(&new)
        .status()
        .context(recipe)?;
        ensure!(status.success(), "{recipe}: {status}");
        Ok(fs::rename(new, path)?)
    }

    /// Brings a corpus into the page cache. Holes have nothing to bring.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn warm(&self, corpus: Corpus) -> Result<()> {
        if corpus == Corpus::Sparse {
            return Ok(());
        }
        read_all(&self.path(corpus))
    }
}

fn read_all(path: &Path) -> Result<()> {
    let kind = fs::symlink_metadata(path)
        .with_context(|| path.display().to_string())?
        .file_type();
    if kind.is_file() {
        io::copy(&mut File::open(path)?, &mut io::sink())
            .with_context(|| path.display().to_string())?;
    } else if kind.is_dir() {
        for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
            read_all(&entry?.path())?;
        }
    }
    Ok(())
}
