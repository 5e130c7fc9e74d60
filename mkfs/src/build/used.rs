//! Which features and algorithms the data of an image really uses.

use crate::data::compression::Method;
use crate::data::encode::StoredExtent;
use crate::data::{StoredData, StoredPclusters};
use crate::image::Header;
use crate::options::ImageOptions;
use crate::plan::inode_data::LayerFileData;
use crate::tree::{Body, FrozenTree, Location};
use erofs_format::BlockBits;
use erofs_format::compression::Algorithm;
use erofs_format::compression::config::AlgorithmConfigs;
use erofs_format::compression::encoded_extent::Piece;
use erofs_format::feature::FeatureIncompat;
use erofs_format::superblock::Superblock;

/// What the data of an image asks for.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    features: FeatureIncompat,
    /// Bitmap of the algorithms.
    algorithms: u16,
}

impl Default for Used {
    /// Nothing: all data is elsewhere.
    fn default() -> Self {
        Self {
            features: FeatureIncompat::empty(),
            algorithms: 0,
        }
    }
}

impl Used {
    /// Of `asked`, an algorithm for fragments, which tell of none; directories may be such too.
    pub(super) fn by(
        tree: &FrozenTree,
        stored: &[StoredData],
        layer_files: &[Option<LayerFileData>],
        asked: Option<Algorithm>,
        packs_directories: bool,
    ) -> Self {
        let mut used = Self::default();
        if packs_directories {
            used.features |= FeatureIncompat::FRAGMENTS_OR_DEDUPE;
        }
        for id in tree.all_inodes() {
            let Body::Regular { size, location } = tree.inode(id).body else {
                continue;
            };
            match location {
                // It takes what its method does.
                Location::Metabox => {}
                Location::Stored(number) => used.add(&stored[number as usize]),
                Location::Layer(number)
                    if matches!(
                        layer_files.get(number as usize),
                        Some(Some(LayerFileData::Flat { .. }))
                    ) => {}
                _ if size > 0 => used.features |= FeatureIncompat::CHUNKED_FILE,
                _ => {}
            }
        }
        // Files of which all is a fragment are compressed files, which a kernel refuses where no algorithm is listed: even
        // when no fragment compresses.
        if used.algorithms == 0
            && used.features.contains(FeatureIncompat::FRAGMENTS_OR_DEDUPE)
            && let Some(algorithm) = asked
        {
            used.add_algorithm(algorithm, false);
        }
        used
    }

    fn add(&mut self, stored: &StoredData) {
        match stored {
            StoredData::Flat { .. } => {}
            StoredData::Chunked { .. } => self.features |= FeatureIncompat::CHUNKED_FILE,
            StoredData::Packed(_) => self.features |= FeatureIncompat::FRAGMENTS_OR_DEDUPE,
            StoredData::Extents(stored) => {
                self.features |= FeatureIncompat::BIT48;
                if stored.fragment || stored.interlaced {
                    self.features |= FeatureIncompat::FRAGMENTS_OR_DEDUPE;
                }
                for record in &*stored.records {
                    if let Ok(Piece::Stored {
                        algorithm: Some(algorithm),
                        partial,
                        ..
                    }) = record.piece()
                    {
                        // Encoded extents are newer than large pclusters.
                        self.add_algorithm(algorithm, true);
                        if partial {
                            self.features |= FeatureIncompat::FRAGMENTS_OR_DEDUPE;
                        }
                    }
                }
            }
            StoredData::Compressed(pclusters) => {
                let StoredPclusters {
                    extents,
                    algorithm,
                    interlaced,
                    fragment,
                    tail,
                    ..
                } = &**pclusters;
                if tail.is_some() {
                    self.features |= FeatureIncompat::ZTAILPACKING;
                }
                let shares = extents.iter().any(|extent| extent.elsewhere().is_some());
                if fragment.is_some() || shares || *interlaced {
                    self.features |= FeatureIncompat::FRAGMENTS_OR_DEDUPE;
                }
                self.add_algorithm(*algorithm, extents.iter().any(StoredExtent::is_big));
            }
        }
    }

    /// Takes what metadata is compressed with.
    pub(crate) fn with_method(mut self, method: Method, block_bits: BlockBits) -> Self {
        self.add_algorithm(
            method.settings.algorithm(),
            method.max_pcluster > block_bits.len(),
        );
        self
    }

    fn add_algorithm(&mut self, algorithm: Algorithm, has_big_pclusters: bool) {
        self.algorithms |= algorithm.bit();
        self.features |= FeatureIncompat::ZERO_PADDING;
        // LZ4 in single blocks needs nothing that the first kernels do not know.
        if algorithm != Algorithm::Lz4 || has_big_pclusters {
            self.features |= FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER;
        }
    }

    /// Whether files are compressed and nothing is said about how.
    fn is_plain_lz4(&self) -> bool {
        self.algorithms != 0
            && !self
                .features
                .contains(FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER)
    }

    /// The superblock of an image that also has `features`, of which addresses and counts are filled in later.
    pub(crate) fn superblock(
        &self,
        options: &ImageOptions,
        tree: &FrozenTree,
        block_bits: BlockBits,
        features: FeatureIncompat,
        header: &Header,
    ) -> Superblock {
        let mut superblock = options.superblock(tree, block_bits, self.features | features, header);
        if self.is_plain_lz4() {
            superblock.algorithms_or_lz4_window = erofs_codec::lz4::MAX_DISTANCE;
        }
        superblock
    }

    /// Of `all` configurations those of algorithms in use: a kernel refuses images that list one that it lacks.
    pub(crate) fn configs(&self, all: &AlgorithmConfigs) -> AlgorithmConfigs {
        if self.is_plain_lz4() {
            return AlgorithmConfigs::default();
        }
        let used = |algorithm: Algorithm| self.algorithms & algorithm.bit() != 0;
        AlgorithmConfigs {
            lz4: all.lz4.filter(|_| used(Algorithm::Lz4)),
            lzma: all.lzma.filter(|_| used(Algorithm::Lzma)),
            deflate: all.deflate.filter(|_| used(Algorithm::Deflate)),
            zstd: all.zstd.filter(|_| used(Algorithm::Zstd)),
        }
    }
}
