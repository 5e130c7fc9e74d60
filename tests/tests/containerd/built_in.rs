//! containerd's own differ and snapshotter, which make images by `mkfs.erofs`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use erofs_tests::containerd::{Containerd, Setup};
use erofs_tests::require;
use erofs_tests::workshop::{Workshop, succeed};

use crate::{IMAGE, image, import, needs, shows};

/// Puts our `mkfs.erofs` into PATH, and returns the file with a line for each call of it.
pub(crate) fn mkfs(workshop: &Workshop, setup: &mut Setup) -> PathBuf {
    let (links, calls) = (workshop.path("links"), workshop.path("calls"));
    fs::create_dir_all(links.join("ours")).expect("made");
    let ours = links.join("ours/mkfs.erofs");
    symlink(&setup.erofs, &ours).expect("made");
    let (called, noted) = (ours.display(), calls.display());
    let script = format!("#!/bin/sh\necho \"$*\" >>{noted}\nexec {called} \"$@\"\n");
    fs::write(links.join("mkfs.erofs"), script).expect("written");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(links.join("mkfs.erofs"), executable).expect("set");
    setup.programs.push(links);
    calls
}

/// containerd's own differ and snapshotter make images by `mkfs.erofs`: by ours, if it comes first in PATH.
#[test]
fn containerds_own_differ_works_with_our_mkfs() {
    let version = "2.1";
    let mut setup = require!(needs(version));
    let workshop = Workshop::light();
    let tar = image(&workshop, &setup, |_| ());
    let calls = mkfs(&workshop, &mut setup);
    let containerd = Containerd::start(&setup);
    succeed(&mut containerd.ctr(&import(version, "erofs", &tar)));
    shows(&containerd, "erofs", &workshop);
    let calls = fs::read_to_string(calls).expect("called");
    let tars = calls.lines().filter(|call| call.starts_with("--tar=f"));
    assert_eq!(tars.count(), 4, "{calls}");

    let name = containerd.container("once");
    let run = ["run", "--snapshotter", "erofs", "--rm", IMAGE, &name];
    let said = containerd.says(&[&run[..], &["sh", "-c", "cat /old/new; ls /old"]].concat());
    assert_eq!(said, "new\nnew\n");
}
