//! What the services do: snapshots over layers that are images.

use crate::ahead::Ahead;
use crate::api::types::Mount;
use crate::chains::Chains;
use crate::config::{Cache, Config, Integrity, Layers, Merge, MountMode, Mounts, Quota, Verity};
use crate::digest;
use crate::error::Error;
use crate::fault::{self, Step};
use crate::layer_mounts::{FuseServer, LayerMounts};
use crate::locks::Locks;
use crate::mapped;
use crate::merge;
use crate::metadata::{self, Form, Labels, Layer, Metadata, Number, Removed, Snapshot, State};
use crate::metrics::Metrics;
use crate::mounts::{Lower, Owners, Parts};
use crate::seal::{Unsealed, require_verity};
use crate::spare::Spares;
use crate::store::{Draft, LARGE, Store, remove_all, remove_sealed};
use crate::writable;
use erofs_mkfs::build::{BuildSource, build};
use erofs_mkfs::source::Whiteouts;
use erofs_mount::Requirements;
use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Snapshots and layers below a root folder. Everything here blocks.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    pub(crate) store: Store,
    pub(crate) metadata: Metadata,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) cache: Cache,
    pub(crate) integrity: Integrity,
    pub(crate) mounts: LayerMounts,
    quota: Quota,
    config: Mounts,
    pub(crate) layers: Layers,
    /// Held while the layers of a committed snapshot are merged: whether they cannot be.
    merging: Locks<bool>,
    /// Layers that were read and found to be what was written.
    pub(crate) verified: Mutex<HashSet<Number>>,
    /// What was removed and is still to be thrown away.
    leavings: Mutex<Vec<Removed>>,
    /// Held while that is done: who waits for it waits also for what others began.
    cleaning: Mutex<()>,
    /// Held while a layer gets its name and its record, or loses them: a layer that is removed may come again.
    pub(crate) names: Mutex<()>,
    /// Held while the folder of a snapshot, or what is shown to it with other owners, is made or thrown away.
    pub(crate) folders: Locks<()>,
    /// Which layers lie below snapshots.
    pub(crate) chains: Chains,
    /// Folders for snapshots to come.
    pub(crate) spares: Spares,
    /// Layers that were made since the process began.
    pub(crate) unsealed: Unsealed,
    /// Layers that are made before they are asked for.
    pub(crate) ahead: Ahead,
}

impl Snapshotter {
    /// Opens the root folder. What a process left that ended early is there still, see [`Snapshotter::sweep`].
    ///
    /// # Errors
    /// [`Error`], where the folder or the database cannot be used; a snapshot that is broken is no reason.
    pub(crate) fn open(config: &Config, server: FuseServer) -> Result<Self, Error> {
        let store = Store::open(&config.root)?;
        let metadata = Metadata::open(&store.database(), &store.journal());
        let metadata = metadata.map_err(|error| match error {
            Error::Database(cause) if matches!(*cause, redb::Error::DatabaseAlreadyOpen) => {
                Error::Taken(store.root().to_path_buf())
            }
            error => error,
        })?;
        store.sync()?;
        let points = store.mount_points()?;
        let points = points
            .into_iter()
            .map(|number| (number, store.mount_point(number)));
        let mounts = LayerMounts::new(points, config.mounts.via, server)?;
        let snapshotter = Self {
            store,
            metadata,
            metrics: Arc::default(),
            cache: config.cache.clone(),
            integrity: config.integrity.clone(),
            mounts,
            quota: config.writable.quota,
            config: config.mounts.clone(),
            layers: config.layers.clone(),
            merging: Locks::default(),
            verified: Mutex::default(),
            leavings: Mutex::default(),
            cleaning: Mutex::default(),
            names: Mutex::default(),
            folders: Locks::default(),
            chains: Chains::default(),
            spares: Spares::default(),
            unsealed: Unsealed::default(),
            ahead: Ahead::default(),
        };
        if config.integrity.fs_verity == Verity::On {
            require_verity(&snapshotter.store.ingest_folder())?;
        }
        Ok(snapshotter)
    }

    /// Whether a snapshot that is not committed has a folder: a view over layers has nothing of its own.
    pub(crate) fn has_folder(snapshot: &Snapshot) -> bool {
        snapshot.state == State::Active || snapshot.parent.is_none()
    }

