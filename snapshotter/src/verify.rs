//! Layers are read before they are mounted, where the configuration wants that: what a disk changed is found before a
//! container runs over it.

use crate::error::Error;
use crate::metadata::Number;
use crate::scrub::Files;
use crate::snapshotter::Snapshotter;
use std::io;
use std::path::PathBuf;
use std::sync::PoisonError;

impl Snapshotter {
    /// Reads these layers, each once as long as the process lives, and compares their digests with those noted when they were
    /// written; of a layer without, the structure is checked.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(crate) fn verify(&self, layers: &[Number]) -> Result<(), Error> {
        if !self.integrity.verify_at_mount {
            return Ok(());
        }
        for number in layers {
            if !self.is_verified(*number) {
                let layer = self.metadata.layer(*number)?;
                let files = self.files(*number, &layer)?;
                let digest = layer.digest.as_deref().unwrap_or("without a digest");
                self.verify_files(*number, &files, |path, reason| Error::Damaged {
                    digest: digest.to_owned(),
                    path,
                    reason,
                })?;
            }
        }
        Ok(())
    }

    /// The same of an image that was merged of layers.
    ///
    /// # Errors
    /// [`Error::DamagedMerged`].
    pub(crate) fn verify_merged(&self, number: Number) -> Result<(), Error> {
        if !self.integrity.verify_at_mount || self.is_verified(number) {
            return Ok(());
        }
        let mut merged = self.metadata.all_merged()?.into_iter();
        match merged.find(|merged| merged.number == number) {
            Some(merged) => {
                let files = self.merged_files(&merged)?;
                let damaged = |path, reason| Error::DamagedMerged { path, reason };
                self.verify_files(number, &files, damaged)
            }
            // Whoever asked for it is being removed.
            None => Ok(()),
        }
    }

    fn is_verified(&self, number: Number) -> bool {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.contains(&number)
    }

    fn verify_files(
        &self,
        number: Number,
        files: &Files,
        damaged: impl FnOnce(PathBuf, String) -> Error,
    ) -> Result<(), Error> {
        files
            .read(|_| Ok(()))
            .map_err(|(path, error)| match error.kind() {
                io::ErrorKind::InvalidData => damaged(path.to_path_buf(), error.to_string()),
                _ => Error::file("reading", path)(error),
            })?;
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.insert(number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::config::Config;
    use crate::digest;
    use crate::metadata::{Form, Labels, Layer, State};
    use erofs_mkfs::build::{BuildOptions, BuildSource, build};
    use erofs_mkfs::index::{IndexOptions, IndexSource, Placement, index};
    use erofs_mkfs::source::tar::Archive;
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::process::Command;
    use std::sync::Arc;

    fn opened(folder: &Path) -> Snapshotter {
        let mut config = Config {
            root: folder.join("root"),
            ..Config::default()
        };
        config.integrity.verify_at_mount = true;
        Snapshotter::open(&config, |_| Err("no FUSE".into())).unwrap()
    }

    /// A layer of one file, and its files.
    fn layer(snapshotter: &Snapshotter, folder: &Path, form: Form) -> (Number, Vec<PathBuf>) {
        let source = folder.join("source");
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("file"), vec![7; 100_000]).unwrap();
        let draft = snapshotter.draft().unwrap();
        let mut content = draft.image();
        if form == Form::Index {
            content = draft.tar();
            let mut tar = Command::new("tar");
            tar.arg("-cf").arg(&content).arg("-C").arg(&source);
            assert!(tar.arg("file").status().unwrap().success());
            let archive = Archive::open(File::open(&content).unwrap()).unwrap();
            let path = content.clone();
            let tar = IndexSource::Tar { path, archive };
            let options = IndexOptions::default();
            index(tar, &draft.image(), &options, Placement::Apart).unwrap();
        } else {
            let options = BuildOptions::default();
            let source = BuildSource::Directory(source);
            build(source, &content, &options, &Arc::default()).unwrap();
        }
        let layer = Layer {
            digest: Some(digest::of_file(&File::open(content).unwrap(), |_| Ok(())).unwrap()),
            form,
            ..Layer::default()
        };
        let number = draft.number;
        let labels = Labels::new();
        let active = snapshotter.metadata.create(
            &number.0.to_string(),
            State::Active,
            None,
            None,
            None,
            labels,
        );
        snapshotter
            .publish(active.unwrap().number, draft, layer.clone())
            .unwrap();
        let files = snapshotter.store.files(number, &layer).unwrap();
        (number, files)
    }

    fn flip(path: &Path, at: u64) {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }

    #[test]
    fn what_a_disk_changed_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for form in [Form::Converted, Form::Index] {
            let snapshotter = opened(folder.path());
            let (number, files) = layer(&snapshotter, folder.path(), form);
            let image = files.first().unwrap();
            let damaged = |path: &Path, reason: &str| {
                let error = started_anew(&snapshotter).verify(&[number]).unwrap_err();
                let text = error.to_string();
                assert!(matches!(error, Error::Damaged { .. }), "{text}");
                assert!(text.contains(path.to_str().unwrap()), "{text}");
                assert!(text.contains(reason), "{text}");
            };
            // What is of the structure is found without a digest.
            snapshotter.verify(&[number]).unwrap();
            flip(image, 1024 + 16);
            damaged(image, "");
            flip(image, 1024 + 16);
            let noted = digest::of_file(&File::open(image).unwrap(), |_| Ok(())).unwrap();
            snapshotter
                .metadata
                .note_images(&[(number, &noted)])
                .unwrap();
            for path in &files {
                let last = path.metadata().unwrap().len() - 1;
                snapshotter.verify(&[number]).unwrap();
                flip(path, last);
                // It was found to be sound: nobody looks any more.
                snapshotter.verify(&[number]).unwrap();
                damaged(path, "what was written had sha256:");
                flip(path, last);
            }
            started_anew(&snapshotter).verify(&[number]).unwrap();
        }
    }

    /// As if the process was started anew: nothing was read yet.
    fn started_anew(snapshotter: &Snapshotter) -> &Snapshotter {
        snapshotter.verified.lock().unwrap().clear();
        snapshotter
    }
}
