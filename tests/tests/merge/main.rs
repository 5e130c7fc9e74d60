//! `erofs merge`: layers become one image. The kernel's overlayfs over the very layers says what it must hold.

mod append;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use erofs_tests::{
    archive,
    awkward::bytes,
    kernel::{Mounted, Way, release},
    manifest::{Field, Manifest},
    numbers::Numbers,
    require,
    skip::{self, Reason},
    tree::{self, Attributes, Content, Device, Kind, Time, Tree},
    workshop::{build, erofs, fsck_accepts, open, refused, succeed},
};
use tempfile::TempDir;

fn needs() -> Result<Vec<Way>, Reason> {
    skip::root()?;
    erofs()?;
    skip::program("losetup")?;
    Way::all()
}

/// What overlayfs counts of its own: it knows nothing of names that an upper layer took away.
const OVERLAY_COUNTS: [Field; 2] = [Field::Links, Field::DirectoryLinks];

const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const ORIGIN: &[u8] = b"trusted.overlay.origin";

/// A random layer of few names, so that layers meet in most of them. `lowest` has nothing to delete.
fn layer(numbers: &mut Numbers, lowest: bool) -> Tree {
    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
    let mut tree = Tree::new();
    tree.entries[0].attributes.mtime.seconds += numbers.below(1000) as i64;
    let mut directories = vec![Vec::new()];
    for _ in 0..40 {
        let parent = directories[numbers.below(directories.len())].clone();
        let name = NAMES[numbers.below(NAMES.len())];
        let path = tree::join(&parent, name.as_bytes());
        if tree.entries.iter().any(|entry| entry.path == path) {
            continue;
        }
        let mut attributes = Attributes {
            mode: 0o600 | numbers.below(0o200) as u32,
            uid: numbers.below(5) as u32,
            mtime: Time {
                seconds: 1_600_000_000 + numbers.below(1000) as i64,
                nanoseconds: numbers.below(1_000_000_000) as u32,
            },
            ..Attributes::default()
        };
        if numbers.below(4) == 0 {
            let value = bytes::random(numbers.next() % 100, 20);
            attributes.xattrs.insert(b"user.note".to_vec(), value);
        }
        let kind = match numbers.below(10) {
            0..4 if path.len() < 8 => {
                directories.push(path.clone());
                if !lowest && numbers.below(4) == 0 {
                    attributes.xattrs.insert(OPAQUE.to_vec(), b"y".to_vec());
                }
                Kind::Directory
            }
            4 => Kind::Symlink(bytes::text(numbers.next() % 100, 9)),
            5 if !lowest => {
                let parent = tree.entries.iter_mut().find(|entry| entry.path == parent);
                // Without it overlayfs would show the device of a directory that no other layer has.
                let parent = parent.expect("a directory comes before what is in it");
                parent.attributes.xattrs.insert(ORIGIN.to_vec(), Vec::new());
                attributes = Attributes::with_mode(0);
                Kind::CharacterDevice(Device { major: 0, minor: 0 })
            }
            6 => match tree
                .entries
                .iter()
                .find(|entry| matches!(entry.kind, Kind::File(_)))
            {
                Some(first) => Kind::HardLink(first.path.clone()),
                None => Kind::Fifo,
            },
            7 => Kind::File(Content::sparse(
                70_000,
                vec![(20_480, bytes::text(numbers.next() % 9, 12_288))],
            )),
            _ => {
                let length = numbers.below(3) * 4096 + numbers.below(9000);
                let content = bytes::text(numbers.next() % 1000, length);
                Kind::File(Content::dense(content))
            }
        };
        // Nothing else may have attributes of users.
        if !matches!(kind, Kind::Directory | Kind::File(_)) {
            attributes.xattrs.clear();
        }
        if let Kind::Symlink(_) = kind {
            attributes.mode = 0o777;
        }
        tree.add(path, kind, attributes);
    }
    tree
}

