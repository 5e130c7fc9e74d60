//! Rules for directories.

use crate::Case;
use crate::crafted::{BITS, Draft};
use erofs_reader::check::{At, Rule};

pub(crate) fn cases() -> Vec<Case> {
    let sample = Draft::sample(BITS);
    let many = sample.data_at("many");
    let entry = |name: &str| sample.entry_at("many", name);
    let at = |name: &str| At::File(sample.entry_offset("many", name));
    let name_at = |name: &str| {
        let entry = entry(name);
        let nameoff = u16::from_le_bytes([sample.bytes[entry + 8], sample.bytes[entry + 9]]);
        many + (entry - many) / 4096 * 4096 + usize::from(nameoff)
    };
    let change = |rule, at, position: usize, bytes: &[u8]| {
        Case::new(rule, at, &sample, |draft| draft.put(position, bytes)).path("many")
    };
    let one = sample.inode_at("one") + 44;
    assert_eq!(sample.bytes[many + 4095], 0, "the first block has padding");
    vec![
        change(Rule::DirectoryBlock, At::File(0), many + 8, &[5]).also(&[Rule::InodeLinks]),
        change(
            Rule::DirectoryName,
            at("file-00000"),
            entry("file-00001") + 8,
            &[0xFF, 0xFF],
        )
        .also(&[Rule::InodeLinks]),
        change(
            Rule::DirectoryNameByte,
            at("file-00003"),
            name_at("file-00003"),
            b"/",
        )
        .also(&[Rule::InodeLinks]),
        change(
            Rule::DirectoryOrder,
            at("file-00006"),
            name_at("file-00005"),
            b"z",
        ),
        change(
            Rule::DirectoryDuplicate,
            at("file-00006"),
            name_at("file-00006"),
            b"file-00005",
        ),
        change(Rule::DirectoryDot, at("."), entry("."), &[0xFF]),
        change(Rule::DirectoryParent, at(".."), entry(".."), &[0xFF]),
        Case::new(Rule::DirectoryType, at("file-00007"), &sample, |draft| {
            draft.put(entry("file-00007") + 10, &[2]);
        })
        .path("many/file-00007"),
        change(Rule::DirectoryPadding, At::File(4095), many + 4095, &[1]),
        change(
            Rule::DirectoryReserved,
            at("file-00008"),
            entry("file-00008") + 11,
            &[1],
        ),
        Case::new(Rule::DirectoryCycle, at("file-00009"), &sample, |draft| {
            draft.link("many", "file-00009", draft.nid("/"));
            draft.put(one, &401u32.to_le_bytes());
        })
        .path("many/file-00009"),
        Case::new(
            Rule::DirectoryAlias,
            At::File(sample.entry_offset("/", "tail")),
            &sample,
            |draft| {
                draft.link("/", "tail", draft.nid("many"));
                draft.put(1024 + 16, &[23]);
            },
        )
        .path("tail"),
        Case::new(Rule::InodeZero, at("file-00010"), &sample, |draft| {
            draft.put(crate::support::META, &crate::crafted::empty_file());
            draft.link("many", "file-00010", erofs_format::Nid(0));
            draft.put(one, &401u32.to_le_bytes());
            draft.put(1024 + 16, &[25]);
        })
        .path("many/file-00010"),
    ]
}

/// An unsorted directory is told once, and what is behind is looked at.
#[test]
fn the_check_goes_on_in_a_broken_directory() {
    let mut draft = Draft::sample(BITS);
    let many = draft.data_at("many");
    draft.put(many + 8, &[5]);
    let entry = Draft::sample(BITS).entry_at("many", "file-00399");
    draft.put(entry + 10, &[2]);
    let report = crate::run(&draft.sealed());
    let rules = crate::rules(&report);
    assert!(rules.contains(&Rule::DirectoryBlock) && rules.contains(&Rule::DirectoryType));
}
