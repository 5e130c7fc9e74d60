//! The tar of an upper directory: what overlayfs means by it, as layers say it.
//!
//! | in the directory | in the tar |
//! |---|---|
//! | character device 0:0 | an empty file `.wh.NAME` |
//! | `trusted.overlay.opaque` = `y` | an empty file `.wh..wh..opq` in the directory, before anything else |
//! | other attributes `trusted.overlay.*` | nothing, unless data or names come from elsewhere, which is refused |
//! | sockets | nothing: whoever made one makes it again |
//! | `security.selinux` | nothing: labels are those of the machine |
//!
//! Everything else is as it is, in byte order of names: the same bytes for the same directory. Owners are those that the container
//! knows. It may be running over the directory, and what it does not want to be found it cannot hide behind links: nothing is followed.

use super::owners;
use crate::error::Error;
use crate::mounts::Owners;
use erofs_format::inode::Timestamp;
use erofs_mkfs::source::Rules;
use erofs_mkfs::source::directory::{self, InPlace, ScanOptions};
use erofs_mkfs::tree::{Body, FrozenTree, InodeId, Tree};
use erofs_reader::Xattr;
use erofs_reader::extract::tar::{Archive, ArchiveError, Kind, Member};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What begins the names of whiteouts in layers.
const WHITEOUT: &[u8] = b".wh.";
/// Says that nothing of a directory is from below.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Attributes of overlayfs.
const OVERLAY: &[u8] = b"trusted.overlay.";
/// Those of them by which an entry is not what it looks like.
const ELSEWHERE: [&[u8]; 3] = [b"redirect", b"metacopy", b"whiteout"];
/// Attributes of the machine.
const LABEL: &[u8] = b"security.selinux";
/// Bytes of files that are read at once.
const PIECE: usize = 256 << 10;

/// What one snapshot has over another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// An upper directory, or a layer.
    pub(crate) folder: PathBuf,
    /// Whose its files are outside.
    pub(crate) owners: Owners,
}

/// Writes the tar of `written` to `out`; nothing in it is younger than `latest`.
///
/// # Errors
/// [`Error::File`], [`Error::Changes`]; [`Error::NotOurs`] where the folder alone does not tell what changed.
pub(crate) fn write<W: Write>(
    written: &Written,
    latest: Option<Timestamp>,
    out: W,
) -> Result<W, Error> {
    let folder = &written.folder;
    let failed = |error| Error::Changes(format!("{}: {error}", folder.display()));
    let root = directory::open(folder).map_err(|error| failed(error.to_string()))?;
    let rules = Rules {
        clamp_time: latest,
        ..Rules::default()
    };
    let tree = scan(&root, &rules).map_err(|error| failed(error.to_string()))?;
    let mut changes = Changes {
        root,
        owners: &written.owners,
        tree: &tree,
        written: HashMap::new(),
        archive: Archive::new(out),
    };
    let mut left = vec![(Vec::new(), InodeId::ROOT)];
    while let Some((path, inode)) = left.pop() {
        changes.entry(&path, inode)?;
        if matches!(tree.inode(inode).body, Body::Directory) {
            let first = left.len();
            for child in tree.children(inode) {
                left.push((below(&path, child.name), child.inode));
            }
            left.get_mut(first..).unwrap_or_default().reverse();
        }
    }
    let done = changes.archive.finish();
    done.map_err(|error| failed(error.to_string()))
}

/// All names and metadata.
fn scan(root: &OwnedFd, rules: &Rules) -> Result<FrozenTree, Box<dyn std::error::Error>> {
    let mut tree = Tree::new(directory::root_metadata(root.as_fd(), rules)?)?;
    let options = ScanOptions {
        rules,
        find_holes: false,
        one_file_system: false,
        // A container may go on.
        ignore_vanished: true,
        left_out: &[],
    };
    directory::scan(root.as_fd(), options, &mut tree, &mut InPlace)?;
    Ok(tree.finish()?)
}

fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path {
        [] => name.to_vec(),
        path => [path, b"/", name].concat(),
    }
}

/// A tar that is being written.
struct Changes<'t, W> {
    root: OwnedFd,
    owners: &'t Owners,
    tree: &'t FrozenTree,
    /// The first name of what has several.
    written: HashMap<InodeId, Vec<u8>>,
    archive: Archive<W>,
}

