//! `erofs snapshotter` under real containerd: images are imported, mounted, run and removed, and nothing is left.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use erofs_tests::containerd::{Containerd, Layout, NAME, Packing, Setup, fetched};
use erofs_tests::manifest::Manifest;
use erofs_tests::require;
use erofs_tests::skip::{self, Reason};
use erofs_tests::workshop::{Workshop, succeed};

const IMAGE: &str = "registry.example/test:1";

fn needs(version: &'static str) -> Result<Setup, Reason> {
    skip::root()?;
    Ok(Setup {
        version,
        programs: fetched(version)?,
        erofs: skip::erofs_binary()?,
        content: None,
        plugin: String::new(),
    })
}

/// An image whose lowest layer has a shell. Another one, which comes twice, replaces, adds and removes; one has the awkward
/// tree.
fn image(workshop: &Workshop, setup: &Setup, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let lower = workshop.path("lower");
    for folder in ["bin", "dev", "proc", "sys", "old"] {
        fs::create_dir_all(lower.join(folder)).expect("made");
    }
    fs::copy(setup.programs[0].join("busybox"), lower.join("bin/busybox")).expect("copied");
    for name in ["sh", "cat", "sleep", "ls"] {
        symlink("busybox", lower.join("bin").join(name)).expect("made");
    }
    fs::write(lower.join("gone"), "old").expect("written");
    fs::write(lower.join("old/hidden"), "old").expect("written");
    let upper = workshop.path("upper");
    fs::create_dir_all(upper.join("old")).expect("made");
    fs::write(upper.join(".wh.gone"), "").expect("written");
    fs::write(upper.join("old/.wh..wh..opq"), "").expect("written");
    fs::write(upper.join("old/new"), "new\n").expect("written");
    // What means something else to overlayfs or in a layer, and what tars do not hold.
    let meant = [
        "devices/c-0-0",
        "xattrs/trusted-overlay",
        "names/.wh..wh..opq",
        "names/.wh.gone",
    ];
    let not_held = ["types/socket", "links/device", "links/fifo"];
    for name in meant.into_iter().chain(not_held) {
        fs::remove_file(workshop.source.join(name)).expect("removed");
    }
    let awkward = workshop.path("awkward");
    fs::create_dir(&awkward).expect("made");
    fs::rename(&workshop.source, awkward.join("awkward")).expect("moved");
    let mut layout = Layout::new(&workshop.path("layout"));
    layout.layer(&lower, Packing::Gzip, change);
    layout.layer(&upper, Packing::Gzip, |_| ());
    layout.layer(&awkward, Packing::Zstd, |_| ());
    layout.layer(&upper, Packing::Plain, |_| ());
    let tar = workshop.path("image.tar");
    layout.finish(IMAGE, &tar);
    tar
}

fn import<'a>(version: &str, snapshotter: &'a str, tar: &'a Path) -> Vec<&'a str> {
    let mut arguments = vec!["image", "import"];
    // Otherwise 2.x asks its transfer service, which unpacks for the snapshotters of its own configuration alone.
    if version != "1.7" {
        arguments.push("--local");
    }
    arguments.extend(["--snapshotter", snapshotter, tar.to_str().expect("text")]);
    arguments
}

/// Whether the image shows the awkward tree.
fn shows(containerd: &Containerd, snapshotter: &str, workshop: &Workshop) {
    let shown = workshop.path("shown");
    fs::create_dir(&shown).expect("made");
    let folder = shown.to_str().expect("text");
    let with = ["--snapshotter", snapshotter];
    succeed(&mut containerd.ctr(&[&["image", "mount"], &with[..], &[IMAGE, folder]].concat()));
    let expected = Manifest::of_directory(&workshop.path("awkward/awkward")).expect("readable");
    let seen = Manifest::of_directory(&shown.join("awkward")).expect("readable");
    succeed(&mut containerd.ctr(&[&["image", "unmount"], &with[..], &["--rm", folder]].concat()));
    expected.assert_same(&seen, &[]);
}

