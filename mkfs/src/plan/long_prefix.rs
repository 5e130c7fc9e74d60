//! Long prefixes: what many names of attributes begin with is stored once (format reference §8.4).

use crate::tree::{FrozenTree, XattrSetId};
use erofs_format::xattr::{LongPrefix, MAX_LONG_PREFIXES, MAX_NAME_LENGTH, Prefix, entry_size};
use std::collections::{BTreeMap, BTreeSet};

/// Reads a prefix as a user writes it, e.g. `trusted.overlay.` or a mere namespace; `None` for what is empty or too long.
pub fn parse(text: &[u8]) -> Option<LongPrefix> {
    let longer = [text, b"x"].concat();
    let (base, infix) = match Prefix::split(&longer) {
        Some((namespace, b"x")) => (namespace, &b""[..]),
        _ => Prefix::split(text).unwrap_or((Prefix::None, text)),
    };
    (!text.is_empty() && infix.len() <= MAX_NAME_LENGTH).then(|| LongPrefix {
        base: base.value(),
        infix: infix.to_vec(),
    })
}

/// Bytes that a prefix takes in the table.
pub fn stored_size(prefix: &LongPrefix) -> u64 {
    (3 + prefix.infix.len() as u64).next_multiple_of(4)
}

/// The longest prefix that a name (`suffix` behind its namespace `base`) begins with: its number, and the rest. A mere
/// namespace saves nothing, so no name is told by it.
pub fn find<'n>(prefixes: &[LongPrefix], base: Prefix, suffix: &'n [u8]) -> Option<(u8, &'n [u8])> {
    let fitting = (0u8..).zip(prefixes).filter_map(|(number, prefix)| {
        let rest = suffix.strip_prefix(prefix.infix.as_slice())?;
        (prefix.base == base.value() && !prefix.infix.is_empty()).then_some((number, rest))
    });
    fitting.min_by_key(|(number, rest)| (rest.len(), *number))
}

/// The prefixes, ending with a dot, that save more than they take in `room` bytes, those that save most first. Attributes
/// that more than `tolerance` inodes have in common are stored once.
pub fn worthwhile(tree: &FrozenTree, tolerance: u32, room: u64) -> Vec<LongPrefix> {
    let names = stored_names(tree, tolerance);
    let candidates: BTreeSet<(Prefix, &[u8])> = names
        .keys()
        .flat_map(|(base, suffix, _)| {
            let dots = suffix.iter().enumerate().filter(|(_, byte)| **byte == b'.');
            dots.filter_map(move |(at, _)| Some((*base, suffix.get(..=at)?)))
        })
        .collect();
    let mut chosen: Vec<LongPrefix> = Vec::new();
    let mut left = room;
    // Each round takes the best one beside those that were chosen; a name has few dots, so there are few candidates.
    while chosen.len() < MAX_LONG_PREFIXES {
        let best = candidates
            .iter()
            .filter_map(|(base, infix)| {
                let prefix = LongPrefix {
                    base: base.value(),
                    infix: infix.to_vec(),
                };
                let cost = stored_size(&prefix);
                let gain = saving(&names, &chosen, *base, infix).checked_sub(cost)?;
                (gain > 0 && cost <= left && infix.len() <= MAX_NAME_LENGTH)
                    .then_some((gain, prefix, cost))
            })
            .max_by(|(a, first, _), (b, second, _)| {
                a.cmp(b).then_with(|| second.infix.cmp(&first.infix))
            });
        let Some((_, prefix, cost)) = best else { break };
        left -= cost;
        chosen.push(prefix);
    }
    chosen
}

