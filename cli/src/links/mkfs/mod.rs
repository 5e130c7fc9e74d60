//! `mkfs.erofs`: this program with the options, defaults and exit codes of erofs-utils 1.9.
//!
//! What is spelled as in `erofs build` is its definition; here is what only the C tool has. UUIDs and times are
//! reproducible unless asked otherwise, and what the C tool warns of and goes on with is refused.

mod feature_bits;
mod tar;
mod unsupported;
mod vmdk;

use crate::build_report::warn;
use crate::command::build::{BuildArguments, Defaults, archive, base};
use crate::command::merge::layer;
use crate::companion::Companion;
use crate::error::one_line;
use crate::{report, values};
use anyhow::{Context, bail};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use erofs_format::BlockBits;
use erofs_format::inode::Timestamp;
use erofs_mkfs::build::{BuildOptions, BuildSource, Reserve, build};
use erofs_mkfs::index::{IndexSource, Placement, index};
use erofs_mkfs::source::Whiteouts;
use erofs_mkfs::source::layers::{Layer, LayerSource};
use erofs_mkfs::source::tar::{Archive, Compression, TarError};
use erofs_mkfs::summary::Summary;
use feature_bits::FeatureBits;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tar::{TarArgument, TarMode};

/// Exit code of every failure.
const FAILURE: u8 = 1;
/// Longest label in bytes: the C tool leaves the last one of 16 to a NUL.
const LONGEST_LABEL: usize = 15;

/// Make an EROFS image of a directory, of a tar, or of other images.
#[derive(Debug, Parser)]
#[command(
    name = "mkfs.erofs",
    infer_long_args = true,
    args_override_self = true,
    disable_version_flag = true,
    max_term_width = 100
)]
struct Arguments {
    /// The image to write
    #[arg(value_name = "FILE", required_unless_present = "version")]
    image: Option<PathBuf>,

    /// A directory; images, the lowest layer first, which get merged; or with --tar a tar, standard input when it is left out
    #[arg(value_name = "SOURCE")]
    sources: Vec<PathBuf>,

    /// Print the version and exit
    #[arg(short = 'V', long)]
    version: bool,

    /// Verbosity: 0 prints nothing but errors
    #[arg(short = 'd', value_name = "0-9", default_value = "2", value_parser = clap::value_parser!(u8).range(0..=9))]
    verbosity: u8,

    /// Print nothing but errors
    #[arg(long)]
    quiet: bool,

    /// The source is a tar: --tar=f makes a full image, --tar=i an index of blocks of 512 bytes whose data stays in the tar,
    /// --tar=headerball a full image of holes, of a tar in which no data stands behind the headers; --tar=i,MAP an image of
    /// usual blocks with room for the data, for others to write it where the lines of MAP tell
    #[arg(long, value_name = "f|i|headerball[,MAP]", num_args = 0..=1, default_missing_value = "f", require_equals = true,
          value_parser = OsStringValueParser::new().try_map(tar::parse))]
    tar: Option<TarArgument>,

    /// The tar is compressed by gzip, which is seen anyway; write it to X uncompressed
    #[arg(long, alias = "gzip", value_name = "X", num_args = 0..=1, require_equals = true)]
    ungzip: Option<Option<PathBuf>>,

    /// The tar is compressed by xz, which is seen anyway; write it to X uncompressed
    #[arg(long, alias = "unlzma", value_name = "X", num_args = 0..=1, require_equals = true)]
    unxz: Option<Option<PathBuf>>,

    /// The tar is compressed by gzip; write to X where decoding can begin, every 4 MiB: zinfo (version 2) of AWS SOCI
    #[arg(long, value_name = "X", num_args = 0..=1, require_equals = true)]
    gzinfo: Option<Option<PathBuf>>,

    /// Build anew, which is the default; =data copies the data of images that get merged, which otherwise stays in them; =rvsp
    /// gives the files of a tar or of images room only, for others to write their data into; =0 is =data
    #[arg(long, value_name = "data|rvsp|0", num_args = 0..=1, require_equals = true, default_missing_value = "data",
          overrides_with = "incremental")]
    clean: Option<Import>,

    /// Go on from FILE, which stays as it is until its successor is whole: SOURCE lies over it, its data stays in its blocks;
    /// what becomes of the data of SOURCE is said as with --clean
    #[arg(long, value_name = "data|rvsp|0", num_args = 0..=1, require_equals = true, default_missing_value = "data")]
    incremental: Option<Import>,

    /// Order of a tar's data: it always is that of the tar
    #[arg(long, value_name = "path|none", default_value = "path")]
    sort: Sort,

    /// Without effect: memory has its limit in --memory
    #[arg(long, value_name = "N")]
    async_queue_limit: Option<u64>,

    /// Write a descriptor of a virtual disk that joins the image and the tar or images where its data is
    #[arg(long, value_name = "X")]
    vmdk_desc: Option<PathBuf>,

    /// Without effect: inodes (i) and directories (d) always lie together, apart from data
    #[arg(long = "MZ", value_name = "0|id", num_args = 0..=1, require_equals = true, value_parser = metadata_zone)]
    metadata_zone: Option<Option<()>>,

    /// Extended options as bits: 1 legacy-compress, 2 ztailpacking, 4 fragments, 8 all-fragments, 16 dedupe, 32 fragdedupe,
    /// 64 48bit, 128 dot-omitted; those below the highest bit that are not set are switched off
    #[arg(long, value_name = "N", value_parser = feature_bits::parse, action = clap::ArgAction::Append)]
    zfeature_bits: Vec<FeatureBits>,

    #[command(flatten)]
    build: BuildArguments,
}

