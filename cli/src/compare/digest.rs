//! Digests of contents, cheap for holes of any size.

/// What a file is hashed in.
const BLOCK: usize = 64 << 10;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Digest of a content: equal for equal bytes, wherever the holes are.
pub(crate) type Digest = blake3::Hash;

/// Takes a content from its start to its end.
///
/// Whole blocks of zeros are counted and not hashed, so that a hole costs nothing: what is hashed is a sequence of runs,
/// each a count of zero blocks and a block of data. The last block may be short.
#[derive(Debug, Default)]
pub(crate) struct Digester {
    hasher: blake3::Hasher,
    /// The beginning of the block that is being taken.
    block: Vec<u8>,
    zero_blocks: u64,
}

impl Digester {
    /// Takes bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.block.is_empty() && bytes.len() >= BLOCK {
                let (block, rest) = bytes.split_at(BLOCK);
                self.take(block);
                bytes = rest;
                continue;
            }
            let (part, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(part);
            bytes = rest;
            if self.block.len() == BLOCK {
                self.take_own();
            }
        }
    }

    /// Takes this many zeros.
    pub(crate) fn zeros(&mut self, mut count: u64) {
        if !self.block.is_empty() {
            let part = count.min((BLOCK - self.block.len()) as u64);
            self.block
                .resize(self.block.len() + usize::try_from(part).unwrap_or(0), 0);
            count -= part;
            if self.block.len() < BLOCK {
                return;
            }
            self.take_own();
        }
        self.zero_blocks += count / BLOCK as u64;
        let rest = usize::try_from(count % BLOCK as u64).unwrap_or(0);
        self.block.resize(rest, 0);
    }

    /// The digest of everything that was taken.
    pub(crate) fn finish(mut self) -> Digest {
        let last = std::mem::take(&mut self.block);
        self.run(&last);
        self.hasher.finalize()
    }

    fn take_own(&mut self) {
        let mut block = std::mem::take(&mut self.block);
        self.take(&block);
        block.clear();
        self.block = block;
    }

    fn take(&mut self, block: &[u8]) {
        if block == ZEROS {
            self.zero_blocks += 1;
        } else {
            self.run(block);
        }
    }

    fn run(&mut self, block: &[u8]) {
        self.hasher.update(&self.zero_blocks.to_le_bytes());
        self.hasher.update(block);
        self.zero_blocks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(parts: &[(&[u8], u64)]) -> Digest {
        let mut digester = Digester::default();
        for (bytes, zeros) in parts {
            digester.update(bytes);
            digester.zeros(*zeros);
        }
        digester.finish()
    }

    #[test]
    fn holes_are_zeros() {
        for zeros in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            for before in [0, 1, 100, BLOCK - 1, BLOCK, 2 * BLOCK + 1] {
                let start = vec![b'x'; before];
                let holes = digest(&[(&start, zeros as u64), (b"end", 0)]);
                let mut bytes = start.clone();
                bytes.resize(before + zeros, 0);
                bytes.extend_from_slice(b"end");
                assert_eq!(holes, digest(&[(&bytes, 0)]), "{before} + {zeros}");
                let mut slowly = Digester::default();
                for piece in bytes.chunks(777) {
                    slowly.update(piece);
                }
                assert_eq!(holes, slowly.finish());
            }
        }
    }

    #[test]
    fn where_the_zeros_are_matters() {
        let block = BLOCK as u64;
        let all = [
            digest(&[(b"a", 0), (b"b", 0)]),
            digest(&[(b"a", 1), (b"b", 0)]),
            digest(&[(b"a", block), (b"b", 0)]),
            digest(&[(b"a", 2 * block), (b"b", 0)]),
            digest(&[(b"", 2 * block)]),
            digest(&[(b"", 3 * block)]),
            digest(&[(b"", 3 * block + 1)]),
            digest(&[(b"", 1 << 62)]),
            digest(&[]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(one));
        }
    }
}
