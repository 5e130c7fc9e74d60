//! What a directory holds: a line per name, and errors instead of what they hide.
//!
//! Columns, separated by tabs: path, type, mode, owner, links, size, time, content, attributes, and the first path, in
//! byte order, of all with the same inode. tests/kernels/README.md explains them.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fmt::Write as _,
    fs::{self, Metadata},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Dir, Mode, OFlags, lgetxattr, llistxattr, open},
    io::Errno,
};

use crate::content::{self, Depth};

/// Entries after which a walk gives up: a hostile image may show them without end.
const MOST_ENTRIES: u64 = 1_000_000;
/// The largest list and value of extended attributes.
const XATTR_BYTES: usize = 65536;

/// A walk over a tree.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    root: &'a Path,
    depth: Depth,
    until: Option<Instant>,
    buffers: Buffers,
    lines: Vec<Line>,
    entries: u64,
    errors: u64,
}

/// Room for what is read, kept from one file to the next.
#[derive(Debug)]
struct Buffers {
    content: content::Buffer,
    xattr_names: Vec<u8>,
    xattr_value: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            content: content::Buffer::default(),
            xattr_names: vec![0; XATTR_BYTES],
            xattr_value: vec![0; XATTR_BYTES],
        }
    }
}

/// A line in the making.
#[derive(Debug)]
struct Line {
    path: PathBuf,
    /// What names share, by whom the last column is filled in; none of directories and errors.
    inode: Option<u64>,
    /// All columns between path and last.
    columns: String,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    /// The lines, in byte order of paths.
    pub(crate) lines: String,
    /// Names.
    pub(crate) entries: u64,
    /// Errors in the lines.
    pub(crate) errors: u64,
}

impl<'a> Walk<'a> {
    /// Prepares a walk over `root`.
    pub(crate) fn new(root: &'a Path, depth: Depth) -> Self {
        Self {
            root,
            depth,
            until: None,
            buffers: Buffers::default(),
            lines: Vec::new(),
            entries: 0,
            errors: 0,
        }
    }

