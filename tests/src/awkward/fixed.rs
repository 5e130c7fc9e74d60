//! The fixed set.

use super::bytes::{
    ACL_GROUP, ACL_GROUP_OBJ, ACL_MASK, ACL_NOBODY, ACL_OTHER, ACL_USER, ACL_USER_OBJ, acl,
    capability, random, text,
};
use crate::tree::{Attributes, Content, Device, Kind, Pieces, Time, Tree, join};

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// The block size in bytes around whose multiples file sizes are chosen.
    pub block: usize,
    /// Entries of the widest directory.
    pub wide: usize,
}

impl Default for Sizes {
    /// 4 KiB blocks and 3,000 entries: several directory blocks, a second or two of work.
    fn default() -> Self {
        Self {
            block: 4096,
            wide: 3000,
        }
    }
}

/// Every item of the fixed set.
///
/// Needs root to be written. Stays within what ext4 stores: times from 1901 to 2446, a few KiB of
/// attributes per inode.
pub fn tree(sizes: Sizes) -> Tree {
    let mut tree = Tree::new();
    types(&mut tree);
    names(&mut tree);
    symlinks(&mut tree);
    owners_and_modes(&mut tree);
    times(&mut tree);
    xattrs(&mut tree);
    devices(&mut tree);
    file_sizes(&mut tree, sizes.block);
    holes(&mut tree, sizes.block as u64);
    duplicates(&mut tree, sizes.block);
    hard_links(&mut tree);
    wide(&mut tree, sizes.wide);
    tree
}

/// Files beyond 4 GiB, cheap as they are mostly holes; every comparison reads gigabytes of zeros.
pub fn huge() -> Tree {
    let mut tree = Tree::new();
    let edge = 4u64 << 30;
    let pieces = vec![
        (0, b"start".to_vec()),
        (edge - 10, random(1, 20)),
        (edge + 70_000, text(2, 9000)),
    ];
    tree.file("over-4g", Content::sparse(edge + 100_001, pieces));
    tree.file("hole-over-4g", Content::sparse(edge + 1, Vec::new()));
    tree
}

/// Paths beyond PATH_MAX, which only descriptor-relative calls can reach.
pub fn deep() -> Tree {
    let mut tree = Tree::new();
    let mut path = Vec::new();
    for level in 0u8..30 {
        path = join(&path, &[b'a' + level % 26; 200]);
        tree.directory(&path);
    }
    tree.file(join(&path, b"bottom"), Content::dense(b"reached".to_vec()));
    tree
}

fn types(tree: &mut Tree) {
    tree.directory("types");
    tree.directory("types/empty-directory");
    tree.file("types/file", Content::dense(b"content\n".to_vec()));
    tree.symlink("types/symlink", "file");
    let device = Device { major: 1, minor: 3 };
    tree.add(
        "types/character",
        Kind::CharacterDevice(device),
        Attributes::with_mode(0o666),
    );
    tree.add(
        "types/block",
        Kind::BlockDevice(device),
        Attributes::with_mode(0o660),
    );
    tree.add("types/fifo", Kind::Fifo, Attributes::with_mode(0o600));
    tree.add("types/socket", Kind::Socket, Attributes::with_mode(0o755));
}

fn names(tree: &mut Tree) {
    tree.directory("names");
    let add = |tree: &mut Tree, name: &[u8]| {
        tree.file(join(b"names", name), Content::dense(name.to_vec()));
    };
    // Bytes below '.' sort before the entries "." and ".."; bytes above 0x7f must sort as unsigned.
    for byte in (1..=255).filter(|byte| !b"/.".contains(byte)) {
        add(tree, &[byte]);
    }
    for first in 1..b'.' {
        add(tree, &[first, b'.', first]);
    }
    let known: [&[u8]; 15] = [
        b"...",
        b"..a",
        b".hidden",
        b".-",
        b"a\nb",
        b"a b",
        b" ",
        b"\t\t",
        b"-rf",
        b"..\xff",
        b"\xc3\x28",
        b"\xf0\x9f\x98\x80",
        b".wh.gone",
        b".wh..wh..opq",
        b"caf\xc3\xa9",
    ];
    // A lone space is among the single bytes.
    for name in known.into_iter().filter(|name| name.len() > 1) {
        add(tree, name);
    }
    for length in [16, 254, 255] {
        add(tree, &vec![b'n'; length]);
        add(tree, &vec![0xff; length]);
    }
    // Prefixes of each other, where a comparison by length would differ from one by bytes.
    for length in 2..20 {
        add(tree, &b"prefixprefixprefixprefix"[..length]);
    }
}

