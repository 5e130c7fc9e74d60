//! Layers that need no conversion: those that are here, in use or kept since they may be asked for again, and those that
//! other folders have.

use crate::api::operator::CollectResponse;
use crate::config::Sharing;
use crate::error::Error;
use crate::metadata::{Layer, Number, namespace};
use crate::metrics::Found;
use crate::snapshotter::Snapshotter;
use crate::store::sha256;
use erofs_mount::Requirements;
use erofs_reader::check::{CheckOptions, check};
use erofs_reader::{ByteSource, FileSource};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

impl Snapshotter {
    /// Makes a layer that need not be converted that of an active snapshot: the one that this blob became before, or else the
    /// one with this diffID, which the image says where containerd tells it.
    ///
    /// # Errors
    /// [`Error`]; a file in another folder that is no such layer is no error.
    pub(crate) fn reuse(
        &self,
        snapshot: Number,
        diff_id: Option<&str>,
        blob: &str,
    ) -> Result<Option<Layer>, Error> {
        let became = self.metadata.layer_of_blob(blob)?;
        let is_it =
            |layer: &Layer| diff_id.is_none_or(|said| layer.digest.as_deref() == Some(said));
        if let Some((number, layer)) = became.filter(|(_, layer)| is_it(layer))
            && let Some(layer) = self.give(snapshot, number, layer, Some(blob))?
        {
            self.metrics.found(Found::Here);
            return Ok(Some(layer));
        }
        let known = diff_id.map(|diff_id| self.reuse_unread(snapshot, diff_id));
        let known = known.transpose()?.flatten();
        if known.is_none() {
            self.metrics.found(Found::Nowhere);
        }
        Ok(known)
    }

