//! `erofs merge`: layers become one image.

use super::build::BuildArguments;
use crate::build_report::Report;
use crate::error::Outcome;
use crate::image::open_with_devices;
use crate::progress::Progress;
use anyhow::{Context, bail};
use clap::Args;
use erofs_format::superblock::SuperblockError;
use erofs_mkfs::build::{BuildSource, Verify, build};
use erofs_mkfs::index::{IndexSource, Placement, index};
use erofs_mkfs::source::Whiteouts;
use erofs_mkfs::source::layers::{Layer, LayerSource};
use erofs_mkfs::source::tar::{self, Archive};
use erofs_mount::Requirements;
use erofs_mount::requirements::RequirementsError;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Merge layers, images or tars, into one image.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Merge {
    /// EROFS images and tars, the lowest layer first
    #[arg(required = true, value_name = "LAYER")]
    layers: Vec<PathBuf>,

    /// The image to write
    #[arg(short, long, value_name = "IMAGE")]
    output: PathBuf,

    /// Write metadata only: the data stays in the layers, which the image then needs as its devices
    #[arg(long)]
    index: bool,

    /// With --index: copy the layers behind the metadata as they are, into one file that mounts without them
    #[arg(long, requires = "index")]
    embed: bool,

    #[command(flatten)]
    build: BuildArguments,

    #[command(flatten)]
    report: Report,
}

const EXAMPLES: &str = "\
Upper layers win, whiteouts (.wh. names of tars, devices 0:0 and opaque directories of images) delete what lies below.
With --index all layers must have blocks of one size (tars: 512) and no compressed files; keep the layers beside the index.

Examples:
  erofs merge base.erofs app.erofs -o all.erofs -z zstd
  erofs merge base.tar.gz app.tar.gz -o all.erofs
  erofs merge --index base.erofs app.erofs -o all.toc.erofs && erofs mount all.toc.erofs /mnt";

impl Merge {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let mut options = self.build.options()?;
        if options.image.whiteouts != Whiteouts::Keep {
            bail!(
                "--whiteouts and --aufs say nothing here: whiteouts are always followed, see --ovlfs-strip"
            );
        }
        if self.index {
            if options.compression.is_some() || options.chunk_shift.is_some() {
                bail!("--index copies no data: -z and --chunksize have nothing to work on");
            }
            if options.verify == Verify::Always {
                bail!("--index copies no data: there is nothing for --verify to read back");
            }
        }
        let layers = self
            .layers
            .iter()
            .map(|path| layer(path))
            .collect::<anyhow::Result<_>>()?;
        // What is left of all layers stands for itself, so by default it says nothing of layers below.
        let strip = self.build.image.ovlfs_strip().unwrap_or(true);
        options.image.strip_overlay = false;
        let progress = Progress::start("merging", self.report.is_quiet());
        let summary = if self.index {
            let placement = match self.embed {
                true => Placement::Embedded {
                    progress: progress.counter(),
                },
                false => Placement::Apart,
            };
            index(
                IndexSource::Layers { layers, strip },
                &self.output,
                &options.for_index(),
                placement,
            )?
        } else {
            let source = BuildSource::Layers { layers, strip };
            build(source, &self.output, &options, progress.counter())
                .map_err(|error| self.build.explain(&options, error))?
        };
        drop(progress);
        self.report.print(&self.output, &summary)?;
        Ok(Outcome::Fine)
    }
}

/// A layer, by its content.
pub(crate) fn layer(path: &Path) -> anyhow::Result<Layer> {
    let named = || path.display().to_string();
    let file = File::open(path).with_context(named)?;
    let source = if tar::is_tar(&file) {
        LayerSource::Tar(Archive::open(file).with_context(named)?)
    } else {
        if let Err(RequirementsError::Superblock {
            error: SuperblockError::Magic(_) | SuperblockError::Truncated(_),
            ..
        }) = Requirements::read(path, 0)
        {
            if tar::is_end_mark(&file) {
                let source = LayerSource::Tar(Archive::open(file).with_context(named)?);
                return Ok(Layer {
                    path: path.to_path_buf(),
                    source,
                });
            }
            bail!("{}: neither a tar nor an EROFS image", path.display());
        }
        let (image, devices) = open_with_devices(path, &[])?;
        LayerSource::Image {
            image: Box::new(image),
            devices,
        }
    };
    Ok(Layer {
        path: path.to_path_buf(),
        source,
    })
}
