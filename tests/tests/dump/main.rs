//! `erofs dump` and `dump.erofs`: what they say is what the peer says, what the trees were made of, and always the same.

mod manifest;
mod peer;

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use erofs_tests::{
    golden::{self, Golden},
    require, skip,
    tree::{Attributes, Content, Device, Kind, Tree},
    workshop::{Workshop, erofs, succeed},
};
use serde_json::Value;

/// `erofs dump` of an image with the devices that belong to it.
fn dump(golden: &Golden, words: &[&str]) -> Command {
    let mut command = erofs().expect("asked for");
    command.arg("dump").arg(&golden.image).args(words);
    for device in &golden.devices {
        command.arg("--device").arg(device);
    }
    command
}

fn text(output: Output) -> String {
    String::from_utf8(output.stdout).expect("text")
}

fn json(command: &mut Command) -> Value {
    let output = succeed(command);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A small tree with a bit of everything, the same on every machine.
fn small_tree() -> Tree {
    let mut tree = Tree::new();
    let phrase =
        |length: usize| b"all work and no play ".repeat(length / 21 + 1)[..length].to_vec();
    tree.directory("dir");
    tree.file("dir/text", Content::dense(phrase(100_000)));
    tree.file("dir/empty", Content::default());
    tree.file("evil\x1b[2J\n\u{202e}", Content::dense(phrase(10)));
    tree.file(
        "sparse",
        Content::sparse(1 << 20, vec![(500_000, phrase(5000))]),
    );
    tree.symlink("link", "dir/text");
    let null = Device { major: 1, minor: 3 };
    let attributes = Attributes::with_mode(0o666);
    tree.add("null", Kind::CharacterDevice(null), attributes);
    let mut attributed = Attributes::with_mode(0o4755);
    attributed.uid = 70_000;
    let value = (b"user.key".to_vec(), b"value\xff".to_vec());
    attributed.xattrs.extend([value]);
    let content = Content::dense(phrase(3));
    tree.add("attributed", Kind::File(content), attributed);
    tree.hard_link("dir/other-name", "attributed");
    tree
}

/// Compares with `tests/snapshots/dump/NAME.txt`, or writes it with `UPDATE_SNAPSHOTS=1`.
fn assert_snapshot(name: &str, actual: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/dump");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::create_dir_all(&folder).expect("made");
        fs::write(path, actual).expect("written");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let differs = expected
        .lines()
        .zip(actual.lines())
        .position(|(one, other)| one != other);
    assert!(
        expected == actual,
        "{name} differs in line {differs:?}; UPDATE_SNAPSHOTS=1 cargo test -p erofs-tests --test dump snapshots"
    );
}

#[test]
fn snapshots() {
    require!(erofs());
    let probes = golden::folder().join("../probe");
    for name in SNAPSHOTS {
        let mut command = erofs().expect("asked for");
        command
            .arg("dump")
            .arg(probes.join(format!("{name}.erofs")));
        if name == "devices" {
            command.arg("--device").arg(probes.join("devices.blob"));
        }
        assert_snapshot(name, &text(succeed(command.args(["--all", "--map"]))));
    }
    // What one of ours looks like; devices and owners take root.
    require!(skip::root());
    let workshop = Workshop::new(&small_tree());
    for (name, options) in [("ours", &[][..]), ("ours-zstd", &["-zzstd", "-C16k"])] {
        let image = workshop.build("image.erofs", &[&["-T0"], options].concat());
        let mut command = erofs().expect("asked for");
        command.arg("dump").arg(image).args(["--all", "--map"]);
        assert_snapshot(name, &text(succeed(&mut command)));
    }
}

/// Probe images of mkfs.erofs of which the whole text is kept.
const SNAPSHOTS: [&str; 10] = [
    "48bit",
    "bigpcluster",
    "block-512",
    "chunked",
    "devices",
    "fragments",
    "lz4-512",
    "metabox",
    "xattr-prefixes",
    "ztailpacking",
];

#[test]
fn numbers_add_up() {
    require!(erofs());
    for golden in Golden::all() {
        println!("{}", golden.name);
        let all = json(&mut dump(&golden, &["-a", "-m", "--json"]));
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value}"));
        let rows = |value: &Value| value.as_array().expect("rows").clone();
        let statistics = &all["statistics"];
        assert_eq!(statistics["problems"], 0, "{}", golden.name);
        // What the image's bytes are used for adds up to the image.
        let mut sum = 0;
        for row in rows(&statistics["usage_of_image"]) {
            if row["content"] == "total" {
                assert_eq!(number(&row["bytes"]), sum, "{}", golden.name);
                let size = number(&all["superblock"]["image_size"]);
                assert_eq!(size, sum, "{}", golden.name);
            } else {
                sum += number(&row["bytes"]);
            }
        }
        // The map has no gap: what nothing leads to is in it.
        let mut end = 0;
        for row in rows(&all["map"]) {
            if row["in"] == "image" {
                assert!(number(&row["from"]) <= end, "{}: {row}", golden.name);
                end = end.max(number(&row["to"]));
            }
        }
        assert_eq!(end, number(&all["superblock"]["image_size"]));
        let inodes = rows(&all["inodes"]);
        let in_tree = inodes.iter().filter(|inode| !inode["path"].is_null());
        assert_eq!(in_tree.count() as u64, number(&statistics["inodes"]));
        for inode in inodes {
            assert_eq!(inode["problems"], 0, "{}: {inode}", golden.name);
            // Extents cover the file.
            let kind = inode["type"].as_str().expect("a type");
            let mut position = 0;
            for extent in rows(&inode["extents"]) {
                assert_eq!(number(&extent["logical"]), position, "{}", golden.name);
                position += number(&extent["length"]);
            }
            if matches!(kind, "file" | "directory" | "symlink") {
                assert_eq!(position, number(&inode["size"]), "{}", golden.name);
            }
            // Directory blocks cover the directory and list its entries in order.
            if kind == "directory" {
                let mut names: Vec<String> = Vec::new();
                let mut position = 0;
                for block in rows(&inode["directory_blocks"]) {
                    assert_eq!(number(&block["start"]), position);
                    position += number(&block["length"]);
                    for entry in rows(&block["entries"]) {
                        names.push(entry["name"].as_str().expect("a name").to_owned());
                    }
                }
                assert_eq!(position, number(&inode["size"]));
                assert!(names.iter().any(|name| name == ".."));
            }
        }
    }
}

