//! Single files as source: each becomes a file of the image.

use super::{Rules, StoreError};
use crate::data::pipeline::{ContentReader, FileContent};
use crate::tree::{Body, Location, Metadata, Tree, TreeError, display};
use erofs_format::inode::{FileType, Timestamp};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A file of the command line.
#[derive(Debug, Clone)]
pub struct RawFile {
    /// Path in the image.
    pub name: Vec<u8>,
    /// Path on this machine.
    pub path: PathBuf,
}

/// Why a file cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum RawFileError {
    /// It cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// It is neither a regular file nor a block device.
    #[error("{}: not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// It has no name that an image can hold.
    #[error("{}: give it a name: NAME=PATH", .0.display())]
    NoName(PathBuf),
    /// Two files of the same name.
    #[error("{}: two files have this name", display(.0))]
    Duplicate(Vec<u8>),
    /// The tree refuses its name.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl RawFile {
    /// From an argument: `PATH`, or `NAME=PATH` where no file is called like the whole argument.
    ///
    /// # Errors
    /// [`RawFileError::NoName`] for a path without a last component.
    pub fn parse(argument: &Path) -> Result<Self, RawFileError> {
        let bytes = argument.as_os_str().as_bytes();
        let equals = bytes
            .iter()
            .position(|byte| *byte == b'=')
            .filter(|at| *at > 0);
        if let Some(equals) = equals.filter(|_| std::fs::symlink_metadata(argument).is_err()) {
            let path = Path::new(std::ffi::OsStr::from_bytes(&bytes[equals + 1..]));
            return Ok(Self {
                name: bytes[..equals].to_vec(),
                path: path.to_path_buf(),
            });
        }
        let name = argument
            .file_name()
            .ok_or_else(|| RawFileError::NoName(argument.to_path_buf()))?;
        Ok(Self {
            name: name.as_bytes().to_vec(),
            path: argument.to_path_buf(),
        })
    }
}

/// An open file and its size in bytes.
#[derive(Debug)]
pub struct OpenRawFile {
    /// The file.
    pub file: File,
    /// Its size.
    pub size: u64,
    /// Path in the image.
    pub name: Vec<u8>,
}

/// Opens the files and adds them to `tree`, each at [`Location::RawFile`] by its number.
///
/// # Errors
/// [`RawFileError`] names the file.
pub fn scan(
    files: &[RawFile],
    rules: &Rules,
    tree: &mut Tree,
) -> Result<Vec<OpenRawFile>, RawFileError> {
    let mut opened = Vec::new();
    for (number, RawFile { name, path }) in (0u32..).zip(files) {
        let failed = |source| RawFileError::Open {
            path: path.clone(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        let stat = file.metadata().map_err(failed)?;
        let size = if stat.is_file() {
            stat.len()
        } else if stat.file_type().is_block_device() {
            io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(failed)?
        } else {
            return Err(RawFileError::NotRegular(path.clone()));
        };
        if tree.lookup(name).is_some() {
            return Err(RawFileError::Duplicate(name.clone()));
        }
        let mut metadata = Metadata {
            // The low bits of a mode always fit.
            permissions: u16::try_from(stat.mode() & 0o7777).unwrap_or(0o644),
            uid: stat.uid(),
            gid: stat.gid(),
            mtime: Timestamp {
                seconds: stat.mtime(),
                nanoseconds: u32::try_from(stat.mtime_nsec()).unwrap_or(0),
            },
            xattrs: Vec::new(),
        };
        rules.apply(name, FileType::Regular, &mut metadata);
        let location = if size == 0 {
            Location::Nowhere
        } else {
            Location::RawFile(number)
        };
        tree.insert(name, metadata, Body::Regular { size, location })?;
        opened.push(OpenRawFile {
            file,
            size,
            name: name.clone(),
        });
    }
    Ok(opened)
}

/// Reads whole files for the pipeline; [`FileContent::position`] is the number of the file.
#[derive(Debug)]
pub struct RawReader {
    /// The files.
    pub files: Vec<OpenRawFile>,
}

impl ContentReader for RawReader {
    fn read(
        &self,
        file: &FileContent,
        offset: u64,
        length: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let missing = || StoreError::Read {
            path: file.path.to_vec(),
            source: io::ErrorKind::NotFound.into(),
        };
        let number = usize::try_from(file.position).map_err(|_| missing())?;
        let raw = self.files.get(number).ok_or_else(missing)?;
        let read =
            super::directory::read_at(raw.file.as_fd(), offset, length, out).map_err(|source| {
                StoreError::Read {
                    path: file.path.to_vec(),
                    source,
                }
            })?;
        if read < length {
            let found = offset + read;
            return Err(StoreError::Short {
                path: file.path.to_vec(),
                expected: file.size,
                found,
            });
        }
        Ok(())
    }
}
