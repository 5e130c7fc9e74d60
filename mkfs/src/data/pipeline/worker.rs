//! A worker: reads pieces of files, digests and compresses them.

use super::task::{
    Content, Done, DoneContent, DonePiece, Form, Identity, Piece, PieceData, PieceFingerprint,
    SeenFiles, Task,
};
use super::{ContentReader, FileContent, PipelineError, Settings};
use crate::data::compression::Method;
use crate::data::digests::Hash;
use crate::data::encode::{self, EncodedSegment, StoredExtent, encode_segment};
use crate::data::fragments::Fragment;
use crate::data::treatment::Treatment;
use crate::tree::DataRange;
use crossbeam_channel::{Receiver, Sender};
use erofs_codec::{EncodeError, Encoder};
use erofs_format::compression::Algorithm;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Buffers from this size on are used again.
pub(super) const RECYCLED_SIZE: u64 = 128 << 10;

pub(super) struct Worker<'scope> {
    pub(super) settings: Arc<Settings>,
    pub(super) reader: Arc<dyn ContentReader + 'scope>,
    pub(super) seen: Arc<SeenFiles>,
    /// One for each way in which files are compressed.
    pub(super) encoders: HashMap<Method, Box<dyn Encoder>>,
    /// Buffers that were written and can be used again, their memory still at hand.
    pub(super) fresh: Receiver<Vec<u8>>,
}

impl Worker<'_> {
    pub(super) fn run(mut self, tasks: &Receiver<Task>, done: &Sender<Done>) {
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
            offset,
            path,
            data,
        } = piece;
        let bytes = match data {
            PieceData::Bytes(bytes) => bytes,
            PieceData::Read { file, range } => self.read(&file, range)?,
        };
        let digest = Hash::of(&treatment).digest(&bytes);
        let read = bytes.len() as u64;
        let fingerprint = match (self.settings.fingerprints, first && last) {
            (false, _) => PieceFingerprint::Unwanted,
            (true, true) if read == size => PieceFingerprint::Whole(Sha256::digest(&bytes).into()),
            (true, true) => PieceFingerprint::Unwanted,
            (true, false) => PieceFingerprint::Part(bytes.clone()),
        };
        let content = match *treatment {
            Treatment::Compressed {
                method,
                pack_tail,
                tail_room,
                ..
            } => {
                if first
                    && last
                    && self.settings.dedupe
                    && self.seen_earlier(order, (size, digest, Form::of(&treatment)))
                {
                    DoneContent::SeenEarlier
                } else {
                    let mut encoded =
                        self.encode(&bytes, method, pack_tail && last)
                            .map_err(|source| PipelineError::Encode {
                                path: path.to_vec(),
                                source,
                            })?;
                    // A map header has room for one of both.
                    if last && encoded.tail.is_empty() {
                        encoded.inline_last(tail_room.into(), self.settings.block_bits);
                    }
                    let algorithm = method.settings.algorithm();
                    self.smaller(encoded, bytes, algorithm, first && last, &path)
                }
            }
            Treatment::Packed => DoneContent::Fragment(Fragment::new(&path, bytes)),
            Treatment::Flat { .. } | Treatment::Chunked(_) => DoneContent::Plain(bytes),
        };
        Ok(DonePiece {
            number,
            treatment,
            first,
            last,
            size,
            offset,
            read,
            digest,
            fingerprint,
            content,
        })
    }

    fn read(&self, file: &FileContent, range: DataRange) -> Result<Vec<u8>, PipelineError> {
        let mut bytes = match range.length {
            ..RECYCLED_SIZE => Vec::new(),
            _ => self.fresh.try_recv().unwrap_or_default(),
        };
        bytes.clear();
        bytes.reserve(range.length as usize);
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
        method: Method,
        pack_tail: bool,
    ) -> Result<EncodedSegment, EncodeError> {
        let encoder = match self.encoders.entry(method) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(method.encoder()?),
        };
        let form = encode::Form {
            block_bits: self.settings.block_bits,
            max_pcluster: method.max_pcluster,
            max_extent: method.max_extent,
            sample: method.settings.is_worth_sampling(),
            pack_tail,
        };
        encode_segment(&mut **encoder, bytes, form)
    }

    /// Chooses between the encoded and the plain form of a piece.
    fn smaller(
        &self,
        mut encoded: EncodedSegment,
        bytes: Vec<u8>,
        algorithm: Algorithm,
        whole_file: bool,
        path: &[u8],
    ) -> DoneContent {
        /// Map header and index of a small file.
        const INDEX_SIZE: u64 = 24;
        let bits = self.settings.block_bits;
        let tail = std::mem::take(&mut encoded.tail);
        if tail.len() == bytes.len() {
            // In front of a fragment all may be plain: the committer knows.
            return match whole_file {
                true => DoneContent::Fragment(Fragment::new(path, tail)),
                false => DoneContent::Encoded(encoded, Some(Fragment::new(path, tail)), None),
            };
        }
        let plain_only = encoded.extents.iter().all(StoredExtent::is_plain);
        let index = INDEX_SIZE + 4 * bits.blocks_for(bytes.len() as u64);
        let stored = encoded.bytes.len() + encoded.inlined.len() + tail.len();
        if plain_only || whole_file && stored as u64 + index >= bytes.len() as u64 {
            return DoneContent::Plain(bytes);
        }
        let fragment = (!tail.is_empty()).then(|| Fragment::new(path, tail));
        let share = self.settings.share_extents;
        let content = share.then(|| Content::new(bytes, algorithm));
        DoneContent::Encoded(encoded, fragment, content)
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
