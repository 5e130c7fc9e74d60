//! A manifest from the model.

use std::collections::BTreeMap;

use super::{Manifest, Node, Type, content};
use crate::tree::{Kind, Tree, split};

impl Manifest {
    /// What a filesystem must show once the tree is in it.
    pub fn of_tree(tree: &Tree) -> Self {
        let mut manifest = Self::default();
        // Every path to the path under which its inode was made.
        let mut originals: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
        let mut groups: BTreeMap<&[u8], Vec<Vec<u8>>> = BTreeMap::new();
        for entry in &tree.entries {
            let original = match &entry.kind {
                Kind::HardLink(target) => originals[target.as_slice()],
                _ => &entry.path,
            };
            originals.insert(&entry.path, original);
            groups.entry(original).or_default().push(entry.path.clone());
            let node = match &entry.kind {
                Kind::HardLink(_) => manifest.nodes[original].clone(),
                _ => node(entry),
            };
            if node.kind == Type::Directory && !entry.path.is_empty() {
                let (parent, _) = split(&entry.path);
                if let Some(parent) = manifest.nodes.get_mut(parent) {
                    parent.links += 1;
                }
            }
            manifest.nodes.insert(entry.path.clone(), node);
        }
        for group in groups.values() {
            for path in group.iter().filter(|_| group.len() > 1) {
                if let Some(node) = manifest.nodes.get_mut(path) {
                    node.links = group.len() as u64;
                }
            }
        }
        manifest.note_shared(groups.into_values());
        manifest
    }
}

fn node(entry: &crate::tree::Entry) -> Node {
    let (mut device, mut target, mut digest, mut size) = (None, None, None, 0);
    let kind = match &entry.kind {
        Kind::File(file) => {
            size = file.size;
            digest = Some(content::of_model(file));
            Type::File
        }
        Kind::Symlink(to) => {
            size = to.len() as u64;
            target = Some(to.clone());
            Type::Symlink
        }
        Kind::CharacterDevice(number) => {
            device = Some(*number);
            Type::CharacterDevice
        }
        Kind::BlockDevice(number) => {
            device = Some(*number);
            Type::BlockDevice
        }
        Kind::Directory => Type::Directory,
        Kind::Fifo => Type::Fifo,
        Kind::Socket => Type::Socket,
        Kind::HardLink(_) => unreachable!("a hard link has its target's node"),
    };
    let attributes = &entry.attributes;
    Node {
        kind,
        mode: if kind == Type::Symlink {
            0o777
        } else {
            attributes.mode
        },
        uid: attributes.uid,
        gid: attributes.gid,
        links: if kind == Type::Directory { 2 } else { 1 },
        size,
        mtime: attributes.mtime,
        device,
        target,
        digest,
        xattrs: attributes.xattrs.clone(),
        shared_with: None,
    }
}
