//! What is known of snapshots and layers: a database in which each change is whole or not there.
//!
//! Snapshots are found by key (while they are active or views) or name (once committed), which containerd makes unique over
//! namespaces. Layers have a number, by which their mount point is called, and a digest where they come from a blob.

mod agreement;
mod change;
mod journal;
#[cfg(test)]
mod power_loss;
mod records;

pub(crate) use records::{
    Form, Labels, Layer, Merged, Number, Removed, Snapshot, State, Stored, TARGET, Time,
    is_unpacked_to, namespace,
};

use change::{Change, Keep};
use journal::Journal;

use crate::database::{Reopened, Roomy};
use crate::digest;
use crate::error::Error;
use crate::fault::{self, Step};
use redb::{
    Database, DatabaseError, Durability, MultimapTableDefinition, ReadableMultimapTable,
    ReadableTable, StorageBackend, TableDefinition,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Records by key or name, as JSON.
const SNAPSHOTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshots");
/// Key or name by number.
const NUMBERS: TableDefinition<'_, u64, &str> = TableDefinition::new("numbers");
/// Keys of children by the name of their parent.
const CHILDREN: MultimapTableDefinition<'_, &str, &str> = MultimapTableDefinition::new("children");
/// Records of layers by number, as JSON.
const LAYERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("layers");
/// Numbers of layers by the digest of their uncompressed tar.
const DIGESTS: TableDefinition<'_, &str, u64> = TableDefinition::new("digests");
/// Numbers of layers by the digest of the blob that they were converted of.
const BLOBS: TableDefinition<'_, &str, u64> = TableDefinition::new("blobs");
/// Keys and names of the snapshots that a layer is of.
const USERS: MultimapTableDefinition<'_, u64, &str> = MultimapTableDefinition::new("users");
/// The next number.
const COUNTER: TableDefinition<'_, (), u64> = TableDefinition::new("counter");
/// The last line of the journal that is in the other tables.
const JOURNAL: TableDefinition<'_, (), u64> = TableDefinition::new("journal");

/// Numbers that are taken from the database at once.
const NUMBERS_AT_ONCE: u64 = 256;

/// The database.
#[derive(Debug)]
pub(crate) struct Metadata<B: StorageBackend = Roomy> {
    database: Reopened<B>,
    journal: Arc<Journal<B>>,
    /// Numbers that were taken and not given yet.
    numbers: Mutex<Range<u64>>,
}

fn record<T: for<'a> Deserialize<'a>>(name: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Record {
        name: name.to_owned(),
        source,
    })
}

fn bytes<T: Serialize>(name: &str, record: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(record).map_err(|source| Error::Record {
        name: name.to_owned(),
        source,
    })
}

fn missing(name: &str) -> Error {
    Error::NotFound {
        what: "snapshot",
        name: name.to_owned(),
    }
}

impl Metadata {
    /// Opens the database and its journal, or makes them.
    ///
    /// # Errors
    /// [`Error::Database`], also when another process has them open.
    pub(crate) fn open(path: &Path, journal: &Path) -> Result<Self, Error> {
        let path = path.to_path_buf();
        let journal = Roomy::open(journal)?;
        Self::stored_in(move || Roomy::open(&path), journal)
    }
}

