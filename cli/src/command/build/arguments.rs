//! The options of a full image, which `erofs build`, `erofs merge` and `mkfs.erofs` have in common.

use crate::compressors::{self, Compressors};
use crate::image_arguments::ImageArguments;
use crate::metabox::{self, CompressedMetadata};
use crate::packing::PackingOptions;
use crate::presets::{Choice, Preset};
use crate::values;
use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use erofs_format::BlockBits;
use erofs_format::kernel::Requirement;
use erofs_format::xattr::{MAX_LONG_PREFIXES, Prefix};
use erofs_mkfs::build::{BuildOptions, Verify};
use erofs_mkfs::data::compression::Compression;
use erofs_mkfs::data::hints::Hints;
use erofs_mkfs::options::{BuildError, InodeForm};
use erofs_mkfs::plan::index_form::IndexForm;
use erofs_mkfs::plan::long_prefix;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What a full image is made with, in the spellings of mkfs.erofs, which takes all of it too.
#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    #[command(flatten)]
    pub(crate) image: ImageArguments,

    #[command(flatten)]
    layout: Layout,

    #[command(flatten)]
    content: Content,

    #[command(flatten)]
    run: Run,
}

/// How the image looks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Layout")]
struct Layout {
    /// Options for a purpose, of which those given beside it take the place
    #[arg(long, value_name = "PRESET")]
    preset: Option<Preset>,

    /// Compress files: NAME[,LEVEL][,dictsize=BYTES], several by colons of which hints choose. lz4 (Linux 5.13, with
    /// -C 4k 5.4), lz4hc (levels 1 to 12, default 9), lzma (0 to 9, 100 to 109, default 6; Linux 5.16), deflate (1 to 9,
    /// default 1; Linux 6.6), libdeflate (1 to 12), zstd (1 to 22, default 3; Linux 6.10)
    #[arg(short = 'z', long = "compress", value_name = "ALGORITHM", value_parser = compressors::parse)]
    compressors: Option<Compressors>,

    /// Largest compressed cluster in bytes, up to 1 MiB; 64k by default
    #[arg(short = 'C', long, value_name = "BYTES", value_parser = values::size)]
    cluster_size: Option<u64>,

    /// How single files are compressed: lines of cluster size (0: not at all), perhaps number of an algorithm from 0,
    /// and regular expression for the path
    #[arg(long, value_name = "FILE")]
    compress_hints: Option<PathBuf>,

    /// Most bytes that a compressed extent decodes to
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    max_extent_bytes: Option<u64>,

    #[command(flatten)]
    metadata: CompressedMetadata,

    /// Block size in bytes, 512 to 65536; smaller than 4096 needs Linux 6.4, larger a machine with larger pages
    #[arg(short = 'b', long, value_name = "BYTES", value_parser = values::block_size, default_value = "4096")]
    block_size: BlockBits,

    /// Extended options, by commas: noinline_data (also ^inline_data), inline_data, legacy-compress, ztailpacking (the
    /// last cluster of a file behind its index; Linux 5.17); fragments[=BYTES] (tails and small files are compressed
    /// together, in clusters of BYTES; Linux 6.1), all-fragments[=BYTES] (all but large files), fragdedupe=full|inode,
    /// ^fragdedupe; dedupe (files share compressed data that they have in common; Linux 6.1); force-inode-compact,
    /// force-inode-extended, force-inode-blockmap, force-chunk-indexes, nosbcrc, ^xattr-name-filter, xattr-name-filter,
    /// 48bit and dot-omitted (Linux 6.15), plain-xattr-prefixes; ^ in front of a feature switches it off
    #[arg(short = 'E', value_name = "OPTION", value_delimiter = ',')]
    extended: Vec<String>,

    /// Store files in chunks of this many bytes (Linux 5.15)
    #[arg(long = "chunksize", value_name = "BYTES", value_parser = values::size)]
    chunk_size: Option<u64>,

    /// Write the data of chunks into this file, which the image then needs as its device (Linux 5.16; needs --chunksize)
    #[arg(long = "blobdev", value_name = "FILE")]
    blob: Option<PathBuf>,

    /// Begin the data of files at multiples of this many blocks: 512 of 4096 bytes for pages of 2 MiB
    #[arg(long = "dsunit", value_name = "BLOCKS", value_parser = clap::value_parser!(u64).range(0..=1 << 20))]
    alignment: Option<u64>,

    /// Store what names of attributes begin with once, e.g. trusted.overlay. (Linux 6.4); `auto` takes what pays; may be repeated
    #[arg(long = "xattr-prefix", value_name = "PREFIX")]
    xattr_prefixes: Vec<OsString>,

