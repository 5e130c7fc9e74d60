//! `erofs index`: a small metadata image over a tar or raw files, whose data stays where it is.

use super::build::archive;
use crate::build_report::Report;
use crate::error::Outcome;
use crate::image_arguments::ImageArguments;
use crate::metabox::CompressedMetadata;
use crate::progress::Progress;
use anyhow::bail;
use clap::Args;
use erofs_format::BlockBits;
use erofs_mkfs::index::{IndexOptions, IndexSource, Placement, index};
use erofs_mkfs::source::raw::RawFile;
use std::path::PathBuf;

/// Write an index: a small image of metadata whose data stays in the tar or in the raw files.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Index {
    /// An uncompressed tar; with --embed any tar, also `-` for standard input; or files, each as PATH or NAME=PATH
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<PathBuf>,

    /// The index to write
    #[arg(short, long, value_name = "INDEX")]
    output: PathBuf,

    /// Take a tar for what it is: a raw file
    #[arg(long)]
    raw: bool,

    /// Copy the tar, unpacked if it is compressed, behind the index: one file, which mounts without anything beside it
    #[arg(long, conflicts_with = "raw")]
    embed: bool,

    #[command(flatten, next_help_heading = "Layout")]
    metadata: CompressedMetadata,

    #[command(flatten)]
    image: ImageArguments,

    #[command(flatten)]
    report: Report,
}

const EXAMPLES: &str = "\
An index over a tar needs Linux 6.4 (blocks of 512 bytes), one over raw files Linux 5.16.
Keep the index beside its data: a mount finds it there, or takes --device; with --embed both are in one file (Linux 6.4).

Examples:
  erofs index layer.tar -o layer.toc.erofs
  curl -s https://example.org/layer.tar.gz | erofs index --embed - -o layer.erofs
  erofs index model-00001.safetensors model-00002.safetensors config.json -o model.erofs
  erofs index -m 64k:zstd --compress-directories layer.tar -o layer.toc.erofs
  erofs mount model.erofs /mnt";

impl Index {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let options = self.options()?;
        let archive = if self.raw {
            None
        } else {
            archive(&self.sources, false)?
        };
        let source = match archive {
            Some((path, _)) if path.as_os_str() == "-" && !self.embed => bail!(
                "-: a mount finds the tar by its name: name the file, or take --embed to have the tar behind the index"
            ),
            Some((path, archive)) => IndexSource::Tar { archive, path },
            None if self.embed => bail!(
                "--embed is about a tar: an index with single files in it would be a full image, which erofs build makes for older kernels too"
            ),
            None => IndexSource::RawFiles(
                self.sources
                    .iter()
                    .map(|path| RawFile::parse(path))
                    .collect::<Result<_, _>>()?,
            ),
        };
        let progress = Progress::start("copying", self.report.is_quiet());
        let placement = match self.embed {
            true => Placement::Embedded {
                progress: progress.counter(),
            },
            false => Placement::Apart,
        };
        let summary = index(source, &self.output, &options, placement)?;
        drop(progress);
        self.report.print(&self.output, &summary)?;
        Ok(Outcome::Fine)
    }

    fn options(&self) -> anyhow::Result<IndexOptions> {
        let mut options = IndexOptions {
            image: self.image.options()?,
            compress_directories: self.metadata.directories().unwrap_or(false),
            ..IndexOptions::default()
        };
        match &self.metadata.metabox {
            // The blocks of an index are of this size or smaller.
            Some(metabox) => {
                options.metabox = Some(metabox.method(None, BlockBits::B4096)?);
                options.image.metadata.bit48 = true;
            }
            None if options.compress_directories => {
                bail!("--compress-directories needs -m: it tells how")
            }
            None => {}
        }
        Ok(options)
    }
}
