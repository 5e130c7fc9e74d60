//! Compares what a mount shows with the source that it was made from: every name, mode, owner, time, attribute, link and
//! byte.

use erofs_mkfs::source::directory::{self, InPlace, ScanOptions};
use erofs_mkfs::source::raw::{self, RawFile};
use erofs_mkfs::source::tar::{self, Archive};
use erofs_mkfs::source::{Rules, StoreError, StreamSink, Whiteouts, default_root};
use erofs_mkfs::tree::{
    Body, DataRange, FrozenTree, InodeId, Location, Metadata, Tree, TreeInode, display,
};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What an image was made from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// A directory.
    Directory(PathBuf),
    /// A tar, by its path.
    Tar(PathBuf),
    /// Single files.
    RawFiles(Vec<RawFile>),
}

/// Where the bytes of the expected files are.
enum Content {
    Below(PathBuf),
    Files(Vec<PathBuf>),
    /// Digest of each file of a tar.
    Digests(Vec<blake3::Hash>),
}

/// What a mount should show.
pub(crate) struct Expected {
    tree: FrozenTree,
    content: Content,
}

/// Result of a comparison.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Entries that were compared.
    pub(crate) entries: u64,
    /// Bytes of file data that were compared.
    pub(crate) bytes: u64,
    /// One line for each difference.
    pub(crate) differences: Vec<String>,
}

/// Digests the files of a tar as they pass by.
#[derive(Default)]
struct Digester(Vec<blake3::Hash>);

impl StreamSink for Digester {
    fn store(
        &mut self,
        path: &[u8],
        _metadata: &Metadata,
        size: u64,
        ranges: Option<&[DataRange]>,
        data: &mut dyn Read,
    ) -> Result<Location, StoreError> {
        let failed = |source| StoreError::Read {
            path: path.to_vec(),
            source,
        };
        let mut hasher = blake3::Hasher::new();
        let mut position = 0;
        for range in ranges.unwrap_or(&[DataRange {
            offset: 0,
            length: size,
        }]) {
            hash_zeros(&mut hasher, range.offset - position);
            io::copy(&mut (&mut *data).take(range.length), &mut hasher).map_err(failed)?;
            position = range.offset + range.length;
        }
        hash_zeros(&mut hasher, size.saturating_sub(position));
        let number =
            u32::try_from(self.0.len()).map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
        self.0.push(hasher.finalize());
        Ok(Location::Stored(number))
    }
}

fn hash_zeros(hasher: &mut blake3::Hasher, mut count: u64) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while count > 0 {
        let part = count.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..part as usize]);
        count -= part;
    }
}

impl Expected {
    /// Reads the source once more, by itself.
    pub(crate) fn read(origin: &Origin, rules: &Rules) -> anyhow::Result<Self> {
        match origin {
            Origin::Directory(path) => Ok(Self {
                tree: scan(path, rules)?,
                content: Content::Below(path.clone()),
            }),
            Origin::Tar(path) => {
                let mut tree = Tree::new(default_root(Default::default()))?;
                let mut digester = Digester::default();
                let archive = Archive::open(File::open(path)?)?;
                tar::scan(
                    archive,
                    rules,
                    Whiteouts::Keep,
                    &mut tree,
                    tar::Data::Through(&mut digester),
                )?;
                Ok(Self {
                    tree: tree.finish()?,
                    content: Content::Digests(digester.0),
                })
            }
            Origin::RawFiles(files) => {
                let mut tree = Tree::new(default_root(Default::default()))?;
                raw::scan(files, rules, &mut tree)?;
                let paths = files.iter().map(|file| file.path.clone()).collect();
                Ok(Self {
                    tree: tree.finish()?,
                    content: Content::Files(paths),
                })
            }
        }
    }

