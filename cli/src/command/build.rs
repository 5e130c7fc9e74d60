//! `erofs build`: a directory, tar or files become an image.

mod arguments;
mod source;

pub(crate) use arguments::{BuildArguments, Defaults};
pub(crate) use source::{archive, source};

use crate::build_report::Report;
use crate::error::Outcome;
use crate::progress::Progress;
use anyhow::bail;
use clap::{Args, ValueEnum};
use erofs_mkfs::build::{BuildSource, build};
use erofs_mkfs::source::Whiteouts;
use std::path::PathBuf;

/// Build an image from a directory, a tar or single files.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Build {
    /// A directory; a tar, plain or compressed, `-` for standard input; or files, each as PATH or NAME=PATH
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<PathBuf>,

    /// The image to write
    #[arg(short, long, value_name = "IMAGE")]
    output: PathBuf,

    /// The source is a tar (`f`: the image holds all data; for mkfs.erofs --tar=i see `erofs index`)
    #[arg(long, value_name = "MODE", num_args = 0..=1, default_missing_value = "f", require_equals = true, help_heading = "Content")]
    tar: Option<TarMode>,

    #[command(flatten)]
    build: BuildArguments,

    #[command(flatten)]
    report: Report,
}

const EXAMPLES: &str = "\
Examples:
  erofs build rootfs/ -o rootfs.erofs
  erofs build rootfs/ -o rootfs.erofs -z zstd,9 -C 64k
  zcat layer.tar.gz | erofs build - -o layer.erofs --whiteouts=overlay
  erofs build model.safetensors config.json -o model.erofs";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TarMode {
    /// A full image
    F,
}

impl Build {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let options = self.build.options()?;
        let source = source(&self.sources, self.tar.is_some())?;
        if options.image.whiteouts != Whiteouts::Keep && !matches!(source, BuildSource::Tar(_)) {
            bail!("--whiteouts and --aufs are for tars: this source is none");
        }
        if options.one_file_system && !matches!(source, BuildSource::Directory(_)) {
            bail!("--one-file-system is for directories: this source is none");
        }
        let progress = Progress::start("building", self.report.is_quiet());
        let summary = build(source, &self.output, &options, progress.counter())?;
        drop(progress);
        self.report.print(&self.output, &summary)?;
        Ok(Outcome::Fine)
    }
}