impl<W: Write> Changes<'_, W> {
    fn entry(&mut self, path: &[u8], inode: InodeId) -> Result<(), Error> {
        let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => path.split_at(slash + 1),
            None => path.split_at(0),
        };
        if name.starts_with(WHITEOUT) {
            let path = String::from_utf8_lossy(path);
            return Err(Error::Changes(format!(
                "{path}: in a layer a file of this name would delete another one"
            )));
        }
        let body = self.tree.inode(inode).body;
        if let Body::CharDevice(number) = body
            && (number.major, number.minor) == (0, 0)
        {
            return self.marker([folder, WHITEOUT, name].concat());
        }
        let metadata = self.tree.metadata(inode);
        let (mut xattrs, mut is_opaque) = (Vec::new(), false);
        for xattr in metadata.xattrs {
            match xattr.name.strip_prefix(OVERLAY) {
                Some(b"opaque") => is_opaque |= *xattr.value == *b"y",
                Some(name) if ELSEWHERE.contains(&name) => {
                    return Err(Error::NotOurs(format!(
                        "{}: overlayfs has more than this in other layers",
                        String::from_utf8_lossy(path)
                    )));
                }
                Some(_) => {}
                None if *xattr.name == *LABEL => {}
                None => {
                    let value = xattr.value.into_vec();
                    if let Some(value) = owners::xattr_inside(self.owners, &xattr.name, value) {
                        let name = xattr.name.into_vec();
                        xattrs.push(Xattr { name, value });
                    }
                }
            }
        }
        xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        let mut opened = None;
        let kind = match (self.written.get(&inode), body) {
            (Some(first), _) => {
                xattrs.clear();
                Kind::HardLink {
                    target: first.clone(),
                }
            }
            (None, Body::Regular { size: 0, .. }) => Kind::File { size: 0 },
            (None, Body::Regular { .. }) => {
                let Some((file, size)) = self.open(path)? else {
                    return Ok(());
                };
                opened = Some((file, size));
                Kind::File { size }
            }
            (None, Body::Directory) => Kind::Directory,
            (None, Body::Symlink(target)) => Kind::Symlink {
                target: self.tree.target(target).to_vec(),
            },
            (None, Body::CharDevice(number)) => Kind::CharDevice(number),
            (None, Body::BlockDevice(number)) => Kind::BlockDevice(number),
            (None, Body::Fifo) => Kind::Fifo,
            (None, Body::Socket) => return Ok(()),
        };
        if !matches!(body, Body::Directory) && !self.written.contains_key(&inode) {
            self.written.insert(inode, path.to_vec());
        }
        let (uid, gid) = owners::inside(self.owners, metadata.uid, metadata.gid);
        self.member(&Member {
            path: path.to_vec(),
            kind,
            mode: metadata.permissions,
            uid,
            gid,
            mtime: metadata.mtime,
            xattrs,
        })?;
        match opened {
            Some((file, size)) => self.data(path, &file, size),
            None if is_opaque => self.marker(below(path, OPAQUE)),
            None => Ok(()),
        }
    }

    /// Opens a file, of which something is to be read. `None` when it has vanished.
    fn open(&self, path: &[u8]) -> Result<Option<(File, u64)>, Error> {
        let failed =
            |source| Error::file("reading", Path::new(&*String::from_utf8_lossy(path)))(source);
        let file = match directory::open_below(self.root.as_fd(), path, OFlags::RDONLY) {
            Ok(file) => File::from(file),
            // Something else has the name by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        };
        let metadata = file.metadata().map_err(failed)?;
        Ok(metadata.is_file().then_some((file, metadata.len())))
    }

    /// As many bytes as the file had: what comes in behind them meanwhile is left out.
    fn data(&mut self, path: &[u8], file: &File, size: u64) -> Result<(), Error> {
        let name = String::from_utf8_lossy(path);
        let mut piece = vec![0; PIECE];
        let mut file = file.take(size);
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    let bytes = piece.get(..count).unwrap_or_default();
                    self.archive
                        .data(bytes)
                        .map_err(|error| unwritten(&name, error))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::file("reading", Path::new(&*name))(error)),
            }
        }
    }

    /// An empty file that means something.
    fn marker(&mut self, path: Vec<u8>) -> Result<(), Error> {
        self.member(&Member {
            path,
            kind: Kind::File { size: 0 },
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: Vec::new(),
        })
    }

    fn member(&mut self, member: &Member) -> Result<(), Error> {
        let name = String::from_utf8_lossy(&member.path);
        let encoded = member
            .encode()
            .map_err(|error| Error::Changes(format!("{name}: {error}")))?;
        self.archive
            .member(&encoded)
            .map_err(|error| unwritten(&name, error))
    }
}

