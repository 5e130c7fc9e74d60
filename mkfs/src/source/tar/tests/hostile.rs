//! Whatever the bytes are, a scan ends, and says the same from a file and from a stream.

use super::builder::{Header, Tar};
use super::listing::{list, list_with};
use crate::source::{Rules, Whiteouts};
use proptest::prelude::*;

/// An archive with a bit of everything.
fn seed() -> Vec<u8> {
    let mut map = b"2\n0\n5\n600\n4\n".to_vec();
    map.resize(512, 0);
    map.extend_from_slice(b"123456789");
    Tar::default()
        .pax(b'g', &[("mtime", b"1.5"), ("comment", b"c")])
        .add(Header::ustar("d/", b'5', 0), b"")
        .pax(
            b'x',
            &[
                ("SCHILY.xattr.user.x", b"value"),
                (
                    "SCHILY.acl.access",
                    b"user::rwx,user:1:r-x,group::r-x,mask::rwx,other::r",
                ),
            ],
        )
        .file("d/f", b"content")
        .add(Header::gnu("L", b'L', 5), b"long\0")
        .add(Header::gnu("x", b'1', 0).link("d/f"), b"")
        .pax(
            b'x',
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"sparse"),
                ("GNU.sparse.realsize", b"1000"),
            ],
        )
        .file("x", &map)
        .add(
            Header::gnu("S", b'S', 3)
                .with(386, b"00000000001\x0000000000003\0")
                .with(483, b"00000000100\0"),
            b"abc",
        )
        .file("d/.wh.gone", b"")
        .add(Header::ustar("soft", b'2', 0).link("target"), b"")
        .end()
}

/// Makes the checksums right again wherever a block looks like a header, or no mutation would get past them.
fn repair(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[148..156].ends_with(b"\0 ") {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

#[test]
fn the_seed_is_valid() {
    let mut bytes = seed();
    repair(&mut bytes);
    assert_eq!(bytes, seed());
    assert_eq!(list(&bytes).expect("valid").len(), 8);
}

#[test]
fn headers_in_front_of_a_member_do_not_add_up_without_limit() {
    let value = vec![b'v'; 60_000];
    let record = ("SCHILY.xattr.user.x", value.as_slice());
    for scope in [b'x', b'g'] {
        let headers = (0..40).fold(Tar::default(), |tar, _| tar.pax(scope, &[record]));
        let tar = headers.file("f", b"").end();
        let error = list(&tar).expect_err("more than a MiB").to_string();
        assert!(error.contains("more than 1048576 bytes"), "{error}");
    }
    let tar = Tar::default().pax(b'g', &[("path", b"all")]);
    let error = list(&tar.file("f", b"").end()).expect_err("one name for all");
    assert!(error.to_string().contains("path in a global header"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = list(&bytes);
    }

    #[test]
    fn mutations_end(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        overlay: bool,
    ) {
        let mut bytes = seed();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        repair(&mut bytes);
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let whiteouts = if overlay { Whiteouts::Overlay } else { Whiteouts::Keep };
        let _ = list_with(&bytes, &Rules::default(), whiteouts);
    }
}
