//! Sets of extended attributes, each stored once: most files of a tree have none or the same few.

use super::TreeError;
use erofs_format::xattr::{self, Prefix};
use std::collections::HashMap;
use std::sync::Arc;

/// An attribute by its full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xattr {
    /// Full name, with its namespace.
    pub name: Box<[u8]>,
    /// Value.
    pub value: Box<[u8]>,
}

/// A set of [`XattrSets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct XattrSetId(u32);

impl XattrSetId {
    /// No attributes.
    pub const EMPTY: Self = Self(0);

    /// Position in tables that have one element for each set.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// All sets of a tree; set 0 is empty.
#[derive(Debug)]
pub struct XattrSets {
    sets: Vec<Arc<[Xattr]>>,
    ids: HashMap<Arc<[Xattr]>, XattrSetId>,
}

impl Default for XattrSets {
    fn default() -> Self {
        let empty: Arc<[Xattr]> = Arc::new([]);
        Self {
            sets: vec![empty.clone()],
            ids: HashMap::from([(empty, XattrSetId::EMPTY)]),
        }
    }
}

impl XattrSets {
    /// The attributes of a set, sorted by name.
    pub fn get(&self, id: XattrSetId) -> &[Xattr] {
        &self.sets[id.index()]
    }

    /// All sets, by their index.
    pub fn iter(&self) -> impl Iterator<Item = (XattrSetId, &[Xattr])> {
        (0..)
            .map(XattrSetId)
            .zip(self.sets.iter().map(|set| &**set))
    }

    /// Keeps a set; of equal names the last counts.
    ///
    /// # Errors
    /// [`TreeError::Xattr`] for what EROFS cannot hold, naming the entry by `path`.
    pub(super) fn intern(
        &mut self,
        path: &[u8],
        mut xattrs: Vec<Xattr>,
    ) -> Result<XattrSetId, TreeError> {
        if xattrs.is_empty() {
            return Ok(XattrSetId::EMPTY);
        }
        xattrs.reverse();
        xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        xattrs.dedup_by(|later, first| later.name == first.name);
        let mut size = xattr::BODY_HEADER_SIZE;
        for attribute in &xattrs {
            size += check(path, attribute)?;
        }
        if xattr::icount(size as u64).is_none() {
            return Err(TreeError::Xattr {
                path: path.to_vec(),
                name: xattrs.first().map(|a| a.name.to_vec()).unwrap_or_default(),
                problem: "all attributes of the file together are larger than 262148 bytes",
            });
        }
        if let Some(id) = self.ids.get(xattrs.as_slice()) {
            return Ok(*id);
        }
        let id = XattrSetId(
            u32::try_from(self.sets.len()).map_err(|_| TreeError::TooMany("xattr sets"))?,
        );
        let set: Arc<[Xattr]> = xattrs.into();
        self.sets.push(set.clone());
        self.ids.insert(set, id);
        Ok(id)
    }
}

/// Size of the attribute's entry in bytes.
fn check(path: &[u8], attribute: &Xattr) -> Result<usize, TreeError> {
    let refuse = |problem| {
        Err(TreeError::Xattr {
            path: path.to_vec(),
            name: attribute.name.to_vec(),
            problem,
        })
    };
    let Some((_, suffix)) = Prefix::split(&attribute.name) else {
        return refuse("EROFS holds user, trusted, security and POSIX ACL attributes only");
    };
    if suffix.len() > xattr::MAX_NAME_LENGTH {
        return refuse("its name is longer than 255 bytes");
    }
    if attribute.name.contains(&0) {
        return refuse("its name contains a NUL byte");
    }
    if attribute.value.len() > xattr::MAX_VALUE_SIZE {
        return refuse("its value is longer than 65535 bytes");
    }
    Ok(xattr::entry_size(suffix.len(), attribute.value.len()))
}