/// What becomes of the data of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Import {
    /// It is copied
    Data,
    /// It gets room
    Rvsp,
    /// It is zeros, of object stores; of anything else it is copied
    #[value(name = "0")]
    Zeros,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    Path,
    None,
}

const EXAMPLES: &str = "\
Examples:
  mkfs.erofs image.erofs rootfs/
  zcat layer.tar.gz | mkfs.erofs --tar=f --aufs --quiet -Enoinline_data -T0 --mkfs-time layer.erofs

Exit codes: 0 the image is there, 1 it is not: nothing is left behind.
More options, and the result as JSON: erofs build --help, erofs index --help.";

/// Runs the program on the arguments after its name.
pub(super) fn run(arguments: Vec<OsString>) -> ExitCode {
    let words = std::iter::once(OsString::from("mkfs.erofs")).chain(arguments);
    let command = command();
    let parsed = command.try_get_matches_from(words).and_then(|matches| {
        let mut arguments = Arguments::from_arg_matches(&matches)?;
        arguments.join_features(&matches);
        Ok(arguments)
    });
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    if arguments.version {
        say!("mkfs.erofs (erofs) {}", env!("CARGO_PKG_VERSION"));
        say!("available compressors: lz4, lz4hc, lzma, deflate, libdeflate, zstd");
        return ExitCode::SUCCESS;
    }
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("mkfs.erofs: {}", one_line(&error));
            ExitCode::from(FAILURE)
        }
    }
}

/// The command as clap has it, for its help and man page too.
pub(super) fn command() -> clap::Command {
    Arguments::command()
        .mut_arg("cluster_size", |size| {
            size.help("Largest compressed cluster in bytes, up to 1 MiB; one block by default")
        })
        // Without threads beside its own there the C tool does all by itself.
        .mut_arg("workers", |workers| {
            workers.value_parser(|text: &str| values::workers(if text == "0" { "1" } else { text }))
        })
        .after_help(format!("{EXAMPLES}\n\n{}", unsupported::help()))
}

/// Prints help, or what is wrong with the arguments.
fn refuse(error: &clap::Error) -> ExitCode {
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(option))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
        && let Some(reason) = unsupported::reason(option)
    {
        complain!("mkfs.erofs: {option} is not supported: {reason}");
        return ExitCode::from(FAILURE);
    }
    // Nobody is left to tell when this fails.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(FAILURE)
    } else {
        ExitCode::SUCCESS
    }
}

/// What is to be made of what.
enum Work {
    /// A full image.
    Build(BuildSource),
    /// An index.
    Index(IndexSource),
}

impl Arguments {
    /// Puts the features of `--zfeature-bits` among the words of `-E`, of which the later ones count.
    fn join_features(&mut self, matches: &clap::ArgMatches) {
        let places = |option: &str| matches.indices_of(option).into_iter().flatten();
        let words = std::mem::take(self.build.extended_mut());
        let words = places("extended").zip(words);
        let bits = places("zfeature_bits").zip(&self.zfeature_bits);
        let mut all: Vec<_> = words.collect();
        all.extend(bits.flat_map(|(place, bits)| bits.words().map(move |word| (place, word))));
        all.sort_by_key(|(place, _)| *place);
        *self.build.extended_mut() = all.into_iter().map(|(_, word)| word).collect();
    }

    /// What becomes of the data of files, if that is said.
    fn import(&self) -> Option<Import> {
        self.clean.or(self.incremental)
    }

    fn tar_mode(&self) -> Option<TarMode> {
        self.tar.as_ref().map(|tar| tar.mode)
    }

    /// The map that tells where the data of a tar belongs.
    fn map(&self) -> Option<&Path> {
        self.tar.as_ref()?.map.as_deref()
    }

