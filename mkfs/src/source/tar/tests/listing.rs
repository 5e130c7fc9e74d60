//! What a scan made of an archive, in a form that tests compare.

use crate::source::tar::{Archive, Data, TarError, scan};
use crate::source::{Rules, StoreError, StreamSink, Whiteouts, default_root};
use crate::tree::{Body, DataRange, InodeId, Location, Metadata, Tree, TreeError, Xattr};
use erofs_format::device::DeviceNumber;
use erofs_format::inode::Timestamp;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Write};

/// An entry without regard to where its data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Directory,
    /// Size in bytes and pieces of data with their offsets.
    File(u64, Pieces),
    Symlink(Vec<u8>),
    CharDevice(DeviceNumber),
    BlockDevice(DeviceNumber),
    Fifo,
    Socket,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) metadata: Metadata,
    pub(super) nlink: u32,
    pub(super) content: Content,
}

impl Listed {
    /// The file's bytes, when it has no holes.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::File(0, pieces) if pieces.is_empty() => &[],
            Content::File(size, pieces) => match pieces.as_slice() {
                [(0, bytes)] if bytes.len() as u64 == *size => bytes,
                _ => panic!("it has holes: {pieces:?}"),
            },
            other => panic!("no file: {other:?}"),
        }
    }

    pub(super) fn xattr(&self, name: &str) -> Option<&[u8]> {
        let found = |xattr: &&Xattr| *xattr.name == *name.as_bytes();
        self.metadata
            .xattrs
            .iter()
            .find(found)
            .map(|xattr| &*xattr.value)
    }
}

pub(super) type Listing = BTreeMap<String, Listed>;

/// Pieces of data with their offsets in the file.
type Pieces = Vec<(u64, Vec<u8>)>;

/// Keeps data in memory.
#[derive(Default)]
struct Memory(Vec<Pieces>);

/// Cuts the stored bytes into the pieces that they are.
fn cut(bytes: &[u8], size: u64, ranges: Option<&[DataRange]>) -> Pieces {
    let whole = [DataRange {
        offset: 0,
        length: size,
    }];
    let mut rest = bytes;
    ranges
        .unwrap_or(&whole)
        .iter()
        .map(|range| {
            let (piece, tail) = rest.split_at(range.length as usize);
            rest = tail;
            (range.offset, piece.to_vec())
        })
        .collect()
}

impl StreamSink for Memory {
    fn store(
        &mut self,
        _path: &[u8],
        _metadata: &Metadata,
        size: u64,
        ranges: Option<&[DataRange]>,
        data: &mut dyn Read,
    ) -> Result<Location, StoreError> {
        let mut bytes = vec![];
        // The scan knows better why.
        data.read_to_end(&mut bytes)
            .map_err(|_| StoreError::Stopped)?;
        let expected = ranges.map_or(size, |ranges| ranges.iter().map(|r| r.length).sum());
        assert_eq!(bytes.len() as u64, expected);
        self.0.push(cut(&bytes, size, ranges));
        Ok(Location::Stored(
            u32::try_from(self.0.len() - 1).expect("few files"),
        ))
    }
}

/// A file in memory with these bytes, at its start.
pub(super) fn file_of(bytes: &[u8]) -> File {
    let file = rustix::fs::memfd_create("tar", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    let mut file = File::from(file);
    file.write_all(bytes).expect("memory");
    std::io::Seek::rewind(&mut file).expect("a file");
    file
}

pub(super) fn empty_tree() -> Tree {
    Tree::new(default_root(Timestamp::default())).expect("a root")
}

/// Scans from a file and from a stream; both must agree.
pub(super) fn list_with(
    bytes: &[u8],
    rules: &Rules,
    whiteouts: Whiteouts,
) -> Result<Listing, TarError> {
    let run = |archive: Archive| {
        let (mut tree, mut memory) = (empty_tree(), Memory::default());
        let data = match archive.file() {
            Some(_) => Data::InPlace,
            None => Data::Through(&mut memory),
        };
        let mut summary = scan(archive, rules, whiteouts, &mut tree, data)?;
        // Only a stream is read to its end to find out.
        summary.trailing = 0;
        let list = listing(tree, bytes, &memory)
            .map_err(|source| TarError::Place { offset: 0, source })?;
        Ok((summary, list))
    };
    let stream = Archive::stream(Cursor::new(bytes.to_vec())).and_then(run);
    let file = Archive::open(file_of(bytes)).and_then(run);
    match (stream, file) {
        (Ok(stream), Ok(file)) => {
            assert_eq!(stream, file);
            Ok(file.1)
        }
        (Err(stream), Err(file)) => {
            assert_eq!(stream.to_string(), file.to_string());
            Err(file)
        }
        (stream, file) => panic!("stream: {stream:?}, file: {file:?}"),
    }
}

pub(super) fn list(bytes: &[u8]) -> Result<Listing, TarError> {
    list_with(bytes, &Rules::default(), Whiteouts::Keep)
}

/// Walks the finished tree; data is in the archive or in memory.
fn listing(tree: Tree, archive: &[u8], memory: &Memory) -> Result<Listing, TreeError> {
    let tree = tree.finish()?;
    let mut list = Listing::new();
    let mut open = vec![(String::new(), InodeId::ROOT)];
    while let Some((path, id)) = open.pop() {
        let inode = tree.inode(id);
        for child in tree.children(id) {
            let name = String::from_utf8_lossy(child.name);
            open.push((format!("{path}/{name}"), child.inode));
        }
        let content = match inode.body {
            Body::Directory => Content::Directory,
            Body::Symlink(target) => Content::Symlink(tree.target(target).to_vec()),
            Body::CharDevice(number) => Content::CharDevice(number),
            Body::BlockDevice(number) => Content::BlockDevice(number),
            Body::Fifo => Content::Fifo,
            Body::Socket => Content::Socket,
            Body::Regular { size, location } => Content::File(
                size,
                match location {
                    Location::Nowhere => vec![],
                    Location::Archive { offset, sparse } => cut(
                        &archive[offset as usize..],
                        size,
                        sparse.map(|map| tree.sparse_map(map)),
                    ),
                    Location::Stored(n) => memory.0[n as usize].clone(),
                    other => panic!("{other:?}"),
                },
            ),
        };
        let listed = Listed {
            metadata: Metadata {
                permissions: inode.permissions,
                uid: inode.uid,
                gid: inode.gid,
                mtime: inode.mtime,
                xattrs: tree.xattrs.get(inode.xattrs).to_vec(),
            },
            nlink: inode.nlink,
            content,
        };
        list.insert(path, listed);
    }
    Ok(list)
}
