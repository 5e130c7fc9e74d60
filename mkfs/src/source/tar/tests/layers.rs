//! Whiteouts in all four treatments, wherever they stand in the archive.

use super::builder::{Header, Tar};
use super::listing::{Content, Listing, list_with};
use crate::source::{Rules, Whiteouts};
use erofs_format::device::DeviceNumber;
use erofs_format::inode::Timestamp;

fn directory(name: &str) -> Header {
    Header::ustar(name, b'5', 0)
}

fn layer() -> Tar {
    Tar::default()
        .add(directory("a/"), b"")
        .file("a/.wh.gone", b"")
        .file("a/kept", b"")
        .add(directory("b/"), b"")
        .file("b/.wh..wh..opq", b"")
        .file("b/new", b"")
        .add(
            Header::ustar(".wh.top", b'1', 0).link(".wh..wh.plnk/1.2"),
            b"",
        )
        .add(directory(".wh..wh.plnk/"), b"")
        .file(".wh..wh.plnk/1.2", b"")
        .file(".wh..wh.aufs", b"")
}

fn scan(tar: Tar, whiteouts: Whiteouts) -> Listing {
    list_with(&tar.end(), &Rules::default(), whiteouts).expect("valid")
}

fn paths(list: &Listing) -> Vec<&str> {
    list.keys().map(String::as_str).collect()
}

#[test]
fn overlay_makes_devices_and_attributes() {
    for (whiteouts, prefix) in [
        (Whiteouts::Overlay, "trusted"),
        (Whiteouts::OverlayUser, "user"),
    ] {
        let list = scan(layer(), whiteouts);
        assert_eq!(
            paths(&list),
            ["", "/a", "/a/gone", "/a/kept", "/b", "/b/new", "/top"]
        );
        for path in ["/a/gone", "/top"] {
            let gone = &list[path];
            assert_eq!(gone.content, Content::CharDevice(DeviceNumber::default()));
            let metadata = &gone.metadata;
            assert_eq!(
                (metadata.permissions, metadata.uid, metadata.gid),
                (0, 0, 0)
            );
            assert_eq!(metadata.mtime.seconds, 1000);
        }
        let origin = format!("{prefix}.overlay.origin");
        let opaque = format!("{prefix}.overlay.opaque");
        for (path, has_origin, is_opaque) in
            [("", true, false), ("/a", true, false), ("/b", false, true)]
        {
            assert_eq!(
                list[path].xattr(&origin),
                has_origin.then_some(&b""[..]),
                "{path}"
            );
            assert_eq!(
                list[path].xattr(&opaque),
                is_opaque.then_some(&b"y"[..]),
                "{path}"
            );
            assert_eq!(
                list[path].metadata.xattrs.len(),
                usize::from(has_origin) + usize::from(is_opaque)
            );
        }
    }
}

#[test]
fn keep_and_strip_do_what_they_say() {
    let kept = scan(layer(), Whiteouts::Keep);
    assert_eq!(kept.len(), 11);
    assert_eq!(kept["/a/.wh.gone"].bytes(), b"");
    assert!(kept.values().all(|entry| entry.metadata.xattrs.is_empty()));
    let stripped = scan(layer(), Whiteouts::Strip);
    assert_eq!(paths(&stripped), ["", "/a", "/a/kept", "/b", "/b/new"]);
    assert!(
        stripped
            .values()
            .all(|entry| entry.metadata.xattrs.is_empty())
    );
}

#[test]
fn what_the_layer_has_survives_in_any_order() {
    let opaque = "trusted.overlay.opaque";
    for tar in [
        Tar::default()
            .file("d/.wh..wh..opq", b"")
            .file("d/.wh.f", b"")
            .file("d/f", b"")
            .file("d/.wh.sub", b"")
            .add(directory("d/sub/"), b"")
            .file("d/late", b"")
            .add(directory("d/"), b""),
        Tar::default()
            .add(directory("d/"), b"")
            .file("d/late", b"")
            .add(directory("d/sub/"), b"")
            .file("d/.wh.sub", b"")
            .file("d/f", b"")
            .file("d/.wh.f", b"")
            .file("d/.wh..wh..opq", b""),
    ] {
        let list = scan(tar, Whiteouts::Overlay);
        assert_eq!(paths(&list), ["", "/d", "/d/f", "/d/late", "/d/sub"]);
        assert_eq!(list["/d/f"].bytes(), b"");
        assert_eq!(list["/d"].xattr(opaque), Some(&b"y"[..]));
        // Deleted and made anew.
        assert_eq!(list["/d/sub"].xattr(opaque), Some(&b"y"[..]));
        assert_eq!(list["/d"].metadata.permissions, 0o644);
    }
    // A hard link that is still pending is there as well.
    let tar = Tar::default()
        .file(".wh.f", b"")
        .add(Header::ustar("f", b'1', 0).link("g"), b"")
        .file("g", b"x");
    assert_eq!(scan(tar, Whiteouts::Overlay)["/f"].bytes(), b"x");
}

#[test]
fn markers_make_missing_directories() {
    let tar = Tar::default()
        .file("x/y/.wh..wh..opq", b"")
        .file("p/q/.wh.gone", b"");
    let list = scan(tar, Whiteouts::Overlay);
    assert_eq!(paths(&list), ["", "/p", "/p/q", "/p/q/gone", "/x", "/x/y"]);
    assert_eq!(
        list["/x/y"].xattr("trusted.overlay.opaque"),
        Some(&b"y"[..])
    );
    assert_eq!(list["/x/y"].content, Content::Directory);
}

