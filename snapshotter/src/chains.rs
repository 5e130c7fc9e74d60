//! Which layers lie below snapshots. Reading it from the database costs a container with a hundred layers a millisecond each time, so
//! it is remembered: a committed snapshot keeps its layer and its parent.

use crate::error::Error;
use crate::metadata::{Number, Snapshot};
use crate::mounts::Lower;
use crate::snapshotter::Snapshotter;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Committed snapshots by number.
#[derive(Debug, Default)]
pub(crate) struct Chains(Mutex<HashMap<Number, Link>>);

#[derive(Debug)]
struct Link {
    layer: Number,
    lower: Lower,
    below: Option<Number>,
}

impl Chains {
    fn links(&self) -> MutexGuard<'_, HashMap<Number, Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a snapshot that was removed.
    pub(crate) fn forget(&self, snapshot: Number) {
        self.links().remove(&snapshot);
    }

    /// Forgets all, since the files of a layer became other ones.
    pub(crate) fn forget_all(&self) {
        self.links().clear();
    }
}

impl Snapshotter {
    /// The layers of a committed snapshot and of those below it, the topmost first. Of a layer that comes again further down, which
    /// overlayfs refuses, the topmost hides everything.
    ///
    /// # Errors
    /// [`Error`] of the database; [`Error::NotFound`] where a layer is missing in it.
    pub(crate) fn layers_up_to(&self, top: &Snapshot) -> Result<Vec<(Number, Lower)>, Error> {
        let mut links = self.chains.links();
        self.learn(top, &mut links)?;
        let (mut layers, mut seen) = (Vec::new(), HashSet::new());
        let mut next = Some(top.number);
        while let Some(number) = next {
            let link = links
                .get(&number)
                .ok_or_else(|| missing("snapshot", number))?;
            if seen.insert(link.layer) {
                layers.push((link.layer, link.lower.clone()));
            }
            next = link.below;
        }
        Ok(layers)
    }

    /// Learns of a snapshot and of those below it what is not known: all or nothing.
    fn learn(&self, top: &Snapshot, links: &mut HashMap<Number, Link>) -> Result<(), Error> {
        let mut learnt = Vec::new();
        let mut next = Some(top.clone());
        while let Some(snapshot) = next.filter(|next| !links.contains_key(&next.number)) {
            let layer = snapshot.layer;
            let layer = layer.ok_or_else(|| missing("layer of", snapshot.number))?;
            let lower = self.layer(layer)?;
            let parent = snapshot.parent.as_deref();
            next = parent.map(|name| self.metadata.get(name)).transpose()?;
            let below = next.as_ref().map(|below| below.number);
            let link = Link {
                layer,
                lower,
                below,
            };
            learnt.push((snapshot.number, link));
        }
        links.extend(learnt);
        Ok(())
    }
}

/// A fault of the database.
fn missing(what: &'static str, number: Number) -> Error {
    Error::NotFound {
        what,
        name: number.0.to_string(),
    }
}
