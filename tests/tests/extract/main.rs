//! `erofs extract`, `cat` and `ls`: what was built comes back, and nothing that an image says leads outside.

mod hostile;
mod safety;
mod selection;
mod tar;

use std::{
    fs,
    io::Read,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use erofs_format::Nid;
use erofs_tests::{
    awkward::{self, Sizes},
    manifest::Manifest,
    require,
    skip::{self, Reason},
    tree::{Attributes, Content, Tree},
};
use hostile::Hostile;

/// A directory for one test, with the binary.
struct Workshop {
    directory: tempfile::TempDir,
    erofs: PathBuf,
}

impl Workshop {
    fn new() -> Result<Self, Reason> {
        Ok(Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            erofs: skip::erofs_binary()?,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn erofs(&self, command: &str) -> Command {
        let mut erofs = Command::new(&self.erofs);
        erofs.arg(command).current_dir(self.directory.path());
        erofs
    }

    /// Writes the tree to `source` and builds `image` of it.
    fn build(&self, tree: &Tree, options: &[&str]) {
        let source = self.path("source");
        if !source.exists() {
            fs::create_dir(&source).expect("made");
            tree.write(&source).expect("written");
        }
        let output = self
            .erofs("build")
            .args(["source", "-o", "image"])
            .args(options)
            .output()
            .expect("starts");
        assert!(output.status.success(), "{options:?}: {output:?}");
    }

    fn write_image(&self, image: Hostile) {
        fs::write(self.path("image"), image.finish()).expect("written");
    }

    fn extract(&self, arguments: &[&str]) -> Output {
        self.erofs("extract")
            .arg("image")
            .args(arguments)
            .output()
            .expect("starts")
    }
}

#[track_caller]
fn ended(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

fn blocks_of(root: &Path) -> u64 {
    let mut total = 0;
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).expect("readable") {
            let entry = entry.expect("readable");
            let metadata = entry.metadata().expect("there");
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.is_file() {
                total += metadata.blocks();
            }
        }
    }
    total
}

#[test]
fn awkward_trees_come_back() {
    require!(skip::root());
    let workshop = require!(Workshop::new());
    let tree = awkward::tree(Sizes {
        wide: 300,
        ..Sizes::default()
    });
    for (form, workers) in [
        (&[][..], "--workers=1"),
        (&["-zzstd"], "--workers=8"),
        (&["-zzstd", "-Elegacy-compress"], "--workers=2"),
        (&["--chunksize=4096"], "--workers=3"),
    ] {
        workshop.build(&tree, form);
        let out = workshop.path("out");
        ended(&workshop.extract(&["out", workers]), 0);
        let expected = Manifest::of_directory(&workshop.path("source")).expect("readable");
        let actual = Manifest::of_directory(&out).expect("readable");
        expected.assert_same(&actual, &[]);
        // 512-byte units; a filesystem may give a file a block more here and there.
        let (source, extracted) = (blocks_of(&workshop.path("source")), blocks_of(&out));
        assert!(
            extracted <= source + source / 10,
            "{form:?}: holes were filled: {extracted} of {source} blocks"
        );
        fs::remove_dir_all(&out).expect("removed");
    }
}

#[test]
fn paths_beyond_the_limit_come_back() {
    require!(skip::root());
    let workshop = require!(Workshop::new());
    workshop.build(&awkward::deep(), &[]);
    ended(&workshop.extract(&["out"]), 0);
    let expected = Manifest::of_directory(&workshop.path("source")).expect("readable");
    let actual = Manifest::of_directory(&workshop.path("out")).expect("readable");
    expected.assert_same(&actual, &[]);
}

#[test]
fn an_index_finds_its_tar() {
    let workshop = require!(Workshop::new());
    let content = vec![b'y'; 100_000];
    let mut tar = erofs_tests::ustar::header("file", 100_000).to_vec();
    tar.extend(&content);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    fs::write(workshop.path("layer.tar"), tar).expect("written");
    let output = workshop
        .erofs("index")
        .args(["layer.tar", "-o", "image"])
        .output();
    ended(&output.expect("starts"), 0);
    ended(&workshop.extract(&["out", "--no-same-owner"]), 0);
    assert!(fs::read(workshop.path("out/file")).expect("there") == content);
    fs::rename(workshop.path("layer.tar"), workshop.path("elsewhere")).expect("moved");
    let output = workshop.extract(&["other"]);
    ended(&output, 2);
    assert!(!workshop.path("other").exists());
    let output = workshop
        .erofs("cat")
        .args(["image", "/file", "--device", "elsewhere"])
        .output()
        .expect("starts");
    ended(&output, 0);
    assert!(output.stdout == content);
}

/// `a/{one,two}`, `b/three` with a link to `a/one`, and `top`.
fn small_tree() -> Tree {
    let mut tree = Tree::new();
    tree.directory("a");
    tree.file("a/one", Content::dense(b"1".to_vec()));
    tree.file("a/two", Content::dense(b"2".to_vec()));
    tree.directory("b");
    tree.hard_link("b/also", "a/one");
    tree.file("b/three", Content::dense(b"3".to_vec()));
    tree.file("top", Content::dense(b"top".to_vec()));
    tree
}

fn names(root: &Path) -> Vec<String> {
    let manifest = Manifest::of_directory(root).expect("readable");
    let text = |path: &Vec<u8>| String::from_utf8(path.clone()).expect("text");
    manifest.nodes.keys().map(text).collect()
}

#[test]
fn subtrees_come_alone() {
    let workshop = require!(Workshop::new());
    workshop.build(&small_tree(), &[]);
    // Each path once, whatever was asked for twice, in any order.
    let words = ["-C", "out", "b/also", "/a/./two", "a/one", "b/also"];
    ended(&workshop.extract(&words), 0);
    let out = workshop.path("out");
    assert_eq!(names(&out), ["", "a", "a/one", "a/two", "b", "b/also"]);
    assert_eq!(
        fs::metadata(out.join("a/one")).expect("there").ino(),
        fs::metadata(out.join("b/also")).expect("there").ino()
    );
    for (words, left) in [
        (&["-C", "1", "absent", "top"][..], &["", "top"][..]),
        (&["-C", "2", "top/x"], &[""]),
        (&["-C", "3", "../top", "a/../top"], &[""]),
    ] {
        ended(&workshop.extract(words), 1);
        assert_eq!(names(&workshop.path(words[1])), left);
    }
}

#[test]
fn what_exists_is_left_alone_or_replaced() {
    let workshop = require!(Workshop::new());
    workshop.build(&small_tree(), &[]);
    let (out, outside) = (workshop.path("out"), workshop.path("outside"));
    let prepare = || {
        fs::create_dir_all(out.join("b")).expect("made");
        fs::create_dir_all(&outside).expect("made");
        fs::write(outside.join("canary"), "alive").expect("written");
        symlink(&outside, out.join("a")).expect("made");
        symlink(outside.join("canary"), out.join("top")).expect("made");
        fs::write(out.join("b/three"), "old").expect("written");
        fs::hard_link(out.join("b/three"), outside.join("shared")).expect("made");
    };
    prepare();
    let output = workshop.extract(&["out"]);
    ended(&output, 1);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    for name in ["a", "b", "top"] {
        assert!(
            error.contains(&format!("{name}: exists already")),
            "{error}"
        );
    }
    assert!(out.join("top").is_symlink() && out.join("a").is_symlink());
    assert_eq!(fs::read(out.join("b/three")).expect("there"), b"old");

    ended(&workshop.extract(&["out", "--force"]), 0);
    let expected = Manifest::of_directory(&workshop.path("source")).expect("readable");
    expected.assert_same(&Manifest::of_directory(&out).expect("readable"), &[]);
    ended(&workshop.extract(&["out", "--force"]), 0);
    expected.assert_same(&Manifest::of_directory(&out).expect("readable"), &[]);
    assert_eq!(fs::read(outside.join("canary")).expect("there"), b"alive");
    assert_eq!(fs::read(outside.join("shared")).expect("there"), b"old");
    assert_eq!(names(&outside), ["", "canary", "shared"]);
}

/// Extracts with and without `--force`; the exit code must be 1 and nothing may appear beside the target.
/// Returns what is in the target.
fn stays_inside(workshop: &Workshop, image: Hostile) -> Vec<String> {
    workshop.write_image(image);
    fs::create_dir(workshop.path("outside")).expect("made");
    fs::write(workshop.path("outside/canary"), "alive").expect("written");
    let before = Manifest::of_directory(&workshop.path("outside")).expect("readable");
    let mut left = Vec::new();
    for words in [
        &["in/out"][..],
        &["in/out", "--force"],
        &["in/new", "--force"],
    ] {
        let output = workshop.extract(words);
        ended(&output, 1);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!error.contains("panicked"), "{error}");
        assert!(!error.contains('\x1b'), "{error}");
        let after = Manifest::of_directory(&workshop.path("outside")).expect("readable");
        before.assert_same(&after, &[]);
        left = names(&workshop.path(words[0]));
        assert!(
            left.iter().all(|name| !name.contains(".erofs-extract")),
            "{left:?}"
        );
    }
    let beside: Vec<_> = fs::read_dir(workshop.directory.path())
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name())
        .collect();
    assert_eq!(beside.len(), 3, "image, in, outside: {beside:?}");
    left
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in [&b"../evil"[..], b"a/../../evil", b"/evil", b"a/b", b"a\0b"] {
        let workshop = require!(Workshop::new());
        let mut image = Hostile::new();
        // Behind the last name of a block a NUL would only be padding.
        image.directory(&[(name, Hostile::nid(1)), (b"z", Hostile::nid(1))]);
        image.file(b"evil");
        // What stands beside it is not to blame.
        assert_eq!(stays_inside(&workshop, image), ["", "z"]);
    }
}

