//! The ordered pipeline: one producer, some workers, one committer.
//!
//! ```text
//! producer ──tasks──▶ workers (read, digest, compress) ──results──▶ committer (dedupe, place, write in order)
//!     ▲                                                                 │
//!     └───────────────────────────── permits ◀──────────────────────────┘
//! ```
//! A task holds many small files or one segment of a large file. Permits bound the tasks between producer and committer
//! and so the memory. Everything that decides about bytes of the image happens in task order or depends on the file
//! alone, so the image is the same for any number of workers.

mod committer;
mod range_stream;
mod sharing;
mod task;
mod worker;

use super::StoredData;
use super::compression::Compression;
use super::digests::Digests;
use super::fragments::Fragments;
use super::tails::Tails;
use super::treatment::Treatment;
use super::writer::Writer;
use crate::source::StoreError;
use crate::tree::{DataRange, display};
use committer::Committer;
use crossbeam_channel::{Receiver, Sender, bounded};
use erofs_codec::EncodeError;
use erofs_format::BlockBits;
use erofs_format::inode::Timestamp;
use range_stream::RangeStream;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::{Scope, ScopedJoinHandle};
use task::{Done, Piece, PieceData, SeenFiles, Task};
use worker::Worker;

/// Digest of a file's content.
pub type Digest = [u8; 32];

/// SHA-256 of all of a file's content. There is none of files with holes: of these not all is read.
pub type Fingerprint = [u8; 32];

/// What all files of an image have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Block size.
    pub block_bits: BlockBits,
    /// How to compress, if at all.
    pub compression: Option<Compression>,
    /// Whether identical files are stored once.
    pub dedupe: bool,
    /// Whether files share extents that they have in common.
    pub share_extents: bool,
    /// Whether the content of files gets a fingerprint.
    pub fingerprints: bool,
    /// Bytes of data of which digests are kept; of more, none.
    pub digested: u64,
    /// Number of workers.
    pub workers: usize,
    /// Memory for data on its way, in bytes.
    pub memory: usize,
}

impl Settings {
    /// Number of tasks on their way: each may hold a segment and what became of it.
    fn permits(&self) -> usize {
        let largest = match &self.compression {
            None => PLAIN_SEGMENT,
            Some(compression) => compressed_segment(compression.largest_pcluster()),
        };
        let copies = 2 + usize::from(self.share_extents) + usize::from(self.fingerprints);
        (self.memory / (copies * largest + (1 << 20))).clamp(2, 4 * self.workers + 2)
    }
}

/// Length of a segment in bytes of a file that is not compressed: what is read, digested and written at once should stay
/// in the processor's cache.
const PLAIN_SEGMENT: usize = 512 << 10;

/// Length of a segment in bytes of a compressed file.
pub fn compressed_segment(max_pcluster: usize) -> usize {
    (8 * max_pcluster).max(2 << 20)
}

/// Length of a segment in bytes: it depends on what the image will look like, never on workers or memory.
fn segment_size(treatment: &Treatment) -> u64 {
    let length = match treatment {
        Treatment::Flat { .. } | Treatment::Chunked(_) => PLAIN_SEGMENT,
        Treatment::Compressed { method, .. } => compressed_segment(method.max_pcluster),
        // No larger than a segment: it is read at once.
        Treatment::Packed => usize::MAX,
    };
    length as u64
}

/// Reads files for the workers.
pub trait ContentReader: Send + Sync {
    /// Appends exactly the `length` bytes of the file from `offset` on, none of them in a hole.
    ///
    /// # Errors
    /// [`StoreError`] names the file, also when it changed while being read.
    fn read(
        &self,
        file: &FileContent,
        offset: u64,
        length: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError>;
}

/// A file whose content a [`ContentReader`] reads.
#[derive(Debug, Clone)]
pub struct FileContent {
    /// Its path, for opening it and for messages.
    pub path: Box<[u8]>,
    /// Where the reader finds it, in the reader's terms.
    pub position: u64,
    /// Size in bytes.
    pub size: u64,
    /// The stretches that hold data, when it is sparse.
    pub ranges: Option<Arc<[DataRange]>>,
    /// When anything of it was changed last, where a reader can tell and looks for changes.
    pub changed: Option<Timestamp>,
}

/// Why the pipeline stopped.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A file could not be read.
    #[error(transparent)]
    Source(#[from] StoreError),
    /// A file could not be compressed.
    #[error("{}: {source}", display(path))]
    Encode {
        /// The file.
        path: Vec<u8>,
        /// What the encoder says.
        source: EncodeError,
    },
    /// The image could not be written.
    #[error("cannot write the image: {0}")]
    Write(#[source] io::Error),
    /// More blocks than 32-bit addresses reach.
    #[error(
        "the image needs more than 2^32 blocks: take larger ones (-b), or leave the data where it is (erofs index)"
    )]
    TooLarge,
    /// A worker ended early.
    #[error("a worker thread ended early")]
    WorkerLost,
}

