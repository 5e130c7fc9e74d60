//! Rows of options of mkfs.erofs, in which soon every pair of values stood together once.

use erofs_tests::pairwise::{self, Matrix};

/// One value of a dimension.
#[derive(Clone, Copy, Debug)]
struct Value {
    options: &'static [&'static str],
    /// The first kernel that reads it, as `(major, minor)`.
    since: (u32, u32),
}

const fn since(major: u32, minor: u32, options: &'static [&'static str]) -> Value {
    Value {
        options,
        since: (major, minor),
    }
}

/// Dimensions that these rows and those of our own options have in common. What their values mean together is decided in
/// [`Row::is_possible`].
pub(super) const ALGORITHM: usize = 0;
pub(super) const CLUSTER: usize = 1;
pub(super) const PACKING: usize = 2;
pub(super) const INDEX: usize = 3;
pub(super) const CHUNKS: usize = 4;
pub(super) const METADATA: usize = 5;
pub(super) const BLOCK: usize = 6;
pub(super) const PLACEMENT: usize = 8;

const DIMENSIONS: [&[Value]; 10] = [
    &[
        since(5, 4, &[]),
        since(5, 4, &["-zlz4"]),
        since(5, 4, &["-zlz4hc,level=12"]),
        since(5, 16, &["-zlzma,level=6"]),
        since(6, 6, &["-zdeflate,level=9"]),
        since(6, 6, &["-zlibdeflate,level=6"]),
        since(6, 10, &["-zzstd,level=3"]),
    ],
    &[
        since(5, 4, &[]),
        since(5, 13, &["-C16384"]),
        since(5, 13, &["-C65536"]),
        since(5, 13, &["-C1048576"]),
        since(5, 13, &["-C16384", "--max-extent-bytes=32768"]),
    ],
    &[
        since(5, 4, &[]),
        since(5, 17, &["-Eztailpacking"]),
        since(6, 1, &["-Efragments"]),
        since(6, 1, &["-Eall-fragments"]),
        since(6, 1, &["-Eall-fragments,fragdedupe=full"]),
        since(6, 1, &["-Ededupe"]),
        since(6, 1, &["-Ededupe,fragments,^fragdedupe"]),
    ],
    &[
        since(5, 4, &[]),
        since(5, 4, &["-Elegacy-compress"]),
        since(6, 15, &["-E48bit"]),
    ],
    &[
        since(5, 4, &[]),
        since(5, 15, &["--chunksize=4096"]),
        since(5, 15, &["--chunksize=65536", "-Eforce-chunk-indexes"]),
        since(5, 15, &["--chunksize=16384", "-Eforce-inode-blockmap"]),
    ],
    &[
        since(5, 4, &[]),
        since(6, 1, &["--zD"]),
        since(6, 17, &["-m4096"]),
        since(6, 17, &["-m4096", "--MZ=id"]),
        since(6, 15, &["-Edot-omitted"]),
    ],
    &[
        since(5, 4, &[]),
        since(6, 8, &["-b512"]),
        since(6, 8, &["-b1024"]),
        since(6, 8, &["-b2048"]),
    ],
    &[
        since(5, 4, &[]),
        since(5, 4, &["-x0"]),
        since(5, 4, &["-x255"]),
        since(
            6,
            4,
            &["--xattr-prefix=user.", "--xattr-prefix=trusted.overlay."],
        ),
        since(6, 17, &["--xattr-prefix=user.", "-Eplain-xattr-prefixes"]),
        since(6, 6, &["-Exattr-name-filter"]),
    ],
    &[
        since(5, 4, &[]),
        since(5, 4, &["-Eforce-inode-extended"]),
        since(5, 4, &["-Enoinline_data"]),
        since(5, 4, &["--fsalignblks=16", "--dsunit=4"]),
    ],
    &[
        since(5, 4, &[]),
        since(5, 4, &["--hard-dereference"]),
        since(5, 4, &["--workers=0"]),
        since(5, 4, &["--root-xattr-isize=400"]),
    ],
];

