//! The merge of two sorted walks.
//!
//! One thread walks both trees at once, in byte order of the names, and compares metadata. Contents that metadata leaves
//! in doubt go to the workers. Only what one side lacks is kept to the end, for renames.

use super::Options;
use super::difference::{Changes, ContentChange, Difference, Kind, LinkChange, Problem};
use super::files::{Files, Pair};
use super::ordered::{Found, Ordered, Place};
use super::paths::{PathId, Paths};
use super::side::{Handle, Identity, Listing, Location, Node, Side, SideError};
use erofs_format::inode::FileType;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Longest path in bytes of a directory that is entered: no system call takes a sixteenth of that, and only a hostile
/// image has more.
const MAX_PATH: usize = 64 << 10;

/// An entry that only one side has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lone {
    pub(super) path: PathId,
    pub(super) handle: Handle,
    pub(super) identity: Identity,
    pub(super) size: u64,
    pub(super) file_type: FileType,
    pub(super) linked: bool,
}

/// What is left when a walk is over.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Entries that were met, those on both sides once.
    pub(super) entries: u64,
    pub(super) paths: Paths,
    /// Entries that only side A has, and those that only side B has, in the order of the walk.
    pub(super) lone: [Vec<Lone>; 2],
    pub(super) links: Links,
}

/// Files that may have several names, as far as both sides have the names.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// For each side: the file on the other side that has the same first name, and that name.
    partners: [HashMap<Identity, (Identity, PathId)>; 2],
    /// Pairs that were compared, with the place and name of the first comparison; no place when all was equal at once.
    compared: HashMap<(Identity, Identity), (Option<Place>, PathId)>,
}

impl Links {
    /// The first name of a file that both sides have.
    pub(super) fn first_name(&self, side: usize, identity: Identity) -> Option<PathId> {
        let partners = self.partners.get(side)?;
        partners.get(&identity).map(|(_, path)| *path)
    }
}

/// A directory that is being walked; a side that has it not has an empty list.
struct Level {
    /// Length of its path.
    path_length: usize,
    /// Its path, once it was needed.
    id: Option<PathId>,
    listings: [Listing; 2],
    /// Next entries.
    at: [usize; 2],
}

pub(super) struct Walker<'c> {
    sides: [&'c dyn Side; 2],
    options: &'c Options,
    ordered: &'c Ordered<'c>,
    files: Files<'c>,
    levels: Vec<Level>,
    /// Path of the current entry, length of its folder's, and its id once it was needed.
    path: Vec<u8>,
    folder_length: usize,
    id: Option<PathId>,
    walked: Walked,
}

