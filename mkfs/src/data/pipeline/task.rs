//! What travels through the pipeline.

use super::{Digest, FileContent, Fingerprint, PipelineError};
use crate::data::compression::Method;
use crate::data::encode::EncodedSegment;
use crate::data::fragments::Fragment;
use crate::data::sharing::{self, Chunk};
use crate::data::treatment::Treatment;
use crate::tree::DataRange;
use erofs_format::compression::Algorithm;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// One file, or a part of it, as a worker gets it.
pub(super) struct Piece {
    pub(super) number: u32,
    pub(super) treatment: Arc<Treatment>,
    pub(super) first: bool,
    pub(super) last: bool,
    pub(super) size: u64,
    /// Where in the file it begins, in bytes.
    pub(super) offset: u64,
    pub(super) path: Arc<[u8]>,
    pub(super) data: PieceData,
}

pub(super) enum PieceData {
    Bytes(Vec<u8>),
    Read {
        file: Arc<FileContent>,
        range: DataRange,
    },
}

pub(super) struct Task {
    pub(super) sequence: u64,
    pub(super) pieces: Vec<Piece>,
}

/// A piece as the committer gets it.
pub(super) struct DonePiece {
    pub(super) number: u32,
    pub(super) treatment: Arc<Treatment>,
    pub(super) first: bool,
    pub(super) last: bool,
    pub(super) size: u64,
    /// Where in the file it begins, in bytes.
    pub(super) offset: u64,
    pub(super) read: u64,
    pub(super) digest: Digest,
    pub(super) fingerprint: PieceFingerprint,
    pub(super) content: DoneContent,
}

/// What a piece adds to the fingerprint of its file.
pub(super) enum PieceFingerprint {
    /// None is wanted.
    Unwanted,
    /// It is the file's.
    Whole(Fingerprint),
    /// All its bytes, which have to be digested in the order of the file.
    Part(Vec<u8>),
}

pub(super) enum DoneContent {
    Plain(Vec<u8>),
    /// Pclusters; the file's tail when that is to become a fragment; what it takes to find the like of the rest.
    Encoded(EncodedSegment, Option<Fragment>, Option<Content>),
    /// The whole file.
    Fragment(Fragment),
    /// A single-piece file that an earlier task holds as well.
    SeenEarlier,
}

/// What was encoded, when extents are to be shared.
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) chunks: Vec<Chunk>,
}

impl Content {
    pub(super) fn new(bytes: Vec<u8>, algorithm: Algorithm) -> Self {
        let chunks = sharing::chunks(&bytes, algorithm);
        Self { bytes, chunks }
    }
}

pub(super) struct Done {
    pub(super) sequence: u64,
    pub(super) pieces: Result<Vec<DonePiece>, PipelineError>,
}

/// What files must have in common to share their data: size, content and form.
pub(super) type Identity = (u64, Digest, Form);

/// Forms in which the same content may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    Flat {
        inline_tail: bool,
    },
    Compressed {
        inline_tail: bool,
        method: Method,
        pack_tail: bool,
        tail_room: u16,
    },
    Chunked,
    Packed,
}

impl Form {
    pub(super) fn of(treatment: &Treatment) -> Self {
        match *treatment {
            Treatment::Flat { inline_tail } => Self::Flat { inline_tail },
            Treatment::Compressed {
                inline_tail,
                method,
                pack_tail,
                tail_room,
            } => Self::Compressed {
                inline_tail,
                method,
                pack_tail,
                tail_room,
            },
            Treatment::Chunked(_) => Self::Chunked,
            Treatment::Packed => Self::Packed,
        }
    }

    /// Whether equal digests prove equal content. Otherwise they only make it likely.
    pub(super) fn is_proof(self) -> bool {
        matches!(self, Self::Compressed { .. })
    }

    /// Room for an encoded tail behind the index, in bytes.
    pub(super) fn tail_room(self) -> usize {
        match self {
            Self::Compressed { tail_room, .. } => tail_room.into(),
            Self::Flat { .. } | Self::Chunked | Self::Packed => 0,
        }
    }

    pub(super) fn inline_tail(self) -> bool {
        matches!(
            self,
            Self::Flat { inline_tail: true }
                | Self::Compressed {
                    inline_tail: true,
                    ..
                }
        )
    }
}

/// For each content the first place where it was seen: task and piece.
pub(super) type SeenFiles = Mutex<HashMap<Identity, (u64, usize)>>;
