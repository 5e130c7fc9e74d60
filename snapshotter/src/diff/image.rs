//! The image of an upper directory: what its tar becomes when it is unpacked, so that both say the same.

use super::tree;
use crate::error::Error;
use crate::snapshotter::Snapshotter;
use erofs_format::inode::Timestamp;
use erofs_mkfs::build::{BuildSource, build};
use erofs_mkfs::source::Whiteouts;
use erofs_mkfs::source::tar::Archive;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, PipeReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;

/// Bytes that are copied at once.
const PIECE: usize = 256 << 10;

/// Writes the image of `folder` to `out`; nothing in it is younger than `latest`.
///
/// # Errors
/// As [`tree::write`]; [`Error::Convert`].
pub(super) fn write<W: Write>(
    snapshotter: &Snapshotter,
    folder: &Path,
    latest: Option<Timestamp>,
    mut out: W,
) -> Result<W, Error> {
    // An image is not written from its start to its end.
    let draft = snapshotter.draft()?;
    let image = draft.image();
    let failed = |source| Error::file("writing", &image)(source);
    let (reader, writer) = io::pipe().map_err(failed)?;
    let (written, built) = thread::scope(|scope| {
        let building = thread::Builder::new()
            .name("image".to_owned())
            .spawn_scoped(scope, || convert(snapshotter, folder, reader, &image));
        let writer = BufWriter::with_capacity(PIECE, writer);
        let written = tree::write(folder, latest, writer)
            .and_then(|mut writer| writer.flush().map_err(failed));
        let built = building.map_err(failed).and_then(|building| {
            building
                .join()
                .unwrap_or_else(|_| Err(failed(io::Error::other("the thread panicked"))))
        });
        (written, built)
    });
    match written {
        // Nobody reads any more.
        Err(Error::File { source, .. })
            if built.is_err() && source.kind() == ErrorKind::BrokenPipe => {}
        written => written?,
    }
    built?;
    let file = File::open(&image).map_err(failed)?;
    io::copy(&mut BufReader::with_capacity(PIECE, file), &mut out).map_err(failed)?;
    Ok(out)
}

/// Makes an image of a tar that comes through a pipe, as those of containerd become layers.
fn convert(
    snapshotter: &Snapshotter,
    folder: &Path,
    tar: PipeReader,
    image: &Path,
) -> Result<(), Error> {
    let name = folder.display().to_string();
    let archive = Archive::stream(tar).map_err(Error::tar(&name))?;
    let options = snapshotter.layers.options(Whiteouts::Overlay);
    let progress = Arc::new(AtomicU64::new(0));
    build(BuildSource::Tar(archive), image, &options, &progress)
        .map(drop)
        .map_err(Error::convert(&name))
}