    /// Makes a layer that need not even be read that of an active snapshot, by its diffID alone.
    ///
    /// # Errors
    /// Those of [`Self::reuse`].
    pub(crate) fn reuse_unread(
        &self,
        snapshot: Number,
        diff_id: &str,
    ) -> Result<Option<Layer>, Error> {
        let key = self.metadata.key(snapshot)?;
        if let Some((number, layer)) = self.metadata.layer_with(diff_id)?
            && self.is_shared_with(&key, &layer)
            && let Some(layer) = self.give(snapshot, number, layer, None)?
        {
            self.metrics.found(Found::Here);
            return Ok(Some(layer));
        }
        for folder in &self.cache.sources {
            let path = source_path(folder, diff_id)?;
            match self.take(snapshot, diff_id, &path) {
                Ok(Some(layer)) => {
                    self.metrics.found(Found::Elsewhere);
                    return Ok(Some(layer));
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(path = %path.display(), %error, "not taken"),
            }
        }
        Ok(None)
    }

    /// Whether the namespace of a snapshot may have a layer whose diffID is all that it tells.
    pub(crate) fn is_shared_with(&self, key: &str, layer: &Layer) -> bool {
        let namespace = namespace(key);
        self.cache.sharing == Sharing::Shared
            || layer.namespaces.iter().any(|known| known == namespace)
    }

    /// Whether all files of a layer are there.
    pub(crate) fn is_whole(&self, number: Number, layer: &Layer) -> Result<bool, Error> {
        let files = self.store.files(number, layer)?;
        Ok(files.iter().all(|file| file.is_file()))
    }

    /// Makes a layer that is here, unless its files are not, that of an active snapshot; `blob` holds it too.
    pub(crate) fn give(
        &self,
        snapshot: Number,
        number: Number,
        layer: Layer,
        blob: Option<&str>,
    ) -> Result<Option<Layer>, Error> {
        if !self.is_whole(number, &layer)? {
            return Ok(None);
        }
        Ok(match self.metadata.reuse_layer(snapshot, number, blob)? {
            Some(replaced) => {
                self.leave_layer(replaced);
                Some(layer)
            }
            None => None,
        })
    }

    /// Copies a layer of another folder, sharing its blocks where the filesystem can, and looks whether it is whole.
    fn take(&self, snapshot: Number, diff_id: &str, path: &Path) -> Result<Option<Layer>, Error> {
        if !path.is_file() {
            return Ok(None);
        }
        let draft = self.draft()?;
        let layer = Layer {
            digest: Some(diff_id.to_owned()),
            inodes: copy(path, &draft.image())?,
            ..Layer::default()
        };
        self.publish(snapshot, draft, layer).map(Some)
    }

    /// Throws unused layers away, those that are unused longest first, until the others fit into so many bytes on disk.
    ///
    /// # Errors
    /// [`Error`]; what was thrown away by then is gone.
    pub(crate) fn evict(&self, limit: u64) -> Result<CollectResponse, Error> {
        let mut unused = Vec::new();
        let mut total = 0;
        for (number, layer, users) in self.metadata.layers_with_users()? {
            if users.is_empty() {
                let size = self.layer_size(number, &layer)?;
                total += size;
                unused.push((layer.unused_since, number, size));
            }
        }
        unused.sort_unstable();
        let mut evicted = CollectResponse::default();
        for (_, number, size) in unused {
            if total <= limit {
                break;
            }
            total -= size;
            // It may have been asked for meanwhile.
            if let Some((number, layer)) = self.metadata.remove_unused_layer(number)? {
                self.remove_layer(number, &layer)?;
                evicted.layers += 1;
                evicted.bytes += size;
            }
        }
        Ok(evicted)
    }
}

/// Where folders of layers have that of a diffID, as the `layer_content_caches` of containerd.
fn source_path(folder: &Path, diff_id: &str) -> Result<PathBuf, Error> {
    let hex = sha256(diff_id)?;
    let (first, _) = hex.split_at(2);
    Ok(folder.join(format!("sha256/{first}/{hex}.erofs")))
}

/// Copies an image, checks the copy, and tells its inodes.
fn copy(from: &Path, to: &Path) -> Result<u64, Error> {
    fs::copy(from, to).map_err(Error::file("copying", from))?;
    let file = File::open(to).map_err(Error::file("opening", to))?;
    let requirements = Requirements::read(to, 0).map_err(io::Error::other);
    let inodes = requirements.and_then(|requirements| match requirements.extra_devices {
        0 => checked(file, &[]),
        devices => Err(unfit(format!("it needs {devices} other files"))),
    });
    inodes.map_err(Error::file("checking", from))
}

fn unfit(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// The inodes of an image whose structure is sound, with the files of data that is not its own.
///
/// # Errors
/// Those of opening; `InvalidData` with the first finding.
pub(crate) fn checked(file: File, data: &[PathBuf]) -> io::Result<u64> {
    let source: Arc<dyn ByteSource> = Arc::new(FileSource::new(file)?);
    let mut devices: Vec<Arc<dyn ByteSource>> = Vec::new();
    for device in data {
        devices.push(Arc::new(FileSource::open(device)?));
    }
    let options = CheckOptions::default();
    let report = check(&source, &devices, &options, &AtomicU64::new(0))
        .map_err(|error| unfit(error.to_string()))?;
    match report.findings.first() {
        Some(finding) if !report.is_clean() => Err(unfit(finding.to_string())),
        _ if !report.complete => Err(unfit("not all of it can be looked at".to_owned())),
        _ => Ok(report.statistics.inodes),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::config::Config;
    use crate::metadata::{Labels, State};
    use erofs_mkfs::build::{BuildOptions, BuildSource, build};
    use erofs_mkfs::index::{IndexOptions, IndexSource, Placement, index};
    use erofs_mkfs::source::tar::Archive;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    /// A snapshotter that takes layers from `source`, and the folder of both.
    fn opened() -> (Snapshotter, PathBuf, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        let mut config = Config {
            root: folder.path().join("root"),
            ..Config::default()
        };
        config.cache.sources = vec![folder.path().join("nowhere"), source.clone()];
        (
            Snapshotter::open(&config, |_| Err("no FUSE".into())).unwrap(),
            source,
            folder,
        )
    }

    /// A diffID, and the layer of that name.
    fn layer(source: &Path, digit: char) -> (String, PathBuf) {
        let diff_id = format!("sha256:{}", String::from(digit).repeat(64));
        let path = source_path(source, &diff_id).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let tree = path.with_extension("tree");
        fs::create_dir(&tree).unwrap();
        fs::set_permissions(&tree, Permissions::from_mode(0o755)).unwrap();
        fs::write(tree.join("file"), String::from(digit).repeat(100_000)).unwrap();
        let (options, progress) = (BuildOptions::default(), Arc::new(AtomicU64::new(0)));
        build(BuildSource::Directory(tree), &path, &options, &progress).unwrap();
        (diff_id, path)
    }

    fn active(snapshotter: &Snapshotter, key: &str) -> Number {
        let labels = Labels::default();
        let snapshot = snapshotter
            .metadata
            .create(key, State::Active, None, None, None, labels);
        snapshot.unwrap().number
    }

    #[test]
    fn layers_come_from_other_folders_if_they_are_whole() {
        let (snapshotter, source, _folder) = opened();
        let number = active(&snapshotter, "key");
        let reuse = |diff_id: &str| snapshotter.reuse(number, Some(diff_id), "blob").unwrap();
        let (diff_id, path) = layer(&source, 'a');
        let whole = fs::read(&path).unwrap();
        let found = reuse(&diff_id).unwrap();
        assert_eq!(
            (found.digest.as_deref(), found.inodes),
            (Some(diff_id.as_str()), 2)
        );
        let stored = snapshotter.metadata.layer_with(&diff_id).unwrap().unwrap();
        let stored = snapshotter.store.layer(stored.0, &stored.1).unwrap();
        assert_eq!(fs::read(stored).unwrap(), whole);

        // Cut off, or with a superblock that was changed.
        for (digit, change) in [('b', 0), ('c', 1)] {
            let (diff_id, path) = layer(&source, digit);
            let mut bytes = fs::read(&path).unwrap();
            match change {
                0 => bytes.truncate(bytes.len() / 2),
                _ => bytes[1024 + 16] ^= 1,
            }
            fs::write(&path, bytes).unwrap();
            assert_eq!(reuse(&diff_id), None);
        }
        assert_eq!(reuse(&format!("sha256:{}", "d".repeat(64))), None);
        assert_eq!(
            fs::read_dir(snapshotter.store.ingest_folder())
                .unwrap()
                .count(),
            0
        );
        let times = [Found::Here, Found::Elsewhere, Found::Nowhere];
        let times = times.map(|found| snapshotter.metrics.times_found(found));
        assert_eq!(times, [0, 1, 3]);
    }

    /// An index is sound, and of no use without its tar.
    #[test]
    fn layers_that_need_other_files_are_not_taken() {
        let (snapshotter, source, folder) = opened();
        let (diff_id, path) = layer(&source, 'a');
        let tree = path.with_extension("tree");
        let tar = folder.path().join("layer.tar");
        let mut made = std::process::Command::new("tar");
        made.arg("-cf").arg(&tar).arg("-C").arg(tree).arg("file");
        assert!(made.status().unwrap().success());
        let archive = Archive::open(File::open(&tar).unwrap()).unwrap();
        let tar = IndexSource::Tar { path: tar, archive };
        index(tar, &path, &IndexOptions::default(), Placement::Apart).unwrap();
        let number = active(&snapshotter, "key");
        assert_eq!(
            snapshotter.reuse(number, Some(&diff_id), "blob").unwrap(),
            None
        );
    }

    #[test]
    fn layers_that_are_unused_longest_go_first() {
        let (snapshotter, source, _folder) = opened();
        let mut size = 0;
        for digit in ['a', 'b', 'c', 'd'] {
            let (diff_id, path) = layer(&source, digit);
            let number = active(&snapshotter, &diff_id);
            snapshotter
                .reuse(number, Some(&diff_id), "")
                .unwrap()
                .unwrap();
            size = path
                .metadata()
                .map(|file| std::os::unix::fs::MetadataExt::blocks(&file) * 512)
                .unwrap();
        }
        let digest = |digit: char| format!("sha256:{}", String::from(digit).repeat(64));
        for digit in ['c', 'a', 'b'] {
            snapshotter.metadata.remove(&digest(digit), true).unwrap();
        }
        // Asked for again, and given up again: now it is the one that was used last.
        let number = active(&snapshotter, "again");
        snapshotter
            .reuse(number, Some(&digest('c')), "")
            .unwrap()
            .unwrap();
        snapshotter.metadata.remove("again", true).unwrap();
        let evicted = snapshotter.evict(2 * size).unwrap();
        assert_eq!((evicted.layers, evicted.bytes), (1, size));
        let left = |digit| {
            snapshotter
                .metadata
                .layer_with(&digest(digit))
                .unwrap()
                .is_some()
        };
        assert_eq!(['a', 'b', 'c', 'd'].map(left), [false, true, true, true]);
        assert_eq!(snapshotter.store.layer_files().unwrap().len(), 3);
        // What is in use stays.
        assert_eq!(snapshotter.evict(0).unwrap().layers, 2);
        assert!(left('d'));
    }
}
