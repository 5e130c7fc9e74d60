//! `erofs snapshotter` under real containerd: images are imported, mounted, run and removed, and nothing is left.

mod ahead;
mod built_in;
mod commits;
mod cri;
mod damage;
mod deploy;
mod disk;
mod faults;
mod guest;
mod kills;
mod leases;
mod newer;
mod operators;
mod plugin;
mod quota;
mod random;
mod stored;
mod unpacking;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use commits::commit;
use erofs_tests::containerd::{
    Containerd, Layout, NAME, Packing, Setup, fetched, has_transfer_service,
};
use erofs_tests::manifest::{Field, Manifest};
use erofs_tests::require;
use erofs_tests::skip::{self, Reason};
use erofs_tests::workshop::{Workshop, succeed};

const IMAGE: &str = "registry.example/test:1";
/// That image with what a container changed.
const COMMITTED: &str = "registry.example/test:2";
/// What that is: whiteouts, opaque folders, links, attributes, files of all types.
const CHANGES: &str = "
    rm -r /old; mkdir /old; echo fresh >/old/fresh
    rm /bin/ls
    chmod 700 /awkward
    mkdir -p '/made/with space'; echo one >/made/file; echo two >>/made/file
    ln /made/file /made/linked; ln -s file /made/symlink
    busybox chown -h 1000:70000 /made/symlink /made/file
    busybox mkfifo /made/pipe; busybox mknod /made/null c 1 3
    busybox dd if=/dev/zero of=/made/zeros bs=1000 count=3000 2>/dev/null
    : >/done";

fn needs(version: &'static str) -> Result<Setup, Reason> {
    skip::root()?;
    Ok(Setup {
        version,
        programs: fetched(version)?,
        erofs: skip::erofs_binary()?,
        content: None,
        plugin: String::new(),
        containerd: String::new(),
    })
}

/// An image whose lowest layer has a shell. Another one, which comes twice, replaces, adds and removes; one has the awkward
/// tree.
fn image(workshop: &Workshop, setup: &Setup, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let tar = workshop.path("image.tar");
    layout(workshop, setup, Packing::Zstd, change).finish(IMAGE, &tar);
    tar
}

/// The layers of that image, that of the awkward tree packed in this way.
fn layout(
    workshop: &Workshop,
    setup: &Setup,
    packing: Packing,
    change: impl FnOnce(&mut Vec<u8>),
) -> Layout {
    let lower = workshop.path("lower");
    for folder in ["bin", "dev", "proc", "sys", "old"] {
        fs::create_dir_all(lower.join(folder)).expect("made");
    }
    fs::copy(setup.program("busybox"), lower.join("bin/busybox")).expect("copied");
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
    layout.layer(&awkward, packing, |_| ());
    layout.layer(&upper, Packing::Plain, |_| ());
    layout
}

fn import<'a>(version: &str, snapshotter: &'a str, tar: &'a Path) -> Vec<&'a str> {
    let mut arguments = vec!["image", "import"];
    // Otherwise 2.x asks its transfer service, which unpacks for the snapshotters of its own configuration alone.
    if has_transfer_service(version) {
        arguments.push("--local");
    }
    arguments.extend(["--snapshotter", snapshotter, tar.to_str().expect("text")]);
    arguments
}

/// What an image shows below `folder`.
fn shown(
    containerd: &Containerd,
    snapshotter: &str,
    workshop: &Workshop,
    image: &str,
    folder: &str,
) -> Manifest {
    let shown = workshop.path("shown");
    fs::create_dir(&shown).expect("made");
    let target = shown.to_str().expect("text");
    let with = ["--snapshotter", snapshotter];
    succeed(&mut containerd.ctr(&[&["image", "mount"], &with[..], &[image, target]].concat()));
    let seen = Manifest::of_directory(&shown.join(folder)).expect("readable");
    succeed(&mut containerd.ctr(&[&["image", "unmount"], &with[..], &["--rm", target]].concat()));
    fs::remove_dir(shown).expect("empty");
    seen
}

/// Whether the image shows the awkward tree.
fn shows(containerd: &Containerd, snapshotter: &str, workshop: &Workshop) {
    let expected = Manifest::of_directory(&workshop.path("awkward/awkward")).expect("readable");
    let seen = shown(containerd, snapshotter, workshop, IMAGE, "awkward");
    expected.assert_same(&seen, &[]);
}

/// How an image is packed and kept.
struct Kept<'a> {
    /// Where the plugin looks for blobs.
    content: Option<&'a Path>,
    /// How the layer of the awkward tree is packed.
    packing: Packing,
    /// As what the changes of a container are committed.
    committed: [Packing; 2],
    /// Further lines of the plugin's configuration.
    plugin: &'a str,
    /// Files of three layers.
    files: usize,
}