    /// Whether files of a tar or of images only get room. There are holes where a tar has no data.
    fn reserves(&self) -> Option<Reserve> {
        let is_mapped = self.map().is_some();
        let is_asked = self.import() == Some(Import::Rvsp);
        let reserves = match self.tar_mode() {
            Some(TarMode::HeaderBall) => false,
            Some(TarMode::Index) => is_asked || is_mapped,
            _ => is_asked,
        };
        reserves.then_some(match is_mapped {
            true => Reserve::Mapped,
            false => Reserve::Unmapped,
        })
    }

    fn run(&self) -> anyhow::Result<()> {
        let image = self.image.clone().unwrap_or_default();
        if self.build.image.label().len() > LONGEST_LABEL {
            bail!("-L: a label has at most {LONGEST_LABEL} bytes");
        }
        let mut options = self.build.options_with(Defaults::Mkfs)?;
        if self.build.image.wants_some_time() {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            let now = Timestamp {
                seconds: now.tv_sec,
                nanoseconds: 0,
            };
            options.image.rules.fixed_time = Some(now);
            options.image.metadata.build_time = Some(now);
        }
        let (mut work, companions) = self.work()?;
        if let Work::Build(BuildSource::Directory(_)) = work {
            // The C tool writes holes as zeros unless it cuts files into chunks, and knows no sparse members of tars.
            options.sparse &= self.build.chunk_size().is_some();
            options.image.mark_whiteouts = true;
        }
        if self.tar.is_none() {
            options.image.whiteouts = Whiteouts::Keep;
        }
        if work.is_merge() {
            options.image.strip_overlay = false;
        }
        options.reserve = self.reserves();
        if options.reserve.is_some()
            && (options.blob.is_some() || options.image.metadata.inode_digest.is_some())
        {
            bail!(
                "--clean=rvsp, --incremental=rvsp, --tar=i,MAP: there is no data for --blobdev and --xattr-inode-digest"
            );
        }
        if options.reserve == Some(Reserve::Unmapped) && self.tar_mode() == Some(TarMode::Index) {
            options.block_bits = BlockBits::B512;
        }
        if self.incremental.is_some() {
            let Work::Build(source) = work else {
                bail!("--incremental is about full images: an index has no data to go on from");
            };
            let strip = self.build.image.ovlfs_strip().unwrap_or(false);
            work = Work::Build(BuildSource::Over(
                base(&image, &[], strip)?,
                Box::new(source),
            ));
        }
        let devices = work.devices();
        let descriptor = self.vmdk_desc.as_deref().map(Companion::create);
        let descriptor = descriptor.transpose()?;
        let map = self.map().map(Companion::create).transpose()?;
        let beside: Vec<_> = companions.iter().chain(&descriptor).chain(&map).collect();
        for (number, companion) in beside.iter().enumerate() {
            let others = beside.iter().take(number).map(|other| other.target());
            let sources = self.sources.iter().map(PathBuf::as_path);
            companion.check([&*image].into_iter().chain(sources).chain(others))?;
        }
        let summary = self.make(work, &image, &options)?;
        for companion in companions {
            companion.publish()?;
        }
        if let Some(descriptor) = descriptor {
            descriptor.publish_text(&vmdk::descriptor(&image, &devices, &summary))?;
        }
        if let Some(map) = map {
            map.publish_text(&tar::map(&summary.rooms, summary.block_size))?;
        }
        warn(&summary);
        if !self.quiet && self.verbosity > 0 {
            print(&summary);
        }
        Ok(())
    }

    /// What the arguments want made, and the files that are written as a tar passes by.
    fn work(&self) -> anyhow::Result<(Work, Vec<Companion>)> {
        let Some(mode) = self.tar_mode() else {
            if self.gzinfo.is_some() {
                bail!("--gzinfo is about a compressed tar: it needs --tar");
            }
            return match self.sources.as_slice() {
                [] => bail!("SOURCE is missing"),
                [single] if single.is_dir() => Ok((
                    Work::Build(BuildSource::Directory(single.clone())),
                    Vec::new(),
                )),
                images => Ok((self.merge(images)?, Vec::new())),
            };
        };
        let path = match self.sources.as_slice() {
            [] => PathBuf::from("-"),
            [single] => single.clone(),
            _ => bail!("a tar must be the only source"),
        };
        let mut companions = Vec::new();
        let mut archive = match &self.gzinfo {
            Some(Some(target)) => {
                let index = Companion::create(target)?;
                let archive =
                    gzip_archive(&path, &index).with_context(|| path.display().to_string())?;
                companions.push(index);
                archive
            }
            _ => tar_archive(&path)?,
        };
        if self.gzinfo.is_some() && archive.compression() != Some(Compression::Gzip) {
            bail!("{}: {}", path.display(), TarError::NotGzip);
        }
        let copies = [&self.ungzip, &self.unxz];
        let copy = copies.into_iter().flatten().flatten().next();
        if let Some(target) = copy {
            let made = Companion::create(target)?;
            archive = archive.copied_to(made.writer()?);
            companions.push(made);
        }
        let work = match mode {
            TarMode::HeaderBall => Work::Build(BuildSource::Tar(archive.headers_only())),
            TarMode::Index if self.reserves().is_some() => Work::Build(BuildSource::Tar(archive)),
            TarMode::Full => Work::Build(BuildSource::Tar(archive)),
            TarMode::Index => Work::Index(index_source(path, archive, copy.cloned())),
        };
        Ok((work, companions))
    }
}

