//! Loss of power, death of the process and failure of the disk at any moment: what was answered is there, but for what was
//! prepared last where power is lost, and what was being changed is there wholly or not at all.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::{Form, Labels, Layer, Metadata, Number, State};
use crate::error::Error;
use proptest::prelude::*;
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

/// Bytes that a disk writes as one.
const SECTOR: usize = 512;

/// A change of a file that may be lost.
#[derive(Debug, Clone)]
enum Write {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Bytes(offset, data) => {
                // Bytes behind an end that was lost lengthen the file.
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
            Self::Length(length) => bytes.resize(*length, 0),
        }
    }
}

#[derive(Debug, Default)]
struct Content {
    /// What is there when power is lost.
    synced: Vec<u8>,
    /// What is read.
    cached: Vec<u8>,
    pending: Vec<Write>,
}

/// Calls that both files of a database still answer, if it is not all.
type Left = Arc<Mutex<Option<u32>>>;

/// A file in a cache over a disk.
#[derive(Debug, Clone)]
struct Disk {
    content: Arc<Mutex<Content>>,
    left: Left,
}

impl Disk {
    fn new(left: &Left) -> Self {
        Self {
            content: Arc::default(),
            left: Arc::clone(left),
        }
    }

    fn call<T>(&self, make: impl FnOnce(&mut Content) -> T) -> io::Result<T> {
        match &mut *self.left.lock().unwrap() {
            Some(0) => return Err(io::Error::other("no power")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(make(&mut self.content.lock().unwrap()))
    }

    fn write(&self, write: Write) -> io::Result<()> {
        self.call(|content| {
            write.apply(&mut content.cached);
            content.pending.push(write);
        })
    }

    /// Power is back: of what was not synced, each sector is there if `chance` says so.
    fn restart(&self, mut chance: impl FnMut() -> bool) {
        let mut content = self.content.lock().unwrap();
        for write in std::mem::take(&mut content.pending) {
            let parts = match write {
                Write::Bytes(offset, data) => {
                    let mut parts = Vec::new();
                    let mut rest = &data[..];
                    let mut at = offset;
                    while !rest.is_empty() {
                        let (part, more) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                        parts.push(Write::Bytes(at, part.to_vec()));
                        (at, rest) = (at + part.len(), more);
                    }
                    parts
                }
                length @ Write::Length(_) => vec![length],
            };
            for part in parts {
                if chance() {
                    part.apply(&mut content.synced);
                }
            }
        }
        content.cached = content.synced.clone();
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.call(|content| content.cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.call(|content| {
            content
                .cached
                .get(offset..offset + out.len())
                .map(|bytes| out.copy_from_slice(bytes))
                .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        })?
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Disk::write(self, Write::Length(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(|content| {
            for write in std::mem::take(&mut content.pending) {
                write.apply(&mut content.synced);
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        Disk::write(self, Write::Bytes(offset, data.to_vec()))
    }
}

/// A call. Keys, names and digests are few, so that they meet.
#[derive(Debug, Clone)]
enum Call {
    Create(u8, State, Option<u8>),
    SetLayer(u8, Option<u8>),
    Commit(u8, u8, Option<u8>, bool),
    Remove(bool, u8),
    Update(bool, u8, u8),
    Sync,
}

fn key(key: u8) -> String {
    format!("key-{key}")
}

fn name(name: u8) -> String {
    format!("name-{name}")
}

fn either(is_key: bool, number: u8) -> String {
    if is_key { key(number) } else { name(number) }
}

fn labels(label: u8) -> Labels {
    // Long, so that pages are many.
    [("label".to_owned(), label.to_string().repeat(300))].into()
}

impl Call {
    fn make<B: StorageBackend>(&self, metadata: &Metadata<B>) -> Result<(), Error> {
        let layer = |digest: Option<u8>| Layer {
            digest: digest.map(|digest| format!("sha256:{digest}")),
            tar_size: 1,
            inodes: 2,
            form: Form::Converted,
            ..Layer::default()
        };
        match self {
            Self::Create(own, state, parent) => metadata
                .create(
                    &key(*own),
                    *state,
                    parent.map(name).as_deref(),
                    None,
                    None,
                    labels(*own),
                )
                .map(drop),
            Self::SetLayer(own, digest) => {
                let snapshot = metadata.get(&key(*own))?;
                // Not given by a transaction of its own, that this one can be told from.
                let digit = u64::from(digest.unwrap_or(9));
                let number = Number(1_000_000 + 10 * snapshot.number.0 + digit);
                metadata
                    .set_layer(snapshot.number, number, &layer(*digest))
                    .map(drop)
            }
            Self::Commit(own, new, parent, with_layer) => {
                let number = metadata.get(&key(*own))?.number.0 + 2_000_000;
                let layer = layer(None);
                let layer = with_layer.then_some((Number(number), &layer));
                let parent = parent.map(name);
                metadata.commit(
                    &key(*own),
                    &name(*new),
                    parent.as_deref(),
                    labels(*new),
                    layer,
                )
            }
            Self::Remove(is_key, own) => metadata.remove(&either(*is_key, *own), false).map(drop),
            Self::Update(is_key, own, label) => metadata
                .update(&either(*is_key, *own), |all| *all = labels(*label))
                .map(drop),
            Self::Sync => metadata.sync(),
        }
    }

    /// Whether a loss of power may take it back.
    const fn may_be_lost(&self) -> bool {
        matches!(self, Self::Create(..))
    }
}

fn call() -> impl Strategy<Value = Call> {
    let small = 0..6u8;
    let maybe = || prop::option::of(0..6u8);
    let state = prop_oneof![3 => Just(State::Active), 1 => Just(State::View)];
    prop_oneof![
        4 => (small.clone(), state, maybe()).prop_map(|(own, state, parent)| Call::Create(own, state, parent)),
        4 => (small.clone(), maybe()).prop_map(|(own, digest)| Call::SetLayer(own, digest)),
        4 => (small.clone(), small.clone(), maybe(), any::<bool>())
            .prop_map(|(own, new, parent, with_layer)| Call::Commit(own, new, parent, with_layer)),
        2 => (any::<bool>(), small.clone()).prop_map(|(is_key, own)| Call::Remove(is_key, own)),
        1 => (any::<bool>(), small.clone(), small)
            .prop_map(|(is_key, own, label)| Call::Update(is_key, own, label)),
        1 => Just(Call::Sync),
    ]
}

/// What comes in between.
#[derive(Debug, Clone, Copy)]
enum Mishap {
    /// Power is lost, with a seed of what is on disk then.
    Power(u64),
    /// The process dies.
    Kill,
    /// The disk fails for a moment.
    Failure,
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        2 => any::<u64>().prop_map(Mishap::Power),
        1 => Just(Mishap::Kill),
        1 => Just(Mishap::Failure),
    ]
}

/// A snapshot, without what depends on when it was made: with the digest of its layer, if that has one, in place of a number.
type Known = (&'static str, Option<String>, Labels, Option<Option<String>>);

/// All snapshots, the digests of all layers, and what contradicts itself.
type Everything = (BTreeMap<String, Known>, Vec<Option<String>>, Vec<String>);

fn state<B: StorageBackend>(metadata: &Metadata<B>) -> Everything {
    let tables = metadata.tables().unwrap();
    // The numbers of layers here are not given by the counter.
    let contradictions = tables
        .contradictions()
        .into_iter()
        .filter(|finding| !finding.starts_with("the next number"));
    let contradictions = contradictions.collect();
    let mut digests: Vec<_> = (tables.layers.values())
        .map(|layer| layer.digest.clone())
        .collect();
    digests.sort();
    let digest = |number: Number| tables.layers[&number].digest.clone();
    let snapshots = tables.snapshots.iter().map(|(key, snapshot)| {
        let layer = snapshot.layer.map(digest);
        let (parent, labels) = (snapshot.parent.clone(), snapshot.labels.clone());
        (key.clone(), (snapshot.state.name(), parent, labels, layer))
    });
    (snapshots.collect(), digests, contradictions)
}

/// A database and its journal.
struct Files {
    left: Left,
    database: Disk,
    journal: Disk,
}

impl Files {
    fn new() -> Self {
        let left = Left::default();
        Self {
            database: Disk::new(&left),
            journal: Disk::new(&left),
            left,
        }
    }

    fn open(&self) -> Metadata<Disk> {
        let disk = self.database.clone();
        Metadata::stored_in(move || Ok(disk.clone()), self.journal.clone()).unwrap()
    }

    fn set_left(&self, left: Option<u32>) {
        *self.left.lock().unwrap() = left;
    }

    fn is_off(&self) -> bool {
        *self.left.lock().unwrap() == Some(0)
    }

    /// What is there behind a mishap.
    fn after(&self, mishap: Mishap, metadata: Metadata<Disk>) -> Metadata<Disk> {
        if let Mishap::Failure = mishap {
            self.set_left(None);
            return metadata;
        }
        drop(metadata);
        self.set_left(None);
        if let Mishap::Power(seed) = mishap {
            let mut random = seed | 1;
            let mut chance = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % 2 == 0
            };
            self.database.restart(&mut chance);
            self.journal.restart(&mut chance);
        }
        self.open()
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.min(5000) / 8,
        ..ProptestConfig::default()
    })]

    /// Each call with the number of disk operations after which there is a mishap, if there is one.
    #[test]
    fn nothing_is_lost_but_what_was_prepared_last(
        calls in prop::collection::vec((call(), prop::option::of(0..60u32), mishap()), 1..40),
    ) {
        let reference = Files::new().open();
        let files = Files::new();
        let mut metadata = files.open();
        // What a loss of power may take back, with what was there before each.
        let mut unsynced: Vec<(Call, Everything)> = Vec::new();
        for (call, cut, mishap) in calls {
            let before = state(&reference);
            let expected = call.make(&reference).map_err(|error| error.to_string());
            let after = state(&reference);
            prop_assert_eq!(&after.2, &Vec::<String>::new());
            files.set_left(cut);
            let result = call.make(&metadata).map_err(|error| error.to_string());
            let is_off = files.is_off();
            files.set_left(None);
            if !is_off {
                prop_assert_eq!(&result, &expected);
            }
            if result.is_ok() && !call.may_be_lost() {
                unsynced.clear();
            } else if expected.is_ok() {
                unsynced.push((call.clone(), before.clone()));
            }
            if !is_off {
                continue;
            }
            metadata = files.after(mishap, metadata);
            let found = state(&metadata);
            let mut lost = Vec::new();
            if found != after {
                let first = unsynced.iter().position(|(_, before)| *before == found);
                prop_assert!(first.is_some(), "{:?} leaves {:?}", mishap, found);
                lost = unsynced.split_off(first.unwrap());
            } else if expected.is_ok() && !call.may_be_lost() {
                unsynced.clear();
            }
            // Of what was answered only a loss of power takes anything.
            let most = usize::from(result.is_err());
            let is_power = matches!(mishap, Mishap::Power(_));
            prop_assert!(is_power || lost.len() <= most, "{:?} takes {:?}", mishap, lost);
            if !matches!(mishap, Mishap::Failure) {
                // Opening syncs.
                unsynced.clear();
            }
            for (call, before) in lost {
                call.make(&metadata).unwrap();
                match call.may_be_lost() {
                    true => unsynced.push((call, before)),
                    false => unsynced.clear(),
                }
            }
        }
        prop_assert_eq!(state(&metadata), state(&reference));
    }
}
