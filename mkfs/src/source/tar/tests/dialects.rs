//! Every dialect, read right.

use super::builder::{Header, Tar};
use super::listing::{Content, list, list_with};
use crate::source::{Rules, Whiteouts};
use erofs_format::device::DeviceNumber;
use erofs_format::inode::Timestamp;

fn at(seconds: i64, nanoseconds: u32) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds,
    }
}

#[test]
fn ustar_holds_all_types() {
    let long = "d".repeat(90);
    let tar = Tar::default()
        .add(Header::ustar("./", b'5', 0).with(100, b"0000700\0"), b"")
        .add(Header::ustar("dir/", b'5', 0).with(100, b"0041755\0"), b"")
        .file("dir/file", b"content")
        .add(Header::ustar("tight", b'7', 3), b"abc")
        .add(Header::ustar("old", 0, 3), b"old")
        .add(Header::ustar("hard", b'1', 0).link("./dir/file"), b"")
        .add(Header::ustar("soft", b'2', 0).link("../any/where"), b"")
        .add(
            Header::ustar("char", b'3', 0)
                .with(329, b"0007777\0")
                .with(337, b"3777777\0"),
            b"",
        )
        .add(
            Header::ustar("block", b'4', 0)
                .with(329, b"0000010\0")
                .with(337, b"0000001\0"),
            b"",
        )
        .add(Header::ustar("fifo", b'6', 0).with(100, b"0007644\0"), b"")
        .add(
            Header::ustar("name", b'0', 0).with(345, long.as_bytes()),
            b"",
        )
        .add(
            Header::ustar(&"n".repeat(100), b'0', 0).with(345, "p/".repeat(77).as_bytes()),
            b"",
        )
        .end();
    let list = list(&tar).expect("valid");
    assert_eq!(list[""].metadata.permissions, 0o700);
    assert_eq!(list["/dir"].metadata.permissions, 0o1755);
    let file = &list["/dir/file"];
    assert_eq!(
        (
            file.bytes(),
            file.metadata.uid,
            file.metadata.gid,
            file.nlink
        ),
        (&b"content"[..], 7, 8, 2)
    );
    assert_eq!(file.metadata.mtime, at(1000, 0));
    assert_eq!(list["/hard"].bytes(), b"content");
    assert_eq!(list["/tight"].bytes(), b"abc");
    assert_eq!(list["/old"].bytes(), b"old");
    assert_eq!(
        list["/soft"].content,
        Content::Symlink(b"../any/where".to_vec())
    );
    assert_eq!(
        list["/char"].content,
        Content::CharDevice(DeviceNumber {
            major: 4095,
            minor: (1 << 20) - 1
        })
    );
    assert_eq!(
        list["/block"].content,
        Content::BlockDevice(DeviceNumber { major: 8, minor: 1 })
    );
    assert_eq!(list["/fifo"].content, Content::Fifo);
    assert_eq!(list["/fifo"].metadata.permissions, 0o7644);
    assert!(list.contains_key(&format!("/{long}/name")));
    let deep = format!("/{}{}", "p/".repeat(77), "n".repeat(100));
    assert!(list.contains_key(&deep), "{list:?}");
}

#[test]
fn v7_has_no_magic_and_directories_end_with_a_slash() {
    let tar = Tar::default()
        .add(Header::v7("dir/", 0, 0).with(345, b"no prefix"), b"")
        .add(Header::v7("dir/file", 0, 3), b"abc")
        .add(Header::v7("link", b'1', 3).link("dir/file"), b"")
        .add(Header::v7("soft", b'2', 0).link("dir"), b"")
        // Numbers with blanks, as the first tars wrote them.
        .add(
            Header::v7("blank", 0, 1)
                .with(100, b"   644 \0")
                .with(124, b"          1 "),
            b"x",
        )
        .end();
    let list = list(&tar).expect("valid");
    assert_eq!(list["/dir"].content, Content::Directory);
    assert_eq!(list["/link"].bytes(), b"abc");
    assert_eq!(list["/soft"].content, Content::Symlink(b"dir".to_vec()));
    assert_eq!(list["/blank"].bytes(), b"x");
    assert_eq!(list.len(), 6);
}

