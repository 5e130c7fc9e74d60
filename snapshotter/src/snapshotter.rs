//! What the services do: snapshots over layers that are images.

use crate::api::types::Mount;
use crate::config::{Config, Layers, MountMode, Mounts};
use crate::error::Error;
use crate::layer_mounts::{FuseServer, LayerMounts};
use crate::mapped;
use crate::merge;
use crate::metadata::{self, Form, Labels, Layer, Metadata, Number, Removed, Snapshot, State};
use crate::mounts::{Lower, Owners, Parts};
use crate::store::{Draft, Store, remove_all, usage};
use erofs_mkfs::build::{BuildSource, build};
use erofs_mkfs::options::BuildError;
use erofs_mkfs::source::Whiteouts;
use erofs_mount::Requirements;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

/// Snapshots and layers below a root folder. Everything here blocks.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    pub(crate) store: Store,
    pub(crate) metadata: Metadata,
    mounts: LayerMounts,
    config: Mounts,
    pub(crate) layers: Layers,
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
    pub(crate) fn open(config: &Config, server: FuseServer) -> Result<Self, Error> {
        let store = Store::open(&config.root)?;
        let metadata = Metadata::open(&store.database())?;
        let points = store.mount_points()?;
        let points = points
            .into_iter()
            .map(|number| (number, store.mount_point(number)));
        let mounts = LayerMounts::new(points, config.mounts.via, server)?;
        let snapshotter = Self {
            store,
            metadata,
            mounts,
            config: config.mounts.clone(),
            layers: config.layers.clone(),
            leavings: Mutex::default(),
            names: Mutex::default(),
        };
        snapshotter.sweep()?;
        Ok(snapshotter)
    }

    /// Throws away files and mounts of which the database knows nothing: of a process that ended early.
    fn sweep(&self) -> Result<(), Error> {
        self.store.clear_ingest()?;
        let (mut numbers, mut merged) = (HashSet::new(), HashSet::new());
        self.metadata.walk(|_, snapshot| {
            // A committed snapshot is its layer.
            if snapshot.state != State::Committed {
                numbers.insert(snapshot.number);
            }
            merged.extend(snapshot.merged);
            Ok(())
        })?;
        let folders = [self.store.snapshots()?, self.store.all_mapped()?];
        for number in folders.concat() {
            if !numbers.contains(&number) {
                self.remove_folder(number)?;
            }
        }
        let layers = self.metadata.layers()?;
        let known: HashSet<Number> = layers
            .iter()
            .map(|(number, _)| number)
            .chain(&merged)
            .copied()
            .collect();
        for number in self.store.mount_points()? {
            if !known.contains(&number) {
                self.mounts
                    .unmount(number, &self.store.mount_point(number))?;
            }
        }
        let mut files: HashSet<PathBuf> = merged
            .iter()
            .map(|number| self.store.merged(*number))
            .collect();
        for (number, layer) in &layers {
            files.extend(self.store.files(*number, layer)?);
        }
        for file in self.store.layer_files()? {
            if !files.contains(&file) {
                remove_all(&file).map_err(Error::file("removing", &file))?;
            }
        }
        Ok(())
    }

    fn remove_folder(&self, number: Number) -> Result<(), Error> {
        mapped::hide(&self.store.mapped(number))?;
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
        let owners = Owners::of(&labels)?;
        let merged = match parent {
            Some(parent) if !metadata::is_unpacked_to(key, &labels) => self.merged(parent)?,
            _ => None,
        };
        let snapshot = self.metadata.create(key, state, parent, merged, labels)?;
        let made = self.make(&snapshot, &owners);
        if made.is_err() {
            // It may be broken in more than one way; what matters is why it was not made.
            if let Ok(removed) = self.metadata.remove(key) {
                self.leave(removed);
            }
        }
        made
    }

    fn make(&self, snapshot: &Snapshot, owners: &Owners) -> Result<Vec<Mount>, Error> {
        let lower = self.lower(snapshot, owners)?;
        // A view over layers has nothing of its own.
        if snapshot.state == State::Active || lower.is_empty() {
            let root = lower.first().map(merge::root_directory).transpose()?;
            let mut root = root.unwrap_or_default();
            (root.owner, root.group) = owners.outside(root.owner, root.group);
            self.store.make_snapshot(snapshot.number, root)?;
        }
        Ok(self.told(snapshot, &lower, owners))
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
        let owners = Owners::of(&snapshot.labels)?;
        Ok(self.told(&snapshot, &self.lower(&snapshot, &owners)?, &owners))
    }

    fn told(&self, snapshot: &Snapshot, lower: &[Lower], owners: &Owners) -> Vec<Mount> {
        let parts = Parts {
            state: snapshot.state,
            lower,
            upper: &self.store.upper(snapshot.number),
            work: &self.store.work(snapshot.number),
            owners,
        };
        parts.mounts(self.config.mode)
    }

    /// The images below a snapshot, the topmost first, mounted unless containerd does that.
    fn lower(&self, snapshot: &Snapshot, owners: &Owners) -> Result<Vec<Lower>, Error> {
        let mut layers = self.layers(&self.metadata.ancestors(snapshot)?)?;
        if let Some(number) = snapshot.merged {
            let images: Vec<Lower> = layers.into_iter().map(|(_, lower)| lower).collect();
            let merged = Lower {
                image: self.store.merged(number),
                devices: merge::devices(&images),
                point: self.store.mount_point(number),
            };
            layers = vec![(number, merged)];
        }
        let mounted = self.config.mode == MountMode::Overlay;
        if mounted {
            for (number, lower) in &layers {
                self.mounts.mount(*number, lower)?;
            }
        }
        let mut lower: Vec<Lower> = layers.into_iter().map(|(_, lower)| lower).collect();
        if mounted && owners.are_others() {
            mapped::show(&mut lower, &self.store.mapped(snapshot.number), owners)?;
        }
        Ok(lower)
    }

    /// The layers of committed snapshots, the topmost first. Of a layer that comes again further down, which overlayfs
    /// refuses, the topmost hides everything.
    fn layers(&self, chain: &[Snapshot]) -> Result<Vec<(Number, Lower)>, Error> {
        let mut layers: Vec<(Number, Lower)> = Vec::new();
        let mut seen = HashSet::new();
        for ancestor in chain {
            // A committed snapshot without is a fault of the database.
            let number = ancestor.layer.ok_or_else(|| Error::NotFound {
                what: "layer of",
                name: ancestor.number.0.to_string(),
            })?;
            if seen.insert(number) {
                let layer = self.metadata.layer(number)?;
                let lower = Lower {
                    image: self.store.layer(number, &layer)?,
                    devices: self.store.tar(number, &layer)?.into_iter().collect(),
                    point: self.store.mount_point(number),
                };
                layers.push((number, lower));
            }
        }
        Ok(layers)
    }

    /// The image of all layers up to `name`, made if there are so many that one is wanted. What cannot be merged is mounted
    /// layer by layer.
    fn merged(&self, name: &str) -> Result<Option<Number>, Error> {
        let most = self.config.merge;
        let top = self.metadata.get(name)?;
        if top.merged.is_some() || most == 0 {
            return Ok(top.merged);
        }
        let mut chain = self.metadata.ancestors(&top)?;
        chain.insert(0, top);
        if chain.len() <= most {
            return Ok(None);
        }
        let layers: Vec<Lower> = self
            .layers(&chain)?
            .into_iter()
            .map(|(_, lower)| lower)
            .collect();
        let draft = self.draft()?;
        match merge::merge(&layers, &draft.image()) {
            Err(Error::Convert { source, .. }) if matches!(*source, BuildError::Index(_)) => {
                return Ok(None);
            }
            merged => merged?,
        }
        self.store.publish_merged(&draft)?;
        let known = self.metadata.set_merged(name, draft.number);
        if !matches!(known, Ok(known) if known == draft.number) {
            // Another call was faster, or the snapshot was removed meanwhile.
            let image = self.store.merged(draft.number);
            remove_all(&image).map_err(Error::file("removing", &image))?;
        }
        known.map(Some)
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
            if self.store.applied(snapshot.number).exists() {
                return Err(Error::State {
                    name: key.to_owned(),
                    reason: "the layer that was applied to it is lost; unpack it again".to_owned(),
                });
            }
            self.convert_upper(key, snapshot.number)?;
        }
        self.metadata.commit(key, name, parent, labels)?;
        // What was written is in the layer now.
        self.remove_folder(snapshot.number)
    }

    /// Makes an image of what was written to an active snapshot its layer.
    fn convert_upper(&self, key: &str, snapshot: Number) -> Result<(), Error> {
        let draft = self.draft()?;
        let source = BuildSource::Directory(self.store.upper(snapshot));
        let options = self.layers.options(Whiteouts::Keep);
        let progress = Arc::new(AtomicU64::new(0));
        let summary =
            build(source, &draft.image(), &options, &progress).map_err(Error::convert(key))?;
        let layer = Layer {
            digest: None,
            tar_size: 0,
            inodes: summary.inodes,
            form: Form::Converted,
        };
        self.publish(snapshot, draft, layer).map(drop)
    }

    /// A layer that is about to be written.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) fn draft(&self) -> Result<Draft<'_>, Error> {
        Ok(self.store.draft(self.metadata.number()?))
    }

    /// Whether an image with these needs can be mounted here.
    ///
    /// # Errors
    /// [`Error::Mount`].
    pub(crate) fn check_mountable(
        &self,
        requirements: Requirements,
        image: PathBuf,
    ) -> Result<(), Error> {
        let lower = Lower {
            image,
            devices: Vec::new(),
            point: self.store.root().to_path_buf(),
        };
        self.mounts.check(requirements, &lower)
    }

    /// Makes a layer whose files were written and synced that of an active snapshot. If there is such a layer already, that one
    /// stays as it is: it may be mounted, and other settings make other bytes.
    ///
    /// # Errors
    /// [`Error`]; nothing is left then.
    pub(crate) fn publish(
        &self,
        snapshot: Number,
        draft: Draft<'_>,
        layer: Layer,
    ) -> Result<Layer, Error> {
        let _held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = &layer.digest
            && let Some((number, stored)) = self.metadata.layer_with(digest)?
            && self
                .store
                .files(number, &stored)?
                .iter()
                .all(|file| file.exists())
        {
            self.metadata.set_layer(snapshot, number, &stored)?;
            return Ok(stored);
        }
        self.store.publish(&draft, &layer)?;
        if let Err(error) = self.metadata.set_layer(snapshot, draft.number, &layer) {
            // The snapshot was removed meanwhile.
            self.remove_files(draft.number, &layer)?;
            return Err(error);
        }
        Ok(layer)
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
            let merged = removed.merged.map_or(Ok(()), |number| {
                self.mounts
                    .unmount(number, &self.store.mount_point(number))?;
                let image = self.store.merged(number);
                remove_all(&image).map_err(Error::file("removing", &image))
            });
            let layer = removed
                .layer
                .map_or(Ok(()), |(number, layer)| self.remove_layer(number, &layer));
            result = result
                .and(merged)
                .and(layer)
                .and(self.remove_folder(removed.number));
        }
        result
    }

    fn remove_layer(&self, number: Number, layer: &Layer) -> Result<(), Error> {
        self.mounts
            .unmount(number, &self.store.mount_point(number))?;
        let _held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove_files(number, layer)
    }

    /// Removes the files of a layer that no snapshot has, but for those that another layer has too. `names` must be held.
    fn remove_files(&self, number: Number, layer: &Layer) -> Result<(), Error> {
        let kept = match &layer.digest {
            Some(digest) => match self.metadata.layer_with(digest)? {
                Some((number, layer)) => self.store.files(number, &layer)?,
                None => Vec::new(),
            },
            None => Vec::new(),
        };
        for file in self.store.files(number, layer)? {
            if !kept.contains(&file) {
                remove_all(&file).map_err(Error::file("removing", &file))?;
            }
        }
        Ok(())
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
                let mut bytes = 0;
                for path in self.store.files(number, &layer)? {
                    let file = fs::metadata(&path).map_err(Error::file("looking at", &path))?;
                    // What is containerd's blob too counts there.
                    if file.nlink() == 1 {
                        bytes += file.blocks() * 512;
                    }
                }
                Ok((bytes, layer.inodes))
            }
            (State::Active, _) => usage(&self.store.upper(snapshot.number)),
            _ => Ok((0, 0)),
        }
    }
}