fn unwritten(name: &str, error: ArchiveError) -> Error {
    match error {
        ArchiveError::Write(source) => Error::file("writing", Path::new(name))(source),
        // Of the file before, which was cut off.
        error => Error::Changes(format!("before {name}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use erofs_tests::{require, skip, workshop};
    use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    fn mark(path: &Path, name: &str, value: &[u8]) {
        setxattr(path, name, value, XattrFlags::empty()).expect("set");
    }

    /// The tar of a folder whose files are everybody's own.
    fn tar(folder: &Path, latest: Option<Timestamp>) -> Result<Vec<u8>, Error> {
        let written = Written {
            folder: folder.to_path_buf(),
            owners: Owners::default(),
        };
        write(&written, latest, Vec::new())
    }

    fn listed(tar: &[u8]) -> Vec<String> {
        let mut file = tempfile::NamedTempFile::new().expect("made");
        file.write_all(tar).expect("written");
        let listed = workshop::succeed(Command::new("tar").arg("-tf").arg(file.path()));
        let listed = String::from_utf8(listed.stdout).expect("text");
        listed.lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_overlayfs_means_is_said_as_layers_say_it() {
        require!(skip::root());
        let folder = tempfile::tempdir().expect("made");
        let root = folder.path();
        let at = |name: &str| root.join(name);
        fs::create_dir_all(at("opaque")).expect("made");
        mark(&at("opaque"), "trusted.overlay.opaque", b"y");
        mark(&at("opaque"), "trusted.overlay.origin", b"whatever");
        mark(&at("opaque"), "user.kept", b"value");
        fs::write(at("opaque/file"), "content").expect("written");
        fs::hard_link(at("opaque/file"), at("linked")).expect("made");
        symlink("/etc/passwd", at("symlink")).expect("made");
        let device = FileType::CharacterDevice;
        mknodat(CWD, at("gone"), device, Mode::empty(), makedev(0, 0)).expect("made");
        fs::hard_link(at("gone"), at("opaque/gone too")).expect("made");
        mknodat(CWD, at("null"), device, Mode::RWXU, makedev(1, 3)).expect("made");
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).expect("made");
        mknodat(CWD, at("socket"), FileType::Socket, Mode::RWXU, 0).expect("made");
        let made = tar(root, None).expect("written");
        let expected = [
            "./",
            ".wh.gone",
            "linked",
            "null",
            "opaque/",
            "opaque/.wh..wh..opq",
            "opaque/file",
            "opaque/.wh.gone too",
            "pipe",
            "symlink",
        ];
        assert_eq!(listed(&made), expected);
        let said = String::from_utf8_lossy(&made);
        assert!(said.contains("user.kept=value") && !said.contains("trusted.overlay"));
        assert_eq!(tar(root, None).expect("written"), made);
        let epoch = Timestamp {
            seconds: 1,
            nanoseconds: 0,
        };
        let early = tar(root, Some(epoch)).expect("written");
        assert!(!String::from_utf8_lossy(&early).contains("mtime="));
    }

    #[test]
    fn what_the_folder_alone_does_not_tell_is_refused() {
        require!(skip::root());
        for (attribute, name) in [
            (Some("trusted.overlay.redirect"), "file"),
            (Some("trusted.overlay.metacopy"), "file"),
            (None, ".wh.file"),
        ] {
            let folder = tempfile::tempdir().expect("made");
            let path = folder.path().join(name);
            fs::write(&path, "content").expect("written");
            if let Some(attribute) = attribute {
                mark(&path, attribute, b"/elsewhere");
            }
            let error = tar(folder.path(), None).expect_err("refused");
            assert_eq!(
                matches!(error, Error::NotOurs(_)),
                attribute.is_some(),
                "{error}"
            );
        }
    }
}