/// Imports, looks at, runs and removes an image.
fn lives(version: &'static str, content: Option<&Path>) {
    let mut setup = require!(needs(version));
    setup.content = content.map(Path::to_path_buf);
    let workshop = Workshop::light();
    let tar = image(&workshop, &setup, |_| ());
    let mut containerd = Containerd::start(&setup);
    succeed(&mut containerd.ctr(&import(version, NAME, &tar)));
    assert_eq!(containerd.snapshots().expect("listed").len(), 4);
    let layers = containerd.files();
    assert_eq!(
        layers.iter().filter(|path| path.is_file()).count(),
        3,
        "{layers:?}"
    );

    shows(&containerd, NAME, &workshop);
    let run = ["run", "--snapshotter", NAME];
    let script = "cat /old/new; ls /old; ls /gone 2>&1; echo written >/made; cat /made";
    let (once, stays) = (containerd.container("once"), containerd.container("stays"));
    let once = [&run[..], &["--rm", IMAGE, &once, "sh", "-c", script]].concat();
    let said = containerd.says(&once);
    assert_eq!(
        said,
        "new\nnew\nls: /gone: No such file or directory\nwritten\n"
    );

    // A container goes on while the plugin is gone, and is known to the next one.
    let detached = [&run[..], &["--detach", IMAGE, &stays, "sleep", "1000"]].concat();
    succeed(&mut containerd.ctr(&detached));
    containerd.kill_plugin();
    assert_eq!(containerd.snapshots().expect("listed").len(), 5);
    let said = containerd.says(&["task", "exec", "--exec-id", "1", &stays, "cat", "/old/new"]);
    assert_eq!(said, "new\n");
    succeed(&mut containerd.ctr(&["task", "kill", "--signal", "9", &stays]));
    containerd.wait(|containerd| {
        let removed = containerd.ctr(&["task", "rm", &stays]).output();
        removed.expect("starts").status.success()
    });
    succeed(&mut containerd.ctr(&["container", "rm", &stays]));

    succeed(&mut containerd.ctr(&["image", "rm", "--sync", IMAGE]));
    containerd.wait(|containerd| containerd.files().is_empty());
    assert_eq!(
        containerd.snapshots().expect("listed"),
        Vec::<String>::new()
    );
    assert_eq!(containerd.mounted(), 0);
    assert_eq!(containerd.plugin_log(), "");
}

#[test]
fn images_live_under_containerd_2_1() {
    lives("2.1", None);
}

/// Before 2.0 containerd does not tell the namespace of blobs.
#[test]
fn images_live_under_containerd_1_7() {
    lives("1.7", None);
}

/// A plugin that does not see containerd's content store asks containerd for blobs.
#[test]
fn blobs_are_read_through_containerd() {
    lives("2.1", Some(Path::new("/nonexistent")));
}

/// Imports, looks at, runs and removes an image whose layers are mounted in another way than the best. Returns how many
/// mounts of the plugin there were.
fn is_mounted(options: &str) -> usize {
    let mut setup = needs("2.1").expect("asked for");
    setup.plugin = format!("[mounts]\n{options}\n");
    let workshop = Workshop::light();
    let tar = image(&workshop, &setup, |_| ());
    let mut containerd = Containerd::start(&setup);
    succeed(&mut containerd.ctr(&import("2.1", NAME, &tar)));
    shows(&containerd, NAME, &workshop);
    let unpacked = containerd.mounted();
    let stays = containerd.container("stays");
    let run = ["run", "--snapshotter", NAME];
    let detached = [&run[..], &["--detach", IMAGE, &stays, "sleep", "1000"]].concat();
    succeed(&mut containerd.ctr(&detached));
    containerd.kill_plugin();
    let exec = ["task", "exec", "--exec-id", "1", &stays, "cat", "/old/new"];
    assert_eq!(containerd.says(&exec), "new\n");
    succeed(&mut containerd.ctr(&["task", "rm", "--force", &stays]));
    succeed(&mut containerd.ctr(&["container", "rm", &stays]));
    succeed(&mut containerd.ctr(&["image", "rm", "--sync", IMAGE]));
    containerd.wait(|containerd| containerd.files().is_empty());
    assert_eq!(containerd.mounted(), 0);
    assert_eq!(containerd.plugin_log(), "");
    unpacked
}

