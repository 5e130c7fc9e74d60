//! The judge is judged: the manifest of a real directory equals that of the model it was made from, and
//! every kind of change to the directory shows as exactly that difference.

use std::{
    fs::{self, File, FileTimes},
    os::unix::fs::{FileExt, PermissionsExt, chown, symlink},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use erofs_tests::{
    awkward,
    manifest::{Field, Manifest},
    require, skip,
    tree::{Attributes, Content, Device, Kind, Tree},
};
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};

fn written(tree: &Tree) -> (tempfile::TempDir, Manifest) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    tree.write(directory.path()).expect("the tree is writable");
    let manifest = Manifest::of_directory(directory.path()).expect("the tree is readable");
    (directory, manifest)
}

#[test]
fn the_fixed_set_is_stored_as_modelled() {
    require!(skip::root());
    let tree = awkward::tree(awkward::Sizes::default());
    let (_directory, manifest) = written(&tree);
    Manifest::of_tree(&tree).assert_same(&manifest, &[]);
}

#[test]
fn paths_beyond_path_max_are_walked() {
    require!(skip::root());
    let tree = awkward::deep();
    let (_directory, manifest) = written(&tree);
    Manifest::of_tree(&tree).assert_same(&manifest, &[]);
    assert!(manifest.nodes.keys().any(|path| path.len() > 4096));
}

#[test]
#[ignore = "reads 8 GiB of holes"]
fn files_beyond_4_gib_are_stored_as_modelled() {
    require!(skip::root());
    let tree = awkward::huge();
    let (_directory, manifest) = written(&tree);
    Manifest::of_tree(&tree).assert_same(&manifest, &[]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(40),
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_trees_are_stored_as_modelled(tree in awkward::strategy::tree(30)) {
        require_in_property(&tree);
    }
}

fn require_in_property(tree: &Tree) {
    require!(skip::root());
    let (_directory, manifest) = written(tree);
    Manifest::of_tree(tree).assert_same(&manifest, &[]);
}

/// A tree with one entry of every kind that a mutation below needs.
fn small() -> Tree {
    let mut tree = Tree::new();
    tree.directory("directory");
    tree.file("file", Content::dense(vec![1; 100_000]));
    tree.file("other", Content::dense(vec![1; 100_000]));
    tree.symlink("symlink", "file");
    let device = Kind::CharacterDevice(Device { major: 1, minor: 3 });
    tree.add("device", device, Attributes::with_mode(0o600));
    tree.file("one", Content::dense(b"linked".to_vec()));
    tree.hard_link("two", "one");
    tree
}

/// What a change to a directory must show: the fields of each path, in the order of the paths.
type Shown = &'static [(&'static str, Field)];