fn symlinks(tree: &mut Tree) {
    tree.directory("symlinks");
    // Inline until inode and target no longer share a block: around 4096 - 32 and - 64 bytes.
    for length in [
        1, 59, 60, 100, 1000, 4031, 4032, 4033, 4063, 4064, 4065, 4095,
    ] {
        tree.symlink(format!("symlinks/{length}"), vec![b't'; length]);
    }
    for (name, target) in [
        ("dangling", b"no/such/place".as_slice()),
        ("absolute", b"/etc/hostname"),
        ("outside", b"../../../../../../etc/passwd"),
        ("self", b"self"),
        ("bytes", b"\xff\n\x01 \\"),
        ("directory", b"../types"),
    ] {
        tree.symlink(format!("symlinks/{name}"), target);
    }
}

fn owners_and_modes(tree: &mut Tree) {
    tree.directory("owners");
    // 16 bits is where compact inodes end; the largest id means "unchanged" to chown.
    for id in [1, 1000, 65_534, 65_535, 65_536, 1 << 31, u32::MAX - 1] {
        for (uid, gid) in [(id, 0), (0, id), (id, id)] {
            let attributes = Attributes {
                uid,
                gid,
                ..Attributes::default()
            };
            let path = format!("owners/{uid}-{gid}");
            tree.add(
                path,
                Kind::File(Content::dense(b"owned".to_vec())),
                attributes,
            );
        }
    }
    tree.directory("modes");
    for mode in [
        0, 0o001, 0o111, 0o400, 0o777, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777,
    ] {
        let file = Kind::File(Content::dense(vec![b'm']));
        tree.add(
            format!("modes/file-{mode:04o}"),
            file,
            Attributes::with_mode(mode),
        );
        let path = format!("modes/directory-{mode:04o}");
        tree.add(path, Kind::Directory, Attributes::with_mode(mode));
    }
}

fn times(tree: &mut Tree) {
    tree.directory("times");
    let seconds = [
        i64::from(i32::MIN) + 1, // 1901; Linux drops the nanoseconds of a filesystem's first and last second
        -1_000_000_001,
        -1,
        0,
        1,
        1_234_567_890,
        i64::from(i32::MAX),     // 2038
        i64::from(i32::MAX) + 1, // where a signed 32-bit time turns negative
        i64::from(u32::MAX),     // 2106
        i64::from(u32::MAX) + 1,
        (1 << 34) - (1 << 31) - 2, // 2446, where ext4 ends
    ];
    for seconds in seconds {
        for nanoseconds in [0, 1, 500_000_000, 999_999_999] {
            let attributes = Attributes {
                mtime: Time {
                    seconds,
                    nanoseconds,
                },
                ..Attributes::default()
            };
            let path = format!("times/{seconds}.{nanoseconds:09}");
            tree.add(path, Kind::File(Content::default()), attributes);
        }
    }
    let old = Attributes {
        mtime: Time {
            seconds: -5,
            nanoseconds: 7,
        },
        ..Attributes::with_mode(0o777)
    };
    tree.add("times/symlink", Kind::Symlink(b"x".to_vec()), old.clone());
    tree.add("times/directory", Kind::Directory, old);
    tree.file("times/directory/newer", Content::dense(b"child".to_vec()));
}

