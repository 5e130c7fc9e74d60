//! Sparse files of all four layouts, and maps that lie.

use super::builder::{Header, Tar};
use super::listing::{Content, list};

const A: [u8; 512] = [b'a'; 512];
const B: [u8; 100] = [b'b'; 100];

fn expected() -> Content {
    Content::File(10_000, vec![(1024, A.to_vec()), (9_000, B.to_vec())])
}

fn data() -> Vec<u8> {
    [&A[..], &B].concat()
}

/// An old GNU sparse header with up to four pieces.
fn gnu(name: &str, pieces: &[(u64, u64)], stored: u64, size: u64) -> Header {
    let header = Header::gnu(name, b'S', stored).with(483, format!("{size:011o}\0").as_bytes());
    pieces
        .iter()
        .enumerate()
        .fold(header, |header, (n, piece)| {
            header.with(386 + n * 24, &encoded(*piece))
        })
}

fn encoded((offset, length): (u64, u64)) -> Vec<u8> {
    format!("{offset:011o}\0{length:011o}\0").into_bytes()
}

fn extension(pieces: &[(u64, u64)], more: bool) -> Vec<u8> {
    let mut block: Vec<u8> = pieces.iter().flat_map(|piece| encoded(*piece)).collect();
    block.resize(512, 0);
    block[504] = u8::from(more);
    block
}

#[test]
fn four_layouts_mean_the_same() {
    let stored = data().len() as u64;
    let map = b"3\n1024\n512\n9000\n100\n10000\n0\n";
    let mut in_data = map.to_vec();
    in_data.resize(512, 0);
    in_data.extend_from_slice(&data());
    let tar = Tar::default()
        .add(
            gnu(
                "gnu",
                &[(1024, 512), (9000, 100), (10_000, 0)],
                stored,
                10_000,
            ),
            &data(),
        )
        .pax(
            b'x',
            &[
                ("GNU.sparse.size", b"10000"),
                ("GNU.sparse.numblocks", b"3"),
                ("GNU.sparse.offset", b"1024"),
                ("GNU.sparse.numbytes", b"512"),
                ("GNU.sparse.offset", b"9000"),
                ("GNU.sparse.numbytes", b"100"),
                ("GNU.sparse.offset", b"10000"),
                ("GNU.sparse.numbytes", b"0"),
            ],
        )
        .file("pax00", &data())
        .pax(
            b'x',
            &[
                ("GNU.sparse.name", b"pax01"),
                ("GNU.sparse.size", b"10000"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.map", b"1024,512,9000,100"),
            ],
        )
        .file("GNUSparseFile.1/pax01", &data())
        .pax(
            b'x',
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("path", b"GNUSparseFile.1/pax10"),
                ("GNU.sparse.name", b"pax10"),
                ("GNU.sparse.realsize", b"10000"),
            ],
        )
        .file("GNUSparseFile.1/pax10", &in_data)
        .file("after", b"all")
        .end();
    let list = list(&tar).expect("valid");
    for path in ["/gnu", "/pax00", "/pax01", "/pax10"] {
        assert_eq!(list[path].content, expected(), "{path}");
    }
    assert_eq!(list["/after"].bytes(), b"all");
    assert_eq!(list.len(), 6);
}

#[test]
fn old_gnu_maps_go_on_in_extension_blocks() {
    let pieces: Vec<_> = (0..30).map(|n| (n * 1000, 10)).collect();
    let data = [b'x'; 300];
    let tar = Tar::default()
        .raw(
            &gnu("many", &pieces[..4], 300, 50_000)
                .with(482, &[1])
                .block(false),
        )
        .raw(&extension(&pieces[4..25], true))
        .raw(&extension(&pieces[25..], false))
        .raw(&data)
        .pad()
        // Full to the last piece, then an extension without any.
        .raw(
            &gnu("full", &pieces[..4], 40, 50_000)
                .with(482, &[1])
                .block(false),
        )
        .raw(&extension(&[], false))
        .raw(&data[..40])
        .pad()
        .file("after", b"all")
        .end();
    let list = list(&tar).expect("valid");
    let Content::File(50_000, found) = &list["/many"].content else {
        panic!("{list:?}");
    };
    assert_eq!(found.len(), 30);
    assert!(
        found
            .iter()
            .zip(&pieces)
            .all(|(found, piece)| found.0 == piece.0)
    );
    assert_eq!(list["/after"].bytes(), b"all");
}

