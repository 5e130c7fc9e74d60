//! Programs that this one is when it is called by another name: one module for each.

mod digests;
mod dump;
mod fsck;
mod mkfs;
mod mount;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

/// What a program does with its arguments.
pub(crate) type Link = fn(Vec<OsString>) -> ExitCode;

const LINKS: [(&str, Link); 4] = [
    ("dump.erofs", dump::run),
    ("fsck.erofs", fsck::run),
    ("mkfs.erofs", mkfs::run),
    ("mount.erofs", mount::run),
];

/// Commands of links that have a man page.
#[cfg(test)]
pub(crate) fn commands() -> Vec<clap::Command> {
    vec![
        dump::command(),
        fsck::command(),
        mkfs::command(),
        mount::command(),
    ]
}

/// The program of this name, unless it is this one's own.
pub(crate) fn find(name: &OsStr) -> Option<Link> {
    LINKS
        .iter()
        .find(|(link, _)| name == *link)
        .map(|(_, run)| *run)
}