/// What came out of the pipeline.
#[derive(Debug)]
pub struct Stored {
    /// Data of each file, by its number.
    pub files: Vec<StoredData>,
    /// Fingerprint of each file, by its number; empty when none are wanted.
    pub fingerprints: Vec<Option<Fingerprint>>,
    /// Tails to inline.
    pub tails: Tails,
    /// Tails and small files that are to be packed.
    pub fragments: Fragments,
    /// Bytes read from sources.
    pub bytes_in: u64,
    /// Files that share the data of an earlier one.
    pub duplicates: u64,
    /// Digest over the contents of all files, in order.
    pub digest: Digest,
    /// Digests of their pieces.
    pub digests: Digests,
}

/// Feeds files into a running pipeline.
pub struct Pipeline<'scope> {
    settings: Arc<Settings>,
    reader: Arc<dyn ContentReader + 'scope>,
    tasks: Sender<Task>,
    permits: Receiver<()>,
    committer: ScopedJoinHandle<'scope, Result<Stored, PipelineError>>,
    pending: Vec<Piece>,
    pending_bytes: usize,
    next_sequence: u64,
    next_number: u32,
    progress: Arc<AtomicU64>,
}

impl std::fmt::Debug for Pipeline<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A task of small files is full at this many bytes or files.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_FILES: usize = 512;

