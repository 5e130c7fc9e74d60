//! Every kind of difference, between every two kinds of sides.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use erofs_tests::{
    awkward::bytes::{capability, random},
    require, skip,
    tree::{Attributes, Content, Device, Kind, Time, Tree},
    ustar,
    workshop::{build, erofs, succeed},
};

use crate::side::{Forms, diff, lines, write};

fn common() -> Tree {
    let mut tree = Tree::new();
    tree.directory("moved");
    tree.directory("same");
    tree.file("same/file", Content::dense(random(1, 100_000)));
    tree.file(
        "same/sparse",
        Content::sparse(1 << 32, vec![(1 << 31, b"x".to_vec())]),
    );
    tree.hard_link("same/link", "same/file");
    tree.symlink("same/symlink", "nowhere");
    tree
}

fn with(change: impl Fn(&mut Attributes)) -> Attributes {
    let mut attributes = Attributes::default();
    change(&mut attributes);
    attributes
}

fn with_xattrs(pairs: &[(&str, &[u8])]) -> Attributes {
    with(|attributes| {
        for (name, value) in pairs {
            attributes
                .xattrs
                .insert(name.as_bytes().to_vec(), value.to_vec());
        }
    })
}

fn file() -> Kind {
    Kind::File(Content::dense(b"file".to_vec()))
}

/// The tree on side A.
pub(crate) fn before() -> Tree {
    let mut tree = common();
    tree.file("content", Content::dense(random(2, 300_000)));
    let device = Kind::CharacterDevice(Device { major: 1, minor: 3 });
    tree.add("device", device, Attributes::default());
    tree.directory("directory-to-file");
    tree.file("directory-to-file/below", Content::dense(b"below".to_vec()));
    tree.add("fifo-to-symlink", Kind::Fifo, Attributes::with_mode(0o777));
    tree.file("file-to-directory", Content::dense(b"directory".to_vec()));
    tree.directory("gone");
    tree.file("gone/empty", Content::default());
    tree.file("gone/file", Content::dense(b"gone".to_vec()));
    tree.symlink("gone/symlink", "x");
    tree.file("grown", Content::dense(b"123".to_vec()));
    tree.file("joined-a", Content::dense(b"file".to_vec()));
    tree.file("joined-b", Content::dense(b"file".to_vec()));
    tree.file("linked-a", Content::dense(b"one".to_vec()));
    tree.hard_link("linked-b", "linked-a");
    tree.add("mode", file(), Attributes::default());
    tree.file("moved/from", Content::dense(random(3, 5000)));
    tree.file("moved/unlike", Content::dense(random(4, 5000)));
    tree.add("owner", file(), Attributes::default());
    tree.file("parted-a", Content::dense(b"file".to_vec()));
    tree.hard_link("parted-b", "parted-a");
    tree.symlink("symlink", "here");
    tree.add("time", file(), Attributes::default());
    let pairs: [(&str, &[u8]); 3] = [
        ("user.binary", b"\0\xff\n"),
        ("user.gone", b""),
        ("user.same", b"same"),
    ];
    tree.add("xattrs", file(), with_xattrs(&pairs));
    tree
}

