//! The archive as a sequence of blocks: from a file, where data is jumped over, or from a stream.

use super::header::{BLOCK_SIZE, Block};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Most bytes read at once.
const LARGEST_READ: usize = 512 << 10;
/// Bytes read after a jump: the data of the next file may be large as well.
const SMALLEST_READ: usize = 4 << 10;
/// A jump over fewer bytes past what is buffered is as good as reading on.
const NEAR: u64 = 64 << 10;

/// Why no bytes came.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The archive ends here, too early.
    Truncated,
    /// The system says so.
    Io(io::Error),
}

/// Where the bytes come from.
pub(super) enum Source<'a> {
    /// A regular file of `length` bytes.
    File {
        /// The file.
        file: &'a File,
        /// Its size in bytes.
        length: u64,
    },
    /// Something that can only be read on.
    Stream(&'a mut (dyn Read + Send)),
}

/// Buffered blocks with their position.
pub(super) struct Input<'a> {
    source: Source<'a>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Offset in the archive of `buffer[start]`.
    position: u64,
    window: usize,
    /// Bytes that [`Input::drain`] read.
    drained: u64,
}

impl<'a> Input<'a> {
    pub(super) fn new(source: Source<'a>) -> Self {
        let window = match source {
            Source::File { .. } => SMALLEST_READ,
            Source::Stream(_) => LARGEST_READ,
        };
        Self {
            source,
            buffer: vec![0; LARGEST_READ].into(),
            start: 0,
            end: 0,
            position: 0,
            window,
            drained: 0,
        }
    }

    /// Bytes of a stream behind its position that were read to come to its end.
    pub(super) const fn drained(&self) -> u64 {
        self.drained
    }

    /// Offset in the archive of what is read next.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// The next block; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] at the end, when there is a part of a block.
    pub(super) fn block(&mut self) -> Result<Option<&Block>, ReadError> {
        if self.end - self.start < BLOCK_SIZE {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < BLOCK_SIZE {
                match self.fill()? {
                    0 if self.end == 0 => return Ok(None),
                    0 => {
                        self.consume(self.end);
                        return Err(ReadError::Truncated);
                    }
                    _ => {}
                }
            }
        }
        let from = self.start;
        self.consume(BLOCK_SIZE);
        Ok(self
            .buffer
            .get(from..)
            .and_then(|bytes| bytes.first_chunk()))
    }

