//! Where everything lies below the root folder.
//!
//! ```text
//! metadata.redb                       what is known
//! metadata.journal                    what is known and not synced yet
//! layers/sha256/<2 hex>/<hex>.erofs   layers, by the digest of their uncompressed tar
//! layers/sha256/<2 hex>/<hex>.tar     that tar, where the layer is an index over it
//! layers/local/<number>.erofs         layers that came from no blob
//! merged/<number>.erofs               metadata over all layers of an image
//! ingest/                             layers that are being written
//! snapshots/<number>                  has its sticky bit once a layer was applied
//! snapshots/<number>/fs, work         upper and work directory of an active snapshot
//! spare/<number>                      a folder that was one of a snapshot, for another one
//! writable/<number>.ext4              filesystem that is mounted on its folder, where it has a quota
//! i/<number>/<index>                  where layers are shown to a snapshot with other owners
//! m/<number>                          where a layer is mounted: short, since 128 of them make a mount option
//! ```

use crate::error::Error;
use crate::fault::{self, Step};
use crate::metadata::{Form, Layer, Number};
use rustix::fs::{
    AtFlags, CWD, IFlags, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, ioctl_getflags,
    ioctl_setflags, utimensat,
};
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Whose a root directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RootDirectory {
    pub(crate) owner: u32,
    pub(crate) group: u32,
    pub(crate) mode: u32,
}

impl RootDirectory {
    /// Gives a directory this owner and mode, and makes it one that was just made.
    pub(crate) fn give(self, directory: &Path) -> io::Result<()> {
        let Self { owner, group, mode } = self;
        chown(directory, Some(owner), Some(group))?;
        fs::set_permissions(directory, Permissions::from_mode(mode))?;
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        Ok(utimensat(CWD, directory, &times, AtFlags::empty())?)
    }
}

impl Default for RootDirectory {
    fn default() -> Self {
        Self {
            owner: 0,
            group: 0,
            mode: 0o755,
        }
    }
}

/// What no path may have that is an option of a mount, or a template for one (`{{`, with `mode = "delegate"`).
const SEPARATORS: [&str; 4] = [":", ",", "\\", "{{"];

/// The database.
pub(crate) const DATABASE: &str = "metadata.redb";
/// Folder of layers by digest.
const LAYERS: &str = "layers/sha256";
/// Folder of layers without.
const LOCAL: &str = "layers/local";
/// Folder of images that were merged.
const MERGED: &str = "merged";
/// Folder of filesystems to which snapshots are written.
const WRITABLE: &str = "writable";
/// Folder of folders that are kept for snapshots to come.
const SPARE: &str = "spare";
/// Bit of the mode of a snapshot's folder that says that a layer was applied to it: a file would take the filesystem longer.
const APPLIED: u32 = 0o1000;
/// Bytes from which on a file is synced before it gets its name, and again then.
pub(crate) const LARGE: u64 = 1 << 20;

/// The folders of a snapshotter.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
}

/// A digest `sha256:<64 hex>` whose hexadecimal part may be a file's name.
///
/// # Errors
/// [`Error::Argument`] for anything else.
pub(crate) fn sha256(digest: &str) -> Result<&str, Error> {
    digest
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64)
        .filter(|hex| hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        .ok_or_else(|| {
            Error::Argument(format!(
                "digest {digest:?}: only sha256 with 64 hexadecimal digits is known"
            ))
        })
}

/// Looks whether a folder may stand in the options of overlay mounts as containerd and its clients take them apart: by
/// colons and commas, without a way to say that one is part of a name.
///
/// # Errors
/// [`Error::Root`].
fn check_root(root: &Path) -> Result<(), Error> {
    let reason = match root.to_str() {
        Some("") => "is empty".to_owned(),
        None => "is not UTF-8, as what containerd is told must be".to_owned(),
        Some(text) => match SEPARATORS.into_iter().find(|part| text.contains(part)) {
            Some(part) => format!("has {part:?}, which ends a name in the options of a mount"),
            None => return Ok(()),
        },
    };
    Err(Error::Root {
        path: root.to_path_buf(),
        reason,
    })
}

