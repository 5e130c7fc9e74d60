//! What a container writes that may not write as much as there is room for: an ext4 filesystem of that size in a sparse file,
//! mounted on the folder of the snapshot, so that upper and work directory lie in it under the same names as without.

use crate::config::{Quota, Size};
use crate::error::Error;
use crate::fault::{self, Step};
use crate::mapped;
use crate::metadata::{Labels, Number, Snapshot};
use crate::snapshotter::Snapshotter;
use crate::store::{RootDirectory, remove_all, usage};
use erofs_mount::ext4;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// Label with the bytes of one snapshot, as containerd has it (`LabelSnapshotMaxSize`); sizes with units are understood too.
const MAX_SIZE: &str = "containerd.io/snapshot/max-size";

/// From how many bytes on mkfs.ext4 would make a journal of more than [`JOURNAL`].
const LARGE: u64 = 1 << 30;
/// MiB of such a filesystem's journal. All of it is written in time, so it takes the host's disk for each container.
const JOURNAL: &str = "size=16";

/// What mkfs.ext4 is told: whatever is zeros in a sparse file already is not written, so that it takes no time and no room (4 MiB of
/// 10 GiB would be for growing later), and nothing is kept for root, who the container is.
const OPTIONS: [&str; 11] = [
    "-q",
    "-F",
    "-b4096",
    "-i16384",
    "-I256",
    "-m0",
    "-O",
    "^resize_inode",
    "-eremount-ro",
    "-E",
    "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
];

/// Bytes that a snapshot may write, if its labels or else the configuration limit them.
///
/// # Errors
/// [`Error::Argument`] where the label is no such size.
pub(crate) fn quota(default: Quota, labels: &Labels) -> Result<Option<u64>, Error> {
    let Some(text) = labels.get(MAX_SIZE) else {
        return Ok(default.limit());
    };
    let wrong = |reason| Error::Argument(format!("label {MAX_SIZE}: {reason}"));
    let quota = text
        .parse::<Size>()
        .and_then(Quota::try_from)
        .map_err(wrong)?;
    match quota.limit() {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(wrong("0 would be no limit".to_owned())),
    }
}

/// Makes an empty filesystem of so many bytes.
fn format(image: &Path, bytes: u64) -> Result<(), Error> {
    let made = File::create_new(image).and_then(|file| file.set_len(bytes));
    made.map_err(Error::file("making", image))?;
    let failed = |reason: String| Error::Format {
        path: image.to_path_buf(),
        reason,
    };
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(OPTIONS).stdin(Stdio::null()).env("LC_ALL", "C");
    if bytes >= LARGE {
        mkfs.args(["-J", JOURNAL]);
    }
    let output = match mkfs.arg(image).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(failed(
                "a quota needs this program: install e2fsprogs".to_owned(),
            ));
        }
        output => output.map_err(|error| failed(error.to_string()))?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false if said.contains("No space left") => Err(Error::file("formatting", image)(
            io::ErrorKind::StorageFull.into(),
        )),
        false => Err(failed(said.trim().to_owned())),
    }
}

/// Whether something is mounted on a folder.
fn is_mounted(folder: &Path) -> io::Result<bool> {
    let parent = folder.parent().unwrap_or(folder);
    Ok(fs::metadata(folder)?.dev() != fs::metadata(parent)?.dev())
}

impl Snapshotter {
    /// Makes the folder of a snapshot and what is in it.
    ///
    /// # Errors
    /// [`Error`]; what is there by then goes with the snapshot.
    pub(crate) fn make_folder(
        &self,
        key: &str,
        snapshot: &Snapshot,
        root: RootDirectory,
    ) -> Result<(), Error> {
        let number = snapshot.number;
        self.folders.with(number, |()| {
            self.check_there(key, snapshot)?;
            if snapshot.quota.is_none() && self.take_folder(number, root) {
                return Ok(());
            }
            self.store.make_snapshot(number)?;
            match snapshot.quota {
                None => self.store.make_directories(number, root),
                Some(bytes) => self.make_writable(number, bytes, root),
            }
        })
    }

