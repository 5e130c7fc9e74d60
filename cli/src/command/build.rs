//! `erofs build`: a directory, tar or files become an image.

mod arguments;
mod source;

pub(crate) use arguments::{BuildArguments, Defaults};
pub(crate) use source::{archive, source};

use crate::build_report::Report;
use crate::error::Outcome;
use crate::image::open_with_devices;
use crate::progress::Progress;
use anyhow::bail;
use clap::{Args, ValueEnum};
use erofs_mkfs::build::{Base, BuildSource, build};
use erofs_mkfs::source::Whiteouts;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

    /// Go on from this image: the source lies over it, its data stays in its blocks and only what is new is added. It may be
    /// the image to write
    #[arg(long, value_name = "BASE", help_heading = "Content")]
    append_to: Option<PathBuf>,

    /// An extra device of that image, in the order of its device table; may be repeated. By default the blobs of an index are
    /// looked for beside it
    #[arg(
        long = "device",
        value_name = "PATH",
        requires = "append_to",
        help_heading = "Content"
    )]
    devices: Vec<PathBuf>,

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
  erofs build model.safetensors config.json -o model.erofs
  erofs build --append-to monday.erofs changes/ -o tuesday.erofs";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TarMode {
    /// A full image
    F,
}

impl Build {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let mut options = self.build.options()?;
        let source = source(&self.sources, self.tar.is_some())?;
        if options.image.whiteouts != Whiteouts::Keep && !matches!(source, BuildSource::Tar(_)) {
            bail!("--whiteouts and --aufs are for tars: this source is none");
        }
        if options.one_file_system && !matches!(source, BuildSource::Directory(_)) {
            bail!("--one-file-system is for directories: this source is none");
        }
        let source = match &self.append_to {
            None => source,
            Some(path) => {
                if options.image.whiteouts == Whiteouts::Keep {
                    options.image.whiteouts = Whiteouts::Overlay;
                }
                // What comes out stands for itself, so by default it says nothing of layers below.
                let strip = self.build.image.ovlfs_strip().unwrap_or(true);
                BuildSource::Over(base(path, &self.devices, strip)?, Box::new(source))
            }
        };
        let progress = Progress::start("building", self.report.is_quiet());
        let summary = build(source, &self.output, &options, progress.counter())
            .map_err(|error| self.build.explain(&options, error))?;
        drop(progress);
        self.report.print(&self.output, &summary)?;
        Ok(Outcome::Fine)
    }
}

/// The image that another one goes on from.
pub(crate) fn base(path: &Path, devices: &[PathBuf], strip: bool) -> anyhow::Result<Base> {
    let (image, devices) = open_with_devices(path, devices)?;
    Ok(Base {
        path: path.to_path_buf(),
        image: Arc::new(image),
        devices,
        strip,
    })
}
