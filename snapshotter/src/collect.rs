//! Throwing away what nothing needs: at the start, and when `erofs snapshotter gc` asks for it while others work.

use crate::api::operator::CollectResponse;
use crate::error::Error;
use crate::fault::{self, Step};
use crate::metadata::{Number, State};
use crate::snapshotter::Snapshotter;
use crate::store::{remove_sealed, usage};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::PoisonError;

fn tell(cleared: Result<(), Error>) {
    if let Err(error) = cleared {
        tracing::warn!(%error, "clearing up");
    }
}

impl Snapshotter {
    /// Throws away all that no snapshot needs: what was removed, unused layers, and what belongs to nothing.
    ///
    /// # Errors
    /// [`Error`]; what was thrown away by then is gone.
    pub(crate) fn collect(&self) -> Result<CollectResponse, Error> {
        let mut collected = self.evict(0)?;
        self.cleanup()?;
        let strays = self.remove_strays()?;
        collected.strays += strays.strays;
        collected.bytes += strays.bytes;
        Ok(collected)
    }

    /// Throws away what a process left that ended early. What cannot be thrown away is told and left: the rest is served.
    pub(crate) fn sweep(&self) {
        self.give_up();
        tell(self.remove_strays().map(drop));
        tell(self.evict(self.cache.size.0).map(drop));
        tell(self.clear_points());
    }

    /// Removes mount points at which nothing is mounted, as after a start of the machine.
    fn clear_points(&self) -> Result<(), Error> {
        let mut result = Ok(());
        for number in self.store.mount_points()? {
            let point = self.store.mount_point(number);
            result = result.and(self.mounts.clear(number, &point));
        }
        result
    }

    /// Throws away what a process was making when it ended. Nobody may serve.
    pub(crate) fn give_up(&self) {
        let cleared = self.store.clear_ingest();
        tell(cleared.and_then(|()| fault::at(Step::StartIngest)));
        tell(self.remove_unmade());
    }

    /// Snapshots without folders: these were being prepared, so nobody knows of them.
    fn remove_unmade(&self) -> Result<(), Error> {
        let mut unmade = Vec::new();
        self.metadata.walk(|key, snapshot| {
            let has_folder = snapshot.state != State::Committed && Self::has_folder(&snapshot);
            if has_folder && !self.is_made(&snapshot) {
                unmade.push(key.to_owned());
            }
            Ok(())
        })?;
        let mut result = Ok(());
        for key in unmade {
            result = result.and(self.metadata.remove(&key, false).map(drop));
        }
        result
    }

    /// Throws away files and mounts of which the database knows nothing. Files are looked for before their records: what is
    /// being made has one of these from the start, or gets its name while `names` is held.
    ///
    /// # Errors
    /// The first [`Error`]; everything else is thrown away all the same.
    fn remove_strays(&self) -> Result<CollectResponse, Error> {
        let mut removed = CollectResponse::default();
        let mut result = Ok(());
        let _held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut folders = self.store.snapshots()?;
        folders.extend(self.store.all_mapped()?);
        folders.extend(self.store.writables()?);
        let points = self.store.mount_points()?;
        let files = self.store.layer_files()?;
        let (mut numbers, mut merged) = (HashSet::new(), HashSet::new());
        self.metadata.walk(|_, snapshot| {
            // A committed snapshot is its layer.
            if snapshot.state != State::Committed {
                numbers.insert(snapshot.number);
            }
            merged.extend(snapshot.merged);
            Ok(())
        })?;
        let layers = self.metadata.layers()?;
        for number in folders.difference(&numbers) {
            let bytes = self.folder_size(*number);
            let gone = self.remove_folder(*number);
            if gone.is_ok() {
                removed.strays += 1;
                removed.bytes += bytes;
            }
            result = result.and(gone);
        }
        fault::at(Step::StartFolders)?;
        let known: HashSet<Number> = layers
            .iter()
            .map(|(number, _)| number)
            .chain(&merged)
            .copied()
            .collect();
        for number in points.difference(&known) {
            let point = self.store.mount_point(*number);
            result = result.and(self.mounts.unmount(*number, &point));
        }
        fault::at(Step::StartMounts)?;
        let mut known: HashSet<PathBuf> = merged
            .iter()
            .map(|number| self.store.merged(*number))
            .collect();
        for (number, layer) in &layers {
            known.extend(self.store.files(*number, layer)?);
        }
        for file in files.difference(&known) {
            let (bytes, _) = usage(file).unwrap_or_default();
            let gone = remove_sealed(file).map_err(Error::file("removing", file));
            if gone.is_ok() {
                removed.strays += 1;
                removed.bytes += bytes;
            }
            result = result.and(gone);
        }
        fault::at(Step::StartImages)?;
        result.map(|()| removed)
    }
}
