use super::*;
use erofs_format::inode::Timestamp;

fn metadata(permissions: u16) -> Metadata {
    Metadata {
        permissions,
        uid: 1,
        gid: 2,
        mtime: Timestamp {
            seconds: 7,
            nanoseconds: 8,
        },
        xattrs: Vec::new(),
    }
}

fn file(size: u64) -> Body {
    Body::Regular {
        size,
        location: Location::Nowhere,
    }
}

fn tree() -> Tree {
    Tree::new(metadata(0o755)).unwrap()
}

fn paths(tree: &FrozenTree) -> Vec<String> {
    let mut paths: Vec<_> = tree
        .breadth_first()
        .map(|id| String::from_utf8(tree.path(id)).unwrap())
        .collect();
    paths.sort();
    paths
}

#[test]
fn missing_parents_take_after_the_closest_existing_one() {
    let mut tree = tree();
    tree.insert(b"a", metadata(0o777), Body::Directory).unwrap();
    tree.insert(b"./a/b//c/d", metadata(0o600), file(1))
        .unwrap();
    let implied = *tree.inode(tree.lookup(b"a/b/c").unwrap());
    assert_eq!(
        (implied.permissions, implied.uid, implied.gid),
        (0o777, 1, 2)
    );
    assert_eq!(
        paths(&tree.finish().unwrap()),
        ["", "a", "a/b", "a/b/c", "a/b/c/d"]
    );
}

#[test]
fn the_last_of_equal_paths_wins() {
    let mut tree = tree();
    tree.insert(b"x/y", metadata(0o644), file(1)).unwrap();
    tree.insert(b"x/y", metadata(0o600), file(2)).unwrap();
    tree.insert(b"x", metadata(0o700), Body::Directory).unwrap();
    assert_eq!(tree.inode(tree.lookup(b"x").unwrap()).permissions, 0o700);
    assert_eq!(tree.inode(tree.lookup(b"x/y").unwrap()).body, file(2));
    // A file in place of a directory takes everything below with it; a directory in its place starts empty.
    tree.insert(b"x", metadata(0o644), file(3)).unwrap();
    assert_eq!(tree.lookup(b"x/y"), None);
    assert!(matches!(
        tree.insert(b"x/z", metadata(0), file(0)),
        Err(TreeError::ParentNotDirectory { .. })
    ));
    tree.insert(b"x", metadata(0o755), Body::Directory).unwrap();
    let frozen = tree.finish().unwrap();
    assert_eq!(paths(&frozen), ["", "x"]);
    assert_eq!(frozen.counts(), (2, 1));
}

#[test]
fn hard_links_may_come_before_their_target() {
    let mut tree = tree();
    tree.link(b"b", b"a").unwrap();
    tree.link(b"c", b"./b").unwrap();
    tree.insert(b"a", metadata(0o644), file(1)).unwrap();
    tree.link(b"d", b"/a").unwrap();
    let frozen = tree.finish().unwrap();
    assert_eq!(frozen.counts(), (2, 4));
    let (child, root) = (
        frozen.children(InodeId::ROOT).next().unwrap(),
        frozen.inode(InodeId::ROOT),
    );
    assert_eq!((frozen.inode(child.inode).nlink, root.nlink), (4, 2));
}

#[test]
fn a_long_chain_of_late_links_resolves_in_any_order() {
    let mut tree = tree();
    for number in 0..50_000u32 {
        let (link, target) = (format!("l{number}"), format!("l{}", number + 1));
        tree.link(link.as_bytes(), target.as_bytes()).unwrap();
    }
    tree.insert(b"l50000", metadata(0o644), file(1)).unwrap();
    let frozen = tree.finish().unwrap();
    assert_eq!(frozen.counts(), (2, 50_001));
}

