//! Images, servers inside of the test's own process, and a description of everything that a mount shows.

use erofs_fuse::{ServeOptions, Server};
use erofs_reader::{ByteSource, FileSource, Image, ImageOptions};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, SeekFrom};
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The checked-in images.
pub(crate) fn probe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../images/probe")
        .join(name)
}

/// Opens an image.
pub(crate) fn open(image: &Path, devices: &[PathBuf]) -> Arc<Image> {
    let source = |path: &Path| FileSource::open(path).expect("opens");
    let options = ImageOptions {
        devices: devices
            .iter()
            .map(|path| Box::new(source(path)) as Box<dyn ByteSource>)
            .collect(),
        ..ImageOptions::default()
    };
    Arc::new(Image::open(source(image), options).expect("an image"))
}

/// A mount served by threads of this process. Dropping it unmounts and waits for the end.
pub(crate) struct Served {
    server: Option<Server>,
    directory: TempDir,
}

impl Served {
    pub(crate) fn new(image: &Arc<Image>, options: &ServeOptions) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let server = Server::mount(Arc::clone(image), directory.path(), options).expect("mounts");
        Self {
            server: Some(server),
            directory,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.unmount().expect("unmounts");
            // After a failed test something may be open still.
            if !std::thread::panicking() {
                server.join().expect("ends well");
            }
        }
    }
}

/// Everything that can be seen below `root`, a line for each thing, in the order of the listings.
pub(crate) fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let statfs = rustix::fs::statvfs(root).expect("statfs");
    lines.push(format!(
        "statfs: {} blocks of {} and {}, {} free, {} available, {} files, {} free, names of {}",
        statfs.f_blocks,
        statfs.f_bsize,
        statfs.f_frsize,
        statfs.f_bfree,
        statfs.f_bavail,
        statfs.f_files,
        statfs.f_ffree,
        statfs.f_namemax
    ));
    let mut rest = vec![PathBuf::new()];
    while let Some(path) = rest.pop() {
        let name = path.as_os_str().as_bytes().escape_ascii().to_string();
        let full = if path.as_os_str().is_empty() {
            root.to_owned()
        } else {
            root.join(&path)
        };
        let metadata = match fs::symlink_metadata(&full) {
            Ok(metadata) => metadata,
            Err(error) => {
                lines.push(format!("/{name}: {error}"));
                continue;
            }
        };
        lines.push(format!("/{name}: {}", attributes(&metadata)));
        for (key, value) in xattrs(&full) {
            lines.push(format!("/{name}: {key}={value}"));
        }
        if metadata.is_symlink() {
            lines.push(format!("/{name} -> {:?}", fs::read_link(&full)));
        } else if metadata.is_file() {
            lines.push(format!("/{name}: {}", content(&full)));
        } else if metadata.is_dir() {
            for (child, line) in listing(&full) {
                lines.push(format!("/{name}: {line}"));
                rest.extend(child.map(|child| path.join(child)));
            }
        }
    }
    lines
}

fn attributes(m: &fs::Metadata) -> String {
    format!(
        "ino {} mode {:o} links {} owner {}:{} device {:x} size {} blocks {} of {} times {}.{:09} {}.{:09} {}.{:09}",
        m.ino(),
        m.mode(),
        m.nlink(),
        m.uid(),
        m.gid(),
        m.rdev(),
        m.size(),
        m.blocks(),
        m.blksize(),
        m.mtime(),
        m.mtime_nsec(),
        m.atime(),
        m.atime_nsec(),
        m.ctime(),
        m.ctime_nsec()
    )
}

/// Names and values; the errors where there are none.
fn xattrs(path: &Path) -> Vec<(String, String)> {
    let mut list = vec![0; 65536];
    let length = match rustix::fs::llistxattr(path, &mut list) {
        Ok(length) => length,
        Err(errno) => return vec![("list".to_owned(), errno.to_string())],
    };
    let names = list.get(..length).unwrap_or_default();
    let names = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let value = match rustix::fs::lgetxattr(path, name, &mut value) {
                Ok(length) => value
                    .get(..length)
                    .unwrap_or_default()
                    .escape_ascii()
                    .to_string(),
                Err(errno) => errno.to_string(),
            };
            (name.escape_ascii().to_string(), value)
        })
        .collect()
}

/// A digest of the bytes, and where data and holes begin.
fn content(path: &Path) -> String {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return error.to_string(),
    };
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let mut line = format!("{} bytes {:016x}", bytes.len(), hasher.finish());
    let file = File::open(path).expect("opens");
    let (mut position, mut data) = (0, true);
    for _ in 0..1000 {
        let whence = if data {
            SeekFrom::Data(position)
        } else {
            SeekFrom::Hole(position)
        };
        match rustix::fs::seek(&file, whence) {
            Ok(found) => {
                line.push_str(&format!(" {}{found}", if data { "data " } else { "hole " }));
                position = found;
                data = !data;
            }
            Err(errno) => {
                line.push_str(&format!(" {errno}"));
                break;
            }
        }
    }
    line
}

/// Entries in listed order, with what to descend into.
fn listing(path: &Path) -> Vec<(Option<PathBuf>, String)> {
    let directory = rustix::fs::openat(CWD, path, OFlags::DIRECTORY, Mode::empty());
    let entries = directory.and_then(Dir::read_from);
    let entries = match entries {
        Ok(entries) => entries,
        Err(errno) => return vec![(None, errno.to_string())],
    };
    entries
        .map(|entry| match entry {
            Err(errno) => (None, errno.to_string()),
            Ok(entry) => {
                let name = entry.file_name().to_bytes();
                let line = format!(
                    "entry {} {} {:?}",
                    name.escape_ascii(),
                    entry.ino(),
                    entry.file_type()
                );
                let dots = matches!(name, b"." | b"..");
                let child = PathBuf::from(std::ffi::OsStr::from_bytes(name));
                ((!dots).then_some(child), line)
            }
        })
        .collect()
}

/// Asserts that two descriptions are the same.
#[track_caller]
pub(crate) fn assert_same(what: &str, expected: &[String], actual: &[String]) {
    let different: Vec<_> = expected
        .iter()
        .zip(actual)
        .filter(|(expected, actual)| expected != actual)
        .take(10)
        .map(|(expected, actual)| format!("  expected {expected}\n  actual   {actual}\n"))
        .collect();
    assert!(
        different.is_empty() && expected.len() == actual.len(),
        "{what}: {} lines expected, {} seen\n{}",
        expected.len(),
        actual.len(),
        different.concat()
    );
}

/// `st_ino` without following links, asked for in a way that no cache answers.
pub(crate) fn number(path: &Path) -> u64 {
    rustix::fs::statx(
        CWD,
        path,
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_FORCE_SYNC,
        rustix::fs::StatxFlags::BASIC_STATS,
    )
    .expect("statx")
    .stx_ino
}