impl Store {
    /// Makes what is not there yet; only root may look inside.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Root`].
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let make = |name: &str| {
            let folder = root.join(name);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(Error::file("making", &folder))
        };
        check_root(root)?;
        make("")?;
        // As the mount table has it.
        let root = root
            .canonicalize()
            .map_err(Error::file("looking for", root))?;
        check_root(&root)?;
        let folders = [LAYERS, LOCAL, MERGED, WRITABLE, "ingest", "snapshots"];
        let mut folders = folders.into_iter().chain([SPARE, "i", "m"]);
        folders.try_for_each(make)?;
        // Each synced by itself would cost every layer that.
        (0..=u8::MAX).try_for_each(|first| make(&format!("{LAYERS}/{first:02x}")))?;
        Ok(Self { root })
    }

    /// Makes the folders and the database's name survive a loss of power: also folders that a process made which then died.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn sync(&self) -> Result<(), Error> {
        for folder in ["", "layers", LAYERS, LOCAL, MERGED] {
            let folder = self.root.join(folder);
            sync(&folder).map_err(Error::file("syncing", &folder))?;
        }
        Ok(())
    }

    /// The folder of everything.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where layers are written.
    pub(crate) fn ingest_folder(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join(DATABASE)
    }

    /// What is not synced in the database yet.
    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("metadata.journal")
    }

    /// A layer or merged image that is about to be written.
    pub(crate) fn draft(&self, number: Number) -> Draft {
        Draft {
            store: self.clone(),
            is_synced: false,
            number,
        }
    }

    /// The image of a layer.
    ///
    /// # Errors
    /// [`Error::Argument`] where the database holds a digest that is none.
    pub(crate) fn layer(&self, number: Number, layer: &Layer) -> Result<PathBuf, Error> {
        let name = match &layer.digest {
            None => format!("{LOCAL}/{}.erofs", number.0),
            Some(digest) => {
                let hex = sha256(digest)?;
                let (first, _) = hex.split_at(2);
                format!("{LAYERS}/{first}/{hex}.erofs")
            }
        };
        Ok(self.root.join(name))
    }

    /// The image that was merged of layers.
    pub(crate) fn merged(&self, number: Number) -> PathBuf {
        self.root.join(format!("{MERGED}/{}.erofs", number.0))
    }

    /// The tar that a layer is an index over.
    ///
    /// # Errors
    /// As [`Store::layer`].
    pub(crate) fn tar(&self, number: Number, layer: &Layer) -> Result<Option<PathBuf>, Error> {
        Ok(match layer.form {
            Form::Index => Some(self.layer(number, layer)?.with_extension("tar")),
            Form::Converted | Form::Native => None,
        })
    }

    /// All files of a layer, the image first.
    ///
    /// # Errors
    /// As [`Store::layer`].
    pub(crate) fn files(&self, number: Number, layer: &Layer) -> Result<Vec<PathBuf>, Error> {
        let image = self.layer(number, layer)?;
        Ok([image]
            .into_iter()
            .chain(self.tar(number, layer)?)
            .collect())
    }

    /// Gives the files of a layer their names, for ever. The image comes last.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn publish(&self, draft: &Draft, layer: &Layer) -> Result<(), Error> {
        if let Some(tar) = self.tar(draft.number, layer)? {
            self.name(draft, &draft.tar(), &tar)?;
        }
        self.name(draft, &draft.image(), &self.layer(draft.number, layer)?)
    }

    /// Gives an image that was merged its name.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn publish_merged(&self, draft: &Draft) -> Result<(), Error> {
        self.name(draft, &draft.image(), &self.merged(draft.number))
    }

    /// Gives a file its name and syncs both. The name comes first, since nothing is recorded of it yet: a filesystem with a
    /// journal then writes that once.
    fn name(&self, draft: &Draft, ingest: &Path, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::File {
            what: "publishing",
            path: path.to_path_buf(),
            source,
        };
        let folder = path.parent().unwrap_or(&self.root);
        unseal(path).map_err(failed)?;
        fs::rename(ingest, path).map_err(failed)?;
        fault::at(Step::LayerNamed)?;
        let synced = match draft.is_synced {
            true => Ok(()),
            false => File::open(path).and_then(|file| file.sync_all()),
        };
        synced.and_then(|()| sync(folder)).map_err(failed)
    }

    pub(crate) fn snapshot(&self, number: Number) -> PathBuf {
        self.root.join(format!("snapshots/{}", number.0))
    }

    /// The upper directory of an active snapshot; what a view without parents shows.
    pub(crate) fn upper(&self, number: Number) -> PathBuf {
        self.snapshot(number).join("fs")
    }

    pub(crate) fn work(&self, number: Number) -> PathBuf {
        self.snapshot(number).join("work")
    }

    /// The filesystem to which a snapshot with a quota is written.
    pub(crate) fn writable(&self, number: Number) -> PathBuf {
        self.root.join(format!("{WRITABLE}/{}.ext4", number.0))
    }

    /// Such a filesystem while it is being made.
    pub(crate) fn writable_draft(&self, number: Number) -> PathBuf {
        self.root.join(format!("ingest/{}.ext4", number.0))
    }

    /// Snapshots for which there is such a filesystem.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn writables(&self) -> Result<HashSet<Number>, Error> {
        numbers(&self.root.join(WRITABLE))
    }

    /// Notes that a layer is applied to a snapshot: its upper directory then is not what it holds.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn mark_applied(&self, number: Number) -> Result<(), Error> {
        self.set_mode(number, 0o700 | APPLIED)
    }

    /// Takes that back.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn unmark_applied(&self, number: Number) -> Result<(), Error> {
        self.set_mode(number, 0o700)
    }

    fn set_mode(&self, number: Number, mode: u32) -> Result<(), Error> {
        let folder = self.snapshot(number);
        fs::set_permissions(&folder, Permissions::from_mode(mode))
            .map_err(Error::file("marking", &folder))
    }

    /// Whether a layer was applied to a snapshot.
    pub(crate) fn is_applied(&self, number: Number) -> bool {
        let folder = fs::metadata(self.snapshot(number));
        folder.is_ok_and(|folder| folder.mode() & APPLIED != 0)
    }

    /// Where the folder of a snapshot with this number is kept for another one.
    pub(crate) fn spare(&self, number: Number) -> PathBuf {
        self.root.join(format!("{SPARE}/{}", number.0))
    }

    /// Below which layers are mounted.
    pub(crate) fn mount_points_folder(&self) -> PathBuf {
        self.root.join("m")
    }

    /// Where a layer is mounted.
    pub(crate) fn mount_point(&self, number: Number) -> PathBuf {
        self.root.join(format!("m/{}", number.0))
    }

    /// Where layers are shown with the owners of a snapshot, each under its place from the top.
    pub(crate) fn mapped(&self, number: Number) -> PathBuf {
        self.root.join(format!("i/{}", number.0))
    }

    /// Snapshots for which layers are shown with other owners.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn all_mapped(&self) -> Result<HashSet<Number>, Error> {
        numbers(&self.root.join("i"))
    }

    /// The snapshot for which a layer is shown here with other owners, and its place from the top.
    pub(crate) fn place_of_mapped(&self, path: &Path) -> Option<(Number, usize)> {
        let place: usize = path.file_name()?.to_str()?.parse().ok()?;
        let snapshot = path.parent()?.file_name()?.to_str()?;
        let snapshot = snapshot.parse().ok().map(Number)?;
        (self.mapped(snapshot).join(place.to_string()) == path).then_some((snapshot, place))
    }

    /// The snapshot whose upper directory this is.
    pub(crate) fn snapshot_of_upper(&self, path: &Path) -> Option<Number> {
        let rest = path.strip_prefix(self.root.join("snapshots")).ok()?;
        let number = rest.parent()?.to_str()?.parse().ok().map(Number)?;
        (self.upper(number) == path).then_some(number)
    }

    /// The layer or merged image whose mount point this is.
    pub(crate) fn image_of_mount_point(&self, path: &Path) -> Option<Number> {
        let number = path.file_name()?.to_str()?.parse().ok().map(Number)?;
        (self.mount_point(number) == path).then_some(number)
    }

    /// Makes the folder of a snapshot.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn make_snapshot(&self, number: Number) -> Result<(), Error> {
        let folder = self.snapshot(number);
        let failed = |source| Error::File {
            what: "making",
            path: folder.clone(),
            source,
        };
        // What is left of a number that was given and not kept.
        remove_all(&folder).map_err(failed)?;
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(failed)?;
        fault::at(Step::PrepareFolder)
    }

    /// Makes upper and work directory in the folder of a snapshot. What is written to shows the root directory of what it lies
    /// over.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn make_directories(
        &self,
        number: Number,
        root: RootDirectory,
    ) -> Result<(), Error> {
        let folder = self.snapshot(number);
        let failed = |source| Error::File {
            what: "making",
            path: folder.clone(),
            source,
        };
        DirBuilder::new()
            .mode(0o711)
            .create(self.work(number))
            .map_err(failed)?;
        let upper = self.upper(number);
        DirBuilder::new().create(&upper).map_err(failed)?;
        root.give(&upper).map_err(failed)
    }

    /// Numbers for which there is a folder of a snapshot.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn snapshots(&self) -> Result<HashSet<Number>, Error> {
        numbers(&self.root.join("snapshots"))
    }

    /// Numbers for which there is a mount point.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn mount_points(&self) -> Result<HashSet<Number>, Error> {
        numbers(&self.mount_points_folder())
    }

    /// What is being written, or was when the process ended.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn ingested(&self) -> Result<Vec<PathBuf>, Error> {
        let folder = self.root.join("ingest");
        fs::read_dir(&folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .map_err(Error::file("reading", &folder))
    }

    /// Throws away what was being written, or kept for snapshots to come, when the process ended.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn clear_ingest(&self) -> Result<(), Error> {
        let spares = numbers(&self.root.join(SPARE))?;
        let spares = spares.into_iter().map(|number| self.spare(number));
        for path in self.ingested()?.into_iter().chain(spares) {
            remove_all(&path).map_err(Error::file("removing", &path))?;
        }
        Ok(())
    }

    /// All files of layers, and images that were merged of them.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn layer_files(&self) -> Result<HashSet<PathBuf>, Error> {
        let mut files = HashSet::new();
        let mut folders = vec![self.root.join("layers"), self.root.join(MERGED)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(Error::file("reading", &folder))? {
                let entry = entry.map_err(Error::file("reading", &folder))?;
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    _ => {
                        files.insert(entry.path());
                    }
                }
            }
        }
        Ok(files)
    }
}