/// A native layer, and what containers make of it as another.
const NATIVE: Kept<'_> = Kept {
    content: None,
    packing: Packing::Native,
    committed: [Packing::Gzip, Packing::Native],
    plugin: "",
    files: 3,
};

/// Imports, looks at, runs, commits and removes an image.
fn lives(version: &'static str, kept: &Kept<'_>) {
    let mut setup = require!(needs(version));
    setup.content = kept.content.map(Path::to_path_buf);
    setup.plugin = kept.plugin.to_owned();
    let workshop = Workshop::light();
    let layout = layout(&workshop, &setup, kept.packing, |_| ());
    let tar = workshop.path("image.tar");
    layout.clone().finish(IMAGE, &tar);
    // In paths that containerd is told, and that are mounted.
    let spaced = workshop.path("a b");
    fs::create_dir(&spaced).expect("made");
    let mut containerd = Containerd::start_below(&spaced, &setup);
    succeed(&mut containerd.ctr(&import(version, NAME, &tar)));
    assert_eq!(containerd.snapshots().expect("listed").len(), 4);
    let layers = containerd.files();
    assert_eq!(
        layers.iter().filter(|path| path.is_file()).count(),
        kept.files,
        "{layers:?}"
    );

    match version {
        // Its own differ loses times before 1970, whoever keeps the snapshots.
        "1.6" => {
            succeed(&mut containerd.ctr(&import(version, "overlayfs", &tar)));
            let expected = shown(&containerd, "overlayfs", &workshop, IMAGE, "");
            let seen = shown(&containerd, NAME, &workshop, IMAGE, "");
            expected.assert_same(&seen, &[]);
        }
        _ => shows(&containerd, NAME, &workshop),
    }
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
    let script = format!("{CHANGES}; exec sleep 1000");
    let detached = [&run[..], &["--detach", IMAGE, &stays, "sh", "-c", &script]].concat();
    succeed(&mut containerd.ctr(&detached));
    containerd.wait(|containerd| containerd.rootfs(&stays).join("done").exists());
    containerd.kill_plugin();
    assert_eq!(containerd.snapshots().expect("listed").len(), 5);
    let exec = [
        "task",
        "exec",
        "--exec-id",
        "1",
        &stays,
        "cat",
        "/old/fresh",
    ];
    assert_eq!(containerd.says(&exec), "fresh\n");
    for packing in kept.committed {
        let layout = layout.clone();
        let committed = commit(&setup, &containerd, &workshop, layout, packing, &stays);
        let expected = Manifest::of_directory(&containerd.rootfs(&stays)).expect("readable");
        let lost: &[Field] = match version {
            // Its own differ writes whole seconds, nothing of the root, and not the same bytes each time.
            "1.6" => &[Field::Seconds, Field::Nanoseconds, Field::DirectoryLinks],
            _ => &[],
        };
        expected.assert_same(&committed, lost);
    }
    succeed(&mut containerd.ctr(&["task", "kill", "--signal", "9", &stays]));
    containerd.wait(|containerd| {
        let removed = containerd.ctr(&["task", "rm", &stays]).output();
        removed.expect("starts").status.success()
    });
    succeed(&mut containerd.ctr(&["container", "rm", &stays]));

    succeed(&mut containerd.ctr(&["image", "rm", "--sync", IMAGE, COMMITTED]));
    containerd.wait(|containerd| containerd.files().is_empty());
    assert_eq!(
        containerd.snapshots().expect("listed"),
        Vec::<String>::new()
    );
    assert_eq!(containerd.mounted(), 0);
    let log = containerd.plugin_log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn images_live_under_containerd_2_1() {
    lives("2.1", &NATIVE);
}

/// With layers that stay tars and get an index, and a quota.
#[test]
fn images_live_under_containerd_1_7() {
    let kept = Kept {
        content: None,
        packing: Packing::Zstd,
        committed: [Packing::Zstd, Packing::NativeZstd],
        plugin: "[layers]
mode = \"index\"
[writable]
quota = \"64MiB\"
",
        files: 6,
    };
    lives("1.7", &kept);
}

/// Which knows no differ of others: containerd unpacks, and what it wrote becomes an image.
#[test]
fn images_live_under_containerd_1_6() {
    let kept = Kept {
        content: None,
        packing: Packing::Zstd,
        committed: [Packing::Gzip, Packing::Gzip],
        plugin: "",
        files: 4,
    };
    lives("1.6", &kept);
}

/// A plugin that does not see containerd's content store asks containerd for blobs. Files are compressed.
#[test]
fn blobs_are_read_through_containerd() {
    let kept = Kept {
        content: Some(Path::new("/nonexistent")),
        packing: Packing::NativeZstd,
        committed: [Packing::Plain, Packing::Native],
        plugin: "[layers]\ncompression = \"lz4\"\n",
        files: 3,
    };
    lives("2.1", &kept);
}

/// What is said to a container with mapped users where that is so.
const NO_OTHER_OWNERS: &str = "cannot show other owners";

/// Imports, looks at, runs and removes an image whose layers are mounted in another way than the best; `also` does something
/// while it runs. Returns how many mounts of the plugin there were.
fn is_mounted(options: &str, also: impl FnOnce(&Containerd)) -> usize {
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
    also(&containerd);
    succeed(&mut containerd.ctr(&["task", "rm", "--force", &stays]));
    succeed(&mut containerd.ctr(&["container", "rm", &stays]));
    succeed(&mut containerd.ctr(&["image", "rm", "--sync", IMAGE]));
    containerd.wait(|containerd| containerd.files().is_empty());
    assert_eq!(containerd.mounted(), 0);
    let log = containerd.plugin_log();
    let mut lines = log.lines().filter(|line| !line.contains(NO_OTHER_OWNERS));
    let is_fine = |line: &str| !line.contains("WARN") && !line.contains("ERROR");
    assert!(lines.all(is_fine), "{log}");
    unpacked
}

/// It shows no other owners: a container that wants them is refused, and leaves nothing.
#[test]
fn layers_are_mounted_by_fuse() {
    require!(needs("2.1").and_then(|_| skip::fuse()));
    let refuses = |containerd: &Containerd| {
        let name = containerd.container("mapped");
        let run = ["run", "--rm", "--snapshotter", NAME, "--remap-labels"];
        let users = ["--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536"];
        let run = [&run[..], &users, &[IMAGE, &name, "true"]].concat();
        let refused = containerd.ctr(&run).output().expect("starts");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains(NO_OTHER_OWNERS), "{said}");
        assert_eq!(containerd.snapshots().expect("listed").len(), 5);
    };
    assert_eq!(is_mounted("via = \"fuse\"", refuses), 3);
}