/// A value of each dimension, by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row(pairwise::Row<{ DIMENSIONS.len() }>);

impl Row {
    /// Without options that mean nothing together, or that mkfs.erofs refuses together.
    fn is_possible(&self) -> bool {
        let chosen = |dimension: usize| self.0[dimension] != 0;
        let compressed = chosen(ALGORITHM);
        // Nothing is packed and no index is chosen where nothing is compressed.
        let needs_compression = chosen(CLUSTER) || chosen(PACKING) || self.0[INDEX] == 1;
        let directories = self.0[METADATA] == 1;
        // Clusters of the metabox, here of 4 KiB, may not be larger than those of files, by default of a block.
        let small =
            compressed && !chosen(CLUSTER) && chosen(BLOCK) && matches!(self.0[METADATA], 2 | 3);
        (compressed || !needs_compression && !directories)
            && !small
            && !(compressed && chosen(CHUNKS))
            // Chunks are at least a block and clusters a multiple of it, which holds for all sizes above.
            && !(chosen(BLOCK) && self.0[CLUSTER] == 3)
    }

    /// The options.
    pub(crate) fn options(&self) -> Vec<&'static str> {
        self.values()
            .flat_map(|value| value.options)
            .copied()
            .collect()
    }

    fn values(&self) -> impl Iterator<Item = Value> {
        DIMENSIONS
            .iter()
            .zip(self.0)
            .map(|(values, number)| values[number])
    }

    /// The first kernel that reads such an image, as `(major, minor)`.
    pub(crate) fn since(&self) -> (u32, u32) {
        self.values()
            .map(|value| value.since)
            .max()
            .unwrap_or((5, 4))
    }

    /// Whether compact inodes have the times of the 48-bit layout.
    pub(crate) fn is_48bit(&self) -> bool {
        self.0[INDEX] == 2 || self.0[METADATA] >= 2
    }

    /// Whether there is a metabox and a configuration of the algorithms.
    pub(crate) fn has_configured_metabox(&self) -> bool {
        self.has_metabox() && self.0[ALGORITHM] != 0
    }

    /// Whether all inodes are in a metabox, the root's too.
    pub(crate) fn has_zone(&self) -> bool {
        self.0[METADATA] == 3
    }

    /// Whether inodes are in a metabox, among them those of files that do not compress.
    pub(crate) fn has_metabox(&self) -> bool {
        matches!(self.0[METADATA], 2 | 3)
    }

    /// Whether encoded tails are inlined behind inodes in a metabox.
    pub(crate) fn has_tails_in_metabox(&self) -> bool {
        self.has_metabox() && self.0[PACKING] == 1
    }

    /// Whether fsck.erofs forgets holes at the ends of files: where chunk indexes stand where block maps would do, and in
    /// images of the 48-bit layout.
    pub(crate) fn has_lost_ends(&self) -> bool {
        self.0[CHUNKS] == 2 || self.is_48bit()
    }

    /// Whether tails are to be packed behind inodes, and none may be there.
    pub(crate) fn packs_tails_it_may_not_inline(&self) -> bool {
        self.0[PACKING] == 1 && self.0[PLACEMENT] == 2
    }

    /// Whether every name gets an inode.
    pub(crate) fn separates_links(&self) -> bool {
        self.0[DIMENSIONS.len() - 1] == 1
    }
}

const MATRIX: Matrix<{ DIMENSIONS.len() }> = Matrix {
    sizes: {
        let mut sizes = [0; DIMENSIONS.len()];
        let mut dimension = 0;
        while dimension < sizes.len() {
            sizes[dimension] = DIMENSIONS[dimension].len();
            dimension += 1;
        }
        sizes
    },
    is_possible: |row| Row(*row).is_possible(),
};

/// The first `count` rows.
pub(crate) fn rows(count: usize) -> Vec<Row> {
    MATRIX.rows(count).into_iter().map(Row).collect()
}

#[test]
fn three_hundred_rows_have_every_possible_pair() {
    assert_eq!(MATRIX.missing(300), []);
}