    /// Looks whether a snapshot is still there. If it is, so is what lies below it, and whoever removes it throws away later
    /// what is made now under the lock for that.
    pub(crate) fn check_there(&self, key: &str, snapshot: &Snapshot) -> Result<(), Error> {
        match self.metadata.get(key)?.number == snapshot.number {
            true => Ok(()),
            // Its key was given to another one.
            false => Err(Error::NotFound {
                what: "snapshot",
                name: key.to_owned(),
            }),
        }
    }

    /// A new snapshot that is written to, or a view, and how to mount it.
    ///
    /// # Errors
    /// [`Error`]; nothing is left of the snapshot then. [`Error::Exists`] also where what it is made for is there: containerd then
    /// looks for the committed snapshot.
    pub(crate) fn prepare(
        &self,
        key: &str,
        state: State,
        parent: Option<&str>,
        labels: Labels,
    ) -> Result<Vec<Mount>, Error> {
        let owners = Owners::of(&labels)?;
        if state == State::Active
            && let Some(name) = self.stored(key, parent, &labels)?
        {
            return Err(Error::Exists(name));
        }
        let is_looked_at = !metadata::is_unpacked_to(key, &labels);
        let merged = match parent {
            Some(parent) if is_looked_at => self.merged(parent)?,
            _ => None,
        };
        let quota = match state {
            State::Active if is_looked_at => writable::quota(self.quota, &labels)?,
            _ => None,
        };
        let snapshot = self
            .metadata
            .create(key, state, parent, merged, quota, labels);
        let snapshot = snapshot.inspect_err(|error| {
            // Where the disk failed nobody knows how far that came.
            if matches!(error, Error::Database(_) | Error::File { .. }) {
                self.forget(key);
            }
        })?;
        self.make(key, &snapshot, &owners).inspect_err(|_| {
            // Unless that was done, and the key given to another one.
            if self.check_there(key, &snapshot).is_ok() {
                self.forget(key);
            }
        })
    }

    /// Takes a snapshot out that could not be prepared. This may fail too; what matters is why that did.
    fn forget(&self, key: &str) {
        if let Ok(removed) = self.metadata.remove(key, false) {
            self.leave(removed);
        }
    }

    fn make(&self, key: &str, snapshot: &Snapshot, owners: &Owners) -> Result<Vec<Mount>, Error> {
        fault::at(Step::PrepareRecorded)?;
        let lower = match self.is_looked_through(key, snapshot, owners)? {
            true => self.lower(key, snapshot, owners)?,
            false => self
                .below(snapshot)?
                .into_iter()
                .map(|(_, lower)| lower)
                .collect(),
        };
        if Self::has_folder(snapshot) {
            let root = lower.first().map(merge::root_directory).transpose()?;
            let mut root = root.unwrap_or_default();
            (root.owner, root.group) = owners.outside(root.owner, root.group);
            self.make_folder(key, snapshot, root)?;
        }
        fault::at(Step::PrepareMade)?;
        if !self.stage(snapshot)? {
            return Ok(self.told(snapshot, &lower, owners));
        }
        let snapshot = self.metadata.get(key)?;
        Ok(self.told(&snapshot, &lower, owners))
    }

    /// Whether somebody may look at what lies below a snapshot. Nobody does before it is committed when a layer is unpacked to it here, as
    /// the one below was: until then a hundred mounts can wait, or for ever. Who looks all the same finds mount points missing
    /// unless he asks for its mounts.
    fn is_looked_through(
        &self,
        key: &str,
        snapshot: &Snapshot,
        owners: &Owners,
    ) -> Result<bool, Error> {
        let is_unpacked_to =
            snapshot.state == State::Active && metadata::is_unpacked_to(key, &snapshot.labels);
        if !is_unpacked_to || owners.are_others() {
            return Ok(true);
        }
        let below = match &snapshot.parent {
            Some(parent) => self.metadata.get(parent)?.layer,
            None => None,
        };
        let layer = below
            .map(|number| self.metadata.layer(number))
            .transpose()?;
        Ok(layer.is_none_or(|layer| layer.digest.is_none()))
    }

