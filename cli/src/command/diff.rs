//! `erofs diff`: what differs between images, directories and tars.

use crate::compare::{
    self, Difference, DirectorySide, Ignored, ImageSide, JsonDifference, JsonProblem, Options,
    Problem, Side, Sink, Totals, TreeSide,
};
use crate::error::{Outcome, is_broken_pipe, printed};
use crate::image::{open_image, requirements};
use crate::image_arguments::WhiteoutMode;
use crate::output::Output;
use crate::progress::Progress;
use crate::{report, values};
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use erofs_format::superblock::{MAGIC, SUPERBLOCK_OFFSET};
use erofs_mkfs::source::tar::{self, Archive};
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// Tell what differs between two images, directories or tars.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Diff {
    /// An image, a directory or a tar (plain or compressed, `-` for standard input)
    #[arg(value_name = "A")]
    a: PathBuf,

    /// The same; what is told is the way from A to B
    #[arg(value_name = "B")]
    b: PathBuf,

    #[command(flatten)]
    what: What,

    #[command(flatten)]
    sides: Sides,

    /// Print the totals only
    #[arg(long, visible_alias = "brief")]
    summary: bool,

    /// Print nothing but errors, and end at the first difference
    #[arg(short, long, conflicts_with_all = ["json", "summary"])]
    quiet: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Threads that compare contents, by default one for each processor
    #[arg(long, value_name = "N", value_parser = values::workers)]
    workers: Option<NonZeroUsize>,
}

/// What is compared.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is compared")]
struct What {
    /// Leave these out, by commas; may be repeated
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    ignore: Vec<Category>,

    /// Do not compare contents of files that have the same size
    #[arg(long, visible_alias = "no-content")]
    metadata_only: bool,

    /// Tell renamed files as removed and added
    #[arg(long)]
    no_renames: bool,

    /// Compare this path, from the root of both sides, and what is below it
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,

    /// Leave out this path, from the root of both sides, and what is below it; may be repeated
    #[arg(long, value_name = "PATH")]
    exclude: Vec<PathBuf>,
}

/// How the sides are read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Images and tars")]
struct Sides {
    /// An extra device of each image that has a device table, in its order; may be repeated. By default the blobs of an
    /// index are looked for beside it
    #[arg(long, value_name = "PATH")]
    device: Vec<PathBuf>,

    /// The same for B, instead of --device
    #[arg(long, value_name = "PATH")]
    device_b: Vec<PathBuf>,

    /// Where images begin in their files, in bytes
    #[arg(long, value_name = "BYTES", value_parser = values::size, default_value = "0")]
    offset: u64,

    /// The same for B, instead of --offset
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    offset_b: Option<u64>,

    /// What becomes of the .wh. names of OCI layers in tars
    #[arg(long, value_name = "WHAT", default_value = "keep")]
    whiteouts: WhiteoutMode,
}

/// What can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Category {
    /// Permissions with set-id and sticky bits
    Mode,
    /// User and group
    Owner,
    /// Modification times
    Mtime,
    /// Their parts below a second: many tars have none
    Nanoseconds,
    /// Extended attributes, ACLs and capabilities with them
    Xattr,
    /// Which names are hard links of one file
    #[value(alias = "nlink")]
    Links,
}

const EXAMPLES: &str = "\
One line is one path: A added, D removed, R renamed (the same content by another name), T another type, \
    M modified: \"M usr/bin/x  mode 0755→0700, content (1.2 KiB → 1.3 KiB)\".
Exit codes: 0 the same, 1 different, 2 something could not be read.

Examples:
  erofs diff old.erofs new.erofs
  erofs diff rootfs/ rootfs.erofs --ignore owner,mtime
  erofs diff layer.tar.gz layer.erofs --whiteouts=overlay --json
  erofs diff a.erofs b.erofs --path usr/lib --summary";

/// Problems that the JSON form lists; all are counted.
const MOST_PROBLEMS: usize = 10_000;

