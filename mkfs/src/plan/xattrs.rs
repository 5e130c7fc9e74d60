//! Extended attributes of an image: the bodies behind inodes and the shared area.

use super::long_prefix;
use crate::data::pipeline::Fingerprint;
use crate::options::MetadataOptions;
use crate::tree::{FrozenTree, InodeId, Xattr, XattrSetId};
use erofs_format::xattr::{
    BODY_HEADER_SIZE, FILTER_OFF, LongPrefix, MAX_BODY_SIZE, MAX_SHARED, NameIndex, Prefix,
    XattrEntry, encode_body_header, filter_bit, name_filter,
};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// What mkfs.erofs writes in front of a fingerprint's 32 bytes.
const FINGERPRINT_ALGORITHM: &[u8] = b"sha256:";
/// What a fingerprint may add to the body of an inode, in bytes: its entry, and the header of the body.
pub const FINGERPRINT_ROOM: u64 = (BODY_HEADER_SIZE + 4 + 40) as u64;

/// The attributes of an image as they will be stored.
#[derive(Debug, Clone)]
pub struct XattrPlan {
    /// For each set of the tree the body behind the inode; empty for the empty set.
    bodies: Vec<Box<[u8]>>,
    /// The body behind the root's inode.
    root: Box<[u8]>,
    /// Number of the prefix that is the name of fingerprints, and their bit of the name filter, if that is used.
    fingerprint: Option<(u8, Option<u32>)>,
    /// The shared area.
    pub shared: Vec<u8>,
}

impl XattrPlan {
    /// Shares attributes that more than `tolerance` inodes have in common, and encodes all sets.
    pub fn new(
        tree: &FrozenTree,
        tolerance: u32,
        options: &MetadataOptions,
        prefixes: &[LongPrefix],
    ) -> Self {
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
            if encode(attribute, prefixes, &mut shared).is_some() {
                ids.insert(attribute, id);
            }
        }
        let bodies: Vec<Box<[u8]>> = tree
            .xattrs
            .iter()
            .map(|(id, set)| {
                let used = !set.is_empty() && set_uses.contains_key(&id);
                if used {
                    body(set, &ids, options.name_filter, prefixes)
                } else {
                    Box::default()
                }
            })
            .collect();
        let root_set = tree.inode(InodeId::ROOT).xattrs;
        let root = padded(&bodies[root_set.index()], options);
        let fingerprint = options.inode_digest.as_ref().and_then(|name| {
            let number = prefixes.iter().rposition(|prefix| prefix == name)?;
            let base = Prefix::from_value(name.base).unwrap_or(Prefix::None);
            let bit = filter_bit(base, &name.infix);
            let bit = options.name_filter.then_some(bit);
            Some((u8::try_from(number).ok()?, bit))
        });
        Self {
            bodies,
            root,
            fingerprint,
            shared,
        }
    }

    /// The body that a set has.
    fn set_body(&self, inode: InodeId, set: XattrSetId) -> &[u8] {
        if inode == InodeId::ROOT {
            return &self.root;
        }
        &self.bodies[set.index()]
    }

    /// The body behind an inode that has this set, and perhaps a fingerprint.
    pub fn body(
        &self,
        inode: InodeId,
        set: XattrSetId,
        fingerprint: Option<&Fingerprint>,
    ) -> Cow<'_, [u8]> {
        let body = self.set_body(inode, set);
        let (Some(sha256), Some((number, bit))) = (fingerprint, self.fingerprint) else {
            return Cow::Borrowed(body);
        };
        let mut bytes = body.to_vec();
        if bytes.is_empty() {
            let filter = if bit.is_some() {
                name_filter([])
            } else {
                FILTER_OFF
            };
            let header = encode_body_header(filter, &[], &mut bytes);
            debug_assert!(header.is_some(), "there are no ids");
        }
        if let (Some(bit), Some(filter)) = (bit, bytes.first_chunk_mut::<4>()) {
            // A bit that is set says that no attribute has it.
            *filter = (u32::from_le_bytes(*filter) & !(1 << bit)).to_le_bytes();
        }
        let entry = XattrEntry {
            index: NameIndex::Long(number),
            name: b"",
            value: &[FINGERPRINT_ALGORITHM, sha256].concat(),
        };
        let encoded = entry.encode(&mut bytes);
        debug_assert!(encoded.is_some(), "it has 39 bytes");
        Cow::Owned(bytes)
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

/// A root's body with room for more: words of zeros read as attributes without a name, which readers skip.
fn padded(body: &[u8], options: &MetadataOptions) -> Box<[u8]> {
    let mut bytes = body.to_vec();
    let wanted = usize::try_from(options.root_body_size()).unwrap_or(MAX_BODY_SIZE);
    if wanted > bytes.len() && wanted > BODY_HEADER_SIZE {
        if bytes.is_empty() && options.name_filter {
            let header = encode_body_header(name_filter([]), &[], &mut bytes);
            debug_assert!(header.is_some(), "there are no ids");
        }
        bytes.resize(wanted, 0);
    }
    bytes.into()
}

fn body(
    set: &[Xattr],
    ids: &HashMap<&Xattr, u32>,
    filtered: bool,
    prefixes: &[LongPrefix],
) -> Box<[u8]> {
    let shared: Vec<u32> = set
        .iter()
        .filter_map(|attribute| ids.get(attribute).copied())
        .take(MAX_SHARED)
        .collect();
    let names = set.iter().map(|attribute| Prefix::split(&attribute.name));
    let filter = if filtered {
        name_filter(names.flatten())
    } else {
        FILTER_OFF
    };
    let mut bytes = Vec::new();
    let header = encode_body_header(filter, &shared, &mut bytes);
    debug_assert!(header.is_some(), "at most 255 ids were taken");
    let inline = set
        .iter()
        .filter(|attribute| ids.get(attribute).is_none_or(|id| !shared.contains(id)));
    for attribute in inline {
        let entry = encode(attribute, prefixes, &mut bytes);
        debug_assert!(entry.is_some(), "the tree has checked lengths and names");
    }
    bytes.into()
}

fn encode(attribute: &Xattr, prefixes: &[LongPrefix], out: &mut Vec<u8>) -> Option<()> {
    let (base, suffix) = Prefix::split(&attribute.name)?;
    let (index, name) = long_prefix::find(prefixes, base, suffix)
        .map_or((NameIndex::Base(base), suffix), |(number, name)| {
            (NameIndex::Long(number), name)
        });
    XattrEntry {
        index,
        name,
        value: &attribute.value,
    }
    .encode(out)
}
