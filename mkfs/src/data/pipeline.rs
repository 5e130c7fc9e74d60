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

use super::encode::{EncodedSegment, StoredExtent, encode_segment};
use super::tails::Tails;
use super::treatment::{ChunkMap, Treatment};
use super::writer::Writer;
use super::{Compression, StoredData};
use crate::source::StoreError;
use crate::tree::{DataRange, display};
use crossbeam_channel::{Receiver, Sender, bounded};
use erofs_codec::zstd::ZstdEncoder;
use erofs_codec::{EncodeError, Encoder};
use erofs_format::{BlockAddr, BlockBits};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Scope, ScopedJoinHandle};

/// Digest of a file's content.
pub type Digest = [u8; 32];

/// What all files of an image have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Block size.
    pub block_bits: BlockBits,
    /// How to compress, if at all.
    pub compression: Option<Compression>,
    /// Whether identical files are stored once.
    pub dedupe: bool,
    /// Number of workers.
    pub workers: usize,
    /// Memory for data on its way, in bytes.
    pub memory: usize,
}

impl Settings {
    /// Length of a segment in bytes: it depends on what the image will look like, never on workers or memory.
    fn segment_size(&self) -> usize {
        let largest = self
            .compression
            .map_or(0, |compression| compression.max_pcluster);
        (8 * largest).max(2 << 20)
    }

    /// Number of tasks on their way: each may hold a segment and what became of it.
    fn permits(&self) -> usize {
        (self.memory / (2 * self.segment_size() + (1 << 20))).clamp(2, 4 * self.workers + 2)
    }
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
    #[error("the image needs more than 2^32 blocks")]
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
    /// Tails to inline.
    pub tails: Tails,
    /// Bytes read from sources.
    pub bytes_in: u64,
    /// Files that share the data of an earlier one.
    pub duplicates: u64,
    /// Digest over the contents of all files, in order.
    pub digest: Digest,
}

/// One file, or a part of it, as a worker gets it.
struct Piece {
    number: u32,
    treatment: Arc<Treatment>,
    first: bool,
    last: bool,
    size: u64,
    path: Arc<[u8]>,
    data: PieceData,
}

enum PieceData {
    Bytes(Vec<u8>),
    Read {
        file: Arc<FileContent>,
        range: DataRange,
    },
}

struct Task {
    sequence: u64,
    pieces: Vec<Piece>,
}

/// A piece as the committer gets it.
struct DonePiece {
    number: u32,
    treatment: Arc<Treatment>,
    first: bool,
    last: bool,
    size: u64,
    read: u64,
    digest: Digest,
    content: DoneContent,
}

enum DoneContent {
    Plain(Vec<u8>),
    Encoded(EncodedSegment),
    /// A single-piece file that an earlier task holds as well.
    SeenEarlier,
}

struct Done {
    sequence: u64,
    pieces: Result<Vec<DonePiece>, PipelineError>,
}

/// What files must have in common to share their data: size, content and form.
type Identity = (u64, Digest, Form);

/// Forms in which the same content may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    Flat {
        inline_tail: bool,
    },
    Compressed {
        inline_tail: bool,
    },
    /// The digest then covers the map of the chunks too.
    Chunked,
}

impl Form {
    fn of(treatment: &Treatment) -> Self {
        match *treatment {
            Treatment::Flat { inline_tail } => Self::Flat { inline_tail },
            Treatment::Compressed { inline_tail } => Self::Compressed { inline_tail },
            Treatment::Chunked(_) => Self::Chunked,
        }
    }

    fn inline_tail(self) -> bool {
        matches!(
            self,
            Self::Flat { inline_tail: true } | Self::Compressed { inline_tail: true }
        )
    }
}

/// For each content the first place where it was seen: task and piece.
type SeenFiles = Mutex<HashMap<Identity, (u64, usize)>>;

/// Feeds files into a running pipeline.
pub struct Pipeline<'scope> {
    settings: Settings,
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