impl Diff {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let options = self.options()?;
        if self.a.as_os_str() == "-" && self.b.as_os_str() == "-" {
            bail!("only one side can be standard input");
        }
        let started = Instant::now();
        let progress = Progress::start("comparing", self.quiet || self.json);
        let counter = progress.counter();
        let Sides {
            device,
            device_b,
            offset,
            offset_b,
            ..
        } = &self.sides;
        let device_b = if device_b.is_empty() {
            device
        } else {
            device_b
        };
        let a = self.side(&self.a, device, *offset, counter)?;
        let b = self.side(&self.b, device_b, offset_b.unwrap_or(*offset), counter)?;
        let mut told = Told {
            out: BufWriter::with_capacity(64 << 10, Output::new()),
            form: match (self.quiet, self.json, self.summary) {
                (true, _, _) => Form::Nothing,
                (_, true, false) => Form::Json,
                (_, _, true) => Form::Totals,
                _ => Form::Lines,
            },
            by_line: io::stdout().is_terminal(),
            progress: &progress,
            differences: 0,
            problems: Vec::new(),
        };
        if self.json {
            self.open_json(&mut told, [&a, &b])?;
        }
        let sides = [a.side.as_ref(), b.side.as_ref()];
        let totals = match compare::compare(sides, &options, counter, &mut told) {
            // Whoever reads has seen enough: differences.
            Err(error) if is_broken_pipe(&error) && told.differences > 0 => {
                return Ok(Outcome::Problems);
            }
            result => result?,
        };
        let Told {
            mut out, problems, ..
        } = told;
        drop(progress);
        if self.json {
            printed(self.close_json(&mut out, &totals, &problems))?;
        }
        printed(out.flush().map_err(Into::into))?;
        if !(self.json || self.quiet) {
            say!(
                "{}; {} and {} of data compared in {}",
                in_short(&totals),
                report::count(totals.entries, "entry", "entries"),
                report::bytes(totals.bytes),
                report::seconds(started.elapsed())
            );
        }
        if totals.problems > 0 && !(self.quiet && totals.differ()) {
            bail!("{} entries could not be compared", totals.problems);
        }
        Ok(if totals.differ() {
            Outcome::Problems
        } else {
            Outcome::Fine
        })
    }

    fn options(&self) -> anyhow::Result<Options> {
        let What {
            ignore,
            metadata_only,
            no_renames,
            path,
            exclude,
        } = &self.what;
        let ignores = |category| ignore.contains(&category);
        let normal = |path: &PathBuf| compare::normal(path.as_os_str().as_bytes());
        let defaults = Options::default();
        Ok(Options {
            subtree: path.as_ref().map(normal).transpose()?.unwrap_or_default(),
            excluded: exclude.iter().map(normal).collect::<Result<_, _>>()?,
            ignored: Ignored {
                mode: ignores(Category::Mode),
                owner: ignores(Category::Owner),
                mtime: ignores(Category::Mtime),
                nanoseconds: ignores(Category::Nanoseconds),
                xattrs: ignores(Category::Xattr),
                links: ignores(Category::Links),
            },
            contents: !metadata_only,
            renames: !no_renames && !self.quiet,
            any: self.quiet,
            workers: self.workers.map_or(defaults.workers, NonZeroUsize::get),
        })
    }

    fn side(
        &self,
        path: &Path,
        devices: &[PathBuf],
        offset: u64,
        progress: &AtomicU64,
    ) -> anyhow::Result<Opened> {
        let named = || path.display().to_string();
        let tar = |file: File| -> anyhow::Result<Opened> {
            let archive = Archive::open(file).with_context(named)?;
            let side = TreeSide::of_tar(archive, self.sides.whiteouts.into(), progress)
                .with_context(named)?;
            Ok(Opened::new(path, "tar", side))
        };
        if path.as_os_str() == "-" {
            return tar(io::stdin().as_fd().try_clone_to_owned()?.into());
        }
        if path.is_dir() {
            let side = DirectorySide::open(path)?;
            return Ok(Opened::new(path, "directory", side));
        }
        let file = File::open(path).with_context(named)?;
        if is_image(&file, offset) {
            let needs_devices = requirements(path, offset)?.extra_devices > 0;
            let devices = if needs_devices { devices } else { &[] };
            let image = open_image(path, devices, offset)?;
            return Ok(Opened::new(path, "image", ImageSide::new(image)));
        }
        if !tar::is_tar(&file) && !tar::is_end_mark(&file) {
            bail!("{}: neither an image nor a directory nor a tar", named());
        }
        tar(file)
    }

    fn open_json(&self, told: &mut Told<'_>, [a, b]: [&Opened; 2]) -> anyhow::Result<()> {
        let side = |opened: &Opened| {
            serde_json::to_string(&JsonSide {
                path: report::path(&opened.path),
                kind: opened.kind,
            })
        };
        write!(told.out, "{{\"a\":{},\n\"b\":{}", side(a)?, side(b)?)?;
        if told.form == Form::Json {
            write!(told.out, ",\n\"differences\":[")?;
        }
        Ok(())
    }

    fn close_json(
        &self,
        out: &mut impl Write,
        totals: &Totals,
        problems: &[JsonProblem],
    ) -> anyhow::Result<()> {
        if !self.summary {
            write!(out, "\n]")?;
        }
        write!(out, ",\n\"problems\":{}", serde_json::to_string(problems)?)?;
        let totals = serde_json::to_string(&JsonTotals::new(totals))?;
        writeln!(out, ",\n\"totals\":{totals}}}")?;
        Ok(())
    }
}