impl Arguments {
    fn make(&self, work: Work, image: &Path, options: &BuildOptions) -> anyhow::Result<Summary> {
        match work {
            Work::Build(source) => build(source, image, options, &Arc::new(AtomicU64::new(0))),
            Work::Index(source) => index(source, image, &options.for_index(), Placement::Apart),
        }
        .map_err(|error| self.build.explain(options, error))
    }

    fn merge(&self, images: &[PathBuf]) -> anyhow::Result<Work> {
        let mut layers = Vec::new();
        for path in images {
            let layer = layer(path)?;
            if let LayerSource::Tar(_) = layer.source {
                bail!("{}: a tar needs --tar", path.display());
            }
            layers.push(layer);
        }
        let strip = self.build.image.ovlfs_strip().unwrap_or(false);
        Ok(match self.import() {
            Some(Import::Data | Import::Rvsp) => Work::Build(BuildSource::Layers { layers, strip }),
            Some(Import::Zeros) => bail!(
                "--clean=0, --incremental=0: images are merged with their data, or with room for it"
            ),
            None => Work::Index(IndexSource::Layers { layers, strip }),
        })
    }
}

impl Work {
    const fn is_merge(&self) -> bool {
        matches!(
            self,
            Self::Build(BuildSource::Layers { .. }) | Self::Index(IndexSource::Layers { .. })
        )
    }

    /// The files that will be the image's devices.
    fn devices(&self) -> Vec<PathBuf> {
        match self {
            Self::Index(
                IndexSource::Tar { path, .. }
                | IndexSource::TarElsewhere {
                    path: Some(path), ..
                },
            ) => vec![path.clone()],
            Self::Index(IndexSource::Layers { layers, .. }) => {
                let files = layers.iter().flat_map(Layer::files);
                files.map(Path::to_path_buf).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Takes what the C tool does for `--MZ`.
fn metadata_zone(text: &str) -> Result<(), String> {
    match text {
        "0" => Ok(()),
        _ if text.bytes().any(|flag| !b"id".contains(&flag)) => {
            Err("0, or i for inodes and d for directories".to_owned())
        }
        _ if text.contains('d') && !text.contains('i') => {
            Err("directories lie where inodes do: id".to_owned())
        }
        _ => Ok(()),
    }
}

/// The tar at `path`, `-` for standard input.
fn tar_archive(path: &Path) -> anyhow::Result<Archive> {
    let archive = archive(&[path.to_path_buf()], true)?;
    Ok(archive.context("a tar must be the only source")?.1)
}

/// The tar at `path`, `-` for standard input, compressed by gzip; `index` will tell where decoding can begin.
fn gzip_archive(path: &Path, index: &Companion) -> anyhow::Result<Archive> {
    let file = match path.as_os_str() == "-" {
        true => std::io::stdin().as_fd().try_clone_to_owned()?.into(),
        false => File::open(path)?,
    };
    Ok(Archive::with_gzip_index(file, index.writer()?)?)
}

/// An index of a tar in a file tells its name, also of one that is written on the way; one of a stream leaves it to the mount
/// where the tar is.
fn index_source(path: PathBuf, archive: Archive, copy: Option<PathBuf>) -> IndexSource {
    if archive.file().is_some() && path.as_os_str() != "-" {
        IndexSource::Tar { archive, path }
    } else {
        IndexSource::TarElsewhere {
            archive,
            path: copy,
        }
    }
}

/// The result, in the words that scripts look for.
fn print(summary: &Summary) {
    say!("mkfs.erofs {}", env!("CARGO_PKG_VERSION"));
    say!("Build completed.\n\n------");
    say!("Filesystem UUID: {}", report::uuid(&summary.uuid));
    say!(
        "Filesystem total blocks: {} (of {}-byte blocks)",
        summary.image_size / summary.block_size,
        summary.block_size
    );
    say!("Filesystem total inodes: {}", summary.inodes);
}
