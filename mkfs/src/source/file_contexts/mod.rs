//! SELinux labels by path: files of `file_contexts(5)` as libselinux reads them (`label_file.c`).
//!
//! ```text
//! # regular expression for the whole path, perhaps a type of file, a context
//! /usr(/.*)?              system_u:object_r:usr_t:s0
//! /usr/bin/.*     --      system_u:object_r:bin_t:s0
//! /proc/.*                <<none>>
//! ```
//! What matches last counts; an expression that stands for one path alone counts before all others.

mod specification;

use crate::tree::Xattr;
use erofs_format::inode::FileType;
use specification::{Pattern, Specification};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The attribute that holds a label. Its value has no NUL at its end, as mkfs.erofs writes it.
const ATTRIBUTE: &[u8] = b"security.selinux";
/// First bytes of files that `sefcontext_compile` makes, and of such by older versions of it.
const COMPILED: [[u8; 4]; 2] = [[0xF9, 0x7C, 0xFF, 0x8A], [0x8A, 0xFF, 0x7C, 0xF9]];

/// What label each path gets.
#[derive(Debug, Clone, Default)]
pub struct FileContexts {
    /// Where the image will be mounted, as it stands before paths: empty, or with a slash in front of each component.
    mount_point: Vec<u8>,
    /// Prefixes of paths that stand for others: those of the machine, of which the first that fits counts, and those of
    /// the distribution for what comes out of it.
    substitutions: [Vec<Substitution>; 2],
    /// By the one path they stand for, the file read last first.
    literals: BTreeMap<Vec<u8>, Vec<Label>>,
    /// By the directory their text names, so that few are tried for a path, in order.
    patterns: BTreeMap<Vec<u8>, Vec<(usize, regex::bytes::Regex, Label)>>,
    /// How many lines were taken.
    count: usize,
}

/// What a line says of a path that it matches.
#[derive(Debug, Clone)]
struct Label {
    /// Only files of this type are meant.
    file_type: Option<FileType>,
    /// `None`: there shall be no label.
    context: Option<Box<[u8]>>,
}

impl Label {
    fn is_for(&self, file_type: FileType) -> bool {
        self.file_type.is_none_or(|own| own == file_type)
    }
}

/// A line of `.subs`: paths below `from` have the labels of those below `to`.
#[derive(Debug, Clone)]
struct Substitution {
    from: Vec<u8>,
    to: Vec<u8>,
}

/// Why labels cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum FileContextsError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A file is not text.
    #[error("{}: it is compiled: give the text that it was made of", .0.display())]
    Compiled(PathBuf),
    /// A line means nothing.
    #[error("{}: line {line}, column {column}: {rule}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Byte of the line, from 1.
        column: usize,
        /// What is wrong there.
        rule: LineRule,
    },
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineRule {
    /// Lines are text.
    #[error("byte {0:#04x}: expected ASCII characters")]
    Encoding(u8),
    /// The context is missing.
    #[error("a context is missing behind the regular expression")]
    NoContext,
    /// The second of three fields is no type.
    #[error("{0:?} is no type of file: expected --, -d, -l, -c, -b, -p or -s")]
    Type(String),
    /// A field is longer than libselinux takes it.
    #[error("{length} bytes: expected fewer than {limit}")]
    Length {
        /// In bytes.
        length: usize,
        /// In bytes.
        limit: usize,
    },
    /// The expression has no meaning.
    #[error("{0}")]
    Pattern(String),
}

