//! Everything that is refused: one clear message with member and offset.

use super::builder::{Header, Tar};
use super::listing::{empty_tree, list};
use crate::source::tar::{Archive, Data, TarError, scan};
use crate::source::{Rules, Whiteouts};

#[track_caller]
fn refused(tar: Tar, expected: &str) {
    let message = list(&tar.end()).expect_err(expected).to_string();
    assert_eq!(message, expected);
}

fn file(name: &str) -> Header {
    Header::ustar(name, b'0', 0)
}

#[test]
fn an_image_is_no_empty_tar() {
    let mut image = vec![0; 4096];
    list(&image).expect("an empty tar");
    image[1024..1028].copy_from_slice(&0xE0F5_E1E2u32.to_le_bytes());
    let message = list(&image).expect_err("an image").to_string();
    assert!(message.contains("EROFS image"), "{message}");
}

#[test]
fn what_cannot_be_represented_names_the_member() {
    let first = || Tar::default().file("first", b"abc");
    for (header, problem) in [
        (
            file("m").with(156, b"M"),
            "it is split over several volumes; join the archive first",
        ),
        (
            file("m").with(156, b"A"),
            "members of type A (Solaris ACL) cannot be represented",
        ),
        (
            file("m").with(156, b"N"),
            "members of type N (list of long names of ancient GNU tar) cannot be represented",
        ),
        (
            file("m").with(156, b"Z"),
            "members of type Z (unknown) cannot be represented",
        ),
        (
            file("m").with(156, &[0xFF]),
            "members of type \\xff (unknown) cannot be represented",
        ),
        (
            file("m").with(156, b"S"),
            "sparse map: star's own layout is not supported; recreate the archive with GNU tar or bsdtar",
        ),
        (file("m").with(100, b"rw-r--r-"), "its mode is not a number"),
        (file("m").with(124, b"12x"), "its size is not a number"),
        (file("m").with(124, b"-1\0"), "its size is not a number"),
        (
            file("m").with(124, &[0xFF; 12]),
            "its size is -1, which is not 0 or more",
        ),
        (
            file("m").with(124, &[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            "its size is out of range",
        ),
        (
            file("m").with(108, &[0x80, 0, 0, 1, 0, 0, 0, 0]),
            "its uid is 4294967296, which is not a number of 32 bits",
        ),
        (
            file("m").with(116, &[0xFF; 8]),
            "its gid is -1, which is not a number of 32 bits",
        ),
        (
            file("m").with(136, &[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            "its mtime is out of range",
        ),
        (
            file("m").with(156, b"3").with(329, b"0010000\0"),
            "its device major number is 4096, which is not below 4096",
        ),
        (
            file("m").with(156, b"4").with(337, b"4000000\0"),
            "its device minor number is 1048576, which is not below 1048576",
        ),
        (file("m").with(156, b"2"), "its link target is empty"),
    ] {
        refused(
            first().add(header, b""),
            &format!("m: {problem} (tar member at offset 1024)"),
        );
    }
    refused(
        first().file("m/", b"data"),
        "m/: it is named like a directory but has 4 bytes of data (tar member at offset 1024)",
    );
}

#[test]
fn pax_records_that_lie_name_the_member() {
    for (key, value, problem) in [
        (
            "size",
            &b"-1"[..],
            "size is \"-1\", which is not a number from 0 to 2^63 - 1",
        ),
        (
            "size",
            b"9223372036854775808",
            "size is \"9223372036854775808\", which is not a number from 0 to 2^63 - 1",
        ),
        (
            "uid",
            b"4294967296",
            "uid is \"4294967296\", which is not a number of 32 bits",
        ),
        (
            "gid",
            b"-1",
            "gid is \"-1\", which is not a number of 32 bits",
        ),
        (
            "mtime",
            b"now",
            "mtime is \"now\", which is not a time of 64 bits",
        ),
        (
            "LIBARCHIVE.xattr.user.x",
            b"!",
            "attribute LIBARCHIVE.xattr.user.x is not encoded correctly",
        ),
        (
            "SCHILY.acl.ace",
            b"owner@:rwx::allow",
            "SCHILY.acl.ace cannot be represented on Linux; leave attributes out",
        ),
        (
            "GNU.sparse.size",
            b"x",
            "sparse map: a number is malformed or missing",
        ),
    ] {
        refused(
            Tar::default().pax(b'x', &[(key, value)]).file("m", b""),
            &format!("m: PAX header: {problem} (tar member at offset 0)"),
        );
    }
    refused(
        Tar::default()
            .pax(b'g', &[("GNU.sparse.map", b"0,1")])
            .file("m", b""),
        "PaxHeaders/x: PAX header: GNU.sparse.map in a global header (tar member at offset 0)",
    );
    refused(
        Tar::default()
            .pax(b'g', &[("GNU.volume.offset", b"512")])
            .file("m", b""),
        "PaxHeaders/x: it is split over several volumes; join the archive first (tar member at offset 0)",
    );
    refused(
        Tar::default()
            .add(Header::ustar("x", b'x', 9), b"7 a=b\nabc")
            .file("m", b""),
        "m: PAX header: the record at byte 0 is malformed (tar member at offset 0)",
    );
    refused(
        Tar::default()
            .pax(b'x', &[("SCHILY.acl.access", b"user::rwx,user:lisa:rwx")])
            .file("m", b""),
        "m: SCHILY.acl.access: \"lisa\" is a name, which may stand for another id elsewhere; archive ACLs as attributes (GNU \
         tar: --xattrs-include='*' instead of --acls), or leave attributes out (tar member at offset 1024)",
    );
    refused(
        Tar::default()
            .pax(b'x', &[("SCHILY.xattr.system.nfs4_acl", b"x")])
            .file("m", b""),
        "m: extended attribute system.nfs4_acl: EROFS holds user, trusted, security and POSIX ACL attributes only (tar \
         member at offset 1024)",
    );
    refused(
        Tar::default()
            .pax(b'x', &[("path", b"a\0b")])
            .file("m", b""),
        "a\\u{0}b: contains a NUL byte (tar member at offset 1024)",
    );
    refused(
        Tar::default()
            .pax(b'x', &[("linkpath", b"a\0b")])
            .add(file("m").with(156, b"2"), b""),
        "m: its link target contains a NUL byte (tar member at offset 1024)",
    );
}

#[test]
fn places_outside_the_tree_are_refused() {
    refused(
        Tar::default().file("a/../../etc/passwd", b""),
        "a/../../etc/passwd: contains \"..\" (tar member at offset 0)",
    );
    refused(
        Tar::default().add(file("m").with(156, b"1").link("../../etc/passwd"), b""),
        "../../etc/passwd: contains \"..\" (tar member at offset 0)",
    );
    refused(
        Tar::default().add(file("m").with(156, b"1").link("nowhere"), b""),
        "m: target nowhere of the hard link does not exist (tar member at offset 0)",
    );
    refused(
        Tar::default().file("a", b"").file("a/b", b""),
        "a/b: its parent a is not a directory (tar member at offset 512)",
    );
    refused(
        Tar::default()
            .add(file("s").with(156, b"2").link("/etc"), b"")
            .file("s/passwd", b""),
        "s/passwd: its parent s is not a directory (tar member at offset 512)",
    );
    refused(
        Tar::default().file(".", b""),
        "the root must be a directory (tar member at offset 0)",
    );
    let long = "n".repeat(256);
    refused(
        Tar::default()
            .pax(b'x', &[("path", long.as_bytes())])
            .file("m", b""),
        &format!("{long}: a name of 256 bytes is longer than 255 (tar member at offset 1024)"),
    );
    let target = "t".repeat(4096);
    refused(
        Tar::default()
            .pax(b'x', &[("linkpath", target.as_bytes())])
            .add(file("m").with(156, b"2"), b""),
        "m: its link target is longer than 4095 bytes (tar member at offset 5120)",
    );
}

#[test]
fn damage_is_told_with_its_offset() {
    let tar = || Tar::default().file("a", &[7; 1000]).file("b", b"abc");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "the archive is empty: not even an end mark"),
        (
            b"#!/bin/sh\n".repeat(100),
            "this is not a tar archive: its first block is no tar header",
        ),
        (
            tar().bytes()[..100].to_vec(),
            "the tar is truncated: it ends at offset 100",
        ),
        (
            tar().bytes()[..1000].to_vec(),
            "the tar is truncated: it ends at offset 1000, in a",
        ),
        (
            tar().bytes()[..1600].to_vec(),
            "the tar is truncated: it ends at offset 1600, in a",
        ),
        (
            tar().bytes()[..2050].to_vec(),
            "the tar is truncated: it ends at offset 2050, in b",
        ),
        (
            tar().raw(&[1; 512]).bytes(),
            "damaged tar header at offset 2560 (after b): its checksum is wrong",
        ),
        (
            tar().raw(&[0; 512]).file("c", b"").bytes(),
            "damaged tar header at offset 2560 (after b): a lone block of zeros, after which the archive goes on",
        ),
        (
            tar().pax(b'x', &[("uid", b"1")]).end(),
            "b: extension headers without the member that they describe (tar member at offset 3584)",
        ),
        (
            tar().pax(b'x', &[("uid", b"1")]).bytes(),
            "the tar is truncated: it ends at offset 3584, in b",
        ),
        (
            tar().pax(b'x', &[("uid", b"1")]).bytes()[..3078].to_vec(),
            "the tar is truncated: it ends at offset 3078, in PaxHeaders/x",
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(list(&bytes).expect_err(expected).to_string(), expected);
    }
}

#[test]
fn of_two_errors_both_ways_find_the_same() {
    let tar = Tar::default().file(".", &[7; 1000]).bytes();
    let error = list(&tar[..1000]).expect_err("two errors");
    assert!(matches!(error, TarError::Truncated { offset: 1000, .. }));
}

#[test]
fn announced_sizes_allocate_nothing() {
    for (header, expected) in [
        (
            Header::gnu("L", b'L', 1 << 32),
            "L: its long name has more than 1048576 bytes (tar member at offset 0)",
        ),
        (
            Header::gnu("K", b'K', (1 << 20) + 1),
            "K: its long link target has more than 1048576 bytes (tar member at offset 0)",
        ),
        (
            Header::ustar("x", b'x', (8 << 20) + 1),
            "x: its PAX header has more than 8388608 bytes (tar member at offset 0)",
        ),
        (
            Header::ustar("x", b'g', 8 << 20),
            "the tar is truncated: it ends at offset 1536, in x",
        ),
        (
            Header::ustar("big", b'0', (8 << 30) - 1),
            "the tar is truncated: it ends at offset 1536, in big",
        ),
        (
            Header::ustar("big", b'0', 0).with(
                124,
                &[
                    0x80, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
                ],
            ),
            "the tar is truncated: it ends at offset 1536, in big",
        ),
    ] {
        refused(Tar::default().add(header, b""), expected);
    }
}

#[test]
fn data_stays_in_place_only_in_plain_files() {
    let tar = Tar::default().file("a", b"abc").end();
    let archive = Archive::stream(std::io::Cursor::new(tar)).expect("a tar");
    let error = scan(
        archive,
        &Rules::default(),
        Whiteouts::Keep,
        &mut empty_tree(),
        Data::InPlace,
    );
    assert!(matches!(
        error,
        Err(TarError::NotSeekable { compression: None })
    ));
}