#[test]
fn every_kind_of_change_shows_as_itself() {
    require!(skip::root());
    let device = |path: &Path, kind, minor| {
        fs::remove_file(path).expect("removed");
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, path, kind, mode, makedev(1, minor)).expect("made");
    };
    let with_time = |path: &Path, nanoseconds| {
        let time = UNIX_EPOCH + Duration::new(1_500_000_000, 0) + Duration::from_nanos(nanoseconds);
        let times = FileTimes::new().set_modified(time);
        File::open(path)
            .and_then(|file| file.set_times(times))
            .expect("time set");
    };
    #[allow(clippy::type_complexity, reason = "a table")]
    let cases: Vec<(&str, Shown, Box<dyn Fn(&Path)>)> = vec![
        ("nothing", &[], Box::new(|_| {})),
        (
            "a missing entry",
            &[("device", Field::Presence)],
            Box::new(|root| {
                fs::remove_file(root.join("device")).expect("removed");
            }),
        ),
        (
            "a surplus entry",
            &[("new", Field::Presence)],
            Box::new(|root| {
                fs::write(root.join("new"), "").expect("written");
            }),
        ),
        (
            "another type",
            &[("device", Field::Type)],
            Box::new(move |root| device(&root.join("device"), FileType::BlockDevice, 3)),
        ),
        (
            "another mode",
            &[("file", Field::Mode)],
            Box::new(|root| {
                fs::set_permissions(root.join("file"), fs::Permissions::from_mode(0o4644))
                    .expect("set");
            }),
        ),
        (
            "another owner",
            &[("file", Field::Uid)],
            Box::new(|root| {
                chown(root.join("file"), Some(70_000), None).expect("chown");
            }),
        ),
        (
            "another group",
            &[("directory", Field::Gid)],
            Box::new(|root| {
                chown(root.join("directory"), None, Some(1)).expect("chown");
            }),
        ),
        (
            "another link",
            &[
                ("file", Field::Links),
                ("file", Field::HardLinks),
                ("other", Field::Links),
                ("other", Field::HardLinks),
            ],
            Box::new(|root| {
                fs::remove_file(root.join("other")).expect("removed");
                fs::hard_link(root.join("file"), root.join("other")).expect("linked");
            }),
        ),
        (
            "a copy instead of a link",
            &[
                ("one", Field::Links),
                ("one", Field::HardLinks),
                ("two", Field::Links),
                ("two", Field::HardLinks),
            ],
            Box::new(|root| {
                fs::remove_file(root.join("two")).expect("removed");
                fs::write(root.join("two"), b"linked").expect("written");
            }),
        ),
        (
            "one more subdirectory",
            &[
                ("directory", Field::DirectoryLinks),
                ("directory/new", Field::Presence),
            ],
            Box::new(|root| fs::create_dir(root.join("directory/new")).expect("made")),
        ),
        (
            "a byte more",
            &[("file", Field::Size), ("file", Field::Content)],
            Box::new(|root| {
                let file = File::options()
                    .write(true)
                    .open(root.join("file"))
                    .expect("opened");
                file.set_len(100_001).expect("grown");
            }),
        ),
        (
            "another second",
            &[("file", Field::Seconds)],
            Box::new(move |root| {
                with_time(&root.join("file"), 1_000_000_000);
            }),
        ),
        (
            "another nanosecond",
            &[("file", Field::Nanoseconds)],
            Box::new(move |root| {
                with_time(&root.join("file"), 1);
            }),
        ),
        (
            "another device",
            &[("device", Field::Device)],
            Box::new(move |root| {
                device(&root.join("device"), FileType::CharacterDevice, 5);
            }),
        ),
        (
            "another target",
            &[("symlink", Field::Target)],
            Box::new(|root| {
                fs::remove_file(root.join("symlink")).expect("removed");
                symlink("fine", root.join("symlink")).expect("made");
            }),
        ),
        (
            "another last byte",
            &[("file", Field::Content)],
            Box::new(|root| {
                let file = File::options()
                    .write(true)
                    .open(root.join("file"))
                    .expect("opened");
                file.write_all_at(&[2], 99_999).expect("written");
            }),
        ),
        (
            "one more attribute",
            &[("directory", Field::Xattrs)],
            Box::new(|root| {
                lsetxattr(
                    root.join("directory"),
                    c"trusted.new",
                    b"",
                    XattrFlags::empty(),
                )
                .expect("set");
            }),
        ),
    ];
    for (name, shown, change) in cases {
        let tree = small();
        let (directory, before) = written(&tree);
        change(directory.path());
        restore_times(directory.path(), &tree, name);
        let after = Manifest::of_directory(directory.path()).expect("readable");
        let found = before.differences(&after, &[]);
        let found: Vec<_> = found
            .iter()
            .map(|difference| {
                (
                    std::str::from_utf8(&difference.path).expect("text"),
                    difference.field,
                )
            })
            .collect();
        assert_eq!(found, shown, "{name}");
        // Each of the fields, and nothing else, makes the difference.
        for (_, field) in shown.iter().filter(|(_, field)| *field != Field::Presence) {
            let others: Vec<_> = shown
                .iter()
                .map(|(_, other)| *other)
                .filter(|other| other != field)
                .collect();
            assert!(
                !before.differences(&after, &others).is_empty(),
                "{name}: {field:?}"
            );
        }
        let all: Vec<_> = shown.iter().map(|(_, field)| *field).collect();
        let presence = shown.iter().any(|(_, field)| *field == Field::Presence);
        assert_eq!(
            before.differences(&after, &all).is_empty(),
            !presence,
            "{name} is ignorable"
        );
    }
}

/// Undoes the change of times that comes with every other change.
fn restore_times(root: &Path, tree: &Tree, change: &str) {
    let time = rustix::fs::Timespec {
        tv_sec: 1_500_000_000,
        tv_nsec: 0,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    for entry in tree.entries.iter().rev() {
        let path = root.join(std::str::from_utf8(&entry.path).expect("text"));
        let about_time = change.contains("second") && entry.path == b"file";
        if !about_time && fs::symlink_metadata(&path).is_ok() {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(CWD, &path, &times, flags).expect("time set");
        }
    }
}
