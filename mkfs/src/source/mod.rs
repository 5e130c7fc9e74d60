//! Where trees come from: directories, tars, raw files, layers.

pub mod directory;
pub mod file_contexts;
pub mod layers;
pub mod raw;
pub mod tar;

use crate::plan::chunk_table::ChunkTableError;
use crate::tree::{DataRange, Location, Metadata, Xattr, display};
use erofs_format::inode::{FileType, Timestamp};
use file_contexts::FileContexts;
use regex::bytes::Regex;
use std::io::Read;
use std::sync::Arc;

/// What a user wants changed on the way from a source into the tree.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Everything belongs to this user.
    pub force_uid: Option<u32>,
    /// Everything belongs to this group.
    pub force_gid: Option<u32>,
    /// Added to all users; a sum that no 32 bits hold becomes 2^32 - 1.
    pub uid_offset: u32,
    /// Added to all groups, likewise.
    pub gid_offset: u32,
    /// Everything was modified at this time.
    pub fixed_time: Option<Timestamp>,
    /// Nothing was modified later than this.
    pub clamp_time: Option<Timestamp>,
    /// Extended attributes are left out.
    pub drop_xattrs: bool,
    /// SELinux labels by path, in place of those of the source.
    pub labels: Option<Arc<FileContexts>>,
    /// Paths, relative to the root, left out with all below them.
    pub excluded: Vec<Vec<u8>>,
    /// Paths, relative to the root, that one of these matches are left out with all below them.
    pub excluded_patterns: Vec<Regex>,
    /// Hard links become files of their own.
    pub separate_links: bool,
    /// A tar is a layer of a container image that somebody else made, and of what is odd in it becomes what container runtimes make of
    /// it: members may lie behind symlinks of the same tar, which lead nowhere but into the image; attributes of
    /// other systems and those of overlayfs are left out; an archive may be empty.
    pub as_layer: bool,
}

impl Rules {
    /// Applies the rules to the metadata of the entry at `path`.
    pub fn apply(&self, path: &[u8], file_type: FileType, metadata: &mut Metadata) {
        let uid = self.force_uid.unwrap_or(metadata.uid);
        metadata.uid = uid.saturating_add(self.uid_offset);
        let gid = self.force_gid.unwrap_or(metadata.gid);
        metadata.gid = gid.saturating_add(self.gid_offset);
        metadata.mtime = self.fixed_time.unwrap_or(metadata.mtime);
        if let Some(latest) = self.clamp_time {
            metadata.mtime = metadata.mtime.min(latest);
        }
        if self.drop_xattrs {
            metadata.xattrs = Vec::new();
        }
        if let Some(labels) = &self.labels {
            labels.apply(path, file_type, &mut metadata.xattrs);
        }
    }

    /// Whether anything is left out.
    pub fn excludes_any(&self) -> bool {
        !self.excluded.is_empty() || !self.excluded_patterns.is_empty()
    }

    /// Whether the entry at `components` is left out.
    pub fn excludes(&self, components: &[&[u8]]) -> bool {
        self.excludes_path(components) || self.excludes_by_pattern(components)
    }

    fn excludes_by_pattern(&self, components: &[&[u8]]) -> bool {
        if self.excluded_patterns.is_empty() {
            return false;
        }
        let mut path = Vec::new();
        components.iter().any(|part| {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
            self.excluded_patterns
                .iter()
                .any(|pattern| pattern.is_match(&path))
        })
    }

    fn excludes_path(&self, components: &[&[u8]]) -> bool {
        self.excluded.iter().any(|excluded| {
            let mut wanted = excluded
                .split(|byte| *byte == b'/')
                .filter(|part| !part.is_empty() && *part != b".");
            let mut have = components.iter();
            let mut matched = false;
            loop {
                match (wanted.next(), have.next()) {
                    (None, _) => return matched,
                    (Some(want), Some(part)) if want == *part => matched = true,
                    _ => return false,
                }
            }
        })
    }
}

/// Metadata of a root that no source describes: owned by root, mode 0755, at `mtime`.
pub fn default_root(mtime: Timestamp) -> Metadata {
    Metadata {
        permissions: 0o755,
        uid: 0,
        gid: 0,
        mtime,
        xattrs: Vec::<Xattr>::new(),
    }
}

