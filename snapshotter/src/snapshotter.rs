//! What the services do: snapshots over layers that are images.

use crate::api::types::Mount;
use crate::config::{Config, layer_options};
use crate::error::Error;
use crate::layer_mounts::LayerMounts;
use crate::metadata::{Labels, Layer, Metadata, Number, Removed, Snapshot, State};
use crate::store::{Store, remove_all, usage};
use erofs_mkfs::build::{BuildSource, build};
use erofs_mkfs::source::Whiteouts;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

/// Snapshots and layers below a root folder. Everything here blocks.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    pub(crate) store: Store,
    pub(crate) metadata: Metadata,
    mounts: LayerMounts,
    /// What was removed and is still to be thrown away.
    leavings: Mutex<Vec<Removed>>,
    /// Held while a layer gets its name and its record, or loses them: a layer that is removed may come again.
    names: Mutex<()>,
}

impl Snapshotter {
    /// Opens the root folder and throws away what belongs to nothing.
    ///
    /// # Errors
    /// [`Error`], where the folder or the database cannot be used; a snapshot that is broken is no reason.
    pub(crate) fn open(config: &Config) -> Result<Self, Error> {
        let store = Store::open(&config.root)?;
        let metadata = Metadata::open(&store.database())?;
        let points = store.mount_points()?;
        let points = points
            .into_iter()
            .map(|number| (number, store.mount_point(number)));
        let mounts = LayerMounts::new(points)?;
        let snapshotter = Self {
            store,
            metadata,
            mounts,
            leavings: Mutex::default(),
            names: Mutex::default(),
        };
        snapshotter.sweep()?;
        Ok(snapshotter)
    }

    /// Throws away files and mounts of which the database knows nothing: of a process that ended early.
    fn sweep(&self) -> Result<(), Error> {
        self.store.clear_ingest()?;
        let mut numbers = HashSet::new();
        self.metadata.walk(|_, snapshot| {
            // A committed snapshot is its layer.
            if snapshot.state != State::Committed {
                numbers.insert(snapshot.number);
            }
            Ok(())
        })?;
        for number in self.store.snapshots()? {
            if !numbers.contains(&number) {
                self.remove_folder(number)?;
            }
        }
        let layers = self.metadata.layers()?;
        let known: HashSet<Number> = layers.iter().map(|(number, _)| *number).collect();
        for number in self.store.mount_points()? {
            if !known.contains(&number) {
                self.mounts
                    .unmount(number, &self.store.mount_point(number))?;
            }
        }
        let files = layers
            .iter()
            .map(|(number, layer)| self.store.layer(*number, layer))
            .collect::<Result<HashSet<PathBuf>, _>>()?;
        for file in self.store.layer_files()? {
            if !files.contains(&file) {
                remove_all(&file).map_err(Error::file("removing", &file))?;
            }
        }
        Ok(())
    }

    fn remove_folder(&self, number: Number) -> Result<(), Error> {
        let folder = self.store.snapshot(number);
        remove_all(&folder).map_err(Error::file("removing", &folder))
    }

    /// A new snapshot that is written to, or a view, and how to mount it.
    ///
    /// # Errors
    /// [`Error`]; nothing is left of the snapshot then.
    pub(crate) fn prepare(
        &self,
        key: &str,
        state: State,
        parent: Option<&str>,
        labels: Labels,
    ) -> Result<Vec<Mount>, Error> {
        let snapshot = self.metadata.create(key, state, parent, labels)?;
        let made = self.make(&snapshot);
        if made.is_err() {
            // It may be broken in more than one way; what matters is why it was not made.
            if let Ok(removed) = self.metadata.remove(key) {
                self.leave(removed);
            }
        }
        made
    }

    fn make(&self, snapshot: &Snapshot) -> Result<Vec<Mount>, Error> {
        let lower = self.lower(snapshot)?;
        let below = match lower.first() {
            Some(top) => Some(fs::metadata(top).map_err(Error::file("looking at", top))?),
            None => None,
        };
        // A view over layers has nothing of its own.
        if snapshot.state == State::Active || lower.is_empty() {
            self.store.make_snapshot(snapshot.number, below.as_ref())?;
        }
        Ok(self.overlay(snapshot, &lower))
    }