/// From this level on sampling for incompressible data is cheaper than having the encoder find out (measured with
/// `codec/examples/compressibility`).
const SAMPLED_LEVEL: i32 = 6;

/// A task of small files is full at this many bytes or files.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_FILES: usize = 512;

impl<'scope> Pipeline<'scope> {
    /// Starts workers and committer. `progress` counts bytes that are written.
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        settings: Settings,
        reader: Arc<dyn ContentReader + 'scope>,
        writer: &'scope mut Writer<'_>,
        tails: Tails,
        progress: Arc<AtomicU64>,
    ) -> Self {
        let permit_count = settings.permits();
        let (task_sender, task_receiver) = bounded::<Task>(permit_count);
        let (done_sender, done_receiver) = bounded::<Done>(permit_count);
        let (permit_sender, permit_receiver) = bounded::<()>(permit_count);
        for _ in 0..permit_count {
            // The channel holds them all.
            let _ = permit_sender.send(());
        }
        let seen: Arc<SeenFiles> = Arc::default();
        for _ in 0..settings.workers.clamp(1, permit_count) {
            let worker = Worker {
                settings: settings.clone(),
                reader: Arc::clone(&reader),
                seen: Arc::clone(&seen),
                encoder: None,
            };
            let (tasks, done) = (task_receiver.clone(), done_sender.clone());
            scope.spawn(move || worker.run(&tasks, &done));
        }
        let committer = Committer {
            settings: settings.clone(),
            writer,
            stored: Stored {
                files: Vec::new(),
                tails,
                bytes_in: 0,
                duplicates: 0,
                digest: [0; 32],
            },
            known: HashMap::new(),
            open: None,
            content: blake3::Hasher::new(),
            progress: Arc::clone(&progress),
        };
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
                let length = (end - offset).min(self.settings.segment_size() as u64);
                let data = PieceData::Read {
                    file: Arc::clone(&file),
                    range: DataRange { offset, length },
                };
                self.piece(&mut cutter, data, length)?;
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
                let length = (end - offset).min(self.settings.segment_size() as u64);
                let bytes = source.read(offset, length)?;
                self.piece(&mut cutter, PieceData::Bytes(bytes), length)?;
                offset += length;
            }
        }
        source.finish()?;
        Ok(Some(cutter.number))
    }

    fn begin(&mut self, path: Arc<[u8]>, size: u64, treatment: Treatment) -> Option<Cutter> {
        let ranges: Vec<DataRange> = match &treatment {
            Treatment::Chunked(map) => map.stored_ranges(size, self.settings.block_bits).collect(),
            Treatment::Flat { .. } | Treatment::Compressed { .. } => vec![DataRange {
                offset: 0,
                length: size,
            }],
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
        length: u64,
    ) -> Result<(), StoreError> {
        cutter.left -= length;
        self.pending.push(Piece {
            number: cutter.number,
            treatment: Arc::clone(&cutter.treatment),
            first: std::mem::take(&mut cutter.first),
            last: cutter.left == 0,
            size: cutter.size,
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

/// The bytes of a file from a stream that leaves out its holes.
struct RangeStream<'a> {
    path: &'a [u8],
    size: u64,
    ranges: &'a [DataRange],
    /// Bytes of the file up to here were asked for.
    at: u64,
    data: &'a mut dyn io::Read,
}

impl RangeStream<'_> {
    /// The `length` bytes from `offset` on; offsets ascend. Stretches that are skipped hold no data.
    fn read(&mut self, offset: u64, length: u64) -> Result<Vec<u8>, StoreError> {
        let end = offset + length;
        self.at = end;
        let mut bytes = Vec::new();
        while let Some((range, rest)) = self.ranges.split_first() {
            let (start, stop) = (
                range.offset.max(offset),
                (range.offset + range.length).min(end),
            );
            if range.offset >= end {
                break;
            }
            if start < stop {
                bytes.resize((start - offset) as usize, 0);
                self.take(stop - start, &mut bytes)?;
            }
            if range.offset + range.length > end {
                break;
            }
            self.ranges = rest;
        }
        bytes.resize(length as usize, 0);
        Ok(bytes)
    }

    fn take(&mut self, length: u64, bytes: &mut Vec<u8>) -> Result<(), StoreError> {
        let read = (&mut *self.data)
            .take(length)
            .read_to_end(bytes)
            .map_err(|source| StoreError::Read {
                path: self.path.to_vec(),
                source,
            })?;
        if read as u64 != length {
            let found = self.size.min(self.at.saturating_sub(length) + read as u64);
            return Err(StoreError::Short {
                path: self.path.to_vec(),
                expected: self.size,
                found,
            });
        }
        Ok(())
    }

    fn finish(self) -> Result<(), StoreError> {
        io::copy(self.data, &mut io::sink())
            .map(|_| ())
            .map_err(|source| StoreError::Read {
                path: self.path.to_vec(),
                source,
            })
    }
}

/// Digest of a piece. Where zeros are left out, equal bytes are equal content only at equal places.
fn digest(treatment: &Treatment, bytes: &[u8]) -> Digest {
    let Treatment::Chunked(map) = treatment else {
        return *blake3::hash(bytes).as_bytes();
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[map.block_shift]);
    for run in &map.runs {
        hasher
            .update(&run.first.to_le_bytes())
            .update(&run.count.to_le_bytes());
    }
    *hasher.update(bytes).finalize().as_bytes()
}

struct Worker<'scope> {
    settings: Settings,
    reader: Arc<dyn ContentReader + 'scope>,
    seen: Arc<SeenFiles>,
    encoder: Option<ZstdEncoder>,
}

impl Worker<'_> {
    fn run(mut self, tasks: &Receiver<Task>, done: &Sender<Done>) {
        while let Ok(task) = tasks.recv() {
            let Task { sequence, pieces } = task;
            let pieces = pieces
                .into_iter()
                .enumerate()
                .map(|(index, piece)| self.work((sequence, index), piece))
                .collect();
            if done.send(Done { sequence, pieces }).is_err() {
                return;
            }
        }
    }

    fn work(&mut self, order: (u64, usize), piece: Piece) -> Result<DonePiece, PipelineError> {
        let Piece {
            number,
            treatment,
            first,
            last,
            size,
            path,
            data,
        } = piece;
        let bytes = match data {
            PieceData::Bytes(bytes) => bytes,
            PieceData::Read { file, range } => self.read(&file, range)?,
        };
        let digest = digest(&treatment, &bytes);
        let read = bytes.len() as u64;
        let content = match (&*treatment, self.settings.compression) {
            (Treatment::Compressed { .. }, Some(compression)) => {
                if first
                    && last
                    && self.settings.dedupe
                    && self.seen_earlier(order, (size, digest, Form::of(&treatment)))
                {
                    DoneContent::SeenEarlier
                } else {
                    let encoded = self.encode(&bytes, compression).map_err(|source| {
                        PipelineError::Encode {
                            path: path.to_vec(),
                            source,
                        }
                    })?;
                    self.smaller(encoded, bytes, first && last)
                }
            }
            _ => DoneContent::Plain(bytes),
        };
        Ok(DonePiece {
            number,
            treatment,
            first,
            last,
            size,
            read,
            digest,
            content,
        })
    }

    fn read(&self, file: &FileContent, range: DataRange) -> Result<Vec<u8>, PipelineError> {
        let mut bytes = Vec::with_capacity(range.length as usize);
        let Some(ranges) = &file.ranges else {
            self.reader
                .read(file, range.offset, range.length, &mut bytes)?;
            return Ok(bytes);
        };
        let end = range.offset + range.length;
        let first = ranges.partition_point(|data| data.offset + data.length <= range.offset);
        for data in ranges[first..].iter().take_while(|data| data.offset < end) {
            let (start, stop) = (
                data.offset.max(range.offset),
                (data.offset + data.length).min(end),
            );
            bytes.resize((start - range.offset) as usize, 0);
            self.reader.read(file, start, stop - start, &mut bytes)?;
        }
        bytes.resize(range.length as usize, 0);
        Ok(bytes)
    }

    fn encode(
        &mut self,
        bytes: &[u8],
        compression: Compression,
    ) -> Result<EncodedSegment, EncodeError> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(ZstdEncoder::new(
                compression.level,
                compression.window_log(),
                compression.max_pcluster,
            )?),
        };
        let encoder: &mut dyn Encoder = encoder;
        encode_segment(
            encoder,
            bytes,
            self.settings.block_bits,
            compression.max_pcluster,
            compression.level >= SAMPLED_LEVEL,
        )
    }

    /// Chooses between the encoded and the plain form of a piece.
    fn smaller(&self, encoded: EncodedSegment, bytes: Vec<u8>, whole_file: bool) -> DoneContent {
        /// Map header and index of a small file.
        const INDEX_SIZE: u64 = 24;
        let bits = self.settings.block_bits;
        let plain_only = encoded.extents.iter().all(StoredExtent::is_plain);
        let index = INDEX_SIZE + 4 * bits.blocks_for(bytes.len() as u64);
        if plain_only || whole_file && encoded.bytes.len() as u64 + index >= bytes.len() as u64 {
            DoneContent::Plain(bytes)
        } else {
            DoneContent::Encoded(encoded)
        }
    }

    /// Whether a file of the same content comes earlier. Then the committer will have stored it by the time it gets to
    /// this one, so nobody needs to encode it again. Of two that race, the earlier one is always encoded.
    fn seen_earlier(&self, order: (u64, usize), key: Identity) -> bool {
        let mut seen = match self.seen.lock() {
            Ok(seen) => seen,
            Err(poisoned) => poisoned.into_inner(),
        };
        let first = seen.entry(key).or_insert(order);
        if *first < order {
            return true;
        }
        *first = order;
        false
    }
}

