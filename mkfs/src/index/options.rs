//! How an index is to look.

use crate::data::compression::Method;
use crate::data::made::MetadataPipeline;
use crate::data::pipeline::Settings;
use crate::image::Header;
use crate::options::ImageOptions;
use erofs_format::BlockBits;
use erofs_reader::processors::processors;

/// Memory for metadata that is being compressed, in bytes.
const MEMORY: usize = 32 << 20;

/// How an index is to look.
#[derive(Debug, Clone)]
pub struct IndexOptions {
    /// What full images have in common with it.
    pub image: ImageOptions,
    /// How inodes with their tables are compressed, which then lie in a metabox (Linux 6.17). What the index points into tells
    /// the size of its blocks, and pclusters become multiples of it.
    pub metabox: Option<Method>,
    /// Whether directories of more than a block are compressed in the same way.
    pub compress_directories: bool,
    /// Threads that compress.
    pub workers: usize,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            image: ImageOptions::default(),
            metabox: None,
            compress_directories: false,
            workers: processors().get(),
        }
    }
}

impl IndexOptions {
    /// How metadata is compressed in blocks of this size, if it is.
    pub(super) fn pipeline(&self, block_bits: BlockBits) -> Option<MetadataPipeline> {
        let asked = self.metabox?;
        let size = asked.max_pcluster.next_multiple_of(block_bits.len());
        let method = Method {
            max_extent: asked.max_extent,
            ..Method::new(asked.settings, size, block_bits)
        };
        let settings = Settings {
            block_bits,
            compression: None,
            dedupe: false,
            share_extents: false,
            fingerprints: false,
            digested: 0,
            workers: self.workers,
            memory: MEMORY,
        };
        Some(MetadataPipeline::new(settings, method))
    }

    /// What stands in front of an index with so many devices, at its largest.
    pub(super) fn header(&self, devices: usize, block_bits: BlockBits) -> Header {
        let mut header = Header {
            devices,
            metabox: self.metabox.is_some(),
            ..Header::default()
        };
        if let Some(pipeline) = self.pipeline(block_bits) {
            pipeline.method().widen(block_bits, &mut header.configs);
        }
        header
    }
}
