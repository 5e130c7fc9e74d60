//! `erofs ls`: what is in an image, without mounting.

use crate::error::Outcome;
use crate::image::ImageInput;
use crate::listing::{Entry, JsonEntry};
use crate::names::{Printable, complain_of};
use crate::output::Output;
use clap::Args;
use erofs_reader::{Error, Image, Inode, Symlinks};
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// List files of an image. Odd bytes in names are escaped, one line is one file.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Ls {
    #[command(flatten)]
    input: ImageInput,

    /// What to list, from the root of the image: files, or directories with their entries; by default the root
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Mode, links, owner, group, size or device number, time (UTC), link target
    #[arg(short, long)]
    long: bool,

    /// Directories with all below them, by paths
    #[arg(short = 'R', long)]
    recursive: bool,

    /// Directories themselves, not what is in them
    #[arg(short, long, conflicts_with = "recursive")]
    directory: bool,

    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Without -l and --json only names are read: files whose inodes are broken are listed too.

Examples:
  erofs ls rootfs.erofs
  erofs ls rootfs.erofs -lR usr/bin
  erofs ls layer.toc.erofs -R --json --device layer.tar";

impl Ls {
    /// Runs the command.
    pub(crate) fn run(mut self) -> anyhow::Result<Outcome> {
        let image = self.input.open_for_metadata()?;
        if self.paths.is_empty() {
            self.paths.push(PathBuf::new());
        }
        let paths = std::mem::take(&mut self.paths);
        // Names say which of several directories they belong to.
        let with_prefix = self.recursive || paths.len() > 1;
        let mut listing = Listing {
            image: &image,
            out: BufWriter::with_capacity(64 << 10, Output::new()),
            options: &self,
            entries: 0,
            outcome: Outcome::Fine,
        };
        if self.json {
            write!(listing.out, "[")?;
        }
        for path in &paths {
            let path = path.as_os_str().as_bytes();
            match image.resolve(path, Symlinks::Keep) {
                Ok(inode) if inode.is_directory() && !self.directory => {
                    let prefix = if with_prefix { path } else { b"" };
                    listing.directory(prefix, &inode)?;
                }
                Ok(inode) => {
                    let path = if path.is_empty() { b"/" } else { path };
                    listing.entry(path, &inode)?;
                }
                Err(error) => listing.complain(path, &error),
            }
        }
        if self.json {
            writeln!(listing.out, "\n]")?;
        }
        listing.out.flush()?;
        Ok(listing.outcome)
    }
}

struct Listing<'a> {
    image: &'a Image,
    out: BufWriter<Output>,
    options: &'a Ls,
    entries: u64,
    outcome: Outcome,
}

impl Listing<'_> {
    /// Lists a directory, not itself.
    fn directory(&mut self, prefix: &[u8], directory: &Inode) -> anyhow::Result<()> {
        let with_inodes = self.options.long || self.options.json;
        let mut names = self.image.names_from(directory);
        if with_inodes {
            names = names.with_inodes();
        }
        // Every path begins with the prefix and a slash, if there is one.
        let mut path = prefix.to_vec();
        if !prefix.is_empty() && !prefix.ends_with(b"/") {
            path.push(b'/');
        }
        let start = path.len();
        while let Some(name) = names.next() {
            path.truncate(start);
            let error = match name {
                Ok(name) if name.depth == 0 => continue,
                Ok(name) => {
                    path.extend_from_slice(name.path);
                    match name.inode.filter(|_| with_inodes) {
                        Some(inode) => self.entry(&path, &inode)?,
                        None => self.name(&path)?,
                    }
                    if !self.options.recursive {
                        names.prune();
                    }
                    continue;
                }
                Err(error) => error,
            };
            path.extend_from_slice(names.path());
            self.complain(&path, &error);
        }
        Ok(())
    }

    fn name(&mut self, name: &[u8]) -> std::io::Result<()> {
        writeln!(self.out, "{}", Printable(name))
    }

    fn entry(&mut self, name: &[u8], inode: &Inode) -> anyhow::Result<()> {
        if !self.options.json && !self.options.long {
            return Ok(self.name(name)?);
        }
        let entry = match Entry::new(self.image, name, inode) {
            Ok(entry) => entry,
            Err(error) => {
                self.complain(name, &error);
                return Ok(());
            }
        };
        if self.options.json {
            let separator = if self.entries == 0 { "\n" } else { ",\n" };
            write!(self.out, "{separator}")?;
            serde_json::to_writer(&mut self.out, &JsonEntry::new(&entry))
                .map_err(std::io::Error::from)?;
        } else {
            writeln!(self.out, "{entry}")?;
        }
        self.entries += 1;
        Ok(())
    }

    fn complain(&mut self, path: &[u8], error: &Error) {
        self.outcome = Outcome::Problems;
        let path = if path.is_empty() { b"/" } else { path };
        complain_of(path, error);
    }
}