#[test]
fn dots_are_not_followed() {
    let workshop = require!(Workshop::new());
    let mut image = Hostile::new();
    // One that is broken, for the exit code.
    let entries: [(&[u8], Nid); 4] = [
        (b".", Hostile::nid(1)),
        (b"..", Hostile::nid(1)),
        (b"..", Hostile::nid(2)),
        (b"broken", Nid(1 << 40)),
    ];
    image.directory(&entries);
    image.directory(&[(b"evil", Hostile::nid(2))]);
    image.file(b"evil");
    assert_eq!(stays_inside(&workshop, image), [""]);
}

#[test]
fn a_link_is_never_a_way() {
    let workshop = require!(Workshop::new());
    let outside = workshop.path("outside");
    let mut image = Hostile::new();
    // A link and a directory of the same name, in both orders; and a file behind a link to one.
    image.directory(&[
        (b"d", Hostile::nid(2)),
        (b"d", Hostile::nid(1)),
        (b"f", Hostile::nid(4)),
        (b"f", Hostile::nid(3)),
        (b"x", Hostile::nid(1)),
        (b"x", Hostile::nid(5)),
    ]);
    image.symlink(outside.as_os_str().as_bytes());
    image.directory(&[(b"evil", Hostile::nid(3))]);
    image.file(b"evil");
    image.symlink(outside.join("canary").as_os_str().as_bytes());
    image.directory(&[(b"canary", Hostile::nid(3))]);
    assert_eq!(
        stays_inside(&workshop, image),
        ["", "d", "d/evil", "f", "x"]
    );
    assert!(workshop.path("in/new/x").is_symlink());
    assert!(workshop.path("in/new/f").is_symlink());
}

