//! `erofs find`: files of an image by name and attributes, without mounting.

mod expression;

use crate::error::Outcome;
use crate::image::ImageInput;
use crate::listing::{Entry, JsonEntry};
use crate::names::{Printable, complain_of};
use crate::output::Output;
use crate::values;
use clap::Args;
use erofs_format::inode::Timestamp;
use erofs_reader::{Error, Image, Inode, Name, Names, Symlinks};
use expression::{Comparison, Kind, Permissions};
use globset::GlobMatcher;
use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;

/// List files of an image that pass all tests.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Find {
    #[command(flatten)]
    input: ImageInput,

    /// Where to begin, from the root of the image; by default the root
    #[arg(value_name = "PATH", default_value = "/")]
    paths: Vec<OsString>,

    /// The last component of the path matches; any of several. `*` `?` `[a-z]` `{a,b}`
    #[arg(long, value_name = "GLOB", value_parser = expression::glob, help_heading = "Tests")]
    name: Vec<GlobMatcher>,

    /// The whole path, as it is printed, matches; any of several. `*` matches slashes too
    #[arg(long, value_name = "GLOB", value_parser = expression::glob, help_heading = "Tests")]
    path: Vec<GlobMatcher>,

    /// Is one of: f file, d directory, l symbolic link, c, b devices, p fifo, s socket
    #[arg(long = "type", value_name = "TYPES", value_parser = expression::kinds, help_heading = "Tests")]
    kinds: Option<Kind>,

    /// Has so many bytes; +N more, -N fewer. Suffixes k, M, G
    #[arg(long, value_name = "[+-]BYTES", value_parser = expression::comparison, allow_hyphen_values = true, help_heading = "Tests")]
    size: Vec<Comparison>,

    /// Changed after this: Unix seconds or YYYY-MM-DD[THH:MM:SS] in UTC
    #[arg(long, value_name = "TIME", value_parser = values::point_in_time, allow_hyphen_values = true, help_heading = "Tests")]
    newer_than: Option<Timestamp>,

    /// Changed before this
    #[arg(long, value_name = "TIME", value_parser = values::point_in_time, allow_hyphen_values = true, help_heading = "Tests")]
    older_than: Option<Timestamp>,

    /// Belongs to this user; +N, -N for larger, smaller numbers
    #[arg(long, value_name = "[+-]UID", value_parser = expression::comparison, allow_hyphen_values = true, help_heading = "Tests")]
    uid: Vec<Comparison>,

    /// Belongs to this group
    #[arg(long, value_name = "[+-]GID", value_parser = expression::comparison, allow_hyphen_values = true, help_heading = "Tests")]
    gid: Vec<Comparison>,

    /// Has exactly this octal mode; -MODE all of these bits, /MODE any of them
    #[arg(
        long,
        value_name = "[-/]MODE",
        allow_hyphen_values = true,
        help_heading = "Tests"
    )]
    perm: Vec<Permissions>,

    /// Has so many links; +N more, -N fewer
    #[arg(long, value_name = "[+-]N", value_parser = expression::comparison, allow_hyphen_values = true, help_heading = "Tests")]
    links: Vec<Comparison>,

    /// Has an extended attribute of this name, for example security.capability
    #[arg(long, value_name = "NAME", help_heading = "Tests")]
    xattr: Vec<OsString>,

    /// Go at most so many directories down; 0 is PATH itself
    #[arg(long, value_name = "N")]
    max_depth: Option<usize>,

    /// Print as `ls -l` does
    #[arg(short, long, conflicts_with_all = ["print0", "json"])]
    long: bool,

    /// Print names as they are, with a NUL behind each
    #[arg(long, conflicts_with = "json")]
    print0: bool,

    /// Print an object in each line
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  erofs find rootfs.erofs --name '*.so*' --type f
  erofs find rootfs.erofs usr --perm /6000 -l           set-id files below usr
  erofs find rootfs.erofs --xattr security.capability
  erofs find rootfs.erofs --size +10M --newer-than 2026-01-01 --json";