#[test]
fn layers_are_mounted_by_fuse() {
    require!(needs("2.1").and_then(|_| skip::fuse()));
    assert_eq!(is_mounted("via = \"fuse\""), 3);
}

/// Three different layers become one, and the container's mount is made of that alone.
#[test]
fn many_layers_are_merged() {
    require!(needs("2.1"));
    assert_eq!(is_mounted("merge = 3"), 4);
}

/// What is below shows the users of the container, and what is written belongs to others outside.
#[test]
fn users_of_a_container_are_mapped() {
    let setup = require!(needs("2.1"));
    let workshop = Workshop::light();
    let tar = image(&workshop, &setup, |_| ());
    let mut containerd = Containerd::start(&setup);
    // Those users come to the files of the container through it.
    fs::set_permissions(containerd.folder(), fs::Permissions::from_mode(0o755)).expect("set");
    succeed(&mut containerd.ctr(&import("2.1", NAME, &tar)));
    let name = containerd.container("mapped");
    let run = ["run", "--detach", "--snapshotter", NAME, "--remap-labels"];
    let users = ["--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536"];
    let container = [IMAGE, &name, "sleep", "1000"];
    succeed(&mut containerd.ctr(&[&run[..], &users, &container].concat()));
    containerd.kill_plugin();
    let exec = ["task", "exec", "--exec-id", "1", &name, "sh", "-c"];
    let script = "cat /old/new; ls -ldn /old; echo >/made; ls -ln /made";
    let said = containerd.says(&[&exec[..], &[script]].concat());
    let owners: Vec<_> = said
        .lines()
        .map(|line| line.split_whitespace().skip(2).take(2).collect::<Vec<_>>())
        .collect();
    assert_eq!(owners, [vec![], vec!["0", "0"], vec!["0", "0"]], "{said}");
    let snapshots = fs::read_dir(containerd.folder().join("layers/snapshots")).expect("read");
    let outside: Vec<_> = snapshots
        .filter_map(|entry| fs::metadata(entry.ok()?.path().join("fs/made")).ok())
        .map(|made| (made.uid(), made.gid()))
        .collect();
    assert_eq!(outside, [(100_000, 200_000)]);
    succeed(&mut containerd.ctr(&["task", "rm", "--force", &name]));
    succeed(&mut containerd.ctr(&["container", "rm", &name]));
    succeed(&mut containerd.ctr(&["image", "rm", "--sync", IMAGE]));
    containerd.wait(|containerd| containerd.files().is_empty());
    assert_eq!(containerd.mounted(), 0);
    assert_eq!(containerd.plugin_log(), "");
}

/// A layer that is cut off, and then the same image whole.
#[test]
fn a_broken_layer_leaves_nothing_behind() {
    let version = "2.1";
    let setup = require!(needs(version));
    let workshop = Workshop::light();
    let broken = image(&workshop, &setup, |layer| layer.truncate(layer.len() / 2));
    let containerd = Containerd::start(&setup);
    let refused = containerd
        .ctr(&import(version, NAME, &broken))
        .output()
        .expect("starts");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(said.contains("gzip data near compressed offset"), "{said}");
    containerd.wait(|containerd| containerd.files().is_empty());
    assert_eq!(containerd.mounted(), 0);

    let workshop = Workshop::light();
    let whole = image(&workshop, &setup, |_| ());
    succeed(&mut containerd.ctr(&import(version, NAME, &whole)));
    assert_eq!(containerd.snapshots().expect("listed").len(), 4);
}

/// containerd's own differ and snapshotter make images by `mkfs.erofs`: by ours, if it comes first in PATH.
#[test]
fn containerds_own_differ_works_with_our_mkfs() {
    let version = "2.1";
    let mut setup = require!(needs(version));
    let workshop = Workshop::light();
    let tar = image(&workshop, &setup, |_| ());
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