/// The tree on side B.
pub(crate) fn after() -> Tree {
    let mut tree = common();
    let mut content = random(2, 300_000);
    content[299_999] ^= 1;
    tree.file("content", Content::dense(content));
    let device = Kind::CharacterDevice(Device { major: 1, minor: 5 });
    tree.add("device", device, Attributes::default());
    tree.file("directory-to-file", Content::dense(b"file".to_vec()));
    tree.symlink("fifo-to-symlink", "fifo");
    tree.directory("file-to-directory");
    tree.file("file-to-directory/below", Content::dense(b"b".to_vec()));
    tree.file("grown", Content::dense(b"1234".to_vec()));
    tree.file("joined-a", Content::dense(b"file".to_vec()));
    tree.hard_link("joined-b", "joined-a");
    tree.hard_link("one-more-name", "joined-a");
    tree.file("linked-a", Content::dense(b"two".to_vec()));
    tree.hard_link("linked-b", "linked-a");
    tree.add("mode", file(), Attributes::with_mode(0o4755));
    tree.file("moved/to", Content::dense(random(3, 5000)));
    tree.file("moved/unlike-too", Content::dense(random(5, 5000)));
    tree.add(
        "owner",
        file(),
        with(|attributes| (attributes.uid, attributes.gid) = (70_000, 3)),
    );
    tree.file("parted-a", Content::dense(b"file".to_vec()));
    tree.file("parted-b", Content::dense(b"file".to_vec()));
    tree.symlink("symlink", "there");
    tree.add(
        "time",
        file(),
        with(|attributes| attributes.mtime.nanoseconds = 1),
    );
    let pairs: [(&str, &[u8]); 3] = [
        ("user.binary", b"\0\xff\x0b"),
        ("user.new", b"n"),
        ("user.same", b"same"),
    ];
    tree.add("xattrs", file(), with_xattrs(&pairs));
    tree.file(b"\x1b[31m\n\xff", Content::dense(b"!".to_vec()));
    tree
}

const EXPECTED: [&str; 26] = [
    "M content  content (293.0 KiB, from byte 299999)",
    "M device  device 1:3→1:5",
    "T directory-to-file  directory → file, mode 0755→0644",
    "T fifo-to-symlink  fifo → symlink",
    "T file-to-directory  file → directory, mode 0644→0755",
    "M grown  content (3 bytes → 4 bytes)",
    "M joined-b  now a hard link of joined-a",
    "M linked-a  content (3 bytes, from byte 0)",
    "M linked-b  as linked-a",
    "M mode  mode 0644→4755",
    "M owner  owner 0:0→70000:3",
    "M parted-b  no longer a hard link of parted-a",
    "M symlink  target here → there",
    "M time  time 2017-07-14 02:40:00 → 2017-07-14 02:40:00.000000001",
    "M xattrs  xattr ~user.binary -user.gone +user.new",
    "R moved/from → moved/to  (4.9 KiB)",
    "D directory-to-file/below  (5 bytes)",
    "D gone/",
    "D gone/empty  (0 bytes)",
    "D gone/file  (4 bytes)",
    "D gone/symlink  (symlink)",
    "D moved/unlike  (4.9 KiB)",
    "A \\u{1b}[31m\\n\\xff  (1 byte)",
    "A file-to-directory/below  (1 byte)",
    "A moved/unlike-too  (4.9 KiB)",
    "A one-more-name  hard link of joined-a",
];

/// The expected lines; where contents are known by digests alone it is not known where they differ.
fn expected(by_digest: bool) -> Vec<String> {
    let cut = |line: &&str| match line.find(", from byte ") {
        Some(at) if by_digest => format!("{})", &line[..at]),
        _ => (*line).to_owned(),
    };
    EXPECTED.iter().map(cut).collect()
}

#[test]
fn every_kind_of_difference_on_every_pair_of_sides() {
    require!(skip::root());
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let a = Forms::write(&before(), &folder.path().join("a"));
    let b = Forms::write(&after(), &folder.path().join("b"));
    for (left, from) in a.all() {
        for (right, to) in a.all() {
            println!("{left} and its {right}");
            assert!(lines(&[from, to], &[]).is_empty());
        }
        for (right, to) in b.all() {
            println!("{left} → {right}");
            let by_digest = [left, right].contains(&"compressed tar");
            assert_eq!(lines(&[from, to], &[]), expected(by_digest));
        }
    }
}