    fn make_writable(&self, number: Number, bytes: u64, root: RootDirectory) -> Result<(), Error> {
        let draft = self.store.writable_draft(number);
        let folder = self.store.snapshot(number);
        format(&draft, bytes)?;
        fault::at(Step::WritableFormatted)?;
        ext4::mount(&draft, &folder)?;
        fault::at(Step::WritableMounted)?;
        let private = Permissions::from_mode(0o700);
        fs::set_permissions(&folder, private).map_err(Error::file("making", &folder))?;
        self.store.make_directories(number, root)?;
        // Its name says that all is there. It lasts as the folder of any other snapshot does: nothing is synced.
        let image = self.store.writable(number);
        fs::rename(draft, &image).map_err(Error::file("making", &image))
    }

    /// Mounts the filesystem of a snapshot, if it has one, and unless it is: after the machine was started anew.
    ///
    /// # Errors
    /// [`Error::Writable`], [`Error::File`]; [`Error::NotFound`] where it was removed.
    pub(crate) fn mount_writable(&self, key: &str, snapshot: &Snapshot) -> Result<(), Error> {
        if snapshot.quota.is_none() {
            return Ok(());
        }
        let image = self.store.writable(snapshot.number);
        let folder = self.store.snapshot(snapshot.number);
        self.folders.with(snapshot.number, |()| {
            self.check_there(key, snapshot)?;
            match is_mounted(&folder).map_err(Error::file("looking at", &folder))? {
                true => Ok(()),
                false => Ok(ext4::mount(&image, &folder)?),
            }
        })
    }

    /// Whether a snapshot has all that it is prepared with.
    pub(crate) fn is_made(&self, snapshot: &Snapshot) -> bool {
        match snapshot.quota {
            Some(_) => self.store.writable(snapshot.number).exists(),
            None => self.store.upper(snapshot.number).is_dir(),
        }
    }

    /// Bytes on disk and inodes of what was written to an active snapshot. Those of a filesystem of its own are those of its
    /// file: its metadata and journal too.
    ///
    /// # Errors
    /// As [`Snapshotter::mount_writable`].
    pub(crate) fn written(&self, key: &str, snapshot: &Snapshot) -> Result<(u64, u64), Error> {
        self.mount_writable(key, snapshot)?;
        let (bytes, inodes) = usage(&self.store.upper(snapshot.number))?;
        match snapshot.quota {
            Some(_) => Ok((self.folder_size(snapshot.number), inodes)),
            None => Ok((bytes, inodes)),
        }
    }

    /// Bytes on disk of the folder of a snapshot, as far as it is there.
    pub(crate) fn folder_size(&self, number: Number) -> u64 {
        // What is mounted on it is not on the disk twice.
        match usage(&self.store.writable(number)) {
            Ok((bytes @ 1.., _)) => bytes,
            _ => usage(&self.store.snapshot(number)).unwrap_or_default().0,
        }
    }

    /// Throws away what only a snapshot has that is removed or committed. A container that still runs keeps what it writes to.
    ///
    /// # Errors
    /// [`Error::Unmount`], [`Error::Writable`], [`Error::File`].
    pub(crate) fn remove_folder(&self, number: Number) -> Result<(), Error> {
        self.folders.with(number, |()| {
            mapped::hide(&self.store.mapped(number))?;
            let folder = self.store.snapshot(number);
            // Nothing is mounted on what is not there.
            if is_mounted(&folder).unwrap_or(false) {
                ext4::unmount(&folder)?;
                fault::at(Step::CleanupWritable)?;
            }
            if self.keep_folder(number) {
                return Ok(());
            }
            let image = self.store.writable(number);
            for path in [self.store.writable_draft(number), image, folder] {
                remove_all(&path).map_err(Error::file("removing", &path))?;
            }
            Ok(())
        })
    }
}