impl Find {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let image = self.input.open_for_metadata()?;
        let mut search = Search {
            image: &image,
            out: BufWriter::with_capacity(64 << 10, Output::new()),
            options: &self,
            outcome: Outcome::Fine,
        };
        for path in &self.paths {
            let path = path.as_bytes();
            match image.resolve(path, Symlinks::Keep) {
                Ok(inode) => search.below(path, &inode)?,
                Err(error) => search.complain(path, &error),
            }
        }
        search.out.flush()?;
        Ok(search.outcome)
    }

    /// The tests that need nothing but the name.
    fn name_passes(&self, path: &[u8], name: &Name<'_>) -> bool {
        let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        expression::any_matches(&self.name, last)
            && expression::any_matches(&self.path, path)
            && self.kinds.is_none_or(|kinds| kinds.holds(name.file_type))
    }

    /// Whether inodes are looked at at all.
    const fn needs_inodes(&self) -> bool {
        self.long
            || self.json
            || self.newer_than.is_some()
            || self.older_than.is_some()
            || !(self.size.is_empty()
                && self.uid.is_empty()
                && self.gid.is_empty()
                && self.perm.is_empty()
                && self.links.is_empty()
                && self.xattr.is_empty())
    }

    /// All other tests.
    fn inode_passes(&self, image: &Image, inode: &Inode) -> Result<bool, Error> {
        let all = |tests: &[Comparison], value: u64| tests.iter().all(|test| test.holds(value));
        let passes = all(&self.size, inode.data_size())
            && all(&self.uid, inode.uid.into())
            && all(&self.gid, inode.gid.into())
            && all(&self.links, inode.nlink.into())
            && self.perm.iter().all(|test| test.holds(inode.mode))
            && self.newer_than.is_none_or(|time| inode.mtime > time)
            && self.older_than.is_none_or(|time| inode.mtime < time);
        if !passes {
            return Ok(false);
        }
        for name in &self.xattr {
            if image.xattr(inode, name.as_bytes())?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

struct Search<'a> {
    image: &'a Image,
    out: BufWriter<Output>,
    options: &'a Find,
    outcome: Outcome,
}

impl Search<'_> {
    /// Prints what passes below a file that was given as `prefix`, and itself.
    fn below(&mut self, prefix: &[u8], start: &Inode) -> anyhow::Result<()> {
        let mut names: Names<'_> = self.image.names_from(start);
        if self.options.needs_inodes() {
            names = names.with_inodes();
        }
        let root = prefix.iter().all(|byte| *byte == b'/');
        let mut path = Vec::new();
        while let Some(name) = names.next() {
            path.clear();
            let error = match name {
                Ok(name) => {
                    join(&mut path, prefix, root, name.path);
                    if self.options.name_passes(&path, &name) {
                        self.consider(&path, name.inode)?;
                    }
                    if self
                        .options
                        .max_depth
                        .is_some_and(|limit| name.depth >= limit)
                    {
                        names.prune();
                    }
                    continue;
                }
                Err(error) => error,
            };
            join(&mut path, prefix, root, names.path());
            self.complain(&path, &error);
        }
        Ok(())
    }

    /// Prints a file whose name passes, if the rest does too.
    fn consider(&mut self, path: &[u8], inode: Option<Inode>) -> anyhow::Result<()> {
        let Some(inode) = inode.filter(|_| self.options.needs_inodes()) else {
            return Ok(self.print_name(path)?);
        };
        match self.options.inode_passes(self.image, &inode) {
            Ok(false) => Ok(()),
            Ok(true) => self.print(path, &inode),
            Err(error) => {
                self.complain(path, &error);
                Ok(())
            }
        }
    }

    fn print_name(&mut self, path: &[u8]) -> std::io::Result<()> {
        if self.options.print0 {
            self.out.write_all(path)?;
            return self.out.write_all(b"\0");
        }
        writeln!(self.out, "{}", Printable(path))
    }

    fn print(&mut self, path: &[u8], inode: &Inode) -> anyhow::Result<()> {
        if !self.options.long && !self.options.json {
            return Ok(self.print_name(path)?);
        }
        let entry = match Entry::new(self.image, path, inode) {
            Ok(entry) => entry,
            Err(error) => {
                self.complain(path, &error);
                return Ok(());
            }
        };
        if self.options.long {
            writeln!(self.out, "{entry}")?;
        } else {
            serde_json::to_writer(&mut self.out, &JsonEntry::new(&entry))
                .map_err(std::io::Error::from)?;
            writeln!(self.out)?;
        }
        Ok(())
    }

    fn complain(&mut self, path: &[u8], error: &Error) {
        self.outcome = Outcome::Problems;
        complain_of(path, error);
    }
}

/// A path as it is printed: the root is a slash, and what is below it has none in front.
fn join(path: &mut Vec<u8>, prefix: &[u8], root: bool, below: &[u8]) {
    if root {
        path.extend_from_slice(if below.is_empty() { b"/" } else { below });
        return;
    }
    path.extend_from_slice(prefix);
    if !below.is_empty() {
        if !prefix.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(below);
    }
}