#[test]
fn a_name_twice_keeps_the_first() {
    let workshop = require!(Workshop::new());
    let mut image = Hostile::new();
    image.directory(&[(b"a", Hostile::nid(1)), (b"a", Hostile::nid(2))]);
    image.file(b"first");
    image.file(b"second");
    assert_eq!(stays_inside(&workshop, image), ["", "a"]);
    assert_eq!(
        fs::read(workshop.path("in/new/a")).expect("there"),
        b"first"
    );
}

#[test]
fn loops_and_aliases_end() {
    let workshop = require!(Workshop::new());
    let mut image = Hostile::new();
    image.directory(&[
        (b"alias-1", Hostile::nid(1)),
        (b"alias-2", Hostile::nid(1)),
        (b"root", Hostile::nid(0)),
        (b"\x1b[2J", Nid(1 << 40)),
    ]);
    image.directory(&[(b"self", Hostile::nid(1)), (b"up", Hostile::nid(0))]);
    assert_eq!(stays_inside(&workshop, image), ["", "alias-1"]);
}

#[test]
fn huge_sizes_cost_nothing() {
    let workshop = require!(Workshop::new());
    let mut image = Hostile::new();
    image.directory(&[
        (b"beyond", Hostile::nid(2)),
        (b"holes", Hostile::nid(1)),
        (b"many", Hostile::nid(3)),
    ]);
    image.holes(6 << 40);
    image.holes(i64::MAX as u64);
    image.holes(1 << 50);
    workshop.write_image(image);
    let output = workshop.extract(&["out"]);
    ended(&output, 1);
    for name in ["beyond", "many"] {
        assert!(!workshop.path("out").join(name).exists());
        assert!(String::from_utf8_lossy(&output.stderr).contains(name));
    }
    let holes = fs::metadata(workshop.path("out/holes")).expect("there");
    assert_eq!(holes.len(), 6 << 40);
    assert!(holes.blocks() < 64, "{} blocks", holes.blocks());
    // Owners and nanoseconds of all ones exist nowhere; set-id bits without the owner must not.
    assert_eq!(holes.mode() & 0o7777, 0o1777);
    assert_eq!((holes.mtime(), holes.mtime_nsec()), (1, 999_999_999));
}

