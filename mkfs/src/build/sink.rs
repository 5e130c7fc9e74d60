//! The way of files from sources into the pipeline.

use super::options::BuildOptions;
use super::treatment::treatment;
use crate::data::pipeline::{FileContent, Pipeline};
use crate::source::directory::FileSink;
use crate::source::{StoreError, StreamSink};
use crate::tree::{DataRange, Location, Metadata, Xattr};
use std::io::Read;
use std::sync::Arc;

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

    /// Sends in a file that a [`ContentReader`] finds by path or `position`.
    pub(super) fn send(
        &mut self,
        path: Vec<u8>,
        position: u64,
        size: u64,
        ranges: Option<Vec<DataRange>>,
        xattrs: &[Xattr],
    ) -> Result<Location, StoreError> {
        let treatment = treatment(self.options, &path, size, ranges.as_deref(), xattrs);
        let ranges = ranges.map(Arc::from);
        let content = FileContent {
            path: path.into(),
            position,
            size,
            ranges,
        };
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
    ) -> Result<Location, StoreError> {
        self.send(path.to_vec(), 0, size, ranges, &metadata.xattrs)
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
        let treatment = treatment(self.options, path, size, ranges, &metadata.xattrs);
        let number = self.pipeline.stream(path, size, ranges, treatment, data)?;
        Ok(number.map_or(Location::Nowhere, Location::Stored))
    }
}
