//! Findings, and how they are kept: a bounded number of each rule, and the exact counts.

use super::data::Outcome;
use super::rule::{Rule, Severity};
use crate::metadata::Area;
use erofs_format::{ByteOffset, DeviceId, Nid};
use std::fmt;

/// Where something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    /// Byte of the image.
    Image(u64),
    /// Byte of the metabox inode's data.
    Metabox(u64),
    /// Byte of an extra device.
    Device(DeviceId, u64),
    /// Byte of the file's (or directory's) own data.
    File(u64),
}

impl At {
    /// A byte of an area of metadata.
    pub(crate) const fn area(area: Area, offset: ByteOffset) -> Self {
        match area {
            Area::Primary => Self::Image(offset.0),
            Area::Metabox => Self::Metabox(offset.0),
        }
    }

    /// A byte of a device.
    pub(crate) fn device(device: DeviceId, offset: u64) -> Self {
        if device == DeviceId::PRIMARY {
            Self::Image(offset)
        } else {
            Self::Device(device, offset)
        }
    }

    /// The byte.
    pub const fn offset(self) -> u64 {
        match self {
            Self::Image(offset)
            | Self::Metabox(offset)
            | Self::Device(_, offset)
            | Self::File(offset) => offset,
        }
    }

    /// What the byte is counted in.
    pub fn space(self) -> String {
        match self {
            Self::Image(_) => "image".to_owned(),
            Self::Metabox(_) => "metabox".to_owned(),
            Self::Device(device, _) => format!("device {device}"),
            Self::File(_) => "file".to_owned(),
        }
    }
}

/// A rule that is broken, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// The inode that it is about.
    pub nid: Option<Nid>,
    /// A name of that inode, from the root of the image on and without a leading slash; or of what a directory entry
    /// should lead to. `None` when there is none.
    pub path: Option<Vec<u8>>,
    /// Where.
    pub at: At,
    /// What was found there.
    pub value: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(nid) = self.nid {
            write!(f, "inode {nid}, ")?;
        }
        let (space, offset) = (self.at.space(), self.at.offset());
        write!(f, "{space} byte {offset}: {}", self.value)
    }
}

/// Numbers of findings by rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts(Vec<u64>);

impl Counts {
    /// How often a rule is broken.
    pub fn of(&self, rule: Rule) -> u64 {
        self.0.get(rule as usize).copied().unwrap_or(0)
    }

    /// Findings of a severity.
    pub fn of_severity(&self, severity: Severity) -> u64 {
        Rule::ALL
            .iter()
            .filter(|rule| rule.severity() == severity)
            .map(|rule| self.of(*rule))
            .sum()
    }

    /// All findings.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Collects findings.
#[derive(Debug)]
pub(super) struct Findings {
    list: Vec<Finding>,
    counts: Counts,
    /// Most findings of one rule that are kept.
    limit: u64,
}

impl Findings {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            list: Vec::new(),
            counts: Counts(vec![0; Rule::ALL.len()]),
            limit,
        }
    }

    /// Counts a finding, and keeps it if there are not too many of its rule yet.
    pub(super) fn add(&mut self, rule: Rule, finding: impl FnOnce() -> Finding) {
        if let Some(count) = self.counts.0.get_mut(rule as usize) {
            if *count < self.limit {
                self.list.push(finding());
            }
            *count = count.saturating_add(1);
        }
    }

    /// A finding about the image as a whole.
    pub(super) fn image(&mut self, rule: Rule, offset: u64, value: impl Into<String>) {
        self.add(rule, || Finding {
            rule,
            nid: None,
            path: None,
            at: At::Image(offset),
            value: value.into(),
        });
    }

    /// A finding about an inode whose path is looked up at the end.
    pub(super) fn inode(&mut self, rule: Rule, nid: Nid, at: At, value: impl Into<String>) {
        self.add(rule, || Finding {
            rule,
            nid: Some(nid),
            path: None,
            at,
            value: value.into(),
        });
    }

    /// Adds what was found in data.
    pub(super) fn absorb(&mut self, outcome: Outcome) {
        let (list, counts) = outcome.into_findings();
        for finding in list {
            // Counted below.
            if self
                .list
                .iter()
                .filter(|known| known.rule == finding.rule)
                .count() as u64
                >= self.limit
            {
                continue;
            }
            self.list.push(finding);
        }
        for (sum, count) in self.counts.0.iter_mut().zip(counts) {
            *sum = sum.saturating_add(count);
        }
    }

    pub(super) fn found(&self, rule: Rule) -> bool {
        self.counts.of(rule) > 0
    }

    pub(super) fn finish(self) -> (Vec<Finding>, Counts) {
        (self.list, self.counts)
    }
}
