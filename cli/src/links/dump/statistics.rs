//! `dump.erofs -S`.

use super::stored_size;
use erofs_format::inode::FileType;
use erofs_reader::{Error, Image, Inode};
use std::io::Write;

/// Kinds of files in the order of the directory entries' types, as they are called.
const KINDS: [(Option<FileType>, &str); 8] = [
    (None, "unknown type"),
    (Some(FileType::Regular), "regular file"),
    (Some(FileType::Directory), "directory"),
    (Some(FileType::CharDevice), "char dev"),
    (Some(FileType::BlockDevice), "block dev"),
    (Some(FileType::Fifo), "FIFO file"),
    (Some(FileType::Socket), "SOCK file"),
    (Some(FileType::Symlink), "symlink file"),
];

/// Suffixes that are counted; everything else is "others".
const SUFFIXES: [&str; 9] = [
    ".txt", ".so", ".xml", ".apk", ".odex", ".vdex", ".oat", ".rc", ".otf",
];

/// Classes of sizes: below 1 KiB, 2 KiB, … 32 MiB, and the rest.
const CLASSES: usize = 17;

#[derive(Default)]
struct Counts {
    names: u64,
    kinds: [u64; KINDS.len()],
    compressed: u64,
    uncompressed: u64,
    bytes: u64,
    stored: u64,
    suffixes: [u64; SUFFIXES.len() + 1],
    sizes: [u64; CLASSES],
    stored_sizes: [u64; CLASSES],
}

impl Counts {
    fn inode(&mut self, image: &Image, inode: &Inode) -> u64 {
        if inode.layout.is_compressed() {
            self.compressed += 1;
        } else {
            self.uncompressed += 1;
        }
        stored_size(image, inode)
    }

    /// Files with several names count as often, as they do in the C tool.
    fn name(&mut self, image: &Image, name: &[u8], inode: &Inode) {
        self.names += 1;
        for (count, (kind, _)) in self.kinds.iter_mut().zip(KINDS) {
            *count += u64::from(kind == Some(inode.file_type));
        }
        let stored = self.inode(image, inode);
        if inode.file_type != FileType::Regular {
            return;
        }
        self.bytes = self.bytes.saturating_add(inode.size);
        self.stored = self.stored.saturating_add(stored);
        let dot = name.iter().rposition(|byte| *byte == b'.');
        let suffix = dot.and_then(|dot| name.get(dot..)).unwrap_or_default();
        // The C tool compares as many characters as the name has behind its last dot.
        let known = |known: &&str| !suffix.is_empty() && known.as_bytes().starts_with(suffix);
        let class = SUFFIXES.iter().position(known).unwrap_or(SUFFIXES.len());
        add(&mut self.suffixes, class);
        add(&mut self.sizes, size_class(inode.size));
        add(&mut self.stored_sizes, size_class(stored));
    }
}

fn add(counts: &mut [u64], class: usize) {
    if let Some(count) = counts.get_mut(class) {
        *count += 1;
    }
}

fn size_class(size: u64) -> usize {
    let bits = u64::BITS - (size >> 10).leading_zeros();
    usize::try_from(bits).unwrap_or(CLASSES).min(CLASSES - 1)
}

/// Counts and prints; whether everything could be counted.
pub(super) fn show(image: &Image, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut counts = Counts::default();
    let mut problem: Option<Error> = None;
    let mut names = image.names_from(&image.root()?).with_inodes();
    while let Some(name) = names.next() {
        match name {
            Ok(name) => {
                if let Some(inode) = &name.inode {
                    counts.name(image, name.name, inode);
                }
            }
            Err(error) => {
                problem.get_or_insert(error);
            }
        }
    }
    if let Some(packed) = image.packed_inode() {
        let stored = counts.inode(image, packed);
        counts.stored = counts.stored.saturating_add(stored);
        add(&mut counts.stored_sizes, size_class(stored));
    }
    print(&counts, out)?;
    if let Some(error) = &problem {
        complain!("dump.erofs: {error}");
    }
    Ok(problem.is_none())
}

fn print(counts: &Counts, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "Filesystem total file count:\t\t{}", counts.names)?;
    for (count, (_, name)) in counts.kinds.iter().zip(KINDS) {
        writeln!(out, "Filesystem {name} count:\t\t{count}")?;
    }
    let rate = match counts.bytes {
        0 => "-nan".to_owned(),
        bytes => format!("{:.2}", counts.stored as f64 * 100.0 / bytes as f64),
    };
    for (name, value) in [
        ("compressed files", counts.compressed.to_string()),
        ("uncompressed files", counts.uncompressed.to_string()),
        (
            "total original file size",
            format!("{} Bytes", counts.bytes),
        ),
        ("total file size", format!("{} Bytes", counts.stored)),
        ("compress rate", format!("{rate}%")),
    ] {
        writeln!(out, "{:<39} {value}", format!("Filesystem {name}:"))?;
    }
    let [_, files, ..] = counts.kinds;
    sizes("Original", &counts.sizes, files, out)?;
    sizes("On-disk", &counts.stored_sizes, files, out)?;
    writeln!(out, "\nFile type distribution:")?;
    heading("type", out)?;
    for (suffix, count) in SUFFIXES.iter().chain(&["others"]).zip(counts.suffixes) {
        bar(&format!("{suffix:<17}"), count, files, out)?;
    }
    Ok(())
}

fn sizes(
    title: &str,
    counts: &[u64; CLASSES],
    files: u64,
    out: &mut impl Write,
) -> std::io::Result<()> {
    writeln!(out, "\n{title} file size distribution:")?;
    heading(">=(KB) .. <(KB) ", out)?;
    let mut lower = 0u64;
    for (class, count) in counts.iter().enumerate() {
        let upper = 1u64 << class;
        let range = if class + 1 == CLASSES {
            format!("{lower:>6} ..")
        } else {
            format!("{lower:>6} .. {upper:<6}")
        };
        bar(&range, *count, files, out)?;
        lower = upper;
    }
    Ok(())
}

fn heading(first: &str, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "{first:<16} {:>11} {:>16} |{:<50}|",
        "count", "ratio", "distribution"
    )
}

fn bar(range: &str, count: u64, files: u64, out: &mut impl Write) -> std::io::Result<()> {
    let percent = match files {
        0 => 0.0,
        files => count as f64 * 100.0 / files as f64,
    };
    let marks = usize::try_from(count.saturating_mul(50) / files.max(1)).unwrap_or(0);
    writeln!(
        out,
        "{range:<16}\t{count:<11} {percent:>8.2}% |{:<50}|",
        "#".repeat(marks.min(200))
    )
}
