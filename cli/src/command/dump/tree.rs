//! The tree as an mtree(5) manifest.

use super::Problems;
use crate::listing;
use crate::output::Output;
use crate::progress::Progress;
use crate::sheet::{Sheet, Value};
use erofs_format::inode::{FileType, InodePayload};
use erofs_reader::dump::manifest::{ManifestEntry, ManifestOptions, ManifestSink};
use erofs_reader::{Error, Image};
use std::fmt;
use std::io::{self, BufWriter, Write};

pub(super) struct Options {
    pub(super) workers: Option<usize>,
    pub(super) digest_limit: Option<u64>,
    pub(super) json: bool,
}

/// Prints every name of the tree, with digests.
pub(super) fn print(
    image: &Image,
    options: &Options,
    problems: &mut Problems,
) -> anyhow::Result<()> {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let manifest_options = ManifestOptions {
        workers: options.workers.unwrap_or_else(processors),
        content_limit: options.digest_limit,
    };
    let root = image.root()?;
    let progress = Progress::start("digesting", false);
    let mut out = BufWriter::with_capacity(64 << 10, Output::new());
    if options.json {
        let mut sheet = Sheet::new(out, true)?;
        sheet.list("tree")?;
        let mut sink = Objects { sheet, problems };
        image.manifest(&root, manifest_options, progress.counter(), &mut sink)?;
        sink.sheet.end_list()?;
        sink.sheet.finish()?;
    } else {
        writeln!(out, "#mtree")?;
        let mut sink = Lines { out, problems };
        image.manifest(&root, manifest_options, progress.counter(), &mut sink)?;
        sink.out.flush()?;
    }
    Ok(())
}

/// A file type as mtree(5) names it.
const fn type_word(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Regular => "file",
        FileType::Directory => "dir",
        FileType::CharDevice => "char",
        FileType::BlockDevice => "block",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::Symlink => "link",
    }
}

/// Bytes as a word of mtree(5): whatever is not a plain visible ASCII character as backslash and three octal digits.
struct Word<'a>(&'a [u8]);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            match byte {
                b'\\' | b'#' | b'=' | b'*' | b'?' | b'[' => write!(f, "\\{byte:03o}")?,
                0x21..=0x7E => write!(f, "{}", char::from(*byte))?,
                _ => write!(f, "\\{byte:03o}")?,
            }
        }
        Ok(())
    }
}

/// A path of mtree(5), which begins with a dot.
struct Path<'a>(&'a [u8]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        write!(f, "./{}", Word(self.0))
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

struct Lines<'p> {
    out: BufWriter<Output>,
    problems: &'p mut Problems,
}

impl ManifestSink for Lines<'_> {
    fn entry(&mut self, entry: ManifestEntry) -> io::Result<()> {
        let (inode, out) = (&entry.inode, &mut self.out);
        write!(
            out,
            "{} type={} mode={:04o} uid={} gid={} nlink={}",
            Path(&entry.path),
            type_word(inode.file_type),
            inode.mode & 0o7777,
            inode.uid,
            inode.gid,
            inode.nlink
        )?;
        // The size of a directory depends on the blocks of the image.
        if matches!(inode.file_type, FileType::Regular | FileType::Symlink) {
            write!(out, " size={}", inode.size)?;
        }
        let time = inode.mtime;
        write!(out, " time={}.{:09}", time.seconds, time.nanoseconds)?;
        if let InodePayload::Device(number) = inode.payload {
            write!(out, " device=native,{},{}", number.major, number.minor)?;
        }
        if let Some(target) = &entry.target {
            write!(out, " link={}", Word(target))?;
        }
        if let Some(first) = &entry.linked_to {
            write!(out, " hardlink={}", Path(first))?;
        }
        if let Some(digest) = &entry.digest {
            write!(out, " sha256digest={}", Hex(digest))?;
        }
        for xattr in &entry.xattrs {
            write!(out, " xattr.{}={}", Word(&xattr.name), Word(&xattr.value))?;
        }
        writeln!(out)?;
        if let Some(problem) = &entry.problem {
            self.problems.tell(&entry.path, problem);
        }
        Ok(())
    }

    fn problem(&mut self, path: &[u8], error: &Error) {
        self.problems.tell(path, error);
    }
}

struct Objects<'p> {
    sheet: Sheet<BufWriter<Output>>,
    problems: &'p mut Problems,
}

impl ManifestSink for Objects<'_> {
    fn entry(&mut self, entry: ManifestEntry) -> io::Result<()> {
        let (inode, sheet) = (&entry.inode, &mut self.sheet);
        let path = [b"/", entry.path.as_slice()].concat();
        sheet.item("")?;
        sheet.field("path", Value::Bytes(&path))?;
        sheet.field("type", Value::text(listing::type_name(inode.file_type)))?;
        let mode = format!("{:04o}", inode.mode & 0o7777);
        sheet.field("mode", Value::Text(mode))?;
        sheet.field("uid", Value::Number(inode.uid.into()))?;
        sheet.field("gid", Value::Number(inode.gid.into()))?;
        sheet.field("nlink", Value::Number(inode.nlink.into()))?;
        if matches!(inode.file_type, FileType::Regular | FileType::Symlink) {
            sheet.field("size", Value::Number(inode.size))?;
        }
        sheet.field("mtime", Value::Time(inode.mtime))?;
        if let InodePayload::Device(number) = inode.payload {
            sheet.field("major", Value::Number(number.major.into()))?;
            sheet.field("minor", Value::Number(number.minor.into()))?;
        }
        if let Some(target) = &entry.target {
            sheet.field("target", Value::Bytes(target))?;
        }
        if let Some(first) = &entry.linked_to {
            let first = [b"/", first.as_slice()].concat();
            sheet.field("hard_link_to", Value::Bytes(&first))?;
        }
        if let Some(digest) = &entry.digest {
            sheet.field("sha256", Value::text(Hex(digest)))?;
        }
        sheet.list("xattrs")?;
        for xattr in &entry.xattrs {
            sheet.pair(&xattr.name, &xattr.value)?;
        }
        sheet.end_list()?;
        if let Some(problem) = &entry.problem {
            sheet.field("problem", Value::text(problem))?;
            self.problems.tell(&entry.path, problem);
        }
        sheet.end()
    }

    fn problem(&mut self, path: &[u8], error: &Error) {
        self.problems.tell(path, error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_visible_ascii() {
        assert_eq!(
            Word(b"a b#c=\\\xff\n").to_string(),
            "a\\040b\\043c\\075\\134\\377\\012"
        );
        assert_eq!(Path(b"").to_string(), ".");
        assert_eq!(Path(b"usr/bin").to_string(), "./usr/bin");
        let all: Vec<u8> = (0..=255).collect();
        assert!(
            Word(&all)
                .to_string()
                .bytes()
                .all(|byte| byte.is_ascii_graphic())
        );
    }
}