/// The same layer as tars of container images tell it.
fn with_markers(layer: &Tree) -> Tree {
    let mut tree = Tree::default();
    tree.entries.clear();
    for entry in &layer.entries {
        let mut entry = entry.clone();
        entry.attributes.xattrs.remove(ORIGIN);
        let opaque = entry.attributes.xattrs.remove(OPAQUE).is_some();
        let path = entry.path.clone();
        if let Kind::CharacterDevice(Device { major: 0, minor: 0 }) = entry.kind {
            let (parent, name) = tree::split(&path);
            entry.path = tree::join(parent, &[b".wh.", name].concat());
            entry.kind = Kind::File(Content::default());
        }
        tree.entries.push(entry);
        if opaque {
            tree.file(tree::join(&path, b".wh..wh..opq"), Content::default());
        }
    }
    tree
}

/// Layers in all forms, the lowest first, and what overlayfs shows of them.
struct Stack {
    folder: TempDir,
    layers: Vec<Tree>,
    images: Vec<PathBuf>,
    expected: Manifest,
}

impl Stack {
    fn new(seed: u64, options: &[&str]) -> Self {
        let mut numbers = Numbers::new(seed);
        let layers: Vec<_> = (0..3)
            .map(|number| layer(&mut numbers, number == 0))
            .collect();
        let folder = tempfile::tempdir().expect("a temporary directory");
        let images: Vec<_> = layers
            .iter()
            .enumerate()
            .map(|(number, tree)| {
                let source = folder.path().join(format!("source{number}"));
                fs::create_dir(&source).expect("made");
                tree.write(&source).expect("written");
                let image = folder.path().join(format!("{number}.erofs"));
                build(&source, &image, options);
                image
            })
            .collect();
        let expected = overlay(&images);
        Self {
            folder,
            layers,
            images,
            expected,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The layers as tars.
    fn tars(&self, extension: &str) -> Vec<PathBuf> {
        let tar = |(number, tree): (usize, &Tree)| {
            let source = self.path(&format!("markers{number}.{extension}"));
            fs::create_dir(&source).expect("made");
            with_markers(tree).write(&source).expect("written");
            let tar = self.path(&format!("{number}.{extension}"));
            let options = [
                "--format=posix",
                "--xattrs",
                "--xattrs-include=*",
                "-a",
                "-S",
            ];
            archive::create(&source, &tar, &options);
            tar
        };
        self.layers.iter().enumerate().map(tar).collect()
    }
}

/// What overlayfs shows of images, the lowest first.
fn overlay(images: &[PathBuf]) -> Manifest {
    let mounted: Vec<_> = images
        .iter()
        .map(|image| Mounted::new(image, Way::Loop, "").expect("mounts"))
        .collect();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let lower: Vec<_> = mounted
        .iter()
        .rev()
        .map(|layer| layer.path().display().to_string())
        .collect();
    let at = folder.path();
    let options = format!("ro,lowerdir={}", lower.join(":"));
    succeed(
        Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(at),
    );
    let shown = Manifest::of_directory(at).expect("readable");
    // Lazily: a program that another test starts may have what was open here for a moment.
    succeed(Command::new("umount").arg("--lazy").arg(at));
    shown
}

fn merge(layers: &[PathBuf], image: &Path, options: &[&str]) {
    let mut command = erofs().expect("asked for");
    command.args(["merge", "--quiet", "-o"]).arg(image);
    succeed(command.args(options).args(layers));
}

#[test]
fn images_become_one_image() {
    require!(needs());
    for seed in 0..8 {
        let stack = Stack::new(seed, &[]);
        for (number, options) in [&[][..], &["-zzstd", "--workers=3"]].iter().enumerate() {
            println!("{seed}: {options:?}");
            let image = stack.path(&format!("all{number}.erofs"));
            merge(&stack.images, &image, options);
            fsck_accepts(&image);
            let mounted = Mounted::new(&image, Way::Loop, "").expect("mounts");
            let shown = Manifest::of_directory(mounted.path()).expect("readable");
            stack.expected.assert_same(&shown, &OVERLAY_COUNTS);
        }
    }
}

/// No feature bit says that the devices stand behind the image.
#[test]
fn devices_in_the_same_file_need_the_kernel_that_finds_them() {
    require!(needs());
    let stack = Stack::new(1, &[]);
    for (options, since) in [(&["--index"][..], "5.16"), (&["--index", "--embed"], "6.4")] {
        let image = stack.path("index.erofs");
        merge(&stack.images, &image, options);
        for command in ["check", "features"] {
            let mut asked = erofs().expect("asked for");
            let told = succeed(asked.args([command, "--json"]).arg(&image)).stdout;
            let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
            let told = told
                .get("image")
                .filter(|part| part.is_object())
                .unwrap_or(&told);
            assert_eq!(told["oldest_kernel"], since, "{command} {options:?}");
        }
    }
}

#[test]
fn an_index_of_images_shows_what_they_hold() {
    let ways = require!(needs());
    let plain: &[&str] = &["--index"];
    let compressed: &[&str] = &["--index", "-m4096:lz4", "--zD"];
    for (seed, (options, index)) in [
        (&[][..], plain),
        (&["-Enoinline_data"], plain),
        (&["--chunksize=4096"], plain),
        (&[], compressed),
        (&["-Enoinline_data"], compressed),
    ]
    .iter()
    .enumerate()
    {
        let is_compressed = *index == compressed;
        if is_compressed && release() < (6, 17) {
            println!("skipped, because Linux 6.17 is the first that reads a metabox");
            continue;
        }
        let stack = Stack::new(100 + seed as u64, options);
        let image = stack.path("all.toc.erofs");
        merge(&stack.images, &image, index);
        let whole = stack.path("all.erofs");
        merge(&stack.images, &whole, &[*index, &["--embed"]].concat());
        for (image, devices) in [(&image, stack.images.as_slice()), (&whole, &[])] {
            let read = Manifest::of_image(&open(image, devices)).expect("readable");
            stack.expected.assert_same(&read, &OVERLAY_COUNTS);
            for way in &ways {
                println!("{options:?}, {index:?}: {way:?}, {} devices", devices.len());
                let mounted = Mounted::with_devices(image, *way, devices).expect("mounts");
                let shown = Manifest::of_directory(mounted.path()).expect("readable");
                stack.expected.assert_same(&shown, &OVERLAY_COUNTS);
            }
        }
    }
}

#[test]
fn tars_become_one_image_or_an_index_of_them() {
    let ways = require!(needs());
    for seed in 200..203 {
        let stack = Stack::new(seed, &[]);
        let image = stack.path("all.erofs");
        merge(&stack.tars("tar.gz"), &image, &[]);
        let shown = Manifest::of_image(&open(&image, &[])).expect("readable");
        stack.expected.assert_same(&shown, &OVERLAY_COUNTS);
    }
    let stack = Stack::new(203, &[]);
    let (tars, image) = (stack.tars("tar"), stack.path("all.toc.erofs"));
    merge(&tars, &image, &["--index"]);
    let whole = stack.path("whole.erofs");
    merge(&stack.tars("tar.gz"), &whole, &["--index", "--embed"]);
    for (image, devices) in [(&image, tars.as_slice()), (&whole, &[])] {
        for way in &ways {
            let mounted = Mounted::with_devices(image, *way, devices).expect("mounts");
            let shown = Manifest::of_directory(mounted.path()).expect("readable");
            stack.expected.assert_same(&shown, &OVERLAY_COUNTS);
        }
    }
}

/// An index of an index: the devices of both are devices of the new one.
#[test]
fn an_index_may_be_a_layer() {
    require!(needs());
    let stack = Stack::new(300, &[]);
    let lower = stack.path("lower.toc.erofs");
    merge(&stack.images[..2], &lower, &["--index", "--ovlfs-strip=0"]);
    let layers = [lower.clone(), stack.images[2].clone()];
    let image = stack.path("all.toc.erofs");
    merge(&layers, &image, &["--index"]);
    let devices = [
        lower,
        stack.images[0].clone(),
        stack.images[1].clone(),
        stack.images[2].clone(),
    ];
    let shown = Manifest::of_image(&open(&image, &devices)).expect("readable");
    stack.expected.assert_same(&shown, &OVERLAY_COUNTS);
    // In one file; and with a layer that is such a file.
    let whole = stack.path("whole.erofs");
    merge(&layers, &whole, &["--index", "--embed"]);
    let shown = Manifest::of_image(&open(&whole, &[])).expect("readable");
    stack.expected.assert_same(&shown, &OVERLAY_COUNTS);
    let lower = stack.path("lower.erofs");
    let embedded = ["--index", "--embed", "--ovlfs-strip=0"];
    merge(&stack.images[..2], &lower, &embedded);
    merge(&[lower, stack.images[2].clone()], &whole, &embedded[..2]);
    let shown = Manifest::of_image(&open(&whole, &[])).expect("readable");
    stack.expected.assert_same(&shown, &OVERLAY_COUNTS);
}

#[test]
fn whiteouts_that_are_kept_still_delete_what_lies_below() {
    require!(needs());
    for seed in 400..404 {
        let stack = Stack::new(seed, &[]);
        let upper = stack.path("upper.erofs");
        merge(&stack.images[1..], &upper, &["--ovlfs-strip=0"]);
        let shown = overlay(&[stack.images[0].clone(), upper]);
        stack.expected.assert_same(&shown, &OVERLAY_COUNTS);
    }
}

#[test]
fn a_directory_that_a_tar_only_implies_keeps_what_is_below() {
    require!(needs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name);
    let mut lower = Tree::new();
    let attributes = Attributes {
        uid: 7,
        ..Attributes::with_mode(0o711)
    };
    lower.add("etc", Kind::Directory, attributes);
    lower.file("etc/old", Content::dense(b"old".to_vec()));
    fs::create_dir(path("lower")).expect("made");
    lower.write(&path("lower")).expect("written");
    build(&path("lower"), &path("lower.erofs"), &[]);
    let expected = Manifest::of_directory(&path("lower")).expect("readable");

    fs::create_dir_all(path("upper/etc")).expect("made");
    fs::write(path("upper/etc/new"), "new").expect("written");
    succeed(
        Command::new("tar")
            .args(["-cf", "upper.tar", "-C", "upper", "etc/new"])
            .current_dir(folder.path()),
    );
    merge(
        &[path("lower.erofs"), path("upper.tar")],
        &path("all.erofs"),
        &[],
    );
    let mut shown = Manifest::of_image(&open(&path("all.erofs"), &[])).expect("readable");
    assert!(shown.nodes.remove(&b"etc/new"[..]).is_some());
    expected.assert_same(&shown, &[]);

    // However many layers say nothing of a directory, its owner moves once.
    let layers = ["lower.erofs", "upper.tar", "upper.tar"].map(path);
    let owners = |options: &[&str]| -> Vec<u32> {
        merge(&layers, &path("moved.erofs"), options);
        let image = open(&path("moved.erofs"), &[]);
        let entries = image.walk().expect("readable");
        entries
            .map(|entry| entry.expect("readable").inode.uid)
            .collect()
    };
    let plain = owners(&[]);
    assert_eq!(plain.len(), 4);
    let moved: Vec<_> = plain.iter().map(|uid| uid + 100).collect();
    assert_eq!(owners(&["--uid-offset", "100"]), moved);
}

#[test]
fn what_is_excluded_by_a_pattern_is_left_out() {
    require!(needs());
    let stack = Stack::new(501, &[]);
    let target = stack.path("all.erofs");
    let paths = |options: &[&str]| -> Vec<Vec<u8>> {
        merge(&stack.images, &target, options);
        let image = open(&target, &[]);
        let entries = image.walk().expect("readable");
        entries.map(|entry| entry.expect("readable").path).collect()
    };
    let (all, rest) = (paths(&[]), paths(&["--exclude-regex", "^a(/|$)"]));
    let stays = |path: &&Vec<u8>| **path != b"a" && !path.starts_with(b"a/");
    let expected: Vec<_> = all.iter().filter(stays).cloned().collect();
    assert!(expected.len() < all.len(), "{all:?}");
    assert_eq!(rest, expected);
}

#[test]
fn an_index_shows_no_other_layer_through_addresses_that_are_none() {
    require!(needs());
    let stack = Stack::new(502, &[]);
    let folder = stack.path("hostile");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("far"), vec![b'x'; 3 * 4096]).expect("written");
    let image = stack.path("hostile.erofs");
    build(&folder, &image, &["-Enoinline_data"]);
    let mut bytes = fs::read(&image).expect("built");
    // The only inode of this size, format and mode come before it, the first block behind it.
    let size = 12288u32.to_le_bytes();
    let inode = (0..bytes.len() - 32).step_by(32).find(|at| {
        bytes[at + 8..at + 12] == size
            && u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]) >> 12 == 8
    });
    let inode = inode.expect("in the image");
    let behind = u32::try_from(bytes.len() / 4096).expect("small");
    bytes[inode + 16..inode + 20].copy_from_slice(&behind.to_le_bytes());
    fs::write(&image, bytes).expect("written");
    let target = stack.path("all.erofs");
    let mut command = erofs().expect("asked for");
    command
        .args(["merge", "--index"])
        .arg(&image)
        .arg(&stack.images[0]);
    let reason = refused(command.arg("-o").arg(&target));
    assert!(
        reason.contains("far") && reason.contains("end of the layer"),
        "{reason}"
    );
    assert!(!target.exists());
}

