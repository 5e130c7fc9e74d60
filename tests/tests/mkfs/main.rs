//! `mkfs.erofs`: the same arguments to the C tool and to the link, and what comes of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod containerd;
mod forms;
mod gzip_index;
mod hostile;
mod options;
mod same;

use std::{
    fs::File,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output, Stdio},
};

use erofs_tests::{
    manifest::Manifest,
    peers,
    skip::{self, Reason},
    workshop::{Workshop, erofs, open},
};

/// What every comparison with the C tool needs.
fn needs() -> Result<(), Reason> {
    skip::root()?;
    erofs()?;
    peers::erofs_utils("mkfs.erofs").map(drop)
}

/// The link, in the workshop.
fn link(workshop: &Workshop) -> Command {
    let link = workshop.path("mkfs.erofs");
    if !link.exists() {
        symlink(skip::erofs_binary().unwrap(), &link).unwrap();
    }
    Command::new(link)
}

/// The C tool.
fn peer() -> Command {
    peers::erofs_utils("mkfs.erofs").unwrap()
}

/// Runs one of both in the workshop, with `input` as its standard input.
fn run(
    mut command: Command,
    workshop: &Workshop,
    input: Option<&Path>,
    arguments: &[&str],
) -> Output {
    let input = input.map_or_else(Stdio::null, |path| File::open(path).unwrap().into());
    command
        .current_dir(workshop.directory.path())
        .args(arguments)
        .stdin(input)
        .output()
        .unwrap()
}

/// What an image in the workshop holds.
fn manifest(workshop: &Workshop, image: &str, devices: &[&str]) -> Manifest {
    let devices: Vec<_> = devices.iter().map(|name| workshop.path(name)).collect();
    Manifest::of_image(&open(&workshop.path(image), &devices)).unwrap()
}
