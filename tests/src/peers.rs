//! Where the other tools are.
//!
//! `tests/peers/fetch.sh` puts a newer erofs-utils than stable Debian has into the user's cache; `EROFS_PEERS`
//! names another folder. An older one that happens to be installed is never taken instead.

use std::{env, path::PathBuf, process::Command};

use crate::skip::Reason;

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

fn folder() -> Option<PathBuf> {
    if let Some(folder) = env::var_os("EROFS_PEERS") {
        return Some(folder.into());
    }
    let cache = env::var_os("EROFS_CACHE").map(PathBuf::from).or_else(|| {
        let user = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let user = user.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
        Some(user?.join("erofs-toolkit"))
    })?;
    Some(cache.join("peers/bin"))
}