#[test]
fn impossible_hard_links_are_errors_that_name_them() {
    let mut dangling = tree();
    dangling.link(b"b", b"nowhere").unwrap();
    assert_eq!(
        dangling.finish().err(),
        Some(TreeError::LinkTarget {
            path: b"b".to_vec(),
            target: b"nowhere".to_vec()
        })
    );
    let mut looping = tree();
    looping.link(b"a", b"b").unwrap();
    looping.link(b"b", b"a").unwrap();
    assert!(matches!(
        looping.finish(),
        Err(TreeError::LinkTarget { .. })
    ));
    let mut directory = tree();
    directory
        .insert(b"d", metadata(0o755), Body::Directory)
        .unwrap();
    assert!(matches!(
        directory.link(b"l", b"d"),
        Err(TreeError::LinkToDirectory { .. })
    ));
    let mut late = tree();
    late.link(b"l", b"d").unwrap();
    late.insert(b"d", metadata(0o755), Body::Directory).unwrap();
    assert!(matches!(
        late.finish(),
        Err(TreeError::LinkToDirectory { .. })
    ));
}

#[test]
fn removed_entries_are_gone_and_can_come_back() {
    let mut tree = tree();
    tree.insert(b"d/f", metadata(0o644), file(1)).unwrap();
    assert!(tree.remove(b"d"));
    assert!(!tree.remove(b"d"));
    assert!(!tree.remove(b""));
    tree.insert(b"d/g", metadata(0o644), file(1)).unwrap();
    assert_eq!(paths(&tree.finish().unwrap()), ["", "d", "d/g"]);
}

#[test]
fn directories_are_sorted_by_bytes_and_count_their_subdirectories() {
    let mut tree = tree();
    for name in [&b"b"[..], b"\xFF", b"a", b"!", b"aa"] {
        tree.insert(name, metadata(0o755), Body::Directory).unwrap();
    }
    let frozen = tree.finish().unwrap();
    let names: Vec<_> = frozen
        .children(InodeId::ROOT)
        .map(|child| child.name)
        .collect();
    assert_eq!(names, [&b"!"[..], b"a", b"aa", b"b", b"\xFF"]);
    assert_eq!(frozen.inode(InodeId::ROOT).nlink, 7);
}

#[test]
fn a_root_entry_sets_the_root() {
    let mut tree = tree();
    tree.insert(b"./", metadata(0o700), Body::Directory)
        .unwrap();
    assert_eq!(tree.inode(InodeId::ROOT).permissions, 0o700);
    assert_eq!(
        tree.insert(b".", metadata(0), file(0)),
        Err(TreeError::RootNotDirectory)
    );
}

#[test]
fn equal_xattr_sets_are_kept_once_and_bad_ones_refused() {
    let xattr = |name: &[u8], value: &[u8]| Xattr {
        name: name.into(),
        value: value.into(),
    };
    let with = |xattrs| Metadata {
        xattrs,
        ..metadata(0o644)
    };
    let mut tree = tree();
    let a = tree
        .insert(
            b"a",
            with(vec![xattr(b"user.b", b"1"), xattr(b"user.a", b"")]),
            file(0),
        )
        .unwrap();
    let b = tree.insert(
        b"b",
        with(vec![
            xattr(b"user.b", b"0"),
            xattr(b"user.a", b""),
            xattr(b"user.b", b"1"),
        ]),
        file(0),
    );
    assert_eq!(tree.inode(a).xattrs, tree.inode(b.unwrap()).xattrs);
    tree.set_xattr(b"a", a, b"user.b", b"2").unwrap();
    assert_eq!(
        *tree.xattrs.get(tree.inode(a).xattrs),
        [xattr(b"user.a", b""), xattr(b"user.b", b"2")]
    );
    let big = vec![0; 65536];
    for bad in [
        xattr(b"system.nfs4_acl", b""),
        xattr(b"user.", b""),
        xattr(b"user.\0", b""),
        xattr(b"user.v", &big),
    ] {
        assert!(matches!(
            tree.insert(b"c", with(vec![bad]), file(0)),
            Err(TreeError::Xattr { .. })
        ));
    }
    let many = (0..5)
        .map(|n| xattr(format!("user.{n}").as_bytes(), &big[1..]))
        .collect();
    assert!(matches!(
        tree.insert(b"c", with(many), file(0)),
        Err(TreeError::Xattr { .. })
    ));
}