#[test]
fn every_byte_has_an_owner() {
    require!(erofs());
    let golden = Golden::all().remove(0);
    let all = json(&mut dump(&golden, &["-m", "--json"]));
    let rows = all["map"].as_array().expect("rows");
    for row in rows.iter().filter(|row| row["in"] == "image").take(20) {
        let from = row["from"].as_u64().expect("a number");
        let at = json(&mut dump(
            &golden,
            &["--at", &format!("{from:#x}"), "--json"],
        ));
        let found = at["at"].as_array().expect("rows");
        assert!(
            found
                .iter()
                .any(|answer| answer["content"] == row["content"] && answer["nid"] == row["nid"]),
            "{row}: {found:?}"
        );
    }
}

#[test]
fn odd_names_are_harmless_and_exact() {
    require!(erofs());
    require!(skip::root());
    let workshop = Workshop::new(&small_tree());
    let image = workshop.build("image.erofs", &[]);
    let mut run = erofs().expect("asked for");
    let shown = text(succeed(run.arg("dump").arg(&image).args(["-a", "-m"])));
    let plain = |character: char| !character.is_control() || character == '\n';
    assert!(shown.chars().all(plain));
    assert!(shown.contains("/evil\\u{1b}[2J\\n\\u{202e}\n"));
    let mut run = erofs().expect("asked for");
    let tree = json(run.arg("dump").arg(&image).args(["--tree", "--json"]));
    let entries = tree["tree"].as_array().expect("a list");
    let paths: Vec<_> = entries.iter().map(|entry| &entry["path"]).collect();
    assert!(paths.contains(&&Value::from("/evil\x1b[2J\n\u{202e}")));
    let attributed = entries.iter().find(|entry| entry["path"] == "/attributed");
    let xattr = &attributed.expect("there")["xattrs"][0];
    assert_eq!(xattr["name"], "user.key");
    assert_eq!(xattr["value_hex"], "76616c7565ff");
    let linked = entries
        .iter()
        .find(|entry| entry["path"] == "/dir/other-name");
    assert_eq!(linked.expect("there")["hard_link_to"], "/attributed");
}

/// Images that break rules, of all kinds.
fn malformed() -> Vec<PathBuf> {
    let folder = golden::folder().join("../malformed");
    let images = fs::read_dir(folder).expect("a folder").filter_map(|entry| {
        let path = entry.expect("readable").path();
        (path.extension()? == "erofs").then_some(path)
    });
    let mut images: Vec<_> = images.collect();
    images.sort();
    images
}