    /// Gives up after this time, with a line `.` `!budget`.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.until = Some(Instant::now() + limit);
        self
    }

    /// Walks.
    pub(crate) fn finish(mut self) -> Manifest {
        self.entry(Path::new(""));
        let mut directories = vec![PathBuf::new()];
        while let Some(directory) = directories.pop() {
            let mut names = self.list(&directory);
            names.sort();
            for name in names {
                let path = directory.join(OsStr::from_bytes(&name));
                if self.is_over() {
                    self.error(Path::new(""), "!budget");
                    return self.manifest();
                }
                if self.entry(&path) {
                    directories.push(path);
                }
            }
        }
        self.manifest()
    }

    fn manifest(mut self) -> Manifest {
        self.lines.sort_by(|one, other| {
            let bytes = |line: &Line| line.path.as_os_str().as_bytes().to_vec();
            bytes(one).cmp(&bytes(other))
        });
        let mut first_names = HashMap::new();
        let mut text = String::new();
        for line in &self.lines {
            let name = name_of(&line.path);
            let first = line
                .inode
                .map(|inode| first_names.entry(inode).or_insert_with(|| name.clone()));
            let shared = first.filter(|first| **first != name);
            let shared = shared.map_or("-", |first| first.as_str());
            let _ = writeln!(text, "{name}\t{}\t{shared}", line.columns);
        }
        Manifest {
            lines: text,
            entries: self.entries,
            errors: self.errors,
        }
    }

    fn is_over(&self) -> bool {
        self.entries > MOST_ENTRIES || self.until.is_some_and(|end| Instant::now() > end)
    }

    fn error(&mut self, path: &Path, what: &str) {
        self.errors += 1;
        self.lines.push(Line {
            path: path.to_owned(),
            inode: None,
            columns: format!("?\t{what}"),
        });
    }

    /// Names in a directory, as far as it can be listed.
    fn list(&mut self, directory: &Path) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listed = open(self.root.join(directory), flags, Mode::empty())
            .and_then(Dir::new)
            .and_then(|mut entries| {
                for entry in &mut entries {
                    let name = entry?.file_name().to_bytes().to_vec();
                    if name != b"." && name != b".." {
                        names.push(name);
                    }
                }
                Ok(())
            });
        if let Err(error) = listed {
            self.error(directory, &format!("!list:{}", number(error)));
        }
        names
    }

    /// Adds the line of one name; whether it is a directory.
    fn entry(&mut self, path: &Path) -> bool {
        let whole = self.root.join(path);
        self.entries += 1;
        let metadata = match fs::symlink_metadata(&whole) {
            Ok(metadata) => metadata,
            Err(error) => {
                self.error(path, &format!("!stat:{}", errno(&error)));
                return false;
            }
        };
        let (letter, size, content) = self.what(&whole, &metadata);
        let columns = format!(
            "{letter}\t{:o}\t{}:{}\t{}\t{size}\t{}.{:09}\t{content}\t{}",
            metadata.mode() & 0o7777,
            metadata.uid(),
            metadata.gid(),
            metadata.nlink(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            self.xattrs(&whole),
        );
        self.lines.push(Line {
            path: path.to_owned(),
            inode: (!metadata.is_dir()).then(|| metadata.ino()),
            columns,
        });
        metadata.is_dir()
    }

    /// Type, size and content.
    fn what(&mut self, path: &Path, metadata: &Metadata) -> (char, u64, String) {
        let kind = metadata.file_type();
        let device = || format!("{:x}", metadata.rdev());
        if kind.is_file() {
            let content =
                content::of_file(path, metadata.len(), self.depth, &mut self.buffers.content);
            ('f', metadata.len(), self.value(content))
        } else if kind.is_symlink() {
            let target = fs::read_link(path)
                .map(|target| escaped(target.as_os_str().as_bytes()))
                .map_err(|error| format!("!target:{}", errno(&error)));
            ('l', metadata.len(), self.value(target))
        } else if kind.is_dir() {
            ('d', 0, "-".into())
        } else if kind.is_char_device() {
            ('c', 0, device())
        } else if kind.is_block_device() {
            ('b', 0, device())
        } else if kind.is_fifo() {
            ('p', 0, "-".into())
        } else {
            ('s', 0, "-".into())
        }
    }

    fn value(&mut self, result: Result<String, String>) -> String {
        result.unwrap_or_else(|error| {
            self.errors += 1;
            error
        })
    }

    /// `name=value` of every attribute, sorted, the values in hexadecimal digits.
    fn xattrs(&mut self, path: &Path) -> String {
        let Buffers {
            xattr_names: names,
            xattr_value: value,
            ..
        } = &mut self.buffers;
        let length = match llistxattr(path, &mut names[..]) {
            Ok(length) => length,
            Err(error) => return self.value(Err(format!("!list:{}", number(error)))),
        };
        let mut all: Vec<String> = Vec::new();
        for name in names[..length].split(|byte| *byte == 0) {
            if name.is_empty() {
                continue;
            }
            let value = match lgetxattr(path, name, &mut value[..]) {
                Ok(length) => hexadecimal(&value[..length]),
                Err(error) => {
                    self.errors += 1;
                    format!("!{}", number(error))
                }
            };
            all.push(format!("{}={value}", escaped(name)));
        }
        all.sort();
        all.join(",")
    }
}

fn name_of(path: &Path) -> String {
    if path.as_os_str().is_empty() {
        ".".into()
    } else {
        escaped(path.as_os_str().as_bytes())
    }
}

/// Printable ASCII as it is; everything else, blanks and backslashes as `\xHH`.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, &byte| {
        if byte.is_ascii_graphic() && byte != b'\\' {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "\\x{byte:02x}");
        }
        text
    })
}

/// Hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The number of an error, 0 when it has none.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

fn number(error: Errno) -> i32 {
    error.raw_os_error()
}