    /// Give each regular file without holes the SHA-256 of its content in attribute NAME, by default erofs.fingerprint.v1: mounts with
    /// inode_share then share pages of equal files (Linux 7.0; mounts since 6.4)
    #[arg(long = "xattr-inode-digest", value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "erofs.fingerprint.v1")]
    inode_digest: Option<OsString>,

    /// Leave out what the kernel of --kernel cannot read, where the image can do without, instead of refusing it
    #[arg(long, requires = "kernel")]
    kernel_downgrade: bool,

    /// Write zeros instead of holes: readable since Linux 5.4
    #[arg(long)]
    no_sparse: bool,

    /// Store identical files again and again
    #[arg(long)]
    no_dedupe: bool,
}

/// What goes in, and what is changed on the way.
#[derive(Debug, Args)]
#[command(next_help_heading = "Content")]
struct Content {
    /// Stay on the filesystem of the source directory
    #[arg(long)]
    one_file_system: bool,

    /// Take files as they are when they change while they are read, and leave out those that vanish
    #[arg(long)]
    ignore_changed: bool,
}

/// How the work is done; the image does not depend on it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Work")]
struct Run {
    /// Worker threads, by default one for each processor
    #[arg(long, value_name = "N", value_parser = values::workers)]
    workers: Option<NonZeroUsize>,

    /// Memory in bytes, half for data on its way and half for tails of files that wait for the metadata
    #[arg(long, value_name = "BYTES", value_parser = values::size, default_value = "128M")]
    memory: u64,

    /// Read the image back before it gets its name, and compare all of it with what went in; by default up to 64 MiB of data
    #[arg(long, overrides_with = "no_verify")]
    verify: bool,

    /// Do not read the image back
    #[arg(long, overrides_with = "verify")]
    no_verify: bool,
}

/// Where the commands that take [`BuildArguments`] differ in what goes without saying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defaults {
    /// Those of `erofs build`.
    Build,
    /// Those of mkfs.erofs: clusters of one block, and a cluster size means nothing without a compressor.
    Mkfs,
}

impl BuildArguments {
    /// The words of `-E`.
    pub(crate) const fn extended_mut(&mut self) -> &mut Vec<String> {
        &mut self.layout.extended
    }

    /// The chunk size, if one is asked for, in bytes.
    pub(crate) const fn chunk_size(&self) -> Option<u64> {
        self.layout.chunk_size
    }

    /// The settings that the arguments mean.
    pub(crate) fn options(&self) -> anyhow::Result<BuildOptions> {
        self.options_with(Defaults::Build)
    }

