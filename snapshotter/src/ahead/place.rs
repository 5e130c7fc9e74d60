//! Where layers are converted ahead in tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::table::{Ahead, LOOK, Made};
use crate::apply::convert_ahead;
use crate::config::{Config, Containerd};
use crate::content::{Caller, Content};
use crate::snapshotter::Snapshotter;
use erofs_tests::ustar;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;
use tokio::runtime::Runtime;
use tonic::metadata::MetadataMap;

/// containerd's, in which all images are pulled.
pub(crate) const NAMESPACE: &str = "default";

/// A snapshotter, and a content store that shows its blobs.
pub(crate) struct Place {
    pub(crate) snapshotter: Snapshotter,
    pub(crate) content: Content,
    folder: tempfile::TempDir,
    _runtime: Runtime,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let containerd = Containerd {
            content: folder.path().join("content"),
            ..Containerd::default()
        };
        fs::create_dir_all(folder.path().join("content/blobs/sha256")).unwrap();
        let config = Config {
            root: folder.path().join("root"),
            ..Config::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        let content = Content {
            caller: Caller::of(&MetadataMap::new(), &containerd).unwrap(),
            containerd: Arc::new(containerd),
            runtime: runtime.handle().clone(),
            connection: Arc::default(),
        };
        Self {
            snapshotter: Snapshotter::open(&config, |_| Err("no FUSE".into())).unwrap(),
            content,
            folder,
            _runtime: runtime,
        }
    }

    pub(crate) fn ahead(&self) -> &Ahead {
        &self.snapshotter.ahead
    }

    /// Adds the image of the layer at this place, which is asked for.
    pub(crate) fn add(&self, layers: Vec<String>, asked: usize) -> Option<u64> {
        self.ahead().ask(&layers[asked]);
        self.ahead().add(NAMESPACE, layers, asked)
    }

    /// Has a layer with one file be downloaded.
    pub(crate) fn download(&self, digit: char) {
        self.download_as(digit, digit);
    }

    /// The same of a blob with the content of another one.
    pub(crate) fn download_as(&self, blob: char, digit: char) {
        let digest = digest(blob);
        let name = digest.strip_prefix("sha256:").unwrap();
        let blobs = self.folder.path().join("content/blobs/sha256");
        let mut tar = ustar::header(&digit.to_string(), 1).to_vec();
        tar.push(digit as u8);
        // Padding, and the end of the tar.
        tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
        fs::write(blobs.join(name), tar).unwrap();
    }

    /// Which layer is converted next, if there is one at once: it counts as if it could not be.
    pub(crate) fn next(&self, id: u64, most: usize) -> Option<char> {
        thread::scope(|scope| {
            let next = scope.spawn(|| self.ahead().next(id, most, &self.content));
            for _ in 0..20 {
                if next.is_finished() {
                    let task = next.join().unwrap();
                    return task.map(|task| task.digest.chars().last().unwrap());
                }
                thread::sleep(LOOK);
            }
            // It waits until this ends.
            self.ahead().give_up(&digest('0'));
            assert!(next.join().unwrap().is_none());
            None
        })
    }

    /// What a task makes.
    pub(super) fn convert(&self, digit: char) -> Made {
        let blob = self.content.file(&digest(digit)).unwrap().unwrap();
        let made = convert_ahead(&self.snapshotter, &digest(digit), &blob, &Arc::default());
        Made {
            converted: made.unwrap(),
            recorded: Some(Instant::now()),
        }
    }

    /// Converts the next layer, which must be this one, and tells its diffID.
    pub(crate) fn convert_next(&self, id: u64, digit: char) -> String {
        let task = self.ahead().next(id, 8, &self.content).unwrap();
        assert_eq!(task.digest, digest(digit));
        let made = self.convert(digit);
        let diff_id = made.converted.layer.digest.clone().unwrap();
        self.ahead().done(id, &task.digest, Some(made));
        diff_id
    }

    pub(crate) fn ingested(&self) -> usize {
        let ingest: &Path = &self.snapshotter.store.ingest_folder();
        fs::read_dir(ingest).unwrap().count()
    }
}

pub(crate) fn digest(digit: char) -> String {
    format!("sha256:{}", String::from(digit).repeat(64))
}

pub(crate) fn layers(digits: &str) -> Vec<String> {
    digits.chars().map(digest).collect()
}
