//! The committer: takes finished pieces in order, drops duplicates, writes the rest.

use super::sharing::Sharing;
use super::task::{Done, DoneContent, DonePiece, Form, Identity, PieceFingerprint};
use super::worker::RECYCLED_SIZE;
use super::{Fingerprint, PipelineError, Settings, Stored};
use crate::data::digests::{Digests, Hash, PieceDigest};
use crate::data::encode::StoredExtent;
use crate::data::fragments::{Fragment, FragmentRef, Fragments};
use crate::data::tails::Tails;
use crate::data::treatment::{ChunkMap, Treatment};
use crate::data::writer::Writer;
use crate::data::{StoredData, StoredPclusters};
use crate::tree::DataRange;
use crossbeam_channel::{Receiver, Sender};
use erofs_format::BlockAddr;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file of which some pieces are written.
struct OpenFile {
    start: BlockAddr,
    digests: blake3::Hasher,
    extents: Vec<StoredExtent>,
    /// To be inlined.
    tail: Vec<u8>,
    fragment: Option<Fragment>,
    /// Segments before it that extents may be shared with.
    segments: usize,
}

pub(super) struct Committer<'w, 'o> {
    settings: Arc<Settings>,
    writer: &'w mut Writer<'o>,
    stored: Stored,
    known: HashMap<Identity, u32>,
    sharing: Sharing,
    open: Option<OpenFile>,
    content: blake3::Hasher,
    /// Digest of the file that comes in pieces, and how many of its bytes are in it.
    sha256: (Sha256, u64),
    /// Fingerprint of the file that is to be recorded next.
    fingerprint: Option<Fingerprint>,
    /// Buffers for workers to use again.
    spent: Sender<Vec<u8>>,
    progress: Arc<AtomicU64>,
}

impl<'w, 'o> Committer<'w, 'o> {
    pub(super) fn new(
        settings: Arc<Settings>,
        writer: &'w mut Writer<'o>,
        tails: Tails,
        fragments: Fragments,
        spent: Sender<Vec<u8>>,
        progress: Arc<AtomicU64>,
    ) -> Self {
        let files = Vec::new();
        let sharing = Sharing::new(settings.block_bits);
        let digests = Digests::of_up_to(settings.digested);
        Self {
            settings,
            writer,
            sha256: (Sha256::new(), 0),
            fingerprint: None,
            stored: Stored {
                files,
                fingerprints: Vec::new(),
                tails,
                fragments,
                bytes_in: 0,
                duplicates: 0,
                digest: [0; 32],
                digests,
            },
            known: HashMap::new(),
            sharing,
            open: None,
            content: blake3::Hasher::new(),
            spent,
            progress,
        }
    }