    /// How to mount a snapshot that is active or a view: always the same. A loss of power does not take it from then on, so that what
    /// a container writes and syncs is not lost with it.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn mounts(&self, key: &str) -> Result<Vec<Mount>, Error> {
        let snapshot = self.mountable(key)?;
        self.metadata.sync()?;
        let owners = Owners::of(&snapshot.labels)?;
        let lower = self.lower(key, &snapshot, &owners)?;
        self.mount_writable(key, &snapshot)?;
        Ok(self.told(&snapshot, &lower, &owners))
    }

    /// The same, if there is nothing to sync, and the snapshot lies over nothing but layers that are mounted.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn mounts_at_hand(&self, key: &str) -> Result<Option<Vec<Mount>>, Error> {
        let snapshot = self.mountable(key)?;
        let owners = Owners::of(&snapshot.labels)?;
        let is_plain = snapshot.quota.is_none() && !owners.are_others();
        if self.config.mode != MountMode::Overlay || !is_plain || !self.metadata.is_synced() {
            return Ok(None);
        }
        let images = self.below(&snapshot)?;
        let is_mounted = |(number, _): &(Number, Lower)| self.mounts.is_mounted(*number);
        if !images.iter().all(is_mounted) {
            return Ok(None);
        }
        let lower: Vec<Lower> = images.into_iter().map(|(_, lower)| lower).collect();
        Ok(Some(self.told(&snapshot, &lower, &owners)))
    }

    /// A snapshot that is active or a view.
    fn mountable(&self, key: &str) -> Result<Snapshot, Error> {
        let snapshot = self.metadata.get(key)?;
        match snapshot.state {
            State::Committed => Err(Error::State {
                name: key.to_owned(),
                reason: "it is committed; only active snapshots and views are mounted".to_owned(),
            }),
            State::Active | State::View => Ok(snapshot),
        }
    }

    fn told(&self, snapshot: &Snapshot, lower: &[Lower], owners: &Owners) -> Vec<Mount> {
        let parts = Parts {
            state: snapshot.state,
            lower,
            upper: &self.store.upper(snapshot.number),
            work: &self.store.work(snapshot.number),
            owners,
        };
        let mut mounts = parts.mounts(self.config.mode);
        if snapshot.state == State::Active && snapshot.layer.is_some() {
            // What is written to it would be lost. containerd 2.4 sees by this that there is nothing to unpack.
            if let Some(mount) = mounts.last_mut() {
                mount.options.retain(|option| option != "rw");
                mount.options.push("ro".to_owned());
            }
        }
        mounts
    }

    /// The images that a snapshot lies over, where `layers` are below it: these, or what was merged of them.
    fn images(&self, layers: Vec<(Number, Lower)>, snapshot: &Snapshot) -> Vec<(Number, Lower)> {
        let Some(number) = snapshot.merged else {
            return layers;
        };
        let images: Vec<Lower> = layers.into_iter().map(|(_, lower)| lower).collect();
        let merged = Lower {
            image: self.store.merged(number),
            devices: merge::devices(&images),
            point: self.store.mount_point(number),
        };
        vec![(number, merged)]
    }

    /// The images below a snapshot as they are stored, the topmost first, mounted or not.
    ///
    /// # Errors
    /// [`Error`] of the database.
    pub(crate) fn below(&self, snapshot: &Snapshot) -> Result<Vec<(Number, Lower)>, Error> {
        let layers = self.layers_below(snapshot)?;
        Ok(self.images(layers, snapshot))
    }

    /// Mounts the layer with this image, which others mount for containers. Returns where it is then, as long as it is stored.
    ///
    /// # Errors
    /// [`Error::NotOurs`] where it is none, or cannot be mounted here; [`Error`] of the database.
    pub(crate) fn mount_image(&self, image: &Path) -> Result<PathBuf, Error> {
        for (number, layer) in self.metadata.layers()? {
            if self.store.layer(number, &layer)? == image {
                return self.mount_layer(number);
            }
        }
        let image = image.display();
        Err(Error::NotOurs(format!("{image}: it is no layer")))
    }

    /// Mounts a layer. Returns where it is then, as long as it is stored.
    ///
    /// # Errors
    /// [`Error::NotOurs`] where it cannot be mounted here; [`Error`] of the database.
    pub(crate) fn mount_layer(&self, number: Number) -> Result<PathBuf, Error> {
        let lower = self.layer(number)?;
        let check = || self.metadata.layer(number).map(drop);
        let mounted = self.mounts.mount(number, &lower, check);
        mounted.map_err(|error| Error::NotOurs(format!("{}: {error}", lower.image.display())))?;
        Ok(lower.point)
    }

    /// The layers of which this image was merged, the topmost first, if it is one.
    ///
    /// # Errors
    /// [`Error`] of the database.
    pub(crate) fn merged_layers(&self, number: Number) -> Result<Option<Vec<Number>>, Error> {
        let mut merged = self.metadata.all_merged()?.into_iter();
        let Some(merged) = merged.find(|merged| merged.number == number) else {
            return Ok(None);
        };
        let layers = self.layers_up_to(&self.metadata.get(&merged.name)?)?;
        Ok(Some(layers.into_iter().map(|(number, _)| number).collect()))
    }

    /// A layer as it is stored.
    pub(crate) fn layer(&self, number: Number) -> Result<Lower, Error> {
        let layer = self.metadata.layer(number)?;
        Ok(Lower {
            image: self.store.layer(number, &layer)?,
            devices: self.store.tar(number, &layer)?.into_iter().collect(),
            point: self.store.mount_point(number),
        })
    }

    /// The images below a snapshot, the topmost first, mounted unless containerd does that.
    fn lower(&self, key: &str, snapshot: &Snapshot, owners: &Owners) -> Result<Vec<Lower>, Error> {
        let layers = self.layers_below(snapshot)?;
        let numbers: Vec<Number> = layers.iter().map(|(number, _)| *number).collect();
        let images = self.images(layers, snapshot);
        let mounted = self.config.mode == MountMode::Overlay;
        for (number, lower) in &images {
            let verify = || match snapshot.merged {
                Some(merged) => {
                    let layers = self.verify(&numbers);
                    layers.and_then(|()| self.verify_merged(merged))
                }
                None => self.verify(&[*number]),
            };
            let check = || self.check_there(key, snapshot).and_then(|()| verify());
            match mounted {
                true => self.mounts.mount(*number, lower, check)?,
                false => verify()?,
            }
        }
        let mut lower: Vec<Lower> = images.into_iter().map(|(_, lower)| lower).collect();
        if mounted && owners.are_others() {
            self.folders.with(snapshot.number, |()| {
                self.check_there(key, snapshot)?;
                mapped::show(&mut lower, &self.store.mapped(snapshot.number), owners)
            })?;
        }
        Ok(lower)
    }

    /// The layers below a snapshot, the topmost first.
    fn layers_below(&self, snapshot: &Snapshot) -> Result<Vec<(Number, Lower)>, Error> {
        match &snapshot.parent {
            Some(parent) => self.layers_up_to(&self.metadata.get(parent)?),
            None => Ok(Vec::new()),
        }
    }

    /// The devices of what was merged of all layers up to `name`.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn devices_of_merged(&self, name: &str) -> Result<Vec<PathBuf>, Error> {
        let layers = self.layers_up_to(&self.metadata.get(name)?)?;
        let layers: Vec<Lower> = layers.into_iter().map(|(_, lower)| lower).collect();
        Ok(merge::devices(&layers))
    }

    /// Of how many layers images are to be left as they are; 0: of any number.
    fn most_layers(&self) -> usize {
        let is_possible =
            self.config.mode == MountMode::Overlay && self.layers.compression.is_none();
        match self.config.merge {
            Merge::Over(most) => most,
            Merge::Auto if is_possible => Merge::MANY,
            Merge::Auto => 0,
        }
    }

    /// The image of all layers up to `name`, made if there are so many that one is wanted. What cannot be merged is mounted
    /// layer by layer.
    fn merged(&self, name: &str) -> Result<Option<Number>, Error> {
        let most = self.most_layers();
        let top = self.metadata.get(name)?;
        let is_auto = self.config.merge == Merge::Auto;
        match top.merged {
            Some(_) if !is_auto => return Ok(top.merged),
            _ if most == 0 => return Ok(None),
            Some(_) => {}
            None if self.metadata.ancestors(&top)?.len() < most => return Ok(None),
            None => {}
        }
        let layers = self.layers_up_to(&top)?;
        let numbers: Vec<Number> = layers.iter().map(|(number, _)| *number).collect();
        let layers: Vec<Lower> = layers.into_iter().map(|(_, lower)| lower).collect();
        let root = self.store.root();
        let is_read_from_files = |layer: &Lower| self.mounts.is_read_from_files(layer, root);
        if is_auto && !layers.first().is_some_and(is_read_from_files) {
            return Ok(None);
        }
        // Those who prepare containers of the same image wait for the first.
        let merged = self.merging.with(top.number, |is_impossible| {
            let known = self.metadata.get(name)?.merged;
            if known.is_some() || *is_impossible {
                return Ok(known);
            }
            self.verify(&numbers)?;
            let merged = self.merge(name, &layers);
            *is_impossible = merged.as_ref().is_err_and(merge::is_impossible);
            match merged {
                Err(_) if *is_impossible => Ok(None),
                merged => merged.map(Some),
            }
        });
        merged.or_else(|error| match error {
            Error::Convert { .. } | Error::File { .. } if is_auto => {
                tracing::warn!(%error, "layers are mounted one by one");
                Ok(None)
            }
            error => Err(error),
        })
    }

    /// Makes the image of these layers, all those up to `name`.
    fn merge(&self, name: &str, layers: &[Lower]) -> Result<Number, Error> {
        let draft = self.draft()?;
        merge::merge(layers, &draft.image())?;
        let image = draft.image();
        let digest = File::open(&image).and_then(|image| digest::of_file(&image, |_| Ok(())));
        let digest = digest.map_err(Error::file("reading", &image))?;
        let _held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.publish_merged(&draft)?;
        let known = fault::at(Step::MergedPublished)
            .and_then(|()| self.metadata.set_merged(name, draft.number, digest));
        if !matches!(known, Ok(known) if known == draft.number) {
            // The snapshot was removed meanwhile.
            let image = self.store.merged(draft.number);
            remove_all(&image).map_err(Error::file("removing", &image))?;
        }
        known
    }

    /// Makes a committed snapshot of an active one. If no blob was applied to it, its layer is what was written to it. Its
    /// folder goes later, see [`Snapshotter::cleanup`].
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
        fault::at(Step::CommitBegun)?;
        let snapshot = self.metadata.get(key)?;
        if snapshot.layer.is_none() && snapshot.state == State::Active {
            self.mount_writable(key, &snapshot)?;
            if self.store.is_applied(snapshot.number) {
                return Err(Error::State {
                    name: key.to_owned(),
                    reason: "the layer that was applied to it is lost; unpack it again".to_owned(),
                });
            }
            let (mut draft, layer) = self.convert_upper(key, snapshot.number)?;
            // There is no other one: it has no digest.
            let another = |_, _| Ok(None);
            self.keep(&mut draft, layer, another, |number, layer| {
                let layer = Some((number, layer));
                self.metadata.commit(key, name, parent, labels, layer)
            })?;
        } else {
            self.metadata.commit(key, name, parent, labels, None)?;
        }
        // What was written is in the layer now.
        self.leave(Removed {
            snapshot: Some(snapshot.number),
            layer: None,
            merged: None,
        });
        fault::at(Step::CommitRecorded)
    }

    /// Makes an image of what was written to an active snapshot.
    fn convert_upper(&self, key: &str, snapshot: Number) -> Result<(Draft, Layer), Error> {
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
            ..Layer::default()
        };
        Ok((draft, layer))
    }

    /// A layer that is about to be written.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) fn draft(&self) -> Result<Draft, Error> {
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

    /// Makes a layer whose files were written that of an active snapshot. If there is such a layer already, that one
    /// stays as it is: it may be mounted, and other settings make other bytes.
    ///
    /// # Errors
    /// [`Error`]; nothing is left then.
    pub(crate) fn publish(
        &self,
        snapshot: Number,
        mut draft: Draft,
        layer: Layer,
    ) -> Result<Layer, Error> {
        let began = Instant::now();
        let blob = layer.blobs.first().cloned();
        let known = |number, known| self.give(snapshot, number, known, blob.as_deref());
        let layer = self.keep(&mut draft, layer, known, |number, layer| {
            let replaced = self.metadata.set_layer(snapshot, number, layer)?;
            self.leave_layer(replaced);
            Ok(())
        })?;
        fault::at(Step::LayerRecorded)?;
        self.metrics.took("publish", began.elapsed());
        self.metrics.measured("tar", layer.tar_size);
        Ok(layer)
    }

    /// Gives the files of a layer their names and then has it recorded, unless there is such a layer, and `use_known` takes that.
    pub(crate) fn keep(
        &self,
        draft: &mut Draft,
        layer: Layer,
        use_known: impl FnOnce(Number, Layer) -> Result<Option<Layer>, Error>,
        record: impl FnOnce(Number, &Layer) -> Result<(), Error>,
    ) -> Result<Layer, Error> {
        fault::at(Step::LayerBuilt)?;
        // Others wait while it gets its name, so what takes long is synced before. The same where its record is there and its file
        // is not: then the name says that it is whole.
        let known = match &layer.digest {
            Some(digest) => self.metadata.layer_with(digest)?,
            None => None,
        };
        draft.sync(if known.is_some() { 0 } else { LARGE })?;
        let _held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = &layer.digest
            && let Some((number, known)) = self.metadata.layer_with(digest)?
            && let Some(stored) = use_known(number, known)?
        {
            return Ok(stored);
        }
        let named = self.store.publish(draft, &layer);
        let recorded = named
            .and_then(|()| fault::at(Step::LayerPublished))
            .and_then(|()| record(draft.number, &layer));
        if recorded.is_err() {
            // The snapshot was removed meanwhile, say. What matters is why it failed.
            let _ = self.remove_files(draft.number, &layer);
        }
        recorded?;
        if let Ok(size) = self.layer_size(draft.number, &layer) {
            self.metrics.measured("image", size);
        }
        // One whose file was lost keeps its number.
        let known = match &layer.digest {
            Some(digest) => self.metadata.layer_with(digest).ok().flatten(),
            None => None,
        };
        let number = known.map_or(draft.number, |(number, _)| number);
        if number != draft.number {
            self.chains.forget_all();
        }
        self.unsealed.add(number);
        Ok(layer)
    }

    /// Takes a snapshot out. Its files go later, see [`Snapshotter::cleanup`].
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::State`] while others are built on it.
    pub(crate) fn remove(&self, key: &str) -> Result<(), Error> {
        fault::at(Step::RemoveBegun)?;
        let removed = self.metadata.remove(key, self.cache.size.0 > 0)?;
        removed
            .snapshot
            .inspect(|number| self.chains.forget(*number));
        self.leave(removed);
        fault::at(Step::RemoveRecorded)
    }

    /// Leaves a layer that was replaced to the next cleanup.
    pub(crate) fn leave_layer(&self, layer: Option<(Number, Layer)>) {
        if layer.is_some() {
            self.leave(Removed {
                snapshot: None,
                layer,
                merged: None,
            });
        }
    }

    /// Leaves something to the next cleanup.
    pub(crate) fn leave(&self, removed: Removed) {
        let mut leavings = self.leavings.lock().unwrap_or_else(PoisonError::into_inner);
        leavings.push(removed);
    }

    /// Throws away what was removed.
    ///
    /// # Errors
    /// The first [`Error`]; everything else is thrown away all the same, and what is left is tried again the next time.
    pub(crate) fn cleanup(&self) -> Result<(), Error> {
        let _held = self.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
        let leavings =
            std::mem::take(&mut *self.leavings.lock().unwrap_or_else(PoisonError::into_inner));
        let mut result = Ok(());
        for removed in leavings {
            let thrown = self.throw_away(&removed);
            if thrown.is_err() {
                self.leave(removed);
            }
            result = result.and(thrown);
        }
        if self.cache.size.0 > 0 {
            result = result.and(self.evict(self.cache.size.0).map(drop));
        }
        result.and_then(|()| fault::at(Step::CleanupDone))
    }

    /// Removed snapshots whose files still lie there.
    pub(crate) fn leavings(&self) -> u64 {
        let leavings = self.leavings.lock().unwrap_or_else(PoisonError::into_inner);
        leavings.len() as u64
    }

    fn throw_away(&self, removed: &Removed) -> Result<(), Error> {
        if let Some(number) = removed.merged {
            self.mounts
                .unmount(number, &self.store.mount_point(number))?;
            let image = self.store.merged(number);
            remove_all(&image).map_err(Error::file("removing", &image))?;
        }
        if let Some((number, layer)) = &removed.layer {
            self.remove_layer(*number, layer)?;
        }
        removed
            .snapshot
            .map_or(Ok(()), |number| self.remove_folder(number))
    }

    /// Throws away a layer that has no record any more.
    pub(crate) fn remove_layer(&self, number: Number, layer: &Layer) -> Result<(), Error> {
        self.mounts
            .unmount(number, &self.store.mount_point(number))?;
        fault::at(Step::CleanupPoint)?;
        let _held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove_files(number, layer)?;
        fault::at(Step::CleanupImage)
    }

    /// Removes the files of a layer that no snapshot has, but for those that another layer has too. `names` must be held.
    fn remove_files(&self, number: Number, layer: &Layer) -> Result<(), Error> {
        let known = match &layer.digest {
            Some(digest) => self.metadata.layer_with(digest)?,
            None => self
                .metadata
                .layer(number)
                .ok()
                .map(|layer| (number, layer)),
        };
        let kept = match known {
            Some((number, layer)) => self.store.files(number, &layer)?,
            None => Vec::new(),
        };
        for file in self.store.files(number, layer)? {
            if !kept.contains(&file) {
                remove_sealed(&file).map_err(Error::file("removing", &file))?;
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
            (State::Active, _) => self.written(key, &snapshot),
            _ => Ok((0, 0)),
        }
    }
}

#[cfg(test)]
mod tests;
