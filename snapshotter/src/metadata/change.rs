//! What a change of the database is made of.

use super::records::{Labels, Layer, Number, Snapshot, State, TARGET, Time, is_unpacked_to};
use super::{
    BLOBS, CHILDREN, COUNTER, DIGESTS, JOURNAL, LAYERS, NUMBERS, NUMBERS_AT_ONCE, SNAPSHOTS, USERS,
    bytes, missing, record,
};
use crate::digest;
use crate::error::Error;
use redb::{ReadableMultimapTable, ReadableTable, WriteTransaction};
use std::ops::Range;

/// A change of the database that is being made.
pub(super) struct Change(pub(super) WriteTransaction);

/// Whether a change must be on disk before anybody is told: a later one that is takes it along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Now,
    Later,
    /// The same; nobody waits for it, and it is made anew where it is lost.
    Sometime,
}

impl Keep {
    /// What is unpacked is lost as a whole.
    pub(super) fn of(key: &str, labels: &Labels) -> Self {
        match is_unpacked_to(key, labels) {
            true => Self::Later,
            false => Self::Now,
        }
    }
}

impl Change {
    /// Makes the tables that are not there, so that reading never finds one missing.
    pub(super) fn make_tables(&self) -> Result<(), Error> {
        self.0.open_table(SNAPSHOTS)?;
        self.0.open_table(NUMBERS)?;
        self.0.open_multimap_table(CHILDREN)?;
        self.0.open_table(LAYERS)?;
        self.0.open_table(DIGESTS)?;
        self.0.open_table(BLOBS)?;
        self.0.open_multimap_table(USERS)?;
        self.0.open_table(COUNTER)?;
        self.0.open_table(JOURNAL)?;
        Ok(())
    }

    /// The last line of the journal that is in the database.
    pub(super) fn journalled(&self) -> Result<u64, Error> {
        let table = self.0.open_table(JOURNAL)?;
        Ok(table.get(())?.map_or(0, |number| number.value()))
    }

    pub(super) fn set_journalled(&self, number: u64) -> Result<(), Error> {
        self.0.open_table(JOURNAL)?.insert((), number)?;
        Ok(())
    }

    /// Makes a snapshot again that was made when the rest of the database was as it is.
    pub(super) fn restore(&self, key: &str, snapshot: &Snapshot) -> Result<(), Error> {
        if self.snapshot(key)?.is_some() {
            return Err(Error::Exists(key.to_owned()));
        }
        if let Some(parent) = &snapshot.parent {
            self.check_parent(parent)?;
        }
        let number = snapshot.number.0;
        let next = self
            .0
            .open_table(COUNTER)?
            .get(())?
            .map(|next| next.value());
        let is_given = next.is_some_and(|next| number < next);
        if !is_given || self.0.open_table(NUMBERS)?.get(number)?.is_some() {
            return Err(Error::State {
                name: key.to_owned(),
                reason: format!("number {number} was not given to it by this database"),
            });
        }
        self.put(key, snapshot)
    }

    pub(super) fn take_numbers(&self) -> Result<Range<u64>, Error> {
        let mut table = self.0.open_table(COUNTER)?;
        let first = table.get(())?.map_or(1, |next| next.value());
        let end = first.saturating_add(NUMBERS_AT_ONCE);
        table.insert((), end)?;
        Ok(first..end)
    }

    pub(super) fn snapshot(&self, key: &str) -> Result<Option<Snapshot>, Error> {
        let table = self.0.open_table(SNAPSHOTS)?;
        let found = table.get(key)?;
        found.map(|bytes| record(key, bytes.value())).transpose()
    }

    pub(super) fn put(&self, key: &str, snapshot: &Snapshot) -> Result<(), Error> {
        let bytes = bytes(key, snapshot)?;
        self.0
            .open_table(SNAPSHOTS)?
            .insert(key, bytes.as_slice())?;
        self.0.open_table(NUMBERS)?.insert(snapshot.number.0, key)?;
        if let Some(parent) = &snapshot.parent {
            self.0
                .open_multimap_table(CHILDREN)?
                .insert(parent.as_str(), key)?;
        }
        if let Some(layer) = snapshot.layer {
            self.0.open_multimap_table(USERS)?.insert(layer.0, key)?;
        }
        Ok(())
    }

