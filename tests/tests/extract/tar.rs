//! `erofs extract --tar`: what it writes is what other programs read, and always the same.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
};

use erofs_reader::{Inode, Place, Stored};
use erofs_tests::{
    archive,
    awkward::{self, Sizes, bytes::text},
    manifest::{Field, Manifest, Type},
    require, skip,
    tree::{Content, Tree},
    workshop::{open, succeed},
};

use super::{Workshop, blocks_of, ended, hostile::Hostile, names, small_tree};

/// The awkward set without what takes long to compare.
fn awkward() -> Tree {
    awkward::tree(Sizes {
        wide: 300,
        ..Sizes::default()
    })
}

impl Workshop {
    /// Writes the tar `name` of `image`.
    #[track_caller]
    fn tar(&self, name: &str, options: &[&str]) -> Vec<u8> {
        let output = self.extract(&[&[&format!("--tar={name}")[..]], options].concat());
        ended(&output, 0);
        assert!(output.stderr.is_empty(), "{output:?}");
        fs::read(self.path(name)).expect("there")
    }
}

#[test]
fn tars_by_other_programs_eyes() {
    require!(skip::root());
    let bsdtar = require!(skip::program("bsdtar"));
    let python = require!(skip::program("python3"));
    let workshop = require!(Workshop::new());
    workshop.build(&awkward(), &[]);
    workshop.tar("tar", &[]);
    let tar = workshop.path("tar");
    let mut expected = Manifest::of_directory(&workshop.path("source")).expect("readable");
    // For which tar has no type: other programs than star make empty files of them.
    let sockets = |_: &Vec<u8>, node: &mut erofs_tests::manifest::Node| node.kind != Type::Socket;
    let count = expected.nodes.len();
    expected.nodes.retain(sockets);
    assert_eq!(expected.nodes.len() + 1, count);
    let gone = "types/socket";

    let mut by_tar = archive::extracted(&tar, &["--exclude=types/socket"]);
    by_tar.nodes.retain(sockets);
    expected.assert_same(&by_tar, &[]);

    let target = workshop.path("by-bsdtar");
    fs::create_dir(&target).expect("made");
    let mut command = Command::new(bsdtar);
    command.env("LC_ALL", "C.UTF-8");
    command.args([
        "--numeric-owner",
        "-p",
        "--acls",
        "--xattrs",
        "--exclude",
        gone,
    ]);
    succeed(command.arg("-C").args([&target, Path::new("-xf"), &tar]));
    let by_bsdtar = Manifest::of_directory(&target).expect("readable");
    // It takes the fraction of times before 1970 for one that counts from the past, and leaves out attributes whose
    // names are no text, and the time of the root.
    let (mut wanted, mut seen) = (expected.clone(), by_bsdtar);
    for odd in [&b"xattrs/name-bytes"[..], b""] {
        wanted.nodes.remove(odd);
        seen.nodes.remove(odd);
    }
    for (path, node) in &mut wanted.nodes {
        if node.mtime.seconds < 0
            && let Some(seen) = seen.nodes.get_mut(path)
        {
            node.mtime = seen.mtime;
        }
    }
    wanted.assert_same(&seen, &[]);

    let target = workshop.path("by-python");
    let script = "import sys, tarfile
with tarfile.open(sys.argv[1]) as tar:
    members = [member for member in tar if member.name != 'types/socket']
    tar.extractall(sys.argv[2], members, numeric_owner=True, filter='fully_trusted')";
    let mut command = Command::new(python);
    command.env("LC_ALL", "C.UTF-8").args(["-c", script]);
    succeed(command.args([&tar, &target]));
    let by_python = Manifest::of_directory(&target).expect("readable");
    // It knows no attributes, and times only as fractions of its own precision.
    expected.assert_same(
        &by_python,
        &[Field::Xattrs, Field::Seconds, Field::Nanoseconds],
    );
    // Holes stay holes.
    let (source, extracted) = (blocks_of(&workshop.path("source")), blocks_of(&target));
    assert!(extracted <= source + source / 10, "{extracted} of {source}");
}

