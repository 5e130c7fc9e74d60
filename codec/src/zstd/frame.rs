//! Frame and block headers (RFC 8878 §3.1.1).

use super::NAME;
use crate::DecodeError;

const MAGIC: [u8; 4] = 0xFD2F_B528u32.to_le_bytes();
/// Descriptor: no window descriptor, the window is the content.
const SINGLE_SEGMENT: u8 = 1 << 5;
/// Descriptor: bits that must be zero.
const RESERVED: u8 = 1 << 3;

/// Bytes of a block header.
pub(super) const BLOCK_HEADER: usize = 3;
/// Most bytes a block decodes to.
pub(super) const MAX_BLOCK: usize = 128 << 10;
/// Most bytes of a frame header as [`header`] writes it.
pub(super) const MAX_HEADER: usize = 10;
/// Bytes of the header the library writes when it is not told the content size.
pub(super) const BARE_HEADER: usize = 6;

/// A frame header for `content` bytes (at least 256), and its length. Without
/// a `window` descriptor the window is the content.
pub(super) fn header(content: usize, window: Option<u8>) -> ([u8; MAX_HEADER], usize) {
    let mut bytes = [0; MAX_HEADER];
    let mut length = 0;
    let mut put = |part: &[u8]| {
        bytes[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    };
    let short = content.checked_sub(256).and_then(|n| u16::try_from(n).ok());
    let size_flag = if short.is_some() { 1 << 6 } else { 2 << 6 };
    put(&MAGIC);
    match window {
        None => put(&[size_flag | SINGLE_SEGMENT]),
        Some(window) => put(&[size_flag, window]),
    }
    match short {
        Some(n) => put(&n.to_le_bytes()),
        None => put(&(content as u32).to_le_bytes()),
    }
    (bytes, length)
}

/// Checks what a frame must look like in EROFS: the standard magic, no
/// dictionary, no reserved bit, a window of at most `2^max_window_log` bytes.
pub(super) fn check_header(frame: &[u8], max_window_log: u32) -> Result<(), DecodeError> {
    let fault = |reason| DecodeError::Header {
        codec: NAME,
        reason,
    };
    let (magic, rest) = frame
        .split_first_chunk::<4>()
        .ok_or(fault("shorter than its magic"))?;
    if *magic != MAGIC {
        return Err(fault("wrong magic"));
    }
    let (&descriptor, rest) = rest.split_first().ok_or(fault("cut off"))?;
    if descriptor & RESERVED != 0 {
        return Err(fault("reserved bit set"));
    }
    if descriptor & 3 != 0 {
        return Err(fault("a dictionary is required"));
    }
    let single = descriptor & SINGLE_SEGMENT != 0;
    let (declared, rest) = if single {
        (None, rest)
    } else {
        let (&window, rest) = rest.split_first().ok_or(fault("cut off"))?;
        let base = 1u64 << (super::MIN_WINDOW_LOG + u32::from(window >> 3));
        (Some(base + base / 8 * u64::from(window & 7)), rest)
    };
    let length = match (descriptor >> 6, single) {
        (0, false) => 0,
        (flag, _) => 1 << flag,
    };
    let field = rest.get(..length).ok_or(fault("cut off"))?;
    let mut wide = [0; 8];
    wide[..length].copy_from_slice(field);
    let content = u64::from_le_bytes(wide) + if length == 2 { 256 } else { 0 };
    let window = declared.unwrap_or(content);
    let allowed = 1u64 << max_window_log;
    if window > allowed {
        return Err(DecodeError::Window {
            declared: window,
            allowed,
        });
    }
    Ok(())
}

/// Header of a block stored as it is.
pub(super) fn raw_block(length: usize, last: bool) -> [u8; BLOCK_HEADER] {
    let [a, b, c, _] = ((length as u32) << 3 | u32::from(last)).to_le_bytes();
    [a, b, c]
}

/// Marks the block whose header is given as the frame's last.
pub(super) fn mark_last(header: &mut u8) {
    *header |= 1;
}

/// Position of the header of the last of the blocks that fill `blocks[from..to]`.
pub(super) fn last_block(blocks: &[u8], from: usize, to: usize) -> usize {
    let mut at = from;
    loop {
        let word = u32::from_le_bytes([blocks[at], blocks[at + 1], blocks[at + 2], 0]);
        let body = if word >> 1 & 3 == 1 { 1 } else { word >> 3 };
        let next = at + BLOCK_HEADER + body as usize;
        if next >= to {
            return at;
        }
        at = next;
    }
}