#[test]
fn gnu_has_long_names_labels_and_binary_numbers() {
    let name = "n/".repeat(200) + "end";
    let target = "t".repeat(4095);
    let tar = Tar::default()
        .add(Header::gnu("label", b'V', 0), b"")
        .add(
            Header::gnu("././@LongLink", b'L', name.len() as u64 + 1),
            format!("{name}\0").as_bytes(),
        )
        .add(
            Header::gnu("././@LongLink", b'K', target.len() as u64 + 1),
            format!("{target}\0").as_bytes(),
        )
        .add(Header::gnu("cut off", b'2', 0).link("cut off"), b"")
        .add(
            Header::gnu("dump/", b'D', 7).with(345, b"00000000000"),
            b"Yfile\0\0",
        )
        .add(
            Header::gnu("binary", b'0', 2)
                .with(108, &[0x80, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFE])
                .with(124, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2])
                .with(
                    136,
                    &[
                        0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE,
                    ],
                ),
            b"ab",
        )
        .add(
            Header::gnu("late", b'0', 0).with(136, &[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]),
            b"",
        )
        .end();
    let list = list(&tar).expect("valid");
    assert_eq!(
        list[&format!("/{name}")].content,
        Content::Symlink(target.into_bytes())
    );
    assert_eq!(list["/dump"].content, Content::Directory);
    let binary = &list["/binary"];
    assert_eq!(binary.bytes(), b"ab");
    assert_eq!(binary.metadata.uid, u32::MAX - 1);
    assert_eq!(binary.metadata.mtime, at(-2, 0));
    assert_eq!(list["/late"].metadata.mtime, at(1 << 33, 0));
    assert!(!list.contains_key("/label"));
}

#[test]
fn star_has_a_shorter_prefix() {
    let star = |name| {
        Header::ustar(name, b'0', 0)
            .with(345, b"prefix")
            .with(508, b"tar\0")
    };
    let tar = Tar::default()
        .add(
            star("new")
                .with(476, b"00000001750 ")
                .with(488, b"00000001750 "),
            b"",
        )
        // The mark without magic, and a POSIX prefix of full length under the mark.
        .add(star("first").with(257, &[0; 8]), b"")
        .add(star("posix").with(345, "p".repeat(155).as_bytes()), b"")
        .end();
    let list = list(&tar).expect("valid");
    let names: Vec<_> = list.keys().filter(|path| path.len() > 1).collect();
    let long = format!("/{}", "p".repeat(155));
    assert_eq!(
        names,
        [
            &*long,
            &format!("{long}/posix"),
            "/prefix",
            "/prefix/first",
            "/prefix/new"
        ]
    );
}

#[test]
fn pax_records_count_before_everything_else() {
    let long = "é".repeat(127);
    let tar = Tar::default()
        .pax(
            b'x',
            &[
                ("path", long.as_bytes()),
                ("uid", b"4294967294"),
                ("gid", b"70000"),
                ("mtime", b"-1.5"),
                ("size", b"3"),
                ("uname", b"somebody"),
                ("comment", b"any"),
                ("hdrcharset", b"BINARY"),
                ("SCHILY.ino", b"12"),
                ("SCHILY.fflags", b"nodump"),
            ],
        )
        .add(Header::gnu("././@LongLink", b'L', 6), b"wrong\0")
        .add(
            // What the records replace need not even be a number.
            Header::ustar("wrong", b'0', 0)
                .with(108, b"garbage")
                .with(116, b"garbage")
                .with(124, b"garbage")
                .with(136, b"garbage"),
            b"abc",
        )
        .pax(
            b'x',
            &[
                ("linkpath", b"a=b\nc"),
                ("mtime", b"253402300800.000000001"),
            ],
        )
        .add(Header::ustar("soft", b'2', 0).link("wrong"), b"")
        .pax(
            b'x',
            &[("SCHILY.devmajor", b"300"), ("SCHILY.devminor", b"70000")],
        )
        .add(Header::ustar("device", b'3', 0), b"")
        .pax(b'x', &[("SCHILY.filetype", b"socket")])
        .add(Header::ustar("socket", b'0', 0), b"")
        // Solaris' letter, and an old directory whose name does not fit.
        .pax(b'X', &[("path", b"dir/")])
        .add(Header::ustar("x", b'0', 0), b"")
        .end();
    let list = list(&tar).expect("valid");
    let file = &list[&format!("/{long}")];
    assert_eq!(file.bytes(), b"abc");
    assert_eq!(
        (file.metadata.uid, file.metadata.gid),
        (u32::MAX - 1, 70000)
    );
    assert_eq!(file.metadata.mtime, at(-2, 500_000_000));
    assert_eq!(list["/soft"].content, Content::Symlink(b"a=b\nc".to_vec()));
    assert_eq!(list["/soft"].metadata.mtime, at(253_402_300_800, 1));
    assert_eq!(
        list["/device"].content,
        Content::CharDevice(DeviceNumber {
            major: 300,
            minor: 70000
        })
    );
    assert_eq!(list["/socket"].content, Content::Socket);
    assert_eq!(list["/dir"].content, Content::Directory);
}

