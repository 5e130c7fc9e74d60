//! The file an image is written to: nothing is seen under its final name before it is whole and on disk.

use crate::verify::Unpublished;
use erofs_format::superblock::{SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE};
use erofs_reader::ByteSource;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Take};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// An output under construction. Dropped without [`Output::publish`] it leaves nothing behind.
#[derive(Debug)]
pub struct Output {
    file: File,
    /// Where in the file the image begins, in bytes.
    offset: u64,
    target: PathBuf,
    /// Whether it is synced, and its name too.
    durable: bool,
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
    /// A block device, written in place; whether writing has begun.
    InPlace(AtomicBool),
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
            // Of a block device this means: nobody has mounted it.
            let exclusive = OFlags::EXCL.bits().cast_signed();
            let file = File::options()
                .read(true)
                .write(true)
                .custom_flags(exclusive)
                .open(&target)?;
            return Ok(Self {
                file,
                offset: 0,
                target,
                durable: true,
                state: State::InPlace(AtomicBool::new(false)),
            });
        }
        let mode = Mode::from_raw_mode(0o666);
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
        if let Ok(file) = rustix::fs::openat(CWD, folder(&target), flags, mode) {
            return Ok(Self {
                file: file.into(),
                offset: 0,
                target,
                durable: true,
                state: State::Nameless,
            });
        }
        let (beside, file) = with_free_name(&target, |beside| {
            File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(beside)
        })?;
        Ok(Self {
            file,
            offset: 0,
            target,
            durable: true,
            state: State::Beside(beside),
        })
    }

    /// Whether it is a new file, in which all bytes are zeros that nobody has written.
    pub const fn is_new(&self) -> bool {
        !matches!(self.state, State::InPlace(_))
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

    /// Whether both are to get one name.
    ///
    /// # Errors
    /// As the system says.
    pub fn has_name_of(&self, other: &Self) -> io::Result<bool> {
        let folder_of = |output: &Self| folder(&output.target).metadata();
        Ok(self.target.file_name() == other.target.file_name()
            && FileIdentity::of(&folder_of(self)?) == FileIdentity::of(&folder_of(other)?))
    }

    /// Lets the image begin at byte `offset` of the file, behind zeros.
    #[must_use]
    pub fn with_offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Leaves syncing to whoever gives it another name.
    #[must_use]
    pub fn with_passing_name(mut self, passing: bool) -> Self {
        self.durable = !passing;
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
        self.begin()?;
        self.file.write_all_at(bytes, self.in_file(position)?)
    }

    /// Copies all of `source`, by the kernel where it can, to byte `position` of the image. Returns how many bytes these are.
    ///
    /// # Errors
    /// As the system says, of either file.
    pub(crate) fn copy_at(&self, position: u64, source: &mut Take<&File>) -> io::Result<u64> {
        self.begin()?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.in_file(position)?))?;
        io::copy(source, &mut file)
    }

    /// Invalidates what is written in place.
    fn begin(&self) -> io::Result<()> {
        if let State::InPlace(begun) = &self.state
            && !begun.swap(true, Ordering::Relaxed)
        {
            // Half of this image under the superblock of the one before would pass for a whole one.
            let superblock = self.in_file(SUPERBLOCK_OFFSET)?;
            self.file.write_all_at(&[0; SUPERBLOCK_SIZE], superblock)?;
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// The first `length` bytes of the image, to be read before it has a name.
    ///
    /// # Errors
    /// As the system says.
    pub(crate) fn unpublished(&self, length: u64) -> io::Result<Arc<dyn ByteSource>> {
        Ok(Arc::new(Unpublished {
            file: self.file.try_clone()?,
            start: self.offset,
            length,
        }))
    }

    fn in_file(&self, position: u64) -> io::Result<u64> {
        position
            .checked_add(self.offset)
            .ok_or_else(|| io::ErrorKind::FileTooLarge.into())
    }

    /// Cuts the image to `length` and syncs it, unless its name passes: what can fail of [`Self::publish`] but for the name.
    ///
    /// # Errors
    /// As the system says.
    pub fn settle(&self, length: u64) -> io::Result<()> {
        if !matches!(self.state, State::InPlace(_)) {
            self.file.set_len(self.in_file(length)?)?;
        }
        match self.durable {
            true => self.file.sync_all(),
            false => Ok(()),
        }
    }

    /// Cuts the image to `length` and gives it its final name, which both are synced unless its name passes.
    ///
    /// # Errors
    /// As the system says; the target then is as it was before.
    pub fn publish(mut self, length: u64) -> io::Result<()> {
        self.settle(length)?;
        match std::mem::replace(&mut self.state, State::Published) {
            State::InPlace(_) => return Ok(()),
            State::Nameless => {
                let source = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                let (beside, ()) = with_free_name(&self.target, |beside| {
                    rustix::fs::linkat(CWD, &source, CWD, beside, AtFlags::SYMLINK_FOLLOW)
                        .map_err(io::Error::from)
                })?;
                rename(&beside, &self.target)?;
            }
            State::Beside(beside) => rename(&beside, &self.target)?,
            State::Published => {}
        }
        if !self.durable {
            return Ok(());
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

/// Makes something under the first name beside the target that is free: a process that was killed may have left some, and
/// in containers the next one often has the same id.
fn with_free_name<T>(
    target: &Path,
    mut make: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<(PathBuf, T)> {
    const MOST: u32 = 1000;
    let mut number = 0;
    loop {
        let name = temporary_name(target, number);
        match make(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < MOST => {
                number += 1;
            }
            made => return made.map(|made| (name, made)),
        }
    }
}

/// Temporary name number `number` of this process beside the target.
fn temporary_name(target: &Path, number: u32) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    let own = target.file_name().unwrap_or_default();
    // 255 bytes are the limit of a name: a long one is cut, the process id keeps it apart.
    name.push(std::ffi::OsStr::from_bytes(
        own.as_bytes().get(..200).unwrap_or(own.as_bytes()),
    ));
    name.push(format!(".{}.{number}.tmp", std::process::id()));
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
        let beside = temporary_name(&target, 0);
        let file = File::create_new(&beside).unwrap();
        drop(Output {
            file,
            offset: 0,
            target: target.clone(),
            durable: true,
            state: State::Beside(beside.clone()),
        });
        assert!(names(directory.path()).is_empty());
        let file = File::create_new(&beside).unwrap();
        let output = Output {
            file,
            offset: 0,
            target: target.clone(),
            durable: true,
            state: State::Beside(beside),
        };
        output.publish(3).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), [0; 3]);
    }

    #[test]
    fn one_name_is_known_however_it_is_spelled() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::os::unix::fs::symlink(".", path("link")).unwrap();
        std::os::unix::fs::symlink("b", path("to-b")).unwrap();
        std::fs::write(path("b"), "").unwrap();
        let outputs = ["a", "link/a", "b", "to-b"].map(|name| Output::create(&path(name)).unwrap());
        let [a, same_a, b, same_b] = &outputs;
        assert!(a.has_name_of(same_a).unwrap() && b.has_name_of(same_b).unwrap());
        assert!(!a.has_name_of(b).unwrap() && !b.has_name_of(same_a).unwrap());
    }

    #[test]
    fn names_that_are_taken_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("image");
        let left = temporary_name(&target, 0);
        std::fs::write(&left, b"left").unwrap();
        let output = Output::create(&target).unwrap();
        output.write_at(0, b"new").unwrap();
        output.publish(3).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(std::fs::read(&left).unwrap(), b"left");
        let taken = with_free_name(&target, |name| File::create_new(name)).unwrap();
        assert_eq!(taken.0, temporary_name(&target, 1));
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
