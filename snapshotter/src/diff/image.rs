//! The image of an upper directory: what its tar becomes when it is unpacked, so that both say the same.

use super::tree::{self, Written};
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

/// Writes the image of `written` to `out`; nothing in it is younger than `latest`.
///
/// # Errors
/// As [`tree::write`]; [`Error::Convert`].
pub(super) fn write<W: Write>(
    snapshotter: &Snapshotter,
    written: &Written,
    latest: Option<Timestamp>,
    mut out: W,
) -> Result<W, Error> {
    // An image is not written from its start to its end.
    let draft = snapshotter.draft()?;
    let image = draft.image();
    let failed = |source| Error::file("writing", &image)(source);
    let (reader, writer) = io::pipe().map_err(failed)?;
    let (sent, built) = thread::scope(|scope| {
        let building = thread::Builder::new()
            .name("image".to_owned())
            .spawn_scoped(scope, || {
                convert(snapshotter, &written.folder, reader, &image)
            });
        let writer = BufWriter::with_capacity(PIECE, writer);
        let sent = tree::write(written, latest, writer)
            .and_then(|mut writer| writer.flush().map_err(failed));
        let built = building.map_err(failed).and_then(|building| {
            building
                .join()
                .unwrap_or_else(|_| Err(failed(io::Error::other("the thread panicked"))))
        });
        (sent, built)
    });
    match sent {
        // Nobody reads any more.
        Err(Error::File { source, .. })
            if built.is_err() && source.kind() == ErrorKind::BrokenPipe => {}
        sent => sent?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::mounts::Owners;
    use erofs_tests::{require, skip};
    use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
    use std::fs;
    use std::io::Cursor;

    #[test]
    fn an_image_is_what_its_tar_becomes() {
        require!(skip::root());
        let place = tempfile::tempdir().expect("made");
        let config = Config {
            root: place.path().join("root"),
            ..Config::default()
        };
        let snapshotter = Snapshotter::open(&config, |_| Err("no FUSE".into())).expect("opened");
        let folder = place.path().join("upper");
        fs::create_dir_all(folder.join("opaque")).expect("made");
        let opaque = "trusted.overlay.opaque";
        setxattr(folder.join("opaque"), opaque, b"y", XattrFlags::empty()).expect("set");
        fs::write(folder.join("opaque/file"), vec![7; 1_000_000]).expect("written");
        let device = FileType::CharacterDevice;
        mknodat(
            CWD,
            folder.join("gone"),
            device,
            Mode::empty(),
            makedev(0, 0),
        )
        .expect("made");
        let written = Written {
            folder: folder.clone(),
            owners: Owners::default(),
        };
        let image = || write(&snapshotter, &written, None, Vec::new());
        let made = image().expect("made");
        assert!(image().expect("made") == made);

        let tar = tree::write(&written, None, Vec::new()).expect("written");
        let archive = Archive::stream(Cursor::new(tar)).expect("a tar");
        let options = snapshotter.layers.options(Whiteouts::Overlay);
        let path = place.path().join("image.erofs");
        let progress = Arc::new(AtomicU64::new(0));
        build(BuildSource::Tar(archive), &path, &options, &progress).expect("built");
        assert!(fs::read(path).expect("read") == made);

        // What is refused is refused as for tars, wherever it stands, and leaves nothing.
        fs::write(folder.join(".wh.file"), "").expect("written");
        let refused = image().expect_err("refused");
        assert!(matches!(refused, Error::Changes(_)), "{refused}");
        fs::remove_file(folder.join(".wh.file")).expect("removed");
        let redirect = "trusted.overlay.redirect";
        setxattr(folder.join("opaque"), redirect, b"/x", XattrFlags::empty()).expect("set");
        let refused = image().expect_err("refused");
        assert!(matches!(refused, Error::NotOurs(_)), "{refused}");
        let left = snapshotter.store.ingested().expect("read");
        assert_eq!(left, Vec::<std::path::PathBuf>::new());
    }
}
