//! Whether database, files and mounts agree.

use crate::error::Error;
use crate::metadata::{Metadata, Number, State};
use crate::store::Store;
use erofs_mount::{ext4, table};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// What contradicts itself below the root folder of a snapshotter that does not run: a snapshot without its files, a file or
/// mount that belongs to nothing, tables of the database that disagree. Nothing, after a start.
///
/// # Errors
/// [`Error`] where the database, the folders or the mount table cannot be read; [`Error::Database`] also while the snapshotter
/// runs.
pub fn contradictions(root: &Path) -> Result<Vec<String>, Error> {
    let store = Store::open(root)?;
    let tables = Metadata::open(&store.database(), &store.journal())?.tables()?;
    let mut findings = tables.contradictions();

    let mut images = BTreeSet::new();
    for (number, layer) in &tables.layers {
        images.extend(store.files(*number, layer)?);
    }
    let mut merged = BTreeSet::new();
    for snapshot in tables.snapshots.values() {
        merged.extend(snapshot.merged);
    }
    images.extend(merged.iter().map(|number| store.merged(*number)));
    let files = store.layer_files()?.into_iter().collect();
    differences("image", &images, &files, &mut findings);
    let ingest: BTreeSet<PathBuf> = store.ingested()?.into_iter().collect();
    differences("ingest", &BTreeSet::new(), &ingest, &mut findings);

    let filesystems = ext4::list().map_err(Error::file("reading", Path::new(MOUNTINFO)))?;
    let mut written: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for mounted in filesystems {
        let (point, image) = (mounted.mount_point, mounted.image.unwrap_or_default());
        if point.starts_with(store.root()) && written.insert(point.clone(), image).is_some() {
            findings.push(format!("{} is mounted twice", point.display()));
        }
    }
    let (mut folders, mut quotas) = (BTreeSet::new(), BTreeSet::new());
    let mut writables = BTreeSet::new();
    for snapshot in tables.snapshots.values() {
        let is_active = snapshot.state == State::Active;
        if is_active || (snapshot.state == State::View && snapshot.parent.is_none()) {
            folders.insert(snapshot.number);
            let folder = store.snapshot(snapshot.number);
            let mounted = written.remove(&folder);
            if snapshot.quota.is_some() {
                quotas.insert(snapshot.number);
                let image = store.writable(snapshot.number);
                match mounted {
                    // Nobody asked for it since the machine was started.
                    None => continue,
                    Some(backing) if backing == image => {}
                    Some(backing) => {
                        let (folder, backing) = (folder.display(), backing.display());
                        findings.push(format!("{backing} is mounted on {folder}"));
                    }
                }
                writables.insert(image);
            } else if mounted.is_some() {
                findings.push(format!("{} has no quota", folder.display()));
            }
            for folder in [store.upper(snapshot.number), store.work(snapshot.number)] {
                if !folder.is_dir() {
                    findings.push(format!("{} is missing", folder.display()));
                }
            }
        }
    }
    let found = store.snapshots()?.into_iter().collect();
    differences("folder of a snapshot", &folders, &found, &mut findings);

    let found = store.writables()?.into_iter().collect();
    differences("filesystem of a snapshot", &quotas, &found, &mut findings);
    for point in written.keys() {
        findings.push(format!("{} is mounted", point.display()));
    }

    for number in store.all_mapped()? {
        let mut snapshots = tables.snapshots.values();
        if !snapshots.any(|snapshot| snapshot.number == number) {
            findings.push(format!(
                "{} belongs to nothing",
                store.mapped(number).display()
            ));
        }
    }

    let points = store.mount_points()?.into_iter();
    let points: BTreeMap<PathBuf, Number> = points
        .map(|number| (store.mount_point(number), number))
        .collect();
    for (point, number) in &points {
        if !tables.layers.contains_key(number) && !merged.contains(number) {
            findings.push(format!("mount point {} is of no layer", point.display()));
        }
    }
    let mut mounted = BTreeSet::new();
    for mount in table::list().map_err(Error::file("reading", Path::new(MOUNTINFO)))? {
        let point = mount.mount_point;
        if point.starts_with(store.root()) {
            if !points.contains_key(&point) && !point.starts_with(store.root().join("i")) {
                findings.push(format!("{} is mounted", point.display()));
            }
            if !mounted.insert(point.clone()) {
                findings.push(format!("{} is mounted twice", point.display()));
            }
        }
    }
    let mut held = BTreeSet::new();
    let devices = loop_devices().map_err(Error::file("reading", Path::new("/sys/block")))?;
    for (device, backing) in devices {
        if backing.starts_with(store.root()) {
            // Two devices would write over each other.
            let is_second = writables.contains(&backing) && !held.insert(backing.clone());
            if is_second || !(images.contains(&backing) || writables.contains(&backing)) {
                let (device, backing) = (device.display(), backing.display());
                findings.push(format!("{device} holds {backing}"));
            }
        }
    }
    Ok(findings)
}

fn differences<T: Ord + std::fmt::Debug>(
    what: &str,
    wanted: &BTreeSet<T>,
    found: &BTreeSet<T>,
    findings: &mut Vec<String>,
) {
    let missing = wanted.difference(found).map(|one| (one, "is missing"));
    let left = found
        .difference(wanted)
        .map(|one| (one, "belongs to nothing"));
    findings.extend(
        missing
            .chain(left)
            .map(|(one, verdict)| format!("{what} {one:?} {verdict}")),
    );
}

/// Loop devices and the files behind them.
fn loop_devices() -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut devices = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let device = entry?.path();
        if let Ok(backing) = fs::read_to_string(device.join("loop/backing_file")) {
            devices.push((device, backing.trim_end().into()));
        }
    }
    Ok(devices)
}
