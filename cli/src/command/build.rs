//! `erofs build`: a directory, tar or files become an image.

use crate::error::Outcome;
use crate::progress::Progress;
use crate::{report, values};
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use erofs_format::BlockBits;
use erofs_format::inode::Timestamp;
use erofs_format::kernel::KernelVersion;
use erofs_mkfs::build::{BuildOptions, BuildSource, build};
use erofs_mkfs::data::Compression;
use erofs_mkfs::plan::inode_data::IndexForm;
use erofs_mkfs::source::raw::RawFile;
use erofs_mkfs::source::tar::{self, Archive};
use erofs_mkfs::source::{Rules, Whiteouts};
use erofs_mkfs::summary::Summary;
use serde::Serialize;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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

    #[command(flatten)]
    layout: Layout,

    #[command(flatten)]
    content: Content,

    #[command(flatten)]
    run: Run,
}

const EXAMPLES: &str = "\
Examples:
  erofs build rootfs/ -o rootfs.erofs
  erofs build rootfs/ -o rootfs.erofs -z zstd,9 -C 64k
  zcat layer.tar.gz | erofs build - -o layer.erofs --whiteouts=overlay
  erofs build model.safetensors config.json -o model.erofs";

/// How the image looks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Layout")]
struct Layout {
    /// Compress files: zstd[,LEVEL] (levels 1 to 22, default 3; Linux 6.10)
    #[arg(short = 'z', long = "compress", value_name = "ALGORITHM", value_parser = values::compressor)]
    compressor: Option<i32>,

    /// Largest compressed cluster in bytes, up to 1 MiB
    #[arg(short = 'C', long, value_name = "BYTES", value_parser = values::size, default_value = "64k")]
    cluster_size: u64,

    /// Block size in bytes; blocks smaller than 4096 need Linux 6.4, larger ones a machine with larger pages
    #[arg(short = 'b', long, value_name = "BYTES", value_parser = values::block_size, default_value = "4096")]
    block_size: BlockBits,

    /// Extended options, by commas: noinline_data, inline_data, legacy-compress
    #[arg(short = 'E', value_name = "OPTION", value_delimiter = ',')]
    extended: Vec<String>,

    /// Store files in chunks of this many bytes (Linux 5.15)
    #[arg(long = "chunksize", value_name = "BYTES", value_parser = values::size)]
    chunk_size: Option<u64>,

    /// Write zeros instead of holes: readable since Linux 5.4
    #[arg(long)]
    no_sparse: bool,

    /// Store identical files again and again
    #[arg(long)]
    no_dedupe: bool,

    /// Share extended attributes that more than N files have in common; -1 leaves all attributes out
    #[arg(
        short = 'x',
        value_name = "N",
        default_value = "2",
        allow_negative_numbers = true
    )]
    xattr_tolerance: i64,

    /// UUID, `random` or `clear`; by default it follows from the content
    #[arg(short = 'U', long, value_name = "UUID", value_parser = values::uuid)]
    uuid: Option<[u8; 16]>,

    /// Label, up to 15 bytes (16 since Linux 6.15)
    #[arg(short = 'L', long, value_name = "LABEL", default_value = "")]
    label: String,

    /// Refuse what this kernel cannot mount, e.g. 5.10
    #[arg(long, value_name = "X.Y")]
    kernel: Option<KernelVersion>,
}

/// What goes in, and what is changed on the way.
#[derive(Debug, Args)]
#[command(next_help_heading = "Content")]
struct Content {
    /// Give all files this modification time (Unix seconds)
    #[arg(short = 'T', value_name = "SECONDS", value_parser = values::timestamp, allow_negative_numbers = true)]
    time: Option<Timestamp>,

    /// Everything belongs to root
    #[arg(long, conflicts_with_all = ["force_uid", "force_gid"])]
    all_root: bool,

    /// Everything belongs to this user
    #[arg(long, value_name = "UID")]
    force_uid: Option<u32>,

    /// Everything belongs to this group
    #[arg(long, value_name = "GID")]
    force_gid: Option<u32>,

    /// Leave out this path (relative to the root) and all below it; may be repeated
    #[arg(long, value_name = "PATH")]
    exclude_path: Vec<PathBuf>,

    /// The source is a tar (`f`: the image holds all data)
    #[arg(long, value_name = "MODE", num_args = 0..=1, default_missing_value = "f", require_equals = true)]
    tar: Option<TarMode>,

    /// What becomes of the .wh. names of OCI layers
    #[arg(long, value_name = "WHAT", default_value = "keep")]
    whiteouts: WhiteoutMode,

