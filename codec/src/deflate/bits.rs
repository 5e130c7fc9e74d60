//! Writes bits, least significant first.

/// Writes bits to the front of a buffer that has room for them: whoever uses it counts first.
pub(super) struct BitWriter<'a> {
    output: &'a mut [u8],
    /// Bytes written.
    at: usize,
    /// Bits not yet written, from the lowest.
    pending: u64,
    /// How many.
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(output: &'a mut [u8]) -> Self {
        Self {
            output,
            at: 0,
            pending: 0,
            count: 0,
        }
    }

    /// Bits put so far.
    pub(super) fn position(&self) -> usize {
        self.at * 8 + self.count as usize
    }

    /// Adds the low `count` bits of `value`, whose other bits are 0. At most 56 bits may be added between two calls of
    /// [`flush`](Self::flush).
    #[inline]
    pub(super) fn put(&mut self, value: u64, count: u32) {
        self.pending |= value << self.count;
        self.count += count;
    }

    /// Writes whole bytes.
    #[inline]
    pub(super) fn flush(&mut self) {
        let bytes = (self.count / 8) as usize;
        let pending = self.pending.to_le_bytes();
        match self.output.get_mut(self.at..self.at + 8) {
            Some(room) => room.copy_from_slice(&pending),
            None => self.output[self.at..self.at + bytes].copy_from_slice(&pending[..bytes]),
        }
        self.at += bytes;
        self.pending >>= bytes * 8;
        self.count %= 8;
    }

    /// Fills the byte begun with zeros and writes all.
    pub(super) fn align(&mut self) {
        self.count = self.count.next_multiple_of(8);
        self.flush();
    }

    /// Copies bytes; only where the position is a whole byte.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.output[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Sets the bit at a position that is already written or pending.
    pub(super) fn set(&mut self, position: usize) {
        match position.checked_sub(self.at * 8) {
            Some(pending) => self.pending |= 1 << pending,
            None => self.output[position / 8] |= 1 << (position % 8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_fill_the_buffer_to_its_end() {
        let mut output = [0xFF; 3];
        let mut writer = BitWriter::new(&mut output);
        for bit in 0..20 {
            writer.put(bit & 1, 1);
            writer.flush();
        }
        writer.set(0);
        writer.set(18);
        assert_eq!(writer.position(), 20);
        writer.align();
        assert_eq!(output, [0b1010_1011, 0b1010_1010, 0b1110]);
    }
}