/// A layer that is being written. Its files are gone when this is, unless they were published.
#[derive(Debug)]
pub(crate) struct Draft {
    store: Store,
    /// Whether its files are synced as a whole.
    is_synced: bool,
    pub(crate) number: Number,
}

impl Draft {
    fn path(&self, extension: &str) -> PathBuf {
        let name = format!("ingest/{}.{extension}", self.number.0);
        self.store.root.join(name)
    }

    /// Where its image is written.
    pub(crate) fn image(&self) -> PathBuf {
        self.path("erofs")
    }

    /// Where the tar is written, if its image is an index over one.
    pub(crate) fn tar(&self) -> PathBuf {
        self.path("tar")
    }

    /// Syncs files of so many bytes and more.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn sync(&mut self, least: u64) -> Result<(), Error> {
        if self.is_synced {
            return Ok(());
        }
        for path in [self.image(), self.tar()] {
            let written = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
                Ok(file) if file.metadata().is_ok_and(|file| file.len() < least) => Ok(()),
                Ok(file) => file.sync_all(),
            };
            written.map_err(Error::file("writing", &path))?;
        }
        self.is_synced = least == 0;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        for path in [self.image(), self.tar()] {
            // What is left now goes when the process starts again.
            let _ = remove_all(&path);
        }
    }
}

