//! Bytes that wait until all data has been read: in memory up to a limit, then in an unlinked temporary file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Pieces of data, found again by their positions.
#[derive(Debug, Default)]
pub struct Spool {
    memory: Vec<u8>,
    /// Bytes in `spill`, which come before those in memory.
    spilled: u64,
    spill: Option<File>,
    limit: usize,
    folder: PathBuf,
}

impl Spool {
    /// Keeps up to `limit` bytes in memory, or one piece that is larger; more goes to a nameless file in `folder`.
    pub fn new(limit: usize, folder: PathBuf) -> Self {
        Self {
            memory: Vec::new(),
            spilled: 0,
            spill: None,
            limit,
            folder,
        }
    }

    /// Keeps `piece` and returns its position.
    ///
    /// # Errors
    /// When the temporary file cannot be made or written.
    pub fn push(&mut self, piece: &[u8]) -> io::Result<u64> {
        if self.memory.len() + piece.len() > self.limit && !self.memory.is_empty() {
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
        self.memory.extend_from_slice(piece);
        Ok(position)
    }

    /// Appends `length` bytes from `position` on, all of one piece, to `out`.
    ///
    /// # Errors
    /// When the temporary file cannot be read; [`io::ErrorKind::UnexpectedEof`] for what was never kept.
    pub fn read(&self, position: u64, length: usize, out: &mut Vec<u8>) -> io::Result<()> {
        if let Some(offset) = position.checked_sub(self.spilled) {
            let piece = usize::try_from(offset)
                .ok()
                .and_then(|offset| self.memory.get(offset..)?.get(..length));
            out.extend_from_slice(piece.ok_or(io::ErrorKind::UnexpectedEof)?);
            return Ok(());
        }
        let start = out.len();
        out.resize(start + length, 0);
        match &self.spill {
            Some(file) => file.read_exact_at(out.get_mut(start..).unwrap_or_default(), position),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_from_memory_and_from_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(1000, directory.path().to_path_buf());
        let pieces: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; usize::from(n) * 30]).collect();
        let positions: Vec<u64> = pieces
            .iter()
            .map(|piece| spool.push(piece).unwrap())
            .collect();
        assert!(spool.spilled > 0 && !spool.memory.is_empty());
        for (piece, position) in pieces.iter().zip(positions) {
            let mut out = b"before".to_vec();
            spool.read(position, piece.len(), &mut out).unwrap();
            assert_eq!(out[6..], piece[..]);
        }
        assert!(
            std::fs::read_dir(directory.path())
                .unwrap()
                .next()
                .is_none()
        );
        let end = spool.spilled + spool.memory.len() as u64;
        assert!(spool.read(end, 1, &mut Vec::new()).is_err());
    }
}
