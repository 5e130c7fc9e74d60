//! A random tree equals its own image and tar, and one mutation is exactly one difference.

use std::{collections::BTreeSet, path::Path};

use erofs_tests::{
    awkward, require, skip,
    tree::{Content, Kind, Tree},
    workshop::{build, erofs},
};
use proptest::{prelude::*, sample::Index};

use crate::side::{Forms, json_of, lines, write};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12),
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn one_mutation_is_one_difference(
        tree in awkward::strategy::tree(25),
        entry in any::<Index>(),
        mutation in 0..MUTATIONS.len(),
    ) {
        judge(tree, entry, MUTATIONS[mutation]);
    }
}

/// What a mutation changes, as the object for scripts calls it.
const MUTATIONS: [&str; 8] = [
    "mode", "owner", "mtime", "xattrs", "content", "target", "removed", "added",
];

fn judge(mut tree: Tree, entry: Index, mutation: &str) {
    require!(skip::root());
    require!(erofs());
    without_what_no_tar_holds(&mut tree);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let forms = Forms::write(&tree, &folder.path().join("a"));
    for [a, b] in [
        [&forms.directory, &forms.image],
        [&forms.directory, &forms.tar],
        [&forms.tar_gz, &forms.compressed],
        [&forms.index, &forms.tar_gz],
        [&forms.image, &forms.tar],
    ] {
        assert_eq!(lines(&[a, b], &[]), [""; 0], "{a:?} {b:?}");
    }
    let Some(path) = mutate(&mut tree, entry, mutation) else {
        return;
    };
    let changed = folder.path().join("b");
    write(&tree, &changed);
    let image = folder.path().join("b.erofs");
    build(&changed, &image, &[]);
    for [a, b] in [
        [&*forms.directory, &*changed],
        [&forms.image, &image],
        [&forms.compressed, &changed],
        [&forms.tar, &image],
        [&forms.tar_gz, &changed],
    ] {
        tells_exactly(&path, mutation, a, b);
    }
}

fn tells_exactly(path: &[u8], mutation: &str, a: &Path, b: &Path) {
    let object = json_of(&[a, b], &[]);
    let differences = object["differences"].as_array().expect("an array");
    let (others, own): (Vec<_>, Vec<_>) = differences
        .iter()
        .partition(|difference| difference.get("same_as").is_some());
    let [own] = own.as_slice() else {
        panic!("{mutation} of {}: {differences:#?}", path.escape_ascii());
    };
    let told = match own["path_hex"].as_str() {
        Some(hex) => (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("digits"))
            .collect(),
        None => own["path"].as_str().expect("text").as_bytes().to_vec(),
    };
    if others.is_empty() {
        assert_eq!(told, path, "{own}");
    }
    match mutation {
        "removed" | "added" => assert_eq!(own["status"], mutation),
        _ => {
            let keys: Vec<_> = own["changes"].as_object().expect("told").keys().collect();
            assert_eq!(keys, [mutation], "{own}");
        }
    }
}

/// GNU tar leaves out sockets, knows hard links of files and symbolic links only, and writes some names of attributes in
/// another way.
fn without_what_no_tar_holds(tree: &mut Tree) {
    let mut linkable = BTreeSet::new();
    tree.entries.retain(|entry| {
        let kept = match &entry.kind {
            Kind::HardLink(target) => linkable.contains(target),
            kind => *kind != Kind::Socket,
        };
        let by_tar = matches!(
            entry.kind,
            Kind::File(_) | Kind::Symlink(_) | Kind::HardLink(_)
        );
        if kept && by_tar {
            linkable.insert(entry.path.clone());
        }
        kept
    });
    for entry in &mut tree.entries {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._".contains(byte);
        entry
            .attributes
            .xattrs
            .retain(|name, _| name.iter().all(plain));
    }
}

/// Changes one entry; `None` where the mutation has no place in the tree. The path is that of the entry, which has other
/// names where there are hard links of it.
fn mutate(tree: &mut Tree, entry: Index, mutation: &str) -> Option<Vec<u8>> {
    if mutation == "added" {
        let name = b"new\nname".to_vec();
        tree.file(&name, Content::dense(b"of no other size: ".repeat(12_345)));
        return Some(name);
    }
    let target_of_links: Vec<_> = tree
        .entries
        .iter()
        .filter_map(|entry| match &entry.kind {
            Kind::HardLink(target) => Some(target.clone()),
            _ => None,
        })
        .collect();
    let parents: Vec<_> = tree
        .entries
        .iter()
        .map(|entry| erofs_tests::tree::split(&entry.path).0.to_vec())
        .collect();
    let possible: Vec<usize> = (0..tree.entries.len())
        .filter(|&index| {
            let entry = &tree.entries[index];
            let linked = matches!(entry.kind, Kind::HardLink(_));
            let file = matches!(entry.kind, Kind::File(_));
            match mutation {
                "removed" => {
                    !parents.contains(&entry.path) && !target_of_links.contains(&entry.path)
                }
                "content" => {
                    matches!(&entry.kind, Kind::File(content) if !content.pieces.is_empty())
                }
                "target" => matches!(entry.kind, Kind::Symlink(_)),
                "mode" => !linked && !matches!(entry.kind, Kind::Symlink(_)),
                "xattrs" => file || entry.kind == Kind::Directory,
                _ => !linked,
            }
        })
        .filter(|&index| mutation != "removed" || index > 0)
        .collect();
    if possible.is_empty() {
        return None;
    }
    let index = possible[entry.index(possible.len())];
    let path = tree.entries[index].path.clone();
    if mutation == "removed" {
        tree.entries.remove(index);
        return Some(path);
    }
    let entry = &mut tree.entries[index];
    let attributes = &mut entry.attributes;
    match mutation {
        "mode" => attributes.mode ^= 0o020,
        "owner" => attributes.gid ^= 1,
        "mtime" => attributes.mtime.nanoseconds ^= 1,
        "xattrs" => {
            attributes
                .xattrs
                .insert(b"user.mutated".to_vec(), vec![0, 255]);
        }
        _ => {}
    }
    match &mut entry.kind {
        Kind::File(content) if mutation == "content" => {
            let (_, bytes) = content.pieces.last_mut()?;
            *bytes.last_mut()? ^= 0x55;
        }
        Kind::Symlink(target) if mutation == "target" => {
            *target = if target == b"x" {
                b"y".to_vec()
            } else {
                b"x".to_vec()
            };
        }
        _ => {}
    }
    Some(path)
}