#[test]
fn rules_hold_for_markers() {
    let rules = Rules {
        force_uid: Some(5),
        fixed_time: Some(Timestamp {
            seconds: 9,
            nanoseconds: 0,
        }),
        drop_xattrs: true,
        excluded: vec![b"b".to_vec(), b"a/gone".to_vec()],
        ..Rules::default()
    };
    let list = list_with(&layer().end(), &rules, Whiteouts::Overlay).expect("valid");
    assert_eq!(paths(&list), ["", "/a", "/a/kept", "/top"]);
    let metadata = &list["/top"].metadata;
    assert_eq!(
        (metadata.uid, metadata.gid, metadata.mtime.seconds),
        (5, 0, 9)
    );
    assert_eq!(list[""].xattr("trusted.overlay.origin"), Some(&b""[..]));
}

#[test]
fn whiteouts_that_mean_nothing_are_refused() {
    for (name, expected) in [
        (
            "a/.wh.",
            "a/.wh.: it is a whiteout without a name (tar member at offset 0)",
        ),
        (
            "a/.wh...",
            "a/.wh...: it is a whiteout without a name (tar member at offset 0)",
        ),
        (
            ".wh.a/b",
            ".wh.a/b: it is below a whiteout, which holds nothing (tar member at offset 0)",
        ),
    ] {
        let tar = Tar::default().file(name, b"").end();
        let error = list_with(&tar, &Rules::default(), Whiteouts::Overlay).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    }
    let tar = Tar::default().file("f", b"").file("f/.wh.x", b"").end();
    let error = list_with(&tar, &Rules::default(), Whiteouts::Overlay).expect_err("no directory");
    assert_eq!(error.to_string(), "f/x: its parent f is not a directory");
}

fn of_others(tar: &[u8]) -> Result<Listing, String> {
    let rules = Rules {
        as_layer: true,
        ..Rules::default()
    };
    list_with(tar, &rules, Whiteouts::Overlay).map_err(|error| error.to_string())
}

fn symlink(name: &str, target: &str) -> Header {
    Header::ustar(name, b'2', 0).link(target)
}

/// Also where links lead to nothing that is there, to each other, or out.
#[test]
fn members_of_layers_may_lie_behind_symlinks() {
    for (links, name, expected) in [
        (&[("lib", "usr/lib")][..], "lib/x", "/usr/lib/x"),
        (&[("lib", "/usr/lib")], "./lib/a/x", "/usr/lib/a/x"),
        (&[("a/up", "..")], "a/up/b/x", "/b/x"),
        (&[("out", "../../../etc")], "out/x", "/etc/x"),
        (
            &[("one", "two/./three"), ("two", "/four/")],
            "one/x",
            "/four/three/x",
        ),
        (&[("d/l", "../e")], "d/l/.wh.x", "/e/x"),
    ] {
        let mut tar = Tar::default();
        for (name, target) in links {
            tar = tar.add(symlink(name, target), b"");
        }
        let list = of_others(&tar.file(name, b"").end()).expect(name);
        assert!(list.contains_key(expected), "{name}: {:?}", paths(&list));
        let (link, _) = links[0];
        assert!(matches!(
            list[&format!("/{link}")].content,
            Content::Symlink(_)
        ));
    }
    let tar = Tar::default()
        .add(symlink("lib", "usr/lib"), b"")
        .file("usr/lib/x", b"x")
        .add(Header::ustar("y", b'1', 0).link("lib/x"), b"");
    let list = of_others(&tar.end()).expect("linked");
    assert_eq!(list["/y"].nlink, 2);
    let tar = Tar::default()
        .add(symlink("a", "b"), b"")
        .add(symlink("b", "a"), b"")
        .file("a/x", b"");
    let error = of_others(&tar.end()).expect_err("they lead nowhere");
    assert_eq!(
        error,
        "a/x: its parent a is not a directory (tar member at offset 1024)"
    );
    // What is last in a name is not followed.
    let tar = Tar::default()
        .add(symlink("a", "b"), b"")
        .add(directory("a/"), b"");
    let list = of_others(&tar.file("a/x", b"").end()).expect("replaced");
    assert_eq!(paths(&list), ["", "/a", "/a/x"]);
}

#[test]
fn attributes_of_layers_are_those_that_images_hold() {
    let records: [(&str, &[u8]); 4] = [
        ("SCHILY.xattr.com.apple.provenance", b"1"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.own", b"2"),
        ("SCHILY.xattr.user.own", b"3"),
    ];
    let list = of_others(&Tar::default().pax(b'x', &records).file("f", b"").end()).expect("taken");
    let names = list["/f"]
        .metadata
        .xattrs
        .iter()
        .map(|xattr| xattr.name.to_vec());
    assert_eq!(
        names.collect::<Vec<_>>(),
        [b"trusted.own".to_vec(), b"user.own".to_vec()]
    );
}

#[test]
fn layers_may_be_empty() {
    for tar in [&[][..], &[0; 1024]] {
        assert_eq!(paths(&of_others(tar).expect("empty")), [""]);
    }
}
