//! Rules for data.

use crate::crafted::{BITS, Draft, Stretch, encoded_extents};
use crate::support::{DATA, text};
use crate::{Case, rules, with_data};
use erofs_format::ByteOffset;
use erofs_reader::ByteSource;
use erofs_reader::check::{At, CheckOptions, Rule, check};
use std::io;
use std::sync::Arc;

pub(crate) fn cases() -> Vec<Case> {
    let sample = Draft::sample(BITS);
    let first = sample.encoded_at("full");
    let begin = first
        + sample.bytes[first..]
            .iter()
            .position(|byte| *byte != 0)
            .unwrap();
    let plain_end = sample.data_at("plain") + 3 * 4096 + 17;
    let shorter = |stretch: Stretch| {
        let stretches = vec![Stretch {
            length: stretch.length - 50,
            ..stretch
        }];
        encoded_extents(&[stretches], |_, _| {}).sealed()
    };
    vec![
        // The magic number of the frame.
        Case::new(Rule::DataEncoded, At::File(0), &sample, |draft| {
            draft.put(begin, &[1]);
        })
        .path("full"),
        Case::new(Rule::DataPadding, At::File(0), &sample, |draft| {
            draft.put(first, &[0; 4096]);
        })
        .path("full"),
        Case::made(
            Rule::DataLength,
            At::File(0),
            shorter(Stretch::lz4(&text(200))),
        )
        .path("a"),
        Case::made(
            Rule::DataLonger,
            At::File(0),
            shorter(Stretch::zstd(&text(9000))),
        )
        .path("a"),
        Case::new(
            Rule::DataTail,
            At::Image(plain_end as u64 + 1),
            &sample,
            |draft| draft.put(plain_end + 1, &[1]),
        )
        .path("plain"),
    ]
}

/// A partial reference says so, and is no finding.
#[test]
fn marked_partial_references_are_clean() {
    let stretch = Stretch::lz4(&text(200));
    let partial = Stretch {
        length: 150,
        partial: true,
        ..stretch.clone()
    };
    let files = [vec![stretch], vec![partial]];
    let first = encoded_extents(&files, |_, _| {}).encoded_at("a");
    let draft = encoded_extents(&files, |number, records| {
        if number == 1 {
            records[0].address = ByteOffset(first as u64);
        }
    });
    let report = crate::run(&draft.sealed());
    assert_eq!(rules(&report), []);
    assert_eq!(report.statistics.decoded_bytes, 200);
}

/// Nothing of data is looked at unless asked for.
#[test]
fn data_is_left_alone_without_being_asked_for() {
    for case in cases() {
        let report = check(
            &crate::source(case.image),
            &[],
            &CheckOptions::default(),
            &Default::default(),
        )
        .unwrap();
        assert_eq!(report.counts.of(case.rule), 0, "{}", case.rule.id());
        assert_eq!(
            report.statistics.read_bytes + report.statistics.decoded_bytes,
            0
        );
    }
}

/// An image on a disk that fails from a byte on.
struct Failing(Vec<u8>, u64);

impl ByteSource for Failing {
    fn read_at(&self, offset: ByteOffset, buffer: &mut [u8]) -> io::Result<usize> {
        if offset.0 + buffer.len() as u64 > self.1 {
            return Err(io::Error::other("the disk is broken here"));
        }
        self.0.read_at(offset, buffer)
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }
}

#[test]
fn a_failing_disk_is_a_finding() {
    let image = Draft::plain().sealed();
    for (from, count) in [(1024, 1), (DATA as u64, 2)] {
        let source: Arc<dyn ByteSource> = Arc::new(Failing(image.clone(), from));
        let report = check(&source, &[], &with_data(), &Default::default()).unwrap();
        let found: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
        assert_eq!(report.counts.of(Rule::Io), count, "{found:#?}");
        assert!(!report.is_clean());
        let text = report.findings[0].to_string();
        assert!(text.contains("the disk is broken here"), "{text}");
    }
}