#[test]
fn a_kill_leaves_no_half_file() {
    let workshop = require!(Workshop::new());
    let mut tree = Tree::new();
    for file in 0..40u8 {
        let content = vec![file + 1; 4 << 20];
        tree.file(format!("{file}"), Content::dense(content));
    }
    workshop.build(&tree, &[]);
    let is_temporary = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        name.as_bytes().starts_with(b".erofs-extract-")
    };
    let entries = |out: &Path| -> Vec<fs::DirEntry> {
        let entries = fs::read_dir(out).into_iter().flatten();
        entries.map(|entry| entry.expect("readable")).collect()
    };
    for done in [0, 1, 10, 30] {
        let out = workshop.path(&format!("out-{done}"));
        let mut child = workshop
            .erofs("extract")
            .args(["image".as_ref(), out.as_os_str()])
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        // In the middle of a file, with some finished.
        loop {
            let now = entries(&out);
            if now.len() > done && now.iter().any(is_temporary) {
                break;
            }
            assert!(child.try_wait().expect("waited").is_none(), "ended early");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("killed");
        child.wait().expect("waited");
        for entry in entries(&out).iter().filter(|entry| !is_temporary(entry)) {
            let name = entry.file_name().into_string().expect("text");
            let file: u8 = name.parse().expect("a number");
            let content = fs::read(entry.path()).expect("readable");
            assert!(content == vec![file + 1; 4 << 20], "{name} is half");
        }
    }
}

/// A tmpfs of 2 MiB for as long as it lives.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn new(at: &'a Path) -> Self {
        fs::create_dir(at).expect("made");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(at)
            .status();
        assert!(mount.expect("starts").success());
        Self(at)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // A failure shows when the temporary directory cannot be removed.
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_ends_it() {
    require!(skip::root());
    let workshop = require!(Workshop::new());
    let mut tree = Tree::new();
    for file in 0..100u8 {
        tree.file(format!("{file}"), Content::dense(vec![file + 1; 50_000]));
    }
    workshop.build(&tree, &[]);
    let disk = workshop.path("disk");
    let disk = SmallDisk::new(&disk);
    let output = workshop.extract(&["disk/out"]);
    ended(&output, 2);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("No space left"), "{error}");
    assert!(error.contains("incomplete"), "{error}");
    let mut whole = 0;
    for entry in fs::read_dir(disk.0.join("out")).expect("readable") {
        let entry = entry.expect("readable");
        let name = entry.file_name().into_string().expect("text");
        let file: u8 = name.parse().expect("a final name");
        assert!(fs::read(entry.path()).expect("readable") == vec![file + 1; 50_000]);
        whole += 1;
    }
    assert!((1..100).contains(&whole), "{whole} files");
}

