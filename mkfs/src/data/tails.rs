//! Tails that wait to be inlined behind their inodes: in memory up to a limit, then in an unlinked temporary file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
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
    memory: Vec<u8>,
    /// Bytes in `spill`, which come before those in memory.
    spilled: u64,
    spill: Option<File>,
    limit: usize,
    folder: PathBuf,
}

impl Tails {
    /// Keeps up to `limit` bytes in memory; more goes to a nameless file in `folder`.
    pub fn new(limit: usize, folder: PathBuf) -> Self {
        Self {
            memory: Vec::new(),
            spilled: 0,
            spill: None,
            limit,
            folder,
        }
    }

    /// Keeps a tail of less than 64 KiB.
    ///
    /// # Errors
    /// When the temporary file cannot be made or written.
    pub fn push(&mut self, tail: &[u8]) -> io::Result<TailRef> {
        let length = u16::try_from(tail.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "tail of a block or more"))?;
        if self.memory.len() + tail.len() > self.limit {
            let spill = match self.spill.take() {
                Some(file) => file,
                None => tempfile::tempfile_in(&self.folder)?,
            };
            spill.write_all_at(&self.memory, self.spilled)?;
            self.spilled += self.memory.len() as u64;
            self.memory.clear();
            self.spill = Some(spill);
        }
        let position = self.spilled + self.memory.len() as u64;
        self.memory.extend_from_slice(tail);
        Ok(TailRef { position, length })
    }

    /// Appends a tail to `out`.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub fn read(&self, tail: TailRef, out: &mut Vec<u8>) -> io::Result<()> {
        let start = out.len();
        if let Some(offset) = tail.position.checked_sub(self.spilled) {
            let offset = offset as usize;
            out.extend_from_slice(&self.memory[offset..offset + usize::from(tail.length)]);
            return Ok(());
        }
        out.resize(start + usize::from(tail.length), 0);
        match &self.spill {
            Some(file) => file.read_exact_at(&mut out[start..], tail.position),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_come_back_from_memory_and_from_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut tails = Tails::new(1000, directory.path().to_path_buf());
        let texts: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; usize::from(n) * 3]).collect();
        let refs: Vec<_> = texts.iter().map(|text| tails.push(text).unwrap()).collect();
        assert!(tails.spilled > 0 && !tails.memory.is_empty());
        for (text, tail) in texts.iter().zip(refs) {
            let mut out = b"before".to_vec();
            tails.read(tail, &mut out).unwrap();
            assert_eq!(out[6..], text[..]);
        }
        assert!(
            std::fs::read_dir(directory.path())
                .unwrap()
                .next()
                .is_none()
        );
        assert!(tails.push(&[0; 65536]).is_err());
    }
}