    /// Jumps over `count` bytes.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when there are fewer; then the position is at the end.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), ReadError> {
        let mut left = count - self.consume_up_to(count);
        if left == 0 {
            return Ok(());
        }
        if let Source::File { length, .. } = self.source {
            self.window = match left {
                0..NEAR => (self.window * 2).min(LARGEST_READ),
                _ => SMALLEST_READ,
            };
            match self.position.checked_add(left) {
                Some(target) if target <= length => self.position = target,
                _ => {
                    self.position = length;
                    return Err(ReadError::Truncated);
                }
            }
            return Ok(());
        }
        while left > 0 {
            (self.start, self.end) = (0, 0);
            if self.fill()? == 0 {
                return Err(ReadError::Truncated);
            }
            left -= self.consume_up_to(left);
        }
        Ok(())
    }

    /// Reads up to `out.len()` bytes; 0 at the end only.
    ///
    /// # Errors
    /// Those of the source.
    pub(super) fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end {
            if out.len() >= NEAR as usize {
                let count = read_source(&mut self.source, self.position, out)?;
                self.position += count as u64;
                return Ok(count);
            }
            (self.start, self.end) = (0, 0);
            self.fill().map_err(|error| match error {
                ReadError::Io(error) => error,
                ReadError::Truncated => io::ErrorKind::UnexpectedEof.into(),
            })?;
        }
        let count = out.len().min(self.end - self.start);
        if let (Some(out), Some(bytes)) = (
            out.get_mut(..count),
            self.buffer.get(self.start..self.start + count),
        ) {
            out.copy_from_slice(bytes);
        }
        self.consume(count);
        Ok(count)
    }

    /// Appends `count` bytes to `out`, which grows only as they come.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when there are fewer.
    pub(super) fn append(&mut self, count: u64, out: &mut Vec<u8>) -> Result<(), ReadError> {
        let mut left = count;
        while left > 0 {
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
                if self.fill()? == 0 {
                    return Err(ReadError::Truncated);
                }
            }
            let bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
            let bytes = bytes
                .get(..usize::try_from(left).unwrap_or(usize::MAX))
                .unwrap_or(bytes);
            out.extend_from_slice(bytes);
            let count = bytes.len();
            self.consume(count);
            left -= count as u64;
        }
        Ok(())
    }

    /// Reads a stream to its end, so that its writer can finish and the checksums of compressed data count.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub(super) fn drain(&mut self) -> Result<(), ReadError> {
        if matches!(self.source, Source::Stream(_)) {
            loop {
                self.drained += (self.end - self.start) as u64;
                (self.start, self.end) = (0, 0);
                if self.fill()? == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads more behind `end`; returns how much.
    fn fill(&mut self) -> Result<usize, ReadError> {
        let limit = self.window.max(self.end + BLOCK_SIZE).min(LARGEST_READ);
        if self.start == 0 && self.end == 0 {
            self.window = (self.window * 2).min(LARGEST_READ);
        }
        let offset = self.position + (self.end - self.start) as u64;
        let room = self.buffer.get_mut(self.end..limit).unwrap_or_default();
        let count = read_source(&mut self.source, offset, room).map_err(ReadError::Io)?;
        self.end += count;
        Ok(count)
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        self.position += count as u64;
    }

    fn consume_up_to(&mut self, count: u64) -> u64 {
        let here = (self.end - self.start).min(usize::try_from(count).unwrap_or(usize::MAX));
        self.consume(here);
        here as u64
    }
}

fn read_source(source: &mut Source<'_>, offset: u64, out: &mut [u8]) -> io::Result<usize> {
    loop {
        let result = match source {
            Source::File { file, .. } => file.read_at(out, offset),
            Source::Stream(reader) => reader.read(out),
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn bytes() -> Vec<u8> {
        (0..3_000_000u32).map(|n| (n / 512) as u8).collect()
    }

    fn in_both(check: impl Fn(&mut Input<'_>)) {
        let mut file = File::from(
            rustix::fs::memfd_create("tar", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd"),
        );
        file.write_all(&bytes()).expect("memory");
        check(&mut Input::new(Source::File {
            file: &file,
            length: bytes().len() as u64,
        }));
        check(&mut Input::new(Source::Stream(&mut bytes().as_slice())));
    }

    #[test]
    fn blocks_jumps_and_reads_keep_the_position() {
        let bytes = bytes();
        in_both(|input| {
            for jump in [0u64, 1, 511, 4096, 70_000, 600_000, 1_000_000, 512] {
                let at = input.position() as usize;
                assert_eq!(
                    input.block().expect("readable").map(|block| &block[..]),
                    Some(&bytes[at..at + 512])
                );
                input.skip(jump).expect("inside");
                assert_eq!(input.position(), at as u64 + 512 + jump);
            }
            let at = input.position() as usize;
            let mut out = vec![];
            input.append(1000, &mut out).expect("inside");
            assert_eq!(out, bytes[at..at + 1000]);
            for size in [10, 100_000] {
                let at = input.position() as usize;
                let mut out = vec![0; size];
                let count = input.read(&mut out).expect("readable");
                assert!(count > 0);
                assert_eq!(out[..count], bytes[at..at + count]);
            }
        });
    }

    #[test]
    fn the_end_is_told_from_truncation() {
        in_both(|input| {
            input.skip(3_000_000 - 1000).expect("inside");
            assert!(input.block().expect("inside").is_some());
            assert!(matches!(input.block(), Err(ReadError::Truncated)));
            assert_eq!(input.position(), 3_000_000);
            assert!(matches!(input.block(), Ok(None)));
            assert!(matches!(input.skip(1), Err(ReadError::Truncated)));
            assert!(matches!(input.skip(u64::MAX), Err(ReadError::Truncated)));
            assert!(matches!(
                input.append(1, &mut vec![]),
                Err(ReadError::Truncated)
            ));
            assert_eq!(input.read(&mut [0; 10]).expect("the end is no error"), 0);
        });
    }
}