#[test]
fn an_image_of_the_tar_is_the_same_again() {
    require!(skip::root());
    let workshop = require!(Workshop::new());
    let forms: [&[&str]; 4] = [&[], &["-zzstd"], &["-zzstd", "-C1m"], &["--chunksize=4096"]];
    let mut first = None;
    for form in forms {
        workshop.build(&awkward(), form);
        let tar = workshop.tar("tar", &["--workers=1"]);
        for workers in ["--workers=2", "--workers=8"] {
            assert!(
                workshop.tar("other", &[workers]) == tar,
                "{form:?} {workers}"
            );
        }
        let stdout = workshop.extract(&["--tar"]);
        ended(&stdout, 0);
        assert!(stdout.stdout == tar);
        let rebuilt = workshop.path("rebuilt");
        let mut command = workshop.erofs("build");
        succeed(command.args(["tar", "-o", "rebuilt", "--quiet"]).args(form));
        let expected = Manifest::of_image(&open(&workshop.path("image"), &[])).expect("readable");
        let seen = Manifest::of_image(&open(&rebuilt, &[])).expect("readable");
        expected.assert_same(&seen, &[]);
        // And from there on nothing changes any more.
        fs::rename(&rebuilt, workshop.path("image")).expect("renamed");
        let again = workshop.tar("tar", &[]);
        let mut command = workshop.erofs("build");
        succeed(command.args(["tar", "-o", "rebuilt", "--quiet"]).args(form));
        let (image, rebuilt) = (fs::read(workshop.path("image")), fs::read(&rebuilt));
        assert!(image.expect("there") == rebuilt.expect("there"), "{form:?}");
        assert!(again == tar, "{form:?}");
        // How data is stored leaves no trace, where holes are does.
        if !form.contains(&"--chunksize=4096") && form != forms[0] {
            assert!(first.get_or_insert_with(|| tar.clone()) == &tar, "{form:?}");
        }
    }
}

#[test]
fn members_have_an_order() {
    let workshop = require!(Workshop::new());
    workshop.build(&small_tree(), &[]);
    workshop.tar("tar", &[]);
    let list = |options: &[&str]| {
        workshop.tar("tar", options);
        let mut command = Command::new("tar");
        let output = succeed(command.arg("-tf").arg(workshop.path("tar")));
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(
        list(&[]),
        "./\na/\na/one\na/two\nb/\nb/also\nb/three\ntop\n"
    );
    assert_eq!(list(&["b/three", "a/two"]), "./\na/\na/two\nb/\nb/three\n");
    assert_eq!(list(&["--include=t*"]), "./\na/\na/two\nb/\nb/three\ntop\n");
    assert_eq!(
        list(&["--exclude=/a", "--include=also"]),
        "./\nb/\nb/also\n"
    );
}

#[test]
fn options_change_what_is_said() {
    require!(skip::root());
    let workshop = require!(Workshop::new());
    workshop.build(&awkward(), &[]);
    let expected = Manifest::of_directory(&workshop.path("source")).expect("readable");
    workshop.tar(
        "tar",
        &[
            "--no-xattrs",
            "--no-devices",
            "--no-same-owner",
            "--no-sparse",
        ],
    );
    let mut command = workshop.erofs("build");
    succeed(command.args(["tar", "-o", "rebuilt", "--quiet"]));
    let seen = Manifest::of_image(&open(&workshop.path("rebuilt"), &[])).expect("readable");
    let mut wanted = expected.clone();
    wanted.nodes.retain(|_, node| node.device.is_none());
    for node in wanted.nodes.values_mut() {
        (node.uid, node.gid) = (0, 0);
        node.xattrs.clear();
    }
    wanted.assert_same(&seen, &[Field::Links]);
    let length = fs::metadata(workshop.path("tar")).expect("there").len();
    let sizes = expected.nodes.values().map(|node| node.size);
    assert!(length > sizes.sum::<u64>() / 2, "holes are written out");
    let output = workshop.extract(&["--tar=tar", "--json"]);
    ended(&output, 0);
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(summary["tar"], "tar");
    assert!(summary["bytes_written"].as_u64() < summary["bytes"].as_u64());
    for words in [
        &["--tar", "--json"][..],
        &["--tar=x", "-C", "y"],
        &["--tar=x", "--force"],
    ] {
        ended(&workshop.extract(words), 2);
    }
}

#[test]
fn large_sizes_and_many_holes() {
    require!(skip::root());
    let workshop = require!(Workshop::new());
    let mut tree = Tree::new();
    let over = (9u64 << 30) + 5;
    let pieces = vec![(0, text(1, 5000)), (over - 3, b"end".to_vec())];
    tree.file("over-8g", Content::sparse(over, pieces));
    let comb = (0..3000u64).map(|n| (n * 8192, vec![7; 4096])).collect();
    tree.file("comb", Content::sparse(3000 * 8192, comb));
    tree.file("nothing", Content::sparse(1 << 40, Vec::new()));
    tree.file("big", Content::dense(text(2, 20 << 20)));
    workshop.build(&tree, &[]);
    let tar = workshop.tar("tar", &[]);
    assert!(tar.len() < 40 << 20, "{}", tar.len());
    let target = workshop.path("out");
    fs::create_dir(&target).expect("made");
    let mut command = Command::new("tar");
    succeed(
        command
            .arg("-C")
            .args([&target, Path::new("-xf")])
            .arg(workshop.path("tar")),
    );
    for (name, size) in [
        ("over-8g", over),
        ("comb", 3000 * 8192),
        ("nothing", 1 << 40),
    ] {
        let metadata = fs::metadata(target.join(name)).expect("there");
        assert_eq!(metadata.len(), size, "{name}");
    }
    let big = fs::read(target.join("big")).expect("there");
    assert!(big == text(2, 20 << 20));
    let file = File::open(target.join("over-8g")).expect("there");
    let mut end = [0; 5];
    file.read_exact_at(&mut end, over - 5).expect("readable");
    assert_eq!(&end, b"\0\0end");
    let comb = fs::read(target.join("comb")).expect("there");
    assert!(comb.chunks(4096).enumerate().all(|(n, piece)| {
        piece
            .iter()
            .all(|byte| *byte == if n % 2 == 0 { 7 } else { 0 })
    }));
}

/// Overwrites the encoded data of a file, from its `skip`th extent on.
fn damage(workshop: &Workshop, path: &str, skip: usize) {
    let image = open(&workshop.path("image"), &[]);
    let inode: Inode = image
        .resolve(path.as_bytes(), erofs_reader::Symlinks::Keep)
        .expect("there");
    let file = File::options()
        .write(true)
        .open(workshop.path("image"))
        .expect("opens");
    for extent in image.extents(&inode).skip(skip) {
        if let Place::Encoded {
            stored: Stored::Device { offset, .. },
            length,
            ..
        } = extent.expect("readable").place
        {
            let noise = vec![0xA5; length as usize];
            file.write_all_at(&noise, offset.0).expect("written");
        }
    }
}

#[test]
fn what_cannot_be_read_is_left_out_or_ends_it() {
    let workshop = require!(Workshop::new());
    let mut tree = Tree::new();
    tree.directory("a");
    tree.file("a/first", Content::dense(text(1, 300_000)));
    tree.file("a/good", Content::dense(text(2, 300_000)));
    tree.hard_link("b", "a/first");
    tree.file("c", Content::dense(b"c".to_vec()));
    workshop.build(&tree, &["-zzstd"]);
    damage(&workshop, "a/first", 0);
    for words in [&["--tar=tar"][..], &["--tar=tar", "--workers=1"]] {
        let output = workshop.extract(words);
        ended(&output, 1);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            error.contains("a/first: ") && error.contains("b: is one more name of"),
            "{error}"
        );
        let list = succeed(Command::new("tar").arg("-tf").arg(workshop.path("tar")));
        assert_eq!(list.stdout, b"./\na/\na/good\nc\n");
    }
    let output = workshop.extract(&["out", "--no-same-owner"]);
    ended(&output, 1);
    assert_eq!(names(&workshop.path("out")), ["", "a", "a/good", "c"]);

    let mut tree = Tree::new();
    tree.file("a", Content::dense(b"a".to_vec()));
    tree.file("large", Content::dense(text(1, 12 << 20)));
    tree.file("z", Content::dense(b"z".to_vec()));
    let workshop = require!(Workshop::new());
    workshop.build(&tree, &["-zzstd"]);
    damage(&workshop, "large", 30);
    let output = workshop.extract(&["--tar=tar"]);
    ended(&output, 2);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("ends in the middle of large"), "{error}");
    assert!(!workshop.path("tar").exists());
    let output = workshop.extract(&["--tar"]);
    ended(&output, 2);
    // Whoever reads it notices.
    assert!(output.stdout.len() > 1 << 20 && !output.stdout.ends_with(&[0; 1024]));
    let output = workshop.extract(&["out", "--no-same-owner"]);
    ended(&output, 1);
    assert_eq!(names(&workshop.path("out")), ["", "a", "z"]);
}

