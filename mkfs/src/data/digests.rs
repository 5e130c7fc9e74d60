//! Digests of what was read from sources, piece by piece: a finished image is verified against them.

use super::pipeline::Digest;
use super::treatment::Treatment;
use crate::tree::DataRange;
use xxhash_rust::xxh3::xxh3_128;

/// How a piece is digested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// For files that will be compressed: they are compared by it alone, before they are encoded, so nobody must be able to
    /// make two of them alike.
    Blake3,
    /// For the rest it only finds candidates, whose bytes the committer compares: that may be the fastest there is.
    Xxh3,
}

impl Hash {
    /// That of files stored so.
    pub const fn of(treatment: &Treatment) -> Self {
        match treatment {
            Treatment::Compressed { .. } => Self::Blake3,
            Treatment::Flat { .. } | Treatment::Chunked(_) | Treatment::Packed => Self::Xxh3,
        }
    }

    /// Digest of `bytes`.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        match self {
            Self::Blake3 => *blake3::hash(bytes).as_bytes(),
            Self::Xxh3 => {
                let mut digest = [0; 32];
                digest[..16].copy_from_slice(&xxh3_128(bytes).to_le_bytes());
                digest
            }
        }
    }
}

/// What a piece counts at least, in bytes, so that a limit of data is one of memory too: a piece takes 40 bytes.
const LEAST: u64 = 512;

/// A piece of a file, as it was read. Half of a digest is enough to see what chance has changed.
#[derive(Debug, Clone, Copy)]
pub struct PieceDigest {
    /// Number of the file.
    file: u32,
    hash: Hash,
    /// Where in the file.
    pub range: DataRange,
    digest: [u8; 16],
}

impl PieceDigest {
    /// Of `range` of file number `file`.
    pub fn new(file: u32, hash: Hash, range: DataRange, digest: &Digest) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Self {
            file,
            hash,
            range,
            digest: half,
        }
    }

    /// Whether these are the bytes that were read.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        self.hash.digest(bytes)[..16] == self.digest
    }
}

/// The digests of all pieces, unless there is more data than they are kept for.
#[derive(Debug, Default)]
pub struct Digests {
    /// By file, then by offset; `None` when there was too much.
    pieces: Option<Vec<PieceDigest>>,
    /// Bytes of data that may still come.
    left: u64,
}

impl Digests {
    /// Keeps those of up to `limit` bytes of data, in pieces of 512 bytes or more; of more, none.
    pub fn of_up_to(limit: u64) -> Self {
        Self {
            pieces: (limit > 0).then(Vec::new),
            left: limit,
        }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: PieceDigest) {
        match self.left.checked_sub(piece.range.length.max(LEAST)) {
            Some(left) => self.left = left,
            None => self.pieces = None,
        }
        if let Some(pieces) = &mut self.pieces {
            pieces.push(piece);
        }
    }

    /// Whether all are there.
    pub const fn are_kept(&self) -> bool {
        self.pieces.is_some()
    }

    /// Those of file number `file`, by ascending offset; what lies between them is zeros.
    pub fn of_file(&self, file: u32) -> &[PieceDigest] {
        let pieces = self.pieces.as_deref().unwrap_or_default();
        let start = pieces.partition_point(|piece| piece.file < file);
        let rest = pieces.get(start..).unwrap_or_default();
        let length = rest.partition_point(|piece| piece.file == file);
        rest.get(..length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(file: u32, offset: u64, bytes: &[u8]) -> PieceDigest {
        let length = bytes.len() as u64;
        let range = DataRange { offset, length };
        PieceDigest::new(file, Hash::Xxh3, range, &Hash::Xxh3.digest(bytes))
    }

    #[test]
    fn pieces_are_found_by_file_and_known_by_their_bytes() {
        let mut digests = Digests::of_up_to(3 * LEAST);
        for (file, offset, bytes) in [(0, 0, b"one"), (2, 0, b"two"), (2, 3, b"end")] {
            digests.push(piece(file, offset, bytes));
        }
        assert!(digests.are_kept() && digests.of_file(1).is_empty());
        assert_eq!(digests.of_file(2).len(), 2);
        assert!(digests.of_file(2)[1].is_of(b"end") && !digests.of_file(2)[1].is_of(b"enD"));
        digests.push(piece(3, 0, b"!"));
        assert!(!digests.are_kept());
    }
}