#[test]
fn a_tar_without_members_changes_nothing() {
    require!(needs());
    let stack = Stack::new(600, &[]);
    let empty = stack.path("empty.tar");
    fs::write(&empty, [0; 10240]).expect("written");
    let packed = stack.path("empty.tgz");
    let gzip = Command::new("gzip").arg("-c").arg(&empty).output();
    fs::write(&packed, gzip.expect("starts").stdout).expect("written");
    let mut layers = stack.images.clone();
    merge(&layers, &stack.path("without.erofs"), &[]);
    layers.extend([empty, packed]);
    merge(&layers, &stack.path("with.erofs"), &[]);
    assert_eq!(
        fs::read(stack.path("with.erofs")).expect("there"),
        fs::read(stack.path("without.erofs")).expect("there")
    );
}

#[test]
fn what_cannot_be_merged_is_refused_with_the_reason() {
    require!(needs());
    let stack = Stack::new(500, &["-zzstd"]);
    let target = stack.path("all.erofs");
    let merging = |layers: &[&Path], options: &[&str]| {
        let mut command = erofs().expect("asked for");
        command.arg("merge").args(options).args(layers);
        let reason = refused(command.arg("-o").arg(&target));
        assert!(!target.exists());
        reason
    };
    let text = stack.path("text");
    fs::write(&text, "neither").expect("written");
    assert!(merging(&[&text], &[]).contains("neither a tar nor an EROFS image"));
    fs::write(&text, []).expect("written");
    assert!(merging(&[&text], &[]).contains("neither a tar nor an EROFS image"));
    let image = &*stack.images[0];
    let compressed = merging(&[image], &["--index"]);
    assert!(compressed.contains("is compressed"), "{compressed}");
    let tar = &*stack.tars("tar")[0];
    let sizes = merging(&[image, tar], &["--index"]);
    assert!(sizes.contains("blocks of 512 bytes"), "{sizes}");
    let packed = &*stack.tars("tgz")[0];
    assert!(merging(&[packed], &["--index"]).contains("plain tar"));

    let mut moved = Tree::new();
    let mut attributes = Attributes::with_mode(0o755);
    let redirect = (b"trusted.overlay.redirect".to_vec(), b"old".to_vec());
    attributes.xattrs.extend([redirect]);
    moved.add("new", Kind::Directory, attributes);
    fs::create_dir(stack.path("moved")).expect("made");
    moved.write(&stack.path("moved")).expect("written");
    build(&stack.path("moved"), &stack.path("moved.erofs"), &[]);
    let reason = merging(&[&stack.path("moved.erofs")], &[]);
    assert!(reason.contains("trusted.overlay.redirect"), "{reason}");
}