fn is_image(file: &File, offset: u64) -> bool {
    let mut magic = [0; 4];
    file.read_exact_at(&mut magic, offset.saturating_add(SUPERBLOCK_OFFSET))
        .is_ok_and(|()| u32::from_le_bytes(magic) == MAGIC)
}

/// The totals for people.
fn in_short(totals: &Totals) -> String {
    if !totals.differ() {
        return "no differences".to_owned();
    }
    let mut parts = Vec::new();
    for (count, what, bytes) in [
        (totals.changed, "changed", 0),
        (totals.renamed, "renamed", 0),
        (totals.removed.entries, "removed", totals.removed.bytes),
        (totals.added.entries, "added", totals.added.bytes),
    ] {
        match (count, bytes) {
            (0, _) => {}
            (_, 0) => parts.push(format!("{count} {what}")),
            _ => parts.push(format!("{count} {what} ({})", report::bytes(bytes))),
        }
    }
    parts.join(", ")
}

/// A side and what it is.
struct Opened {
    path: PathBuf,
    kind: &'static str,
    side: Box<dyn Side>,
}

impl Opened {
    fn new(path: &Path, kind: &'static str, side: impl Side + 'static) -> Self {
        Self {
            path: path.to_path_buf(),
            kind,
            side: Box::new(side),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Nothing,
    Totals,
    Lines,
    Json,
}

/// Prints differences as they come.
struct Told<'a> {
    out: BufWriter<Output>,
    form: Form,
    /// Somebody is watching.
    by_line: bool,
    progress: &'a Progress,
    differences: u64,
    problems: Vec<JsonProblem>,
}

impl Sink for Told<'_> {
    fn difference(&mut self, difference: &Difference) -> io::Result<ControlFlow<()>> {
        self.differences += 1;
        match self.form {
            Form::Nothing => return Ok(ControlFlow::Break(())),
            Form::Totals => {}
            Form::Lines => {
                let out = &mut self.out;
                if self.by_line {
                    self.progress.above(|| {
                        writeln!(out, "{difference}")?;
                        out.flush()
                    })?;
                } else {
                    writeln!(out, "{difference}")?;
                }
            }
            Form::Json => {
                let separator = if self.differences == 1 { "\n" } else { ",\n" };
                write!(self.out, "{separator}")?;
                serde_json::to_writer(&mut self.out, &JsonDifference::new(difference))?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn problem(&mut self, problem: &Problem) {
        self.progress.above(|| complain!("erofs: {problem}"));
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(JsonProblem::new(problem));
        }
    }
}

#[derive(Debug, Serialize)]
struct JsonSide {
    path: String,
    kind: &'static str,
}

#[derive(Debug, Serialize)]
struct JsonTotals {
    identical: bool,
    entries: u64,
    compared_bytes: u64,
    modified: u64,
    renamed: u64,
    removed: u64,
    removed_bytes: u64,
    added: u64,
    added_bytes: u64,
    problems: u64,
}

impl JsonTotals {
    const fn new(totals: &Totals) -> Self {
        Self {
            identical: !totals.differ() && totals.problems == 0,
            entries: totals.entries,
            compared_bytes: totals.bytes,
            modified: totals.changed,
            renamed: totals.renamed,
            removed: totals.removed.entries,
            removed_bytes: totals.removed.bytes,
            added: totals.added.entries,
            added_bytes: totals.added.bytes,
            problems: totals.problems,
        }
    }
}