fn xattrs(tree: &mut Tree) {
    tree.directory("xattrs");
    let with = |mode, pairs: Vec<(&str, Vec<u8>)>| Attributes {
        xattrs: pairs
            .into_iter()
            .map(|(key, value)| (key.as_bytes().to_vec(), value))
            .collect(),
        ..Attributes::with_mode(mode)
    };
    let file = || Kind::File(Content::dense(b"has attributes".to_vec()));
    let simple: Vec<(&str, (&str, Vec<u8>))> = vec![
        ("user", ("user.comment", b"hello".to_vec())),
        ("empty-value", ("user.empty", Vec::new())),
        ("binary-value", ("user.binary", (0..=255).collect())),
        ("long-value", ("user.long", random(3, 2000))),
        ("dotted", ("user.a.b.c", b"dots".to_vec())),
        ("trusted", ("trusted.secret", b"root only".to_vec())),
        ("trusted-overlay", ("trusted.overlay.opaque", b"y".to_vec())),
        ("security", ("security.test", b"label".to_vec())),
        // CAP_NET_RAW, as ping has it.
        ("capability", ("security.capability", capability(1 << 13))),
    ];
    for (name, pair) in simple {
        tree.add(format!("xattrs/{name}"), file(), with(0o755, vec![pair]));
    }
    let long_name = format!("user.{}", "n".repeat(250));
    let attributes = with(0o644, vec![(&long_name, b"255 bytes of name".to_vec())]);
    tree.add("xattrs/long-name", file(), attributes);
    let not_text = Attributes {
        xattrs: [(b"user.\xff\n\x01".to_vec(), b"\0\0".to_vec())].into(),
        ..Attributes::default()
    };
    tree.add("xattrs/name-bytes", file(), not_text);

    // The mask is the group part of the mode.
    let access = acl(&[
        (ACL_USER_OBJ, 6, ACL_NOBODY),
        (ACL_USER, 4, 1000),
        (ACL_USER, 6, 70_000),
        (ACL_GROUP_OBJ, 4, ACL_NOBODY),
        (ACL_GROUP, 2, 100),
        (ACL_MASK, 6, ACL_NOBODY),
        (ACL_OTHER, 0, ACL_NOBODY),
    ]);
    let attributes = with(0o660, vec![("system.posix_acl_access", access.clone())]);
    tree.add("xattrs/acl", file(), attributes);
    let default = with(0o755, vec![("system.posix_acl_default", access.clone())]);
    tree.add("xattrs/acl-directory", Kind::Directory, default);
    // Made before its parent has the default ACL, so without one.
    tree.file(
        "xattrs/acl-directory/child",
        Content::dense(b"no acl".to_vec()),
    );

    let everything = with(
        0o660,
        vec![
            ("security.capability", capability(1 << 21)),
            ("security.test", b"label".to_vec()),
            ("system.posix_acl_access", access),
            ("trusted.secret", b"root only".to_vec()),
            ("user.comment", b"hello".to_vec()),
        ],
    );
    tree.add("xattrs/everything", file(), everything);

    let many = Attributes {
        xattrs: (0..60)
            .map(|n| {
                (
                    format!("user.{n:02}").into_bytes(),
                    random(n, n as usize % 17),
                )
            })
            .collect(),
        ..Attributes::default()
    };
    tree.add("xattrs/many", file(), many);
    // Long and common enough that a builder stores it once.
    for n in 0..12 {
        let pairs = vec![
            ("user.shared", text(4, 300)),
            ("trusted.shared", text(5, 100)),
            ("user.own", vec![n]),
        ];
        tree.add(format!("xattrs/shared-{n:02}"), file(), with(0o644, pairs));
    }
    let label = || {
        vec![
            ("trusted.label", b"any type".to_vec()),
            ("security.test", b"x".to_vec()),
        ]
    };
    tree.add(
        "xattrs/symlink",
        Kind::Symlink(b"user".to_vec()),
        with(0o777, label()),
    );
    tree.add("xattrs/fifo", Kind::Fifo, with(0o600, label()));
    let null = Kind::CharacterDevice(Device { major: 1, minor: 3 });
    tree.add("xattrs/device", null, with(0o600, label()));
    tree.add("xattrs/directory", Kind::Directory, with(0o700, label()));
}

fn devices(tree: &mut Tree) {
    tree.directory("devices");
    // 8 bits each is where the old encoding ends; 12 and 20 are all there is.
    for (major, minor) in [
        (0, 0),
        (8, 1),
        (255, 255),
        (256, 0),
        (0, 256),
        (259, 65_536),
        (4095, 1_048_575),
    ] {
        let device = Device { major, minor };
        let attributes = Attributes::with_mode(0o600);
        let path = format!("devices/c-{major}-{minor}");
        tree.add(path, Kind::CharacterDevice(device), attributes.clone());
        tree.add(
            format!("devices/b-{major}-{minor}"),
            Kind::BlockDevice(device),
            attributes,
        );
    }
}

fn file_sizes(tree: &mut Tree, block: usize) {
    tree.directory("sizes");
    // A tail is inlined until inode and tail no longer share a block: 32 or 64 bytes before its end.
    let mut sizes: Vec<usize> = vec![0, 1, 2, 63, 64, 65, block / 2];
    sizes.extend(block - 66..=block + 1);
    for multiple in [2, 3, 16, 64] {
        let whole = multiple * block;
        sizes.extend([whole - 65, whole - 1, whole, whole + 1, whole + block / 2]);
    }
    sizes.push(1_000_003);
    for size in sizes {
        let seed = size as u64;
        tree.file(
            format!("sizes/random-{size}"),
            Content::dense(random(seed, size)),
        );
        tree.file(
            format!("sizes/text-{size}"),
            Content::dense(text(seed, size)),
        );
    }
    tree.file("sizes/zeros", Content::dense(vec![0; 3 * block + 5]));
    let half = [
        text(1, 40 * block),
        random(1, 40 * block),
        text(2, 9 * block + 7),
    ]
    .concat();
    tree.file("sizes/half-compressible", Content::dense(half));
}

