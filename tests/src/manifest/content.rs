//! A digest of file content that costs nothing for holes yet reads every byte.
//!
//! SHA-256 over the offset (64 bits, little endian) and the bytes of each 64 KiB chunk that is not all
//! zeros, followed by the size. Holes and stored zeros are the same content, as they are for any reader.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::tree::Content;

const CHUNK: usize = 64 << 10;
static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// Digest and number of the bytes that `file` yields until its end.
///
/// # Errors
/// Those of reading.
pub fn of_file(file: &mut impl Read) -> io::Result<([u8; 32], u64)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        let mut filled = 0;
        while filled < CHUNK {
            match file.read(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        add(&mut hash, size, &buffer[..filled]);
        size += filled as u64;
        if filled < CHUNK {
            hash.update(size.to_le_bytes());
            return Ok((hash.finalize().into(), size));
        }
    }
}

/// Digest of modelled content, without ever building the holes.
pub(super) fn of_model(content: &Content) -> [u8; 32] {
    let mut hash = Sha256::new();
    let chunk = CHUNK as u64;
    let mut next = 0;
    for (offset, bytes) in &content.pieces {
        let end = offset + bytes.len() as u64;
        for index in next.max(offset / chunk)..end.div_ceil(chunk) {
            let start = index * chunk;
            let length = chunk.min(content.size - start);
            let mut buffer = vec![0; length as usize];
            for (offset, bytes) in &content.pieces {
                let (from, to) = (
                    start.max(*offset),
                    (start + length).min(offset + bytes.len() as u64),
                );
                if from < to {
                    buffer[(from - start) as usize..(to - start) as usize]
                        .copy_from_slice(&bytes[(from - offset) as usize..(to - offset) as usize]);
                }
            }
            add(&mut hash, start, &buffer);
            next = index + 1;
        }
    }
    hash.update(content.size.to_le_bytes());
    hash.finalize().into()
}

fn add(hash: &mut Sha256, offset: u64, chunk: &[u8]) {
    // One comparison of memory: this runs over gigabytes of holes.
    if *chunk != ZEROS[..chunk.len()] {
        hash.update(offset.to_le_bytes());
        hash.update(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_and_its_bytes_have_one_digest() {
        let cases = [
            (0, vec![]),
            (1, vec![(0, vec![7])]),
            (300_000, vec![]),
            (
                300_000,
                vec![(65_530, vec![1; 12]), (65_550, vec![2]), (299_999, vec![3])],
            ),
            (65_536, vec![(0, vec![9; 65_536])]),
            (65_537, vec![(65_536, vec![0])]),
        ];
        for (size, pieces) in cases {
            let mut bytes = vec![0; size];
            for (offset, piece) in &pieces {
                bytes[*offset as usize..*offset as usize + piece.len()].copy_from_slice(piece);
            }
            let (digest, length) = of_file(&mut bytes.as_slice()).expect("memory reads");
            let content = Content::sparse(size as u64, pieces);
            assert_eq!((digest, length), (of_model(&content), size as u64));
        }
    }

    #[test]
    fn zeros_in_another_place_are_another_content() {
        let digest = |content: &Content| of_model(content);
        let a = Content::sparse(200_000, vec![(0, vec![1])]);
        let b = Content::sparse(200_000, vec![(131_072, vec![1])]);
        let c = Content::sparse(200_001, vec![(0, vec![1])]);
        assert_ne!(digest(&a), digest(&b));
        assert_ne!(digest(&a), digest(&c));
    }
}