#[test]
fn global_records_hold_until_replaced_or_reset() {
    let empty = |name| Header::ustar(name, b'0', 0);
    let tar = Tar::default()
        .pax(
            b'g',
            &[
                ("uid", b"100"),
                ("gid", b"200"),
                ("mtime", b"5.5"),
                ("comment", b"0123456789abcdef"),
                ("SCHILY.xattr.user.all", b"1"),
            ],
        )
        .add(empty("plain"), b"")
        .pax(b'x', &[("uid", b"300"), ("SCHILY.xattr.user.all", b"2")])
        .add(empty("own"), b"")
        .pax(b'x', &[("uid", b""), ("mtime", b"")])
        .add(empty("reset"), b"")
        .pax(b'g', &[("uid", b"400")])
        .add(empty("later"), b"")
        .pax(b'g', &[("uid", b""), ("gid", b""), ("mtime", b"")])
        .add(empty("none"), b"")
        .end();
    let list = list(&tar).expect("valid");
    let metadata = |path: &str| {
        let metadata = &list[path].metadata;
        (metadata.uid, metadata.gid, metadata.mtime)
    };
    assert_eq!(metadata("/plain"), (100, 200, at(5, 500_000_000)));
    assert_eq!(metadata("/own"), (300, 200, at(5, 500_000_000)));
    assert_eq!(metadata("/reset"), (7, 200, at(1000, 0)));
    assert_eq!(metadata("/later"), (400, 200, at(5, 500_000_000)));
    assert_eq!(metadata("/none"), (7, 8, at(1000, 0)));
    assert_eq!(list["/plain"].xattr("user.all"), Some(&b"1"[..]));
    assert_eq!(list["/own"].xattr("user.all"), Some(&b"2"[..]));
}

#[test]
fn attributes_come_in_all_spellings() {
    let tar = Tar::default()
        .pax(
            b'x',
            &[
                ("SCHILY.xattr.user.binary", b"a=b\0\n\xFF"),
                ("SCHILY.xattr.user.empty", b""),
                ("SCHILY.xattr.user.a%3Db%25", b"gnu"),
                ("SCHILY.xattr.security.capability", b"\x01\0\0\x02"),
                ("SCHILY.xattr.trusted.t", b"t"),
                ("SCHILY.xattr.system.posix_acl_default", b"\x02\0\0\0"),
                ("LIBARCHIVE.xattr.user.%c3%A9", b"aGFsbG8"),
                ("LIBARCHIVE.xattr.user.binary", b"YT1iAAr/"),
                ("LIBARCHIVE.creationtime", b"7"),
                ("RHT.security.selinux", b"system_u:object_r:bin_t:s0"),
                (
                    "SCHILY.acl.access",
                    b"user::rwx,user:501:r-x,group::r-x,mask::r-x,other::r--",
                ),
            ],
        )
        .file("file", b"")
        .end();
    let file = &list(&tar).expect("valid")["/file"];
    assert_eq!(file.metadata.xattrs.len(), 9);
    for (name, value) in [
        ("user.binary", &b"a=b\0\n\xFF"[..]),
        ("user.empty", b""),
        ("user.a=b%", b"gnu"),
        ("security.capability", b"\x01\0\0\x02"),
        ("trusted.t", b"t"),
        ("system.posix_acl_default", b"\x02\0\0\0"),
        ("user.é", b"hallo"),
        ("security.selinux", b"system_u:object_r:bin_t:s0\0"),
    ] {
        assert_eq!(file.xattr(name), Some(value), "{name}");
    }
    let acl = file.xattr("system.posix_acl_access").expect("converted");
    assert_eq!(acl.len(), 4 + 5 * 8);
    assert_eq!(file.metadata.permissions, 0o754);
}

