//! Following the sequences of a block without their bytes.

use super::decoder::Output;
use super::{LONG, MIN_MATCH, long};

/// An output of so many bytes, of which only the number is kept.
pub(super) struct Counted(pub(super) usize);

/// Bytes from a token on that are read when it holds the number of literals.
const ENCODED: usize = 1 + (LONG - 1) + size_of::<u16>();

impl Output for Counted {
    fn len(&self) -> usize {
        self.0
    }

    fn sequences(&mut self, encoded: &[u8], mut at: usize, mut filled: usize) -> (usize, usize) {
        while let Some((next, length)) = sequence(encoded, at, filled) {
            if length >= self.0 {
                break;
            }
            (at, filled) = (next, length);
        }
        (at, filled)
    }

    fn literals(&mut self, _: usize, _: &[u8]) {}

    fn copy(&mut self, _: usize, _: usize, _: usize) {}
}

/// Where the sequence whose token is at `at` ends, in the block and in the output; `None` for one near the end of the
/// block or broken.
#[inline(always)]
fn sequence(encoded: &[u8], at: usize, filled: usize) -> Option<(usize, usize)> {
    let front: &[u8; ENCODED] = encoded.get(at..)?.first_chunk()?;
    let token = front[0];
    let literals = usize::from(token >> 4);
    let (literals, mut at, offset) = if literals < LONG {
        let offset = [front[1 + literals], front[2 + literals]];
        (literals, at + literals + 3, offset)
    } else {
        let (literals, at) = long(encoded, at + 1)?;
        let at = at.checked_add(literals)?;
        (literals, at + 2, *encoded.get(at..)?.first_chunk()?)
    };
    let filled = filled.checked_add(literals)?;
    let offset = usize::from(u16::from_le_bytes(offset));
    if offset == 0 || offset > filled {
        return None;
    }
    let mut length = usize::from(token & 0xF);
    if length == LONG {
        (length, at) = long(encoded, at)?;
    }
    Some((at, filled.checked_add(length)?.checked_add(MIN_MATCH)?))
}
