//! What there is, for operators and metrics.

use crate::api::operator::{Cache, Layers, MountCount, SnapshotCounts, StatusResponse};
use crate::error::Error;
use crate::metadata::{Layer, Number, State};
use crate::metrics::Found;
use crate::snapshotter::Snapshotter;
use erofs_mount::table::{self, Carrier};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl Snapshotter {
    /// Counts everything.
    ///
    /// # Errors
    /// [`Error`]: the database or the list of mounts cannot be read. A layer whose file is missing counts with 0 bytes.
    pub(crate) fn status(&self) -> Result<StatusResponse, Error> {
        let mut snapshots = SnapshotCounts::default();
        self.metadata.walk(|_, snapshot| {
            *match snapshot.state {
                State::Active => &mut snapshots.active,
                State::View => &mut snapshots.views,
                State::Committed => &mut snapshots.committed,
            } += 1;
            Ok(())
        })?;
        let (mut used, mut unused) = (Layers::default(), Layers::default());
        for (number, layer, users) in self.metadata.layers_with_users()? {
            let layers = if users.is_empty() {
                &mut unused
            } else {
                &mut used
            };
            layers.count += 1;
            layers.bytes += self.layer_size(number, &layer)?;
        }
        Ok(StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            serving: false,
            root: self.store.root().display().to_string(),
            snapshots: Some(snapshots),
            used: Some(used),
            unused: Some(unused),
            mounts: self.carriers()?,
            cache: Some(Cache {
                size: self.cache.size.0,
                hits: self.metrics.times_found(Found::Here),
                sourced: self.metrics.times_found(Found::Elsewhere),
                misses: self.metrics.times_found(Found::Nowhere),
            }),
            leavings: self.leavings(),
        })
    }

    /// Bytes on disk of a layer's files, as far as they are there.
    pub(crate) fn layer_size(&self, number: Number, layer: &Layer) -> Result<u64, Error> {
        let files = self.store.files(number, layer)?;
        let sizes = files.iter().filter_map(|file| fs::metadata(file).ok());
        Ok(sizes.map(|file| file.blocks() * 512).sum())
    }

    /// What carries the layers that are mounted.
    fn carriers(&self) -> Result<Vec<MountCount>, Error> {
        let proc = Path::new("/proc/self/mountinfo");
        let mut counts = BTreeMap::new();
        for mounted in table::list().map_err(Error::file("reading", proc))? {
            if mounted
                .mount_point
                .starts_with(self.store.mount_points_folder())
            {
                let carrier = match mounted.carrier {
                    Carrier::File => "file",
                    Carrier::Loop { .. } => "loop",
                    Carrier::Block => "block",
                    Carrier::Fuse => "fuse",
                };
                *counts.entry(carrier).or_default() += 1;
            }
        }
        let counts = counts.into_iter().map(|(carrier, count)| MountCount {
            carrier: carrier.to_owned(),
            count,
        });
        Ok(counts.collect())
    }
}