    pub(super) fn run(
        mut self,
        done: &Receiver<Done>,
        permits: &Sender<()>,
    ) -> Result<Stored, PipelineError> {
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
        self.stored.bytes_in += piece.read;
        self.progress.fetch_add(piece.read, Ordering::Relaxed);
        self.fingerprint = self.digest_in_order(&piece);
        let range = DataRange {
            offset: piece.offset,
            length: piece.read,
        };
        let hash = Hash::of(&piece.treatment);
        let digest = PieceDigest::new(piece.number, hash, range, &piece.digest);
        self.stored.digests.push(digest);
        let form = Form::of(&piece.treatment);
        if piece.first && piece.last {
            self.content.update(&piece.digest);
            let identity = (piece.size, piece.digest, form);
            if let Some(known) = self.known.get(&identity).filter(|_| form.is_proof()) {
                return self.share(*known, piece.number);
            }
        }
        let mut open = match self.open.take() {
            Some(open) if !piece.first => open,
            _ => {
                // What is inlined whole has no data to be aligned.
                if !form.inline_tail() || piece.size >= self.settings.block_bits.bytes() {
                    self.writer
                        .begin_file(piece.size)
                        .map_err(PipelineError::Write)?;
                }
                OpenFile {
                    start: self.writer.block(),
                    digests: blake3::Hasher::new(),
                    extents: Vec::new(),
                    tail: Vec::new(),
                    fragment: None,
                    segments: self.sharing.segments(),
                }
            }
        };
        match piece.content {
            DoneContent::Encoded(mut segment, fragment, content) => {
                if let (Some(content), Treatment::Compressed { method, .. }) =
                    (content, &*piece.treatment)
                {
                    let is_end = piece.last && fragment.is_none();
                    self.sharing
                        .share(&mut segment, &content, *method, is_end, self.writer.block())
                        .map_err(|source| PipelineError::Encode {
                            path: b"shared extents".to_vec(),
                            source,
                        })?;
                }
                self.writer
                    .write(&segment.bytes)
                    .map_err(PipelineError::Write)?;
                open.extents.extend(segment.extents);
                open.tail = segment.inlined;
                match fragment {
                    // A file of which nothing is encoded stays flat to its end.
                    Some(fragment) if open.extents.iter().all(StoredExtent::is_plain) => {
                        self.write_plain(&mut open, &fragment.bytes, piece.last, form)?;
                    }
                    fragment => open.fragment = fragment,
                }
            }
            DoneContent::Fragment(fragment) => open.fragment = Some(fragment),
            DoneContent::Plain(bytes) => {
                self.write_plain(&mut open, &bytes, piece.last, form)?;
                if bytes.len() as u64 >= RECYCLED_SIZE {
                    // When nobody needs it now, it is freed.
                    let _ = self.spent.try_send(bytes);
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

    /// The fingerprint of a file whose last piece this is.
    fn digest_in_order(&mut self, piece: &DonePiece) -> Option<Fingerprint> {
        match &piece.fingerprint {
            PieceFingerprint::Unwanted => None,
            PieceFingerprint::Whole(fingerprint) => Some(*fingerprint),
            PieceFingerprint::Part(bytes) => {
                if piece.first {
                    self.sha256 = (Sha256::new(), 0);
                }
                let (sha256, length) = &mut self.sha256;
                sha256.update(bytes);
                *length += bytes.len() as u64;
                (piece.last && *length == piece.size)
                    .then(|| std::mem::take(sha256).finalize().into())
            }
        }
    }

    /// Writes data as it is; a tail that is to be inlined is kept.
    fn write_plain(
        &mut self,
        open: &mut OpenFile,
        bytes: &[u8],
        last: bool,
        form: Form,
    ) -> Result<(), PipelineError> {
        let bits = self.settings.block_bits;
        let whole = bytes.len() - bits.offset_in_block(bytes.len() as u64) as usize;
        let (blocks, tail) = bytes.split_at(whole);
        self.writer.write(blocks).map_err(PipelineError::Write)?;
        let only_plain = open.extents.iter().all(StoredExtent::is_plain);
        if matches!(form, Form::Compressed { .. }) {
            open.extents.push(StoredExtent::plain(bytes.len()));
        }
        let inline = if only_plain {
            form.inline_tail()
        } else {
            tail.len() <= form.tail_room()
        };
        if last && inline {
            open.tail = tail.to_vec();
            return Ok(());
        }
        self.writer.write(tail).map_err(PipelineError::Write)?;
        self.writer.pad_to_block().map_err(PipelineError::Write)
    }

    /// Whether a file that was just written has the same bytes at the same places as the known one.
    fn is_same(
        &mut self,
        known: u32,
        start: BlockAddr,
        blocks: u64,
        treatment: &Treatment,
        tail: &[u8],
    ) -> Result<bool, PipelineError> {
        let (before, known_tail) = match (&self.stored.files[known as usize], treatment) {
            (StoredData::Flat { start, tail }, Treatment::Flat { .. }) => (*start, *tail),
            (StoredData::Chunked { start, map }, Treatment::Chunked(own)) if **map == *own => {
                (*start, None)
            }
            _ => return Ok(false),
        };
        let mut expected = Vec::new();
        if let Some(known_tail) = known_tail {
            let read = self.stored.tails.read(known_tail, &mut expected);
            read.map_err(PipelineError::Write)?;
        }
        Ok(expected == tail
            && self
                .writer
                .is_same(before, start, blocks)
                .map_err(PipelineError::Write)?)
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
            fragment,
            segments,
            ..
        } = open;
        let blocks = self.writer.block().0 - start.0;
        if let Some(known) = self.known.get(&identity).copied()
            && (identity.2.is_proof() || self.is_same(known, start, blocks, treatment, &tail)?)
        {
            self.writer.rewind(start.0 << bits.bits());
            self.sharing.forget(segments);
            return self.share(known, number);
        }
        if self.writer.block().0 > u64::from(u32::MAX) {
            return Err(PipelineError::TooLarge);
        }
        let tail = match &*tail {
            [] => None,
            tail => {
                let tail = self.stored.tails.push(tail);
                Some(tail.map_err(PipelineError::Write)?)
            }
        };
        let fragment = match fragment {
            Some(fragment) => Some(self.pack(&fragment, treatment)?),
            None => None,
        };
        let data = match (treatment, fragment) {
            (Treatment::Chunked(map), _) => StoredData::Chunked {
                start,
                map: Arc::new(ChunkMap::clone(map)),
            },
            (Treatment::Compressed { method, .. }, fragment)
                if extents.iter().any(|extent| !extent.is_plain()) =>
            {
                StoredData::Compressed(Box::new(StoredPclusters {
                    start,
                    blocks,
                    extents: extents.into(),
                    algorithm: method.settings.algorithm(),
                    interlaced: false,
                    fragment,
                    tail,
                }))
            }
            (_, Some(fragment)) => StoredData::Packed(fragment),
            (_, None) => StoredData::Flat { start, tail },
        };
        // Sharing saves nothing when all is inlined anyway. Fragments find their like by themselves, but workers rely on
        // knowing again what they have seen.
        if self.settings.dedupe && (blocks > 0 || identity.2.is_proof()) {
            self.known.insert(identity, number);
        }
        self.record(number, data);
        Ok(())
    }

    /// Puts the end of a file, or the whole of it, among the fragments.
    fn pack(
        &mut self,
        fragment: &Fragment,
        treatment: &Treatment,
    ) -> Result<FragmentRef, PipelineError> {
        let pushed = self.stored.fragments.push(fragment);
        let (place, same) = pushed.map_err(PipelineError::Write)?;
        if same && *treatment == Treatment::Packed {
            self.stored.duplicates += 1;
        }
        Ok(place)
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
        if self.settings.fingerprints {
            self.stored.fingerprints.push(self.fingerprint.take());
        }
    }
}
