//! Rules for what lies on top of what.

use crate::Case;
use crate::crafted::{BITS, CORE, Draft, Stretch, empty_file, encoded_extents, nid_at};
use crate::support::{META, text};
use erofs_format::ByteOffset;
use erofs_reader::check::{At, Rule};

pub(crate) fn cases() -> Vec<Case> {
    let sample = Draft::sample(BITS);
    // An inode in the inline data of a file.
    let inside = sample.inode_at("tail") + CORE;
    let one = sample.inode_at("one") + 44;
    let metadata = Case::new(
        Rule::OverlapMetadata,
        At::Image(inside as u64),
        &sample,
        |draft| {
            draft.put(inside, &empty_file());
            draft.link("many", "file-00001", nid_at(inside));
            draft.put(one, &401u32.to_le_bytes());
            draft.put(1024 + 16, &[25]);
        },
    )
    .path("many/file-00001");
    let data = Case::new(
        Rule::OverlapData,
        At::Image(META as u64 + 32),
        &sample,
        |draft| {
            let start = (META / 4096) as u32;
            draft.put(draft.inode_at("plain") + 16, &start.to_le_bytes());
        },
    )
    .path("")
    .also(&[Rule::DataTail]);
    let (a, b) = (text(9000), text(20_000));
    let files = [vec![Stretch::zstd(&a)], vec![Stretch::zstd(&b)]];
    let base = encoded_extents(&files, |_, _| {});
    let first = base.encoded_at("a") as u64;
    let moved = |by: u64| {
        encoded_extents(&files, |number, records| {
            if number == 1 {
                records[0].address = ByteOffset(first + by);
            }
        })
        .sealed()
    };
    let also = &[Rule::DataEncoded, Rule::DataLength, Rule::DataLonger];
    vec![
        metadata,
        data,
        Case::made(Rule::PclusterShared, At::Image(first), moved(0))
            .path("b")
            .also(also),
        Case::made(Rule::PclusterOverlap, At::Image(first + 1), moved(1))
            .path("b")
            .also(also),
    ]
}
