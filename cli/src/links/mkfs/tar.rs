//! `--tar=MODE[,MAP]`: what becomes of a tar, and the map that tells where its data belongs in an image with room for it.

use erofs_mkfs::summary::Room;
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The argument of `--tar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TarArgument {
    pub(super) mode: TarMode,
    /// Where the map goes.
    pub(super) map: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TarMode {
    /// A full image.
    Full,
    /// An index; with a map an image with room for the data instead.
    Index,
    /// A full image without data.
    HeaderBall,
}

/// Parses `f`, `i` or `headerball`, and what follows a comma. An empty name is none, as for the C tool.
pub(super) fn parse(text: OsString) -> Result<TarArgument, String> {
    let bytes = text.as_bytes();
    let (mode, map) = match bytes.iter().position(|byte| *byte == b',') {
        Some(comma) => (&bytes[..comma], &bytes[comma + 1..]),
        None => (bytes, &[][..]),
    };
    let mode = match mode {
        b"f" => TarMode::Full,
        b"i" | b"0" => TarMode::Index,
        b"headerball" => TarMode::HeaderBall,
        _ => return Err("f, i or headerball, and a file behind a comma".to_owned()),
    };
    let map = (!map.is_empty()).then(|| PathBuf::from(OsString::from_vec(map.to_vec())));
    Ok(TarArgument { mode, map })
}

/// The map: a line for each stretch of blocks with the first block and their number in hexadecimal, the offset of their data in
/// the uncompressed tar in hexadecimal and, where the last block is not full, how many zeros end it in decimal.
pub(super) fn map(rooms: &[Room], block_size: u64) -> String {
    let mut text = String::new();
    for room in rooms {
        let blocks = room.length.div_ceil(block_size);
        let zeros = blocks * block_size - room.length;
        // Nothing fails that writes to a string.
        let _ = write!(text, "{:08x} {blocks:8x} {:08x}", room.block.0, room.offset);
        let _ = match zeros {
            0 => writeln!(text),
            _ => writeln!(text, " {zeros:08}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use erofs_format::BlockAddr;

    #[test]
    fn modes_and_maps_are_told_apart() {
        let parsed = |text: &str| parse(text.into()).map(|argument| (argument.mode, argument.map));
        assert_eq!(parsed("f"), Ok((TarMode::Full, None)));
        assert_eq!(parsed("i,"), Ok((TarMode::Index, None)));
        let map = Some(PathBuf::from("a,b"));
        assert_eq!(parsed("0,a,b"), Ok((TarMode::Index, map.clone())));
        assert_eq!(parsed("headerball,a,b"), Ok((TarMode::HeaderBall, map)));
        for text in ["", ",map", "x", "fi"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn zeros_are_told_where_there_are_any() {
        let room = |block, offset, length| Room {
            block: BlockAddr(block),
            offset,
            length,
        };
        let rooms = [room(1, 1024, 10000), room(0x1_2345_6789, 0x9200, 8192)];
        assert_eq!(
            map(&rooms, 4096),
            "00000001        3 00000400 00002288\n123456789        2 00009200\n"
        );
    }
}