impl FileContexts {
    /// Reads the file at `path` and, where they exist, those beside it that libselinux reads with it: `.homedirs` and
    /// `.local` with more lines, `.subs` and `.subs_dist` with prefixes of paths that stand for others. Paths of the image
    /// are looked up as they will be below `mount_point`.
    ///
    /// # Errors
    /// [`FileContextsError`].
    pub fn read(path: &Path, mount_point: &[u8]) -> Result<Self, FileContextsError> {
        let mut contexts = Self {
            mount_point: clean(&[mount_point]),
            ..Self::default()
        };
        let failed = |path: &Path, source| FileContextsError::Read {
            path: path.to_path_buf(),
            source,
        };
        let text = std::fs::read(path).map_err(|source| failed(path, source))?;
        if COMPILED.iter().any(|magic| text.starts_with(magic)) {
            return Err(FileContextsError::Compiled(path.to_path_buf()));
        }
        contexts.take(path, &text)?;
        let beside = |suffix: &str| {
            let path = PathBuf::from([path.as_os_str(), suffix.as_ref()].join("".as_ref()));
            match std::fs::read(&path) {
                Ok(text) => Ok((path, text)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok((path, Vec::new())),
                Err(source) => Err(failed(&path, source)),
            }
        };
        for suffix in [".homedirs", ".local"] {
            let (path, text) = beside(suffix)?;
            contexts.take(&path, &text)?;
        }
        contexts.substitutions = [
            substitutions(&beside(".subs")?.1),
            substitutions(&beside(".subs_dist")?.1),
        ];
        Ok(contexts)
    }

    /// Takes the lines of one more file.
    fn take(&mut self, path: &Path, text: &[u8]) -> Result<(), FileContextsError> {
        let mut literals: BTreeMap<Vec<u8>, Vec<Label>> = BTreeMap::new();
        for (line, bytes) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let parsed = Specification::parse(bytes);
            let parsed = parsed.map_err(|(column, rule)| FileContextsError::Line {
                path: path.to_path_buf(),
                line,
                column,
                rule,
            })?;
            let Some(Specification { pattern, label }) = parsed else {
                continue;
            };
            match pattern {
                Pattern::Literal(path) => literals.entry(path).or_default().push(label),
                Pattern::Regex { directory, regex } => {
                    let entry = (self.count, regex, label);
                    self.patterns.entry(directory).or_default().push(entry);
                }
            }
            self.count += 1;
        }
        for (path, labels) in literals {
            self.literals.entry(path).or_default().splice(0..0, labels);
        }
        Ok(())
    }

    /// Gives an entry the label of its path, and no other.
    pub fn apply(&self, path: &[u8], file_type: FileType, xattrs: &mut Vec<Xattr>) {
        xattrs.retain(|xattr| &*xattr.name != ATTRIBUTE);
        xattrs.extend(self.context(path, file_type).map(|context| Xattr {
            name: ATTRIBUTE.into(),
            value: context.into(),
        }));
    }

    /// The label of a path in the image; `None` when it gets none.
    pub fn context(&self, path: &[u8], file_type: FileType) -> Option<&[u8]> {
        let mut path = clean(&[&self.mount_point, path]);
        if path.is_empty() {
            path.push(b'/');
        }
        for substitutions in &self.substitutions {
            if let Some(other) = substitutions.iter().find_map(|one| one.apply(&path)) {
                path = other;
            }
        }
        let mut literals = self.literals.get(&path).into_iter().flatten();
        if let Some(label) = literals.find(|label| label.is_for(file_type)) {
            return label.context.as_deref();
        }
        let mut last: Option<(usize, &Label)> = None;
        let slashes = (0..path.len()).filter(|at| path.get(*at) == Some(&b'/'));
        for slash in slashes.take(specification::DEPTH + 1) {
            let directory = path.get(..slash).unwrap_or_default();
            let patterns = self.patterns.get(directory).into_iter().flatten().rev();
            let later =
                patterns.take_while(|(number, ..)| last.is_none_or(|(own, _)| *number > own));
            let mut fitting = later.filter(|(.., label)| label.is_for(file_type));
            if let Some((number, _, label)) = fitting.find(|(_, regex, _)| regex.is_match(&path)) {
                last = Some((*number, label));
            }
        }
        last?.1.context.as_deref()
    }
}

impl Substitution {
    /// The path that one below `from` stands for.
    fn apply(&self, path: &[u8]) -> Option<Vec<u8>> {
        let rest = path.strip_prefix(&*self.from)?;
        match rest {
            [] => Some(self.to.clone()),
            [b'/', below @ ..] if self.to == b"/" => Some([b"/", below].concat()),
            [b'/', ..] => Some([&self.to, rest].concat()),
            _ => None,
        }
    }
}

/// The lines of a `.subs` file, the last first: it counts.
fn substitutions(text: &[u8]) -> Vec<Substitution> {
    let line = |line: &[u8]| {
        let mut fields = line
            .split(|byte| specification::is_space(*byte))
            .filter(|field| !field.is_empty());
        let from = fields
            .next()
            .filter(|from| !from.starts_with(b"#"))?
            .to_vec();
        let to = fields.next()?.to_vec();
        Some(Substitution { from, to })
    };
    let mut all: Vec<_> = text.split(|byte| *byte == b'\n').filter_map(line).collect();
    all.reverse();
    all
}

/// Paths behind each other, with a slash before each component and none else.
fn clean(paths: &[&[u8]]) -> Vec<u8> {
    let components = paths
        .iter()
        .flat_map(|path| path.split(|byte| *byte == b'/'))
        .filter(|part| !matches!(*part, b"" | b"."));
    components.flat_map(|part| [b"/", part].concat()).collect()
}

#[cfg(test)]
mod tests;