/// Three different layers become one, which alone is mounted.
#[test]
fn many_layers_are_merged() {
    require!(needs("2.1"));
    assert_eq!(is_mounted("merge = 3", |_| ()), 1);
}

/// What is below shows the users of the container, what is written belongs to others outside, and what is committed to those whom the
/// container knows.
#[test]
fn users_of_a_container_are_mapped() {
    let mut setup = require!(needs("2.1"));
    setup.plugin = "[writable]\nquota = \"16MiB\"\n".to_owned();
    let workshop = Workshop::light();
    let layout = layout(&workshop, &setup, Packing::Zstd, |_| ());
    let tar = workshop.path("image.tar");
    layout.clone().finish(IMAGE, &tar);
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
    let exec = ["task", "exec", "--exec-id", "2", &name, "sh", "-c"];
    // With a group that it has; it may make no device.
    let changes = CHANGES
        .replace("70000", "7000")
        .replace("busybox mknod", ": ");
    containerd.says(&[&exec[..], &["rm /made"]].concat());
    let exec = ["task", "exec", "--exec-id", "3", &name, "sh", "-c"];
    containerd.says(&[&exec[..], &[&changes]].concat());
    for packing in [Packing::Gzip, Packing::Native] {
        let layout = layout.clone();
        let mut committed = commit(&setup, &containerd, &workshop, layout, packing, &name);
        // Of the awkward tree some users are none of the container, and nobody reads through it what they own.
        let mut expected = Manifest::default();
        for folder in ["bin", "made", "old"] {
            let seen = Manifest::of_directory(&containerd.rootfs(&name).join(folder));
            for (path, mut node) in seen.expect("readable").nodes {
                let below = |path: Vec<u8>| match path.is_empty() {
                    true => folder.as_bytes().to_vec(),
                    false => [folder.as_bytes(), b"/", &path].concat(),
                };
                node.uid -= 100_000;
                node.gid -= 200_000;
                node.shared_with = node.shared_with.map(below);
                expected.nodes.insert(below(path), node);
            }
        }
        let is_expected = |path: &[u8]| {
            let first = path.split(|byte| *byte == b'/').next();
            first.is_some_and(|first| [&b"bin"[..], b"made", b"old"].contains(&first))
        };
        committed.nodes.retain(|path, _| is_expected(path));
        let linked = &expected.nodes[&b"made/linked"[..]];
        assert_eq!((linked.uid, linked.gid), (1000, 7000));
        expected.assert_same(&committed, &[]);
    }
    succeed(&mut containerd.ctr(&["task", "rm", "--force", &name]));
    succeed(&mut containerd.ctr(&["container", "rm", &name]));
    succeed(&mut containerd.ctr(&["image", "rm", "--sync", IMAGE, COMMITTED]));
    containerd.wait(|containerd| containerd.files().is_empty());
    assert_eq!(containerd.mounted(), 0);
    let log = containerd.plugin_log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
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
