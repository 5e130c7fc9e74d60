//! Where the other tools are.
//!
//! `tests/peers/fetch.sh` puts a newer erofs-utils than stable Debian has into the user's cache; `EROFS_PEERS`
//! names another folder. An older one that happens to be installed is never taken instead.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{manifest::Manifest, skip::Reason};

/// A program of erofs-utils: `mkfs.erofs`, `fsck.erofs`, `dump.erofs` or `erofsfuse`.
///
/// # Errors
/// It has not been fetched.
pub fn erofs_utils(program: &str) -> Result<Command, Reason> {
    let path = folder().map(|folder| folder.join(program));
    match path.filter(|path| path.is_file()) {
        Some(path) => Ok(Command::new(path)),
        None => Err(Reason(format!(
            "the peer {program} is missing: run tests/peers/fetch.sh"
        ))),
    }
}

/// What `fsck.erofs --extract` makes of an image, and `expected` without what it loses by its nature: both the same where it
/// extracts what is expected.
///
/// # Errors
/// What it says when it fails.
///
/// # Panics
/// It was not fetched, or leaves what cannot be read.
pub fn extracted(
    image: &Path,
    devices: &[&Path],
    expected: &Manifest,
) -> Result<(Manifest, Manifest), String> {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let target = folder.path().join("extracted");
    let mut option = OsString::from("--extract=");
    option.push(&target);
    let mut fsck = erofs_utils("fsck.erofs").expect("asked for");
    fsck.args(["--preserve", "--xattrs"]);
    for device in devices {
        fsck.arg("--device").arg(device);
    }
    let output = fsck.args([option.as_os_str(), image.as_os_str()]).output();
    let output = output.expect("starts");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut expected = expected.clone();
    let mut seen = Manifest::of_directory(&target).expect("readable");
    // It sets attributes before the owner, which costs capabilities; gives up an inode's attributes at an empty
    // value; and sets default ACLs on directories that it fills afterwards.
    for (path, node) in &mut expected.nodes {
        node.xattrs.remove(b"security.capability".as_slice());
        let seen = seen.nodes.get_mut(path).map(|node| &mut node.xattrs);
        let Some(seen) = seen else { continue };
        if node.xattrs.values().any(Vec::is_empty) {
            node.xattrs.clear();
            seen.clear();
        } else if path == b"xattrs/acl-directory/child" {
            seen.remove(b"system.posix_acl_access".as_slice());
        }
    }
    Ok((seen, expected))
}

fn folder() -> Option<PathBuf> {
    if let Some(folder) = env::var_os("EROFS_PEERS") {
        return Some(folder.into());
    }
    cache().ok().map(|cache| cache.join("peers/bin"))
}

/// Where fetched programs are kept.
///
/// # Errors
/// Neither the environment nor a home says where.
pub fn cache() -> Result<PathBuf, Reason> {
    if let Some(cache) = env::var_os("EROFS_CACHE") {
        return Ok(cache.into());
    }
    let user = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let user = user.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    let user = user.ok_or_else(|| Reason("there is no HOME for a cache".to_owned()))?;
    Ok(user.join("erofs-toolkit"))
}
