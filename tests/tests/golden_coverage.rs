//! The golden images have every structure of the format that Linux 7.2 reads, so that reading them all proves something.

use std::{collections::BTreeSet, fs};

use erofs_format::{
    ByteOffset,
    chunk::ChunkFormat,
    compression::map_header::{self, MapHeader},
    inode::{DataLayout, InodePayload},
    xattr,
};
use erofs_reader::{Image, Inode, Place, Stored, metadata::Area};
use erofs_tests::{golden::Golden, workshop::open};

/// What must be somewhere. Names of flags are those of the format crate.
const WANTED: &str = "
    block 512, block 1024, block 2048, block 4096, block 65536,
    SB_CHKSUM, MTIME, XATTR_FILTER, SHARED_EA_IN_METABOX, PLAIN_XATTR_PFX, ISHARE_XATTRS,
    ZERO_PADDING, COMPR_CFGS_OR_BIG_PCLUSTER, CHUNKED_FILE, DEVICE_TABLE_OR_COMPR_HEAD2, ZTAILPACKING,
    FRAGMENTS_OR_DEDUPE, XATTR_PREFIXES, BIT48, METABOX,
    compact inode, extended inode, inode in metabox, root in metabox, \".\" omitted,
    FlatPlain, FlatInline, CompressedFull, CompressedCompact, ChunkBased,
    block map, chunk index, 48-bit chunk index,
    whole fragment, records B4, records B8, records B16, records B32,
    COMPACTED_2B, BIG_PCLUSTER_1, BIG_PCLUSTER_2, INLINE_PCLUSTER, INTERLACED_PCLUSTER, FRAGMENT_PCLUSTER,
    Lz4, Lzma, Deflate, Zstd, HEAD2 in use, partial reference, inline pcluster, hole in a compressed file,
    hole in chunks, extra device, compressed directory
";

fn seen(image: &Image, bytes: &[u8], found: &mut BTreeSet<String>) {
    let superblock = image.superblock();
    found.insert(format!("block {}", superblock.block_bits.bytes()));
    found.extend(
        superblock
            .compat
            .iter_names()
            .map(|(name, _)| name.to_owned()),
    );
    found.extend(
        superblock
            .incompat
            .iter_names()
            .map(|(name, _)| name.to_owned()),
    );
    if superblock.root.in_metabox() {
        found.insert("root in metabox".into());
    }
    let special = [superblock.packed, superblock.metabox];
    let special = special
        .into_iter()
        .flatten()
        .map(|nid| image.inode(nid).expect("well-formed"));
    let listed = image
        .walk()
        .expect("a root")
        .map(|entry| entry.expect("well-formed").inode);
    for inode in special.chain(listed) {
        inode_seen(image, &inode, bytes, found);
    }
}

fn inode_seen(image: &Image, inode: &Inode, bytes: &[u8], found: &mut BTreeSet<String>) {
    let mut note = |what: &str| {
        found.insert(what.to_owned());
    };
    note(if inode.extended {
        "extended inode"
    } else {
        "compact inode"
    });
    if inode.nid().in_metabox() {
        note("inode in metabox");
    }
    if inode.dot_omitted {
        note("\".\" omitted");
    }
    note(&format!("{:?}", inode.layout));
    if let InodePayload::ChunkFormat(format) = inode.payload {
        let format = ChunkFormat::decode(format).expect("well-formed");
        note(match (format.indexes, format.wide) {
            (false, _) => "block map",
            (true, false) => "chunk index",
            (true, true) => "48-bit chunk index",
        });
    }
    for extent in image.extents(inode) {
        match extent.expect("well-formed").place {
            Place::Hole if inode.layout.is_compressed() => note("hole in a compressed file"),
            Place::Hole if inode.layout == DataLayout::ChunkBased => note("hole in chunks"),
            Place::Data { device, .. } if device.0 != 0 => note("extra device"),
            Place::Encoded {
                algorithm,
                partial,
                stored,
                ..
            } => {
                note(&format!("{algorithm:?}"));
                if partial {
                    note("partial reference");
                }
                if matches!(stored, Stored::Inline { .. }) {
                    note("inline pcluster");
                }
                if inode.is_directory() {
                    note("compressed directory");
                }
            }
            Place::Packed { .. } if inode.is_directory() => note("compressed directory"),
            _ => {}
        }
    }
    let (area, offset) = inode.position();
    if !inode.layout.is_compressed() || area != Area::Primary {
        return;
    }
    let end = offset.0 + inode.core_size() + xattr::body_size(inode.xattr_icount);
    let header = map_header::position(ByteOffset(end))
        .expect("within the image")
        .0 as usize;
    match MapHeader::decode(&bytes[header..], inode.layout, image.superblock())
        .expect("well-formed")
    {
        MapHeader::Fragment { .. } => note("whole fragment"),
        MapHeader::Extents(header) => note(&format!("records {:?}", header.records.record_size())),
        MapHeader::Index(header) => {
            header.advise.iter_names().for_each(|(name, _)| note(name));
            if header.head2 != header.head1 && header.head2 as u8 != 0 {
                note("HEAD2 in use");
            }
        }
    }
}

#[test]
fn goldens_have_every_structure() {
    let mut found = BTreeSet::new();
    for golden in Golden::all() {
        let bytes = fs::read(&golden.image).expect("kept");
        seen(&open(&golden.image, &golden.devices), &bytes, &mut found);
    }
    let wanted: BTreeSet<String> = WANTED
        .split(',')
        .map(|what| what.trim().to_owned())
        .collect();
    let missing: Vec<_> = wanted.difference(&found).collect();
    assert!(
        missing.is_empty(),
        "missing: {missing:#?}\nfound: {found:#?}"
    );
}
