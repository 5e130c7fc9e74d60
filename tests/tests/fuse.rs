//! `erofs fuse` shows the source, for root and for others.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
};

use erofs_tests::{
    archive,
    awkward::bytes,
    manifest::Manifest,
    require,
    skip::{self, Reason},
    tree::{Attributes, Content, Kind, Time, Tree},
    workshop::{FORMS, Workshop, erofs, succeed},
};

/// Nobody.
const USER: u32 = 65534;

fn needs() -> Result<(), Reason> {
    skip::root()?;
    skip::fuse()?;
    erofs().map(drop)
}

#[test]
fn it_shows_every_form_of_the_fixed_set() {
    require!(needs());
    let workshop = Workshop::light();
    let target = workshop.path("mount");
    fs::create_dir(&target).expect("made");
    for form in FORMS {
        println!("{form:?}");
        let image = workshop.build("fuse.erofs", form);
        succeed(
            erofs()
                .expect("asked for")
                .arg("fuse")
                .args([&image, &target]),
        );
        let shown = Manifest::of_directory(&target);
        succeed(erofs().expect("asked for").arg("umount").arg(&target));
        workshop
            .expected
            .assert_same(&shown.expect("readable"), &[]);
    }
}

/// All that anybody may read, by a user without rights: even root does not see such a mount, so tar reads it as that user.
#[test]
fn it_needs_no_root() {
    require!(needs());
    require!(skip::program("setpriv"));
    let unshare = require!(skip::program("unshare"));
    require!(skip::program("fusermount3"));
    let mut tree = Tree::new();
    tree.directory("folder");
    tree.directory("folder/empty");
    for (name, size) in [
        ("nothing", 0),
        ("small", 700),
        ("block", 4096),
        ("large", 300_001),
    ] {
        let content = Content::dense(bytes::text(size as u64, size));
        tree.file(format!("folder/{name}"), content);
    }
    let old = Attributes {
        mtime: Time {
            seconds: -5,
            nanoseconds: 250_000_000,
        },
        uid: 70_000,
        ..Attributes::with_mode(0o4755)
    };
    let program = Kind::File(Content::dense(bytes::random(1, 10_000)));
    tree.add("program", program, old);
    tree.hard_link("again", "program");
    tree.symlink("link", "folder/small");
    tree.add("fifo", Kind::Fifo, Attributes::with_mode(0o666));
    let workshop = Workshop::new(&tree);
    let open_to_all = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("allowed");
    };
    open_to_all(workshop.directory.path());
    let program = workshop.path("erofs");
    fs::copy(require!(skip::erofs_binary()), &program).expect("copied");
    let target = workshop.path("mount");
    fs::create_dir(&target).expect("made");
    chown(&target, Some(USER), Some(USER)).expect("allowed");
    for form in [FORMS[0], FORMS[5]] {
        println!("{form:?}");
        let image = workshop.build("fuse.erofs", form);
        let tar = workshop.path("seen.tar");
        succeed(
            Command::new(&unshare)
                .args([
                    "--mount",
                    "--propagation=private",
                    "--",
                    "sh",
                    "-euc",
                    SCRIPT,
                    "sh",
                ])
                .args([&program, &image, &target, &tar]),
        );
        let seen = archive::extracted(&tar, &[]);
        workshop.expected.assert_same(&seen, &[]);
    }
}

/// Of PROGRAM IMAGE DIR TAR, in mounts of its own: mounts as nobody with a /dev/fuse for everybody, as most systems
/// have it, looks at it as root in vain, and archives what nobody sees.
const SCRIPT: &str = r#"
device=$(mktemp)
rm "$device"
mknod -m 666 "$device" c 10 229
mount --bind "$device" /dev/fuse
rm "$device"
nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
nobody "$1" fuse "$2" "$3"
if ls "$3"; then exit 1; fi
nobody tar --format=posix --numeric-owner -C "$3" -cf - . >"$4"
nobody fusermount3 -u "$3"
"#;
