//! Which programs are compared, in which versions.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// A program under comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tool {
    /// Ours.
    Erofs,
    /// erofs-utils of Debian sid, as `tests/peers/fetch.sh` fetches it.
    MkfsErofs,
    /// The same with one worker.
    MkfsErofsAlone,
    /// From the same package.
    FsckErofs,
    /// squashfs-tools of Debian sid.
    Mksquashfs,
    /// GNU tar and zstd: what reading and compressing alone take.
    TarZstd,
    /// Our reader, in a [probe](crate::probe).
    Reader,
    /// Our decoders without a reader.
    BareDecoder,
    /// Another reader in Rust.
    ErofsRs,
}

impl Tool {
    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::MkfsErofs => "mkfs.erofs",
            Self::MkfsErofsAlone => "mkfs.erofs, one worker",
            Self::FsckErofs => "fsck.erofs",
            Self::Mksquashfs => "mksquashfs",
            Self::TarZstd => "tar, zstd",
            Self::Reader => "erofs-reader",
            Self::BareDecoder => "bare decoder",
            Self::ErofsRs => "erofs-rs",
        }
    }
}

/// Where the programs are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tools {
    /// Our binary.
    pub(crate) erofs: PathBuf,
    /// The peer's.
    pub(crate) mkfs_erofs: PathBuf,
    /// The peer's.
    pub(crate) fsck_erofs: PathBuf,
    /// Another peer's.
    pub(crate) mksquashfs: PathBuf,
    /// A line for each program: name and version.
    pub(crate) versions: Vec<String>,
}

/// The workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

impl Tools {
    /// Builds our release binary unless `erofs` is given, and fetches the peer unless it is in the cache.
    ///
    /// # Errors
    /// A program cannot be had.
    pub(crate) fn find(erofs: Option<PathBuf>) -> Result<Self> {
        // Nobody knows what a given binary was built from.
        let (erofs, revision) = match erofs {
            Some(path) => {
                let path = path
                    .canonicalize()
                    .with_context(|| path.display().to_string())?;
                (path, String::new())
            }
            None => (build()?, format!(" ({})", revision()?)),
        };
        let fetched = |script: &str| -> Result<PathBuf> {
            let mut fetch = Command::new(workspace().join("tests/peers").join(script));
            Ok(said(fetch.stderr(Stdio::inherit()))?.into())
        };
        let peers = fetched("fetch.sh")?;
        let mksquashfs = fetched("squashfs.sh")?;
        let mkfs_erofs = peers.join("mkfs.erofs");
        let fsck_erofs = peers.join("fsck.erofs");
        let version = |program: &OsStr, option: &str| said(Command::new(program).arg(option));
        let versions = vec![
            format!("{}{revision}", version(erofs.as_ref(), "--version")?),
            version(mkfs_erofs.as_ref(), "--version")?,
            version(fsck_erofs.as_ref(), "--version")?,
            // As the manifest of the workspace pins it.
            "erofs-rs 0.3.0".to_owned(),
            version(mksquashfs.as_ref(), "-version")?,
        ];
        Ok(Self {
            erofs,
            mkfs_erofs,
            fsck_erofs,
            mksquashfs,
            versions,
        })
    }
}

/// The commit of the workspace, and whether it has changed since.
fn revision() -> Result<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(workspace());
    said(git.args(["describe", "--always", "--dirty"]))
}

/// Our release binary, from the same cargo and target directory as this program.
fn build() -> Result<PathBuf> {
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "-p", "erofs"])
        .current_dir(workspace())
        .status()?;
    ensure!(status.success(), "erofs does not build: {status}");
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    Ok(target.join("release/erofs").canonicalize()?)
}

/// The first line that a command prints.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next().unwrap_or_default().trim().to_owned();
    ensure!(
        !line.is_empty(),
        "{command:?} says nothing ({})",
        output.status
    );
    Ok(line)
}