    /// The same with the defaults of another command.
    pub(crate) fn options_with(&self, defaults: Defaults) -> anyhow::Result<BuildOptions> {
        let Self {
            layout,
            content,
            run,
            ..
        } = self;
        let block = layout.block_size.bytes();
        let preset = layout.choice();
        let mut options = BuildOptions {
            block_bits: layout.block_size,
            sparse: !layout.no_sparse && !preset.no_sparse,
            dedupe: !layout.no_dedupe,
            image: self.image.options()?,
            one_file_system: content.one_file_system,
            ignore_changed: content.ignore_changed,
            memory: usize::try_from(run.memory)
                .context("--memory is larger than this machine can address")?,
            verify: match (run.verify, run.no_verify) {
                (true, _) => Verify::Always,
                (_, true) => Verify::Never,
                _ => Verify::Small,
            },
            ..BuildOptions::default()
        };
        if let Some(workers) = run.workers {
            options.workers = workers.get();
        }
        options.compression = layout.compression(defaults)?;
        let metabox = match (&layout.metadata.metabox, preset.metabox) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(text)) => Some(metabox::parse(text).map_err(anyhow::Error::msg)?),
            (None, None) => None,
        };
        if let Some(metabox) = metabox {
            let compression = options.compression.as_ref();
            options.metabox = Some(metabox.method(compression, options.block_bits)?);
        }
        let directories = layout.metadata.directories();
        options.compress_directories = directories.unwrap_or(preset.directories);
        if options.compress_directories
            && options.compression.is_none()
            && options.metabox.is_none()
            && defaults == Defaults::Build
        {
            bail!("--compress-directories needs -z or -m: they tell how");
        }
        if let Some(size) = layout.chunk_size {
            if !size.is_power_of_two() || size < block || size > block << 31 {
                bail!(
                    "--chunksize {size}: a chunk must be a power of two from the block size ({block}) on"
                );
            }
            if options.compression.is_some() {
                bail!("--chunksize and -z exclude each other: chunks are never compressed");
            }
            options.chunk_shift = Some(u8::try_from((size / block).ilog2())?);
        }
        let mut packing = PackingOptions::default();
        let aligned = preset.alignment.map(|bytes| (bytes / block).max(1));
        options.alignment = layout.alignment.or(aligned).unwrap_or(1).max(1);
        if layout.alignment.is_none() {
            // A preset has its reason, which small files have not; they would waste most of the image.
            options.aligned_from = preset.alignment.unwrap_or(0);
        }
        if layout
            .chunk_size
            .is_some_and(|size| size / block < options.alignment)
        {
            // As mkfs.erofs: an alignment that chunks do not have means nothing.
            options.alignment = 1;
        }
        if layout.blob.is_some() && layout.chunk_size.is_none() {
            bail!("--blobdev must be used together with --chunksize");
        }
        options.blob = layout.blob.clone();
        let metadata = &mut options.image.metadata;
        for prefix in &layout.xattr_prefixes {
            if prefix == "auto" {
                metadata.find_prefixes = true;
                continue;
            }
            // No attribute is without a namespace, but for those by which pages are shared.
            let parsed = long_prefix::parse(prefix.as_bytes())
                .filter(|prefix| prefix.base != Prefix::None.value());
            metadata.prefixes.push(parsed.with_context(|| {
                let text = prefix.display();
                format!(
                    "--xattr-prefix {text}: expected the beginning of names, of up to 255 bytes, with their namespace: user., trusted. or security."
                )
            })?);
        }
        if let Some(name) = &layout.inode_digest {
            let parsed = long_prefix::parse(name.as_bytes()).filter(|name| !name.infix.is_empty());
            metadata.inode_digest = Some(parsed.with_context(|| {
                let text = name.display();
                format!("--xattr-inode-digest={text}: expected a name, with a namespace or without, of up to 255 bytes")
            })?);
        }
        if metadata.stored_prefixes().len() > MAX_LONG_PREFIXES {
            bail!("--xattr-prefix: at most {MAX_LONG_PREFIXES} prefixes");
        }
        if metadata.find_prefixes && !metadata.prefixes.is_empty() {
            bail!("--xattr-prefix=auto looks for all prefixes itself");
        }
        let given = layout.extended.iter().map(String::as_str);
        for extended in preset.extended.iter().copied().chain(given) {
            if packing.take(extended)? {
                continue;
            }
            match extended {
                "noinline_data" | "^inline_data" => options.inline_tails = false,
                "inline_data" => options.inline_tails = true,
                "dedupe" => {
                    options.share_extents = true;
                    options.dedupe = !layout.no_dedupe;
                }
                "^dedupe" => {
                    options.share_extents = false;
                    // Chunks are shared unless that is said, files of one content always.
                    options.dedupe &= options.chunk_shift.is_none();
                }
                "legacy-compress"
                    if options.compression.is_none() && defaults == Defaults::Build =>
                {
                    bail!("-E legacy-compress is about compressed files: it needs -z")
                }
                "legacy-compress" => options.index_form = IndexForm::Full,
                "^legacy-compress" => options.index_form = IndexForm::default(),
                "ztailpacking" => match &mut options.compression {
                    Some(compression) => compression.inline_tails = true,
                    // mkfs.erofs says nothing then.
                    None if defaults == Defaults::Mkfs => {}
                    None => bail!("-E ztailpacking is about compressed files: it needs -z"),
                },
                "^ztailpacking" => {
                    if let Some(compression) = &mut options.compression {
                        compression.inline_tails = false;
                    }
                }
                "force-inode-compact" => metadata.inode_form = InodeForm::Compact,
                "force-inode-extended" => metadata.inode_form = InodeForm::Extended,
                "force-chunk-indexes" => options.chunk_indexes = true,
                "force-inode-blockmap" => options.chunk_indexes = false,
                "48bit" => metadata.bit48 = true,
                "^48bit" => metadata.bit48 = false,
                "dot-omitted" => metadata.omit_dot = true,
                "^dot-omitted" => metadata.omit_dot = false,
                // So they always are.
                "plain-xattr-prefixes" => {}
                "nosbcrc" => metadata.checksum = false,
                "xattr-name-filter" => metadata.name_filter = true,
                "^xattr-name-filter" => metadata.name_filter = false,
                other => bail!("-E {other}: there is no such extended option"),
            }
        }
        metadata.bit48 |= metadata.omit_dot || options.metabox.is_some();
        // Without a compressor mkfs.erofs packs and shares nothing and says nothing.
        if defaults == Defaults::Build || options.compression.is_some() {
            if defaults == Defaults::Build {
                packing.check_dedupe()?;
            }
            packing.apply(options.compression.as_mut(), block)?;
            if options.share_extents && options.compression.is_none() {
                bail!("-E dedupe is about compressed data: it needs -z");
            }
        } else {
            options.share_extents = false;
        }
        if let Some(kernel) = options.image.kernel.filter(|_| layout.kernel_downgrade) {
            for requirement in options.downgrade(kernel) {
                let (what, since) = (requirement.describe(), requirement.since());
                complain!("erofs: left out for Linux {kernel}: {what} (since {since})");
            }
        }
        Ok(options)
    }
}