    /// The same as --whiteouts=overlay
    #[arg(long, conflicts_with = "whiteouts")]
    aufs: bool,

    /// Stay on the filesystem of the source directory
    #[arg(long)]
    one_file_system: bool,

    /// Take files as they are when they change while they are read
    #[arg(long)]
    ignore_changed: bool,
}

/// How the work is done; the image does not depend on it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Work")]
struct Run {
    /// Worker threads, by default one for each processor
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// Memory for data on its way, in bytes
    #[arg(long, value_name = "BYTES", value_parser = values::size, default_value = "96M")]
    memory: u64,

    /// Print the summary as JSON
    #[arg(long)]
    json: bool,

    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TarMode {
    /// A full image
    F,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WhiteoutMode {
    /// Overlayfs whiteouts and opaque directories
    Overlay,
    /// The same for mounts with userxattr
    OverlayUser,
    /// Ordinary files
    Keep,
    /// Nothing
    Strip,
}

impl From<WhiteoutMode> for Whiteouts {
    fn from(mode: WhiteoutMode) -> Self {
        match mode {
            WhiteoutMode::Overlay => Self::Overlay,
            WhiteoutMode::OverlayUser => Self::OverlayUser,
            WhiteoutMode::Keep => Self::Keep,
            WhiteoutMode::Strip => Self::Strip,
        }
    }
}

impl Build {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let options = self.options()?;
        let source = source(&self.sources, self.content.tar.is_some())?;
        let progress = Progress::start("building", self.run.quiet || self.run.json);
        let summary = build(source, &self.output, &options, progress.counter())?;
        drop(progress);
        if self.run.json {
            report::print_json(&JsonSummary::new(&self.output, &summary))?;
        } else if !self.run.quiet {
            print_summary(&self.output, &summary);
        }
        Ok(Outcome::Fine)
    }

    fn options(&self) -> anyhow::Result<BuildOptions> {
        let Self {
            layout,
            content,
            run,
            ..
        } = self;
        let block = layout.block_size.bytes();
        let mut options = BuildOptions {
            block_bits: layout.block_size,
            sparse: !layout.no_sparse,
            dedupe: !layout.no_dedupe,
            uuid: layout.uuid,
            label: layout.label.clone().into_bytes(),
            kernel: layout.kernel,
            whiteouts: if content.aufs {
                Whiteouts::Overlay
            } else {
                content.whiteouts.into()
            },
            one_file_system: content.one_file_system,
            ignore_changed: content.ignore_changed,
            memory: usize::try_from(run.memory)
                .context("--memory is larger than this machine can address")?,
            rules: self.rules()?,
            ..BuildOptions::default()
        };
        if options.label.len() > 16 {
            bail!("label {:?} is longer than 16 bytes", layout.label);
        }
        if let Some(workers) = run.workers {
            if workers == 0 {
                bail!("--workers must be at least 1");
            }
            options.workers = workers;
        }
        if let Some(level) = layout.compressor {
            // A pcluster's size in blocks has 11 bits, all ones excluded by the kernel's own limit of 1 MiB.
            let most = (1 << 20).min(block * 2047);
            let size = layout.cluster_size;
            if size < block.max(4096) || size > 1 << 20 || !size.is_multiple_of(block) {
                bail!(
                    "-C {size}: a cluster must be a multiple of the block size ({block}), from 4096 bytes to 1 MiB"
                );
            }
            options.compression = Some(Compression {
                level,
                max_pcluster: usize::try_from(size.min(most))?,
            });
        }
        if let Some(size) = layout.chunk_size {
            if !size.is_power_of_two() || size < block || size > block << 31 {
                bail!(
                    "--chunksize {size}: a chunk must be a power of two from the block size ({block}) on"
                );
            }
            if layout.compressor.is_some() {
                bail!("--chunksize and -z exclude each other: chunks are never compressed");
            }
            options.chunk_shift = Some(u8::try_from((size / block).ilog2())?);
        }
        match layout.xattr_tolerance {
            ..0 => options.rules.drop_xattrs = true,
            tolerance => options.xattr_tolerance = u32::try_from(tolerance).unwrap_or(u32::MAX),
        }
        for extended in &layout.extended {
            match extended.as_str() {
                "noinline_data" | "^inline_data" => options.inline_tails = false,
                "inline_data" => options.inline_tails = true,
                "legacy-compress" => options.index_form = IndexForm::Full,
                other => {
                    bail!("-E {other}: expected noinline_data, inline_data or legacy-compress")
                }
            }
        }
        Ok(options)
    }

    fn rules(&self) -> anyhow::Result<Rules> {
        let content = &self.content;
        let clamp_time = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => Some(
                values::timestamp(&text)
                    .map_err(anyhow::Error::msg)
                    .context("environment variable SOURCE_DATE_EPOCH")?,
            ),
            Err(_) => None,
        };
        let owner = |forced: Option<u32>| if content.all_root { Some(0) } else { forced };
        Ok(Rules {
            force_uid: owner(content.force_uid),
            force_gid: owner(content.force_gid),
            fixed_time: content.time,
            clamp_time,
            drop_xattrs: false,
            excluded: content
                .exclude_path
                .iter()
                .map(|path| path.as_os_str().as_bytes().to_vec())
                .collect(),
        })
    }
}

