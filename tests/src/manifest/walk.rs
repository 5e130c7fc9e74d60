//! A manifest from a real directory, by descriptors so that no path is too long.

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, lgetxattr, llistxattr, major, minor,
        openat, readlinkat, statat,
    },
    io::Errno,
};

use super::{Manifest, Node, Type, content};
use crate::tree::{Device, Time, Xattrs, join, write::through_proc};

/// The most that Linux hands out for a list of attributes or for one value.
const XATTR_MAX: usize = 64 << 10;

impl Manifest {
    /// Walks `root` and reads everything below it. Mount points below are walked as well.
    ///
    /// # Errors
    /// Whatever cannot be read, with its path; a listing that names an entry twice or with another
    /// type than the entry has; content whose length is not the file's size.
    pub fn of_directory(root: &Path) -> Result<Self> {
        let root = openat(
            CWD,
            root,
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut walk = Walk::default();
        walk.entry(root.as_fd(), b".", Vec::new(), None)?;
        let mut manifest = walk.manifest;
        manifest.note_shared(walk.inodes.into_values());
        Ok(manifest)
    }
}

#[derive(Default)]
struct Walk {
    manifest: Manifest,
    /// (device, inode number) to the paths that have it.
    inodes: BTreeMap<(u64, u64), Vec<Vec<u8>>>,
}

impl Walk {
    /// `listed`: the type that the directory's listing gave, where it gave one.
    fn entry(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        path: Vec<u8>,
        listed: Option<FileType>,
    ) -> Result<()> {
        let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
            .with_context(|| format!("stat of {}", path.escape_ascii()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if listed.is_some_and(|listed| listed != kind) {
            bail!(
                "{} is listed as {listed:?} and is {kind:?}",
                path.escape_ascii()
            );
        }
        let node = node(at, name, &stat, kind)
            .with_context(|| format!("reading {}", path.escape_ascii()))?;
        self.inodes
            .entry((stat.st_dev, stat.st_ino))
            .or_default()
            .push(path.clone());
        if self.manifest.nodes.insert(path.clone(), node).is_some() {
            bail!("{} is listed twice", path.escape_ascii());
        }
        if kind == FileType::Directory {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = openat(at, name, flags, Mode::empty())
                .with_context(|| format!("opening {}", path.escape_ascii()))?;
            self.children(&directory, &path)
                .with_context(|| format!("listing {}", path.escape_ascii()))?;
        }
        Ok(())
    }

    fn children(&mut self, directory: &OwnedFd, path: &[u8]) -> Result<()> {
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let listed = Some(entry.file_type()).filter(|&kind| kind != FileType::Unknown);
            self.entry(directory.as_fd(), name, join(path, name), listed)?;
        }
        Ok(())
    }
}

fn node(at: BorrowedFd<'_>, name: &[u8], stat: &Stat, kind: FileType) -> Result<Node> {
    let number = Device {
        major: major(stat.st_rdev),
        minor: minor(stat.st_rdev),
    };
    let (mut device, mut target, mut digest, mut size) = (None, None, None, 0);
    let kind = match kind {
        FileType::RegularFile => {
            size = u64::try_from(stat.st_size)?;
            digest = Some(read(at, name, size)?);
            Type::File
        }
        FileType::Symlink => {
            size = u64::try_from(stat.st_size)?;
            target = Some(readlinkat(at, name, Vec::new())?.into_bytes());
            Type::Symlink
        }
        FileType::CharacterDevice => {
            device = Some(number);
            Type::CharacterDevice
        }
        FileType::BlockDevice => {
            device = Some(number);
            Type::BlockDevice
        }
        FileType::Directory => Type::Directory,
        FileType::Fifo => Type::Fifo,
        FileType::Socket => Type::Socket,
        FileType::Unknown => bail!("unknown type, mode {:o}", stat.st_mode),
    };
    Ok(Node {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        #[allow(clippy::useless_conversion, reason = "32 bits on arm64")]
        links: stat.st_nlink.into(),
        size,
        mtime: Time {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec)?,
        },
        device,
        target,
        digest,
        xattrs: xattrs(at, name)?,
        shared_with: None,
    })
}

fn read(at: BorrowedFd<'_>, name: &[u8], size: u64) -> Result<[u8; 32]> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(at, name, flags, Mode::empty())?);
    let (digest, length) = content::of_file(&mut file)?;
    if length != size {
        bail!("{length} bytes of content, but a size of {size}");
    }
    Ok(digest)
}

fn xattrs(at: BorrowedFd<'_>, name: &[u8]) -> Result<Xattrs> {
    let path = through_proc(at.as_raw_fd(), name)?;
    let mut names = vec![0; XATTR_MAX];
    let length = match llistxattr(&path, names.as_mut_slice()) {
        Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
        other => other.context("listing the attributes")?,
    };
    names.truncate(length);
    let mut all = Xattrs::new();
    let mut value = vec![0; XATTR_MAX];
    for key in names.split(|&byte| byte == 0).filter(|key| !key.is_empty()) {
        let length = lgetxattr(&path, key, value.as_mut_slice())
            .with_context(|| format!("attribute {}", key.escape_ascii()))?;
        if all.insert(key.to_vec(), value[..length].to_vec()).is_some() {
            bail!("attribute {} is listed twice", key.escape_ascii());
        }
    }
    Ok(all)
}