#[test]
fn a_reader_may_stop_early() {
    let workshop = require!(Workshop::new());
    let mut tree = Tree::new();
    tree.file("big", Content::dense(text(3, 8 << 20)));
    workshop.build(&tree, &[]);
    let mut command = workshop.erofs("extract");
    command.args(["image", "--tar"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let mut out = child.stdout.take().expect("piped");
    out.read_exact(&mut [0; 600]).expect("some");
    drop(out);
    let output = child.wait_with_output().expect("ends");
    ended(&output, 0);
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn hostile_images_make_harmless_tars() {
    let workshop = require!(Workshop::new());
    let mut image = Hostile::new();
    image.directory(&[
        (b"../evil", Hostile::nid(1)),
        (b"/evil", Hostile::nid(1)),
        (b"a\0b", Hostile::nid(1)),
        (b"again", Hostile::nid(2)),
        (b"again", Hostile::nid(1)),
        (b"self", Hostile::nid(0)),
        (b"sizes", Hostile::nid(3)),
        (b"z", Hostile::nid(1)),
    ]);
    image.file(b"evil");
    image.symlink(b"/etc");
    image.holes(i64::MAX as u64);
    workshop.write_image(image);
    let list = |options: &[&str]| {
        let output = workshop.extract(&[&["--tar=tar"], options].concat());
        ended(&output, 1);
        let list = succeed(Command::new("tar").arg("-tf").arg(workshop.path("tar")));
        String::from_utf8(list.stdout).expect("text")
    };
    assert_eq!(list(&[]), "./\nagain\nz\n");
    let renamed = list(&["--hostile-names=rename"]);
    let expected = "./\n%erofs%..%2Fevil\n%erofs%%2Fevil\n%erofs%a%00b\nagain\nz\n";
    assert_eq!(renamed, expected);
}
