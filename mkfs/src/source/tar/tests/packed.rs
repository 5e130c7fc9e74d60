//! Compressed archives through the whole scan.

use super::builder::Tar;
use super::listing::{file_of, list};
use crate::source::tar::{Archive, Compression, TarError};
use std::io::{Seek, SeekFrom, Write};

fn tar() -> Vec<u8> {
    Tar::default()
        .file("small", b"abc")
        .file("large", &[b'x'; 3_000_000])
        .end()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn compressed_archives_are_streams() {
    let packed = gzip(&tar());
    let archive = Archive::open(file_of(&packed)).expect("gzip");
    assert_eq!(archive.compression(), Some(Compression::Gzip));
    assert!(archive.file().is_none());
    let list = list(&packed).expect("valid");
    assert_eq!(list["/large"].bytes().len(), 3_000_000);
}

#[test]
fn plain_files_are_read_in_place_from_their_start_only() {
    let mut file = file_of(&tar());
    assert!(
        Archive::open(file.try_clone().expect("a file"))
            .expect("a tar")
            .file()
            .is_some()
    );
    file.seek(SeekFrom::Start(1024)).expect("a file");
    assert!(Archive::open(file).expect("a tar").file().is_none());
}

#[test]
fn damaged_compression_names_member_and_both_offsets() {
    let packed = gzip(&tar());
    let message = list(&packed[..packed.len() - 4])
        .expect_err("truncated")
        .to_string();
    assert!(
        message.contains("reading the tar at offset")
            && message.contains("gzip data near compressed offset")
            && message.ends_with("it is truncated"),
        "{message}"
    );
    // The end mark is there, what is wrong comes after it.
    let trailing = [&packed[..], b"garbage"].concat();
    assert!(matches!(list(&trailing), Err(TarError::Read { .. })));
}

#[test]
fn other_compressions_are_named() {
    let message = Archive::open(file_of(b"\x1F\x9Dwhatever"))
        .expect_err("compress")
        .to_string();
    assert_eq!(
        message,
        "the archive is compressed with compress, which is not supported; decompress it first and pass the tar on stdin"
    );
}
