//! Archives by GNU tar, and what GNU tar makes of archives.

use std::{fs, path::Path, process::Command};

use crate::{manifest::Manifest, workshop::succeed};

/// Archives the directory `source` in `tar`. `options` are those of GNU tar.
///
/// # Panics
/// When tar fails in another way than by leaving out what the format cannot hold.
#[track_caller]
pub fn create(source: &Path, tar: &Path, options: &[&str]) {
    let mut command = Command::new("tar");
    command
        .args(["--sort=name", "--numeric-owner"])
        .args(options)
        .arg("-C")
        .arg(source)
        .arg("-cf")
        .args([tar, Path::new(".")]);
    let output = command.output().expect("starts");
    assert!(
        matches!(output.status.code(), Some(0 | 2)) && tar.is_file(),
        "{command:?}: {output:?}"
    );
}

/// What `tar -x` makes of an archive, ACLs from attributes (with `--acls` it takes those of its own PAX keyword alone).
/// Needs root.
///
/// # Panics
/// When it cannot be extracted whole.
#[track_caller]
pub fn extracted(tar: &Path, options: &[&str]) -> Manifest {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let target = folder.path().join("extracted");
    fs::create_dir(&target).expect("made");
    succeed(
        Command::new("tar")
            .args(["--numeric-owner", "--same-owner", "-p"])
            .args(["--xattrs", "--xattrs-include=*"])
            // bsdtar comes back to a directory after others.
            .arg("--delay-directory-restore")
            .args(options)
            .arg("-C")
            .args([&target, Path::new("-xf"), tar]),
    );
    Manifest::of_directory(&target).expect("readable")
}