/// What becomes of the `.wh.` names by which OCI layers say that something is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Whiteouts {
    /// Overlayfs whiteouts and opaque directories with `trusted.overlay.*` attributes.
    Overlay,
    /// The same with `user.overlay.*`, for mounts with `userxattr`.
    OverlayUser,
    /// They stay the files that they are.
    #[default]
    Keep,
    /// They are left out.
    Strip,
}

/// Takes the data of files that pass by only once.
pub trait StreamSink {
    /// Takes a regular file's data from `data`, which yields the bytes of `ranges` one after the other (all `size` bytes
    /// without ranges) and must be read to its end. `metadata` is what the file will have: attributes decide whether a
    /// tail fits behind its inode.
    ///
    /// # Errors
    /// [`StoreError`].
    fn store(
        &mut self,
        path: &[u8],
        metadata: &Metadata,
        size: u64,
        ranges: Option<&[DataRange]>,
        data: &mut dyn Read,
    ) -> Result<Location, StoreError>;
}

/// Why a file's data could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The source could not be read.
    #[error("{}: {source}", display(path))]
    Read {
        /// The file.
        path: Vec<u8>,
        /// What happened.
        source: std::io::Error,
    },
    /// The source has fewer bytes than it said.
    #[error("{}: it ends after {found} of {expected} bytes", display(path))]
    Short {
        /// The file.
        path: Vec<u8>,
        /// Size as announced, in bytes.
        expected: u64,
        /// Bytes that were there.
        found: u64,
    },
    /// The file has another size than a moment ago.
    #[error(
        "{}: it had {expected} bytes, now it has {found}: it is being changed",
        display(path)
    )]
    Changed {
        /// The file.
        path: Vec<u8>,
        /// Size when the tree was read, in bytes.
        expected: u64,
        /// Size now, in bytes.
        found: u64,
    },
    /// The file has the size of a moment ago, but was written to, or anything else of it was changed.
    #[error(
        "{}: it was changed after the tree was read: it is being changed",
        display(.0)
    )]
    Touched(Vec<u8>),
    /// A sparse file with too large a table.
    #[error(transparent)]
    ChunkTable(#[from] ChunkTableError),
    /// The image could not be written; the pipeline has the reason.
    #[error("the image could not be written")]
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excluded_paths_cover_what_is_below_them() {
        let rules = Rules {
            excluded: vec![b"/a/b/".to_vec(), b"".to_vec()],
            ..Rules::default()
        };
        for (path, expected) in [
            (&[&b"a"[..]][..], false),
            (&[b"a", b"b"], true),
            (&[b"a", b"b", b"c"], true),
            (&[b"a", b"bc"], false),
            (&[b"b"], false),
            (&[], false),
        ] {
            assert_eq!(rules.excludes(path), expected, "{path:?}");
        }
    }

    #[test]
    fn excluded_patterns_cover_what_is_below_a_match() {
        let rules = Rules {
            excluded_patterns: vec![Regex::new(r"(?-u)^a/.*\.o$|^\xFF").unwrap()],
            ..Rules::default()
        };
        for (path, expected) in [
            (&[&b"a"[..]][..], false),
            (&[b"x.o"], false),
            (&[b"a", b"x.o"], true),
            (&[b"a", b"x.o", b"below"], true),
            (&[b"a", b"x.oo"], false),
            (&[b"\xFFbytes"], true),
        ] {
            assert_eq!(rules.excludes(path), expected, "{path:?}");
        }
    }

    #[test]
    fn owners_are_forced_then_moved() {
        let moved = |rules: Rules| {
            let mut metadata = default_root(Timestamp::default());
            metadata.uid = 7;
            rules.apply(b"", FileType::Directory, &mut metadata);
            metadata.uid
        };
        let rules = |force_uid, uid_offset| Rules {
            force_uid,
            uid_offset,
            ..Rules::default()
        };
        assert_eq!(moved(rules(None, 100_000)), 100_007);
        assert_eq!(moved(rules(Some(5), 100_000)), 100_005);
        assert_eq!(moved(rules(Some(u32::MAX), 1)), u32::MAX);
    }
}