/// A file of which some pieces are written.
struct OpenFile {
    start: BlockAddr,
    digests: blake3::Hasher,
    extents: Vec<StoredExtent>,
    tail: Vec<u8>,
}

struct Committer<'w, 'o> {
    settings: Settings,
    writer: &'w mut Writer<'o>,
    stored: Stored,
    known: HashMap<Identity, u32>,
    open: Option<OpenFile>,
    content: blake3::Hasher,
    progress: Arc<AtomicU64>,
}

impl Committer<'_, '_> {
    fn run(mut self, done: &Receiver<Done>, permits: &Sender<()>) -> Result<Stored, PipelineError> {
        let mut waiting: BTreeMap<u64, Result<Vec<DonePiece>, PipelineError>> = BTreeMap::new();
        let mut next = 0;
        while let Ok(Done { sequence, pieces }) = done.recv() {
            waiting.insert(sequence, pieces);
            while let Some(pieces) = waiting.remove(&next) {
                for piece in pieces? {
                    self.commit(piece)?;
                }
                next += 1;
                // The producer may be gone already.
                let _ = permits.send(());
            }
        }
        if !waiting.is_empty() || self.open.is_some() {
            return Err(PipelineError::WorkerLost);
        }
        self.stored.digest = *self.content.finalize().as_bytes();
        Ok(self.stored)
    }