fn numbers(folder: &Path) -> Result<HashSet<Number>, Error> {
    let mut numbers = HashSet::new();
    for entry in fs::read_dir(folder).map_err(Error::file("reading", folder))? {
        let name = entry.map_err(Error::file("reading", folder))?.file_name();
        let name = Path::new(&name).file_stem().and_then(|name| name.to_str());
        numbers.extend(name.and_then(|name| name.parse().ok()).map(Number));
    }
    Ok(numbers)
}

/// Makes the names in a folder survive a loss of power.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes the file of a layer or a folder, if there is one, also when it was sealed.
pub(crate) fn remove_sealed(path: &Path) -> io::Result<()> {
    unseal(path)?;
    remove_all(path)
}

/// Lets a file be replaced or removed again.
fn unseal(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) else {
        return Ok(());
    };
    // Filesystems without flags have none that are in the way.
    match ioctl_getflags(&file) {
        Ok(flags) if flags.contains(IFlags::IMMUTABLE) => {
            Ok(ioctl_setflags(&file, flags - IFlags::IMMUTABLE)?)
        }
        _ => Ok(()),
    }
}

/// Removes a file or a folder with everything in it, if there is one.
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Bytes on disk and inodes of a folder and all that is in it. What vanishes meanwhile does not count; what has several
/// names counts once.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn usage(folder: &Path) -> Result<(u64, u64), Error> {
    let (mut size, mut seen) = (0, HashSet::new());
    let mut left = vec![folder.to_path_buf()];
    while let Some(path) = left.pop() {
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::file("looking at", &path)(error)),
        };
        if seen.insert((metadata.dev(), metadata.ino())) {
            size += metadata.blocks() * 512;
        }
        if metadata.is_dir() {
            match fs::read_dir(&path) {
                Ok(entries) => left.extend(entries.filter_map(|entry| Some(entry.ok()?.path()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::file("reading", &path)(error)),
            }
        }
    }
    Ok((size, seen.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    #[test]
    fn folders_that_no_mount_option_can_name_are_refused() {
        let folder = tempfile::tempdir().expect("made");
        for (name, part) in [
            (&b"a:b"[..], "\":\""),
            (b"a,b", "\",\""),
            (b"a\\b", "\"\\\\\""),
            (b"{{a}}", "\"{{\""),
            (b"a\xff", "UTF-8"),
        ] {
            let root = folder.path().join(OsStr::from_bytes(name));
            let error = Store::open(&root).expect_err("refused").to_string();
            let path = root.display().to_string();
            assert!(error.contains(&path) && error.contains(part), "{error}");
            assert!(!root.exists(), "nothing is made");
        }
        // What counts is what the mount table will show.
        let link = folder.path().join("link");
        fs::create_dir(folder.path().join("a:b")).expect("made");
        symlink(folder.path().join("a:b"), &link).expect("made");
        Store::open(&link).expect_err("refused");
        Store::open(&folder.path().join("a b\t\"'%$é")).expect("fine");
    }
}