    /// Compares with what is mounted at `mount`.
    pub(crate) fn compare(&self, mount: &Path) -> anyhow::Result<Comparison> {
        let shown = scan(mount, &Rules::default())?;
        let mut comparer = Comparer {
            expected: self,
            shown: &shown,
            comparison: Comparison::default(),
            partners: HashMap::new(),
            files: Vec::new(),
        };
        comparer.directories();
        let Comparer {
            mut comparison,
            files,
            ..
        } = comparer;
        let content = self.compare_files(mount, &files);
        comparison.bytes = content.0;
        comparison.differences.extend(content.1);
        Ok(comparison)
    }

    /// Compares the bytes of files in parallel. Returns the bytes compared and the differences in order.
    fn compare_files(&self, mount: &Path, files: &[FileId]) -> (u64, Vec<String>) {
        let next = AtomicUsize::new(0);
        let bytes = AtomicU64::new(0);
        let found = Mutex::new(BTreeMap::new());
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(file) = files.get(index) else { return };
                        bytes.fetch_add(file.size, Ordering::Relaxed);
                        let difference = match self.same_content(mount, file) {
                            Ok(true) => continue,
                            Ok(false) => "content differs".to_owned(),
                            Err(error) => format!("cannot be compared: {error}"),
                        };
                        if let Ok(mut found) = found.lock() {
                            found.insert(index, format!("{}: {difference}", display(&file.path)));
                        }
                    }
                });
            }
        });
        let found = found
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        (bytes.into_inner(), found.into_values().collect())
    }

    fn same_content(&self, mount: &Path, file: &FileId) -> io::Result<bool> {
        let shown = mount.join(std::ffi::OsStr::from_bytes(&file.path));
        let expected = match (&self.content, file.location) {
            (Content::Below(root), _) => root.join(std::ffi::OsStr::from_bytes(&file.path)),
            (Content::Files(paths), Location::RawFile(number)) => paths
                .get(number as usize)
                .cloned()
                .ok_or(io::ErrorKind::NotFound)?,
            (Content::Digests(digests), location) => {
                let mut hasher = blake3::Hasher::new();
                io::copy(&mut open(&shown)?, &mut hasher)?;
                let wanted = match location {
                    Location::Stored(number) => digests.get(number as usize).copied(),
                    _ => None,
                };
                let zeros = || {
                    let mut hasher = blake3::Hasher::new();
                    hash_zeros(&mut hasher, file.size);
                    hasher.finalize()
                };
                return Ok(hasher.finalize() == wanted.unwrap_or_else(zeros));
            }
            (Content::Files(_), _) => return Ok(file.size == 0),
        };
        same_bytes(open(&expected)?, open(&shown)?)
    }
}

/// Opens a file for reading without following a link in its place.
fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

fn same_bytes(mut a: File, mut b: File) -> io::Result<bool> {
    const SIZE: u64 = 256 << 10;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        (&mut a).take(SIZE).read_to_end(&mut left)?;
        (&mut b).take(SIZE).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

fn scan(path: &Path, rules: &Rules) -> anyhow::Result<FrozenTree> {
    let root = directory::open(path)?;
    let mut tree = Tree::new(directory::root_metadata(root.as_fd(), rules)?)?;
    let options = ScanOptions {
        rules,
        find_holes: false,
        one_file_system: false,
        left_out: &[],
    };
    directory::scan(root.as_fd(), options, &mut tree, &mut InPlace)?;
    Ok(tree.finish()?)
}

/// A regular file whose bytes are to be compared.
struct FileId {
    path: Vec<u8>,
    size: u64,
    location: Location,
}

struct Comparer<'e> {
    expected: &'e Expected,
    shown: &'e FrozenTree,
    comparison: Comparison,
    /// Which inode of the mount stands for which of the source: hard links must stay together.
    partners: HashMap<InodeId, InodeId>,
    files: Vec<FileId>,
}