impl BuildArguments {
    /// An error of a build with these options. What a preset asks for is not advised against in the words of options that
    /// nobody wrote.
    pub(crate) fn explain(&self, options: &BuildOptions, error: BuildError) -> anyhow::Error {
        let BuildError::Kernel {
            kernel,
            requirement,
        } = error
        else {
            return error.into();
        };
        let Some(preset) = self.layout.preset_asking_for(requirement) else {
            return error.into();
        };
        let value = preset.to_possible_value();
        let preset = value.as_ref().map_or("", |value| value.get_name());
        let can_do_without = options.clone().downgrade(kernel).contains(&requirement);
        let advice = match can_do_without {
            true => "--kernel-downgrade leaves it out",
            false => "take another preset, or other options beside it",
        };
        let (what, since) = (requirement.describe(), requirement.since());
        anyhow!(
            "Linux {kernel} cannot mount this image: {what} needs {since}, and --preset {preset} asks for it ({advice})"
        )
    }
}

impl Layout {
    /// The preset, if it and not the user asks for what a kernel lacks.
    fn preset_asking_for(&self, requirement: Requirement) -> Option<Preset> {
        let choice = self.choice();
        let packs = |words: &[&str]| {
            let packs = |word: &&str| word.ends_with("fragments") || *word == "dedupe";
            words.iter().any(packs)
        };
        let given: Vec<_> = self.extended.iter().map(String::as_str).collect();
        let by_metabox = choice.metabox.is_some() && self.metadata.metabox.is_none();
        let by_preset = match requirement {
            Requirement::Metabox => by_metabox,
            Requirement::Bit48 => {
                by_metabox && !given.contains(&"48bit") && !given.contains(&"dot-omitted")
            }
            Requirement::FragmentsOrDedupe => packs(choice.extended) && !packs(&given),
            Requirement::BigPcluster => {
                choice.cluster_size.is_some() && self.cluster_size.is_none()
            }
            Requirement::MicroLzma | Requirement::Deflate | Requirement::Zstd => {
                choice.compressors.is_some() && self.compressors.is_none()
            }
            _ => false,
        };
        self.preset.filter(|_| by_preset)
    }

    /// What the preset says.
    fn choice(&self) -> Choice {
        self.preset.map(Preset::choice).unwrap_or_default()
    }

    fn check_cluster_size(&self, size: u64) -> anyhow::Result<()> {
        let block = self.block_size.bytes();
        if size < block.max(4096) || size > 1 << 20 || !size.is_multiple_of(block) {
            bail!(
                "-C {size}: a cluster must be a multiple of the block size ({block}), from 4096 bytes to 1 MiB"
            );
        }
        Ok(())
    }

    fn compression(&self, defaults: Defaults) -> anyhow::Result<Option<Compression>> {
        let preset = self.choice();
        let algorithms = match (&self.compressors, preset.compressors) {
            (Some(Compressors(given)), _) => Some(given.clone()),
            (None, Some(text)) => Some(compressors::parse(text).map_err(anyhow::Error::msg)?.0),
            (None, None) => None,
        };
        let Some(algorithms) = algorithms else {
            for (option, given) in [
                ("-C", self.cluster_size.is_some()),
                ("--compress-hints", self.compress_hints.is_some()),
                ("--max-extent-bytes", self.max_extent_bytes.is_some()),
            ] {
                if given && defaults == Defaults::Build {
                    bail!("{option} is about compressed files: it needs -z");
                }
            }
            if let (Some(size), Defaults::Mkfs) = (self.cluster_size, defaults) {
                self.check_cluster_size(size)?;
            }
            return Ok(None);
        };
        let block = self.block_size.bytes();
        let given = self.cluster_size.or(preset.cluster_size);
        let size = given.unwrap_or(match defaults {
            Defaults::Build => 64 << 10,
            Defaults::Mkfs => block.max(4096),
        });
        self.check_cluster_size(size)?;
        let count = algorithms.len();
        let mut compression = Compression::new(algorithms, usize::try_from(size)?, self.block_size);
        // As in mkfs.erofs, 0 stands for no such wish, here and elsewhere.
        if let Some(bytes) = self.max_extent_bytes.filter(|bytes| *bytes > 0) {
            let size = usize::try_from(bytes).unwrap_or(usize::MAX);
            if size < self.block_size.len() {
                bail!("--max-extent-bytes {bytes}: an extent has a block ({block}) at least");
            }
            compression.max_extent = compression.max_extent.min(size);
        }
        if let Some(path) = &self.compress_hints {
            let named = || path.display().to_string();
            let text = std::fs::read(path).with_context(named)?;
            compression.hints = Hints::parse(&text, count, self.block_size).with_context(named)?;
        }
        Ok(Some(compression))
    }
}
