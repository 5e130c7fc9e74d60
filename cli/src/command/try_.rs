//! `erofs try`: builds, mounts, compares and cleans up, with all reasons and timings in view.

use super::build::archive;
use crate::companion::Companion;
use crate::compare::{
    self, Difference, DirectorySide, Options, Problem, Side, Sink, Totals, TreeSide,
};
use crate::compressors::{self, Compressors};
use crate::error::Outcome;
use crate::mounting::{self, MountGuard};
use crate::progress::Progress;
use crate::report;
use crate::scratch::Scratch;
use anyhow::{anyhow, bail};
use clap::Args;
use erofs_format::BlockBits;
use erofs_mkfs::build::{BuildOptions, BuildSource, Verify, build};
use erofs_mkfs::data::compression::Compression;
use erofs_mkfs::options::ImageOptions;
use erofs_mkfs::source::raw::RawFile;
use erofs_mkfs::source::tar::Archive;
use erofs_mkfs::source::{Rules, Whiteouts};
use erofs_mkfs::summary::Summary;
use erofs_mount::{Attempt, Mounted, Via};
use serde::Serialize;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// Build an image of a source, mount it, compare every byte and attribute, clean up.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Try {
    /// A directory, a tar, or files
    #[arg(default_value = ".", value_name = "SOURCE")]
    sources: Vec<PathBuf>,

    /// Compress, as `erofs build -z` does: zstd[,LEVEL], lz4, …
    #[arg(short = 'z', long = "compress", value_name = "ALGORITHM", value_parser = compressors::parse)]
    compressors: Option<Compressors>,

    /// How to mount: auto, file, loop or fuse
    #[arg(long, value_name = "WAY", default_value = "auto")]
    via: Via,

    /// Keep the image as this file
    #[arg(long, value_name = "IMAGE")]
    keep: Option<PathBuf>,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
The exit code is 1 when anything differs.

Examples:
  erofs try                         the current directory
  erofs try /usr/share -z zstd
  erofs try layer.tar.gz --via fuse";

/// Differences that are printed; all are counted.
const SHOWN_DIFFERENCES: usize = 20;

#[derive(Debug, Serialize)]
struct JsonResult<'r> {
    image_bytes: u64,
    bytes_in: u64,
    entries: u64,
    oldest_kernel: String,
    build_seconds: f64,
    mounted: String,
    attempts: Vec<String>,
    mount_seconds: f64,
    compared_entries: u64,
    compared_bytes: u64,
    compare_seconds: f64,
    differences: &'r [String],
}

impl Try {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let work = Scratch::new("erofs-try-", None)?;
        let (image, target) = (work.image(), work.target());
        let (source, origin) = self.source()?;
        let keep = self.keep.as_deref().map(Companion::create).transpose()?;
        if let Some(keep) = &keep {
            keep.check(origin.files())?;
        }
        let excluded = work_below(&origin, work.path());
        let rules = Rules {
            excluded: excluded.clone(),
            ..Rules::default()
        };
        let options = BuildOptions {
            compression: self.compressors.clone().map(|Compressors(algorithms)| {
                Compression::new(algorithms, 64 << 10, BlockBits::B4096)
            }),
            image: ImageOptions {
                rules,
                ..ImageOptions::default()
            },
            // All of it is compared below, through the mount.
            verify: Verify::Never,
            ..BuildOptions::default()
        };
        let progress = Progress::start("building", self.json);
        let summary = build(source, image, &options, progress.counter())?;
        drop(progress);
        if !self.json {
            say!("image     {}", built(&summary));
        }

        let started = Instant::now();
        let guard = MountGuard::mount(image, target, self.via)
            .map_err(|error| anyhow!(mounting::explained(&error)))?;
        let MountGuard { plan, mounted, .. } = &guard;
        let attempts: Vec<_> = mounted.attempts.iter().map(Attempt::to_string).collect();
        let way = way(mounted);
        let mount_time = started.elapsed();
        if !self.json {
            say!(
                "plan      {}",
                plan.trim_end().replace('\n', "\n          ")
            );
            for attempt in &attempts {
                say!("attempt   {attempt}");
            }
            say!("mounted   {} in {}", way, report::seconds(mount_time));
        }

