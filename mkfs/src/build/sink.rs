//! The way of files from sources into the pipeline.

use super::options::BuildOptions;
use super::treatment::treatment;
use crate::data::pipeline::{FileContent, Pipeline};
use crate::data::treatment::Treatment;
use crate::plan::chunk_table;
use crate::source::directory::FileSink;
use crate::source::{StoreError, StreamSink};
use crate::tree::{DataRange, Location, Metadata, Xattr};
use erofs_format::inode::Timestamp;
use std::io::Read;
use std::sync::Arc;

/// Least bytes that a chunk takes in a table.
const ENTRY_SIZE: u64 = 4;

/// Takes files into the pipeline.
pub(super) struct Sink<'p, 's, 'o> {
    pipeline: &'p mut Pipeline<'s>,
    options: &'o BuildOptions,
}

impl<'p, 's, 'o> Sink<'p, 's, 'o> {
    /// A way into `pipeline`.
    pub(super) const fn new(pipeline: &'p mut Pipeline<'s>, options: &'o BuildOptions) -> Self {
        Self { pipeline, options }
    }

    /// How a file is to be stored, unless that is known to fail.
    fn treatment(
        &self,
        path: &[u8],
        size: u64,
        ranges: Option<&[DataRange]>,
        xattrs: &[Xattr],
    ) -> Result<Treatment, StoreError> {
        let treatment = treatment(self.options, path, size, ranges, xattrs);
        if let Treatment::Chunked(map) = &treatment {
            let chunk_bits = u32::from(self.options.block_bits.bits() + map.block_shift);
            let chunks = size.div_ceil(1 << chunk_bits);
            // Looked at again when the form of the table is known.
            chunk_table::check(|| path.to_vec(), size, chunks, ENTRY_SIZE)?;
        }
        Ok(treatment)
    }

    /// Sends in a file that a [`ContentReader`] finds.
    pub(super) fn send(
        &mut self,
        content: FileContent,
        xattrs: &[Xattr],
    ) -> Result<Location, StoreError> {
        let ranges = content.ranges.as_deref();
        let treatment = self.treatment(&content.path, content.size, ranges, xattrs)?;
        let number = self.pipeline.file(content, treatment)?;
        Ok(number.map_or(Location::Nowhere, Location::Stored))
    }
}

impl FileSink for Sink<'_, '_, '_> {
    fn file(
        &mut self,
        path: &[u8],
        metadata: &Metadata,
        size: u64,
        ranges: Option<Vec<DataRange>>,
        changed: Timestamp,
    ) -> Result<Location, StoreError> {
        let content = FileContent {
            path: path.into(),
            position: 0,
            size,
            ranges: ranges.map(Arc::from),
            changed: Some(changed),
        };
        self.send(content, &metadata.xattrs)
    }
}

impl StreamSink for Sink<'_, '_, '_> {
    fn store(
        &mut self,
        path: &[u8],
        metadata: &Metadata,
        size: u64,
        ranges: Option<&[DataRange]>,
        data: &mut dyn Read,
    ) -> Result<Location, StoreError> {
        let treatment = self.treatment(path, size, ranges, &metadata.xattrs)?;
        let number = self.pipeline.stream(path, size, ranges, treatment, data)?;
        Ok(number.map_or(Location::Nowhere, Location::Stored))
    }
}
