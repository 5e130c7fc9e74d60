//! Programs that this one is when it is called by another name: one module for each.

mod digests;
mod dump;
mod fsck;
mod mount;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

/// What a program does with its arguments.
pub(crate) type Link = fn(Vec<OsString>) -> ExitCode;

const LINKS: [(&str, Link); 3] = [
    ("dump.erofs", dump::run),
    ("fsck.erofs", fsck::run),
    ("mount.erofs", mount::run),
];

/// The program of this name, unless it is this one's own.
pub(crate) fn find(name: &OsStr) -> Option<Link> {
    LINKS
        .iter()
        .find(|(link, _)| name == *link)
        .map(|(_, run)| *run)
}
