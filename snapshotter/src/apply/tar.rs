//! Tars: converted, or kept and indexed.

use super::{Conversion, Converted};
use crate::config::Mode;
use crate::content::{Blob, new_file, take};
use crate::digest::{Both, Hasher};
use crate::error::Error;
use crate::metadata::{Form, Layer};
use crate::metrics::Counted;
use erofs_mkfs::build::{BuildSource, build};
use erofs_mkfs::index::{IndexError, IndexOptions, IndexSource, Placement, index};
use erofs_mkfs::options::BuildError;
use erofs_mkfs::source::Whiteouts;
use erofs_mkfs::source::tar::Archive;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Bytes that are written at once.
const WRITE_SIZE: usize = 1 << 20;

/// # Errors
/// [`Error`]; nothing is left then.
pub(super) fn convert(conversion: &Conversion<'_>) -> Result<Converted, Error> {
    match conversion.snapshotter.layers.mode {
        Mode::Convert => image(conversion),
        Mode::Index => match indexed(conversion) {
            Err(Error::Convert { source, .. }) if !has_index(&source) => image(conversion),
            done => done,
        },
    }
}

/// Whether there could be an index over a tar. Of some tars the kernel could not read all data in place.
fn has_index(error: &BuildError) -> bool {
    !matches!(
        error,
        BuildError::Index(IndexError::UnpaddedTar { .. } | IndexError::UnalignedPiece { .. })
    )
}

/// Makes an image of a tar.
fn image(conversion: &Conversion<'_>) -> Result<Converted, Error> {
    let blob = (conversion.open)()?;
    let (hasher, digested) = Hasher::new();
    let metrics = Arc::clone(&conversion.snapshotter.metrics);
    let blob = Counted::new(conversion.reader(blob), metrics);
    let archive = Archive::stream(blob).map_err(Error::tar(conversion.digest))?;
    let draft = conversion.snapshotter.draft()?;
    let mut options = conversion.snapshotter.layers.options(Whiteouts::Overlay);
    if conversion.is_small() {
        options.workers = 1;
    }
    let source = BuildSource::Tar(archive.copied_to(hasher));
    let progress = Arc::new(AtomicU64::new(0));
    let summary = build(source, &draft.image(), &options, &progress)
        .map_err(Error::convert(conversion.digest))?;
    let digested = digested.recv().unwrap_or_default();
    let layer = Layer {
        digest: Some(digested.digest),
        tar_size: digested.size,
        inodes: summary.inodes,
        form: Form::Converted,
        ..Layer::default()
    };
    Ok(Converted { draft, layer })
}

/// The file of a tar that is unpacked. That it cannot be written is else told as if the tar could not be read.
struct Kept {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Kept {
    fn told<T>(&self, written: io::Result<T>) -> io::Result<T> {
        written.map_err(|error| {
            let told = format!("writing {}: {error}", self.path.display());
            io::Error::new(error.kind(), told)
        })
    }
}

impl Write for Kept {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.file.write(data);
        self.told(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.flush();
        self.told(flushed)
    }
}

/// Keeps a tar, unpacked, and makes an index over it.
fn indexed(conversion: &Conversion<'_>) -> Result<Converted, Error> {
    let draft = conversion.snapshotter.draft()?;
    let path = draft.tar();
    let failed = |source| Error::file("writing", &path)(source);
    let (hasher, digested) = Hasher::new();
    let opened = match (conversion.open)()? {
        Blob::File(file) => {
            let archive = file.try_clone().map_err(failed)?;
            let archive = Archive::open(archive).map_err(Error::tar(conversion.digest))?;
            if archive.file().is_some() {
                // A tar as it is.
                take(&file, &path).map_err(failed)?;
            }
            archive
        }
        Blob::Stream(stream) => Archive::stream(stream).map_err(Error::tar(conversion.digest))?,
    };
    let archive = match opened.file() {
        Some(_) => opened.copied_to(hasher),
        None => {
            let file = new_file(&path).map_err(failed)?;
            let kept = Kept {
                path: path.clone(),
                file: BufWriter::with_capacity(WRITE_SIZE, file),
            };
            opened.copied_to(Both(kept, hasher))
        }
    };
    let mut options = IndexOptions::default();
    options.image.whiteouts = Whiteouts::Overlay;
    options.image.rules.as_layer = true;
    options.image.passing_name = true;
    let source = IndexSource::TarElsewhere {
        archive,
        path: None,
    };
    let summary = index(source, &draft.image(), &options, Placement::Apart)
        .map_err(Error::convert(conversion.digest))?;
    let digested = digested.recv().unwrap_or_default();
    if digested.size == 0 {
        // Nothing can be mounted over that.
        return image(conversion);
    }
    let layer = Layer {
        digest: Some(digested.digest),
        tar_size: digested.size,
        inodes: summary.inodes,
        form: Form::Index,
        ..Layer::default()
    };
    Ok(Converted { draft, layer })
}
