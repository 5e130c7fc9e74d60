//! Files with holes: GNU tar's sparse format 1.0. The map stands in front of the data, as decimal lines in blocks of
//! their own.

use super::member::MemberError;
use super::pax::Records;
use super::{BLOCK_SIZE, padding};
use std::ops::Range;

/// Most data ranges of a file: what our own reader of tars takes, and far more than others write.
pub const MAX_RANGES: usize = 1_000_000;

/// Says in `records` that `path` is a sparse file of `size` bytes.
pub(super) fn announce(records: &mut Records, path: &[u8], size: u64) {
    records.push(b"GNU.sparse.major", b"1");
    records.push(b"GNU.sparse.minor", b"0");
    records.push(b"GNU.sparse.name", path);
    records.push_number("GNU.sparse.realsize", size);
}

/// Appends the map, and returns how many bytes of data follow it.
///
/// # Errors
/// [`MemberError`] for ranges that break the rules.
pub(super) fn encode_map(
    size: u64,
    data: &[Range<u64>],
    out: &mut Vec<u8>,
) -> Result<u64, MemberError> {
    if data.len() > MAX_RANGES {
        return Err(MemberError::TooManyRanges);
    }
    let is_aligned = |position: u64| position.is_multiple_of(BLOCK_SIZE as u64);
    let (mut end, mut stored) = (0, 0);
    for range in data {
        let in_order = range.start >= end && range.start < range.end && range.end <= size;
        if !in_order || !is_aligned(range.start) || !(is_aligned(range.end) || range.end == size) {
            return Err(MemberError::Range(range.start));
        }
        end = range.end;
        stored += range.end - range.start;
    }
    // An empty piece says where a file ends that ends with a hole.
    let last = (end < size || data.is_empty()).then_some(size..size);
    let pieces = data.iter().cloned().chain(last);
    let start = out.len();
    out.extend_from_slice(format!("{}\n", pieces.clone().count()).as_bytes());
    for piece in pieces {
        let line = format!("{}\n{}\n", piece.start, piece.end - piece.start);
        out.extend_from_slice(line.as_bytes());
    }
    let length = (out.len() - start) as u64;
    out.resize(out.len() + padding(length), 0);
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_whole_blocks() {
        let mut out = Vec::new();
        let data = [512..1024, 4096..5000];
        assert_eq!(encode_map(5000, &data, &mut out), Ok(512 + 904));
        assert_eq!(out.len(), 512);
        assert!(out.starts_with(b"2\n512\n512\n4096\n904\n\0"));
        out.clear();
        assert_eq!(encode_map(6000, &data[..1], &mut out), Ok(512));
        assert!(out.starts_with(b"2\n512\n512\n6000\n0\n\0"));
        out.clear();
        assert_eq!(encode_map(0, &[], &mut out), Ok(0));
        assert!(out.starts_with(b"1\n0\n0\n\0"));
    }

    #[test]
    fn what_gnu_tar_would_misread_is_refused() {
        let cases: [(u64, &[(u64, u64)]); 5] = [
            (100, &[(100, 512)]),
            (512, &[(0, 100), (512, 1024)]),
            (512, &[(512, 1024), (512, 1024)]),
            (4096, &[(4096, 5001)]),
            (512, &[(512, 512)]),
        ];
        for (at, pairs) in cases {
            let data: Vec<_> = pairs.iter().map(|(start, end)| *start..*end).collect();
            let result = encode_map(5000, &data, &mut Vec::new());
            assert!(
                matches!(result, Err(MemberError::Range(start)) if start <= at),
                "{data:?}"
            );
        }
    }
}