    /// How to mount a snapshot that is active or a view: always the same.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn mounts(&self, key: &str) -> Result<Vec<Mount>, Error> {
        let snapshot = self.metadata.get(key)?;
        if snapshot.state == State::Committed {
            return Err(Error::State {
                name: key.to_owned(),
                reason: "it is committed; only active snapshots and views are mounted".to_owned(),
            });
        }
        Ok(self.overlay(&snapshot, &self.lower(&snapshot)?))
    }

    /// Where the layers below a snapshot are mounted, the topmost first.
    fn lower(&self, snapshot: &Snapshot) -> Result<Vec<PathBuf>, Error> {
        let mut lower = Vec::new();
        for ancestor in self.metadata.ancestors(snapshot)? {
            // A committed snapshot without is a fault of the database.
            let number = ancestor.layer.ok_or_else(|| Error::NotFound {
                what: "layer of",
                name: ancestor.number.0.to_string(),
            })?;
            let image = self.store.layer(number, &self.metadata.layer(number)?)?;
            let point = self.store.mount_point(number);
            self.mounts.mount(number, &image, &point)?;
            lower.push(point);
        }
        Ok(lower)
    }

    fn overlay(&self, snapshot: &Snapshot, lower: &[PathBuf]) -> Vec<Mount> {
        let is_active = snapshot.state == State::Active;
        let access = if is_active { "rw" } else { "ro" };
        let bind = |source: &Path| Mount {
            r#type: "bind".to_owned(),
            source: source.display().to_string(),
            target: String::new(),
            options: vec![access.to_owned(), "rbind".to_owned()],
        };
        let upper = self.store.upper(snapshot.number);
        let mount = match lower {
            [] => bind(&upper),
            [only] if !is_active => bind(only),
            lower => {
                let mut options = Vec::new();
                if is_active {
                    let work = self.store.work(snapshot.number);
                    options.push(format!("workdir={}", work.display()));
                    options.push(format!("upperdir={}", upper.display()));
                }
                let lower: Vec<String> = lower
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                options.push(format!("lowerdir={}", lower.join(":")));
                Mount {
                    r#type: "overlay".to_owned(),
                    source: "overlay".to_owned(),
                    target: String::new(),
                    options,
                }
            }
        };
        vec![mount]
    }

    /// Makes a committed snapshot of an active one. If no blob was applied to it, its layer is what was written to it.
    ///
    /// # Errors
    /// [`Error`]; it then is active still.
    pub(crate) fn commit(
        &self,
        key: &str,
        name: &str,
        parent: Option<&str>,
        labels: Labels,
    ) -> Result<(), Error> {
        let snapshot = self.metadata.get(key)?;
        if snapshot.layer.is_none() && snapshot.state == State::Active {
            let source = BuildSource::Directory(self.store.upper(snapshot.number));
            self.convert(key, snapshot.number, source, Whiteouts::Keep, || {
                Ok((None, 0))
            })?;
        }
        self.metadata.commit(key, name, parent, labels)?;
        // What was written is in the layer now.
        self.remove_folder(snapshot.number)
    }

    /// Makes an image of `source` the layer of an active snapshot. `identity` tells the digest and the size of the
    /// uncompressed tar, if it was one, when all of it was read; `name` is what errors call the layer.
    ///
    /// # Errors
    /// [`Error`]; nothing is left then.
    pub(crate) fn convert(
        &self,
        name: &str,
        snapshot: Number,
        source: BuildSource,
        whiteouts: Whiteouts,
        identity: impl FnOnce() -> Result<(Option<String>, u64), Error>,
    ) -> Result<Layer, Error> {
        let number = self.metadata.number_for_layer()?;
        let ingest = self.store.ingest(number);
        let options = layer_options(whiteouts);
        let summary = build(source, &ingest, &options, &Arc::new(AtomicU64::new(0)));
        let summary = summary.map_err(|source| Error::Convert {
            digest: name.to_owned(),
            source: Box::new(source),
        })?;
        let published = identity().and_then(|(digest, tar_size)| {
            let layer = Layer {
                digest,
                tar_size,
                inodes: summary.inodes,
            };
            let path = self.store.layer(number, &layer)?;
            let _held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            self.store.publish(&ingest, &path)?;
            if let Err(error) = self.metadata.set_layer(snapshot, number, &layer) {
                // The snapshot was removed meanwhile.
                self.remove_image(number, &layer)?;
                return Err(error);
            }
            Ok(layer)
        });
        if published.is_err() {
            remove_all(&ingest).map_err(Error::file("removing", &ingest))?;
        }
        published
    }

    /// Takes a snapshot out. Its files go later, see [`Snapshotter::cleanup`].
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::State`] while others are built on it.
    pub(crate) fn remove(&self, key: &str) -> Result<(), Error> {
        let removed = self.metadata.remove(key)?;
        self.leave(removed);
        Ok(())
    }

    fn leave(&self, removed: Removed) {
        let mut leavings = self.leavings.lock().unwrap_or_else(PoisonError::into_inner);
        leavings.push(removed);
    }

    /// Throws away what was removed.
    ///
    /// # Errors
    /// The first [`Error`]; everything else is thrown away all the same, and what is left when the process starts again.
    pub(crate) fn cleanup(&self) -> Result<(), Error> {
        let mut leavings = self.leavings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut result = Ok(());
        for removed in leavings.drain(..) {
            let layer = removed
                .layer
                .map_or(Ok(()), |(number, layer)| self.remove_layer(number, &layer));
            result = result.and(layer).and(self.remove_folder(removed.number));
        }
        result
    }

    fn remove_layer(&self, number: Number, layer: &Layer) -> Result<(), Error> {
        self.mounts
            .unmount(number, &self.store.mount_point(number))?;
        let _held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove_image(number, layer)
    }

    /// Removes the image of a layer that no snapshot has, unless another layer has it too. `names` must be held.
    fn remove_image(&self, number: Number, layer: &Layer) -> Result<(), Error> {
        if let Some(digest) = &layer.digest
            && self.metadata.knows_layer(digest)?
        {
            return Ok(());
        }
        let image = self.store.layer(number, layer)?;
        remove_all(&image).map_err(Error::file("removing", &image))
    }

    /// Bytes on disk and inodes of what a snapshot adds to its parent.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn usage(&self, key: &str) -> Result<(u64, u64), Error> {
        let snapshot = self.metadata.get(key)?;
        match (snapshot.state, snapshot.layer) {
            (State::Committed, Some(number)) => {
                let layer = self.metadata.layer(number)?;
                let image = self.store.layer(number, &layer)?;
                let file = fs::metadata(&image).map_err(Error::file("looking at", &image))?;
                Ok((file.blocks() * 512, layer.inodes))
            }
            (State::Active, _) => usage(&self.store.upper(snapshot.number)),
            _ => Ok((0, 0)),
        }
    }
}
