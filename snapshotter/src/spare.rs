//! Folders of snapshots to which layers were unpacked, kept for snapshots to come: nothing was written to them, and to give one
//! another name takes a filesystem less than to remove three folders and to make three others.

use crate::error::Error;
use crate::metadata::Number;
use crate::snapshotter::Snapshotter;
use crate::store::{RootDirectory, remove_all};
use rustix::fs::llistxattr;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Most that are kept.
const MOST: usize = 16;

/// The numbers that they had.
#[derive(Debug, Default)]
pub(crate) struct Spares(Mutex<Vec<Number>>);

impl Spares {
    fn take(&self) -> Option<Number> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Adds one, which `make` makes, where there is room.
    fn add(&self, number: Number, make: impl FnOnce() -> Result<(), Error>) -> bool {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_added = spares.len() < MOST && make().is_ok();
        if is_added {
            spares.push(number);
        }
        is_added
    }
}

impl Snapshotter {
    /// Keeps the folder of a removed snapshot if a layer was applied to it, so that nobody mounted it, it is as when it was made, and
    /// few are kept. Returns whether it is.
    pub(crate) fn keep_folder(&self, number: Number) -> bool {
        let folder = self.store.snapshot(number);
        self.store.is_applied(number)
            && is_new(&folder).unwrap_or(false)
            && self.spares.add(number, || {
                self.store.unmark_applied(number)?;
                fs::rename(&folder, self.store.spare(number))
                    .map_err(Error::file("keeping", &folder))
            })
    }

    /// Gives a snapshot a folder that was kept. Returns whether there was one: what became of it meanwhile is no reason to fail.
    pub(crate) fn take_folder(&self, number: Number, root: RootDirectory) -> bool {
        let Some(spare) = self.spares.take() else {
            return false;
        };
        let spare = self.store.spare(spare);
        let folder = self.store.snapshot(number);
        // What is left of a number that was given and not kept.
        let taken = remove_all(&folder)
            .and_then(|()| root.give(&spare.join("fs")))
            .and_then(|()| fs::rename(&spare, &folder));
        if let Err(error) = &taken {
            tracing::debug!(path = %spare.display(), %error, "a folder that was kept is of no use");
            // Else it goes at the next start.
            let _ = remove_all(&spare);
        }
        taken.is_ok()
    }
}

/// Whether a folder holds two empty ones, and nothing was ever mounted over them.
fn is_new(folder: &Path) -> io::Result<bool> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_empty = entry.file_type()?.is_dir() && fs::read_dir(entry.path())?.next().is_none();
        // What containers see of it beside its owner and mode.
        if !is_empty || llistxattr(entry.path(), &mut [0_u8; 0])? > 0 {
            return Ok(false);
        }
        names.push(entry.file_name());
    }
    names.sort_unstable();
    Ok(names == ["fs", "work"])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::config::Config;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn folders_are_kept_unless_something_is_in_them() {
        let place = tempfile::tempdir().unwrap();
        let config = Config {
            root: place.path().join("root"),
            ..Config::default()
        };
        let snapshotter = Snapshotter::open(&config, |_| Err("no FUSE".into())).unwrap();
        let store = &snapshotter.store;
        let made = |number: u64| {
            let number = Number(number);
            store.make_snapshot(number).unwrap();
            store
                .make_directories(number, RootDirectory::default())
                .unwrap();
            (number, store.snapshot(number))
        };
        assert!(!snapshotter.take_folder(Number(99), RootDirectory::default()));
        type Change = fn(&Path);
        let changes: [Change; 5] = [
            |folder| fs::write(folder.join("fs/file"), "").unwrap(),
            |folder| fs::create_dir(folder.join("work/work")).unwrap(),
            |folder| symlink("x", folder.join("other")).unwrap(),
            |folder| fs::remove_dir(folder.join("work")).unwrap(),
            |folder| {
                fs::remove_dir(folder.join("work")).unwrap();
                fs::write(folder.join("work"), "").unwrap();
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let (number, folder) = made(number as u64);
            change(&folder);
            store.mark_applied(number).unwrap();
            assert!(!snapshotter.keep_folder(number), "{number:?}");
            assert!(folder.exists());
        }
        let (number, _) = made(9);
        assert!(!snapshotter.keep_folder(number), "it may be mounted");

        let (number, folder) = made(10);
        store.mark_applied(number).unwrap();
        let inode = folder.join("fs").metadata().unwrap().ino();
        assert!(snapshotter.keep_folder(number) && !folder.exists());
        let root = RootDirectory {
            owner: 1,
            group: 2,
            mode: 0o1711,
        };
        let (number, folder) = (Number(11), store.snapshot(Number(11)));
        assert!(snapshotter.take_folder(number, root));
        assert!(!store.is_applied(number));
        let upper = folder.join("fs").metadata().unwrap();
        assert_eq!(
            (upper.ino(), upper.uid(), upper.gid(), upper.mode() & 0o7777),
            (inode, 1, 2, 0o1711)
        );
        assert!(!snapshotter.take_folder(Number(12), root), "there was one");

        // Somebody threw one away.
        let (number, _) = made(13);
        store.mark_applied(number).unwrap();
        assert!(snapshotter.keep_folder(number));
        fs::remove_dir_all(store.spare(number)).unwrap();
        assert!(!snapshotter.take_folder(Number(14), root));

        for number in 20..=20 + MOST as u64 {
            let (number, _) = made(number);
            store.mark_applied(number).unwrap();
            let is_room = number.0 < 20 + MOST as u64;
            assert_eq!(snapshotter.keep_folder(number), is_room);
        }
        // The next process does not know of them.
        snapshotter.store.clear_ingest().unwrap();
        assert_eq!(
            fs::read_dir(place.path().join("root/spare"))
                .unwrap()
                .count(),
            0
        );
    }
}