#[test]
fn what_is_ignored_is_not_told() {
    require!(skip::root());
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name);
    write(&before(), &path("a"));
    write(&after(), &path("b"));
    build(&path("a"), &path("a.erofs"), &[]);
    let all = expected(false);
    for (option, gone) in [
        ("--ignore=mode", &["M mode", "mode 0"][..]),
        ("--ignore=owner", &["M owner"]),
        ("--ignore=mtime", &["M time"]),
        ("--ignore=nanoseconds", &["M time"]),
        ("--ignore=xattr", &["M xattrs"]),
        ("--ignore=links", &["hard link of"]),
        (
            "--ignore=nlink,mode,owner",
            &["hard link of", "mode 0", "M owner"],
        ),
    ] {
        let kept =
            |line: &&String| line.starts_with('A') || !gone.iter().any(|gone| line.contains(gone));
        let wanted: Vec<_> = all.iter().filter(kept).collect();
        let seen = lines(&[&path("a.erofs"), &path("b")], &[option]);
        // The type is told nevertheless.
        let other = |line: &&String| !line.starts_with('T') || !option.contains("mode");
        let seen: Vec<_> = seen.iter().filter(other).collect();
        let wanted: Vec<_> = wanted.into_iter().filter(other).collect();
        assert_eq!(seen, wanted, "{option}");
    }
    let seen = lines(&[&path("a.erofs"), &path("b")], &["--metadata-only"]);
    assert!(seen.contains(&"M grown  content (3 bytes → 4 bytes)".to_owned()));
    for gone in ["M content", "linked-a", "R "] {
        assert!(
            !seen.iter().any(|line| line.contains(gone)),
            "{gone}: {seen:?}"
        );
    }
    let seen = lines(&[&path("a.erofs"), &path("b")], &["--no-renames"]);
    for line in ["D moved/from  (4.9 KiB)", "A moved/to  (4.9 KiB)"] {
        assert!(seen.contains(&line.to_owned()), "{seen:?}");
    }
}

#[test]
fn renames_prefer_the_same_last_name() {
    require!(skip::root());
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name);
    let tree = |names: &[&str], mode| {
        let mut tree = Tree::new();
        for name in ["a", "b", "c"] {
            tree.directory(name);
        }
        for name in names {
            let content = Kind::File(Content::dense(b"the same".to_vec()));
            tree.add(name, content, Attributes::with_mode(mode));
        }
        tree
    };
    write(&tree(&["a/x", "a/y", "a/z"], 0o644), &path("a"));
    write(&tree(&["b/1", "b/y", "c/x", "c/x2"], 0o600), &path("b"));
    build(&path("b"), &path("b.erofs"), &[]);
    let mode = "(8 bytes), mode 0644→0600";
    assert_eq!(
        lines(&[&path("a"), &path("b.erofs")], &[]),
        [
            format!("R a/z → b/1  {mode}"),
            format!("R a/y → b/y  {mode}"),
            format!("R a/x → c/x  {mode}"),
            "A c/x2  (8 bytes)".to_owned(),
        ]
    );
}

