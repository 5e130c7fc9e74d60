//! Goes through what is selected, in order, and says what is to be made.

use super::error::ExtractError;
use super::names::{HostileNames, component, escaped};
use super::selection::normalized;
use super::shared::Shared;
use crate::error::Error;
use crate::inode::Inode;
use crate::walk::Walk;
use std::borrow::Cow;

/// Something that is to be made.
#[derive(Clone, Copy)]
pub(super) struct Entry<'e> {
    /// One component, fit for any directory.
    pub(super) name: &'e [u8],
    /// Where it goes, relative to the target.
    pub(super) path: &'e [u8],
    pub(super) inode: &'e Inode,
}

/// Makes what is selected, parents before children, names of a directory in ascending order.
pub(super) trait Maker {
    /// Makes a directory; until it is left, all entries are below it.
    fn enter(&mut self, directory: &Entry<'_>) -> Result<(), ExtractError>;

    /// Goes back to where the last directory was entered.
    fn leave(&mut self);

    /// Makes anything else.
    fn make(&mut self, entry: &Entry<'_>) -> Result<(), ExtractError>;
}

/// Has `maker` make what is selected below `root`, each tree once, with the directories that lead there.
pub(super) fn traverse(
    shared: &Shared<'_>,
    root: &Inode,
    selection: &[Vec<u8>],
    maker: &mut impl Maker,
) {
    let mut traversal = Traversal {
        shared,
        maker,
        path: Vec::new(),
        levels: vec![Level {
            inode: *root,
            name: Vec::new(),
            path_length: 0,
            last: Vec::new(),
            entered: true,
            included: shared.options.globs.includes_all(),
        }],
    };
    for names in normalized(selection, |path, error| shared.problem(path, error)) {
        if let Err(error) = traversal.selected(&names) {
            shared.problem(&names.join(&b'/'), error);
        }
    }
    traversal.back_to(1);
}

/// A directory on the way to the current entry.
struct Level {
    inode: Inode,
    /// As in the image.
    name: Vec<u8>,
    /// Length of its own path, with a slash behind it.
    path_length: usize,
    /// Name of the last entry: names ascend, so one that does not may have been there before, and might replace itself.
    last: Vec<u8>,
    /// The maker knows of it. With patterns it learns only of those where something is found.
    entered: bool,
    /// A pattern selects all below.
    included: bool,
}

struct Traversal<'s, 'm, M> {
    shared: &'s Shared<'s>,
    maker: &'m mut M,
    /// Where the current entry goes.
    path: Vec<u8>,
    /// From the root on; never empty.
    levels: Vec<Level>,
}

impl<M: Maker> Traversal<'_, '_, M> {
    fn selected(&mut self, names: &[Vec<u8>]) -> Result<(), ExtractError> {
        let image = self.shared.image;
        let same = |(level, name): &(&Level, &Vec<u8>)| level.name == **name;
        let common = self.levels.iter().skip(1).zip(names);
        let common = common.take_while(same).count();
        self.back_to(common + 1);
        let Some(mut start) = self.levels.last().map(|level| level.inode) else {
            return Ok(());
        };
        for (index, name) in names.iter().enumerate().skip(common) {
            let nid = image.lookup(&start, name)?;
            let nid = nid.ok_or_else(|| Error::NotFound { name: name.clone() })?;
            start = image.inode(nid)?;
            let is_last = index + 1 == names.len();
            if !is_last && !start.is_directory() {
                return Err(Error::NotADirectory(start.nid()).into());
            }
            // The last one is where the walk begins.
            if !is_last && !self.entry(name, &start)? {
                return Ok(());
            }
        }
        let options = self.shared.options;
        let depth_left = options.max_depth.saturating_sub(names.len());
        let mut walk = image.walk_from(&start, depth_left).with_any_names();
        while let Some(entry) = walk.next() {
            if self.shared.is_stopped() {
                break;
            }
            let result = match entry {
                Ok(entry) => self.walked(names, entry.depth, &entry.inode, &walk),
                Err(error) => Err(error.into()),
            };
            match result {
                Ok(true) => {}
                Ok(false) => walk.skip_directory(),
                Err(error) => {
                    self.shared.problem(&image_path(names, &walk), error);
                    walk.skip_directory();
                }
            }
        }
        Ok(())
    }

    /// Takes what a walk came to. `false` when nothing below it is wanted.
    fn walked(
        &mut self,
        prefix: &[Vec<u8>],
        depth: usize,
        inode: &Inode,
        walk: &Walk<'_>,
    ) -> Result<bool, ExtractError> {
        let name = match (depth, prefix.last()) {
            (0, None) => return Ok(true),
            (0, Some(name)) => name.as_slice(),
            _ => walk.name(),
        };
        let above = prefix.len() + depth;
        self.back_to(above);
        if self.levels.len() < above {
            // Below a directory that could not be made nothing can be.
            return Ok(false);
        }
        self.entry(name, inode)
    }

    /// Takes an entry of the innermost level; a directory becomes the innermost one. `false` when nothing below it is
    /// wanted.
    fn entry(&mut self, name: &[u8], inode: &Inode) -> Result<bool, ExtractError> {
        let Some(level) = self.levels.last_mut() else {
            return Ok(false);
        };
        if name <= level.last.as_slice() {
            return Err(ExtractError::Unordered);
        }
        level.last = name.to_vec();
        let fit = match self.shared.options.hostile_names {
            HostileNames::Refuse => Cow::Borrowed(name),
            HostileNames::Rename => escaped(name),
        };
        component(&fit)?;
        self.path.truncate(level.path_length);
        self.path.extend_from_slice(&fit);
        let globs = &self.shared.options.globs;
        if globs.excludes(&self.path) {
            return Ok(false);
        }
        let included = level.included || globs.includes(&self.path);
        if inode.is_directory() {
            self.path.push(b'/');
            self.levels.push(Level {
                inode: *inode,
                name: name.to_vec(),
                path_length: self.path.len(),
                last: Vec::new(),
                entered: false,
                included,
            });
            return Ok(!included || self.enter_all());
        }
        if included && self.enter_all() {
            let start = self.levels.last().map_or(0, |level| level.path_length);
            self.maker.make(&Entry {
                name: self.path.get(start..).unwrap_or_default(),
                path: &self.path,
                inode,
            })?;
        }
        Ok(true)
    }

    /// Enters all levels that were not entered so far. `false` when one of them cannot be made, which has been reported.
    fn enter_all(&mut self) -> bool {
        let mut start = 0;
        for (index, level) in self.levels.iter_mut().enumerate() {
            let end = level.path_length.saturating_sub(1);
            if !level.entered {
                let path = self.path.get(..end).unwrap_or_default();
                let made = self.maker.enter(&Entry {
                    name: path.get(start..).unwrap_or_default(),
                    path,
                    inode: &level.inode,
                });
                if let Err(error) = made {
                    self.shared.problem(path, error);
                    self.back_to(index);
                    return false;
                }
                level.entered = true;
            }
            start = level.path_length;
        }
        true
    }

    /// Leaves all levels but the first `count`, at least one.
    fn back_to(&mut self, count: usize) {
        for level in self
            .levels
            .drain(count.max(1).min(self.levels.len())..)
            .rev()
        {
            if level.entered {
                self.maker.leave();
            }
        }
    }
}

/// Path in the image of what the last call of `walk` was about.
fn image_path(prefix: &[Vec<u8>], walk: &Walk<'_>) -> Vec<u8> {
    let mut path = prefix.join(&b'/');
    if !path.is_empty() && !walk.path().is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(walk.path());
    path
}
