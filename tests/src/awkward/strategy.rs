//! Random small trees of everything that the fixed set has.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::bytes::{capability, random, text};
use crate::tree::{Attributes, Content, Device, Kind, Time, Tree, Xattrs, join};

/// What a name stands for before it is known which other names exist.
#[derive(Clone, Debug)]
enum Choice {
    Made(Kind),
    LinkTo(Index),
}

/// A tree of up to `entries` names below the root. Shrinks to fewer and simpler ones.
///
/// Needs root to be written, and stays within what ext4 stores.
pub fn tree(entries: usize) -> impl Strategy<Value = Tree> {
    let entry = (any::<Index>(), name(), choice(), attributes());
    (attributes(), vec(entry, 0..=entries)).prop_map(|(root, entries)| {
        let mut tree = Tree::new();
        tree.entries[0].attributes = as_permitted(&Kind::Directory, root);
        let mut directories = vec![Vec::new()];
        let mut others: Vec<Vec<u8>> = Vec::new();
        let mut taken = BTreeSet::new();
        for (parent, name, choice, attributes) in entries {
            let path = join(&directories[parent.index(directories.len())], &name);
            if !taken.insert(path.clone()) {
                continue;
            }
            let kind = match choice {
                Choice::Made(kind) => kind,
                Choice::LinkTo(_) if others.is_empty() => continue,
                Choice::LinkTo(target) => {
                    Kind::HardLink(others[target.index(others.len())].clone())
                }
            };
            match kind {
                Kind::Directory => directories.push(path.clone()),
                _ => others.push(path.clone()),
            }
            let attributes = as_permitted(&kind, attributes);
            tree.add(path, kind, attributes);
        }
        tree
    })
}

/// Linux allows user attributes and capabilities on some types only, and symlinks have no mode.
fn as_permitted(kind: &Kind, mut attributes: Attributes) -> Attributes {
    let file = matches!(kind, Kind::File(_));
    if !file && *kind != Kind::Directory {
        attributes
            .xattrs
            .retain(|key, _| !key.starts_with(b"user."));
    }
    if !file {
        attributes
            .xattrs
            .retain(|key, _| key != b"security.capability");
    }
    match kind {
        Kind::Symlink(_) => attributes.mode = 0o777,
        Kind::HardLink(_) => attributes = Attributes::default(),
        _ => {}
    }
    attributes
}

/// Names of 1 to 255 bytes: any but NUL, '/', "." and "..".
pub fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = || {
        prop_oneof![
            1u8..=255,
            b'a'..=b'c',
            Just(b'.'),
            Just(b'\n'),
            0x80u8..=0xff
        ]
    };
    prop_oneof![
        6 => vec(byte(), 1..8),
        1 => vec(byte(), 240..=255),
        1 => Just(b".wh.x".to_vec()),
        2 => (0..20u32).prop_map(|n| format!("file-{n}").into_bytes()),
    ]
    .prop_map(|mut name| {
        for byte in &mut name {
            if matches!(*byte, b'/' | 0) {
                *byte = b'_';
            }
        }
        if name == b"." || name == b".." {
            name.push(b'.');
            name.push(b'.');
        }
        name
    })
}

fn choice() -> impl Strategy<Value = Choice> {
    let device = || (0..4096u32, 0..1u32 << 20).prop_map(|(major, minor)| Device { major, minor });
    let target = vec(prop_oneof![1u8..=255, Just(b'/'), b'a'..=b'z'], 1..=4095);
    let short = vec(1u8..=255, 1..100);
    prop_oneof![
        4 => Just(Choice::Made(Kind::Directory)),
        10 => content().prop_map(|content| Choice::Made(Kind::File(content))),
        2 => short.prop_map(|target| Choice::Made(Kind::Symlink(target))),
        1 => target.prop_map(|target| Choice::Made(Kind::Symlink(target))),
        1 => device().prop_map(|device| Choice::Made(Kind::CharacterDevice(device))),
        1 => device().prop_map(|device| Choice::Made(Kind::BlockDevice(device))),
        1 => Just(Choice::Made(Kind::Fifo)),
        1 => Just(Choice::Made(Kind::Socket)),
        3 => any::<Index>().prop_map(Choice::LinkTo),
    ]
}

/// Content whose size, compressibility, holes and duplication vary.
pub fn content() -> impl Strategy<Value = Content> {
    let size = prop_oneof![
        0..200usize,
        3900..4200usize,
        (1..20usize, 0..130usize).prop_map(|(blocks, around)| blocks * 4096 + around - 65),
        0..300_000usize,
    ];
    // Few seeds, so that whole files repeat.
    let bytes = (size, 0..3u64, 0..3u8).prop_map(|(size, seed, form)| match form {
        0 => random(seed, size),
        1 => text(seed, size),
        _ => vec![0; size],
    });
    let gaps = vec((0..40_000u64, 1..20_000usize), 0..6);
    let sparse = (gaps, 0..100_000u64, 0..100u64).prop_map(|(gaps, after, seed)| {
        let (mut end, mut pieces) = (0, Vec::new());
        for (gap, length) in gaps {
            pieces.push((end + gap, random(seed + end, length)));
            end += gap + length as u64;
        }
        Content::sparse(end + after, pieces)
    });
    prop_oneof![3 => bytes.prop_map(Content::dense), 1 => sparse]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let id = || prop_oneof![4 => Just(0u32), 1 => 0..70_000u32, 1 => 0..u32::MAX];
    (0..0o10000u32, id(), id(), time(), xattrs()).prop_map(|(mode, uid, gid, mtime, xattrs)| {
        Attributes {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        }
    })
}

fn time() -> impl Strategy<Value = Time> {
    let second = prop_oneof![
        3 => Just(1_500_000_000i64),
        1 => i64::from(i32::MIN) + 1..(1 << 34) - (1 << 31) - 1,
    ];
    let part = prop_oneof![2 => Just(0u32), 1 => 0..1_000_000_000u32];
    (second, part).prop_map(|(seconds, nanoseconds)| Time {
        seconds,
        nanoseconds,
    })
}

fn xattrs() -> impl Strategy<Value = Xattrs> {
    let key = prop_oneof![
        3 => Just(b"user.shared".to_vec()),
        2 => vec(1u8..=255, 1..40).prop_map(|name| [b"user.", name.as_slice()].concat()),
        1 => Just(b"trusted.overlay.opaque".to_vec()),
        1 => Just(b"security.test".to_vec()),
    ];
    let value = prop_oneof![Just(b"y".to_vec()), vec(any::<u8>(), 0..300)];
    let plain = vec((key, value), 0..4).prop_map(|pairs| pairs.into_iter().collect::<Xattrs>());
    let capable = proptest::option::weighted(0.1, 0..1u32 << 20);
    let both = (plain, capable).prop_map(|(mut xattrs, permitted)| {
        if let Some(permitted) = permitted {
            xattrs.insert(b"security.capability".to_vec(), capability(permitted));
        }
        xattrs
    });
    prop_oneof![3 => Just(Xattrs::new()), 2 => both]
}
