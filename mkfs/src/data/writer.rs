//! Writes an image from front to back, in large pieces.

use super::output::Output;
use erofs_format::{BlockAddr, BlockBits};
use std::io;

/// Bytes that are gathered before they are written.
const BUFFER_SIZE: usize = 256 << 10;
/// From this size on a piece is written by itself: gathering it would cost more than another system call.
const DIRECT_SIZE: usize = 64 << 10;

/// Appends to an [`Output`]; every byte up to the current position is written, none twice unless taken back.
#[derive(Debug, Clone)]
pub struct Writer<'o> {
    output: &'o Output,
    /// Bytes in the file that are final.
    flushed: u64,
    buffer: Vec<u8>,
    block_bits: BlockBits,
    /// Data of a file begins at a multiple of so many bytes.
    alignment: u64,
    /// If the file is no smaller than so many bytes.
    aligned_from: u64,
}

impl<'o> Writer<'o> {
    /// Begins at byte `start`; what is before is written by somebody else.
    pub fn new(output: &'o Output, start: u64, block_bits: BlockBits) -> Self {
        Self {
            output,
            flushed: start,
            buffer: Vec::with_capacity(BUFFER_SIZE),
            block_bits,
            alignment: 1,
            aligned_from: 0,
        }
    }

    /// Lets data of files of `from` bytes or more begin at multiples of `blocks` blocks.
    #[must_use]
    pub fn with_alignment(mut self, blocks: u64, from: u64) -> Self {
        self.aligned_from = from;
        self.alignment = blocks.saturating_mul(self.block_bits.bytes()).max(1);
        self
    }

    /// Goes to where the data of a file of `size` bytes may begin.
    ///
    /// # Errors
    /// As the system says.
    pub fn begin_file(&mut self, size: u64) -> io::Result<()> {
        if size < self.aligned_from {
            return Ok(());
        }
        self.pad_to(self.position().next_multiple_of(self.alignment))
    }

    /// Where the next byte goes.
    pub fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// The block where the next byte goes; the position is at its start.
    pub fn block(&self) -> BlockAddr {
        debug_assert_eq!(self.block_bits.offset_in_block(self.position()), 0);
        BlockAddr(self.block_bits.whole_blocks(self.position()))
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// As the system says.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() >= DIRECT_SIZE {
            self.flush()?;
            self.output.write_at(self.flushed, bytes)?;
            self.flushed += bytes.len() as u64;
            return Ok(());
        }
        if self.buffer.len() + bytes.len() > BUFFER_SIZE {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends zeros up to byte `position`.
    ///
    /// # Errors
    /// As the system says.
    pub fn pad_to(&mut self, position: u64) -> io::Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.position() < position {
            let missing = (position - self.position()).min(ZEROS.len() as u64);
            self.write(&ZEROS[..missing as usize])?;
        }
        Ok(())
    }

    /// Appends zeros up to byte `position` that nobody has written, so that they take no room where files may have holes.
    ///
    /// # Errors
    /// As the system says.
    pub fn leave_to(&mut self, position: u64) -> io::Result<()> {
        if !self.output.is_new() {
            return self.pad_to(position);
        }
        self.flush()?;
        self.flushed = self.flushed.max(position);
        Ok(())
    }

    /// Appends zeros up to the next block.
    ///
    /// # Errors
    /// As the system says.
    pub fn pad_to_block(&mut self) -> io::Result<()> {
        self.pad_to(self.block_bits.blocks_for(self.position()) << self.block_bits.bits())
    }

    /// Takes back everything from byte `position` on.
    pub fn rewind(&mut self, position: u64) {
        match position.checked_sub(self.flushed) {
            Some(keep) => self
                .buffer
                .truncate(usize::try_from(keep).unwrap_or(usize::MAX)),
            None => {
                self.buffer.clear();
                self.flushed = position;
            }
        }
    }

    /// Whether two runs of blocks that were written hold the same bytes.
    ///
    /// # Errors
    /// As the system says.
    pub fn is_same(&mut self, a: BlockAddr, b: BlockAddr, blocks: u64) -> io::Result<bool> {
        self.flush()?;
        let bits = self.block_bits.bits();
        let (mut left, mut right) = (vec![0; BUFFER_SIZE], vec![0; BUFFER_SIZE]);
        let mut done = 0;
        while done < blocks << bits {
            let length = (BUFFER_SIZE as u64).min((blocks << bits) - done) as usize;
            let (left, right) = (&mut left[..length], &mut right[..length]);
            self.output.read_at((a.0 << bits) + done, left)?;
            self.output.read_at((b.0 << bits) + done, right)?;
            if left != right {
                return Ok(false);
            }
            done += length as u64;
        }
        Ok(true)
    }

    /// Hands everything to the file.
    ///
    /// # Errors
    /// As the system says.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.output.write_at(self.flushed, &self.buffer)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_blocks_are_compared_to_their_last_byte() {
        let directory = tempfile::tempdir().unwrap();
        let output = Output::create(&directory.path().join("image")).unwrap();
        let mut writer = Writer::new(&output, 0, BlockBits::B512);
        let mut data = vec![5; 2 * BUFFER_SIZE + 512];
        let blocks = data.len() as u64 / 512;
        writer.write(&data).unwrap();
        writer.write(&data).unwrap();
        *data.last_mut().unwrap() = 6;
        writer.write(&data).unwrap();
        let run = |number: u64| BlockAddr(number * blocks);
        assert!(writer.is_same(run(0), run(1), blocks).unwrap());
        assert!(!writer.is_same(run(0), run(2), blocks).unwrap());
        assert!(writer.is_same(run(0), run(2), blocks - 1).unwrap());
    }

    #[test]
    fn what_is_taken_back_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("image");
        let output = Output::create(&target).unwrap();
        let mut writer = Writer::new(&output, 512, BlockBits::B512);
        writer.write(b"keep").unwrap();
        writer.pad_to_block().unwrap();
        assert_eq!(writer.block(), BlockAddr(2));
        writer.write(&vec![7; 3 * BUFFER_SIZE]).unwrap();
        writer.write(b"more").unwrap();
        writer.rewind(1024);
        writer.write(b"next").unwrap();
        writer.rewind(1026);
        writer.write(b"xt").unwrap();
        writer.flush().unwrap();
        let end = writer.position();
        output.publish(end).unwrap();
        let bytes = std::fs::read(&target).unwrap();
        assert_eq!(bytes.len(), 1028);
        assert_eq!(
            (&bytes[512..516], &bytes[1024..]),
            (&b"keep"[..], &b"next"[..])
        );
        assert!(bytes[516..1024].iter().all(|byte| *byte == 0));
    }
}
