//! Whether the tables agree with each other.

use super::{
    CHILDREN, COUNTER, DIGESTS, Layer, Metadata, NUMBERS, Number, SNAPSHOTS, Snapshot, State,
    USERS, record,
};
use crate::digest;
use crate::error::Error;
use redb::{ReadableMultimapTable as _, ReadableTable as _, StorageBackend};
use std::collections::{BTreeMap, BTreeSet};

/// All that the tables hold.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) snapshots: BTreeMap<String, Snapshot>,
    pub(crate) layers: BTreeMap<Number, Layer>,
    numbers: BTreeSet<(u64, String)>,
    children: BTreeSet<(String, String)>,
    digests: BTreeSet<(String, u64)>,
    users: BTreeSet<(u64, String)>,
    counter: u64,
}

impl<B: StorageBackend> Metadata<B> {
    /// Reads everything.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Record`].
    pub(crate) fn tables(&self) -> Result<Tables, Error> {
        let database = self.database.begin_read()?;
        let mut tables = Tables {
            snapshots: BTreeMap::new(),
            layers: self.layers()?.into_iter().collect(),
            numbers: BTreeSet::new(),
            children: BTreeSet::new(),
            digests: BTreeSet::new(),
            users: BTreeSet::new(),
            counter: database
                .open_table(COUNTER)?
                .get(())?
                .map_or(1, |next| next.value()),
        };
        for entry in database.open_table(SNAPSHOTS)?.iter()? {
            let (key, bytes) = entry?;
            let snapshot = record(key.value(), bytes.value())?;
            tables.snapshots.insert(key.value().to_owned(), snapshot);
        }
        for entry in database.open_table(NUMBERS)?.iter()? {
            let (number, key) = entry?;
            tables
                .numbers
                .insert((number.value(), key.value().to_owned()));
        }
        for entry in database.open_multimap_table(CHILDREN)?.iter()? {
            let (parent, children) = entry?;
            for child in children {
                let child = child?.value().to_owned();
                tables.children.insert((parent.value().to_owned(), child));
            }
        }
        for entry in database.open_table(DIGESTS)?.iter()? {
            let (digest, number) = entry?;
            tables
                .digests
                .insert((digest.value().to_owned(), number.value()));
        }
        for entry in database.open_multimap_table(USERS)?.iter()? {
            let (layer, users) = entry?;
            for user in users {
                tables
                    .users
                    .insert((layer.value(), user?.value().to_owned()));
            }
        }
        Ok(tables)
    }
}

/// Tells where what follows from the records is not what a table has.
fn compare<T: std::fmt::Debug + Ord>(
    what: &str,
    follows: &BTreeSet<T>,
    found: &BTreeSet<T>,
    findings: &mut Vec<String>,
) {
    let missing = follows.difference(found).map(|row| ("misses", row));
    let left = found.difference(follows).map(|row| ("still has", row));
    findings.extend(
        missing
            .chain(left)
            .map(|(verb, row)| format!("table of {what} {verb} {row:?}")),
    );
}

impl Tables {
    /// The chain ID of a snapshot's layer and those below it.
    fn chain(&self, snapshot: &Snapshot) -> Option<String> {
        let below = match &snapshot.parent {
            Some(parent) => Some(self.snapshots.get(parent)?.chain.as_deref()?),
            None => None,
        };
        let digest = self.layers.get(&snapshot.layer?)?.digest.as_deref()?;
        Some(digest::chain(below, digest))
    }

    /// Where the tables contradict each other.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let (mut numbers, mut children) = (BTreeSet::new(), BTreeSet::new());
        let (mut users, mut digests) = (BTreeSet::new(), BTreeSet::new());
        let mut given = BTreeSet::new();
        for (key, snapshot) in &self.snapshots {
            numbers.insert((snapshot.number.0, key.clone()));
            if !given.insert(snapshot.number) {
                findings.push(format!("number of {key:?} is given twice"));
            }
            if let Some(parent) = &snapshot.parent {
                children.insert((parent.clone(), key.clone()));
                match self.snapshots.get(parent) {
                    Some(found) if found.state == State::Committed => {}
                    found => findings.push(format!("parent of {key:?}: {found:?}")),
                }
            }
            match snapshot.layer {
                Some(layer) => {
                    users.insert((layer.0, key.clone()));
                    if !self.layers.contains_key(&layer) {
                        findings.push(format!("layer {} of {key:?} has no record", layer.0));
                    }
                }
                None if snapshot.state == State::Committed => {
                    findings.push(format!("{key:?} is committed and has no layer"));
                }
                None => {}
            }
            if snapshot.chain.is_some() && snapshot.chain != self.chain(snapshot) {
                findings.push(format!("the chain ID of {key:?} is not that of its layers"));
            }
        }
        for (number, layer) in &self.layers {
            if !given.insert(*number) {
                findings.push(format!("number of layer {} is given twice", number.0));
            }
            let is_kept = layer.unused_since.is_some();
            if !is_kept && !users.iter().any(|(used, _)| *used == number.0) {
                findings.push(format!("layer {} belongs to no snapshot", number.0));
            }
            if let Some(digest) = &layer.digest {
                digests.insert((digest.clone(), number.0));
            }
        }
        if given.last().is_some_and(|last| last.0 >= self.counter) {
            findings.push(format!("the next number, {}, is given", self.counter));
        }
        compare("numbers", &numbers, &self.numbers, &mut findings);
        compare("children", &children, &self.children, &mut findings);
        compare("digests", &digests, &self.digests, &mut findings);
        compare("users", &users, &self.users, &mut findings);
        findings
    }
}
