//! `erofs extract`: files of an image become files of a directory, or members of a tar.

mod summary;
mod tar;

use crate::error::Outcome;
use crate::image::ImageInput;
use crate::progress::Progress;
use crate::{report, values};
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use erofs_reader::extract::{self, ExtractOptions, Globs};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use summary::{JsonSummary, JsonTarget, Problems};

/// Extract an image, or parts of it, into a directory or a tar.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Extract {
    #[command(flatten)]
    input: ImageInput,

    /// The directory to extract into (unless -C or --tar is given), then what to extract: paths from the root of the
    /// image, by default everything
    #[arg(value_name = "DIR|PATH")]
    words: Vec<PathBuf>,

    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    selection: Selection,

    #[command(flatten)]
    attributes: Attributes,

    /// Worker threads, by default one for each processor, at most 8
    #[arg(long, value_name = "N", value_parser = values::workers)]
    workers: Option<NonZeroUsize>,

    /// Print a summary as JSON
    #[arg(long)]
    json: bool,

    /// Print nothing but problems
    #[arg(short, long)]
    quiet: bool,
}

/// Where to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Target")]
struct Target {
    /// The directory to extract into; made if it does not exist
    #[arg(short = 'C', long = "directory", value_name = "DIR")]
    directory: Option<PathBuf>,

    /// Write a tar instead: to FILE, or to standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-",
        conflicts_with_all = ["directory", "force", "no_same_permissions", "same_permissions"])]
    tar: Option<PathBuf>,

    /// Replace files that exist, and merge directories
    #[arg(short, long, visible_alias = "overwrite")]
    force: bool,

    /// Write holes into the tar as zeros, for programs that know nothing of sparse files
    #[arg(long, requires = "tar")]
    no_sparse: bool,
}

/// What.
#[derive(Debug, Args)]
#[command(next_help_heading = "Selection")]
struct Selection {
    /// Extract only what matches, with all below and the directories that lead there; may be repeated
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,

    /// Leave out what matches, with all below; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// What becomes of names that contain a slash or NUL
    #[arg(long, value_name = "WHAT", default_value = "refuse")]
    hostile_names: HostileNames,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum HostileNames {
    /// They are problems, and left out
    Refuse,
    /// %erofs% is put in front, slash, NUL and % become %2F, %00 and %25
    Rename,
}

/// With what.
#[derive(Debug, Args)]
#[command(next_help_heading = "Attributes")]
struct Attributes {
    /// Give files their owners: the default for root, and in tars
    #[arg(long, overrides_with = "no_same_owner")]
    same_owner: bool,

    /// Let all files belong to who extracts them (the default for everybody but root), or to 0:0 in tars
    #[arg(long)]
    no_same_owner: bool,

    /// Give files exactly their permissions: the default
    #[arg(short = 'p', long, overrides_with = "no_same_permissions")]
    same_permissions: bool,

    /// Apply the umask to permissions, and drop set-id bits
    #[arg(long)]
    no_same_permissions: bool,

    /// Leave out extended attributes: ACLs and capabilities too
    #[arg(long)]
    no_xattrs: bool,

    /// Leave out device nodes, whiteouts too
    #[arg(long)]
    no_devices: bool,
}

const EXAMPLES: &str = "\
Examples:
  erofs extract rootfs.erofs rootfs/
  erofs extract rootfs.erofs -C out etc usr/share/doc
  erofs extract rootfs.erofs out/ --include '*.conf' --exclude /usr
  erofs extract rootfs.erofs --tar | zstd > rootfs.tar.zst
  erofs extract layer.toc.erofs out/ --device layer.tar

Globs without a slash match names at any depth, others paths from the root; *, ? (one byte) and [abc] \
    match no slash, ** matches any number of directories, {a,b} either.

Exit code 1 when something could not be extracted, or only in part: device nodes, owners and \
    privileged attributes need root.";

impl Extract {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let options = self.options()?;
        if let Some(tar) = &self.target.tar {
            let selection = selection(&self.words);
            return tar::run(&self, tar, &selection, &options);
        }
        let (directory, paths) = match (&self.target.directory, self.words.split_first()) {
            (Some(directory), _) => (directory, self.words.as_slice()),
            (None, Some((directory, paths))) => (directory, paths),
            (None, None) => bail!("where to? Give a directory, as last word or with -C, or --tar"),
        };
        self.extract_to(directory, &selection(paths), &options)
    }

    fn options(&self) -> anyhow::Result<ExtractOptions> {
        let defaults = ExtractOptions::default();
        let attributes = &self.attributes;
        let may_have_owners = self.target.tar.is_some() || rustix::process::geteuid().is_root();
        Ok(ExtractOptions {
            replace: self.target.force,
            same_owner: attributes.same_owner || (may_have_owners && !attributes.no_same_owner),
            same_permissions: !attributes.no_same_permissions,
            xattrs: !attributes.no_xattrs,
            devices: !attributes.no_devices,
            hostile_names: match self.selection.hostile_names {
                HostileNames::Refuse => extract::HostileNames::Refuse,
                HostileNames::Rename => extract::HostileNames::Rename,
            },
            globs: Globs::new(&self.selection.include, &self.selection.exclude)?,
            sparse_members: !self.target.no_sparse,
            workers: self.workers.unwrap_or(defaults.workers),
            ..defaults
        })
    }

    fn extract_to(
        &self,
        directory: &Path,
        selection: &[Vec<u8>],
        options: &ExtractOptions,
    ) -> anyhow::Result<Outcome> {
        let image = self.input.open()?;
        let started = Instant::now();
        let progress = Progress::start("extracting", self.quiet || self.json);
        let problems = Problems::default();
        let result = extract::extract(
            &image,
            directory,
            selection,
            options,
            progress.counter(),
            &|problem| problems.tell(&progress, problem),
        );
        drop(progress);
        let summary = result
            .map_err(|problem| problem.error)
            .with_context(|| directory.display().to_string())?;
        problems.tell_rest();
        if self.json {
            let target = JsonTarget::Directory(report::path(directory));
            report::print_json(&JsonSummary::new(target, &summary, started.elapsed()))?;
        } else if !self.quiet {
            summary::print(directory, &summary, started.elapsed());
        }
        summary::tell_left_out(&summary);
        if summary.stopped {
            bail!("stopped early, {} is incomplete", directory.display());
        }
        Ok(summary::outcome(&summary))
    }
}

fn selection(paths: &[PathBuf]) -> Vec<Vec<u8>> {
    let bytes = |path: &PathBuf| path.clone().into_os_string().into_vec();
    paths.iter().map(bytes).collect()
}