#[test]
fn an_image_without_a_root_still_has_a_superblock() {
    let binary = require!(skip::erofs_binary());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let link = folder.path().join("dump.erofs");
    std::os::unix::fs::symlink(&binary, &link).expect("made");
    let workshop = Workshop::new(&small_tree());
    // Metadata is behind the data.
    let whole_image = workshop.build("whole.erofs", &["-Enoinline_data"]);
    let image = folder.path().join("image.erofs");
    fs::copy(&whole_image, &image).expect("copied");
    let cut = fs::File::options().write(true).open(&image);
    cut.expect("opens").set_len(4096).expect("cut");
    for arguments in [&["dump", "--json"][..], &["dump"], &["dump", "-s"]] {
        let mut whole = Command::new(&binary);
        let whole = whole
            .args(arguments)
            .arg(&whole_image)
            .output()
            .expect("starts");
        let mut command = Command::new(&binary);
        let command = command.args(arguments).arg(&image);
        let output = command.output().expect("starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("cut off"), "{error}");
        // Of the values one differs: how many bytes the file has.
        let lines = |output: &Output| output.stdout.split(|byte| *byte == b'\n').count();
        assert_eq!(lines(&output), lines(&whole), "{arguments:?}");
    }
    let output = Command::new(&link).arg("-s").arg(&image).output();
    let output = output.expect("starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Filesystem root nid"), "{text}");
    // Nothing else can be shown.
    let output = Command::new(&binary)
        .args(["dump", "-S"])
        .arg(&image)
        .output();
    assert_eq!(output.expect("starts").status.code(), Some(2));
}

/// Everything is shown, as by the C tool, but the program of this name ends with 1.
#[test]
fn a_wrong_checksum_is_told_and_no_obstacle() {
    let binary = require!(skip::erofs_binary());
    let workshop = Workshop::new(&small_tree());
    let image = workshop.build("image.erofs", &[]);
    let link = workshop.path("dump.erofs");
    std::os::unix::fs::symlink(&binary, &link).expect("made");
    let whole = succeed(Command::new(&binary).args(["dump", "-t"]).arg(&image));
    // The last byte of the label.
    let mut bytes = fs::read(&image).expect("readable");
    bytes[1024 + 79] ^= 1;
    fs::write(&image, bytes).expect("written");
    for arguments in [
        &["dump"][..],
        &["dump", "-S"],
        &["dump", "-t"],
        &["dump", "--json"],
    ] {
        let output = Command::new(&binary).args(arguments).arg(&image).output();
        let output = output.expect("starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.contains("checksum is 0x") && error.contains("computed 0x"));
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!output.stdout.is_empty());
        if arguments[1..] == ["-t"] {
            assert_eq!(output.stdout, whole.stdout);
        }
    }
    let mut tools = vec![Command::new(&link)];
    tools.extend(erofs_tests::peers::erofs_utils("dump.erofs"));
    let shown = tools.into_iter().map(|mut tool| {
        let output = tool
            .args(["-s", "--path=/"])
            .arg(&image)
            .env("TZ", "UTC")
            .output();
        let output = output.expect("starts");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(text(output).contains("Filesystem UUID"));
    });
    assert!(shown.count() > 0);
}

#[test]
fn broken_images_are_told_and_end_quickly_in_bounded_memory() {
    let binary = require!(skip::erofs_binary());
    let images = malformed();
    assert!(images.len() > 50, "{} images", images.len());
    for image in images {
        println!("{}", image.display());
        for words in [
            &["dump", "-a", "-m"][..],
            &["dump", "--tree"],
            &["ls", "-lR"],
            &["find", "--size", "+1"],
            &["stat"],
        ] {
            let started = Instant::now();
            // 1 GiB of address space holds the caches, threads and no sizes that an image made up.
            let output = Command::new("prlimit")
                .args(["--as=1073741824", "--"])
                .arg(&binary)
                .arg(words[0])
                .arg(&image)
                .args(&words[1..])
                .output()
                .expect("prlimit of util-linux");
            let code = output.status.code();
            assert_eq!(output.status.signal(), None, "{image:?} {words:?}");
            assert!(
                matches!(code, Some(0..=2)),
                "{image:?} {words:?}: {code:?} {}",
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(
                code == Some(0) || !output.stderr.is_empty(),
                "{image:?} {words:?}"
            );
            let elapsed = started.elapsed();
            assert!(
                elapsed < Duration::from_secs(20),
                "{image:?} {words:?}: {elapsed:?}"
            );
        }
    }
}
