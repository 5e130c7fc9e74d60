//! What sources on the command line mean.

use anyhow::{Context, bail};
use erofs_mkfs::build::BuildSource;
use erofs_mkfs::source::raw::RawFile;
use erofs_mkfs::source::tar::{self, Archive};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// What the arguments mean: a directory, a tar, or files.
pub(crate) fn source(arguments: &[PathBuf], is_tar: bool) -> anyhow::Result<BuildSource> {
    if let [single] = arguments
        && !is_tar
        && single.is_dir()
    {
        return Ok(BuildSource::Directory(single.clone()));
    }
    if let Some((_, archive)) = archive(arguments, is_tar)? {
        return Ok(BuildSource::Tar(archive));
    }
    if let Some(directory) = arguments.iter().find(|path| path.is_dir()) {
        bail!(
            "{}: a directory must be the only source",
            directory.display()
        );
    }
    let files = arguments
        .iter()
        .map(|path| RawFile::parse(path))
        .collect::<Result<_, _>>()?;
    Ok(BuildSource::RawFiles(files))
}

/// The tar that the arguments mean, by their content unless the user says so; `-` is one on standard input.
pub(crate) fn archive(
    arguments: &[PathBuf],
    is_tar: bool,
) -> anyhow::Result<Option<(PathBuf, Archive)>> {
    let stdin = arguments.iter().any(|path| path.as_os_str() == "-");
    let [single] = arguments else {
        if stdin || is_tar {
            bail!("a tar must be the only source");
        }
        return Ok(None);
    };
    if stdin {
        let archive = Archive::open(std::io::stdin().as_fd().try_clone_to_owned()?.into())?;
        return Ok(Some((single.clone(), archive)));
    }
    let named = || single.display().to_string();
    match File::open(single) {
        Ok(file) if is_tar || tar::is_tar(&file) => Ok(Some((
            single.clone(),
            Archive::open(file).with_context(named)?,
        ))),
        Ok(_) => Ok(None),
        Err(error) if is_tar => Err(error).with_context(named),
        // Perhaps NAME=PATH: whoever takes it for a file says what is wrong.
        Err(_) => Ok(None),
    }
}