    fn commit(&mut self, piece: DonePiece) -> Result<(), PipelineError> {
        let bits = self.settings.block_bits;
        self.stored.bytes_in += piece.read;
        self.progress.fetch_add(piece.read, Ordering::Relaxed);
        let form = Form::of(&piece.treatment);
        if piece.first && piece.last {
            self.content.update(&piece.digest);
            let identity = (piece.size, piece.digest, form);
            if let Some(known) = self.known.get(&identity) {
                return self.share(*known, piece.number);
            }
        }
        let mut open = match self.open.take() {
            Some(open) if !piece.first => open,
            _ => OpenFile {
                start: self.writer.block(),
                digests: blake3::Hasher::new(),
                extents: Vec::new(),
                tail: Vec::new(),
            },
        };
        match piece.content {
            DoneContent::Encoded(segment) => {
                self.writer
                    .write(&segment.bytes)
                    .map_err(PipelineError::Write)?;
                open.extents.extend(segment.extents);
            }
            DoneContent::Plain(bytes) => {
                let whole = bytes.len() - bits.offset_in_block(bytes.len() as u64) as usize;
                let (blocks, tail) = bytes.split_at(whole);
                self.writer.write(blocks).map_err(PipelineError::Write)?;
                if matches!(*piece.treatment, Treatment::Compressed { .. })
                    && !(piece.first && piece.last)
                {
                    open.extents.push(StoredExtent::plain(bytes.len()));
                }
                let only_plain = open.extents.iter().all(StoredExtent::is_plain);
                if piece.last && form.inline_tail() && only_plain {
                    open.tail = tail.to_vec();
                } else {
                    self.writer.write(tail).map_err(PipelineError::Write)?;
                    self.writer.pad_to_block().map_err(PipelineError::Write)?;
                }
            }
            // Another file with this content was committed before and is not known: its form differs (see `Identity`),
            // so this one would have been encoded. Only a lost task can bring us here.
            DoneContent::SeenEarlier => return Err(PipelineError::WorkerLost),
        }
        if !piece.last {
            open.digests.update(&piece.digest);
            self.open = Some(open);
            return Ok(());
        }
        let digest = if piece.first {
            piece.digest
        } else {
            open.digests.update(&piece.digest);
            let digest = *open.digests.finalize().as_bytes();
            self.content.update(&digest);
            digest
        };
        self.close(
            open,
            piece.number,
            &piece.treatment,
            (piece.size, digest, form),
        )
    }

