//! Whether our reader and a kernel agree about an image that may be broken anywhere.
//!
//! * What Linux reads, our reader reads, and the same bytes: names, attributes, content. Of a file that Linux reads only
//!   in part, the front is the same as far as both read it.
//! * What our reader reads beyond that is nowhere else than Linux says: no name that a listing without errors lacks.
//!
//! Linux is asked three times for a file's bytes (from the front, backwards, through a map), for what it makes of a broken
//! index depends on where reading begins; it has read a file if all three gave the same.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

use erofs_format::Nid;
use erofs_reader::{
    ByteSource, FileSource, Image, Inode, Symlinks,
    check::{CheckOptions, Rule, check},
};
use erofs_tests::{
    listing::{self, Columns},
    workshop,
};

/// What a kernel showed of an image, in the form of `tests/kernels`.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    lines: Vec<Vec<&'a str>>,
}

/// Differences, by whether they are meant to be.
#[derive(Debug, Default)]
pub(crate) struct Disagreements {
    /// Mistakes.
    pub(crate) wrong: Vec<String>,
    /// Differences about the content of files: mistakes too, unless [`Contradictions`] explain them.
    content: Vec<Content>,
    /// Differences for a reason, see [`KNOWN`].
    pub(crate) known: Vec<String>,
}

/// A difference about the content of a file.
#[derive(Debug)]
struct Content {
    nid: Nid,
    line: String,
    /// Our reader shows other bytes, and not an error.
    other: bool,
}

/// Differences that are meant to be: part of what our reader says, and the reason.
const KNOWN: [(&str, &str); 12] = [
    ("on end behind device", BEHIND),
    ("of a packed inode of", BEHIND),
    ("end behind the metabox", BEHIND),
    ("configuration needs", BEHIND),
    ("without the big-pcluster bits", ELSEWHERE),
    ("no pcluster size in the first lcluster", ELSEWHERE),
    ("no extent holds this byte", ELSEWHERE),
    (
        "in a block of",
        "in a directory that does not list, Linux finds names by offsets cut to the size of a block",
    ),
    (
        "decodes to",
        "of DEFLATE data that ends early, Linux leaves the rest of the last page as it was",
    ),
    (
        "lz4 data is corrupt: a match of distance 0",
        "Linux takes an LZ4 match of distance 0, which the format does not have, for zeros",
    ),
    ("name contains 0x00", "Linux cuts names off at a NUL"),
    ("\\x00", "listxattr(2) cannot tell a name with a NUL"),
];
const BEHIND: &str = "behind the end of a device or a special inode Linux reads zeros, where our reader tells what is cut off";

const ELSEWHERE: &str = "Linux looks at a record of an index only when reading begins there, our reader also when it asks where an extent ends";
/// What the check says of inodes whose content Linux reads in different ways.
#[derive(Debug, Default)]
struct Contradictions {
    /// The distances of their index contradict each other: Linux reads ahead by them, or looks at none of them.
    distances: BTreeSet<Nid>,
    /// A pcluster of theirs is decoded in two ways: it depends on what was read before.
    pclusters: BTreeSet<Nid>,
}

impl Contradictions {
    fn of(image: &Path, devices: &[PathBuf]) -> Self {
        let source = |path: &PathBuf| -> Arc<dyn ByteSource> {
            Arc::new(FileSource::open(path).expect("opens"))
        };
        let devices: Vec<_> = devices.iter().map(source).collect();
        let image = source(&image.to_owned());
        let report = check(
            &image,
            &devices,
            &CheckOptions::default(),
            &AtomicU64::new(0),
        );
        let mut found = Self::default();
        for finding in report.map(|report| report.findings).unwrap_or_default() {
            let inodes = match finding.rule {
                Rule::IndexDistance => &mut found.distances,
                Rule::PclusterOverlap | Rule::PclusterShared => &mut found.pclusters,
                _ => continue,
            };
            inodes.extend(finding.nid.into_iter().chain(other_inode(&finding.value)));
        }
        found
    }

    /// Whether they explain a difference. In one file distances explain that our reader refuses what Linux happens not to
    /// look at, and no other bytes; in the packed inode these too, for files that are read before fill pages of it.
    fn explain(&self, content: &Content, packed: Option<Nid>) -> bool {
        self.pclusters.contains(&content.nid)
            || packed
                .is_some_and(|nid| self.pclusters.contains(&nid) || self.distances.contains(&nid))
            || (!content.other && self.distances.contains(&content.nid))
    }
}

/// The inode with which a pcluster is shared: such findings tell it in their text, behind what is shared.
fn other_inode(value: &str) -> Option<Nid> {
    let (_, number) = value.rsplit_once("(inode ")?;
    number.strip_suffix(')')?.parse().ok().map(Nid)
}

/// What Linux shows of an owner that this project shows as it is stored: -1 is no user, and no group.
const NOBODY: &str = "65534";
const NO_OWNER: &str = "4294967295";