impl Comparer<'_> {
    fn directories(&mut self) {
        let mut stack = vec![(InodeId::ROOT, InodeId::ROOT, Vec::new())];
        self.inode(InodeId::ROOT, InodeId::ROOT, b"/");
        while let Some((wanted, shown, path)) = stack.pop() {
            let mut left = self.expected.tree.children(wanted).peekable();
            let mut right = self.shown.children(shown).peekable();
            let mut below = Vec::new();
            loop {
                let order = match (left.peek(), right.peek()) {
                    (None, None) => break,
                    (Some(_), None) => std::cmp::Ordering::Less,
                    (None, Some(_)) => std::cmp::Ordering::Greater,
                    (Some(a), Some(b)) => a.name.cmp(b.name),
                };
                let a = order.is_le().then(|| left.next()).flatten();
                let b = order.is_ge().then(|| right.next()).flatten();
                below.push((a, b));
            }
            for (a, b) in below {
                let name = a.or(b).map(|child| child.name).unwrap_or_default();
                let mut child_path: Vec<u8> = path.clone();
                if !child_path.is_empty() {
                    child_path.push(b'/');
                }
                child_path.extend_from_slice(name);
                self.comparison.entries += 1;
                match (a, b) {
                    (Some(a), Some(b)) => {
                        if self.inode(a.inode, b.inode, &child_path) {
                            stack.push((a.inode, b.inode, child_path));
                        }
                    }
                    (Some(_), None) => self.differs(&child_path, "is missing"),
                    _ => self.differs(&child_path, "is not in the source"),
                }
            }
        }
    }

    /// Compares two inodes; true for directories, whose entries then are compared too.
    fn inode(&mut self, wanted_id: InodeId, shown_id: InodeId, path: &[u8]) -> bool {
        let wanted = *self.expected.tree.inode(wanted_id);
        let shown = *self.shown.inode(shown_id);
        if let Some(partner) = self.partners.get(&wanted_id) {
            if *partner != shown_id {
                self.differs(path, "is no longer a hard link to the same file");
            }
            return false;
        }
        self.partners.insert(wanted_id, shown_id);
        self.fields(&wanted, &shown, path);
        let left = self.expected.tree.xattrs.get(wanted.xattrs);
        let right = self.shown.xattrs.get(shown.xattrs);
        if left != right {
            let names = |set: &[erofs_mkfs::tree::Xattr]| {
                set.iter()
                    .map(|xattr| display(&xattr.name).to_string())
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            self.differs(
                path,
                &format!(
                    "extended attributes differ: [{}] became [{}]",
                    names(left),
                    names(right)
                ),
            );
        }
        match (wanted.body, shown.body) {
            (Body::Directory, Body::Directory) => return true,
            (
                Body::Regular { size, location },
                Body::Regular {
                    size: shown_size, ..
                },
            ) => {
                if size == shown_size {
                    self.files.push(FileId {
                        path: path.to_vec(),
                        size,
                        location,
                    });
                } else {
                    self.differs(path, &format!("size {size} became {shown_size}"));
                }
            }
            (Body::Symlink(a), Body::Symlink(b)) => {
                if self.expected.tree.target(a) != self.shown.target(b) {
                    self.differs(path, "link target differs");
                }
            }
            (a, b) if a == b => {}
            (a, b) if a.file_type() == b.file_type() => self.differs(path, "device number differs"),
            (a, b) => self.differs(
                path,
                &format!("{:?} became {:?}", a.file_type(), b.file_type()),
            ),
        }
        false
    }

    fn fields(&mut self, wanted: &TreeInode, shown: &TreeInode, path: &[u8]) {
        if wanted.mode() & 0o7777 != shown.mode() & 0o7777 {
            let (a, b) = (wanted.permissions, shown.permissions);
            self.differs(path, &format!("mode {a:o} became {b:o}"));
        }
        if (wanted.uid, wanted.gid) != (shown.uid, shown.gid) {
            let (a, b, c, d) = (wanted.uid, wanted.gid, shown.uid, shown.gid);
            self.differs(path, &format!("owner {a}:{b} became {c}:{d}"));
        }
        if wanted.mtime != shown.mtime {
            self.differs(
                path,
                &format!("time {:?} became {:?}", wanted.mtime, shown.mtime),
            );
        }
    }

    fn differs(&mut self, path: &[u8], what: &str) {
        self.comparison
            .differences
            .push(format!("{}: {what}", display(path)));
    }
}