#[test]
fn what_rules_say_is_done() {
    let tar = Tar::default()
        .file("keep", b"abc")
        .file("./drop/below/x", b"data that is left out")
        .pax(
            b'x',
            &[
                ("SCHILY.xattr.user.x", b"1"),
                // Not looked at when attributes are dropped anyway.
                ("SCHILY.acl.access", b"user:somebody:r--"),
                ("LIBARCHIVE.xattr.user.y", b"!"),
            ],
        )
        .file("attributes", b"")
        .end();
    let rules = Rules {
        force_uid: Some(1),
        force_gid: Some(2),
        fixed_time: Some(at(3, 4)),
        drop_xattrs: true,
        excluded: vec![b"drop".to_vec()],
        ..Rules::default()
    };
    let list = list_with(&tar, &rules, Whiteouts::Keep).expect("valid");
    assert_eq!(
        list.keys().collect::<Vec<_>>(),
        ["", "/attributes", "/keep"]
    );
    let metadata = &list["/attributes"].metadata;
    assert_eq!(
        (metadata.uid, metadata.gid, metadata.mtime),
        (1, 2, at(3, 4))
    );
    assert_eq!(metadata.xattrs, []);
}

#[test]
fn members_may_repeat_come_late_and_lack_parents() {
    let tar = Tar::default()
        .add(Header::ustar("early", b'1', 0).link("a/b/c"), b"")
        .file("./a/b/c", b"first")
        .file("a//b/./c", b"second")
        .file("/a/b/d", b"absolute")
        .file("x", b"file")
        .add(Header::ustar("x/", b'5', 0), b"")
        .file("x/y", b"")
        .end();
    let list = list(&tar).expect("valid");
    assert_eq!(list["/early"].bytes(), b"second");
    assert_eq!(list["/a/b/c"].bytes(), b"second");
    assert_eq!(list["/a/b/d"].bytes(), b"absolute");
    assert_eq!(list["/a"].metadata.permissions, 0o755);
    assert_eq!(list["/x"].content, Content::Directory);
    assert!(list.contains_key("/x/y"));
}

#[test]
fn sizes_of_what_has_no_data_mean_nothing() {
    let tar = Tar::default()
        .file("a", b"abc")
        .add(Header::gnu("hard", b'1', 3).link("a"), b"")
        .add(Header::gnu("soft", b'2', 3).link("a"), b"")
        .add(Header::gnu("char", b'3', 3), b"")
        .add(Header::gnu("dir", b'5', 4096), b"")
        .add(Header::gnu("fifo", b'6', 3).with(124, b"-1"), b"")
        .file("z", b"end")
        .end();
    let list = list(&tar).expect("valid");
    assert_eq!(list.len(), 8);
    assert_eq!(list["/z"].bytes(), b"end");
}

#[test]
fn signed_checksums_count() {
    let header = || Header::v7("caf\u{e9}\u{e9}\u{e9}", b'0', 1);
    assert_ne!(header().block(true), header().block(false));
    for signed in [true, false] {
        let tar = Tar::default()
            .raw(&header().block(signed))
            .raw(b"x")
            .pad()
            .end();
        assert_eq!(list(&tar).expect("valid").len(), 2);
    }
}

#[test]
fn the_end_has_many_forms() {
    let tar = || Tar::default().file("a", b"abc").file("b", b"def");
    let whole = tar().bytes();
    let cases = [
        ("two zero blocks", tar().end()),
        ("nothing", whole.clone()),
        (
            "no padding of the last member",
            whole[..whole.len() - 509].to_vec(),
        ),
        ("one zero block", tar().raw(&[0; 512]).bytes()),
        ("one zero block and a half", tar().raw(&[0; 700]).bytes()),
        ("a record of zeros", tar().raw(&[0; 10240]).bytes()),
        ("garbage", tar().raw(&[0; 1024]).raw(&[7; 3000]).bytes()),
        (
            "lone zero block, garbage",
            tar().raw(&[0; 512]).raw(&[7; 3000]).bytes(),
        ),
        (
            "another archive",
            tar().raw(&[0; 1024]).file("c", b"").end(),
        ),
    ];
    for (name, bytes) in cases {
        let list = list(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(list.keys().collect::<Vec<_>>(), ["", "/a", "/b"], "{name}");
    }
    assert_eq!(list(&Tar::default().end()).expect("no members").len(), 1);
}
