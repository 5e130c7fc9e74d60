//! Whether the work was done right.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use erofs_tests::{
    kernel::{Mounted, Way},
    manifest::{Field, Manifest},
};
use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};

/// How our side of a row is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// The image, mounted by the kernel through a loop device, shows its source.
    Mounted {
        /// The devices of an index.
        devices: Vec<PathBuf>,
        /// What the mounted image must show.
        source: Source,
    },
    /// The directory that was written is this one.
    Extracted(PathBuf),
    /// Our check of all data finds out when the data of this image is damaged.
    FindsDamage {
        /// Our binary.
        erofs: PathBuf,
        /// The image.
        image: PathBuf,
    },
    /// Our listing of an image has the names of the tar that it was made from.
    Lists {
        /// Our binary.
        erofs: PathBuf,
        /// The image.
        image: PathBuf,
        /// Its source.
        tar: PathBuf,
    },
    /// The contenders read the same bytes, by their sums.
    SameSums,
    /// The exit code tells.
    ByItself,
}

/// What an image was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This folder: everything but the ignored fields is compared.
    Directory(PathBuf, &'static [Field]),
    /// This tar, by the comparison of GNU tar; and nothing else may be there.
    Tar(PathBuf),
    /// The files of this folder, all data and the size of every hole.
    Files(PathBuf),
}

impl Check {
    /// Judges the work that left `output`; what that needs goes to `scratch`.
    ///
    /// # Errors
    /// The first difference, or why it could not be judged.
    pub(crate) fn run(&self, output: &Path, scratch: &Path) -> Result<()> {
        match self {
            Self::Mounted { devices, source } => {
                let mounted = Mounted::with_devices(output, Way::Loop, devices)?;
                match source {
                    Source::Directory(directory, ignore) => {
                        same_directory(directory, mounted.path(), ignore)
                    }
                    Source::Tar(tar) => same_as_tar(tar, mounted.path()),
                    Source::Files(directory) => same_files(directory, mounted.path()),
                }
            }
            Self::Extracted(directory) => same_directory(directory, output, &[]),
            Self::FindsDamage { erofs, image } => finds_damage(erofs, image, scratch),
            Self::Lists { erofs, image, tar } => lists(erofs, image, tar),
            Self::SameSums | Self::ByItself => Ok(()),
        }
    }
}

fn same_directory(directory: &Path, other: &Path, ignore: &[Field]) -> Result<()> {
    let expected = Manifest::of_directory(directory)?;
    let actual = Manifest::of_directory(other)?;
    let differences = expected.differences(&actual, ignore);
    match differences.first() {
        None => Ok(()),
        Some(first) => bail!("{} differences, first: {first}", differences.len()),
    }
}

/// Overwrites 64 KiB in the middle of a copy, where mkfs.erofs has data, and checks that.
fn finds_damage(erofs: &Path, image: &Path, scratch: &Path) -> Result<()> {
    static DAMAGE: [u8; 64 << 10] = [0xff; 64 << 10];
    let copy = scratch.join("damaged");
    fs::copy(image, &copy)?;
    let file = File::options().write(true).open(&copy)?;
    file.write_all_at(&DAMAGE, file.metadata()?.len() / 2)?;
    let mut command = Command::new(erofs);
    let output = command.args(["check", "--data"]).arg(&copy).output()?;
    fs::remove_file(&copy)?;
    ensure!(
        output.status.code() == Some(1),
        "damage is not found: {}, {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn lists(erofs: &Path, image: &Path, tar: &Path) -> Result<()> {
    let ours = said(Command::new(erofs).args(["ls", "-R"]).arg(image))?;
    let theirs = said(Command::new("tar").arg("-tf").arg(tar))?;
    let names = |text: &str| {
        let name = |line: &str| {
            let line = line.trim_start_matches("./").trim_end_matches('/');
            (!line.is_empty()).then(|| line.to_owned())
        };
        let mut names: Vec<_> = text.lines().filter_map(name).collect();
        names.sort_unstable();
        names
    };
    ensure!(names(&ours) == names(&theirs), "it lists other names");
    Ok(())
}

/// What a command prints.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn same_as_tar(tar: &Path, mounted: &Path) -> Result<()> {
    let output = Command::new("tar")
        .arg("-df")
        .arg(tar)
        .arg("-C")
        .arg(mounted)
        .output()?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let listing = Command::new("tar").arg("-tf").arg(tar).output()?.stdout;
    let members = listing.iter().filter(|&&byte| byte == b'\n').count();
    let names = count(mounted)?;
    ensure!(members == names, "{members} members, but {names} names");
    Ok(())
}

/// Names below `directory`.
fn count(directory: &Path) -> Result<usize> {
    let mut names = 0;
    for entry in directory.read_dir()? {
        let entry = entry?;
        names += 1;
        if entry.file_type()?.is_dir() {
            names += count(&entry.path())?;
        }
    }
    Ok(names)
}

fn same_files(directory: &Path, mounted: &Path) -> Result<()> {
    let mut names: Vec<_> = directory
        .read_dir()?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    ensure!(names.len() == count(mounted)?, "another number of files");
    names.sort();
    for name in names {
        let open = |folder: &Path| File::open(folder.join(&name));
        same_file(&open(directory)?, &open(mounted)?)
            .with_context(|| name.display().to_string())?;
    }
    Ok(())
}

/// Compares what the source's filesystem stores of a file: 100 GiB of holes need not be read.
fn same_file(source: &File, copy: &File) -> Result<()> {
    let size = source.metadata()?.len();
    ensure!(copy.metadata()?.len() == size, "another size");
    let (mut expected, mut actual) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    while at < size {
        let start = match seek(source, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            other => other?,
        };
        let end = seek(source, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let length = usize::try_from((end - at).min(1 << 20))?;
            source.read_exact_at(&mut expected[..length], at)?;
            copy.read_exact_at(&mut actual[..length], at)?;
            ensure!(
                expected[..length] == actual[..length],
                "other data in the MiB at {at}"
            );
            at += length as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_differ_by_data_and_size() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = |name: &str, size: u64, at: u64| -> Result<File> {
            let path = folder.path().join(name);
            let file = File::create_new(&path)?;
            file.set_len(size)?;
            file.write_all_at(b"data", at)?;
            Ok(File::open(path)?)
        };
        let source = file("source", 5 << 20, 3 << 20)?;
        same_file(&source, &file("copy", 5 << 20, 3 << 20)?)?;
        assert!(same_file(&source, &file("moved", 5 << 20, 4 << 20)?).is_err());
        assert!(same_file(&source, &file("longer", (5 << 20) + 1, 3 << 20)?).is_err());
        Ok(())
    }
}