/// What the arguments mean: a directory, a tar, or files.
pub(crate) fn source(arguments: &[PathBuf], is_tar: bool) -> anyhow::Result<BuildSource> {
    if let [single] = arguments {
        if !is_tar && std::fs::metadata(single).is_ok_and(|metadata| metadata.is_dir()) {
            return Ok(BuildSource::Directory(single.clone()));
        }
    }
    if is_tar || arguments.iter().any(|path| path.as_os_str() == "-") || is_archive(arguments) {
        let [single] = arguments else {
            bail!("a tar must be the only source")
        };
        let archive = if single.as_os_str() == "-" {
            Archive::open(std::io::stdin().as_fd().try_clone_to_owned()?.into())?
        } else {
            let file = File::open(single).with_context(|| single.display().to_string())?;
            Archive::open(file).with_context(|| single.display().to_string())?
        };
        return Ok(BuildSource::Tar(archive));
    }
    if let Some(directory) = arguments.iter().find(|path| path.is_dir()) {
        bail!(
            "{}: a directory must be the only source",
            directory.display()
        );
    }
    let files = arguments
        .iter()
        .map(|path| RawFile::parse(path))
        .collect::<Result<_, _>>()?;
    Ok(BuildSource::RawFiles(files))
}

/// Whether the only argument is a tar, by its content.
fn is_archive(arguments: &[PathBuf]) -> bool {
    let [single] = arguments else { return false };
    File::open(single).is_ok_and(|file| tar::is_tar(&file))
}

/// The summary for scripts.
#[derive(Debug, Serialize)]
struct JsonSummary {
    image: PathBuf,
    entries: u64,
    inodes: u64,
    bytes_in: u64,
    image_bytes: u64,
    ratio: f64,
    duplicate_files: u64,
    seconds: f64,
    bytes_per_second: f64,
    uuid: String,
    oldest_kernel: String,
    oldest_kernel_because: &'static str,
    requirements: Vec<JsonRequirement>,
}

#[derive(Debug, Serialize)]
struct JsonRequirement {
    feature: &'static str,
    since: String,
}

impl JsonSummary {
    fn new(image: &Path, summary: &Summary) -> Self {
        Self {
            image: image.to_path_buf(),
            entries: summary.entries,
            inodes: summary.inodes,
            bytes_in: summary.bytes_in,
            image_bytes: summary.image_size,
            ratio: summary.ratio(),
            duplicate_files: summary.duplicates,
            seconds: summary.elapsed.as_secs_f64(),
            bytes_per_second: summary.throughput(),
            uuid: report::uuid(&summary.uuid),
            oldest_kernel: summary.oldest_kernel().to_string(),
            oldest_kernel_because: summary.newest_requirement().describe(),
            requirements: summary
                .requirements
                .iter()
                .map(|requirement| JsonRequirement {
                    feature: requirement.describe(),
                    since: requirement.since().to_string(),
                })
                .collect(),
        }
    }
}

/// The summary for people.
pub(crate) fn print_summary(image: &Path, summary: &Summary) {
    println!(
        "{}: {} from {} of data in {} entries (ratio {:.2}), {} at {}/s",
        image.display(),
        report::bytes(summary.image_size),
        report::bytes(summary.bytes_in),
        summary.entries,
        summary.ratio(),
        report::seconds(summary.elapsed),
        report::bytes(summary.throughput() as u64),
    );
    if summary.duplicates > 0 {
        println!(
            "  {} files share the data of identical ones",
            summary.duplicates
        );
    }
    println!(
        "  mounts on Linux {} and newer ({}); UUID {}",
        summary.oldest_kernel(),
        summary.newest_requirement().describe(),
        report::uuid(&summary.uuid),
    );
}