impl Disagreements {
    fn add(&mut self, line: String) {
        if KNOWN.iter().any(|(part, _)| line.contains(part)) {
            self.known.push(line);
        } else {
            self.wrong.push(line);
        }
    }

    fn add_content(&mut self, inode: &Inode, line: String, other: bool) {
        if KNOWN.iter().any(|(part, _)| line.contains(part)) {
            self.known.push(line);
        } else {
            let nid = inode.nid();
            self.content.push(Content { nid, line, other });
        }
    }

    /// Tells mistakes about content from what contradictions of the image explain.
    fn judge_content(&mut self, image: &Image, contradictions: impl FnOnce() -> Contradictions) {
        if self.content.is_empty() {
            return;
        }
        let contradictions = contradictions();
        for content in self.content.drain(..) {
            if contradictions.explain(&content, image.superblock().packed) {
                let line = content.line;
                self.known
                    .push(format!("the image contradicts itself: {line}"));
            } else {
                self.wrong.push(content.line);
            }
        }
    }
}

/// The reasons of the known differences.
pub(crate) fn reasons() -> BTreeSet<&'static str> {
    KNOWN.iter().map(|(_, reason)| *reason).collect()
}

/// A path back from its column.
fn unescaped(column: &str) -> Vec<u8> {
    let bytes = column.as_bytes();
    if bytes == b"." {
        return Vec::new();
    }
    let (mut path, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let code = column.get(at + 2..at + 4).filter(|_| bytes[at] == b'\\');
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            path.push(byte);
            at += 4;
        } else {
            path.push(bytes[at]);
            at += 1;
        }
    }
    path
}

impl<'a> Shown<'a> {
    /// From the lines of a manifest.
    pub(crate) fn new(manifest: &'a str) -> Self {
        Self {
            lines: manifest
                .lines()
                .map(|line| line.split('\t').collect())
                .collect(),
        }
    }

    /// Lines that are about what can be read.
    fn entries(&self) -> impl Iterator<Item = &Vec<&'a str>> {
        self.lines.iter().filter(|line| line.len() >= 9)
    }

    /// Errors of the kernel, of any kind.
    pub(crate) fn errors(&self) -> usize {
        let error = |line: &&Vec<&str>| line.iter().any(|column| column.contains('!'));
        self.lines.iter().filter(error).count()
    }

    /// Where our reader and Linux differ: a line for each place, the known differences apart.
    pub(crate) fn disagreements(&self, path: &Path, devices: &[PathBuf]) -> Disagreements {
        let mut found = Disagreements::default();
        let image = match workshop::try_open(path, devices) {
            Ok(image) => image,
            Err(error) => {
                found.add(format!("Linux mounts it, our reader says: {error}"));
                return found;
            }
        };
        for line in self.entries() {
            let path = unescaped(line[0]);
            match image.resolve(&path, Symlinks::Keep) {
                Err(error) => {
                    found.add(format!(
                        "{}: Linux shows it, our reader says: {error}",
                        line[0]
                    ));
                }
                Ok(inode) => {
                    let ours = Columns::of(&image, &inode);
                    compare(&image, &inode, line, &ours, &mut found);
                }
            }
        }
        found.judge_content(&image, || Contradictions::of(path, devices));
        for surplus in self.surplus(&image) {
            found.add(surplus);
        }
        found
    }

    /// Names that only our reader shows, in directories that Linux lists to the end.
    fn surplus(&self, image: &Image) -> Vec<String> {
        if self
            .lines
            .iter()
            .any(|line| line.get(2) == Some(&"!budget"))
        {
            return Vec::new();
        }
        let known: BTreeSet<Vec<u8>> = self.lines.iter().map(|line| unescaped(line[0])).collect();
        let broken: BTreeSet<Vec<u8>> = self
            .lines
            .iter()
            .filter(|line| line.get(1) == Some(&"?"))
            .map(|line| unescaped(line[0]))
            .collect();
        let Ok(walk) = image.walk() else {
            return Vec::new();
        };
        walk.flatten()
            .filter(|entry| !known.contains(&entry.path))
            .filter(|entry| !broken.iter().any(|path| is_below(&entry.path, path)))
            .map(|entry| {
                format!(
                    "{}: our reader shows it, Linux does not",
                    listing::name_of(&entry.path)
                )
            })
            .collect()
    }
}

