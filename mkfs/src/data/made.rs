//! Stores data that is made here, not read from the source: the packed inode, directories, the metabox.

use super::StoredData;
use super::compression::{Compression, Method};
use super::fragments::Fragments;
use super::pipeline::{ContentReader, FileContent, Pipeline, PipelineError, Settings, Stored};
use super::tails::Tails;
use super::treatment::Treatment;
use super::writer::Writer;
use crate::source::StoreError;
use erofs_format::BlockBits;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

/// Sends what `feed` has through a pipeline of its own, behind what was written. Duplicates are looked for among files, and files
/// are what is verified: of `settings` block size, workers, memory and compression count.
///
/// # Errors
/// [`PipelineError`].
pub(super) fn store(
    settings: Settings,
    reader: Arc<dyn ContentReader>,
    writer: &mut Writer<'_>,
    feed: impl FnOnce(&mut Pipeline<'_>) -> Result<(), StoreError>,
) -> Result<Stored, PipelineError> {
    let settings = Settings {
        dedupe: false,
        share_extents: false,
        fingerprints: false,
        digested: 0,
        ..settings
    };
    std::thread::scope(|scope| {
        // All of this was counted when it was read.
        let progress = Arc::default();
        let nothing = Tails::new(0, PathBuf::new());
        let mut pipeline = Pipeline::start(
            scope,
            settings,
            reader,
            writer,
            nothing,
            Fragments::default(),
            progress,
        );
        match feed(&mut pipeline) {
            Ok(()) => pipeline.finish(),
            // The pipeline failed first: it knows why.
            Err(error) => Err(pipeline.finish().err().unwrap_or(error.into())),
        }
    })
}

/// How data of `size` bytes is stored.
pub(super) fn treatment(size: u64, method: Method, block_bits: BlockBits) -> Treatment {
    if !MetadataPipeline::compresses(size, block_bits) {
        return Treatment::Flat { inline_tail: false };
    }
    Treatment::Compressed {
        inline_tail: false,
        method,
        pack_tail: false,
        tail_room: 0,
    }
}

/// How metadata is compressed, in parallel.
#[derive(Debug, Clone)]
pub struct MetadataPipeline {
    settings: Settings,
    method: Method,
}

/// Metadata that was stored.
#[derive(Debug)]
pub struct StoredMetadata {
    /// Each file, in order.
    pub files: Vec<StoredData>,
    /// Digest of their content.
    pub digest: [u8; 32],
}

/// A file that is made: its name for messages, its size in bytes, its content.
pub type MadeFile<'m> = (Vec<u8>, u64, Box<dyn Read + 'm>);

impl MetadataPipeline {
    /// Compresses by `method`, with the workers and the memory of `settings`, in blocks of its size.
    pub fn new(settings: Settings, method: Method) -> Self {
        Self {
            settings: Settings {
                compression: Some(Compression::new(
                    vec![method.settings],
                    method.max_pcluster,
                    settings.block_bits,
                )),
                ..settings
            },
            method,
        }
    }

    /// With what it compresses.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Whether a file of `size` bytes is compressed: one block is the least that a pcluster takes.
    pub fn compresses(size: u64, block_bits: BlockBits) -> bool {
        size > block_bits.bytes()
    }

    /// Stores files, none of them empty, behind what was written.
    ///
    /// # Errors
    /// [`PipelineError`].
    pub fn store<'m>(
        &self,
        files: impl Iterator<Item = MadeFile<'m>>,
        writer: &mut Writer<'_>,
    ) -> Result<StoredMetadata, PipelineError> {
        let bits = self.settings.block_bits;
        let stored = store(
            self.settings.clone(),
            Arc::new(NoReader),
            writer,
            |pipeline| {
                for (path, size, mut content) in files {
                    let treatment = treatment(size, self.method, bits);
                    pipeline.stream(&path, size, None, treatment, &mut content)?;
                }
                Ok(())
            },
        )?;
        Ok(StoredMetadata {
            files: stored.files,
            digest: stored.digest,
        })
    }
}

/// For files that come as streams.
#[derive(Debug)]
pub struct NoReader;

impl ContentReader for NoReader {
    fn read(
        &self,
        file: &FileContent,
        _offset: u64,
        _length: u64,
        _out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Read {
            path: file.path.to_vec(),
            source: io::ErrorKind::NotSeekable.into(),
        })
    }
}
