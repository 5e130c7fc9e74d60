//! The calls of containerd's EROFS differ and snapshotter, word for word.

use std::fs;

use erofs_tests::{
    archive,
    kernel::{Mounted, Way},
    manifest::{Field, Manifest},
    require,
    workshop::{Workshop, open},
};

use super::{link, manifest, needs, peer, run};

const UUID: &str = "01234567-89ab-5def-8123-456789abcdef";

/// A layer with deletions, in the form in which they travel.
fn layer(workshop: &Workshop) {
    let tar = workshop.path("layer.tar");
    let format = ["--format=posix", "--xattrs", "--xattrs-include=*"];
    let source = workshop.path("layer");
    fs::create_dir_all(source.join("etc/conf.d")).unwrap();
    fs::create_dir_all(source.join("opt")).unwrap();
    for (name, content) in [
        ("etc/hosts", &b"127.0.0.1 localhost\n"[..]),
        ("etc/.wh.gone", b""),
        ("etc/conf.d/.wh..wh..opq", b""),
        ("etc/conf.d/new", b"new"),
        ("opt/large", &[7; 100_000]),
    ] {
        fs::write(source.join(name), content).unwrap();
    }
    archive::create(&source, &tar, &format);
}

#[test]
fn differ_makes_layers_of_streams() {
    require!(needs());
    let workshop = Workshop::light();
    layer(&workshop);
    let call = |image| {
        vec![
            "--tar=f",
            "--aufs",
            "--quiet",
            "-Enoinline_data",
            "-b4096",
            "-T0",
            "--mkfs-time",
            "--sort=none",
            "-U",
            UUID,
            image,
        ]
    };
    let stream = workshop.path("layer.tar");
    for (command, image) in [(peer(), "theirs.erofs"), (link(&workshop), "ours.erofs")] {
        let output = run(command, &workshop, Some(&stream), &call(image));
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    let theirs = manifest(&workshop, "theirs.erofs", &[]);
    let ours = manifest(&workshop, "ours.erofs", &[]);
    let whiteout = &ours.nodes[&b"etc/gone"[..]];
    assert!(whiteout.xattrs.is_empty() && whiteout.size == 0);
    let opaque = &ours.nodes[&b"etc/conf.d"[..]].xattrs[&b"trusted.overlay.opaque"[..]];
    assert_eq!(opaque, b"y");
    // The whiteout itself gets the bits and the time of its marker there, and the C tool has no fractions of seconds.
    let ignored = [Field::Nanoseconds, Field::Seconds, Field::Mode];
    theirs.assert_same(&ours, &ignored);
    let superblock = fs::read(workshop.path("ours.erofs")).unwrap();
    assert_eq!(&superblock[1024 + 48..][..6], b"\x01\x23\x45\x67\x89\xab");
}

#[test]
fn differ_puts_tars_behind_indexes() {
    require!(needs());
    let ways = require!(Way::all());
    let workshop = Workshop::light();
    layer(&workshop);
    let stream = workshop.path("layer.tar");
    for (command, image) in [(peer(), "theirs.erofs"), (link(&workshop), "ours.erofs")] {
        let arguments = [
            "--tar=i",
            "--aufs",
            "--quiet",
            "-Enoinline_data",
            "-T0",
            "--mkfs-time",
            "-U",
            UUID,
            image,
        ];
        let output = run(command, &workshop, Some(&stream), &arguments);
        assert!(output.status.success(), "{output:?}");
        let mut whole = fs::read(workshop.path(image)).unwrap();
        whole.extend(fs::read(&stream).unwrap());
        fs::write(workshop.path(image), whole).unwrap();
    }
    let ignored = [Field::Nanoseconds, Field::Seconds, Field::Mode];
    let ours = manifest(&workshop, "ours.erofs", &[]);
    manifest(&workshop, "theirs.erofs", &[]).assert_same(&ours, &ignored);
    for way in ways {
        let mounted = Mounted::new(&workshop.path("ours.erofs"), way, "").unwrap();
        let seen = Manifest::of_directory(mounted.path()).unwrap();
        ours.assert_same(&seen, &[Field::DirectoryLinks]);
    }
}

#[test]
fn snapshotter_makes_layers_of_directories() {
    require!(needs());
    let workshop = Workshop::light();
    for (command, image) in [(peer(), "theirs.erofs"), (link(&workshop), "layer.erofs")] {
        let output = run(
            command,
            &workshop,
            None,
            &["--quiet", "-Enoinline_data", image, "source/"],
        );
        assert!(output.status.success(), "{output:?}");
    }
    let ours = manifest(&workshop, "layer.erofs", &[]);
    manifest(&workshop, "theirs.erofs", &[]).assert_same(&ours, &[]);
    // Directories with whiteouts were marked for overlayfs.
    assert!(
        ours.nodes[&b"devices"[..]]
            .xattrs
            .contains_key(&b"trusted.overlay.origin"[..])
    );
    let ignored = [Field::DirectoryLinks, Field::Xattrs];
    workshop.expected.assert_same(&ours, &ignored);
}

#[test]
fn compressed_streams_become_index_and_tar() {
    require!(needs());
    let workshop = Workshop::light();
    layer(&workshop);
    let packed = workshop.path("layer.tar.gz");
    let output = std::process::Command::new("gzip")
        .arg("-kn")
        .arg(workshop.path("layer.tar"))
        .output()
        .unwrap();
    assert!(output.status.success());
    let arguments = [
        "--quiet",
        "--tar=i",
        "--ungzip=raw.tar",
        "i.erofs",
        "layer.tar.gz",
    ];
    let output = run(link(&workshop), &workshop, None, &arguments);
    assert!(output.status.success(), "{output:?}");
    let raw = fs::read(workshop.path("raw.tar")).unwrap();
    assert_eq!(raw, fs::read(workshop.path("layer.tar")).unwrap());
    assert_eq!(
        manifest(&workshop, "i.erofs", &["raw.tar"]).nodes[&b"etc/hosts"[..]].size,
        20
    );
    // A mount finds it by the name of the copy.
    let image = open(&workshop.path("i.erofs"), &[workshop.path("raw.tar")]);
    assert_eq!(image.device_slots()[0].tag_bytes(), b"raw.tar");
    // It passes through pipes, and never takes the place of another file.
    let arguments = [
        "--quiet",
        "--tar=f",
        "--ungzip=/dev/stdout",
        "f.erofs",
        "layer.tar.gz",
    ];
    let output = run(link(&workshop), &workshop, None, &arguments);
    assert!(output.status.success() && output.stdout == raw);
    for (copy, more) in [
        ("--ungzip=new.erofs", "--quiet"),
        ("--ungzip=./layer.tar.gz", "--quiet"),
        ("--unxz=copy", "--gzinfo=../copy"),
        ("--ungzip=raw.tar", "--vmdk-desc=./raw.tar"),
    ] {
        let more = more.replace("..", workshop.directory.path().to_str().unwrap());
        let arguments = ["--tar=f", copy, &more, "new.erofs", "layer.tar.gz"];
        let output = run(link(&workshop), &workshop, None, &arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("are one file"), "{copy}: {error}");
        assert!(!workshop.path("new.erofs").exists() && !workshop.path("copy").exists());
    }

    // Cut off: neither file is there.
    let bytes = fs::read(&packed).unwrap();
    fs::write(&packed, &bytes[..bytes.len() / 2]).unwrap();
    for name in ["raw.tar", "i.erofs"] {
        fs::remove_file(workshop.path(name)).unwrap();
    }
    let output = run(link(&workshop), &workshop, None, &arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!workshop.path("raw.tar").exists() && !workshop.path("i.erofs").exists());
}

#[test]
fn snapshotter_merges_layers() {
    require!(needs());
    let ways = require!(Way::all());
    let workshop = Workshop::light();
    layer(&workshop);
    fs::create_dir_all(workshop.path("base/etc/conf.d")).unwrap();
    for name in ["base/etc/gone", "base/etc/conf.d/old", "base/etc/kept"] {
        fs::write(workshop.path(name), [b'b'; 5000]).unwrap();
    }
    let plain = ["--quiet", "-Enoinline_data", "base.erofs", "base"];
    let output = run(peer(), &workshop, None, &plain);
    assert!(output.status.success(), "{output:?}");
    let call = [
        "--tar=f",
        "--aufs",
        "--quiet",
        "-Enoinline_data",
        "upper.erofs",
        "layer.tar",
    ];
    let output = run(link(&workshop), &workshop, None, &call);
    assert!(output.status.success(), "{output:?}");
    let devices = ["base.erofs", "upper.erofs"];
    for (command, image, vmdk) in [
        (peer(), "theirs.erofs", "--vmdk-desc=theirs.vmdk"),
        (link(&workshop), "ours.erofs", "--vmdk-desc=ours.vmdk"),
    ] {
        let arguments = ["--aufs", "--ovlfs-strip=1", "--quiet", vmdk, image];
        let arguments = [&arguments[..], &devices].concat();
        let output = run(command, &workshop, None, &arguments);
        assert!(output.status.success(), "{output:?}");
    }
    let ours = manifest(&workshop, "ours.erofs", &devices);
    let mut theirs = manifest(&workshop, "theirs.erofs", &devices);
    assert!(!ours.nodes.contains_key(&b"etc/gone"[..]));
    assert!(!ours.nodes.contains_key(&b"etc/conf.d/old"[..]));
    assert_eq!(ours.nodes[&b"etc/kept"[..]].size, 5000);
    // The C tool keeps `origin` of directories, drops fractions of seconds and gives the root all permissions and the time
    // of the call, where ours has that of the uppermost layer.
    let ignored = [Field::Xattrs, Field::Nanoseconds, Field::Mode];
    let root = &b""[..];
    theirs.nodes.get_mut(root).unwrap().mtime = ours.nodes[root].mtime;
    theirs.assert_same(&ours, &ignored);
    for descriptor in ["ours.vmdk", "theirs.vmdk"] {
        let text = fs::read_to_string(workshop.path(descriptor)).unwrap();
        let extents: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("RW "))
            .collect();
        assert_eq!(extents.len(), 3, "{text}");
        assert!(extents[2].ends_with(" FLAT \"upper.erofs\" 0"), "{text}");
    }
    // Joined as the descriptor says, they are one disk.
    let joined: Vec<u8> = ["ours.erofs", "base.erofs", "upper.erofs"]
        .iter()
        .flat_map(|name| fs::read(workshop.path(name)).unwrap())
        .collect();
    fs::write(workshop.path("joined"), joined).unwrap();
    let mounted = Mounted::new(&workshop.path("joined"), ways[0], "").unwrap();
    let seen = Manifest::of_directory(mounted.path()).unwrap();
    ours.assert_same(&seen, &[Field::DirectoryLinks]);

    let arguments = ["--quiet", "--clean=data", "--ovlfs-strip=1", "whole.erofs"];
    let arguments = [&arguments[..], &devices].concat();
    let output = run(link(&workshop), &workshop, None, &arguments);
    assert!(output.status.success(), "{output:?}");
    manifest(&workshop, "whole.erofs", &[]).assert_same(&ours, &[]);
}
