//! Every rule of the check, each by an image that breaks it and nothing else, and what hostile images may cost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crafted;
mod data;
mod hostile;
mod image;
mod inodes;
mod maps;
mod overlaps;
#[path = "../support/mod.rs"]
mod support;
mod tree;

use crafted::Draft;
use erofs_format::BlockBits;
use erofs_reader::ByteSource;
use erofs_reader::check::{At, CheckOptions, Finding, Report, Rule, Severity, check};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// An image that breaks a rule.
struct Case {
    rule: Rule,
    /// Rules that cannot but be broken with it.
    also: &'static [Rule],
    path: Option<&'static str>,
    at: At,
    image: Vec<u8>,
    devices: Vec<Vec<u8>>,
    /// What is wrong with the image before the rule is broken.
    before: Vec<Finding>,
}

impl Case {
    /// A change of one of the drafts, about the image as a whole.
    fn new(rule: Rule, at: At, base: &Draft, change: impl FnOnce(&mut Draft)) -> Self {
        let mut draft = base.clone();
        change(&mut draft);
        Self {
            rule,
            also: &[],
            path: None,
            at,
            image: draft.sealed(),
            devices: Vec::new(),
            before: base.findings(),
        }
    }

    /// An image made for the purpose.
    fn made(rule: Rule, at: At, image: Vec<u8>) -> Self {
        Self {
            rule,
            also: &[],
            path: None,
            at,
            image,
            devices: Vec::new(),
            before: Vec::new(),
        }
    }

    const fn path(mut self, path: &'static str) -> Self {
        self.path = Some(path);
        self
    }

    const fn also(mut self, also: &'static [Rule]) -> Self {
        self.also = also;
        self
    }

    fn devices(mut self, devices: Vec<Vec<u8>>) -> Self {
        self.devices = devices;
        self
    }

    /// What the check says that it should not, or does not say.
    fn complaint(&self) -> Option<String> {
        let report = run_with(&self.image, &self.devices);
        let new: Vec<_> = report
            .findings
            .iter()
            .filter(|finding| !self.before.contains(finding))
            .collect();
        let path = |finding: &Finding| {
            let path = finding.path.as_deref().map(<[u8]>::escape_ascii);
            path.map(|path| path.to_string())
        };
        let all = new.iter().map(|finding| {
            let path = path(finding).unwrap_or_default();
            format!("{} /{path}: {finding}", finding.rule.id())
        });
        let all: Vec<_> = all.collect();
        let only = new
            .iter()
            .all(|finding| finding.rule == self.rule || self.also.contains(&finding.rule));
        let found = new.iter().find(|finding| finding.rule == self.rule);
        let right = found.is_some_and(|found| {
            found.at == self.at && path(found).as_deref() == self.path && !found.value.is_empty()
        });
        let unusual = |finding: &Finding| finding.rule.severity() == Severity::Unusual;
        let clean = report.is_clean() == report.findings.iter().all(unusual);
        (!(only && right && clean)).then(|| {
            let (id, at, path) = (self.rule.id(), self.at, self.path);
            format!("{id} at {at:?}, path {path:?} is expected, found is {all:#?}")
        })
    }
}

fn run_with(image: &[u8], devices: &[Vec<u8>]) -> Report {
    let devices: Vec<_> = devices.iter().cloned().map(source).collect();
    check(
        &source(image.to_vec()),
        &devices,
        &with_data(),
        &AtomicU64::new(0),
    )
    .unwrap()
}

fn run(image: &[u8]) -> Report {
    run_with(image, &[])
}

fn source(bytes: Vec<u8>) -> Arc<dyn ByteSource> {
    Arc::new(bytes)
}

fn with_data() -> CheckOptions {
    CheckOptions {
        data: true,
        ..CheckOptions::default()
    }
}

/// The rules that are broken, in the order in which they were found.
fn rules(report: &Report) -> Vec<Rule> {
    report.findings.iter().map(|finding| finding.rule).collect()
}

#[test]
fn every_rule_is_found_where_it_is_broken() {
    let cases: Vec<Case> = [
        image::cases(),
        tree::cases(),
        inodes::cases(),
        maps::cases(),
        overlaps::cases(),
        data::cases(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let complaints: Vec<_> = cases.iter().filter_map(Case::complaint).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    let covered: BTreeSet<_> = cases.iter().map(|case| case.rule).collect();
    // These need more than an image of a few bytes changed; their tests stand in `hostile` and `data`.
    let elsewhere = [Rule::DirectoryDepth, Rule::Limit, Rule::Io];
    for rule in Rule::ALL {
        assert_ne!(
            covered.contains(rule),
            elsewhere.contains(rule),
            "{}: a case or a test elsewhere, not both",
            rule.id()
        );
    }
}

#[test]
fn good_images_are_clean() {
    for bits in [9, 10, 12, 14, 16] {
        let bits = BlockBits::new(bits).unwrap();
        let report = run(&Draft::sample(bits).sealed());
        let mut expected = vec![Rule::FlatHole, Rule::XattrHidden];
        if bits > BlockBits::B4096 {
            expected.insert(0, Rule::SuperblockPageSize);
        }
        let found: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
        assert_eq!(rules(&report), expected, "{bits:?}: {found:#?}");
        assert!(report.complete);
    }
    let plain = run(&Draft::plain().sealed());
    assert_eq!(rules(&plain), []);
    assert!(plain.is_clean() && plain.complete);
    assert_eq!((plain.statistics.inodes, plain.statistics.names), (3, 3));
}

/// However many threads there are and wherever lists are kept, the report is the same.
#[test]
fn any_number_of_threads_reports_the_same() {
    let mut draft = Draft::sample(BlockBits::B4096);
    for name in ["full", "compact", "full-tail"] {
        let at = draft.encoded_at(name) + 4095;
        draft.bytes[at] ^= 0xFF;
    }
    let image = source(draft.sealed());
    let report = |workers: usize, max_memory| {
        let options = CheckOptions {
            workers: workers.try_into().unwrap(),
            max_memory,
            findings_per_rule: 2,
            ..with_data()
        };
        check(&image, &[], &options, &AtomicU64::new(0)).unwrap()
    };
    let expected = report(1, None);
    assert!(expected.counts.of(Rule::DataEncoded) + expected.counts.of(Rule::DataLength) >= 2);
    for (workers, max_memory) in [(1, Some(0)), (2, None), (5, Some(1 << 20)), (16, None)] {
        let other = report(workers, max_memory);
        assert_eq!(
            other.findings, expected.findings,
            "{workers} {max_memory:?}"
        );
        assert_eq!(other.counts, expected.counts);
    }
}
