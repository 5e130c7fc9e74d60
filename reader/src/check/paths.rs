//! Names for inodes that are known by number only.

use super::finding::Finding;
use super::rule::Rule;
use super::tree::{self, Visitor};
use super::work::Work;
use crate::image::Image;
use crate::inode::Inode;
use erofs_format::Nid;
use std::collections::BTreeMap;
use std::io;

/// Gives each finding about an inode a path that leads to it, if there is one.
pub(super) fn name(
    image: &Image,
    start: &Inode,
    mut work: Work<'_>,
    findings: &mut [Finding],
) -> io::Result<()> {
    let special = [image.packed(), image.metabox()].map(|inode| inode.map(Inode::nid));
    let wanted = findings
        .iter()
        .filter(|finding| finding.path.is_none())
        .filter_map(|finding| finding.nid)
        .filter(|nid| !special.contains(&Some(*nid)))
        .map(|nid| (nid, None))
        .collect();
    let mut search = Search {
        missing: 0,
        paths: wanted,
    };
    search.missing = search.paths.len();
    if search.missing > 0 {
        tree::walk(image, start, &mut work, &mut search)?;
    }
    for finding in findings.iter_mut().filter(|finding| finding.path.is_none()) {
        let path = finding.nid.and_then(|nid| search.paths.get(&nid));
        finding.path = path.cloned().flatten();
    }
    Ok(())
}

struct Search {
    /// Inodes without a path.
    missing: usize,
    paths: BTreeMap<Nid, Option<Vec<u8>>>,
}

impl Visitor for Search {
    fn name(&mut self, path: &[u8], inode: &Inode) -> io::Result<()> {
        if let Some(found @ None) = self.paths.get_mut(&inode.nid()) {
            *found = Some(path.to_vec());
            self.missing -= 1;
        }
        Ok(())
    }

    fn found(&mut self, _: Rule, _: &dyn Fn() -> Finding) {
        // Told when the tree was walked for the first time.
    }

    fn is_done(&self) -> bool {
        self.missing == 0
    }
}
