//! `fsck.erofs`: this program with the options and exit codes of erofs-utils 1.9.

use super::digests;
use crate::command::check::{print_findings, temporary_folder};
use crate::error::{one_line, printed};
use crate::image::{self, Source};
use crate::names::Printable;
use crate::values;
use anyhow::{Context, bail};
use clap::{ArgAction, Parser};
use erofs_format::Nid;
use erofs_reader::check::{CheckOptions, Report, Start, check};
use erofs_reader::extract::{ExtractOptions, Problem, Summary, extract};
use erofs_reader::{ByteSource, Image, ImageOptions, Inode, Symlinks};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Found errors, or could not run.
const FAILURE: u8 = 1;
/// Verbosity from which on success is told.
const INFORMATION: u8 = 3;

/// Check an EROFS image, and extract it if asked.
///
/// Without --extract metadata is checked; with it everything is decoded too, with all processors.
#[derive(Debug, Parser)]
#[command(name = "fsck.erofs", disable_version_flag = true, after_help = AFTER_HELP)]
struct Arguments {
    /// Image file or block device
    #[arg(value_name = "IMAGE", required_unless_present = "version")]
    image: Option<PathBuf>,

    /// Print the version and exit
    #[arg(short = 'V', long)]
    version: bool,

    /// Verbosity: 0 prints nothing, 3 and more tells success too
    #[arg(short = 'd', value_name = "0-9", default_value = "2", value_parser = clap::value_parser!(u8).range(0..=9))]
    verbosity: u8,

    /// Print the total compression ratio
    #[arg(short = 'p')]
    ratio: bool,

    /// An extra device of the image; may be repeated. By default blobs are looked for beside it
    #[arg(long, value_name = "X")]
    device: Vec<PathBuf>,

    /// Check that all files are well encoded, and extract them to X
    #[arg(long, value_name = "X", num_args = 0..=1, require_equals = true)]
    extract: Option<Option<PathBuf>>,

    /// Skip so many bytes at the beginning of IMAGE
    #[arg(long, value_name = "#", value_parser = values::number, default_value = "0")]
    offset: u64,

    /// Begin at the inode of this number
    #[arg(long, value_name = "#", value_parser = values::number, conflicts_with = "path")]
    nid: Option<u64>,

    /// Begin at this path
    #[arg(long, value_name = "X")]
    path: Option<OsString>,

    /// Do not compare the superblock's checksum
    #[arg(long)]
    no_sbcrc: bool,

    /// Hold content against the digests that attributes of the image name
    #[arg(long)]
    xattr_inode_digest: bool,

    /// Extract extended attributes
    #[arg(long, overrides_with = "no_xattrs")]
    xattrs: bool,

    /// Do not extract extended attributes; the default
    #[arg(long)]
    no_xattrs: bool,

    /// Accepted without effect
    #[arg(short = 'a', short_alias = 'A', visible_short_alias = 'y', action = ArgAction::Count)]
    automatic: u8,

    /// Allow to extract to /
    #[arg(long, requires = "extract")]
    force: bool,

    /// Replace files that exist
    #[arg(long, requires = "extract")]
    overwrite: bool,

    /// The same as --preserve-owner --preserve-perms
    #[arg(long, requires = "extract", overrides_with_all = ["no_preserve", "no_preserve_owner", "no_preserve_perms"])]
    preserve: bool,

    /// The same as --no-preserve-owner --no-preserve-perms
    #[arg(long, requires = "extract", overrides_with_all = ["preserve", "preserve_owner", "preserve_perms"])]
    no_preserve: bool,

    /// Extract with owners; the default for root
    #[arg(long, requires = "extract", overrides_with_all = ["no_preserve", "no_preserve_owner"])]
    preserve_owner: bool,

    /// Extract as yourself; the default for everybody else
    #[arg(long, requires = "extract", overrides_with_all = ["preserve", "preserve_owner"])]
    no_preserve_owner: bool,

    /// Extract with exact permissions; the default for root
    #[arg(long, requires = "extract", overrides_with_all = ["no_preserve", "no_preserve_perms"])]
    preserve_perms: bool,

    /// Cut permissions by the umask; the default for everybody else
    #[arg(long, requires = "extract", overrides_with_all = ["preserve", "preserve_perms"])]
    no_preserve_perms: bool,
}

const AFTER_HELP: &str = "\
Examples:
  fsck.erofs rootfs.erofs                     metadata
  fsck.erofs --extract rootfs.erofs           metadata and all data
  fsck.erofs --extract=rootfs/ rootfs.erofs   the same, and the files

Exit codes: 0 the image is fine, or was extracted; 1 it is not, or could not be read.

Without effect, since there is nothing to ask about or to repair: -a, -A, -y.
More options, and findings as JSON: erofs check --help, erofs extract --help.";

