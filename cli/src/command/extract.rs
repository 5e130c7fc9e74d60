//! `erofs extract`: files of an image become files of a directory.

use crate::error::Outcome;
use crate::image::ImageInput;
use crate::names::Printable;
use crate::progress::Progress;
use crate::report;
use anyhow::{Context, bail};
use clap::Args;
use erofs_reader::extract::{ExtractOptions, Problem, Skipped, Summary, extract};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Problems that are told one by one; the rest is counted.
const MOST_SHOWN: u64 = 100;

/// Extract an image, or parts of it, into a directory.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Extract {
    #[command(flatten)]
    input: ImageInput,

    /// The directory to extract into (unless -C names it), then what to extract: paths from the root of the image, by
    /// default everything
    #[arg(value_name = "DIR|PATH")]
    words: Vec<PathBuf>,

    /// The directory to extract into; made if it does not exist
    #[arg(short = 'C', long = "directory", value_name = "DIR")]
    directory: Option<PathBuf>,

    /// Replace files that exist, and merge directories
    #[arg(short, long, visible_alias = "overwrite")]
    force: bool,

    /// Let all files belong to who extracts them: the default for everybody but root
    #[arg(long)]
    no_same_owner: bool,

    /// Leave out extended attributes: ACLs and capabilities too
    #[arg(long)]
    no_xattrs: bool,

    /// Worker threads, by default one for each processor, at most 8
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,

    /// Print a summary as JSON
    #[arg(long)]
    json: bool,

    /// Print nothing but problems
    #[arg(short, long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  erofs extract rootfs.erofs rootfs/
  erofs extract rootfs.erofs -C out etc usr/share/doc
  erofs extract layer.toc.erofs out/ --device layer.tar

Exit code 1 when something could not be extracted, or only in part: device nodes, owners and
privileged attributes need root.";

impl Extract {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let (directory, paths) = match (&self.directory, self.words.split_first()) {
            (Some(directory), _) => (directory, self.words.as_slice()),
            (None, Some((directory, paths))) => (directory, paths),
            (None, None) => bail!("where to? Give a directory, as last word or with -C"),
        };
        let selection: Vec<Vec<u8>> = paths
            .iter()
            .map(|path| path.clone().into_os_string().into_vec())
            .collect();
        let defaults = ExtractOptions::default();
        let options = ExtractOptions {
            replace: self.force,
            same_owner: !self.no_same_owner && rustix::process::geteuid().is_root(),
            xattrs: !self.no_xattrs,
            workers: self.workers.unwrap_or(defaults.workers),
            ..defaults
        };
        let image = self.input.open()?;
        let started = Instant::now();
        let progress = Progress::start("extracting", self.quiet || self.json);
        let told = AtomicU64::new(0);
        let result = extract(
            &image,
            directory,
            &selection,
            &options,
            progress.counter(),
            &|problem| tell(&told, problem),
        );
        drop(progress);
        let summary = result
            .map_err(|problem| problem.error)
            .with_context(|| directory.display().to_string())?;
        if summary.problems > MOST_SHOWN {
            eprintln!(
                "erofs: … and {} more problems",
                summary.problems - MOST_SHOWN
            );
        }
        if self.json {
            report::print_json(&JsonSummary::new(directory, &summary, started.elapsed()))?;
        } else if !self.quiet {
            print_summary(directory, &summary, started.elapsed());
        }
        if summary.skipped.is_any() {
            eprintln!("erofs: left out: {}", left_out(&summary.skipped));
        }
        if summary.stopped {
            bail!("stopped early, {} is incomplete", directory.display());
        }
        let complete = summary.problems == 0 && !summary.skipped.is_any();
        Ok(if complete {
            Outcome::Fine
        } else {
            Outcome::Problems
        })
    }
}

fn tell(told: &AtomicU64, problem: &Problem) {
    if told.fetch_add(1, Ordering::Relaxed) < MOST_SHOWN {
        let path = if problem.path.is_empty() {
            b"/"
        } else {
            problem.path.as_slice()
        };
        eprintln!("erofs: {}: {}", Printable(path), problem.error);
    }
}

fn print_summary(directory: &Path, summary: &Summary, elapsed: Duration) {
    println!(
        "{}: {} files ({}, {} written), {} directories, {} symbolic links, {} special files, {} hard links in {}",
        Printable(directory.as_os_str().as_bytes()),
        summary.files,
        report::bytes(summary.bytes),
        report::bytes(summary.bytes_written),
        summary.directories,
        summary.symlinks,
        summary.special_files,
        summary.hard_links,
        report::seconds(elapsed),
    );
    if summary.skipped.set_id_bits > 0 {
        println!(
            "  {} files lost their set-id bits, as they belong to somebody else than in the image",
            summary.skipped.set_id_bits
        );
    }
}

/// What is missing, and what would help.
fn left_out(skipped: &Skipped) -> String {
    let mut parts = Vec::new();
    for (count, what) in [
        (
            skipped.device_nodes,
            "device nodes (they need the right to make them)",
        ),
        (skipped.owners, "owners (--no-same-owner does without)"),
        (
            skipped.xattrs,
            "extended attributes (no right to set them, or no room in the filesystem; --no-xattrs does without)",
        ),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    parts.join(", ")
}

/// The summary for scripts.
#[derive(Debug, Serialize)]
struct JsonSummary<'a> {
    directory: &'a Path,
    files: u64,
    bytes: u64,
    bytes_written: u64,
    directories: u64,
    symlinks: u64,
    special_files: u64,
    hard_links: u64,
    skipped: JsonSkipped,
    problems: u64,
    stopped: bool,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct JsonSkipped {
    device_nodes: u64,
    owners: u64,
    xattrs: u64,
    set_id_bits: u64,
}

impl<'a> JsonSummary<'a> {
    fn new(directory: &'a Path, summary: &Summary, elapsed: Duration) -> Self {
        Self {
            directory,
            files: summary.files,
            bytes: summary.bytes,
            bytes_written: summary.bytes_written,
            directories: summary.directories,
            symlinks: summary.symlinks,
            special_files: summary.special_files,
            hard_links: summary.hard_links,
            skipped: JsonSkipped {
                device_nodes: summary.skipped.device_nodes,
                owners: summary.skipped.owners,
                xattrs: summary.skipped.xattrs,
                set_id_bits: summary.skipped.set_id_bits,
            },
            problems: summary.problems,
            stopped: summary.stopped,
            seconds: elapsed.as_secs_f64(),
        }
    }
}