/// Names that are one file on one side only, in groups that overlap.
#[test]
fn hard_links_in_other_groups() {
    require!(skip::root());
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name);
    let tree = |groups: &[&[&str]]| {
        let mut tree = Tree::new();
        for group in groups {
            tree.file(group[0], Content::dense(b"x".to_vec()));
            for name in &group[1..] {
                tree.hard_link(name, group[0]);
            }
        }
        tree
    };
    type Case<'a> = (&'a str, &'a [&'a [&'a str]], &'a [&'a str]);
    let cases: [Case<'_>; 5] = [
        ("same", &[&["a", "b"], &["c", "d"]], &[]),
        (
            "crossed",
            &[&["a", "c"], &["b", "d"]],
            &[
                "M b  no longer a hard link of a",
                "M c  now a hard link of a",
                "M d  no longer a hard link of c, now a hard link of b",
            ],
        ),
        (
            "one",
            &[&["a", "b", "c", "d"]],
            &["M c  now a hard link of a", "M d  now a hard link of a"],
        ),
        (
            "none",
            &[&["a"], &["b"], &["c"], &["d"]],
            &[
                "M b  no longer a hard link of a",
                "M d  no longer a hard link of c",
            ],
        ),
        // The name that is gone took nothing else with it.
        ("fewer", &[&["b"], &["c", "d"]], &["D a  hard link of b"]),
    ];
    write(&tree(&[&["a", "b"], &["c", "d"]]), &path("base"));
    build(&path("base"), &path("base.erofs"), &[]);
    for (name, groups, expected) in cases {
        write(&tree(groups), &path(name));
        for a in ["base", "base.erofs"] {
            assert_eq!(lines(&[&path(a), &path(name)], &[]), expected, "{name}");
        }
    }
    // Names outside of the tree mean nothing.
    fs::hard_link(path("none").join("a"), path("outside")).expect("linked");
    write(&tree(&[&["a"], &["b"], &["c"], &["d"]]), &path("again"));
    build(&path("again"), &path("again.erofs"), &[]);
    assert!(lines(&[&path("none"), &path("again.erofs")], &[]).is_empty());
}

#[test]
fn tars_by_pipe_without_a_root_and_with_whiteouts() {
    require!(skip::root());
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name);
    let mut tar = Vec::new();
    let members: [(&str, &[u8]); 2] = [("d/.wh.gone", b""), ("d/kept", b"kept")];
    for (name, content) in members {
        tar.extend(ustar::header(name, content.len() as u64));
        tar.extend(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.extend([0; 1024]);
    fs::write(path("layer.tar"), &tar).expect("written");
    for mode in ["keep", "overlay", "strip"] {
        let option = format!("--whiteouts={mode}");
        build(&path("layer.tar"), &path(mode), &[&option]);
        assert!(lines(&[&path("layer.tar"), &path(mode)], &[&option]).is_empty());
        let told = lines(&[&path("layer.tar"), &path(mode)], &[]);
        assert_eq!(told.is_empty(), mode == "keep", "{told:?}");
    }
    // A directory whose root has another mode, owner and time than an image without one gets.
    fs::create_dir_all(path("root/d")).expect("made");
    succeed(
        Command::new("tar")
            .arg("-C")
            .arg(path("root"))
            .arg("-xpf")
            .arg(path("layer.tar")),
    );
    let told = lines(
        &[&path("layer.tar"), &path("root")],
        &["--ignore=mtime,owner,mode"],
    );
    assert_eq!(told, [""; 0]);
    let told = lines(&[&path("layer.tar"), &path("root")], &[]);
    assert!(!told.iter().any(|line| line.starts_with("M /")), "{told:?}");

    let mut child = erofs()
        .expect("asked for")
        .args(["diff", "-"])
        .arg(path("keep"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(&tar).expect("taken");
    drop(stdin);
    let output = child.wait_with_output().expect("waited");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(
        output.status.success() && said.starts_with("no differences; "),
        "{said}"
    );
}

#[test]
fn times_in_whole_seconds() {
    require!(skip::root());
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name);
    let mut tree = Tree::new();
    let mtime = Time {
        seconds: -5,
        nanoseconds: 999_999_999,
    };
    let attributes = with(|attributes| {
        attributes.mtime = mtime;
        attributes
            .xattrs
            .insert(b"security.capability".to_vec(), capability(1));
    });
    tree.add("file", file(), attributes);
    write(&tree, &path("a"));
    tree.entries[1].attributes.mtime.nanoseconds = 0;
    write(&tree, &path("b"));
    let sides = [&*path("a"), &*path("b")];
    assert!(lines(&sides, &["--ignore=nanoseconds"]).is_empty());
    assert_eq!(
        lines(&sides, &[]),
        ["M file  time 1969-12-31 23:59:55.999999999 → 1969-12-31 23:59:55"]
    );
}

#[test]
fn devices_may_be_named() {
    require!(skip::root());
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let forms = Forms::write(&before(), &folder.path().join("a"));
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(&forms.tar, &elsewhere).expect("moved");
    let missing = diff(&[&forms.index, &forms.directory], &[]);
    assert_eq!(missing.code, 2, "{missing:?}");
    let named = elsewhere.to_str().expect("text");
    for sides in [
        [&*forms.index, &*forms.directory],
        [&*forms.image, &*forms.index],
        [&*forms.index, &*forms.index],
    ] {
        assert!(lines(&sides, &["--device", named]).is_empty());
    }
    assert!(lines(&[&forms.image, &forms.index], &["--device-b", named]).is_empty());
    let mut moved = vec![b'x'; 4096 * 3];
    moved.extend(fs::read(&forms.image).expect("readable"));
    let at_offset = folder.path().join("at-offset");
    fs::write(&at_offset, moved).expect("written");
    assert!(lines(&[&forms.image, &at_offset], &["--offset-b=12k"]).is_empty());
}