/// The command as clap has it, for its man page.
#[cfg(test)]
pub(super) fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs the program on the arguments after its name.
pub(super) fn run(arguments: Vec<OsString>) -> ExitCode {
    let words = std::iter::once(OsString::from("fsck.erofs")).chain(arguments);
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to tell when this fails.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(FAILURE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if arguments.version {
        say!("fsck.erofs (erofs) {}", env!("CARGO_PKG_VERSION"));
        say!("available decompressors: lz4, lz4hc, lzma, deflate, libdeflate, zstd");
        return ExitCode::SUCCESS;
    }
    match arguments.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILURE),
        Err(error) => {
            if arguments.verbosity > 0 {
                complain!("fsck.erofs: {}", one_line(&error));
            }
            ExitCode::from(FAILURE)
        }
    }
}

impl Arguments {
    /// Whether the image is fine.
    fn run(&self) -> anyhow::Result<bool> {
        let path = self.image.clone().unwrap_or_default();
        let target = self.extract.as_ref().and_then(Option::as_deref);
        if target.is_some_and(|target| target.components().count() == 1 && target.has_root())
            && !self.force
        {
            bail!("--extract=/ must be used together with --force");
        }
        let (primary, devices) = image::open_sources(&path, &self.device, self.offset)?;
        let report = self.check(&primary, &devices)?;
        if self.verbosity > 0 {
            printed(print_findings(&report))?;
        }
        if !report.is_clean() {
            self.tell(1, "Found some filesystem corruption");
            return Ok(false);
        }
        if self.xattr_inode_digest {
            let (image, start) = self.open(&path)?;
            if !digests::verify(&image, &start, self.verbosity)? {
                self.tell(1, "Found content that its digest does not name");
                return Ok(false);
            }
        }
        match target {
            Some(target) => {
                if !self.extract(target, &path)? {
                    self.tell(1, "Failed to extract filesystem");
                    return Ok(false);
                }
                self.tell(INFORMATION, "Extracted filesystem successfully");
            }
            None => self.tell(INFORMATION, "No errors found"),
        }
        if self.ratio {
            let statistics = report.statistics;
            let ratio = statistics.stored_bytes as f64 * 100.0 / statistics.file_bytes as f64;
            say!("Compression ratio: {ratio:.2}(%)");
        }
        Ok(true)
    }

    fn tell(&self, from: u8, text: &str) {
        if self.verbosity >= from {
            complain!("fsck.erofs: {text}");
        }
    }

    fn check(&self, primary: &Source, devices: &[Source]) -> anyhow::Result<Report> {
        let options = CheckOptions {
            // What is extracted is decoded anyway.
            data: matches!(self.extract, Some(None)),
            start: match (&self.path, self.nid) {
                (Some(path), _) => Start::Path(path.clone().into_vec()),
                (None, Some(nid)) => Start::Inode(Nid(nid)),
                (None, None) => Start::Root,
            },
            checksum: !self.no_sbcrc,
            temporary_folder: temporary_folder(),
            ..CheckOptions::default()
        };
        Ok(check(primary, devices, &options, &AtomicU64::new(0))?)
    }

    /// The image, and the inode where to begin.
    fn open(&self, path: &Path) -> anyhow::Result<(Image, Inode)> {
        let (primary, devices) = image::open_sources(path, &self.device, self.offset)?;
        let boxed = |device: &Source| Box::new(Arc::clone(device)) as Box<dyn ByteSource>;
        let options = ImageOptions {
            devices: devices.iter().map(boxed).collect(),
            checksum: !self.no_sbcrc,
            ..ImageOptions::default()
        };
        let image = Image::open(primary, options).with_context(|| path.display().to_string())?;
        let start = match (&self.path, self.nid) {
            (Some(path), _) => image.resolve(&path.clone().into_vec(), Symlinks::Keep)?,
            (None, Some(nid)) => image.inode(Nid(nid))?,
            (None, None) => image.root()?,
        };
        Ok((image, start))
    }

    fn extract(&self, target: &Path, path: &Path) -> anyhow::Result<bool> {
        let (image, start) = self.open(path)?;
        let is_root = rustix::process::geteuid().is_root();
        let kept = |wanted: bool, refused: bool| wanted || (is_root && !refused);
        let options = ExtractOptions {
            start: Some(start.nid()),
            replace: self.overwrite,
            same_owner: kept(
                self.preserve || self.preserve_owner,
                self.no_preserve || self.no_preserve_owner,
            ),
            same_permissions: kept(
                self.preserve || self.preserve_perms,
                self.no_preserve || self.no_preserve_perms,
            ),
            xattrs: self.xattrs,
            ..ExtractOptions::default()
        };
        let report = |problem: &Problem| {
            if self.verbosity > 0 {
                let path = Printable(&problem.path);
                complain!("fsck.erofs: /{path}: {}", problem.error);
            }
        };
        let counter = AtomicU64::new(0);
        let Summary {
            problems,
            skipped,
            stopped,
            ..
        } = extract(&image, target, &[], &options, &counter, &report)
            .map_err(|problem| problem.error)
            .with_context(|| target.display().to_string())?;
        Ok(problems == 0 && !stopped && !skipped.is_any())
    }
}
