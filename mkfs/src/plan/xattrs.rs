//! Extended attributes of an image: the bodies behind inodes and the shared area.

use crate::tree::{FrozenTree, Xattr, XattrSetId};
use erofs_format::xattr::{
    BODY_HEADER_SIZE, MAX_SHARED, NameIndex, Prefix, XattrEntry, encode_body_header, name_filter,
};
use std::collections::{BTreeMap, HashMap};

/// The attributes of an image as they will be stored.
#[derive(Debug)]
pub struct XattrPlan {
    /// For each set of the tree the body behind the inode; empty for the empty set.
    bodies: Vec<Box<[u8]>>,
    /// The shared area.
    pub shared: Vec<u8>,
}

impl XattrPlan {
    /// Shares attributes that more than `tolerance` inodes have in common, and encodes all sets.
    pub fn new(tree: &FrozenTree, tolerance: u32) -> Self {
        let mut set_uses: HashMap<XattrSetId, u32> = HashMap::new();
        for id in tree.breadth_first() {
            *set_uses.entry(tree.inode(id).xattrs).or_default() += 1;
        }
        let mut uses: BTreeMap<&Xattr, u32> = BTreeMap::new();
        for (set, count) in &set_uses {
            for attribute in tree.xattrs.get(*set) {
                *uses.entry(attribute).or_default() += count;
            }
        }
        let mut shared = Vec::new();
        let mut ids: HashMap<&Xattr, u32> = HashMap::new();
        for (attribute, _) in uses.iter().filter(|(_, count)| **count > tolerance) {
            // 4-byte units: the area would have to pass 16 GiB for this to fail, then the rest stays inline.
            let Ok(id) = u32::try_from(shared.len() / 4) else {
                break;
            };
            if encode(attribute, &mut shared).is_some() {
                ids.insert(attribute, id);
            }
        }
        let bodies = tree
            .xattrs
            .iter()
            .map(|(id, set)| {
                let used = !set.is_empty() && set_uses.contains_key(&id);
                if used {
                    body(set, &ids)
                } else {
                    Box::default()
                }
            })
            .collect();
        Self { bodies, shared }
    }

    /// The body of a set.
    pub fn body(&self, set: XattrSetId) -> &[u8] {
        &self.bodies[set.index()]
    }

    /// Whether any inode has attributes.
    pub fn any(&self) -> bool {
        self.bodies.iter().any(|body| !body.is_empty())
    }

    /// The largest body that a set can have, before it is known what is shared.
    pub fn largest_body(set: &[Xattr]) -> u64 {
        if set.is_empty() {
            return 0;
        }
        let entries: usize = set
            .iter()
            .filter_map(|attribute| {
                let (_, suffix) = Prefix::split(&attribute.name)?;
                Some(erofs_format::xattr::entry_size(
                    suffix.len(),
                    attribute.value.len(),
                ))
            })
            .sum();
        (BODY_HEADER_SIZE + entries) as u64
    }
}

fn body(set: &[Xattr], ids: &HashMap<&Xattr, u32>) -> Box<[u8]> {
    let shared: Vec<u32> = set
        .iter()
        .filter_map(|attribute| ids.get(attribute).copied())
        .take(MAX_SHARED)
        .collect();
    let filter = name_filter(
        set.iter()
            .filter_map(|attribute| Prefix::split(&attribute.name)),
    );
    let mut bytes = Vec::new();
    let header = encode_body_header(filter, &shared, &mut bytes);
    debug_assert!(header.is_some(), "at most 255 ids were taken");
    let inline = set
        .iter()
        .filter(|attribute| ids.get(attribute).is_none_or(|id| !shared.contains(id)));
    for attribute in inline {
        let entry = encode(attribute, &mut bytes);
        debug_assert!(entry.is_some(), "the tree has checked lengths and names");
    }
    bytes.into()
}

fn encode(attribute: &Xattr, out: &mut Vec<u8>) -> Option<()> {
    let (prefix, name) = Prefix::split(&attribute.name)?;
    XattrEntry {
        index: NameIndex::Base(prefix),
        name,
        value: &attribute.value,
    }
    .encode(out)
}