impl<B: StorageBackend> Metadata<B> {
    /// The database in what `open` opens.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) fn stored_in(
        open: impl Fn() -> Result<B, DatabaseError> + Send + Sync + 'static,
        journal: B,
    ) -> Result<Self, Error> {
        let journal = Arc::new(Journal::new(journal));
        let lines = Arc::clone(&journal);
        let begin = move |database: &Database| {
            let change = Change(database.begin_write()?);
            change.make_tables()?;
            lines.replay(change)
        };
        Ok(Self {
            database: Reopened::new(open, begin)?,
            journal,
            numbers: Mutex::default(),
        })
    }

    /// Makes a change that is there, on disk, or not at all.
    fn change<T>(&self, make: impl FnOnce(&Change) -> Result<T, Error>) -> Result<T, Error> {
        self.change_kept(|change| Ok((make(change)?, Keep::Now)))
    }

    /// The same, which tells how long it is to last.
    fn change_kept<T>(
        &self,
        make: impl FnOnce(&Change) -> Result<(T, Keep), Error>,
    ) -> Result<T, Error> {
        let change = Change(self.database.begin_write()?);
        // What is not committed is not there.
        let (result, keep) = make(&change)?;
        if keep != Keep::Sometime {
            fault::at(Step::DatabaseChanged)?;
        }
        self.commit_kept(change, keep)?;
        if keep != Keep::Sometime {
            fault::at(Step::DatabaseCommitted)?;
        }
        Ok(result)
    }

    fn commit_kept(&self, mut change: Change, keep: Keep) -> Result<(), Error> {
        if keep != Keep::Now {
            change.0.set_durability(Durability::None)?;
            return Ok(change.0.commit()?);
        }
        let last = self.journal.last();
        change.0.commit()?;
        self.journal.set_synced(last);
        Ok(())
    }

    /// Syncs what was answered and is not synced yet.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) fn sync(&self) -> Result<(), Error> {
        if self.is_synced() {
            return Ok(());
        }
        let change = Change(self.database.begin_write()?);
        // Perhaps who changed something meanwhile did it.
        if self.is_synced() {
            return Ok(());
        }
        fault::at(Step::SyncBegun)?;
        self.commit_kept(change, Keep::Now)
    }

    /// Whether everything that was answered is synced.
    pub(crate) fn is_synced(&self) -> bool {
        self.journal.is_synced()
    }

    /// Waits until there is something to sync.
    pub(crate) fn wait_for_unsynced(&self) {
        self.journal.wait();
    }

    /// A new active snapshot or view, over `merged` if that is what was merged of the layers of its parent. A loss of power may take it
    /// until [`Metadata::sync`] or the next change that is synced.
    ///
    /// # Errors
    /// [`Error::Exists`]; [`Error::NotFound`] and [`Error::State`] of the parent.
    pub(crate) fn create(
        &self,
        key: &str,
        state: State,
        parent: Option<&str>,
        merged: Option<Number>,
        quota: Option<u64>,
        labels: Labels,
    ) -> Result<Snapshot, Error> {
        let number = self.number()?;
        let is_unpacked = is_unpacked_to(key, &labels);
        let make = |change: &Change| {
            if change.snapshot(key)?.is_some() {
                return Err(Error::Exists(key.to_owned()));
            }
            // It may have been thrown away meanwhile.
            let mut known = None;
            if let Some(parent) = parent {
                known = change.check_parent(parent)?.merged;
            }
            let now = Time::now();
            let snapshot = Snapshot {
                number,
                state,
                parent: parent.map(str::to_owned),
                layer: None,
                chain: None,
                merged: merged.filter(|_| merged == known),
                merged_digest: None,
                quota,
                labels,
                created: now,
                updated: now,
            };
            change.put(key, &snapshot)?;
            Ok(snapshot)
        };
        if is_unpacked {
            return self.change_kept(|change| Ok((make(change)?, Keep::Later)));
        }
        let change = Change(self.database.begin_write()?);
        let snapshot = make(&change)?;
        self.journal.commit(change, key, &snapshot)?;
        Ok(snapshot)
    }

    /// A number that was never given before.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) fn number(&self) -> Result<Number, Error> {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if numbers.is_empty() {
            *numbers = self.change(Change::take_numbers)?;
        }
        let number = numbers.start;
        numbers.start += 1;
        Ok(Number(number))
    }

    /// Makes `layer`, whose image is stored under `number`, that of an active snapshot. Returns the one that it had, if
    /// nobody has that any more.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::State`].
    pub(crate) fn set_layer(
        &self,
        snapshot: Number,
        number: Number,
        layer: &Layer,
    ) -> Result<Option<(Number, Layer)>, Error> {
        self.change_kept(|change| {
            let (key, record) = change.active(snapshot)?;
            let keep = Keep::of(&key, &record.labels);
            let mut layer = layer.clone();
            if !layer.blobs.is_empty() {
                layer.came_from(namespace(&key));
            }
            let known = change.layer(number, &layer)?;
            let before = change.give(&key, record, known)?;
            let unused = match before {
                Some(before) => change.drop_unused_layer(before)?,
                None => None,
            };
            Ok((unused, keep))
        })
    }

    /// Makes a layer that is there already that of an active snapshot, unless it has gone meanwhile; `blob` holds it too, and was
    /// read. Returns whether it has not gone, and the layer that the snapshot had, if nobody has that any more.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::State`].
    pub(crate) fn reuse_layer(
        &self,
        snapshot: Number,
        number: Number,
        blob: Option<&str>,
    ) -> Result<Option<Option<(Number, Layer)>>, Error> {
        self.change_kept(|change| {
            let (key, record) = change.active(snapshot)?;
            if change.0.open_table(LAYERS)?.get(number.0)?.is_none() {
                return Ok((None, Keep::Later));
            }
            match blob {
                Some(blob) => change.read_again(number, blob, namespace(&key))?,
                None => change.change_layer(number, |layer| layer.unused_since = None)?,
            }
            let keep = Keep::of(&key, &record.labels);
            let before = change.give(&key, record, number)?;
            let unused = match before {
                Some(before) => change.drop_unused_layer(before)?,
                None => None,
            };
            Ok((Some(unused), keep))
        })
    }

    /// The layer that this blob became.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) fn layer_of_blob(&self, blob: &str) -> Result<Option<(Number, Layer)>, Error> {
        let read = self.database.begin_read()?;
        let number = read.open_table(BLOBS)?.get(blob)?;
        let Some(number) = number.map(|number| number.value()) else {
            return Ok(None);
        };
        match read.open_table(LAYERS)?.get(number)? {
            Some(bytes) => Ok(Some((Number(number), record("a layer", bytes.value())?))),
            None => Ok(None),
        }
    }

    /// The diffID of the layer which makes this chain ID over that of a parent, or over nothing. Nothing but the digests of
    /// all layers tells it: there are few, and they are short.
    ///
    /// # Errors
    /// [`Error::Database`]; [`Error::NotFound`] of the parent.
    pub(crate) fn diff_id(
        &self,
        parent: Option<&str>,
        chain: &str,
    ) -> Result<Option<String>, Error> {
        let below = match parent {
            Some(parent) => match self.get(parent)?.chain {
                Some(below) => below,
                None => return Ok(None),
            },
            None => return Ok(Some(chain.to_owned())),
        };
        for entry in self.database.begin_read()?.open_table(DIGESTS)?.iter()? {
            let (digest, _) = entry?;
            if digest::chain(Some(&below), digest.value()) == chain {
                return Ok(Some(digest.value().to_owned()));
            }
        }
        Ok(None)
    }

    /// Makes a layer a committed snapshot of its own, unless there is one with this chain ID and parent, or the layer is another one
    /// or has gone meanwhile. Returns whether there is one now.
    ///
    /// # Errors
    /// [`Error::Exists`]; [`Error::NotFound`] and [`Error::State`] of the parent.
    pub(crate) fn commit_stored(
        &self,
        name: &str,
        parent: Option<&str>,
        layer: &Stored<'_>,
        chain: &str,
        labels: Labels,
    ) -> Result<bool, Error> {
        let number = self.number()?;
        self.change(|change| {
            if let Some(parent) = parent {
                change.check_parent(parent)?;
            }
            let digest = match layer {
                Stored::Unread(known) | Stored::Read(known, _) => change.layer_digest(*known)?,
                Stored::New(_, layer) => layer.digest.clone(),
            };
            if change.chain_over(parent, digest)?.as_deref() != Some(chain) {
                return Ok(false);
            }
            if let Stored::Read(known, blob) = layer {
                change.read_again(*known, blob, namespace(name))?;
            }
            if let Stored::Unread(known) | Stored::Read(known, _) = layer
                && change.has_committed(*known, parent, chain)?
            {
                return Ok(true);
            }
            if change.snapshot(name)?.is_some() {
                return Err(Error::Exists(name.to_owned()));
            }
            let layer = match layer {
                Stored::Unread(known) => {
                    change.change_layer(*known, |layer| layer.unused_since = None)?;
                    *known
                }
                Stored::Read(known, _) => *known,
                Stored::New(number, layer) => {
                    let mut layer = Layer::clone(layer);
                    layer.came_from(namespace(name));
                    change.layer(*number, &layer)?
                }
            };
            let now = Time::now();
            let snapshot = Snapshot {
                number,
                state: State::Committed,
                parent: parent.map(str::to_owned),
                layer: Some(layer),
                chain: Some(chain.to_owned()),
                merged: None,
                merged_digest: None,
                quota: None,
                labels,
                created: now,
                updated: now,
            };
            change.put(name, &snapshot)?;
            Ok(true)
        })
    }

    /// Takes a layer out that no snapshot has.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) fn remove_unused_layer(
        &self,
        number: Number,
    ) -> Result<Option<(Number, Layer)>, Error> {
        self.change(|change| change.drop_unused_layer(number))
    }

    /// Notes the digests of the images of layers, which are computed anew where that does not last.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) fn note_images(&self, images: &[(Number, &str)]) -> Result<(), Error> {
        if images.is_empty() {
            return Ok(());
        }
        self.change_kept(|change| {
            for (number, digest) in images {
                change.change_layer(*number, |layer| layer.image = Some((*digest).to_owned()))?;
            }
            Ok(((), Keep::Sometime))
        })
    }

    /// Makes an active snapshot a committed one, over `parent` if it was prepared without. `layer`, if it has none yet, is
    /// what was written to it: both become known together, since more may be written if this fails.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Exists`], [`Error::State`].
    pub(crate) fn commit(
        &self,
        key: &str,
        name: &str,
        parent: Option<&str>,
        labels: Labels,
        layer: Option<(Number, &Layer)>,
    ) -> Result<(), Error> {
        self.change(|change| {
            let mut snapshot = change.snapshot(key)?.ok_or_else(|| missing(key))?;
            let refused = |reason: String| {
                Err(Error::State {
                    name: key.to_owned(),
                    reason,
                })
            };
            if snapshot.state != State::Active {
                let state = snapshot.state.name();
                return refused(format!(
                    "only active snapshots can be committed; it is {state}"
                ));
            }
            if change.snapshot(name)?.is_some() {
                return Err(Error::Exists(name.to_owned()));
            }
            change.take(key, &snapshot)?;
            if let Some(parent) = parent {
                match &snapshot.parent {
                    Some(own) if own != parent => {
                        return refused(format!("its parent is {own}, not {parent}"));
                    }
                    _ => drop(change.check_parent(parent)?),
                }
                snapshot.parent = Some(parent.to_owned());
            }
            snapshot.layer = match (snapshot.layer, layer) {
                (None, None) => return refused("it has no layer".to_owned()),
                (None, Some((number, layer))) => Some(change.layer(number, layer)?),
                (Some(_), Some(_)) => {
                    return refused("a layer was applied to it meanwhile".to_owned());
                }
                (own, None) => own,
            };
            snapshot.chain = change.chain(snapshot.parent.as_deref(), snapshot.layer)?;
            snapshot.state = State::Committed;
            // That was of what is below it.
            snapshot.merged = None;
            // That filesystem goes.
            snapshot.quota = None;
            snapshot.labels = labels;
            snapshot.updated = Time::now();
            change.put(name, &snapshot)
        })
    }

    /// Takes a snapshot out, and its layer if no other has it; `keep` keeps one that may be asked for again.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::State`] while others are built on it.
    pub(crate) fn remove(&self, key: &str, keep: bool) -> Result<Removed, Error> {
        self.change(|change| {
            let snapshot = change.snapshot(key)?.ok_or_else(|| missing(key))?;
            let children = change.0.open_multimap_table(CHILDREN)?.get(key)?.len();
            if children > 0 {
                return Err(Error::State {
                    name: key.to_owned(),
                    reason: format!("{children} snapshots are built on it"),
                });
            }
            change.take(key, &snapshot)?;
            let layer = match snapshot.layer {
                Some(layer) if keep && change.layer_digest(layer)?.is_some() => {
                    change.keep_unused_layer(layer)?;
                    None
                }
                Some(layer) => change.drop_unused_layer(layer)?,
                None => None,
            };
            Ok(Removed {
                snapshot: Some(snapshot.number),
                layer,
                merged: snapshot
                    .merged
                    .filter(|_| snapshot.state == State::Committed),
            })
        })
    }

    /// Says which image was merged of the layers of a committed snapshot, and its digest. Returns the one that is known: another one
    /// if there is one already.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn set_merged(
        &self,
        name: &str,
        number: Number,
        digest: String,
    ) -> Result<Number, Error> {
        self.change(|change| {
            let mut snapshot = change.snapshot(name)?.ok_or_else(|| missing(name))?;
            if let Some(known) = snapshot.merged {
                return Ok(known);
            }
            snapshot.merged = Some(number);
            snapshot.merged_digest = Some(digest);
            change.put(name, &snapshot)?;
            Ok(number)
        })
    }

    /// Takes out the image that was merged of the layers of a committed snapshot, unless another snapshot lies over it. Returns
    /// whether it is out.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) fn forget_merged(&self, merged: &Merged) -> Result<bool, Error> {
        self.change(|change| {
            let Some(mut snapshot) = change.snapshot(&merged.name)? else {
                return Ok(false);
            };
            let is_used = change.lies_over_merged(&merged.name, merged.number)?;
            if snapshot.merged != Some(merged.number) || is_used {
                return Ok(false);
            }
            snapshot.merged = None;
            snapshot.merged_digest = None;
            change.put(&merged.name, &snapshot)?;
            Ok(true)
        })
    }

    /// All images that were merged of layers.
    ///
    /// # Errors
    /// [`Error::Record`].
    pub(crate) fn all_merged(&self) -> Result<Vec<Merged>, Error> {
        let mut merged: BTreeMap<Number, Merged> = BTreeMap::new();
        let mut users: Vec<(Number, String)> = Vec::new();
        self.walk(|key, snapshot| {
            let Some(number) = snapshot.merged else {
                return Ok(());
            };
            let key = key.to_owned();
            if snapshot.state == State::Committed {
                let image = Merged {
                    number,
                    name: key,
                    digest: snapshot.merged_digest,
                    users: Vec::new(),
                };
                merged.insert(number, image);
            } else {
                users.push((number, key));
            }
            Ok(())
        })?;
        for (number, key) in users {
            if let Some(merged) = merged.get_mut(&number) {
                merged.users.push(key);
            }
        }
        Ok(merged.into_values().collect())
    }

    /// Changes the labels of a snapshot.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn update(
        &self,
        key: &str,
        make: impl FnOnce(&mut Labels),
    ) -> Result<Snapshot, Error> {
        self.change(|change| {
            let mut snapshot = change.snapshot(key)?.ok_or_else(|| missing(key))?;
            make(&mut snapshot.labels);
            snapshot.updated = Time::now();
            change.put(key, &snapshot)?;
            Ok(snapshot)
        })
    }

    /// A snapshot.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn get(&self, key: &str) -> Result<Snapshot, Error> {
        let table = self.database.begin_read()?.open_table(SNAPSHOTS)?;
        let found = table.get(key)?.ok_or_else(|| missing(key))?;
        record(key, found.value())
    }

    /// The key or name of the snapshot with this number.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn key(&self, number: Number) -> Result<String, Error> {
        let numbers = self.database.begin_read()?.open_table(NUMBERS)?;
        let key = numbers.get(number.0)?.map(|key| key.value().to_owned());
        key.ok_or_else(|| missing(&number.0.to_string()))
    }

    /// The snapshot with this number.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn numbered(&self, number: Number) -> Result<Snapshot, Error> {
        self.get(&self.key(number)?)
    }

    /// A label of the snapshot with this number.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the snapshot.
    pub(crate) fn label(&self, number: Number, label: &str) -> Result<Option<String>, Error> {
        Ok(self.numbered(number)?.labels.remove(label))
    }

    /// The snapshots below one, the nearest first.
    ///
    /// # Errors
    /// [`Error::NotFound`] when one is missing, which would be a fault of the database.
    pub(crate) fn ancestors(&self, snapshot: &Snapshot) -> Result<Vec<Snapshot>, Error> {
        let table = self.database.begin_read()?.open_table(SNAPSHOTS)?;
        let mut chain = Vec::new();
        let mut next = snapshot.parent.clone();
        while let Some(name) = next {
            let found = table.get(name.as_str())?.ok_or_else(|| missing(&name))?;
            let ancestor: Snapshot = record(&name, found.value())?;
            next = ancestor.parent.clone();
            chain.push(ancestor);
        }
        Ok(chain)
    }

    /// All snapshots, with key or name, in the order of these.
    ///
    /// # Errors
    /// Those of `each`, which ends it.
    pub(crate) fn walk(
        &self,
        mut each: impl FnMut(&str, Snapshot) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let table = self.database.begin_read()?.open_table(SNAPSHOTS)?;
        for entry in table.iter()? {
            let (key, bytes) = entry?;
            each(key.value(), record(key.value(), bytes.value())?)?;
        }
        Ok(())
    }

    /// The snapshots that lie on one of these, with key or name.
    ///
    /// # Errors
    /// Those of `each`, which ends it.
    pub(crate) fn walk_children(
        &self,
        parents: &BTreeSet<&str>,
        mut each: impl FnMut(&str, Snapshot) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let read = self.database.begin_read()?;
        let table = read.open_table(SNAPSHOTS)?;
        let children = read.open_multimap_table(CHILDREN)?;
        for parent in parents {
            for child in children.get(*parent)? {
                let child = child?;
                let key = child.value();
                if let Some(bytes) = table.get(key)? {
                    each(key, record(key, bytes.value())?)?;
                }
            }
        }
        Ok(())
    }

    /// A layer.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn layer(&self, number: Number) -> Result<Layer, Error> {
        let table = self.database.begin_read()?.open_table(LAYERS)?;
        let found = table.get(number.0)?.ok_or_else(|| Error::NotFound {
            what: "layer",
            name: number.0.to_string(),
        })?;
        record("a layer", found.value())
    }

    /// The layer with this digest, if there is one.
    ///
    /// # Errors
    /// [`Error::Record`].
    pub(crate) fn layer_with(&self, digest: &str) -> Result<Option<(Number, Layer)>, Error> {
        let read = self.database.begin_read()?;
        let Some(number) = read.open_table(DIGESTS)?.get(digest)? else {
            return Ok(None);
        };
        let number = number.value();
        let Some(found) = read.open_table(LAYERS)?.get(number)? else {
            return Ok(None);
        };
        Ok(Some((Number(number), record("a layer", found.value())?)))
    }

    /// All layers, with keys and names of the snapshots that have them.
    ///
    /// # Errors
    /// [`Error::Record`].
    pub(crate) fn layers_with_users(&self) -> Result<Vec<(Number, Layer, Vec<String>)>, Error> {
        let read = self.database.begin_read()?;
        let (table, users) = (read.open_table(LAYERS)?, read.open_multimap_table(USERS)?);
        let mut layers = Vec::new();
        for entry in table.iter()? {
            let (number, bytes) = entry?;
            let users = users.get(number.value())?;
            let users = users.map(|user| Ok(user?.value().to_owned()));
            let users = users.collect::<Result<_, redb::StorageError>>()?;
            let layer = record("a layer", bytes.value())?;
            layers.push((Number(number.value()), layer, users));
        }
        Ok(layers)
    }

    /// All layers.
    ///
    /// # Errors
    /// [`Error::Record`].
    pub(crate) fn layers(&self) -> Result<Vec<(Number, Layer)>, Error> {
        let table = self.database.begin_read()?.open_table(LAYERS)?;
        let mut layers = Vec::new();
        for entry in table.iter()? {
            let (number, bytes) = entry?;
            layers.push((Number(number.value()), record("a layer", bytes.value())?));
        }
        Ok(layers)
    }
}