        let started = Instant::now();
        let (totals, differences) = compared(&origin, target, excluded)?;
        let compare_time = started.elapsed();
        guard.unmount()?;
        if let Some(keep) = keep {
            keep.publish_copy(image)?;
        }
        if self.json {
            report::print_json(&JsonResult {
                image_bytes: summary.image_size,
                bytes_in: summary.bytes_in,
                entries: summary.entries,
                oldest_kernel: summary.oldest_kernel().to_string(),
                build_seconds: summary.elapsed.as_secs_f64(),
                mounted: way,
                attempts,
                mount_seconds: mount_time.as_secs_f64(),
                compared_entries: totals.entries,
                compared_bytes: totals.bytes,
                compare_seconds: compare_time.as_secs_f64(),
                differences: &differences,
            })?;
        } else {
            print_comparison(&totals, &differences, compare_time);
        }
        Ok(if differences.is_empty() {
            Outcome::Fine
        } else {
            Outcome::Problems
        })
    }

    fn source(&self) -> anyhow::Result<(BuildSource, Origin)> {
        if self.sources.iter().any(|path| path.as_os_str() == "-") {
            bail!(
                "standard input can be read only once, and try reads its source twice: use a file"
            );
        }
        if let [single] = self.sources.as_slice()
            && single.is_dir()
        {
            return Ok((
                BuildSource::Directory(single.clone()),
                Origin::Directory(single.clone()),
            ));
        }
        if let Some((path, archive)) = archive(&self.sources, false)? {
            return Ok((BuildSource::Tar(archive), Origin::Tar(path)));
        }
        let files: Vec<RawFile> = self
            .sources
            .iter()
            .map(|path| RawFile::parse(path))
            .collect::<Result<_, _>>()?;
        Ok((
            BuildSource::RawFiles(files.clone()),
            Origin::RawFiles(files),
        ))
    }
}

/// What an image was made from.
enum Origin {
    Directory(PathBuf),
    Tar(PathBuf),
    RawFiles(Vec<RawFile>),
}

impl Origin {
    /// The files that it is in itself, which stay.
    fn files(&self) -> Vec<&Path> {
        match self {
            Self::Directory(_) => Vec::new(),
            Self::Tar(path) => vec![path],
            Self::RawFiles(files) => files.iter().map(|file| &*file.path).collect(),
        }
    }

    /// The source, read once more by itself.
    fn side(&self, progress: &AtomicU64) -> anyhow::Result<Box<dyn Side>> {
        Ok(match self {
            Self::Directory(path) => Box::new(DirectorySide::open(path)?),
            Self::Tar(path) => {
                let archive = Archive::open(File::open(path)?)?;
                Box::new(TreeSide::of_tar(archive, Whiteouts::Keep, progress)?.with_root())
            }
            Self::RawFiles(files) => Box::new(TreeSide::of_raw_files(files)?),
        })
    }
}

/// Compares the source with what the mount shows. Differences and problems are told as lines.
fn compared(
    origin: &Origin,
    target: &Path,
    excluded: Vec<Vec<u8>>,
) -> anyhow::Result<(Totals, Vec<String>)> {
    let progress = AtomicU64::new(0);
    let source = origin.side(&progress)?;
    let shown = DirectorySide::open(target)?;
    let options = Options {
        excluded,
        // A file that has moved is no less wrong.
        renames: false,
        ..Options::default()
    };
    let mut lines = Lines(Vec::new());
    let totals = compare::compare([source.as_ref(), &shown], &options, &progress, &mut lines)?;
    Ok((totals, lines.0))
}

struct Lines(Vec<String>);

impl Sink for Lines {
    fn difference(&mut self, difference: &Difference) -> io::Result<ControlFlow<()>> {
        self.0.push(difference.to_string());
        Ok(ControlFlow::Continue(()))
    }

    fn problem(&mut self, problem: &Problem) {
        self.0.push(problem.to_string());
    }
}

/// The working folder as a path to leave out, when it lies below the source.
fn work_below(origin: &Origin, work: &Path) -> Vec<Vec<u8>> {
    let Origin::Directory(source) = origin else {
        return Vec::new();
    };
    let below = source
        .canonicalize()
        .ok()
        .zip(work.canonicalize().ok())
        .and_then(|(source, work)| {
            Some(
                work.strip_prefix(source)
                    .ok()?
                    .as_os_str()
                    .as_bytes()
                    .to_vec(),
            )
        });
    below.into_iter().collect()
}

fn way(mounted: &Mounted) -> String {
    let direct = if mounted.direct_io {
        ", direct I/O"
    } else {
        ""
    };
    format!("{}{direct}", mounted.way)
}

fn built(summary: &Summary) -> String {
    format!(
        "{} from {} of data in {}, {} at {}/s; mounts on Linux {} and newer ({})",
        report::bytes(summary.image_size),
        report::bytes(summary.bytes_in),
        report::count(summary.entries, "entry", "entries"),
        report::seconds(summary.elapsed),
        report::bytes(summary.throughput() as u64),
        summary.oldest_kernel(),
        summary.newest_requirement().describe(),
    )
}

fn print_comparison(totals: &Totals, differences: &[String], elapsed: Duration) {
    say!(
        "compared  {} and {} in {}",
        report::count(totals.entries, "entry", "entries"),
        report::bytes(totals.bytes),
        report::seconds(elapsed),
    );
    for difference in differences.iter().take(SHOWN_DIFFERENCES) {
        say!("          {difference}");
    }
    match differences.len() {
        0 => say!("identical every name, mode, owner, time, attribute, link and byte"),
        count => say!(
            "DIFFERENT {}",
            report::count(count as u64, "difference", "differences")
        ),
    }
}
