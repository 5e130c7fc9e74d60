//! Scans arbitrary bytes as a tar, from a file and from a stream.
//!
//! Invariants: no panic, no hang; both ways give the same error, or the same tree with the same data. Of compressed input only
//! lzip and lzma are decoded, whose framing is ours; the rest is left to the fuzzers of the decoders.

use erofs_format::inode::Timestamp;
use erofs_mkfs::source::tar::{Archive, Compression, Data, TarError, scan};
use erofs_mkfs::source::{Rules, StoreError, StreamSink, Whiteouts, default_root};
use erofs_mkfs::tree::{Body, DataRange, FrozenTree, Location, Metadata, Tree};
use std::fs::File;
use std::io::{Cursor, Read, Seek, Write};

/// Keeps data in memory.
#[derive(Default)]
struct Memory(Vec<Vec<u8>>);

impl StreamSink for Memory {
    fn store(
        &mut self,
        _path: &[u8],
        _metadata: &Metadata,
        size: u64,
        ranges: Option<&[DataRange]>,
        data: &mut dyn Read,
    ) -> Result<Location, StoreError> {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes)
            .map_err(|_| StoreError::Stopped)?;
        let expected = ranges.map_or(size, |ranges| ranges.iter().map(|range| range.length).sum());
        assert_eq!(bytes.len() as u64, expected);
        if let Some(ranges) = ranges {
            assert!(ranges.iter().all(|range| range.length > 0));
            assert!(ranges.is_sorted_by(|a, b| a.offset + a.length < b.offset));
            assert!(
                ranges
                    .last()
                    .is_none_or(|last| last.offset + last.length <= size)
            );
        }
        self.0.push(bytes);
        Ok(Location::Stored(
            u32::try_from(self.0.len() - 1).expect("few files"),
        ))
    }
}

/// Makes checksums right wherever a block looks like a header, or hardly any input would get past the first.
fn repair(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[154..156] == *b"\0 " {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

fn file_of(bytes: &[u8]) -> File {
    let file = rustix::fs::memfd_create("tar", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    let mut file = File::from(file);
    file.write_all(bytes).expect("memory");
    file.rewind().expect("a file");
    file
}

fn scan_all(archive: Archive, whiteouts: Whiteouts) -> Result<(FrozenTree, Memory), TarError> {
    let mut tree = Tree::new(default_root(Timestamp::default())).expect("a root");
    let mut memory = Memory::default();
    let data = match archive.file() {
        Some(_) => Data::InPlace,
        None => Data::Through(&mut memory),
    };
    scan(archive, &Rules::default(), whiteouts, &mut tree, data)?;
    let tree = tree
        .finish()
        .map_err(|source| TarError::Place { offset: 0, source })?;
    Ok((tree, memory))
}

/// Everything about a tree, with the data of its files.
fn describe((tree, memory): &(FrozenTree, Memory), archive: &[u8]) -> Vec<String> {
    tree.breadth_first()
        .map(|id| {
            let inode = tree.inode(id);
            let body = match inode.body {
                Body::Symlink(target) => format!("{:?}", tree.target(target)),
                Body::Regular { size, location } => {
                    let data = match location {
                        Location::Archive { offset, sparse } => {
                            let stored = sparse.map_or(size, |map| {
                                tree.sparse_map(map).iter().map(|range| range.length).sum()
                            });
                            &archive[offset as usize..][..stored as usize]
                        }
                        Location::Stored(n) => &memory.0[n as usize],
                        _ => &[],
                    };
                    format!("{size} {data:?}")
                }
                other => format!("{other:?}"),
            };
            let xattrs = tree.xattrs.get(inode.xattrs);
            format!(
                "{:?} {:o} {} {} {:?} {} {xattrs:?} {body}",
                tree.path(id),
                inode.mode(),
                inode.uid,
                inode.gid,
                inode.mtime,
                inode.nlink
            )
        })
        .collect()
}

/// Whether it is worth to decode an archive, which is short enough to do so in no time.
fn is_ours(archive: &Archive, bytes: &[u8]) -> bool {
    const LONGEST: usize = 2048;
    let ours = [Some(Compression::Lzip), Some(Compression::Lzma)];
    ours.contains(&archive.compression()) && bytes.len() <= LONGEST
}

/// Runs the target.
pub fn run(data: &[u8]) {
    let Some((selector, bytes)) = data.split_first() else {
        return;
    };
    let whiteouts = match selector % 4 {
        0 => Whiteouts::Keep,
        1 => Whiteouts::Overlay,
        2 => Whiteouts::OverlayUser,
        _ => Whiteouts::Strip,
    };
    let mut bytes = bytes.to_vec();
    repair(&mut bytes);
    let (stream, file) = match (
        Archive::stream(Cursor::new(bytes.clone())),
        Archive::open(file_of(&bytes)),
    ) {
        (Ok(stream), Ok(file)) if stream.compression().is_none() => (stream, file),
        (Ok(stream), Ok(_)) if is_ours(&stream, &bytes) => {
            // It is what it is: the tar inside has been here before.
            let _ = scan_all(stream, whiteouts);
            return;
        }
        (Ok(_), Ok(_)) | (Err(_), Err(_)) => return,
        (stream, file) => panic!("{stream:?} {file:?}"),
    };
    match (scan_all(stream, whiteouts), scan_all(file, whiteouts)) {
        (Ok(stream), Ok(file)) => assert_eq!(describe(&stream, &[]), describe(&file, &bytes)),
        (Err(stream), Err(file)) => assert_eq!(stream.to_string(), file.to_string()),
        (stream, file) => panic!("{:?} {:?}", stream.map(|_| ()), file.map(|_| ())),
    }
}
