//! What was written becomes layers, as which somebody asks for them.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;
use std::process::Command;

use erofs_tests::containerd::{Containerd, Layout, NAME, Packing, Setup};
use erofs_tests::listing::sha256;
use erofs_tests::manifest::Manifest;
use erofs_tests::require;
use erofs_tests::workshop::{Workshop, erofs, succeed};

use crate::{COMMITTED, IMAGE, image, import, needs, shown};

/// Commits what a running container changed to an image. Returns what that shows.
pub(crate) fn commit(
    setup: &Setup,
    containerd: &Containerd,
    workshop: &Workshop,
    mut layout: Layout,
    packing: Packing,
    container: &str,
) -> Manifest {
    let media_type = packing.media_type();
    let diff = |media_type: &str| {
        let diff = ["snapshots", "--snapshotter", NAME, "diff", "--keep"];
        let diff = [&diff[..], &["--media-type", media_type, container]].concat();
        succeed(&mut containerd.ctr(&diff)).stdout
    };
    let layer = diff(media_type);
    if setup.version != "1.6" {
        // The same bytes, which are there already.
        assert!(diff(media_type) == layer);
    }
    let digest = format!("sha256:{}", sha256(&layer));
    let labels = containerd.says(&["content", "ls"]);
    let labels = labels.lines().find(|line| line.starts_with(&digest));
    let labels = labels.expect("stored");
    let (_, uncompressed) = labels
        .split_once("containerd.io/uncompressed=sha256:")
        .expect(labels);
    let (uncompressed, _) = uncompressed.split_at(64);
    if let Some(suffix) = media_type.strip_prefix(Packing::Native.media_type()) {
        // As containerd 2.3 and newer call it.
        assert!(diff(&format!("application/vnd.erofs.layer.v1{suffix}")) == layer);
        is_sound(workshop, &layer, uncompressed);
    }
    layout.packed(media_type, &layer, uncompressed.to_owned());
    let tar = workshop.path("committed.tar");
    layout.finish(COMMITTED, &tar);
    succeed(&mut containerd.ctr(&import(setup.version, NAME, &tar)));
    shown(containerd, NAME, workshop, COMMITTED, "")
}

/// Asserts that a layer is an image, perhaps in zstd, with nothing wrong in it.
fn is_sound(workshop: &Workshop, layer: &[u8], digest: &str) {
    let path = workshop.path("layer.erofs");
    fs::write(&path, layer).expect("written");
    if sha256(layer) != digest {
        let plain = succeed(Command::new("zstd").arg("-dqc").arg(&path)).stdout;
        fs::write(&path, plain).expect("written");
    }
    assert_eq!(sha256(&fs::read(&path).expect("read")), digest);
    succeed(erofs().expect("asked for").arg("check").arg(&path));
}

/// The layer that containerd's client makes of a snapshot.
pub(crate) fn layer(containerd: &Containerd, media_type: &str, snapshot: &str) -> Vec<u8> {
    let diff = ["snapshots", "--snapshotter", NAME, "diff"];
    let diff = [&diff[..], &["--media-type", media_type, snapshot]].concat();
    succeed(&mut containerd.ctr(&diff)).stdout
}

/// The topmost snapshot of the only image, and the one below it.
fn topmost(containerd: &Containerd) -> [String; 2] {
    let listed = containerd.says(&["snapshots", "--snapshotter", NAME, "list"]);
    let lines = listed.lines().skip(1);
    let words: Vec<Vec<&str>> = lines
        .map(|line| line.split_whitespace().collect())
        .collect();
    let is_parent = |name: &str| words.iter().any(|words| words[1] == name);
    let mut topmost = words.iter().filter(|words| !is_parent(words[0]));
    let topmost = topmost.next().expect("one");
    [topmost[0].to_owned(), topmost[1].to_owned()]
}

/// Layers are the same whether they are mounted here or by somebody else, who is not asked for that.
#[test]
fn snapshots_that_others_mount_become_the_same_layers() {
    let mut setup = require!(needs("2.1"));
    let workshop = Workshop::light();
    let tar = image(&workshop, &setup, |_| ());
    let mut layers = Vec::new();
    for mode in ["overlay", "delegate"] {
        setup.plugin = format!("[mounts]\nmode = \"{mode}\"\n");
        let containerd = Containerd::start(&setup);
        succeed(&mut containerd.ctr(&import("2.1", NAME, &tar)));
        let [top, below] = topmost(&containerd);
        let prepare = [
            "snapshots",
            "--snapshotter",
            NAME,
            "prepare",
            "written",
            &top,
        ];
        containerd.says(&prepare);
        let folders = fs::read_dir(containerd.root().join("snapshots")).expect("read");
        let folders: Vec<PathBuf> = folders.map(|entry| entry.expect("read").path()).collect();
        let [folder] = &folders[..] else {
            panic!("one folder: {folders:?}");
        };
        let upper = folder.join("fs");
        fs::create_dir(upper.join("made")).expect("made");
        fs::write(upper.join("made/file"), vec![7; 100_000]).expect("written");
        chown(upper.join("made/file"), Some(1000), Some(70_000)).expect("set");
        symlink("file", upper.join("made/symlink")).expect("made");
        succeed(
            Command::new("mknod")
                .arg(upper.join("gone"))
                .args(["c", "0", "0"]),
        );
        let touch = [
            "-exec",
            "touch",
            "-hd",
            "2020-02-02 02:02:02.123456789",
            "{}",
            "+",
        ];
        succeed(Command::new("find").arg(&upper).arg("-depth").args(touch));
        for (snapshot, packing) in [
            ("written", Packing::Gzip),
            ("written", Packing::Native),
            // What is committed is a layer by itself.
            (&*below, Packing::Plain),
        ] {
            layers.push(layer(&containerd, packing.media_type(), snapshot));
        }
        let listed = workshop.path("layer.tar");
        fs::write(&listed, &layers[layers.len() - 3]).expect("written");
        let listed = succeed(Command::new("tar").arg("-tf").arg(listed)).stdout;
        let listed = String::from_utf8(listed).expect("text");
        let expected = "./\n.wh.gone\nmade/\nmade/file\nmade/symlink\n";
        assert_eq!(listed, expected, "{mode}");
        containerd.says(&["snapshots", "--snapshotter", NAME, "rm", "written"]);
        succeed(&mut containerd.ctr(&["image", "rm", "--sync", IMAGE]));
        containerd.wait(|containerd| containerd.files().is_empty());
        assert_eq!(containerd.mounted(), 0);
        let log = containerd.plugin_log();
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    }
    let (here, elsewhere) = layers.split_at(layers.len() / 2);
    assert!(here == elsewhere);
}