fn holes(tree: &mut Tree, block: u64) {
    tree.directory("holes");
    let piece = |at: u64, blocks: u64| (at * block, random(at, (blocks * block) as usize));
    let cases: [(&str, u64, Pieces); 9] = [
        ("only", 100 * block, vec![]),
        ("only-odd-size", 100 * block + 1, vec![]),
        ("one-byte", 1, vec![]),
        ("head", 20 * block, vec![piece(16, 4)]),
        ("tail", 20 * block + 9, vec![piece(0, 3)]),
        ("middle", 40 * block, vec![piece(0, 4), piece(30, 10)]),
        (
            "data-in-tail",
            33 * block + 5,
            vec![(33 * block, b"tail!".to_vec())],
        ),
        (
            "within-a-block",
            4 * block,
            vec![(block + 10, b"x".to_vec()), (3 * block - 1, b"yz".to_vec())],
        ),
        (
            "large",
            1 << 26,
            vec![piece(1000, 1), ((1 << 26) - 1, vec![1])],
        ),
    ];
    for (name, size, pieces) in cases {
        tree.file(format!("holes/{name}"), Content::sparse(size, pieces));
    }
    let comb = (0..200).map(|n| piece(2 * n, 1)).collect();
    tree.file("holes/comb", Content::sparse(401 * block, comb));
}

fn duplicates(tree: &mut Tree, block: usize) {
    tree.directory("duplicates");
    let whole = random(77, 25 * block);
    let odd = random(78, 25 * block + 100);
    let mut last_differs = whole.clone();
    *last_differs.last_mut().expect("not empty") ^= 1;
    tree.file("duplicates/whole-1", Content::dense(whole.clone()));
    tree.file("duplicates/whole-2", Content::dense(whole.clone()));
    tree.file("duplicates/odd-1", Content::dense(odd.clone()));
    tree.file("duplicates/odd-2", Content::dense(odd.clone()));
    tree.file("duplicates/last-byte-differs", Content::dense(last_differs));
    tree.file(
        "duplicates/prefix",
        Content::dense(odd[..10 * block].to_vec()),
    );
    tree.file(
        "duplicates/tail-only-1",
        Content::dense(b"the same tail".to_vec()),
    );
    tree.file(
        "duplicates/tail-only-2",
        Content::dense(b"the same tail".to_vec()),
    );
    let other = Attributes {
        uid: 70_000,
        mode: 0o4711,
        ..Attributes::default()
    };
    tree.add(
        "duplicates/whole-other-owner",
        Kind::File(Content::dense(whole)),
        other,
    );
    // The same bytes once with a hole and once with stored zeros.
    let data = random(79, 8 * block);
    let zeros = [data.clone(), vec![0; 8 * block]].concat();
    tree.file("duplicates/zeros", Content::dense(zeros));
    tree.file(
        "duplicates/hole",
        Content::sparse(16 * block as u64, vec![(0, data)]),
    );
}

fn hard_links(tree: &mut Tree) {
    tree.directory("links");
    tree.directory("links/a");
    tree.directory("links/z");
    let linked = Attributes {
        uid: 5,
        xattrs: [(b"user.linked".to_vec(), b"once".to_vec())].into(),
        ..Attributes::with_mode(0o640)
    };
    tree.add(
        "links/m",
        Kind::File(Content::dense(random(9, 6000))),
        linked,
    );
    tree.hard_link("links/a/first", "links/m");
    tree.hard_link("links/z/last", "links/m");
    tree.hard_link("links/z/of-a-link", "links/a/first");
    tree.symlink("links/symlink", "m");
    tree.hard_link("links/symlink-2", "links/symlink");
    tree.add("links/fifo", Kind::Fifo, Attributes::with_mode(0o600));
    tree.hard_link("links/fifo-2", "links/fifo");
    let device = Kind::BlockDevice(Device { major: 7, minor: 0 });
    tree.add("links/device", device, Attributes::with_mode(0o600));
    tree.hard_link("links/device-2", "links/device");
    tree.file("links/many", Content::dense(b"many".to_vec()));
    for n in 0..300 {
        tree.hard_link(format!("links/many-{n}"), "links/many");
    }
}

fn wide(tree: &mut Tree, entries: usize) {
    tree.directory("wide");
    for n in 0..entries {
        // Names of many lengths, so that blocks of a directory fill up differently.
        let name = format!("wide/{n:06}-{}", "x".repeat(n * 7 % 61));
        match n % 50 {
            0 => tree.directory(name),
            1 => tree.symlink(name, format!("{n}")),
            _ => tree.file(name, Content::dense(n.to_le_bytes()[..n % 4].to_vec())),
        }
    }
}
