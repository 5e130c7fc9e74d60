//! All ranges in the order in which they are stored: what lies on top of what, and what there is to read or decode.

use super::data::{Decode, Job, Jobs, Tail};
use super::finding::{Finding, Findings};
use super::range::{Kind, Range, Space};
use super::rule::Rule;
use super::sorter::Sorted;
use erofs_format::DeviceId;
use std::io;

/// Bytes that are decoded of pclusters on top of others, which need not end with the size of the image.
const ENTANGLED_BYTES: u64 = 256 << 20;
/// Bytes of uncompressed data that are read at once.
const READ_BYTES: u64 = 128 << 10;

/// Goes through all ranges and returns the bytes of data in them. `jobs` is told what to do, if data is looked at.
pub(super) fn sweep(
    ranges: Sorted<Range>,
    findings: &mut Findings,
    mut jobs: Option<&mut Jobs>,
    without_devices: bool,
) -> io::Result<u64> {
    let mut sweep = Sweep {
        findings,
        space: None,
        metadata: None,
        encoded: None,
        plain: None,
        stored: 0,
        entangled: ENTANGLED_BYTES,
        group: None,
        span: None,
    };
    for range in ranges {
        let range = range?;
        let readable = match range.space {
            Space::Device(device) => device == DeviceId::PRIMARY || !without_devices,
            Space::Metabox => true,
        };
        let on_top = sweep.place(&range);
        if let Some(jobs) = jobs.as_deref_mut().filter(|_| readable) {
            sweep.give(&range, on_top, jobs);
        }
    }
    if let Some(jobs) = jobs {
        sweep.flush_group(jobs);
        sweep.flush_span(jobs);
    }
    Ok(sweep.stored)
}

struct Sweep<'a> {
    findings: &'a mut Findings,
    space: Option<Space>,
    /// Of each kind the range that reaches furthest.
    metadata: Option<Range>,
    encoded: Option<Range>,
    plain: Option<Range>,
    /// Bytes of data, shared ones once.
    stored: u64,
    /// What is left of [`ENTANGLED_BYTES`].
    entangled: u64,
    /// References to the same pcluster that came last.
    group: Option<Decode>,
    /// Uncompressed data that was not handed out yet: its space, begin and end.
    span: Option<(DeviceId, u64, u64)>,
}

impl Sweep<'_> {
    /// Compares a range with those that begin before it. Tells whether it is encoded and lies on another pcluster.
    fn place(&mut self, range: &Range) -> bool {
        if self.space != Some(range.space) {
            self.space = Some(range.space);
            (self.metadata, self.encoded, self.plain) = (None, None, None);
        }
        self.stored = self.stored.saturating_add(self.new_bytes(range));
        let covers = |other: &Option<Range>| other.filter(|other| other.end() > range.start);
        let inline = matches!(range.kind, Kind::Encoded { inline: true, .. });
        let is_metadata = range.kind == Kind::Metadata || inline;
        let mut on_top = false;
        if let Some(other) = covers(&self.metadata) {
            let rule = if is_metadata {
                Rule::OverlapMetadata
            } else {
                Rule::OverlapData
            };
            self.overlap(rule, range, &other);
        }
        let data = covers(&self.encoded).or_else(|| covers(&self.plain));
        if is_metadata && let Some(other) = data {
            self.overlap(Rule::OverlapData, range, &other);
        }
        match range.kind {
            Kind::Encoded { .. } if !inline => {
                if let Some(other) =
                    covers(&self.encoded).filter(|other| !other.same_pcluster(range))
                {
                    on_top = true;
                    let rule = if other.start == range.start {
                        Rule::PclusterShared
                    } else {
                        Rule::PclusterOverlap
                    };
                    self.overlap(rule, range, &other);
                }
                if let Some(other) = covers(&self.plain) {
                    self.overlap(Rule::PclusterOverlap, range, &other);
                }
            }
            Kind::Plain => {
                if let Some(other) = covers(&self.encoded) {
                    self.overlap(Rule::PclusterOverlap, range, &other);
                }
            }
            _ => {}
        }
        let furthest = match range.kind {
            _ if is_metadata => &mut self.metadata,
            Kind::Plain => &mut self.plain,
            _ => &mut self.encoded,
        };
        if furthest.is_none_or(|before| before.end() < range.end()) {
            *furthest = Some(*range);
        }
        on_top
    }

    /// Bytes of data of a range that are in none before it.
    fn new_bytes(&self, range: &Range) -> u64 {
        let before = match range.kind {
            Kind::Metadata => return 0,
            Kind::Encoded { .. } => self.encoded,
            Kind::Plain => self.plain,
        };
        let begin = before.map_or(0, |before| before.end()).max(range.start);
        range.end().saturating_sub(begin)
    }

    fn overlap(&mut self, rule: Rule, range: &Range, other: &Range) {
        let (range, other) = if range.nid == Range::NOBODY {
            (other, range)
        } else {
            (range, other)
        };
        self.findings.add(rule, || {
            let whose = if other.nid == Range::NOBODY {
                "the image's own".to_owned()
            } else {
                format!("inode {}", other.nid)
            };
            Finding {
                rule,
                nid: (range.nid != Range::NOBODY).then_some(range.nid),
                path: None,
                at: range.space.at(range.start),
                value: format!(
                    "bytes {}..{} overlap with {}..{} ({whose})",
                    range.start,
                    range.end(),
                    other.start,
                    other.end()
                ),
            }
        });
    }

    /// Hands out what is to be done for a range.
    fn give(&mut self, range: &Range, on_top: bool, jobs: &mut Jobs) {
        match range.kind {
            Kind::Metadata => {}
            Kind::Encoded { .. } => {
                if let Some(group) = self
                    .group
                    .as_mut()
                    .filter(|group| group.range.same_pcluster(range))
                {
                    group.add(range);
                    return;
                }
                self.flush_group(jobs);
                if on_top {
                    let Some(left) = self.entangled.checked_sub(range.more.into()) else {
                        return;
                    };
                    self.entangled = left;
                }
                self.group = Some(Decode::new(range));
            }
            Kind::Plain => {
                let Space::Device(device) = range.space else {
                    return;
                };
                match &mut self.span {
                    Some((on, _, end)) if *on == device && *end >= range.start => {
                        *end = range.end().max(*end);
                    }
                    _ => {
                        self.flush_span(jobs);
                        self.span = Some((device, range.start, range.end()));
                    }
                }
                if range.more > 0 {
                    jobs.give(Job::Tail(Tail {
                        device,
                        start: range.end(),
                        length: range.more,
                        nid: range.nid,
                    }));
                }
                // What lies before this range cannot grow any more.
                self.give_span(range.start, jobs);
            }
        }
    }

    fn flush_group(&mut self, jobs: &mut Jobs) {
        if let Some(group) = self.group.take() {
            jobs.decode(group);
        }
    }

    fn flush_span(&mut self, jobs: &mut Jobs) {
        self.give_span(u64::MAX, jobs);
        self.span = None;
    }

    /// Hands out the uncompressed data before `limit`.
    fn give_span(&mut self, limit: u64, jobs: &mut Jobs) {
        let Some((device, start, end)) = &mut self.span else {
            return;
        };
        let last = (*end).min(limit);
        while *start < last {
            let length = (last - *start).min(READ_BYTES);
            if length < READ_BYTES && limit != u64::MAX {
                // More may follow.
                return;
            }
            jobs.give(Job::Read {
                device: *device,
                start: *start,
                length,
            });
            *start += length;
        }
    }
}
