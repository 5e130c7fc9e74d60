//! `erofs diff` tells exactly what differs, whatever stands on either side.

mod hostile;
mod kinds;
mod random;
mod side;
mod trying;

use std::fs;

use erofs_tests::{
    require, skip,
    tree::{Content, Tree},
    workshop::{build, erofs, refused},
};
use serde_json::json;

use side::{diff, json_of, lines, write};

fn small() -> Tree {
    let mut tree = Tree::new();
    tree.directory("d");
    tree.file("d/one", Content::dense(b"1".to_vec()));
    tree.file("d/two", Content::dense(b"22".to_vec()));
    tree.file("e", Content::dense(b"333".to_vec()));
    tree
}

#[test]
fn a_tar_without_members_is_a_tar() {
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (tar, directory) = (folder.path().join("tar"), folder.path().join("directory"));
    fs::write(&tar, [0; 10240]).expect("written");
    fs::create_dir(&directory).expect("made");
    let same = diff(&[&tar, &directory], &["--ignore=mode,owner,mtime"]);
    assert_eq!(same.code, 0, "{same:?}");
}

#[test]
fn exit_codes_and_quiet() {
    require!(skip::root());
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name);
    write(&small(), &path("a"));
    let mut other = small();
    other.file("f", Content::default());
    write(&other, &path("b"));
    build(&path("a"), &path("a.erofs"), &[]);

    let same = diff(&[&path("a"), &path("a.erofs")], &[]);
    assert_eq!(same.code, 0, "{same:?}");
    assert_eq!(same.lines.len(), 1);
    let total = "no differences; 5 entries and 6 bytes of data compared in ";
    assert!(same.lines[0].starts_with(total), "{same:?}");
    let different = diff(&[&path("a.erofs"), &path("b")], &[]);
    assert_eq!(different.code, 1, "{different:?}");
    assert_eq!(different.lines[0], "A f  (0 bytes)");
    let total = "1 added; 6 entries and 6 bytes of data compared in ";
    assert!(different.lines[1].starts_with(total), "{different:?}");
    let summary = diff(&[&path("a"), &path("b")], &["--summary"]);
    assert_eq!((summary.code, summary.lines.len()), (1, 1), "{summary:?}");
    for (b, code) in [("a", 0), ("a.erofs", 0), ("b", 1)] {
        let quiet = diff(&[&path("a"), &path(b)], &["-q"]);
        assert_eq!((quiet.code, quiet.lines.len()), (code, 0), "{quiet:?}");
    }
    for (a, said) in [
        ("nothing", "nothing: No such file"),
        ("a/e", "a/e: neither an image nor a directory nor a tar"),
    ] {
        let error = refused(
            erofs()
                .expect("asked for")
                .arg("diff")
                .args([path(a), path("b")]),
        );
        assert!(error.contains(said), "{error}");
    }
    let error = refused(
        erofs()
            .expect("asked for")
            .args(["diff", "--path", "no/such"])
            .args([path("a"), path("b")]),
    );
    assert!(error.contains("no/such: neither side has it"), "{error}");
}

#[test]
fn parts_of_trees() {
    require!(skip::root());
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name);
    write(&small(), &path("a"));
    let mut other = small();
    other.directory("d/new");
    other.file("d/new/file", Content::dense(b"n".to_vec()));
    other.entries.retain(|entry| entry.path != b"e");
    write(&other, &path("b"));
    build(&path("b"), &path("b.erofs"), &[]);
    let all = ["D e  (3 bytes)", "A d/new/", "A d/new/file  (1 byte)"];
    for (options, expected) in [
        (&[][..], &all[..]),
        (&["--path", "/d/./"], &all[1..]),
        (&["--path", "d/new"], &all[1..]),
        (&["--path", "d/new/file"], &all[2..]),
        (&["--path", "e"], &all[..1]),
        (&["--path", "d/one"], &[]),
        (&["--exclude", "d/new/", "--exclude=/x"], &all[..1]),
        (&["--exclude=d/new", "--exclude=e"], &[]),
    ] {
        for b in ["b", "b.erofs"] {
            assert_eq!(
                lines(&[&path("a"), &path(b)], options),
                expected,
                "{options:?}"
            );
        }
    }
}