impl<'scope> Pipeline<'scope> {
    /// Starts workers and committer. `progress` counts bytes that are written.
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        settings: Settings,
        reader: Arc<dyn ContentReader + 'scope>,
        writer: &'scope mut Writer<'_>,
        tails: Tails,
        fragments: Fragments,
        progress: Arc<AtomicU64>,
    ) -> Self {
        let settings = Arc::new(settings);
        let permit_count = settings.permits();
        let (task_sender, task_receiver) = bounded::<Task>(permit_count);
        let (done_sender, done_receiver) = bounded::<Done>(permit_count);
        let (permit_sender, permit_receiver) = bounded::<()>(permit_count);
        for _ in 0..permit_count {
            // The channel holds them all.
            let _ = permit_sender.send(());
        }
        let (spent, fresh) = bounded::<Vec<u8>>(permit_count);
        let seen: Arc<SeenFiles> = Arc::default();
        for _ in 0..settings.workers.clamp(1, permit_count) {
            let worker = Worker {
                settings: Arc::clone(&settings),
                reader: Arc::clone(&reader),
                seen: Arc::clone(&seen),
                encoders: HashMap::new(),
                fresh: fresh.clone(),
            };
            let (tasks, done) = (task_receiver.clone(), done_sender.clone());
            scope.spawn(move || worker.run(&tasks, &done));
        }
        let committer = Committer::new(
            Arc::clone(&settings),
            writer,
            tails,
            fragments,
            spent,
            Arc::clone(&progress),
        );
        let committer = scope.spawn(move || committer.run(&done_receiver, &permit_sender));
        Self {
            settings,
            reader,
            tasks: task_sender,
            permits: permit_receiver,
            committer,
            pending: Vec::new(),
            pending_bytes: 0,
            next_sequence: 0,
            next_number: 0,
            progress,
        }
    }

    /// The counter of written bytes.
    pub fn progress(&self) -> &Arc<AtomicU64> {
        &self.progress
    }

    /// Whoever reads files for this pipeline.
    pub fn reader(&self) -> &(dyn ContentReader + 'scope) {
        &*self.reader
    }

    /// Sends in a file that workers read. Returns its number, or `None` when nothing of it needs to be stored.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] when the pipeline has failed; [`Self::finish`] tells why.
    pub fn file(
        &mut self,
        content: FileContent,
        treatment: Treatment,
    ) -> Result<Option<u32>, StoreError> {
        let file = Arc::new(content);
        let Some(mut cutter) = self.begin(Arc::from(&*file.path), file.size, treatment) else {
            return Ok(None);
        };
        for range in cutter.ranges.clone() {
            let mut offset = range.offset;
            let end = range.offset + range.length;
            while offset < end {
                let length = (end - offset).min(segment_size(&cutter.treatment));
                let data = PieceData::Read {
                    file: Arc::clone(&file),
                    range: DataRange { offset, length },
                };
                self.piece(&mut cutter, data, offset, length)?;
                offset += length;
            }
        }
        Ok(Some(cutter.number))
    }

    /// Sends in a file whose bytes come from `data` now: those of `ranges` one after the other, or all `size` bytes.
    /// Returns its number, or `None` when nothing of it needs to be stored.
    ///
    /// # Errors
    /// [`StoreError`] when `data` fails or ends early, or when the pipeline has failed.
    pub fn stream(
        &mut self,
        path: &[u8],
        size: u64,
        ranges: Option<&[DataRange]>,
        treatment: Treatment,
        data: &mut dyn io::Read,
    ) -> Result<Option<u32>, StoreError> {
        let whole = [DataRange {
            offset: 0,
            length: size,
        }];
        let mut source = RangeStream {
            path,
            size,
            ranges: ranges.unwrap_or(&whole),
            at: 0,
            data,
        };
        let Some(mut cutter) = self.begin(Arc::from(path), size, treatment) else {
            source.finish()?;
            return Ok(None);
        };
        for range in cutter.ranges.clone() {
            let mut offset = range.offset;
            let end = range.offset + range.length;
            while offset < end {
                let length = (end - offset).min(segment_size(&cutter.treatment));
                let bytes = source.read(offset, length)?;
                self.piece(&mut cutter, PieceData::Bytes(bytes), offset, length)?;
                offset += length;
            }
        }
        source.finish()?;
        Ok(Some(cutter.number))
    }

    fn begin(&mut self, path: Arc<[u8]>, size: u64, treatment: Treatment) -> Option<Cutter> {
        let ranges: Vec<DataRange> = match &treatment {
            Treatment::Chunked(map) => map.stored_ranges(size, self.settings.block_bits).collect(),
            Treatment::Flat { .. } | Treatment::Compressed { .. } | Treatment::Packed => {
                vec![DataRange {
                    offset: 0,
                    length: size,
                }]
            }
        };
        let left = ranges.iter().map(|range| range.length).sum();
        if left == 0 {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        Some(Cutter {
            number,
            path,
            size,
            treatment: Arc::new(treatment),
            ranges,
            left,
            first: true,
        })
    }

    fn piece(
        &mut self,
        cutter: &mut Cutter,
        data: PieceData,
        offset: u64,
        length: u64,
    ) -> Result<(), StoreError> {
        cutter.left -= length;
        self.pending.push(Piece {
            number: cutter.number,
            treatment: Arc::clone(&cutter.treatment),
            first: std::mem::take(&mut cutter.first),
            last: cutter.left == 0,
            size: cutter.size,
            offset,
            path: Arc::clone(&cutter.path),
            data,
        });
        self.pending_bytes += usize::try_from(length).unwrap_or(usize::MAX);
        if self.pending_bytes >= BATCH_BYTES || self.pending.len() >= BATCH_FILES {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.permits.recv().map_err(|_| StoreError::Stopped)?;
        let task = Task {
            sequence: self.next_sequence,
            pieces: std::mem::take(&mut self.pending),
        };
        self.pending_bytes = 0;
        self.next_sequence += 1;
        self.tasks.send(task).map_err(|_| StoreError::Stopped)
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// [`PipelineError`]: the first failure in task order.
    pub fn finish(mut self) -> Result<Stored, PipelineError> {
        let sent = self.send();
        let Self {
            tasks,
            permits,
            committer,
            ..
        } = self;
        drop((tasks, permits));
        match committer.join() {
            Ok(Ok(stored)) => sent.map(|()| stored).map_err(PipelineError::Source),
            Ok(Err(error)) => Err(error),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// A file on its way from the producer.
struct Cutter {
    number: u32,
    path: Arc<[u8]>,
    size: u64,
    treatment: Arc<Treatment>,
    ranges: Vec<DataRange>,
    left: u64,
    first: bool,
}
