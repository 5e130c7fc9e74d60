//! Named choices of options of `erofs build`, of which what the user says himself takes the place.

use clap::ValueEnum;

/// A choice of options for a purpose. What each costs and gains: docs/presets.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// Little work to write and to read: LZ4 in clusters of 64 KiB (Linux 5.13)
    Fast,
    /// Zstd in clusters of 64 KiB (Linux 6.10)
    Balanced,
    /// Small images: Zstd 9 in clusters of 1 MiB, all but large files packed together, shared extents, compressed inodes
    /// (Linux 6.17)
    Small,
    /// Many small files: Zstd in clusters of 128 KiB, all but large files packed together, shared extents, compressed inodes
    /// (Linux 6.17)
    Hpc,
    /// Models: nothing compressed, files from 2 MiB on begin at multiples of 2 MiB, all data in blocks (Linux 5.4)
    Model,
    /// For the reader of gVisor: no feature that a reader must know (Linux 5.4)
    Gvisor,
}

/// What a preset says. Options that are not named here mean the same with it as without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Choice {
    /// `-z`.
    pub(crate) compressors: Option<&'static str>,
    /// `-C`, in bytes.
    pub(crate) cluster_size: Option<u64>,
    /// `-m`.
    pub(crate) metabox: Option<&'static str>,
    /// `--compress-directories`.
    pub(crate) directories: bool,
    /// Words of `-E`, in front of those of the user.
    pub(crate) extended: &'static [&'static str],
    /// `--dsunit`, in bytes, for files of no fewer bytes.
    pub(crate) alignment: Option<u64>,
    /// `--no-sparse`.
    pub(crate) no_sparse: bool,
}

impl Preset {
    /// The options that it stands for.
    pub(crate) fn choice(self) -> Choice {
        match self {
            Self::Fast => Choice {
                compressors: Some("lz4"),
                cluster_size: Some(64 << 10),
                ..Choice::default()
            },
            Self::Balanced => Choice {
                compressors: Some("zstd"),
                cluster_size: Some(64 << 10),
                ..Choice::default()
            },
            Self::Small => Choice {
                compressors: Some("zstd,9"),
                cluster_size: Some(1 << 20),
                metabox: Some("64k"),
                directories: true,
                extended: &["all-fragments", "dedupe"],
                ..Choice::default()
            },
            Self::Hpc => Choice {
                compressors: Some("zstd"),
                cluster_size: Some(128 << 10),
                metabox: Some("64k"),
                directories: true,
                extended: &["all-fragments", "dedupe"],
                ..Choice::default()
            },
            Self::Model => Choice {
                extended: &["noinline_data"],
                alignment: Some(2 << 20),
                ..Choice::default()
            },
            Self::Gvisor => Choice {
                no_sparse: true,
                ..Choice::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::command::build::BuildArguments;
    use clap::Parser;
    use erofs_format::kernel::Requirement;
    use erofs_mkfs::build::BuildOptions;
    use erofs_mkfs::data::compression::AlgorithmSettings;
    use erofs_mkfs::options::BuildError;

    #[derive(Debug, Parser)]
    #[command(no_binary_name = true)]
    struct Arguments {
        #[command(flatten)]
        build: BuildArguments,
    }

    fn options(words: &[&str]) -> BuildOptions {
        Arguments::try_parse_from(words)
            .unwrap()
            .build
            .options()
            .unwrap()
    }

    #[test]
    fn every_preset_is_possible() {
        for preset in Preset::value_variants() {
            let name = preset.to_possible_value().unwrap();
            options(&["--preset", name.get_name()]);
        }
    }

    #[test]
    fn what_is_said_takes_the_place_of_what_the_preset_says() {
        let small = options(&["--preset=small"]);
        let packing = small.compression.as_ref().unwrap().packing;
        assert!(small.share_extents && packing.unwrap().whole_files);
        assert!(small.compress_directories);
        let without = options(&["--preset=small", "--compress-directories=0"]);
        assert!(!without.compress_directories);
        let metabox = small.metabox.unwrap();
        assert_eq!(metabox.max_pcluster, 64 << 10);
        let mine = options(&["--preset=small", "-z", "lz4", "-C", "16k", "-m", "4k"]);
        assert_eq!(mine.metabox.unwrap().max_pcluster, 4096);
        let compression = mine.compression.unwrap();
        assert_eq!(compression.max_pcluster, 16 << 10);
        assert_eq!(compression.algorithms, [AlgorithmSettings::Lz4]);
        assert_eq!(compression.packing, packing);
        let model = options(&["--preset=model", "--dsunit=4", "-E", "inline_data"]);
        assert!(model.alignment == 4 && model.inline_tails);
        assert_eq!(options(&["--preset=model", "-b", "64k"]).alignment, 32);
    }

    #[test]
    fn what_a_preset_asks_for_is_not_called_an_option_of_the_user() {
        let advice = |words: &[&str]| {
            let build = Arguments::try_parse_from(words).unwrap().build;
            let options = build.options().unwrap();
            let lacking = if words.contains(&"--kernel=6.10") {
                Requirement::Metabox
            } else {
                Requirement::Zstd
            };
            let kernel = options.image.kernel.unwrap();
            let error = BuildError::Kernel {
                kernel,
                requirement: lacking,
            };
            build.explain(&options, error).to_string()
        };
        let error = advice(&["--preset=small", "--kernel=6.10"]);
        assert!(
            error.contains("--preset small asks for it (--kernel-downgrade"),
            "{error}"
        );
        let error = advice(&["--preset=small", "--kernel=6.10", "-m", "4k"]);
        assert!(error.contains("leave out -m"), "{error}");
        let error = advice(&["--preset=balanced", "--kernel=6.1"]);
        assert!(
            error.contains("--preset balanced asks for it (take another"),
            "{error}"
        );
        let error = advice(&["--preset=balanced", "--kernel=6.1", "-zzstd"]);
        assert!(error.contains("without -z"), "{error}");
    }
}