/// How often each name is stored with a value of each length.
fn stored_names(tree: &FrozenTree, tolerance: u32) -> BTreeMap<(Prefix, &[u8], usize), u64> {
    let mut set_uses: BTreeMap<XattrSetId, u32> = BTreeMap::new();
    for id in tree.breadth_first() {
        *set_uses.entry(tree.inode(id).xattrs).or_default() += 1;
    }
    let mut uses = BTreeMap::new();
    for (set, count) in set_uses {
        for attribute in tree.xattrs.get(set) {
            *uses.entry(attribute).or_insert(0u32) += count;
        }
    }
    let mut names = BTreeMap::new();
    for (attribute, count) in uses {
        if let Some((base, suffix)) = Prefix::split(&attribute.name) {
            let stored = if count > tolerance { 1 } else { count };
            *names
                .entry((base, suffix, attribute.value.len()))
                .or_insert(0) += u64::from(stored);
        }
    }
    names
}

/// Bytes that one more prefix saves.
fn saving(
    names: &BTreeMap<(Prefix, &[u8], usize), u64>,
    chosen: &[LongPrefix],
    base: Prefix,
    infix: &[u8],
) -> u64 {
    names
        .iter()
        .filter(|((own, _, _), _)| *own == base)
        .filter_map(|((_, suffix, value), count)| {
            let rest = suffix.strip_prefix(infix)?;
            let before = find(chosen, base, suffix).map_or(*suffix, |(_, rest)| rest);
            let saved =
                entry_size(before.len(), *value).checked_sub(entry_size(rest.len(), *value))?;
            Some(saved as u64 * count)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::default_root;
    use crate::tree::{Body, Location, Tree, Xattr};
    use erofs_format::inode::Timestamp;

    #[test]
    fn prefixes_are_read_as_written() {
        let overlay = parse(b"trusted.overlay.").unwrap();
        assert_eq!((overlay.base, &*overlay.infix), (4, &b"overlay."[..]));
        assert_eq!(parse(b"erofs.x").unwrap().base, 0);
        // Stored, as mkfs.erofs does, and of no use.
        let user = parse(b"user.").unwrap();
        assert_eq!((user.base, &*user.infix), (1, &b""[..]));
        assert_eq!(find(&[user], Prefix::User, b"x"), None);
        for text in [&b""[..], &[b'x'; 300]] {
            assert!(parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn the_longest_prefix_counts() {
        let prefixes = [parse(b"user.a.").unwrap(), parse(b"user.a.b.").unwrap()];
        let found = |name: &'static [u8]| find(&prefixes, Prefix::User, name);
        assert_eq!(found(b"a.b.c"), Some((1, &b"c"[..])));
        assert_eq!(found(b"a.c"), Some((0, &b"c"[..])));
        assert_eq!(found(b"b.a."), None);
        assert_eq!(find(&prefixes, Prefix::Trusted, b"a.b"), None);
    }

    #[test]
    fn what_saves_nothing_is_not_taken() {
        let root = default_root(Timestamp::default());
        let mut tree = Tree::new(root.clone()).unwrap();
        for number in 0..20 {
            let mut metadata = root.clone();
            let mut attribute = |name: String| {
                metadata.xattrs.push(Xattr {
                    name: name.into_bytes().into(),
                    value: number.to_string().into_bytes().into(),
                });
            };
            attribute(format!("user.company.department.key{number}"));
            attribute("security.x".to_owned());
            if number == 0 {
                attribute("trusted.once.only".to_owned());
            }
            let body = Body::Regular {
                size: 0,
                location: Location::Nowhere,
            };
            tree.insert(format!("{number}").as_bytes(), metadata, body)
                .unwrap();
        }
        let tree = tree.finish().unwrap();
        let infixes = |room| -> Vec<Vec<u8>> {
            let chosen = worthwhile(&tree, 2, room);
            chosen.into_iter().map(|prefix| prefix.infix).collect()
        };
        assert_eq!(infixes(1000), [b"company.department.".to_vec()]);
        // The shorter one saves less and fits.
        assert_eq!(infixes(12), [b"company.".to_vec()]);
        assert!(infixes(4).is_empty());
    }
}
