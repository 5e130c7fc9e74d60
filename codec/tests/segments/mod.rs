//! Segments encoded pcluster by pcluster, as the builder does it.

use erofs_codec::{BLOCK, Encoder, Fill};

/// What became of one segment: each pcluster's bytes and how much input it covers; plain data has no bytes.
pub(crate) fn encode_segment(
    encoder: &mut dyn Encoder,
    segment: &[u8],
    output: usize,
) -> Vec<(Option<Vec<u8>>, usize)> {
    encoder.restart();
    let mut parts = Vec::new();
    let mut rest = segment;
    while !rest.is_empty() {
        let mut room = vec![0xA5; output];
        let (bytes, taken) = match encoder.fill(rest, &mut room).expect("encodes") {
            Some(Fill { consumed, encoded }) => {
                room.truncate(encoded);
                (Some(room), consumed)
            }
            None => (None, rest.len().min(output)),
        };
        parts.push((bytes, taken));
        rest = &rest[taken..];
    }
    parts
}

/// Encodes a segment and hands each unit to `check_unit`, with what it must decode to.
pub(crate) fn check_segment(
    encoder: &mut dyn Encoder,
    segment: &[u8],
    output: usize,
    check_unit: impl Fn(&[u8], &[u8]),
) {
    let mut at = 0;
    for (unit, taken) in encode_segment(encoder, segment, output) {
        let covers = &segment[at..at + taken];
        if let Some(unit) = unit {
            assert!(unit.len() <= output);
            assert!(unit.len().next_multiple_of(BLOCK) < taken, "saves no block");
            check_unit(&unit, covers);
        }
        at += taken;
    }
    assert_eq!(at, segment.len());
}

/// Cases of a property whose cases are slow: `few`, unless asked for.
pub(crate) fn cases(few: u32) -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(few)
}
