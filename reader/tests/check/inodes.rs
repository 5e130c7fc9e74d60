//! Rules for inodes and their attributes.

use crate::Case;
use crate::crafted::{BITS, CORE, Draft};
use crate::support::{Builder, body, flat};
use erofs_format::feature::FeatureCompat;
use erofs_format::inode::{DataLayout, FileType};
use erofs_format::xattr::{LongPrefix, NameIndex, Prefix, XattrEntry, encode_body_header};
use erofs_reader::check::{At, Rule};

/// Size of the header of an xattr body with two shared ids.
const BODY: usize = 12 + 8;

pub(crate) fn cases() -> Vec<Case> {
    let sample = Draft::sample(BITS);
    let inode = |path: &str| sample.inode_at(path);
    let at = |path: &str| At::Image(inode(path) as u64);
    let put = |rule, path: &'static str, offset: usize, bytes: &[u8]| {
        Case::new(rule, at(path), &sample, |draft| {
            draft.put(inode(path) + offset, bytes);
        })
        .path(path)
    };
    let attributes = inode("attributes") + CORE;
    let xattr = |rule, offset: usize, bytes: &[u8]| {
        let at = At::Image(attributes as u64);
        Case::new(rule, at, &sample, |draft| {
            draft.put(attributes + offset, bytes)
        })
        .path("attributes")
    };
    let far = 1u64 << 40;
    let outside = crate::support::META as u64 + far * 32;
    vec![
        Case::new(Rule::InodeOutside, At::Image(outside), &sample, |draft| {
            let entry = draft.entry_at("many", "file-00001");
            draft.put(entry, &far.to_le_bytes());
        })
        .path("many/file-00001")
        .also(&[Rule::InodeLinks]),
        put(Rule::InodeFormat, "plain", 1, &[0x80]),
        put(Rule::InodeLayout, "plain", 0, &[5 << 1 | 1]),
        put(Rule::InodeMode, "plain", 4, &[0, 0]),
        put(Rule::InodeSize, "plain", 15, &[0x80]),
        no_algorithm(),
        put(Rule::InodeLinks, "plain", 44, &[2]),
        put(Rule::InodeBlocks, "full", 16, &[9]),
        put(
            Rule::InodeNanoseconds,
            "plain",
            40,
            &1_000_000_000u32.to_le_bytes(),
        ),
        put(Rule::InodeTime, "hole", 12, &[1]),
        put(Rule::InodeReserved, "plain", 63, &[1]),
        put(Rule::InodeSpecialSize, "fifo", 8, &[1]),
        put(Rule::SymlinkSize, "link", 8, &[0]),
        put(Rule::SymlinkNul, "link", CORE + 2, &[0]),
        xattr(Rule::XattrBody, 4, &[255]),
        xattr(Rule::XattrEntry, BODY + 2, &[0xFF, 0xFF]),
        xattr(Rule::XattrFilter, 0, &[0xFF; 4]),
        Case::new(
            Rule::XattrFilterUnused,
            At::Image((inode("map") + CORE) as u64),
            &sample,
            |draft| draft.bytes[1024 + 8] &= !4,
        )
        .path("map"),
        xattr(Rule::XattrIndex, BODY + 1, &[0x7F]),
        xattr(Rule::XattrHidden, BODY + 1, &[0]),
        duplicate(),
        xattr(Rule::XattrReserved, 5, &[1]),
        fingerprint(),
    ]
}

fn no_algorithm() -> Case {
    let plain = Draft::plain();
    let file = plain.inode_at("file");
    Case::new(
        Rule::InodeAlgorithm,
        At::Image(file as u64),
        &plain,
        |draft| {
            draft.put(file, &[1 << 1 | 1]);
        },
    )
    .path("file")
}

/// A root with the file `f`, which has these attributes.
fn with_xattrs(mut builder: Builder, xattrs: &[u8], rule: Rule) -> Case {
    let root = builder.reserve(512);
    builder.superblock.root = root;
    let record = flat(FileType::Regular, DataLayout::FlatPlain, 0, None);
    let file = builder.add(&record, xattrs, 1, &[]);
    builder.directory(root, root, &[(b"f", file)], &[]);
    let draft = Draft::finish(builder, 2);
    let at = At::Image((draft.inode_at("f") + CORE) as u64);
    Case::made(rule, at, draft.sealed()).path("f")
}

fn duplicate() -> Case {
    let entry = (Prefix::User, &b"twice"[..], &b"x"[..]);
    let xattrs = body(&[], &[entry, entry]);
    with_xattrs(Builder::new(BITS), &xattrs, Rule::XattrDuplicate)
}

/// A fingerprint without a byte.
fn fingerprint() -> Case {
    let mut builder = Builder::new(BITS);
    builder.prefixes = vec![LongPrefix {
        base: Prefix::None.value(),
        infix: b"erofs.fingerprint.v1".to_vec(),
    }];
    builder.superblock.compat |= FeatureCompat::ISHARE_XATTRS;
    builder.superblock.inode_share_prefix = Some(0);
    builder.superblock.incompat |= erofs_format::feature::FeatureIncompat::XATTR_PREFIXES;
    let mut xattrs = Vec::new();
    encode_body_header(0, &[], &mut xattrs).unwrap();
    let entry = XattrEntry {
        index: NameIndex::Long(0),
        name: b"",
        value: b"",
    };
    entry.encode(&mut xattrs).unwrap();
    with_xattrs(builder, &xattrs, Rule::XattrFingerprint)
}
