//! Makes a real directory out of the model.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
};

use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat,
    chownat, linkat, lsetxattr, makedev, mkdirat, mknodat, openat, symlinkat, utimensat,
};

use super::{Attributes, Device, Entry, Kind, Tree, split};

impl Tree {
    /// Writes the tree into `root`, a directory that exists and is empty.
    ///
    /// Needs root where the tree has owners, devices or attributes of the trusted and security
    /// namespaces. Paths may exceed PATH_MAX. ext4 stores times from -2^31 to 2^34 - 2^31 - 1 seconds
    /// and clamps others, tmpfs and xfs have limits of their own: [`Manifest`](crate::manifest::Manifest)
    /// of the model against that of the directory tells.
    ///
    /// # Errors
    /// The first system call that failed, with the path.
    pub fn write(&self, root: &Path) -> Result<()> {
        let root = openat(
            CWD,
            root,
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        for entry in &self.entries {
            create(&root, entry)
                .with_context(|| format!("creating {}", entry.path.escape_ascii()))?;
        }
        // Afterwards and backwards: a directory's time changes with its entries, its default ACL would be
        // inherited by them, and its mode may lock out whoever is not root.
        for entry in self.entries.iter().rev() {
            if !matches!(entry.kind, Kind::HardLink(_)) {
                describe(&root, entry)
                    .with_context(|| format!("attributes of {}", entry.path.escape_ascii()))?;
            }
        }
        Ok(())
    }
}

/// The directory that holds `path`, opened component by component, and the last component.
fn parent<'a>(root: &OwnedFd, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8])> {
    let (parent, name) = split(path);
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::PATH;
    let mut directory = openat(root, c".", flags, Mode::empty())?;
    for component in parent.split(|&byte| byte == b'/').filter(|c| !c.is_empty()) {
        directory = openat(&directory, component, flags, Mode::empty())?;
    }
    Ok((directory, if name.is_empty() { b"." } else { name }))
}

fn create(root: &OwnedFd, entry: &Entry) -> Result<()> {
    if entry.path.is_empty() {
        return Ok(());
    }
    let (at, name) = parent(root, &entry.path)?;
    let node = |kind, device: Device| {
        let number = makedev(device.major, device.minor);
        mknodat(&at, name, kind, Mode::from_raw_mode(0o600), number)
    };
    let none = Device { major: 0, minor: 0 };
    match &entry.kind {
        Kind::Directory => mkdirat(&at, name, Mode::from_raw_mode(0o700))?,
        Kind::File(content) => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = File::from(openat(&at, name, flags, Mode::from_raw_mode(0o600))?);
            file.set_len(content.size)?;
            for (offset, bytes) in &content.pieces {
                file.write_all_at(bytes, *offset)?;
            }
        }
        Kind::Symlink(target) => symlinkat(target.as_slice(), &at, name)?,
        Kind::CharacterDevice(device) => node(FileType::CharacterDevice, *device)?,
        Kind::BlockDevice(device) => node(FileType::BlockDevice, *device)?,
        Kind::Fifo => node(FileType::Fifo, none)?,
        Kind::Socket => node(FileType::Socket, none)?,
        Kind::HardLink(target) => {
            let (from, original) = parent(root, target)?;
            linkat(&from, original, &at, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Order matters: chown clears setuid bits and capabilities, an ACL changes the mode.
fn describe(root: &OwnedFd, entry: &Entry) -> Result<()> {
    let Attributes {
        mode,
        uid,
        gid,
        mtime,
        xattrs,
    } = &entry.attributes;
    let (at, name) = parent(root, &entry.path)?;
    let own = AtFlags::SYMLINK_NOFOLLOW;
    chownat(
        &at,
        name,
        Some(Uid::from_raw(*uid)),
        Some(Gid::from_raw(*gid)),
        own,
    )
    .context("chown")?;
    if !matches!(entry.kind, Kind::Symlink(_)) {
        chmodat(&at, name, Mode::from_raw_mode(*mode), AtFlags::empty()).context("chmod")?;
    }
    let path = through_proc(at.as_fd().as_raw_fd(), name)?;
    for (key, value) in xattrs {
        lsetxattr(&path, key.as_slice(), value, XattrFlags::empty())
            .with_context(|| format!("setting {}", key.escape_ascii()))?;
    }
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: mtime.nanoseconds.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(&at, name, &times, own).context("setting the time")
}

/// A path to `name` in an open directory for calls that have no `…at` form, however deep it is.
pub(crate) fn through_proc(directory: i32, name: &[u8]) -> io::Result<CString> {
    let path = [format!("/proc/self/fd/{directory}/").as_bytes(), name].concat();
    Ok(CString::new(path)?)
}