    /// Takes a snapshot out, also of what refers to it.
    pub(super) fn take(&self, key: &str, snapshot: &Snapshot) -> Result<(), Error> {
        self.0.open_table(SNAPSHOTS)?.remove(key)?;
        self.0.open_table(NUMBERS)?.remove(snapshot.number.0)?;
        if let Some(parent) = &snapshot.parent {
            self.0
                .open_multimap_table(CHILDREN)?
                .remove(parent.as_str(), key)?;
        }
        if let Some(layer) = snapshot.layer {
            self.0.open_multimap_table(USERS)?.remove(layer.0, key)?;
        }
        Ok(())
    }

    /// Makes a layer that of a snapshot, and returns the one that it had.
    pub(super) fn give(
        &self,
        key: &str,
        mut snapshot: Snapshot,
        layer: Number,
    ) -> Result<Option<Number>, Error> {
        let before = snapshot.layer.replace(layer);
        let bytes = bytes(key, &snapshot)?;
        self.0
            .open_table(SNAPSHOTS)?
            .insert(key, bytes.as_slice())?;
        let mut users = self.0.open_multimap_table(USERS)?;
        if let Some(before) = before {
            users.remove(before.0, key)?;
        }
        users.insert(layer.0, key)?;
        Ok(before)
    }

    /// A parent that can be built on.
    pub(super) fn check_parent(&self, name: &str) -> Result<Snapshot, Error> {
        match self.snapshot(name)? {
            None => Err(Error::NotFound {
                what: "parent",
                name: name.to_owned(),
            }),
            Some(parent) if parent.state != State::Committed => Err(Error::State {
                name: name.to_owned(),
                reason: format!("a parent must be committed; it is {}", parent.state.name()),
            }),
            Some(parent) => Ok(parent),
        }
    }