fn is_below(path: &[u8], above: &[u8]) -> bool {
    above.is_empty()
        || path
            .strip_prefix(above)
            .is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Compares a line of Linux with our columns.
fn compare(image: &Image, inode: &Inode, line: &[&str], ours: &Columns, found: &mut Disagreements) {
    let path = line[0];
    for (theirs, own) in line[1..7].iter().zip(&ours.metadata) {
        if theirs != own {
            let line = format!("{path}: {theirs} by Linux, {own} by our reader");
            if own.contains(':') && own.replace(NO_OWNER, NOBODY) == *theirs {
                found.known.push(line);
            } else {
                found.add(line);
            }
        }
    }
    compare_content(image, inode, line, ours, found);
    let xattrs = line[8];
    if xattrs.starts_with('!') {
        return;
    }
    let theirs: Vec<&str> = xattrs
        .split(',')
        .filter(|xattr| !xattr.is_empty())
        .collect();
    match &ours.xattrs {
        Err(error) => found.add(format!(
            "{path}: Linux lists {xattrs}, our reader says: {error}"
        )),
        Ok(own) => {
            for xattr in theirs.iter().filter(|xattr| !xattr.contains("=!")) {
                if !own.iter().any(|other| other == xattr) {
                    found.add(format!("{path}: {xattr} by Linux, not by our reader"));
                }
            }
            let name = |xattr: &str| xattr.split('=').next().unwrap_or_default().to_owned();
            let names: BTreeSet<String> = theirs.iter().map(|xattr| name(xattr)).collect();
            for xattr in own.iter().filter(|xattr| !names.contains(&name(xattr))) {
                found.add(format!("{path}: {xattr} by our reader, not by Linux"));
            }
        }
    }
}

fn compare_content(
    image: &Image,
    inode: &Inode,
    line: &[&str],
    ours: &Columns,
    found: &mut Disagreements,
) {
    let (path, content) = (line[0], line[7]);
    if let Some(error) = content.strip_prefix("!read@") {
        // OFFSET:ERRNO:DIGEST of what could be read before.
        let mut parts = error.split(':');
        let (end, digest) = (parts.next(), parts.nth(1));
        if let (Some(Ok(end)), Some(digest)) = (end.map(str::parse), digest)
            && let Ok(own) = listing::beginning(image, inode, end)
            && own != digest
        {
            let line = format!("{path}: first {end} bytes: {digest} by Linux, {own} by our reader");
            found.add_content(inode, line, true);
        }
    } else if !content.starts_with('!') {
        match &ours.content {
            Ok(own) if own == content => {}
            Ok(own) => found.add_content(
                inode,
                format!("{path}: {content} by Linux, {own} by our reader"),
                true,
            ),
            Err(error) => found.add_content(
                inode,
                format!("{path}: {content} by Linux, our reader says: {error}"),
                false,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An owner of -1 is known to differ, any other difference is none that is known.
    #[test]
    fn owners() {
        let golden = erofs_tests::golden::Golden::all();
        let golden = golden.iter().find(|golden| golden.name == "plain");
        let golden = golden.expect("kept");
        let image = workshop::open(&golden.image, &golden.devices);
        let root = image.root().expect("readable");
        let mut ours = Columns::of(&image, &root);
        let content = ours.content.clone().expect("readable");
        let xattrs = ours.xattrs.clone().expect("readable");
        ours.metadata[2] = format!("{NO_OWNER}:0");
        for (owner, known, wrong) in [("65534:0", 1, 0), ("65535:0", 0, 1), ("0:65534", 0, 1)] {
            let mut line = vec![".".to_owned()];
            line.extend(ours.metadata.iter().cloned());
            line[3] = owner.into();
            line.extend([content.clone(), xattrs.join(",")]);
            let line: Vec<&str> = line.iter().map(String::as_str).collect();
            let mut found = Disagreements::default();
            compare(&image, &root, &line, &ours, &mut found);
            assert_eq!(
                (found.known.len(), found.wrong.len()),
                (known, wrong),
                "{owner}"
            );
        }
    }

    /// What contradictions explain: never other bytes by the distances of the file alone.
    #[test]
    fn contradictions_excuse_no_more_than_they_explain() {
        let (file, packed, other) = (Nid(1), Nid(2), Nid(3));
        let content = |other| Content {
            nid: file,
            line: String::new(),
            other,
        };
        let of = |distances: &[Nid], pclusters: &[Nid]| Contradictions {
            distances: distances.iter().copied().collect(),
            pclusters: pclusters.iter().copied().collect(),
        };
        for (contradictions, refusal, bytes) in [
            (of(&[], &[]), false, false),
            (of(&[other], &[other]), false, false),
            (of(&[file], &[]), true, false),
            (of(&[packed], &[]), true, true),
            (of(&[], &[packed]), true, true),
            (of(&[], &[file]), true, true),
        ] {
            for (other, expected) in [(false, refusal), (true, bytes)] {
                assert_eq!(
                    contradictions.explain(&content(other), Some(packed)),
                    expected,
                    "{contradictions:?}"
                );
            }
        }
    }

    #[test]
    fn paths_come_back() {
        for path in [&b""[..], b"a/b", b"\\x41", b"\n \xff\\"] {
            assert_eq!(unescaped(&listing::name_of(path)), path);
        }
    }
}
