//! `erofs dump`: what an image says about itself, for people who debug images and for snapshot tests.

mod inode;
mod regions;
mod statistics;
mod superblock;
mod tree;

use crate::error::{Outcome, one_line};
use crate::image::{ImageInput, Ruin};
use crate::names::Printable;
use crate::output::Output;
use crate::sheet::Sheet;
use crate::values;
use clap::{ArgGroup, Args};
use erofs_format::Nid;
use erofs_reader::{Error, Image, Inode, Symlinks};
use std::ffi::OsString;
use std::fmt::Display;
use std::io::BufWriter;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;

/// Show what is stored in an image, and where.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("inodes").args(["nid", "path", "all"]).multiple(true))]
pub(crate) struct Dump {
    #[command(flatten)]
    input: ImageInput,

    /// The superblock, features with the kernels that they need, algorithms, devices, xattr prefixes; the default
    #[arg(short = 's', long)]
    superblock: bool,

    /// Statistics: types, layouts, sizes, compression, attributes, what the bytes of the image are used for
    #[arg(short = 'S', long)]
    stats: bool,

    /// What is stored for this inode; may be repeated
    #[arg(long, value_name = "NID", value_parser = values::number)]
    nid: Vec<u64>,

    /// What is stored for the file at this path; may be repeated. Symbolic links are not followed
    #[arg(long, value_name = "PATH")]
    path: Vec<OsString>,

    /// With --nid, --path: where the data lies, extent by extent
    #[arg(short = 'e', long, requires = "inodes")]
    extents: bool,

    /// With --nid, --path: the blocks of a directory, entry by entry
    #[arg(short = 'd', long, requires = "inodes")]
    directory: bool,

    /// What lies where: all regions of the image by position, and what nothing leads to
    #[arg(short = 'm', long)]
    map: bool,

    /// What lies at this byte of the image; may be repeated
    #[arg(long, value_name = "OFFSET", value_parser = values::number)]
    at: Vec<u64>,

    /// Superblock, statistics and every inode with extents and directory blocks: the text for snapshot tests
    #[arg(short = 'a', long)]
    all: bool,

    /// The tree as an mtree(5) manifest with SHA-256 of contents: the same for images of the same tree
    #[arg(short = 't', long, conflicts_with_all = ["superblock", "stats", "nid", "path", "map", "at", "all"])]
    tree: bool,

    /// With --tree: threads that read and digest; by default one for each processor
    #[arg(long, value_name = "N", requires = "tree", value_parser = values::workers)]
    workers: Option<NonZeroUsize>,

    /// With --tree: most bytes of content to digest; by default 64G or 16 times the size of the image and its devices,
    /// whichever is more
    #[arg(long, value_name = "BYTES", value_parser = values::size, requires = "tree")]
    digest_limit: Option<u64>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Positions are bytes, in decimal and hexadecimal. The text has no local times, paths of this machine or anything else that \
    changes: equal images give equal text.

Examples:
  erofs dump rootfs.erofs                          superblock, features
  erofs dump rootfs.erofs -S                       statistics
  erofs dump rootfs.erofs --path usr/bin/ls -e     one file: inode, map, extents
  erofs dump rootfs.erofs --nid 36 -d              a directory, block by block
  erofs dump rootfs.erofs --at 0x9df90             who owns this byte?
  erofs dump rootfs.erofs --tree > rootfs.mtree    names, attributes, digests";

/// Where results go.
type Out = Sheet<BufWriter<Output>>;

/// What a part of the dump came to: what it could not tell, it told on standard error.
struct Problems(u64);

impl Problems {
    /// More of these are only counted.
    const MOST_SHOWN: u64 = 20;

    fn tell(&mut self, path: &[u8], error: &dyn Display) {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        self.tell_of(&format_args!("/{}", Printable(path)), error);
    }

    fn tell_of(&mut self, subject: &dyn Display, error: &dyn Display) {
        self.0 += 1;
        if self.0 <= Self::MOST_SHOWN {
            complain!("erofs: {subject}: {error}");
        }
    }

