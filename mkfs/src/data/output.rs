//! The file an image is written to: nothing is seen under its final name before it is whole and on disk.

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// An output under construction. Dropped without [`Output::publish`] it leaves nothing behind.
#[derive(Debug)]
pub struct Output {
    file: File,
    /// Where in the file the image begins, in bytes.
    offset: u64,
    target: PathBuf,
    state: State,
}

/// Device and inode number of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Device that holds the file.
    pub device: u64,
    /// Inode number on that device.
    pub inode: u64,
}

impl FileIdentity {
    /// Of a file's metadata.
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

#[derive(Debug)]
enum State {
    /// A file without a name (`O_TMPFILE`): even a killed process leaves nothing.
    Nameless,
    /// A file beside the target, where the filesystem knows no nameless files.
    Beside(PathBuf),
    /// A block device, written in place.
    InPlace,
    Published,
}

impl Output {
    /// Prepares to write `target`, or what it leads to when it is a symbolic link.
    ///
    /// # Errors
    /// When `target` is `-`, neither a regular file nor a block device, or a symbolic link to nothing; when neither a nameless
    /// nor a named file can be made in its folder.
    pub fn create(target: &Path) -> io::Result<Self> {
        if target == Path::new("-") {
            return Err(io::Error::other(
                "it is not written from front to back, so it cannot go to a pipe: name a file (./- for this name)",
            ));
        }
        let existing = std::fs::metadata(target);
        if existing
            .as_ref()
            .is_ok_and(|metadata| !metadata.is_file() && !metadata.file_type().is_block_device())
        {
            return Err(io::Error::other(
                "is there already and is neither a regular file nor a block device",
            ));
        }
        // Names like /dev/stdout and /dev/disk/by-id/… belong to others: they stay the links that they are.
        let target = if !target.is_symlink() {
            target.to_path_buf()
        } else if existing.is_ok() {
            target.canonicalize()?
        } else {
            return Err(io::Error::other("is a symbolic link that leads nowhere"));
        };
        if existing.is_ok_and(|metadata| metadata.file_type().is_block_device()) {
            let file = File::options().read(true).write(true).open(&target)?;
            return Ok(Self {
                file,
                offset: 0,
                target,
                state: State::InPlace,
            });
        }
        let mode = Mode::from_raw_mode(0o666);
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
        if let Ok(file) = rustix::fs::openat(CWD, folder(&target), flags, mode) {
            return Ok(Self {
                file: file.into(),
                offset: 0,
                target,
                state: State::Nameless,
            });
        }
        let beside = temporary_name(&target);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&beside)?;
        Ok(Self {
            file,
            offset: 0,
            target,
            state: State::Beside(beside),
        })
    }

    /// The files that an image must not be made of: what stands under the target's name, which will be replaced, and the
    /// unfinished output itself.
    ///
    /// # Errors
    /// As the system says.
    pub fn own_files(&self) -> io::Result<Vec<FileIdentity>> {
        let mut own = vec![FileIdentity::of(&self.file.metadata()?)];
        own.extend(std::fs::metadata(&self.target).map(|standing| FileIdentity::of(&standing)));
        Ok(own)
    }

    /// Lets the image begin at byte `offset` of the file, behind zeros.
    #[must_use]
    pub fn with_offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// The file, for reading and writing.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Reads what was written at byte `position` of the image.
    ///
    /// # Errors
    /// As the system says.
    pub fn read_at(&self, position: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, self.in_file(position)?)
    }

    /// Writes all of `bytes` at byte `position` of the image.
    ///
    /// # Errors
    /// As the system says.
    pub fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.in_file(position)?)
    }

    fn in_file(&self, position: u64) -> io::Result<u64> {
        position
            .checked_add(self.offset)
            .ok_or_else(|| io::ErrorKind::FileTooLarge.into())
    }

    /// Cuts the image to `length`, syncs it and gives it its final name.
    ///
    /// # Errors
    /// As the system says; the target then is as it was before.
    pub fn publish(mut self, length: u64) -> io::Result<()> {
        let length = self.in_file(length)?;
        match std::mem::replace(&mut self.state, State::Published) {
            State::InPlace => return self.file.sync_all(),
            State::Nameless => {
                self.file.set_len(length)?;
                self.file.sync_all()?;
                let beside = temporary_name(&self.target);
                let source = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, source, CWD, &beside, AtFlags::SYMLINK_FOLLOW)?;
                rename(&beside, &self.target)?;
            }
            State::Beside(beside) => {
                let cut = self
                    .file
                    .set_len(length)
                    .and_then(|()| self.file.sync_all());
                if let Err(error) = cut {
                    self.state = State::Beside(beside);
                    return Err(error);
                }
                rename(&beside, &self.target)?;
            }
            State::Published => {}
        }
        // The name is durable only when its folder is.
        File::open(folder(&self.target))?.sync_all()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let State::Beside(path) = &self.state {
            // Nothing can be done about a failure here.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn rename(beside: &Path, target: &Path) -> io::Result<()> {
    std::fs::rename(beside, target).inspect_err(|_| {
        let _ = std::fs::remove_file(beside);
    })
}

fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A name beside the target that no other running process uses.
fn temporary_name(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    let own = target.file_name().unwrap_or_default();
    // 255 bytes are the limit of a name: a long one is cut, the process id keeps it apart.
    name.push(std::ffi::OsStr::from_bytes(
        own.as_bytes().get(..200).unwrap_or(own.as_bytes()),
    ));
    name.push(format!(".{}.tmp", std::process::id()));
    target.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        std::fs::read_dir(directory)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_dropped_output_leaves_nothing_and_a_published_one_replaces() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("image");
        let output = Output::create(&target).unwrap();
        output.write_at(0, b"half").unwrap();
        drop(output);
        assert!(names(directory.path()).is_empty());
        for text in [&b"first"[..], b"again"] {
            let output = Output::create(&target).unwrap();
            output.write_at(0, text).unwrap();
            output.write_at(100, b"cut off").unwrap();
            output.publish(text.len() as u64).unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), text);
            assert_eq!(names(directory.path()), ["image"]);
        }
    }

    #[test]
    fn a_named_temporary_is_removed_too() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("image");
        let beside = temporary_name(&target);
        let file = File::create_new(&beside).unwrap();
        drop(Output {
            file,
            offset: 0,
            target: target.clone(),
            state: State::Beside(beside.clone()),
        });
        assert!(names(directory.path()).is_empty());
        let file = File::create_new(&beside).unwrap();
        let output = Output {
            file,
            offset: 0,
            target: target.clone(),
            state: State::Beside(beside),
        };
        output.publish(3).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), [0; 3]);
    }

    #[test]
    fn symbolic_links_stay_and_what_they_lead_to_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::os::unix::fs::symlink("file", &link).unwrap();
        assert!(Output::create(&link).is_err());
        std::fs::write(&file, "old").unwrap();
        let output = Output::create(&link).unwrap();
        output.write_at(0, b"new").unwrap();
        output.publish(3).unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        let device = directory.path().join("device");
        std::os::unix::fs::symlink("/dev/null", &device).unwrap();
        assert!(Output::create(&device).is_err());
        assert!(device.is_symlink());
    }

    #[test]
    fn what_is_no_file_and_missing_folders_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(Output::create(&socket).is_err() && Output::create("/dev/null".as_ref()).is_err());
        assert!(Output::create(directory.path()).is_err() && Output::create("-".as_ref()).is_err());
        assert!(Output::create(&directory.path().join("missing/image")).is_err());
    }
}