    /// A file's last piece is written: records where it is, or takes it back when it was there already.
    fn close(
        &mut self,
        open: OpenFile,
        number: u32,
        treatment: &Treatment,
        identity: Identity,
    ) -> Result<(), PipelineError> {
        let bits = self.settings.block_bits;
        let OpenFile {
            start,
            extents,
            tail,
            ..
        } = open;
        if let Some(known) = self.known.get(&identity) {
            self.writer.rewind(start.0 << bits.bits());
            return self.share(*known, number);
        }
        let blocks = self.writer.block().0 - start.0;
        if self.writer.block().0 > u64::from(u32::MAX) {
            return Err(PipelineError::TooLarge);
        }
        let data = match treatment {
            Treatment::Chunked(map) => StoredData::Chunked {
                start,
                map: Arc::new(ChunkMap::clone(map)),
            },
            Treatment::Compressed { .. } if extents.iter().any(|extent| !extent.is_plain()) => {
                StoredData::Compressed {
                    start,
                    blocks,
                    extents: extents.into(),
                }
            }
            Treatment::Flat { .. } | Treatment::Compressed { .. } => {
                let tail = if tail.is_empty() {
                    None
                } else {
                    Some(
                        self.stored
                            .tails
                            .push(&tail)
                            .map_err(PipelineError::Write)?,
                    )
                };
                StoredData::Flat { start, tail }
            }
        };
        // Sharing saves nothing when all is inlined anyway.
        if self.settings.dedupe && blocks > 0 {
            self.known.insert(identity, number);
        }
        self.record(number, data);
        Ok(())
    }

    fn share(&mut self, known: u32, number: u32) -> Result<(), PipelineError> {
        self.stored.duplicates += 1;
        let data = self.stored.files[known as usize].clone();
        self.record(number, data);
        Ok(())
    }

    /// Files come in the order of their numbers.
    fn record(&mut self, number: u32, data: StoredData) {
        debug_assert_eq!(self.stored.files.len(), number as usize);
        self.stored.files.push(data);
    }
}