#[test]
fn others_than_root_get_what_they_may_have() {
    require!(skip::root());
    let workshop = require!(Workshop::new());
    let tree = awkward::tree(Sizes {
        wide: 50,
        ..Sizes::default()
    });
    workshop.build(&tree, &[]);
    let home = workshop.path("home");
    fs::create_dir(&home).expect("made");
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(&home, open.clone()).expect("set");
    fs::set_permissions(workshop.directory.path(), open).expect("set");
    // The binary may stand where others than root cannot reach it.
    let erofs = home.join("erofs");
    fs::copy(&workshop.erofs, &erofs).expect("copied");
    let output = Command::new(&erofs)
        .args(["extract", "../image", "out", "--json"])
        .current_dir(&home)
        .uid(12345)
        .gid(12345)
        .output()
        .expect("starts");
    ended(&output, 1);
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(summary["problems"], 0, "{output:?}");
    assert_eq!(summary["skipped"]["owners"], 0);
    for skipped in ["device_nodes", "xattrs", "set_id_bits"] {
        assert!(summary["skipped"][skipped].as_u64() > Some(0), "{summary}");
    }
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("device nodes"), "{error}");

    let mut expected = Manifest::of_directory(&workshop.path("source")).expect("readable");
    let mut actual = Manifest::of_directory(&home.join("out")).expect("readable");
    let devices = expected.nodes.values().filter(|node| node.device.is_some());
    assert!(
        devices.count() as u64
            >= summary["skipped"]["device_nodes"]
                .as_u64()
                .expect("a number")
    );
    expected
        .nodes
        .retain(|path, node| node.device.is_none() || actual.nodes.contains_key(path));
    for node in actual.nodes.values_mut() {
        assert_eq!((node.uid, node.gid), (12345, 12345));
    }
    for node in expected.nodes.values_mut().chain(actual.nodes.values_mut()) {
        node.mode &= 0o1777;
        node.xattrs.retain(|name, _| name.starts_with(b"user."));
        node.uid = 0;
        node.gid = 0;
    }
    expected.assert_same(&actual, &[]);
    let status = fs::symlink_metadata(home.join("out/types/fifo")).expect("there");
    assert!(status.file_type().is_fifo());
}

#[test]
fn cat_streams_files() {
    let workshop = require!(Workshop::new());
    let mut tree = small_tree();
    let pieces = vec![(5 << 20, b"end".to_vec())];
    tree.file("holes", Content::sparse((5 << 20) + 3, pieces));
    tree.symlink("link", "a/one");
    tree.file("big", Content::dense(vec![7; 8 << 20]));
    workshop.build(&tree, &["-zzstd"]);
    let cat = |paths: &[&str]| {
        let output = workshop.erofs("cat").arg("image").args(paths).output();
        output.expect("starts")
    };
    let output = cat(&["link", "/holes", "top"]);
    ended(&output, 0);
    let mut expected = b"1".to_vec();
    expected.resize(1 + (5 << 20), 0);
    expected.extend(b"endtop");
    assert!(output.stdout == expected);
    let output = cat(&["a", "absent", "top"]);
    ended(&output, 1);
    assert_eq!(output.stdout, b"top");

    let mut child = workshop
        .erofs("cat")
        .args(["image", "big"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut out = child.stdout.take().expect("piped");
    out.read_exact(&mut [0; 10]).expect("ten bytes");
    drop(out);
    let output = child.wait_with_output().expect("ends");
    ended(&output, 0);
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn ls_shows_names_safely() {
    let workshop = require!(Workshop::new());
    let mut tree = small_tree();
    tree.file(b"evil\x1b[2J\n\xff", Content::default());
    tree.add(
        "setuid",
        erofs_tests::tree::Kind::File(Content::dense(vec![0; 5])),
        Attributes::with_mode(0o4711),
    );
    tree.symlink("link", "to\nnowhere");
    workshop.build(&tree, &[]);
    let ls = |words: &[&str]| {
        let output = workshop.erofs("ls").arg("image").args(words).output();
        let output = output.expect("starts");
        ended(&output, 0);
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(ls(&[]), "a\nb\nevil\\u{1b}[2J\\n\\xff\nlink\nsetuid\ntop\n");
    assert_eq!(ls(&["a", "top"]), "a/one\na/two\ntop\n");
    assert_eq!(ls(&["b"]), "also\nthree\n");
    assert_eq!(ls(&["-R"]).lines().count(), 10);
    let long = ls(&["-l"]);
    for expected in [
        "drwxr-xr-x   2 ",
        "-rws--x--x   1 ",
        "          5 2017-07-14 02:40:00 setuid\n",
        "lrwxrwxrwx   1 ",
        "link -> to\\nnowhere\n",
    ] {
        assert!(long.contains(expected), "{expected:?} in {long}");
    }
    let json: serde_json::Value = serde_json::from_str(&ls(&["-R", "--json"])).expect("JSON");
    let entries = json.as_array().expect("an array");
    assert_eq!(entries.len(), 10);
    let odd = entries
        .iter()
        .find(|entry| !entry["path_hex"].is_null())
        .expect("the name that is no text");
    assert_eq!(odd["path_hex"], "6576696c1b5b324a0aff");
    let also = entries.iter().find(|entry| entry["path"] == "b/also");
    assert_eq!(also.expect("there")["nlink"], 2);
}
