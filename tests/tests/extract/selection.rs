//! Which files are extracted, and with what.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Command,
};

use erofs_tests::{
    awkward::{self, Sizes},
    manifest::Manifest,
    require, skip,
    tree::{Attributes, Content, Kind, Tree},
};

use super::{Workshop, ended, hostile::Hostile, names, small_tree};

#[test]
fn globs_select_and_leave_out() {
    let workshop = require!(Workshop::new());
    workshop.build(&small_tree(), &[]);
    let cases: [(&[&str], &[&str]); 10] = [
        (&["--include=one"], &["", "a", "a/one"]),
        (
            &["--include=o*", "--include=/top"],
            &["", "a", "a/one", "top"],
        ),
        (&["--include=a"], &["", "a", "a/one", "a/two"]),
        (&["--include=a/*"], &["", "a", "a/one", "a/two"]),
        (
            &["--include=**/t*"],
            &["", "a", "a/two", "b", "b/three", "top"],
        ),
        (&["--exclude=/b"], &["", "a", "a/one", "a/two", "top"]),
        (
            &["--exclude=t*", "--exclude=also"],
            &["", "a", "a/one", "b"],
        ),
        (&["--include=a", "--exclude=one"], &["", "a", "a/two"]),
        (&["--include=t*", "a"], &["", "a", "a/two"]),
        (&["--include=nothing"], &[""]),
    ];
    for (words, expected) in cases {
        let output = workshop.extract(&[&["-C", "out"], words].concat());
        ended(&output, 0);
        assert_eq!(names(&workshop.path("out")), expected, "{words:?}");
        fs::remove_dir_all(workshop.path("out")).expect("removed");
    }
    ended(&workshop.extract(&["out", "--include=["]), 2);
    assert!(!workshop.path("out").exists());
}

#[test]
fn links_follow_what_is_selected() {
    let workshop = require!(Workshop::new());
    workshop.build(&small_tree(), &[]);
    // The first name is left out, so the second one is the file.
    ended(&workshop.extract(&["out", "--exclude=a/one"]), 0);
    let content = fs::read(workshop.path("out/b/also")).expect("there");
    assert_eq!(content, b"1");
    assert_eq!(
        fs::metadata(workshop.path("out/b/also"))
            .expect("there")
            .nlink(),
        1
    );
}

#[test]
fn many_links_in_many_windows() {
    let workshop = require!(Workshop::new());
    let mut tree = Tree::new();
    for directory in 0..4u8 {
        tree.directory(format!("{directory}"));
        for file in 0..1500u16 {
            let path = format!("{directory}/{file:04}");
            if directory == 0 || file % 3 > 0 {
                let content = vec![directory, (file % 251) as u8];
                tree.file(path, Content::dense(content));
            } else {
                tree.hard_link(path, format!("0/{file:04}"));
            }
        }
    }
    workshop.build(&tree, &["--no-dedupe"]);
    let expected = Manifest::of_directory(&workshop.path("source")).expect("readable");
    for workers in ["--workers=1", "--workers=5"] {
        ended(&workshop.extract(&["out", workers]), 0);
        let actual = Manifest::of_directory(&workshop.path("out")).expect("readable");
        expected.assert_same(&actual, &[]);
        fs::remove_dir_all(workshop.path("out")).expect("removed");
    }
}

#[test]
fn attributes_as_asked() {
    require!(skip::root());
    let workshop = require!(Workshop::new());
    let tree = awkward::tree(Sizes {
        wide: 50,
        ..Sizes::default()
    });
    workshop.build(&tree, &[]);
    let source = Manifest::of_directory(&workshop.path("source")).expect("readable");
    let mut command = Command::new("sh");
    let line = "umask 027; exec \"$0\" extract image out --no-same-owner --no-same-permissions --no-xattrs \
                --no-devices --quiet";
    let output = command
        .args(["-c", line])
        .arg(&workshop.erofs)
        .current_dir(workshop.directory.path())
        .output();
    ended(&output.expect("starts"), 0);
    let mut expected = source.clone();
    expected.nodes.retain(|_, node| node.device.is_none());
    for node in expected.nodes.values_mut() {
        (node.uid, node.gid) = (0, 0);
        node.xattrs.clear();
        if node.target.is_none() {
            node.mode &= 0o1750;
        }
    }
    let actual = Manifest::of_directory(&workshop.path("out")).expect("readable");
    expected.assert_same(&actual, &[]);
}

#[test]
fn the_last_word_on_owners_counts() {
    require!(skip::root());
    let workshop = require!(Workshop::new());
    let mut tree = Tree::new();
    let owned = Attributes {
        uid: 1234,
        gid: 4321,
        ..Attributes::with_mode(0o4755)
    };
    tree.add("file", Kind::File(Content::default()), owned);
    workshop.build(&tree, &[]);
    for (words, owner, mode) in [
        (&["1"][..], 1234, 0o4755),
        (&["2", "--no-same-owner"], 0, 0o755),
        (&["3", "--no-same-owner", "--same-owner"], 1234, 0o4755),
        (&["4", "--no-same-permissions"], 1234, 0o755),
        (&["5", "--no-same-permissions", "-p"], 1234, 0o4755),
    ] {
        ended(&workshop.extract(words), 0);
        let metadata = fs::metadata(workshop.path(words[0]).join("file")).expect("there");
        assert_eq!(metadata.uid(), owner, "{words:?}");
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{words:?}");
    }
}

#[test]
fn hostile_names_get_harmless_ones() {
    let workshop = require!(Workshop::new());
    let mut image = Hostile::new();
    image.directory(&[
        (b"%erofs%..%2Fevil", Hostile::nid(2)),
        (b"../evil", Hostile::nid(1)),
        (b"/", Hostile::nid(3)),
        (b"a\0b", Hostile::nid(1)),
        (b"z", Hostile::nid(1)),
    ]);
    image.file(b"evil");
    image.file(b"honest");
    image.directory(&[(b"../../x", Hostile::nid(1))]);
    workshop.write_image(image);
    let output = workshop.extract(&["out", "--no-same-owner", "--hostile-names=rename"]);
    ended(&output, 0);
    let expected = [
        "",
        "%erofs%%25erofs%25..%252Fevil",
        "%erofs%%2F",
        "%erofs%%2F/%erofs%..%2F..%2Fx",
        "%erofs%..%2Fevil",
        "%erofs%a%00b",
        "z",
    ];
    assert_eq!(names(&workshop.path("out")), expected);
    for name in names(&workshop.path("out")).iter().skip(1) {
        let last = name.rsplit('/').next().expect("a name");
        let original = erofs_reader::extract::names::original(last.as_bytes());
        assert!(original.is_some(), "{name}");
    }
    let output = workshop.extract(&["other", "--no-same-owner"]);
    ended(&output, 1);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(error.lines().count(), 3, "{error}");
    assert_eq!(
        names(&workshop.path("other")),
        ["", "%erofs%..%2Fevil", "z"]
    );
}
