//! Many paths in little memory: each costs its last name.

use super::side::SideError;

/// A path of [`Paths`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PathId(u32);

impl PathId {
    /// The empty path.
    pub(super) const ROOT: Self = Self(0);
}

/// Paths that share their beginnings.
#[derive(Debug)]
pub(super) struct Paths {
    names: Vec<u8>,
    nodes: Vec<PathNode>,
}

#[derive(Debug)]
struct PathNode {
    parent: PathId,
    start: u32,
    length: u32,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            nodes: vec![PathNode {
                parent: PathId::ROOT,
                start: 0,
                length: 0,
            }],
        }
    }
}

impl Paths {
    /// Keeps the path of `name` below `parent`.
    pub(super) fn insert(&mut self, parent: PathId, name: &[u8]) -> Result<PathId, SideError> {
        let number = |value: usize| u32::try_from(value).map_err(|_| SideError::TooLarge);
        let id = PathId(number(self.nodes.len())?);
        let start = number(self.names.len())?;
        self.nodes.push(PathNode {
            parent,
            start,
            length: number(name.len())?,
        });
        self.names.extend_from_slice(name);
        Ok(id)
    }

    /// The last name of a path.
    pub(super) fn name(&self, id: PathId) -> &[u8] {
        let Some(node) = self.nodes.get(id.0 as usize) else {
            return &[];
        };
        let start = node.start as usize;
        self.names
            .get(start..start + node.length as usize)
            .unwrap_or_default()
    }

    /// The whole path.
    pub(super) fn path(&self, id: PathId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = id;
        while at != PathId::ROOT {
            names.push(self.name(at));
            at = match self.nodes.get(at.0 as usize) {
                Some(node) => node.parent,
                None => break,
            };
        }
        names.reverse();
        names.join(&b'/')
    }
}
