//! Layers that are here when containerd prepares the snapshot to which it will unpack them: how it is told.
//!
//! Before it unpacks a layer, or even downloads it, it prepares that snapshot. A label says what it will become: its chain ID, which is
//! made of the diffID of the layer and of all below. What is here then is either known from before, and containerd spares the download
//! (`skip_download`), or it was downloaded and converted meanwhile, and containerd spares two calls and two writes to its database.
//!
//! | containerd | is told | and then |
//! |---|---|---|
//! | all, layer by layer | that it exists | looks for a committed snapshot with that label and parent, and takes it for its own |
//! | from 2.4 on, side by side, so that nothing is said of what is below | mounts to which nothing can be written | commits the snapshot |

use crate::apply::{Converted, DIFF_ID};
use crate::digest;
use crate::error::Error;
use crate::metadata::{Labels, Layer, Snapshot, State, Stored, TARGET, namespace};
use crate::metrics::Found;
use crate::snapshotter::Snapshotter;

/// The committed snapshot that is wanted.
struct Wanted<'a> {
    /// Of the snapshot that would be unpacked to.
    key: &'a str,
    name: String,
    parent: Option<&'a str>,
    /// Its chain ID.
    target: &'a str,
    labels: &'a Labels,
}

impl Snapshotter {
    /// Makes sure that there is a committed snapshot of what is about to be unpacked to a new one with this key, and returns what
    /// it is called by that label, if its layer is here. One that is being converted is waited for, for a moment.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn stored(
        &self,
        key: &str,
        parent: Option<&str>,
        labels: &Labels,
    ) -> Result<Option<String>, Error> {
        let Some(target) = labels.get(TARGET) else {
            return Ok(None);
        };
        // Beside its key, which no other snapshot of any namespace has.
        let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let wanted = Wanted {
            key,
            name: format!("{folder}/{target}"),
            parent,
            target,
            labels,
        };
        let is_there = self.commit_known(&wanted)? || self.commit_ahead(&wanted)?;
        Ok(is_there.then(|| target.clone()))
    }

    /// Of a layer that the namespace may have unread.
    fn commit_known(&self, wanted: &Wanted<'_>) -> Result<bool, Error> {
        if !self.cache.skip_download {
            return Ok(false);
        }
        let Some(diff_id) = self.metadata.diff_id(wanted.parent, wanted.target)? else {
            return Ok(false);
        };
        let Some((number, layer)) = self.metadata.layer_with(&diff_id)? else {
            return Ok(false);
        };
        if !self.is_shared_with(wanted.key, &layer) || !self.is_whole(number, &layer)? {
            return Ok(false);
        }
        let is_there = self.commit_stored(wanted, &Stored::Unread(number))?;
        if is_there {
            self.metrics.found(Found::Here);
            tracing::info!(method = "Prepare", key = wanted.target, "not downloaded");
        }
        Ok(is_there)
    }

    /// Of a layer that was converted before it was asked for.
    fn commit_ahead(&self, wanted: &Wanted<'_>) -> Result<bool, Error> {
        // Layers are converted ahead of those below them; side by side nothing is said of these.
        let Some(parent) = wanted.parent.filter(|_| self.layers.ahead > 0) else {
            return Ok(false);
        };
        let Snapshot {
            chain: Some(chain),
            layer: Some(below),
            ..
        } = self.metadata.get(parent)?
        else {
            return Ok(false);
        };
        let below = self.metadata.layer(below)?.blobs;
        let is_it = |layer: &Layer| {
            let diff_id = layer.digest.as_deref();
            diff_id.is_some_and(|diff_id| digest::chain(Some(&chain), diff_id) == wanted.target)
        };
        let taken = (self.ahead).take_above(namespace(wanted.key), &below, is_it);
        let Some((blob, converted)) = taken else {
            return Ok(false);
        };
        let Converted {
            mut draft,
            mut layer,
        } = converted;
        layer.blobs.push(blob.clone());
        let use_known = |number, known| {
            let is_used = self.is_whole(number, &known)?
                && self.commit_stored(wanted, &Stored::Read(number, &blob))?;
            Ok(is_used.then(|| {
                self.metrics.found(Found::Here);
                known
            }))
        };
        let kept = self.keep(&mut draft, layer, use_known, |number, layer| {
            match self.commit_stored(wanted, &Stored::New(number, layer))? {
                true => {
                    self.metrics.found(Found::Nowhere);
                    Ok(())
                }
                false => Err(Error::NotFound {
                    what: "parent",
                    name: parent.to_owned(),
                }),
            }
        });
        // Nobody will ask for those above it.
        let layer = kept.inspect_err(|_| self.ahead.give_up(&blob))?;
        self.metrics.was_ahead();
        self.metrics.measured("tar", layer.tar_size);
        tracing::info!(method = "Prepare", key = wanted.target, "unpacked before");
        Ok(true)
    }

    fn commit_stored(&self, wanted: &Wanted<'_>, stored: &Stored<'_>) -> Result<bool, Error> {
        let Wanted {
            name,
            parent,
            target,
            labels,
            ..
        } = wanted;
        let labels = Labels::clone(labels);
        self.metadata
            .commit_stored(name, *parent, stored, target, labels)
    }

    /// Gives a snapshot that was just made the layer that is about to be unpacked to it, if it is here and the namespace may have
    /// it unread. Returns whether it was.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn stage(&self, snapshot: &Snapshot) -> Result<bool, Error> {
        let diff_id = snapshot.labels.get(DIFF_ID);
        let is_wanted = self.cache.skip_download && snapshot.state == State::Active;
        let Some(diff_id) = diff_id.filter(|_| is_wanted) else {
            return Ok(false);
        };
        // Should the layer be lost before it is committed, then what is in the empty folder is none.
        self.store.mark_applied(snapshot.number)?;
        match self.reuse_unread(snapshot.number, diff_id)? {
            Some(_) => {
                tracing::info!(method = "Prepare", key = diff_id, "not downloaded");
                Ok(true)
            }
            None => {
                self.store.unmark_applied(snapshot.number)?;
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::ahead::place::{self, NAMESPACE, Place, layers};
    use crate::api::types::Descriptor;
    use crate::apply::apply;
    use crate::content::Blob;
    use crate::media_type;
    use crate::metadata::Number;
    use std::sync::Arc;

    /// The lowest layer of an image, unpacked and committed under the name that is returned, with its chain ID.
    fn lowest(place: &Place) -> (String, String) {
        let Place { snapshotter, .. } = place;
        place.download('0');
        let key = format!("{NAMESPACE}/1/extract-0");
        let prepared = snapshotter.prepare(&key, State::Active, None, Labels::new());
        prepared.unwrap();
        let layer = Descriptor {
            media_type: media_type::TAR.to_owned(),
            digest: place::digest('0'),
            ..Descriptor::default()
        };
        let open = || {
            let file = place.content.file(&place::digest('0'));
            Ok(Blob::File(file.unwrap().unwrap()))
        };
        let number = snapshotter.metadata.get(&key).unwrap().number;
        let applied = apply(snapshotter, number, &layer, &Arc::default(), &open).unwrap();
        let name = format!("{NAMESPACE}/2/lowest");
        let committed = snapshotter.commit(&key, &name, None, Labels::new());
        committed.unwrap();
        (name, applied.digest)
    }

    /// Tells it of a layer that is to become a snapshot with this chain ID.
    fn ask(place: &Place, number: u64, parent: &str, target: &str) -> Result<(), Error> {
        let key = format!("{NAMESPACE}/{number}/extract-{number}");
        let labels = Labels::from([(TARGET.to_owned(), target.to_owned())]);
        let Place { snapshotter, .. } = place;
        let prepared = snapshotter.prepare(&key, State::Active, Some(parent), labels);
        prepared.map(drop)
    }

    /// What containerd finds then: snapshots with this label over the parent.
    fn found(place: &Place, parent: &str, target: &str) -> Vec<(String, Option<Number>)> {
        let mut found = Vec::new();
        let parents = [parent].into();
        let listed = place
            .snapshotter
            .metadata
            .walk_children(&parents, |name, snapshot| {
                let told = snapshot.labels.get(TARGET);
                if snapshot.state == State::Committed && told.is_some_and(|told| told == target) {
                    found.push((name.to_owned(), snapshot.layer));
                }
                Ok(())
            });
        listed.unwrap();
        found
    }

    #[test]
    fn what_was_converted_ahead_exists_when_it_is_prepared() {
        let place = Place::new();
        let Place { snapshotter, .. } = &place;
        let (lowest, below) = lowest(&place);
        let id = place.add(layers("012"), 0).unwrap();
        place.download('1');
        let diff_id = place.convert_next(id, '1');
        let target = digest::chain(Some(&below), &diff_id);

        // Another layer than the one above it: that one is for who asks for it.
        let other = digest::chain(Some(&below), &below);
        ask(&place, 3, &lowest, &other).unwrap();
        assert_eq!(found(&place, &lowest, &other), []);
        assert_eq!(place.ingested(), 1);

        let exists = ask(&place, 4, &lowest, &target);
        assert!(matches!(&exists, Err(Error::Exists(name)) if *name == target));
        let [(name, Some(number))] = &*found(&place, &lowest, &target) else {
            panic!("there is one");
        };
        assert_eq!(*name, format!("{NAMESPACE}/4/{target}"));
        let layer = snapshotter.metadata.layer(*number).unwrap();
        assert_eq!(layer.digest.as_deref(), Some(&*diff_id));
        assert_eq!(layer.blobs, [place::digest('1')]);
        assert_eq!(layer.namespaces, [NAMESPACE]);
        assert!(snapshotter.is_whole(*number, &layer).unwrap());
        assert_eq!(place.ingested(), 0);
        assert_eq!(snapshotter.metadata.get(name).unwrap().chain, Some(target));
    }

    /// Its content came in another blob before.
    #[test]
    fn what_was_converted_ahead_and_is_here_is_stored_once() {
        let place = Place::new();
        let Place { snapshotter, .. } = &place;
        let (lowest, below) = lowest(&place);
        let id = place.add(layers("0a2"), 0).unwrap();
        place.download_as('a', '0');
        assert_eq!(place.convert_next(id, 'a'), below);
        let target = digest::chain(Some(&below), &below);
        ask(&place, 3, &lowest, &target).unwrap_err();
        let [(_, Some(number))] = &*found(&place, &lowest, &target) else {
            panic!("there is one");
        };
        let layer = snapshotter.metadata.layer(*number).unwrap();
        assert_eq!(layer.blobs, ['0', 'a'].map(place::digest));
        let known = snapshotter.metadata.get(&lowest).unwrap();
        assert_eq!(known.layer, Some(*number));
        assert_eq!(place.ingested(), 0);
    }
}