#[test]
fn the_object_for_scripts() {
    require!(skip::root());
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name);
    write(&kinds::before(), &path("a"));
    write(&kinds::after(), &path("b"));
    build(&path("b"), &path("b.erofs"), &[]);
    let (a, b) = (path("a"), path("b.erofs"));
    let object = json_of(&[&a, &b], &[]);
    assert_eq!(object["a"], json!({"path": a, "kind": "directory"}));
    assert_eq!(object["b"], json!({"path": b, "kind": "image"}));
    assert_eq!(object["problems"], json!([]));
    let differences = object["differences"].as_array().expect("an array");
    let text = lines(&[&a, &b], &[]);
    assert_eq!(differences.len(), text.len());
    let totals = &object["totals"];
    let count = |status: &str| {
        let of = |difference: &&serde_json::Value| difference["status"] == status;
        differences.iter().filter(of).count()
    };
    for status in ["modified", "renamed", "removed", "added"] {
        assert_eq!(totals[status], count(status), "{status}");
    }
    assert_eq!(totals["identical"], false);
    let of = |path: &str| {
        let found = differences.iter().find(|one| one["path"] == path);
        found.unwrap_or_else(|| panic!("{path}")).clone()
    };
    let changed = |path: &str, changes| {
        let expected = json!({"status": "modified", "path": path, "changes": changes});
        assert_eq!(of(path), expected);
    };
    changed(
        "content",
        json!({"content": {"from_size": 300_000, "to_size": 300_000, "first_difference": 299_999}}),
    );
    changed("mode", json!({"mode": {"from": "0644", "to": "4755"}}));
    changed(
        "owner",
        json!({"owner": {"from": {"uid": 0, "gid": 0}, "to": {"uid": 70_000, "gid": 3}}}),
    );
    changed(
        "time",
        json!({"mtime": {
            "from": {"seconds": 1_500_000_000, "nanoseconds": 0},
            "to": {"seconds": 1_500_000_000, "nanoseconds": 1},
        }}),
    );
    changed(
        "xattrs",
        json!({"xattrs": [
            {"name": {"text": "user.binary"}, "from_hex": "00ff0a", "to_hex": "00ff0b"},
            {"name": {"text": "user.gone"}, "from_hex": "", "to_hex": null},
            {"name": {"text": "user.new"}, "from_hex": null, "to_hex": "6e"},
        ]}),
    );
    changed(
        "device",
        json!({"device": {"from": {"major": 1, "minor": 3}, "to": {"major": 1, "minor": 5}}}),
    );
    changed(
        "symlink",
        json!({"target": {"from": {"text": "here"}, "to": {"text": "there"}}}),
    );
    changed(
        "parted-b",
        json!({"no_longer_linked_to": {"text": "parted-a"}}),
    );
    changed("joined-b", json!({"now_linked_to": {"text": "joined-a"}}));
    let linked = json!({"status": "modified", "path": "linked-b", "same_as": {"text": "linked-a"}});
    assert_eq!(of("linked-b"), linked);
    let renamed = json!({
        "status": "renamed", "path": "moved/to", "from": {"text": "moved/from"}, "size": 5000,
        "changes": {},
    });
    assert_eq!(of("moved/to"), renamed);
    let added = json!({
        "status": "added", "path": "one-more-name", "type": "file", "size": 4, "hard_link_of": {"text": "joined-a"},
    });
    assert_eq!(of("one-more-name"), added);
    let hostile = json!({
        "status": "added", "path": "\u{1b}[31m\n\u{fffd}", "path_hex": "1b5b33316d0aff", "type": "file", "size": 1,
    });
    assert_eq!(of("\u{1b}[31m\n\u{fffd}"), hostile);

    let summary = json_of(&[&a, &b], &["--summary"]);
    assert_eq!(summary.get("differences"), None);
    assert_eq!(&summary["totals"], totals);
}

#[test]
fn output_does_not_depend_on_workers() {
    require!(skip::root());
    require!(erofs());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name);
    let mut tree = Tree::new();
    for n in 0..400u64 {
        let size = if n % 40 == 0 { 20 << 20 } else { 3000 };
        let pieces = vec![(size - 8, n.to_le_bytes().to_vec())];
        tree.file(format!("f{n:03}"), Content::sparse(size, pieces));
    }
    write(&tree, &path("a"));
    for n in (0..400).step_by(3) {
        fs::write(path("a").join(format!("f{n:03}")), vec![n as u8; 3000]).expect("written");
    }
    write(&tree, &path("b"));
    let one = json_of(
        &[&path("a"), &path("b")],
        &["--workers=1", "--ignore=mtime"],
    );
    assert_eq!(one["totals"]["modified"], 134);
    for workers in ["--workers=2", "--workers=7"] {
        let more = json_of(&[&path("a"), &path("b")], &[workers, "--ignore=mtime"]);
        assert_eq!(one["differences"], more["differences"]);
    }
}