    /// Whether a snapshot over `name` lies over this image, which was merged of its layers.
    pub(super) fn lies_over_merged(&self, name: &str, merged: Number) -> Result<bool, Error> {
        let children = self.0.open_multimap_table(CHILDREN)?;
        for child in children.get(name)? {
            let child = child?;
            let child = self.snapshot(child.value())?;
            if child.is_some_and(|child| child.merged == Some(merged)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes a layer known whose image is stored under `number`. Returns the number under which it is known: another one if
    /// there was such a layer already.
    pub(super) fn layer(&self, number: Number, layer: &Layer) -> Result<Number, Error> {
        let mut number = number;
        if let Some(digest) = &layer.digest {
            let mut digests = self.0.open_table(DIGESTS)?;
            let known = digests.get(digest.as_str())?.map(|known| known.value());
            match known {
                Some(known) => number = Number(known),
                None => {
                    digests.insert(digest.as_str(), number.0)?;
                }
            }
        }
        let bytes = bytes("a layer", layer)?;
        self.0
            .open_table(LAYERS)?
            .insert(number.0, bytes.as_slice())?;
        for blob in &layer.blobs {
            self.0.open_table(BLOBS)?.insert(blob.as_str(), number.0)?;
        }
        Ok(number)
    }

    /// Drops a layer that no snapshot has any more.
    pub(super) fn drop_unused_layer(
        &self,
        number: Number,
    ) -> Result<Option<(Number, Layer)>, Error> {
        if !self.0.open_multimap_table(USERS)?.get(number.0)?.is_empty() {
            return Ok(None);
        }
        let mut layers = self.0.open_table(LAYERS)?;
        let Some(bytes) = layers.remove(number.0)? else {
            return Ok(None);
        };
        let layer: Layer = record("a layer", bytes.value())?;
        if let Some(digest) = &layer.digest {
            self.0.open_table(DIGESTS)?.remove(digest.as_str())?;
        }
        for blob in &layer.blobs {
            self.0.open_table(BLOBS)?.remove(blob.as_str())?;
        }
        Ok(Some((number, layer)))
    }

    /// The chain ID of a layer over a committed snapshot, or over nothing.
    pub(super) fn chain(
        &self,
        parent: Option<&str>,
        number: Option<Number>,
    ) -> Result<Option<String>, Error> {
        let digest = match number {
            Some(number) => self.layer_digest(number)?,
            None => None,
        };
        self.chain_over(parent, digest)
    }

    /// The same of one with this diffID, if it has one.
    pub(super) fn chain_over(
        &self,
        parent: Option<&str>,
        diff_id: Option<String>,
    ) -> Result<Option<String>, Error> {
        let below = match parent {
            Some(parent) => match self.snapshot(parent)?.and_then(|parent| parent.chain) {
                Some(below) => Some(below),
                None => return Ok(None),
            },
            None => None,
        };
        Ok(diff_id.map(|diff_id| digest::chain(below.as_deref(), &diff_id)))
    }

    /// The diffID of a layer, if it is there and came from a blob.
    pub(super) fn layer_digest(&self, number: Number) -> Result<Option<String>, Error> {
        match self.0.open_table(LAYERS)?.get(number.0)? {
            Some(bytes) => Ok(record::<Layer>("a layer", bytes.value())?.digest),
            None => Ok(None),
        }
    }

    /// Whether a layer is that of a committed snapshot with this chain ID and parent.
    pub(super) fn has_committed(
        &self,
        number: Number,
        parent: Option<&str>,
        chain: &str,
    ) -> Result<bool, Error> {
        for user in self.0.open_multimap_table(USERS)?.get(number.0)? {
            let is_it = self.snapshot(user?.value())?.is_some_and(|user| {
                user.state == State::Committed
                    && user.parent.as_deref() == parent
                    && user.chain.as_deref() == Some(chain)
                    && user.labels.get(TARGET).is_some_and(|told| told == chain)
            });
            if is_it {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes since when a layer has no snapshot, if it has none.
    pub(super) fn keep_unused_layer(&self, number: Number) -> Result<(), Error> {
        if !self.0.open_multimap_table(USERS)?.get(number.0)?.is_empty() {
            return Ok(());
        }
        self.change_layer(number, |layer| layer.unused_since = Some(Time::now()))
    }

    /// Notes that a layer which is there was read in this namespace, from this blob, and is in use.
    pub(super) fn read_again(
        &self,
        number: Number,
        blob: &str,
        namespace: &str,
    ) -> Result<(), Error> {
        self.change_layer(number, |layer| {
            layer.unused_since = None;
            if !layer.blobs.iter().any(|known| known == blob) {
                layer.blobs.push(blob.to_owned());
            }
            layer.came_from(namespace);
        })?;
        self.0.open_table(BLOBS)?.insert(blob, number.0)?;
        Ok(())
    }

    /// Changes the record of a layer, if there is one.
    pub(super) fn change_layer(
        &self,
        number: Number,
        make: impl FnOnce(&mut Layer),
    ) -> Result<(), Error> {
        let mut layers = self.0.open_table(LAYERS)?;
        let found = layers.get(number.0)?;
        let found = found.map(|bytes| record::<Layer>("a layer", bytes.value()));
        if let Some(mut layer) = found.transpose()? {
            make(&mut layer);
            layers.insert(number.0, bytes("a layer", &layer)?.as_slice())?;
        }
        Ok(())
    }

    /// An active snapshot, by its number.
    pub(super) fn active(&self, number: Number) -> Result<(String, Snapshot), Error> {
        let numbers = self.0.open_table(NUMBERS)?;
        let key = numbers.get(number.0)?.map(|key| key.value().to_owned());
        let key = key.ok_or_else(|| missing(&number.0.to_string()))?;
        let snapshot = self.snapshot(&key)?.ok_or_else(|| missing(&key))?;
        match snapshot.state {
            State::Active => Ok((key, snapshot)),
            state => Err(Error::State {
                name: key,
                reason: format!("it is {} and takes no layer", state.name()),
            }),
        }
    }
}
