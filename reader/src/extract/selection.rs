//! What of an image is extracted.

use super::names::component;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A pattern that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is not a pattern: {reason}")]
pub struct GlobError {
    /// As given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Patterns over the paths of an image.
///
/// A pattern without a slash is held against names, at any depth; one with a slash (a leading one says no more than
/// that) against whole paths from the root. `*` and `?` (one byte) do not match slashes, `**` matches any number of
/// components, `[…]` one byte of a set, `{a,b}` alternatives; a backslash takes the meaning from what follows it.
#[derive(Debug, Clone, Default)]
pub struct Globs {
    includes: Option<Patterns>,
    excludes: Option<Patterns>,
}

#[derive(Debug, Clone)]
struct Patterns {
    names: GlobSet,
    paths: GlobSet,
}

impl Globs {
    /// Selects what matches one of `includes` (everything, if there is none) and none of `excludes`. What matches brings
    /// along, or takes with it, all below.
    ///
    /// # Errors
    /// [`GlobError`].
    pub fn new(includes: &[String], excludes: &[String]) -> Result<Self, GlobError> {
        Ok(Self {
            includes: Patterns::new(includes)?,
            excludes: Patterns::new(excludes)?,
        })
    }

    /// Whether everything is selected that does not match an exclude.
    pub(super) const fn includes_all(&self) -> bool {
        self.includes.is_none()
    }

    pub(super) fn includes(&self, path: &[u8]) -> bool {
        self.includes.as_ref().is_none_or(|set| set.matches(path))
    }

    pub(super) fn excludes(&self, path: &[u8]) -> bool {
        self.excludes.as_ref().is_some_and(|set| set.matches(path))
    }
}

impl Patterns {
    fn new(patterns: &[String]) -> Result<Option<Self>, GlobError> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let error = |reason: globset::Error| GlobError {
                pattern: pattern.clone(),
                reason: reason.kind().to_string(),
            };
            let (set, text) = match pattern.strip_prefix('/') {
                Some(rest) => (&mut paths, rest),
                None if pattern.contains('/') => (&mut paths, pattern.as_str()),
                None => (&mut names, pattern.as_str()),
            };
            // "dir/" is the directory.
            let text = text.strip_suffix('/').unwrap_or(text);
            let glob = GlobBuilder::new(text)
                .literal_separator(true)
                .backslash_escape(true)
                .build();
            set.add(glob.map_err(error)?);
        }
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|error| GlobError {
                pattern: error.glob().unwrap_or_default().to_owned(),
                reason: error.kind().to_string(),
            })
        };
        Ok(Some(Self {
            names: build(names)?,
            paths: build(paths)?,
        }))
    }

    fn matches(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        self.names.is_match(OsStr::from_bytes(name)) || self.paths.is_match(OsStr::from_bytes(path))
    }
}

/// The components of the selected paths in order, each tree once; the whole image without any. Paths that are none go to
/// `refuse`.
pub(super) fn normalized(
    paths: &[Vec<u8>],
    mut refuse: impl FnMut(&[u8], super::ExtractError),
) -> Vec<Vec<Vec<u8>>> {
    if paths.is_empty() {
        return vec![Vec::new()];
    }
    let mut selected: Vec<Vec<Vec<u8>>> = Vec::new();
    for path in paths {
        let names = path
            .split(|byte| *byte == b'/')
            .filter(|name| !matches!(*name, b"" | b"."));
        match names
            .map(|name| component(name).map(<[u8]>::to_vec))
            .collect()
        {
            Ok(names) => selected.push(names),
            Err(error) => refuse(path, error),
        }
    }
    selected.sort();
    // What a path selects begins with it, and stands right behind it.
    selected.dedup_by(|later, earlier| later.starts_with(earlier));
    selected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(includes: &[&str], excludes: &[&str]) -> Globs {
        let owned = |patterns: &[&str]| patterns.iter().map(|text| (*text).to_owned()).collect();
        let (includes, excludes): (Vec<_>, Vec<_>) = (owned(includes), owned(excludes));
        Globs::new(&includes, &excludes).unwrap()
    }

    #[test]
    fn patterns_match_names_or_paths() {
        for (pattern, matching, others) in [
            (
                "*.so",
                &[&b"a.so"[..], b"x/y/.so", b"x/\xff.so"][..],
                &[&b"a.so/b"[..], b"so"][..],
            ),
            ("/etc", &[b"etc"], &[b"x/etc", b"etc/x"]),
            ("/etc/", &[b"etc"], &[b"x/etc"]),
            (
                "usr/*/doc",
                &[b"usr/share/doc"],
                &[b"usr/a/b/doc", b"x/usr/share/doc"],
            ),
            (
                "usr/**/doc",
                &[b"usr/share/doc", b"usr/a/b/doc", b"usr/doc"],
                &[b"doc"],
            ),
            ("**/doc", &[b"doc", b"a/b/doc"], &[b"a/docs"]),
            ("?", &[b"a", b"\xff", b"x/y"], &["\u{e9}".as_bytes(), b"ab"]),
            ("[!a-c]", &[b"d"], &[b"a", b"x/b"]),
            ("{a,b}*", &[b"ax", b"b"], &[b"c"]),
            (r"\*", &[b"*"], &[b"a"]),
            ("A", &[b"A"], &[b"a"]),
        ] {
            let set = globs(&[pattern], &[]);
            for path in matching {
                assert!(set.includes(path), "{pattern} {path:?}");
            }
            for path in others {
                assert!(!set.includes(path), "{pattern} {path:?}");
            }
        }
        let none = globs(&[], &["x"]);
        assert!(none.includes(b"anything") && none.includes_all());
        assert!(none.excludes(b"a/x") && !none.excludes(b"y"));
        assert!(Globs::new(&["[".to_owned()], &[]).is_err());
    }
}