#[test]
fn holes_alone_have_no_data_and_no_holes_no_map() {
    let tar = Tar::default()
        .add(gnu("hole", &[(1 << 32, 0)], 0, 1 << 32), b"")
        .add(gnu("whole", &[(0, 60), (60, 40)], 100, 100), &B)
        .add(gnu("nothing", &[], 0, 0), b"")
        .pax(
            b'x',
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"huge"),
                ("GNU.sparse.realsize", b"9223372036854775807"),
            ],
        )
        .file("x", b"0\n")
        .end();
    // A map that says nothing, and less data than its one block: refused.
    let message = list(&tar).expect_err("short").to_string();
    assert_eq!(
        message,
        "huge: sparse map: it is incomplete (tar member at offset 3072)"
    );
    let mut map = b"0\n".to_vec();
    map.resize(512, 0);
    let tar = Tar::default()
        .add(gnu("hole", &[(1 << 32, 0)], 0, 1 << 32), b"")
        .add(gnu("whole", &[(0, 60), (60, 40)], 100, 100), &B)
        .add(gnu("nothing", &[], 0, 0), b"")
        .pax(
            b'x',
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"huge"),
                ("GNU.sparse.realsize", b"9223372036854775807"),
            ],
        )
        .file("x", &map)
        .end();
    let list = list(&tar).expect("valid");
    assert_eq!(list["/hole"].content, Content::File(1 << 32, vec![]));
    assert_eq!(list["/whole"].bytes(), B);
    assert_eq!(list["/nothing"].bytes(), b"");
    assert_eq!(
        list["/huge"].content,
        Content::File(i64::MAX as u64, vec![])
    );
}

#[test]
fn maps_that_lie_are_refused() {
    let stored = data().len() as u64;
    let cases = [
        (
            gnu("m", &[(9000, 512), (1024, 100)], stored, 10_000),
            "the piece at 1024 (+100) overlaps the one before it or ends after the file",
        ),
        (
            gnu("m", &[(0, 512), (9000, 100)], stored, 9_050),
            "the piece at 9000 (+100) overlaps the one before it or ends after the file",
        ),
        (
            gnu("m", &[(0, 512), (9000, 50)], stored, 10_000),
            "its pieces have 562 bytes, but 612 are stored",
        ),
        (
            gnu("m", &[(0, 512), (9000, 100)], stored, 10_000).with(386, &[0xFF; 12]),
            "a number is out of range",
        ),
        (
            gnu("m", &[(0, 512), (9000, 100)], stored, 10_000).with(398, b"9"),
            "a number is not a number",
        ),
        (
            gnu("m", &[(0, 512), (9000, 100)], stored, 10_000).with(482, &[1]),
            "it is incomplete",
        ),
        (
            gnu("m", &[(0, 512), (9000, 100)], stored, 10_000).with(483, &[0xFF; 12]),
            "a number is out of range",
        ),
    ];
    for (header, problem) in cases {
        let tar = Tar::default().add(header, &data()).end();
        assert_eq!(
            list(&tar).expect_err(problem).to_string(),
            format!("m: sparse map: {problem} (tar member at offset 0)")
        );
    }
    for (records, problem) in [
        (
            &[("GNU.sparse.map", &b"0,3"[..])][..],
            "the size of the file is missing",
        ),
        (
            &[("GNU.sparse.major", b"3"), ("GNU.sparse.realsize", b"3")],
            "version 3.0 is unknown",
        ),
        (
            &[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"0,1,5,1")],
            "its pieces have 2 bytes, but 3 are stored",
        ),
    ] {
        let tar = Tar::default().pax(b'x', records).file("m", b"abc").end();
        assert_eq!(
            list(&tar).expect_err(problem).to_string(),
            format!("m: sparse map: {problem} (tar member at offset 1024)")
        );
    }
}