    fn outcome(&self) -> Outcome {
        if self.0 > Self::MOST_SHOWN {
            complain!("erofs: … and {} more problems", self.0 - Self::MOST_SHOWN);
        }
        if self.0 == 0 {
            Outcome::Fine
        } else {
            Outcome::Problems
        }
    }
}

impl Dump {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let wants_inode = !self.nid.is_empty() || !self.path.is_empty();
        let nothing_else =
            !(self.stats || self.map || self.all || wants_inode) && self.at.is_empty();
        let opened = if self.tree {
            self.input.open()
        } else {
            self.input.open_for_metadata()
        };
        let mut problems = Problems(0);
        let opened = opened.or_else(|error| {
            let image = self.input.open_despite_checksum(error)?;
            problems.0 += 1;
            Ok(image)
        });
        let image = match opened {
            Err(error) if nothing_else && !self.tree => return self.ruin(error),
            opened => opened?,
        };
        if self.tree {
            let options = tree::Options {
                workers: self.workers.map(NonZeroUsize::get),
                digest_limit: self.digest_limit,
                json: self.json,
            };
            tree::print(&image, &options, &mut problems)?;
            return Ok(problems.outcome());
        }
        let out = BufWriter::with_capacity(64 << 10, Output::new());
        let mut sheet = Sheet::new(out, self.json)?;
        if self.superblock || self.all || nothing_else {
            superblock::print(&image, &mut sheet)?;
        }
        if self.stats || self.all {
            statistics::print(&image, &mut sheet, &mut problems)?;
        }
        if self.map {
            regions::print(&image, &mut sheet, &mut problems)?;
        }
        if !self.at.is_empty() {
            regions::print_at(&image, &self.at, &mut sheet, &mut problems)?;
        }
        if wants_inode || self.all {
            sheet.list("inodes")?;
            self.inodes(&image, &mut sheet, &mut problems)?;
            sheet.end_list()?;
        }
        sheet.finish()?;
        Ok(problems.outcome())
    }

    /// Shows the superblock of an image that does not open for the reason given.
    fn ruin(&self, error: anyhow::Error) -> anyhow::Result<Outcome> {
        let Ruin { image, error } = self.input.open_superblock(error)?;
        let mut sheet = Sheet::new(BufWriter::new(Output::new()), self.json)?;
        superblock::print(&image, &mut sheet)?;
        sheet.finish()?;
        complain!("erofs: {}", one_line(&error));
        Ok(Outcome::Problems)
    }

    fn inodes(
        &self,
        image: &Image,
        sheet: &mut Out,
        problems: &mut Problems,
    ) -> anyhow::Result<()> {
        let parts = inode::Parts {
            extents: self.extents || self.all,
            directory: self.directory || self.all,
        };
        let mut show = |path: Option<&[u8]>, inode: &Inode, problems: &mut Problems| {
            inode::print(image, path, inode, parts, sheet, problems)
        };
        for nid in &self.nid {
            let nid = Nid(*nid);
            match image.inode(nid) {
                Ok(inode) => {
                    let path = image.path_of(nid)?;
                    show(path.as_deref(), &inode, problems)?;
                }
                Err(error) => problems.tell_of(&format_args!("NID {}", nid.0), &error),
            }
        }
        for path in &self.path {
            let path = path.as_bytes();
            match image.resolve(path, Symlinks::Keep) {
                Ok(inode) => show(Some(path), &inode, problems)?,
                Err(error) => problems.tell(path, &error),
            }
        }
        if self.all {
            each_inode(image, problems, &mut |path, inode, problems| {
                show(path, inode, problems)
            })?;
        }
        Ok(())
    }
}

/// What is called for each inode, with its first path.
type Visit<'v> = &'v mut dyn FnMut(Option<&[u8]>, &Inode, &mut Problems) -> anyhow::Result<()>;

/// Visits every inode once, in listing order; those that have no path come last.
fn each_inode(image: &Image, problems: &mut Problems, visit: Visit<'_>) -> anyhow::Result<()> {
    let mut seen = std::collections::HashSet::new();
    let mut names = image.names_from(&image.root()?).with_inodes();
    loop {
        let error: Error = match names.next() {
            None => break,
            Some(Ok(name)) => {
                if let Some(inode) = name.inode
                    && (inode.nlink < 2 || seen.insert(name.nid))
                {
                    visit(Some(name.path), &inode, problems)?;
                }
                continue;
            }
            Some(Err(error)) => error,
        };
        problems.tell(names.path(), &error);
    }
    for special in [image.packed_inode(), image.metabox_inode()]
        .into_iter()
        .flatten()
    {
        visit(None, special, problems)?;
    }
    Ok(())
}