impl<'c> Walker<'c> {
    pub(super) fn new(
        sides: [&'c dyn Side; 2],
        options: &'c Options,
        ordered: &'c Ordered<'c>,
        files: Files<'c>,
    ) -> Self {
        Self {
            sides,
            options,
            ordered,
            files,
            levels: Vec::new(),
            path: options.subtree.clone(),
            folder_length: Location::of(&options.subtree).folder.len(),
            id: None,
            walked: Walked::default(),
        }
    }

    /// Walks from the entries at the path that the options name.
    pub(super) fn walk(mut self, start: [Option<Node>; 2]) -> Walked {
        let result = match start {
            [Some(a), Some(b)] => self.pair([a, b]),
            [Some(a), None] => self.lone(0, a),
            [None, Some(b)] => self.lone(1, b),
            [None, None] => Ok(()),
        };
        self.tell(result);
        let any = self.options.any;
        let enough = |walked: &Walked| any && walked.lone.iter().any(|lone| !lone.is_empty());
        while !self.ordered.stopped() && !enough(&self.walked) {
            let Some(handles) = self.next() else { break };
            if self.options.excluded.contains(&self.path) {
                continue;
            }
            let result = self.entry(handles);
            self.tell(result);
        }
        self.walked
    }

    /// Goes to the next name and tells where it leads on each side.
    fn next(&mut self) -> Option<[Option<Handle>; 2]> {
        loop {
            let level = self.levels.last_mut()?;
            let [left, right] = [0, 1].map(|side| level.listings[side].get(level.at[side]));
            let order = match (left, right) {
                (None, None) => {
                    self.levels.pop();
                    continue;
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let left = left.filter(|_| order.is_le());
            let right = right.filter(|_| order.is_ge());
            let name = left.or(right).map(|(name, _)| name).unwrap_or_default();
            self.path.truncate(level.path_length);
            if level.path_length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            self.folder_length = level.path_length;
            self.id = None;
            let handles = [left, right].map(|found| found.map(|(_, handle)| handle));
            for (at, handle) in level.at.iter_mut().zip(&handles) {
                *at += usize::from(handle.is_some());
            }
            return Some(handles);
        }
    }

    fn location(&self) -> Location<'_> {
        let (folder, name) = self.path.split_at(self.folder_length);
        Location {
            folder,
            name: name.strip_prefix(b"/").unwrap_or(name),
        }
    }

    fn entry(&mut self, handles: [Option<Handle>; 2]) -> Result<(), (usize, SideError)> {
        let node = |side: usize, handle| {
            self.sides[side]
                .node(self.location(), handle)
                .map_err(|error| (side, error))
        };
        match handles {
            [Some(a), Some(b)] => self.pair([node(0, a)?, node(1, b)?]),
            [Some(a), None] => self.lone(0, node(0, a)?),
            [None, Some(b)] => self.lone(1, node(1, b)?),
            [None, None] => Ok(()),
        }
    }

    /// An entry that both sides have.
    fn pair(&mut self, nodes: [Node; 2]) -> Result<(), (usize, SideError)> {
        self.walked.entries += 1;
        let [a, b] = &nodes;
        if a.is_directory() || b.is_directory() {
            let described =
                !self.path.is_empty() || self.sides.iter().all(|side| side.describes_root());
            if described {
                match self.changes(&nodes) {
                    Ok(changes) => drop(self.tell_changes(changes, false)),
                    // What is below can be compared nevertheless.
                    Err(problem) => self.tell(Err(problem)),
                }
            }
            let below = nodes.map(|node| node.is_directory().then_some(node));
            return self.descend(below);
        }
        if !a.linked && !b.linked {
            let changes = self.changes(&nodes)?;
            self.contents(&nodes, changes, false);
            return Ok(());
        }
        let id = self.id().map_err(|error| (0, error))?;
        let links = self.partners(&nodes, id);
        let key = (a.identity, b.identity);
        match self.walked.links.compared.get(&key) {
            None => {
                let changes = Changes {
                    links,
                    ..self.changes(&nodes)?
                };
                let place = self.contents(&nodes, changes, true);
                self.walked.links.compared.insert(key, (place, id));
            }
            Some(_) if !links.is_empty() => {
                let changes = Changes {
                    links,
                    ..Changes::default()
                };
                self.tell_changes(changes, false);
            }
            // Equal, or told under its first name.
            Some((None, _)) => {}
            Some((Some(first), path)) => {
                let first_name = self.walked.paths.path(*path);
                let found = Found {
                    difference: Some(Difference {
                        path: self.path.clone(),
                        kind: Kind::ModifiedAs { first: first_name },
                    }),
                    only_if: Some(*first),
                    ..Found::default()
                };
                self.ordered.take(self.ordered.place(), found);
            }
        }
        Ok(())
    }

    /// Makes the files partners unless they have others, and tells who else should have been.
    fn partners(&mut self, [a, b]: &[Node; 2], id: PathId) -> Vec<LinkChange> {
        let [from_a, from_b] = &mut self.walked.links.partners;
        let (partner, a_name) = *from_a.entry(a.identity).or_insert((b.identity, id));
        let mut changes = Vec::new();
        if partner != b.identity {
            changes.push(LinkChange::Parted(self.walked.paths.path(a_name)));
        }
        let (partner, b_name) = *from_b.entry(b.identity).or_insert((a.identity, id));
        if partner != a.identity {
            changes.push(LinkChange::Joined(self.walked.paths.path(b_name)));
        }
        if self.options.ignored.links {
            changes.clear();
        }
        changes
    }

    fn changes(&self, [a, b]: &[Node; 2]) -> Result<Changes, (usize, SideError)> {
        let at = self.location();
        let sides = [(self.sides[0], a, at), (self.sides[1], b, at)];
        Changes::between(sides, &self.options.ignored)
    }

    /// Compares contents, now by size or later by bytes, and tells what differs.
    fn contents(
        &self,
        [a, b]: &[Node; 2],
        mut changes: Changes,
        remembered: bool,
    ) -> Option<Place> {
        let files = a.file_type == FileType::Regular && b.file_type == FileType::Regular;
        if files && a.size != b.size {
            changes.content = Some(ContentChange {
                sizes: (a.size, b.size),
                first: None,
            });
        }
        let same_file =
            a.identity == b.identity && self.sides.iter().all(|side| side.is_of_this_machine());
        if !files || a.size != b.size || a.size == 0 || !self.options.contents || same_file {
            return self.tell_changes(changes, remembered);
        }
        let place = self.ordered.place();
        self.files.compare(Pair {
            place,
            path: self.path.clone(),
            handles: [a.handle, b.handle],
            size: a.size,
            changes,
            remembered,
        });
        Some(place)
    }

    fn tell_changes(&self, changes: Changes, remembered: bool) -> Option<Place> {
        if changes.is_empty() {
            return None;
        }
        let place = self.ordered.place();
        let found = Found {
            difference: Some(Difference {
                path: self.path.clone(),
                kind: Kind::Modified(Box::new(changes)),
            }),
            remembered,
            ..Found::default()
        };
        self.ordered.take(place, found);
        Some(place)
    }

    /// An entry that only one side has.
    fn lone(&mut self, side: usize, node: Node) -> Result<(), (usize, SideError)> {
        self.walked.entries += 1;
        let lone = Lone {
            path: self.id().map_err(|error| (side, error))?,
            handle: node.handle,
            identity: node.identity,
            size: node.size,
            file_type: node.file_type,
            linked: node.linked,
        };
        self.walked.lone[side].push(lone);
        let mut below = [None, None];
        below[side] = Some(node).filter(Node::is_directory);
        self.descend(below)
    }

    /// Goes on with what is in the current directory.
    fn descend(&mut self, directories: [Option<Node>; 2]) -> Result<(), (usize, SideError)> {
        if directories.iter().all(Option::is_none) {
            return Ok(());
        }
        let mut listings = [Listing::default(), Listing::default()];
        for (side, directory) in directories.iter().enumerate() {
            if let Some(directory) = directory {
                if self.path.len() > MAX_PATH {
                    return Err((side, SideError::TooDeep { limit: MAX_PATH }));
                }
                listings[side] = self.sides[side]
                    .list(&self.path, directory)
                    .map_err(|error| (side, error))?;
            }
        }
        self.levels.push(Level {
            path_length: self.path.len(),
            id: self.id,
            listings,
            at: [0, 0],
        });
        Ok(())
    }

    /// Keeps the current path.
    fn id(&mut self) -> Result<PathId, SideError> {
        if let Some(id) = self.id {
            return Ok(id);
        }
        let mut parent = PathId::ROOT;
        let mut known = 0;
        let deepest = self.levels.iter().rposition(|level| level.id.is_some());
        if let Some(level) = deepest.and_then(|index| self.levels.get(index)) {
            parent = level.id.unwrap_or(PathId::ROOT);
            known = level.path_length;
        }
        let first = deepest.map_or(0, |index| index + 1);
        let mut insert = |parent, known: usize, end: usize| {
            let name = self.path.get(known..end).unwrap_or_default();
            let name = name.strip_prefix(b"/").unwrap_or(name);
            if name.is_empty() {
                return Ok(parent);
            }
            self.walked.paths.insert(parent, name)
        };
        for level in &mut self.levels[first..] {
            parent = insert(parent, known, level.path_length)?;
            level.id = Some(parent);
            known = level.path_length;
        }
        let id = insert(parent, known, self.path.len())?;
        self.id = Some(id);
        Ok(id)
    }

    /// Tells a problem with the current entry.
    fn tell(&self, result: Result<(), (usize, SideError)>) {
        if let Err((side, error)) = result {
            let found = Found {
                problem: Some(Problem {
                    side,
                    path: self.path.clone(),
                    error,
                }),
                ..Found::default()
            };
            self.ordered.take(self.ordered.place(), found);
        }
    }
}
