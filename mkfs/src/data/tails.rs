//! Tails that wait to be inlined behind their inodes.

use super::spool::Spool;
use std::io;
use std::path::PathBuf;

/// Bytes of one tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailRef {
    position: u64,
    length: u16,
}

impl TailRef {
    /// Length in bytes, below a block.
    pub const fn size(self) -> u64 {
        self.length as u64
    }
}

/// All tails of an image, in the order in which they came.
#[derive(Debug)]
pub struct Tails {
    spool: Spool,
}

impl Tails {
    /// Keeps up to `limit` bytes in memory; more goes to a nameless file in `folder`.
    pub fn new(limit: usize, folder: PathBuf) -> Self {
        Self {
            spool: Spool::new(limit, folder),
        }
    }

    /// Keeps a tail of less than 64 KiB.
    ///
    /// # Errors
    /// When the temporary file cannot be made or written.
    pub fn push(&mut self, tail: &[u8]) -> io::Result<TailRef> {
        let length = u16::try_from(tail.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "tail of a block or more"))?;
        let position = self.spool.push(tail)?;
        Ok(TailRef { position, length })
    }

    /// Appends a tail to `out`.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub fn read(&self, tail: TailRef, out: &mut Vec<u8>) -> io::Result<()> {
        self.spool.read(tail.position, tail.length.into(), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_below_64_kib() {
        let mut tails = Tails::new(10, std::env::temp_dir());
        let tail = tails.push(b"tail").unwrap();
        let mut out = Vec::new();
        tails.read(tail, &mut out).unwrap();
        assert_eq!((tail.size(), &out[..]), (4, &b"tail"[..]));
        assert!(tails.push(&[0; 65536]).is_err());
    }
}
